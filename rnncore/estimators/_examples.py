"""Training data as users pass them, checked: as many targets as sequences, weights, none that are empty."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks
from rnncore.data.encoders import sequence_lengths
from rnncore.data.inputs import sequences_of, values_of
from rnncore.data.readers import DataError
from rnncore.data.tokens import select

__all__ = ["Examples", "Nouns", "Targets", "level_of_caller", "pieces", "spread", "with_steps"]

_AT_ONCE = 4096  # sequences


class Nouns(NamedTuple):
    """What messages call a sequence, a target and a step."""

    sequence: str = "sequence"
    target: str = "target"
    step: str = "step"


class Targets(dict[str, Any]):
    """Targets of several answers by name: tags of one or more columns, labels of sentences.

    `columns` are the names of the tags', as the user has them, or None where they are one list without a name.
    """

    def __init__(self, of: Mapping[str, Any], columns: tuple[str, ...] | None) -> None:
        super().__init__(of)
        self.columns = columns

    def __reduce__(self) -> tuple[Any, ...]:
        return Targets, (dict(self), self.columns)


class Examples(NamedTuple):
    """Sequences with their targets and, where they do not all count alike, weights."""

    sequences: Any
    targets: Any
    weights: np.ndarray | None = None

    def select(self, rows: Any) -> Examples:
        """Return some of them."""
        weights = None if self.weights is None else self.weights[rows]
        if isinstance(self.targets, Targets):
            some = {name: select(part, rows) for name, part in self.targets.items()}
            return Examples(select(self.sequences, rows), Targets(some, self.targets.columns), weights)
        return Examples(select(self.sequences, rows), select(self.targets, rows), weights)

    @classmethod
    def of(cls, sequences: Any, targets: Any, nouns: Nouns, per_step: bool) -> Examples:
        """Check that there are as many targets as sequences, and as steps where each has one.

        Raises
        ------
        DataError
            If not, or if one of both is no list of sequences.
        """
        sequences = sequences_of(sequences, f"{nouns.sequence}s")
        targets = sequences_of(targets, f"{nouns.target}s") if per_step else values_of(targets, f"{nouns.target}s")
        lengths = sequence_lengths(sequences, f"{nouns.sequence}s")
        if not len(lengths):
            raise DataError(f"there are no {nouns.sequence}s: expected at least one")
        if len(lengths) != len(targets):
            each = f"lists of {nouns.target}s" if per_step else f"{nouns.target}s"
            raise DataError(f"expected as many {each} as {nouns.sequence}s, got {len(lengths)} and {len(targets)}")
        own = sequence_lengths(targets, f"{nouns.target}s") if per_step else lengths
        if (lengths != own).any():
            bad = int(np.argmax(lengths != own))
            raise DataError(f"{nouns.sequence} {bad} has {lengths[bad]} {nouns.step}s but {own[bad]} {nouns.target}s")
        return cls(sequences, targets)

    def weighed(
        self,
        sample_weight: Any,
        nouns: Nouns,
        check: Callable[[Any, Any, np.ndarray], None] | None = None,
    ) -> Examples:
        """Check the weights and leave out sequences that have none, or no steps; no weights where all count alike.

        `check` is told which sequences count, while they still have their numbers; where it is given, it is said how
        many were empty.
        """
        sequences, targets, n = self.sequences, self.targets, len(self.sequences)
        if sample_weight is None:
            if check is not None:
                check(sequences, targets, np.ones(n, dtype=bool))
            return self.with_steps(nouns, warn=check is not None)
        weights: Any = _checks.array(sample_weight, "sample_weight").astype(np.float64)
        if weights.shape != (n,):
            raise ValueError(
                f"sample_weight: expected {n} numbers, one for each {nouns.sequence}, got shape {weights.shape}"
            )
        if not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
            raise ValueError("sample_weight: expected finite numbers of at least 0, not all of them zero")
        if not 1e-100 < weights.max() < 1e100:  # only how they compare counts; their sums must be numbers
            weights = weights / weights.max()
        if check is not None:
            check(sequences, targets, weights > 0)
        found = self._replace(weights=weights).with_steps(nouns, warn=check is not None)
        weights = found.weights
        if not weights.any():
            raise ValueError(f"sample_weight: only {nouns.sequence}s without {nouns.step}s have a weight above 0")
        counted = np.flatnonzero(weights)
        if len(counted) < len(weights):
            found, weights = found.select(counted), weights[counted]
        return found._replace(weights=None if (weights == weights[0]).all() else weights)

    def with_steps(self, nouns: Nouns, warn: bool = False) -> Examples:
        """Leave out sequences without steps."""
        kept = with_steps(self.sequences)
        if kept is None:
            return self
        if not len(kept):
            raise DataError(f"there are no {nouns.step}s: all {nouns.sequence}s are empty")
        if warn:
            n = len(self.sequences) - len(kept)
            first = int(np.flatnonzero(sequence_lengths(self.sequences) == 0)[0])
            warnings.warn(
                f"{n} empty {nouns.sequence}s were left out, the first of them number {first}",
                UserWarning,
                stacklevel=level_of_caller(),
            )
        return self.select(kept)


def level_of_caller() -> int:
    """Return how many frames above the one that asks is the first that is not rnncore's, as `warnings.warn` counts."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rnncore."):
        frame, level = frame.f_back, level + 1
    return level


def pieces(sequences: Any) -> Iterator[slice]:
    """Divide sequences into so many at once as are predicted in bounded memory.

    Examples
    --------
    >>> [(some.start, some.stop) for some in pieces(range(5000))]
    [(0, 4096), (4096, 8192)]
    """
    return (slice(start, start + _AT_ONCE) for start in range(0, len(sequences), _AT_ONCE))


def with_steps(sequences: Any) -> np.ndarray | None:
    """Return which sequences have steps, or None where all have."""
    lengths = sequence_lengths(sequences)
    return None if lengths.all() else np.flatnonzero(lengths)


def spread(found: Any, kept: np.ndarray | None, empty: Callable[[], Any], n: int) -> Any:
    """Return what was found for the sequences `kept` (None: for all) in a list of `n`, the others' made by `empty`."""
    if kept is None:
        return found
    every = type(found)(empty() for _ in range(n))
    for number, one in zip(kept.tolist(), found, strict=True):
        every[number] = one
    return every
