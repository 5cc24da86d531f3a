"""What couplings patterns leave: the rules of Hebb, of projection and of Storkey.

    Hebb         W = (1/N) Σ ξ·ξᵀ                                                         (Hopfield 1982)
    projection   W = Qᵀ·Q, the rows of Q an orthonormal basis of the patterns           (Personnaz, Guyon, Dreyfus 1985)
    Storkey      for each ξ:  W_ij += (1/N)·(ξ_i·ξ_j - ξ_i·h_ji - h_ij·ξ_j),
                 h_ij = Σ_k W_ik·ξ_k without k = i and k = j                              (Storkey 1997)

all with zeros on the diagonal. Hebb's sums are kept as whole numbers, without 1/N: float32 holds them exactly up to 2²⁴
patterns, so that a field of zero is a zero. Matrices are filled in by blocks of rows: beside W (N, N) and the patterns
(P, N) in W's precision there is never more than a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh

from rnncore._core import associative
from rnncore.models._blas import one_thread

__all__ = ["RULES", "add_hebb", "add_storkey", "project"]

RULES = ("hebb", "projection", "storkey")
_BLOCK = 1 << 20  # numbers at a time: a block takes at most 8 MiB in double precision
_CACHED = 1 << 14  # numbers that stay in a cache while they are worked on


def _blocks(units: int, size: int = _BLOCK) -> Iterator[tuple[int, int]]:
    rows = max(1, size // units)
    for start in range(0, units, rows):
        yield start, min(start + rows, units)


def add_hebb(W: np.ndarray, patterns: np.ndarray, first: bool) -> None:
    """Add Σ ξ·ξᵀ of patterns (P, N): whole numbers, whatever order they are added in. first: W holds nothing yet."""
    wide = patterns.astype(W.dtype)
    if first:
        np.matmul(wide.T, wide, out=W)  # of an array with itself: NumPy computes half of it
    else:
        for start, end in _blocks(len(W)):
            W[start:end] += wide[:, start:end].T @ wide
    np.fill_diagonal(W, 0)


def project(W: np.ndarray, patterns: np.ndarray) -> None:
    """Fill in zeros W with the projection onto the patterns; ones that depend on others add nothing.

    The diagonal of the projection is left out (Kanter and Sompolinsky 1987): patterns draw from further away. One
    thread, because LAPACK's sums depend on how many there are.
    """
    with one_thread():
        wide = patterns.astype(np.float64)
        size, basis = eigh(wide @ wide.T)
        there = size > size[-1] * max(patterns.shape) * np.finfo(np.float64).eps
        Q = (basis[:, there] / np.sqrt(size[there])).T @ wide
        del wide
        Q = Q.astype(W.dtype)
        for start, end in _blocks(len(W)):
            block = Q[:, start:end].T @ Q[:, start:]
            square = block[:, : end - start]
            square[...] = (square + square.T) / 2  # symmetric to the last bit
            np.fill_diagonal(square, 0)
            W[start:end, start:] = block
            W[end:, start:end] = block[:, end - start :].T


def add_storkey(W: np.ndarray, patterns: np.ndarray, threads: int) -> None:
    """Add patterns (P, N) int8 one after another; with h = W·ξ the rule is W += (2·W + ξ·ξᵀ - ξ·hᵀ - h·ξᵀ)/N."""
    N = len(W)
    for pattern in patterns:
        h = associative.fields(W, pattern[None], threads)[0]
        x = pattern.astype(np.float64)
        for start, end in _blocks(N, _CACHED):
            left, field = x[start:end, None], h[start:end, None]
            W[start:end] += (2.0 * W[start:end] + left * x - (left * h + field * x)) / N
        np.fill_diagonal(W, 0)
