"""A language model's word on what a transcriber is about to write: weights of prefixes in a beam.

Where a label is a symbol of the model (characters, or labels that are words), every label counts as it comes. Where
labels are characters and the model's symbols are words, a word counts when the separator behind it, or the end,
completes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.estimators._writing import Writer
from rnncore.estimators.language import LanguageModel
from rnncore.nn.ctc_decoding import Prefixes

__all__ = ["LabelRater", "WordRater", "rater_for"]

_LEAST = 1e-300


def rater_for(model: Any, labels: list[Any], separator: int | None, weight: float, size: int) -> Any:
    """Return a function that makes a rater for one sequence, by `model`, a fitted LanguageModel.

    Parameters
    ----------
    model : LanguageModel
    labels : list
    separator : int or None
        The number of the label between words.
    weight : float
        What log-probabilities are multiplied by.
    size : int
        Rows of the beam.

    Raises
    ------
    ValueError, DataError, TypeError
        If it is none, or the model's symbols are other ones than the labels.
    """
    if not isinstance(model, LanguageModel):
        raise TypeError(f"language_model: expected a fitted rnncore.LanguageModel, got {type(model).__name__}")
    model._check_fitted()
    table = model._table
    characters = all(isinstance(label, str) and len(label) == 1 for label in labels)
    if table.unit == "word" and characters and separator is not None:
        return lambda: WordRater(model, labels, separator, weight, size)
    texts = all(isinstance(label, str) for label in labels)
    if not {"char": characters, "word": texts, "id": not texts, "byte": False}[table.unit]:
        raise ValueError(
            f"language_model: its symbols ({table.unit}) are none of these labels, {labels[:5]!r} …; take one of "
            "unit='char' for characters, unit='word' for words"
        )
    if table.lowercase:
        labels = [label.lower() for label in labels]
    ids = np.array([_number(table, label) for label in labels], dtype=np.int64)
    return lambda: LabelRater(model, ids, weight, size)


def _number(table: Any, label: Any) -> int:
    if table.unit == "word":
        return int(table._id_of(label))
    return int(table._encoded(np.array([label]) if table.unit == "id" else label).part(0, 1)[0])


class _Readers:
    """What a language model has read in each row: its states, and the log-probabilities of what comes next."""

    def __init__(self, model: Any, size: int) -> None:
        self.table = model._table
        self._session, p = Writer(model.network_, self.table).begun(None, size)
        if self.table.start is None:  # a stream does not predict its first symbol: it is judged by how often it occurs
            p = (self.table.counts + 1) / (self.table.counts.sum() + len(self.table))
        self._size = size
        self._state = _taken(self._session.state, [0])
        self.log_p = np.log(np.maximum(np.asarray(p, dtype=np.float64), _LEAST))[None]  # (rows, V)

    def select(self, rows: list[int], reading: list[int], ids: list[int]) -> None:
        """Make rows anew: each was one of those there were; some of the new ones then read a symbol each."""
        self._state, self.log_p = _taken(self._state, rows), self.log_p[rows]
        if not reading:
            return
        spare = self._size - len(reading)
        self._session.state = _taken(self._state, reading + reading[:1] * spare)
        p = self._session.step(np.array(ids + ids[:1] * spare, dtype=np.int64))[: len(reading)]
        self.log_p[reading] = np.log(np.maximum(np.asarray(p, dtype=np.float64), _LEAST))
        _put(self._state, reading, self._session.state)


class LabelRater:
    """Rates every label by what the model expected.

    Parameters
    ----------
    model : LanguageModel
    ids : (K,) ints
        The model's number of each label.
    weight : float
    size : int
    """

    def __init__(self, model: Any, ids: np.ndarray, weight: float, size: int) -> None:
        self._readers = _Readers(model, size)
        self._ids, self._weight = ids, weight
        self._row_of = {0: 0}

    def weights(self, beam: Prefixes) -> np.ndarray:
        """Return what each label more adds, (rows, K)."""
        self._follow(beam)
        found: np.ndarray = self._weight * self._readers.log_p[:, self._ids]
        return found

    def ends(self, beam: Prefixes) -> np.ndarray:
        """Return what the end adds, where the model knows ends: (rows,)."""
        self._follow(beam)
        end = self._readers.table.end
        found: np.ndarray = np.zeros(len(beam.numbers)) if end is None else self._weight * self._readers.log_p[:, end]
        return found

    def _follow(self, beam: Prefixes) -> None:
        before = self._row_of
        rows, reading, ids = [], [], []
        for row, (number, parent, symbol) in enumerate(zip(*(part.tolist() for part in beam), strict=True)):
            known = number in before
            rows.append(before[number if known else parent])
            if not known:
                reading.append(row)
                ids.append(int(self._ids[symbol]))
        self._readers.select(rows, reading, ids)
        self._row_of = {number: row for row, number in enumerate(beam.numbers.tolist())}


class WordRater:
    """Rates words of characters when they are complete.

    Parameters
    ----------
    model : LanguageModel
        Of words.
    labels : list of str
        Characters.
    separator : int
        The number of the one between words.
    weight : float
    size : int
    """

    def __init__(self, model: Any, labels: list[str], separator: int, weight: float, size: int) -> None:
        self._readers = _Readers(model, size)
        self._labels, self._separator, self._weight = labels, separator, weight
        self._row_of, self._words = {0: 0}, {0: ""}  # of each prefix: its row, and the word that is not complete

    def weights(self, beam: Prefixes) -> np.ndarray:
        """Return what each label more adds, (rows, K): 0, but for the separator."""
        self._follow(beam)
        found = np.zeros((len(beam.numbers), len(self._labels)))
        found[:, self._separator] = self._of_words(beam)
        return found

    def ends(self, beam: Prefixes) -> np.ndarray:
        """Return what the end adds: the last word's weight and, where the model knows ends, the end's: (rows,)."""
        self._follow(beam)
        found = self._of_words(beam)
        end = self._readers.table.end
        if end is not None:
            words = [self._words[number] for number in beam.numbers.tolist()]
            reading = [row for row, word in enumerate(words) if word]
            self._readers.select([*range(len(words))], reading, [self._id_of(words[row]) for row in reading])
            found += self._weight * self._readers.log_p[:, end]
        return found

    def _of_words(self, beam: Prefixes) -> np.ndarray:
        words = [self._words[number] for number in beam.numbers.tolist()]
        log_p = self._readers.log_p
        return np.array(
            [self._weight * log_p[row, self._id_of(word)] if word else 0.0 for row, word in enumerate(words)]
        )

    def _id_of(self, word: str) -> int:
        table = self._readers.table
        return int(table._id_of(word.lower() if table.lowercase else word))

    def _follow(self, beam: Prefixes) -> None:
        before, words = self._row_of, self._words
        rows, reading, ids = [], [], []
        now = {}
        for row, (number, parent, symbol) in enumerate(zip(*(part.tolist() for part in beam), strict=True)):
            known = number in before
            rows.append(before[number if known else parent])
            if known:
                now[number] = words[number]
            elif symbol != self._separator:
                now[number] = words[parent] + self._labels[symbol]
            else:
                now[number] = ""
                if words[parent]:
                    reading.append(row)
                    ids.append(self._id_of(words[parent]))
        self._readers.select(rows, reading, ids)
        self._row_of = {number: row for row, number in enumerate(beam.numbers.tolist())}
        self._words = now


def _taken(state: Any, rows: list[int]) -> Any:
    """Copy the states of some rows, of a layer's tuple of arrays or a list of them."""
    if isinstance(state, list):
        return [_taken(part, rows) for part in state]
    return tuple(part[:, rows] for part in state)


def _put(state: Any, rows: list[int], new: Any) -> None:
    """Put the first states of `new` into some rows."""
    if isinstance(state, list):
        for part, its in zip(state, new, strict=True):
            _put(part, rows, its)
        return
    for part, its in zip(state, new, strict=True):
        part[:, rows] = its[:, : len(rows)]
