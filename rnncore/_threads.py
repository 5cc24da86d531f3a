"""How many threads the kernels use. Results never depend on it.

An object's own ``n_threads`` goes before `set_num_threads`, that before RNNCORE_NUM_THREADS, that before
OMP_NUM_THREADS, that before the processors the process may run on; a limit set through threadpoolctl caps them all.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from rnncore._core.kernels import MAX_THREADS

_chosen: int | None = None
_cap: int | None = None  # set through threadpoolctl


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
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2": of nested levels
    if asked.isascii() and asked.isdigit() and int(asked[:9]) > 0:
        return min(int(asked[:9]), MAX_THREADS)
    return min(len(processors()), MAX_THREADS)


def processors() -> set[int]:
    """Return the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def set_num_threads(n: int | None) -> None:
    """Set how many threads objects without their own ``n_threads`` use.

    Parameters
    ----------
    n : int or None
        At least 1; None returns to the default: RNNCORE_NUM_THREADS, or OMP_NUM_THREADS, or the processors this process
        may run on. More than 64 count as 64, and a limit set through threadpoolctl caps them.

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


def _uncapped() -> int:
    global _chosen
    if _chosen is None:
        _chosen = _default()
    return _chosen


def get_num_threads() -> int:
    """Return the number of threads that objects without their own ``n_threads`` use.

    Examples
    --------
    >>> import rnncore as rc
    >>> 1 <= rc.get_num_threads() <= 64
    True
    """
    return resolve(None)


def resolve(n_threads: int | None) -> int:
    """Return an object's own number of threads where it has one, else the general one; never more than the cap."""
    wanted = _uncapped() if n_threads is None else n_threads
    return wanted if _cap is None else min(wanted, _cap)


def check(n_threads: int | None) -> int | None:
    """Return a constructor's ``n_threads``, checked; None stays None."""
    return None if n_threads is None else _check(n_threads, "n_threads")


class _NoCap(int):
    """How many threads there are where nothing caps them: what threadpoolctl hands back when a limit ends."""


def _register(threadpoolctl: ModuleType) -> None:
    """Let threadpoolctl find the kernels among the libraries whose threads it limits."""

    class Kernels(threadpoolctl.LibController):  # type: ignore[misc,name-defined]
        user_api = "openmp"
        internal_api = "rnncore"
        filename_prefixes = ("kernels.",)

        def get_num_threads(self) -> int:
            return _NoCap(_uncapped()) if _cap is None else resolve(None)

        def set_num_threads(self, num_threads: int) -> None:
            global _cap
            _cap = None if isinstance(num_threads, _NoCap) else max(1, int(num_threads))

        def get_version(self) -> str:
            import rnncore

            return rnncore.__version__

    threadpoolctl.register(Kernels)


class _OnImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module once it is imported, so that importing it need not be paid for here."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as if this finder were not there, and put the call behind its execution."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_call(module: ModuleType) -> None:
                execute(module)
                self.then(module)

            loader.exec_module = execute_and_call
        return spec


if "threadpoolctl" in sys.modules:
    _register(sys.modules["threadpoolctl"])
else:
    sys.meta_path.insert(0, _OnImport("threadpoolctl", _register))
