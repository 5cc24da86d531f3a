"""ONNX Runtime running a bare layer of fixed shapes: inputs and outputs bound once, or passed with every call."""

from __future__ import annotations

import logging
import os
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench import onnx_layer, weights
from bench.shapes import Shape
from bench.weights import Arrays


class Inference:
    """One forward pass; `bound`: over an IOBinding that keeps its arrays, else through `run`."""

    peer = "ONNX Runtime"

    def __init__(self, cell: str, shape: Shape, threads: int, bound: bool, int8: bool = False) -> None:
        self.name = f"{self.peer}, {'bound' if bound else 'run'}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        model = onnx_layer.model(cell, shape)
        self.session = onnxruntime.InferenceSession(_int8(model) if int8 else model, options, providers=providers)
        self.states = onnx_layer.STATES[cell]
        start = weights.states(shape, "float32", len(self.states))
        self.feed = {"X": weights.inputs(shape, "float32")}
        self.feed |= {f"{name}0": array[None] for name, array in zip(self.states, start, strict=True)}
        self.outputs = ["Y", *self.states]
        self.found: list[np.ndarray] = []
        self.binding = None
        if bound:
            self.binding = self.session.io_binding()
            for name, array in self.feed.items():
                self.binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
            self.found = [np.empty((shape.T, 1, shape.B, shape.H), np.float32)]
            self.found += [np.empty((1, shape.B, shape.H), np.float32) for _ in self.states]
            for name, array in zip(self.outputs, self.found, strict=True):
                at = array.__array_interface__["data"][0]
                self.binding.bind_output(name, "cpu", 0, np.float32, array.shape, at)
            self.run_bound = self.session._sess.run_with_iobinding  # without the checks of the wrapper
            self.call = self._call_bound  # type: ignore[method-assign]

    def call(self) -> None:
        self.found = self.session.run(self.outputs, self.feed)

    def _call_bound(self) -> None:
        self.run_bound(self.binding._iobinding, None)

    def results(self) -> Arrays:
        y, *states = self.found
        return {"y": y[:, 0], **{name: state[0] for name, state in zip(self.states, states, strict=True)}}


def _int8(model: bytes) -> bytes:
    """The model with weights of int8, each row of inputs quantised as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "layer.onnx")
        onnx.save_model(onnx.load_from_string(model), path)
        logging.disable(logging.WARNING)
        quantize_dynamic(path, path, per_channel=True, weight_type=QuantType.QInt8)
        with open(path, "rb") as file:
            return file.read()


def forms(cell: str, shape: Shape, threads: int, int8: bool = False) -> list[Inference]:
    """Every way to ask for it; the fastest counts."""
    return [Inference(cell, shape, threads, bound, int8) for bound in (True, False)]
