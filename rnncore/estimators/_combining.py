"""Probabilities of several models as one: their mean or their product, and the weights that suit given data best.

    mean       p_k = Σ_m w_m p_mk
    product    p_k ∝ Π_m p_mk^{w_m}                          (a logarithmic opinion pool: Σ_m w_m log p_mk, normalised)

Both with w ≥ 0 and Σ w = 1. The mean log-loss of either is convex in w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rnncore import _checks

__all__ = ["COMBINATIONS", "check_weights", "chosen_weights", "combined", "log_floor"]

COMBINATIONS = ("mean", "product")
_LEAST = float(np.finfo(np.float32).tiny)  # of a probability in a product: one member's zero, or underflow, is no veto


def check_weights(weights: Any, n_members: int) -> np.ndarray:
    """Return how much each member counts, (M,) with the sum 1; None: all alike.

    Raises
    ------
    ValueError
        For weights of another number, below 0, or all 0.

    Examples
    --------
    >>> check_weights([3, 1], 2).tolist()
    [0.75, 0.25]
    """
    if weights is None:
        return np.full(n_members, 1 / n_members)
    found = _checks.array(weights, "weights")
    if found.shape != (n_members,) or found.dtype.kind not in "fiu":
        raise ValueError(f"weights must be {n_members} numbers, one for each member, or 'validation'; got {weights!r}")
    found = found.astype(np.float64)
    if not np.isfinite(found).all() or found.min() < 0 or not found.max() > 0:
        raise ValueError(f"weights must be numbers from 0 on, not all of them 0; got {weights!r}")
    found = found / found.max()
    normalised: np.ndarray = found / found.sum()
    return normalised


def log_floor(p: np.ndarray) -> np.ndarray:
    """Return log p, finite: a probability that is 0 counts as the least one that float32 can hold."""
    return np.log(np.maximum(p, _LEAST, dtype=np.float64))


def combined(members: Iterable[np.ndarray], weights: np.ndarray, how: str) -> np.ndarray:
    """Return the probabilities of the members together, float64, of the shape that each member's have.

    Examples
    --------
    >>> members = [np.array([0.5, 0.5]), np.array([0.1, 0.9])]
    >>> combined(members, np.array([0.5, 0.5]), "mean").round(2).tolist()
    [0.3, 0.7]
    >>> combined(members, np.array([0.5, 0.5]), "product").round(2).tolist()
    [0.25, 0.75]
    """
    total: Any = 0.0
    for p, weight in zip(members, weights, strict=True):
        total = total + weight * (p.astype(np.float64) if how == "mean" else log_floor(p))
    if how == "mean":
        found: np.ndarray = total
        return found
    total -= total.max(axis=-1, keepdims=True)
    np.exp(total, out=total)
    total /= total.sum(axis=-1, keepdims=True)
    found = total
    return found


def chosen_weights(members: np.ndarray, right: np.ndarray, how: str) -> np.ndarray:
    """Return the weights with which the mean log-loss of the combination is least.

    Parameters
    ----------
    members : (M, N, K) array
        Each member's probabilities.
    right : (N,) int array
        Which is the right one.
    how : "mean" or "product"

    Examples
    --------
    >>> good, bad = np.array([[0.9, 0.1]] * 5), np.array([[0.5, 0.5]] * 5)
    >>> chosen_weights(np.array([bad, good]), np.zeros(5, dtype=int), "mean").round(3).tolist()
    [0.0, 1.0]
    """
    of_right = np.take_along_axis(members, right[None, :, None], axis=2)[:, :, 0].astype(np.float64)
    if how == "mean":
        return _least(lambda w: _of_mean(w, of_right), len(members))
    logs = np.log(np.maximum(members, _LEAST, dtype=np.float32))
    return _least(lambda w: _of_product(w, logs, log_floor(of_right)), len(members))


def _of_mean(w: np.ndarray, of_right: np.ndarray) -> tuple[float, np.ndarray]:
    """Return -mean log Σ_m w_m p_m and its gradient."""
    together = np.maximum(w @ of_right, _LEAST)
    return float(-np.log(together).mean()), -(of_right / together).mean(axis=1)


def _of_product(w: np.ndarray, logs: np.ndarray, of_right: np.ndarray) -> tuple[float, np.ndarray]:
    """Return mean(log Σ_k e^{Σ_m w_m log p_mk} - Σ_m w_m log p_m) and its gradient."""
    scores = np.tensordot(w.astype(np.float32), logs, axes=1)
    largest = scores.max(axis=1)
    e = np.exp(scores - largest[:, None])
    total = e.sum(axis=1)
    e /= total[:, None]
    loss = (np.log(total.astype(np.float64)) + largest - w @ of_right).mean()
    of_all = np.array([np.vdot(one, e) for one in logs], dtype=np.float64) / len(e)
    return float(loss), of_all - of_right.mean(axis=1)


def _least(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], n_members: int) -> np.ndarray:
    """Minimise a convex function of weights that are at least 0 and have the sum 1."""
    from scipy.optimize import minimize

    equal = np.full(n_members, 1 / n_members)
    rule = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(n_members)}
    bounds = [(0.0, 1.0)] * n_members
    options = {"ftol": 1e-10, "maxiter": 200}
    found = minimize(loss, equal, jac=True, bounds=bounds, constraints=[rule], method="SLSQP", options=options).x
    found = np.clip(found, 0, None)
    return found / found.sum() if loss(found / found.sum())[0] <= loss(equal)[0] else equal
