"""What the generators share: seeds and the checking of sizes."""

from __future__ import annotations

import numpy as np

__all__ = ["at_least", "generator"]


def generator(random_state: int | None) -> np.random.Generator:
    """Make a generator whose raw bits NumPy promises to keep the same in every version."""
    return np.random.Generator(np.random.PCG64(random_state))


def at_least(name: str, value: int, least: int) -> None:
    """Raise a ValueError if a number is too small to mean anything."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
