"""``--task classify`` and ``regress``: sequences of numbers with a target each; and what evaluate and predict do."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from rnncore.cli.tables import count, described_layers, tell
from rnncore.cli.tasks import Data, Task
from rnncore.cli.translation import refuse_for_taggers
from rnncore.data.readers import DataError
from rnncore.data.series import Series
from rnncore.data.series_files import read_series
from rnncore.datasets import adding_problem, random_split
from rnncore.estimators.presets import CLASSIFIERS
from rnncore.io.files import write_atomically

__all__ = ["Classifying", "Regressing", "run_evaluate", "run_predict"]

_SHOWN = 20  # classes, with how many of each are right
_PAIRS = 1000  # true numbers and predictions in a report


class _OfSeries(Task):
    """Sequences with a target each."""

    presets = {}  # noqa: RUF012

    def sample(self) -> tuple[Any, list[Any], str]:
        """Return sequences, targets, and what to call them, where there are no data."""
        raise NotImplementedError

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read sequences, and divide them."""
        for name in ("column", "sentence_labels", "test_sentence_labels", "valid_sentence_labels"):
            if getattr(options, name):
                raise DataError(f"--{name.replace('_', '-')} goes with --task tag: leave it out")
        X, y, source = (*read_series(options.data), options.data) if options.data else self.sample()
        assert y is not None
        if options.test:
            train, test = (X, y), read_series(options.test)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            if fraction and len(y) < 2:
                raise DataError(
                    f"{source} holds one sequence; to split off a test part takes two (or --test-fraction 0)"
                )
            train, test = (
                (X.select(rows), [y[n] for n in rows]) for rows in random_split(len(y), fraction, options.seed)
            )
        valid = read_series(options.valid) if options.valid else None
        watched = f", {len(valid[0]):,} to watch" if valid else ""
        described = f"{source}: {count(len(train[0]), 'sequence')} to train on{watched}, {len(test[0]):,} to test on"
        return Data(train, valid, test, described)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train."""
        model.fit(*data.train, validation_data=data.valid, **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Measure on the test part."""
        report = {"n_train": len(data.train[0]), "n_test": len(data.test[0])}
        return report | (evaluated(model, *data.test) if len(data.test[0]) else {})

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and how good it is."""
        say("model", f"{described_layers(model)}; {report['n_weights']:,} weights")
        say("trained", f"{count(len(report['history']), 'epoch')} in {report['fit_seconds']:.1f} s")
        show(say, report)


class Classifying(_OfSeries):
    """Which of some classes a sequence is of."""

    presets = CLASSIFIERS

    def estimator(self) -> type:
        """Return what classifies."""
        from rnncore.estimators.series import SequenceClassifier

        return SequenceClassifier

    def sample(self) -> tuple[Any, list[Any], str]:
        """Return scikit-learn's handwritten digits, row by row."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        return Series.of(digits.images), digits.target.tolist(), "scikit-learn's digits, row by row"


class Regressing(_OfSeries):
    """How much a sequence is."""

    def estimator(self) -> type:
        """Return what regresses."""
        from rnncore.estimators.series import SequenceRegressor

        return SequenceRegressor

    def sample(self) -> tuple[Any, list[Any], str]:
        """Return sequences with two numbers marked, and their sum."""
        x, y = adding_problem(2000, 10, "modern")
        return Series.of(x), y.tolist(), "two marked numbers to add"


