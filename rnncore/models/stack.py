"""A stack whose symbols have lengths, so that a little of one can be pushed, popped or read."""

from __future__ import annotations

import numpy as np

from rnncore.optim.arguments import check_number

__all__ = ["ContinuousStack"]


class ContinuousStack:
    """Symbols of some length each, one upon another (Giles et al. 1990; Das, Giles and Sun 1992).

    Parameters
    ----------
    symbols : int
        K: symbols are 0 to K - 1.

    Attributes
    ----------
    entries : list of (int, float)
        Symbols and their lengths, the lowest first.

    Examples
    --------
    >>> stack = ContinuousStack(2)
    >>> stack.push(0, 0.8)
    >>> stack.push(1, 0.5)
    >>> stack.read().tolist()
    [0.5, 0.5]
    >>> stack.pop(0.75)
    >>> round(stack.length, 2), stack.entries[-1][0]
    (0.55, 0)
    """

    def __init__(self, symbols: int) -> None:
        self.symbols = symbols
        self.entries: list[tuple[int, float]] = []

    @property
    def length(self) -> float:
        """All lengths together."""
        return sum(length for _, length in self.entries)

    def push(self, symbol: int, length: float = 1.0) -> None:
        """Put some of a symbol on top.

        Raises
        ------
        ValueError
            For a symbol that there is not, and a length below 0.
        """
        if not 0 <= symbol < self.symbols:
            raise ValueError(f"symbol must be one of 0 to {self.symbols - 1}, got {symbol}")
        check_number("length", length, "[0, inf)", 1.0)
        if length:
            self.entries.append((symbol, float(length)))

    def pop(self, length: float = 1.0) -> None:
        """Take so much from the top, of whatever symbols.

        Raises
        ------
        ValueError
            If there is not so much; the stack is then as it was.
        """
        check_number("length", length, "[0, inf)", 1.0)
        if length > self.length:
            raise ValueError(
                f"cannot pop {length:g} from a stack that holds {self.length:g}: pop no more than stack.length"
            )
        while length > 0 and self.entries:
            symbol, there = self.entries.pop()
            if there > length:
                self.entries.append((symbol, there - length))
            length -= there

    def read(self, depth: float = 1.0) -> np.ndarray:
        """Return how much of each symbol lies within a depth of the top, (K,).

        Raises
        ------
        ValueError
            For a depth that is not above 0.
        """
        check_number("depth", depth, "(0, inf)", 1.0)
        found = np.zeros(self.symbols)
        for symbol, length in reversed(self.entries):
            found[symbol] += min(length, depth)
            depth -= length
            if depth <= 0:
                break
        return found

    def __repr__(self) -> str:
        return f"ContinuousStack({self.symbols}, length {self.length:g})"
