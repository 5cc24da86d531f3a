"""``--task lm``: what comes next in a text. And ``rnncore generate``: a model file that writes."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnncore.cli.arguments import check_target, number
from rnncore.cli.tables import count, described_layers
from rnncore.cli.tasks import Data, Task
from rnncore.data.readers import DataError
from rnncore.data.texts import lines_of, raw_text, read_once, text_of_bytes
from rnncore.datasets import python_source
from rnncore.estimators.presets import LANGUAGE_MODELS
from rnncore.io.files import load_estimator, write_atomically

__all__ = ["Language", "add_commands", "named_text"]

_SAMPLE = 300


class Language(Task):
    """A text: UTF-8, or any file with unit=byte, or numbers, .npy, with unit=id."""

    presets = LANGUAGE_MODELS
    defaults = {"validation": "tail"}  # noqa: RUF012

    def estimator(self) -> type:
        """Return the language model."""
        from rnncore.estimators.language import LanguageModel

        return LanguageModel

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Find the texts."""
        if options.column:
            raise DataError("--column goes with --task tag: leave it out")
        unit, sentences = settings.get("unit", "char"), settings.get("sentences", False)
        text: Any = named_text(options.data, unit) if options.data else python_source()
        source = options.data or "the source of Python's own library"
        if not options.data and "max_epochs" not in settings:
            settings["max_epochs"] = 8  # half a minute, to see it work
        test, whole = named_text(options.test, unit) if options.test else None, None
        if options.test_fraction:
            text = lines_of(text, unit) if sentences else raw_text(text, unit)
            n_test = round(options.test_fraction * len(text))
            if not n_test or n_test == len(text):
                raise DataError(f"{source} is too short for a test part of {options.test_fraction}")
            whole, text, test = text, text[: len(text) - n_test], text[len(text) - n_test :]
        valid = named_text(options.valid, unit) if options.valid else None
        return Data((text, whole), valid, test, source)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train the language model."""
        text, whole = data.train
        if data.test is not None and whole is None:
            model.reads(text, data.test)  # before all the work
        model.fit(text, validation_data=data.valid, vocabulary=whole, **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Return nats per symbol: of the last epoch's training, of what was watched (the best, if kept), and tested."""
        history = model.history_
        watched = [record["val_loss"] for record in history if "val_loss" in record]
        stopping = data.valid is not None or model.early_stopping
        report = {
            "n_train": model.n_train_symbols_,
            "n_test": 0,
            "n_symbols": len(model.symbols_),
            "train_nats": history[-1]["loss"] if history else None,
            "valid_nats": (min(watched) if stopping else watched[-1]) if watched else None,
            "test_nats": None,
            "symbols_per_second": model.n_train_symbols_ * len(history) / max(sum(r["seconds"] for r in history), 1e-9),
        }
        if data.test is not None:
            tested = model.evaluate(data.test)
            report |= {"test_nats": tested["nats"], "n_test": tested["n_symbols"]}
        return report

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and nats, and let the model write."""
        unit = {"char": "character"}.get(model.unit, model.unit)
        symbols = count(report["n_symbols"], unit if unit != "id" else "symbol")
        say("model", f"{described_layers(model)}; {symbols}, {report['n_weights']:,} weights")
        epochs, seconds = len(report["history"]), report["fit_seconds"]
        speed = report["symbols_per_second"]
        say("trained", f"{count(epochs, 'epoch')} in {seconds:.1f} s, {speed:,.0f} symbols/s")
        for part in ("train", "valid", "test"):
            if report[f"{part}_nats"] is not None:
                say(part, f"{report[f'{part}_nats']:.4f} nats per {unit}")
        sample = model.generate(_SAMPLE, temperature=0.7, random_state=report["seed"])
        say("", "")
        say("writes", "")
        for line in (sample if isinstance(sample, str) else " ".join(map(str, sample))).split("\n"):
            say("", line)
        say("", "")


def named_text(path: str, unit: str) -> Any:
    """Return what a model reads of a file's name: a path, or what comes from standard input or a pipe."""
    if path != "-":
        return read_once(Path(path), unit)
    data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    return text_of_bytes(data, unit, "standard input")


