"""Diagonal curvature by a backward recursion: what stochastic diagonal Levenberg-Marquardt divides by.

Back-propagation with every factor squared (LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", section 9.1), begun
with the squared gradient of the loss by the scores:

    ε_t = (W_hy∘W_hy)(e_t∘e_t) + (W_hh∘W_hh) ε_{t+1}, times f'(a_t)²       κ_hh = Σ_t (h_{t-1}∘h_{t-1}) ε_tᵀ / weight

so κ is a positive stand-in for the second derivatives of the loss, without cross terms over units or time. Each cell
that can provides its part of the recursion in `RECURSIONS`.

This is plain NumPy, a few times slower than a training step of the compiled kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore._pointwise import SLOPES, VALUES
from rnncore.nn.heads import CRF, SigmoidCrossEntropy, Softmax, SquaredError

__all__ = ["RECURSIONS", "diagonal_curvature"]


def diagonal_curvature(
    net: Any, x: Any, targets: Any, lengths: Any = None, state: Any = None, power: int = 2
) -> np.ndarray:
    """Return the curvature κ of the mean loss of a batch, one number per parameter, flat like ``net.theta``.

    Parameters
    ----------
    net : Network
    x, targets, lengths, state
        As `Network.loss_and_grad` takes them.
    power : int
        2; with 1 no factor is squared, and the result is the gradient (which is how the recursion is tested).

    Raises
    ------
    ValueError
        If a part of the network has no such recursion; the message says which.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 3, 5), head=rc.Softmax(2))
    >>> kappa = diagonal_curvature(net, np.ones((4, 1, 3), "float32"), np.zeros((4, 1), int))
    >>> kappa.shape == net.theta.shape, bool((kappa >= 0).all())
    (True, True)
    """
    _check(net)
    return _Pass(net, x, targets, lengths, state, power).run()


def _check(net: Any) -> None:
    missing = sorted({layer.cell.name for layer in net.layers} - set(RECURSIONS))
    if missing:
        raise ValueError(
            f"there is no curvature recursion for the cell {', '.join(missing)}; sdlm trains {', '.join(RECURSIONS)} "
            f"networks: take another cell, or another optimizer such as adam"
        )
    if isinstance(net.head, CRF) or not isinstance(net.head, (Softmax, SquaredError, SigmoidCrossEntropy)):
        what = f"the head {net.head.name}" if net.head else "several heads"
        raise ValueError(f"there is no curvature recursion for {what}: take one head, softmax, squared or sigmoid")
    if getattr(net.head, "tied", False):
        raise ValueError("there is no curvature recursion for a head tied to the embedding: set tied=False")
    if net.inputs is not None or net.attention is not None or net.pooling == "attention":
        raise ValueError("there is no curvature recursion for inputs of several segments, nor for attention")
    if getattr(net, "skip", 0):
        raise ValueError("there is no curvature recursion for sparse features (skip): take another optimizer")
    for layer in net.layers:
        for name in ("dropout", "input_dropout", "output_dropout", "recurrent_dropout"):
            if getattr(layer, name):
                raise ValueError(
                    f"there is no curvature recursion under dropout: set {name}=0, got {getattr(layer, name)}"
                )
        if any(layer.zone_rates) or layer.activation not in VALUES:
            raise ValueError("there is no curvature recursion for zoneout or stochastic units: take another optimizer")
        if layer.truncate is not None:
            raise ValueError("there is no curvature recursion for truncated back-propagation: set truncate=None")


# ------------------------------------------------------------------ cells


@dataclass
class Unit:
    """One layer in one direction: its parameters, whether it runs backward, its initial state, its states (T, B, H)."""

    params: dict[str, np.ndarray]
    backward: bool
    initial: np.ndarray
    activation: str
    parameter: float
    h: np.ndarray = field(default_factory=lambda: np.empty(0))

    def order(self, steps: int) -> range:
        """Return the steps in the order of processing."""
        return range(steps - 1, -1, -1) if self.backward else range(steps)


def _elman_forward(unit: Unit, projected: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return h (T, B, H) from x·W_xh; zero where `valid` is."""
    h, before = np.empty_like(projected), unit.initial
    for t in unit.order(len(projected)):
        a = projected[t] + unit.params["b_h"] + before @ unit.params["W_hh"]
        before = h[t] = VALUES[unit.activation](a, unit.parameter) * valid[t]
    return h


