"""Whole networks as ONNX models: embedding, layers, pooling, head."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.interop.graph import Graph, Value
from rnncore.interop.onnx import to_onnx
from rnncore.interop.parts import Unit, units_of
from rnncore.interop.steps import STEPS
from rnncore.io.files import write_atomically
from rnncore.nn.recurrent import Recurrent

__all__ = ["INPUTS", "write_onnx"]

INPUTS = ("numbers", "ids", "bags")


def write_onnx(network: Any, path: str | os.PathLike[str], inputs: str | None = None, about: Any = None) -> None:
    """Write a network as one ONNX model that predicts what it predicts; see ``Network.to_onnx``.

    `about` is kept as JSON in the model's metadata, under ``rnncore``.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError("writing ONNX models needs the package onnx: pip install onnx") from None
    if network.head is None or network.inputs is not None or network.head.name == "custom":
        raise ValueError("an ONNX model is written of a network with one compiled head and one input, not of several")
    if network.attention is not None:
        raise ValueError("an ONNX model of a network with attention cannot be written: leave attention out")
    inputs = inputs or ("ids" if network.embedding else "numbers")
    if inputs not in INPUTS or (inputs == "numbers" and network.embedding):
        raise ValueError(f"inputs must be one of {', '.join(INPUTS[bool(network.embedding) :])}, got {inputs!r}")
    model = _Writer(network, onnx, inputs).model(about)
    write_atomically(path, model.SerializeToString())


class _Input:
    """What a layer reads: numbers (T, B, D), or symbols that pick rows of whatever they would be multiplied with.

    In a step of a loop, `step` holds the slices of what was computed for all steps before it.
    """

    def __init__(self, g: Graph, dense: Value | None = None, ids: Value | None = None, bags: bool = False) -> None:
        self.g = g
        self.dense = dense
        self.ids = ids
        self.bags = bags

    def times(self, matrix: np.ndarray) -> Value:
        """Return x·matrix for all steps."""
        g = self.g
        if self.dense is not None:
            return self.dense @ matrix
        assert self.ids is not None
        if not self.bags:
            return g.op("Gather", matrix, self.ids)
        there = g.cast(g.op("GreaterOrEqual", self.ids, np.int64(0)), "FLOAT")
        rows = g.op("Gather", matrix, g.op("Max", self.ids, np.int64(0)))
        return g.op("ReduceSum", rows * g.op("Unsqueeze", there, [-1]), [2], keepdims=0)


class _Step:
    """x at one step, as the steps of cells ask for it."""

    def __init__(self, slices: Sequence[Value]) -> None:
        self._by, *self._itself = slices

    def by(self, g: Graph, name: str) -> Value:
        """Return x·W_xh."""
        return self._by

    def itself(self, g: Graph) -> Value:
        """Return x."""
        return self._itself[0]


