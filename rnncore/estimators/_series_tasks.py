"""What is to be learned of series: labels, flags or numbers, of every step or of whole sequences."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning

from rnncore.data.encoders import sequence_lengths
from rnncore.data.inputs import sequences_of, values_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.series import is_panel, series_of
from rnncore.estimators._examples import Examples, Nouns, level_of_caller
from rnncore.estimators._task import Collate, LabelTask, SequenceTask
from rnncore.nn.heads import Head, SigmoidCrossEntropy, Softmax, SquaredError
from rnncore.train.predictions import predict, predict_sequences

__all__ = [
    *("FlagTask", "NumberTask", "SeriesLabelTask"),
    *("are_flags", "as_rows", "examples_of", "inputs_of", "lies_by_step", "plain"),
]


def inputs_of(given: Any, name: str) -> Any:
    """Return sequences of numbers as `Series`; of tokens as lists, strings as their characters."""
    given = plain(given)
    if is_panel(given) or (hasattr(given, "nnz") and hasattr(given, "toarray")):
        return series_of(given, name)
    if isinstance(given, np.ndarray) and given.dtype.kind in "cmM":
        return series_of(given, name)  # refused
    parts = values_of(given, name) if not isinstance(given, list) else given
    if parts and all(isinstance(part, str) for part in parts):
        return [list(part) for part in parts]
    return sequences_of(given, name)


def plain(given: Any) -> Any:
    """Return what can only be made an array as one."""
    return np.asarray(given) if hasattr(given, "__array__") and not hasattr(given, "__len__") else given


def lies_by_step(y: Any, X: Any) -> bool:
    """Tell whether targets are for every step: arrays (S, T, K), or lists as long as the first sequence."""
    if y is None:
        raise DataError("this estimator requires y to be passed, but the target y is None")
    if isinstance(y, np.ndarray) and y.dtype != object:
        return y.ndim > 2
    if hasattr(y, "columns") or not hasattr(y, "__len__") or not len(y) or not hasattr(y, "__getitem__"):
        return False
    first = y[0]
    if not hasattr(first, "__len__") or isinstance(first, str | bytes):
        return False
    try:
        return len(first) == len(X[0])
    except (TypeError, KeyError, IndexError):
        return True


def are_flags(parts: Any) -> bool:
    """Tell answers of yes and no, 0 and 1, from labels.

    Examples
    --------
    >>> are_flags([np.array([[0, 1]])]), are_flags([np.array([[0, 2]])]), are_flags([np.array([["a", "b"]])])
    (True, False, False)
    """
    return all(np.asarray(part).dtype.kind in "fiubO" and np.isin(part, (0, 1)).all() for part in parts)


def as_rows(given: Any, name: str, width: int) -> list[list[Any]]:
    """Return `width` labels in each row, as (S, K) or (T, K) have them."""
    if hasattr(given, "to_numpy"):
        given = given.to_numpy()
    rows = given.tolist() if isinstance(given, np.ndarray) else given
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple | np.ndarray) or len(row) != width:
            got = f"{len(row)}" if isinstance(row, list | tuple | np.ndarray) else repr(row)
            raise DataError(f"{name}, row {number}: expected {width} labels, as in the training data, got {got}")
    return [[_whole(label) for label in row] for row in rows]


def examples_of(sequences: Any, targets: Any, nouns: Nouns, by_step: bool) -> Examples:
    """Check that there are as many targets as sequences, or as steps of each."""
    lengths = sequence_lengths(sequences, "X")
    if len(targets) != len(lengths):
        raise DataError(f"expected as many {nouns.target}s as {nouns.sequence}s, got {len(targets)} and {len(lengths)}")
    if by_step:
        own = np.array([len(part) for part in targets], dtype=np.int64)
        if (own != lengths).any():
            bad = int(np.argmax(own != lengths))
            raise DataError(f"{nouns.sequence} {bad} has {lengths[bad]} {nouns.step}s but {own[bad]} {nouns.target}s")
    return Examples(sequences, targets)


class SeriesLabelTask(LabelTask):
    """A label for each sequence, or for every step.

    Examples
    --------
    >>> task = SeriesLabelTask(per_step=False, readout="last")
    >>> task.fit(["up", "down"])
    >>> task.head()
    Softmax(outputs=2, project=True, pooling=None, class_weight=None, label_smoothing=0.0, tied=False)
    """

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Check that sequences and targets go together."""
        given, targets = inputs_of(sequences, "X"), plain(targets)
        if not self.per_step:
            if isinstance(targets, np.ndarray) and targets.ndim == 2 and targets.shape[1] == 1:
                warnings.warn(
                    "A column-vector y was passed when a 1d array was expected: give y.ravel()",
                    DataConversionWarning,
                    stacklevel=level_of_caller(),
                )
                targets = targets[:, 0]
            labels = values_of(targets, "y")
            if not isinstance(targets, np.ndarray) or targets.dtype.kind in "fO":
                labels = [_whole(label) for label in labels]
            return examples_of(given, labels, nouns, False)
        return examples_of(given, [list(part) for part in targets], nouns, True)

    def head(self) -> Head:
        """Make a softmax; weights of whole sequences' classes are those of the sequences."""
        return super().head() if self.per_step else Softmax(len(self.classes))

    def counts(self, data: Sequences) -> np.ndarray:
        """Return how many labels there are, of steps each as much as its class counts."""
        return super().counts(data) if self.per_step else np.ones(len(data))

    def weighed(self, train: Examples) -> Examples:
        """Return examples whose sequences weigh as much as their classes do.

        A minibatch's loss is a mean over its weights of classes: in a small one that has none but of a light class,
        this would weigh as much as any.
        """
        if self.per_step or self._weights is None:
            return train
        own = np.array(self._weights)[self.encode(train.targets)]
        return train._replace(weights=own if train.weights is None else own * train.weights)

    def to_json(self) -> dict[str, Any]:
        """Describe the labels, and where they are."""
        return super().to_json() | {"targets": "labels", "per_step": self.per_step}


