"""Hopfield's network of graded units on its way to a pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import ContinuousHopfield
from rnncore.zoo import Demonstration
from rnncore.zoo._pictures import draw_picture, pictures

__all__ = ["show"]


def show(say: Callable[[str], None]) -> Demonstration:
    """Follow one damaged picture."""
    known, rng = pictures(), np.random.default_rng(0)
    damaged = np.where(rng.random(known.shape[1]) < 0.3, -known[0], known[0])
    memory = ContinuousHopfield("projection", gain=5.0).fit(known)
    way = memory.trajectory(damaged)
    say(
        f"{len(way.times) - 1} steps until time {way.times[-1]:.2f}, "
        f"energy {way.energies[0]:.1f} to {way.energies[-1]:.1f}"
    )
    wrong = int((np.sign(way.outputs[-1]) != known[0]).sum())

    def draw(figure: Any) -> None:
        figure.set_size_inches(10, 5)
        for column, step in enumerate(np.linspace(0, len(way.times) - 1, 5).astype(int)):
            draw_picture(figure.add_subplot(2, 5, column + 1), way.outputs[step], f"time {way.times[step]:.2f}")
        left, right = figure.add_subplot(2, 2, 3), figure.add_subplot(2, 2, 4)
        left.plot(way.times, way.outputs[:, ::8], linewidth=0.6)
        left.set_title("outputs of every eighth unit", fontsize=9)
        right.plot(way.times, way.energies)
        right.set_title("energy", fontsize=9)
        for axes in (left, right):
            axes.set_xlabel("time")

    figures = {"units wrong at the end": wrong, "largest rise of the energy": float(np.diff(way.energies).max())}
    return Demonstration(figures, draw)
