"""The neural network pushdown automaton: a small recurrent network that learns to use a stack; discrete afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.pushdown import learn_from, scores_of, traces_of
from rnncore._finite import find_in_arrays, problem
from rnncore.nn import saving
from rnncore.nn.access import Access
from rnncore.nn.attributes import RunSettings, fixed
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.touched import TouchedRows
from rnncore.optim.arguments import check_number
from rnncore.optim.optimizers import Adam

__all__ = ["PushdownAutomaton", "PushdownNetwork", "PushdownTrace", "all_strings"]

OPTIONS = ("symbols", "states", "order", "gradient", "dead_zone", "random_state")


def all_strings(symbols: str, longest: int) -> list[str]:
    """Return every string of 1 to `longest` symbols, the shortest first.

    Examples
    --------
    >>> all_strings("ab", 2)
    ['a', 'b', 'aa', 'ab', 'ba', 'bb']
    """
    return ["".join(letters) for n in range(1, longest + 1) for letters in product(symbols, repeat=n)]


class PushdownTrace(NamedTuple):
    """One string, symbol by symbol.

    Attributes
    ----------
    score : float
        Above 0.5: accepted.
    states : ndarray (T, states)
    actions : ndarray (T,)
        Above 0: how much was pushed; below: popped.
    readings : ndarray (T, symbols + 1)
        The top of the stack afterwards; last, how much of it is empty.
    lengths : ndarray (T,)
        Of the stack.
    """

    score: float
    states: np.ndarray
    actions: np.ndarray
    readings: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class PushdownAutomaton:
    """A deterministic pushdown automaton that pushes what it reads; an empty stack and such a state accept.

    Attributes
    ----------
    start : int
    accepting : frozenset of int
    moves : mapping of (state, top, symbol) to (state, action)
        top: the symbol on top of the stack, or "" for none; action: 1 pushes the symbol, -1 pops, 0 does neither.
    """

    start: int
    accepting: frozenset[int]
    moves: Mapping[tuple[int, str, str], tuple[int, int]]

    def accepts(self, string: str) -> bool:
        """Tell whether a string is in the language. Popping an empty stack, or a move that is not there, ends it: no.

        Examples
        --------
        >>> moves = {(0, top, "("): (0, 1) for top in ("", "(")} | {(0, top, ")"): (0, -1) for top in ("", "(")}
        >>> automaton = PushdownAutomaton(0, frozenset({0}), moves)
        >>> [automaton.accepts(string) for string in ("(())", "(()", ")(")]
        [True, False, False]
        """
        state, stack = self.start, ""
        for symbol in string:
            state, action = self.moves.get((state, stack[-1:], symbol), (-1, 0))
            if state < 0 or (action < 0 and not stack):
                return False
            stack = stack + symbol if action > 0 else stack[: len(stack) + action]
        return state in self.accepting and not stack

    def __str__(self) -> str:
        words = {1: "push", 0: "-", -1: "pop"}
        lines = [f"start {self.start}, accepting {', '.join(map(str, sorted(self.accepting))) or 'none'}"]
        for (state, top, symbol), (to, action) in sorted(self.moves.items()):
            lines.append(f"{state}, top {top or 'empty'}: {symbol} -> {to} {words[action]}")
        return "\n".join(lines)


@fixed(*OPTIONS, "layout")
class PushdownNetwork(FlatArrays, Freezable, saving.Savable, RunSettings):
    """States that multiply the input and the top of a stack (Giles et al. 1990; Das, Giles and Sun 1992).

    With S the states, R what is read within depth 1 of the top (and, last, how much of it is empty), l the symbol::

        third order    S' = σ(Σ_jk W[l]_ijk·S_j·R_k + θ_i)    A = 2σ(Σ_jk W[l]_jk·S_j·R_k + θ) - 1
        second order   S' = σ(Σ_j S_j·(Σ_k Wr_ijk·R_k + Wi_ijl) + θ_i), A likewise

    A > 0 pushes the symbol with length A, A < 0 pops the length -A. With L the length that is left and m what pops
    found missing, the score S_0 - L - m shall be 1 for legal strings and at most 0 for others; above 0.5 a string is
    accepted.

    Parameters
    ----------
    symbols : str
        The alphabet, a character each.
    states : int
    order : {2, 3}
    gradient : {"exact", "approximate"}
        Through the stack: of all its lengths (Grefenstette et al. 2015), or as if it were only its top and the end of
        what is read that change (Giles et al. 1990).
    dead_zone : float
        ε: smaller actions do nothing.
    random_state : int
    n_threads : int, optional
        Strings are dealt to threads: the same bits for any number of them.

    Attributes
    ----------
    theta, grad : ndarray (P,) float64
    params, grads : mapping of str to ndarray
        ``W`` (symbols, states + 1, states, symbols + 1), or ``W_reading`` (states + 1, states, symbols + 1) and
        ``W_input`` (states + 1, states, symbols); the last of states + 1 is the action's. ``bias`` (states + 1,).

    Raises
    ------
    ValueError
        For settings out of their range.

    Examples
    --------
    >>> import rnncore as rc
    >>> net = rc.models.PushdownNetwork("()", states=2)
    >>> def balanced(string):
    ...     while "()" in string:
    ...         string = string.replace("()", "")
    ...     return not string
    >>> automaton = net.fit_language(balanced)
    >>> automaton.accepts("(" * 100 + ")" * 100), automaton.accepts("())(")
    (True, False)
    """

    def __init__(
        self,
        symbols: str = "ab",
        states: int = 2,
        order: int = 2,
        gradient: str = "exact",
        dead_zone: float = 0.0,
        random_state: int = 0,
        n_threads: int | None = None,
    ) -> None:
        if not isinstance(symbols, str) or not symbols or len(set(symbols)) < len(symbols):
            raise ValueError(f"symbols must be a string of different characters, got {symbols!r}")
        self.symbols, self.states = symbols, _checks.whole(states, "states")
        self.order = _checks.whole(order, "order", least=2, most=3)
        self.gradient = _checks.one_of(gradient, ("exact", "approximate"), "gradient")
        check_number("dead_zone", dead_zone, "[0, 1)", 0.1)
        self.dead_zone = float(dead_zone)
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.n_threads = n_threads
        self.dropout_seed = self.dropout_step = 0
        self.dtype = np.dtype(np.float64)
        rows, K = self.states + 1, len(symbols)
        if self.order == 3:
            shapes: dict[str, tuple[int, ...]] = {"W": (K, rows, self.states, K + 1)}
        else:
            shapes = {"W_reading": (rows, self.states, K + 1), "W_input": (rows, self.states, K)}
        self.layout = Layout(shapes | {"bias": (rows,)})
        self._frozen: frozenset[str] = frozenset()
        self._access = Access()
        self._theta, self._grad = (aligned_zeros(self.layout.size, self.dtype) for _ in range(2))
        self._params, self._grads = self.layout.views(self._theta), self.layout.views(self._grad)
        self._touched = TouchedRows(())
        self._ranges = UpdateRanges(self.layout)
        self._draw(0)

    # -------------------------------------------------------------- structure

    def _draw(self, attempt: int) -> None:
        rng = np.random.default_rng([self.random_state, attempt])
        self._theta[...] = rng.uniform(-1, 1, self._theta.size)

    def update_ranges(self, lazy: bool, groups: Any = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit, see ``Network.update_ranges``."""
        return self._ranges.of(self._touched if lazy else None, [self._frozen], lambda: self.frozen, groups)

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTIONS}

    def __repr__(self) -> str:
        return (
            f"PushdownNetwork({self.symbols!r}, states={self.states}, order={self.order}, "
            f"gradient={self.gradient!r}, {self._theta.size} parameters)"
        )

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        return "PushdownNetwork", {"machine": self._arguments() | {"frozen": [*self.frozen]}}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> PushdownNetwork:
        own = dict(header["machine"])
        frozen = own.pop("frozen")
        if set(own) != set(OPTIONS):
            raise ValueError(f"expected the settings {', '.join(OPTIONS)}; got {', '.join(sorted(own))}")
        made = saving.read(lambda given: cls(**given), own, arrays)
        made.freeze(*frozen)
        return made

    def __getstate__(self) -> dict[str, Any]:
        own = {"arguments": self._arguments(), "n_threads": self.n_threads, "frozen": self.frozen}
        return own | {"flat": (self._theta, self._grad)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):
            made = PushdownNetwork(**state["arguments"], n_threads=state["n_threads"])
            for array, value, name in zip((made._theta, made._grad), state["flat"], ("theta", "grad"), strict=True):
                array[...] = _checks.flat(value, name, array)
            made.freeze(*state["frozen"])
        self.__dict__.update(made.__dict__)

    def _weights(self) -> np.ndarray:
        """Return the weights of third order, and biases, flat: readings add up to 1, so an input's alone go to each."""
        if self.order == 3:
            return self._theta
        reading, own = self._params["W_reading"], self._params["W_input"]
        third = reading + np.moveaxis(own, 2, 0)[..., None]
        return np.concatenate([third.ravel(), self._params["bias"]])

    def _first(self) -> np.ndarray:
        return np.eye(self.states)[0]

    # -------------------------------------------------------------- running

    def _laid_out(self, strings: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return all symbols' numbers end to end, and where strings start."""
        if isinstance(strings, str) or not all(isinstance(string, str) for string in strings):
            raise ValueError("strings must be a list of strings")
        if not len(strings) or not all(strings):
            raise ValueError("there must be at least one string, and none may be empty")
        known = {symbol: number for number, symbol in enumerate(self.symbols)}
        unknown = sorted({symbol for string in strings for symbol in string} - set(known))
        if unknown:
            raise ValueError(f"strings must be of the symbols {self.symbols!r}, got {unknown[0]!r}")
        starts = np.cumsum([0, *map(len, strings)], dtype=np.int64)
        return np.array([known[symbol] for string in strings for symbol in string], dtype=np.int64), starts

    def _run(self, call: Callable[..., Any], *given: Any) -> Any:
        return call(self._weights(), self._first(), *given, self.dead_zone, _threads.resolve(self.n_threads))

    def scores(self, strings: Sequence[str]) -> np.ndarray:
        """Return S_0 - L - m of each string, (strings,).

        Raises
        ------
        ValueError
            For empty strings and unknown symbols.
        """
        given = self._laid_out(strings)
        with self._access.reading:
            found: np.ndarray = self._run(scores_of, *given)
        return found

    def predict(self, strings: Sequence[str]) -> np.ndarray:
        """Tell which strings are accepted, bool (strings,)."""
        return self.scores(strings) > 0.5

    def trace(self, string: str) -> PushdownTrace:
        """Return how a string was worked on.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.models.PushdownNetwork("ab", states=3).trace("aabb").states.shape
        (4, 3)
        """
        given = self._laid_out([string])
        with self._access.reading:
            scores, *arrays = self._run(traces_of, *given)
        return PushdownTrace(float(scores[0]), *arrays)

    # -------------------------------------------------------------- training

    def loss_and_grad(self, strings: Sequence[str], legal: Any) -> float:
        """Return the mean loss, (score - 1)² of legal strings and max(0, score)² of others; leave ``grad``.

        Legal strings count for one half together, the others for the other half.

        Parameters
        ----------
        strings : sequence of str
        legal : sequence of bool

        Raises
        ------
        ValueError
            If there are not as many of both, and as `scores`.
        """
        return self._learn(*self._checked(strings, legal))

    def _checked(self, strings: Sequence[str], legal: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        symbols, starts = self._laid_out(strings)
        wanted = np.ascontiguousarray(legal, dtype=np.float64)
        if wanted.shape != (len(strings),) or not np.isin(wanted, (0, 1)).all():
            raise ValueError(f"legal must be {len(strings)} of True and False, one for each string")
        return symbols, starts, wanted

    def _learn(self, symbols: np.ndarray, starts: np.ndarray, legal: np.ndarray) -> float:
        with self._access.training:
            weights, threads = self._weights(), _threads.resolve(self.n_threads)
            exact = self.gradient == "exact"
            each = self._weight_of(legal)
            given = (symbols, starts, legal, each, self.dead_zone, exact, threads)
            losses, gradient = learn_from(weights, self._first(), *given)
            rows = self.states + 1
            third = gradient[:-rows].reshape(len(self.symbols), rows, self.states, -1)
            if self.order == 3:
                self._grads["W"] = third
            else:
                self._grads["W_reading"] = third.sum(axis=0)
                self._grads["W_input"] = np.moveaxis(third.sum(axis=3), 0, 2)
            self._grads["bias"] = gradient[-rows:]
        return float(losses.sum())

    @staticmethod
    def _weight_of(legal: np.ndarray) -> np.ndarray:
        """Return how much each string counts: legal ones and others half each, however few there are of either."""
        shares = [1 / max(2 * (legal == kind).sum(), 1) for kind in (0, 1)]
        each = np.where(legal == 1, shares[1], shares[0])
        return each / each.sum()

    def train_step(self, strings: Sequence[str], legal: Any, optimizer: Any) -> float:
        """Forward, loss, backward and update on all strings at once; returns the loss before the update.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite, naming what is; weights are as they were.
        """
        return self._step(self._checked(strings, legal), optimizer)

    def _step(self, checked: tuple[np.ndarray, np.ndarray, np.ndarray], optimizer: Any) -> float:
        loss = self._learn(*checked)
        if not math.isfinite(loss):
            raise find_in_arrays(self) or problem("the loss", loss)
        optimizer.step(self)
        return loss

    def fit(
        self, strings: Sequence[str], legal: Any, optimizer: Any = None, epochs: int = 2000, until: float = 1e-3
    ) -> PushdownNetwork:
        """Train until the mean loss is at most `until`, or for so many epochs; returns itself.

        Parameters
        ----------
        strings, legal
            As of `loss_and_grad`.
        optimizer : optional
            Adam(0.02, clip_norm=1).
        """
        checked = self._checked(strings, legal)
        rule = Adam(0.02, clip_norm=1.0) if optimizer is None else optimizer
        for _ in range(_checks.whole(epochs, "epochs")):
            if self._step(checked, rule) <= until:
                break
        return self

    def fit_language(
        self,
        belongs: Callable[[str], bool],
        shortest: int = 4,
        longest: int = 8,
        attempts: int = 50,
        rounds: int = 5,
        added: int = 50,
        epochs: int = 500,
        learning_rate: float = 0.05,
    ) -> PushdownAutomaton:
        """Learn a language from a few short strings, to which those are added that are not right yet.

        From new weights it starts again until `quantise` finds an automaton that is right about all the strings it has
        looked at: one in five attempts at a^n b^n, in a second each.

        Parameters
        ----------
        belongs : callable
            Tells whether a string is in the language.
        shortest, longest : int
            All strings up to the first length are learned from, all up to the second looked at after each round.
        attempts, rounds, added, epochs : int
            At most so many attempts, rounds in each, strings added in each (the shortest), epochs in each.
        learning_rate : float
            Of Adam.

        Returns
        -------
        PushdownAutomaton
            What the network's weights, when rounded, are.

        Raises
        ------
        RuntimeError
            If no attempt leads to one.
        """
        every = all_strings(self.symbols, longest)
        right = np.array([bool(belongs(string)) for string in every])
        for attempt in range(_checks.whole(attempts, "attempts")):
            self._draw(attempt)
            if not self._learned(every, right, shortest, rounds, added, epochs, Adam(learning_rate, clip_norm=1.0)):
                continue
            try:
                return self.quantise(every)
            except ValueError:  # it counts in other ways than a stack's
                continue
        raise RuntimeError(
            f"no automaton of the language was found in {attempts} attempts: give it more attempts, rounds or states"
        )

    def _learned(
        self, every: list[str], right: np.ndarray, shortest: int, rounds: int, added: int, epochs: int, rule: Any
    ) -> bool:
        """Train round by round; tell whether all strings are right in the end."""
        learned = [n for n, string in enumerate(every) if len(string) <= shortest]
        for _ in range(_checks.whole(rounds, "rounds")):
            self.fit([every[n] for n in learned], right[learned], rule, epochs, 1e-4)
            bad = np.flatnonzero(self.predict(every) != right)
            if not len(bad):
                return True
            learned += [n for n in bad[:added].tolist() if n not in learned]
        return False

    # -------------------------------------------------------------- an automaton of it

    def quantise(self, strings: Iterable[str] | None = None) -> PushdownAutomaton:
        """Return a discrete automaton: actions rounded to -1, 0 and 1, states gathered where they come close.

        From the first state and an empty stack on, strings go through: each move leads to one of the states already
        there if that is near enough, else to a new one. How near is what makes the smallest automaton that accepts
        the same of the `strings` as the network.

        Parameters
        ----------
        strings : iterable of str, optional
            Without, all of at most 8 symbols.

        Raises
        ------
        ValueError
            If no automaton of at most 64 states agrees with the network on them: it has not learned a language yet.
        """
        shown = list(all_strings(self.symbols, 8) if strings is None else strings)
        wanted = self.predict(shown).tolist()
        for near in (0.7, 0.5, 0.3, 0.2, 0.1):
            gathering = _Gathering(self, near)
            if all(gathering.accepts(string) == want for string, want in zip(shown, wanted, strict=True)):
                return gathering.automaton()
        raise ValueError(
            f"no automaton of at most {_MOST} states accepts the same of {len(shown)} strings as the network does: "
            "train it longer, or from other weights"
        )


class _Gathering:
    """An automaton in the making: states and moves as strings come by that need them."""

    def __init__(self, net: PushdownNetwork, near: float) -> None:
        rows = net.states + 1
        flat = net._weights()
        self.W, self.bias = flat[:-rows].reshape(len(net.symbols), rows, net.states, -1), flat[-rows:]
        self.symbols, self.near = net.symbols, near
        self.centres = [net._first()]
        self.moves: dict[tuple[int, str, str], tuple[int, int]] = {}

    def accepts(self, string: str) -> bool:
        """Run a string, and tell whether it is accepted."""
        state, stack = 0, ""
        for symbol in string:
            state, action = self._move(state, stack[-1:], symbol)
            if action < 0 and not stack:
                return False
            stack = stack + symbol if action > 0 else stack[: len(stack) + action]
        return self._accepting(state) and not stack

    def _accepting(self, state: int) -> bool:
        return bool(self.centres[state][0] > 0.5)

    def _move(self, state: int, top: str, symbol: str) -> tuple[int, int]:
        known = self.moves.get((state, top, symbol))
        if known is not None:
            return known
        k = self.symbols.index(top) if top else len(self.symbols)
        z = self.W[self.symbols.index(symbol), :, :, k] @ self.centres[state] + self.bias
        *after, pushed = 1 / (1 + np.exp(-z))
        distances = [float(np.abs(after - centre).max()) for centre in self.centres]
        to = int(np.argmin(distances))
        if (distances[to] > self.near or self._accepting(to) != (after[0] > 0.5)) and len(self.centres) < _MOST:
            to = len(self.centres)
            self.centres.append(np.array(after))
        self.moves[state, top, symbol] = (to, round(float(2 * pushed - 1)))
        return self.moves[state, top, symbol]

    def automaton(self) -> PushdownAutomaton:
        """Return what was gathered."""
        accepting = frozenset(n for n in range(len(self.centres)) if self._accepting(n))
        return PushdownAutomaton(0, accepting, dict(self.moves))


_MOST = 64  # states of an automaton
