"""Tagged sentences, and what a tagger makes of them.

Times are CPU seconds of this process, with one thread the same as seconds on an idle machine.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench import report
from bench.news import Sentences

Figures = dict[str, float]
Runs = list[Figures]


def parts(corpus: tuple[Sentences, Sentences], split: tuple[list[int], list[int]]) -> list[Sentences]:
    """Training words and tags, test words and tags."""
    return [[column[i] for i in part] for part in split for column in corpus]


def measure(
    tagger: Any, sentences: Sentences, tags: Sentences, unseen: Sentences, expected: Sentences, rounds: int = 5
) -> tuple[Figures, Sentences]:
    """Fit, then predict a few times; return the figures and the predictions."""
    start = time.process_time()
    tagger.fit(sentences, tags)
    fitted = time.process_time()
    found = tagger.predict(unseen)
    predicting = []
    for _ in range(rounds):
        begun = time.process_time()
        tagger.predict(unseen)
        predicting.append(time.process_time() - begun)
    pairs = zip(found, expected, strict=True)
    right = sum(a == b for one, other in pairs for a, b in zip(one, other, strict=True))
    total = sum(map(len, expected))
    figures = {
        "right": right,
        "accuracy": right / total,
        "fit_seconds": fitted - start,
        "words_per_second": total / statistics.median(predicting),
    }
    return figures, found


def whole_sentences(expected: Sentences, found: Sentences) -> Figures:
    """F1 of the chunks, and the share of sentences that are right from end to end."""
    from rnncore.metrics import evaluation

    right = sum(list(a) == list(b) for a, b in zip(expected, found, strict=True))
    chunks = evaluation(expected, found)["entities"]
    return {"f1": chunks["all"]["f1"] if chunks else 0.0, "whole": right / len(expected)}


def repeated(settings: dict[str, Any], data: list[Sentences], seeds: int, threads: int) -> tuple[Runs, list[Any]]:
    """One run for each seed, and the taggers."""
    import rnncore as rc

    runs, taggers = [], []
    for seed in range(seeds):
        taggers.append(rc.SequenceTagger(random_state=seed, n_threads=threads, **settings))
        figures, found = measure(taggers[-1], *data, rounds=1)
        runs.append(figures | whole_sentences(data[3], found))
        print(f"  {seed}: {runs[-1]}", flush=True)
    return runs, taggers


def of_presets(options: Any, data: list[Sentences], threads: int) -> tuple[dict[str, Runs], list[Any]]:
    """Presets by several seeds, the default one alone where it should be quick; and the last one's taggers."""
    from rnncore.estimators.presets import TAGGERS

    runs, taggers = {}, []
    for name in ("default",) if options.quick else ("fast", "default", "accurate"):
        seeds = 1 if options.quick else options.seeds
        runs[name], taggers = repeated(TAGGERS[name].settings, data, seeds, threads)
    return runs, taggers


def means(runs: dict[str, Runs]) -> dict[str, Figures]:
    """Each one's figures, over the seeds."""
    return {name: {key: statistics.mean(one[key] for one in some) for key in some[0]} for name, some in runs.items()}


def print_runs(title: str, runs: dict[str, Runs]) -> None:
    """Means over the seeds, and the least and the greatest F1 (accuracy where there are no chunks)."""
    columns = [("", ""), ("accuracy", ".4f"), ("F1", ".4f"), ("from", ".4f"), ("to", ".4f"), ("whole", ".4f")]
    columns += [("intents", ".4f"), ("fit, s", ".3g"), ("tagging, words/s", ",.0f")]
    keys = ("accuracy", "f1", "whole", "intents", "fit_seconds", "words_per_second")
    lines: list[list[report.Cell]] = []
    for name, mean in means(runs).items():
        some = runs[name]
        by = "f1" if mean.get("f1") else "accuracy"
        ends = [pick(one[by] for one in some) for pick in (min, max)]
        lines.append([f"{name}, mean of {len(some)}", mean.get("accuracy"), mean["f1"] or None, *ends])
        lines[-1] += [mean.get(key) for key in keys[2:]]
    report.table(title, columns, lines)
