"""Files of series to forecast: tables as CSV or TSV, JSON lines, .npz."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore.data.readers import DataError, iter_text_lines
from rnncore.data.tables import GAPS, field_value, is_number, read_arrays, rows_of

__all__ = ["Told", "read_told"]

_SEQUENCE, _TIME = "sequence", "time"
_KINDS = ("known", "past")


@dataclass
class Told:
    """What a file tells of one or several series, by their names (None: the only one has none).

    Attributes
    ----------
    y, known, past : dict of (T, C), (T + F, D) and (T, P) arrays
        F steps more of what is known ahead, where the file tells of steps to come.
    times : dict of list of str
        T + F of them; empty where the file has none.
    columns : list of str
        What y's are called.
    """

    y: dict[Any, np.ndarray] = field(default_factory=dict)
    known: dict[Any, np.ndarray] = field(default_factory=dict)
    past: dict[Any, np.ndarray] = field(default_factory=dict)
    times: dict[Any, list[str]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)

    def ahead(self, name: Any) -> int:
        """Return how many steps to come the file tells of."""
        rows = max(len(self.known[name]), len(self.times[name]))
        return max(0, rows - len(self.y[name]))


def read_told(path: str) -> Told:
    """Read series.

    Parameters
    ----------
    path : str
        A table with a header, with commas, or with tabs in ``.tsv``: a step a line. The column time, or the first if it
        holds no numbers, says when; a column sequence says of which series. Columns whose names begin with known are
        known ahead, those that begin with past are known when the rest is, which is to be forecast. At the end of a
        series what is to be forecast may be empty: steps to come. ``.jsonl``: {"y": …, "known": …, "past": …,
        "name": …} a line, a series each. ``.npz``: the arrays y, known, past, and starts of several series.

    Raises
    ------
    DataError
        For what cannot be read, with the number of the line; times that are there twice or go back, columns that do
        not match.
    """
    kind = path.rpartition(".")[2].lower()
    readers: dict[str, Callable[[str], Told]] = {"npz": _arrays, "jsonl": _json, "json": _json}
    return readers.get(kind, _table)(path)


def _columns_of(given: Any, what: str) -> np.ndarray:
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what}: expected numbers, a row for each step") from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2:
        raise DataError(f"{what}: expected (T,) or (T, C) numbers, got shape {found.shape}")
    return found


def _add(told: Told, name: Any, parts: dict[str, Any], where: str) -> None:
    """Take a series over from arrays."""
    if name in told.y:
        raise DataError(f"{where}: the series {name!r} is there twice")
    y = _columns_of(parts["y"], f"{where}, y")
    told.y[name], told.times[name] = y, []
    for kind in _KINDS:
        given = parts.get(kind)
        rows = len(y) if given is None else len(given)
        part = np.empty((rows, 0)) if given is None else _columns_of(given, f"{where}, {kind}")
        if len(part) < len(y) or (kind == "past" and len(part) > len(y)):
            raise DataError(f"{where}: {kind} has {len(part)} steps, and y {len(y)}")
        getattr(told, kind)[name] = part
    told.columns = told.columns or ["y"] if y.shape[1] == 1 else [f"y{n}" for n in range(y.shape[1])]


def _arrays(path: str) -> Told:
    arrays = read_arrays(path)
    if "y" not in arrays:
        raise DataError(f"{path}: expected an array y, (T,) or (T, C); got {', '.join(arrays) or 'nothing'}")
    told = Told()
    if "starts" not in arrays:
        _add(told, None, arrays, path)
        return told
    starts = arrays["starts"].astype(np.int64).tolist()
    ends = [*starts[1:], len(arrays["y"])]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        parts = {kind: arrays[kind][start:end] for kind in ("y", *_KINDS) if kind in arrays}
        _add(told, number, parts, f"{path}, series {number}")
    return told


def _json(path: str) -> Told:
    told, records = Told(), []
    for number, text in iter_text_lines(path):
        try:
            record = json.loads(text)
            record["y"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f'{path}, line {number}: expected {{"y": [numbers], …}}') from None
        records.append((number, record))
    if not records:
        raise DataError(f"{path}: expected lines of JSON, got none")
    named = any("name" in record for _, record in records)
    for place, (number, record) in enumerate(records):
        name = str(record.get("name", place)) if named else place if len(records) > 1 else None
        _add(told, name, record, f"{path}, line {number}")
    return told


def _table(path: str) -> Told:
    lines = list(iter_text_lines(path))
    if len(lines) < 2:
        raise DataError(f"{path}: expected a table with a header and a step a line, got {len(lines)} lines")
    rows = rows_of(path, lines)
    header, rows = [name.strip() for name in rows[0]], rows[1:]
    if all(is_number(name) for name in header):
        raise DataError(f"{path}: expected the names of the columns in the first line, got numbers")
    if len(set(header)) < len(header):
        raise DataError(f"{path}: columns of the same name: {', '.join(header)}")
    numbers = [number for number, _ in lines[1:]]
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: expected {len(header)} fields, got {len(row)}")
    return _steps(path, header, rows, numbers)


def _steps(path: str, header: list[str], rows: list[list[str]], numbers: list[int]) -> Told:
    when = header.index(_TIME) if _TIME in header else None
    if when is None and header[0] != _SEQUENCE and not is_number(rows[0][0]):
        when = 0
    which = header.index(_SEQUENCE) if _SEQUENCE in header else None
    places: dict[str, list[int]] = {"y": [], "known": [], "past": []}
    for place, name in enumerate(header):
        if place not in (when, which):
            places[next((kind for kind in _KINDS if name.startswith(kind)), "y")].append(place)
    if not places["y"]:
        raise DataError(f"{path}: expected a column of numbers to forecast beside {', '.join(header)}")
    series: dict[Any, list[int]] = {}
    for n, row in enumerate(rows):
        series.setdefault(None if which is None else row[which].strip(), []).append(n)
    told = Told(columns=[header[place] for place in places["y"]])
    for name, own in series.items():
        told.times[name] = [] if when is None else [rows[n][when].strip() for n in own]
        _check_times(path, told.times[name], [numbers[n] for n in own], name)
        there = len(own)
        while there and all(rows[own[there - 1]][place].strip() in GAPS for place in places["y"]):
            there -= 1  # steps to come
        if not there:
            raise DataError(f"{path}: a series of which nothing has come yet{'' if name is None else f', {name!r}'}")
        for kind, columns in places.items():
            taken = own if kind == "known" else own[:there]
            table = [_numbers(path, numbers[n], [rows[n][place] for place in columns]) for n in taken]
            getattr(told, kind)[name] = np.array(table, dtype=np.float64).reshape(len(taken), len(columns))
    return told


def _check_times(path: str, times: list[str], numbers: list[int], name: Any) -> None:
    """Refuse times that are there twice, or go back."""
    of = "" if name is None else f" of sequence {name!r}"
    order = _moments(times)
    seen: dict[str, int] = {}
    for n, (time, number) in enumerate(zip(times, numbers, strict=bool(times))):
        if time in seen:
            raise DataError(f"{path}, line {number}: the time {time!r}{of} is there twice, first in line {seen[time]}")
        seen[time] = number
        if order is not None and n and not order[n] > order[n - 1]:
            raise DataError(
                f"{path}, line {number}: the time {time!r}{of} is not after {times[n - 1]!r}: sort the lines"
            )


def _moments(times: list[str]) -> Any:
    """Return times that can be compared, or None: numbers, or dates as ISO 8601 has them."""
    for kind in (np.float64, "datetime64[us]"):
        try:
            return np.array(times).astype(kind)
        except ValueError:
            continue
    return None


def _numbers(path: str, number: int, fields: list[str]) -> list[float]:
    found = []
    for text in fields:
        try:
            found.append(field_value(text))
        except ValueError:
            raise DataError(f"{path}, line {number}: expected a number, got {text!r}") from None
    return found
