"""`bench torch`: a PyTorch script (forward, backward, SGD) with rnncore.torch's modules beside torch.nn's."""

from __future__ import annotations

import argparse
from typing import Any

from bench import agreement, report, shapes, weights
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved

CELLS = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}
BARS = {"elman": 1.8, "lstm": 1.1, "gru": 1.8}
LEARNING_RATE = 0.1


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    if not setting.torch or not setting.ours:
        raise SystemExit("bench: torch compares rnncore with PyTorch: install PyTorch, and leave out --peers-only")
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        rows = [
            _measure(setting, cell, shape, ragged)
            for ragged in (False, True)
            for shape in shapes.select(shapes.RAGGED, options.rows)
        ]
        _print(setting, cell, rows)
        figures.append({"cell": cell, "rows": rows})
    ragged = [row["x PyTorch"] for figure in figures for row in figure["rows"] if row["ragged"]]
    report.at_least("geometric mean on PackedSequences", report.geometric_mean(ragged), 3.5)
    report.at_least("worst row on PackedSequences", report.least(*ragged), 2.5)
    return {"cells": figures}


def _measure(setting: Setting, cell: str, shape: Shape, ragged: bool) -> dict[str, Any]:
    import rnncore.torch

    assert setting.torch
    lengths = weights.lengths(shape) if ragged else None
    kinds = {"rnncore": getattr(rnncore.torch, CELLS[cell]), "PyTorch": None}
    contestants = [
        setting.torch.Script(name, kind, cell, shape, setting.dtype, lengths, LEARNING_RATE)
        for name, kind in kinds.items()
    ]
    start = weights.initial(cell, shape, setting.dtype)
    difference = agreement.require(contestants, setting.dtype, start)
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(5.0))
    seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
    return {
        "shape": shape,
        "ragged": ragged,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "ms": {name: value * 1e3 for name, value in seconds.items()},
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "x PyTorch": report.ratio(seconds["PyTorch"], seconds["rnncore"]),
    }


def _print(setting: Setting, cell: str, rows: list[dict[str, Any]]) -> None:
    lines: list[list[report.Cell]] = [
        [
            report.label(row),
            "PackedSequence" if row["ragged"] else "full",
            row["ms"]["rnncore"],
            row["ms"]["PyTorch"],
            row["x PyTorch"],
        ]
        for row in rows
    ]
    columns = [("B, T, D, H", ""), ("batch", ""), ("rnncore.torch", "ms"), ("torch.nn", "ms"), ("x faster", ".2f")]
    report.table(f"{setting.title('torch', cell)} · forward + backward + SGD, milliseconds", columns, lines)
    report.footnotes(rows)
    full = report.least(*(row["x PyTorch"] for row in rows if not row["ragged"]))
    report.at_least(f"worst full row against torch.nn.{CELLS[cell]}", full, BARS[cell])
