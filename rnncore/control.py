"""Control by a learned model: inputs such that what a `Forecaster` says of a plant follows a reference.

With y(k) the plant's outputs, u(k) its inputs, r the reference, H the horizon and ŷ the model, which goes on from its
own outputs, at every step k

    J(u) = Σ_i |ŷ(k+i) + e(k) - r(k+i)|² + s·Σ_i |u(k+i-1) - u(k+i-2)|²,   i = 1..H,   lower <= u <= upper
    e(k) = y(k) - ŷ(k), what the last forecast was wrong by

is made small by Gauss and Newton's method; the first of the inputs is put in, and all is thought over at the next step
(receding horizon; Nørgaard, Ravn, Poulsen and Hansen 2000, Neural Networks for Modelling and Control of Dynamic
Systems). The derivatives dŷ(k+i)/du(k+j) are exact: the network's gradients of its inputs and states, from the last
step back, for all i side by side as the sequences of a batch.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from rnncore.data.readers import DataError
from rnncore.estimators.forecaster import Forecaster
from rnncore.optim.arguments import check_count, check_number

__all__ = ["PredictiveController"]


class PredictiveController:
    """Choose inputs by looking ahead with a model of the plant (model-predictive control).

    Parameters
    ----------
    model : Forecaster
        Fitted to the plant's outputs y with its inputs as `X`: a row of X is what led to the row of y beside it, so
        that u(k) stands beside y(k+1). Of points, recursive, without logarithms, differences, past covariates and
        dropout; of one series, or with ``scale=False``.
    horizon : int
        Steps that are looked ahead, H.
    limits : (lower, upper)
        Between which inputs stay: numbers, or one for each input.
    smoothness : float
        What a change of an input counts beside an error of the same size, s.
    iterations : int
        Steps of Gauss and Newton's method each time, at most; they start from the plan before.

    Attributes
    ----------
    plan : (H, D)
        The inputs that were thought of last, the first of them returned.
    forecast : (H, C)
        What the model says to that, e added.

    Raises
    ------
    ValueError
        For a model that is not of this kind.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> from rnncore.control import PredictiveController
    >>> u = np.random.default_rng(0).uniform(-1, 1, 400)
    >>> y = np.zeros(401)
    >>> for k in range(400):
    ...     y[k + 1] = 0.8 * y[k] + 0.4 * np.tanh(u[k])
    >>> model = rc.Forecaster(cell="elman", activation="tanh", window=10, max_epochs=30, scale=False)
    >>> controller = PredictiveController(model.fit(y[1:], u), horizon=5)
    >>> now = 0.0
    >>> for k in range(30):
    ...     now = 0.8 * now + 0.4 * np.tanh(controller.step(now, 0.7)[0])
    >>> bool(abs(now - 0.7) < 0.01)
    True
    """

    def __init__(
        self,
        model: Forecaster,
        horizon: int = 10,
        limits: tuple[Any, Any] = (-1.0, 1.0),
        smoothness: float = 0.0,
        iterations: int = 3,
    ) -> None:
        _check(model)
        check_count("horizon", horizon, 1)
        check_count("iterations", iterations, 1)
        check_number("smoothness", smoothness, "[0, inf)", 0.1)
        self.model, self.horizon, self.smoothness, self.iterations = model, horizon, smoothness, iterations
        pipeline: Any = model.specification_.pipeline
        self._outputs, self._inputs, _ = pipeline.sizes
        self._mean, self._deviation = pipeline.known
        self._scaler = next(iter(model.scalers_.values()))
        self._net = model.network_
        self._lower, self._upper = (np.broadcast_to(np.asarray(one, float), (self._inputs,)) for one in limits)
        if not (self._lower < self._upper).all():
            raise ValueError(f"limits must be (lower, upper), growing, got {limits!r}")
        self.reset()

    def reset(self) -> None:
        """Forget the plant's past."""
        self._past: deque[np.ndarray] = deque(maxlen=self.model.specification_.settings.window - 1)
        self._last: np.ndarray | None = None  # u(k-1)
        self._told: np.ndarray | None = None  # ŷ(k), e not added
        middle = np.clip(np.zeros(self._inputs), self._lower, self._upper)
        self.plan = np.repeat(middle[None], self.horizon, axis=0)
        self.forecast = np.zeros((self.horizon, self._outputs))

    def step(self, y: Any, reference: Any) -> np.ndarray:
        """Take note of the output now and return what to put in.

        Parameters
        ----------
        y : number or (C,)
            y(k), as it was measured.
        reference : number, (C,) or (n, C), or (n,) where there is one output
            r(k+1), r(k+2), …: the last goes on, and what is beyond the horizon does not count.

        Returns
        -------
        (D,) float64
            u(k).
        """
        now = np.asarray(y, dtype=np.float64).reshape(-1)
        if now.shape != (self._outputs,) or not np.isfinite(now).all():
            raise DataError(f"y must be {self._outputs} finite numbers, got {y!r}")
        wanted = self._wanted(reference)
        error = np.zeros(self._outputs) if self._told is None else now - self._told
        z = self._scaler.apply(now[None])[0]
        state = None
        if self._past:
            _, state = self._net.predict(np.stack(self._past)[:, None], return_state=True)
        plan = np.concatenate([self.plan[1:], self.plan[-1:]])
        said, states = self._simulated(z, state, plan)
        cost = self._cost(said + error - wanted, plan)
        for _ in range(self.iterations):
            J = self._jacobian(z, states, said, plan)
            better = self._improved(J, said + error - wanted, plan)
            told, tried = self._simulated(z, state, better)
            found = self._cost(told + error - wanted, better)
            if not found < cost:
                break
            enough = cost - found < 1e-3 * cost
            plan, said, states, cost = better, told, tried, found
            if enough:
                break
        self.plan, self.forecast, self._told, self._last = plan, said + error, said[0], plan[0]
        self._past.append(self._read(z, plan[0]))
        return plan[0].copy()

    def _wanted(self, reference: Any) -> np.ndarray:
        """Return r of the horizon, (H, C)."""
        given = np.asarray(reference, dtype=np.float64)
        given = given.reshape(-1, self._outputs) if given.ndim < 2 else given
        if given.ndim != 2 or given.shape[1] != self._outputs or not len(given) or not np.isfinite(given).all():
            raise DataError(f"reference must be finite numbers (n, {self._outputs}), got shape {np.shape(reference)}")
        at = np.minimum(np.arange(self.horizon), len(given) - 1)
        return given[at]

    def _read(self, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Return what the network reads of a step."""
        return np.concatenate([z, (u - self._mean) / self._deviation]).astype(self._net.dtype)

    def _simulated(self, z: np.ndarray, state: Any, plan: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """Return what the model says to inputs, (H, C), and its states before each step."""
        states, said = [], []
        for u in plan:
            states.append(state)
            scores, state = self._net.predict(self._read(z, u)[None, None], state=state, return_state=True)
            z = scores[0, 0].astype(np.float64)
            said.append(z)
        return np.stack(said) * self._scaler.deviation + self._scaler.mean, states

    def _jacobian(self, z: np.ndarray, states: list[Any], said: np.ndarray, plan: np.ndarray) -> np.ndarray:
        """Return dŷ(k+i)/du(k+j), (H·C, H·D): from the last step back, a sequence of the batch for each output.

        What a step's output does to later ones goes through the network's state, and through its next input.
        """
        H, C, D = self.horizon, self._outputs, self._inputs
        seen = [z, *self._scaler.apply(said[:-1])]
        J = np.zeros((H * C, H, D))
        dscores, dstate = np.zeros((1, H * C, C), dtype=self._net.dtype), None
        for i in reversed(range(H)):
            x = np.repeat(self._read(seen[i], plan[i])[None, None], H * C, axis=1)
            self._net.forward(x, state=_repeated(states[i], H * C))
            dscores[0, i * C : (i + 1) * C] += np.eye(C, dtype=dscores.dtype)
            dx, dstate = self._net.backward(dscores, dstate)
            J[:, i] = dx[0, :, C:]
            dscores = dx[..., :C].copy()
        J *= np.tile(self._scaler.deviation, H)[:, None, None] / self._deviation
        return J.reshape(H * C, H * D)

    def _improved(self, J: np.ndarray, error: np.ndarray, plan: np.ndarray) -> np.ndarray:
        """Return the inputs that are best where the model is linear, within the limits."""
        changes = np.eye(self.horizon) - np.eye(self.horizon, k=-1)
        weight = np.sqrt(self.smoothness)
        A = np.concatenate([J, weight * np.kron(changes, np.eye(self._inputs)), 1e-6 * np.eye(plan.size)])
        b = np.concatenate([-error.ravel(), -weight * self._changes(plan).ravel(), np.zeros(plan.size)])
        room = (np.tile(self._lower, self.horizon) - plan.ravel(), np.tile(self._upper, self.horizon) - plan.ravel())
        move = lsq_linear(A, b, (np.minimum(room[0], -1e-12), np.maximum(room[1], 1e-12))).x
        return np.clip(plan + move.reshape(plan.shape), self._lower, self._upper)

    def _changes(self, plan: np.ndarray) -> np.ndarray:
        before = plan[:1] if self._last is None else self._last[None]
        return np.diff(plan, axis=0, prepend=before)

    def _cost(self, error: np.ndarray, plan: np.ndarray) -> float:
        return float((error**2).sum() + self.smoothness * (self._changes(plan) ** 2).sum())


def _check(model: Forecaster) -> None:
    """Refuse a model that inputs cannot be planned with."""
    if not isinstance(model, Forecaster):
        raise TypeError(f"model must be a fitted Forecaster, got {type(model).__name__}")
    model._check_fitted()
    settings: Any = model.specification_.settings
    sizes = model.specification_.pipeline.sizes  # type: ignore[attr-defined]
    reasons = {
        "strategy='recursive'": settings.strategy == "recursive",
        "output='point'": settings.output == "point",
        "log=False and difference=0": not settings.log and not settings.difference,
        "no dropout and no cell_options": not (
            settings.dropout or settings.input_dropout or settings.recurrent_dropout or settings.cell_options
        ),
        "the plant's inputs as X in fit, and no past=": sizes[1] > 0 and sizes[2] == 0,
        "scale=True or False": settings.scale != "window",
        "one series, or scale=False": len(model.scalers_) == 1 or not settings.scale,
    }
    wanted = [name for name, holds in reasons.items() if not holds]
    if wanted:
        raise ValueError(f"a controller's model needs {'; '.join(wanted)}")


def _repeated(state: Any, times: int) -> Any:
    """Return a state of one sequence as that of many; None stays."""
    if state is None or isinstance(state, np.ndarray):
        return state if state is None else np.repeat(state, times, axis=1)
    return type(state)(_repeated(part, times) for part in state)
