"""``--task tag``: a label for every word."""

from __future__ import annotations

import argparse
from typing import Any

from rnncore.cli.tables import count, described_layers, show_answers
from rnncore.cli.tasks import Data, Task
from rnncore.data.readers import Columns, DataError, each_column, read_labels, read_packed
from rnncore.data.tokens import select
from rnncore.datasets import news_requests, random_split
from rnncore.estimators.presets import TAGGERS

__all__ = ["Tagging", "overall"]

Examples = tuple[Any, ...]  # sentences, tags and, if there are some, labels of sentences


class Tagging(Task):
    """Lines of ``word TAB label``, with a blank line between sentences."""

    presets = TAGGERS

    def estimator(self) -> type:
        """Return the tagger."""
        from rnncore.estimators.tagger import SequenceTagger

        return SequenceTagger

    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read tagged words and, where they are asked for, labels of sentences, and divide them."""
        _check_options(options, settings)
        source = options.data or "a sample of news requests"
        data = _read(options.data, options.column, options.sentence_labels) if options.data else news_requests()
        train: Examples
        test: Examples
        if options.test:
            train, test = data, _read(options.test, options.column, options.test_sentence_labels)
        else:
            fraction = 0.2 if options.test_fraction is None else options.test_fraction
            if fraction and len(data[0]) < 2:
                raise DataError(
                    f"{source} holds one sentence; to split off a test part takes two (or --test-fraction 0)"
                )
            train, test = (
                tuple(each_column(lambda part: select(part, rows), part) for part in data)  # noqa: B023
                for rows in random_split(len(data[0]), fraction, options.seed)
            )
        valid = _read(options.valid, options.column, options.valid_sentence_labels) if options.valid else None
        watched = f", {len(valid[0]):,} to watch" if valid else ""
        described = f"{source}: {count(len(train[0]), 'sentence')} to train on{watched}, {len(test[0]):,} to test on"
        return Data(train, valid, test, described)

    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train the tagger."""
        model.fit(*data.train, validation_data=data.valid, **options)

    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Count what is tagged right."""
        correct, total = _summed(model.count_correct(*data.train[:2]))
        report = {
            "n_train": len(data.train[0]),
            "n_test": len(data.test[0]),
            "n_labels": sum(map(len, _listed(model.classes_))),
            "chosen": model.chosen_,
            "train_accuracy": correct / total,
            "train_correct": correct,
            "train_total": total,
        }
        tested = model.evaluate(*data.test) if len(data.test[0]) else {}
        report |= overall(tested, model.classes_)
        return report | {"evaluation": tested or None}

    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell sizes, speed and accuracies."""
        sentences = f", {count(len(model.sentence_classes_), 'label')} of sentences" if model.sentence_labels else ""
        labels = f"{count(report['n_labels'], 'label')}{sentences}"
        say("model", f"{described_layers(model)}; {labels}, {report['n_weights']:,} weights")
        if report["chosen"]:
            say("chosen", "by the data: " + ", ".join(_told(name, value) for name, value in report["chosen"].items()))
        epochs, seconds = len(report["history"]), report["fit_seconds"]
        n_words = report["train_total"] // len(_listed(model.classes_))
        speed = f", {epochs * n_words / seconds:,.0f} words/s" if epochs else ""
        say("trained", f"{count(epochs, 'epoch')} in {seconds:.2f} s{speed}")
        correct, total = report["train_correct"], report["train_total"]
        say("train", f"accuracy {correct / total:.4f} ({correct:,} of {count(total, 'word')} right)")
        if report["evaluation"]:
            whole = {name: report[f"test_{name}"] for name in ("accuracy", "correct", "total")}
            show_answers(say, whole | report["evaluation"], model.classes_)


def _check_options(options: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Refuse labels of sentences for some of the files alone, and switch their setting on where they are given."""
    if not options.sentence_labels:
        for part in ("test", "valid"):
            if getattr(options, f"{part}_sentence_labels"):
                raise DataError(f"--{part}-sentence-labels goes with --sentence-labels, those of DATA: give both")
        if settings.get("sentence_labels"):
            raise DataError("sentence_labels: give the file of the labels, --sentence-labels FILE")
        return
    if not options.data:
        raise DataError("--sentence-labels are those of DATA: give this file, too")
    for part in ("test", "valid"):
        own, labels = getattr(options, part), getattr(options, f"{part}_sentence_labels")
        if (own is None) != (labels is None):
            raise DataError(f"--{part} and --{part}-sentence-labels go together: give both, or none")
    settings["sentence_labels"] = True


def _read(path: str, column: Columns | None, labels: str | None) -> Examples:
    """Return sentences, tags and, if there are some, labels of sentences."""
    sentences, tags = read_packed(path, column)
    if labels is None:
        return sentences, tags
    return sentences, tags, read_labels(labels, len(sentences), path)


def _listed(found: Any) -> list[Any]:
    return list(found.values()) if isinstance(found, dict) else [found]


def _summed(counted: Any) -> tuple[int, int]:
    """Add what is right, and all that there is, of every column."""
    right, total = zip(*_listed(counted), strict=True)
    return sum(right), sum(total)


def overall(tested: dict[str, Any], classes: Any) -> dict[str, Any]:
    """Return a report's figures of all tags together, taken out of an evaluation where they are the only ones."""
    if not tested:
        found: dict[str, Any] = {"accuracy": None, "correct": 0, "total": 0}
    elif isinstance(classes, dict):
        right, total = _summed({name: (tested[name]["correct"], tested[name]["total"]) for name in classes})
        found = {"accuracy": right / total, "correct": right, "total": total}
    else:
        found = {name: tested.pop(name) for name in ("accuracy", "correct", "total")}
    if "sentence" in tested:
        found["sentence_accuracy"] = tested["sentence"]["accuracy"]
    return {f"test_{name}": value for name, value in found.items()}


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
