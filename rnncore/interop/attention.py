"""Attention over a sequence's own steps, in ONNX's operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.interop.graph import Graph, Value
from rnncore.interop.layers import Ragged

__all__ = ["attended"]


def attended(g: Graph, network: Any, y: Value, batch: Ragged) -> Value:
    """Return what the heads of a network with attention see, for the layers' outputs (T, B, H): (T, B, F).

    Weights are those of `rnncore.Attention`: zero past a sequence's end and, where it is causal, past each step.
    """
    attention, params = network.attention, network.params
    q = g.op("Transpose", y, perm=[1, 0, 2])
    p = q @ params["attention.W"] if attention.score == "general" else q
    if attention.score == "scaled_dot":
        p = p * np.float32(attention.size**-0.5)
    visible = g.op("Unsqueeze", g.op("Transpose", g.op("Squeeze", batch.within, [2]), perm=[1, 0]), [1])  # (B, 1, S)
    if attention.causal:
        so_far = g.op("LessOrEqual", g.op("Unsqueeze", batch.numbers, [0]), g.op("Unsqueeze", batch.numbers, [1]))
        visible = g.op("And", visible, g.op("Unsqueeze", so_far, [0]))
    energy = g.op("Where", visible, p @ g.op("Transpose", q, perm=[0, 2, 1]), np.float32(-np.inf))
    context = g.op("Softmax", energy, axis=-1) @ q
    h = g.op("Tanh", g.concat([context, q], 2) @ params["attention.W_c"])
    return g.op("Transpose", h, perm=[1, 0, 2])
