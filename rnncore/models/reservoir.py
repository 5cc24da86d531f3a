"""Reservoirs: recurrent networks whose weights are drawn once and stay: only what reads their states is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.dense import Dense
from rnncore._core.reservoir import Reservoir as Kernel
from rnncore.datasets.drawing import generator
from rnncore.models import topology as drawing
from rnncore.models.readout import LeastSquares
from rnncore.nn.cells import ACTIVATIONS
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.arguments import check_choice, check_number

FUNCTIONS = {"tanh": True, "sigmoid": True, "relu": False, "identity": False}  # and whether they are bounded
_DENSE_FROM = 0.4  # connectivity from which all weights are as quickly multiplied as those that are there
_NUMBERS = 2**22  # of states that are made at a time


class Piece(NamedTuple):
    """States of some steps: of whole sequences, or of part of one."""

    first: int  # the first step, of all sequences laid end to end
    sequences: slice  # these
    begins: int  # steps of the first one that came in pieces before
    states: np.ndarray  # (rows, N)


class Reservoir:
    """Leaky units with fixed random weights (Jaeger 2001; Jaeger and Haas 2004).

    In short::

        x_t = (1 - a)·x_{t-1} + a·f(W·x_{t-1} + W_in·u_t + b + W_fb·y_{t-1} + ν_t)

    Parameters
    ----------
    n_units : int
        N.
    spectral_radius : float
        W's largest eigenvalue, in modulus: how long the past is heard. None leaves W as it is drawn.
    leak_rate : float
        a, in (0, 1]: below 1 states change slowly.
    input_scaling : float or array (D,)
        Times W_in, drawn from [-1, 1), or of each input.
    bias_scaling : float
        Times b, drawn likewise.
    feedback_scaling : float
        Times W_fb, likewise; 0: outputs are not fed back.
    connectivity : float
        Share of the units that each one hears, at least one.
    input_connectivity : float
        Share of the weights in W_in that are not zero.
    noise : float
        Standard deviation of ν, while training alone.
    topology : {"random", "ring"}
        Ring: each unit hears its neighbour, all as loudly (Rodan and Tiňo 2011).
    distribution, input_distribution : {"normal", "uniform", "signs"}
        Of W, and of all other weights.
    activation : {"tanh", "sigmoid", "relu", "identity"}
        f.
    random_state : int
        Draws all weights, and noise.
    dtype : "float64" or "float32"
    n_threads : int, optional
        Sequences are dealt to threads: the same bits for any number of them.

    Attributes
    ----------
    W : scipy.sparse.csr_array (N, N)
    W_in : ndarray (D, N)
        Made when the first input comes, as are b and W_fb.
    bias : ndarray (N,)
    W_fb : ndarray (K, N)

    Raises
    ------
    ValueError
        For settings out of their range.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> reservoir = rc.Reservoir(50, spectral_radius=0.9, leak_rate=0.5)
    >>> reservoir.states(np.ones((7, 3))).shape
    (7, 50)
    >>> [len(states) for states in reservoir.states([np.ones((7, 3)), np.ones((4, 3))])]
    [7, 4]
    """

    def __init__(
        self,
        n_units: int = 100,
        spectral_radius: float | None = 0.9,
        leak_rate: float = 1.0,
        input_scaling: Any = 1.0,
        bias_scaling: float = 0.0,
        feedback_scaling: float = 0.0,
        connectivity: float = 0.1,
        input_connectivity: float = 1.0,
        noise: float = 0.0,
        topology: str = "random",
        distribution: str = "normal",
        input_distribution: str = "uniform",
        activation: str = "tanh",
        random_state: int = 0,
        dtype: Any = "float64",
        n_threads: int | None = None,
    ) -> None:
        self.n_units = _checks.whole(n_units, "n_units")
        if spectral_radius is not None:
            check_number("spectral_radius", spectral_radius, "(0, inf)", 0.9)
        check_number("leak_rate", leak_rate, "(0, 1]", 0.5)
        for name, value in (("connectivity", connectivity), ("input_connectivity", input_connectivity)):
            check_number(name, value, "(0, 1]", 0.1)
        for name, value in (("bias_scaling", bias_scaling), ("feedback_scaling", feedback_scaling), ("noise", noise)):
            check_number(name, value, "[0, inf)", 0.1)
        check_choice("topology", topology, drawing.TOPOLOGIES)
        check_choice("distribution", distribution, drawing.DISTRIBUTIONS)
        check_choice("input_distribution", input_distribution, drawing.DISTRIBUTIONS)
        check_choice("activation", activation, FUNCTIONS)
        self.spectral_radius, self.leak_rate, self.input_scaling = spectral_radius, leak_rate, input_scaling
        self.bias_scaling, self.feedback_scaling, self.noise = bias_scaling, feedback_scaling, noise
        self.connectivity, self.input_connectivity = connectivity, input_connectivity
        self.topology, self.distribution, self.input_distribution = topology, distribution, input_distribution
        self.activation, self.n_threads = activation, n_threads
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.dtype = _checks.dtype(dtype)
        drawn = self.random_state, self.n_units, topology, float(connectivity), distribution
        self.W = drawing.of_radius(spectral_radius, *drawn)
        self.W_in: Any = None
        self.bias: Any = None
        self.W_fb: Any = None

    # ------------------------------------------------------------ weights

    @property
    def W(self) -> Any:  # noqa: N802 - the matrix of the equation
        """The recurrent weights; others may be set in their place."""
        return self._W

    @W.setter
    def W(self, W: Any) -> None:  # noqa: N802
        self._W = W
        dense = W.nnz >= _DENSE_FROM * self.n_units**2
        starts = None if dense else np.ascontiguousarray(W.indptr, dtype=np.int64)
        columns = None if dense else np.ascontiguousarray(W.indices, dtype=np.int32)
        values = np.ascontiguousarray(W.toarray() if dense else W.data, dtype=self.dtype)
        kind = ACTIVATIONS[self.activation][0]
        self._kernel = Kernel(self.n_units, starts, columns, values, kind, self.leak_rate)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.W = state["_W"]

    def build(self, n_inputs: int, n_outputs: int = 0) -> Reservoir:
        """Draw what brings inputs in, and outputs back, if it is not there already.

        Raises
        ------
        ValueError
            If it was drawn for another number of inputs or outputs.
        """
        rng = generator(self.random_state + 2**40)
        if self.W_in is None:
            scale = np.broadcast_to(np.asarray(self.input_scaling, dtype=np.float64), (n_inputs,))
            weights = self._drawn(rng, n_inputs) * scale[:, None]
            weights *= rng.random(weights.shape) < self.input_connectivity
            self.W_in = weights.astype(self.dtype)
            self.bias = (self.bias_scaling * self._drawn(rng, 1)[0]).astype(self.dtype)
        if self.W_fb is None:
            self.W_fb = (self.feedback_scaling * self._drawn(rng, n_outputs)).astype(self.dtype)
        if len(self.W_in) != n_inputs:
            raise ValueError(f"the reservoir was built for inputs of {len(self.W_in)} numbers, got {n_inputs}")
        if n_outputs and len(self.W_fb) != n_outputs:
            raise ValueError(f"the reservoir was built for outputs of {len(self.W_fb)} numbers, got {n_outputs}")
        return self

    def _drawn(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        return drawing.drawn(rng, self.input_distribution, rows * self.n_units).reshape(rows, self.n_units)

    # ------------------------------------------------------------ states

    def states(self, X: Any, feedback: Any = None, state: Any = None) -> Any:
        """Return the states of all steps.

        Parameters
        ----------
        X : array (T, D) or (T,), or list of them
            A sequence, or several.
        feedback : as X, (T, K), optional
            What outputs are fed back: those of the step before.
        state : array (N,) or (S, N), optional
            Where to begin; zeros.

        Returns
        -------
        (T, N), or a list of them

        Raises
        ------
        ValueError
            For arrays that do not fit, numbers that are not finite, and states that are not: a reservoir whose units
            grow without bound is named with its settings.
        """
        single, table, lengths = laid_out(X, "X")
        fed = None if feedback is None else laid_out(feedback, "feedback")[1]
        pieces = [piece.states for piece in self.pieces(table, lengths, fed, state)]
        found = np.concatenate(pieces) if len(pieces) != 1 else pieces[0]
        return found if single else np.split(found, np.cumsum(lengths)[:-1])

    def pieces(
        self,
        table: np.ndarray,
        lengths: np.ndarray,
        feedback: np.ndarray | None = None,
        state: Any = None,
        rng: np.random.Generator | None = None,
    ) -> Iterator[Piece]:
        """Run sequences laid end to end, some millions of numbers at a time.

        rng : draws the noise; None: there is none.
        """
        self.build(table.shape[1], 0 if feedback is None else feedback.shape[1])
        ends = np.cumsum(lengths)
        starts = ends - lengths
        first = self._first(state, len(lengths))
        most = max(_NUMBERS // self.n_units, 1)
        n = 0
        while n < len(lengths):
            last = max(int(np.searchsorted(ends, starts[n] + most, side="right")), n + 1)
            at, end = int(starts[n]), int(ends[last - 1])
            before, begin = first[n:last], at
            while begin < end:  # one sequence alone may be longer
                stop = end if last > n + 1 else min(end, begin + most)
                rows = np.r_[starts[n:last], end] - at if last > n + 1 else np.array([0, stop - begin])
                states = self._run(table[begin:stop], feedback, begin, starts[n:last], rows, before, rng)
                self._check(states, begin, ends)
                yield Piece(begin, slice(n, last), begin - at, states)
                before, begin = states[-1:], stop
            n = last

    def _first(self, state: Any, sequences: int) -> np.ndarray:
        if state is None:
            return np.zeros((sequences, self.n_units), dtype=self.dtype)
        found = np.ascontiguousarray(state, dtype=self.dtype).reshape(-1, self.n_units)
        if len(found) != sequences:
            raise ValueError(
                f"state must be ({sequences}, {self.n_units}), one row for each sequence; got {found.shape}"
            )
        return found

    def drive(self, table: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """Return what comes from outside, (rows, N). before: outputs (rows, K) of the step before each."""
        parts, weights = [table], [self.W_in]
        if before is not None:
            parts, weights = [table, before], [self.W_in, self.W_fb]
        heard = np.concatenate(parts, axis=1, dtype=self.dtype)
        if not heard.size:
            return np.tile(self.bias, (len(heard), 1))
        theta = np.concatenate([*weights, self.bias[None]]).ravel()
        inputs, units = heard.shape[1], self.n_units
        product = Dense(self.dtype.itemsize, inputs, units, 0, inputs * units, False)
        return product.forward(theta, heard, _threads.resolve(self.n_threads))

    def _run(
        self,
        table: np.ndarray,
        feedback: np.ndarray | None,
        begin: int,
        starts: np.ndarray,
        rows: np.ndarray,
        first: np.ndarray,
        rng: np.random.Generator | None,
    ) -> np.ndarray:
        before = None
        if feedback is not None:
            before = np.zeros((len(table), feedback.shape[1]))
            before[1:] = feedback[begin : begin + len(table) - 1]
            new = starts[starts >= begin] - begin
            before[new] = 0
            if begin and not (new == 0).any():
                before[0] = feedback[begin - 1]
        drive = self.drive(table, before)
        if rng is not None and self.noise:
            drive += self.noise * rng.standard_normal(drive.shape).astype(self.dtype)
        threads = _threads.resolve(self.n_threads)
        return self._kernel.run(np.ascontiguousarray(rows, dtype=np.int64), np.ascontiguousarray(first), drive, threads)

    def _check(self, states: np.ndarray, begin: int, ends: np.ndarray) -> None:
        if FUNCTIONS[self.activation] or np.isfinite(states).all():
            return
        row = begin + int(np.argmin(np.isfinite(states).all(axis=1)))
        number = int(np.searchsorted(ends, row, side="right"))
        step = row - (int(ends[number - 1]) if number else 0)
        raise ValueError(
            f"the reservoir's states are not finite any more in sequence {number} from step {step} on: its units grow "
            f"without bound (activation={self.activation!r}, spectral_radius={self.spectral_radius}, "
            f"feedback_scaling={self.feedback_scaling}). Take tanh, or smaller scalings"
        )

    def layer(self, n_inputs: int) -> Recurrent:
        """Return a layer of a `Network` that does the same: to be trained with what follows, or frozen, by gradients.

        Its weights are copies, all of W among them: a frozen one costs more than `states`.

        Examples
        --------
        >>> import rnncore as rc
        >>> reservoir = rc.Reservoir(20, leak_rate=0.3)
        >>> net = rc.Network(reservoir.layer(2), head=rc.Softmax(3)).freeze("layers.0.*")
        >>> net = rc.Network(reservoir.layer(2), head=rc.Softmax(3))  # back-propagation goes through it
        """
        self.build(n_inputs)
        layer = Recurrent(
            "leaky", n_inputs, self.n_units, activation=self.activation, leak=self.leak_rate, dtype=self.dtype
        )
        weights = {"W_xh": self.W_in, "W_hh": self.W.toarray().T, "b_h": self.bias}
        for name, value in weights.items():
            layer.params[f"layers.0.fwd.{name}"][...] = value
        return layer

    def listen(self, state: np.ndarray, y: np.ndarray, given: np.ndarray, V: np.ndarray, readout: Any) -> Any:
        """Run on outputs of its own; see `_core/reservoir.pyx`."""
        state, given, V, A = (np.ascontiguousarray(each, dtype=self.dtype) for each in (state, given, V, readout.A))
        B = None if readout.B is None else np.ascontiguousarray(readout.B, dtype=self.dtype)
        return self._kernel.listen(state, y, given, V, A, B, readout.C, readout.offset)

    def __repr__(self) -> str:
        return (
            f"Reservoir({self.n_units}, spectral_radius={self.spectral_radius}, leak_rate={self.leak_rate}, "
            f"topology={self.topology!r})"
        )


def laid_out(given: Any, name: str) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether it is a single sequence, all sequences laid end to end (rows, D), and their lengths.

    Examples
    --------
    >>> single, table, lengths = laid_out([[1.0, 2.0], [3.0]], "X")
    >>> single, table.shape, lengths.tolist()
    (False, (3, 1), [2, 1])
    """
    if not isinstance(given, list | tuple) and hasattr(given, "__array__"):  # frames and other arrays, too
        given = _checks.array(given, name)
    single = isinstance(given, np.ndarray) and given.ndim < 3 and given.dtype != object
    parts: Sequence[Any] = [given] if single else list(given)
    found: list[np.ndarray] = []
    for n, part in enumerate(parts):
        array = _checks.array(part, f"{name}[{n}]" if not single else name)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or array.dtype.kind not in "fiub" or not len(array):
            raise ValueError(
                f"{name} must be numbers, (T, D) or (T,) for each sequence, of at least one step; sequence {n} is "
                f"{array.dtype} of shape {array.shape}"
            )
        if found and array.shape[1] != found[0].shape[1]:
            raise ValueError(
                f"all sequences of {name} must have as many columns as the first, {found[0].shape[1]}; sequence {n} "
                f"has {array.shape[1]}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            step = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise ValueError(
                f"{name} contains NaN or inf, and must be finite: sequence {n}, step {step} is {array[step].tolist()}"
            )
        found.append(array)
    if not found:
        raise ValueError(f"{name} must hold at least one sequence")
    table = found[0] if len(found) == 1 else np.concatenate(found)
    return single, np.asarray(table), np.array([len(part) for part in found])


