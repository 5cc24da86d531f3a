"""`bench layer`: forward + backward with dX, no head, no optimizer: GFLOP/s and share of the measured peak."""

from __future__ import annotations

import argparse
from typing import Any

from bench import agreement, layer_mixed, ours, published, report, shapes
from bench.setting import Setting
from bench.shapes import GATES, Shape, layer_flops
from bench.timing import Peak, interleaved

SECONDS = 2.5


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    if setting.dtype == layer_mixed.DTYPE:
        return layer_mixed.run(options, setting)
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        rows = [_measure(setting, cell, shape) for shape in shapes.select(shapes.STEP, options.rows)]
        for row in rows:
            _add_ratios(row)
        _print(setting, cell, rows)
        _bars(setting, cell, rows)
        odd = [] if options.rows or not setting.ours else _odd(setting, cell)
        figures.append({"cell": cell, "rows": rows, "odd": odd})
    return {"cells": figures}


def _contestants(setting: Setting, cell: str, shape: Shape) -> list[agreement.Contestant]:
    contestants: list[agreement.Contestant] = []
    if setting.ours:
        contestants.append(ours.Layer(cell, shape, setting.dtype, setting.threads))
    if setting.torch:
        contestants.append(setting.torch.Layer(cell, shape, setting.dtype))
    return contestants


def _measure(setting: Setting, cell: str, shape: Shape) -> dict[str, Any]:
    contestants = _contestants(setting, cell, shape)
    difference = agreement.require(contestants, setting.dtype)
    peak = Peak(setting.dtype, setting.threads)
    if setting.ours:
        peak.look(3)
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(SECONDS))
    if setting.ours:
        peak.look(2)
    comparable = setting.dtype == "float32" and setting.threads == 1
    onednn, libxsmm = published.raw_gflops(cell, shape) if comparable else (None, None)
    flops = layer_flops(GATES[cell], shape)
    return {
        "shape": shape,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "gflops": {name: flops / setting.seconds(timing) / 1e9 for name, timing in timings.items()},
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "peak": peak.best or None,
        "oneDNN": report.ratio(onednn, published.machine().peak),
        "libxsmm": report.ratio(libxsmm, published.machine().peak),
    }


def _add_ratios(row: dict[str, Any]) -> None:
    """Shares of the peak, and what follows from them."""
    gflops = row["gflops"]
    row["share"] = report.ratio(gflops.get("rnncore"), row["peak"])
    row["x raw"] = report.ratio(row["share"], report.most(row["oneDNN"], row["libxsmm"]))
    row["x PyTorch"] = report.ratio(gflops.get("rnncore"), gflops.get("PyTorch"))


def _print(setting: Setting, cell: str, rows: list[dict[str, Any]]) -> None:
    lines: list[list[report.Cell]] = [
        [
            shapes.number(row["shape"]),
            report.label(row),
            row["gflops"].get("rnncore"),
            *(row[name] for name in ("share", "oneDNN", "libxsmm", "x raw")),
            row["gflops"].get("PyTorch"),
            row["x PyTorch"],
        ]
        for row in rows
    ]
    means = [report.geometric_mean(row[name] for row in rows) for name in ("x raw", "x PyTorch")]
    lines.append(["", "geometric mean", None, None, None, None, means[0], None, means[1]])
    title = f"{setting.title('layer', cell)} · GFLOP/s"
    peaks = [row["peak"] for row in rows if row["peak"]]
    if peaks:
        title += f" and shares of peak: {min(peaks):.0f}-{max(peaks):.0f} here, beside each row; "
        title += f"{published.machine().peak:.0f} for raw oneDNN and libxsmm ({published.machine().name})"
    columns = [("#", ""), ("B, T, D, H", ""), ("rnncore", ".0f"), ("share", ".1%"), ("oneDNN", ".1%")]
    columns += [("libxsmm", ".1%"), ("x better raw", ".2f"), ("PyTorch", ".0f"), ("x PyTorch", ".2f")]
    report.table(title, columns, lines)
    report.footnotes(rows)


def _bars(setting: Setting, cell: str, rows: list[dict[str, Any]]) -> None:
    raw = [row["x raw"] for row in rows if row["x raw"] is not None]
    report.at_least("worst row against the better raw library", report.least(*raw), 0.95)
    if len(raw) == len(shapes.STEP):
        report.at_least("geometric mean against it", report.geometric_mean(raw), 1.0)
    if setting.threads == 1:
        shares = [row["share"] for row in rows if row["shape"].is_big and row["shape"].T >= 20]
        report.at_least("least share of peak where B >= 32, H >= 256, T >= 20", report.least(*shares), 0.85, ".1%")
    if setting.dtype == "float64":
        report.at_least("worst row against PyTorch", report.least(*(row["x PyTorch"] for row in rows)), 1.0)


def _odd(setting: Setting, cell: str) -> list[dict[str, Any]]:
    """Sizes that fit no tile beside round neighbours, per floating-point operation, interleaved with them."""
    measured: list[dict[str, Any]] = []
    for odd, neighbours in shapes.ODD:
        agreement.require(_contestants(setting, cell, odd), setting.dtype)
        sizes = [odd, *neighbours]
        calls = {str(size): ours.Layer(cell, size, setting.dtype, setting.threads).call for size in sizes}
        timings = interleaved(calls, setting.budget(SECONDS))
        gflops = {size: layer_flops(GATES[cell], size) / setting.seconds(timings[str(size)]) / 1e9 for size in sizes}
        for size in neighbours:
            row = {
                "shape": odd,
                "crowded": setting.crowded(timings),
                "gflops": gflops[odd],
                "neighbour": size,
                "its gflops": gflops[size],
            }
            measured.append({**row, "relative": gflops[odd] / gflops[size]})
    columns = [("B, T, D, H", ""), ("rnncore", ".0f"), ("neighbour", ""), ("its", ".0f"), ("relative", ".2f")]
    keys = ("gflops", "neighbour", "its gflops", "relative")
    lines: list[list[report.Cell]] = [
        [report.label(row), *(str(row[key]) if key == "neighbour" else row[key] for key in keys)] for row in measured
    ]
    report.table(f"{setting.title('odd sizes', cell)} · GFLOP/s", columns, lines)
    report.footnotes(measured)
    report.at_least("worst odd size against a neighbour", min(row["relative"] for row in measured), 0.88)
    return measured
