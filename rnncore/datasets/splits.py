"""Train/test splits, those of the original program among them.

The original shuffles its sentences with C++'s ``random_shuffle`` and never seeds it, so its split depends on nothing
but the number of sentences and the C++ library. The generators of the two libraries are small enough to repeat here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["SHUFFLES", "LibcxxShuffle", "LibstdcxxShuffle", "original_split", "random_split"]


class LibcxxShuffle:
    """``std::random_shuffle`` of LLVM's libc++ (macOS), which draws from one never seeded Mersenne Twister.

    The state lives on from call to call, as the function-local static of the library does.

    Examples
    --------
    >>> LibcxxShuffle()(list(range(1000)))[:5]
    [860, 759, 752, 892, 304]
    """

    def __init__(self) -> None:
        self._words = self._draw()

    @staticmethod
    def _draw() -> Iterator[int]:
        """Raw 32-bit outputs of mt19937 with its default seed, 5489."""
        state = np.random.RandomState(5489)
        while True:
            yield from state.randint(0, 2**32, size=4096, dtype=np.uint32).tolist()

    def __call__(self, items: list) -> list:
        """Shuffle `items` in place and return it."""
        words = self._words
        for first in range(len(items) - 1):
            choices = len(items) - first
            mask = (1 << (choices - 1).bit_length()) - 1  # the low bits of one word; too large a value is drawn again
            while (offset := next(words) & mask) >= choices:
                pass
            if offset:
                other = first + offset
                items[first], items[other] = items[other], items[first]
        return items


class LibstdcxxShuffle:
    """``std::random_shuffle`` of GNU's libstdc++ (Linux), which calls glibc's never seeded ``rand()``.

    Examples
    --------
    >>> sorted(LibstdcxxShuffle()(list(range(5))))
    [0, 1, 2, 3, 4]
    """

    def __init__(self) -> None:
        # glibc's additive feedback generator: 31 words of a Lehmer generator with seed 1, then 310 outputs thrown away.
        words = [1]
        for _ in range(30):
            words.append(words[-1] * 16807 % 2147483647)
        self._words = words[3:] + words[:3]
        for _ in range(310):
            self._rand()

    def _rand(self) -> int:
        words = self._words
        word = (words[0] + words[28]) & 0xFFFFFFFF  # r[i] = r[i-31] + r[i-3]
        del words[0]
        words.append(word)
        return word >> 1

    def __call__(self, items: list) -> list:
        """Shuffle `items` in place and return it."""
        for i in range(1, len(items)):
            j = self._rand() % (i + 1)
            items[i], items[j] = items[j], items[i]
        return items


SHUFFLES: dict[str, Callable[[], Callable[[list], list]]] = {"libc++": LibcxxShuffle, "libstdc++": LibstdcxxShuffle}


def original_split(n: int, train_fraction: float = 0.8, library: str = "libc++") -> tuple[np.ndarray, np.ndarray]:
    """Split `n` sentences in file order as the original program does; return the indices of both parts.

    Parameters
    ----------
    n : int
        Number of sentences; the original's file has 1000.
    train_fraction : float
        The original's TRAINING_PERCENT; used in single precision, as there.
    library : {"libc++", "libstdc++"}
        Whose ``random_shuffle``: ``"libc++"`` is the author's split (a Mac; 8901 training and 2199 test words of his
        file), ``"libstdc++"`` that of a Linux build (8933 and 2167).

    Returns
    -------
    (train, test) : int64 arrays
        Shuffled indices into the sentences, ``len(train) == int(n * train_fraction)``.

    Raises
    ------
    ValueError
        If the library is unknown, `n` negative or the fraction outside 0..1.

    Examples
    --------
    >>> train, test = original_split(1000)
    >>> train[:4].tolist(), test[:4].tolist()
    ([860, 759, 752, 892], [250, 881, 932, 574])
    """
    if library not in SHUFFLES:
        raise ValueError(f"library must be one of {', '.join(SHUFFLES)}, got {library!r}")
    order = np.array(SHUFFLES[library]()(list(range(_count(n)))), dtype=np.int64)
    cut = int(np.float32(n) * np.float32(_fraction(train_fraction)))
    return order[:cut], order[cut:]


def random_split(n: int, test_fraction: float = 0.2, random_state: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split `n` items at random; neither part is empty if `n` >= 2 and the fraction lies between 0 and 1.

    Raises
    ------
    ValueError
        If `n` is negative or the fraction outside 0..1.

    Examples
    --------
    >>> train, test = random_split(10, test_fraction=0.2)
    >>> len(train), len(test)
    (8, 2)
    """
    order = np.random.default_rng(random_state).permutation(_count(n))
    n_test = round(n * _fraction(test_fraction))
    if n >= 2 and 0 < test_fraction < 1:
        n_test = min(max(n_test, 1), n - 1)
    return order[n_test:], order[:n_test]


def _count(n: int) -> int:
    if n < 0:
        raise ValueError(f"the number of items must not be negative, got {n}")
    return n


def _fraction(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"a fraction must lie in 0..1, got {value}")
    return value
