"""`bench ragged`: lengths uniform in 1..T beside the full batch and PyTorch's PackedSequence, per real row."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from bench import agreement, ours, report, shapes, weights
from bench.setting import Setting
from bench.shapes import GATES, Shape, layer_flops
from bench.timing import interleaved


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        rows = [_measure(setting, cell, shape) for shape in shapes.select(shapes.RAGGED, options.rows)]
        _print(setting, cell, rows)
        figures.append({"cell": cell, "rows": rows})
    return {"cells": figures}


def _measure(setting: Setting, cell: str, shape: Shape) -> dict[str, Any]:
    lengths = weights.lengths(shape)
    contestants: list[agreement.Contestant] = []
    calls: dict[str, Callable[[], object]] = {}
    if setting.ours:
        contestants.append(ours.Layer(cell, shape, setting.dtype, setting.threads, lengths))
        calls["full"] = ours.Layer(cell, shape, setting.dtype, setting.threads).call
    if setting.torch:
        contestants.append(setting.torch.AlreadyPacked(cell, shape, setting.dtype, lengths))
        contestants.append(setting.torch.Layer(cell, shape, setting.dtype, lengths))
    difference = agreement.require(contestants, setting.dtype)
    calls |= {contestant.name: contestant.call for contestant in contestants}
    timings = interleaved(calls, setting.budget(5.0))
    real, full = int(lengths.sum()), shape.B * shape.T
    work = {name: layer_flops(GATES[cell], shape, full if name == "full" else real) for name in calls}
    gflops = {name: work[name] / setting.seconds(timings[name]) / 1e9 for name in calls}
    return {
        "shape": shape,
        "real rows": real,
        "real share": real / full,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "gflops": gflops,
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "x full": report.ratio(gflops.get("rnncore"), gflops.get("full")),
        "x PyTorch": report.ratio(gflops.get("rnncore"), gflops.get("PyTorch")),
        "x already packed": report.ratio(gflops.get("rnncore"), gflops.get("PyTorch, already packed")),
    }


def _print(setting: Setting, cell: str, rows: list[dict[str, Any]]) -> None:
    lines: list[list[report.Cell]] = [
        [
            report.label(row),
            row["real share"],
            row["gflops"].get("rnncore"),
            row["gflops"].get("full"),
            row["x full"],
            row["gflops"].get("PyTorch"),
            row["x PyTorch"],
            row["gflops"].get("PyTorch, already packed"),
            row["x already packed"],
        ]
        for row in rows
    ]
    against_torch = [row["x PyTorch"] for row in rows]
    packed_mean = report.geometric_mean(row["x already packed"] for row in rows)
    torch_mean = report.geometric_mean(against_torch)
    lines.append(["geometric mean", None, None, None, None, None, torch_mean, None, packed_mean])
    columns = [("B, T, D, H", ""), ("real rows", ".0%"), ("rnncore", ".0f"), ("full batch", ".0f"), ("x full", ".2f")]
    columns += [("PackedSequence", ".0f"), ("x that", ".2f"), ("already packed", ".0f"), ("x that", ".2f")]
    title = f"{setting.title('ragged', cell)} · forward + backward with dX, GFLOP/s per real row"
    report.table(title, columns, lines)
    print("  PackedSequence: padded in, padded out, like rnncore; already packed: its data come and stay packed")
    report.footnotes(rows)
    report.at_least("worst row against the full batch", report.least(*(row["x full"] for row in rows)), 0.85)
    report.at_least("geometric mean against PackedSequence", torch_mean, 4.0)
    report.at_least("worst row against PackedSequence", report.least(*against_torch), 3.0)
