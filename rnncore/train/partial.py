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

from rnncore._core.ranges import add_in, copy_out, length
from rnncore._core.rows import merged as among

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
    """A gradient: the touched rows of each table, the ranges of the flat array that it lies in, and what is there."""

    rows: list[np.ndarray]
    ranges: np.ndarray
    values: np.ndarray


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
        self._order = sorted(range(len(names)), key=self._starts.__getitem__)
        self._dense = self._runs(layout, names)

    def _runs(self, layout: Any, tables: Iterable[str]) -> np.ndarray:
        """Return where that lies in ``grad`` which is not in tables."""
        if not tables:
            return np.array([[0, len(self.flat), 0]])
        runs: list[list[int]] = []
        for name, shape in layout.shapes.items():
            start = layout.starts[name]
            if name in tables:
                continue
            if runs and sum(runs[-1]) == start:
                runs[-1][1] += prod(shape)
            else:
                runs.append([start, prod(shape), 0])
        return np.array(runs, np.int64).reshape(-1, 3)

    @property
    def flat(self) -> np.ndarray:
        """The flat gradient, of which no further row counts as touched."""
        own = getattr(self._network, "_grad", None)  # reading `grad` would mark every row
        found: np.ndarray = self._network.grad if own is None else own
        return found

    def rows(self) -> list[np.ndarray]:
        """Return the touched rows of each table; the first one's array again where a table's are the same."""
        found: list[np.ndarray] = []
        for start, count in zip(self._starts, self._lengths, strict=True):
            touched = self._network._touched.of(start)
            own = np.arange(count, dtype=np.int64) if touched is None else touched
            found.append(found[0] if found and np.array_equal(found[0], own) else own)
        return found

    def ranges(self, rows: list[np.ndarray], dense: bool = True) -> np.ndarray:
        """Return where such a gradient lies in ``grad``: rows of start, length and 0; not dense: in tables alone."""
        tables = [(self._starts[n], self.widths[n], 0, rows[n]) for n in self._order]
        return among(self._dense if dense else self._dense[:0], tables)

    def take(self) -> Partial:
        """Return a copy of what is in ``grad``."""
        rows = self.rows()
        where = self.ranges(rows)
        values = np.empty(length(where), self.flat.dtype)
        copy_out(self.flat, where, values)
        return Partial(rows, where, values)

    def add(self, left: Partial) -> None:
        """Make ``grad`` the sum of `left` and of what is in it."""
        mine = self.rows()
        add_in(self.flat, self.ranges(mine, dense=False))  # what the left half has there: -0 becomes 0, as everywhere
        add_in(self.flat, left.ranges, left.values)
        both: list[np.ndarray] = []
        for n, (own, its) in enumerate(zip(mine, left.rows, strict=True)):
            alike = n > 0 and own is mine[0] and its is left.rows[0]
            both.append(both[0] if alike else merged([own, its]))
        self.touch(both)

    def touch(self, rows: list[np.ndarray]) -> None:
        """Take note that these rows of tables, and no others, may differ from zero."""
        for start, own in zip(self._starts, rows, strict=True):
            self._network._touched.replace(start, own)

    def clear(self) -> None:
        """Leave the gradient of no sequence at all."""
        flat = self.flat
        for start, count, _ in self.ranges(self.rows()).tolist():
            flat[start : start + count] = 0
        self.touch([np.empty(0, np.int64)] * len(self.widths))
