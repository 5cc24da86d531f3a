"""What ``rnncore predict`` writes behind each word: its label, how sure it is, and other labellings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from rnncore.cli.arguments import number

__all__ = ["Fields", "add_doubts", "answers_of", "fields_by", "sure_answers_of"]

Fields = Callable[[list[list[str]]], tuple[Iterator[list[str]], list[list[str]] | None]]


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


def sure_answers_of(tagger: Any, sentences: list[list[str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everything there is to predict by name, and how probable each label is, where a tagger tells."""
    if not hasattr(tagger, "label_probabilities"):
        return answers_of(tagger, sentences), {}
    found: tuple[dict[str, Any], dict[str, Any]] = tagger._predict_surely(sentences)
    return found


def fields_by(tagger: Any, confidence: bool, n_best: int = 0) -> Fields:
    """Return what gives some sentences the fields behind each word, and comments before each sentence or None."""

    def labels(sentences: list[list[str]]) -> tuple[Iterator[list[str]], list[list[str]] | None]:
        answers = answers_of(tagger, sentences)
        of_sentences = answers.pop("sentence", None)
        of_words = zip(*map(chain.from_iterable, answers.values()), strict=True)
        return ([*map(str, found)] for found in of_words), _comments(of_sentences)

    def with_confidence(sentences: list[list[str]]) -> tuple[Iterator[list[str]], list[list[str]] | None]:
        answers, sure = sure_answers_of(tagger, sentences)
        of_sentences = answers.pop("sentence", None)
        columns = [(map(str, chain.from_iterable(answers[name])), map(_shown, sure[name])) for name in answers]
        of_words = zip(*chain.from_iterable(columns), strict=True)
        return (list(fields) for fields in of_words), _comments(of_sentences, sure.get("sentence"))

    def best(sentences: list[list[str]]) -> tuple[Iterator[list[str]], list[list[str]] | None]:
        labels_sentences = hasattr(tagger, "sentence_classes_")
        of_sentences = tagger.predict_sentences(sentences) if labels_sentences else None
        return _best(tagger, sentences, n_best), _comments(of_sentences)

    return with_confidence if confidence else best if n_best else labels


def _comments(labels: Any, sure: Any = None) -> list[list[str]] | None:
    """Return what stands before each sentence, where sentences have labels."""
    if labels is None:
        return None
    if sure is None:
        return [[f"intent = {label}"] for label in labels]
    return [[f"intent = {label}", f"confidence = {_shown(p)}"] for label, p in zip(labels, sure, strict=True)]


def _shown(p: float) -> str:
    return f"{p:.4f}"


def _best(tagger: Any, sentences: list[list[str]], n_best: int) -> Iterator[list[str]]:
    for words, found in zip(sentences, tagger.predict_n_best(sentences, n_best), strict=True):
        missing = ["_", "_"] * (n_best - len(found))
        for t in range(len(words)):
            yield [*chain.from_iterable((str(path[t]), f"{p:.4f}") for path, p in found), *missing]
