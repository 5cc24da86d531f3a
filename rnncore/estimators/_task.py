"""What is to be learned: how targets lie, which head they need, how a loss is weighed, what predictions mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnncore.data.encoders import LabelEncoder, sequence_lengths
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._examples import Examples, Nouns
from rnncore.estimators._soft_labels import SoftLabels
from rnncore.nn.heads import CRF, Head, Softmax, bio_constraints
from rnncore.train.predictions import decode, predict, predict_sequences

__all__ = ["LabelLists", "LabelTask", "SequenceTask", "Task"]

Collate = Callable[..., Any]


class LabelLists(list[Any]):
    """A list of lists, which NumPy takes for an array of lists: what scikit-learn joins from several folds."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(len(self), dtype=object)
        array[:] = list(map(list, self))
        return array


class Task(ABC):
    """Base of tasks: what is to be learned, and the head that it needs."""

    @abstractmethod
    def fit(self, targets: Any, classes: Any = None) -> None:
        """Learn from the training targets; `classes` are all that there will be."""

    @abstractmethod
    def head(self) -> Head:
        """Make the head."""

    def to_json(self) -> dict[str, Any]:
        """Describe what was learned for a model file."""
        return {}

    def from_json(self, header: dict[str, Any]) -> None:  # noqa: B027
        """Take over what `to_json` described."""


