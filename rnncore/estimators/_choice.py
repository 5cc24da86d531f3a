"""Which symbol comes next: drawn from probabilities, sharpened or cut off."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.optim.arguments import check_count, check_number

__all__ = ["NOT_FINITE", "Choice"]


NOT_FINITE = "what the network predicts is not finite: its weights are damaged; train it again"


class Choice:
    """Draws one number from probabilities.

    Parameters
    ----------
    temperature : float
        p ∝ p^(1/temperature): below 1 the probable become more so; 0: always the most probable one.
    top_k : int, optional
        Only the k most probable ones.
    top_p : float, optional
        Only the most probable ones that make up so much together (Holtzman et al. 2020).
    forbidden : list of int
        Never these.

    Raises
    ------
    ValueError, TypeError
        For settings out of range.

    Examples
    --------
    >>> choice = Choice(top_k=2)
    >>> rng = np.random.default_rng(0)
    >>> sorted({choice(np.array([0.2, 0.3, 0.5]), rng) for _ in range(50)})
    [1, 2]
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        forbidden: list[int] | None = None,
    ) -> None:
        check_number("temperature", temperature, "[0, inf)", 0.8)
        if top_k is not None:
            check_count("top_k", top_k, 1)
        if top_p is not None:
            check_number("top_p", top_p, "(0, 1]", 0.9)
        self.temperature, self.top_k, self.top_p = float(temperature), top_k, top_p
        self.forbidden = forbidden or []

    def weights(self, p: Any) -> np.ndarray:
        """Return what the numbers' chances are proportional to, (K,) float64."""
        w = np.array(p, dtype=np.float64)
        if self.forbidden:
            w[self.forbidden] = 0
        if not np.isfinite(w).all():
            raise ValueError(NOT_FINITE)
        largest = w.max()
        if not largest > 0:  # all that is left is impossible: each is as good
            w[:] = 1
            w[self.forbidden] = 0
            return w
        if self.temperature == 0:
            best = int(w.argmax())
            w[:] = 0
            w[best] = 1
            return w
        if self.temperature != 1:
            with np.errstate(under="ignore"):
                w = np.power(w / largest, 1 / self.temperature)
        if self.top_k is not None and self.top_k < len(w):
            w[np.argsort(-w, kind="stable")[self.top_k :]] = 0
        if self.top_p is not None and self.top_p < 1:
            order = np.argsort(-w, kind="stable")
            reached = np.cumsum(w[order])
            w[order[int(np.searchsorted(reached, self.top_p * reached[-1])) + 1 :]] = 0
        return w

    def __call__(self, p: Any, rng: np.random.Generator) -> int:
        """Draw one."""
        reached = np.cumsum(self.weights(p))
        found = int(np.searchsorted(reached, rng.random() * reached[-1], side="right"))
        return min(found, int(np.searchsorted(reached, reached[-1])))
