"""JAX doing what rnncore does in a training step: jit of one `lax.scan`, the input product outside it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import weights
from bench.shapes import Shape
from bench.weights import Arrays

# Dispatch in the caller's thread: on CPU it saves short steps a hop (0.047 against 0.054 ms at 1, 20, 64, 64).
jax.config.update("jax_cpu_enable_async_dispatch", False)


def _elman(p: dict[str, Any], carry: tuple[Any, ...], gates: Any) -> tuple[tuple[Any, ...], Any]:
    h = jnp.tanh(gates + carry[0] @ p["W_hh"])
    return (h,), h


def _lstm(p: dict[str, Any], carry: tuple[Any, ...], gates: Any) -> tuple[tuple[Any, ...], Any]:
    h, c = carry
    i, f, g, o = jnp.split(gates + h @ p["W_hh"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru(p: dict[str, Any], carry: tuple[Any, ...], gates: Any) -> tuple[tuple[Any, ...], Any]:
    (h,) = carry
    xr, xz, xn = jnp.split(gates, 3, axis=-1)
    hr, hz, hn = jnp.split(h @ p["W_hh"], 3, axis=-1)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    h = (1 - z) * jnp.tanh(xn + r * (hn + p["b_hn"])) + z * h
    return (h,), h


_CELLS = {"elman": (_elman, 1), "lstm": (_lstm, 2), "gru": (_gru, 1)}


class Step:
    """Layer + projection + cross-entropy + SGD in one compiled function; the arrays stay with JAX, weights in place."""

    name = "JAX"

    def __init__(self, cell: str, shape: Shape, dtype: str, outputs: int, learning_rate: float) -> None:
        if dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        step, states = _CELLS[cell]

        def loss_of(p: dict[str, Any], x: Any, targets: Any) -> Any:
            start = tuple(jnp.zeros((shape.B, shape.H), x.dtype) for _ in range(states))
            _, y = jax.lax.scan(lambda carry, gates: step(p, carry, gates), start, x @ p["W_xh"] + p["b_h"])
            log_p = jax.nn.log_softmax(y @ p["W_hy"] + p["b_y"])
            return -jnp.mean(jnp.take_along_axis(log_p, targets[..., None], axis=-1))

        def update(p: dict[str, Any], x: Any, targets: Any) -> tuple[Any, Any]:
            loss, grads = jax.value_and_grad(loss_of)(p, x, targets)
            return jax.tree.map(lambda value, grad: value - learning_rate * grad, p, grads), loss

        self.update = jax.jit(update, donate_argnums=0)
        self.params = {k: jnp.array(v) for k, v in weights.initial(cell, shape, dtype, outputs).items()}
        self.x = jnp.array(weights.inputs(shape, dtype))
        self.targets = jnp.array(weights.targets(shape, outputs), dtype=jnp.int32)
        self.loss: Any = None

    def call(self) -> None:
        self.params, self.loss = self.update(self.params, self.x, self.targets)
        jax.block_until_ready((self.params, self.loss))

    def results(self) -> Arrays:
        return {**{k: np.array(v) for k, v in self.params.items()}, "loss": np.asarray(self.loss)}
