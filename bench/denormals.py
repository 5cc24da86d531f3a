"""`bench denormals`: a training step whose numbers die away into denormals, beside one of its size that does not."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import rnncore as rc
from bench import report
from bench.setting import Setting
from bench.timing import interleaved

B, T, D, H = 16, 100, 64, 128
KINDS = ("normal", "denormal")


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options)
    rows: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        timings = interleaved({name: _step(cell, setting, name) for name in KINDS}, setting.budget(6.0))
        seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
        rows.append({"cell": cell, "ms": {name: value * 1e3 for name, value in seconds.items()}})
    lines: list[list[report.Cell]] = [
        [row["cell"], row["ms"]["normal"], row["ms"]["denormal"], row["ms"]["denormal"] / row["ms"]["normal"]]
        for row in rows
    ]
    report.table(
        f"denormals, {setting.dtype}, {setting.threads} thread(s) · B, T, D, H = {B}, {T}, {D}, {H}",
        [("cell", ""), ("normal", "ms"), ("denormal", "ms"), ("ratio", ".2f")],
        lines,
    )
    return {"rows": rows}


def _step(cell: str, setting: Setting, name: str) -> Any:
    """Return a step: with tiny weights gradients, and with tiny inputs outputs, are denormal after a few steps."""
    layer = rc.Recurrent(cell, D, H, dtype=setting.dtype, n_threads=setting.threads, random_state=0)
    tiny = float(np.finfo(setting.dtype).tiny)
    x = np.random.default_rng(0).standard_normal((T, B, D)).astype(setting.dtype)
    dy = np.zeros((T, B, H), setting.dtype)
    dy[-1] = 1.0
    if name == "denormal":
        layer.theta *= 1e-2
        x *= tiny
        dy *= tiny
    return lambda: _once(layer, x, dy)


def _once(layer: rc.Recurrent, x: np.ndarray, dy: np.ndarray) -> None:
    layer.forward(x)
    layer.backward(dy)
