"""A network of two units learns to count with a stack, and what it learned is written down as an automaton."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models.pushdown import PushdownNetwork, all_strings
from rnncore.zoo import Demonstration

__all__ = ["show"]

_LONGEST, _SHOWN = 12, "aaaaaabbbbbb"


def _belongs(string: str) -> bool:
    half = len(string) // 2
    return half > 0 and string == "a" * half + "b" * half


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn a^n b^n from strings of at most eight symbols."""
    net = PushdownNetwork("ab", random_state=2, n_threads=1)
    automaton = net.fit_language(_belongs)
    for line in str(automaton).splitlines():
        say(line)
    strings = all_strings("ab", _LONGEST)
    right = sum(automaton.accepts(string) == _belongs(string) for string in strings)
    accepted = sum(automaton.accepts("a" * n + "b" * n) for n in range(1, 51))
    figures = {
        f"strings of up to {_LONGEST} symbols right": f"{right:,} of {len(strings):,}",
        "a^n b^n accepted, n up to 50": f"{accepted} of 50",
    }
    trace = net.trace(_SHOWN)

    def draw(figure: Any) -> None:
        figure.set_size_inches(7, 5)
        above, below = figure.subplots(2, 1, sharex=True)
        at = np.arange(len(_SHOWN))
        above.bar(at, trace.actions, color="tab:orange", label="action: push or pop")
        above.plot(at, trace.lengths, color="black", label="length of the stack")
        above.legend(frameon=False, fontsize=8)
        below.imshow(trace.states.T, aspect="auto", cmap="Greys", vmin=0, vmax=1)
        below.set_ylabel("states")
        below.set_yticks(range(trace.states.shape[1]))
        below.set_xticks(at, list(_SHOWN))

    return Demonstration(figures, draw)
