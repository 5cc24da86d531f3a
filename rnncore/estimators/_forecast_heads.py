"""What a forecast is of what comes next: a number, quantiles, or a normal distribution; heads with their losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from rnncore.nn.custom import CustomHead
from rnncore.nn.heads import Head, SquaredError

__all__ = ["OUTPUTS", "NormalHead", "QuantileHead", "head_of"]

OUTPUTS = ("point", "quantiles", "normal")

_LEAST = 1e-3  # of a deviation, beside the data's own of 1


def _real(shape: tuple[int, ...], lengths: np.ndarray | None) -> np.ndarray:
    """Return which steps count, (T, B, 1)."""
    steps = np.arange(shape[0])[:, None, None]
    return np.ones((*shape[:2], 1), dtype=bool) if lengths is None else steps < lengths[:, None]


class QuantileHead(CustomHead):
    """Quantiles q of each of C numbers: the pinball loss, mean over steps (Koenker and Bassett 1978).

    L = Σ_c Σ_q max(q·(y - s), (q - 1)·(y - s))

    Parameters
    ----------
    numbers : int
        C. Scores are (T, B, C·Q), those of a number side by side.
    quantiles : tuple of float
        Growing, between 0 and 1.

    Examples
    --------
    >>> head = QuantileHead(1, (0.1, 0.5))
    >>> loss, gradient = head.loss_and_grad(np.zeros((1, 1, 2)), np.ones((1, 1, 1)), None)
    >>> round(loss, 3), gradient.ravel().tolist()
    (0.6, [-0.1, -0.5])
    """

    def __init__(self, numbers: int, quantiles: tuple[float, ...]) -> None:
        super().__init__(numbers * len(quantiles))
        self.quantiles = np.array(quantiles)

    def loss_and_grad(
        self, scores: np.ndarray, targets: Any, lengths: np.ndarray | None, sample_weight: Any = None
    ) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient."""
        steps = scores.shape[:2]
        slope = np.asarray(targets)[..., None] - scores.reshape(*steps, -1, len(self.quantiles))
        error = slope.copy()
        np.subtract(self.quantiles.astype(slope.dtype), slope <= 0, out=slope)
        if lengths is None:
            slope /= steps[0] * steps[1]
        else:
            real = _real(scores.shape, lengths)[..., None]
            slope *= real / real.sum()
        loss = float(np.vdot(slope, error))
        np.negative(slope, out=slope)
        return loss, slope.reshape(scores.shape)


class NormalHead(CustomHead):
    """Mean and deviation of each of C numbers: the negative log-likelihood of a normal distribution, mean over steps.

    L = Σ_c ½((y - μ)/σ)² + log σ + ½·log 2π,   σ = log(1 + e^s) + 0.001

    Parameters
    ----------
    numbers : int
        C. Scores are (T, B, 2C): all μ, then all s.

    Examples
    --------
    >>> head = NormalHead(1)
    >>> round(head.loss_and_grad(np.zeros((1, 1, 2)), np.zeros((1, 1, 1)), None)[0], 3)
    0.554
    """

    def __init__(self, numbers: int) -> None:
        super().__init__(2 * numbers)
        self.numbers = numbers

    def loss_and_grad(
        self, scores: np.ndarray, targets: Any, lengths: np.ndarray | None, sample_weight: Any = None
    ) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient."""
        mean, deviation = self.moments(scores)
        z = (np.asarray(targets) - mean) / deviation
        real = _real(scores.shape, lengths)
        count = real.sum()
        losses = (z * z / 2 + np.log(deviation)) * real
        loss = float(losses.sum(dtype=np.float64) / count) + self.numbers * float(np.log(2 * np.pi)) / 2
        raw = scores[..., self.numbers :]
        small = np.exp(-np.abs(raw))
        slope = np.where(raw >= 0, 1, small) / (1 + small)  # of σ by s
        gradient = np.concatenate([-z / deviation, (1 - z * z) / deviation * slope], axis=-1)
        gradient *= real / scores.dtype.type(count)
        return loss, gradient

    def moments(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and deviations."""
        raw = scores[..., self.numbers :]
        return scores[..., : self.numbers], np.maximum(raw, 0) + np.log1p(np.exp(-np.abs(raw))) + _LEAST


def head_of(output: str, numbers: int, quantiles: tuple[float, ...]) -> Head:
    """Make the head of a forecast of so many numbers at a step."""
    if output == "point":
        return SquaredError(numbers)
    return NormalHead(numbers) if output == "normal" else QuantileHead(numbers, quantiles)


def normal_quantiles(mean: np.ndarray, deviation: np.ndarray, quantiles: Any) -> np.ndarray:
    """Return quantiles of normal distributions, (..., Q)."""
    found: np.ndarray = mean[..., None] + deviation[..., None] * ndtri(np.asarray(quantiles))
    return found
