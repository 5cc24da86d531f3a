"""``--task tag``: a label for every word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rnncore.cli.tables import count, described_layers, show_evaluation
from rnncore.cli.tasks import Data, Task
from rnncore.data.readers import DataError, read_packed
from rnncore.data.tokens import select
from rnncore.datasets import news_requests, random_split
from rnncore.estimators.presets import TAGGERS

__all__ = ["Tagging"]

Tagged = tuple[Sequence[list[str]], Sequence[list[str]]]


class Tagging(Task):
    """Lines of ``word TAB label``, with a blank line between sentences."""

    presets = TAGGERS

    def estimator(self) -> type:
        """Return the tagger."""
        from rnncore.estimators.tagger import SequenceTagger

        return SequenceTagger

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read tagged words, and divide them."""
        data: Tagged = read_packed(options.data, options.column) if options.data else news_requests()
        source = options.data or "a sample of news requests"
        train: Tagged
        test: Tagged
        if options.test:
            train, test = data, read_packed(options.test, options.column)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            if fraction and len(data[0]) < 2:
                raise DataError(
                    f"{source} holds one sentence; to split off a test part takes two (or --test-fraction 0)"
                )
            train, test = (
                (select(data[0], rows), select(data[1], rows))
                for rows in random_split(len(data[0]), fraction, options.seed)
            )
        valid = read_packed(options.valid, options.column) if options.valid else None
        watched = f", {len(valid[0]):,} to watch" if valid else ""
        described = f"{source}: {count(len(train[0]), 'sentence')} to train on{watched}, {len(test[0]):,} to test on"
        return Data(train, valid, test, described)

    def fit(self, model: Any, data: Data, checkpoints: Any) -> None:
        """Train the tagger."""
        model.fit(*data.train, validation_data=data.valid, checkpoint=checkpoints)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Count what is tagged right."""
        correct, total = model.count_correct(*data.train)
        report = {
            "n_train": len(data.train[0]),
            "n_test": len(data.test[0]),
            "n_labels": len(model.classes_),
            "chosen": model.chosen_,
            "train_accuracy": correct / total,
            "train_correct": correct,
            "train_total": total,
        }
        tested = model.evaluate(*data.test) if len(data.test[0]) else {"accuracy": None, "correct": 0, "total": 0}
        report |= {f"test_{name}": tested.pop(name) for name in ("accuracy", "correct", "total")}
        return report | {"evaluation": tested or None}

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and accuracies."""
        say(
            "model", f"{described_layers(model)}; {count(report['n_labels'], 'label')}, {report['n_weights']:,} weights"
        )
        if report["chosen"]:
            say("chosen", "by the data: " + ", ".join(_told(name, value) for name, value in report["chosen"].items()))
        epochs, seconds = len(report["history"]), report["fit_seconds"]
        speed = f", {epochs * report['train_total'] / seconds:,.0f} words/s" if epochs else ""
        say("trained", f"{count(epochs, 'epoch')} in {seconds:.2f} s{speed}")
        correct, total = report["train_correct"], report["train_total"]
        say("train", f"accuracy {correct / total:.4f} ({correct:,} of {count(total, 'word')} right)")
        if report["evaluation"]:
            whole = {name: report[f"test_{name}"] for name in ("accuracy", "correct", "total")}
            show_evaluation(say, whole | report["evaluation"])


def _told(name: str, value: Any) -> str:
    """Name a setting and what it is.

    Examples
    --------
    >>> _told("hidden_size", 64), _told("shapes", False)
    ('hidden size 64', 'no shapes')
    """
    if isinstance(value, bool):
        return f"{'' if value else 'no '}{name}"
    return f"{name.replace('_', ' ')} {value}"
