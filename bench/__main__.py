"""The command line: `python -m bench COMMAND`. Starts one pinned process per thread count and dtype, collects its rows.

Nothing here may import NumPy: a worker pins itself and the environment is set before any thread pool exists.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass
from typing import Any

from bench import processes


@dataclass(frozen=True)
class Command:
    """One bench: the module whose `run(options)` does it, and what it runs when the user does not say."""

    module: str
    help: str
    threads: str = "1"
    dtypes: str = "float32"
    cells: str = "elman"
    one_process: bool = False  # the bench itself compares thread counts (or needs none)


COMMANDS = {
    "step": Command("step", "a whole training step beside PyTorch and JAX: milliseconds and time ratios"),
    "layer": Command(
        "layer", "a layer alone: GFLOP/s and share of peak beside raw oneDNN and libxsmm", "1", "float32,float64"
    ),
    "cells": Command("cells", "every cell and option alone, beside the time of its products", cells=""),
    "session": Command(
        "session", "inference and streams beside ONNX Runtime, OpenVINO and PyTorch", cells="elman,lstm,gru"
    ),
    "ragged": Command("ragged", "lengths uniform in 1..T beside the full batch and PyTorch's PackedSequence"),
    "torch": Command("torch_modules", "a PyTorch script with rnncore.torch's modules beside torch.nn's", "1,2"),
    "denormals": Command("denormals", "numbers that die away into denormals", "1", "float32,float64", "elman,lstm,gru"),
    "scaling": Command("scaling", "rnncore with several threads beside rnncore with one", "1,2", one_process=True),
    "distributed": Command(
        "distributed", "processes that train together beside one with the same shards", "2", one_process=True
    ),
    "memory": Command("memory", "what a training step keeps, beside its bound", one_process=True),
    "import": Command("importing", "import time, and Python's share of one training step", one_process=True),
    "replica": Command("replica", "the original's runs repeated, beside what it printed and took", "1,2"),
    "tag": Command("tag", "the tagger on news requests, SNIPS and EWT, beside CRFsuite (minutes)", "1,2"),
    "lm": Command("lm", "language models beside char-rnn, min-char-rnn, WildML and nanoGPT, PyTorch and JAX", "1,2"),
    "translate": Command(
        "translate", "a step of an encoder and decoder with attention beside PyTorch", cells="lstm,gru"
    ),
    "caption": Command("caption", "a step of a network that writes about vectors beside PyTorch", cells="lstm,gru"),
    "ctc": Command("ctc", "losses of unaligned targets, and digits out of recordings, beside PyTorch"),
    "classify": Command(
        "classify", "classes of sequences: vowels, digits, spoken ones, chorales; beside PyTorch (minutes)"
    ),
    "forecast": Command("forecast", "forecasts beside an MLP, naive ones, ETS and PyTorch's time to fit (minutes)"),
    "zoo": Command(
        "zoo",
        "networks that are no cells: memories beside NumPy, reservoirs beside reservoirpy, trees beside PyTorch",
        "1",
        "float32,float64",
    ),
    "labels": Command("labels", "the tagger on 5000 sentences with 120 labels, beside CRFsuite (minutes)"),
    "growth": Command("growth", "time and memory of reading, training and tagging many sentences", one_process=True),
}

TAG_PARTS = "of news, snips, ewt; without: all, or news where DATA is given"
CLASSIFY_PARTS = "of vowels, rows, pixels, permuted, spoken, chorales, step, large; without: all"
FORECAST_PARTS = "of airline, sunspots, mackey-glass, fit; without: all"
ZOO_PARTS = "of memories, reservoirs, trees, clocks, tapes; without: all"
CTC_PARTS = "of loss, digits; without: all"
DISTRIBUTED_PARTS = "of lm, tag, tag256; without: all"
LM_PARTS = "of charrnn, minchar, wildml, words, generate, tail; without: all"


def comma_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def thread_list(text: str) -> list[int]:
    counts = [int(part) for part in comma_list(text)]
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"expected thread counts of at least 1, like 1,2; got {text!r}")
    return counts


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        sub.add_argument("--threads", type=thread_list, default=command.threads, metavar="N[,N…]")
        sub.add_argument("--dtype", type=comma_list, default=command.dtypes, metavar="NAME[,NAME]")
        sub.add_argument("--cell", type=comma_list, default=command.cells, metavar="NAME[,NAME…]")
        sub.add_argument(
            "--rows", default="", metavar="SEL", help="numbers and ranges of the table, or BxTxDxH: 1,4-6,37x50x93x77"
        )
        sub.add_argument("--json", metavar="FILE", help="also write every figure to FILE")
        sub.add_argument("--quick", action="store_true", help="a fifth of the repetitions")
        sub.add_argument("--best", action="store_true", help="compare fastest rounds, not medians: for a busy machine")
        sub.add_argument("--peers-only", action="store_true", help="leave rnncore out")
        sub.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
        if name in ("tag", "replica"):
            sub.add_argument("data", nargs="?", metavar="DATA", help="default: $RNNCORE_DATA/news_tagged_data.txt")
        if name == "lm":
            sub.add_argument("data", nargs="?", metavar="DATA", help="default: $RNNCORE_DATA/tinyshakespeare.txt")
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=LM_PARTS)
        if name == "classify":
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=CLASSIFY_PARTS)
            sub.add_argument("--seeds", type=int, default=5)
        if name == "forecast":
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=FORECAST_PARTS)
            sub.add_argument("--seeds", type=int, default=5)
        if name == "tag":
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=TAG_PARTS)
            sub.add_argument("--seeds", type=int, default=5)
            sub.add_argument("--splits", type=int, default=10)
        if name == "distributed":
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=DISTRIBUTED_PARTS)
        if name == "ctc":
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=CTC_PARTS)
        if name == "zoo":
            sub.add_argument("--part", type=comma_list, default="", metavar="NAME[,NAME…]", help=ZOO_PARTS)
        if name == "growth":
            sub.add_argument("--large", action="store_true", help="up to a million sentences")
    return top


def work(options: argparse.Namespace) -> None:
    """Run one bench in this (pinned) process and leave its figures in the file the parent named."""
    processes.pin(max(options.threads))
    from bench.agreement import DisagreementError

    try:
        figures = importlib.import_module(f"bench.{COMMANDS[options.command].module}").run(options)
    except DisagreementError as error:
        raise SystemExit(f"bench: {error}; nothing more is timed") from None
    with open(options.worker, "w", encoding="utf-8") as file:
        json.dump(figures, file)


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    if options.worker:
        work(options)
        return 0
    if COMMANDS[options.command].one_process:
        plan = [(",".join(map(str, options.threads)), ",".join(options.dtype))]
    else:
        plan = [(str(threads), dtype) for threads in options.threads for dtype in options.dtype]
    runs: list[dict[str, Any]] = []
    for threads, dtype in plan:
        status, figures = processes.run_worker(argv, threads, dtype)
        if status:
            return status
        runs.append({"threads": threads, "dtype": dtype, **figures})
    if options.json:
        report = {"command": options.command, "arguments": argv, "machine": processes.machine(), "runs": runs}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
