"""Checks of the numbers and words that optimizers and schedules are made with."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = ["check_choice", "check_count", "check_number"]


def check_number(name: str, value: object, interval: str, example: float) -> None:
    """Raise unless `value` is a number in `interval`, written as in mathematics: ``"[0, 1)"``.

    Raises
    ------
    TypeError
        If `value` is no real number.
    ValueError
        If it lies outside, or is NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {_shown(value)}; try {name}={example}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: {_shown(value)} is too large; try {name}={example}") from None
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    if not (above and below):
        raise ValueError(f"{name}: expected a number in {interval}, got {_shown(value)}; try {name}={example}")


def _shown(value: object) -> str:
    """Name a value that may have thousands of digits."""
    text = "a number" if isinstance(value, int) and value.bit_length() > 10_000 else repr(value)  # Python's own limit
    return text if len(text) <= 60 else text[:59] + "…"


def check_choice(name: str, value: object, choices: Collection[Any]) -> None:
    """Raise a ValueError unless `value` is one of `choices`: strings, None, True or False."""
    plain = value is None or isinstance(value, str | bool | np.bool_)
    if not plain or value not in choices:
        *others, last = (repr(choice) for choice in choices)
        raise ValueError(f"{name}: expected {', '.join(others)} or {last}, got {_shown(value)}")


def check_count(name: str, value: object, smallest: int) -> None:
    """Raise unless `value` is a whole number of at least `smallest`, and below 2**31.

    Raises
    ------
    TypeError
        If `value` is no integer.
    ValueError
        If it is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number, got {_shown(value)}; try {name}={max(smallest, 10)}")
    value = int(value)
    if value < smallest:
        raise ValueError(f"{name}: expected at least {smallest}, got {_shown(value)}; try {name}={max(smallest, 10)}")
    if value >= 2**31:
        raise ValueError(f"{name}: expected less than 2**31, got {_shown(value)}; try {name}={max(smallest, 10)}")
