"""Pictures of -1 and 1 for memories to recall, and how they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NAMES", "SIDE", "draw_picture", "pictures"]

SIDE = 16
NAMES = ("ring", "cross", "stairs", "ell")


def pictures() -> np.ndarray:
    """Return a ring, a cross, stairs and an L, (4, SIDE²) of -1 and 1.

    Examples
    --------
    >>> pictures().shape
    (4, 256)
    """
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radius = np.hypot(x, y)
    shapes = (
        (radius > 3.5) & (radius < 6.5),
        np.minimum(np.abs(x - y), np.abs(x + y)) < 2,
        (np.floor(y / 4) >= np.floor(x / 4)) & (np.abs(x - y) < 6),
        ((x < -3) & (x > -7)) | ((y > 3) & (y < 7)),
    )
    return np.where(np.array(shapes), 1, -1).reshape(len(shapes), -1)


def draw_picture(axes: Any, state: np.ndarray, title: str = "") -> None:
    """Draw a state of SIDE² units, dark where they are on."""
    axes.imshow(np.reshape(state, (SIDE, SIDE)), cmap="Greys", vmin=-1, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9)
