"""Intervals of forecasts that keep what they promise: held against what came (split conformal prediction).

A network that was trained without the end of a series forecasts that end. What came is told in units of the forecast's
own spread: z = (y - m)/(u - m) above its median m, (y - m)/(m - l) below, with l and u its quantiles 0.05 and 0.95. The
quantile q of a later forecast is then m + Z_q·(u - m), or m + Z_q·(m - l) where Z_q < 0, with Z_q the quantile q of all
z: when the network is unsure is for it to say; how unsure that is, and in which shape, what it missed by says
(Papadopoulos et al. 2002; Lei et al. 2018; a spread on either side: Romano, Patterson and Candès 2019).

Each step h ahead has z of its own. Forecasts from neighbouring steps miss in the same direction, and a short end says
little: so the z of step h count as much as the n forecasts of h steps that follow one another in that end, beside 5 for
which the network is taken at its word: weights n/(n + 5) and 5/(n + 5) of what was found and of a normal distribution
that l and u are right for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtri

__all__ = ["LEVELS", "Calibration"]

LEVELS = (0.05, 0.5, 0.95)

_GRID = np.linspace(0.005, 0.995, 199)
_AT_ITS_WORD = 5.0


@dataclass(frozen=True)
class Calibration:
    """How forecasts that were held against what came missed it.

    Attributes
    ----------
    misses : (H, C, 199)
        Quantiles 0.005, 0.01, … of z, at each step ahead, of each of C numbers. Further steps are like the last.
    log : bool
        Whether all this is of logarithms.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> said = np.broadcast_to([-1.0, 0.0, 1.0], (2000, 1, 1, 3))  # too sure: nine of ten should lie in between
    >>> held = Calibration.of(rng.normal(0, 2, (2000, 1, 1)), said, log=False, steps=2000)
    >>> held.apply(said[0], [0.05, 0.95]).round(0).tolist()
    [[[-3.0, 3.0]]]
    """

    misses: np.ndarray
    log: bool

    @classmethod
    def of(cls, came: np.ndarray, said: np.ndarray, log: bool, steps: int) -> Calibration:
        """Compare what came, (N, H, C), with `LEVELS` of its forecasts, (N, H, C, 3).

        NaN is what is not known to have come. The forecasts begin at one of so many `steps`.
        """
        if log:
            came, said = np.log(came), np.log(said)
        below, above = _spreads(said)
        error = came - said[..., 1]
        z = error / np.where(error > 0, above, below)
        own = ndtri(_GRID) / ndtri(LEVELS[-1])
        misses = np.empty((*z.shape[1:], len(_GRID)))
        for h, c in np.ndindex(*z.shape[1:]):
            found = z[:, h, c][~np.isnan(z[:, h, c])]
            n = min(steps / (h + 1), len(found))
            share = n / (n + _AT_ITS_WORD)
            weights = np.concatenate([np.full(len(found), share / max(len(found), 1)), np.full(len(own), 1 - share)])
            weights[len(found) :] /= len(own)
            misses[h, c] = _quantiles(np.concatenate([found, own]), weights)
        return cls(misses, log)

    def apply(self, said: np.ndarray, quantiles: Any) -> np.ndarray:
        """Return quantiles (H, C, Q) of a forecast of which `LEVELS` are said, (H, C, 3)."""
        said = np.log(said) if self.log else said
        below, above = (part[..., None] for part in _spreads(said))
        z = np.apply_along_axis(partial(np.interp, quantiles, _GRID), -1, self.misses)
        z = z[np.minimum(np.arange(len(said)), len(z) - 1)]  # (H, C, Q)
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