def _whole(label: Any) -> Any:
    """Return a label that is a float without a fraction as a whole number."""
    if isinstance(label, float | np.floating):
        if not np.isfinite(label):
            raise DataError(f"Input y contains NaN or infinity: labels must be strings or whole numbers, got {label}")
        if label == int(label):
            return int(label)
        raise DataError(
            f"Unknown label type: continuous. Labels must be strings or whole numbers, got {label}: numbers are for a "
            "SequenceRegressor"
        )
    return label


class _ArrayTask(SequenceTask):
    """Base of tasks whose targets are K numbers, of each step or each sequence."""

    kind = ""

    def __init__(self, per_step: bool, readout: str) -> None:
        self.per_step = per_step
        self.readout = "every" if per_step else readout
        self.width = 0
        self.flat = False  # targets were (S,), or (T,) for each sequence

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Check that sequences and targets go together, and that these are numbers."""
        given, targets = inputs_of(sequences, "X"), plain(targets)
        if self.per_step:
            parts = [_numbers(part, f"y[{number}]", 2) for number, part in enumerate(targets)]
            return examples_of(given, parts, nouns, True)
        return examples_of(given, _numbers(targets, "y", 2), nouns, False)

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Learn how many numbers there are."""
        first = targets[0] if self.per_step else targets
        self.flat = np.ndim(first) == 1
        self.width = 1 if self.flat else int(np.shape(first)[1])

    def table(self, targets: Any) -> np.ndarray:
        """Return targets as (N, K), laid end to end."""
        found = np.concatenate(targets) if self.per_step else np.asarray(targets)
        found = found[:, None] if found.ndim == 1 else found
        if found.shape[1] != self.width:
            raise DataError(f"expected {self.width} numbers as a target, as in the training data, got {found.shape[1]}")
        return found

    def found(self, network: Any, data: Sequences, collate: Collate) -> np.ndarray:
        """Return the head's outputs, (N, K)."""
        run = predict if self.per_step else predict_sequences
        return run(network, data, self.width, collate)

    def shaped(self, table: np.ndarray, lengths: np.ndarray) -> Any:
        """Return predictions in the form that the training targets had."""
        table = table[:, 0] if self.flat else table
        return np.split(table, np.cumsum(lengths)[:-1]) if self.per_step else table

    def repeated(self, weights: np.ndarray | None, lengths: np.ndarray) -> np.ndarray | None:
        """Return the weights of what is scored."""
        return np.repeat(weights, lengths) if weights is not None and self.per_step else weights

    def to_json(self) -> dict[str, Any]:
        """Describe the targets."""
        return {"targets": self.kind, "per_step": self.per_step, "width": self.width, "flat": self.flat}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self.width, self.flat = int(header["width"]), bool(header["flat"])

    @abstractmethod
    def head(self) -> Head:
        """Make the head."""


