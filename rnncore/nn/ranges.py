"""Which parts of the flat parameters an optimizer's step visits, and by which of its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from rnncore._core.rows import merged
from rnncore.nn.layout import Layout
from rnncore.nn.touched import TouchedRows


class UpdateRanges:
    """The ranges of a layer or network. What does not depend on the batch is kept from step to step.

    Parameters
    ----------
    layout : Layout
    tables : iterable of str
        Parameters whose rows belong to symbols or features: only those that a batch touched need a visit.
    """

    def __init__(self, layout: Layout, tables: Iterable[str] = ()) -> None:
        self._layout = layout
        self._tables = sorted(((name, layout.starts[name]) for name in tables), key=lambda table: table[1])
        self._kept: tuple[list[str], Any, Any, np.ndarray] | None = None

    def of(
        self,
        touched: TouchedRows | None,
        frozen: list[frozenset[str]],
        names: Any,
        groups: Mapping[str, int] | None,
    ) -> np.ndarray:
        """Return rows of start, length and rule, int64, sorted by start.

        The rule is 2·group, plus 1 where weights decay: biases do not.

        Parameters
        ----------
        touched : TouchedRows, optional
            What the batch touched; None: every row is visited.
        frozen
            What is frozen, in any form that is equal only as long as it stays the same.
        names : callable
            Returns the names of those parameters.
        groups : mapping of str to int, optional
            The group of each parameter: the same object as long as it holds the same. None: all are of group 0.
        """
        found: list[tuple[str, np.ndarray]] = []
        if touched is not None:  # of other tables any row may have a gradient
            found = [(name, rows) for name, start in self._tables if (rows := touched.of(start)) is not None]
        partly = [name for name, _ in found]
        kept = self._kept
        if kept is None or kept[0] != partly or kept[1] != frozen or kept[2] is not groups:
            kept = self._kept = partly, frozen, groups, self._dense(partly, frozenset(names()), groups)
        dense = kept[3]
        if not found:
            return dense
        still = frozenset(names()) if any(frozen) else frozenset()
        tables = []
        for name, rows in found:
            if name in still:
                continue
            rule = 1 + 2 * (groups[name] if groups else 0)
            tables.append((self._layout.starts[name], self._layout.shapes[name][1], rule, rows))
        return merged(dense, tables)

    def _dense(self, tables: Iterable[str], frozen: frozenset[str], groups: Mapping[str, int] | None) -> np.ndarray:
        """Return the ranges of all that is visited whole."""
        rows: list[tuple[int, int, int]] = []
        for name, shape in self._layout.shapes.items():
            if name in tables or name in frozen:
                continue
            start, rule = self._layout.starts[name], (len(shape) > 1) + 2 * (groups[name] if groups else 0)
            if rows and rows[-1][0] + rows[-1][1] == start and rows[-1][2] == rule:
                rows[-1] = (rows[-1][0], rows[-1][1] + prod(shape), rule)
            else:
                rows.append((start, prod(shape), rule))
        return np.array(rows, dtype=np.int64).reshape(-1, 3)
