"""``rnncore info`` and ``rnncore config``: what is in a model file, and what rnncore runs on."""

from __future__ import annotations

import argparse
import math
from typing import Any

from rnncore.data.symbols import END, START, UNKNOWN
from rnncore.io.files import ModelFileError, read_header

__all__ = ["add_commands"]

_WRITTEN = {"SequenceToSequence": "symbols of targets", "CaptionModel": "symbols of sentences"}


def add_commands(commands: Any) -> None:
    """Add ``info`` and ``config`` to the command's parsers."""
    info = commands.add_parser("info", help="tell what is in a model file", allow_abbrev=False)
    info.add_argument("model", metavar="MODEL", help="a model file")
    info.set_defaults(run=run_info)
    config = commands.add_parser("config", help="tell what rnncore runs on, for bug reports", allow_abbrev=False)
    config.set_defaults(run=run_config)


def run_info(options: argparse.Namespace) -> None:
    """Print kind, version, vocabulary, labels, settings and weights of a model file."""
    header = read_header(options.model)
    try:
        _show_header(header)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise ModelFileError(f"{options.model}: its parts do not fit together") from None


def _show_header(header: dict[str, Any]) -> None:
    print(f"{header['kind']}, written by rnncore {header.get('version')} (format {header['format']})")
    _show_parts(header, header["arrays"])
    for n, (member, weight) in enumerate(zip(header.get("members", ()), header.get("weights", ()), strict=True)):
        print(f"\n{member['name']}: {member['kind']}, weight {weight:.4g}")
        prefix = f"{n}."
        _show_parts(member, {k.removeprefix(prefix): v for k, v in header["arrays"].items() if k.startswith(prefix)})


def _show_parts(header: dict[str, Any], arrays: dict[str, list[int]]) -> None:
    """Print vocabulary, labels, settings and weights of a model, or of a member of an ensemble."""
    from rnncore.estimators.base import setting_from_json

    if "members" in header:
        print(f"{header['combine']} of {len(header['members'])} members")
    encoder = header.get("encoder", {})
    tokens = encoder.get("vocabulary", encoder).get("tokens")
    if tokens is not None:
        print(
            f"known {'symbols of sources' if header.get('kind') == 'SequenceToSequence' else 'words'}: {len(tokens):,}"
        )
    for name in ("pairs", "spellings", "features", "numbers"):
        if encoder.get(name):
            print(f"{name}: {len(encoder[name]):,}")
    if header.get("kind") == "Forecaster":
        y, known, past = header["columns"]["sizes"]
        print(f"series: {len(header['series']):,}; numbers a step: {y}, known ahead {known}, past {past}")
    elif "series" in header:
        _show_series(header["series"])
    if "width" in header and "targets" in header:
        what = {"flags": "answers of yes and no", "numbers": "numbers"}[header["targets"]]
        print(f"{what}: {header['width']} for each {'step' if header['per_step'] else 'sequence'}")
    if "classes" in header:
        what = _WRITTEN.get(header.get("kind", ""), "labels")
        print(f"{what} ({len(header['classes'])}): {' '.join(map(str, header['classes']))}")
    for name, answer in header.get("answers", {}).items():
        of = " of sentences" if name == "sentence" else f" of {name}" if header["columns"] else ""
        print(f"labels{of} ({len(answer['classes'])}): {' '.join(map(str, answer['classes']))}")
    if "source" in header:
        size = len(header["source_classes"]) if "source_classes" in header else header["vector_size"]
        print(f"{header['source']}: {size:,}{'' if 'source_classes' in header else ' numbers each'}")
    if "symbols" in header:
        special = [name for name in (UNKNOWN, START, END) if name in header["symbols"]]
        beside = f", {', '.join(special)} among them" if special else ""
        print(f"symbols: {len(header['symbols']):,}{beside}")
    if header.get("history"):
        last = header["history"][-1]
        print(f"trained for {len(header['history'])} epochs, loss {last['loss']:.4f}")
    if "members" in header:
        return  # each has settings and weights of its own
    print("settings:")
    for name, value in header.get("settings", {}).items():
        print(f"  {name} = {setting_from_json(value)!r}")
    print(f"weights ({sum(map(math.prod, arrays.values())):,}):")
    for name, shape in sorted(arrays.items()):
        print(f"  {name} {tuple(shape)}")


def _show_series(series: dict[str, Any]) -> None:
    """Print what is read at every step of a sequence of numbers."""
    gaps = f", {len(series['gappy'])} with gaps" if series["gappy"] else ""
    times = ", and the time between steps" if series["tick"] is not None else ""
    print(f"reads at every step: {len(series['mean'])} numbers{gaps}{times}")
    for name, kinds in zip(series["kind_names"], series["kinds"], strict=True):
        print(f"kinds of {name}: {len(kinds)}")


def run_config(options: argparse.Namespace) -> None:
    """Print what `rnncore.show_config` has to say."""
    import rnncore

    rnncore.show_config()
