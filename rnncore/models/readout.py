"""Linear readouts of features: least squares of all steps at once, or step by step.

Least squares:  W = argmin Σ_t |y_t - z_t·W|² + ridge·|W|²,  by the R of [Z; √ridge·I] = Q·R, that takes rows in pieces and
squares no condition number. Recursive least squares (Jaeger 2003; Haykin, Adaptive Filter Theory), λ what is kept::

    k = P·z / (λ + zᵀ·P·z)     W += k·(y - zᵀ·W)     P = (P - k·zᵀ·P) / λ
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import linalg

_ROWS = 8192  # factored at a time, at least as many as features


class LeastSquares:
    """Ridge regression of rows that come in pieces.

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
        self._triangle = np.zeros((0, features + outputs))
        self._waiting: list[np.ndarray] = []

    def add(self, z: np.ndarray, y: np.ndarray) -> Self:
        """Take rows of features (n, F) and what they are to give (n, K)."""
        self._waiting.append(np.concatenate([z, y], axis=1, dtype=np.float64))
        if sum(map(len, self._waiting)) >= max(_ROWS, 2 * self.features):
            self._factor()
        return self

    def _factor(self) -> None:
        rows = np.concatenate([self._triangle, *self._waiting])
        self._waiting = []
        (self._triangle,) = linalg.qr(rows, mode="r", overwrite_a=True, check_finite=False)
        self._triangle = self._triangle[: self.features + self.outputs]

    def solve(self, ridge: float | None = None) -> np.ndarray:
        """Return W (F, K) of all rows so far; another ridge costs no second pass."""
        self._factor()
        ridge = self.ridge if ridge is None else ridge
        R, right = self._triangle[:, : self.features], self._triangle[:, self.features :]
        U, s, Vt = linalg.svd(R, full_matrices=False, check_finite=False)
        if ridge:
            gain = s / (s * s + ridge)
        else:
            least = s.max(initial=0.0) * max(R.shape) * np.finfo(np.float64).eps
            gain = np.divide(1.0, s, out=np.zeros_like(s), where=s > least)
        return Vt.T @ (gain[:, None] * (U.T @ right))


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
