"""Finite automata: what a string is asked of, made small, compared and drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncore import _checks

__all__ = ["Automaton"]


@dataclass(frozen=True, eq=False)
class Automaton:
    """A deterministic finite automaton: it reads a string symbol by symbol, and says yes or no.

    Parameters
    ----------
    alphabet : str
        The symbols, each a letter.
    transitions : (n_states, len(alphabet)) array of int
        The state after a symbol.
    accepting : sequence of int
        The states in which a string is accepted.
    start : int
        The state before the first symbol.

    Raises
    ------
    ValueError
        If these do not fit together.

    Examples
    --------
    >>> even = Automaton("01", [[0, 1], [1, 0]], accepting=[0])  # an even number of ones
    >>> even.accepts("1001"), even.accepts("0001")
    (True, False)
    >>> four = Automaton("01", [[0, 1], [1, 2], [2, 3], [3, 0]], accepting=[0, 2])
    >>> four.minimised().n_states, four.equals(even)
    (2, True)
    """

    alphabet: str
    transitions: Any
    accepting: Any
    start: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.alphabet, str) or not 0 < len(set(self.alphabet)) == len(self.alphabet):
            raise ValueError(f"alphabet must be a string of different symbols, got {self.alphabet!r}")
        table = _checks.array(self.transitions, "transitions")
        if table.ndim != 2 or table.shape[1] != len(self.alphabet) or not len(table) or table.dtype.kind not in "iu":
            raise ValueError(
                f"transitions must be whole numbers, (states, {len(self.alphabet)}); got {table.dtype} {table.shape}"
            )
        n = len(table)
        if not ((table >= 0) & (table < n)).all():
            raise ValueError(f"transitions must lead to states 0 to {n - 1}, got {table.min()} to {table.max()}")
        accepting = frozenset(_checks.whole(state, "accepting states", 0, n - 1) for state in self.accepting)
        object.__setattr__(self, "transitions", table.astype(np.int64))
        object.__setattr__(self, "accepting", accepting)
        object.__setattr__(self, "start", _checks.whole(self.start, "start", 0, n - 1))

    @property
    def n_states(self) -> int:
        """How many states there are."""
        return len(self.transitions)

    def state_after(self, string: Iterable[str]) -> int:
        """Return the state that a string leads to.

        Raises
        ------
        ValueError
            If it has a symbol that is not in the alphabet.
        """
        state = self.start
        for symbol in string:
            place = self.alphabet.find(symbol)
            if place < 0 or not symbol:
                raise ValueError(f"expected a string of the symbols {self.alphabet}, got {symbol!r} in it")
            state = int(self.transitions[state, place])
        return state

    def accepts(self, string: Iterable[str]) -> bool:
        """Tell whether a string is accepted."""
        return self.state_after(string) in self.accepting

    def minimised(self) -> Automaton:
        """Return the smallest automaton that accepts the same strings, its states in the order they are met.

        States that cannot be told apart are one (Moore 1956): at first all that accept, and all that do not; then parts
        are split for as long as a symbol leads from one part to several. Those that no string leads to are left out.
        Automata of one language are the same then, number by number.
        """
        part = np.isin(np.arange(self.n_states), list(self.accepting)).astype(np.int64)
        while True:
            seen = np.column_stack([part, part[self.transitions]])
            finer = np.unique(seen, axis=0, return_inverse=True)[1].reshape(-1)
            if finer.max() == part.max():  # nothing was split
                break
            part = finer
        met: dict[int, int] = {int(part[self.start]): 0}
        rows: list[list[int]] = []
        queue = [self.start]  # one state of each part
        for state in queue:
            row = []
            for following in self.transitions[state].tolist():
                if int(part[following]) not in met:
                    met[int(part[following])] = len(queue)
                    queue.append(following)
                row.append(met[int(part[following])])
            rows.append(row)
        accepting = [place for place, state in enumerate(queue) if state in self.accepting]
        return Automaton(self.alphabet, np.array(rows), accepting)

    def equals(self, other: Automaton) -> bool:
        """Tell whether another automaton accepts the same strings."""
        a, b = self.minimised(), other.minimised()
        same = a.alphabet == b.alphabet and a.accepting == b.accepting
        return same and np.array_equal(a.transitions, b.transitions)

    def arrows(self) -> dict[tuple[int, int], str]:
        """Return (from, to): the symbols that lead there, separated by commas."""
        found: dict[tuple[int, int], list[str]] = {}
        for state, row in enumerate(self.transitions.tolist()):
            for symbol, following in zip(self.alphabet, row, strict=True):
                found.setdefault((state, following), []).append(symbol)
        return {ends: ", ".join(symbols) for ends, symbols in found.items()}

    def to_dot(self) -> str:
        """Return the automaton in the language of Graphviz.

        Examples
        --------
        >>> print(Automaton("a", [[0]], accepting=[0]).to_dot())
        digraph {
            rankdir=LR;
            start [shape=none, label=""];
            0 [shape=doublecircle];
            start -> 0;
            0 -> 0 [label="a"];
        }
        """
        lines = ["rankdir=LR;", 'start [shape=none, label=""];']
        lines += [
            f"{state} [shape={'doublecircle' if state in self.accepting else 'circle'}];"
            for state in range(self.n_states)
        ]
        lines.append(f"start -> {self.start};")
        for (state, following), symbols in self.arrows().items():
            said = symbols.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{state} -> {following} [label="{said}"];')
        return "\n".join(["digraph {", *(f"    {line}" for line in lines), "}"])

    def draw(self, axes: Any) -> None:
        """Draw the automaton with matplotlib: states on a circle, those that accept with a double line.

        Parameters
        ----------
        axes : matplotlib.axes.Axes
        """
        angle = np.pi - 2 * np.pi * np.arange(self.n_states) / self.n_states
        at = np.column_stack([np.cos(angle), np.sin(angle)]) * (self.n_states > 1)
        _draw_states(axes, at, self.accepting)
        for (state, following), symbols in self.arrows().items():
            _draw_arrow(axes, at[state], at[following], symbols)
        out = _outward(at[self.start], np.array([-1.0, 0.0]))
        outward = np.array([out[0] - out[1], out[0] + out[1]]) / np.sqrt(2)  # beside a loop
        axes.annotate(
            *("", at[self.start] + _RADIUS * outward),
            xytext=at[self.start] + 3 * _RADIUS * outward,
            arrowprops={"arrowstyle": "-|>", "color": "black"},
        )
        axes.set_xlim(-1.75, 1.75)
        axes.set_ylim(-1.75, 1.75)
        axes.set_aspect("equal")
        axes.set_axis_off()


_RADIUS = 0.17


def _outward(at: np.ndarray, where_centred: np.ndarray) -> np.ndarray:
    length = float(np.hypot(*at))
    return at / length if length else where_centred


def _draw_states(axes: Any, at: np.ndarray, accepting: frozenset[int]) -> None:
    from matplotlib.patches import Circle

    for state, place in enumerate(at):
        for radius in [_RADIUS, 0.8 * _RADIUS] if state in accepting else [_RADIUS]:
            axes.add_patch(Circle(place, radius, facecolor="white", edgecolor="black", zorder=2))
        axes.text(*place, str(state), ha="center", va="center", fontsize=8, zorder=3)


def _draw_arrow(axes: Any, begin: np.ndarray, end: np.ndarray, symbols: str) -> None:
    """Draw an arrow bent to its left, so that one of the other way goes beside it; a loop points outwards."""
    from matplotlib.patches import FancyArrowPatch

    if np.array_equal(begin, end):
        outward = _outward(begin, np.array([0.0, 1.0]))
        side = np.array([-outward[1], outward[0]])
        foot, spread = begin + 0.9 * _RADIUS * outward, 0.55 * _RADIUS * side
        begin, end, bend = foot + spread, foot - spread, -1.9
        text = begin - spread + 2.3 * _RADIUS * outward
    else:
        way = (end - begin) / np.hypot(*(end - begin))
        left = np.array([-way[1], way[0]])
        text = (begin + end) / 2 + (0.1 + 0.125 * np.hypot(*(end - begin))) * left
        begin, end, bend = begin + _RADIUS * (way + 0.3 * left), end - _RADIUS * (way - 0.3 * left), -0.25
    axes.add_patch(
        FancyArrowPatch(
            (float(begin[0]), float(begin[1])),
            (float(end[0]), float(end[1])),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=10,
            zorder=1,
        )
    )
    axes.text(*text, symbols, ha="center", va="center", fontsize=8, color="tab:blue", zorder=3)
