"""Recursive networks on Boolean expressions, forward and backward, beside a PyTorch loop over nodes."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report
from bench.setting import Setting
from bench.timing import interleaved

SECONDS = 8.0
AGREE = 1e-10  # in float64, whatever is timed
FASTER = 20.0


class Size(NamedTuple):
    """Cell, units, trees in a batch."""

    cell: str
    H: int
    S: int

    def __str__(self) -> str:
        return f"{self.cell}, {self.H}, {self.S}"


CELLS = ("plain", "tensor", "lstm", "child_sum")
SIZES = [Size(cell, H, S) for cell in CELLS for H, S in ((16, 32), (64, 32)) if (cell, H) != ("tensor", 64)]


def data(size: Size) -> tuple[list[Any], np.ndarray]:
    """Return expressions as nested tuples of numbers, and their values."""
    from rnncore.datasets import boolean_expressions

    numbers = {label: number for number, label in enumerate(("T", "F", "not", "and", "or"))}

    def numbered(tree: Any) -> Any:
        return tuple(map(numbered, tree)) if isinstance(tree, tuple) else numbers[tree]

    trees, values = boolean_expressions(size.S, 6, 2)
    return [numbered(tree) for tree in trees], np.array([value == "T" for value in values], dtype=np.int64)


class Ours:
    name = "rnncore"

    def __init__(self, size: Size, dtype: str, threads: int) -> None:
        import rnncore as rc

        trees, self.targets = data(size)
        self.trees = rc.Trees.of(trees).numbered({n: n for n in range(5)})
        self.net = rc.models.TreeNetwork(5, size.H, 2, size.cell, dtype=dtype, n_threads=threads)

    def call(self) -> None:
        self.loss = self.net.loss_and_grad(self.trees.take(np.arange(len(self.trees))), self.targets)

    def results(self) -> dict[str, np.ndarray]:
        return {"loss": np.array(self.loss)} | {name: np.array(grad) for name, grad in self.net.grads.items()}


class Loop:
    name = "PyTorch"

    def __init__(self, size: Size, dtype: str) -> None:
        import torch

        import rnncore as rc
        from bench.trees_torch import Recursive

        trees, targets = data(size)
        self.trees, self.targets = trees, torch.from_numpy(targets)
        self.net = Recursive(rc.models.TreeNetwork(5, size.H, 2, size.cell, dtype=dtype))

    def call(self) -> None:
        for parameter in self.net.p.values():
            parameter.grad = None
        self.loss = self.net.loss(self.trees, self.targets)
        self.loss.backward()

    def results(self) -> dict[str, np.ndarray]:
        grads = {name: parameter.grad.numpy() for name, parameter in self.net.p.items()}
        return {"loss": self.loss.detach().numpy()} | grads


def contestants(setting: Setting, size: Size, dtype: str) -> list[Any]:
    made: list[Any] = [Ours(size, dtype, setting.threads)] if setting.ours else []
    return made + ([Loop(size, dtype)] if setting.torch else [])


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        difference = agreement.require(contestants(setting, size, "float64"), "float64", tolerance=AGREE)
        made = contestants(setting, size, setting.dtype)
        timings = interleaved({each.name: each.call for each in made}, setting.budget(SECONDS))
        seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
        rows.append(
            {
                "shape": str(size),
                "difference": difference,
                "crowded": setting.crowded(timings),
                "ms": {name: value * 1e3 for name, value in seconds.items()},
                "x": report.ratio(seconds.get("PyTorch"), seconds.get("rnncore")),
                "timings": {name: timing.as_dict() for name, timing in timings.items()},
            }
        )
    columns = [("cell, H, trees", ""), ("rnncore", "ms"), ("PyTorch", "ms"), ("x", ".1f")]
    lines = [[report.label(row), row["ms"].get("rnncore"), row["ms"].get("PyTorch"), row["x"]] for row in rows]
    report.table(setting.title("Trees, loss and gradient, milliseconds", "a loop over nodes"), columns, lines)
    report.footnotes(rows)
    for row in rows:
        report.at_least(f"times PyTorch ({row['shape']})", row["x"], FASTER, ".1f")
    return {"rows": rows}
