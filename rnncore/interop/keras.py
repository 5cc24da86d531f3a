"""Weight lists of Keras's SimpleRNN, LSTM, GRU and of Bidirectional around them."""

from __future__ import annotations

from collections.abc import Sequence
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

ACTIVATIONS = {"elman": ("tanh", "sigmoid", "relu", "identity"), "lstm": ("tanh",), "gru": ("tanh",)}


def to_keras(layer: Recurrent) -> list[list[np.ndarray]]:
    """Return the weights of the Keras layers that compute what a layer does.

    Parameters
    ----------
    layer : Recurrent
        Of cell elman (Keras's SimpleRNN), lstm or gru (``reset_after=True``, or False for ``reset="before"``).

    Returns
    -------
    list of lists of arrays
        For each layer what its ``set_weights`` takes: kernel (D, G·H), recurrent kernel (H, G·H), bias (G·H,), or
        (2, G·H) for a GRU with ``reset_after=True``; for both directions the reverse one's after the forward one's.

    Raises
    ------
    ValueError
        For a layer that Keras has no counterpart of.

    Examples
    --------
    >>> import rnncore as rc
    >>> lists = rc.to_keras(rc.Recurrent("gru", 3, 5, num_layers=2))
    >>> [[array.shape for array in arrays] for arrays in lists]
    [[(3, 15), (5, 15), (2, 15)], [(5, 15), (5, 15), (2, 15)]]

    With Keras: ``for one, arrays in zip(keras_layers, lists): one.set_weights(arrays)``.
    """
    require(layer, "Keras", ACTIVATIONS, {"forget_bias": None, "reset": None}, summed=True, reverse=False)
    orders = GATE_ORDERS[layer.cell.name]

    def theirs(array: np.ndarray) -> np.ndarray:
        return reordered(array, orders["rnncore"], orders["keras"])

    lists: list[list[np.ndarray]] = []
    for units in units_of(layer):
        lists.append([])
        for unit in units:
            bias = np.stack(split_biases(unit)) if "b_hn" in unit else unit["b_h"]
            lists[-1] += [theirs(unit["W_xh"]), theirs(unit["W_hh"]), theirs(bias)]
    return lists


def from_keras(
    weights: Sequence[Any], activation: str = "tanh", reset_after: bool | None = None, **options: Any
) -> Recurrent:
    """Return layers with the weights of Keras's SimpleRNN, LSTM or GRU layers.

    Cell, sizes and directions follow from number and shapes of the arrays. The LSTM and the GRU are those with Keras's
    default activations.

    Parameters
    ----------
    weights : list of arrays, or list of such lists
        What ``get_weights()`` of one Keras layer returns, or of several on top of one another.
    activation : str
        Of SimpleRNN: tanh, sigmoid, relu, or identity for Keras's "linear".
    reset_after : bool, optional
        Of a GRU without bias, which does not tell; True without, as in Keras.
    **options
        More arguments of ``Recurrent``: ``merge="sum"`` for Bidirectional's ``merge_mode="sum"``, ``dropout``, …

    Raises
    ------
    ValueError
        For arrays that are missing, too many, or of wrong shapes.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> rc.from_keras([np.ones((3, 20), "f4"), np.ones((5, 20), "f4"), np.ones(20, "f4")])
    Recurrent("lstm", 3, 5, dtype="float32")
    """
    if not isinstance(weights, Sequence) or len(weights) == 0:
        raise ValueError("expected what get_weights() returns, a list of arrays, or a list of such lists")
    lists = weights if isinstance(weights[0], (list, tuple)) else [weights]
    counts = {len(arrays) for arrays in lists}
    if len(counts) > 1 or counts - {2, 3, 4, 6}:
        raise ValueError(
            "expected kernel, recurrent kernel and perhaps bias for each layer, or twice that for Bidirectional; got "
            f"{', '.join(str(len(arrays)) for arrays in lists)} arrays"
        )
    (count,) = counts
    per_unit = count if count < 4 else count // 2
    cell, resets = "", set()
    units: list[list[Unit]] = []
    for n, arrays in enumerate(lists):
        units.append([])
        for at in range(0, count, per_unit):
            found, unit, after = _unit(arrays[at : at + per_unit], n, reset_after)
            if found != (cell or found):
                raise ValueError(f"all layers must be of one cell; layer {n} is {found}, those below are {cell}")
            cell = found
            resets.add(after)
            units[-1].append(unit)
    if len(resets) > 1:
        raise ValueError("all GRU layers must have the same reset_after; these have both")
    if cell == "gru" and resets == {False}:
        options["reset"] = "before"
    return build(cell, units, {"activation": activation, **options})


def _unit(arrays: Sequence[Any], n: int, reset_after: bool | None) -> tuple[str, Unit, bool]:
    """Return cell, parameters and whether a GRU's reset gate acts after the product."""
    recurrent = array_of(arrays[1], f"the recurrent kernel of layer {n}", (None, None))
    hidden, columns = recurrent.shape
    cell = gates_in(columns, hidden, f"the recurrent kernel of layer {n}")
    orders = GATE_ORDERS[cell]

    def ours(array: np.ndarray) -> np.ndarray:
        return reordered(array, orders["keras"], orders["rnncore"])

    kernel = array_of(arrays[0], f"the kernel of layer {n}", (None, columns))
    unit = {"W_xh": ours(kernel), "W_hh": ours(recurrent)}
    after = cell == "gru" and reset_after is not False
    biases = np.zeros((2, columns), kernel.dtype)
    if len(arrays) == 3:
        name = f"the bias of layer {n}"
        two = cell == "gru" and np.ndim(arrays[2]) == 2
        if cell == "gru" and reset_after not in (None, two):
            raise ValueError(f"{name} is that of a GRU with reset_after={two}; reset_after={reset_after} was given")
        biases[: 1 + two] = ours(array_of(arrays[2], name, (2, columns) if two else (columns,)))
        after = two
    return cell, unit | joined_biases(cell, biases[0], biases[1], before=not after), after
