"""The registry of cells: what distinguishes one recurrent architecture from another.

A cell is its kernel (src_pyx/lanes/cells/), this record, and a few lines of NumPy in tests/reference.py. Directions,
depth, ragged batches, dropout, threads, heads and files know nothing of cells but what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

#: activation name -> (its number in the kernels, name of the option that parametrises it, default)
ACTIVATIONS: Mapping[str, tuple[int, str | None, float]] = {
    "tanh": (0, None, 0.0),
    "sigmoid": (1, None, 0.0),
    "relu": (2, None, 0.0),
    "leaky_relu": (3, "leaky_slope", 0.01),
    "clipped_relu": (4, "clip_at", 6.0),
    "identity": (5, None, 0.0),
}


@dataclass(frozen=True)
class Cell:
    """One recurrent architecture.

    Attributes
    ----------
    name : str
    kernel : int
        Its number among the compiled kernels.
    gates : int
        Gate blocks per unit: W_xh is (D, gates·H).
    states : tuple of str
        Names of the arrays that a step hands to the next.
    activations : tuple of str
        The names that ``activation=`` accepts; the first is the default.
    source : str
        Where the equations come from.
    """

    name: str
    kernel: int
    gates: int
    states: tuple[str, ...]
    activations: tuple[str, ...] = field(default=tuple(ACTIVATIONS))
    source: str = ""

    def shapes(self, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters of one layer in one direction: name -> shape."""
        return {
            "W_xh": (inputs, self.gates * hidden),
            "W_hh": (hidden, self.gates * hidden),
            "b_h": (self.gates * hidden,),
        }

    def initialise(self, params: Mapping[str, np.ndarray], hidden: int, rng: np.random.Generator) -> None:
        """Draw initial parameters in place: uniform in ±1/sqrt(H), the common choice for recurrent layers."""
        bound = 1 / np.sqrt(hidden)
        for array in params.values():
            array[...] = rng.uniform(-bound, bound, array.shape)


#: every cell by name
CELLS: Mapping[str, Cell] = {
    "elman": Cell("elman", kernel=0, gates=1, states=("h",), source="Elman 1990, Cognitive Science 14:179"),
}
