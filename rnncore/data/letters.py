"""Words as the letters they are written with, for a network that reads these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.data.encoders import composed
from rnncore.data.readers import DataError
from rnncore.data.tokens import look_up, token_counts

__all__ = ["LetterEncoder"]

_ONCE = 2  # letters of fewer different words than this are unknown ones: so these are learned


class LetterEncoder:
    """Words as rows of letters' numbers, 0 for a letter that is not known and -1 after the last.

    Letters are Unicode's composed characters as they stand, capitals too. Of a word longer than `longest` the first and
    the last ones are kept, as prefixes and endings say most.

    Parameters
    ----------
    longest : int
        Letters of a word that are read.

    Examples
    --------
    >>> encoder = LetterEncoder(longest=4).fit([["baab", "abb", "c"]])
    >>> encoder.encode([["abbaba", "cab"]]).tolist()  # as "abba"; c is in one word alone
    [[1, 2, 2, 1], [0, 1, 2, -1]]
    """

    def __init__(self, longest: int = 24) -> None:
        self.longest = longest
        self.letters: list[str] = []
        self._lay_out()

    def fit(self, sequences: Sequence[Sequence[Any]]) -> LetterEncoder:
        """Collect the letters of the training data.

        Raises
        ------
        DataError
            If tokens are not strings.
        """
        counts: dict[str, int] = {}
        longest = 1
        for word in token_counts(sequences):
            if not isinstance(word, str):
                raise DataError(f"letters need words as strings, got {word!r}; turn letters off (letters=0)")
            word = composed(word)
            longest = max(longest, len(word))
            for letter in set(word):
                counts[letter] = counts.get(letter, 0) + 1
        self.letters = sorted(letter for letter, count in counts.items() if count >= _ONCE)
        self.longest = min(self.longest, longest)
        self._lay_out()
        return self

    def _lay_out(self) -> None:
        self.n_symbols = len(self.letters) + 1
        self._ids = {letter: i for i, letter in enumerate(self.letters, start=1)}

    def encode(self, sequences: Sequence[Sequence[Any]]) -> np.ndarray:
        """Return the letters of all words of all sequences, (N, longest) int32."""
        try:
            return look_up(sequences, self._row).reshape(-1, self.longest)
        except TypeError:
            raise DataError("letters need words as strings") from None

    def _row(self, word: str) -> list[int]:
        word = composed(word)
        if len(word) > self.longest:
            kept = (self.longest + 1) // 2
            word = word[:kept] + word[len(word) - (self.longest - kept) :]
        ids = [self._ids.get(letter, 0) for letter in word]
        return ids + [-1] * (self.longest - len(ids))

    def to_json(self) -> dict[str, Any]:
        """Describe the encoder for a model file."""
        return {"letters": "".join(self.letters), "longest": self.longest}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LetterEncoder:
        """Rebuild what `to_json` described."""
        longest = int(data["longest"])
        if not 1 <= longest <= 1000:
            raise ValueError(f"expected words of 1 to 1000 letters, got {longest}")
        encoder = cls(longest)
        encoder.letters = list(data["letters"])
        encoder._lay_out()
        return encoder
