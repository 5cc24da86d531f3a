"""Ctrl-C, SIGTERM and SIGHUP wait for the end of the minibatch at hand, so that what was learned can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["deferred_signals", "stop_for"]


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect the signals that ask a program to end in a list; a second one ends it at once.

    Outside of the main thread nothing changes, nor for a signal that someone else handles or that is ignored.
    """
    seen: list[int] = []
    replaced: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        replaced = {number: own for number, own in _usual().items() if signal.getsignal(number) is own}

    def note(number: int, frame: Any) -> None:
        if seen:
            stop_for(number)
        seen.append(number)

    try:
        for number in replaced:
            signal.signal(number, note)
        yield seen
    finally:
        for number, own in replaced.items():
            signal.signal(number, own)


def stop_for(number: int) -> None:
    """Raise what a signal promises: KeyboardInterrupt for Ctrl-C, else SystemExit with the status a shell shows."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _usual() -> dict[int, Callable[..., Any] | int | None]:
    """Return the signals that are deferred, and what handles them where nobody has changed it."""
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    for name in ("SIGTERM", "SIGHUP"):  # the latter is not there on Windows
        if hasattr(signal, name):
            usual[getattr(signal, name)] = signal.SIG_DFL
    return usual