def add_commands(commands: Any) -> None:
    """Add ``generate`` to the command's parsers."""
    generate = commands.add_parser(
        "generate",
        help="let a language model write",
        description="Write a text, symbol by symbol as it is made.",
        allow_abbrev=False,
    )
    generate.add_argument("model", metavar="MODEL", help="a model file of --task lm")
    generate.add_argument(
        "--length",
        type=number(int, 0, 2**31, "a whole number from 0 on"),
        default=500,
        metavar="N",
        help="how many symbols (default: 500)",
    )
    generate.add_argument("--prime", default="", metavar="TEXT", help="what comes before; it is written, too")
    generate.add_argument(
        "--temperature",
        type=number(float, 0, float("inf"), "a number from 0 on"),
        default=1.0,
        metavar="T",
        help="below 1 bolder towards the probable; 0 always takes the most probable (default: 1)",
    )
    generate.add_argument(
        "--top-k", type=number(int, 1, 2**31, "a whole number from 1 on"), metavar="K", help="of the K most probable"
    )
    generate.add_argument(
        "--top-p",
        type=number(float, 1e-9, 1 + 1e-9, "a number up to 1"),
        metavar="P",
        help="of the most probable that make up P together",
    )
    generate.add_argument("--stop", metavar="TEXT", help="end where this has been written")
    generate.add_argument(
        "--seed", type=number(int, 0, 2**63, "a whole number from 0 on"), metavar="S", help="(default: each time anew)"
    )
    generate.add_argument("--out", metavar="FILE", help="where to write (default: standard output)")
    generate.add_argument(
        "--plot", metavar="FILE.png", help="draw what the model expected after each symbol of the text"
    )
    generate.set_defaults(run=run_generate)


def run_generate(options: argparse.Namespace) -> None:
    """Write."""
    for target in (options.out, options.plot):
        if target:
            check_target(target, force=True)
    if options.plot:
        from rnncore.plots import check_plotting

        check_plotting(options.plot)
    model = load_estimator(options.model)
    if not hasattr(model, "iter_generate"):
        raise DataError(f"{options.model}: holds a {type(model).__name__}, which writes nothing; expected --task lm")
    prime: Any = options.prime
    stop: Any = options.stop
    if model.unit == "id":
        prime = _numbers(prime, "--prime")
        stop = _numbers(stop, "--stop")[0] if stop else None
    chosen: list[Any] = []
    symbols = model.iter_generate(
        options.length,
        prime,
        options.temperature,
        options.top_k,
        options.top_p,
        random_state=options.seed,
        stop=stop,
    )
    written = io.StringIO()
    if options.out is None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    for piece in model.pieces(_noted(symbols, chosen), prime):
        written.write(piece)
        if options.out is None:
            sys.stdout.write(piece)
            sys.stdout.flush()
    if options.out:
        text = written.getvalue().encode("utf-8", errors="replace")
        write_atomically(options.out, prime.encode() + b"".join(chosen) if model.unit == "byte" else text)
    else:
        sys.stdout.write("\n")
    if options.plot:
        from rnncore.plots import plot_next_symbols

        shown: Any = written.getvalue()
        if model.unit == "byte":
            shown = prime.encode() + b"".join(chosen)
        plot_next_symbols(model, prime + chosen if model.unit == "id" else shown, options.plot)


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split()]
    except ValueError:
        raise DataError(
            f"{option}: this model writes numbers: expected some with blanks between, got {text!r}"
        ) from None


def _noted(symbols: Iterator[Any], notes: list[Any]) -> Iterator[Any]:
    """Pass symbols on, and keep them."""
    for symbol in symbols:
        notes.append(symbol)
        yield symbol
