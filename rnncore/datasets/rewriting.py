"""Texts and what becomes of them: turned round, sorted, dates brought into one form.

Each function draws pairs, sources and targets, for networks that read one sequence and write another.
"""

from __future__ import annotations

import datetime
import string

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["dates", "reversing", "sorting"]

Pairs = tuple[list[str], list[str]]

_FIRST, _LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)


def reversing(n: int = 1000, length: int = 20, symbols: int = 26, random_state: int = 0) -> Pairs:
    """Draw words of letters, and the same ones backwards.

    Parameters
    ----------
    n : int
    length : int
        Words have 1 to so many letters, every length being equally likely.
    symbols : int
        The first so many letters of the alphabet, 2 to 26.
    random_state : int

    Returns
    -------
    sources, targets : lists of str

    Examples
    --------
    >>> sources, targets = reversing(3, length=5)
    >>> [source[::-1] == target for source, target in zip(sources, targets)]
    [True, True, True]
    """
    words = _words(n, length, symbols, random_state)
    return words, [word[::-1] for word in words]


def sorting(n: int = 1000, length: int = 15, symbols: int = 26, random_state: int = 0) -> Pairs:
    """Draw words of letters, and the same letters in the order of the alphabet; the arguments are `reversing`'s.

    Examples
    --------
    >>> sources, targets = sorting(3, length=5)
    >>> ["".join(sorted(source)) == target for source, target in zip(sources, targets)]
    [True, True, True]
    """
    words = _words(n, length, symbols, random_state)
    return words, ["".join(sorted(word)) for word in words]


def _words(n: int, length: int, symbols: int, random_state: int) -> list[str]:
    at_least("n", n, 0)
    at_least("length", length, 1)
    if not 2 <= symbols <= 26:
        raise ValueError(f"symbols must be 2 to 26, letters of the alphabet, got {symbols}")
    rng = generator(random_state)
    letters = np.array(list(string.ascii_lowercase[:symbols]))
    return ["".join(letters[rng.integers(0, symbols, count)]) for count in rng.integers(1, length + 1, n)]


def dates(n: int = 1000, random_state: int = 0) -> Pairs:
    """Draw days from 1900 to 2099 as people write them, and as ISO 8601 does: ``2014-03-12``.

    Months by name, short or whole, or by number; the day first, but in American forms with a name and in those that
    begin with the year; ordinals, weekdays, capitals, and all sorts of signs between.

    Parameters
    ----------
    n : int
    random_state : int

    Returns
    -------
    sources, targets : lists of str

    Examples
    --------
    >>> sources, targets = dates(4)
    >>> sources
    ['Feb 15, 2070', '24-May-2027', '25-March-2002', '1953 december 16']
    >>> targets
    ['2070-02-15', '2027-05-24', '2002-03-25', '1953-12-16']
    """
    at_least("n", n, 0)
    rng = generator(random_state)
    days = [_FIRST + datetime.timedelta(int(day)) for day in rng.integers(0, (_LAST - _FIRST).days + 1, n)]
    return [_written(day, rng) for day in days], [day.isoformat() for day in days]


_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMED = (
    "{d} {month} {y}",
    "{d}. {month} {y}",
    "{d}{th} {month} {y}",
    "{d}{th} of {month} {y}",
    "the {d}{th} of {month}, {y}",
    "{month} {d}, {y}",
    "{month} {d}{th}, {y}",
    "{month} {d} {y}",
    "{weekday}, {d} {month} {y}",
    "{weekday} {d} {month} {y}",
    "{weekday}, {month} {d}, {y}",
    "{d}-{month}-{y}",
    "{y} {month} {d}",
)
_NUMBERED = ("{d}{s}{m}{s}{y}", "{dd}{s}{mm}{s}{y}", "{y}{s}{m}{s}{d}", "{y}{s}{mm}{s}{dd}", "{y}{mm}{dd}")


def _written(day: datetime.date, rng: np.random.Generator) -> str:
    """Write a day in one of many forms."""
    forms = _NAMED + _NUMBERED
    form = forms[rng.integers(len(forms))]
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    if rng.random() < 0.5:
        month, weekday = month[:3], weekday[:3]
    d, m = day.day, day.month
    th = "th" if 10 < d < 20 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    sign = "./- "[rng.integers(4)]
    text = form.format(d=d, m=m, y=day.year, dd=f"{d:02}", mm=f"{m:02}", th=th, s=sign, month=month, weekday=weekday)
    case = rng.random()
    return text.lower() if case < 0.2 else text.upper() if case < 0.3 else text
