"""Losses of scores that a machine gives at each step, and what the scores mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks

LOSSES = {"sigmoid": "bits", "softmax": "classes", "squared": "numbers"}


def predictions(loss: str, scores: np.ndarray) -> np.ndarray:
    """Return probabilities of bits or of classes, or the numbers themselves."""
    if loss == "sigmoid":
        return 0.5 * (1 + np.tanh(0.5 * scores))
    return np.exp(_log_softmax(scores)) if loss == "softmax" else scores


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    low = scores - scores.max(axis=-1, keepdims=True)
    return low - np.log(np.exp(low).sum(axis=-1, keepdims=True))


def learn(
    loss: str, scores: np.ndarray, targets: Any, sample_weight: Any, batch: tuple[int, int], flat: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the mean loss and the gradient of the scores (rows, K).

    Parameters
    ----------
    targets : array (T, B, K), or (T, B) of classes
    batch : T and B
    flat : int array (rows,)
        Where each row lies among T·B.

    Raises
    ------
    ValueError
        For targets that do not fit, and where nothing counts.
    """
    (steps, sequences), outputs = batch, scores.shape[1]
    weights = np.ones(steps * sequences)
    if sample_weight is not None:
        given = _checks.sample_weight(sample_weight, steps, sequences)
        weights = np.broadcast_to(given, (steps, sequences)).ravel()
    weights = weights[flat]
    if loss == "softmax":
        inside = np.zeros(steps * sequences, dtype=bool)
        inside[flat] = True
        lengths = inside.reshape(steps, sequences).sum(axis=0)
        chosen = _checks.targets(targets, (steps, sequences), outputs, lengths).ravel()[flat]
        weights = weights * (chosen >= 0)
        logs = _log_softmax(scores)
        rows = np.arange(len(scores))
        losses, gradient = -logs[rows, chosen], np.exp(logs)
        gradient[rows, chosen] -= 1
    else:
        wanted = _checks.values(targets, (steps, sequences, outputs), scores.dtype).reshape(-1, outputs)[flat]
        gradient = predictions(loss, scores) - wanted
        if loss == "sigmoid":  # log(1 + e^z) - y·z
            each = np.maximum(scores, 0) + np.log1p(np.exp(-np.abs(scores))) - wanted * scores
        else:
            each = 0.5 * gradient**2
        losses = each.sum(axis=1)
    total = float(weights.sum())
    if not total > 0:
        raise ValueError("nothing counts in this batch: all weights are 0, or all targets -1")
    gradient = gradient * (weights / total)[:, None].astype(scores.dtype)
    return float((losses * weights).sum() / total), np.ascontiguousarray(gradient, dtype=scores.dtype)
