"""Gradients of parts of a batch, and their sum in a fixed order.

    sum(s_0, …, s_{n-1}) = sum(first half) + sum(second half)

Whoever adds what, and wherever: the same numbers are added in the same order, so the same bits come out. A table of
symbols travels as the rows that somebody touched; where one part has no such row, zero is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Gradients", "Partial", "merged", "tree_sum"]


def merged(parts: list[np.ndarray]) -> np.ndarray:
    """Return the sorted numbers that are in any of some sorted arrays, each once.

    Examples
    --------
    >>> merged([np.array([1, 4]), np.array([0, 4, 7])]).tolist()
    [0, 1, 4, 7]
    """
    found = np.concatenate(parts)
    found.sort(kind="stable")  # a merge, where parts are sorted
    first = np.empty(len(found), bool)
    first[:1] = True
    np.not_equal(found[1:], found[:-1], out=first[1:])
    return found[first]


class Partial(NamedTuple):
    """A gradient: all that is not in a table, end to end, and of each table the touched rows."""

    dense: np.ndarray
    rows: list[np.ndarray]
    values: list[np.ndarray]


def tree_sum(parts: np.ndarray) -> Any:
    """Add up a power of two of numbers or arrays in their place, neighbours first, and return the sum.

    Examples
    --------
    >>> float(tree_sum(np.array([1e16, 1.0, -1e16, 1.0])))  # (1e16 + 1) + (-1e16 + 1)
    0.0
    """
    apart = 1
    while apart < len(parts):
        parts[:: 2 * apart] += parts[apart :: 2 * apart]
        apart *= 2
    return parts[0]


class Gradients:
    """A network's ``grad`` as partial gradients.

    Parameters
    ----------
    network : Network, or anything with a flat ``grad``
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        layout: Any = getattr(network, "layout", None)
        names = dict.fromkeys(getattr(network, "_tables", lambda: ())())
        self.widths = [layout.shapes[name][1] for name in names] if names else []
        self._starts = [layout.starts[name] for name in names] if names else []
        self._lengths = [layout.shapes[name][0] for name in names] if names else []
        self._dense = self._runs(layout, names)
        self.size = sum(stop - start for start, stop in self._dense)

    def _runs(self, layout: Any, tables: Iterable[str]) -> list[tuple[int, int]]:
        """Return where that lies in ``grad`` which is not in tables."""
        if not tables:
            return [(0, len(self._flat))]
        runs: list[tuple[int, int]] = []
        for name, shape in layout.shapes.items():
            start = layout.starts[name]
            if name in tables:
                continue
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], start + prod(shape))
            else:
                runs.append((start, start + prod(shape)))
        return runs

    @property
    def _flat(self) -> np.ndarray:
        own = getattr(self._network, "_grad", None)  # reading `grad` would mark every row as touched
        found: np.ndarray = self._network.grad if own is None else own
        return found

    def _table(self, number: int) -> np.ndarray:
        start, rows, width = self._starts[number], self._lengths[number], self.widths[number]
        return self._flat[start : start + rows * width].reshape(rows, width)

    def rows(self) -> list[np.ndarray]:
        """Return the touched rows of each table; the first one's array again where a table's are the same."""
        found: list[np.ndarray] = []
        for start, length in zip(self._starts, self._lengths, strict=True):
            touched = self._network._touched.of(start)
            own = np.arange(length, dtype=np.int64) if touched is None else touched
            found.append(found[0] if found and np.array_equal(found[0], own) else own)
        return found

    def take(self) -> Partial:
        """Return a copy of what is in ``grad``."""
        flat, rows = self._flat, self.rows()
        dense = np.concatenate([flat[start:stop] for start, stop in self._dense])
        return Partial(dense, rows, [self._table(n)[own] for n, own in enumerate(rows)])

    def add(self, left: Partial) -> None:
        """Make ``grad`` the sum of `left` and of what is in it."""
        for (start, stop), part in zip(self._dense, self._parts(left.dense), strict=True):
            self._flat[start:stop] += part
        both: list[np.ndarray] = []
        mine = self.rows()
        for n, (start, own, its, values) in enumerate(zip(self._starts, mine, left.rows, left.values, strict=True)):
            table = self._table(n)
            table[own] += 0  # what the left half has there: -0 becomes 0, as everywhere
            table[its] += values
            alike = n > 0 and own is mine[0] and its is left.rows[0]
            both.append(both[0] if alike else merged([own, its]))
            self._network._touched.replace(start, both[n])

    def length(self, rows: list[np.ndarray]) -> int:
        """Return how many numbers a gradient is that touches these rows."""
        return self.size + sum(len(own) * width for own, width in zip(rows, self.widths, strict=True))

    def write_to(self, flat: np.ndarray, rows: list[np.ndarray]) -> None:
        """Write what is in ``grad`` to an array, end to end: these rows of tables, all that are touched among them."""
        for (start, stop), part in zip(self._dense, self._parts(flat), strict=True):
            part[...] = self._flat[start:stop]
        for n, (own, values) in enumerate(zip(rows, self._values(flat, rows), strict=True)):
            np.take(self._table(n), own, axis=0, out=values, mode="clip")

    def read_from(self, flat: np.ndarray, rows: list[np.ndarray]) -> None:
        """Read back what `write_to` has written, of these rows."""
        for (start, stop), part in zip(self._dense, self._parts(flat), strict=True):
            self._flat[start:stop] = part
        for n, (own, values) in enumerate(zip(rows, self._values(flat, rows), strict=True)):
            self._table(n)[own] = values
            self._network._touched.replace(self._starts[n], own)

    def clear(self) -> None:
        """Leave the gradient of no sequence at all."""
        for start, stop in self._dense:
            self._flat[start:stop] = 0
        for n, start in enumerate(self._starts):
            before = self._network._touched.replace(start, np.empty(0, np.int64))
            self._table(n)[slice(None) if before is None else before] = 0

    def _parts(self, flat: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([stop - start for start, stop in self._dense]).tolist()
        return np.split(flat[: self.size], ends[:-1]) if ends else []

    def _values(self, flat: np.ndarray, rows: list[np.ndarray]) -> list[np.ndarray]:
        found, at = [], self.size
        for own, width in zip(rows, self.widths, strict=True):
            found.append(flat[at : at + len(own) * width].reshape(-1, width))
            at += len(own) * width
        return found
