"""Intervals of forecasts that keep what they promise: held against what came (split conformal prediction).

A network that was trained without the end of a series forecasts that end. What came is told in units of the forecast's
own spread: z = (y - m)/(u - m) above its median m, (y - m)/(m - l) below, with l and u its quantiles 0.05 and 0.95. The
quantile q of a later forecast is then m + Z_q·(u - m), or m + Z_q·(m - l) where Z_q < 0, with Z_q the quantile q of all
z: when the network is unsure is for it to say; how unsure that is, and in which shape, what it missed by says
(Papadopoulos et al. 2002; Lei et al. 2018; a spread on either side: Romano, Patterson and Candès 2019).

Forecasts from neighbouring steps miss in the same direction, and a short end says little. So the z count as much as the
n forecasts that follow one another in it without overlapping, beside 5 for which the network is taken at its word:
weights n/(n + 5) and 5/(n + 5) of what was found and of a normal distribution that l and u are right for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

__all__ = ["LEVELS", "Calibration"]

LEVELS = (0.05, 0.5, 0.95)

_GRID = np.linspace(0.002, 0.998, 499)
_AT_ITS_WORD = 5.0


@dataclass(frozen=True)
class Calibration:
    """How forecasts that were held against what came missed it.

    Attributes
    ----------
    misses : (C, 499)
        Quantiles 0.002, 0.004, … of z for each of C numbers.
    log : bool
        Whether all this is of logarithms.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> said = np.broadcast_to([-1.0, 0.0, 1.0], (2000, 1, 3))  # too sure: nine of ten should lie in between
    >>> found = Calibration.of(rng.normal(0, 2, (2000, 1)), said, False, apart=1e9).apply(said[0], [0.05, 0.95])
    >>> found.round(0).tolist()
    [[-3.0, 3.0]]
    """

    misses: np.ndarray
    log: bool

    @classmethod
    def of(cls, came: np.ndarray, said: np.ndarray, log: bool, apart: float) -> Calibration:
        """Compare (N, C) numbers with `LEVELS` of their forecasts, (N, C, 3), of which so many stand apart."""
        if log:
            came, said = np.log(came), np.log(said)
        below, above = _spreads(said)
        error = came - said[..., 1]
        z = error / np.where(error > 0, above, below)
        own = ndtri(_GRID) / ndtri(LEVELS[-1])
        share = apart / (apart + _AT_ITS_WORD)
        weights = np.repeat([share / len(z), (1 - share) / len(own)], [len(z), len(own)])
        return cls(np.stack([_quantiles(np.concatenate([one, own]), weights) for one in z.T]), log)

    def apply(self, said: np.ndarray, quantiles: Any) -> np.ndarray:
        """Return quantiles (..., C, Q) of forecasts of which `LEVELS` are said, (..., C, 3)."""
        said = np.log(said) if self.log else said
        below, above = (part[..., None] for part in _spreads(said))
        z = np.stack([np.interp(quantiles, _GRID, one) for one in self.misses])  # (C, Q)
        found: np.ndarray = said[..., 1:2] + z * np.where(z > 0, above, below)
        return np.exp(found) if self.log else found

    def to_json(self) -> dict[str, Any]:
        """Describe it."""
        return {"misses": self.misses.tolist(), "log": self.log}

    @classmethod
    def from_json(cls, own: dict[str, Any]) -> Calibration:
        """Rebuild it."""
        return cls(np.array(own["misses"], dtype=np.float64), bool(own["log"]))


def _quantiles(found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return quantiles of numbers that count unequally."""
    order = np.argsort(found, kind="stable")
    ordered = weights[order]
    return np.interp(_GRID, np.cumsum(ordered) - ordered / 2, found[order])


def _spreads(said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies between the median and the outer levels, above 0."""
    least = 1e-9 * np.abs(said[..., 1]) + 1e-15
    return np.maximum(said[..., 1] - said[..., 0], least), np.maximum(said[..., 2] - said[..., 1], least)
