"""Formal languages: Tomita's seven regular ones, and a^n b^n.

Sources: Tomita 1982 (4th Annual Conference of the Cognitive Science Society); Watrous & Kuhn 1992 and Giles et al. 1992
(Neural Computation 4:406 and 4:393) made them the test of second-order networks; Gers & Schmidhuber 2001 (IEEE
Transactions on Neural Networks 12:1333) for a^n b^n.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["anbn", "tomita", "tomita_accepts", "tomita_strings"]


def _no_odd_zeros_after_odd_ones(string: str) -> bool:
    seen = False
    for block in re.findall("0+|1+", string):
        odd = len(block) % 2 == 1
        if odd and block[0] == "0" and seen:
            return False
        seen = seen or (odd and block[0] == "1")
    return True


_ACCEPTS: dict[int, Callable[[str], bool]] = {
    1: lambda s: "0" not in s,
    2: lambda s: s == "10" * (len(s) // 2),
    3: _no_odd_zeros_after_odd_ones,
    4: lambda s: "000" not in s,
    5: lambda s: s.count("0") % 2 == 0 and s.count("1") % 2 == 0,
    6: lambda s: (s.count("0") - s.count("1")) % 3 == 0,
    7: lambda s: re.fullmatch("0*1*0*1*", s) is not None,
}


def tomita_accepts(number: int, string: str) -> bool:
    """Tell whether a string of 0 and 1 belongs to Tomita's language 1 to 7.

    1: 1*; 2: (10)*; 3: no odd block of 1s later followed by an odd block of 0s; 4: no 000; 5: an even number of 0s and
    of 1s; 6: the numbers of 0s and 1s differ by a multiple of 3; 7: 0*1*0*1*.

    Raises
    ------
    ValueError
        If there is no such language, or the string holds other symbols.

    Examples
    --------
    >>> tomita_accepts(4, "0100"), tomita_accepts(4, "10001")
    (True, False)
    """
    if number not in _ACCEPTS:
        raise ValueError(f"Tomita's languages have the numbers 1 to 7, got {number!r}")
    if set(string) - {"0", "1"}:
        raise ValueError(f"expected a string of 0 and 1, got {string!r}")
    return _ACCEPTS[number](string)


def tomita_strings(max_length: int = 12) -> list[str]:
    """List all strings of 0 and 1 up to a length, the empty one included, the shorter first.

    Examples
    --------
    >>> tomita_strings(2), len(tomita_strings(12))
    (['', '0', '1', '00', '01', '10', '11'], 8191)
    """
    at_least("max_length", max_length, 0)
    return ["".join(bits) for length in range(max_length + 1) for bits in product("01", repeat=length)]


def tomita(
    number: int, n_strings: int = 1000, max_length: int = 10, balanced: bool = True, random_state: int = 0
) -> tuple[list[str], np.ndarray]:
    """Draw strings up to a length, and tell which belong to one of Tomita's languages.

    Parameters
    ----------
    number : int
        1 to 7, see `tomita_accepts`.
    n_strings, max_length : int
    balanced : bool
        Half of the strings belong to the language; as it has few strings of some lengths, they may come repeatedly.
        Without: drawn among all strings.
    random_state : int

    Returns
    -------
    strings : list of str
    accepted : (n_strings,) int64 array of 0 and 1

    Examples
    --------
    >>> strings, accepted = tomita(1, 100)
    >>> int(accepted.sum())
    50
    """
    at_least("n_strings", n_strings, 0)
    strings = tomita_strings(max_length)
    accepted = np.array([tomita_accepts(number, string) for string in strings], dtype=np.int64)
    rng = generator(random_state)
    if balanced:
        sides = [np.flatnonzero(accepted == side) for side in (0, 1)]
        if not all(map(len, sides)):
            raise ValueError(f"language {number} has only strings of one kind up to length {max_length}: take more")
        counts = (n_strings - n_strings // 2, n_strings // 2)
        drawn = np.concatenate([rng.choice(side, count) for side, count in zip(sides, counts, strict=True)])
        drawn = rng.permutation(drawn)
    else:
        drawn = rng.integers(len(strings), size=n_strings)
    return [strings[i] for i in drawn.tolist()], accepted[drawn]


def anbn(max_n: int = 10, n_strings: int | None = None, random_state: int = 0) -> list[str]:
    """Make strings a^n b^n: every n from 1 to `max_n` once, or `n_strings` with n drawn.

    Examples
    --------
    >>> anbn(3)
    ['ab', 'aabb', 'aaabbb']
    """
    at_least("max_n", max_n, 1)
    if n_strings is None:
        drawn = np.arange(1, max_n + 1)
    else:
        at_least("n_strings", n_strings, 0)
        drawn = generator(random_state).integers(1, max_n + 1, size=n_strings)
    return ["a" * n + "b" * n for n in drawn.tolist()]
