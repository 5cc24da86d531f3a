"""`bench layer --dtype mixed_bfloat16`: the same in mixed precision, beside PyTorch's autocast and our own float32."""

from __future__ import annotations

import argparse
from typing import Any

from bench import agreement, ours, report, shapes
from bench.setting import Setting
from bench.shapes import GATES, Shape, layer_flops
from bench.timing import interleaved

DTYPE = "mixed_bfloat16"
SECONDS = 2.5
WORST = 0.05  # relative: bfloat16 keeps 8 bits, and PyTorch rounds outputs and states as well


def run(options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        rows = [_measure(setting, cell, shape) for shape in shapes.select(shapes.STEP, options.rows)]
        _print(setting, cell, rows)
        _bars(rows)
        figures.append({"cell": cell, "rows": rows})
    return {"cells": figures}


def _measure(setting: Setting, cell: str, shape: Shape) -> dict[str, Any]:
    contestants: list[agreement.Contestant] = []
    if setting.ours:
        contestants = [ours.Layer(cell, shape, dtype, setting.threads) for dtype in (DTYPE, "float32")]
        contestants[1].name += ", float32"
    if setting.torch:
        contestants.append(setting.torch.Autocast(cell, shape))
    difference = agreement.require(contestants, "float32", tolerance=WORST)
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(SECONDS))
    flops = layer_flops(GATES[cell], shape)
    gflops = {name: flops / setting.seconds(timing) / 1e9 for name, timing in timings.items()}
    return {
        "shape": shape,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "gflops": gflops,
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "x float32": report.ratio(gflops.get("rnncore"), gflops.get("rnncore, float32")),
        "x PyTorch": report.ratio(gflops.get("rnncore"), gflops.get("PyTorch, autocast")),
    }


def _print(setting: Setting, cell: str, rows: list[dict[str, Any]]) -> None:
    names = ("rnncore", "rnncore, float32", "PyTorch, autocast")
    lines: list[list[report.Cell]] = [
        [
            shapes.number(row["shape"]),
            report.label(row),
            *(row["gflops"].get(name) for name in names),
            row["x float32"],
            row["x PyTorch"],
            row["difference"],
        ]
        for row in rows
    ]
    means = [report.geometric_mean(row[name] for row in rows) for name in ("x float32", "x PyTorch")]
    lines.append(["", "geometric mean", None, None, None, *means, None])
    columns = [("#", ""), ("B, T, D, H", ""), *((name, ".0f") for name in names)]
    columns += [("x float32", ".2f"), ("x PyTorch", ".2f"), ("difference", ".4f")]
    report.table(f"{setting.title('layer', cell)} · GFLOP/s · {_way()}", columns, lines)
    report.footnotes(rows)


def _way() -> str:
    """What multiplies here."""
    from rnncore._core import kernels

    found = kernels.config()
    if found["tiles"] in ("permitted", "emulated"):
        return f"AMX tiles ({found['tiles']})"
    return "AVX-512 BF16" if "bf16" in found["extensions"] else "float32's multiply-adds on rounded numbers"


def _bars(rows: list[dict[str, Any]]) -> None:
    """What mixed precision is for: only where there are instructions for it."""
    if "rounded" in _way():
        return
    many = [row for row in rows if row["shape"].B >= 16]
    report.at_least("geometric mean against PyTorch, B >= 16", report.geometric_mean(r["x PyTorch"] for r in many), 1.7)
    report.at_least("worst row against PyTorch, B >= 16", report.least(*(r["x PyTorch"] for r in many)), 1.2)
    large = [row["x float32"] for row in rows if row["shape"].B >= 32 and row["shape"].H >= 128]
    report.at_least(
        "worst row against float32, B >= 32, H >= 128", report.least(*large), 3.0 if "AMX" in _way() else 1.5
    )
    report.at_least("worst row against float32", report.least(*(row["x float32"] for row in rows)), 1.0)
