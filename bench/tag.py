"""`bench tag DATA`: SequenceTagger's defaults on the original's file and split, beside the original and CRFsuite."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench import news, peers, report
from bench.news import Sentences
from bench.published import ORIGINAL_SECONDS, ORIGINAL_WORDS_RIGHT

WORDS = (8901, 2199)


def run(options: argparse.Namespace) -> dict[str, Any]:
    (threads,) = options.threads
    corpus = news.read(news.data_file(options.data))
    count = len(corpus[0])
    data = _parts(corpus, news.author_split(count))
    words = (sum(map(len, data[0])), sum(map(len, data[2])))
    if words != WORDS:
        print(f"note: {words[0]} training and {words[1]} test words, not the original's {WORDS[0]} and {WORDS[1]}")
    seeds = range(1 if options.quick else options.seeds)
    runs = [] if options.peers_only else [_run(_tagger(seed, threads), *data) for seed in seeds]
    crfsuite = peers.load("crfsuite", threads)
    peer = _run(crfsuite.Tagger(), *data) if crfsuite else None
    _print(threads, words[1], runs, peer)

    # The author's split is one draw; settings that only suit it would show here.
    makers: dict[str, Callable[[int], Any]] = {}
    if not options.peers_only:
        makers["rnncore"] = lambda seed: _tagger(seed, threads)
    if crfsuite:
        makers["CRFsuite"] = lambda seed: crfsuite.Tagger()
    splits = [_parts(corpus, news.random_split(count, seed)) for seed in seeds]
    others = {name: [_run(make(seed), *splits[seed]) for seed in seeds] for name, make in makers.items()}
    _print_others(others)
    return {"threads": threads, "words": words, "runs": runs, "CRFsuite": peer, "random splits": others}


def _parts(corpus: tuple[Sentences, Sentences], split: tuple[list[int], list[int]]) -> list[Sentences]:
    """Training words and tags, test words and tags."""
    return [[column[i] for i in part] for part in split for column in corpus]


def _tagger(seed: int, threads: int) -> Any:
    import rnncore as rc

    return rc.SequenceTagger(random_state=seed, n_threads=threads, verbose=0)


def _run(
    tagger: Any, sentences: Sentences, tags: Sentences, unseen: Sentences, expected: Sentences
) -> dict[str, float]:
    start = time.perf_counter()
    tagger.fit(sentences, tags)
    fitted = time.perf_counter()
    found = tagger.predict(unseen)
    predicted = time.perf_counter()
    pairs = zip(found, expected, strict=True)
    right = sum(a == b for one, other in pairs for a, b in zip(one, other, strict=True))
    return {
        "right": right,
        "accuracy": right / sum(map(len, expected)),
        "fit_seconds": fitted - start,
        "predict_seconds": predicted - fitted,
    }


def _print(threads: int, total: int, runs: list[dict[str, float]], peer: dict[str, float] | None) -> None:
    lines: list[list[report.Cell]] = []
    for seed, one in enumerate(runs):
        lines.append([f"rnncore, seed {seed}", one["right"], one["right"] / total, one["fit_seconds"]])
    right = statistics.mean(one["right"] for one in runs) if runs else None
    seconds = statistics.median(one["fit_seconds"] for one in runs) if runs else None
    if right is not None:
        lines.append(["rnncore, mean words, median seconds", right, right / total, seconds])
    if peer:
        lines.append(["CRFsuite, window of 2 and pairs", peer["right"], peer["right"] / total, peer["fit_seconds"]])
    original = "the original program (measured once, 1 thread)"
    lines.append([original, ORIGINAL_WORDS_RIGHT, ORIGINAL_WORDS_RIGHT / total, ORIGINAL_SECONDS])
    columns = [("", ""), (f"right of {total}", ".4g"), ("accuracy", ".4f"), ("fit, s", ".3g")]
    report.table(f"tag · the author's split · {threads} thread(s)", columns, lines)
    report.at_least("mean of words right (more than the original's 2092)", right, ORIGINAL_WORDS_RIGHT + 0.2, ".1f")
    if threads == 2:
        report.at_most("median fit, seconds on two cores", seconds, 0.5)
        report.at_most(
            "slowest fit (the first also loads code)", max(one["fit_seconds"] for one in runs) if runs else None, 0.5
        )


def _print_others(others: dict[str, list[dict[str, float]]]) -> None:
    lines: list[list[report.Cell]] = []
    for name, runs in others.items():
        accuracies = [one["accuracy"] for one in runs]
        seconds = statistics.median(one["fit_seconds"] for one in runs)
        lines.append([name, statistics.mean(accuracies), min(accuracies), max(accuracies), seconds])
    number = max(map(len, others.values()), default=0)
    columns = [("", ""), ("mean accuracy", ".4f"), ("worst", ".4f"), ("best", ".4f"), ("fit, s", ".3g")]
    report.table(f"tag · {number} random splits of the same sizes", columns, lines)
