"""`bench translate`: a training step of an encoder and decoder with attention, beside the same network in PyTorch.

Its bar is what one layer reaches beside PyTorch's at the nearest shape of `bench step`, in the same run.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report, shapes, step
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved
from bench.weights import Arrays

RATE = 0.1
SHARE = 0.9  # of what a layer alone reaches


class Size(NamedTuple):
    """Sequences, steps of the source and symbols of the target, vectors of symbols, units of the decoder; symbols."""

    B: int
    S: int
    L: int
    E: int
    H: int
    K: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))


#: and the shape of `bench step` that is nearest
SIZES = [
    (Size(16, 20, 20, 64, 64, 32), shapes.STEP[1]),
    (Size(50, 30, 30, 64, 128, 64), shapes.STEP[3]),
    (Size(64, 20, 20, 64, 256, 64), shapes.STEP[4]),
    (Size(32, 40, 40, 256, 512, 1000), shapes.STEP[5]),
]


class Ours:
    """`EncoderDecoder.train_step`."""

    name = "rnncore"

    def __init__(self, net: Any, source: np.ndarray, targets: np.ndarray) -> None:
        import rnncore as rc

        self.net, self.source, self.targets = net, source, targets
        self.optimizer, self.loss = rc.SGD(RATE), 0.0

    def call(self) -> None:
        self.loss = self.net.train_step(self.source, self.targets, self.optimizer)

    def results(self) -> Arrays:
        found = {name: np.array(view) for name, view in self.net.params.items()}
        for half in ("encoder", "decoder"):
            found[f"{half}.W_xh"] = found[f"{half}.layers.0.fwd.W_xh"]
            found[f"{half}.W_hh"] = found[f"{half}.layers.0.fwd.W_hh"]
        return found | {"loss": np.array(self.loss)}


def network(cell: str, size: Size, dtype: str, threads: int | None) -> Any:
    """Half of the units read in each direction, so that what is read is as wide as what is written."""
    import rnncore as rc

    encoder = rc.Recurrent(cell, size.E, size.H // 2, bidirectional=True, dtype=dtype, activation=_tanh(cell))
    decoder = rc.Recurrent(cell, size.E, size.H, dtype=dtype, activation=_tanh(cell), random_state=1)
    table = rc.Embedding(size.K, size.E)
    net = rc.EncoderDecoder(encoder, decoder, size.K, embedding=table, attention="general")
    net.n_threads = threads
    return net


def _tanh(cell: str) -> str | None:
    return "tanh" if cell == "elman" else None


def _contestants(setting: Setting, cell: str, size: Size) -> list[agreement.Contestant]:
    from rnncore.nn.decoder import written

    rng = np.random.default_rng(0)
    source, targets = rng.integers(0, size.K, (size.S, size.B)), rng.integers(0, size.K, (size.B, size.L))
    net = network(cell, size, setting.dtype, setting.threads)
    contestants: list[agreement.Contestant] = [Ours(net, source, targets)] if setting.ours else []
    if setting.torch:
        from bench.translate_torch import Step

        given = written(targets, None, size.B, size.K)
        contestants.append(Step(net, cell, source, given.read, given.write, RATE))
    return contestants


def _measure(setting: Setting, cell: str, size: Size, near: Shape) -> dict[str, Any]:
    contestants = _contestants(setting, cell, size)
    start = {name: np.array(view) for name, view in network(cell, size, setting.dtype, None).params.items()}
    for half in ("encoder", "decoder"):
        for name in ("W_xh", "W_hh"):
            start[f"{half}.{name}"] = start[f"{half}.layers.0.fwd.{name}"]
    difference = agreement.require(contestants, setting.dtype, start)
    timings = interleaved({c.name: c.call for c in contestants}, setting.budget(6.0))
    seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
    alone = step._measure(setting, cell, near)["x PyTorch"]
    ratio = report.ratio(seconds.get("PyTorch"), seconds.get("rnncore"))
    return {
        "shape": size,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "ms": {name: value * 1e3 for name, value in seconds.items()},
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
        "x PyTorch": ratio,
        "layer alone": alone,
        "share": report.ratio(ratio, alone),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    numbers = shapes.select([near for _, near in SIZES], options.rows)
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        measured = [_measure(setting, cell, size, near) for size, near in SIZES if near in numbers]
        lines: list[list[report.Cell]] = [
            [
                report.label(row),
                *(row["ms"].get(name) for name in ("rnncore", "PyTorch")),
                *(row[name] for name in ("x PyTorch", "layer alone", "share")),
            ]
            for row in measured
        ]
        report.table(
            f"{setting.title('translate', cell)} · milliseconds a step, times faster, and a layer alone",
            [
                ("B, S, L, E, H, K", ""),
                *((name, "ms") for name in ("rnncore", "PyTorch")),
                *((name, ".2f") for name in ("x PyTorch", "layer alone", "share")),
            ],
            lines,
        )
        report.footnotes(measured)
        for row in measured:
            report.at_least(f"({row['shape']}) of what a layer alone reaches", row["share"], SHARE)
        figures.append({"cell": cell, "rows": measured})
    return {"cells": figures}
