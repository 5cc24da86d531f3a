"""`bench tag --part news`: the defaults on the original's file and splits, beside the original and CRFsuite."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

from bench import news, peers, report
from bench.news import Sentences
from bench.published import ORIGINAL_SECONDS, ORIGINAL_WORDS_RIGHT
from bench.tagged import Figures, measure, parts

WORDS = (8901, 2199)


def run(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """The author's split by several seeds, then random ones."""
    corpus = news.read(news.data_file(options.data))
    count = len(corpus[0])
    data = parts(corpus, news.author_split(count))
    words = (sum(map(len, data[0])), sum(map(len, data[2])))
    if words != WORDS:
        print(f"note: {words[0]} training and {words[1]} test words, not the original's {WORDS[0]} and {WORDS[1]}")
    makers = _makers(options, threads)
    n_seeds = 1 if options.quick else options.seeds
    runs = {name: _runs(make, [data] * (n_seeds if name == "rnncore" else 1)) for name, make in makers.items()}
    _print(threads, words[1], runs)
    early = None if options.peers_only else _time_to_the_original(threads, data)
    pytorch = None if options.peers_only or options.quick else _time_to_pytorch(threads, data)

    # The author's split is one draw; settings that only suit it would show here.
    splits = [parts(corpus, news.random_split(count, seed)) for seed in range(2 if options.quick else options.splits)]
    others = {name: _runs(make, splits) for name, make in makers.items()}
    _print_others(others)
    return {
        "threads": threads,
        "words": words,
        "runs": runs,
        "2092 right": early,
        "pytorch": pytorch,
        "random splits": others,
    }


def _makers(options: argparse.Namespace, threads: int) -> dict[str, Callable[[int], Any]]:
    makers: dict[str, Callable[[int], Any]] = {}
    if not options.peers_only:
        makers["rnncore"] = lambda seed: _tagger(seed, threads)
    crfsuite = peers.load("crfsuite", threads)
    if crfsuite:
        makers["CRFsuite, window 2, pairs"] = lambda seed: crfsuite.Tagger()
        makers["CRFsuite, and affixes"] = lambda seed: crfsuite.Tagger(affixes=True)
    return makers


def _tagger(seed: int, threads: int, **settings: Any) -> Any:
    import rnncore as rc

    return rc.SequenceTagger(random_state=seed, n_threads=threads, verbose=0, **settings)


def _runs(make: Callable[[int], Any], data: list[list[Sentences]]) -> list[Figures]:
    return [measure(make(seed), *split)[0] for seed, split in enumerate(data)]


def _time_to(words_right: float, threads: int, data: list[Sentences]) -> Figures | None:
    """Train ever longer until so many words are right."""
    for epochs in range(1, 21):
        figures, _ = measure(_tagger(0, threads, max_epochs=epochs), *data, rounds=1)
        if figures["right"] >= words_right:
            print(f"\n  {figures['right']} words right after {epochs} epochs, {figures['fit_seconds']:.3f} s")
            return figures | {"epochs": epochs}
    print(f"\n  {words_right:.0f} words right: not reached in 20 epochs")
    return None


def _time_to_the_original(threads: int, data: list[Sentences]) -> Figures | None:
    figures = _time_to(ORIGINAL_WORDS_RIGHT, threads, data)
    if figures:
        report.at_most("seconds until 2092 words are right", figures["fit_seconds"], 0.1)
    return figures


def _time_to_pytorch(threads: int, data: list[Sentences]) -> Figures | None:
    """Against a bi-Elman network with a CRF in PyTorch: time to the same words right."""
    torch = peers.load("torch", threads)
    if torch is None:
        return None
    from bench import torch_tagger

    theirs, _ = measure(torch_tagger.Tagger(), *data, rounds=1)
    print(f"\n  PyTorch, bi-Elman 128 + CRF: {theirs['right']} words right in {theirs['fit_seconds']:.1f} s")
    ours = _time_to(theirs["right"], threads, data)
    if ours:
        report.at_least("PyTorch's time to its words right / ours", theirs["fit_seconds"] / ours["fit_seconds"], 40.0)
    return theirs


def _mean(runs: list[Figures], name: str) -> float:
    return statistics.mean(one[name] for one in runs)


def _median(runs: list[Figures], name: str) -> float:
    return statistics.median(one[name] for one in runs)


def _print(threads: int, total: int, runs: dict[str, list[Figures]]) -> None:
    lines: list[list[report.Cell]] = []
    for name, found in runs.items():
        for seed, one in enumerate(found) if len(found) > 1 else ():
            lines.append([f"{name}, seed {seed}", *(one[key] for key in ("right", "accuracy", "fit_seconds"))])
        right, speed = _mean(found, "right"), _median(found, "words_per_second")
        lines.append([f"{name}, mean of {len(found)}", right, right / total, _median(found, "fit_seconds"), speed])
    original = "the original program (measured once, 1 thread)"
    lines.append([original, ORIGINAL_WORDS_RIGHT, ORIGINAL_WORDS_RIGHT / total, ORIGINAL_SECONDS])
    columns = [
        ("", ""),
        (f"right of {total}", ".5g"),
        ("accuracy", ".4f"),
        ("fit, s", ".3g"),
        ("tagging, words/s", ",.0f"),
    ]
    lines = [[*line, *[None] * (len(columns) - len(line))] for line in lines]
    report.table(f"tag · the author's split · {threads} thread(s)", columns, lines)
    ours = runs.get("rnncore")
    peers_ = [found for name, found in runs.items() if name != "rnncore"]
    report.at_least("mean of words right", _mean(ours, "right") if ours else None, 2180, ".1f")
    if ours and peers_ and threads == 1:
        fit = report.ratio(_median(ours, "fit_seconds"), _median(peers_[0], "fit_seconds"))
        report.at_most("fit time over CRFsuite's", fit, 0.5)
        speed = report.ratio(_median(ours, "words_per_second"), _median(peers_[0], "words_per_second"))
        report.at_least("tagging speed over CRFsuite's", speed, 5.0, ".1f")


def _print_others(others: dict[str, list[Figures]]) -> None:
    lines: list[list[report.Cell]] = []
    for name, runs in others.items():
        accuracies = [one["accuracy"] for one in runs]
        lines.append(
            [name, statistics.mean(accuracies), min(accuracies), max(accuracies), _median(runs, "fit_seconds")]
        )
    number = max(map(len, others.values()), default=0)
    columns = [("", ""), ("mean accuracy", ".4f"), ("worst", ".4f"), ("best", ".4f"), ("fit, s", ".3g")]
    report.table(f"tag · {number} random splits of the same sizes", columns, lines)
    best = report.most(*(_mean(runs, "accuracy") for name, runs in others.items() if name != "rnncore"))
    if "rnncore" in others and best is not None:
        report.at_least(
            "mean accuracy, against CRFsuite's better one", _mean(others["rnncore"], "accuracy"), best, ".4f"
        )
