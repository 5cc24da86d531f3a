"""From tagged sentences to windows of ids, step by step as the original does it.

The quirks are the original's: words of digits are merged in the training part alone (so they are unknown words in the
test part), no training word is unknown (so the unknown word's vector stays random), and padding is a class of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnncore.data.readers import DataError
from rnncore.replica.config import VERSIONS

__all__ = ["DIGIT", "PADDING", "UNDEFINED", "Alphabet", "Geometry", "merge_digits", "training_count"]

DIGIT, UNDEFINED, PADDING = "___DIGIT___", "___UNDEFINED___", "___PADDING___"

Sentences = Sequence[Sequence[str]]


def training_count(n: int, fraction: float) -> int:
    """Return how many of `n` sentences are trained on: the product is taken in single precision, as in the original."""
    return int(np.float32(n) * np.float32(fraction))


def merge_digits(sentences: Sentences) -> list[list[str]]:
    """Write every word of nothing but 0-9 as ``___DIGIT___``."""
    return [[DIGIT if word.isascii() and word.isdigit() else word for word in words] for words in sentences]


@dataclass(frozen=True)
class Alphabet:
    """The words and the labels, each with its number.

    Parameters
    ----------
    words : list of str
        By first appearance in the (shuffled) training part, then ``___UNDEFINED___`` and ``___PADDING___``.
    labels : list of str
        ``___PADDING___``, then by first appearance in the file.
    """

    words: list[str]
    labels: list[str]

    @classmethod
    def of(cls, training: Sentences, tags: Sentences) -> Alphabet:
        """Collect the words of the training part and the labels of the whole file."""
        words = list(dict.fromkeys(word for sentence in training for word in sentence))
        labels = list(dict.fromkeys(label for sentence in tags for label in sentence))
        return cls([*words, UNDEFINED, PADDING], [PADDING, *labels])

    def word_ids(self) -> dict[str, int]:
        """Return the number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def label_ids(self) -> dict[str, int]:
        """Return the number of each label."""
        return {label: number for number, label in enumerate(self.labels)}


@dataclass(frozen=True)
class Geometry:
    """Where windows lie and what is asked of them.

    Version 1.0 pads a sentence on the left and asks for the label of a window's last word. Version 1.1 pads both sides,
    trains on the labels of all words of a window and evaluates its middle one; with an even `ngram` each sentence has
    one window more, whose middle is padding.

    Examples
    --------
    >>> Geometry("1.1", 3).cut([[7, 8]], padding=0).tolist()
    [[0, 7, 8], [7, 8, 0]]
    >>> Geometry("1.0", 3).cut([[7, 8]], padding=0).tolist()
    [[0, 0, 7], [0, 7, 8]]
    """

    version: str
    ngram: int

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version must be one of {', '.join(VERSIONS)}, got {self.version!r}")
        if self.ngram < 1:
            raise ValueError(f"ngram must be at least 1, got {self.ngram}")

    @property
    def both(self) -> bool:
        """Whether the network reads in both directions."""
        return self.version == "1.1"

    @property
    def padding(self) -> tuple[int, int]:
        """Words of padding on the left and on the right."""
        return (self.ngram // 2, self.ngram // 2) if self.both else (self.ngram - 1, 0)

    @property
    def place(self) -> int:
        """The word of a window whose label is evaluated."""
        return self.ngram // 2 if self.both else self.ngram - 1

    def cut(self, sequences: Sequence[Sequence[int]], padding: int) -> np.ndarray:
        """Return the windows (n, ngram) of all sequences, in order."""
        left, right = self.padding
        windows = []
        for sequence in sequences:
            padded = np.array([padding] * left + list(sequence) + [padding] * right, dtype=np.int64)
            if len(padded) >= self.ngram:  # not so for an empty sentence
                windows.append(np.lib.stride_tricks.sliding_window_view(padded, self.ngram))
        return np.concatenate(windows) if windows else np.empty((0, self.ngram), dtype=np.int64)

    def encode(self, sentences: Sentences, ids: dict[str, int]) -> np.ndarray:
        """Return the windows of sentences; a word that is not known becomes ``___UNDEFINED___``."""
        unknown = ids[UNDEFINED]
        return self.cut([[ids.get(word, unknown) for word in sentence] for sentence in sentences], ids[PADDING])

    def targets(self, tags: Sentences, ids: dict[str, int]) -> np.ndarray:
        """Return what is trained on, (outputs, n): the last word's label, or the labels of all words of each window."""
        unknown = [label for labels in tags for label in labels if label not in ids]
        if unknown:
            raise DataError(f"unknown label {unknown[0]!r}; known: {', '.join(list(ids)[1:])}")
        labels = self.cut([[ids[label] for label in labels] for labels in tags], 0)
        return np.ascontiguousarray(labels.T if self.both else labels[:, self.place :].T)

    def of_words(self, sentences: Sentences) -> np.ndarray:
        """Return which windows evaluate a word of the sentence rather than padding."""
        extra = sum(self.padding) + 1 - self.ngram  # 1 for an even window of version 1.1
        return np.concatenate([np.arange(len(s) + extra) < len(s) for s in sentences] or [np.empty(0, dtype=bool)])
