"""A plant to be identified and controlled, step by step: nonlinear, with a memory that its output alone does not show.

Source: Narendra & Parthasarathy 1990, IEEE Transactions on Neural Networks 1:4:

    y(k+1) = [y(k)·y(k-1)·y(k-2)·u(k-1)·(y(k-2) - 1) + u(k)] / (1 + y(k-1)² + y(k-2)²)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["Plant", "plant_inputs"]

_INPUTS = ("noise", "sine", "test")


class Plant:
    """What has one input and one output, at rest in the beginning.

    Attributes
    ----------
    y : float
        The output now, y(k).

    Examples
    --------
    >>> plant = Plant()
    >>> plant.step(1.0), plant.step(1.0), plant.y
    (1.0, 1.0, 1.0)
    >>> Plant().run([1.0, 1.0, 0.0]).tolist()
    [1.0, 1.0, 0.0]
    """

    def __init__(self) -> None:
        self.y = 0.0
        self._before = (0.0, 0.0, 0.0)  # y(k-1), y(k-2), u(k-1)

    def step(self, u: float) -> float:
        """Put the input u(k) in; return y(k+1)."""
        a, b, last = self._before
        following = (self.y * a * b * last * (b - 1) + float(u)) / (1 + a * a + b * b)
        self._before = (self.y, a, float(u))
        self.y = following
        return following

    def run(self, inputs: Any) -> np.ndarray:
        """Put the inputs u(k), u(k+1) and so on in; return y(k+1), y(k+2) and so on."""
        return np.array([self.step(u) for u in inputs])


def plant_inputs(kind: str = "noise", n_steps: int = 1000, random_state: int = 0) -> np.ndarray:
    """Make inputs: for learning, numbers drawn anew at every step, or a sine; or those that plants are compared by.

    Parameters
    ----------
    kind : {"noise", "sine", "test"}
        Uniform from -1 to 1; 1.05·sin(πk/45); or the test of the literature: a sine, 1, -1, then a sum of three sines,
        each for a quarter of 1000 steps.
    n_steps : int
    random_state : int
        Draws the noise.

    Returns
    -------
    (n_steps,) float64

    Examples
    --------
    >>> plant_inputs("test")[[0, 300, 600]].tolist()
    [0.0, 1.0, -1.0]
    """
    if kind not in _INPUTS:
        raise ValueError(f"kind must be one of {', '.join(_INPUTS)}, got {kind!r}")
    at_least("n_steps", n_steps, 0)
    k = np.arange(n_steps)
    if kind == "noise":
        return generator(random_state).uniform(-1.0, 1.0, n_steps)
    if kind == "sine":
        return 1.05 * np.sin(np.pi * k / 45)
    mixed = 0.3 * np.sin(np.pi * k / 25) + 0.1 * np.sin(np.pi * k / 32) + 0.6 * np.sin(np.pi * k / 10)
    return np.select([k < 250, k < 500, k < 750], [np.sin(np.pi * k / 25), 1.0, -1.0], mixed)
