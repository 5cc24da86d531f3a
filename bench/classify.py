"""`bench classify`: SequenceClassifier's defaults, or a preset, on the usual small data; means over seeds.

Settings were chosen on parts of the training data, never on the test parts. ``--part step`` and ``large`` are others:
a minibatch of each of these networks beside PyTorch, and 10⁵ sequences.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench import classify_data, report
from bench.classify_data import Parts
from bench.setting import Setting


class Task(NamedTuple):
    """Data, settings by their name, and the bar of what is measured."""

    read: Callable[[], Parts]
    bar: float
    preset: str = "default"
    seconds: float | None = None


TASKS = {
    "vowels": Task(classify_data.vowels, 0.98, seconds=5.0),
    "rows": Task(classify_data.digits(False), 0.965),
    "pixels": Task(classify_data.digits(True), 0.955, "accurate"),
    "permuted": Task(classify_data.digits(True, True), 0.86),
    "spoken": Task(classify_data.spoken, 0.985),
    "chorales": Task(classify_data.chorales, 8.20, "polyphony"),
}
WEIGHTS = 300_000  # most of the network that plays chorales
OTHERS = ("step", "large")
PARTS = (*TASKS, *OTHERS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        raise SystemExit(f"bench: --part: no {unknown[0]}, only {', '.join(PARTS)}")
    setting = Setting.of(options)
    figures: dict[str, Any] = {}
    for name in options.part or PARTS:
        if name in TASKS:
            figures[name] = _learned(setting, name, options.seeds)
        else:
            module = importlib.import_module(f"bench.classify_{name}")
            figures[name] = module.run(options)
    return figures


def nats(p: Any, y: Any) -> float:
    """Mean over all frames of how many nats the answers of a frame take."""
    p, y = (np.concatenate(parts).astype(np.float64) for parts in (p, y))
    p = np.clip(p, 1e-30, 1 - 1e-16)
    return -float((y * np.log(p) + (1 - y) * np.log1p(-p)).sum(axis=1).mean())


def _learned(setting: Setting, name: str, seeds: int) -> dict[str, Any]:
    """Fit with each seed, and measure on the test part."""
    import rnncore as rc

    task = TASKS[name]
    X, y, unseen, wanted = task.read()
    music = name == "chorales"
    scores, seconds = [], []
    for seed in range(seeds):
        model = rc.SequenceClassifier.preset(task.preset, random_state=seed, n_threads=setting.threads)
        start = time.perf_counter()
        model.fit(X, y)
        seconds.append(time.perf_counter() - start)
        scores.append(nats(model.predict_proba(unseen), wanted) if music else model.score(unseen, wanted))
    mean, middle = statistics.fmean(scores), statistics.median(seconds)
    size, what = model.network_.theta.size, "nats a frame" if music else "accuracy"
    print(
        f"\n{setting.title(name, model.cell)} · {len(y)} and {len(wanted)} sequences · {seeds} seeds · {size:,} weights"
    )
    print(f"  {what} {mean:.4f} ({min(scores):.4f} to {max(scores):.4f}), {middle:.1f} s a fit")
    if music:
        report.at_most(what, mean, task.bar, ".3f")
        report.at_most("weights", size, WEIGHTS, ",d")
    else:
        report.at_least(what, mean, task.bar, ".3f")
    if task.seconds:
        report.at_most("seconds of a fit", middle, task.seconds, ".1f")
    return {what: scores, "seconds": seconds, "weights": size}
