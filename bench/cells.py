"""`bench cells`: every cell, and every option that changes its kernel, beside its products alone.

Products cannot be timed alone from Python. The engine's own rate is that of an Elman layer with identity activation
of the same shape, which does next to nothing but products, timed in turn with the cell. Its matrices are narrower than
those of a cell with many gates; layers as wide as these are at most 7 % faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from bench import report, shapes, weights
from bench.setting import Setting
from bench.shapes import Shape
from bench.timing import interleaved

SECONDS = 1.0
SHAPES = [Shape(32, 20, 128, 128), Shape(64, 20, 128, 256)]
OUTPUTS = 32


class Case(NamedTuple):
    """A cell with some of its options."""

    cell: str
    label: str
    options: dict[str, Any]
    projected: bool = False  # to H/2 numbers


PRODUCTS = Case("elman", "identity", {"activation": "identity"})

CASES = [
    Case("elman", "", {}),
    Case("elman", "zoneout", {"zoneout": 0.1}),
    Case("elman", "binary", {"activation": "binary"}),
    Case("lstm", "", {}),
    Case("lstm", "zoneout", {"zoneout": 0.1}),
    Case("lstm", "peepholes", {"peepholes": True}),
    Case("lstm", "FGR", {"variant": "FGR"}),
    Case("lstm", "1997", {"variant": "1997"}),
    Case("lstm", "projection", {}, projected=True),
    Case("lstm", "layer norm", {"layer_norm": True}),
    Case("lstm", "layer norm, projection", {"layer_norm": True}, projected=True),
    Case("gru", "reset after", {}),
    Case("gru", "reset before", {"reset": "before"}),
    Case("mut1", "", {}),
    Case("mut2", "", {}),
    Case("mut3", "", {}),
    Case("mgu", "", {}),
    Case("indrnn", "", {}),
    Case("ctrnn", "euler", {}),
    Case("ctrnn", "rk4", {"solver": "rk4"}),
    Case("second_order", "", {}),
    Case("second_order", "augmented", {"augmented": True, "accept_units": 1}),
    Case("jordan", f"{OUTPUTS} outputs", {"outputs": OUTPUTS}),
    Case("jordan", f"{OUTPUTS} outputs, hidden feedback", {"outputs": OUTPUTS, "hidden_feedback": True}),
]


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options)
    known = {case.cell for case in CASES}
    unknown = sorted(set(options.cell) - known)
    if unknown:
        raise SystemExit(f"bench: --cell: expected some of {', '.join(sorted(known))}, got {', '.join(unknown)}")
    chosen = [case for case in CASES if not options.cell or case.cell in options.cell]
    rows = [_measure(setting, case, shape) for shape in shapes.select(SHAPES, options.rows) for case in chosen]
    _print(setting, rows)
    return {"rows": rows}


def _training(setting: Setting, case: Case, shape: Shape) -> tuple[Callable[[], None], int]:
    """Forward + backward with dX of one layer, and the floating-point operations of its products."""
    import rnncore as rc

    options = case.options | ({"proj_size": shape.H // 2} if case.projected else {})
    layer = rc.Recurrent(case.cell, shape.D, shape.H, dtype=setting.dtype, n_threads=setting.threads, **options)
    x = weights.inputs(shape, setting.dtype)
    dy = weights.output_gradient(shape._replace(H=layer.output_size), setting.dtype)

    def call() -> None:
        layer.forward(x)
        layer.backward(dy)

    # A weight takes part in three products per row, in each stage: forward, its own gradient, and that of what it
    # multiplies.
    matrices = {name: array.size for name, array in layer.params.items() if array.ndim == 2}
    often = sum(size * (1 if name.endswith("W_xh") else layer.plan.stages) for name, size in matrices.items())
    return call, 6 * shape.B * shape.T * often


def _measure(setting: Setting, case: Case, shape: Shape) -> dict[str, Any]:
    call, flops = _training(setting, case, shape)
    products, product_flops = _training(setting, PRODUCTS, shape)
    timings = interleaved({"cell": call, "products": products}, setting.budget(SECONDS))
    seconds = setting.seconds(timings["cell"])
    rate = product_flops / setting.seconds(timings["products"])
    return {
        "cell": case.cell,
        "options": case.label,
        "shape": shape,
        "crowded": setting.crowded(timings),
        "ms": seconds * 1e3,
        "gflops": flops / seconds / 1e9,
        "products' gflops": rate / 1e9,
        "x products": seconds * rate / flops,
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
    }


def _print(setting: Setting, rows: list[dict[str, Any]]) -> None:
    keys = ("ms", "gflops", "products' gflops", "x products")
    lines: list[list[report.Cell]] = [
        [row["cell"], row["options"], report.label(row), *(row[key] for key in keys)] for row in rows
    ]
    columns = [("cell", ""), ("options", ""), ("B, T, D, H", ""), ("ms", "ms"), ("GFLOP/s", ".0f")]
    columns += [("products'", ".0f"), ("x products", ".2f")]
    title = setting.title("every cell", "forward + backward with dX")
    report.table(f"{title} · beside its products at the rate of an identity Elman layer", columns, lines)
    report.footnotes(rows)
    report.at_most("worst x products", report.most(*(row["x products"] for row in rows)), 1.6)
