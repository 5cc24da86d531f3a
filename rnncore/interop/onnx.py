"""Weights and attributes of ONNX's operators RNN, LSTM and GRU."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnncore.interop.parts import (
    GATE_ORDERS,
    PEEPHOLE_ORDERS,
    Unit,
    array_of,
    build,
    joined_biases,
    reordered,
    require,
    split_biases,
    units_of,
)
from rnncore.nn.recurrent import Recurrent

CELLS = {"RNN": "elman", "LSTM": "lstm", "GRU": "gru"}
#: ours -> theirs, with alpha and beta where the default is another
ACTIVATIONS: Mapping[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "leaky_relu": ("LeakyRelu", 0.01, None),
    "identity": ("Affine", 1.0, 0.0),
}
GATE_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
KNOWN = (
    *("hidden_size", "direction", "layout", "activations", "activation_alpha", "activation_beta"),
    *("linear_before_reset", "input_forget"),
)


class Operator(NamedTuple):
    """One node of an ONNX graph: operator, attributes, and those of its inputs that are weights, by their names.

    ``W`` (directions, G·H, D), ``R`` (directions, G·H, H), ``B`` (directions, 2·G·H), and for peepholes ``P``
    (directions, 3·H).
    """

    op_type: str
    attributes: Mapping[str, Any]
    inputs: Mapping[str, Any]


def to_onnx(layer: Recurrent) -> list[Operator]:
    """Return the ONNX operators that compute what a layer does, one for each layer.

    Between two of them a graph has to bring Y (T, directions, B, H) into the shape of X (T, B, directions·H).

    Parameters
    ----------
    layer : Recurrent
        Of cell elman (ONNX's RNN), lstm, also with peepholes or coupled gates (``variant="CIFG"``), or gru
        (``linear_before_reset=1``, or 0 for ``reset="before"``).

    Raises
    ------
    ValueError
        For a layer that ONNX has no operator for.

    Examples
    --------
    >>> import rnncore as rc
    >>> (node,) = rc.to_onnx(rc.Recurrent("lstm", 3, 5, peepholes=True))
    >>> node.op_type, node.inputs["W"].shape, node.inputs["P"].shape
    ('LSTM', (1, 20, 3), (1, 15))

    With onnx: ``onnx.helper.make_node(node.op_type, ["X", "W", "R", "B"], ["Y"], **node.attributes)``.
    """
    activations = {"elman": tuple(ACTIVATIONS), "lstm": ("tanh",), "gru": ("tanh",)}
    options = {"forget_bias": None, "peepholes": None, "variant": ("CIFG",), "reset": None}
    settled = require(layer, "ONNX", activations, options, summed=True, reverse=True)
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    attributes: dict[str, Any] = {"hidden_size": layer.hidden_size, "direction": direction}
    both = len(layer.directions)
    if layer.cell.name == "elman":
        name, alpha, beta = ACTIVATIONS[layer.activation]
        attributes["activations"] = [name] * both
        if alpha is not None:
            attributes["activation_alpha"] = [layer.plan.parameter if name == "LeakyRelu" else alpha] * both
        if beta is not None:
            attributes["activation_beta"] = [beta] * both
    if layer.cell.name == "gru":
        attributes["linear_before_reset"] = int(settled.get("reset", "after") == "after")
    if settled.get("variant") == "CIFG":
        attributes["input_forget"] = 1
    op_type = {cell: op for op, cell in CELLS.items()}[layer.cell.name]
    return [Operator(op_type, attributes, _inputs(units, layer.cell.name)) for units in units_of(layer)]


def _inputs(units: Sequence[Unit], cell: str) -> dict[str, np.ndarray]:
    orders = GATE_ORDERS[cell]

    def theirs(array: np.ndarray) -> np.ndarray:
        return reordered(array, orders["rnncore"], orders["onnx"])

    inputs = {
        "W": np.stack([theirs(unit["W_xh"]).T for unit in units]),
        "R": np.stack([theirs(unit["W_hh"]).T for unit in units]),
        "B": np.stack([np.concatenate([theirs(bias) for bias in split_biases(unit)]) for unit in units]),
    }
    if "w_ci" in units[0]:
        inputs["P"] = np.stack([np.concatenate([u[f"w_c{g}"] for g in PEEPHOLE_ORDERS["onnx"]]) for u in units])
    return inputs


def from_onnx(operators: Any, **options: Any) -> Recurrent:
    """Return layers with the weights of ONNX operators.

    Parameters
    ----------
    operators : Operator, or sequence of them
        ``(op_type, attributes, inputs)`` of one operator, or of several on top of one another. Attributes left out
        have ONNX's defaults.
    **options
        More arguments of ``Recurrent``: ``merge="sum"`` where the graph adds both directions, ``dropout``, …

    Raises
    ------
    ValueError
        For inputs that are missing or of wrong shapes, and for attributes that no layer here has.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> weights = {"W": np.ones((1, 15, 3), "f4"), "R": np.ones((1, 15, 5), "f4")}
    >>> rc.from_onnx(("GRU", {"hidden_size": 5, "linear_before_reset": 1}, weights))
    Recurrent("gru", 3, 5, dtype="float32")
    """
    if _is_operator(operators):
        operators = [operators]
    if not isinstance(operators, Sequence) or not operators or not all(map(_is_operator, operators)):
        raise ValueError(
            "expected one operator (op_type, attributes, inputs), like ('GRU', {'hidden_size': 5}, {'W': …, 'R': …}), "
            f"or a list of at least one; got {reprlib.repr(operators)}"
        )
    read = [_read(Operator(*operator)) for operator in operators]
    cell, own, _ = read[0]
    for n, (other, settings, _) in enumerate(read):
        if (other, settings) != (cell, own):
            raise ValueError(
                f"all operators must be of one kind; number {n} is {other} with {settings}, the first {cell} with {own}"
            )
    return build(cell, [units for _, _, units in read], {**own, **options})


def _is_operator(value: Any) -> bool:
    if not isinstance(value, Sequence) or len(value) != 3:
        return False
    return isinstance(value[0], str) and isinstance(value[1], Mapping) and isinstance(value[2], Mapping)


def _read(operator: Operator) -> tuple[str, dict[str, Any], list[Unit]]:
    """Return cell, options and units."""
    if operator.op_type not in CELLS:
        raise ValueError(f"op_type must be one of {', '.join(CELLS)}, got {operator.op_type!r}")
    cell = CELLS[operator.op_type]
    attributes = {name: _text(value) for name, value in operator.attributes.items()}
    unknown = sorted(set(attributes) - set(KNOWN))
    if unknown:
        raise ValueError(
            f"no layer here has the attribute {unknown[0]}={attributes[unknown[0]]!r} of {operator.op_type}"
        )
    direction = attributes.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    count = DIRECTIONS[direction]
    options = _activation(operator.op_type, attributes, count)
    if direction == "reverse":
        options["reverse"] = True
    before = cell == "gru" and not attributes.get("linear_before_reset", 0)
    if before:
        options["reset"] = "before"
    if attributes.get("input_forget", 0):
        options["variant"] = "CIFG"
    units = _units(operator, cell, count, before)
    if "w_ci" in units[0]:
        options["peepholes"] = True
    return cell, options, units


def _units(operator: Operator, cell: str, count: int, before: bool) -> list[Unit]:
    orders, inputs = GATE_ORDERS[cell], operator.inputs
    missing = [name for name in ("W", "R") if inputs.get(name) is None]
    if missing:
        given = ", ".join(str(name) for name, value in inputs.items() if value is not None)
        raise ValueError(f"{operator.op_type} needs its input {missing[0]}; inputs given: {given or 'none'}")
    hidden = operator.attributes.get("hidden_size") or array_of(inputs["R"], "R", (count, None, None)).shape[2]
    rows = len(orders["onnx"]) * hidden
    R = array_of(inputs["R"], "R", (count, rows, hidden))
    W = array_of(inputs["W"], "W", (count, rows, None))
    _refuse_others(operator)
    B = inputs.get("B")
    B = np.zeros((count, 2 * rows), W.dtype) if B is None else array_of(B, "B", (count, 2 * rows))
    P = inputs.get("P")

    def ours(array: np.ndarray) -> np.ndarray:
        return reordered(array, orders["onnx"], orders["rnncore"])

    units: list[Unit] = []
    for d in range(count):
        at_input, at_state = (ours(part) for part in np.split(B[d], 2))
        units.append({"W_xh": ours(W[d].T), "W_hh": ours(R[d].T)} | joined_biases(cell, at_input, at_state, before))
        if P is not None:
            peepholes = np.split(array_of(P, "P", (count, 3 * hidden))[d], 3)
            units[-1] |= {f"w_c{gate}": part for gate, part in zip(PEEPHOLE_ORDERS["onnx"], peepholes, strict=True)}
    return units


def _refuse_others(operator: Operator) -> None:
    """Refuse inputs that say something which a layer cannot hold: an initial state is no part of one."""
    for name, value in operator.inputs.items():
        if name in ("X", "W", "R", "B", "P") or value is None:
            continue
        if name in ("initial_h", "initial_c") and not array_of(value, name, (None, None, None)).any():
            continue  # what every sequence starts from anyway
        what = "pass it to forward, as state=" if name in ("initial_h", "initial_c") else "it would be lost"
        if name == "sequence_lens":
            what = "pass them to forward, as lengths="
        raise ValueError(f"a layer cannot keep the input {name} of {operator.op_type}: leave it out, {what}")


def _activation(op_type: str, attributes: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the options that say what ONNX's activations say."""
    given = attributes.get("activations")
    if op_type != "RNN":
        wanted = GATE_ACTIVATIONS[op_type] * count
        if given is not None and [name.lower() for name in given] != [name.lower() for name in wanted]:
            raise ValueError(f"activations of {op_type} must be {', '.join(wanted)}; got {', '.join(given)}")
        return {}
    names = {name.lower() for name in given or ["Tanh"]}
    alphas, betas = (set(attributes.get(f"activation_{which}", ())) for which in ("alpha", "beta"))
    ours = {theirs.lower(): name for name, (theirs, _, _) in ACTIVATIONS.items()}
    if len(names) > 1 or len(alphas) > 1 or not names <= set(ours):
        known = ", ".join(theirs for theirs, _, _ in ACTIVATIONS.values())
        raise ValueError(f"activations of RNN must be the same for both directions, one of {known}; got {given}")
    activation = ours[names.pop()]
    if activation == "identity" and (alphas != {1.0} or betas - {0.0}):
        raise ValueError(f"Affine must be the identity, alpha 1 and beta 0; got {sorted(alphas)} and {sorted(betas)}")
    if activation == "leaky_relu":
        return {"activation": activation, "leaky_slope": alphas.pop() if alphas else 0.01}
    return {"activation": activation}


def _text(value: Any) -> Any:
    """Strings in place of the bytes that onnx hands out."""
    if isinstance(value, bytes):
        return value.decode()
    return [_text(part) for part in value] if isinstance(value, (list, tuple)) else value
