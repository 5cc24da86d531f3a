"""`bench session`: one forward pass from given states, float32: sessions beside what serves recurrent networks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from bench import agreement, ours, report, session_weights, shapes
from bench.setting import Setting
from bench.shapes import GATES, Shape
from bench.timing import Peak, Timing, interleaved

SECONDS = 4.0
TOLERANCE = 1e-4
PEERS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}
STREAM = Shape(1, 1, 64, 64)
STREAM_MICROSECONDS = 4.0


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.dtype[0] in session_weights.KINDS:
        return session_weights.run(options)
    if options.dtype != ["float32"]:
        raise SystemExit(f"bench: session: --dtype must be float32 or one of {', '.join(session_weights.KINDS)}")
    setting = Setting.of(options, *PEERS)
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        rows = [_measure(setting, cell, shape) for shape in shapes.select(shapes.SESSION, options.rows)]
        _print(setting, cell, rows)
        figures.append({"cell": cell, "rows": rows})
    _bars([row for figure in figures for row in figure["rows"]])
    stream = _stream(setting) if setting.ours and "elman" in options.cell and not options.rows else None
    return {"cells": figures, "stream": stream}


def _contestants(setting: Setting, cell: str, shape: Shape) -> list[Any]:
    """Ours, then every form of every peer."""
    contestants: list[Any] = [ours.Session(cell, shape, setting.threads)] if setting.ours else []
    for name in PEERS:
        module = getattr(setting, name)
        if module:
            contestants += module.forms(cell, shape, setting.threads)
    return contestants


def _measure(setting: Setting, cell: str, shape: Shape) -> dict[str, Any]:
    contestants = _contestants(setting, cell, shape)
    difference = agreement.require(contestants, setting.dtype, tolerance=TOLERANCE)
    peak = Peak(setting.dtype, setting.threads)
    if setting.ours:
        peak.look(3)
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(SECONDS))
    if setting.ours:
        peak.look(2)
    forms = _fastest(setting, contestants, timings)
    seconds = {peer: setting.seconds(timings[name]) for peer, name in forms.items()}
    mine = seconds.get("rnncore")
    fastest = report.least(*(value for peer, value in seconds.items() if peer != "rnncore"))
    return {
        "shape": shape,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "forms": forms,
        "us": {peer: value * 1e6 for peer, value in seconds.items()},
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "gflops": report.ratio(shapes.forward_flops(GATES[cell], shape) / 1e9, mine),
        "peak": peak.best or None,
        "x fastest": report.ratio(fastest, mine),
    }


def _fastest(setting: Setting, contestants: Iterable[Any], timings: dict[str, Timing]) -> dict[str, str]:
    """The fastest form of each: peer -> name."""
    best: dict[str, str] = {}
    for c in contestants:
        if c.peer not in best or setting.seconds(timings[c.name]) < setting.seconds(timings[best[c.peer]]):
            best[c.peer] = c.name
    return best


def _print(setting: Setting, cell: str, rows: list[dict[str, Any]]) -> None:
    lines: list[list[report.Cell]] = [
        [
            shapes.number(row["shape"], shapes.SESSION),
            report.label(row),
            row["us"].get("rnncore"),
            *(row["us"].get(peer) for peer in PEERS.values()),
            row["x fastest"],
            row["gflops"],
            report.ratio(row["gflops"], row["peak"]),
        ]
        for row in rows
    ]
    mean = report.geometric_mean(row["x fastest"] for row in rows)
    lines.append(["", "geometric mean", None, *(None for _ in PEERS), mean, None, None])
    columns = [("#", ""), ("B, T, D, H", ""), ("rnncore", "ms"), *((peer, "ms") for peer in PEERS.values())]
    columns += [("x fastest", ".2f"), ("GFLOP/s", ".1f"), ("of peak", ".0%")]
    report.table(f"{setting.title('session', cell)} · microseconds", columns, lines)
    report.footnotes(rows)


def _bars(rows: list[dict[str, Any]]) -> None:
    ratios = [row["x fastest"] for row in rows]
    print()
    report.at_least("worst row against the fastest peer", report.least(*ratios), 0.97)
    report.at_least("geometric mean against it", report.geometric_mean(ratios), 1.3)


def _stream(setting: Setting) -> float:
    """One step of a small Elman network, as a caller in Python sees it: microseconds."""
    contestant = ours.Session("elman", STREAM, setting.threads)
    timing = interleaved({"step": contestant.call}, setting.budget(SECONDS))["step"]
    microseconds = setting.seconds(timing) * 1e6
    report.at_most(f"elman, {STREAM}: one step, microseconds", microseconds, STREAM_MICROSECONDS)
    return microseconds
