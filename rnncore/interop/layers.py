"""Recurrent layers in ONNX's operators: its own where it has them, loops over the equations where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.interop.graph import Graph, Value
from rnncore.interop.onnx import to_onnx
from rnncore.interop.parts import Unit, units_of
from rnncore.interop.steps import STEPS
from rnncore.nn.recurrent import Recurrent

__all__ = ["Input", "Ragged", "run_layers", "weighted_rows"]


class Ragged:
    """A batch's steps T and sequences B, each (1,), the lengths (B,) of these, and which steps they reach."""

    def __init__(self, g: Graph, steps: Value, sequences: Value, lengths: Value) -> None:
        self.T, self.B = steps, sequences
        self.lengths, self.shorts = lengths, g.cast(lengths, "INT32")
        self.numbers = g.op("Range", np.int64(0), g.op("Squeeze", steps, [0]), np.int64(1))
        within = g.op("Less", g.op("Unsqueeze", self.numbers, [1]), g.op("Unsqueeze", lengths, [0]))
        self.within = g.op("Unsqueeze", within, [2])  # (T, B, 1)


class Input:
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


def weighted_rows(g: Graph, table: np.ndarray, ids: Value, values: Value) -> Value:
    """Return Σ_f values_f·table[ids_f] for ids and values (T, B, F), nothing for negative ids."""
    there = g.op("Where", g.op("GreaterOrEqual", ids, np.int64(0)), values, np.float32(0))
    rows = g.op("Gather", table, g.op("Max", ids, np.int64(0)))
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


def run_layers(g: Graph, layers: Sequence[Recurrent], read: Input, batch: Ragged) -> tuple[Any, list[Value]]:
    """Write layers on top of one another; return outputs (T, B, F) and each direction's last outputs."""
    final: list[Value] = []
    for layer in layers:
        for units, operator in zip(units_of(layer), _operators(layer), strict=True):
            if operator:
                y, final = _native(g, layer, read, batch, operator)
            else:
                y, final = _scanned(g, layer, read, batch, units)
            read = Input(g, dense=y)
    return read.dense, final


def _native(g: Graph, layer: Recurrent, read: Input, batch: Ragged, operator: Any) -> tuple[Value, list[Value]]:
    """Write ONNX's own operator; return outputs (T, B, F) and each direction's last outputs."""
    weights = dict(operator.inputs)
    if read.dense is None:  # W picks what rows of it were looked up before, so that one operator serves all
        rows = weights["W"].shape[1]
        x = read.times(np.concatenate([part.T for part in weights["W"]], axis=1))
        weights["W"] = np.stack(np.split(np.eye(len(weights["W"]) * rows), len(weights["W"])))
    else:
        x = read.dense
    inputs = [x, weights["W"], weights["R"], weights["B"], batch.shorts]
    if "P" in weights:
        inputs += [None, None, weights["P"]]
    both = len(layer.directions)
    y, h = g.ops(operator.op_type, inputs, 2, **operator.attributes)  # (T, directions, B, H), (directions, B, H)
    final = [g.op("Squeeze", part, [0]) for part in (g.ops("Split", [h, [1] * both], both, axis=0))]
    if layer.bidirectional and layer.merge == "sum":
        return g.op("ReduceSum", y, [1], keepdims=0), final
    return g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, -1]), final


def _scanned(
    g: Graph, layer: Recurrent, read: Input, batch: Ragged, units: Sequence[Unit]
) -> tuple[Value, list[Value]]:
    """Write the cell's step as the body of a loop over time, for each direction."""
    outputs, final = [], []
    for unit, direction in zip(units, layer.directions, strict=True):
        last, y = _one_way(g, layer, read, batch, unit, direction == "bwd")
        outputs.append(y)
        final.append(last)
    if layer.bidirectional and layer.merge == "sum":
        return outputs[0] + outputs[1], final
    return g.concat(outputs, 2), final


def _one_way(g: Graph, layer: Recurrent, read: Input, batch: Ragged, unit: Unit, reverse: bool) -> tuple[Value, Value]:
    options = layer.cell.settle(layer.cell_options, layer.activation)
    step = STEPS[layer.cell.name]
    over = [read.times(unit["W_xh"])]
    if layer.cell.name in ("mut1", "mut2"):
        over.append(read.dense if read.dense is not None else read.times(np.eye(len(unit["W_xh"]))))
    zeros = [
        g.op("Expand", np.float32(0), g.concat([batch.B, np.array([width])], 0))
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

    sequences = [(batch.within, "BOOL"), *((part, "FLOAT") for part in over)]
    last, (y,) = g.scan(body, [(zero, "FLOAT") for zero in zeros], sequences, 1, reverse)
    return last[0], y


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
