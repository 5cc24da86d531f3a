"""Clockwork networks beside simple ones of as many units: what it saves that slow modules rest."""

from __future__ import annotations

import argparse
from typing import Any

from bench import report, weights
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved

SECONDS = 4.0
PERIODS = [2**i for i in range(8)]
SHAPES = [Shape(16, 256, 256, 1024), Shape(32, 128, 128, 512), Shape(1, 320, 64, 256)]
FASTER = 1.5  # times, of the first shape


def run(options: argparse.Namespace) -> dict[str, Any]:
    import rnncore as rc

    setting = Setting.of(options)
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        common = {"dtype": setting.dtype, "n_threads": setting.threads}
        x, dy = weights.inputs(shape, setting.dtype), weights.output_gradient(shape, setting.dtype)
        nets: dict[str, Any] = {
            "simple": rc.Recurrent("elman", shape.D, shape.H, **common),
            "clockwork": rc.models.Clockwork(shape.D, shape.H // len(PERIODS), PERIODS, None, **common),
        }

        def call(net: Any, x: Any = x, dy: Any = dy) -> None:
            net.forward(x)
            net.backward(dy)

        timings = interleaved({name: lambda net=net: call(net) for name, net in nets.items()}, setting.budget(SECONDS))
        seconds = {name: setting.seconds(timing) for name, timing in timings.items()}
        rows.append(
            {
                "shape": shape,
                "crowded": setting.crowded(timings),
                "ms": {name: each * 1e3 for name, each in seconds.items()},
                "x": report.ratio(seconds["simple"], seconds["clockwork"]),
                "timings": {name: timing.as_dict() for name, timing in timings.items()},
            }
        )
    lines: list[list[report.Cell]] = [[report.label(row), *row["ms"].values(), row["x"]] for row in rows]
    columns = [("B, T, D, H", ""), ("simple", "ms"), ("clockwork", "ms"), ("x", ".2f")]
    report.table(
        setting.title("clockwork, 8 modules of periods 1 to 128", "forward + backward with dX"), columns, lines
    )
    report.footnotes(rows)
    report.at_least(f"times as fast as a simple network, {SHAPES[0]}", rows[0]["x"], FASTER, ".2f")
    return {"rows": rows}
