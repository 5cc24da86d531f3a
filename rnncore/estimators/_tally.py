"""Measures of several answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.estimators._joint import SENTENCE
from rnncore.metrics import Tally

__all__ = ["AnswersTally"]


class AnswersTally:
    """A `rnncore.metrics.Tally` for each column of tags, and one for the labels of sentences, where these are given.

    Parameters
    ----------
    strict : bool or str
        As `rnncore.metrics.entity_scores` takes it.

    Examples
    --------
    >>> tally = AnswersTally()
    >>> found = {"tags": [["N", "V"], ["N"]], "sentence": np.array(["ask", "ask"])}
    >>> tally.add({"tags": [["N", "V"], ["N"]], "sentence": ["ask", "tell"]}, found)
    >>> result = tally.result()
    >>> result["tags"]["accuracy"], result["sentence"]["accuracy"], result["tags"]["whole"]["accuracy"]
    (1.0, 0.5, 0.5)
    """

    def __init__(self, strict: bool | str = False) -> None:
        self._strict = strict
        self._tallies: dict[str, Tally] = {}

    def add(
        self,
        true: Mapping[str, Any],
        predicted: Mapping[str, Any],
        known: np.ndarray | None = None,
        probabilities: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Count more sentences: lists of tags by name, labels of sentences among them; what is `known` of all words.

        `probabilities`: by name those of all that is predicted, where they are to be measured.
        """
        sure = probabilities or {}
        own: list[Any] = []
        other: list[Any] = []
        beside = None
        if SENTENCE in true:
            own, other = list(true[SENTENCE]), np.asarray(predicted[SENTENCE]).tolist()
            beside = [a == b for a, b in zip(own, other, strict=True)]
        for name, labels in true.items():
            if name != SENTENCE:
                self._tally(name).add(labels, predicted[name], known, sure.get(name), beside)
        if beside is not None:
            lists = [[label] for label in own], [[label] for label in other]
            self._tally(SENTENCE).add(*lists, probabilities=sure.get(SENTENCE))

    def _tally(self, name: str) -> Tally:
        return self._tallies.setdefault(name, Tally(name != SENTENCE and self._strict))

    def result(self) -> dict[str, Any]:
        """Return what `rnncore.metrics.evaluation` returns by name; of sentences without entities."""
        found = {name: tally.result() for name, tally in self._tallies.items()}
        if SENTENCE in found:
            of_labels = found[SENTENCE]["averages"]["labels"]
            kept = {name: one for name, one in found[SENTENCE].items() if name != "whole"}
            found[SENTENCE] = kept | {"averages": {"labels": of_labels, "entities": None}, "entities": None}
        return found