class _Writer:
    """Writes one network down."""

    def __init__(self, network: Any, onnx: Any, inputs: str) -> None:
        self.network = network
        self.inputs = inputs
        self.g = g = Graph(onnx)
        self.x, self.lengths = Value(g, "x"), Value(g, "lengths")
        self.T, self.B = g.size(self.x, 0), g.size(self.x, 1)
        steps = g.op("Range", np.int64(0), g.op("Squeeze", self.T, [0]), np.int64(1))
        within = g.op("Less", g.op("Unsqueeze", steps, [1]), g.op("Unsqueeze", self.lengths, [0]))
        self.within = g.op("Unsqueeze", within, [2])  # (T, B, 1)
        self.shorts = g.cast(self.lengths, "INT32")

    def model(self, about: Any) -> Any:
        """Write it all."""
        g, net = self.g, self.network
        read = self._read()
        final: list[Value] = []
        for layer in net.layers:
            for units, operator in zip(units_of(layer), _operators(layer), strict=True):
                y, final = self._native(layer, read, operator) if operator else self._scanned(layer, read, units)
                read = _Input(g, dense=y)
        seen = self._pooled(read.dense, final)
        kept = net.head.outputs
        scores = seen @ net.params["head.W_hy"] + net.params["head.b_y"] if net.head.project else seen
        if not net.head.project:
            scores = g.op("Slice", scores, [0], [kept], [-1])
        described: dict[str, Any] = {"x": self._described(), "lengths": ("INT64", ["B"])}
        if net.skip:
            described |= {"skip_ids": ("INT64", ["T", "B", "F"]), "skip_values": ("FLOAT", ["T", "B", "F"])}
            scores = scores + self._skipped()
        places = ["T", "B"] if net.readout == "every" else ["B"]
        outputs = {"scores": (scores, "FLOAT", [*places, kept])}
        if net.head.name == "softmax":
            outputs["probabilities"] = (g.op("Softmax", scores, axis=-1), "FLOAT", [*places, kept])
        elif net.head.name == "sigmoid":
            outputs["probabilities"] = (g.op("Sigmoid", scores), "FLOAT", [*places, kept])
        elif net.head.name == "crf":
            outputs["labels"] = (self._most_probable(scores), "INT64", places)
        text = {"rnncore": json.dumps({} if about is None else about)}
        return g.model(described, outputs, text)

    def _described(self) -> tuple[str, list[Any]]:
        if self.inputs == "numbers":
            return "FLOAT", ["T", "B", self.network.layers[0].input_size]
        return "INT64", ["T", "B"] if self.inputs == "ids" else ["T", "B", "N"]

    def _read(self) -> _Input:
        if self.inputs == "numbers":
            return _Input(self.g, dense=self.x)
        symbols = _Input(self.g, ids=self.x, bags=self.inputs == "bags")
        if not self.network.embedding:
            return symbols
        return _Input(self.g, dense=symbols.times(self.network.params["embedding.E"]))

    # -- layers -------------------------------------------------------------------------------------------------------

    def _native(self, layer: Recurrent, read: _Input, operator: Any) -> tuple[Value, list[Value]]:
        """Write ONNX's own operator; return outputs (T, B, F) and each direction's last outputs."""
        g, weights = self.g, dict(operator.inputs)
        if read.dense is None:  # W picks what rows of it were looked up before, so that one operator serves all
            rows = weights["W"].shape[1]
            x = read.times(np.concatenate([part.T for part in weights["W"]], axis=1))
            weights["W"] = np.stack(np.split(np.eye(len(weights["W"]) * rows), len(weights["W"])))
        else:
            x = read.dense
        inputs = [x, weights["W"], weights["R"], weights["B"], self.shorts]
        if "P" in weights:
            inputs += [None, None, weights["P"]]
        both = len(layer.directions)
        y, h = g.ops(operator.op_type, inputs, 2, **operator.attributes)  # (T, directions, B, H), (directions, B, H)
        final = [g.op("Squeeze", part, [0]) for part in (g.ops("Split", [h, [1] * both], both, axis=0))]
        if layer.bidirectional and layer.merge == "sum":
            return g.op("ReduceSum", y, [1], keepdims=0), final
        return g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, -1]), final

    def _scanned(self, layer: Recurrent, read: _Input, units: Sequence[Unit]) -> tuple[Value, list[Value]]:
        """Write the cell's step as the body of a loop over time, for each direction."""
        outputs, final = [], []
        for unit, direction in zip(units, layer.directions, strict=True):
            last, y = self._one_way(layer, read, unit, direction == "bwd")
            outputs.append(y)
            final.append(last)
        if layer.bidirectional and layer.merge == "sum":
            return outputs[0] + outputs[1], final
        return self.g.concat(outputs, 2), final

    def _one_way(self, layer: Recurrent, read: _Input, unit: Unit, reverse: bool) -> tuple[Value, Value]:
        g, options = self.g, layer.cell.settle(layer.cell_options, layer.activation)
        step = STEPS[layer.cell.name]
        over = [read.times(unit["W_xh"])]
        if layer.cell.name in ("mut1", "mut2"):
            over.append(read.dense if read.dense is not None else read.times(np.eye(len(unit["W_xh"]))))
        zeros = [
            g.op("Expand", np.float32(0), g.concat([self.B, np.array([width])], 0))
            for width in layer.state_widths.values()
        ]
        shares = dict(enumerate(layer.zone_rates))

        def body(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            there, *parts = slices
            after = step(g, layer, unit, options, before, _Step(parts))
            for number, rate in shares.items():
                if rate and number < len(after):  # zoneout without chance: its mean
                    after[number] = before[number] * np.float32(rate) + after[number] * np.float32(1 - rate)
            kept = [g.op("Where", there, new, old) for new, old in zip(after, before, strict=True)]
            return kept, [g.op("Where", there, after[0], np.float32(0))]

        sequences = [(self.within, "BOOL"), *((part, "FLOAT") for part in over)]
        last, (y,) = g.scan(body, [(zero, "FLOAT") for zero in zeros], sequences, 1, reverse)
        return last[0], y

    # -- the head -----------------------------------------------------------------------------------------------------

    def _pooled(self, y: Any, final: list[Value]) -> Value:
        g, top = self.g, self.network.layers[-1]
        if self.network.readout == "every":
            return y
        if self.network.readout == "last":
            summed = top.bidirectional and top.merge == "sum"
            return final[0] + final[1] if summed else g.concat(final, 1)
        if self.network.readout == "mean":
            total = g.op("ReduceSum", g.op("Where", self.within, y, np.float32(0)), [0], keepdims=0)
            return g.op("Div", total, g.op("Unsqueeze", g.cast(self.lengths, "FLOAT"), [1]))
        if self.network.readout == "attention":
            W, b, v = (self.network.params[f"head.attention.{name}"] for name in ("W", "b", "v"))
            energy = g.op("Tanh", y @ W + b) @ v[:, None]
            share = g.op("Softmax", g.op("Where", self.within, energy, np.float32(-np.inf)), axis=0)
            return g.op("ReduceSum", g.op("Where", self.within, y, np.float32(0)) * share, [0], keepdims=0)
        return g.op("ReduceMax", g.op("Where", self.within, y, np.float32(-np.inf)), axes=[0], keepdims=0)

    def _skipped(self) -> Value:
        g = self.g
        ids, values = Value(g, "skip_ids"), Value(g, "skip_values")
        there = g.op("Where", g.op("GreaterOrEqual", ids, np.int64(0)), values, np.float32(0))
        rows = g.op("Gather", self.network.params["head.W_skip"], g.op("Max", ids, np.int64(0)))
        return g.op("ReduceSum", rows * g.op("Unsqueeze", there, [-1]), [2], keepdims=0)

    def _most_probable(self, scores: Value) -> Value:
        """Write Viterbi's algorithm: the best score that ends in each label, from where it came, and the way back."""
        g, net = self.g, self.network
        table, start, end = (net.params[f"head.{name}"].astype(np.float64) for name in ("transitions", "start", "end"))
        rule = net.head.constraints
        if rule is not None:
            table, start, end = (
                np.where(may, numbers, -1e30)
                for may, numbers in ((rule.transitions, table), (rule.start, start), (rule.end, end))
            )
        steps = g.op("Range", np.int64(0), g.op("Squeeze", self.T, [0]), np.int64(1))

        def forward(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            (best,), (emitted, there, step) = before, slices
            ways = g.op("Unsqueeze", best, [2]) + table  # (B, from, to)
            came = g.op("ArgMax", ways, axis=1, keepdims=0)
            first = g.op("Equal", step, np.int64(0))
            new = g.op("Where", first, g.value(start), g.op("ReduceMax", ways, axes=[1], keepdims=0)) + emitted
            return [g.op("Where", there, new, best)], [g.cast(came, "FLOAT")]

        nothing = g.op("Expand", np.float32(0), g.concat([self.B, np.array([net.head.outputs])], 0))
        within, whole = self.within, [(scores, "FLOAT"), (self.within, "BOOL"), (steps, "INT64")]
        (best,), (came,) = g.scan(forward, [(nothing, "FLOAT")], whole, 1)
        last = g.cast(g.op("ArgMax", best + end, axis=1, keepdims=1), "FLOAT")  # (B, 1)

        def backward(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            (label,), (came_from, there) = before, slices  # the label of this step; where each label here came from
            earlier = g.op("GatherElements", came_from, g.cast(label, "INT64"), axis=1)
            return [g.op("Where", there, earlier, label)], [g.op("Where", there, label, np.float32(0))]

        _, (labels,) = g.scan(backward, [(last, "FLOAT")], [(came, "FLOAT"), (within, "BOOL")], 1, reverse=True)
        return g.cast(g.op("Squeeze", labels, [2]), "INT64")


def _operators(layer: Recurrent) -> list[Any]:
    """Return ONNX's operators for a layer, or None for each that must be written as a loop."""
    try:
        return list(to_onnx(layer))
    except ValueError:
        if layer.cell.name not in STEPS:
            raise ValueError(
                f"the cell {layer.cell.name} cannot be written as an ONNX model; {', '.join(STEPS)} can"
            ) from None
        return [None] * layer.num_layers
