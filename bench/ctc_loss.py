"""The loss and its gradient on scores that are there, beside PyTorch's log_softmax and ctc_loss."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report
from bench.setting import Setting
from bench.timing import interleaved

SECONDS = 4.0
TOLERANCE = {"float32": 1e-2, "float64": 1e-10}  # PyTorch adds logarithms of float32: its gradient is off by up to 4e-3


class Shape(NamedTuple):
    """Steps, symbols of a target, symbols with the blank, sequences; the bar."""

    T: int
    L: int
    A: int
    N: int
    bar: float | None

    def __str__(self) -> str:
        return f"{self.T}, {self.L}, {self.A}, {self.N}"


SHAPES = [
    Shape(150, 40, 28, 64, 10),
    Shape(150, 20, 5000, 16, 3),
    Shape(150, 40, 28, 1, None),
    Shape(500, 120, 40, 32, None),
    Shape(1500, 200, 80, 8, None),
]


class Ours:
    name = "rnncore"

    def __init__(self, shape: Shape, dtype: str, threads: int) -> None:
        self.scores, self.targets = arrays(shape, dtype)
        self.threads = threads

    def call(self) -> None:
        import rnncore as rc

        self.losses, self.gradient = rc.ctc.loss_and_grad(self.scores, self.targets, n_threads=self.threads)

    def results(self) -> dict[str, np.ndarray]:
        assert self.gradient is not None
        return {"losses": self.losses, "gradient": self.gradient}


class PyTorch:
    name = "PyTorch"

    def __init__(self, shape: Shape, dtype: str) -> None:
        import torch

        scores, targets = arrays(shape, dtype)
        self.torch = torch
        self.scores, self.targets = torch.tensor(scores, requires_grad=True), torch.tensor(targets)
        self.lengths = torch.full((shape.N,), shape.T), torch.full((shape.N,), shape.L)

    def call(self) -> None:
        functional = self.torch.nn.functional
        self.scores.grad = None
        log_p = functional.log_softmax(self.scores, -1)
        blank = self.scores.shape[2] - 1
        self.losses = functional.ctc_loss(log_p, self.targets, *self.lengths, blank=blank, reduction="none")
        self.losses.sum().backward()

    def results(self) -> dict[str, np.ndarray]:
        return {"losses": self.losses.detach().numpy(), "gradient": self.scores.grad.numpy()}


def arrays(shape: Shape, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((shape.T, shape.N, shape.A)).astype(dtype)
    return scores, rng.integers(0, shape.A - 1, (shape.N, shape.L))


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    rows = []
    for shape in SHAPES:
        contestants: list[Any] = [Ours(shape, setting.dtype, setting.threads)] if setting.ours else []
        if setting.torch is not None:
            contestants.append(PyTorch(shape, setting.dtype))
        difference = agreement.require(contestants, setting.dtype, tolerance=TOLERANCE[setting.dtype])
        timings = interleaved({each.name: each.call for each in contestants}, setting.budget(SECONDS))
        seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
        rows.append(
            {
                "shape": shape,
                "difference": difference,
                "crowded": setting.crowded(timings),
                "ms": {name: value * 1e3 for name, value in seconds.items()},
                "x PyTorch": report.ratio(seconds.get("PyTorch"), seconds.get("rnncore")),
                "timings": {name: timing.as_dict() for name, timing in timings.items()},
            }
        )
    lines: list[list[report.Cell]] = [
        [report.label(row), row["ms"].get("rnncore"), row["ms"].get("PyTorch"), row["x PyTorch"]] for row in rows
    ]
    columns = [("T, L, A, N", ""), ("rnncore", "ms"), ("PyTorch", "ms"), ("x PyTorch", ".2f")]
    report.table(setting.title("CTC: losses and gradient of scores, milliseconds", "log_softmax"), columns, lines)
    report.footnotes(rows)
    for row in rows:
        if row["shape"].bar and setting.threads == 1:
            report.at_least(f"x PyTorch at ({row['shape']})", row["x PyTorch"], row["shape"].bar, ".1f")
    return {"rows": rows}
