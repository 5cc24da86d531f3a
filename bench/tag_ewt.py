"""`bench tag --part ewt`: parts of speech of the English Web Treebank, from its training to its test part."""

from __future__ import annotations

import argparse
from typing import Any

from bench import files, peers, report
from bench.news import Sentences
from bench.tagged import Runs, means, measure, of_presets, print_runs, whole_sentences

WORD, UPOS = 1, 3  # columns


def run(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Defaults and presets by several seeds; then CRFsuite, whose training is stopped after 30 rounds."""
    data = [*read("train"), *read("test")]
    runs: dict[str, Runs] = {}
    if not options.peers_only:
        runs, _ = of_presets(options, data, threads)
    crfsuite = peers.load("crfsuite", threads)
    if crfsuite and not options.quick:
        figures, found = measure(crfsuite.Tagger(affixes=True, iterations=30), *data, rounds=1)
        runs["CRFsuite, and affixes"] = [figures | whole_sentences(data[3], found)]
    print_runs(f"tag · EWT, parts of speech · {threads} thread(s)", runs)
    mean = means(runs)
    if "default" in mean:
        report.at_least("accuracy of the defaults", mean["default"]["accuracy"], 0.948, ".4f")
        report.at_most("seconds of a fit", mean["default"]["fit_seconds"], 10.0)
    if "accurate" in mean:
        report.at_least("accuracy, accurate", mean["accurate"]["accuracy"], 0.953, ".4f")
    return {"threads": threads, "runs": runs}


def read(part: str) -> tuple[Sentences, Sentences]:
    """Words and parts of speech of each sentence; ranges of words and words that are not there are left out."""
    words: Sentences = []
    tags: Sentences = []
    text = files.data_file(None, f"ewt_{part}.conllu").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if line and not line.startswith("#")]
        rows = [row for row in rows if row[0].isdigit()]
        if rows:
            words.append([row[WORD] for row in rows])
            tags.append([row[UPOS] for row in rows])
    return words, tags
