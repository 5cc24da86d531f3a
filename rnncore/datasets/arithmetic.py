"""Sums written out in characters, with symbols in between that mean nothing.

Source: Jozefowicz, Zaremba & Sutskever 2015 (ICML), task "Arithmetic", with additions only and shorter numbers.
"""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["ARITHMETIC_SYMBOLS", "arithmetic"]

_DISTRACTORS = "abcdefghij"

#: digits, signs, the full stop that ends an answer, and the distractors
ARITHMETIC_SYMBOLS = "0123456789+=." + _DISTRACTORS


def arithmetic(n_problems: int = 1000, digits: int = 2, distractors: int = 0, random_state: int = 0) -> list[str]:
    """Draw additions such as ``"37+8=45."``; the answer is what stands after the equals sign, full stop included.

    Parameters
    ----------
    n_problems : int
    digits : int
        Each number has 1 to `digits` of them, every length being equally likely.
    distractors : int
        Up to this many letters a to j follow each character of the question, as in ``"3c7+bf8=45."``: noise that has
        to be ignored.
    random_state : int

    Examples
    --------
    >>> question, answer = arithmetic(1)[0].split("=")
    >>> a, b = question.split("+")
    >>> answer == f"{int(a) + int(b)}."
    True
    """
    at_least("n_problems", n_problems, 0)
    at_least("digits", digits, 1)
    at_least("distractors", distractors, 0)
    rng = generator(random_state)
    return [_problem(digits, distractors, rng) for _ in range(n_problems)]


def _problem(digits: int, distractors: int, rng: np.random.Generator) -> str:
    a, b = (_number(int(rng.integers(1, digits + 1)), rng) for _ in range(2))
    question = f"{a}+{b}"
    if distractors:
        counts = rng.integers(0, distractors + 1, len(question))
        question = "".join(
            character + "".join(rng.choice(list(_DISTRACTORS), count))
            for character, count in zip(question, counts.tolist(), strict=True)
        )
    return f"{question}={a + b}."


def _number(length: int, rng: np.random.Generator) -> int:
    """Draw a number of that many digits: without leading zeros, but 0 is one."""
    return int(rng.integers(10 ** (length - 1) if length > 1 else 0, 10**length))