def memory_capacity(
    reservoir: Reservoir, delays: int = 50, n_steps: int = 4000, washout: int = 500, random_state: int = 0
) -> float:
    """Return how much of its input a reservoir remembers.

    The sum over delays k of r²(u_{t-k}, what least squares make of x_t): at most the number of units (Jaeger 2002, GMD
    report 152).

    Parameters
    ----------
    reservoir : Reservoir
        Of one input.
    delays : int
        1 to so many.
    n_steps, washout : int
        Of uniform noise in [-1, 1): half of it is learned from, half of it measured on.

    Examples
    --------
    >>> import rnncore as rc
    >>> 10 < memory_capacity(rc.Reservoir(30, 0.9, input_scaling=0.1, activation="identity")) <= 30
    True
    """
    u = generator(random_state).uniform(-1.0, 1.0, washout + 2 * n_steps)
    states = reservoir.states(u[:, None])[washout:]
    states = np.hstack([states, np.ones((len(states), 1))]).astype(np.float64)
    past = np.stack([np.roll(u, k)[washout:] for k in range(1, delays + 1)], axis=1)
    W = LeastSquares(states.shape[1], delays).add(states[:n_steps], past[:n_steps]).solve()
    found, wanted = states[n_steps:] @ W, past[n_steps:]
    return float(sum(np.corrcoef(found[:, k], wanted[:, k])[0, 1] ** 2 for k in range(delays)))


__all__ = ["FUNCTIONS", "Piece", "Reservoir", "laid_out", "memory_capacity"]
