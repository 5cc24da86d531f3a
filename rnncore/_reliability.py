"""How often predictions are right that are so probable by a model: reliability tables, and the error they sum up to."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks

__all__ = ["Reliability", "calibration"]

_BINS = 15  # as Guo et al. 2017 count


class Reliability:
    """Counts how often predictions are right that are so probable by the model, piece by piece.

    Parameters
    ----------
    bins : int
        Of equal width, from 0 to 1.

    Examples
    --------
    >>> reliability = Reliability(bins=2)
    >>> reliability.add([0.9, 0.8], [True, False])
    >>> reliability.add([0.7], [True])
    >>> round(reliability.result()["calibration_error"], 3)
    0.133
    """

    def __init__(self, bins: int = _BINS) -> None:
        bins = _checks.whole(bins, "bins", most=1_000_000)
        self._edges = np.arange(bins + 1) / bins
        self._sums = np.zeros((3, bins))  # how many, the sum of their probabilities, and how many are right

    def add(self, probabilities: Any, right: Any) -> None:
        """Count more predictions; the arguments are those of `calibration`."""
        p = _checks.array(probabilities, "probabilities").astype(np.float64)
        flags = _checks.array(right, "right")
        if p.ndim != 1 or flags.shape != p.shape:
            raise ValueError(
                f"probabilities and right: expected two arrays (N,) of one length, got {p.shape} and {flags.shape}"
            )
        wrong = ~((p >= 0) & (p <= 1 + 1e-5))  # sums of single precision may lie a little above
        if wrong.any():
            raise ValueError(f"probabilities: expected numbers from 0 to 1, got {p[wrong][0]}")
        p = np.minimum(p, 1.0)
        place = np.maximum(np.searchsorted(self._edges, p) - 1, 0)
        for row, weights in zip(self._sums, (None, p, flags.astype(bool)), strict=True):
            row += np.bincount(place, weights, minlength=len(row))

    def result(self) -> dict[str, Any]:
        """Return what `calibration` returns."""
        count, sure, right = self._sums
        total = count.sum()
        rows = zip(self._edges.tolist(), self._edges[1:].tolist(), *self._sums.tolist(), strict=False)
        table = [
            {
                "from": low,
                "to": high,
                "count": int(n),
                "confidence": its_sum / n if n else None,
                "accuracy": its_right / n if n else None,
            }
            for low, high, n, its_sum, its_right in rows
        ]
        return {
            "mean_confidence": float(sure.sum() / total) if total else None,
            "calibration_error": float(abs(sure - right).sum() / total) if total else None,
            "reliability": table,
        }


def calibration(probabilities: Any, right: Any, bins: int = _BINS) -> dict[str, Any]:
    """Compare how sure a model is of its predictions with how often they are right.

    The expected calibration error is the mean over all predictions of how far the accuracy in a bin of similar
    probabilities lies from their mean: Σ_b n_b/N·|accuracy_b - confidence_b| (Naeini, Cooper and Hauskrecht 2015; Guo
    et al. 2017). It depends on the number of bins, and is above 0 by chance where they hold few predictions.

    Parameters
    ----------
    probabilities : (N,) array
        How probable each prediction is by the model.
    right : (N,) array of bool
        Which of them are right.
    bins : int
        Of equal width, from 0 to 1; what lies on an edge belongs to the lower one.

    Returns
    -------
    dict
        mean_confidence, calibration_error (None where there are no predictions); reliability: a list with a dict for
        each bin: from, to, count, confidence (their mean probability) and accuracy, None in empty ones.
        `rnncore.plots.plot_reliability` draws it.

    Raises
    ------
    ValueError
        For arrays that do not fit together, and probabilities outside of 0 to 1.

    Examples
    --------
    >>> found = calibration([0.95, 0.85, 0.6, 0.6], [True, True, True, False], bins=2)
    >>> round(found["mean_confidence"], 3), round(found["calibration_error"], 3)
    (0.75, 0.0)
    >>> [row["count"] for row in found["reliability"]]
    [0, 4]
    """
    reliability = Reliability(bins)
    reliability.add(probabilities, right)
    return reliability.result()
