"""Who may use a layer or network at the same time: any number of threads that only read it, or one that trains it."""

from __future__ import annotations

import os
import threading
import weakref


class Access:
    """Readers and one trainer. Nobody is ever waited for: who may not come in gets an error.

    Use: ``with access.reading: …`` or ``with access.training: …``.
    """

    __slots__ = ("__weakref__", "_mutex", "_readers", "_trained", "reading", "training")

    def __init__(self) -> None:
        self._renew()
        self.reading = Reading(self)
        self.training = Training(self)
        _ALL.add(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._readers = 0
        self._trained = False


class Reading:
    """Among others that read."""

    __slots__ = ("_access",)

    def __init__(self, access: Access) -> None:
        self._access = access

    def __enter__(self) -> None:
        access = self._access
        with access._mutex:
            if access._trained:
                raise RuntimeError(
                    "this object is being trained by another Python thread: wait until it is done, or give each thread "
                    "its own copy"
                )
            access._readers += 1

    def __exit__(self, *_: object) -> None:
        access = self._access
        with access._mutex:
            access._readers -= 1


class Training:
    """Alone."""

    __slots__ = ("_access",)

    def __init__(self, access: Access) -> None:
        self._access = access

    def __enter__(self) -> None:
        access = self._access
        with access._mutex:
            if access._trained or access._readers:
                raise RuntimeError(
                    "this object is in use by another Python thread, and training needs it alone: wait until that is "
                    "done, or give each thread its own copy"
                )
            access._trained = True

    def __exit__(self, *_: object) -> None:
        self._access._trained = False


_ALL: weakref.WeakSet[Access] = weakref.WeakSet()


def _forget_other_threads() -> None:
    """In the child of a fork only the forking thread lives on: nobody else uses anything any more."""
    for access in _ALL:
        access._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)
