"""Activations and their slopes in NumPy, for what is not done by the compiled kernels.

Each takes an array and the activation's parameter (`rnncore.nn.cells.ACTIVATIONS`); a slope is had from the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Pointwise = Callable[[np.ndarray, float], np.ndarray]

#: activation name -> f(a)
VALUES: Mapping[str, Pointwise] = {
    "tanh": lambda a, p: np.tanh(a),
    "sigmoid": lambda a, p: 0.5 + 0.5 * np.tanh(0.5 * a),
    "relu": lambda a, p: np.maximum(a, 0),
    "leaky_relu": lambda a, p: np.where(a < 0, p * a, a),
    "clipped_relu": lambda a, p: np.clip(a, 0, p),
    "identity": lambda a, p: a,
}

#: activation name -> f'(a) from y = f(a)
SLOPES: Mapping[str, Pointwise] = {
    "tanh": lambda y, p: 1 - y * y,
    "sigmoid": lambda y, p: y * (1 - y),
    "relu": lambda y, p: (y > 0).astype(y.dtype),
    "leaky_relu": lambda y, p: np.where(y > 0, 1, p).astype(y.dtype),
    "clipped_relu": lambda y, p: ((y > 0) & (y < p)).astype(y.dtype),
    "identity": lambda y, p: np.ones_like(y),
}
