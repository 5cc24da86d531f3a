"""A sequential cascaded network learns parity from strings of five symbols at most, and goes over into a cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.datasets.languages import tomita_strings
from rnncore.models.recognizer import StringRecognizer
from rnncore.zoo import Demonstration

__all__ = ["show"]

_PASSES, _LONGEST, _SEED = (50, 1000), 60, 100


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn whether the ones are odd in number; ask about ones alone, for far longer than was learned."""
    learned, unseen = tomita_strings(5)[1:], tomita_strings(12)[1:]
    ones = ["1" * n for n in range(1, _LONGEST + 1)]
    figures, said = {}, {}
    for passes in _PASSES:
        net = StringRecognizer.cascaded(max_epochs=passes, random_state=_SEED)
        net.fit(learned, [string.count("1") % 2 for string in learned])
        said[net.n_epochs_] = net.outputs(ones)
        wrong = int((net.predict(unseen) != [string.count("1") % 2 for string in unseen]).sum())
        say(f"{net.network_.theta.size} weights after {net.n_epochs_} passes: {wrong} of {len(unseen):,} strings wrong")
        figures[f"strings wrong after {net.n_epochs_} passes"] = wrong
    figures["states"] = net.automaton().n_states

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 5)
        for axes, (passes, outputs) in zip(np.ravel(figure.subplots(2, 1, sharex=True)), said.items(), strict=True):
            axes.plot(range(1, _LONGEST + 1), outputs, ".-", linewidth=0.7)
            axes.axvline(5.5, color="gray", linestyle=":", label="longest string learned")
            axes.set_ylim(-0.05, 1.05)
            axes.set_title(f"the accept unit after n ones; {passes} passes", fontsize=10)
        axes.set_xlabel("n")
        axes.legend(frameon=False, fontsize=8)

    return Demonstration(figures, draw)
