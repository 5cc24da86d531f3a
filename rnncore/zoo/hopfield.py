"""A Hopfield network fills in pictures of which a part is noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import Hopfield
from rnncore.zoo import Demonstration
from rnncore.zoo._pictures import NAMES, draw_picture, pictures

__all__ = ["show"]


def show(say: Callable[[str], None]) -> Demonstration:
    """Recall four pictures by the projection rule, which likeness among them does not disturb."""
    known, rng = pictures(), np.random.default_rng(0)
    damaged = np.where(rng.random(known.shape) < 0.3, -known, known)
    memory = Hopfield("projection", random_state=0).fit(known)
    ways = [memory.recall(state) for state in damaged]
    for name, picture, start, way in zip(NAMES, known, damaged, ways, strict=True):
        say(
            f"{name}: {(start != picture).sum()} of {len(picture)} units wrong, {(way.state != picture).sum()} after "
            f"{len(way.flips)} changes; energy {way.energies[0]:.1f} to {way.energies[-1]:.1f}"
        )
    right = sum(np.array_equal(way.state, picture) for way, picture in zip(ways, known, strict=True))

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 2 * len(ways))
        for row, (name, way) in enumerate(zip(NAMES, ways, strict=True)):
            for column, part in enumerate((0.0, 1 / 3, 2 / 3, 1.0)):
                changes = round(part * len(way.flips))
                axes = figure.add_subplot(len(ways), 5, 5 * row + column + 1)
                draw_picture(axes, way.after(changes), f"{name}, {changes} changes")
            axes = figure.add_subplot(len(ways), 5, 5 * row + 5)
            axes.plot(way.energies)
            axes.set_title("energy", fontsize=9)
            axes.tick_params(labelsize=7)

    return Demonstration({"pictures recalled": f"{right} of {len(known)}"}, draw)
