"""Sequences of numbers as users hold them, made one table: arrays, lists, wide and long frames of pandas and polars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnncore.data.inputs import is_frame
from rnncore.data.readers import DataError

__all__ = ["Series", "is_panel", "series_of"]


class Series(Sequence[Any]):
    """Sequences of steps of numbers, laid end to end, with what is known beside them; made by `Series.of`.

    What estimators make of arrays and lists by themselves. To be made where there is more to say: when each step was,
    or which column of a long frame says what. scikit-learn's splits and searches can divide it.

    Attributes
    ----------
    table : (N, D) float array
        All steps of all sequences; NaN where a number is missing.
    lengths : (S,) int64
    names : list of str
        What the D columns are called.
    kinds : (N, C) object array or None
        Columns that are no numbers, such as the name of a machine.
    kind_names : list of str
        What these are called.
    times : (N,) float array or None
        When each step was.
    keys : list or None
        What the sequences are called, where a frame says so.

    Examples
    --------
    >>> series = Series.of([np.zeros((3, 2)), np.ones((1, 2))], times=[[0.0, 1.5, 9.0], [0.0]])
    >>> len(series), series[1].tolist(), series[[1]].times.tolist()
    (2, [[1.0, 1.0]], [0.0])
    """

    @classmethod
    def of(cls, given: Any, sequence: Any = None, time: Any = None, times: Any = None) -> Series:
        """Take sequences of numbers from arrays, lists, or frames of pandas and polars.

        Parameters
        ----------
        given : array (S, T, D) or (S, T), list of arrays (T, D) or (T,), or a frame
            A frame is a row for each sequence, with a column for each step; or, where `sequence` or a MultiIndex says
            which sequence a row is of, a row for each step. A list may hold a frame for each sequence.
        sequence, time : names of columns, optional
            Of a long frame: which sequence a row is of, and when it was. Sequences stand in the order in which they
            come, and steps in order of time. Columns that are no numbers become `kinds`.
        times : list of arrays (T,) of numbers or dates, optional
            When each step was, where the sequences are arrays.

        Raises
        ------
        DataError
            For what is none of these, columns that are missing, and times that do not grow, by sequence and step.

        Examples
        --------
        Of a frame with columns who, when and what: ``Series.of(frame, sequence="who", time="when")``.

        >>> Series.of(np.arange(6).reshape(2, 3))[1].tolist()
        [[3.0], [4.0], [5.0]]
        """
        return series_of(given, "X", sequence, time, times)

    def __init__(
        self,
        table: np.ndarray,
        lengths: np.ndarray,
        names: Sequence[Any] = (),
        kinds: np.ndarray | None = None,
        kind_names: Sequence[Any] = (),
        times: np.ndarray | None = None,
        keys: Sequence[Any] | None = None,
    ) -> None:
        self.table = table
        self.lengths = lengths
        self.names = list(names) or [str(n) for n in range(table.shape[1])]
        self.kinds = kinds
        self.kind_names = list(kind_names)
        self.times = times
        self.keys = keys
        self.steps: int | None = None  # of all sequences, where they came as an array (S, T)
        self.is_array = False
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def shape(self) -> tuple[int]:
        """(S,), by which scikit-learn knows what it can divide."""
        return (len(self),)

    def __getitem__(self, index: Any) -> Any:
        index = index[0] if isinstance(index, tuple) else index  # scikit-learn's [rows, ...]
        if isinstance(index, slice | list | np.ndarray):
            return self.select(np.arange(len(self))[index])
        end = int(self._ends[index])
        return self.table[end - int(self.lengths[index]) : end]

    def select(self, rows: Any) -> Series:
        """Copy some of the sequences."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        at = np.repeat(self._ends[rows] - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        found = Series(
            self.table[at],
            lengths,
            self.names,
            None if self.kinds is None else self.kinds[at],
            self.kind_names,
            None if self.times is None else self.times[at],
            None if self.keys is None else [self.keys[row] for row in rows.tolist()],
        )
        found.steps, found.is_array = self.steps, self.is_array
        return found

    def place(self, row: int) -> str:
        """Say which sequence and step a row of the table is."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        step = row - int(self._ends[number] - self.lengths[number])
        return f"sequence {number}, step {step}"


def is_panel(given: Any) -> bool:
    """Whether it is numbers, or frames, not tokens: told by the first sequence."""
    if isinstance(given, Series) or is_frame(given):
        return True
    if isinstance(given, np.ndarray):
        return given.dtype != object or not given.ndim or not len(given) or _is_numbers(given.flat[0])
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__") or not len(given):
        return False
    return _is_numbers(given[0])


def _is_numbers(part: Any) -> bool:
    """Whether a sequence consists of numbers or vectors of them."""
    if is_frame(part):
        return True
    while isinstance(part, list | tuple) and len(part):
        part = part[0]
    if isinstance(part, np.ndarray) and part.dtype == object and part.size:
        part = part.flat[0]
    return isinstance(part, np.ndarray | np.generic | int | float) and not isinstance(part, np.str_)


def series_of(
    given: Any, name: str = "X", sequence: Any = None, time: Any = None, times: Any = None, floats: Any = np.float64
) -> Series:
    """Return sequences of numbers as one table.

    Parameters
    ----------
    given : array (S, T, D) or (S, T), list of arrays (T, D) or (T,), or a frame
        A frame of pandas or polars is a row for each sequence, with a column for each step; or, where `sequence` or a
        MultiIndex says which sequence a row is of, a row for each step (long form). A list may hold a frame for each.
    name : str
        What messages call it.
    sequence, time : column names, optional
        Of a long frame: which sequence a row is of, and when it was. Rows of a sequence are put in order of time.
    times : list of arrays (T,), optional
        When each step was, where the sequences are arrays.
    floats : dtype
        What numbers that are no floats become.

    Raises
    ------
    DataError
        For what is none of these, by the number of the sequence.
    """
    if isinstance(given, Series):
        return given
    if hasattr(given, "nnz") and hasattr(given, "toarray"):
        raise TypeError(f"{name} is a sparse matrix, {type(given).__name__}: pass an array, such as .toarray()")
    if is_frame(given):
        from rnncore.data.frames import of_frame

        return of_frame(given, name, sequence, time)
    if sequence is not None or time is not None:
        raise DataError(f"sequence and time are columns of a long frame, and {name} is none: leave them out")
    found = _of_array(given, name) if isinstance(given, np.ndarray) and given.dtype != object else None
    found = _of_list(given, name, floats) if found is None else found
    if times is not None:
        found.times = _stamps(times, found)
    return found


def _of_array(given: np.ndarray, name: str) -> Series:
    """Return an array's sequences; floats are not copied."""
    if given.dtype.kind == "c":
        raise DataError(f"Complex data not supported: {name} is an array of {given.dtype}")
    if given.dtype.kind not in "fiub":
        raise DataError(f"{name} must be numbers, got an array of {given.dtype}")
    if given.ndim not in (2, 3):
        raise DataError(
            f"{name} must be an array (S, T, D), or (S, T) of one number a step, got shape {given.shape}. Reshape your "
            "data: array.reshape(1, -1) is one sequence"
        )
    steps = given.shape[1]
    width = given.shape[2] if given.ndim == 3 else 1
    if not given.shape[0]:
        raise DataError(f"{name} holds 0 sequence(s) (shape={given.shape}) while a minimum of 1 is required")
    if not steps or not width:
        raise DataError(f"{name} has 0 feature(s) (shape={given.shape}) while a minimum of 1 is required.")
    table = given.reshape(-1, width)
    if table.dtype not in (np.float32, np.float64):
        table = table.astype(np.float64)
    found = Series(table, np.full(given.shape[0], steps, dtype=np.int64))
    found.steps = steps if given.ndim == 2 else None
    found.is_array = True
    return found


