"""Training by an extended Kalman filter: the weights are a state to be estimated, the targets what is measured of it.

Puskorius & Feldkamp 1994, IEEE Transactions on Neural Networks 5:279; Singhal & Wu 1989. With y the outputs at a step,
d their targets, w the weights and H = dy/dw, by back-propagation through the latest steps:

    A = P·H,  S = R + Hᵀ·A,  w <- w + A·S⁻¹·(d - y),  P <- P - A·S⁻¹·Aᵀ + Q

P, the covariance of what is not yet known of w, makes every step a second-order one: far fewer passes than gradient
descent, at n² operations a step. Decoupled filters keep a block of P for each layer or each unit; S, which all share,
is R + Σ_g H_gᵀ·A_g.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore._finite import NonFiniteError, first, problem
from rnncore.nn.heads import SquaredError
from rnncore.nn.network import Network
from rnncore.optim.arguments import check_number

__all__ = ["EKF"]

COUPLINGS = ("global", "layer", "node")

Noise = float | Callable[[int], float]


class EKF:
    """Extended Kalman filter training of a network on streams (Puskorius & Feldkamp 1994).

    Parameters
    ----------
    net : Network
        Layers of any cells that run forward in time over dense input, readout "every", and a head SquaredError. A
        recurrent multilayer perceptron is a list of Elman layers; with ``project=False`` its last layer, of K units
        and activation identity, is a recurrent output layer.
    window : int
        Steps that H goes back through, the current one included; from where they begin the state is a constant.
    coupling : {"global", "layer", "node"}
        Which weights P correlates: all (GEKF); those of a layer's direction, or of the head; those of a unit (DEKF).
    covariance : float
        P at first, times the unit matrix.
    process_noise, measurement_noise : float, or callable from the number of updates done to a float
        Q and R, times the unit matrix. Q keeps P from dying away. Small R is like a large learning rate: decoupled
        filters, which know less, want ten to a hundred times as much of it as the global one, falling as they learn.

    Attributes
    ----------
    updates : int
        Updates done so far.
    P : list of arrays (n, n)
        A block per group of weights, float64.
    groups : list of arrays of int
        Where each block's weights are in ``net.theta``.

    Raises
    ------
    ValueError
        For a network or options that are not of this kind.

    Notes
    -----
    Several streams may be trained at once: their outputs at a step make one update (multi-stream training). K outputs
    of B streams take K·B passes back through the window, and the solution of as many equations.

    Examples
    --------
    One pass over a chaotic series, which the next number is to be told of:

    >>> import numpy as np, rnncore as rc
    >>> series = [0.3]
    >>> for _ in range(400):
    ...     series.append(1 - 1.4 * series[-1] ** 2 + (0.3 * series[-2] if len(series) > 1 else 0))
    >>> series = np.array(series)[:, None]
    >>> layers = [rc.Recurrent("elman", 1, 5, random_state=1), rc.Recurrent("elman", 5, 4, random_state=2)]
    >>> net = rc.Network(layers, head=rc.SquaredError(1))
    >>> predicted = rc.EKF(net, window=5).run(series[:-1], series[1:])
    >>> bool(abs(predicted - series[1:])[-100:].mean() < 0.1)
    True
    """

    def __init__(
        self,
        net: Network,
        window: int = 10,
        coupling: str = "global",
        covariance: float = 100.0,
        process_noise: Noise = 1e-4,
        measurement_noise: Noise = 1.0,
    ) -> None:
        _check(net)
        self.net = net
        self.window = _checks.whole(window, "window")
        self.coupling = _checks.one_of(coupling, COUPLINGS, "coupling")
        check_number("covariance", covariance, "(0, inf)", 100.0)
        for name, value, interval in (
            ("process_noise", process_noise, "[0, inf)"),
            ("measurement_noise", measurement_noise, "(0, inf)"),
        ):
            if not callable(value):
                check_number(name, value, interval, 0.01)
        self.process_noise, self.measurement_noise = process_noise, measurement_noise
        self.updates = 0
        self.groups = _groups(net, coupling)
        self.P = [covariance * np.eye(len(group)) for group in self.groups]
        self.reset()

    def reset(self, state: Any = None) -> None:
        """Begin new streams, at zero or at a state as `Network.state` gives it; P and the weights stay."""
        self._inputs: deque[np.ndarray] = deque(maxlen=self.window)
        self._starts: deque[list[Any]] = deque(maxlen=self.window)  # the layers' states before each of the inputs
        given = [None] * len(self.net.layers) if state is None else [state] if self.net.single else list(state)
        if len(given) != len(self.net.layers):
            raise ValueError(f"state must be a list of {len(self.net.layers)} tuples, one per layer; got {len(given)}")
        self._state: list[Any] = [own and tuple(np.array(part) for part in own) for own in given]

    def step(self, x_t: Any, target_t: Any = None) -> np.ndarray:
        """Go on by one step, and learn from it if it has a target.

        Parameters
        ----------
        x_t : array (D,), or (B, D) for B streams
        target_t : array (K,) or (B, K), optional
            NaN for an output without a target at this step.

        Returns
        -------
        array (K,) or (B, K)
            The outputs, from the weights before the update.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        NonFiniteError
            If a number is not finite, or the filter has diverged. Weights, P and streams are as they were before.
        """
        D, K = self.net.layers[0].input_size, self.net.head.outputs
        x = _checks.array(x_t, "x_t").astype(self.net.dtype)
        if x.ndim not in (1, 2) or x.shape[-1] != D or not x.size:
            raise ValueError(f"x_t must have shape ({D},), or (B, {D}) for B streams; got {x.shape}")
        targets = None if target_t is None else _checks.values(target_t, (*x.shape[:-1], K), np.dtype(np.float64))
        rows = x.reshape(-1, D).copy()  # the window outlives the caller's array
        if self._inputs and rows.shape != self._inputs[-1].shape:
            raise ValueError(
                f"x_t of {len(rows)} streams follows {len(self._inputs[-1])}: call reset() to begin new streams"
            )
        at = first(rows)
        if at is not None:
            raise problem("x_t", float(rows[at]), at[0])
        before = self._inputs.copy(), self._starts.copy(), self._state
        self._inputs.append(rows)
        self._starts.append(self._state)
        try:
            if targets is None or np.isnan(targets).all():
                y, _, self._state = self._outputs(rows[None], self._state)
            else:
                y, _, self._state = self._outputs(np.stack(self._inputs), self._starts[0])
                self._update(targets.reshape(-1, K), y)
        except NonFiniteError:
            self._inputs, self._starts, self._state = before
            raise
        return y.reshape(*x.shape[:-1], K)

    def run(self, x: Any, targets: Any = None) -> np.ndarray:
        """Do the steps of one or several sequences one after another, going on where the latest ones ended.

        Parameters
        ----------
        x : array (T, D) or (T, B, D)
        targets : array (T, K) or (T, B, K), optional
            NaN where there is none: at the first steps, say, until the state is what it should be.

        Returns
        -------
        array (T, K) or (T, B, K)
            The outputs, each from the weights before its update.

        Raises
        ------
        ValueError, NonFiniteError
            As `step`.
        """
        x = _checks.array(x, "x")
        at = first(x)
        if at is not None:
            raise problem("x", float(x[at]), at[1] if x.ndim == 3 else 0, at[0])
        if targets is None:
            return np.stack([self.step(row) for row in x])
        targets = _checks.values(targets, (*x.shape[:-1], self.net.head.outputs), np.dtype(np.float64))
        return np.stack([self.step(row, target) for row, target in zip(x, targets, strict=True)])

    # -------------------------------------------------------------- derivatives

    def _outputs(
        self, x: np.ndarray, states: list[Any], training: bool = False
    ) -> tuple[np.ndarray, np.ndarray, list[Any]]:
        """Return the last step's outputs (B, K), what the head made them of, (B, F), and the layers' final states."""
        net, after = self.net, []
        for layer, state in zip(net.layers, states, strict=True):
            x, state = layer.forward(x, state, training=training)
            after.append(state)
        z = x[-1]
        y = z @ net.params["head.W_hy"] + net.params["head.b_y"] if net.head.project else z[:, : net.head.outputs]
        return y.copy(), z, after

    def jacobian(self) -> np.ndarray:
        """Return H (P, B, K): the derivatives of the latest outputs by all weights, through the window.

        It is made in ``net.grad``, where the last column stays.

        Raises
        ------
        RuntimeError
            Before the first step.
        """
        if not self._inputs:
            raise RuntimeError("there are no outputs yet: call step or run first")
        x = np.stack(self._inputs)
        columns = []
        for b in range(x.shape[1]):
            own = x[:, b : b + 1]
            start = [state and tuple(part[:, b : b + 1] for part in state) for state in self._starts[0]]
            for k in range(self.net.head.outputs):
                _, z, _ = self._outputs(own, start, training=True)
                self._back(len(own), z[0], k)
                columns.append(self.net.grad.astype(np.float64))
        return np.stack(columns, axis=1).reshape(-1, x.shape[1], self.net.head.outputs)

    def _back(self, steps: int, z: np.ndarray, k: int) -> None:
        """Leave the derivative of output k at the last step in ``net.grad``."""
        net = self.net
        net.zero_grad()
        dy: Any = np.zeros((steps, 1, net.layers[-1].output_size), dtype=net.dtype)
        if net.head.project:
            dy[-1, 0] = net.params["head.W_hy"][:, k]
            net.grads["head.W_hy"][:, k] = z
            net.grads["head.b_y"][k] = 1
        else:
            dy[-1, 0, k] = 1
        for layer in reversed(net.layers):
            dy, _ = layer.backward(dy)

    # -------------------------------------------------------------- the filter

    def _update(self, targets: np.ndarray, y: np.ndarray) -> None:
        known = ~np.isnan(targets)
        with np.errstate(all="ignore"):
            weights, own = self._filter(targets, y, known)
        for name, parts in (("targets", [targets[known]]), ("the outputs", [y]), ("the weights", weights)):
            for part in parts:
                if first(part) is not None:
                    raise self._divergence(name)
        Q = _at(self.process_noise, self.updates)
        for group, P, V, after in zip(self.groups, self.P, own, weights, strict=True):
            self.net.theta[group] = after
            P -= V @ V.T
            P.flat[:: len(P) + 1] += Q
        self.net.keep_bounds()
        self.updates += 1

    def _divergence(self, what: str) -> NonFiniteError:
        what = next((name for name, view in self.net.params.items() if first(view) is not None), what)
        return NonFiniteError(
            f"the filter has diverged at update {self.updates}, in {what}; nothing was changed: take more "
            f"measurement_noise or less covariance",
            what,
        )

    def _filter(
        self, targets: np.ndarray, y: np.ndarray, known: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each group's weights after the update, and V with A·S⁻¹·Aᵀ = V·Vᵀ, which is symmetric to the bit."""
        H = self.jacobian()[:, known]
        parts = [H[group] for group in self.groups]
        A = [P @ part for P, part in zip(self.P, parts, strict=True)]
        S = sum(part.T @ a for part, a in zip(parts, A, strict=True))
        S = S + _at(self.measurement_noise, self.updates) * np.eye(H.shape[1])
        try:
            root = np.linalg.cholesky(S)
            if not np.isfinite(root).all():
                raise np.linalg.LinAlgError
        except np.linalg.LinAlgError:
            raise self._divergence("the gain") from None
        error = np.linalg.solve(root, (targets - y)[known])
        own = [np.ascontiguousarray(np.linalg.solve(root, a.T).T) for a in A]
        weights = [self.net.theta[group] + V @ error for group, V in zip(self.groups, own, strict=True)]
        return [after.astype(self.net.dtype) for after in weights], own


