"""Tokens as bags of features: words with their neighbours and spelling, or dicts that someone else made.

An encoder here is like those of `rnncore.data.encoders`, but every token becomes a row of ids, -1 for none. One table
of weights holds a row for each id, so a bag's input is the sum of its rows. An id that is rare in the training data is
replaced in part by that of the unknown value it stands for (`unknown_of`), which is how unknown values are learned.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from rnncore.data.encoders import FeatureEncoder, Vocabulary, composed, is_token, sequence_lengths
from rnncore.data.readers import DataError
from rnncore.data.tokens import look_up, token_counts

__all__ = ["DictFeatures", "WordFeatures", "encoder_for", "encoder_from_json", "word_shape"]

Encoder = Any  # Vocabulary, WordFeatures, DictFeatures or FeatureEncoder

_LEAST_SIZE, _LARGEST = 1e-8, 1e30  # of numbers: their ratio is a number in single precision
_NUMBERS = (bool, np.bool_, int, np.integer, float, np.floating)
_RUNS = (("[A-Z]+", "X"), ("[a-z]+", "x"), ("[0-9]+", "0"))
_OTHER_LETTERS = re.compile(r"[^\W\d_A-Za-z]+")


class WordFeatures:
    """Words with features of their surroundings and of their spelling.

    Parameters
    ----------
    vocabulary : Vocabulary
        The words themselves; their ids come first, and are the first column.
    window : int
        How many neighbours to each side.
    word_pairs : bool
        A word together with the one before, and with the one after.
    affixes : int
        Prefixes and suffixes of 1 to so many letters.
    shapes : bool
        ``Mc-Donald's 77`` as ``Xx-Xx'x 0``.

    Examples
    --------
    >>> encoder = WordFeatures(Vocabulary(), window=1).fit([["top", "news"], ["news"]])
    >>> encoder.encode([["news", "now"]]).tolist()  # itself, the one before, the one after
    [[1, 6, 7], [0, 4, 10]]
    """

    kind = "words"

    def __init__(
        self, vocabulary: Vocabulary, window: int = 0, word_pairs: bool = False, affixes: int = 0, shapes: bool = False
    ) -> None:
        self.vocabulary = vocabulary
        self.window = window
        self.word_pairs = word_pairs
        self.affixes = affixes
        self.shapes = shapes
        self.pairs = np.empty(0, dtype=np.int64)
        self.spellings: list[str] = []
        self._lay_out()

    def fit(self, sequences: Sequence[Sequence[Any]]) -> WordFeatures:
        """Collect words, pairs and spellings of the training data.

        Raises
        ------
        DataError
            If tokens are not strings, or are not all of one kind.
        """
        self.vocabulary.fit(sequences)
        if self.word_pairs:
            words, edges = self.vocabulary.encode(sequences), _edges(sequence_lengths(sequences))
            self.pairs = np.unique(self._pair_keys(words, edges))
            self.pairs = self.pairs[self.pairs >= 0]
        if self.affixes or self.shapes:
            found = token_counts(sequences)
            if not all(isinstance(word, str) for word in found):
                raise DataError("affixes and shapes need words as strings; turn them off for integers")
            self.spellings = list(dict.fromkeys(chain.from_iterable(filter(None, self._spell(word)) for word in found)))
        self._lay_out()
        return self

    def _lay_out(self) -> None:
        """Give all ids their numbers: words, neighbours (unknown, words, edge), pairs before and after, spellings."""
        n_words, n_pairs = self.vocabulary.n_symbols, len(self.pairs)
        self.offsets = [offset for offset in range(-self.window, self.window + 1) if offset]
        self._neighbours = [n_words + place * (n_words + 1) for place in range(len(self.offsets))]
        start = n_words + len(self.offsets) * (n_words + 1)
        self._pair_starts = (start, start + n_pairs)
        start += 2 * n_pairs
        self.n_symbols = start + len(self.spellings)
        self.unknown_of = np.full(self.n_symbols, -1, dtype=np.int32)
        for base in (0, *self._neighbours):
            self.unknown_of[base : base + n_words] = base
        for base in self._neighbours:
            self.unknown_of[base + n_words] = base + n_words  # the edge stays the edge
        self._spelled = _Spelled(self._spell, {text: start + i for i, text in enumerate(self.spellings)})

    def encode(self, sequences: Sequence[Sequence[Any]]) -> np.ndarray:
        """Return the features of all tokens of all sequences, (N, C) int32, the word's own id first."""
        words = self.vocabulary.encode(sequences)
        if not len(words):
            return np.empty((0, self._n_columns), dtype=np.int32)
        edges = _edges(sequence_lengths(sequences))
        columns = [words]
        for offset, base in zip(self.offsets, self._neighbours, strict=True):
            columns.append(np.where(edges(offset), self.vocabulary.n_symbols, _shifted(words, offset)) + base)
        if self.word_pairs:
            before = self._pair_ids(self._pair_keys(words, edges))
            after = np.where(edges(1), -1, _shifted(before, 1))
            for ids, start in zip((before, after), self._pair_starts, strict=True):
                columns.append(np.where(ids >= 0, ids + start, -1))
        if self.affixes or self.shapes:
            try:
                columns += [*look_up(sequences, self._spelled.__getitem__).reshape(len(words), -1).T]
            except (TypeError, AttributeError):
                odd = next(word for word in chain.from_iterable(sequences) if not isinstance(word, str))
                raise DataError(
                    f"expected words as strings, whose spelling is looked at (affixes, shapes), got {odd!r}"
                ) from None
        return np.column_stack(columns).astype(np.int32, copy=False)

    @property
    def _n_columns(self) -> int:
        return 1 + len(self.offsets) + 2 * self.word_pairs + 2 * self.affixes + self.shapes

    def knows(self, sequences: Sequence[Sequence[Any]]) -> np.ndarray:
        """Tell of all words of all sequences whether they are known, (N,) bool."""
        return self.vocabulary.knows(sequences)

    def _pair_keys(self, words: np.ndarray, edges: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return for each word a number for it and the one before, -1 at a start or if one is unknown."""
        before = _shifted(words, -1).astype(np.int64)
        whole = ~edges(-1) & (before > 0) & (words > 0)
        return np.where(whole, before * self.vocabulary.n_symbols + words, -1)

    def _pair_ids(self, keys: np.ndarray) -> np.ndarray:
        if not len(self.pairs):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        return np.where(self.pairs[places] == keys, places, -1)

    def _spell(self, word: str) -> list[str]:
        """Return the spelling's features, always as many, "" for one that a short word does not have."""
        found = []
        normal = self.vocabulary.normal(word)
        for n in range(1, self.affixes + 1):
            longer = len(normal) >= n
            found += [f"^{normal[:n]}" if longer else "", f"{normal[-n:]}$" if longer else ""]
        if self.shapes:
            found.append(f"~{word_shape(composed(word))}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Describe the encoder for a model file."""
        return {
            "kind": self.kind,
            "vocabulary": self.vocabulary.to_json(),
            "window": self.window,
            "word_pairs": self.word_pairs,
            "affixes": self.affixes,
            "shapes": self.shapes,
            "pairs": self.pairs.tolist(),
            "spellings": self.spellings,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WordFeatures:
        """Rebuild what `to_json` described."""
        window, affixes = int(data["window"]), int(data["affixes"])
        if not (0 <= window < 100 and 0 <= affixes < 100):
            raise ValueError("window and affixes must be small numbers")
        vocabulary = Vocabulary.from_json(data["vocabulary"])
        encoder = cls(vocabulary, window, bool(data["word_pairs"]), affixes, bool(data["shapes"]))
        encoder.pairs = np.array(data["pairs"], dtype=np.int64).reshape(-1)
        encoder.spellings = [str(text) for text in data["spellings"]]
        encoder._lay_out()
        return encoder


class DictFeatures:
    """Tokens as dicts of name to value, as sklearn-crfsuite takes them.

    A string as value is the feature ``name=value``. True and 1 are the feature ``name``; False, None and 0 are nothing.
    A list, set or dict holds further names under this one, an array of numbers as many numbers. A name that has a
    number other than 0 and 1 in the training data is a number: it counts as much as the value says, relative to the
    root mean square of its values in the training data. Of other names a number says no more than that they are there.

    Examples
    --------
    >>> encoder = DictFeatures().fit([[{"word": "news", "title": True}, {"word": "now", "length": 3}]])
    >>> encoder.encode([[{"word": "never", "title": True, "length": 6}]]).tolist()  # an unknown word, a title, a number
    [[0, 2, 4]]
    >>> encoder.encode_with_values([[{"word": "never", "title": True, "length": 6}]])[1].tolist()
    [[1.0, 1.0, 2.0]]
    """

    kind = "dicts"

    def __init__(self, min_count: int = 1) -> None:
        self.min_count = min_count
        self.names: list[str] = []
        self.features: list[str] = []
        self.numbers: list[str] = []
        self.sizes: list[float] = []  # of the numbers: root mean squares
        self._lay_out()

    def fit(self, sequences: Sequence[Sequence[Any]]) -> DictFeatures:
        """Collect names and values of the training data.

        Raises
        ------
        DataError
            If a token is no dict, or a value is none of those above.
        """
        names: dict[str, None] = {}
        counts: Counter[str] = Counter()
        squares: dict[str, float] = {}
        numbers: dict[str, None] = {}
        for token in chain.from_iterable(sequences):
            for name, value in _items(token):
                counts[_feature(name, value)] += 1
                if isinstance(value, str):
                    names.setdefault(name)
                    continue
                squares[name] = squares.get(name, 0.0) + value * value
                if value != 1:
                    numbers.setdefault(name)
        kept = {feature: count for feature, count in counts.most_common() if count >= self.min_count}
        self.names = list(names)
        self.features = [feature for feature in kept if feature not in numbers]
        self.numbers = [name for name in numbers if name in kept]
        self.sizes = [max(math.sqrt(squares[name] / counts[name]), _LEAST_SIZE) for name in self.numbers]
        self._lay_out()
        return self

    def _lay_out(self) -> None:
        """Give all ids their numbers: unknown values, features, numbers."""
        self._unknown = {name: i for i, name in enumerate(self.names)}
        self._ids = {feature: i for i, feature in enumerate(self.features, start=len(self.names))}
        self.n_symbols = len(self.names) + len(self.features)
        self._numbers = {
            name: (i, 1 / size)
            for i, (name, size) in enumerate(zip(self.numbers, self.sizes, strict=True), start=self.n_symbols)
        }
        self.n_numbers = len(self.numbers)
        self.unknown_of = np.full(self.n_symbols + self.n_numbers, -1, dtype=np.int32)
        self.unknown_of[: len(self.names)] = np.arange(len(self.names))
        self.unknown_of[self.n_symbols :] = np.arange(self.n_symbols, len(self.unknown_of))
        for feature, i in self._ids.items():
            name, equals, _ = feature.partition("=")
            self.unknown_of[i] = self._unknown.get(name, -1) if equals else -1

    def encode(self, sequences: Sequence[Sequence[Any]]) -> np.ndarray:
        """Return the features of all tokens of all sequences, (N, C) int32, C that of the largest token.

        The ids of numbers come after the `n_symbols` others.
        """
        return self.encode_with_values(sequences)[0]

    def encode_with_values(self, sequences: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return ids as `encode` does, and for each its factor, (N, C) float32, or None where there are no numbers."""
        rows, factors = [], []
        for token in chain.from_iterable(sequences):
            row, its_factors = [], []
            for name, value in _items(token):
                i, factor = self._numbers.get(name, (None, 1.0))
                if i is not None and not isinstance(value, str):
                    factor *= value
                else:
                    i, factor = self._ids.get(_feature(name, value)), 1.0
                if i is None and isinstance(value, str):
                    i = self._unknown.get(name)
                if i is not None:
                    row.append(i)
                    its_factors.append(factor)
            rows.append(row)
            factors.append(its_factors)
        ids = _padded(rows, -1, np.int32)
        return ids, _padded(factors, 0.0, np.float32) if self.numbers else None

    def knows(self, sequences: Sequence[Sequence[Any]]) -> None:
        """Return None: which of the features is the word, only their maker knows."""
        return None

    def to_json(self) -> dict[str, Any]:
        """Describe the encoder for a model file."""
        return {
            "kind": self.kind,
            "min_count": self.min_count,
            "names": self.names,
            "features": self.features,
            "numbers": self.numbers,
            "sizes": self.sizes,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DictFeatures:
        """Rebuild what `to_json` described."""
        encoder = cls(int(data["min_count"]))
        encoder.names = [str(name) for name in data["names"]]
        encoder.features = [str(feature) for feature in data["features"]]
        encoder.numbers = [str(name) for name in data["numbers"]]
        encoder.sizes = [float(size) for size in data["sizes"]]
        if not all(_LEAST_SIZE <= size < math.inf for size in encoder.sizes):
            raise ValueError("the sizes of numbers must be numbers above 0")
        encoder._lay_out()
        return encoder


ENCODERS: dict[str, Any] = {
    encoder.kind: encoder for encoder in (Vocabulary, WordFeatures, DictFeatures, FeatureEncoder)
}


def encoder_for(sequences: Sequence[Any], vocabulary: Vocabulary | None = None, **templates: Any) -> Encoder:
    """Choose the encoder by the first sequence: a list of tokens or of dicts, or a two-dimensional array of features.

    Parameters
    ----------
    sequences : list of sequences
    vocabulary : Vocabulary, optional
        For tokens.
    **templates
        What `WordFeatures` takes; without any, tokens are words alone.

    Raises
    ------
    DataError
        If a sequence is none of these.
    """
    first: Any = next((sequence for sequence in sequences if len(sequence)), ())
    vocabulary = vocabulary or Vocabulary()
    if len(first) and not is_token(first[0]):
        if any(templates.values()):
            raise DataError(f"{', '.join(name for name, on in templates.items() if on)}: for words as strings only")
        if isinstance(first[0], Mapping):
            return DictFeatures(vocabulary.min_count)
        if np.ndim(first) != 2:
            raise DataError(
                "a sequence must be a list of strings, of integers or of dicts, or a (T, D) array of features, "
                f"got a list of {type(first[0]).__name__}"
            )
        return FeatureEncoder()
    return WordFeatures(vocabulary, **templates) if any(templates.values()) else vocabulary


def encoder_from_json(data: dict[str, Any]) -> Encoder:
    """Rebuild an encoder from its description in a model file."""
    return ENCODERS[data["kind"]].from_json(data)


def word_shape(word: str) -> str:
    """Return a word's form: capitals X, small letters x, digits 0, each run of them once.

    Examples
    --------
    >>> word_shape("McDonald's"), word_shape("3-0")
    ("XxXx'x", '0-0')
    """
    word = _OTHER_LETTERS.sub(lambda match: "X" if match[0][0].isupper() else "x", word)
    for run, letter in _RUNS:
        word = re.sub(run, letter, word)
    return word[:20]


class _Spelled(dict):
    """Word to the ids of its spelling's features, worked out once for each word."""

    limit = 1_000_000  # words kept: a stream of ever new ones must not fill the memory

    def __init__(self, spell: Callable[[str], list[str]], ids: dict[str, int]) -> None:
        super().__init__()
        self._spell = spell
        self._ids = ids

    def __missing__(self, word: str) -> list[int]:
        row = [self._ids.get(text, -1) for text in self._spell(word)]
        if len(self) < self.limit:
            self[word] = row
        return row

    def __reduce__(self) -> tuple:
        return _Spelled, (self._spell, self._ids)


def _edges(lengths: np.ndarray) -> Callable[[int], np.ndarray]:
    """Return a function of an offset: at which of all tokens the sequence has none there."""
    ends = np.cumsum(lengths)
    step = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
    left = np.repeat(lengths, lengths) - 1 - step
    return lambda offset: step < -offset if offset < 0 else left < offset


def _shifted(ids: np.ndarray, offset: int) -> np.ndarray:
    """Return what stands `offset` places further on; what comes round from the other end does not matter."""
    return np.roll(ids, -offset)


def _feature(name: str, value: str | float) -> str:
    return composed(f"{name}={value}" if isinstance(value, str) else name)


def _padded(rows: list[list[Any]], filler: Any, dtype: Any) -> np.ndarray:
    """Return rows of different lengths as one array, at least one column wide."""
    width = max(map(len, rows), default=0) or 1
    return np.array([row + [filler] * (width - len(row)) for row in rows], dtype=dtype).reshape(-1, width)


def _items(token: Any, above: str = "") -> Iterator[tuple[str, str | float]]:
    """Yield (name, value) of a token's features; those that are just there have the value 1."""
    if not isinstance(token, Mapping):
        raise DataError(f"expected every token as a dict of features, like the first one, got {type(token).__name__}")
    for key, value in token.items():
        name = f"{above}{key}".replace("=", ":")  # the first = divides name and value
        if isinstance(value, str):
            yield name, value
        elif value is None:
            continue
        elif isinstance(value, _NUMBERS):
            number: Any = value
            if not abs(number) <= _LARGEST:
                raise DataError(
                    f"feature {name!r} is {value!s:.20}: replace what is not finite, scale what is so large"
                )
            if number:
                yield name, float(number)
        elif isinstance(value, Mapping):
            yield from _items(value, f"{name}:")
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            yield from _items(dict(enumerate(value.ravel().tolist())), f"{name}:")
        elif isinstance(value, set | frozenset):  # their own order changes from one process to the next
            yield from _items(dict.fromkeys(sorted(map(str, value)), True), f"{name}:")
        elif isinstance(value, Iterable):
            yield from _items(dict.fromkeys(map(str, value), True), f"{name}:")
        else:
            raise DataError(f"feature {name!r}: expected a string, a number, true or false, got {type(value).__name__}")
