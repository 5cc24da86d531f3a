"""A Neural Turing machine learns to copy, and copies what is longer than anything it was shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.datasets.bits import copied_vectors
from rnncore.models.turing import NeuralTuringMachine
from rnncore.optim.optimizers import Adam
from rnncore.optim.schedules import Cosine
from rnncore.zoo import Demonstration

__all__ = ["show"]

_BITS, _LONGEST, _STEPS = 4, 8, 3000
_TESTED = (4, 8, 16)


def _wrong(machine: NeuralTuringMachine, vectors: int) -> float:
    """Return the share of wrong bits in sequences of so many vectors."""
    x, targets, _, counted = copied_vectors(50, vectors, vectors, _BITS, random_state=1000)
    return float(((machine.predict(x) > 0.5) != targets)[counted > 0].mean())


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn from one to eight vectors of four bits."""
    machine = NeuralTuringMachine(_BITS + 1, _BITS, 32, locations=32, width=8)
    adam = Adam(2e-3, clip_norm=10.0, schedule=Cosine(steps=_STEPS))
    for done in range(0, _STEPS, _STEPS // 3):
        seeds = range(done, done + _STEPS // 3)
        losses = machine.fit((copied_vectors(16, 1, _LONGEST, _BITS, random_state=seed) for seed in seeds), adam)
        say(f"{16 * (seeds.stop):,} sequences: {np.mean(losses[-100:]):.4f} nats a vector")
    figures = {f"{n} vectors, bits right": f"{1 - _wrong(machine, n):.2%}" for n in _TESTED}
    trace = machine.trace(copied_vectors(1, 16, 16, _BITS, random_state=7).x[:, 0])

    def draw(figure: Any) -> None:
        figure.set_size_inches(8, 6)
        trace.draw(figure)

    return Demonstration(figures, draw)
