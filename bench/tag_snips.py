"""`bench tag --part snips`: slots and intents of SNIPS voice commands, from its training to its test part."""

from __future__ import annotations

import argparse
import time
from typing import Any

from bench import files, news, peers, report
from bench.tagged import Runs, means, measure, of_presets, print_runs, whole_sentences


def run(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Defaults and presets by several seeds, an ensemble of five, slots and intents by one network; then CRFsuite."""
    train, test = (news.read(files.data_file(None, f"snips_{part}.tsv")) for part in ("train", "test"))
    intents = [_lines(f"snips_{part}.intent") for part in ("train", "test")]
    data = [*train, *test]
    runs: dict[str, Runs] = {}
    seeds = 1 if options.quick else options.seeds
    if not options.peers_only:
        runs, taggers = of_presets(options, data, threads)
        runs |= _jointly(data, intents, seeds, threads)
        if not options.quick:
            runs["accurate, together"] = [_ensemble(taggers, data)]
    crfsuite = peers.load("crfsuite", threads)
    if crfsuite and not options.quick:
        figures, found = measure(crfsuite.Tagger(affixes=True), *data, rounds=1)
        runs["CRFsuite, and affixes"] = [figures | whole_sentences(test[1], found)]
    print_runs(f"tag · SNIPS, slots · {threads} thread(s)", runs)
    mean = means(runs)
    if "default" in mean:
        report.at_least("F1 of the defaults", mean["default"]["f1"], 0.935, ".4f")
        report.at_most("seconds of a fit", mean["default"]["fit_seconds"], 12.0)
    if "accurate" in mean:
        report.at_least("F1, accurate", mean["accurate"]["f1"], 0.945, ".4f")
        report.at_least("whole sentences, accurate", mean["accurate"]["whole"], 0.86, ".4f")
        report.at_least("F1 of an ensemble", mean["accurate, together"]["f1"], 0.95, ".4f")
    if "default, and intents" in mean:
        report.at_least("intents", mean["default, and intents"]["intents"], 0.975, ".4f")
        report.at_least("F1 beside intents", mean["default, and intents"]["f1"], mean["default"]["f1"] - 0.003, ".4f")
    return {"threads": threads, "runs": runs}


def _lines(name: str) -> list[str]:
    return files.data_file(None, name).read_text(encoding="utf-8").split()


def _jointly(data: list[Any], intents: list[list[str]], seeds: int, threads: int) -> dict[str, Runs]:
    import rnncore as rc

    sentences, tags, unseen, expected = data
    found: Runs = []
    for seed in range(seeds):
        tagger = rc.SequenceTagger(sentence_labels=True, random_state=seed, n_threads=threads)
        start = time.process_time()
        tagger.fit(sentences, tags, intents[0])
        seconds = time.process_time() - start
        predicted = tagger.predict(unseen)
        right = sum(a == b for a, b in zip(tagger.predict_sentences(unseen), intents[1], strict=True))
        figures = {"fit_seconds": seconds, "intents": right / len(unseen)}
        found.append(figures | whole_sentences(expected, predicted))
    return {"default, and intents": found}


def _ensemble(taggers: list[Any], data: list[Any]) -> dict[str, float]:
    import rnncore as rc

    figures, found = measure(rc.Ensemble(taggers, prefit=True), *data, rounds=1)
    return figures | whole_sentences(data[3], found)
