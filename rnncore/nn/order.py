"""``batch_first``: arrays (B, T, ...) at the door of layers and networks, (T, B, ...) behind it; never states."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks


def time_first(given: Any, name: str) -> Any:
    """Return a caller's (B, T, ...) as (T, B, ...): a view. Each part of a tuple; what has less axes stays.

    Examples
    --------
    >>> time_first(np.zeros((2, 5, 3)), "x").shape
    (5, 2, 3)
    """
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(time_first(part, name) for part in given)
    found = _checks.array(given, name)
    return found.swapaxes(0, 1) if found.ndim > 1 else found


def batch_first(made: np.ndarray, out: Any = None) -> np.ndarray:
    """Return results (T, B, ...) as the caller's (B, T, ...): C-contiguous, in `out` if there is one.

    Examples
    --------
    >>> batch_first(np.zeros((5, 2, 3))).shape
    (2, 5, 3)
    """
    if out is None:
        return np.array(made.swapaxes(0, 1), order="C")
    shape = (made.shape[1], made.shape[0], *made.shape[2:])
    _checks.out(out, shape, made.dtype, made)[...] = made.swapaxes(0, 1)
    return out


def check_out(out: Any, steps: int, sequences: int, width: int, precision: np.dtype, source: Any) -> None:
    """Refuse a place for results before anything is computed."""
    _checks.out(out, (sequences, steps, width), precision, source)
