"""`bench labels`: 5000 made sentences with 120 labels, beside CRFsuite, whose time grows with their square."""

from __future__ import annotations

import argparse
from typing import Any

from bench import news, peers, report
from bench.tagged import measure, parts

SENTENCES, QUICK_SENTENCES = 5000, 1000
FIFTH = 5


def run(options: argparse.Namespace) -> dict[str, Any]:
    import rnncore as rc
    from rnncore.datasets import news_requests
    from rnncore.metrics import entity_scores

    (threads,) = options.threads
    corpus = news_requests(QUICK_SENTENCES if options.quick else SENTENCES, detailed=True)
    order = news.shuffled(len(corpus[0]), 0)
    cut = len(order) // FIFTH
    data = parts(corpus, (order[cut:], order[:cut]))
    labels = len({tag for tags in corpus[1] for tag in tags})
    makers = {} if options.peers_only else {"rnncore": rc.SequenceTagger(n_threads=threads)}
    crfsuite = peers.load("crfsuite", threads)
    if crfsuite:
        makers["CRFsuite, window 2, pairs"] = crfsuite.Tagger()
    figures: dict[str, dict[str, float]] = {}
    for name, tagger in makers.items():
        figures[name], found = measure(tagger, *data, rounds=2)
        figures[name]["f1"] = entity_scores(data[3], found)["all"]["f1"]
    columns = [("", ""), ("accuracy", ".4f"), ("F1", ".4f"), ("fit, s", ".3g"), ("tagging, words/s", ",.0f")]
    keys = ("accuracy", "f1", "fit_seconds", "words_per_second")
    lines = [[name, *(one[key] for key in keys)] for name, one in figures.items()]
    report.table(f"labels · {len(corpus[0])} sentences, {labels} labels · {threads} thread(s)", columns, lines)
    if len(figures) == 2:
        ours, peer = figures.values()
        report.at_least(
            "fit speed over CRFsuite's", report.ratio(peer["fit_seconds"], ours["fit_seconds"]), 50.0, ".0f"
        )
        report.at_least("F1, against CRFsuite's", ours["f1"], peer["f1"], ".4f")
    return {"threads": threads, "labels": labels, "figures": figures}
