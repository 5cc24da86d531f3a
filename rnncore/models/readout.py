"""Linear readouts of features: least squares of all steps at once, or step by step.

Least squares:  W = argmin Σ_t |y_t - z_t·W|² + ridge·|W|². Rows come in pieces. Where ridge is far above the rounding
of ZᵀZ they are added to it, (ZᵀZ + ridge·I)·W = ZᵀY; else to the R of [Z, Y] = Q·R, which squares no condition number.

Recursive least squares (Jaeger 2003; Haykin, Adaptive Filter Theory), λ what is kept::

    k = P·z / (λ + zᵀ·P·z)     W += k·(y - zᵀ·W)     P = (P - k·zᵀ·P) / λ
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
from scipy import linalg

from rnncore.models._blas import one_thread

_ROWS = 8192  # taken at a time, at least twice as many as features
_FAR = 1e4  # times the rounding of ZᵀZ that ridge must be: four digits of W where it is least certain, more elsewhere

_ALONE = 1000  # features at most that one thread of BLAS is enough for


class LeastSquares:
    """Ridge regression of rows that come in pieces.

    Up to 1000 features BLAS has one thread: its sums depend on how many there are, and a search in several processes
    is to find what it finds in one.

    Parameters
    ----------
    features, outputs : int
    ridge : float
        0: the smallest of the best solutions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(50, 3))
    >>> readout = LeastSquares(3, 1).add(z[:20], z[:20, :1]).add(z[20:], z[20:, :1])
    >>> np.round(readout.solve(), 12).ravel().tolist()
    [1.0, 0.0, 0.0]
    """

    def __init__(self, features: int, outputs: int, ridge: float = 0.0) -> None:
        self.features, self.outputs, self.ridge = features, outputs, ridge
        self._squares: np.ndarray | None = np.zeros((features + outputs, features + outputs))  # [Z, Y]ᵀ·[Z, Y]
        self._root = np.zeros((0, features + outputs))  # whose square it is, once `_squares` is given up
        self._waiting: list[np.ndarray] = []

    def add(self, z: np.ndarray, y: np.ndarray) -> Self:
        """Take rows of features (n, F) and what they are to give (n, K)."""
        self._waiting.append(np.concatenate([z, y], axis=1, dtype=np.float64))
        if sum(map(len, self._waiting)) >= max(_ROWS, 2 * self.features):
            with self._threads():
                self._take()
        return self

    def _threads(self) -> AbstractContextManager[Any]:
        return one_thread() if self.features <= _ALONE else nullcontext()

    def _take(self) -> None:
        """Add the rows that wait."""
        rows = np.concatenate([self._root[:0], *self._waiting])
        self._waiting = []
        if self._squares is not None:
            more = self._squares + rows.T @ rows
            rounding = np.finfo(np.float64).eps * np.trace(more[: self.features, : self.features])
            if self.ridge >= _FAR * rounding:
                self._squares = more
                return
            if self._squares.any():
                values, vectors = np.linalg.eigh(self._squares)
                self._root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
            self._squares = None
        (root,) = linalg.qr(np.concatenate([self._root, rows]), mode="r", overwrite_a=True, check_finite=False)
        self._root = root[: self.features + self.outputs]

    def solve(self) -> np.ndarray:
        """Return W (F, K) of all rows so far."""
        with self._threads():
            self._take()
            return self._solved()

    def _solved(self) -> np.ndarray:
        F = self.features
        if self._squares is not None:
            left = self._squares[:F, :F] + self.ridge * np.eye(F)
            found: np.ndarray = linalg.solve(left, self._squares[:F, F:], assume_a="pos", check_finite=False)
            return found
        if self.ridge:
            added = np.zeros((F, F + self.outputs))
            np.fill_diagonal(added, np.sqrt(self.ridge))
            (root,) = linalg.qr(np.concatenate([self._root, added]), mode="r", check_finite=False)
            found = linalg.solve_triangular(root[:F, :F], root[:F, F:], check_finite=False)
            return found
        U, s, Vt = linalg.svd(self._root[:, :F], full_matrices=False, check_finite=False)
        least = s.max(initial=0.0) * max(self._root.shape) * np.finfo(np.float64).eps
        gain = np.divide(1.0, s, out=np.zeros_like(s), where=s > least)
        found = Vt.T @ (gain[:, None] * (U.T @ self._root[:, F:]))
        return found


class RecursiveLeastSquares:
    """Weights that follow what comes, step by step.

    Parameters
    ----------
    features, outputs : int
    ridge : float
        P begins as I/ridge: the first steps count the more, the smaller it is.
    forgetting : float
        λ in (0, 1]: how much a step counts one step later. 1: the ridge regression of all steps so far.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(50, 3))
    >>> y = z[:, :1] + 1
    >>> bias = np.ones((50, 1))
    >>> readout = RecursiveLeastSquares(4, 1, ridge=1e-9).add(np.hstack([z, bias]), y)
    >>> np.round(readout.W, 6).ravel().tolist()
    [1.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, features: int, outputs: int, ridge: float = 1e-6, forgetting: float = 1.0) -> None:
        if not ridge > 0:
            raise ValueError(f"recursive least squares begin with P = I/ridge: ridge must be above 0, got {ridge}")
        if not 0 < forgetting <= 1:
            raise ValueError(f"forgetting must be above 0 and at most 1, got {forgetting}")
        self.ridge, self.forgetting = ridge, forgetting
        self.W = np.zeros((features, outputs))
        self.P = np.eye(features) / ridge

    def add(self, z: np.ndarray, y: np.ndarray) -> Self:
        """Take steps of features (n, F) and what they are to give (n, K), one after another."""
        P, W, kept = self.P, self.W, self.forgetting
        for row, wanted in zip(np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64), strict=True):
            through = P @ row
            size = kept + row @ through
            W += np.outer(through / size, wanted - row @ W)
            root = through / np.sqrt(size)
            P -= np.outer(root, root)  # symmetric to the last bit, and stays so
            if kept != 1:
                P /= kept
        return self


__all__ = ["LeastSquares", "RecursiveLeastSquares"]