def _of_list(given: Any, name: str, floats: Any) -> Series:
    if isinstance(given, str | bytes | Mapping | set | frozenset) or given is None or not hasattr(given, "__iter__"):
        raise DataError(f"{name} must be a list of sequences, got {type(given).__name__}")
    parts = [_table(part, f"{name}[{number}]") for number, part in enumerate(given)]
    if not parts:
        raise DataError(f"{name} holds 0 sequence(s): expected at least one")
    width = parts[0].shape[1]
    for number, part in enumerate(parts):
        if part.shape[1] != width:
            raise DataError(
                f"{name}[{number}] has {part.shape[1]} numbers a step where {name}[0] has {width}: all sequences need "
                "as many"
            )
    kind = np.result_type(*{part.dtype for part in parts})
    flat = np.concatenate(parts, dtype=kind if kind in (np.float32, np.float64) else floats)
    names = [str(column) for column in given[0].columns] if is_frame(given[0]) else ()
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    found = Series(flat, lengths, names)
    if width == 1 and (lengths == lengths[0]).all() and not isinstance(given[0], np.ndarray):
        found.steps = int(lengths[0])  # an array (S, T) in the form of lists
    return found


def _table(part: Any, name: str) -> np.ndarray:
    """Return one sequence as (T, D) numbers."""
    if is_frame(part):
        part = part.to_numpy()
    try:
        array = np.asarray(part)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise DataError(f"{name} must be numbers, (T, D) or (T,): {problem}") from None
    if array.dtype.kind == "c":
        raise DataError(f"Complex data not supported: {name} is an array of {array.dtype}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must be numbers, got {array.dtype}")
    if array.ndim not in (1, 2) or (array.ndim == 2 and not array.shape[1]):
        raise DataError(f"{name} must be (T, D) numbers, or (T,) of one a step; got shape {array.shape}")
    return array if array.ndim == 2 else array[:, None]


