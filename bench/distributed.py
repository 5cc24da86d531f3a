"""`bench distributed`: processes of one thread that train together, beside one process with the same shards."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from bench import report
from bench.processes import environment

BARS = {"lm": 1.7, "tag": 1.6, "tag256": 1.6}
NAMES = {
    "lm": "char-rnn preset, hidden 512",
    "tag": "tagger, 100,000 sentences",
    "tag256": "tagger, 100,000 sentences, batches of 256",
}
ROUNDS = 2
MOST_OF_EXCHANGE = 0.15


def run(options: argparse.Namespace) -> dict[str, Any]:
    size = max(options.threads)
    contestants = {"whole": (1, 0), "one": (1, size), "all": (size, size)}
    figures: dict[str, Any] = {}
    for part in options.part or [*BARS]:
        best: dict[str, dict[str, float]] = {}
        for _ in range(1 if options.quick else ROUNDS):
            for name, (processes, shards) in contestants.items():
                found = _measured(part, processes, shards)
                if name not in best or found["symbols_per_second"] > best[name]["symbols_per_second"]:
                    best[name] = found
        _print(part, size, best)
        figures[part] = best
    return figures


def _measured(part: str, processes: int, shards: int) -> dict[str, float]:
    done = subprocess.run(
        ["mpiexec", "-n", str(processes), sys.executable, "-m", "bench.distributed_work", part, str(shards)],
        env=environment(1),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"bench: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _print(part: str, size: int, best: dict[str, dict[str, float]]) -> None:
    titles = {
        "whole": "1 process, whole batches",
        "one": f"1 process, {size} shards",
        "all": f"{size} processes, {size} shards",
    }
    columns = [("", ""), ("symbols/s", ",.0f"), ("ms a step", ".2f"), ("exchange, ms", ".2f"), ("KB a step", ".0f")]
    lines: list[list[report.Cell]] = [
        [titles[name], row["symbols_per_second"], row["step"] * 1e3, row["exchange"] * 1e3, row["bytes"] / 1e3]
        for name, row in best.items()
    ]
    report.table(f"distributed · {NAMES[part]} · fastest of rounds", columns, lines)
    speed = {name: row["symbols_per_second"] for name, row in best.items()}
    report.at_least(f"{size} processes beside one with the same shards", speed["all"] / speed["one"], BARS[part])
    share = best["all"]["exchange"] / best["all"]["step"]
    report.at_least("share of a step that is not exchange", 1 - share, 1 - MOST_OF_EXCHANGE)
    print(f"speed of one process with {size} shards beside whole batches: {speed['one'] / speed['whole']:.2f}")
