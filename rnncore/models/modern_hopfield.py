"""The modern Hopfield network: continuous states, and an energy that stores exponentially many patterns."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning

from rnncore import _checks, _threads
from rnncore._core.dense import Dense
from rnncore.models._memory import Memory
from rnncore.optim.arguments import check_count, check_number

__all__ = ["ModernHopfield"]


class ModernHopfield(Memory):
    """Modern Hopfield network of Ramsauer et al. 2021 (arXiv 2008.02217): one step is what attention does.

    With the patterns as rows of X (P, N) and M the largest of their norms,

        s' = Xᵀ·softmax(beta·X·s)
        E = -lse(beta, X·s) + ½·sᵀ·s + log(P)/beta + ½·M²,   lse(beta, z) = log(Σ exp(beta·z_i))/beta      never rises

    Parameters
    ----------
    beta : float
        Inverse temperature. Large: states end at single patterns; small: at means of many. (1/√N is what transformers
        have.)
    max_steps : int
        1: attention.
    tolerance : float
        A state has settled where no unit changes by more than this times the largest norm.
    dtype : {"float64", "float32"}
    n_threads : int or None
        Results are the same for any number.

    Attributes
    ----------
    patterns_ : (P, N) array
    n_features_in_ : int

    Examples
    --------
    Far more patterns than units, and half of each unit's numbers unknown:

    >>> import numpy as np, rnncore as rc
    >>> patterns = np.random.default_rng(0).choice([-1.0, 1.0], (2000, 64))
    >>> memory = rc.models.ModernHopfield().fit(patterns)
    >>> damaged = patterns[:100] * (np.arange(64) < 40)
    >>> bool((np.sign(memory.predict(damaged)) == patterns[:100]).mean() > 0.99)
    True
    """

    _arrays: ClassVar[tuple[str, ...]] = ("patterns_",)

    patterns_: np.ndarray

    def __init__(
        self,
        beta: float = 1.0,
        *,
        max_steps: int = 100,
        tolerance: float = 1e-6,
        dtype: Any = "float64",
        n_threads: int | None = None,
    ) -> None:
        self.beta = beta
        self.max_steps = max_steps
        self.tolerance = tolerance
        self.dtype = dtype
        self.n_threads = n_threads

    def fit(self, patterns: Any, y: Any = None) -> Self:
        """Keep patterns (P, N) of any finite numbers; y is ignored."""
        self._check_settings()
        self.patterns_ = self._numbers_in(patterns, "patterns", None)
        self.n_features_in_ = self.patterns_.shape[1]
        return self

    def predict(self, states: Any) -> np.ndarray:
        """Let states (B, N) run until they settle, or for `max_steps`; return where they are then."""
        s = self._states_in(states)
        look, mean = self._products()
        threads, limit = self._threads(), self.tolerance * self._largest()
        moving = np.arange(len(s))
        for _ in range(self.max_steps):
            before = s[moving]
            s[moving] = mean(softmax(self.beta * look(before, threads), axis=1), threads)
            moving = moving[np.abs(s[moving] - before).max(axis=1) > limit]
            if not len(moving):
                break
        else:
            if self.max_steps > 1:
                warnings.warn(
                    f"{len(moving)} states still moved after max_steps={self.max_steps}",
                    ConvergenceWarning,
                    stacklevel=2,
                )
        return s

    def associations(self, states: Any) -> np.ndarray:
        """Return how much each pattern has to do with states (B, N): softmax(beta·X·s), (B, P).

        Examples
        --------
        >>> import rnncore as rc
        >>> memory = rc.models.ModernHopfield(beta=2.0).fit([[1, 0], [0, 1]])
        >>> memory.associations([[1, 0]]).round(3).tolist()
        [[0.881, 0.119]]
        """
        look, _ = self._products()
        found: np.ndarray = softmax(self.beta * look(self._states_in(states), self._threads()), axis=1)
        return found

    def energy(self, states: Any) -> np.ndarray:
        """Return E of states (B, N), (B,)."""
        s = self._states_in(states)
        look, _ = self._products()
        close = logsumexp(self.beta * look(s, self._threads()).astype(np.float64), axis=1) / self.beta
        constant = np.log(len(self.patterns_)) / self.beta + self._largest() ** 2 / 2
        found: np.ndarray = np.square(s, dtype=np.float64).sum(axis=1) / 2 - close + constant
        return found

    def _products(self) -> tuple[Any, Any]:
        """Return s·Xᵀ and p·X as functions of rows and a number of threads."""
        made = []
        for W in (np.ascontiguousarray(self.patterns_.T), self.patterns_):
            dense = Dense(W.itemsize, W.shape[0], W.shape[1], 0, -1, False)
            flat = W.reshape(-1)
            dense.hold(flat)
            made.append(lambda rows, threads, dense=dense, flat=flat: dense.forward(flat, rows, threads))
        return made[0], made[1]

    def _largest(self) -> float:
        return float(np.linalg.norm(self.patterns_, axis=1).max())

    def _states_in(self, states: Any) -> np.ndarray:
        self._check_fitted()
        self._check_settings()
        return self._numbers_in(states, "states", self.n_features_in_)

    def _numbers_in(self, value: Any, name: str, width: int | None) -> np.ndarray:
        found = _checks.array(value, name)
        if found.ndim != 2 or not found.size or (width is not None and found.shape[1] != width):
            raise ValueError(f"{name} must be an array (number, {width or 'units'}), got shape {found.shape}")
        made = np.array(found, dtype=_checks.dtype(self.dtype) if width is None else self.patterns_.dtype, order="C")
        if not np.isfinite(made).all():
            raise ValueError(f"{name} must be finite numbers")
        return made

    def _threads(self) -> int:
        return _threads.resolve(_threads.check(self.n_threads))

    def _check_settings(self) -> None:
        check_number("beta", self.beta, "(0, 1e9]", 1.0)
        check_number("tolerance", self.tolerance, "[0, 1e9]", 1e-6)
        check_count("max_steps", self.max_steps, 1)
        _checks.dtype(self.dtype)

    def _check_restored(self) -> None:
        X = self.patterns_
        if X.ndim != 2 or not X.size or X.shape[1] != self.n_features_in_ or X.dtype not in _checks.FLOATS:
            raise ValueError(f"expected patterns_ of {self.n_features_in_} units, got {X.dtype} {X.shape}")
        if not np.isfinite(X).all():
            raise ValueError("patterns_ must be finite numbers")