def _stamps(times: Any, series: Series) -> np.ndarray:
    """Return the times of all steps as numbers: seconds, where they are dates."""
    parts = [np.asarray(part) for part in times]
    if len(parts) != len(series):
        raise DataError(f"expected times of {len(series)} sequences, got {len(parts)}")
    for number, (part, length) in enumerate(zip(parts, series.lengths.tolist(), strict=True)):
        if part.shape != (length,):
            raise DataError(f"times[{number}] must be ({length},), one for each step; got shape {part.shape}")
    found = in_order(np.concatenate([as_numbers(part) for part in parts]), series)
    return found


def as_numbers(stamps: np.ndarray) -> np.ndarray:
    """Return time stamps as float64: dates in seconds."""
    if stamps.dtype.kind == "M":
        return stamps.astype("datetime64[ns]").astype(np.int64) / 1e9
    if stamps.dtype.kind not in "fiu":
        raise DataError(f"times must be numbers or dates, got {stamps.dtype}")
    return stamps.astype(np.float64)


def in_order(times: np.ndarray, series: Series) -> np.ndarray:
    """Return times, or refuse those that do not grow from step to step of a sequence."""
    if not np.isfinite(times).all():
        raise DataError(f"{series.place(int(np.argmax(~np.isfinite(times))))}: the time is missing")
    first = np.zeros(len(times), dtype=bool)
    first[(np.cumsum(series.lengths) - series.lengths)[series.lengths > 0]] = True
    wrong = np.flatnonzero((np.diff(times, prepend=times[:1]) <= 0) & ~first)
    if wrong.size:
        raise DataError(
            f"{series.place(int(wrong[0]))}: the time {times[wrong[0]]:g} is not after the one before, "
            f"{times[wrong[0] - 1]:g}: put steps in order, and leave duplicates out"
        )
    return times
