"""Elman's syllables: consonants b, d, g at random, each with its own vowels, b a, d i i, g u u u.

Source: Elman 1990, "Finding structure in time", Cognitive Science 14:179, second simulation: after a consonant the
vowels can be told, the next consonant cannot.
"""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["LETTER_CODES", "letters"]

SYLLABLES = {"b": "ba", "d": "dii", "g": "guuu"}

#: Elman's distributed codes: consonant, vowel, interrupted, high, back, voiced
LETTER_CODES = {
    "b": (1, 0, 1, 0, 0, 1),
    "d": (1, 0, 1, 1, 0, 1),
    "g": (1, 0, 1, 0, 1, 1),
    "a": (0, 1, 0, 0, 1, 1),
    "i": (0, 1, 0, 1, 0, 1),
    "u": (0, 1, 0, 1, 1, 1),
}


def letters(n_consonants: int = 1000, random_state: int = 0) -> tuple[str, np.ndarray]:
    """Make Elman's stream of letters.

    Returns
    -------
    text : str
        Such as ``"diibaguuuguuu"``.
    codes : (len(text), 6) float64
        The letters as Elman's six features, see ``LETTER_CODES``.

    Examples
    --------
    >>> text, codes = letters(3)
    >>> len(text) == len(codes) and text.count("u") == 3 * text.count("g")
    True
    """
    at_least("n_consonants", n_consonants, 0)
    drawn = generator(random_state).integers(3, size=n_consonants)
    text = "".join(SYLLABLES["bdg"[i]] for i in drawn.tolist())
    return text, np.array([LETTER_CODES[letter] for letter in text], dtype=np.float64).reshape(-1, 6)
