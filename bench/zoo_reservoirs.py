"""Reservoirs beside reservoirpy's, with the same weights: states, and NARMA-10 from inputs to predictions."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report
from bench.setting import Setting
from bench.timing import interleaved

SECONDS = 6.0
STEPS, LEARNED = 4800, 2800
RIDGE, WASHOUT, FASTER = 1e-6, 100, 3.0


class Size(NamedTuple):
    """Units, and microseconds that a step may take."""

    N: int
    bar: float

    def __str__(self) -> str:
        return str(self.N)


SIZES = [Size(100, 1.0), Size(400, 8.0)]


class Ours:
    name = "rnncore"

    def __init__(self, size: Size, dtype: str, threads: int) -> None:
        import rnncore as rc

        options: dict[str, Any] = {"input_scaling": 0.1, "bias_scaling": 0.1, "dtype": dtype, "n_threads": threads}
        self.esn = rc.ESNRegressor(size.N, ridge=RIDGE, washout=WASHOUT, **options)
        self.u, self.y = rc.datasets.narma(STEPS)
        self.call()
        (self.reservoir,) = self.esn.reservoirs_
        self.drive = self.reservoir.drive(self.u[:, None], None)
        self.starts = np.array([0, STEPS])
        self.first = np.zeros((1, size.N), dtype)

    def step(self) -> None:
        """Run the recurrence alone: what is counted in microseconds a step."""
        self.reservoir._kernel.run(self.starts, self.first, self.drive, 1)

    def states(self) -> None:
        self.found = self.reservoir.states(self.u[:, None])

    def call(self) -> None:
        self.esn.fit(self.u[:LEARNED, None], self.y[:LEARNED])
        self.said = self.esn.predict(self.u[LEARNED:, None], state=self.esn.state_)

    def results(self) -> dict[str, np.ndarray]:
        self.states()
        return {"states": self.found, "said": self.said}


class Theirs:
    name = "reservoirpy"

    def __init__(self, ours: Ours, dtype: str) -> None:
        from reservoirpy.nodes import Reservoir, Ridge

        same = ours.reservoir
        weights: dict[str, Any] = {"W": same.W.astype(dtype), "Win": same.W_in.T.copy(), "bias": same.bias.copy()}
        drawn: dict[str, Any] = {"sr": 0.9, "rc_connectivity": 0.1, "input_scaling": 0.1, "bias": same.bias.copy()}
        self.alike = lambda: Reservoir(same.n_units, lr=1.0, **weights)
        self.own = lambda: Reservoir(same.n_units, lr=1.0, seed=0, **drawn)  # weights of its own, scaled
        self.readout = Ridge
        self.u, self.y = ours.u[:, None], ours.y[:, None]
        self.call()

    def states(self) -> None:
        self.found = self.alike().run(self.u)

    def call(self) -> None:
        states = self.own().run(self.u)
        heard = np.concatenate([states, self.u], axis=1)
        readout = self.readout(ridge=RIDGE).fit(heard[WASHOUT:LEARNED], self.y[WASHOUT:LEARNED])
        self.said = readout.run(heard[LEARNED:])[:, 0]

    def results(self) -> dict[str, np.ndarray]:
        self.states()
        return {"states": self.found}  # what is said comes of other weights: the errors are told


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options)
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        ours = Ours(size, setting.dtype, setting.threads)
        theirs = Theirs(ours, setting.dtype)
        difference = agreement.require([ours, theirs], setting.dtype)
        errors = {
            each.name: float(np.sqrt(np.mean((each.said - ours.y[LEARNED:]) ** 2)) / ours.y[LEARNED:].std())
            for each in (ours, theirs)
        }
        calls = {"step": ours.step, "ours": ours.call, "theirs": theirs.call, "states": theirs.states}
        timings = interleaved(calls, setting.budget(SECONDS))
        seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
        rows.append(
            {
                "shape": str(size),
                "difference": difference,
                "NRMSE": errors,
                "crowded": setting.crowded(timings),
                "us": {"rnncore": seconds["step"] / STEPS * 1e6, "reservoirpy": seconds["states"] / STEPS * 1e6},
                "ms": {"rnncore": seconds["ours"] * 1e3, "reservoirpy": seconds["theirs"] * 1e3},
                "x": report.ratio(seconds["theirs"], seconds["ours"]),
                "timings": {name: timing.as_dict() for name, timing in timings.items()},
            }
        )
    columns = [("N", ""), ("us a step", ".2f"), ("reservoirpy", ".2f"), ("NARMA-10", "ms"), ("reservoirpy", "ms")]
    columns += [("x", ".1f"), ("NRMSE", ".3f"), ("reservoirpy", ".3f")]
    lines: list[list[report.Cell]] = [
        [report.label(row), *row["us"].values(), *row["ms"].values(), row["x"], *row["NRMSE"].values()] for row in rows
    ]
    report.table(setting.title("reservoirs, connectivity 0.1, from inputs to predictions", "matmul"), columns, lines)
    report.footnotes(rows)
    for size, row in zip(SIZES, rows, strict=True):
        report.at_most(f"microseconds a step of {size} units", row["us"]["rnncore"], size.bar, ".2f")
        report.at_least(f"times reservoirpy, {size} units", row["x"], FASTER, ".1f")
    return {"rows": rows}
