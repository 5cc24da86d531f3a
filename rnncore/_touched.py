"""Which rows of a gradient may differ from zero, where a batch of symbols or sparse features touches few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

Rows = np.ndarray | None  # sorted row numbers, or None: any row


class TouchedRows:
    """The rows that may differ from zero, of each table in one flat gradient. Whoever writes to it tells.

    Parameters
    ----------
    tables : iterable of int
        Where each table begins in the flat array. Others are of no interest: any of their rows may differ from zero.

    Examples
    --------
    >>> touched = TouchedRows([0])
    >>> touched.replace(0, np.array([2, 5])) is None  # anything may have been there
    True
    >>> touched.add(0, np.array([3]))
    >>> touched.of(0)
    array([2, 3, 5])
    """

    def __init__(self, tables: Iterable[int] = ()) -> None:
        self._rows: dict[int, Rows] = dict.fromkeys(tables)

    def of(self, table: int) -> Rows:
        """Return the rows of a table that may differ from zero, or None: any may."""
        return self._rows.get(table)

    def replace(self, table: int, rows: np.ndarray) -> Rows:
        """Note that a table is written anew, in these rows alone; return those that must be cleared first."""
        before = self._rows.get(table)
        if table in self._rows:
            self._rows[table] = rows
        return before

    def add(self, table: int, rows: np.ndarray) -> None:
        """Note that something is added to these rows."""
        before = self._rows.get(table)
        if before is not None:
            self._rows[table] = np.union1d(before, rows)

    def mark(self, table: int) -> None:
        """Note that any row of a table may be written to."""
        if table in self._rows:
            self._rows[table] = None

    def mark_all(self) -> None:
        """Note that any row of any table may be written to: somebody has the array in hand."""
        for table in self._rows:
            self._rows[table] = None

    def clear(self) -> None:
        """Note that the whole gradient is zero."""
        for table in self._rows:
            self._rows[table] = np.empty(0, dtype=np.int64)

    def state(self) -> dict[int, Rows]:
        """Return what `restore` takes."""
        return dict(self._rows)

    def restore(self, state: Mapping[int, Rows], rows: Mapping[int, int]) -> None:
        """Take over a state; `rows`: how many rows each table has. What does not fit is refused."""
        for table, found in state.items():
            if table not in self._rows or not _fits(found, rows[table]):
                raise ValueError(f"touched rows must be sorted row numbers of a table of the network, got {found!r}")
        self._rows.update(state)


def _fits(found: object, count: int) -> bool:
    """Whether these are sorted numbers of a table of `count` rows, or None."""
    if found is None:
        return True
    if not isinstance(found, np.ndarray) or found.dtype != np.int64 or found.ndim != 1:
        return False
    return not found.size or bool(found[0] >= 0 and found[-1] < count and (np.diff(found) > 0).all())
