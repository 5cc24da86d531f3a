"""What the formats share: the order of gates, the two biases others have, and layers made of parameters.

A unit is one direction of one layer, a dict of its parameters under our names (`Cell.shapes`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rnncore.nn.recurrent import Recurrent

Unit = dict[str, np.ndarray]

#: cell -> where -> its gates in the order of their blocks
GATE_ORDERS: Mapping[str, Mapping[str, str]] = {
    "elman": {"rnncore": "h", "torch": "h", "keras": "h", "onnx": "h"},
    "lstm": {"rnncore": "ifgo", "torch": "ifgo", "keras": "ifgo", "onnx": "iofg"},
    "gru": {"rnncore": "rzn", "torch": "rzn", "keras": "zrn", "onnx": "zrn"},
}
PEEPHOLE_ORDERS = {"rnncore": "ifo", "onnx": "iof"}
#: gates -> cell
CELL_OF = {len(orders["rnncore"]): cell for cell, orders in GATE_ORDERS.items()}


def reordered(array: np.ndarray, source: str, target: str) -> np.ndarray:
    """Return a copy whose blocks along the last axis, in the order `source`, have the order `target`."""
    blocks = np.split(array, len(source), axis=-1)
    return np.concatenate([blocks[source.index(gate)] for gate in target], axis=-1)


def array_of(value: Any, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return an array of floating-point numbers of a shape (None: any size), from whatever NumPy can read."""
    if hasattr(value, "detach"):  # tensors that want gradients refuse to become arrays
        value = value.detach().cpu()
    try:
        found = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers; NumPy cannot read it: {error}") from None
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    if found.ndim != len(shape) or any(a not in (None, b) for a, b in zip(shape, found.shape, strict=True)):
        raise ValueError(f"{name} must have shape {wanted}, got {found.shape}")
    if found.dtype.kind != "f":
        raise ValueError(f"{name} must hold floating-point numbers, got {found.dtype}")
    return found


def gates_in(columns: int, hidden: int, name: str) -> str:
    """Return the cell that has `columns` numbers in the gates of `hidden` units."""
    cell = CELL_OF.get(columns // hidden) if hidden and columns % hidden == 0 else None
    if cell is None:
        raise ValueError(
            f"{name} must have 1 (RNN), 3 (GRU) or 4 (LSTM) numbers per unit in its gates; got {columns} for "
            f"{hidden} units"
        )
    return cell


def joined_biases(cell: str, at_input: np.ndarray, at_state: np.ndarray, before: bool = False) -> Unit:
    """Return our bias for two that are added; a GRU that resets after the product keeps n's apart."""
    if cell != "gru" or before:
        return {"b_h": at_input + at_state}
    n = 2 * at_state.size // 3
    return {"b_h": at_input + np.append(at_state[:n], np.zeros_like(at_state[n:])), "b_hn": at_state[n:]}


def split_biases(unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """Return two biases that amount to ours: the second is zero but for a GRU's b_hn."""
    at_state = np.zeros_like(unit["b_h"])
    if "b_hn" in unit:
        at_state[-unit["b_hn"].size :] = unit["b_hn"]
    return unit["b_h"].copy(), at_state


def units_of(layer: Recurrent) -> list[list[Unit]]:
    """Return the units of each layer, views of its parameters."""
    found: list[list[Unit]] = []
    for n in range(layer.num_layers):
        prefixes = [f"layers.{n}.{direction}." for direction in layer.directions]
        found.append([{k[len(p) :]: v for k, v in layer.params.items() if k.startswith(p)} for p in prefixes])
    return found


def build(cell: str, units: Sequence[Sequence[Unit]], options: dict[str, Any]) -> Recurrent:
    """Return layers with the parameters of the given units, of their precision unless `options` has another."""
    first = units[0][0]
    if "dtype" not in options:
        double = any(array.dtype.itemsize > 4 for layer in units for unit in layer for array in unit.values())
        options["dtype"] = "float64" if double else "float32"
    made = Recurrent(
        cell,
        first["W_xh"].shape[0],
        first["b_h"].size // len(GATE_ORDERS[cell]["rnncore"]),
        num_layers=len(units),
        bidirectional=len(units[0]) == 2,
        **options,
    )
    for own, given in zip(units_of(made), units, strict=True):
        for target, source in zip(own, given, strict=True):
            for name, array in source.items():
                if target[name].shape != array.shape:
                    raise ValueError(
                        f"{name} of a layer with {made.input_size} inputs and {made.hidden_size} units must have shape "
                        f"{target[name].shape}, got {array.shape} (transposed from the format's)"
                    )
                target[name][...] = array
    return made


def require(
    layer: Recurrent,
    where: str,
    activations: Mapping[str, Collection[str]],
    options: Mapping[str, Collection[Any] | None],
    summed: bool,
    reverse: bool,
) -> dict[str, Any]:
    """Return the settled options of a layer whose every setting the other side has, too; refuse others.

    `activations`: those of each cell there; `options`: values that the cell's options may have there besides their
    defaults (None: any); `summed`, `reverse`: whether merge="sum" and reverse=True exist there.
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(f"expected a rnncore.Recurrent, got {type(layer).__name__}")
    name = layer.cell.name
    if name not in activations:
        raise ValueError(f"{where} knows the cells {', '.join(activations)}, not {name}")
    if layer.activation not in activations[name]:
        raise ValueError(f"{where} has {name} with {', '.join(activations[name])}, not with {layer.activation}")
    settled = layer.cell.settle(layer.cell_options, layer.activation)
    for option, value in settled.items():
        if option not in layer.cell.options or value == layer.cell.options[option]:
            continue
        allowed = options.get(option, ())
        if allowed is not None and value not in allowed:
            raise ValueError(f"{where} has no counterpart of {name} with {option}={value!r}")
    if any(layer.zone_rates):
        raise ValueError(f"{where} has no counterpart of zoneout={layer.zoneout}, which changes predictions, too")
    if layer.bidirectional and layer.merge == "sum" and not summed:
        raise ValueError(f'{where} has no counterpart of merge="sum"')
    if layer.reverse and not reverse:
        raise ValueError(f"{where} has no counterpart of reverse=True")
    return settled
