"""The same in JAX: one compiled function per step, a `lax.scan` per layer with the input product outside it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.language import CLAMP, EPS, NORM, RHO, Model
from bench.weights import Arrays

jax.config.update("jax_cpu_enable_async_dispatch", False)  # saves a hop to another thread


def _lstm(inputs: Any, state: Any, recurrent: Any) -> tuple[Any, Any]:
    def step(carry: Any, gates: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(gates + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return jax.lax.scan(step, state, inputs)


class Trainer:
    name = "JAX"

    def __init__(self, model: Model, start: Arrays) -> None:
        self.model = model

        def loss_of(p: Any, state: Any, x: Any, y: Any) -> Any:
            # A product with one-hot vectors is faster here than gathering few rows many times, whose gradient scatters.
            outputs: Any = p["embedding.E"][x] if model.embedding else jax.nn.one_hot(x, model.symbols)
            left = []
            for n in range(model.layers):
                prefix = f"layers.{n}.fwd."
                gates = outputs @ p[prefix + "W_xh"] + p[prefix + "b_h"]
                if model.two_biases:
                    gates = gates + p[prefix + "b_second"]
                end, outputs = _lstm(gates, state[n], p[prefix + "W_hh"])
                left.append(end)
            log_p = jax.nn.log_softmax(outputs @ p["head.W_hy"] + p["head.b_y"])
            return -jnp.take_along_axis(log_p, y[..., None], axis=-1).sum() / model.batch, left

        def update(p: Any, squares: Any, state: Any, x: Any, y: Any) -> Any:
            (loss, state), g = jax.value_and_grad(loss_of, has_aux=True)(p, state, x, y)
            if model.rule == "sgd":
                norm = jnp.sqrt(sum(jnp.vdot(one, one) for one in jax.tree.leaves(g)))
                rate = model.rate * jnp.minimum(1.0, NORM / (norm + 1e-6))
                return jax.tree.map(lambda a, b: a - rate * b, p, g), squares, state, loss
            g = jax.tree.map(lambda one: jnp.clip(one, -CLAMP, CLAMP), g)
            squares = jax.tree.map(lambda m, one: RHO * m + (1 - RHO) * one * one, squares, g)
            p = jax.tree.map(lambda a, b, m: a - model.rate * b / (jnp.sqrt(m) + EPS), p, g, squares)
            return p, squares, state, loss

        self.update = jax.jit(update, donate_argnums=(0, 1, 2))
        self.params = {name: jnp.array(array) for name, array in start.items()}
        self.squares = jax.tree.map(jnp.zeros_like, self.params)
        self.reset()

    def reset(self) -> None:
        shape = (self.model.batch, self.model.hidden)
        self.state: Any = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(self.model.layers)]

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        self.params, self.squares, self.state, loss = self.update(self.params, self.squares, self.state, x, y)
        jax.block_until_ready(self.params)
        return float(loss) / len(x)
