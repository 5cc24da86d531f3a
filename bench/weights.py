"""Initial weights and data, the same for every contestant, under rnncore's names and orientation (in, out)."""

from __future__ import annotations

import numpy as np

from bench.shapes import GATES, Shape

Arrays = dict[str, np.ndarray]


def initial(cell: str, shape: Shape, dtype: str, outputs: int | None = None, seed: int = 0) -> Arrays:
    """Weights of one layer (and of a projection to `outputs`), uniform in ±1/sqrt(H)."""
    rng = np.random.default_rng(seed)
    width = GATES[cell] * shape.H
    sizes: dict[str, tuple[int, ...]] = {"W_xh": (shape.D, width), "W_hh": (shape.H, width), "b_h": (width,)}
    if cell == "gru":
        sizes["b_hn"] = (shape.H,)
    if outputs is not None:
        sizes |= {"W_hy": (shape.H, outputs), "b_y": (outputs,)}
    bound = shape.H**-0.5
    return {name: rng.uniform(-bound, bound, size).astype(dtype) for name, size in sizes.items()}


def inputs(shape: Shape, dtype: str, seed: int = 1) -> np.ndarray:
    """Standard normal x (T, B, D)."""
    return np.random.default_rng(seed).standard_normal((shape.T, shape.B, shape.D)).astype(dtype)


def states(shape: Shape, dtype: str, count: int, seed: int = 5) -> list[np.ndarray]:
    """Initial states (B, H), `count` of them, like those that a layer leaves."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-0.5, 0.5, (shape.B, shape.H)).astype(dtype) for _ in range(count)]


def output_gradient(shape: Shape, dtype: str, seed: int = 2) -> np.ndarray:
    """Standard normal dy (T, B, H), scaled like the gradient of a mean."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((shape.T, shape.B, shape.H)) / shape.T).astype(dtype)


def targets(shape: Shape, outputs: int, seed: int = 3) -> np.ndarray:
    """Class indices (T, B)."""
    return np.random.default_rng(seed).integers(0, outputs, (shape.T, shape.B))


def lengths(shape: Shape, seed: int = 4) -> np.ndarray:
    """Lengths (B,) spread evenly over 1..T, shuffled: uniform without the luck of a draw."""
    return np.random.default_rng(seed).permutation(np.linspace(1, shape.T, shape.B).round().astype(np.int64))
