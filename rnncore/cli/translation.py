"""``--task translate``: lines of ``source TAB target``; and what evaluate and predict do with such a model."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from rnncore.cli.tables import count, described_layers, tell
from rnncore.cli.tasks import Data, Task
from rnncore.data.readers import DataError, iter_text_lines
from rnncore.datasets import dates, random_split
from rnncore.io.files import write_atomically
from rnncore.metrics import edit_distances

__all__ = ["Translation", "run_evaluate", "run_predict"]

_SAMPLE = 4000  # generated dates, where there are no data
_AT_ONCE = 1024  # lines
_SHOWN = 10  # of what was written wrongly

Pairs = tuple[list[str], list[str]]


class Translation(Task):
    """Lines of ``source TAB target``."""

    presets = {}  # noqa: RUF012

    def estimator(self) -> type:
        """Return what writes a sequence for a sequence."""
        from rnncore.estimators.rewriting import SequenceToSequence

        return SequenceToSequence

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read pairs, and divide them."""
        for name in ("column", "sentence_labels", "test_sentence_labels", "valid_sentence_labels"):
            if getattr(options, name):
                raise DataError(f"--{name.replace('_', '-')} goes with --task tag: leave it out")
        source = options.data or "generated dates"
        pairs = read_pairs(options.data) if options.data else dates(_SAMPLE)
        if options.test:
            train, test = pairs, read_pairs(options.test)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            if fraction and len(pairs[0]) < 2:
                raise DataError(f"{source} holds one pair; to split off a test part takes two (or --test-fraction 0)")
            train, test = (_some(pairs, rows) for rows in random_split(len(pairs[0]), fraction, options.seed))
        valid = read_pairs(options.valid) if options.valid else None
        watched = f", {len(valid[0]):,} to watch" if valid else ""
        described = f"{source}: {count(len(train[0]), 'pair')} to train on{watched}, {len(test[0]):,} to test on"
        return Data(train, valid, test, described)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train."""
        model.fit(*data.train, validation_data=data.valid, **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Count what is written without a fault, and edits."""
        report = {"n_train": len(data.train[0]), "n_test": len(data.test[0]), "n_symbols": len(model.symbols_)}
        return report | evaluated(model, *data.test)

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and how much is right."""
        symbols = count(report["n_symbols"], "symbol")
        say("model", f"{described_layers(model)}; {symbols} to write, {report['n_weights']:,} weights")
        epochs, seconds = len(report["history"]), report["fit_seconds"]
        say("trained", f"{count(epochs, 'epoch')} in {seconds:.1f} s")
        show(say, report)


def _some(pairs: Pairs, rows: Any) -> Pairs:
    sources, targets = ([part[n] for n in rows] for part in pairs)
    return sources, targets


def read_pairs(path: str) -> Pairs:
    """Read lines of ``source TAB target``; blank ones are left out.

    Raises
    ------
    DataError
        For a file without pairs, and a line that is none, with its number.
    """
    sources, targets = [], []
    for number, fields in _fields(path):
        if len(fields) != 2:
            raise DataError(
                f"{_named(path)}, line {number}: expected source and target with a tab between, got "
                f"{count(len(fields), 'field')}"
            )
        sources.append(fields[0])
        targets.append(fields[1])
    if not sources:
        raise DataError(f"{_named(path)} holds no pairs: expected lines of source and target with a tab between")
    return sources, targets


def _fields(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not blank."""
    for number, text in iter_text_lines(path):
        yield number, text.split("\t")


def _named(path: str) -> str:
    return "standard input" if path == "-" else path


