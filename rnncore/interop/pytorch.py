"""State dicts of torch.nn.RNN, LSTM and GRU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.interop.parts import (
    GATE_ORDERS,
    Unit,
    array_of,
    build,
    gates_in,
    joined_biases,
    reordered,
    require,
    split_biases,
    units_of,
)
from rnncore.nn.recurrent import Recurrent

ACTIVATIONS = {"elman": ("tanh", "relu"), "lstm": ("tanh",), "gru": ("tanh",)}
NAME = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)_l(\d+)(_reverse)?")


def to_torch(layer: Recurrent, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the state dict of torch.nn's module that computes what a layer does.

    Parameters
    ----------
    layer : Recurrent
        Of cell elman (torch.nn.RNN), lstm or gru.
    prefix : str
        Put in front of each name.

    Returns
    -------
    dict of str to array
        ``weight_ih_l0`` (G·H, D), ``weight_hh_l0`` (G·H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (G·H,), and so on.
        PyTorch has two biases where one is needed: the second is zero but for the GRU's n gate.

    Raises
    ------
    ValueError
        For a layer that torch.nn has no module for.

    Examples
    --------
    >>> import rnncore as rc
    >>> weights = rc.to_torch(rc.Recurrent("gru", 3, 5, bidirectional=True))
    >>> weights["weight_hh_l0_reverse"].shape
    (15, 5)

    With PyTorch: ``module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})``.
    """
    require(layer, "PyTorch", ACTIVATIONS, {"forget_bias": None, "proj_size": None}, summed=False, reverse=False)
    orders = GATE_ORDERS[layer.cell.name]
    state: dict[str, np.ndarray] = {}
    for n, units in enumerate(units_of(layer)):
        for unit, ending in zip(units, ("", "_reverse"), strict=False):
            biases = split_biases(unit)
            for part, array in (("ih", unit["W_xh"]), ("hh", unit["W_hh"])):
                columns = reordered(array, orders["rnncore"], orders["torch"])
                state[f"{prefix}weight_{part}_l{n}{ending}"] = columns.T.copy()
            for part, bias in zip(("ih", "hh"), biases, strict=True):
                state[f"{prefix}bias_{part}_l{n}{ending}"] = reordered(bias, orders["rnncore"], orders["torch"])
            if "W_hr" in unit:
                state[f"{prefix}weight_hr_l{n}{ending}"] = unit["W_hr"].T.copy()
    return state


def from_torch(source: Any, prefix: str = "", activation: str | None = None, **options: Any) -> Recurrent:
    """Return layers with the weights of a torch.nn.RNN, LSTM or GRU.

    Cell, sizes, depth and directions follow from names and shapes; parameters without biases become layers whose
    biases are zero.

    Parameters
    ----------
    source : mapping of str to array, or module
        A state dict of anything NumPy can read, or the module itself, whose nonlinearity and dropout are then taken
        over.
    prefix : str
        What the names begin with, as ``"encoder."`` in a larger model's state dict.
    activation : {"tanh", "relu"}, optional
        Of torch.nn.RNN, whose state dict does not tell; tanh without.
    **options
        More arguments of ``Recurrent``, such as ``dropout`` and ``n_threads``.

    Raises
    ------
    ValueError
        For missing names and wrong shapes, saying which.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> weights = {"weight_ih_l0": np.ones((20, 3)), "weight_hh_l0": np.ones((20, 5))}
    >>> rc.from_torch(weights)
    Recurrent("lstm", 3, 5, dtype="float64")
    """
    if hasattr(source, "state_dict"):
        activation = activation or getattr(source, "nonlinearity", None)
        if getattr(source, "num_layers", 1) > 1:
            options.setdefault("dropout", getattr(source, "dropout", 0.0))
        source = source.state_dict()
    if not isinstance(source, Mapping):
        raise TypeError(f"expected a mapping of names to arrays, or a module; got {type(source).__name__}")
    own = {name[len(prefix) :]: value for name, value in source.items() if name.startswith(prefix)}
    parts = {name: match for name in own if (match := NAME.fullmatch(name))}
    if "weight_ih_l0" not in parts:
        raise ValueError(_not_found(source, prefix))
    depth = 1 + max(int(match[1]) for match in parts.values())
    endings = ("", "_reverse") if any(match[2] for match in parts.values()) else ("",)
    reader = _Reader(own, prefix)
    units = [[reader.unit(f"_l{n}{ending}") for ending in endings] for n in range(depth)]
    left = sorted(set(parts) - reader.read)
    if left:
        raise ValueError(f"{prefix}{left[0]} belongs to no layer: expected {', '.join(sorted(reader.read))}")
    projected = {unit["W_hr"].shape[1] for layer in units for unit in layer if "W_hr" in unit}
    if projected:
        options["proj_size"] = projected.pop()
    return build(reader.cell, units, {"activation": activation or "tanh", **options})


class _Reader:
    """Takes units from a state dict; the first one settles the cell and what all of them must have."""

    def __init__(self, state: Mapping[str, Any], prefix: str) -> None:
        self.state, self.prefix = state, prefix
        self.read: set[str] = set()
        self.biased, self.projected = "bias_ih_l0" in state, "weight_hr_l0" in state
        if self.projected:
            self.outputs, self.hidden = self._take("weight_hr_l0", (None, None)).shape
        else:
            self.hidden = self.outputs = self._take("weight_hh_l0", (None, None)).shape[1]
        self.rows = self._take("weight_ih_l0", (None, None)).shape[0]
        self.cell = gates_in(self.rows, self.hidden, f"{prefix}weight_ih_l0")

    def _take(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        if name not in self.state:
            raise ValueError(f"the state dict has no {self.prefix}{name}; it has {', '.join(sorted(self.state))}")
        self.read.add(name)
        return array_of(self.state[name], self.prefix + name, shape)

    def unit(self, ending: str) -> Unit:
        orders = GATE_ORDERS[self.cell]

        def ours(array: np.ndarray) -> np.ndarray:
            return reordered(array, orders["torch"], orders["rnncore"])

        rows = self.rows
        unit = {
            "W_xh": ours(self._take(f"weight_ih{ending}", (rows, None)).T),
            "W_hh": ours(self._take(f"weight_hh{ending}", (rows, self.outputs)).T),
        }
        if self.projected:
            unit["W_hr"] = self._take(f"weight_hr{ending}", (self.outputs, self.hidden)).T
        biases = [np.zeros(rows, unit["W_xh"].dtype)] * 2
        if self.biased:
            biases = [ours(self._take(f"bias_{part}{ending}", (rows,))) for part in ("ih", "hh")]
        return unit | joined_biases(self.cell, biases[0], biases[1])


def _not_found(source: Mapping[str, Any], prefix: str) -> str:
    """Say that there are no recurrent weights, and where there are some."""
    ending = "weight_ih_l0"
    elsewhere = [name[: -len(ending)] for name in source if name.endswith(ending)]
    if elsewhere:
        return f"the state dict has no {prefix}{ending}: give prefix={' or '.join(map(repr, elsewhere))}"
    return f"the state dict has no {prefix}{ending}; it has {', '.join(sorted(source)) or 'nothing'}"
