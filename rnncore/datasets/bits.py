"""Tasks on bits and symbols: what came when is all there is to know.

Sources: Elman 1990 (Cognitive Science 14:179) for the temporal XOR; Schuster & Paliwal 1997 for the need of both
directions, which the delayed XOR makes absolute; Hochreiter & Schmidhuber 1997 for the copying of symbols over a gap,
in the form of Arjovsky, Shah & Bengio 2016 (arXiv 1511.06464); Graves, Wayne & Danihelka 2014 (arXiv 1410.5401) for
the copying of vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["Copies", "copied_vectors", "copying", "delayed_xor", "parity", "temporal_xor"]


def temporal_xor(n_bits: int = 3000, random_state: int = 0) -> np.ndarray:
    """Make a stream of bits a, b, a XOR b, a, b, a XOR b...: of every three bits one can be told in advance.

    Parameters
    ----------
    n_bits : int
    random_state : int
        Seed.

    Returns
    -------
    (n_bits,) int64 array of 0 and 1

    Examples
    --------
    >>> a, b, c = temporal_xor().reshape(-1, 3).T
    >>> bool((c == a ^ b).all())
    True
    """
    at_least("n_bits", n_bits, 0)
    pairs = generator(random_state).integers(2, size=(-(-n_bits // 3), 2))
    return np.column_stack([pairs, pairs[:, 0] ^ pairs[:, 1]]).reshape(-1)[:n_bits]


def delayed_xor(
    n_sequences: int = 100, length: int = 50, delay: int = 2, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Make random bits x with the targets y_t = x_{t-delay} XOR x_{t+delay}.

    A network that reads forward only cannot do better than chance.

    Returns
    -------
    x : (n_sequences, length) int64
    y : (n_sequences, length) int64
        -1, which losses leave out, where one of the two bits lies outside.

    Examples
    --------
    >>> x, y = delayed_xor(3)
    >>> int(y[0, 9]) == int(x[0, 7] ^ x[0, 11]), int(y[0, 1])
    (True, -1)
    """
    at_least("n_sequences", n_sequences, 0)
    at_least("delay", delay, 0)
    at_least("length", length, 2 * delay + 1)
    x = generator(random_state).integers(2, size=(n_sequences, length))
    y = np.full_like(x, -1)
    y[:, delay : length - delay] = x[:, : length - 2 * delay] ^ x[:, 2 * delay :]
    return x, y


def parity(n_sequences: int = 100, length: int = 50, random_state: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make random bits x and their running parity, y_t = x_1 XOR ... XOR x_t.

    Returns
    -------
    (x, y) : (n_sequences, length) int64 arrays

    Examples
    --------
    >>> x, y = parity(2)
    >>> bool((y[:, -1] == x.sum(axis=1) % 2).all())
    True
    """
    at_least("n_sequences", n_sequences, 0)
    at_least("length", length, 1)
    x = generator(random_state).integers(2, size=(n_sequences, length))
    return x, x.cumsum(axis=1) % 2


def copying(
    n_sequences: int = 100, length: int = 10, gap: int = 50, n_symbols: int = 8, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Make symbols to be said again after a gap.

    x holds `length` symbols of 1..n_symbols, `gap` blanks (0), a mark (n_symbols + 1) and `length` - 1 blanks; y is
    blank up to the step before the mark, and from the mark on the symbols again.

    Returns
    -------
    (x, y) : (n_sequences, 2·length + gap) int64 arrays

    Examples
    --------
    >>> x, y = copying(1, length=3, gap=2)
    >>> x.shape, bool((x[0, :3] == y[0, -3:]).all()), int(x[0, 5])
    ((1, 8), True, 9)
    """
    at_least("n_sequences", n_sequences, 0)
    at_least("length", length, 1)
    at_least("gap", gap, 0)
    at_least("n_symbols", n_symbols, 1)
    symbols = generator(random_state).integers(1, n_symbols + 1, size=(n_sequences, length))
    x = np.zeros((n_sequences, 2 * length + gap), dtype=np.int64)
    y = np.zeros_like(x)
    x[:, :length] = symbols
    x[:, length + gap] = n_symbols + 1
    y[:, length + gap :] = symbols
    return x, y


class Copies(NamedTuple):
    """A batch of sequences to be copied, in the order of a machine's arguments.

    Attributes
    ----------
    x : ndarray (T, B, bits + 1) float32
        Vectors of bits; then the mark alone, in the last place; then zeros for as many steps as there were vectors.
    targets : ndarray (T, B, bits) float32
        The vectors again, after the mark.
    lengths : ndarray (B,) int64
        Steps of each sequence: twice its vectors, and one.
    sample_weight : ndarray (T, B) float64
        1 where a vector is to be given, else 0.
    """

    x: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    sample_weight: np.ndarray


def copied_vectors(
    n_sequences: int = 16, shortest: int = 1, longest: int = 8, bits: int = 4, random_state: int | None = 0
) -> Copies:
    """Make sequences of random vectors of bits that are to be given again after a mark.

    Examples
    --------
    >>> x, targets, lengths, counted = copied_vectors(2, shortest=3, longest=3)
    >>> x.shape, lengths.tolist(), bool((targets[4:] == x[:3, :, :4]).all())
    ((7, 2, 5), [7, 7], True)
    """
    at_least("n_sequences", n_sequences, 1)
    at_least("shortest", shortest, 1)
    at_least("longest", longest, shortest)
    at_least("bits", bits, 1)
    rng = generator(random_state)
    vectors = rng.integers(shortest, longest, size=n_sequences, endpoint=True)
    steps = 2 * int(vectors.max()) + 1
    x = np.zeros((steps, n_sequences, bits + 1), dtype=np.float32)
    targets = np.zeros((steps, n_sequences, bits), dtype=np.float32)
    counted = np.zeros((steps, n_sequences))
    for b, n in enumerate(vectors.tolist()):
        x[:n, b, :bits] = targets[n + 1 : 2 * n + 1, b] = rng.integers(2, size=(n, bits))
        x[n, b, bits] = counted[n + 1 : 2 * n + 1, b] = 1
    return Copies(x, targets, 2 * vectors + 1, counted)
