"""BLAS with one thread: what it sums depends on how many there are, and what is drawn or learned should not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looking for them takes longer than a small readout


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS and LAPACK work on one thread.

    Examples
    --------
    >>> import numpy as np
    >>> with one_thread():
    ...     found = np.linalg.eigvals(np.eye(3))
    >>> found.tolist()
    [1.0, 1.0, 1.0]
    """
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context
