"""Gradients of parts of a batch, and their sum in a fixed order.

    sum(s_0, …, s_{n-1}) = sum(first half) + sum(second half)

Whoever adds what, and wherever: the same numbers are added in the same order, so the same bits come out. A table of
symbols travels as the rows that somebody touched; where one part has no such row, zero is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

__all__ = ["Gradients", "Partial", "tree_sum"]


class Partial:
    """A gradient: all that is not in a table, end to end, and of each table the touched rows."""

    def __init__(self, dense: np.ndarray, rows: list[np.ndarray], values: list[np.ndarray]) -> None:
        self.dense, self.rows, self.values = dense, rows, values

    def __add__(self, other: Partial) -> Partial:
        rows = [np.union1d(a, b) for a, b in zip(self.rows, other.rows, strict=True)]
        mine, its = self.on(rows), other.on(rows)
        return Partial(self.dense + other.dense, rows, [a + b for a, b in zip(mine, its, strict=True)])

    def on(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        """Return the values of these rows, among which its own are, of each table; zero where it has none."""
        found = []
        for all_of, own, values in zip(rows, self.rows, self.values, strict=True):
            if len(own) == len(all_of):
                found.append(values)
                continue
            wide = np.zeros((len(all_of), values.shape[1]), values.dtype)
            wide[np.searchsorted(all_of, own)] = values
            found.append(wide)
        return found


def tree_sum(parts: Iterable[Any]) -> Any:
    """Add up a power of two of parts, neighbours first, as they come: no more of them are there at once than levels.

    Examples
    --------
    >>> tree_sum([1e16, 1.0, -1e16, 1.0])  # (1e16 + 1) + (-1e16 + 1)
    0.0
    """
    waiting: list[tuple[int, Any]] = []
    for part in parts:
        level = 0
        while waiting and waiting[-1][0] == level:
            part = waiting.pop()[1] + part
            level += 1
        waiting.append((level, part))
    ((_, total),) = waiting
    return total


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

    def take(self) -> Partial:
        """Return a copy of what is in ``grad``."""
        flat = self._flat
        dense = np.concatenate([flat[start:stop] for start, stop in self._dense])
        rows = []
        for start, length in zip(self._starts, self._lengths, strict=True):
            touched = self._network._touched.of(start)
            rows.append(np.arange(length, dtype=np.int64) if touched is None else touched)
        return Partial(dense, rows, [self._table(n)[own] for n, own in enumerate(rows)])

    def none(self) -> Partial:
        """Return the gradient of no sequence at all."""
        dtype = self._flat.dtype
        nothing = [np.empty(0, np.int64) for _ in self._starts]
        return Partial(np.zeros(self.size, dtype), nothing, [np.zeros((0, width), dtype) for width in self.widths])

    def put(self, total: Partial) -> None:
        """Make ``grad`` what `total` is: zero in rows of tables that it does not have."""
        flat, at = self._flat, 0
        for start, stop in self._dense:
            flat[start:stop] = total.dense[at : at + stop - start]
            at += stop - start
        for n, (start, rows, values) in enumerate(zip(self._starts, total.rows, total.values, strict=True)):
            before = self._network._touched.replace(start, rows)
            table = self._table(n)
            table[slice(None) if before is None else before] = 0
            table[rows] = values
