"""Which parts of the flat parameters an optimizer's step visits, and by which of its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from rnncore._core.rows import merged
from rnncore.nn.layout import Layout
from rnncore.nn.touched import TouchedRows


class _Settled(NamedTuple):
    """What is visited whole, and of each table that is visited in part its number, start, width and rule."""

    partly: list[bool]
    frozen: Any
    groups: Any
    dense: np.ndarray
    tables: list[tuple[int, int, int, int]]


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
        self._kept: _Settled | None = None

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
        found: list[Any] = [] if touched is None else [touched.of(start) for _, start in self._tables]
        partly = [rows is not None for rows in found]  # of other tables any row may have a gradient
        kept = self._kept
        if kept is None or kept.partly != partly or kept.frozen != frozen or kept.groups is not groups:
            kept = self._kept = self._settle(partly, frozen, frozenset(names()), groups)
        if not kept.tables:
            return kept.dense
        return merged(kept.dense, [(start, width, rule, found[n]) for n, start, width, rule in kept.tables])

    def _settle(
        self, partly: list[bool], frozen: Any, names: frozenset[str], groups: Mapping[str, int] | None
    ) -> _Settled:
        """Work out what stays the same as long as the same tables are visited in part, and the same is frozen."""
        some = [(n, *table) for n, (table, part) in enumerate(zip(self._tables, partly, strict=False)) if part]
        tables = [
            (n, start, self._layout.shapes[name][1], 1 + 2 * (groups[name] if groups else 0))
            for n, name, start in some
            if name not in names
        ]
        return _Settled(partly, frozen, groups, self._dense([name for _, name, _ in some], names, groups), tables)

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
