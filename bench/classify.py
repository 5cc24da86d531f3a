"""`bench classify`: SequenceClassifier's defaults, or one change of them, on the usual small data; means over seeds.

Settings were chosen on parts of the training data, never on the test parts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bench import files, report
from bench.setting import Setting

Parts = tuple[Any, Any, Any, Any]  # X, y to train on, X, y to test on


class Task(NamedTuple):
    """Data, settings that are not the defaults, and the bar."""

    read: Callable[[], Parts]
    settings: dict[str, Any]
    bar: float
    seconds: float | None = None


def _vowels() -> Parts:
    from rnncore.data.series_files import read_series

    train, test = (str(files.data_file(None, f"japanese_vowels_{part}.ts")) for part in ("train", "test"))
    return *read_series(train), *read_series(test)


def _digits(pixels: bool, permuted: bool = False) -> Callable[[], Parts]:
    def read() -> Parts:
        from sklearn.datasets import load_digits

        digits = load_digits()
        x = digits.data[:, :, None] if pixels else digits.images
        if permuted:
            x = x[:, np.random.default_rng(0).permutation(64)]
        half = len(x) // 2
        return x[:half], digits.target[:half], x[half:], digits.target[half:]

    return read


def _spoken() -> Parts:
    import rnncore as rc

    with np.load(files.data_file(None, "spoken_digits.npz")) as file:
        samples, starts, digit, take = (file[name] for name in ("samples", "starts", "digit", "take"))
    x = [rc.audio.log_mel(samples[a:b], 8000) for a, b in pairwise(starts)]
    test = take < 5
    some, others = ([part for part, there in zip(x, mask, strict=True) if there] for mask in (~test, test))
    return some, digit[~test], others, digit[test]


TASKS = {
    "vowels": Task(_vowels, {}, 0.98, 5.0),
    "rows": Task(_digits(False), {}, 0.965),
    "pixels": Task(_digits(True), {}, 0.955),
    "permuted": Task(_digits(True, True), {}, 0.86),
    "spoken": Task(_spoken, {}, 0.985),
}
PARTS = tuple(TASKS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    import rnncore as rc

    setting = Setting.of(options)
    unknown = [name for name in options.part if name not in TASKS]
    if unknown:
        raise SystemExit(f"bench: --part: no {unknown[0]}, only {', '.join(PARTS)}")
    figures: dict[str, Any] = {}
    for name in options.part or PARTS:
        task = TASKS[name]
        X, y, unseen, wanted = task.read()
        scores, seconds = [], []
        for seed in range(options.seeds):
            model = rc.SequenceClassifier(random_state=seed, n_threads=setting.threads, **task.settings)
            start = time.perf_counter()
            model.fit(X, y)
            seconds.append(time.perf_counter() - start)
            scores.append(model.score(unseen, wanted))
        figures[name] = {"accuracy": scores, "seconds": seconds}
        mean, middle = statistics.fmean(scores), statistics.median(seconds)
        spread = f"{min(scores):.4f} to {max(scores):.4f}"
        print(f"\n{setting.title(name, 'gru')} · {len(y)} and {len(wanted)} sequences · {options.seeds} seeds")
        print(f"  accuracy {mean:.4f} ({spread}), {middle:.1f} s a fit")
        report.at_least("accuracy", mean, task.bar, ".3f")
        if task.seconds:
            report.at_most("seconds of a fit", middle, task.seconds, ".1f")
    return figures
