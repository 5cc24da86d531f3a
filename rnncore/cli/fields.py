"""What ``rnncore predict`` writes behind each word: its label, how sure it is, and other labellings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from rnncore.cli.arguments import number

__all__ = ["Fields", "add_doubts", "answers_of", "fields_by"]

Fields = Callable[[list[list[str]]], tuple[Iterator[list[str]], Any]]


def add_doubts(predict: argparse.ArgumentParser) -> None:
    """Add ``--confidence`` and ``--n-best``."""
    doubt = predict.add_mutually_exclusive_group()
    doubt.add_argument("--confidence", action="store_true", help="write each label's probability behind it")
    doubt.add_argument(
        "--n-best",
        type=number(int, 1, 1001, "a whole number from 1 to 1000"),
        metavar="N",
        help="write so many labels behind each word: those of its sentence's most probable labellings, each with the "
        "labelling's probability; _ where there are fewer",
    )


def answers_of(tagger: Any, sentences: list[list[str]]) -> dict[str, Any]:
    """Return everything there is to predict by name; of an ensemble the tags."""
    if hasattr(tagger, "predict_answers"):
        answers: dict[str, Any] = tagger.predict_answers(sentences)
        return answers
    return {"tags": tagger.predict(sentences)}


def fields_by(tagger: Any, confidence: bool, n_best: int = 0) -> Fields:
    """Return what gives some sentences the fields behind each word, and labels of the sentences or None."""

    def labels(sentences: list[list[str]]) -> tuple[Iterator[list[str]], Any]:
        answers = answers_of(tagger, sentences)
        of_sentences = answers.pop("sentence", None)
        of_words = zip(*map(chain.from_iterable, answers.values()), strict=True)
        return ([*map(str, found)] for found in of_words), of_sentences

    def with_confidence(sentences: list[list[str]]) -> tuple[Iterator[list[str]], Any]:
        predicted = tagger.predict(sentences)
        sure = chain.from_iterable(tagger.label_probabilities(sentences, predicted))
        pairs = zip(chain.from_iterable(predicted), sure, strict=True)
        return ([str(label), f"{p:.4f}"] for label, p in pairs), None

    def best(sentences: list[list[str]]) -> tuple[Iterator[list[str]], Any]:
        return _best(tagger, sentences, n_best), None

    return with_confidence if confidence else best if n_best else labels


def _best(tagger: Any, sentences: list[list[str]], n_best: int) -> Iterator[list[str]]:
    for words, found in zip(sentences, tagger.predict_n_best(sentences, n_best), strict=True):
        missing = ["_", "_"] * (n_best - len(found))
        for t in range(len(words)):
            yield [*chain.from_iterable((str(path[t]), f"{p:.4f}") for path, p in found), *missing]
