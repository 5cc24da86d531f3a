"""The adding problem: two marked numbers of a long sequence, and their sum.

Source: Hochreiter & Schmidhuber 1997 (Neural Computation 9:1735), experiment 4; and the easier form of later papers.
"""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["adding_problem"]

_FORMS = ("original", "modern")


def adding_problem(
    n_sequences: int = 100, length: int = 100, form: str = "original", random_state: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Make sequences of (number, mark) pairs and the sum of their two marked numbers.

    Parameters
    ----------
    n_sequences : int
    length : int
        At least 10.
    form : {"original", "modern"}
        ``"original"``: numbers from [-1, 1), `length` to 1.1·`length` of them; the mark is 1 at one of the first ten
        steps and at one of the first `length`/2 - 1 others, -1 at the first and the last step (where no mark fell on
        the first) and 0 elsewhere. A marked first number counts as 0, as in the paper. The target is
        0.5 + (X1 + X2)/4; the paper calls it found if the error is below 0.04.
        ``"modern"``: `length` numbers from [0, 1), one mark in each half, the target is X1 + X2. Saying 1 every time
        has a mean squared error of 1/6.
    random_state : int

    Returns
    -------
    x : list of (T, 2) float64 arrays
    y : (n_sequences,) float64

    Examples
    --------
    >>> x, y = adding_problem(3, form="modern")
    >>> [bool(np.isclose((part[:, 0] * part[:, 1]).sum(), target)) for part, target in zip(x, y)]
    [True, True, True]
    """
    at_least("n_sequences", n_sequences, 0)
    at_least("length", length, 10)
    if form not in _FORMS:
        raise ValueError(f"form must be one of {', '.join(_FORMS)}, got {form!r}")
    rng = generator(random_state)
    made = [_original(length, rng) if form == "original" else _modern(length, rng) for _ in range(n_sequences)]
    return [x for x, _ in made], np.array([y for _, y in made], dtype=np.float64)


def _original(length: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    steps = int(rng.integers(length, length + length // 10 + 1))
    numbers = rng.uniform(-1.0, 1.0, steps)
    marks = np.zeros(steps)
    first = int(rng.integers(10))
    second = int(rng.integers(length // 2 - 1))
    second += second >= first  # among the others
    marks[[0, -1]] = -1.0
    marks[[first, second]] = 1.0
    # "X1 is set to zero" where the very first pair is the marked one, whose mark the -1 would hide
    if 0 in (first, second):
        numbers[0] = 0.0
    return np.column_stack([numbers, marks]), 0.5 + (numbers[first] + numbers[second]) / 4.0


def _modern(length: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    numbers = rng.random(length)
    marks = np.zeros(length)
    half = length // 2
    marks[[int(rng.integers(half)), half + int(rng.integers(length - half))]] = 1.0
    return np.column_stack([numbers, marks]), float(numbers @ marks)
