"""`bench memory`: what rnncore keeps for a training step, by its own account and by the operating system's."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench import report, shapes
from bench.setting import Setting
from bench.shapes import Shape

ALLOWED = 1.15
MIB = 2.0**20
OPTIMIZER, SLOTS = "adam", 2


def run(options: argparse.Namespace) -> dict[str, Any]:
    figures: list[dict[str, Any]] = []
    rows = shapes.select(shapes.STEP, options.rows)
    threads = max(options.threads)
    # A process of its own for each row: growth is only visible in a heap that no other row has stretched.
    fresh = multiprocessing.get_context("spawn")
    for cell in Setting.of(options).cells(options.cell):
        for dtype in options.dtype:
            with ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as pool:
                measured = list(
                    pool.map(_measure, *zip(*[(cell, shape, dtype, threads) for shape in rows], strict=True))
                )
            _print(cell, dtype, threads, measured)
            figures.append({"cell": cell, "dtype": dtype, "rows": measured})
    return {"cells": figures}


def _resident() -> int | None:
    """Bytes of this process in memory, where the system tells."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    kibibytes = next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))
    return int(kibibytes) * 1024


def _measure(cell: str, shape: Shape, dtype: str, threads: int) -> dict[str, Any]:
    from bench import ours, weights
    from bench.step import LEARNING_RATE, OUTPUTS

    # Code, thread pool and BLAS come in once, for any net; the data is the caller's. Count from after both.
    ours.Step(cell, Shape(1, 2, 3, 4), dtype, OUTPUTS, LEARNING_RATE, threads, OPTIMIZER).call()
    x, targets = weights.inputs(shape, dtype), weights.targets(shape, OUTPUTS)
    before = _resident()
    net, optimizer = ours.network(cell, shape, dtype, OUTPUTS, LEARNING_RATE, threads, OPTIMIZER)
    for _ in range(3):
        net.train_step(x, targets, optimizer)
    after = _resident()
    account = {name: int(count) for name, count in net.memory().items()}
    account.setdefault("optimizer", SLOTS * account["parameters"])
    growth = None if before is None or after is None else after - before
    bound = ALLOWED * sum(count for name, count in account.items() if name != "total")
    return {"shape": shape, "account": account, "growth": growth, "bound": bound}


def _print(cell: str, dtype: str, threads: int, measured: list[dict[str, Any]]) -> None:
    parts = [name for name in measured[0]["account"] if name != "total"]
    itemsize = 8 if dtype == "float64" else 4
    lines: list[list[report.Cell]] = []
    for row in measured:
        account, shape = row["account"], row["shape"]
        row["of bound"] = report.ratio(row["growth"], row["bound"])
        work = sum(count for name, count in account.items() if "tape" in name or "scratch" in name)
        work_floats = work / (shape.B * shape.T * shape.H * itemsize)
        amounts = [account[part] / MIB for part in parts]
        growth = report.ratio(row["growth"], MIB)
        lines.append([str(shape), *amounts, work_floats, row["bound"] / MIB, growth, row["of bound"]])
    columns = [("B, T, D, H", ""), *((part.replace("_", " "), ".2f") for part in parts)]
    columns += [("floats/unit/step", ".1f"), ("bound", ".2f"), ("process grew", ".2f"), ("of bound", ".2f")]
    many = "s" if threads > 1 else ""
    report.table(f"memory · {cell} · {dtype} · {OPTIMIZER} · {threads} thread{many} · MiB", columns, lines)
    print(f"  bound: {ALLOWED} x (parameters x (2 + optimizer slots + packed copies) + tape + scratch)")
    print("  floats/unit/step: tape and scratch, per hidden unit, sequence and time step")
    # Below a few MiB the allocator's and the kernel's granularity decide.
    shares = [row["of bound"] for row in measured if row["bound"] > 4 * MIB]
    report.at_most("largest growth against its bound (bounds over 4 MiB)", report.most(*shares), 1.0)
