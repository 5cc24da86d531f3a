"""Telephone numbers as they sound when they are dialled: two tones for each key (ITU-T Q.23)."""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["TONES_RATE", "dialled"]

#: Samples of a second.
TONES_RATE = 8000

_ROWS, _COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
_KEYS = "123A456B789C*0#D"


def dialled(
    n_strings: int = 200,
    shortest: int = 3,
    longest: int = 7,
    keys: str = "0123456789",
    noise: float = 0.1,
    random_state: int = 0,
) -> tuple[list[np.ndarray], list[str]]:
    """Draw strings of keys and dial them: each key sounds 40 to 120 ms, with up to 40 ms after it.

    Parameters
    ----------
    n_strings : int
    shortest, longest : int
        Keys of a string.
    keys : str
        Some of ``0123456789*#ABCD``.
    noise : float
        Standard deviation of normal noise; a tone has the amplitude 0.25.
    random_state : int

    Returns
    -------
    sounds : list of (N,) float32 arrays
        At 8 kHz, see ``TONES_RATE``.
    strings : list of str

    Examples
    --------
    >>> sounds, strings = dialled(2)
    >>> [len(string) for string in strings], sounds[0].shape
    ([7, 5], (6528,))
    """
    at_least("n_strings", n_strings, 0)
    at_least("shortest", shortest, 0)
    at_least("longest", longest, shortest)
    unknown = sorted(set(keys) - set(_KEYS))
    if unknown or not keys:
        raise ValueError(f"keys: expected some of {''.join(sorted(_KEYS))}, got {keys!r}")
    rng = generator(random_state)
    sounds, strings = [], []
    for _ in range(n_strings):
        string = "".join(keys[i] for i in rng.integers(len(keys), size=rng.integers(shortest, longest + 1)))
        parts = [np.zeros(TONES_RATE // 50)]
        for key in string:
            row, column = divmod(_KEYS.index(key), 4)
            t = np.arange(rng.integers(TONES_RATE // 25, TONES_RATE * 3 // 25)) * (2 * np.pi / TONES_RATE)
            parts += [0.25 * (np.sin(_ROWS[row] * t) + np.sin(_COLUMNS[column] * t)), np.zeros(rng.integers(1, 321))]
        sound = np.concatenate(parts)
        sounds.append((sound + noise * rng.standard_normal(len(sound))).astype(np.float32))
        strings.append(string)
    return sounds, strings
