"""Stacks of LSTM layers over ids with a softmax on top: sizes, and first weights that all contestants start from.

The loss is the sum over a chunk's steps of the mean over its rows, as char-rnn and Zaremba et al. (2014) have it: what
clipping acts on is not divided by the number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.weights import Arrays


@dataclass(frozen=True)
class Model:
    symbols: int
    hidden: int
    layers: int
    batch: int
    steps: int
    rule: str  # "rmsprop": clamped gradients; "sgd": the gradient's norm clipped
    rate: float
    bound: float  # first weights are uniform in ±bound
    embedding: int = 0  # 0: symbols are one-hot
    two_biases: bool = False  # as Torch's and PyTorch's LSTM: each moves, so that their sum moves twice as far

    @property
    def inputs(self) -> int:
        return self.embedding or self.symbols

    def initial(self, seed: int = 0) -> Arrays:
        """First weights under rnncore's names; `b_second` are the second biases."""
        rng, width = np.random.default_rng(seed), 4 * self.hidden
        sizes: dict[str, tuple[int, ...]] = {}
        if self.embedding:
            sizes["embedding.E"] = (self.symbols, self.embedding)
        for n in range(self.layers):
            sizes |= {f"layers.{n}.fwd.W_xh": (self.hidden if n else self.inputs, width)}
            sizes |= {f"layers.{n}.fwd.W_hh": (self.hidden, width), f"layers.{n}.fwd.b_h": (width,)}
            if self.two_biases:
                sizes[f"layers.{n}.fwd.b_second"] = (width,)
        sizes |= {"head.W_hy": (self.hidden, self.symbols), "head.b_y": (self.symbols,)}
        start = {name: rng.uniform(-self.bound, self.bound, size).astype(np.float32) for name, size in sizes.items()}
        if self.two_biases:
            for n in range(self.layers):
                start[f"layers.{n}.fwd.b_h"][self.hidden : 2 * self.hidden] = 1.0  # of the forget gates
        return start


RHO, EPS, CLAMP, NORM = 0.95, 1e-8, 5.0, 5.0


def char_rnn(symbols: int) -> Model:
    """char-rnn's defaults: 240 321 parameters at 65 symbols."""
    return Model(symbols, 128, 2, 50, 50, "rmsprop", 2e-3, 0.08, two_biases=True)


def small_word_model() -> Model:
    """The small model of Zaremba et al. (2014)."""
    return Model(10_000, 200, 2, 20, 20, "sgd", 1.0, 0.1, embedding=200)
