"""`bench classify --part step`: minibatches of each task as `fit` makes and learns them, beside the same in PyTorch.

Ten passes, the fewest that `fit` makes, over eight minibatches: encoding, shuffling, gathering, noise, dropout, the
network, clipping and Adam. Its bar is what one layer reaches beside PyTorch's at the nearest shape of `bench step`, in
the same run; H is that of both directions together. (PyTorch's layers have no recurrent dropout, and so do without.)
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from bench import agreement, report, shapes, step
from bench.classify import TASKS
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved
from bench.weights import Arrays

EPOCHS, MINIBATCHES = 10, 8  # of two passes the start of a fit is a quarter, where sequences are short
SHARE = 0.9  # of what a layer alone reaches
RATE = 0.1  # of plain SGD, where both are compared

#: What makes both do the same: nothing is drawn, and one minibatch is all there is.
PLAIN: dict[str, Any] = {
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "noise": 0.0,
    "optimizer": "sgd",
    "learning_rate": RATE,
    "schedule": None,
    "clip_norm": 1e9,  # PyTorch's norm counts its second biases, too
    "max_epochs": 1,
}


class Ours:
    """`SequenceClassifier.fit`."""

    name = "rnncore"

    def __init__(self, model: Any, X: Any, y: Any) -> None:
        self.model, self.X, self.y = model, X, y

    def call(self) -> None:
        self.model.fit(self.X, self.y)

    def results(self) -> Arrays:
        return weights(self.model.network_)


def weights(net: Any) -> Arrays:
    """Return the matrices (biases are two of PyTorch's)."""
    return {name: np.array(view) for name, view in net.params.items() if "W_" in name}


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    names = [name for name in TASKS if name not in ("permuted",)]  # as many pixels
    measured = [_measure(setting, name) for name in names]
    lines: list[list[report.Cell]] = [
        [
            f"{row['name']}, {row['cell']}",
            report.label(row),
            *(row["ms"].get(name) for name in ("rnncore", "PyTorch")),
            *(row[name] for name in ("x PyTorch", "layer alone", "share")),
            str(row["nearest"]),
        ]
        for row in measured
    ]
    report.table(
        f"{setting.title('classify step', 'gru, lstm')} · milliseconds a minibatch, times faster, and a layer alone",
        [
            ("", ""),
            ("B, T, D, H", ""),
            *((name, "ms") for name in ("rnncore", "PyTorch")),
            *((name, ".2f") for name in ("x PyTorch", "layer alone", "share")),
            ("layer at", ""),
        ],
        lines,
    )
    report.footnotes(measured)
    for row in measured:
        report.at_least(f"{row['name']}, of what a layer alone reaches", row["share"], SHARE)
    return {"rows": measured}


def _measure(setting: Setting, name: str) -> dict[str, Any]:
    import rnncore as rc

    task = TASKS[name]
    X, y, _, _ = task.read()
    made = rc.SequenceClassifier.preset(task.preset)
    size = made._batch_size(len(y))
    rows = np.linspace(0, len(y) - 1, min(len(y), size * MINIBATCHES)).astype(int)
    X, y = ([part[row] for row in rows.tolist()] for part in (X, y))
    common = {"n_threads": setting.threads, "dtype": setting.dtype}
    plain = made.set_params(**common, **PLAIN, batch_size=len(y))
    begun = rc.SequenceClassifier(**plain.get_params() | {"learning_rate": 0.0}).fit(X, y)
    difference = agreement.require(
        _contestants(setting, plain, begun, X, y), setting.dtype, weights(begun.network_), tolerance=1e-4
    )
    usual = rc.SequenceClassifier.preset(task.preset, **common, batch_size=size, max_epochs=EPOCHS)
    timings = interleaved({c.name: c.call for c in _contestants(setting, usual, begun, X, y)}, setting.budget(10.0))
    steps = EPOCHS * MINIBATCHES
    seconds = {key: setting.seconds(timing) / steps for key, timing in timings.items()}
    units = usual.hidden_size * (2 if usual.bidirectional else 1)
    shape = Shape(size, round(float(np.mean([len(part) for part in X]))), np.shape(X[0])[-1], units)
    near = nearest(shape)
    alone = step._measure(setting, usual.cell, near)["x PyTorch"]
    ratio = report.ratio(seconds.get("PyTorch"), seconds.get("rnncore"))
    return {
        "name": name,
        "cell": usual.cell,
        "shape": shape,
        "nearest": near,
        "difference": difference,
        "crowded": setting.crowded(timings),
        "ms": {key: value * 1e3 for key, value in seconds.items()},
        "x PyTorch": ratio,
        "layer alone": alone,
        "share": report.ratio(ratio, alone),
    }


def nearest(shape: Shape) -> Shape:
    """Return the row of `bench step` whose sizes differ by the smallest factors."""
    return min(shapes.STEP, key=lambda one: sum(abs(math.log(a / b)) for a, b in zip(one, shape, strict=True)))


def _contestants(setting: Setting, model: Any, begun: Any, X: Any, y: Any) -> list[agreement.Contestant]:
    found: list[agreement.Contestant] = [Ours(model, X, y)] if setting.ours else []
    if setting.torch:
        from bench.classify_torch import Training

        task = begun.specification_.task
        data = begun._encoded(begun._sequences(X), task.examples(X, y, begun._nouns).targets)
        found.append(Training(begun.network_, model, data))
    return found
