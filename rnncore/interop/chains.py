"""A CRF in ONNX's operators: its most probable labels (Viterbi), its marginals (forward and backward)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.interop.graph import Graph, Value
from rnncore.interop.layers import Ragged

__all__ = ["Chain"]


class Chain:
    """A CRF's head in a graph.

    Parameters
    ----------
    g : Graph
    head : CRF
    params : mapping of str to array
        ``transitions``, ``start`` and ``end``.
    batch : Ragged
    """

    def __init__(self, g: Graph, head: Any, params: Mapping[str, np.ndarray], batch: Ragged) -> None:
        self.g, self.batch, self.labels = g, batch, head.outputs
        table, start, end = (params[name].astype(np.float64) for name in ("transitions", "start", "end"))
        rule = head.constraints
        if rule is not None:
            table, start, end = (
                np.where(may, numbers, -1e30)
                for may, numbers in ((rule.transitions, table), (rule.start, start), (rule.end, end))
            )
        self.table, self.start, self.end = table, start, end

    def _filled(self, numbers: Any) -> Value:
        """Return (B, K)."""
        return self.g.op("Expand", numbers, self.g.concat([self.batch.B, np.array([self.labels])], 0))

    def most_probable(self, scores: Value) -> Value:
        """Write the best score that ends in each label, from where it came, and the way back: labels (T, B)."""

        def forward(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            (best,), (emitted, there, step) = before, slices
            ways = g.op("Unsqueeze", best, [2]) + self.table  # (B, from, to)
            came = g.op("ArgMax", ways, axis=1, keepdims=0)
            first = g.op("Equal", step, np.int64(0))
            new = g.op("Where", first, g.value(self.start), g.op("ReduceMax", ways, axes=[1], keepdims=0)) + emitted
            return [g.op("Where", there, new, best)], [g.cast(came, "FLOAT")]

        g, within = self.g, self.batch.within
        whole = [(scores, "FLOAT"), (within, "BOOL"), (self.batch.numbers, "INT64")]
        (best,), (came,) = g.scan(forward, [(self._filled(np.float32(0)), "FLOAT")], whole, 1)
        last = g.cast(g.op("ArgMax", best + self.end, axis=1, keepdims=1), "FLOAT")  # (B, 1)

        def backward(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            (label,), (came_from, there) = before, slices  # the label of this step; where each label here came from
            earlier = g.op("GatherElements", came_from, g.cast(label, "INT64"), axis=1)
            return [g.op("Where", there, earlier, label)], [g.op("Where", there, label, np.float32(0))]

        _, (labels,) = g.scan(backward, [(last, "FLOAT")], [(came, "FLOAT"), (within, "BOOL")], 1, reverse=True)
        return g.cast(g.op("Squeeze", labels, [2]), "INT64")

    def marginals(self, scores: Value) -> Value:
        """Write p_t = softmax(α_t + β_t), logarithms of sums over all ways to a label and on from it, each normalised.

        α_t[j] = s_t[j] + log Σ_i exp(α_{t-1}[i] + A[i, j]);  β_{t-1}[i] = log Σ_j exp(A[i, j] + s_t[j] + β_t[j]).
        """

        def normal(g: Graph, logs: Value) -> Value:
            return logs - g.op("ReduceLogSumExp", logs, axes=[1])

        def forward(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            (alpha,), (emitted, there, step) = before, slices
            ways = g.op("ReduceLogSumExp", g.op("Unsqueeze", alpha, [2]) + self.table, axes=[1], keepdims=0)
            first = g.op("Equal", step, np.int64(0))
            new = g.op("Where", there, normal(g, g.op("Where", first, g.value(self.start), ways) + emitted), alpha)
            return [new], [g.op("Identity", new)]

        def backward(g: Graph, before: list[Value], slices: list[Value]) -> tuple[list[Value], list[Value]]:
            (beta,), (emitted, there) = before, slices
            ways = g.op("Unsqueeze", emitted + beta, [1]) + self.table  # (B, from, to)
            earlier = normal(g, g.op("ReduceLogSumExp", ways, axes=[2], keepdims=0))
            return [g.op("Where", there, earlier, beta)], [g.op("Identity", beta)]

        g, within = self.g, self.batch.within
        whole = [(scores, "FLOAT"), (within, "BOOL")]
        _, (alphas,) = g.scan(
            forward, [(self._filled(np.float32(0)), "FLOAT")], [*whole, (self.batch.numbers, "INT64")], 1
        )
        _, (betas,) = g.scan(backward, [(self._filled(self.end), "FLOAT")], whole, 1, reverse=True)
        return g.op("Softmax", alphas + betas, axis=-1)
