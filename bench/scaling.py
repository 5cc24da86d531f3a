"""`bench scaling`: the same step and layer with one thread and with several, interleaved in one process."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import rnncore as rc
from bench import ours, report, shapes
from bench.setting import Setting
from bench.shapes import Shape
from bench.step import LEARNING_RATE, OUTPUTS
from bench.timing import interleaved

SAME_BITS_THREADS = (1, 2, 3, 8)
READ = Shape(16, 20, 64, 64)
CALLS = 20


def run(options: argparse.Namespace) -> dict[str, Any]:
    rows = shapes.select(shapes.STEP, options.rows)
    if not options.rows:
        rows = [shape for shape in rows if shape.is_big]
    counts = sorted({1, *options.threads})
    figures: list[dict[str, Any]] = []
    setting = Setting.of(options)
    for cell in setting.cells(options.cell):
        for dtype in options.dtype:
            measured = [_measure(setting, cell, shape, dtype, counts) for shape in rows]
            _print(setting, cell, dtype, counts, measured)
            figures.append({"cell": cell, "dtype": dtype, "rows": measured})
    return {"cells": figures, "readers": _readers(setting, max(counts)) if max(counts) > 1 else None}


def _readers(setting: Setting, count: int) -> float:
    """How many times one Python thread's predictions several make from one network, each with one thread of ours."""
    net = rc.Network(rc.Recurrent("lstm", READ.D, READ.H, n_threads=1), head=rc.Softmax(OUTPUTS))
    x = np.random.default_rng(0).standard_normal((READ.T, READ.B, READ.D), np.float32)

    def predict(_: object = None) -> None:
        for _ in range(CALLS):
            net.predict(x)

    with ThreadPoolExecutor(count) as executor:
        calls = {"one": predict, "all": lambda: list(executor.map(predict, range(count)))}
        timings = interleaved(calls, setting.budget(4.0))
    gain = count * setting.seconds(timings["one"]) / setting.seconds(timings["all"])
    report.at_least(f"{count} Python threads predicting from one network: throughput", gain, 0.9 * count)
    return gain


def _measure(setting: Setting, cell: str, shape: Shape, dtype: str, counts: list[int]) -> dict[str, Any]:
    budget = setting.budget(4.0)
    steps = {str(n): ours.Step(cell, shape, dtype, OUTPUTS, LEARNING_RATE, n).call for n in counts}
    layers = {str(n): ours.Layer(cell, shape, dtype, n).call for n in counts}
    step, layer = interleaved(steps, budget), interleaved(layers, budget)
    return {
        "shape": shape,
        "crowded": setting.crowded(step) or setting.crowded(layer),
        "step": {name: setting.seconds(timing) * 1e3 for name, timing in step.items()},
        "layer": {name: setting.seconds(timing) * 1e3 for name, timing in layer.items()},
        "same bits": _same_bits(cell, shape, dtype),
    }


def _same_bits(cell: str, shape: Shape, dtype: str) -> bool:
    """Whether three training steps leave the same weights for any number of threads."""
    thetas = []
    for threads in SAME_BITS_THREADS:
        contestant = ours.Step(cell, shape, dtype, OUTPUTS, LEARNING_RATE, threads)
        for _ in range(3):
            contestant.call()
        thetas.append(contestant.net.theta.tobytes())
    return len(set(thetas)) == 1


def _print(setting: Setting, cell: str, dtype: str, counts: list[int], measured: list[dict[str, Any]]) -> None:
    several = [str(n) for n in counts if n > 1]
    columns = [("#", ""), ("B, T, D, H", "")]
    for kind in ("step", "layer"):
        columns += [(f"{kind}, 1 thread", "ms")]
        for n in several:
            columns += [(f"{n} threads", "ms"), ("speed-up", ".2f")]
    columns += [(f"same bits ({', '.join(map(str, SAME_BITS_THREADS))})", "")]
    lines: list[list[report.Cell]] = []
    for row in measured:
        line: list[report.Cell] = [shapes.number(row["shape"]), report.label(row)]
        for kind in ("step", "layer"):
            line.append(row[kind]["1"])
            for n in several:
                line += [row[kind][n], row[kind]["1"] / row[kind][n]]
        lines.append([*line, "yes" if row["same bits"] else "NO"])
    which = " · fastest rounds" if setting.best else ""
    report.table(f"scaling · {cell} · {dtype}{which} · milliseconds", columns, lines)
    report.footnotes(measured)
    if "2" in several:
        for kind in ("step", "layer"):
            speedups = [row[kind]["1"] / row[kind]["2"] for row in measured if row["shape"].is_big]
            report.at_least(f"least speed-up of the {kind} with 2 threads", report.least(*speedups), 1.8)
    report.at_least("rows with the same bits", float(np.mean([row["same bits"] for row in measured])), 1.0, ".0%")
