"""Strings of the Reber grammar, plain, embedded and without end.

Sources: Reber 1967; Cleeremans, Servan-Schreiber & McClelland 1989; the embedded form of Hochreiter & Schmidhuber 1997
(Neural Computation 9:1735, experiment 1), where the last T or P but one has to agree with the second symbol; the
continual form of Gers, Schmidhuber & Cummins 2000 (Neural Computation 12:2451).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["REBER_SYMBOLS", "continual_reber", "embedded_reber", "reber", "reber_successors"]

REBER_SYMBOLS = "BTSXPVE"

# state: {symbol: next state}; both symbols of a state are equally likely; 6 -E-> end
_GRAPH = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
)
_END = 7


def reber(n_strings: int = 256, random_state: int = 0) -> list[str]:
    """Draw strings of the Reber grammar, such as ``"BTXSE"``.

    Examples
    --------
    >>> all(string[0] == "B" and string[-1] == "E" for string in reber(5))
    True
    """
    at_least("n_strings", n_strings, 0)
    return list(islice(_strings(generator(random_state), embedded=False), n_strings))


def embedded_reber(n_strings: int = 256, random_state: int = 0, distinct: bool = False) -> list[str]:
    """Draw strings of the embedded Reber grammar: B T (a Reber string) T E or B P (a Reber string) P E.

    Parameters
    ----------
    n_strings, random_state : int
    distinct : bool
        No string twice: cut into training and test strings, the parts have none in common.

    Examples
    --------
    >>> all(string[1] == string[-2] for string in embedded_reber(5))
    True
    """
    at_least("n_strings", n_strings, 0)
    drawn = _strings(generator(random_state), embedded=True)
    if not distinct:
        return list(islice(drawn, n_strings))
    found: dict[str, None] = {}
    while len(found) < n_strings:
        found.setdefault(next(drawn))
    return list(found)


def continual_reber(n_strings: int = 256, random_state: int = 0) -> str:
    """Draw embedded Reber strings and join them: one stream, whose parts begin where the last one ended.

    Examples
    --------
    >>> continual_reber(20).count("EB")
    19
    """
    return "".join(embedded_reber(n_strings, random_state))


def reber_successors(string: str, embedded: bool = False) -> list[str]:
    """Tell which symbols may follow each symbol of a string, in the order of ``REBER_SYMBOLS``; none after the last.

    Raises
    ------
    ValueError
        If the string does not follow the grammar.

    Examples
    --------
    >>> reber_successors("BTXSE")
    ['TP', 'SX', 'SX', 'E', '']
    """
    if not embedded:
        states = _follow(string)
        return [_ordered(_GRAPH[state]) if state != _END else "" for state in states]
    if len(string) < 4 or string[0] != "B" or string[1] not in "TP" or string[-2:] != string[1] + "E":
        raise ValueError(f"{string!r} is not a string of the embedded Reber grammar")
    inner = [after or string[1] for after in reber_successors(string[2:-2])]
    return ["TP", "B", *inner, "E", ""]


def _follow(string: str) -> list[int]:
    states, state = [], 0
    for symbol in string:
        state = _GRAPH[state].get(symbol, -1) if state != _END else -1
        if state == -1:
            break
        states.append(state)
    if state != _END:
        raise ValueError(f"{string!r} is not a string of the Reber grammar")
    return states


def _ordered(symbols: dict[str, int]) -> str:
    return "".join(sorted(symbols, key=REBER_SYMBOLS.index))


def _strings(rng: np.random.Generator, embedded: bool) -> Iterator[str]:
    while True:
        string, state = "", 0
        while state != _END:
            arcs = [*_GRAPH[state].items()]
            symbol, state = arcs[int(rng.integers(len(arcs)))]
            string += symbol
        if embedded:
            frame = "TP"[int(rng.integers(2))]
            string = f"B{frame}{string}{frame}E"
        yield string
