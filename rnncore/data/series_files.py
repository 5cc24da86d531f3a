"""Files of sequences of numbers, with a target for each: .ts, .npz, JSON lines, and tables as CSV or TSV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.data.readers import DataError, iter_text_lines
from rnncore.data.series import Series
from rnncore.data.tables import field_value, is_number, read_arrays, rows_of

__all__ = ["read_series"]

_SEQUENCE, _TIME = "sequence", "time"  # columns of a long table
_TARGETS = ("target", "label", "class", "y")

Found = tuple[Series, list[Any] | None]


def read_series(path: str, targets: bool = True) -> Found:
    """Read sequences and, if they are there or wanted, their targets.

    Parameters
    ----------
    path : str
        ``.ts``: as the UEA archive has them: channels with colons between, numbers with commas, the target last, "?"
        where a number is missing. ``.npz``: x, (S, T, D) or (S, T), and y, (S,); or x (N, D) with starts (S,) of
        sequences. ``.jsonl``: {"x": …, "y": …, "times": …} a line. Else a table with commas, or with tabs in ``.tsv``:
        a sequence a line, its target in the last column or the one called target, label, class or y; or, with a column
        called sequence, a step a line (and time, if there is a column of that name).
    targets : bool
        Whether there must be targets.

    Returns
    -------
    series : Series
    targets : list of str or float, or None
        Numbers where all of them are.

    Raises
    ------
    DataError
        For what cannot be read, with the number of the line.
    """
    kind = path.rpartition(".")[2].lower()
    readers = {"ts": _ts, "npz": _arrays, "jsonl": _json, "json": _json}
    series, found = readers[kind](path) if kind in readers else _table(path, targets)
    if targets and found is None:
        raise DataError(f"{path}: expected a target for each sequence, got sequences alone")
    return series, found


def _lines(path: str) -> Iterator[tuple[int, str]]:
    return ((number, text.strip()) for number, text in iter_text_lines(path))


def _as_targets(found: list[str]) -> list[Any]:
    """Return targets as numbers, if all of them are."""
    try:
        numbers = [float(text) for text in found]
    except ValueError:
        return found
    whole = all(number == int(number) for number in numbers if np.isfinite(number))
    return [int(number) for number in numbers] if whole and np.isfinite(numbers).all() else numbers


def _ts(path: str) -> Found:
    parts, targets, data, labelled = [], [], False, True
    for number, text in _lines(path):
        if text.startswith(("#", "%")):
            continue
        if not data:
            name, _, value = text.lower().partition(" ")
            if name in ("@classlabel", "@targetlabel"):
                labelled = not value.startswith("false")
            if name == "@timestamps" and value.startswith("true"):
                raise DataError(f"{path}: time stamps in .ts files are not read: give a table or JSON lines")
            data = name == "@data"
            continue
        *channels, target = text.split(":") if labelled else [*text.split(":"), ""]
        try:
            columns = [[field_value(one) for one in channel.split(",")] for channel in channels]
            part = np.array(columns).T
        except ValueError:
            raise DataError(
                f"{path}, line {number}: expected as many numbers in each channel, and the target"
            ) from None
        if part.ndim != 2:
            raise DataError(f"{path}, line {number}: expected channels of equal length, with colons between")
        parts.append(part)
        targets.append(target.strip())
    if not parts:
        raise DataError(f"{path}: expected lines of numbers after @data, got none")
    return Series.of(parts), _as_targets(targets) if labelled else None


def _arrays(path: str) -> Found:
    arrays = read_arrays(path)
    x = arrays.get("x", arrays.get("X"))
    if x is None:
        raise DataError(f"{path}: expected an array x, (S, T, D) or (S, T); got {', '.join(arrays) or 'nothing'}")
    if "starts" in arrays:
        starts = arrays["starts"].astype(np.int64).tolist()
        ends = [*starts[1:], len(x)] if not starts or starts[-1] < len(x) else starts[1:]
        series = Series.of([x[start:end] for start, end in zip(starts, ends, strict=False)])
    else:
        series = Series.of(x)
    y = arrays.get("y")
    return series, None if y is None else y.tolist()


def _json(path: str) -> Found:
    parts, targets, times = [], [], []
    for number, text in _lines(path):
        try:
            record = json.loads(text)
            parts.append(np.array(record["x"], dtype=np.float64))
        except (ValueError, KeyError, TypeError):
            raise DataError(f'{path}, line {number}: expected {{"x": [[numbers of a step], …], "y": target}}') from None
        targets.append(record.get("y"))
        times.append(record.get("times"))
    if not parts:
        raise DataError(f"{path}: expected lines of JSON, got none")
    stamped = None if all(one is None for one in times) else times
    missing = [one is None for one in targets]
    if any(missing) and not all(missing):
        raise DataError(f"{path}: sequence {missing.index(True)} has no target, and others have")
    return Series.of(parts, times=stamped), None if all(missing) else targets


def _table(path: str, targets: bool) -> Found:
    lines = list(_lines(path))
    if not lines:
        raise DataError(f"{path}: expected a table of numbers, got nothing")
    rows = rows_of(path, lines)
    header = None if any(is_number(field) for field in rows[0][:-1] or rows[0]) else [name.strip() for name in rows[0]]
    numbers = [number for number, _ in lines]
    if header is not None:
        rows, numbers = rows[1:], numbers[1:]
    width = len(header or rows[0])
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != width and (header is not None and _SEQUENCE in header):
            raise DataError(f"{path}, line {number}: expected {width} fields, got {len(row)}")
    if header is not None and _SEQUENCE in header:
        return _long(path, header, rows, numbers)
    return _wide(path, header, rows, numbers, targets)


def _numbers_of(path: str, number: int, fields: list[str]) -> list[float]:
    try:
        return [field_value(field) for field in fields]
    except ValueError as problem:
        raise DataError(f"{path}, line {number}: expected numbers ({problem})") from None


def _wide(path: str, header: list[str] | None, rows: list[list[str]], numbers: list[int], wanted: bool) -> Found:
    """Read a sequence a line; where no name says so, the last column is the target, if one is wanted or no number."""
    at = next((header.index(name) for name in _TARGETS if name in header), None) if header else None
    if at is None and (wanted or not all(is_number(row[-1]) for row in rows)):
        at = -1
    parts, targets = [], []
    for row, number in zip(rows, numbers, strict=True):
        place = len(row) if at is None else at % len(row)
        targets.extend(row[place : place + 1])
        fields = [field for n, field in enumerate(row) if n != place]
        while fields and not fields[-1].strip():  # a shorter sequence
            fields.pop()
        if not fields:
            raise DataError(f"{path}, line {number}: expected numbers and a target, got {len(row)} field")
        parts.append(_numbers_of(path, number, fields))
    return Series.of([np.array(part) for part in parts]), _as_targets([*map(str.strip, targets)]) if targets else None


def _long(path: str, header: list[str], rows: list[list[str]], numbers: list[int]) -> Found:
    target = next((name for name in _TARGETS if name in header), None)
    columns = [n for n, name in enumerate(header) if name not in (_SEQUENCE, _TIME, target)]
    if not columns:
        raise DataError(f"{path}: expected columns of numbers beside {', '.join(header)}")
    steps: dict[str, list[Any]] = {}
    targets: dict[str, str] = {}
    at = header.index(_SEQUENCE)
    for row, number in zip(rows, numbers, strict=True):
        values = _numbers_of(path, number, [row[n] for n in columns])
        stamp = _numbers_of(path, number, [row[header.index(_TIME)]])[0] if _TIME in header else 0.0
        steps.setdefault(row[at], []).append((stamp, values))
        if target is not None:
            own = row[header.index(target)].strip()
            if targets.setdefault(row[at], own) != own:
                raise DataError(f"{path}, line {number}: sequence {row[at]!r} has another target than before, {own!r}")
    if _TIME in header:
        for part in steps.values():
            part.sort(key=lambda step: step[0])
    series = Series.of(
        [np.array([values for _, values in part]) for part in steps.values()],
        times=[np.array([stamp for stamp, _ in part]) for part in steps.values()] if _TIME in header else None,
    )
    series.names = [header[n] for n in columns]
    series.keys = list(steps)
    return series, _as_targets([*targets.values()]) if target is not None else None
