"""Many sequences laid end to end, with their targets: what a training gathers its minibatches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rnncore._checks import INT32
from rnncore._core.rows import gathered
from rnncore.data.readers import DataError

__all__ = ["Sequences", "take_rows"]


@dataclass
class Sequences:
    """Sequences laid end to end.

    Attributes
    ----------
    x : (N,) int32 ids, (N, C) bags of ids or (N, D) float array
    y : array or None
        Targets: one for each of the N steps, or, with ``per_step=False``, for each of the S sequences.
    lengths : (S,) int64, with the sum N
    values : (N, C) float array or None
        Factors of the ids `x`.
    per_step : bool

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> data = rc.Sequences.of([np.zeros((3, 2)), np.ones((1, 2))], [[0, 1, 1], [0]])
    >>> len(data), data.x.shape, data.y.tolist(), data.lengths.tolist()
    (2, (4, 2), [0, 1, 1, 0], [3, 1])
    """

    x: np.ndarray
    y: np.ndarray | None
    lengths: np.ndarray
    values: np.ndarray | None = None
    per_step: bool = True

    @classmethod
    def of(cls, x: Sequence[Any], y: Any = None) -> Sequences:
        """Lay arrays end to end.

        Parameters
        ----------
        x : list of (T,) int or (T, D) float arrays
        y : list of arrays (T,) or (T, K), or array (S,) or (S, K), optional
            Targets of every step, or one for each sequence: told by whether its first element has a length. (S, K)
            must come as an array.

        Raises
        ------
        DataError
            If they do not fit together.
        """
        parts = [np.asarray(part) for part in x]
        lengths = np.array([len(part) if part.ndim else 0 for part in parts], dtype=np.int64)
        if not len(parts) or not lengths.all():
            raise DataError("expected at least one sequence, each with at least one step")
        if len({(part.shape[1:], part.dtype.kind) for part in parts}) > 1:
            kinds = sorted({f"{part.dtype} {('T', *part.shape[1:])}" for part in parts})
            raise DataError(f"expected sequences that are alike but for their lengths, got {' and '.join(kinds)}")
        flat = np.concatenate(parts)
        if flat.dtype.kind in "iu":
            flat = flat.astype(np.int32)
        if y is None:
            return cls(flat, None, lengths)
        if len(y) != len(parts):
            raise DataError(f"expected targets for {len(parts)} sequences, got {len(y)}")
        if (isinstance(y, np.ndarray) and y.dtype != object) or not np.ndim(y[0]):
            return cls(flat, np.asarray(y), lengths, per_step=False)
        targets = [np.asarray(part) for part in y]
        wrong = next((i for i, part in enumerate(targets) if len(part) != lengths[i]), None)
        if wrong is not None:
            raise DataError(f"sequence {wrong} has {lengths[wrong]} steps but {len(targets[wrong])} targets")
        return cls(flat, np.concatenate(targets), lengths)

    @cached_property
    def starts(self) -> np.ndarray:
        """(S,) where each sequence begins."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def _steps(self) -> np.ndarray:
        return np.arange(self.lengths.max(initial=0), dtype=np.int64)[:, None]

    def __len__(self) -> int:
        return len(self.lengths)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """(T, B) flat positions of the sequences `rows`; those beyond a sequence's end are valid but meaningless."""
        at = self._steps[: self.lengths[rows].max()] + self.starts[rows]
        return np.minimum(at, len(self.x) - 1, out=at)

    def targets(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the targets of the sequences `rows`, whose `positions` are `places`: (T, B, ...) or (B, ...)."""
        assert self.y is not None
        return take_rows(self.y, places if self.per_step else rows)

    def values_at(self, places: np.ndarray) -> np.ndarray | None:
        """Return the values at such `positions`, if there are any."""
        return None if self.values is None else self.values.take(places, axis=0, mode="clip")

    def select(self, rows: np.ndarray) -> Sequences:
        """Copy the sequences `rows` into an object of their own."""
        lengths = self.lengths[rows]
        flat = np.repeat(self.starts[rows] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        y = None if self.y is None else self.y[flat if self.per_step else rows]
        values = None if self.values is None else self.values[flat]
        return Sequences(self.x[flat], y, lengths, values, self.per_step)


def take_rows(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return an array's rows at places, int64 of any shape; int32, which ids are kept in, as int64, which kernels read.

    Places past the last row give the last one.
    """
    if array.dtype is INT32 and array.ndim <= 2 and len(array):
        return gathered(array, places)
    return array.take(places, axis=0, mode="clip")
