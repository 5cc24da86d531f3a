"""``rnncore train``: from a file of tagged words to a model file."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from rnncore.cli.status import BAD_INPUT, INTERRUPTED
from rnncore.data import DataError, read_tagged
from rnncore.datasets import news_requests, random_split
from rnncore.files import write_atomically

__all__ = ["add_commands"]

Tagged = tuple[list[list[str]], list[list[str]]]


def add_commands(commands: Any) -> None:
    """Add ``train`` to the command's parsers."""
    parser = commands.add_parser(
        "train",
        help="train a model on a file",
        description="Train a tagger on lines of 'word TAB label', with a blank line between sentences.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="tagged words, plain or gzip; without: a sample of news requests"
    )
    parser.add_argument("--task", choices=["tag"], default="tag", help="what to learn (default: %(default)s)")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test", metavar="FILE", help="tagged words to test on")
    test.add_argument(
        "--test-fraction",
        type=_number(float, 0, 1, "a number from 0 to less than 1"),
        default=None,
        metavar="F",
        help="part of DATA to test on instead (default: 0.2)",
    )
    parser.add_argument("--out", metavar="MODEL", help="model file to write (default: ./TASK.safetensors)")
    parser.add_argument("--force", action="store_true", help="replace the model file if there is one")
    parser.add_argument("--report", metavar="FILE.json", help="write settings, history and results")
    parser.add_argument(
        "--seed",
        type=_number(int, 0, 2**63, "a whole number from 0 on"),
        default=0,
        metavar="S",
        help="for the split, the first weights and all chance (default: 0)",
    )
    parser.add_argument(
        "--threads",
        type=_number(int, 1, 2**31, "a whole number from 1 on"),
        metavar="N",
        help="threads to use (default: all the process may use)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the estimator; may be repeated"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, test, save, report."""
    out = options.out or f"{options.task}.safetensors"
    check_target(out, options.force)
    if options.report:
        check_target(options.report, force=True)
    settings = _settings(options)
    train, test, source = _data(options)

    from rnncore.estimators.tagger import SequenceTagger  # scikit-learn takes most of a second to import

    if not options.quiet:
        import tqdm  # noqa: F401 (now, not within the time of the fit)
    tagger = SequenceTagger(**settings)
    tell = (lambda *columns: None) if options.quiet else _tell
    tell("data", f"{source}: {_count(len(train[0]), 'sentence')} to train on, {len(test[0])} to test on")
    started = time.perf_counter()
    try:
        tagger.fit(*train)
    except KeyboardInterrupt:
        return _interrupted(tagger, out)
    seconds = time.perf_counter() - started
    tagger.save(out)
    report = _report(options, tagger, train, test, seconds)
    _show(tell, tagger, report)
    tell("saved", f"{out} ({os.path.getsize(out) / 1e6:.2f} MB)")
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())
    return BAD_INPUT if tagger.stopped_ == "diverged" else 0


def check_target(path: str, force: bool) -> None:
    """Find out before the work, not after it, that a file cannot be written."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder; expected the name of a file to write")
    if os.path.exists(path) and not force:
        raise DataError(f"{path} exists already; replace it with --force, or choose another name with --out")
    if not os.path.isdir(folder):
        raise DataError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: no permission to write in {folder}")


def _data(options: argparse.Namespace) -> tuple[Tagged, Tagged, str]:
    """Return training data, test data and what to call them."""
    sentences, tags = read_tagged(options.data) if options.data else news_requests()
    source = options.data or "a sample of news requests"
    if options.test:
        return (sentences, tags), read_tagged(options.test), source
    fraction = 0.2 if options.test_fraction is None else options.test_fraction
    if fraction and len(sentences) < 2:
        raise DataError(f"{source} holds one sentence; to split off a test part takes two (or --test-fraction 0)")
    train, test = random_split(len(sentences), fraction, options.seed)
    parts = [([sentences[i] for i in part], [tags[i] for i in part]) for part in (train.tolist(), test.tolist())]
    return parts[0], parts[1], source


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from rnncore.estimators.tagger import SequenceTagger

    settings: dict[str, Any] = {"random_state": options.seed, "verbose": 0 if options.quiet else 1}
    if options.threads is not None:
        settings["n_threads"] = options.threads
    known = SequenceTagger().get_params(deep=False)
    for assignment in options.set:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise DataError(f"--set {assignment}: expected KEY=VALUE, such as --set hidden_size=128")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
            raise DataError(f"--set {assignment}: there is no parameter {name}; {hint}")
        settings[name] = _value(text.strip())
    return settings


def _value(text: str) -> Any:
    """Read a number, true, false, none, a list or a dict; anything else is a string."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _report(options: argparse.Namespace, tagger: Any, train: Tagged, test: Tagged, seconds: float) -> dict[str, Any]:
    import rnncore
    from rnncore.estimators.base import setting_to_json

    report = {
        "task": options.task,
        "version": rnncore.__version__,
        "data": options.data,
        "n_train": len(train[0]),
        "n_test": len(test[0]),
        "n_labels": len(tagger.classes_),
        "n_weights": int(tagger.network_.theta.size),
        "fit_seconds": seconds,
        "stopped": tagger.stopped_,
        "history": tagger.history_,
        "settings": {name: setting_to_json(value) for name, value in tagger.get_params(deep=False).items()},
    }
    for name, part in (("train", train), ("test", test)):
        correct, total = tagger.count_correct(*part) if part[0] else (0, 0)
        report |= {
            f"{name}_accuracy": correct / total if total else None,
            f"{name}_correct": correct,
            f"{name}_total": total,
        }
    return report


def _show(tell: Any, tagger: Any, report: dict[str, Any]) -> None:
    direction = ", both directions" if tagger.bidirectional else ""
    layers = f"{tagger.num_layers} x " if tagger.num_layers > 1 else ""
    tell(
        "model",
        f"{layers}{tagger.cell} {tagger.hidden_size}{direction}; {_count(report['n_labels'], 'label')}, "
        f"{report['n_weights']:,} weights",
    )
    epochs, seconds = len(report["history"]), report["fit_seconds"]
    speed = f", {epochs * report['train_total'] / seconds:,.0f} words/s" if epochs else ""
    tell("trained", f"{_count(epochs, 'epoch')} in {seconds:.2f} s{speed}")
    for name in ("train", "test"):
        if report[f"{name}_total"]:
            correct, total = report[f"{name}_correct"], report[f"{name}_total"]
            tell(name, f"accuracy {correct / total:.4f} ({correct:,} of {_count(total, 'word')} right)")


def _interrupted(tagger: Any, out: str) -> int:
    if not hasattr(tagger, "network_"):
        raise KeyboardInterrupt
    tagger.save(out)
    print(
        f"rnncore train: interrupted after {_count(tagger.n_epochs_, 'epoch')}; saved what was learned in {out}",
        file=sys.stderr,
    )
    return INTERRUPTED


def _tell(topic: str, text: str) -> None:
    print(f"{topic:<8} {text}", flush=True)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _number(kind: type, low: float, high: float, expected: str) -> Callable[[str], Any]:
    """Return an argument's reader that accepts what lies in low <= value < high."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
            if low <= value < high:
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return read