class SequenceTask(Task):
    """Base of tasks with targets for sequences: these to numbers, and predictions back.

    `per_step` says whether there is a target for every step or one for each sequence, `readout` what the head sees.
    """

    per_step: Any = True
    readout = "every"

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Check that sequences and targets go together."""
        return Examples.of(sequences, targets, nouns, self.per_step)

    def outputs(self) -> dict[str, Any]:
        """Return the network's arguments that say what it is to predict."""
        return {"head": self.head(), "pooling": self.readout}

    def check(self, sequences: Any, targets: Any, counted: np.ndarray) -> None:
        """Refuse targets while it is known which sequence they are of; those not `counted` may be anything."""

    @abstractmethod
    def encode(self, targets: Any, unseen: int | None = None) -> Any:
        """Return the targets of all steps, or of all sequences, as an array; `unseen` stands for what is not known."""

    def counts(self, data: Sequences) -> np.ndarray:
        """Return how much each sequence's loss counts without a weight of its own, (S,)."""
        return data.lengths if self.per_step else np.ones(len(data))

    @abstractmethod
    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return predictions for sequences that all have steps."""

    @abstractmethod
    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return how good the predictions for `data`, which have targets, are: higher is better."""

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure ``val_score`` and, where it breaks ties, ``val_loss``."""
        return {"val_score": self.score(network, data, collate, None)}


class LabelTask(SequenceTask):
    """A label for every step, or for each sequence.

    Parameters
    ----------
    head : "softmax" or "crf"
    constraints : None, "auto", "bio" or "iobes"
        What a CRF never gives, see `rnncore.heads.bio_constraints`.
    class_weight : None, "balanced" or dict
    per_step : bool
    readout : str
        What the head sees of a sequence, where each has one label.

    Examples
    --------
    >>> task = LabelTask(class_weight="balanced")
    >>> task.fit([["O", "O"], ["B", "O"]])
    >>> task.classes, task.encode([["B", "O"]]).tolist(), task.head().class_weight
    (['B', 'O'], [0, 1], (2.0, 0.6666666666666666))
    """

    def __init__(
        self,
        head: str = "softmax",
        constraints: str | None = None,
        class_weight: Any = None,
        per_step: bool = True,
        readout: str = "every",
    ) -> None:
        self.kind = head
        self.constraints = constraints
        self.per_step = per_step
        self.readout = readout
        self._class_weight = class_weight
        self._labels: LabelEncoder | None = None
        self._weights: list[float] | None = None

    @property
    def labels(self) -> LabelEncoder:
        """What turns labels into numbers."""
        assert self._labels is not None, "the task is not fitted"
        return self._labels

    @property
    def classes(self) -> list[Any]:
        """The labels, sorted."""
        return self.labels.classes

    @property
    def labelled(self) -> dict[str, LabelTask]:
        """Tasks by the names of heads: itself, for a network's only one."""
        return {"": self}

    def of_columns(self, found: Mapping[str, Any]) -> Any:
        """Return what was found by names of heads as it is without a name."""
        return found[""]

    def check(self, sequences: Any, targets: Any, counted: np.ndarray) -> None:
        """Find labels that break the constraints."""
        if self.constraints is None:
            return
        known = self._labels or LabelEncoder().fit(targets)
        rule = bio_constraints(known.classes, self.constraints)
        ids, lengths = known.encode(targets, -1), sequence_lengths(targets, "tags")
        ends = np.cumsum(lengths)
        first, last = (ends - lengths)[lengths > 0], ends[lengths > 0] - 1
        follows = rule.transitions[np.roll(ids, 1), ids]
        wrong = ~follows
        wrong[first] = ~rule.start[ids[first]]
        wrong[last] |= ~rule.end[ids[last]]
        wrong &= np.repeat(counted, lengths)
        if not wrong.any():
            return
        at = int(np.argmax(wrong))
        number = int(np.searchsorted(ends, at, side="right"))
        word = at - int(ends[number] - lengths[number])
        label, before = targets[number][word], targets[number][word - 1] if word else None
        if word and not follows[at]:
            what = f"cannot follow {before!r}"
        else:
            what = "cannot begin a sentence" if not word and not rule.start[ids[at]] else "cannot end a sentence"
        raise DataError(
            f"sentence {number}, word {word} ({sequences[number][word]!r}): label {label!r} {what} by "
            f"constraints={self.constraints!r}; mend the data, or leave the constraints out"
        )

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Collect the labels and weigh them."""
        lists = targets if self.per_step else [targets]
        if classes is not None:
            lists = [*lists, list(classes)]
        self._labels = LabelEncoder().fit(lists)
        self._weights = self._class_weights(lists)

    def _class_weights(self, lists: Any) -> list[float] | None:
        weight, classes = self._class_weight, self.classes
        if weight is None:
            return None
        if isinstance(weight, Mapping):
            unknown = set(weight) - set(classes)
            if unknown:
                raise ValueError(f"class_weight: no label {sorted(map(str, unknown))[0]!r} in the training data")
            return [float(weight.get(label, 1.0)) for label in classes]
        if isinstance(weight, str) and weight == "balanced":
            counts = np.bincount(self.labels.encode(lists), minlength=len(classes))
            return (counts.sum() / (len(classes) * counts)).tolist()
        raise ValueError(f"class_weight: expected None, 'balanced' or a dict of label to weight, got {weight!r}")

    def encode(self, targets: Any, unseen: int | None = None) -> np.ndarray:
        """Return the labels' numbers; of labels that are only probable, all probabilities to learn from."""
        if isinstance(targets, SoftLabels) and unseen is None:
            return targets.of(self.classes)
        return self.labels.encode(targets if self.per_step else [targets], unseen)

    def head(self) -> Head:
        """Make a CRF or a softmax."""
        if self.kind == "softmax":
            return Softmax(len(self.classes), class_weight=self._weights)
        constraints = None if self.constraints is None else bio_constraints(self.classes, self.constraints)
        return CRF(len(self.classes), constraints, self._weights)

    def counts(self, data: Sequences) -> np.ndarray:
        """Return how many labels there are, each as much as its class counts."""
        if self._weights is None or data.y is None:
            return super().counts(data)
        weights = np.array(self._weights)[data.y]
        return np.add.reduceat(weights, data.starts) if self.per_step else weights

    def probabilities(self, network: Any, data: Sequences, collate: Collate) -> np.ndarray:
        """Return those of all labels at every step, or of each sequence."""
        run = predict if self.per_step else predict_sequences
        return run(network, data, len(self.classes), collate)

    def best(self, network: Any, data: Sequences, collate: Collate) -> np.ndarray:
        """Return the most probable labels' numbers."""
        if self.per_step:
            return decode(network, data, collate)
        return self.probabilities(network, data, collate).argmax(axis=1)

    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return the most probable labels: a list for each sequence, or an array with one for each."""
        return self.named(self.best(network, data, collate), data.lengths)

    def named(self, numbers: np.ndarray, lengths: np.ndarray) -> Any:
        """Return the labels of these numbers: a list for each sequence, or an array with one for each."""
        return split(self.labels.decode(numbers), lengths) if self.per_step else np.array(self.classes)[numbers]

    def right(self, network: Any, data: Sequences, collate: Collate) -> np.ndarray:
        """Tell where the prediction is the target."""
        return self.best(network, data, collate) == data.y

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return the accuracy, every label as much as its sequence's weight."""
        if weights is not None and self.per_step:
            weights = np.repeat(weights, data.lengths)
        return float(np.average(self.right(network, data, collate), weights=weights))

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the loss of the labels' probabilities, and the accuracy."""
        probabilities = self.probabilities(network, data, collate)
        best = probabilities.argmax(axis=1) if self.kind == "softmax" else decode(network, data, collate)
        return self.measured(probabilities, best, data.y)

    def measured(self, probabilities: np.ndarray, best: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Return loss and accuracy of what was predicted."""
        known = np.flatnonzero(targets != -1)  # a label not in the training part is wrong whatever is predicted
        right = probabilities[known, targets[known]].astype(np.float64)
        loss = -np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean() if len(known) else 0.0
        return {"val_loss": float(loss), "val_score": float((best == targets).mean())}

    def to_json(self) -> dict[str, Any]:
        """Describe the labels."""
        return {"classes": self.classes, "class_weights": self._weights}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self._labels = LabelEncoder(header["classes"])
        self._weights = header["class_weights"]


def split(flat: Sequence[Any], lengths: np.ndarray) -> LabelLists:
    """Cut a list into one of lists.

    Examples
    --------
    >>> split(["a", "b", "c"], np.array([1, 2]))
    [['a'], ['b', 'c']]
    """
    ends = np.cumsum(lengths).tolist()
    return LabelLists(flat[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True))