def _elman_backward(
    unit: Unit, outputs: np.ndarray, valid: np.ndarray, power: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return ε of the pre-activations (T, B, H), and κ of W_hh and b_h, from the outputs' ε."""
    W_hh = unit.params["W_hh"] ** power
    slope = SLOPES[unit.activation](unit.h, unit.parameter) ** power * valid
    steps = list(unit.order(len(outputs)))
    epsilon = np.empty_like(outputs)
    later = np.zeros_like(unit.initial)
    kappa = np.zeros_like(W_hh)
    for place in range(len(steps) - 1, -1, -1):
        t = steps[place]
        epsilon[t] = later = (outputs[t] + later @ W_hh.T) * slope[t]
        before = unit.h[steps[place - 1]] if place else unit.initial
        kappa += (before**power).T @ later
    return epsilon, {"W_hh": kappa, "b_h": epsilon.sum(axis=(0, 1))}


#: cell name -> (forward, backward), as the functions for Elman cells above
RECURSIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {"elman": (_elman_forward, _elman_backward)}


# ------------------------------------------------------------------ the whole network


class _Pass:
    """One forward and one backward pass over a batch."""

    def __init__(self, net: Any, x: Any, targets: Any, lengths: Any, state: Any, power: int) -> None:
        self.net, self.power = net, power
        _, self.x, sizes = net._check_input(x, lengths)
        self.steps, self.batch = self.x.shape[:2]
        self.lengths = np.full(self.batch, self.steps) if sizes is None else sizes
        shape = (self.steps, self.batch) if net.readout == "every" else (self.batch,)
        self.targets = net.head.check_targets(targets, shape, sizes, net.dtype)
        self.valid = (np.arange(self.steps)[:, None] < self.lengths).astype(net.dtype)[:, :, None]
        self.symbols = self.x.dtype.kind in "iu"
        self.kappa = np.zeros_like(net.theta)
        self.kappas = net.layout.views(self.kappa)
        self.levels = self._units(net.check_state(state, self.batch))

    def _units(self, states: list[np.ndarray] | None) -> list[tuple[Any, str, list[Unit]]]:
        """Return each level's layer, its name and its units."""
        levels: list[tuple[Any, str, list[Unit]]] = []
        depth = 0
        for group, layer in enumerate(self.net.layers):
            for number in range(layer.num_layers):
                units = []
                for direction in layer.directions:
                    prefix = f"layers.{depth + number}.{direction}."
                    params = {name: self.net.params[prefix + name] for name in ("W_xh", "W_hh", "b_h")}
                    initial = np.zeros((self.batch, layer.hidden_size), dtype=self.net.dtype)
                    if states is not None:
                        initial = states[group][number]  # one direction, one state per level
                    units.append(Unit(params, direction == "bwd", initial, layer.activation, layer.plan.parameter))
                levels.append((layer, f"layers.{depth + number}.", units))
            depth += layer.num_layers
        return levels

    def run(self) -> np.ndarray:
        """Return κ of all parameters."""
        inputs = [self._first_input()]
        for layer, _, units in self.levels:
            forward = RECURSIONS[layer.cell.name][0]
            for unit in units:
                unit.h = forward(unit, self._project(unit, inputs[-1]), self.valid)
            states = [unit.h for unit in units]
            concatenated = layer.merge == "concat" or (self.apart and layer is self.net.layers[-1])
            inputs.append(
                np.concatenate(states, axis=2) if concatenated else np.sum(states, axis=0, dtype=self.net.dtype)
            )
        outputs = inputs.pop()
        assert outputs is not None
        given = self._head(outputs)
        for layer, prefix, units in reversed(self.levels):
            below = inputs.pop()
            split = layer.merge == "concat" or (self.apart and layer is self.net.layers[-1])
            parts = np.split(given, len(units), axis=2) if split else [given] * len(units)
            given = np.zeros((), dtype=self.net.dtype)
            for unit, name, part in zip(units, layer.directions, parts, strict=True):
                epsilon, found = RECURSIONS[layer.cell.name][1](unit, part, self.valid, self.power)
                for parameter, kappa in found.items():
                    self.kappas[f"{prefix}{name}.{parameter}"][...] = kappa
                self._project_back(f"{prefix}{name}.W_xh", below, epsilon)
                if below is not None:
                    given = given + epsilon @ (unit.params["W_xh"] ** self.power).T
        if self.net.embedding:
            self._scatter("embedding.E", given)
        return self.kappa

    # -------------------------------------------------------------- input

    def _first_input(self) -> np.ndarray | None:
        """Return the dense input, or None where symbols pick rows of the first layer's W_xh."""
        if not self.symbols:
            return self.x
        return self._rows(self.net.params["embedding.E"]) if self.net.embedding else None

    def _rows(self, table: np.ndarray) -> np.ndarray:
        """Return a table's rows of the symbols, added up over bags."""
        ids = self.x if self.x.ndim == 3 else self.x[:, :, None]
        return (table[ids] * (ids >= 0)[..., None]).sum(axis=2)

    def _scatter(self, name: str, epsilon: np.ndarray) -> None:
        """Add ε to the rows of its symbols; a symbol that a bag holds n times counts n-fold, and then is squared."""
        ids = self.x if self.x.ndim == 3 else self.x[:, :, None]
        times = (ids[..., None] == ids[..., None, :]).sum(axis=3)
        weights = np.where((ids >= 0) & (self.valid > 0), times.astype(epsilon.dtype) ** (self.power - 1), 0)
        for f in range(ids.shape[2]):
            np.add.at(self.kappas[name], np.maximum(ids[:, :, f], 0), weights[:, :, f, None] * epsilon)

    def _project(self, unit: Unit, inputs: np.ndarray | None) -> np.ndarray:
        return self._rows(unit.params["W_xh"]) if inputs is None else inputs @ unit.params["W_xh"]

    def _project_back(self, name: str, inputs: np.ndarray | None, epsilon: np.ndarray) -> None:
        if inputs is None:
            self._scatter(name, epsilon)
            return
        rows = (inputs * self.valid) ** self.power
        self.kappas[name][...] = rows.reshape(-1, rows.shape[2]).T @ epsilon.reshape(-1, epsilon.shape[2])

    # -------------------------------------------------------------- head

    def _head(self, outputs: np.ndarray) -> np.ndarray:
        """Return ε of the outputs (T, B, F), and note κ of the head's parameters."""
        read = self._read(outputs)
        if not self.net.head.project:
            given = np.zeros_like(read)
            given[..., : self.net.head.outputs] = self._errors(read[..., : self.net.head.outputs])
            return self._spread(outputs, given)
        W, b = self.net.params["head.W_hy"], self.net.params["head.b_y"]
        error = self._errors(read @ W + b)
        flat, squared = read.reshape(-1, read.shape[-1]), error.reshape(-1, error.shape[-1])
        self.kappas["head.W_hy"][...] = (flat**self.power).T @ squared
        self.kappas["head.b_y"][...] = squared.sum(axis=0)
        return self._spread(outputs, error @ (W**self.power).T)

    def _errors(self, scores: np.ndarray) -> np.ndarray:
        """Return the loss's gradient by each output's scores, to the power, times the output's share of the mean."""
        head, targets = self.net.head, self.targets
        counted = self.valid[..., 0] > 0 if self.net.readout == "every" else np.ones(self.batch, dtype=bool)
        if isinstance(head, Softmax):
            counted = counted & (targets >= 0)
            labels = np.where(counted, targets, 0)
            weights = head.weights(self.net.dtype)
            class_weight = np.ones(head.outputs, dtype=scores.dtype) if weights is None else weights
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            q = np.full_like(p, head.smoothing / head.outputs)
            np.put_along_axis(q, labels[..., None], head.smoothing / head.outputs + 1 - head.smoothing, axis=-1)
            q *= class_weight
            error = q.sum(axis=-1, keepdims=True) * p - q
            total = class_weight[labels][counted].sum()
        elif isinstance(head, SigmoidCrossEntropy):
            error, total = 0.5 + 0.5 * np.tanh(0.5 * scores) - targets, counted.sum()
        else:
            error, total = 2 * (scores - targets), counted.sum()
        return np.where(counted[..., None], error**self.power, 0) / (total or 1)

    @property
    def apart(self) -> bool:
        """Whether two directions are summed only after each has been read at its own last step."""
        return self.net.readout == "last" and self.net.layers[-1].merge == "sum"

    def _ends(self) -> list[np.ndarray]:
        """Return the step of each sequence that is read as its last, for each direction."""
        units = self.levels[-1][2]
        return [np.zeros_like(self.lengths) if unit.backward else self.lengths - 1 for unit in units]

    def _read(self, outputs: np.ndarray) -> np.ndarray:
        rows = np.arange(self.batch)
        if self.net.readout == "last":
            parts = np.split(outputs, len(self._ends()), axis=2)
            ends = [part[end, rows] for part, end in zip(parts, self._ends(), strict=True)]
            return sum(ends[1:], ends[0]) if self.apart else np.concatenate(ends, axis=1)
        if self.net.readout == "mean":
            return outputs.sum(axis=0) / self.lengths[:, None].astype(outputs.dtype)
        if self.net.readout == "max":
            return np.where(self.valid > 0, outputs, -np.inf).max(axis=0)
        return outputs

    def _spread(self, outputs: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Return the ε of what was read as ε of the outputs."""
        if self.net.readout == "every":
            return given
        spread = np.zeros_like(outputs)
        rows = np.arange(self.batch)
        if self.net.readout == "last":
            ends = self._ends()
            parts = np.split(spread, len(ends), axis=2)
            own = [given] * len(ends) if self.apart else np.split(given, len(ends), axis=1)
            for part, end, numbers in zip(parts, ends, own, strict=True):
                part[end, rows] = numbers
        elif self.net.readout == "mean":
            spread += given / (self.lengths[:, None] ** self.power).astype(given.dtype) * self.valid
        else:
            where = np.where(self.valid > 0, outputs, -np.inf).argmax(axis=0)
            np.put_along_axis(spread, where[None], given[None], axis=0)
        return spread
