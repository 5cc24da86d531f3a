"""Methods of other packages, driven by the same evaluations: CMA-ES of its author, and SciPy's."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnncore.optim.arguments import check_count, check_number
from rnncore.search._evaluator import Evaluator

__all__ = ["cma", "differential_evolution", "dual_annealing"]

_LARGE = 1e150  # for infinite values, with which SciPy's methods cannot calculate


def cma(
    evaluate: Evaluator,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
    *,
    sigma: float = 0.3,
    population: int | None = None,
) -> None:
    """Evolve a normal distribution: first around `start`, then anywhere, with twice the population."""
    try:
        from cma import CMAEvolutionStrategy
    except ImportError:
        raise ValueError("method='cma' needs the package cma: pip install 'rnncore[search]'") from None
    check_number("sigma", sigma, "(0, 10]", 0.3)
    if population is not None:
        check_count("population", population, 2)
    size, width, begin = population or 4 + int(3 * np.log(len(start))), high - low, (start - low) / (high - low)
    padding = np.full(1 if len(start) == 1 else 0, 0.5)  # the package wants two numbers at least
    while True:
        strategy = CMAEvolutionStrategy(
            np.concatenate([begin, padding]),
            sigma,
            {"popsize": size, "verbose": -9, "seed": np.nan, "randn": lambda *shape: rng.standard_normal(shape)},
        )
        while not strategy.stop():
            points = strategy.ask()
            candidates = low + np.array(points)[:, : len(start)] * width
            strategy.tell(points, evaluate(candidates))
        begin, size = rng.random(len(start)), 2 * size


def dual_annealing(
    evaluate: Evaluator,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
    *,
    initial_temp: float = 5230.0,
    restart_temp_ratio: float = 2e-5,
    visit: float = 2.62,
    accept: float = -5.0,
    no_local_search: bool = False,
) -> None:
    """Anneal with steps of heavy tails, and search from there."""
    from scipy.optimize import dual_annealing as scipys

    scipys(
        lambda x: min(float(evaluate(x[None])[0]), _LARGE),
        list(zip(low, high, strict=True)),
        maxiter=10**9,
        maxfun=10**9,
        initial_temp=initial_temp,
        restart_temp_ratio=restart_temp_ratio,
        visit=visit,
        accept=accept,
        no_local_search=no_local_search,
        x0=start if ((start >= low) & (start <= high)).all() else None,
        **_random(scipys, rng),
    )


def differential_evolution(
    evaluate: Evaluator,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
    *,
    strategy: str = "best1bin",
    popsize: int = 15,
    tol: float = 0.0,
    atol: float = 0.0,
    mutation: Any = (0.5, 1.0),
    recombination: float = 0.7,
    init: Any = "latinhypercube",
) -> None:
    """Move candidates by differences of others."""
    from scipy.optimize import differential_evolution as scipys

    def values(_: Any, candidates: Iterable[np.ndarray]) -> list[float]:
        return np.minimum(evaluate(np.array(list(candidates))), _LARGE).tolist()

    scipys(
        lambda x: 0.0,
        list(zip(low, high, strict=True)),
        maxiter=10**9,
        strategy=strategy,
        popsize=popsize,
        tol=tol,
        atol=atol,
        mutation=mutation,
        recombination=recombination,
        init=init,
        polish=False,
        updating="deferred",
        workers=values,
        **_random(scipys, rng),
    )


def _random(function: Any, rng: np.random.Generator) -> dict[str, np.random.Generator]:
    """Return the random numbers under the name that this SciPy gives them."""
    return {"rng" if "rng" in inspect.signature(function).parameters else "seed": rng}
