"""Real-time recurrent learning: gradients of a fully recurrent network, carried forward in time with its state.

Williams & Zipser 1989, Neural Computation 1:270. All H units are connected to all, and to D inputs; the first K of them
are outputs. That is an Elman layer under a head that does not project:

    z_t = [x_t; h_{t-1}; 1]                 h_t = f(z_t·W)
    P_t[k,j,i] = dh_t[k]/dW[j,i]            P_t[k,j,i] = f'_k (Σ_l W_hh[l,k] P_{t-1}[l,j,i] + [i = k] z_t[j]),  P_0 = 0
    dL_t/dW[j,i] = Σ_k dL_t/dh_t[k] P_t[k,j,i]

Nothing of the past is kept but P, so one may learn at every step of a stream without end; the price is H^4 operations
a step. (The paper's y(t+1), made of x(t), is h_t here.) Plain NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks
from rnncore._finite import NonFiniteError, check_arrays, first, problem
from rnncore._pointwise import SLOPES, VALUES
from rnncore.nn.heads import SigmoidCrossEntropy, SquaredError
from rnncore.nn.network import Network
from rnncore.nn.recurrent import State
from rnncore.optim.optimizers import Optimizer

__all__ = ["RTRL"]


class RTRL:
    """Real-time recurrent learning of one Elman layer (Williams & Zipser 1989).

    Parameters
    ----------
    net : Network
        One forward Elman layer over dense input with any activation, readout "every", and a head SquaredError or
        SigmoidCrossEntropy: with ``project=False`` the fully recurrent network, whose first K units are its outputs.
    optimizer : Optimizer, optional
        Applied after every step that has a target. None: `step` and `run` change no weight.
    teacher_forcing : bool
        After each step the output units take their targets' values, which are what the next step sees, and their
        sensitivities are set to zero. Needs ``SquaredError(K, project=False)``.

    Attributes
    ----------
    state : tuple of one array (1, 1, H)
        As the next step will see it.
    sensitivities : array (H, D + H + 1, H)
        P: derivative of unit k by the weight from z_j (inputs, units, 1) to unit i.

    Raises
    ------
    ValueError
        For a network that is not of this kind.

    Notes
    -----
    With an optimizer, P belongs to weights that were changing while it was made: the usual approximation, good for
    small learning rates. `gradient` is exact.

    Examples
    --------
    Three units learn on-line to give their input back two steps later:

    >>> import numpy as np, rnncore as rc
    >>> layer = rc.Recurrent("elman", 1, 3, dtype="float64", random_state=1)
    >>> net = rc.Network(layer, head=rc.SquaredError(1, project=False))
    >>> x = np.random.default_rng(0).choice([-0.5, 0.5], (3000, 1))
    >>> y = rc.RTRL(net, rc.SGD(learning_rate=0.1)).run(x, np.roll(x, 2, axis=0))
    >>> error = (y - np.roll(x, 2, axis=0)) ** 2
    >>> bool(error[-100:].mean() < 0.1 * error[:100].mean())
    True
    """

    def __init__(self, net: Network, optimizer: Optimizer | None = None, teacher_forcing: bool = False) -> None:
        _check(net, teacher_forcing)
        self.net = net
        self.optimizer = optimizer
        self.teacher_forcing = bool(teacher_forcing)
        self.reset()

    def reset(self, state: State | None = None) -> None:
        """Begin a new stream, at zero or at the given state (1, 1, H); it depends on no weight as yet."""
        start = None if state is None else self.net.layers[0].check_state(state, 1)[0][0, 0]
        self._stream = _Stream(self.net, start)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_stream"}
        return {**kept, "h": self._stream.h.copy(), "P": self._stream.places[0].copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        h, P = state.pop("h"), state.pop("P")
        self.__dict__.update(state)
        self._stream = _Stream(self.net, h)  # it looks at this network's weights
        self._stream.places[0][...] = P

    @property
    def state(self) -> State:
        """The units' values as the next step will see them."""
        return (self._stream.h.copy()[None, None],)

    @property
    def sensitivities(self) -> np.ndarray:
        """Derivatives of the units' values by the layer's weights."""
        stream = self._stream
        return stream.places[0].reshape(len(stream.h), len(stream.z), -1).copy()

    def step(self, x_t: Any, target_t: Any = None) -> np.ndarray:
        """Go on by one step, and learn from it if it has a target.

        Parameters
        ----------
        x_t : array (D,)
        target_t : array (K,), optional
            NaN for a unit without a target at this step.

        Returns
        -------
        array (K,)
            The prediction, made before the target was looked at.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        NonFiniteError
            If x_t or the gradient is not finite. Weights and stream are as they were.
        """
        x_t = _checks.array(x_t, "x_t").astype(self.net.dtype)
        if x_t.shape != (self.net.layers[0].input_size,):
            raise ValueError(f"x_t must have shape ({self.net.layers[0].input_size},), got {x_t.shape}")
        check_arrays({"x_t": x_t})
        return self._step(x_t, None if target_t is None else self._targets(target_t, (self.net.head.outputs,)))

    def run(self, x: Any, targets: Any = None) -> np.ndarray:
        """Do the steps of a sequence one after another, going on where the latest one ended.

        Parameters
        ----------
        x : array (T, D)
        targets : array (T, K), optional
            NaN where there is none.

        Returns
        -------
        array (T, K)
            The predictions, each made before its target was looked at.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        NonFiniteError
            If x is not finite, before the first step; if a gradient is not, after the steps before it.
        """
        x = _checks.array(x, "x")
        rows = _checks.dense(x[:, None] if x.ndim == 2 else x, self.net.layers[0].input_size, self.net.dtype)[:, 0]
        bad = first(rows)
        if bad is not None:
            raise problem("x", float(rows[bad]), 0, bad[0])
        predicted = np.empty((len(rows), self.net.head.outputs), dtype=self.net.dtype)
        if targets is None:
            for t, row in enumerate(rows):
                predicted[t] = self._step(row, None)
            return predicted
        targets = self._targets(targets, predicted.shape)
        for t, (row, target) in enumerate(zip(rows, targets, strict=True)):
            predicted[t] = self._step(row, target)
        return predicted

    def _targets(self, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        found = _checks.values(value, shape, self.net.dtype)
        if isinstance(self.net.head, SigmoidCrossEntropy):
            self.net.head.check_targets(np.where(np.isnan(found), 0.5, found), shape[:-1], None, self.net.dtype)
        return found

    def _step(self, x: np.ndarray, target: np.ndarray | None) -> np.ndarray:
        stream = self._stream
        before = stream.z.copy()
        stream.advance(x)
        scores = stream.scores()
        if target is not None:
            if self.optimizer is not None:
                self.net.grad[...] = 0
                stream.add_gradient(self.net.grad, scores, target)
                try:
                    self.optimizer.step(self.net)
                except NonFiniteError:
                    stream.back_to(before)
                    raise
            if self.teacher_forcing:
                stream.force(target)
        return scores if isinstance(self.net.head, SquaredError) else VALUES["sigmoid"](scores, 0)

    def gradient(
        self, x: Any, targets: Any, lengths: Any = None, state: State | None = None
    ) -> tuple[float, np.ndarray]:
        """Return the mean loss of a batch and its gradient: what ``net.loss_and_grad`` finds by going back in time.

        Neither weights nor the stream of `step` are touched. With teacher forcing the gradient is that of the forced
        network.

        Parameters
        ----------
        x : array (T, B, D)
        targets : array (T, B, K)
            NaN where there is none; the mean is over all steps nevertheless.
        lengths : array (B,) of ints, optional
        state : tuple of one array (1, B, H), optional

        Returns
        -------
        loss : float
        gradient : array (P,)
            Flat like ``net.theta``.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        """
        net = self.net
        x = _checks.dense(x, net.layers[0].input_size, net.dtype)
        steps, sequences = x.shape[:2]
        sizes = _checks.lengths(lengths, steps, sequences)
        counts = np.full(sequences, steps) if sizes is None else sizes
        targets = self._targets(targets, (steps, sequences, net.head.outputs))
        starts = [None] * sequences if state is None else net.layers[0].check_state(state, sequences)[0][0]
        loss, grad = 0.0, np.zeros_like(net.theta)
        for b, start in enumerate(starts):
            stream = _Stream(net, start)
            for t in range(counts[b]):
                stream.advance(x[t, b])
                loss += stream.add_gradient(grad, stream.scores(), targets[t, b])
                if self.teacher_forcing:
                    stream.force(targets[t, b])
        rows = int(counts.sum())
        return loss / rows, grad / rows


class _Stream:
    """A network on its way along one sequence: its state, and P."""

    def __init__(self, net: Network, start: np.ndarray | None) -> None:
        layer, self.head = net.layers[0], net.head
        D, H = layer.input_size, layer.hidden_size
        self.value, self.slope = VALUES[layer.activation], SLOPES[layer.activation]
        self.parameter = layer.plan.parameter
        self.z = np.zeros(D + H + 1, dtype=net.dtype)
        self.z[-1] = 1
        self.x, self.h = self.z[:D], self.z[D:-1]
        if start is not None:
            self.h[...] = start
        self.W = net.theta[: self.z.size * H].reshape(-1, H)  # W_xh, W_hh and b_h lie one below another
        self.W_hh_T = self.W[D:-1].T
        if self.head.project:
            self.W_hy, self.b_y = net.params["head.W_hy"], net.params["head.b_y"]
        # P and the place of the next P, each with a view of its elements k, j, i = k
        self.places = [np.zeros((H, self.W.size), dtype=net.dtype) for _ in range(2)]
        self.diagonals = [np.einsum("kjk->kj", place.reshape(H, -1, H)) for place in self.places]

    def advance(self, x: np.ndarray) -> None:
        self.x[...] = x
        h = self.value(self.z @ self.W, self.parameter)
        self.places.reverse()
        self.diagonals.reverse()
        np.matmul(self.W_hh_T, self.places[1], out=self.places[0])
        self.diagonals[0][...] += self.z
        self.places[0] *= self.slope(h, self.parameter)[:, None]
        self.h[...] = h

    def back_to(self, z: np.ndarray) -> None:
        """Undo the latest `advance`, before which z was this."""
        self.z[...] = z
        self.places.reverse()
        self.diagonals.reverse()

    def scores(self) -> np.ndarray:
        return self.h @ self.W_hy + self.b_y if self.head.project else self.h[: self.head.outputs].copy()

    def add_gradient(self, grad: np.ndarray, scores: np.ndarray, target: np.ndarray) -> float:
        """Add this step's gradient, and return its loss."""
        if isinstance(self.head, SquaredError):
            error = scores - target
            losses, error = error * error, 2 * error
        else:
            losses = np.maximum(scores, 0) - scores * target + np.log1p(np.exp(-np.abs(scores)))
            error = VALUES["sigmoid"](scores, 0) - target
        loss = float(losses.sum())
        if loss != loss:  # targets that are not there
            known = ~np.isnan(target)
            loss, error = float(losses[known].sum()), np.where(known, error, 0)
        if self.head.project:
            grad[: self.W.size] += (self.W_hy @ error) @ self.places[0]
            own = np.concatenate([np.outer(self.h, error).ravel(), error])  # W_hy, b_y
            grad[self.W.size :] += own
        else:
            grad[: self.W.size] += error @ self.places[0][: error.size]
        return loss

    def force(self, target: np.ndarray) -> None:
        """Give the outputs their targets' values, which depend on no weight."""
        known = np.flatnonzero(~np.isnan(target))
        self.h[known] = target[known]
        self.places[0][known] = 0


def _check(net: Network, teacher_forcing: bool) -> None:
    if not isinstance(net, Network):
        raise ValueError(f"RTRL trains an rnncore.Network, got {type(net).__name__}")
    layer, head = net.layers[0], net.head
    if len(net.layers) > 1 or layer.num_layers > 1 or layer.cell.name != "elman":
        raise ValueError("RTRL is for one layer of the cell elman; train other networks by back-propagation")
    dense = not (net.embedding or net.skip or net.inputs is not None)
    if layer.bidirectional or layer.reverse or net.readout != "every" or not dense:
        raise ValueError("RTRL needs a layer forward in time, pooling='every', no embedding and no sparse features")
    if net.attention is not None:
        raise ValueError("RTRL knows no attention: train the network by back-propagation")
    if layer.truncate or layer.recurrent_dropout or layer.input_dropout or layer.output_dropout:
        raise ValueError("RTRL knows neither truncation nor dropout: leave truncate and the dropout rates alone")
    if any(layer.zone_rates) or layer.activation not in VALUES:
        raise ValueError("RTRL knows neither zoneout nor stochastic units: train those by back-propagation")
    if not isinstance(head, (SquaredError, SigmoidCrossEntropy)):
        raise ValueError(
            f"RTRL needs a head SquaredError or SigmoidCrossEntropy, got {head.name if head else 'several'}"
        )
    if teacher_forcing and (head.project or not isinstance(head, SquaredError)):
        raise ValueError("teacher forcing needs targets that are units' values: head=SquaredError(K, project=False)")
