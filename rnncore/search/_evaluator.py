"""Evaluations: here or in other processes, counted in their order, until the budget is spent or the target reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed

__all__ = ["Evaluator", "Finished", "SearchResult"]


class Finished(Exception):  # noqa: N818 (no error: how a search ends, from within whatever drives it)
    """The search has ended."""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes
    ----------
    theta : (n,) array
        The best parameters.
    value : float
        Their objective.
    evaluations : int
        How many there were until the search ended.
    history : list of (int, float)
        Each evaluation that was better than all before, and its value.
    stopped : {"target", "budget", "callback", "converged", "running"}
    method : str
    """

    theta: np.ndarray
    value: float
    evaluations: int
    history: list[tuple[int, float]]
    stopped: str
    method: str


def _values_of(net: Any, objective: Callable[[Any], Any], candidates: np.ndarray, target: float) -> list[float]:
    """Evaluate candidates one after another, until one reaches the target."""
    found = []
    for candidate in candidates:
        if net is None:
            given = objective(candidate)
        else:
            net.theta[:] = candidate
            given = objective(net)
        found.append(_number(given))
        if found[-1] <= target:
            break
    return found


def _number(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"objective must return a number, got {type(value).__name__}") from None
    return np.inf if np.isnan(found) else found


class Evaluator:
    """Takes candidates (K, n), returns their values (K,), and knows what was best.

    It raises `Finished` in place of returning where the search has to end. What counts is the order of candidates:
    those behind the first that reaches the target, or beyond the budget, might never have been evaluated.
    """

    def __init__(
        self,
        net: Any,
        objective: Callable[[Any], Any],
        dtype: np.dtype,
        method: str,
        budget: int,
        target: float | None,
        callback: Callable[[SearchResult], Any] | None,
        progress: bool,
        vectorized: bool,
        parallel: Parallel,
    ) -> None:
        self.budget = budget
        self._net, self._objective, self._dtype, self._method = net, objective, dtype, method
        self._target = -np.inf if target is None else float(target)
        self._callback, self._vectorized, self._parallel = callback, vectorized, parallel
        self._done, self._best, self._value = 0, None, np.inf
        self._history: list[tuple[int, float]] = []
        self._stopped = "converged"
        self._bar: Any = None
        if progress:
            from tqdm import tqdm

            self._bar = tqdm(total=budget, unit="evaluations", desc=method)

    def __call__(self, candidates: np.ndarray) -> np.ndarray:
        """Evaluate a generation."""
        some = np.ascontiguousarray(candidates[: self.budget - self._done], dtype=self._dtype)
        values = self._evaluate(some)
        for candidate, value in zip(some, values, strict=False):
            self._done += 1
            if self._best is None or value < self._value:
                self._best, self._value = candidate.copy(), value
                self._history.append((self._done, value))
            if value <= self._target:
                self._finish("target")
        if self._bar is not None:
            self._bar.update(self._done - self._bar.n)
            self._bar.set_postfix(best=f"{self._value:.4g}")
        if self._callback is not None and self._callback(self.result("running")):
            self._finish("callback")
        if self._done >= self.budget:
            self._finish("budget")
        return np.array(values)

    def _evaluate(self, candidates: np.ndarray) -> list[float]:
        if self._vectorized:
            found = np.asarray(self._objective(candidates), dtype=np.float64)
            if found.shape != (len(candidates),):
                raise ValueError(
                    f"a vectorized objective must return {len(candidates)} values, one for each row of candidates; got "
                    f"shape {found.shape}"
                )
            return np.where(np.isnan(found), np.inf, found).tolist()
        jobs = min(self._parallel.n_jobs, len(candidates))
        if jobs == 1:
            return _values_of(self._net, self._objective, candidates, self._target)
        parts = self._parallel(
            delayed(_values_of)(self._net, self._objective, part, self._target)
            for part in np.array_split(candidates, jobs)
        )
        values: list[float] = []
        for part in parts:
            values += part
            if part[-1] <= self._target:
                break
        return values

    def result(self, stopped: str | None = None) -> SearchResult:
        """Return what is known by now."""
        if self._best is None:  # no method returns before its first candidates
            raise RuntimeError("nothing was evaluated")
        return SearchResult(
            self._best, self._value, self._done, list(self._history), stopped or self._stopped, self._method
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _finish(self, why: str) -> None:
        self._stopped = why
        if self._bar is not None:
            self._bar.update(self._done - self._bar.n)
            self._bar.set_postfix(best=f"{self._value:.4g}")
        raise Finished
