"""`bench translate`: a training step of an encoder and decoder with attention, beside the same network in PyTorch.

Its bar is what one layer reaches beside PyTorch's at the nearest shape of `bench step`, in the same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report, shapes, step
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved
from bench.weights import Arrays

RATE = 0.1
SHARE = 0.9  # of what a layer alone reaches


Make = Callable[[Setting, str, Any], list[agreement.Contestant]]


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
        return weights(self.net) | {"loss": np.array(self.loss)}


def weights(net: Any) -> Arrays:
    """Return all weights, those of both halves' layers by the names that contestants share."""
    found = {name: np.array(view) for name, view in net.params.items()}
    for half in ("encoder", "decoder"):
        for name in ("W_xh", "W_hh"):
            if f"{half}.layers.0.fwd.{name}" in found:
                found[f"{half}.{name}"] = found[f"{half}.layers.0.fwd.{name}"]
    return found


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
    rng = np.random.default_rng(0)
    source, targets = rng.integers(0, size.K, (size.S, size.B)), rng.integers(0, size.K, (size.B, size.L))
    return contestants(setting, network(cell, size, setting.dtype, setting.threads), cell, source, targets)


def contestants(
    setting: Setting, net: Any, cell: str, source: np.ndarray, targets: np.ndarray
) -> list[agreement.Contestant]:
    """Return both who train a network that writes."""
    from rnncore.nn.decoder import written

    found: list[agreement.Contestant] = [Ours(net, source, targets)] if setting.ours else []
    if setting.torch:
        from bench.translate_torch import Step

        given = written(targets, None, len(targets), net.symbols)
        found.append(Step(net, cell, source, given.read, given.write, RATE))
    return found


def _measure(setting: Setting, cell: str, size: Any, near: Shape, make: Make) -> dict[str, Any]:
    contestants = make(setting, cell, size)
    start = weights(contestants[0].net)  # type: ignore[attr-defined]
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
    return compare(options, "translate", "B, S, L, E, H, K", SIZES, _contestants)


def compare(
    options: argparse.Namespace, name: str, letters: str, sizes: Sequence[tuple[Any, Shape]], make: Make
) -> dict[str, Any]:
    """Time a step at each size, and a layer alone at the shape that is nearest."""
    setting = Setting.of(options, "torch")
    numbers = shapes.select([near for _, near in sizes], options.rows)
    figures: list[dict[str, Any]] = []
    for cell in setting.cells(options.cell):
        measured = [_measure(setting, cell, size, near, make) for size, near in sizes if near in numbers]
        lines: list[list[report.Cell]] = [
            [
                report.label(row),
                *(row["ms"].get(name) for name in ("rnncore", "PyTorch")),
                *(row[name] for name in ("x PyTorch", "layer alone", "share")),
            ]
            for row in measured
        ]
        report.table(
            f"{setting.title(name, cell)} · milliseconds a step, times faster, and a layer alone",
            [
                (letters, ""),
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