def evaluated(model: Any, sources: list[str], targets: list[str], beam_size: int = 1) -> dict[str, Any]:
    """Return the share of targets that are written without a fault, the label error rate, and what is wrong."""
    if not sources:
        return {"test_accuracy": None, "test_correct": 0, "test_total": 0, "label_error_rate": None, "wrong": []}
    found = model.predict(sources, beam_size=beam_size)
    words = model.target_unit == "word"
    true, predicted = ([text.split() if words else text for text in texts] for texts in (targets, found))
    edits = edit_distances(true, predicted)
    wrong = np.flatnonzero(edits).tolist()
    n_symbols = sum(map(len, true))
    return {
        "test_accuracy": 1 - len(wrong) / len(sources),
        "test_correct": len(sources) - len(wrong),
        "test_total": len(sources),
        "label_error_rate": float(edits.sum() / n_symbols) if n_symbols else None,
        "wrong": [[sources[n], targets[n], found[n]] for n in wrong[:100]],
    }


def show(say: Any, report: dict[str, Any]) -> None:
    """Tell how much is right, and some of what is not."""
    if not report["test_total"]:
        return
    say(
        "test", f"{report['test_accuracy']:.4f} ({report['test_correct']:,} of {count(report['test_total'], 'target')})"
    )
    if report["label_error_rate"] is not None:
        say("", f"label error rate {report['label_error_rate']:.4f}")
    for number, (source, target, found) in enumerate(report["wrong"][:_SHOWN]):
        say("" if number else "wrong", f"{source!r} is {target!r}, got {found!r}")


def run_evaluate(options: argparse.Namespace, model: Any) -> None:
    """Print how many targets of a file are written without a fault, and write it as a report."""
    sources, targets = read_pairs(options.data)
    report_evaluation(
        options, "translate", len(sources), lambda: evaluated(model, sources, targets, options.beam_size or 1)
    )


def report_evaluation(options: argparse.Namespace, task: str, n: int, evaluate: Callable[[], dict[str, Any]]) -> None:
    """Evaluate a model that writes, print what came out, and write it as a report."""
    refuse_for_taggers(options, ("column", "sentence_labels", "strict"))
    started = time.perf_counter()
    report: dict[str, Any] = {"task": task, "model": options.model, "data": options.data}
    report |= {"n_test": n} | evaluate()
    report["seconds"] = time.perf_counter() - started
    if not options.quiet:
        show(tell, report)
        tell("speed", f"{n / report['seconds']:,.0f} targets/s")
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def refuse_for_taggers(options: argparse.Namespace, names: Iterable[str]) -> None:
    """Refuse options that are for taggers alone."""
    for name in names:
        if getattr(options, name):
            raise DataError(f"--{name.replace('_', '-')} is for taggers: leave it out")


def run_predict(options: argparse.Namespace, model: Any) -> None:
    """Write a target for each line's source, what stands before its first tab; blank lines stay blank."""
    refuse_for_taggers(options, ("column", "sentences", "confidence"))
    if options.out:
        write_atomically(options.out, (piece.encode() for piece in _written(options, model)))
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    for piece in _written(options, model):
        sys.stdout.write(piece)
        sys.stdout.flush()


def _written(options: argparse.Namespace, model: Any) -> Iterator[str]:
    """Yield lines, some at a time."""
    lines = _sources(options.data)
    typed = options.data == "-" and sys.stdin.isatty()
    while some := list(islice(lines, 1 if typed else _AT_ONCE)):
        found = lines_of(options, model, [source for source in some if source])
        made = iter(found)
        yield "".join((next(made) if source else "") + "\n" for source in some)


def lines_of(options: argparse.Namespace, model: Any, sources: Any) -> list[str]:
    """Return what is written of each source: one output, or several with their scores."""
    if not options.n_best:
        found: list[str] = model.predict(sources, beam_size=options.beam_size or 1)
        return found
    several = model.predict_n_best(sources, options.n_best, beam_size=max(options.beam_size or 5, options.n_best))
    return ["\t".join(f"{text}\t{score:.4f}" for text, score in one) for one in several]


def _sources(path: str) -> Iterator[str]:
    before = 0
    for number, fields in _fields(path):
        yield from [""] * (number - before - 1)
        yield fields[0].strip("\ufeff") if number == 1 else fields[0]
        before = number
