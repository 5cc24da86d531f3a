"""Frames of pandas and polars as sequences, by narwhals: wide, a row each, or long, a row for each step."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.series import Series, as_numbers, in_order

__all__ = ["of_frame"]


def of_frame(given: Any, name: str, sequence: Any, time: Any) -> Series:
    """Return a frame's sequences.

    Raises
    ------
    DataError
        For columns that are missing, and times that are there twice.
    """
    index: Any = getattr(given, "index", None)
    if sequence is None and getattr(index, "nlevels", 1) > 1:  # pandas' panels: (instance, time)
        levels = list(index.names)
        own = [level if level is not None else f"level_{number}" for number, level in enumerate(levels)]
        sequence, time = own[0], time or own[-1]
        given = given.reset_index()
    try:
        frame = nw.from_native(given, eager_only=True)
    except TypeError:
        raise DataError(f"{name} must be a frame of pandas or polars, got {type(given).__name__}") from None
    return _wide(frame, name) if sequence is None else _long(frame, name, sequence, time)


def _wide(frame: Any, name: str) -> Series:
    if not all(kind.is_numeric() or kind == nw.Boolean for kind in frame.schema.values()):
        shown = ", ".join(column for column, kind in frame.schema.items() if not kind.is_numeric())
        raise DataError(
            f"{name} has a row for each sequence, and columns that are no numbers: {shown}. A frame with a row for "
            "each step needs sequence=, the column that says which sequence a row is of"
        )
    table = frame.to_numpy().astype(np.float64)
    if not table.shape[0] or not table.shape[1]:
        raise DataError(f"{name} holds no numbers, shape {table.shape}")
    return Series(table.reshape(-1, 1), np.full(table.shape[0], table.shape[1], dtype=np.int64))


def _long(frame: Any, name: str, sequence: Any, time: Any) -> Series:
    for column in (sequence, time):
        if column is not None and column not in frame.columns:
            raise DataError(f"{name} has no column {column!r}, only {', '.join(map(str, frame.columns))}")
    if not len(frame):
        raise DataError(f"{name} holds 0 sequence(s): expected at least one")
    keys = frame[sequence].to_numpy()
    named, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
    place = np.empty(len(named), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(named))  # sequences in the order in which they come
    numbers = place[numbers]
    times = None if time is None else as_numbers(frame[time].to_numpy())
    order = np.argsort(numbers, kind="stable") if times is None else np.lexsort((times, numbers))
    lengths = np.bincount(numbers)
    columns = [column for column in frame.columns if column not in (sequence, time)]
    plain = [column for column in columns if frame.schema[column].is_numeric() or frame.schema[column] == nw.Boolean]
    kinds = [column for column in columns if column not in plain]
    if not columns:
        raise DataError(f"{name} has no columns beside {sequence!r}" + (f" and {time!r}" if time else ""))
    numbers_of = [frame[column].to_numpy().astype(np.float64) for column in plain]
    table = np.column_stack(numbers_of or [np.empty((len(frame), 0))])
    other = [np.asarray(frame[column].to_list(), dtype=object) for column in kinds]
    made = Series(
        table[order],
        lengths,
        plain,
        np.column_stack(other)[order] if other else None,
        kinds,
        keys=[keys[row] for row in np.sort(first).tolist()],
    )
    if times is not None:
        made.times = in_order(times[order], made)
    return made
