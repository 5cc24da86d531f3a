"""Data to numbers and back: vocabularies and labels.

An encoder learns from training data in `fit`, turns a list of sequences into one flat array in `encode` and describes
itself in `to_json` for a model file. Encoding happens once per fit; a minibatch is then two array look-ups.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.series import Series
from rnncore.data.tokens import TokenLists, look_up, token_counts

__all__ = [
    "FeatureEncoder",
    "LabelEncoder",
    "Sequences",
    "Vocabulary",
    "composed",
    "is_token",
    "sequence_lengths",
]

_DIGITS = re.compile("[0-9]+")


class Vocabulary:
    """Tokens as ids: 0 is any unknown token, the others count from 1 by falling frequency.

    Parameters
    ----------
    min_count : int
        Tokens rarer than this in the training data are unknown too.
    lowercase : bool
        ``News`` and ``news`` are one word.
    fold_digits : bool
        Every run of digits becomes 0, so ``1984`` and ``7`` are one word.

    Examples
    --------
    >>> vocabulary = Vocabulary().fit([["the", "News", "at", "10"], ["the", "news"]])
    >>> vocabulary.encode([["the", "new", "NEWS"], ["at", "23"]])
    array([1, 0, 2, 3, 4], dtype=int32)
    """

    kind = "vocabulary"

    def __init__(self, min_count: int = 1, lowercase: bool = True, fold_digits: bool = True) -> None:
        self.min_count = min_count
        self.lowercase = lowercase
        self.fold_digits = fold_digits
        self.tokens: list[Any] = []
        self.also: list[Any] = []  # tokens to know whether the training data hold them or not
        self._ids = _Lookup(self.normal)

    def fit(self, sequences: Sequence[Sequence[Hashable]]) -> Vocabulary:
        """Collect the tokens of the training data.

        Raises
        ------
        DataError
            If a token is neither a string nor an integer.
        """
        counts: Counter[Any] = Counter()
        try:
            found = token_counts(sequences)
            if not all(map(is_token, found)):
                raise TypeError
        except TypeError:
            raise DataError(f"tokens must be strings or integers{_first_bad(sequences)}") from None
        for token, count in found.items():
            counts[self.normal(token)] += count
        kept = [token for token, count in counts.most_common() if count >= self.min_count]
        return self._take(list(dict.fromkeys([*kept, *map(self.normal, self.also)])))

    def _take(self, tokens: list[Any]) -> Vocabulary:
        self.tokens = tokens
        ids = {token: i for i, token in enumerate(tokens, start=1)}
        for token, i in [*ids.items()]:  # of model files that were written before words were composed
            ids.setdefault(composed(token), i)
        self._ids = _Lookup(self.normal, ids)
        return self

    @property
    def n_symbols(self) -> int:
        """Number of ids, the unknown one included."""
        return len(self.tokens) + 1

    def encode(self, sequences: Sequence[Sequence[Hashable]]) -> np.ndarray:
        """Return the ids of all tokens of all sequences, (N,) int32."""
        try:
            return look_up(sequences, self._ids.__getitem__)
        except TypeError:
            raise DataError(f"tokens must be strings or integers{_first_bad(sequences)}") from None

    def knows(self, sequences: Sequence[Sequence[Hashable]]) -> np.ndarray:
        """Tell of all tokens of all sequences whether they are known, (N,) bool."""
        return self.encode(sequences) != 0

    @property
    def unknown_of(self) -> np.ndarray:
        """For each id, that of the unknown token."""
        return np.zeros(self.n_symbols, dtype=np.int32)

    def normal(self, token: Any) -> Any:
        """Return a token as it is looked up: composed, in lower case, with digits folded."""
        if isinstance(token, str):
            if not token.isascii():
                token = composed(token)
            if self.lowercase:
                token = token.lower()
            if self.fold_digits:
                token = _DIGITS.sub("0", token)
        elif isinstance(token, np.integer):
            token = int(token)
        return token

    def to_json(self) -> dict[str, Any]:
        """Describe the vocabulary for a model file."""
        return {
            "kind": self.kind,
            "min_count": self.min_count,
            "lowercase": self.lowercase,
            "fold_digits": self.fold_digits,
            "tokens": self.tokens,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Vocabulary:
        """Rebuild what `to_json` described."""
        tokens = data["tokens"]
        if not isinstance(tokens, list) or not all(is_token(token) for token in tokens):
            raise ValueError("the vocabulary must be a list of strings or integers")
        vocabulary = cls(int(data["min_count"]), bool(data["lowercase"]), bool(data["fold_digits"]))
        return vocabulary._take(tokens)


class _Lookup(dict):
    """Token to id; a token not seen as it stands is looked up in its normal form, and is 0 if that is unknown too."""

    def __init__(self, normal: Callable[[Any], Any], ids: dict[Any, int] | None = None) -> None:
        super().__init__(ids or {})
        self._normal = normal

    def __missing__(self, token: Any) -> int:
        return self.get(self._normal(token), 0)


class FeatureEncoder:
    """Sequences of feature vectors, taken as they are: each a (T, D) array with the D of the training data."""

    kind = "features"

    def __init__(self, n_features: int = 0) -> None:
        self.n_features = n_features

    def fit(self, sequences: Sequence[Any]) -> FeatureEncoder:
        """Learn the number of features."""
        self.n_features = int(np.shape(sequences[0])[1])
        return self

    def encode(self, sequences: Sequence[Any]) -> np.ndarray:
        """Return all time steps of all sequences, (N, D) float64."""
        parts = []
        for number, sequence in enumerate(sequences):
            try:
                part = np.asarray(sequence, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise DataError(f"sequence {number}: expected a (T, {self.n_features}) array ({error})") from None
            if part.ndim != 2 or part.shape[1] != self.n_features:
                raise DataError(f"sequence {number}: expected a (T, {self.n_features}) array, got shape {part.shape}")
            if not np.isfinite(part).all():
                raise DataError(f"sequence {number} holds NaN or infinite values; replace them first")
            parts.append(part)
        return np.concatenate(parts) if parts else np.empty((0, self.n_features))

    def knows(self, sequences: Sequence[Any]) -> None:
        """Return None: numbers are neither known nor unknown."""
        return None

    def to_json(self) -> dict[str, Any]:
        """Describe the encoder for a model file."""
        return {"kind": self.kind, "n_features": self.n_features}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FeatureEncoder:
        """Rebuild what `to_json` described."""
        return cls(int(data["n_features"]))


class LabelEncoder:
    """Labels (strings or integers) as ids in sorted order.

    Examples
    --------
    >>> labels = LabelEncoder().fit([["O", "B-X"], ["O"]])
    >>> labels.classes, labels.encode([["O"], ["B-X", "O"]]).tolist()
    (['B-X', 'O'], [1, 0, 1])
    """

    def __init__(self, classes: Iterable[Any] = ()) -> None:
        self.classes: list[Any] = list(classes)
        self._ids = {label: i for i, label in enumerate(self.classes)}

    def fit(self, sequences: Iterable[Iterable[Any]]) -> LabelEncoder:
        """Collect the labels of the training data.

        Raises
        ------
        DataError
            If labels are neither strings nor integers, or both.
        """
        try:
            labels = {_plain(label) for label in token_counts(sequences)}
        except TypeError:  # of lists and dicts, which cannot be counted
            bad = next(iter(_first_bad(sequences).removeprefix(", got ").splitlines()), "others")
            raise DataError(f"labels must be all strings or all integers, got {bad}") from None
        kinds = {type(label) for label in labels}
        if len(kinds) > 1 or not kinds <= {str, int, bool}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"labels must be all strings or all integers, got {names}")
        self.__init__(sorted(labels))  # type: ignore[misc]
        return self

    def encode(self, sequences: Sequence[Sequence[Any]], unknown: int | None = None) -> np.ndarray:
        """Return the ids of all labels of all sequences, (N,) int32.

        Raises
        ------
        DataError
            For a label not seen in training, if `unknown` gives no id for it.
        """
        ids = self._ids
        try:
            if unknown is not None:
                return look_up(sequences, lambda label: ids.get(label, unknown))
            return look_up(sequences, ids.__getitem__)
        except TypeError:
            raise DataError(f"labels must be strings or integers{_first_bad(sequences)}") from None
        except KeyError as error:
            shown = ", ".join(map(str, self.classes[:12])) + (", …" if len(self.classes) > 12 else "")
            raise DataError(f"label {error.args[0]!r} was not in the training data; known labels: {shown}") from None

    def decode(self, ids: np.ndarray) -> list[Any]:
        """Return the labels of a 1-D array of ids."""
        return [*map(self.classes.__getitem__, ids.tolist())]


def sequence_lengths(sequences: Any, name: str = "sentences") -> np.ndarray:
    """Check that `sequences` is a list of sequences and return their lengths, (S,) int64.

    Raises
    ------
    DataError
        If it is a string or no list, or a sequence is a string or a dict or has no length.
    """
    if isinstance(sequences, TokenLists | Series):
        return sequences.lengths
    if isinstance(sequences, str | bytes) or not hasattr(sequences, "__len__"):
        raise DataError(f"{name} must be a list of sequences, got {type(sequences).__name__}")
    if isinstance(sequences, Mapping | set | frozenset):
        raise DataError(f"{name} must be a list of sequences, got {type(sequences).__name__}")
    if len(sequences) and isinstance(sequences[0], str | bytes):
        raise DataError(f"{name} must be a list of lists, got a list of strings; split each into words first")
    if any(issubclass(kind, Mapping | set | frozenset) for kind in set(map(type, sequences))):
        wrong = next(i for i, part in enumerate(sequences) if isinstance(part, Mapping | set | frozenset))
        raise DataError(
            f"{name}[{wrong}] must be a sequence, got {type(sequences[wrong]).__name__}; a dict of features is a token"
        )
    try:
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    except TypeError:
        bad = next(i for i, sequence in enumerate(sequences) if not hasattr(sequence, "__len__"))
        raise DataError(f"{name}[{bad}] must be a sequence, got {type(sequences[bad]).__name__}") from None
    return lengths


def composed(token: Any) -> Any:
    r"""Bring text into Unicode's composed form (NFC): ``é`` is one letter, however it was typed.

    Examples
    --------
    >>> len("e\u0301"), len(composed("e\u0301"))
    (2, 1)
    """
    return token if not isinstance(token, str) or token.isascii() else unicodedata.normalize("NFC", token)


def is_token(token: Any) -> bool:
    """Tell whether something can be looked up in a vocabulary: a string or an integer."""
    return isinstance(token, str | int | np.integer)


def _plain(label: Any) -> Any:
    """Return a label as Python's own type, so that it can be written to a model file."""
    return label.item() if isinstance(label, np.generic) else label


def _first_bad(sequences: Iterable[Iterable[Any]]) -> str:
    for number, sequence in enumerate(sequences):
        for token in sequence:
            if not is_token(token):
                return f", got {type(token).__name__} in sequence {number}"
    return ""
