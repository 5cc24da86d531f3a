"""How scores become strings: by the most probable path, or a beam with words, boosts, a language model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.estimators._language_rater import rater_for
from rnncore.nn import automata as rules
from rnncore.nn.automata import Automaton
from rnncore.nn.ctc_decoding import Found, best_path, prefix_beam_search
from rnncore.optim.arguments import check_count, check_number

__all__ = ["Decoder"]

USUAL_BEAM = 16


class Decoder:
    """Turns scores into strings by the options of `Transcriber.predict`.

    Parameters
    ----------
    classes : list
        The labels.
    text : bool
        Whether strings are str.
    separator : label or None
        What stands between words.
    beam_size, language_model, lm_weight, label_bonus, word_bonus, words, hot_words, hot_boost
        See there.
    n_best : int
        How many strings are asked for at most.
    """

    def __init__(
        self,
        classes: list[Any],
        text: bool,
        separator: Any,
        beam_size: int | None = None,
        language_model: Any = None,
        lm_weight: float = 0.5,
        label_bonus: float = 0.0,
        word_bonus: float = 0.0,
        words: Iterable[Any] | None = None,
        hot_words: Any = None,
        hot_boost: float = 5.0,
        n_best: int = 1,
    ) -> None:
        if beam_size is not None:
            check_count("beam_size", beam_size, 1)
        for name, value in (("lm_weight", lm_weight), ("label_bonus", label_bonus), ("word_bonus", word_bonus)):
            check_number(name, value, "(-inf, inf)", 0.5)
        for name, given in (("words", words), ("hot_words", hot_words)):
            if isinstance(given, str | bytes):
                raise TypeError(f"{name}: expected a list of words, got the {type(given).__name__} {given[:40]!r}")
        self._ids = {label: number for number, label in enumerate(classes)}
        self._text, self._n_best = text, n_best
        between = self._ids.get(separator)
        self.automata: list[Automaton] = []
        if words is not None:
            self.automata.append(
                rules.words_alone([self._word("words", word) for word in words], len(classes), between)
            )
        if hot_words is not None:
            boosts = hot_words if isinstance(hot_words, Mapping) else dict.fromkeys(map(_fixed, hot_words), hot_boost)
            for word, boost in boosts.items():
                check_number(f"the boost of {word!r}", boost, "(-inf, inf)", 5.0)
            found = {tuple(self._word("hot_words", word)): float(boost) for word, boost in boosts.items()}
            self.automata.append(rules.welcome(found, len(classes), between))
        if label_bonus:
            self.automata.append(rules.symbol_bonus(len(classes), label_bonus))
        if word_bonus:
            if between is None:
                raise ValueError(f"word_bonus needs words: the labels have no separator {separator!r} between them")
            self.automata.append(rules.word_bonus(len(classes), between, word_bonus))
        self.size = max(beam_size or USUAL_BEAM, n_best)
        self._rater = None
        if language_model is not None:
            self._rater = rater_for(language_model, classes, between, float(lm_weight), self.size)
        self.is_best_path = beam_size is None and not self.automata and self._rater is None

    def _word(self, name: str, word: Any) -> list[int]:
        if isinstance(word, str) != self._text:
            kind = "str" if self._text else "lists of labels"
            raise DataError(f"{name}: expected {kind}, as the strings are, got {word!r}")
        unknown = next((label for label in word if label not in self._ids), None)
        if unknown is not None or not len(word):
            why = "is empty" if unknown is None else f"has the label {unknown!r}, which was not in the training data"
            raise DataError(f"{name}: {word!r} {why}; leave it out")
        return [self._ids[label] for label in word]

    def strings(self, scores: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Return the best string of each sequence, as numbers."""
        if self.is_best_path:
            return best_path(scores, lengths)
        return [found[0].symbols for found in self.found(scores, lengths)]

    def found(self, scores: np.ndarray, lengths: np.ndarray) -> list[list[Found]]:
        """Return the best strings of each sequence, and how good they are."""
        raters = None if self._rater is None else [self._rater() for _ in range(scores.shape[1])]
        return prefix_beam_search(scores, lengths, self.size, self._n_best, self.automata, raters)


def _fixed(word: Any) -> Any:
    return word if isinstance(word, str) else tuple(word)
