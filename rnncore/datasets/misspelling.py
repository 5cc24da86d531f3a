"""Words as hurried people type them: letters swapped, left out, doubled, or hit beside the key."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.datasets.drawing import generator
from rnncore.optim.arguments import check_number

__all__ = ["misspelt"]

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_KINDS = ("swap", "drop", "double", "neighbour")


def _neighbours() -> dict[str, str]:
    """Return for each letter those whose keys touch its key: each row stands half a key right of the one above."""
    place = {letter: (row, 2 * at + row) for row, keys in enumerate(_ROWS) for at, letter in enumerate(keys)}
    return {
        letter: "".join(
            other
            for other, (row, at) in place.items()
            if other != letter and abs(row - own_row) <= 1 and abs(at - own_at) <= 2 - (row != own_row)
        )
        for letter, (own_row, own_at) in place.items()
    }


_BESIDE = _neighbours()


def misspelt(sentences: Iterable[Iterable[str]], rate: float = 0.1, random_state: int | None = 0) -> list[list[str]]:
    """Return sentences with some of their words misspelt, each by one slip.

    Two letters that follow one another change places, a letter is missing, is typed twice, or gives way to one whose
    key lies beside it (of a QWERTY keyboard), each as likely as another. A word that the slip drawn for it cannot
    change stays as it is: one of a single character, one without letters, "aa" where two were to change places.

    Parameters
    ----------
    sentences : list of lists of str
    rate : float
        How likely each word is misspelt.
    random_state : int or None
        The same integer gives the same slips, whatever sentences come after.

    Returns
    -------
    list of list of str

    Raises
    ------
    ValueError
        For a rate outside of [0, 1].
    DataError
        For sentences that are no lists of words, and words that are no strings.

    Examples
    --------
    >>> misspelt([["show", "me", "the", "latest", "headlines"]], rate=1.0)
    [['shhow', 'em', 'teh', 'latesf', 'headliness']]
    >>> misspelt([["a", "12"]], rate=1.0)
    [['a', '12']]
    """
    check_number("rate", rate, "[0, 1]", 0.1)
    rng = generator(random_state)
    return [
        [_slipped(_checked(word), rng) if rng.random() < rate else word for word in words]
        for words in sequences_of(sentences)
    ]


def _checked(word: str) -> str:
    if not isinstance(word, str):
        raise DataError(f"words to misspell must be strings, got {word!r}")
    return word


def _slipped(word: str, rng: np.random.Generator) -> str:
    """Misspell a word by one slip."""
    kind = _KINDS[rng.integers(len(_KINDS))]
    places = [n for n in range(len(word)) if _can(kind, word, n)]
    if len(word) < 2 or not places:
        return word
    n = places[rng.integers(len(places))]
    letter = word[n]
    if kind == "swap":
        return word[:n] + word[n + 1] + letter + word[n + 2 :]
    if kind == "drop":
        return word[:n] + word[n + 1 :]
    if kind == "double":
        return word[: n + 1] + word[n:]
    beside = _BESIDE[letter.lower()]
    other = beside[rng.integers(len(beside))]
    return word[:n] + (other.upper() if letter.isupper() else other) + word[n + 1 :]


def _can(kind: str, word: str, n: int) -> bool:
    if kind == "swap":
        return n + 1 < len(word) and word[n].isalpha() and word[n + 1].isalpha() and word[n] != word[n + 1]
    if kind == "neighbour":
        return word[n].lower() in _BESIDE
    return word[n].isalpha() and (kind == "double" or sum(map(str.isalpha, word)) > 1)
