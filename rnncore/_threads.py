"""How many threads the kernels use. Results never depend on it."""

from __future__ import annotations

import os

from rnncore._core.kernels import MAX_THREADS

_chosen: int | None = None


def _check(n: object, what: str) -> int:
    try:
        number = int(n)  # type: ignore[call-overload]
        whole = number == n or isinstance(n, str)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or number < 1:
        raise ValueError(f"{what} must be a whole number of at least 1, got {n!r}")
    return min(number, MAX_THREADS)


def _default() -> int:
    asked = os.environ.get("RNNCORE_NUM_THREADS")
    if asked:
        return _check(asked, "RNNCORE_NUM_THREADS")
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


def set_num_threads(n: int | None) -> None:
    """Set how many threads objects without their own ``n_threads`` use.

    Parameters
    ----------
    n : int or None
        At least 1; None returns to the default: RNNCORE_NUM_THREADS, or the processors this process may run on.
        More than 64 count as 64.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.set_num_threads(1)
    >>> rc.get_num_threads()
    1
    >>> rc.set_num_threads(None)
    """
    global _chosen
    _chosen = None if n is None else _check(n, "the number of threads")


def get_num_threads() -> int:
    """Return the number of threads that objects without their own ``n_threads`` use."""
    global _chosen
    if _chosen is None:
        _chosen = _default()
    return _chosen


def resolve(n_threads: int | None) -> int:
    """Return an object's own number of threads where it has one, else the general one."""
    return get_num_threads() if n_threads is None else n_threads


def check(n_threads: int | None) -> int | None:
    """Return a constructor's ``n_threads``, checked; None stays None."""
    return None if n_threads is None else _check(n_threads, "n_threads")
