"""`bench step`: one whole training step (layer + softmax head of 32 + SGD, no dX) beside PyTorch and JAX."""

from __future__ import annotations

import argparse
from typing import Any

from bench import agreement, ours, report, shapes, weights
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved

OUTPUTS = 32
LEARNING_RATE = 0.1


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch", "jax")
    rows = shapes.select(shapes.STEP, options.rows)
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        measured = [_measure(setting, cell, shape) for shape in rows]
        _print(setting, cell, measured)
        if cell == "elman" and setting.dtype == "float32":
            _bars(measured, setting.threads)
        figures.append({"cell": cell, "rows": measured})
    return {"cells": figures}


def _contestants(setting: Setting, cell: str, shape: Shape) -> list[agreement.Contestant]:
    arguments = (cell, shape, setting.dtype, OUTPUTS, LEARNING_RATE)
    contestants: list[agreement.Contestant] = []
    if setting.ours:
        contestants.append(ours.Step(*arguments, setting.threads))
    return contestants + [peer.Step(*arguments) for peer in (setting.torch, setting.jax) if peer]


def _measure(setting: Setting, cell: str, shape: Shape) -> dict[str, Any]:
    contestants = _contestants(setting, cell, shape)
    start = weights.initial(cell, shape, setting.dtype, OUTPUTS)
    difference = agreement.require(contestants, setting.dtype, start)
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(6.0))
    seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
    mine, torch, jax = (seconds.get(name) for name in ("rnncore", "PyTorch", "JAX"))
    return {
        "shape": shape,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "ms": {name: value * 1e3 for name, value in seconds.items()},
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "x PyTorch": report.ratio(torch, mine),
        "x JAX": report.ratio(jax, mine),
        "x faster": report.ratio(report.least(torch, jax), mine),
    }


def _print(setting: Setting, cell: str, measured: list[dict[str, Any]]) -> None:
    contestants, ratios = ("rnncore", "PyTorch", "JAX"), ("x PyTorch", "x JAX", "x faster")
    lines: list[list[report.Cell]] = [
        [
            shapes.number(row["shape"]),
            report.label(row),
            *(row["ms"].get(name) for name in contestants),
            *(row[name] for name in ratios),
        ]
        for row in measured
    ]
    means = [report.geometric_mean(row[name] for row in measured) for name in ratios]
    lines.append(["", "geometric mean", None, None, None, *means])
    report.table(
        f"{setting.title('step', cell)} · milliseconds, and how many times rnncore is faster than each",
        [("#", ""), ("B, T, D, H", ""), *((name, "ms") for name in contestants), *((name, ".2f") for name in ratios)],
        lines,
    )
    report.footnotes(measured)


def _bars(measured: list[dict[str, Any]], threads: int) -> None:
    faster = [row["x faster"] for row in measured]
    report.at_least("worst row against the faster peer", report.least(*faster), 1.0)
    if threads == 1 and len(measured) == len(shapes.STEP):
        report.at_least("geometric mean against the faster peer", report.geometric_mean(faster), 1.9)
        torch = report.geometric_mean(row["x PyTorch"] for row in measured)
        report.at_least("geometric mean against PyTorch", torch, 4.0)
    for row in measured:
        if row["shape"] == shapes.STEP[0]:
            report.at_least(f"({row['shape']}) against JAX", row["x JAX"], 2.0)
