"""Hopfield's network: learning and recalling, beside its equations written with NumPy, one unit after another."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report
from bench.setting import Setting
from bench.timing import interleaved

SECONDS = 4.0


class Size(NamedTuple):
    """Units, patterns, damaged ones to recall; the bar for recalling."""

    N: int
    P: int
    B: int
    bar: float

    def __str__(self) -> str:
        return f"{self.N}, {self.P}, {self.B}"


SIZES = [Size(500, 51, 20, 10), Size(2000, 151, 10, 4)]  # P odd, N even: no field is zero, where rounding would decide


def arrays(size: Size) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    patterns = rng.choice([-1, 1], (size.P, size.N))
    damaged = patterns[: size.B] * rng.choice([1, -1], (size.B, size.N), p=[0.9, 0.1])
    return patterns, damaged


class Ours:
    name = "rnncore"

    def __init__(self, size: Size, dtype: str, threads: int) -> None:
        from rnncore.models import Hopfield

        self.patterns, self.damaged = arrays(size)
        self.memory = Hopfield(order="cyclic", dtype=dtype, n_threads=threads)
        self.learn()

    def learn(self) -> None:
        self.memory.fit(self.patterns)

    def call(self) -> None:
        self.found = self.memory.predict(self.damaged)

    def results(self) -> dict[str, np.ndarray]:
        return {"weights": self.memory.weights_, "recalled": self.found.astype(float)}


class Transcription:
    """As short programs of the network have it: a product for each unit's field."""

    name = "NumPy"

    def __init__(self, size: Size, dtype: str) -> None:
        self.patterns, self.damaged = (part.astype(dtype) for part in arrays(size))
        self.learn()

    def learn(self) -> None:
        self.weights = self.patterns.T @ self.patterns / self.patterns.dtype.type(self.patterns.shape[1])
        np.fill_diagonal(self.weights, 0)

    def call(self) -> None:
        self.found = self.damaged.copy()
        for state in self.found:
            changed = True
            while changed:
                changed = False
                for unit, row in enumerate(self.weights):
                    field = row @ state
                    if field * state[unit] < 0:
                        state[unit], changed = -state[unit], True

    def results(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights, "recalled": self.found}


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options)
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        contestants: list[Any] = [Ours(size, setting.dtype, setting.threads)] if setting.ours else []
        contestants.append(Transcription(size, setting.dtype))
        difference = agreement.require(contestants, setting.dtype)
        calls = {f"{each.name}, {what}": getattr(each, what) for each in contestants for what in ("learn", "call")}
        timings = interleaved(calls, setting.budget(SECONDS))
        seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
        rows.append(
            {
                "shape": str(size),
                "difference": difference,
                "crowded": setting.crowded(timings),
                "ms": {name: value * 1e3 for name, value in seconds.items()},
                **{f"x, {what}": report.ratio(seconds["NumPy, " + what], seconds.get("rnncore, " + what))
                   for what in ("learn", "call")},
                "timings": {name: timing.as_dict() for name, timing in timings.items()},
            }
        )  # fmt: skip
    columns = [("N, P, B", "")]
    for verb in ("learns", "recalls"):
        columns += [(f"rnncore {verb}", "ms"), (f"NumPy {verb}", "ms"), ("x", ".1f")]
    lines: list[list[report.Cell]] = []
    for row in rows:
        line: list[report.Cell] = [report.label(row)]
        for what in ("learn", "call"):
            line += [row["ms"].get(f"rnncore, {what}"), row["ms"][f"NumPy, {what}"], row[f"x, {what}"]]
        lines.append(line)
    report.table(setting.title("Hopfield's network, Hebb's rule, milliseconds", "matmul"), columns, lines)
    report.footnotes(rows)
    for size, row in zip(SIZES, rows, strict=True):
        report.at_least(f"times NumPy in recalling at ({size})", row["x, call"], size.bar, ".1f")
    return {"rows": rows}
