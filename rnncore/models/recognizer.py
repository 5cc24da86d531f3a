"""Networks that learn whether strings belong to a language, as second-order networks were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from rnncore import _checks
from rnncore.models._memory import Memory
from rnncore.models.automaton import Automaton
from rnncore.models.extraction import extract_automaton
from rnncore.nn.heads import SquaredError
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.arguments import check_choice, check_number
from rnncore.optim.optimizers import Adam

__all__ = ["StringRecognizer"]

_CODES = ("symbols", "number")


class StringRecognizer(Memory):
    """A recurrent network that accepts the strings of a language, and shows the automaton that it has become.

    A string is read symbol by symbol; the first unit then says whether it belongs to the language, with squared error.
    As Giles et al. (1992) trained second-order networks, strings are learned from the shortest on: a working set
    grows as soon as all of it is known, and only strings that are off by more than `tolerance` are learned from. The
    gradient is that of back-propagation through the whole string, followed by Adam.

    `StringRecognizer.cascaded` is Pollack's sequential cascaded network (1991).

    Parameters
    ----------
    cell : str
        Any of `rnncore.CELLS` whose first unit can say so: its range has 0 and 1 in it.
    n_units : int
    cell_options : dict, optional
        Of the cell, ``activation`` among them.
    alphabet : str
    code : {"symbols", "number"}
        A symbol is one of K, or one number from 0 to 1: its place in the alphabet.
    end_symbol : bool
        A symbol of its own stands at the end of each string. Without, the empty string is what the first state says.
    start : "first" or float
        The state before a string: 1 for the first unit and 0 for others, or all units alike.
    tolerance : float
    working_set : int or None
        How many strings there are at first; None: all.
    batch_size : int
        How many strings are learned from at once.
    learning_rate : float
    truncate : int, optional
        How many steps back the gradient goes, as in `Recurrent`.
    max_epochs : int
    random_state : int

    Attributes
    ----------
    network_ : Network
    n_epochs_ : int
        Looks at the working set until it held all strings and all were known, or `max_epochs`.
    converged_ : bool

    Examples
    --------
    >>> import rnncore as rc
    >>> strings, accepted = rc.datasets.tomita(4, 1000, random_state=2)  # no 000
    >>> net = rc.models.StringRecognizer(random_state=2).fit(strings, accepted)
    >>> net.predict(["0100100", "01000", ""]).tolist()
    [True, False, True]
    >>> net.automaton().n_states
    4
    """

    _arrays: ClassVar[tuple[str, ...]] = ("theta_",)
    _numbers: ClassVar[tuple[str, ...]] = ("n_epochs_", "converged_")

    network_: Network
    n_epochs_: int
    converged_: bool

    def __init__(
        self,
        cell: str = "second_order",
        n_units: int = 5,
        *,
        cell_options: Mapping[str, Any] | None = None,
        alphabet: str = "01",
        code: str = "symbols",
        end_symbol: bool = True,
        start: Any = "first",
        tolerance: float = 0.2,
        working_set: int | None = 30,
        batch_size: int = 64,
        learning_rate: float = 0.02,
        truncate: int | None = None,
        max_epochs: int = 2000,
        random_state: int = 0,
    ) -> None:
        self.cell = cell
        self.n_units = n_units
        self.cell_options = cell_options
        self.alphabet = alphabet
        self.code = code
        self.end_symbol = end_symbol
        self.start = start
        self.tolerance = tolerance
        self.working_set = working_set
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.truncate = truncate
        self.max_epochs = max_epochs
        self.random_state = random_state

    @classmethod
    def cascaded(cls, n_units: int = 3, **settings: Any) -> Self:
        """Make a sequential cascaded network: a context net sets the weights of a function net (Pollack 1991).

        w_ij(t) = Σ_k W_ijk·z_k(t-1) with z_0 = 1, and z_i(t) = σ(Σ_j w_ij(t)·y_j(t)) of y = (symbol, 1). That is a
        second-order cell of augmented vectors, whose accept unit nobody sees; two symbols are 0 and 1, all units begin
        at 1/2, and every string is learned from the beginning. 3 units have 18 weights.

        Parameters
        ----------
        n_units : int
            The accept unit, and those of the context.
        **settings
            Any others of the class. ``truncate=2`` is Pollack's "backspace": a gradient for the last step and the one
            before.

        Examples
        --------
        >>> import rnncore as rc
        >>> strings = rc.datasets.tomita_strings(5)[1:]
        >>> net = StringRecognizer.cascaded().fit(strings, [string.count("1") % 2 for string in strings])
        >>> net.theta_.size, net.predict(["1" * 99, "1" * 100]).tolist()
        (18, [True, False])
        """
        own: dict[str, Any] = {"cell_options": {"augmented": True, "accept_units": 1}, "code": "number"}
        own |= {"end_symbol": False, "start": 0.5, "working_set": None}
        own |= {"tolerance": 0.1, "batch_size": 16, "learning_rate": 0.05}
        return cls(n_units=n_units, **(own | settings))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    @property
    def theta_(self) -> np.ndarray:
        """The network's parameters."""
        return self.network_.theta

    def fit(self, strings: Sequence[str], accepted: Any) -> Self:
        """Learn which strings belong to a language.

        Parameters
        ----------
        strings : sequence of str
        accepted : (n_strings,) array of 0 and 1
        """
        self._check_settings()
        strings, wanted = self._checked(strings), _checks.array(accepted, "accepted")
        if wanted.shape != (len(strings),) or not np.isin(wanted, (0, 1)).all():
            raise ValueError(f"accepted must be 0 or 1 for each of {len(strings)} strings, got shape {wanted.shape}")
        read = [i for i, string in enumerate(strings) if string or self.end_symbol]  # else there is nothing to learn
        if not read:
            raise ValueError("strings must not all be empty")
        read.sort(key=lambda i: (len(strings[i]), strings[i]))
        x, lengths = self._encoded([strings[i] for i in read])
        y = wanted[read].astype(np.float32)[:, None]
        self.network_ = self._built()
        self.n_epochs_, self.converged_ = self._learn(x, lengths, y)
        return self

    def _learn(self, x: np.ndarray, lengths: np.ndarray, y: np.ndarray) -> tuple[int, bool]:
        """Look at the working set, learn what is off, and let it grow by half when nothing is."""
        rng, optimizer = np.random.default_rng(self.random_state), Adam(self.learning_rate, clip_norm=1)
        size = min(len(y), self.working_set or len(y))
        for epoch in range(1, self.max_epochs + 1):
            off = np.flatnonzero(abs(self._said(x, lengths, np.arange(size)) - y[:size]) > self.tolerance)
            if not len(off):
                if size == len(y):
                    return epoch, True
                size = min(len(y), size + size // 2 + 1)
            off = rng.permutation(off)
            for first in range(0, len(off), self.batch_size):
                some = np.sort(off[first : first + self.batch_size])
                part = x[: lengths[some].max()][:, some]
                self.network_.train_step(part, y[some], optimizer, lengths[some], self.start_state(len(some)))
        return self.max_epochs, False

    def outputs(self, strings: Sequence[str]) -> np.ndarray:
        """Return what the first unit says of strings, (n_strings,): above 1/2 they are accepted."""
        self._check_fitted()
        strings = self._checked(strings)
        said = np.full(len(strings), self.start_state(1)[0][0, 0, 0])
        read = np.array([i for i, string in enumerate(strings) if string or self.end_symbol], dtype=np.int64)
        if len(read):
            x, lengths = self._encoded([strings[i] for i in read])
            said[read] = self._said(x, lengths, np.arange(len(read)))[:, 0]
        return said

    def predict(self, strings: Sequence[str]) -> np.ndarray:
        """Tell which strings belong to the language, (n_strings,) bool."""
        found: np.ndarray = self.outputs(strings) > 0.5
        return found

    def score(self, strings: Sequence[str], accepted: Any) -> float:
        """Return the share of strings that are told rightly."""
        return float(np.mean(self.predict(strings) == np.asarray(accepted, dtype=bool)))

    def automaton(self, divisions: int = 2, strings: Sequence[str] | None = None) -> Automaton:
        """Find the automaton that the network has become; see `extract_automaton`."""
        self._check_fitted()
        return extract_automaton(
            self.network_,
            self.alphabet,
            inputs=self._codes()[: len(self.alphabet)],
            end=self._codes()[-1] if self.end_symbol else None,
            accepts_empty=bool(self.start_state(1)[0][0, 0, 0] > 0.5),
            start=self.start_state(1),
            divisions=divisions,
            strings=strings,
        )

    def start_state(self, n_strings: int) -> tuple[np.ndarray, ...]:
        """Return the state before so many strings; states of a cell beside the output are 0."""
        layer = self.network_.layers[0]
        arrays = [np.zeros((1, n_strings, width), layer.dtype) for width in layer.state_widths.values()]
        if self.start == "first":
            arrays[0][:, :, 0] = 1
        else:
            arrays[0][...] = self.start
        return tuple(arrays)

    def _said(self, x: np.ndarray, lengths: np.ndarray, some: np.ndarray) -> np.ndarray:
        steps = lengths[some].max()
        found: np.ndarray = self.network_.predict(x[:steps][:, some], lengths[some], self.start_state(len(some)))
        return found

    def _codes(self) -> np.ndarray:
        """Return what is read for each symbol, and for the end: a number, or a row of one number."""
        K = len(self.alphabet) + self.end_symbol
        return np.arange(K) if self.code == "symbols" else np.linspace(0, 1, K, dtype=np.float32)[:, None]

    def _encoded(self, strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Strings as what is read, (T, B) or (T, B, 1), and their lengths."""
        codes, end = self._codes(), self.end_symbol
        lengths = np.array([len(string) + end for string in strings])
        places = np.full((lengths.max(), len(strings)), len(codes) - 1)
        for b, string in enumerate(strings):
            places[: len(string), b] = [self.alphabet.index(symbol) for symbol in string]
        return codes[places], lengths

    def _built(self) -> Network:
        symbols = len(self.alphabet) + self.end_symbol
        options = dict(self.cell_options or {})
        layer = Recurrent(
            *(self.cell, symbols if self.code == "symbols" else 1, self.n_units),
            truncate=self.truncate,
            random_state=self.random_state,
            n_threads=1,
            **options,
        )
        return Network(layer, head=SquaredError(1, project=False), pooling="last")

    def _checked(self, strings: Sequence[str]) -> list[str]:
        if isinstance(strings, str):
            raise ValueError("expected a list of strings, got one string")
        found = list(strings)
        known = set(self.alphabet)
        for string in found:
            if not isinstance(string, str) or set(string) - known:
                raise ValueError(f"expected strings of the symbols {self.alphabet}, got {string!r}")
        return found

    def _check_settings(self) -> None:
        check_choice("code", self.code, _CODES)
        Automaton(self.alphabet, [[0] * len(self.alphabet)], [])  # for its check of alphabets
        if self.start != "first":
            check_number("start", self.start, "[-1, 1]", 0.5)
        check_number("tolerance", self.tolerance, "(0, 1)", 0.2)
        if self.working_set is not None:
            _checks.whole(self.working_set, "working_set (None: all)")
        for name in ("n_units", "batch_size", "max_epochs"):
            _checks.whole(getattr(self, name), name)

    def _check_restored(self) -> None:
        self.network_ = self._built()
        self.network_.theta[...] = _checks.flat(self.__dict__.pop("theta_"), "theta_", self.network_.theta)
