"""`bench session --dtype bfloat16 | int8`: sessions on weights of fewer bits, beside what serves networks so.

Everyone's error is that of the outputs against the same layer in float64, relative to their norm: nobody agrees to the
last digit, and a faster answer counts only if it is no worse.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench import ours, report, shapes, weights
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved

KINDS = {"bfloat16": "OpenVINO", "int8": "ONNX Runtime"}  # and who does it
SECONDS = 3.0
WORST = {"bfloat16": 0.02, "int8": 0.05}  # errors of somebody who computes something else are larger


def run(options: argparse.Namespace) -> dict[str, Any]:
    kind = options.dtype[0]
    setting = Setting.of(options, "openvino" if kind == "bfloat16" else "onnxruntime")
    figures = []
    for cell in setting.cells(options.cell):
        if kind == "int8" and cell != "lstm" and not options.peers_only:
            print(f"({cell}: {KINDS[kind]} leaves its weights as they are)")
        rows = [_measure(setting, kind, cell, shape) for shape in shapes.select(shapes.SESSION, options.rows)]
        _print(setting, kind, cell, rows)
        figures.append({"cell": cell, "rows": rows})
    return {"cells": figures}


def _contestants(setting: Setting, kind: str, cell: str, shape: Shape) -> list[Any]:
    made: list[Any] = []
    if setting.ours:
        made += [ours.Session(cell, shape, setting.threads, kind), ours.Session(cell, shape, setting.threads)]
        made[1].name = made[1].peer = "float32"
    if setting.openvino:
        made += setting.openvino.forms(cell, shape, setting.threads, "bf16")
    if setting.onnxruntime:
        made += setting.onnxruntime.forms(cell, shape, setting.threads, cell == "lstm")
    return made


def exact(cell: str, shape: Shape) -> np.ndarray:
    """Return the outputs in float64 (T, B, H), by our own layers: checked against everyone elsewhere."""
    import rnncore as rc

    layer = rc.Recurrent(cell, input_size=shape.D, hidden_size=shape.H, dtype="float64")
    ours.assign(layer.params, weights.initial(cell, shape, "float32"))
    start = weights.states(shape, "float32", len(layer.state_widths))
    return layer.forward(
        weights.inputs(shape, "float32").astype(float), tuple(s[None].astype(float) for s in start), training=False
    )[0]


def _measure(setting: Setting, kind: str, cell: str, shape: Shape) -> dict[str, Any]:
    contestants = _contestants(setting, kind, cell, shape)
    expected = exact(cell, shape)
    errors: dict[str, float] = {}
    for each in contestants:
        each.call()
        error = float(np.linalg.norm(each.results()["y"] - expected) / np.linalg.norm(expected))
        if not error <= WORST[kind]:
            raise SystemExit(f"bench: {each.name} is {error:.1%} off: nothing more is timed")
        errors[each.peer] = error
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(SECONDS))
    seconds: dict[str, float] = {}
    for each in contestants:
        seconds[each.peer] = min(seconds.get(each.peer, np.inf), setting.seconds(timings[each.name]))
    return {
        "shape": shape,
        "errors": errors,
        "crowded": setting.crowded(timings),
        "us": {peer: value * 1e6 for peer, value in seconds.items()},
        "x peer": report.ratio(seconds.get(KINDS[kind]), seconds.get("rnncore")),
        "x float32": report.ratio(seconds.get("float32"), seconds.get("rnncore")),
    }


def _print(setting: Setting, kind: str, cell: str, rows: list[dict[str, Any]]) -> None:
    who = ["rnncore", "float32", KINDS[kind]]
    lines: list[list[report.Cell]] = [
        [
            shapes.number(row["shape"], shapes.SESSION),
            report.label(row),
            *(row["us"].get(name) for name in who),
            row["x peer"],
            row["x float32"],
            row["errors"].get("rnncore"),
            row["errors"].get(KINDS[kind]),
        ]
        for row in rows
    ]
    means = [report.geometric_mean(row[name] for row in rows) for name in ("x peer", "x float32")]
    lines.append(["", "geometric mean", None, None, None, *means, None, None])
    columns = [("#", ""), ("B, T, D, H", ""), ("rnncore", "ms"), ("in float32", "ms"), (KINDS[kind], "ms")]
    columns += [("x", ".2f"), ("x float32", ".2f"), ("error", ".1e"), ("its error", ".1e")]
    report.table(f"{setting.title('session', cell)} · microseconds", columns, lines)
    report.at_least("worst row against it", report.least(*(row["x peer"] for row in rows)), 1.0)
