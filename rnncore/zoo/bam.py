"""A bidirectional associative memory recalls names by pictures, and pictures by names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import BAM
from rnncore.zoo import Demonstration
from rnncore.zoo._pictures import NAMES, draw_picture, pictures

__all__ = ["show"]

_LETTERS = 6


def _bits(name: str) -> np.ndarray:
    """Write a name as bits of its letters, five to each."""
    numbers = [ord(letter) - 96 for letter in name] + [0] * (_LETTERS - len(name))
    return np.where([number >> place & 1 for number in numbers for place in range(5)], 1, -1)


def _name(bits: np.ndarray) -> str:
    numbers = [int((row > 0) @ (1 << np.arange(5))) for row in bits.reshape(-1, 5)]
    return "".join(chr(96 + number) if 1 <= number <= 26 else "·" if number else "" for number in numbers)


def show(say: Callable[[str], None]) -> Demonstration:
    """Name damaged pictures, and draw what is named."""
    known, names = pictures(), np.array([_bits(name) for name in NAMES])
    damaged = np.where(np.random.default_rng(0).random(known.shape) < 0.2, -known, known)
    memory = BAM().fit(known, names)
    found = memory.recall(a=damaged)
    drawn = memory.predict_source(names)
    for name, bits, energy in zip(NAMES, found.b, found.energies[-1], strict=True):
        say(f"{name}, a fifth of it noise: named {_name(bits)!r}; energy {energy:.0f}")
    right = sum(_name(bits) == name for bits, name in zip(found.b, NAMES, strict=True))

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 5)
        for n, name in enumerate(NAMES):
            draw_picture(figure.add_subplot(2, 4, n + 1), damaged[n], f"named {_name(found.b[n])!r}")
            draw_picture(figure.add_subplot(2, 4, n + 5), drawn[n], f"drawn for {name!r}")

    alike = float((drawn == known).mean())
    return Demonstration(
        {"named rightly": f"{right} of {len(NAMES)}", "units of drawn pictures that are right": alike}, draw
    )
