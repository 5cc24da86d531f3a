"""Spoken digits: strings of them, glued together from single recordings without gaps.

The recordings are those of the free spoken digit dataset (Jackson and others, from 2016 on; CC BY-SA 4.0), in one file:
six speakers said each digit fifty times, at 8 kHz. Takes 0 to 4 are the usual test part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["DIGITS_RATE", "glued_digits"]

#: Samples of a second of the recordings.
DIGITS_RATE = 8000

_PARTS = ("samples", "starts", "digit", "speaker", "take")


def glued_digits(
    path: str | os.PathLike[str],
    n_strings: int = 2000,
    takes: Iterable[int] = range(5, 50),
    mixed: bool = False,
    shortest: int = 3,
    longest: int = 7,
    random_state: int = 0,
) -> tuple[list[np.ndarray], list[str]]:
    """Draw strings of digits and glue recordings of them together, end to end.

    Parameters
    ----------
    path : path
        The .npz file of recordings: `samples` (int16, end to end), `starts`, and of each `digit`, `speaker`, `take`.
    n_strings : int
    takes : iterable of int
        Which takes to use: the default leaves the test part, ``range(5)``, alone.
    mixed : bool
        False: a string has one speaker. True: each of its digits may be another's.
    shortest, longest : int
        Digits of a string.
    random_state : int

    Returns
    -------
    sounds : list of (N,) int16 arrays
        At 8 kHz, see ``DIGITS_RATE``.
    strings : list of str
        Such as ``"3141"``.

    Raises
    ------
    ValueError
        For a file with other parts, or takes that it does not have.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "hum.npz")
    ...     parts = {"samples": np.arange(4), "starts": np.array([0, 2, 4]), "digit": np.array([1, 7])}
    ...     np.savez(path, **parts, speaker=np.zeros(2), take=np.array([5, 6]))
    ...     sounds, strings = glued_digits(path, 1, shortest=2, longest=2)
    >>> strings, sounds[0].tolist()
    (['77'], [2, 3, 2, 3])
    """
    at_least("n_strings", n_strings, 0)
    at_least("shortest", shortest, 1)
    at_least("longest", longest, shortest)
    with np.load(path) as file:
        missing = [name for name in _PARTS if name not in file]
        if missing:
            raise ValueError(f"{os.fspath(path)}: expected the arrays {', '.join(_PARTS)}; {missing[0]} is not there")
        samples, starts, digit, speaker, take = (file[name] for name in _PARTS)
    usable = np.flatnonzero(np.isin(take, list(takes)))
    if not len(usable):
        raise ValueError(f"takes: none of them is in the file, which has {take.min()} to {take.max()}")
    pools = [usable] if mixed else [usable[speaker[usable] == who] for who in np.unique(speaker[usable])]
    rng = generator(random_state)
    sounds, strings = [], []
    for _ in range(n_strings):
        pool = pools[rng.integers(len(pools))]
        chosen = pool[rng.integers(len(pool), size=rng.integers(shortest, longest + 1))]
        sounds.append(np.concatenate([samples[starts[i] : starts[i + 1]] for i in chosen]))
        strings.append("".join(str(digit[i]) for i in chosen))
    return sounds, strings
