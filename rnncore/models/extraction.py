"""The automaton in a recurrent network: its states sorted into cells, and what symbols make of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore import _checks
from rnncore.models.automaton import Automaton

if TYPE_CHECKING:
    from rnncore.nn.network import Network

__all__ = ["extract_automaton"]

_MOST_DIVISIONS = 8


def extract_automaton(
    network: Network,
    alphabet: str = "01",
    *,
    inputs: Any = None,
    end: Any = None,
    accepts_empty: bool = False,
    start: Any = None,
    divisions: int = 2,
    strings: Sequence[str] | None = None,
    max_states: int = 1000,
) -> Automaton:
    """Find the automaton that a recurrent network has become (Giles et al. 1992).

    The space of states is divided into cells, each unit's range into q equal parts. From the first state on, symbol by
    symbol and breadth first, every cell that is met is a state of the automaton, and where its first vector goes by a
    symbol is where the cell goes. What cannot be told apart is then made one (`Automaton.minimised`).

    Parameters
    ----------
    network : Network
        Any that runs forward in time and says yes or no of a string: one number, accepted above 1/2 (a `SquaredError`
        or `SigmoidCrossEntropy` of 1), or two classes, the second of which accepts. Pooling is "last" or "every".
    alphabet : str
    inputs : (K, D) array, optional
        What the network reads for each symbol; without, the numbers 0 to K-1.
    end : int or (D,) array, optional
        What it reads after every string. Without, a string is accepted by what the network says at its last symbol.
    accepts_empty : bool
        Whether the empty string is accepted, where there is no `end` to ask.
    start : tuple of arrays (layers, 1, H), optional
        The state before the first symbol, as for `Network.predict`; zeros without.
    divisions : int
        q. A unit's range is from 0 to 1 for sigmoid units, else -1 to 1; what is beyond belongs to the outermost part.
    strings : sequence of str, optional
        With strings, q grows until the automaton and the network agree on all of them.
    max_states : int
        More cells than that are no automaton worth the name.

    Returns
    -------
    Automaton
        The smallest one.

    Raises
    ------
    ValueError
        If there are more than `max_states` cells, or none of up to 8 divisions agrees with the network on `strings`.

    Examples
    --------
    >>> import rnncore as rc
    >>> strings = rc.datasets.tomita_strings(5)
    >>> net = rc.models.StringRecognizer(n_units=3).fit(strings, [string.count("1") % 2 for string in strings])
    >>> found = extract_automaton(net.network_, end=2, start=net.start_state(1))
    >>> found.n_states, found.accepts("1101")
    (2, True)
    """
    q = _checks.whole(divisions, "divisions", 2)
    walk = _Walk(network, alphabet, inputs, end, accepts_empty, start)
    if strings is None:
        return walk.automaton(q, max_states)
    said = walk.says(strings)
    for finer in range(q, max(q, _MOST_DIVISIONS) + 1):
        found = walk.automaton(finer, max_states)
        if all(found.accepts(string) == yes for string, yes in zip(strings, said, strict=True)):
            return found
    raise ValueError(f"no automaton of up to {finer} divisions of each unit agrees with the network on all strings")


class _Walk:
    """A network, and what it reads for each symbol of an alphabet."""

    def __init__(self, network: Network, alphabet: str, inputs: Any, end: Any, accepts_empty: bool, start: Any) -> None:
        self.network, self.alphabet, self.accepts_empty = network, alphabet, bool(accepts_empty)
        self.inputs = np.arange(len(alphabet)) if inputs is None else _checks.array(inputs, "inputs")
        if len(self.inputs) != len(alphabet):
            raise ValueError(f"inputs must have a row for each of {len(alphabet)} symbols, got {len(self.inputs)}")
        self.end = None if end is None else np.asarray(end)
        layers = network.layers
        self.low = [0 if layer.activation == "sigmoid" else -1 for layer in layers for _ in layer.state_widths]
        if start is None:
            widths = [(layer.num_layers, width) for layer in layers for width in layer.state_widths.values()]
            self.start = [np.zeros((n, 1, width), network.dtype) for n, width in widths]
        else:
            found = network.check_state(start, 1)
            assert found is not None
            self.start = found

    def step(self, arrays: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Go on from states and one input for each of them; return what the network says, and the states after it."""
        said, state = self.network.predict(x[None], state=self.network.join_state(arrays), return_state=True)
        after = self.network.check_state(state, len(x))
        assert after is not None
        return _yes(said), after

    def from_all(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Go on from each state by each symbol; return whether a string may end there, and the states after."""
        B, K = arrays[0].shape[1], len(self.alphabet)
        every = [np.repeat(array, K, axis=1) for array in arrays]
        return self.accepted(*self.step(every, np.concatenate([self.inputs] * B)))

    def accepted(self, said: np.ndarray, arrays: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the same states, with what the network says after the end, if there is one."""
        if self.end is None:
            return said, arrays
        return self.step(arrays, np.repeat(self.end[None], len(said), axis=0))[0], arrays

    def says(self, strings: Sequence[str]) -> list[bool]:
        """Return what the network itself says of strings."""
        found = []
        for string in strings:
            said, arrays = np.array([self.accepts_empty]), self.start
            for symbol in string:
                said, arrays = self.step(arrays, self.inputs[[self.alphabet.index(symbol)]])
            found.append(bool(self.accepted(said, arrays)[0][0]))
        return found

    def cells(self, arrays: list[np.ndarray], q: int) -> list[bytes]:
        """Return the cell of each state, by a name."""
        parts = []
        for array, low in zip(arrays, self.low, strict=True):
            place = np.floor((array - low) / (1 - low) * q)
            parts.append(np.clip(np.nan_to_num(place), 0, q - 1).astype(np.uint8).transpose(1, 0, 2))
        return [b"".join(part[b].tobytes() for part in parts) for b in range(arrays[0].shape[1])]

    def automaton(self, q: int, max_states: int) -> Automaton:
        """Walk breadth first, all cells of one distance together."""
        K = len(self.alphabet)
        said, arrays = self.accepted(np.array([self.accepts_empty]), self.start)
        met = {self.cells(arrays, q)[0]: 0}
        accepting, rows = [bool(said[0])], []
        while arrays[0].shape[1]:
            said, after = self.from_all(arrays)
            new = []
            for number, cell in enumerate(self.cells(after, q)):
                if cell not in met:
                    met[cell] = len(met)
                    accepting.append(bool(said[number]))
                    new.append(number)
                rows.append(met[cell])
            if len(met) > max_states:
                raise ValueError(
                    f"the network goes through more than {max_states} cells, at {q} divisions of each unit: it has not "
                    "become an automaton of so few states; train on, or take fewer divisions"
                )
            arrays = [array[:, new] for array in after]
        return Automaton(self.alphabet, np.reshape(rows, (-1, K)), np.flatnonzero(accepting)).minimised()


def _yes(said: Any) -> np.ndarray:
    """Tell whether a network's predictions of one step (B, ...) accept."""
    said = np.asarray(said)
    said = said[0] if said.ndim == 3 else said  # pooling "every"
    if said.ndim != 2 or said.shape[1] > 2:
        raise ValueError(f"expected a network that says one number, or two classes, of a string; got {said.shape[1:]}")
    return np.asarray(said[:, 0] > 0.5 if said.shape[1] == 1 else said[:, 1] > said[:, 0])
