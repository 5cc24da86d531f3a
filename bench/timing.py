"""The one place where time is taken: interleaved rounds, medians, and the machine's peak."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.processes import Others

SAMPLE_SECONDS = 0.02  # a sample repeats a short call this long: training is a loop, not a single cold step
WARM_CALL_SECONDS = 0.02  # calls shorter than this get an untimed one first: the others left the caches theirs


@dataclass(frozen=True)
class Timing:
    """Seconds per call over the rounds."""

    median: float
    fastest: float
    lower_quartile: float
    upper_quartile: float
    rounds: int
    others: float  # how much of our cores other processes used meanwhile

    def as_dict(self) -> dict[str, float]:
        return dict(vars(self))


def _once(call: Callable[[], object], repetitions: int) -> float:
    start = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - start) / repetitions


def interleaved(calls: Mapping[str, Callable[[], object]], budget: float) -> dict[str, Timing]:
    """Time the calls in turn (a, b, c, a, b, c, …) for about `budget` seconds, so that all see the same machine."""
    repetitions: dict[str, int] = {}
    warm: dict[str, bool] = {}
    round_seconds = 0.0
    for name, call in calls.items():
        call()
        call()
        seconds = min(_once(call, 1) for _ in range(3))
        repetitions[name] = max(1, round(SAMPLE_SECONDS / seconds))
        warm[name] = seconds < WARM_CALL_SECONDS
        round_seconds += seconds * (repetitions[name] + warm[name])
    rounds = max(5, min(400, int(budget / round_seconds)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    others = Others()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                if warm[name]:
                    call()
                samples[name].append(_once(call, repetitions[name]))
    finally:
        if collecting:
            gc.enable()
    busy = others.cores()
    return {name: _summary(values, busy) for name, values in samples.items()}


def _summary(values: list[float], others: float) -> Timing:
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, min(values), lower, upper, len(values), others)


class Peak:
    """GFLOP/s of a register-only multiply-add loop: the best of some looks.

    The machine's clock moves: what a row reaches is divided by the best of five looks around it, not by that of another
    hour.
    """

    def __init__(self, dtype: str, threads: int) -> None:
        self.dtype, self.threads, self.best = dtype, threads, 0.0

    def look(self, times: int) -> None:
        from rnncore._core import kernels

        for _ in range(times):
            self.best = max(self.best, kernels.peak(self.dtype, 0.1, self.threads) / 1e9)
