"""OpenVINO running a bare layer in float32: the ONNX model, and for one step its own cell operator, too."""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13 as ops

from bench import onnx_layer, weights
from bench.shapes import Shape
from bench.weights import Arrays


def _cell(cell: str, shape: Shape) -> openvino.Model:
    """One step as RNNCell, LSTMCell or GRUCell. X (B, D), h0 (, c0) (B, H)."""
    start = weights.initial(cell, shape, "float32")
    order = {"elman": [0], "lstm": [1, 0, 2, 3], "gru": [1, 0, 2]}[cell]  # OpenVINO: f i c o and z r h

    def theirs(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.reshape(-1, len(order), shape.H)[:, order].reshape(len(array), -1).T)

    x = ops.parameter([shape.B, shape.D], np.float32, name="X")
    states = [ops.parameter([shape.B, shape.H], np.float32, name=f"{s}0") for s in onnx_layer.STATES[cell]]
    W, R, b = theirs(start["W_xh"]), theirs(start["W_hh"]), theirs(start["b_h"][None])[:, 0]
    if cell == "elman":
        made = ops.rnn_cell(x, *states, W, R, b, shape.H, ["tanh"], [], [])
    elif cell == "lstm":
        made = ops.lstm_cell(x, *states, W, R, b, shape.H)
    else:
        made = ops.gru_cell(x, *states, W, R, np.concatenate([b, start["b_hn"]]), shape.H, linear_before_reset=True)
    return openvino.Model(list(made.outputs()), [x, *states], "cell")


class Inference:
    """One forward pass over tensors that are set once; `cell_model`: the cell's operator, else the ONNX model."""

    peer = "OpenVINO"

    def __init__(self, cell: str, shape: Shape, threads: int, cell_model: bool, hint: str = "f32") -> None:
        self.name = f"{self.peer}, {'cell' if cell_model else 'ONNX'}"
        core = openvino.Core()
        model = _cell(cell, shape) if cell_model else core.read_model(onnx_layer.model(cell, shape))
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        compiled = core.compile_model(model, "CPU", settings)
        self.request = compiled.create_infer_request()
        self.states = onnx_layer.STATES[cell]
        self.cell_model = cell_model
        given = [
            weights.inputs(shape, "float32"),
            *(s[None] for s in weights.states(shape, "float32", len(self.states))),
        ]
        self.tensors = [openvino.Tensor(array[0] if cell_model else array, shared_memory=True) for array in given]
        for i, tensor in enumerate(self.tensors):
            self.request.set_input_tensor(i, tensor)
        self.infer = super(openvino.InferRequest, self.request).infer  # without looking through new inputs

    def call(self) -> None:
        self.infer({}, share_outputs=True, decode_strings=False)

    def results(self) -> Arrays:
        count = len(self.states) + (0 if self.cell_model else 1)
        found = [np.array(self.request.get_output_tensor(i).data) for i in range(count)]
        if self.cell_model:
            return {"y": found[0][None], **dict(zip(self.states, found, strict=True))}
        y, *states = found
        return {"y": y[:, 0], **{name: state[0] for name, state in zip(self.states, states, strict=True)}}


def forms(cell: str, shape: Shape, threads: int, hint: str = "f32") -> list[Inference]:
    """Every way to ask for it; the fastest counts. hint: the precision it may work in."""
    return [
        Inference(cell, shape, threads, cell_model, hint) for cell_model in ([False, True] if shape.T == 1 else [False])
    ]
