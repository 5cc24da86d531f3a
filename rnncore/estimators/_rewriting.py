"""Sources and targets of a network that writes: texts or lists to sequences of symbols and back; how right it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.data.encoders import LabelEncoder, sequence_lengths
from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences, take_rows
from rnncore.estimators._examples import Examples, Nouns
from rnncore.estimators._task import Collate, SequenceTask
from rnncore.nn.heads import Head, Softmax

__all__ = ["UNITS", "Rewriting", "units_of"]

UNITS = ("char", "word")

_STEPS_AT_ONCE = 16384  # of sources padded to the longest, times beams
_LEAST_ROOM = 10  # symbols that may be written beyond twice the longest known


class Text(tuple[str, ...]):
    """The symbols of what was a string."""

    __slots__ = ()


def units_of(given: Any, unit: str, name: str) -> Any:
    """Return sequences of symbols: of strings the characters or words.

    Raises
    ------
    DataError
        For what is no list of sequences, and strings among lists.

    Examples
    --------
    >>> units_of(["to be", "or"], "word", "sources")
    [('to', 'be'), ('or',)]
    >>> units_of([[3, 1], [2]], "char", "sources")
    [[3, 1], [2]]
    """
    if isinstance(given, str | bytes):
        raise DataError(f"{name}: expected a list of strings or of sequences, got one string: put it into a list")
    if hasattr(given, "__next__"):
        given = list(given)
    if hasattr(given, "to_list"):  # a column of pandas or polars
        given = given.to_list()
    if isinstance(given, np.ndarray) and given.dtype.kind == "U":
        given = given.tolist()
    try:
        strings = [isinstance(one, str) for one in given]
    except TypeError:
        raise DataError(f"{name}: expected a list of strings or of sequences, got {type(given).__name__}") from None
    if not any(strings):
        return sequences_of(given, name)
    if not all(strings):
        number = strings.index(not strings[0])
        kinds = [type(given[n]).__name__ for n in (0, number)]
        raise DataError(f"{name}: expected all strings or none, got {kinds[0]} as number 0 and {kinds[1]} as {number}")
    return [Text(text if unit == "char" else text.split()) for text in given]


class Rewriting(SequenceTask):
    """A target of a length of its own for each source.

    Parameters
    ----------
    source_unit, target_unit : {"char", "word"}
        What strings are divided into.
    label_smoothing : float

    Examples
    --------
    >>> task = Rewriting()
    >>> task.fit(units_of(["ba", "b"], "char", "targets"))
    >>> task.classes, task.encode([["b", "a"], ["b"]]).tolist()
    (['a', 'b'], [[1, 0], [1, -1]])
    """

    per_step = False

    def __init__(self, source_unit: str = "char", target_unit: str = "char", label_smoothing: float = 0.0) -> None:
        self.source_unit = source_unit
        self.target_unit = target_unit
        self.label_smoothing = label_smoothing
        self.labels = LabelEncoder()
        self.longest = 0
        self.texts = True  # whether targets are strings

    @property
    def classes(self) -> list[Any]:
        """The symbols that are written, by number."""
        return self.labels.classes

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Divide strings, and check that there are as many sources as targets, and of one kind."""
        sources = units_of(sequences, self.source_unit, f"{nouns.sequence}s")
        found = units_of(targets, self.target_unit, f"{nouns.target}s")
        if not len(sources):
            raise DataError(f"there are no {nouns.sequence}s: expected at least one")
        if len(sources) != len(found):
            raise DataError(
                f"expected as many {nouns.target}s as {nouns.sequence}s, got {len(found)} and {len(sources)}"
            )
        if self.classes and isinstance(found[0], Text) != self.texts:
            kinds = ("lists", "strings")
            raise DataError(f"targets: expected {kinds[self.texts]}, as in training, got {kinds[not self.texts]}")
        sequence_lengths(sources, f"{nouns.sequence}s")
        return Examples(sources, found)

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Collect the symbols of the targets; `classes`: all that there will be."""
        self.texts = isinstance(targets[0], Text)
        self.labels.fit(targets if classes is None else [classes])
        if not self.classes:
            raise DataError("targets: expected at least one symbol, and all of them are empty")
        self.longest = max(map(len, targets))

    def head(self) -> Head:
        """Make a head like the decoder's own: a symbol or the end."""
        return Softmax(len(self.classes) + 1, label_smoothing=self.label_smoothing)

    def encode(self, targets: Any, unseen: int | None = None) -> np.ndarray:
        """Return (S, L) numbers, -1 behind each end; with `unseen`, a symbol that nothing writes stands for others."""
        flat = self.labels.encode(targets, None if unseen is None else len(self.classes))
        counts = np.fromiter(map(len, targets), dtype=np.int64, count=len(targets))
        found = np.full((len(targets), max(int(counts.max(initial=0)), 1)), -1, dtype=np.int32)
        found[np.arange(found.shape[1]) < counts[:, None]] = flat
        return found

    def counts(self, data: Sequences) -> np.ndarray:
        """Return how many symbols each target has, the end counted."""
        found: np.ndarray = (data.y >= 0).sum(axis=1) + 1
        return found

    def most(self, lengths: np.ndarray) -> np.ndarray:
        """Return how many symbols may be written of sources so long."""
        return 2 * np.maximum(lengths, self.longest) + _LEAST_ROOM

    def joined(self, numbers: np.ndarray) -> Any:
        """Return written numbers in the form that targets have."""
        symbols = self.labels.decode(numbers)
        if not self.texts:
            return symbols
        return "".join(symbols) if self.target_unit == "char" else " ".join(symbols)

    def write(
        self,
        network: Any,
        data: Sequences,
        collate: Collate,
        beam_size: int = 1,
        length_penalty: float = 0.0,
        max_length: Any = None,
        n_best: int = 1,
    ) -> tuple[list[Any], list[Any]]:
        """Return what is written of each source, as numbers, and the scores."""
        outputs: list[Any] = [None] * len(data)
        scores: list[Any] = [None] * len(data)
        for rows, x in self._batches(data, collate, beam_size):
            lengths = data.lengths[rows]
            most = self.most(lengths) if max_length is None else max_length
            found, theirs = network.decode(x, lengths, beam_size, length_penalty, most, n_best)
            for row, one, score in zip(rows.tolist(), found, theirs, strict=True):
                outputs[row], scores[row] = one, score
        return outputs, scores

    def predict(self, network: Any, data: Sequences, collate: Collate, **search: Any) -> Any:
        """Return what is written of each source, in the form that targets have."""
        return [self.joined(one) for one in self.write(network, data, collate, **search)[0]]

    def right(self, network: Any, data: Sequences, collate: Collate) -> np.ndarray:
        """Tell which sources become exactly their targets, (S,) bool."""
        outputs, _ = self.write(network, data, collate)
        pairs = zip(outputs, data.y, strict=True)
        return np.array([np.array_equal(one, target[target >= 0]) for one, target in pairs], dtype=bool)

    def score(self, network: Any, data: Sequences, collate: Collate, weights: np.ndarray | None) -> float:
        """Return the share of targets that are written without a fault."""
        return float(np.average(self.right(network, data, collate), weights=weights))

    def nats(self, network: Any, data: Sequences, collate: Collate) -> float | None:
        """Return the mean loss of a symbol, ends counted, of the targets whose symbols are all known; None: of none."""
        known = np.flatnonzero((data.y < len(self.classes)).all(axis=1))
        if not len(known):
            return None
        total, seen = 0.0, data.select(known)
        for rows, x in self._batches(seen, collate, 1):
            total -= float(network.log_probabilities(x, seen.y[rows], seen.lengths[rows]).sum())
        return total / float(self.counts(seen).sum())

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the share of right ones and, which breaks ties, the loss of those whose symbols are all known."""
        record = {"val_score": self.score(network, data, collate, None)}
        loss = self.nats(network, data, collate)
        return record if loss is None else record | {"val_loss": loss}

    def _batches(self, data: Sequences, collate: Collate, beam_size: int) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield sources of like length together, and what the network reads of them."""
        order = np.argsort(-data.lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = max(int(data.lengths[order[start]]), self.longest)
            rows = order[start : start + max(1, _STEPS_AT_ONCE // (longest * beam_size))]
            places = data.positions(rows)
            values = data.values_at(places)
            x = take_rows(data.x, places)
            yield rows, collate(x) if values is None else collate(x, values)
            start += len(rows)

    def to_json(self) -> dict[str, Any]:
        """Describe symbols, and how targets look."""
        return {"classes": self.classes, "longest": self.longest, "texts": self.texts}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        classes, longest, texts = header["classes"], header["longest"], header["texts"]
        if not isinstance(classes, list) or not classes or not all(isinstance(one, str | int) for one in classes):
            raise ValueError("classes must be a list of strings or integers")
        if type(longest) is not int or longest < 0 or not isinstance(texts, bool):
            raise ValueError("longest must be a whole number, texts a flag")
        self.labels, self.longest, self.texts = LabelEncoder(classes), longest, texts
