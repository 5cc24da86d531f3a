"""A history compressor: what a network foresees need not be remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.datasets.blocks import long_blocks
from rnncore.models.compressor import HistoryCompressor
from rnncore.zoo import Demonstration

__all__ = ["show"]

_PARTS, _BLOCKS, _LAG = 24, 100, 20


def show(say: Callable[[str], None]) -> Demonstration:
    """Read blocks of 21 symbols, of which the first is asked for at the end."""
    symbols, labels = long_blocks(_PARTS * _BLOCKS, _LAG, random_state=0)
    new, answers = long_blocks(200, _LAG, random_state=1)
    asked = answers >= 0
    net = HistoryCompressor(_LAG + 2, 2, distil=0.1, random_state=0)
    share, right, alone = [], [], []
    for read, wanted in zip(np.split(symbols, _PARTS), np.split(labels, _PARTS), strict=True):
        net.partial_fit(read, wanted)
        share.append(float(net.events(new).mean()))
        right.append(float((net.predict(new)[asked] == answers[asked]).mean()))
        alone.append(float((net.predict(new, alone=True)[asked] == answers[asked]).mean()))
    for part in (0, _PARTS // 3, _PARTS - 1):
        say(
            f"{(part + 1) * _BLOCKS} blocks: {share[part]:.1%} of the symbols are news to the chunker, "
            f"{right[part]:.1%} of its answers right, {alone[part]:.1%} of the automatizer's alone"
        )
    figures = {"symbols not foreseen": share[-1], "answers right": right[-1], "alone": alone[-1]}

    def draw(figure: Any) -> None:
        axes, blocks = figure.add_subplot(), _BLOCKS * np.arange(1, _PARTS + 1)
        axes.plot(blocks, share, "o-", label="symbols that the automatizer did not foresee")
        axes.plot(blocks, right, "o-", label="answers right, chunker")
        axes.plot(blocks, alone, "o-", label="answers right, automatizer alone")
        axes.axhline(1 / (_LAG + 1), color="gray", linestyle=":", label="one symbol of 21")
        axes.set_xlabel("blocks read")
        axes.set_ylim(0, 1.05)
        axes.legend(frameon=False, fontsize=8, loc=(0.02, 0.15))

    return Demonstration(figures, draw)
