"""What a Transcriber learns: strings of labels that nobody has aligned with the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.data.encoders import LabelEncoder, sequence_lengths
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._choice import NOT_FINITE
from rnncore.estimators._examples import Examples, Nouns
from rnncore.estimators._frames import Steps
from rnncore.estimators._task import Collate, LabelLists, SequenceTask
from rnncore.metrics import edit_distances
from rnncore.nn.ctc_decoding import best_path
from rnncore.nn.heads import CTC
from rnncore.train.predictions import batches_to_predict

__all__ = ["StringTask", "scores_of"]

_AS_THEY_ARE = Steps()


class StringTask(SequenceTask):
    """A string for each sequence: a str, whose labels are characters, or a list of labels.

    Parameters
    ----------
    steps : Steps
        How many the network reads of a sequence.
    """

    per_step = False

    def __init__(self, steps: Steps = _AS_THEY_ARE) -> None:
        self.steps = steps
        self.text = True  # whether strings are str
        self._labels: LabelEncoder | None = None

    @property
    def labels(self) -> LabelEncoder:
        """What turns labels into numbers."""
        assert self._labels is not None, "the task is not fitted"
        return self._labels

    @property
    def classes(self) -> list[Any]:
        """The labels, sorted."""
        return self.labels.classes

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Check that there is a string for each sequence, all of one kind."""
        found = super().examples(sequences, targets, nouns)
        strings = [one.tolist() if isinstance(one, np.ndarray) else one for one in found.targets]
        for number, string in enumerate(strings):
            if not isinstance(string, str | list | tuple):
                raise DataError(f"string {number}: expected a str or a list of labels, got {type(string).__name__}")
            if isinstance(string, str) != isinstance(strings[0], str):
                raise DataError(f"strings must be all str or all lists of labels; string {number} is unlike string 0")
        return found._replace(targets=strings)

    def check(self, sequences: Any, targets: Any, counted: np.ndarray) -> None:
        """Refuse strings that are too long for their sequences."""
        lengths = sequence_lengths(sequences, "sequences")
        given, left = self.steps.of_features(lengths), self.steps.left(lengths)
        for number, (string, steps) in enumerate(zip(targets, left.tolist(), strict=True)):
            repeats = sum(one == other for one, other in zip(string[1:], string[:-1], strict=True))
            if counted[number] and steps and len(string) + repeats > steps:
                shown = f"{given[number]} steps, of which the network reads {steps} (every={self.steps.every})"
                raise DataError(
                    f"sequence {number} is too short for its string: {len(string)} labels, {repeats} of them the same "
                    f"as the one before, need {len(string) + repeats} steps, and there are "
                    f"{shown if self.steps.every > 1 else steps}; leave it out, or give it more steps"
                )

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Collect the labels."""
        self.text = isinstance(targets[0], str)
        lists = [*targets] if classes is None else [*targets, list(classes)]
        self._labels = LabelEncoder().fit(lists)
        if not self.classes:
            raise DataError("all strings are empty: there is no label to learn")

    def encode(self, targets: Any, unseen: int | None = None) -> np.ndarray:
        """Return the labels' numbers (S, L), -1 behind the ends; K stands for labels never seen, if `unseen` allows."""
        if targets and isinstance(targets[0], str) != self.text:
            kinds = ("str", "lists of labels")
            raise DataError(f"expected {kinds[not self.text]}, as in training, got {kinds[self.text]}")
        lengths = np.fromiter(map(len, targets), dtype=np.int64, count=len(targets))
        ids = self.labels.encode(targets, None if unseen is None else len(self.classes))
        found = np.full((len(targets), lengths.max(initial=0)), -1, dtype=np.int64)
        found[np.arange(found.shape[1]) < lengths[:, None]] = ids
        return found

    def head(self) -> CTC:
        """Make the head."""
        return CTC(len(self.classes))

    def named(self, numbers: Sequence[np.ndarray]) -> Any:
        """Return strings of numbers as they were given in training: a list of str, or of lists."""
        found = map(self.labels.decode, numbers)
        return ["".join(labels) for labels in found] if self.text else LabelLists(found)

    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return the strings of the most probable paths."""
        return self.named(self._best(network, data, collate))

    def _best(self, network: Any, data: Sequences, collate: Collate) -> list[np.ndarray]:
        best = [np.zeros(0, dtype=np.int64)] * len(data)
        for scores, rows in scores_of(network, data, collate):
            for row, symbols in zip(rows.tolist(), best_path(scores, data.lengths[rows]), strict=True):
                best[row] = symbols
        return best

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return 1 - label error rate, every label as much as its sequence's weight."""
        edits, labels = self._edits(network, data, collate)
        factor = np.ones(len(data)) if weights is None else weights
        return 1.0 - _rate(float((factor * edits).sum()), float((factor * labels).sum()))

    def _edits(self, network: Any, data: Sequences, collate: Collate) -> tuple[np.ndarray, np.ndarray]:
        """Return how many edits each prediction needs, and how many labels there should be."""
        true = [row[row >= 0].tolist() for row in data.y]
        best = [one.tolist() for one in self._best(network, data, collate)]
        return edit_distances(true, best), np.array([len(one) for one in true], dtype=np.int64)

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the label error rate, and the loss of the strings that can be said in the steps there are."""
        edits, labels = self._edits(network, data, collate)
        rate = _rate(float(edits.sum()), float(labels.sum()))
        repeats = ((data.y[:, 1:] == data.y[:, :-1]) & (data.y[:, 1:] >= 0)).sum(axis=1)
        fits = (labels + repeats <= data.lengths) & (data.y < len(self.classes)).all(axis=1)
        loss, n = 0.0, 0
        for batch, _, rows, _ in batches_to_predict(data.select(np.flatnonzero(fits)), collate):
            kept = np.flatnonzero(fits)[rows]
            loss -= float(network.log_likelihood(batch, data.y[kept], data.lengths[kept]).sum())
            n += len(rows)
        return {"val_loss": loss / (n or 1), "val_score": 1.0 - rate, "val_label_error_rate": rate}

    def to_json(self) -> dict[str, Any]:
        """Describe the labels."""
        return {"classes": self.classes, "text": self.text}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self._labels, self.text = LabelEncoder(header["classes"]), bool(header["text"])


def scores_of(network: Any, data: Sequences, collate: Collate) -> Any:
    """Yield scores (T, B, K + 1) of sequences of similar lengths, and which these are."""
    for batch, _, rows, _ in batches_to_predict(data, collate):
        scores, _ = network.forward(batch, data.lengths[rows], training=False)
        if not np.isfinite(scores).all():
            raise ValueError(NOT_FINITE)
        yield scores, rows


def _rate(edits: float, labels: float) -> float:
    return edits / labels if labels else float("inf") if edits else 0.0
