"""`bench replica DATA`: the original's runs repeated, beside what it printed and took, and rnncore's own tagger."""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import news, report
from bench.published import ORIGINAL_SECONDS


@dataclass(frozen=True)
class Run:
    """One run of the program that was recorded: what made it, and its CPU seconds on one core."""

    file: str
    version: str
    split: str
    seconds: float
    most: dict[int, float]  # seconds allowed, by threads


RUNS = [
    Run("original_v1.0_run.csv", "1.0", "libc++", ORIGINAL_SECONDS, {1: 20.0, 2: 12.0}),
    Run("original_v1.1_run.csv", "1.1", "libstdc++", 2152.0, {1: 2152.0 / 45}),
]
COLUMNS = [("", ""), ("right", "d"), ("of", "d"), ("test accuracy", ".6f"), ("seconds", ".4g"), ("times faster", ".3g")]


def run(options: argparse.Namespace) -> dict[str, Any]:
    (threads,) = options.threads
    path = news.data_file(options.data)
    figures: dict[str, Any] = {"threads": threads}
    for recorded in RUNS[: 1 if options.quick else None]:
        figures[recorded.version] = _repeat(recorded, path, threads)
    figures["tagger"] = _tagger(path, threads, seeds=1 if options.quick else 5)
    for recorded in RUNS:
        if recorded.version in figures:
            _print(recorded, figures[recorded.version], figures["tagger"], threads)
    return figures


def _repeat(recorded: Run, path: Path, threads: int) -> dict[str, Any]:
    from rnncore.data.readers import read_tagged
    from rnncore.replica import Replica

    start = time.perf_counter()
    replica = Replica(recorded.version, split=recorded.split, n_threads=threads).fit(*read_tagged(path))
    seconds = time.perf_counter() - start
    last = replica.history_[-1]
    return {
        "seconds": seconds,
        "evaluation_seconds": sum(record["evaluation_seconds"] for record in replica.history_),
        "right": last["test_correct"],
        "total": last["test_total"],
        "train_right": last["train_correct"],
        **_compare(replica, path.parent / recorded.file),
    }


def _compare(replica: Any, path: Path) -> dict[str, Any]:
    """How far costs and counts are those that the program printed; nothing where its record is not at hand."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    printed = [row[2:] for row in rows if len(row) == 7]
    counted = [(int(row[1]), int(row[3])) for row in rows if len(row) == 5]
    found = [(record["train_correct"], record["test_correct"]) for record in replica.history_]
    other = [
        k
        for k, (costs, line) in enumerate(zip(replica.costs_, printed, strict=True))
        if [f"{cost:g}" for cost in (*costs, sum(costs))] != line
    ]
    first = other[0] if other else len(printed)
    drift = max((abs(replica.costs_[k, 0] / float(printed[k][0]) - 1) for k in other), default=0.0)
    return {
        "iterations": len(printed),
        "equal_before": first,
        "different": len(other),
        "largest_drift": drift,
        "epochs_equal": sum(a == b for a, b in zip(found, counted, strict=True)),
        "epochs": len(counted),
        "program_train_right": counted[-1][0],
        "program_right": counted[-1][1],
    }


def _tagger(path: Path, threads: int, seeds: int) -> dict[str, float]:
    import rnncore as rc

    sentences, tags = news.read(path)
    train, test = news.author_split(len(sentences))
    x, y, unseen, expected = [[column[i] for i in part] for part in (train, test) for column in (sentences, tags)]
    right, seconds = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        tagger = rc.SequenceTagger(random_state=seed, n_threads=threads).fit(x, y)
        seconds.append(time.perf_counter() - start)
        right.append(tagger.count_correct(unseen, expected)[0])
    return {"right": statistics.mean(right), "seconds": statistics.median(seconds), "total": sum(map(len, unseen))}


def _print(recorded: Run, ours: dict[str, Any], tagger: dict[str, float], threads: int) -> None:
    total = ours["total"]
    lines: list[list[report.Cell]] = []
    if "program_right" in ours:
        right = ours["program_right"]
        lines.append([f"the program, {recorded.version}", right, total, right / total, recorded.seconds, 1.0])
    faster = recorded.seconds / ours["seconds"]
    lines.append([f"replica {recorded.version}", ours["right"], total, ours["right"] / total, ours["seconds"], faster])
    if total == tagger["total"]:  # the same split
        right, seconds = tagger["right"], tagger["seconds"]
        lines.append(
            ["SequenceTagger (means)", round(right), total, right / total, seconds, recorded.seconds / seconds]
        )
    report.table(
        f"replica · version {recorded.version} · {recorded.split}'s split · {threads} thread(s)", COLUMNS, lines
    )
    if "iterations" in ours:
        costs = f"all printed digits equal in the first {ours['equal_before']} of {ours['iterations']} iterations"
        if ours["different"]:
            costs += f"; {ours['different']} differ, J1 by at most {ours['largest_drift']:.1e}"
        counts = f"equal after {ours['epochs_equal']} of {ours['epochs']} epochs"
        ending = f"{ours['train_right']} and {ours['right']}"
        ending += f", the program's {ours['program_train_right']} and {ours['program_right']}"
        print(f"  costs: {costs}\n  counts: {counts}; at the end {ending}")
    if threads in recorded.most:
        report.at_most("seconds, evaluations included", ours["seconds"], recorded.most[threads], ".1f")
