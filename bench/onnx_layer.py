"""A bare recurrent layer as an ONNX model of fixed shapes: X and the initial states in, Y and the final states out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench import weights
from bench.shapes import Shape
from bench.weights import Arrays

OPERATORS = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}
ORDERS = {"elman": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}  # ONNX: i o f c and z r h; ours: i f g o and r z n
STATES = {"elman": ("h",), "lstm": ("h", "c"), "gru": ("h",)}
OPSET = 17


def arrays(cell: str, shape: Shape) -> Arrays:
    """The same weights as everyone's, as ONNX wants them: W (1, G·H, D), R (1, G·H, H), B (1, 2·G·H)."""
    start = weights.initial(cell, shape, "float32")

    def theirs(array: np.ndarray) -> np.ndarray:
        gates = array.reshape(-1, len(ORDERS[cell]), shape.H)
        return np.ascontiguousarray(gates[:, ORDERS[cell]].reshape(len(gates), -1).T)

    recurrent_bias = np.zeros_like(start["b_h"])
    if cell == "gru":
        recurrent_bias[2 * shape.H :] = start["b_hn"]
    both = [theirs(start["b_h"][None])[:, 0], theirs(recurrent_bias[None])[:, 0]]
    return {"W": theirs(start["W_xh"])[None], "R": theirs(start["W_hh"])[None], "B": np.concatenate(both)[None]}


def model(cell: str, shape: Shape) -> bytes:
    """The serialised model. Inputs X (T, B, D), h0 (, c0) (1, B, H); outputs Y (T, 1, B, H), h (, c) (1, B, H)."""
    attributes = {"hidden_size": shape.H} | ({"linear_before_reset": 1} if cell == "gru" else {})
    initial, final = [f"{s}0" for s in STATES[cell]], list(STATES[cell])
    node = helper.make_node(OPERATORS[cell], ["X", "W", "R", "B", "", *initial], ["Y", *final], **attributes)

    def value(name: str, *sizes: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

    graph = helper.make_graph(
        [node],
        "layer",
        [value("X", shape.T, shape.B, shape.D), *(value(name, 1, shape.B, shape.H) for name in initial)],
        [value("Y", shape.T, 1, shape.B, shape.H), *(value(name, 1, shape.B, shape.H) for name in final)],
        [numpy_helper.from_array(array, name) for name, array in arrays(cell, shape).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made.SerializeToString()
