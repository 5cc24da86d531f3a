"""Hopfield's network of units with graded responses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit, logit, xlogy
from sklearn.exceptions import ConvergenceWarning

from rnncore import _checks, _threads
from rnncore._core.dense import Dense
from rnncore.models._memory import Memory, as_patterns, check_couplings
from rnncore.models._rules import RULES, add_hebb, add_storkey, project
from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["ContinuousHopfield", "Trajectory"]

_NEARLY_ON = 0.99  # outputs of ±1 belong to infinite inputs: this is where the network starts instead
_STEP = 0.5  # a step of time, as a part of what the fastest change takes at least


@dataclass(frozen=True)
class Trajectory:
    """A network's way.

    Attributes
    ----------
    times : (S,) array
    outputs : (S, N) array
        V.
    energies : (S,) array
    settled : bool
        Whether nothing moved any more at its end.
    """

    times: np.ndarray
    outputs: np.ndarray
    energies: np.ndarray
    settled: bool


class ContinuousHopfield(Memory):
    """Hopfield's network of units with graded responses, in continuous time (Hopfield 1984).

    With symmetric couplings T, inputs I and outputs V = g(u),

        C·du_i/dt = Σ_j T_ij·V_j - u_i/R + I_i                       g(u) = tanh(gain·u), or 1/(1 + exp(-gain·u))
        E = -½·Σ T_ij·V_i·V_j + (1/R)·Σ ∫_0^{V_i} g⁻¹(v) dv - Σ I_i·V_i      dE/dt <= 0

    Parameters
    ----------
    rule : {"hebb", "projection", "storkey"}
        What couplings patterns leave, as in `Hopfield`.
    gain : float
        Large ones make units all but two-valued.
    activation : {"tanh", "logistic"}
        Whether outputs, and the patterns of `fit`, lie between -1 and 1 or between 0 and 1. (Patterns of 0 and 1 leave
        the couplings of the same ones in -1 and 1.)
    resistance, capacitance : float
        R and C.
    inputs : None, float or (N,) array
        I. None: zeros.
    method : {"rk4", "euler"}
        Runge and Kutta's of fourth order, or Euler's.
    dt : float or None
        Step of time. None: half of C/(1/R + slope·‖T‖), the slope g's steepest, Frobenius' norm.
    tolerance : float
        A pattern has settled where no C·du/dt is larger.
    max_steps : int
    dtype : {"float64", "float32"}
    n_threads : int or None
        Results are the same for any number.

    Attributes
    ----------
    weights_ : (N, N) array
        T.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> patterns = np.random.default_rng(0).choice([-1, 1], (4, 100))
    >>> damaged = patterns * np.where(np.arange(100) < 15, -1, 1)
    >>> memory = rc.models.ContinuousHopfield().fit(patterns)
    >>> bool((np.sign(memory.predict(damaged)) == patterns).all())
    True
    >>> way = memory.trajectory(damaged[0])
    >>> bool(np.diff(way.energies).max() <= 1e-9)
    True
    """

    _arrays: ClassVar[tuple[str, ...]] = ("weights_",)

    weights_: np.ndarray

    def __init__(
        self,
        rule: str = "hebb",
        gain: float = 10.0,
        *,
        activation: str = "tanh",
        resistance: float = 1.0,
        capacitance: float = 1.0,
        inputs: Any = None,
        method: str = "rk4",
        dt: float | None = None,
        tolerance: float = 1e-6,
        max_steps: int = 20_000,
        dtype: Any = "float64",
        n_threads: int | None = None,
    ) -> None:
        self.rule = rule
        self.gain = gain
        self.activation = activation
        self.resistance = resistance
        self.capacitance = capacitance
        self.inputs = inputs
        self.method = method
        self.dt = dt
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.dtype = dtype
        self.n_threads = n_threads

    @classmethod
    def of_weights(cls, weights: Any, **parameters: Any) -> Self:
        """Make a network of couplings (N, N) that are known already, symmetric; parameters as the constructor's."""
        made = cls(**parameters)
        made._check_settings()
        made.weights_ = check_couplings(weights, _checks.dtype(made.dtype), zero_diagonal=False)
        made.n_features_in_ = len(made.weights_)
        return made

    def fit(self, patterns: Any, y: Any = None) -> Self:
        """Learn patterns.

        Parameters
        ----------
        patterns : (P, N) array
            Of -1 and 1; with logistic units of 0 and 1.
        y : ignored
        """
        self._check_settings()
        found = as_patterns(patterns, "patterns", "binary" if self.activation == "logistic" else "bipolar")
        units = found.shape[1]
        W = np.zeros((units, units), dtype=_checks.dtype(self.dtype))
        if self.rule == "hebb":
            add_hebb(W, found, first=True)
            W /= units
        elif self.rule == "storkey":
            add_storkey(W, found, self._threads())
        else:
            project(W, found)
        self.weights_, self.n_features_in_ = W, units
        return self

    def predict(self, states: Any) -> np.ndarray:
        """Let the network run from outputs (B, N) until it settles; return its outputs then."""
        V = self._outputs_in(states, "states")
        dynamics = _Dynamics(self)
        u, moving = self._inverse(V), np.arange(len(V))
        for _ in range(self.max_steps):
            change = dynamics.change(u[moving])
            moving = moving[np.abs(change).max(axis=1) * self.capacitance > self.tolerance]
            if not len(moving):
                break
            u[moving] = dynamics.step(u[moving])
        else:
            warnings.warn(
                f"{len(moving)} patterns still moved after max_steps={self.max_steps} of dt={dynamics.dt:.3g}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self._outputs(u)

    def trajectory(self, state: Any, every: int = 1) -> Trajectory:
        """Follow the network from outputs (N,); keep each `every`-th step, and the last."""
        check_count("every", every, 1)
        V = self._outputs_in(np.asarray(state)[None], "state")
        dynamics = _Dynamics(self)
        u, times, kept = self._inverse(V), [0.0], [self._inverse(V)]
        settled, n = False, 0
        while n < self.max_steps and not settled:
            settled = bool(np.abs(dynamics.change(u)).max() * self.capacitance <= self.tolerance)
            if not settled:
                u, n = dynamics.step(u), n + 1
            if n % every == 0 or settled or n == self.max_steps:
                times.append(n * dynamics.dt)
                kept.append(u)
        path = np.concatenate(kept)
        return Trajectory(np.array(times), self._outputs(path), self._energies(path), settled)

    def energy(self, states: Any) -> np.ndarray:
        """Return E of outputs (B, N), (B,)."""
        return self._energies(self._inverse(self._outputs_in(states, "states", nearly=False)))

    def _energies(self, u: np.ndarray) -> np.ndarray:
        V = self._outputs(u).astype(np.float64)
        quadratic = np.einsum("bn,bn->b", V, _product(self.weights_.astype(np.float64))(V, self._threads()))
        if self.activation == "tanh":
            inside = (xlogy(1 + V, 1 + V) + xlogy(1 - V, 1 - V)) / 2
        else:
            inside = xlogy(V, V) + xlogy(1 - V, 1 - V)
        stored = inside.sum(axis=1) / (self.gain * self.resistance)
        found: np.ndarray = stored - quadratic / 2 - (V * self._inputs()).sum(axis=1)
        return found

    def _outputs_in(self, states: Any, name: str, nearly: bool = True) -> np.ndarray:
        self._check_fitted()
        self._check_settings()
        found, N = _checks.array(states, name), self.n_features_in_
        if found.ndim != 2 or found.shape[1] != N or not found.size:
            raise ValueError(f"{name} must be an array (number of states, {N}), got shape {found.shape}")
        low = 0 if self.activation == "logistic" else -1
        V = np.ascontiguousarray(found, dtype=self.weights_.dtype)
        if not ((low <= V) & (V <= 1)).all():
            raise ValueError(f"{name} must be outputs from {low} to 1, as activation={self.activation!r} has them")
        if not nearly:
            return V
        middle, most = (0.5, _NEARLY_ON / 2) if low == 0 else (0.0, _NEARLY_ON)
        return np.clip(V, middle - most, middle + most)

    def _outputs(self, u: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.tanh(self.gain * u) if self.activation == "tanh" else expit(self.gain * u)
        return found

    def _inverse(self, V: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            found: np.ndarray = (np.arctanh(V) if self.activation == "tanh" else logit(V)) / V.dtype.type(self.gain)
        return found

    def _inputs(self) -> np.ndarray:
        units = self.n_features_in_
        found = np.asarray(_checks.array(0.0 if self.inputs is None else self.inputs, "inputs"), dtype=np.float64)
        if found.shape not in ((), (units,)) or not np.isfinite(found).all():
            raise ValueError(f"inputs must be a finite number or {units} of them, got shape {found.shape}")
        return np.broadcast_to(found, (units,))

    def _threads(self) -> int:
        return _threads.resolve(_threads.check(self.n_threads))

    def _check_settings(self) -> None:
        check_choice("rule", self.rule, RULES)
        check_choice("activation", self.activation, ("tanh", "logistic"))
        check_choice("method", self.method, ("rk4", "euler"))
        for name in ("gain", "resistance", "capacitance", "tolerance"):
            check_number(name, getattr(self, name), "(0, 1e9]", 1.0)
        if self.dt is not None:
            check_number("dt", self.dt, "(0, 1e9]", 0.01)
        check_count("max_steps", self.max_steps, 1)
        _checks.dtype(self.dtype)

    def _check_restored(self) -> None:
        self.weights_ = check_couplings(self.weights_, self.weights_.dtype, zero_diagonal=False)
        if self.weights_.dtype not in _checks.FLOATS or len(self.weights_) != self.n_features_in_:
            raise ValueError(f"expected weights_ of {self.n_features_in_} units")


class _Dynamics:
    """The network's equation, for states u (B, N), and one step along it."""

    def __init__(self, net: ContinuousHopfield) -> None:
        self._net, self._threads = net, net._threads()
        self._product = _product(net.weights_)
        self._inputs = net._inputs().astype(net.weights_.dtype)
        slope = net.gain if net.activation == "tanh" else net.gain / 4
        norm = float(np.linalg.norm(net.weights_))
        self.dt = net.dt or _STEP * net.capacitance / (1 / net.resistance + slope * norm)

    def change(self, u: np.ndarray) -> np.ndarray:
        net = self._net
        sums = self._product(net._outputs(u), self._threads)
        found: np.ndarray = (sums - u / net.resistance + self._inputs) / net.capacitance
        return found

    def step(self, u: np.ndarray) -> np.ndarray:
        h, f = self.dt, self.change
        first = f(u)
        if self._net.method == "euler":
            return u + h * first
        second = f(u + h / 2 * first)
        third = f(u + h / 2 * second)
        return u + h / 6 * (first + 2 * second + 2 * third + f(u + h * third))


def _product(W: np.ndarray) -> Any:
    """Return a function of rows and a number of threads: rows·W, each row for itself to the bit."""
    dense = Dense(W.itemsize, len(W), W.shape[1], 0, -1, False)
    flat = W.reshape(-1)
    dense.hold(flat)
    return lambda rows, threads: dense.forward(flat, np.ascontiguousarray(rows), threads)
