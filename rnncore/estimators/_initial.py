"""First weights as the sources of the presets draw them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.optim.arguments import check_number

__all__ = ["check_initial", "draw_initial"]

_KINDS = ("uniform", "normal", "fan_in")


def check_initial(value: Any) -> tuple[str, float]:
    """Return how first weights are drawn, and a factor; raises a ValueError for what is no such way.

    Examples
    --------
    >>> check_initial({"uniform": 0.08}), check_initial("fan_in")
    (('uniform', 0.08), ('fan_in', 1.0))
    """
    if value is None:
        return "", 1.0
    kind, scale = (value, 1.0) if isinstance(value, str) else ("", 1.0)
    if isinstance(value, Mapping) and len(value) == 1:
        ((kind, scale),) = value.items()
    if kind not in _KINDS or (isinstance(value, str) and kind != "fan_in"):
        raise ValueError(f'initial: expected None, "fan_in", {{"uniform": 0.08}} or {{"normal": 0.01}}, got {value!r}')
    check_number("initial", scale, "(0, inf)", 0.08)
    return kind, float(scale)


def draw_initial(network: Any, value: Any, rng: np.random.Generator) -> None:
    """Draw a network's matrices and biases anew, in order; an LSTM's forget gate keeps the bias that it began with."""
    kind, scale = check_initial(value)
    for name, array in network.params.items() if kind else ():
        vector = array.ndim == 1
        if vector and not name.rpartition(".")[2].startswith("b_"):
            continue  # gains, peepholes
        kept = array.copy()
        if kind == "uniform":
            array[...] = rng.uniform(-scale, scale, array.shape)
        elif vector:
            array[...] = 0
        elif kind == "normal":
            array[...] = rng.normal(0, scale, array.shape)
        else:
            bound = scale / np.sqrt(len(array))
            array[...] = rng.uniform(-bound, bound, array.shape)
        if network.layers[0].cell.name == "lstm" and name.endswith(".b_h"):
            forget = slice(len(array) // 4, len(array) // 2)
            array[forget] = kept[forget]
