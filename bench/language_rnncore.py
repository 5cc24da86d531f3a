"""rnncore's side of `bench lm`, at array level."""

from __future__ import annotations

from typing import Any

import numpy as np

import rnncore as rc
from bench.language import CLAMP, EPS, NORM, RHO, Model
from bench.text import Batch
from bench.weights import Arrays


class Trainer:
    """`loss_and_grad` with the state of the chunk before, and the optimizer's step."""

    name = "rnncore"

    def __init__(self, model: Model, start: Arrays, threads: int, head: Any = None) -> None:
        self.model = model
        layers = rc.Recurrent("lstm", model.inputs, model.hidden, num_layers=model.layers, n_threads=threads)
        embedding = rc.Embedding(model.symbols, model.embedding) if model.embedding else None
        self.net = rc.Network(layers, head=head or rc.Softmax(model.symbols), embedding=embedding)
        for name, view in self.net.params.items():
            if name in start and start[name].shape == view.shape:  # another head has its own first weights
                view[...] = start[name]
            if name.endswith(".b_h") and model.two_biases:
                view += start[name.replace("b_h", "b_second")]
        self.optimizer = _optimizer(model)
        self.state: Any = None

    def reset(self) -> None:
        self.state = None

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        """One step; nats per symbol before it."""
        loss = self.net.loss_and_grad(x, y, state=self.state, divisor=x.shape[1])
        self.optimizer.step(self.net)
        self.state = self.net.state
        return loss / len(x)

    def validate(self, batches: list[Batch]) -> float:
        """Nats per symbol of chunks in a row, from a state of zeros."""
        return nats(self.net, batches)


def nats(net: Any, batches: list[Batch]) -> float:
    total, count, state = 0.0, 0, None
    for x, y in batches:
        p, state = net.predict(x, state=state, return_state=True)
        total -= float(np.log(np.take_along_axis(p, y[..., None], -1), dtype=np.float64).sum())
        count += y.size
    return total / count


def _optimizer(model: Model) -> Any:
    if model.rule == "sgd":
        return rc.SGD(model.rate, clip_norm=NORM)
    # Both biases of the originals get the same gradient, so that their sum, our one bias, has twice the rate.
    groups = {"*.b_h": {"learning_rate": 2 * model.rate}} if model.two_biases else None
    return rc.RMSprop(model.rate, rho=RHO, eps=EPS, clip_value=CLAMP, lazy=False, groups=groups)