def evaluated(model: Any, X: Any, y: list[Any]) -> dict[str, Any]:
    """Return accuracy and what is taken for what, or errors."""
    found = model.predict(X)
    if hasattr(model, "predict_proba"):
        right = int(sum(a == b for a, b in zip(found.tolist(), y, strict=True)))
        classes = model.classes_.tolist()
        table: dict[str, dict[str, int]] = {str(one): {} for one in sorted({*classes, *y}, key=str)}
        for true, said in zip(y, found.tolist(), strict=True):
            row = table[str(true)]
            row[str(said)] = row.get(str(said), 0) + 1
        return {
            "test_accuracy": right / len(y),
            "test_correct": right,
            "test_total": len(y),
            "confusion": table,
        }
    wanted = np.array(y, dtype=np.float64)
    error = found - wanted
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    return {
        "test_error": float(np.sqrt((error**2).mean())),
        "test_absolute_error": float(np.abs(error).mean()),
        "test_r2": 1 - float((error**2).sum()) / spread if spread > 0 else None,
        "test_total": len(y),
        "test_pairs": np.column_stack([wanted, found])[:_PAIRS].tolist(),
    }


def show(say: Any, report: dict[str, Any]) -> None:
    """Tell how good it is."""
    if "test_accuracy" in report:
        right, total = report["test_correct"], report["test_total"]
        say("test", f"accuracy {report['test_accuracy']:.4f} ({right:,} of {count(total, 'sequence')} right)")
        for true, row in list(report["confusion"].items())[:_SHOWN]:
            wrong = {said: n for said, n in row.items() if said != true}
            if wrong:
                most = sorted(wrong.items(), key=lambda one: (-one[1], one[0]))
                say(
                    "",
                    f"{true}: {sum(row.values())} there, taken for " + ", ".join(f"{said} ({n})" for said, n in most),
                )
    elif "test_error" in report:
        r2 = "" if report["test_r2"] is None else f", R² {report['test_r2']:.4f}"
        say("test", f"root of mean squared error {report['test_error']:.4g}{r2}")


def _check_simple(options: argparse.Namespace, model: Any) -> None:
    """Refuse models whose targets the files cannot tell: several of a sequence, or those of steps."""
    about = model.specification_.task.to_json()
    if about["per_step"] or about["targets"] in ("columns", "flags") or about.get("width", 1) > 1:
        raise DataError(
            f"{options.model}: files hold one target for each sequence, and this model gives several, or one for each "
            "step: apply it in Python, rnncore.load(…).predict"
        )


def run_evaluate(options: argparse.Namespace, model: Any) -> None:
    """Print how good a model is on a file, and write it as a report."""
    _check_simple(options, model)
    refuse_for_taggers(options, ("column", "sentence_labels", "strict"))
    if options.beam_size:
        raise DataError(f"{options.model}: --beam-size is for models that search for what they write: leave it out")
    started = time.perf_counter()
    X, y = read_series(options.data)
    assert y is not None
    report: dict[str, Any] = {"task": "classify" if hasattr(model, "predict_proba") else "regress"}
    report |= {"model": options.model, "data": options.data, "n_test": len(X)} | evaluated(model, X, y)
    report["seconds"] = time.perf_counter() - started
    if not options.quiet:
        show(tell, report)
        tell("speed", f"{len(X) / report['seconds']:,.0f} sequences/s")
    if options.report:
        write_atomically(options.report, (json.dumps(report, indent=1) + "\n").encode())


def run_predict(options: argparse.Namespace, model: Any) -> None:
    """Write a line for each sequence: its class, with --confidence how likely it is; or a number."""
    _check_simple(options, model)
    refuse_for_taggers(options, ("column", "sentences"))
    if options.beam_size or options.n_best:
        raise DataError(f"{options.model}: --beam-size and --n-best are not for classes and numbers: leave them out")
    X, _ = read_series(options.data, targets=False)
    if options.confidence:
        if not hasattr(model, "predict_proba"):
            raise DataError(f"{options.model}: --confidence is for classes, and this model gives numbers: leave it out")
        p = model.predict_proba(X)
        lines = [f"{model.classes_[row.argmax()]}\t{row.max():.4f}" for row in p]
    else:
        lines = [str(one) for one in model.predict(X).tolist()]
    text = "".join(f"{line}\n" for line in lines)
    if options.out:
        write_atomically(options.out, text.encode())
    else:
        sys.stdout.write(text)
