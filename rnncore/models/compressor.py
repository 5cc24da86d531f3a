"""The neural history compressor: a network that predicts, and one that sees only what it could not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from rnncore import _checks
from rnncore.models._memory import Memory
from rnncore.nn.heads import Softmax, SquaredError
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.arguments import check_number
from rnncore.optim.optimizers import Adam

__all__ = ["HistoryCompressor"]


@dataclass
class _Stream:
    """Where a stream stands: both networks' states, what was foretold, the events that wait to be learned."""

    automatizer: Any = None
    chunker: Any = None
    learned: Any = None  # the chunker's state after the events that it has learned
    foretold: np.ndarray | None = None  # of the next symbol, (n_symbols,)
    elapsed: int = 0  # since the last event
    inputs: list[np.ndarray] = field(default_factory=list)  # of events not yet learned
    symbols: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)  # asked between an event and the next, or -1


class HistoryCompressor(Memory):
    """Two recurrent networks, of which the upper one sees only what the lower did not foresee (Schmidhuber 1992).

    The automatizer reads a stream of symbols and predicts the next one. A symbol that it gave a probability below
    `threshold`, or that was not its first choice, is an event: with the time since the last one it goes to the chunker.
    What was foreseen carries no information, so the chunker has all of it in far fewer steps, and lags that are long in
    the stream are short to it. It predicts the next event, and answers questions about the stream.

    With `distil` above 0 the automatizer also learns to imitate the chunker's state at every step, and in the end
    answers alone: the hierarchy of two collapses into one.

    Parameters
    ----------
    n_symbols, n_labels : int
        Symbols of the stream; answers to its questions.
    n_units : int
        Of each network.
    threshold : float
        Probability from which a symbol counts as foreseen.
    distil : float
        Weight of the imitation, beside the loss of the predictions; 0: none.
    cell : str
        Of both networks, one of `rnncore.CELLS`.
    window : int
        Gradients go back through so many steps at most, or so many events.
    learning_rate : float
        Adam's.
    random_state : int

    Attributes
    ----------
    automatizer_, chunker_ : Network

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> symbols, labels = rc.datasets.long_blocks(1500, random_state=0)
    >>> net = rc.models.HistoryCompressor(22, 2, random_state=0).fit(symbols, labels)
    >>> symbols, labels = rc.datasets.long_blocks(100, random_state=1)
    >>> asked = labels >= 0
    >>> bool((net.predict(symbols)[asked] == labels[asked]).mean() > 0.9), bool(net.events(symbols)[21:].mean() < 0.1)
    (True, True)
    """

    _arrays: ClassVar[tuple[str, ...]] = ("automatizer_theta_", "chunker_theta_")
    _numbers: ClassVar[tuple[str, ...]] = ()

    automatizer_: Network
    chunker_: Network

    def __init__(
        self,
        n_symbols: int,
        n_labels: int,
        n_units: int = 32,
        *,
        threshold: float = 0.95,
        distil: float = 0.0,
        cell: str = "elman",
        window: int = 42,
        learning_rate: float = 0.01,
        random_state: int = 0,
    ) -> None:
        self.n_symbols = n_symbols
        self.n_labels = n_labels
        self.n_units = n_units
        self.threshold = threshold
        self.distil = distil
        self.cell = cell
        self.window = window
        self.learning_rate = learning_rate
        self.random_state = random_state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "chunker_")

    @property
    def automatizer_theta_(self) -> np.ndarray:
        """The automatizer's parameters."""
        return self.automatizer_.theta

    @property
    def chunker_theta_(self) -> np.ndarray:
        """The chunker's parameters."""
        return self.chunker_.theta

    def fit(self, symbols: Any, labels: Any) -> Self:
        """Learn a stream from the beginning, both networks anew; see `partial_fit`."""
        self._build()
        return self.partial_fit(symbols, labels)

    def partial_fit(self, symbols: Any, labels: Any) -> Self:
        """Learn how the stream goes on.

        Parameters
        ----------
        symbols : (T,) array of int
        labels : (T,) array of int
            What is asked at a step, once its symbol is read: the right answer, or -1: nothing. Of several questions
            between two events the last is learned, as the chunker's answer is the same.
        """
        if not self.__sklearn_is_fitted__():
            self._build()
        numbers, asked = self._symbols(symbols), self._labels(labels)
        if len(asked) != len(numbers):
            raise ValueError(f"labels must be as many as symbols, -1 for none: got {len(asked)} and {len(numbers)}")
        for first in range(0, len(numbers), self.window):
            self._learn(numbers[first : first + self.window], asked[first : first + self.window])
        return self

    def events(self, symbols: Any) -> np.ndarray:
        """Tell which symbols of a new stream are not foreseen, (T,) bool; the first never is."""
        self._check_fitted()
        return self._unforeseen(self._symbols(symbols), _Stream())[0]

    def predict_proba(self, symbols: Any, alone: bool = False) -> np.ndarray:
        """Return how probable each answer is at each step of a new stream, (T, n_labels).

        Parameters
        ----------
        symbols : (T,) array of int
        alone : bool
            The automatizer answers by what it has learned of the chunker's state; it needs `distil`.
        """
        self._check_fitted()
        numbers = self._symbols(symbols)
        head = {name: self.chunker_.params[f"heads.label.{name}"] for name in ("W_hy", "b_y")}
        if alone:
            if not self.distil:
                raise ValueError("the automatizer has not learned to answer alone: distil must be above 0")
            seen = self.automatizer_.predict(numbers[:, None])["state"][:, 0]
        else:
            seen = self._chunker_states(numbers)
        scores = (seen @ head["W_hy"] + head["b_y"]).astype(np.float64)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        found: np.ndarray = scores / scores.sum(axis=1, keepdims=True)
        return found

    def predict(self, symbols: Any, alone: bool = False) -> np.ndarray:
        """Return the most probable answer at each step of a new stream, (T,)."""
        found: np.ndarray = self.predict_proba(symbols, alone).argmax(axis=1)
        return found

    # ------------------------------------------------------------------------------------------------------ one window

    def _learn(self, symbols: np.ndarray, labels: np.ndarray) -> None:
        """Read a window, hand on what was not foreseen, and learn from both."""
        stream, start = self._stream, self._stream.automatizer
        events, _ = self._unforeseen(symbols, stream)
        places, inputs = self._event_inputs(symbols, events, stream)
        targets: dict[str, Any] = {"next": np.append(symbols[1:], -1)[:, None]}
        if self.distil:
            targets["state"] = self._states_at(len(symbols), places, inputs, stream)[:, None]
        self.automatizer_.train_step(symbols[:, None], targets, self._optimizers[0], state=start)
        stream.automatizer = self.automatizer_.state
        before = 0
        for place, row in zip([*places.tolist(), len(symbols)], [*inputs, None], strict=True):
            asked = labels[before:place][labels[before:place] >= 0]
            if len(asked) and stream.labels:
                stream.labels[-1] = int(asked[-1])
            if row is not None:
                stream.inputs.append(row)
                stream.symbols.append(int(symbols[place]))
                stream.labels.append(-1)
            before = place
        self._learn_events()

    def _learn_events(self) -> None:
        """Let the chunker learn the events that wait, but for the last: what follows it is not known yet."""
        stream = self._stream
        while len(stream.inputs) > self.window:
            some = slice(0, self.window)
            targets = {
                "next": np.array(stream.symbols[1 : self.window + 1])[:, None],
                "label": np.array(stream.labels[some])[:, None],
            }
            x = np.stack(stream.inputs[some])[:, None]
            self.chunker_.train_step(x, targets, self._optimizers[1], state=self._stream.learned)
            stream.learned = self.chunker_.state
            for waiting in (stream.inputs, stream.symbols, stream.labels):
                del waiting[some]

    def _unforeseen(self, symbols: np.ndarray, stream: _Stream) -> tuple[np.ndarray, np.ndarray]:
        """Tell which symbols the automatizer did not foresee, and its outputs; the stream has read them then."""
        said, stream.automatizer = self.automatizer_.predict(
            symbols[:, None], state=stream.automatizer, return_state=True
        )
        foretold = said["next"][:, 0]
        first = np.zeros(self.n_symbols) if stream.foretold is None else stream.foretold
        before = np.vstack([first, foretold[:-1]])
        stream.foretold = foretold[-1]
        chance = before[np.arange(len(symbols)), symbols]
        return (chance < self.threshold) | (before.argmax(axis=1) != symbols), foretold

    def _event_inputs(self, symbols: np.ndarray, events: np.ndarray, stream: _Stream) -> tuple[np.ndarray, np.ndarray]:
        """Return where events are, and what the chunker reads: the symbol, and log(1 + steps since the last event)."""
        places = np.flatnonzero(events)
        since = np.diff(places, prepend=-stream.elapsed)
        stream.elapsed = len(symbols) - int(places[-1]) if len(places) else stream.elapsed + len(symbols)
        rows = np.zeros((len(places), self.n_symbols + 1), dtype=np.float32)
        rows[np.arange(len(places)), symbols[places]] = 1
        rows[:, -1] = np.log1p(since)
        return places, rows

    def _states_at(self, steps: int, places: np.ndarray, inputs: np.ndarray, stream: _Stream) -> np.ndarray:
        """Return the chunker's state after the last event at each step, (steps, H)."""
        before = np.zeros(self.n_units, np.float32) if stream.chunker is None else stream.chunker[0][0, 0]
        states = before[None]
        if len(places):
            found = self.chunker_.activations(inputs[:, None], state=stream.chunker)
            _, stream.chunker = self.chunker_.predict(inputs[:, None], state=stream.chunker, return_state=True)
            states = np.vstack([before, found["layers.0.fwd.h"][:, 0]])
        which: np.ndarray = np.searchsorted(places, np.arange(steps), side="right")
        found_at: np.ndarray = states[which]
        return found_at

    def _chunker_states(self, symbols: np.ndarray) -> np.ndarray:
        stream = _Stream()
        events, _ = self._unforeseen(symbols, stream)
        return self._states_at(len(symbols), *self._event_inputs(symbols, events, stream), stream)

    # ------------------------------------------------------------------------------------------------- parts and checks

    def _build(self) -> None:
        self._check_settings()
        options: dict[str, Any] = {"n_threads": 1}
        lower = Recurrent(self.cell, self.n_symbols, self.n_units, random_state=self.random_state, **options)
        upper = Recurrent(self.cell, self.n_symbols + 1, self.n_units, random_state=self.random_state + 1, **options)
        imitates = {"state": SquaredError(self.n_units)} if self.distil else {}
        self.automatizer_ = Network(
            lower,
            heads={"next": Softmax(self.n_symbols), **imitates},
            loss_weights={"next": 1.0, **dict.fromkeys(imitates, float(self.distil))},
        )
        self.chunker_ = Network(upper, heads={"next": Softmax(self.n_symbols), "label": Softmax(self.n_labels)})
        self._optimizers = [Adam(self.learning_rate, clip_norm=1) for _ in range(2)]
        self._stream = _Stream()

    def _symbols(self, value: Any) -> np.ndarray:
        return self._whole(value, "symbols", 0, self.n_symbols - 1)

    def _labels(self, value: Any) -> np.ndarray:
        return self._whole(value, "labels", -1, self.n_labels - 1)

    def _whole(self, value: Any, name: str, least: int, most: int) -> np.ndarray:
        found = _checks.array(value, name)
        if found.ndim != 1 or not found.size or found.dtype.kind not in "iu":
            raise ValueError(f"{name} must be whole numbers, (T,); got {found.dtype} {found.shape}")
        if not ((least <= found) & (found <= most)).all():
            raise ValueError(f"{name} must be from {least} to {most}, got {found.min()} to {found.max()}")
        return found.astype(np.int64)

    def _check_settings(self) -> None:
        for name in ("n_symbols", "n_labels", "n_units", "window"):
            _checks.whole(getattr(self, name), name)
        _checks.whole(self.random_state, "random_state", 0)
        check_number("threshold", self.threshold, "[0, 1]", 0.95)
        check_number("distil", self.distil, "[0, inf)", 1.0)

    def _check_restored(self) -> None:
        given = [self.__dict__.pop(name) for name in self._arrays]
        self._build()
        for network, theta, name in zip((self.automatizer_, self.chunker_), given, self._arrays, strict=True):
            network.theta[...] = _checks.flat(theta, name, network.theta)
