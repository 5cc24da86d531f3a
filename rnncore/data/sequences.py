"""Many sequences laid end to end, with their targets: what a training gathers its minibatches from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    y : array, dict of arrays or None
        Targets: one for each of the N steps, or, with ``per_step=False``, for each of the S sequences; of several heads
        a dict, and `per_step` is one, too.
    lengths : (S,) int64, with the sum N
    values : (N, C) float array or None
        Factors of the ids `x`.
    per_step : bool, or dict of str to bool

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> data = rc.Sequences.of([np.zeros((3, 2)), np.ones((1, 2))], [[0, 1, 1], [0]])
    >>> len(data), data.x.shape, data.y.tolist(), data.lengths.tolist()
    (2, (4, 2), [0, 1, 1, 0], [3, 1])
    """

    x: np.ndarray
    y: Any
    lengths: np.ndarray
    values: np.ndarray | None = None
    per_step: Any = True

    @classmethod
    def of(cls, x: Sequence[Any], y: Any = None) -> Sequences:
        """Lay arrays end to end.

        Parameters
        ----------
        x : list of (T,) int or (T, D) float arrays
        y : list of arrays (T,) or (T, K), or array (S,) or (S, K), optional
            Targets of every step, or one for each sequence: told by whether its first element has a length. (S, K)
            must come as an array. Of several heads a dict of them.

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
        if isinstance(y, Mapping):
            found = {name: _flat_targets(part, lengths) for name, part in y.items()}
            targets = {name: part for name, (part, _) in found.items()}
            return cls(flat, targets, lengths, per_step={name: by_step for name, (_, by_step) in found.items()})
        own, per_step = _flat_targets(y, lengths)
        return cls(flat, own, lengths, per_step=per_step)

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

    @property
    def arrays(self) -> list[np.ndarray | None]:
        """All that these data are, for a checksum."""
        targets = self.y.values() if isinstance(self.y, dict) else [self.y]
        return [self.x, *targets, self.lengths, self.values]

    def targets(self, rows: np.ndarray, places: np.ndarray) -> Any:
        """Return the targets of the sequences `rows`, whose `positions` are `places`: (T, B, ...) or (B, ...)."""
        return self._each_target(lambda y, per_step: take_rows(y, places if per_step else rows))

    def _each_target(self, change: Callable[[np.ndarray, bool], np.ndarray]) -> Any:
        if isinstance(self.y, dict):
            return {name: change(part, self.per_step[name]) for name, part in self.y.items()}
        return change(self.y, self.per_step)

    def values_at(self, places: np.ndarray) -> np.ndarray | None:
        """Return the values at such `positions`, if there are any."""
        return None if self.values is None else self.values.take(places, axis=0, mode="clip")

    def select(self, rows: np.ndarray) -> Sequences:
        """Copy the sequences `rows` into an object of their own."""
        lengths = self.lengths[rows]
        flat = np.repeat(self.starts[rows] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        y = None if self.y is None else self._each_target(lambda y, per_step: y[flat if per_step else rows])
        values = None if self.values is None else self.values[flat]
        return Sequences(self.x[flat], y, lengths, values, self.per_step)


def _flat_targets(y: Any, lengths: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return targets as one array, and whether there is one for every step."""
    if len(y) != len(lengths):
        raise DataError(f"expected targets for {len(lengths)} sequences, got {len(y)}")
    if (isinstance(y, np.ndarray) and y.dtype != object) or not np.ndim(y[0]):
        return np.asarray(y), False
    targets = [np.asarray(part) for part in y]
    wrong = next((i for i, part in enumerate(targets) if len(part) != lengths[i]), None)
    if wrong is not None:
        raise DataError(f"sequence {wrong} has {lengths[wrong]} steps but {len(targets[wrong])} targets")
    return np.concatenate(targets), True


def take_rows(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return an array's rows at places, int64 of any shape; int32, which ids are kept in, as int64, which kernels read.

    Places past the last row give the last one.
    """
    if array.dtype is INT32 and array.ndim <= 2 and len(array):
        return gathered(array, places)
    return array.take(places, axis=0, mode="clip")
