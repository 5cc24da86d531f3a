"""Whole networks as ONNX models: what they read, layers, pooling, heads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.interop.attention import attended
from rnncore.interop.chains import Chain
from rnncore.interop.graph import Graph, Value
from rnncore.interop.layers import Ragged, run_layers, weighted_rows
from rnncore.interop.segments import described, read_input, read_segments, settle_inputs
from rnncore.io.files import write_atomically

__all__ = ["write_onnx"]


def write_onnx(
    network: Any, path: str | os.PathLike[str], inputs: str | Mapping[str, str] | None = None, about: Any = None
) -> None:
    """Write a network as one ONNX model that predicts what it predicts; see ``Network.to_onnx``.

    `about` is kept as JSON in the model's metadata, under ``rnncore``.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError("writing ONNX models needs the package onnx: pip install onnx") from None
    for name, head in network.heads.items():
        if head.name == "custom":
            raise ValueError(f"the head {name!r} cannot be written as an ONNX model: {type(head).__name__} is Python")
    model = _Writer(network, onnx, settle_inputs(network, inputs)).model(about)
    write_atomically(path, model.SerializeToString())


class _Writer:
    """Writes one network down."""

    def __init__(self, network: Any, onnx: Any, inputs: Any) -> None:
        self.network = network
        self.inputs = inputs
        read: dict[str, Any] = described(network, inputs)
        more: dict[str, Any] = {"lengths": ("INT64", ["B"])}
        if network.skip:
            more |= {"skip_ids": ("INT64", ["T", "B", "F"]), "skip_values": ("FLOAT", ["T", "B", "F"])}
        self.described = read | more
        heads = network.heads if network.head is None else ("scores", "probabilities", "labels")
        self.g = g = Graph(onnx, names=[*read, *more, *heads])
        first = Value(g, next(name for name, (_, shape) in self.described.items() if shape[0] == "T"))
        self.batch = Ragged(g, g.size(first, 0), g.size(first, 1), Value(g, "lengths"))

    def model(self, about: Any) -> Any:
        """Write it all."""
        g, net = self.g, self.network
        several = net.inputs is not None
        read = read_segments(g, net, self.inputs, self.batch) if several else read_input(g, net, self.inputs)
        y, final = run_layers(g, net.layers, read, self.batch)
        if net.attention is not None:
            y = attended(g, net, y, self.batch)
        outputs: dict[str, Any] = {}
        for part in net.outputs:
            outputs |= self._results(part, y, final)
        text = {"rnncore": json.dumps({} if about is None else about)}
        return g.model(self.described, outputs, text)

    # -- heads --------------------------------------------------------------------------------------------------------

    def _results(self, part: Any, y: Any, final: list[Value]) -> dict[str, Any]:
        """Return a head's outputs by name: (value, kind, shape)."""
        g, head = self.g, part.head
        every, prefix = self.network.params, part.prefix
        params = {name.removeprefix(prefix): array for name, array in every.items() if name.startswith(prefix)}
        seen = self._pooled(part, params, y, final)
        if getattr(head, "tied", False):
            params["W_hy"] = every["embedding.E"].T
        if head.name == "sampled":
            params["W_hy"] = params["W_yh"].T
        scores = seen @ params["W_hy"] + params["b_y"] if head.project else seen
        if head.name == "adaptive":
            scores = self._of_clusters(head, params, seen, scores)
        if not head.project:
            scores = g.op("Slice", scores, [0], [head.outputs], [-1])
        if part.features:
            scores = scores + weighted_rows(g, params["W_skip"], Value(g, "skip_ids"), Value(g, "skip_values"))
        chain = Chain(g, head, params, self.batch) if head.name == "crf" else None
        places = ["T", "B"] if part.by_step else ["B"]
        whole = [*places, head.outputs]
        labels = {} if chain is None else {"labels": (chain.most_probable(scores), "INT64", places)}
        squashed = None
        if head.name in ("softmax", "adaptive", "sampled", "ctc", "sigmoid"):
            squashed = g.op("Sigmoid", scores) if head.name == "sigmoid" else g.op("Softmax", scores, axis=-1)
        if not part.name:
            found = {"scores": (scores, "FLOAT", whole)}
            return found | ({} if squashed is None else {"probabilities": (squashed, "FLOAT", whole)}) | labels
        predicted = chain.marginals(scores) if chain is not None else scores if squashed is None else squashed
        found = {"": (predicted, "FLOAT", whole), "scores": (scores, "FLOAT", whole)}
        if part.by_step:
            zero, within = np.float32(0), self.batch.within
            found = {name: (g.op("Where", within, one, zero), kind, at) for name, (one, kind, at) in found.items()}
        return {f"{part.name}.{name}".rstrip("."): one for name, one in (found | labels).items()}

    def _of_clusters(self, head: Any, params: Mapping[str, np.ndarray], seen: Value, scores: Value) -> Value:
        """Return the logarithms of an adaptive softmax's probabilities, which serve as its scores."""
        g = self.g
        own = g.op("LogSoftmax", scores, axis=-1)
        frequent = head.scored - len(head.cutoffs)
        parts = [g.op("Slice", own, [0], [frequent], [-1])]
        for i in range(len(head.cutoffs)):
            within = g.op("LogSoftmax", seen @ params[f"tails.{i}.P"] @ params[f"tails.{i}.W"], axis=-1)
            parts.append(within + g.op("Slice", own, [frequent + i], [frequent + i + 1], [-1]))
        return g.concat(parts, -1)

    def _pooled(self, part: Any, params: Mapping[str, np.ndarray], y: Any, final: list[Value]) -> Value:
        g, top, batch = self.g, self.network.layers[-1], self.batch
        if part.pooling == "every":
            whole: Value = y
            return whole
        if part.pooling == "last" and self.network.attention is not None:
            counts = g.op("Unsqueeze", g.op("Add", batch.numbers, np.int64(1)), [1])
            is_last = g.op("Unsqueeze", g.op("Equal", counts, g.op("Unsqueeze", batch.lengths, [0])), [2])
            return g.op("ReduceSum", g.op("Where", is_last, y, np.float32(0)), [0], keepdims=0)
        if part.pooling == "last":
            summed = top.bidirectional and top.merge == "sum"
            return final[0] + final[1] if summed else g.concat(final, 1)
        if part.pooling == "max":
            return g.op("ReduceMax", g.op("Where", batch.within, y, np.float32(-np.inf)), axes=[0], keepdims=0)
        y = g.op("Where", batch.within, y, np.float32(0))
        if part.pooling == "mean":
            total = g.op("ReduceSum", y, [0], keepdims=0)
            return g.op("Div", total, g.op("Unsqueeze", g.cast(batch.lengths, "FLOAT"), [1]))
        W, b, v = (params[f"attention.{name}"] for name in ("W", "b", "v"))
        energy = g.op("Tanh", y @ W + b) @ v[:, None]
        share = g.op("Softmax", g.op("Where", batch.within, energy, np.float32(-np.inf)), axis=0)
        return g.op("ReduceSum", y * share, [0], keepdims=0)