def _check(net: Network) -> None:
    if not isinstance(net, Network):
        raise ValueError(f"EKF trains an rnncore.Network, got {type(net).__name__}")
    if net.attention is not None:
        raise ValueError("EKF has no recursion for attention: build the network without it")
    if not isinstance(net.head, SquaredError) or net.readout != "every":
        what = net.head.name if net.head else "several heads"
        raise ValueError(f"EKF needs a head SquaredError and pooling='every', got {what}, {net.pooling!r}")
    if net.embedding or net.skip or net.inputs is not None:
        raise ValueError("EKF needs dense input: no embedding, no sparse features")
    for layer in net.layers:
        if layer.bidirectional or layer.reverse:
            raise ValueError("EKF trains on streams: its layers must run forward in time")
        if layer.truncate or layer.dropout or layer.recurrent_dropout or layer.input_dropout or layer.output_dropout:
            raise ValueError("EKF has a window of its own and knows no dropout: leave truncate and dropout rates alone")


def _at(noise: Noise, updates: int) -> float:
    return noise(updates) if callable(noise) else noise


def _groups(net: Network, coupling: str) -> list[np.ndarray]:
    """Return where in theta the weights are that share a block of P; those that are frozen are in none."""
    free = np.ones(net.theta.size, bool)
    for name in net.frozen:
        free[net.layout.starts[name] :][: net.params[name].size] = False
    return [own for own in (group[free[group]] for group in _coupled(net, coupling)) if own.size]


def _coupled(net: Network, coupling: str) -> list[np.ndarray]:
    """Return where in theta the weights are that belong together."""
    if coupling == "global":
        return [np.arange(net.theta.size)]
    levels = [layer for layer in net.layers for _ in range(layer.num_layers)]
    units = {f"layers.{n}": layer.hidden_size for n, layer in enumerate(levels)}
    found: dict[Any, list[np.ndarray]] = {}
    for name, view in net.params.items():
        places = net.layout.starts[name] + np.arange(view.size).reshape(view.shape)
        owner = name.rpartition(".")[0]
        if coupling == "layer":
            found.setdefault(owner, []).append(places.ravel())
            continue
        # a column of a matrix leads to one unit, through one of its gates
        columns: int = view.shape[-1]
        count = units.get(owner.rpartition(".")[0], columns)
        for column in range(columns):
            found.setdefault((owner, column % count), []).append(places[..., column].ravel())
    return [np.sort(np.concatenate(parts)) for parts in found.values()]
