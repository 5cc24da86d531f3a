"""Attributes of layers and networks: fixed when they are built, or checked whenever they are set.

The compiled core takes sizes and options for granted, so none may change behind its back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.rows import all_within
from rnncore._core.schedule import Schedule

Class = TypeVar("Class", bound=type)


def fixed(*names: str) -> Callable[[Class], Class]:
    """Return a class decorator: these attributes can be set once, by the constructor. Reading them costs nothing."""

    def decorate(owner: Class) -> Class:
        known = frozenset(names) | getattr(owner, "_fixed", frozenset())

        def put(self: Any, name: str, value: Any) -> None:
            if name in known and name in self.__dict__:
                kind = type(self).__name__
                raise AttributeError(f"{name} of a {kind} is fixed when it is built, got {value!r}: build a new {kind}")
            object.__setattr__(self, name, value)

        def remove(self: Any, name: str) -> None:
            if name in known:
                raise AttributeError(
                    f"{name} of a {type(self).__name__} is fixed when it is built: it cannot be deleted"
                )
            object.__delattr__(self, name)

        for name, method in {"_fixed": known, "__setattr__": put, "__delattr__": remove}.items():
            setattr(owner, name, method)
        return owner

    return decorate


class RunSettings:
    """What calls need beside arrays: threads, dropout's random numbers, and the latest full batch's layout."""

    _schedule: Schedule | None
    _n_threads: int | None
    _dropout_seed: int
    _dropout_step: int

    @property
    def n_threads(self) -> int | None:
        """Threads; None: the general setting. Results do not depend on it."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._n_threads = _threads.check(value)

    @property
    def dropout_seed(self) -> int:
        """Seed of dropout's random numbers."""
        return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, value: int) -> None:
        self._dropout_seed = _checks.whole(value, "dropout_seed", least=0, most=2**63 - 1)

    @property
    def dropout_step(self) -> int:
        """Number of training passes so far; the same value gives the same masks."""
        return self._dropout_step

    @dropout_step.setter
    def dropout_step(self, value: int) -> None:
        self._dropout_step = _checks.whole(value, "dropout_step", least=0, most=2**63 - 1)

    def _schedule_of(self, steps: int, sequences: int, sizes: np.ndarray | None) -> Schedule:
        """Return the packed layout of a batch; a full one's is kept from last time."""
        if sizes is not None and not all_within(sizes, steps, steps):
            return Schedule(steps, sequences, sizes)
        schedule = self._schedule
        if schedule is None or schedule.steps != steps or schedule.sequences != sequences:
            schedule = self._schedule = Schedule(steps, sequences, None)
        return schedule


class KeepsWeights:
    """In which bits a network's predictions and sessions keep weights."""

    dtype: np.dtype
    _weight_dtype: str | None = None

    @property
    def weight_dtype(self) -> str | None:
        """How predictions and sessions keep weights: None, as they are; "bfloat16" or "int8", in fewer bits."""
        return self._weight_dtype

    @weight_dtype.setter
    def weight_dtype(self, value: str | None) -> None:
        kept = _checks.weight_dtype(value, self.dtype)
        self._weight_dtype = None if kept == self.dtype.name else kept
