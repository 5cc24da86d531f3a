"""Contestants must compute the same thing before they are timed."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bench.weights import Arrays

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


class DisagreementError(Exception):
    """Two contestants computed different things; nothing was timed."""


class Contestant(Protocol):
    """Something to time: `call` does the work once, `results` gives what the latest call left behind."""

    name: str

    def call(self) -> object: ...

    def results(self) -> Arrays: ...


def require(
    contestants: list[Contestant], dtype: str, start: Arrays | None = None, tolerance: float | None = None
) -> float:
    """Call each contestant once and compare what they share; return the largest relative difference.

    `start` holds the values before the call of what a call changes (weights): differences are then relative to the
    change, because an updated weight differs from the old one in its last digits only.
    """
    for contestant in contestants:
        contestant.call()
    if len(contestants) < 2:
        return 0.0
    *others, reference = contestants  # ours comes first: compare with a peer
    expected = reference.results()
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    eps = float(np.finfo(dtype).eps)
    worst = 0.0
    for other in others:
        found = other.results()
        for name in sorted(expected.keys() & found.keys()):
            old = start.get(name, 0.0) if start else 0.0
            change = float(np.linalg.norm(expected[name] - old))
            difference = float(np.linalg.norm(found[name] - expected[name]))
            rounding = eps * float(np.linalg.norm(old))  # storing old + change rounds at the old value's last digit
            relative = max(0.0, difference - rounding) / max(change, 1e-30)
            if not relative <= allowed:  # also when it is not a number
                raise DisagreementError(
                    f"{other.name} and {reference.name} disagree on {name}: relative difference {relative:.2e}, "
                    f"allowed {allowed:.0e}"
                )
            worst = max(worst, relative)
    return worst
