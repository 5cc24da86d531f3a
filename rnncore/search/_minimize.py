"""The door: checks what is asked for, and lets a method search until its budget, its target or itself ends."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, effective_n_jobs

from rnncore import _checks
from rnncore.optim.arguments import check_choice, check_count, check_number
from rnncore.search._evaluator import Evaluator, Finished, SearchResult
from rnncore.search._methods import Annealing, Evolution, Genetic, Guessing
from rnncore.search._others import cma, differential_evolution, dual_annealing

__all__ = ["METHODS", "SearchResult", "minimize"]


#: name: a class whose objects make candidates and learn how good they are, or a function that drives the evaluations
METHODS: dict[str, Any] = {
    "random": Guessing,
    "genetic": Genetic,
    "annealing": Annealing,
    "evolution": Evolution,
    "cma": cma,
    "dual_annealing": dual_annealing,
    "differential_evolution": differential_evolution,
}


def minimize(
    start: Any,
    objective: Callable[[Any], Any],
    method: str = "cma",
    *,
    bounds: Any = (-1.0, 1.0),
    max_evaluations: int = 10_000,
    target: float | None = None,
    random_state: Any = 0,
    n_jobs: int | None = None,
    vectorized: bool = False,
    callback: Callable[[SearchResult], Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> SearchResult:
    """Search for the parameters with the smallest objective, without its gradient.

    Parameters
    ----------
    start : network, or array (n,)
        Anything with a flat ``theta``: its parameters are searched, and it holds the best ones afterwards (those of
        before, if an exception ends the search). Or the numbers themselves.
    objective : callable
        Takes the network, which then holds a candidate, or an array (n,); returns a number. NaN counts as infinite.
    method : str
        - "random": guesses, uniform within the bounds (Hochreiter and Schmidhuber 1996). Option `batch`.
        - "genetic": real numbers as genes (Holland 1975), parents by tournament, blend crossover (Eshelman and Schaffer
          1993), Gaussian mutation. Options `population`, `tournament`, `blend`, `mutation_rate`, `mutation_scale`,
          `elite`.
        - "annealing": Gaussian steps, worse ones taken with probability exp(-Δ/T), T falling geometrically
          (Kirkpatrick, Gelatt and Vecchi 1983). Options `temperature`, `cooling`, `step`, `chains`, `restarts`.
        - "evolution": strategies (μ, λ) and (μ + λ) with step sizes that evolve (Schwefel 1981). Options `parents`,
          `offspring`, `selection` ("comma", "plus"), `recombination` ("intermediate", "none"), `sigma`.
        - "cma": covariance matrix adaptation by the author's package, ``pip install 'rnncore[search]'``; starts again
          with twice the population where it has converged (Auger and Hansen 2005). Options `sigma`, `population`.
        - "dual_annealing", "differential_evolution": SciPy's, with its options.
    bounds : (low, high)
        Numbers or arrays (n,). Random guesses and SciPy's methods stay within; others begin there, and their steps are
        told as parts of its width: "cma" at `start`, "genetic", "evolution" and "annealing" at random.
    max_evaluations : int
        The budget. All of it is used unless the target is reached, the callback says stop or SciPy's method converges.
    target : float or None
        Stop at the first candidate whose objective is not above.
    random_state : int, Generator or None
    n_jobs : int or None
        Processes that a generation's candidates are spread over, as joblib counts. The same result for any number;
        "annealing" has as many candidates at a time as `chains`, "dual_annealing" one.
    vectorized : bool
        `objective` takes all candidates of a generation at once, (K, n), and returns (K,): for those who can.
    callback : callable, optional
        Takes the result so far after each generation; the search ends where it returns True.
    progress : bool
        Show a bar.
    **options
        Of the method.

    Returns
    -------
    SearchResult

    Raises
    ------
    ValueError, TypeError
        For arguments that cannot be used.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> found = rc.search.minimize(np.zeros(3), lambda x: np.sum((x - 0.5) ** 2), "evolution", max_evaluations=2000)
    >>> bool(found.value < 1e-6), found.evaluations
    (True, 2000)

    A network that shall tell whether the first of ten numbers was positive:

    >>> x = np.random.default_rng(0).standard_normal((10, 100, 1)).astype("float32")
    >>> def wrong(net):
    ...     return np.mean((net.predict(x)[:, 0] > 0) != (x[0, :, 0] > 0))
    >>> net = rc.Network(rc.Recurrent("elman", 1, 2, activation="tanh"), head=rc.SquaredError(1, pooling="last"))
    >>> found = rc.search.minimize(net, wrong, "genetic", bounds=(-5, 5), target=0.05, max_evaluations=5000)
    >>> found.stopped, bool(wrong(net) == found.value <= 0.05)
    ('target', True)
    """
    check_choice("method", method, tuple(METHODS))
    known = _options_of(METHODS[method])
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"method={method!r} has no option {unknown[0]!r}; it has {', '.join(known)}")
    check_count("max_evaluations", max_evaluations, 1)
    if target is not None:
        check_number("target", target, "[-inf, inf]", 0.01)
    net = start if hasattr(start, "theta") else None
    before = np.array(net.theta) if net is not None else _numbers(start)
    low, high = _limits(bounds, before.size)
    rng = np.random.default_rng(random_state)
    jobs = 1 if vectorized else effective_n_jobs(n_jobs)
    with Parallel(n_jobs=jobs) as parallel:
        evaluate = Evaluator(
            net, objective, before.dtype, method, max_evaluations, target, callback, progress, vectorized, parallel
        )
        try:
            _search(METHODS[method], evaluate, before.astype(np.float64), low, high, rng, options)
        except Finished:
            pass
        except BaseException:
            if net is not None:
                net.theta[:] = before
            raise
        finally:
            evaluate.close()
    found = evaluate.result()
    if net is not None:
        net.theta[:] = found.theta
    return found


def _search(
    method: Any,
    evaluate: Evaluator,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
    options: dict[str, Any],
) -> None:
    if not isinstance(method, type):
        method(evaluate, start, low, high, rng, **options)
        return
    generations: Any = method(start, low, high, evaluate.budget, rng, **options)
    while True:
        candidates = generations.ask()
        generations.tell(candidates, evaluate(candidates))


def _options_of(method: Any) -> tuple[str, ...]:
    parameters = inspect.signature(method).parameters.items()
    return tuple(name for name, part in parameters if part.kind is part.KEYWORD_ONLY)


def _numbers(start: Any) -> np.ndarray:
    found = _checks.array(start, "start")
    if found.ndim != 1 or not found.size:
        raise ValueError(f"start must be a network with a flat theta, or an array (n,), got shape {found.shape}")
    found = np.array(found, dtype=found.dtype if found.dtype in _checks.FLOATS else np.float64)
    if not np.isfinite(found).all():
        raise ValueError("start must be finite numbers")
    return found


def _limits(bounds: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        low, high = (np.broadcast_to(np.asarray(end, dtype=np.float64), (n,)).copy() for end in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"bounds must be (low, high), each a number or {n} of them; got {bounds!r}") from None
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ValueError("bounds must be finite numbers, the lower ones below the upper ones")
    return low, high
