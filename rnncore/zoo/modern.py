"""A modern Hopfield network with more patterns than units, beside the classical one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import Hopfield, ModernHopfield
from rnncore.zoo import Demonstration

__all__ = ["show"]

_UNITS, _SHOWN = 64, 50
_COUNTS = (2, 5, 10, 30, 100, 300, 1000, 3000)


def show(say: Callable[[str], None]) -> Demonstration:
    """Count how many of more and more random patterns come back when a tenth of the bits are flipped."""
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"classical": [], "modern": []}
    for count in _COUNTS:
        known = rng.choice([-1, 1], (count, _UNITS))
        damaged = known[:_SHOWN] * rng.choice([1, -1], (min(count, _SHOWN), _UNITS), p=[0.9, 0.1])
        for name, memory in (("classical", Hopfield()), ("modern", ModernHopfield())):
            found = np.sign(memory.fit(known).predict(damaged))
            rates[name].append(float((found == known[:_SHOWN]).all(axis=1).mean()))
        say(f"{count:>5} patterns: {rates['classical'][-1]:4.0%} by Hebb's rule, {rates['modern'][-1]:4.0%} modern")

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for name, values in rates.items():
            axes.semilogx(_COUNTS, values, marker=".", label=name)
        axes.axvline(_UNITS, color="gray", linestyle=":", label="units")
        axes.set_xlabel("patterns")
        axes.set_ylabel("recalled without an error")
        axes.legend(frameon=False)

    return Demonstration({f"{name}, {_COUNTS[-1]} patterns": values[-1] for name, values in rates.items()}, draw)