def _numbers(given: Any, name: str, most: int) -> np.ndarray:
    """Return an array of numbers of one or two axes."""
    if given is None:
        raise DataError("requires y to be passed, but the target y is None")
    if hasattr(given, "to_numpy"):
        given = given.to_numpy()
    try:
        found = np.asarray(given)
        found = found.astype(np.float64) if found.dtype.kind in "fiubO" else found
    except (TypeError, ValueError) as problem:
        raise DataError(f"{name} must be numbers: {problem}") from None
    if found.dtype.kind != "f" or not 1 <= found.ndim <= most:
        raise DataError(f"{name} must be numbers, (S,) or (S, K); got {found.dtype} of shape {found.shape}")
    bad = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(axis=1))
    if bad.size:
        raise DataError(f"Input {name} contains NaN or infinity, the first of them at {int(bad[0])}")
    return found


class FlagTask(_ArrayTask):
    """K yes or no answers: for each sequence, or for every step.

    Examples
    --------
    >>> task = FlagTask(True, "every")
    >>> task.fit([np.array([[0, 1, 1], [0, 0, 0]])])
    >>> task.head().outputs
    3
    """

    kind = "flags"

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Learn how many there are."""
        super().fit(targets, classes)
        self.table(targets)

    def table(self, targets: Any) -> np.ndarray:
        """Return targets as (N, K) of 0 and 1."""
        found = super().table(targets)
        if not np.isin(found, (0, 1)).all():
            raise DataError("y of shape (…, K) are yes or no answers: expected 0 and 1 alone")
        return found

    def encode(self, targets: Any, unseen: int | None = None) -> np.ndarray:
        """Return targets as float32."""
        return self.table(targets).astype(np.float32)

    def head(self) -> Head:
        """Make a sigmoid for each."""
        return SigmoidCrossEntropy(self.width)

    def probabilities(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return how likely each is."""
        return self.shaped(self.found(network, data, collate), data.lengths)

    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return 1 where it is likelier than not."""
        return self.shaped((self.found(network, data, collate) > 0.5).astype(np.int64), data.lengths)

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return how often all K answers are right."""
        right = ((self.found(network, data, collate) > 0.5) == (data.y > 0.5)).all(axis=1)
        return float(np.average(right, weights=self.repeated(weights, data.lengths)))

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the loss: nats a step, or a sequence."""
        p = np.clip(self.found(network, data, collate).astype(np.float64), 1e-300, 1 - 1e-16)
        loss = float(-(data.y * np.log(p) + (1 - data.y) * np.log1p(-p)).sum(axis=1).mean())
        return {"val_loss": loss, "val_score": -loss}


class NumberTask(_ArrayTask):
    """K numbers, scaled inside: for each sequence, or for every step.

    Examples
    --------
    >>> task = NumberTask(False, "last")
    >>> task.fit(np.array([1.0, 3.0]))
    >>> task.encode(np.array([1.0, 2.0])).tolist()
    [[-1.0], [0.0]]
    """

    kind = "numbers"

    def __init__(self, per_step: bool, readout: str, scale: bool = True) -> None:
        super().__init__(per_step, readout)
        self._scale = scale
        self.mean = self.deviation = np.empty(0)

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Learn means and deviations."""
        super().fit(targets, classes)
        found = self.table(targets)
        self.mean, spread = found.mean(axis=0), found.std(axis=0)
        self.deviation = np.where(spread > 1e-12 * np.maximum(np.abs(self.mean), 1e-300), spread, 1.0)
        if not self._scale:
            self.mean, self.deviation = np.zeros_like(self.mean), np.ones_like(spread)

    def encode(self, targets: Any, unseen: int | None = None) -> np.ndarray:
        """Return scaled targets."""
        return (self.table(targets) - self.mean) / self.deviation

    def head(self) -> Head:
        """Make a squared error."""
        return SquaredError(self.width)

    def values(self, network: Any, data: Sequences, collate: Collate) -> np.ndarray:
        """Return predictions, (N, K)."""
        return self.found(network, data, collate).astype(np.float64) * self.deviation + self.mean

    def predict(self, network: Any, data: Sequences, collate: Collate) -> Any:
        """Return numbers in the form that the training targets had."""
        return self.shaped(self.values(network, data, collate), data.lengths)

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return the coefficient of determination, its mean over K numbers."""
        from sklearn.metrics import r2_score

        wanted = data.y * self.deviation + self.mean
        weights = self.repeated(weights, data.lengths)
        return float(r2_score(wanted, self.values(network, data, collate), sample_weight=weights))

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the squared error, in units of the training targets' variance."""
        error = float(((self.found(network, data, collate).astype(np.float64) - data.y) ** 2).sum(axis=1).mean())
        return {"val_loss": error, "val_score": -error}

    def to_json(self) -> dict[str, Any]:
        """Describe the targets and their scale."""
        return super().to_json() | {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        super().from_json(header)
        self.mean, self.deviation = (np.array(header[name], dtype=np.float64) for name in ("mean", "deviation"))
