"""The Neural Turing machine: a recurrent controller beside a memory that it learns to write to and to read from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.schedule import Schedule
from rnncore._core.turing import Turing
from rnncore._finite import NonFiniteError, find_in_arrays, first, problem
from rnncore.models._scores import LOSSES, learn, predictions
from rnncore.nn import saving
from rnncore.nn.access import Access
from rnncore.nn.attributes import RunSettings, fixed
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.touched import TouchedRows

__all__ = ["CONTROLLERS", "MachineTrace", "NeuralTuringMachine"]

CONTROLLERS = ("lstm", "feedforward")
OPTIONS = (
    "input_size",
    "output_size",
    "hidden_size",
    "locations",
    "width",
    "read_heads",
    "write_heads",
    "shifts",
    "controller",
    "loss",
    "initial_memory",
    "random_state",
)
_FOCUS = 5.0  # every head looks at location 0 at first, 150 times as much as at any other
_PLACES = ("controller.W_xh", "controller.W_hh", "controller.b_h", "heads.W", "heads.b", "output.W_hy", "output.b_y")


class MachineTrace(NamedTuple):
    """One sequence, step by step.

    Attributes
    ----------
    outputs : ndarray (T, output_size)
        As `predict` gives them.
    memory : ndarray (T, locations, width)
        After each step.
    reading : ndarray (read_heads, T, locations)
        How much each head that reads looks at each location.
    writing : ndarray (write_heads, T, locations)
    """

    outputs: np.ndarray
    memory: np.ndarray
    reading: np.ndarray
    writing: np.ndarray

    def draw(self, figure: Any) -> None:
        """Draw outputs, addressing and the last memory over time on an empty ``matplotlib.figure.Figure``."""
        shown = [("outputs", self.outputs.T)]
        for what, heads in (("writes", self.writing), ("reads", self.reading)):
            for n, weights in enumerate(heads):
                shown.append((what if len(heads) == 1 else f"{what} ({n})", weights.T))
        grid = figure.add_gridspec(len(shown), 2, width_ratios=(4, 1))
        for n, (title, picture) in enumerate(shown):
            axes = figure.add_subplot(grid[n, 0])
            axes.imshow(picture, aspect="auto", cmap="Greys", interpolation="nearest", vmin=0 if n else None)
            axes.set_ylabel(title)
            axes.set_xlabel("step" if n == len(shown) - 1 else "")
        axes = figure.add_subplot(grid[:, 1])
        axes.imshow(self.memory[-1], aspect="auto", cmap="Greys", interpolation="nearest")
        axes.set_title("memory", fontsize=9)


@fixed(*OPTIONS, "dtype", "layout")
class NeuralTuringMachine(FlatArrays, Freezable, saving.Savable, RunSettings):
    """A controller that addresses a memory by content and by place (Graves, Wayne and Danihelka 2014).

    At each step, with M the memory before it, each head that reads or writes finds weights w over the locations
    (their equations 5 to 9), reading gives r, writing changes M (2 to 4)::

        h_t = LSTM(x_t, r_{t-1}, h_{t-1}) or tanh(x_t, r_{t-1})      k, β, g, s, γ, e, a of each head from h_t
        wc = softmax(β·cos(k, M_i))    wg = g·wc + (1-g)·w_{t-1}    ws = wg * s (on a ring)    w ∝ ws^γ
        r = Σ_i w_i·M_i                M_i <- M_i ⊙ (1 - w_i·e) + w_i·a           y_t = [r_t, h_t]·W + b

    Parameters
    ----------
    input_size, output_size : int
    hidden_size : int
        Units of the controller.
    locations, width : int
        The memory: so many rows, of so many numbers.
    read_heads, write_heads : int
    shifts : int
        S: a head may move by -S to S locations in a step.
    controller : {"lstm", "feedforward"}
    loss : {"sigmoid", "softmax", "squared"}
        Of outputs that are bits, classes, or numbers.
    initial_memory : float
        Every number of the memory at first; a small constant learns quicker than random numbers (Collier and Beel
        2018).
    random_state : int
    dtype : "float32" or "float64"
    n_threads : int, optional
        Sequences are dealt to threads: the same bits for any number of them.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and gradients, flat; optimizers work on them.
    params, grads : mapping of str to ndarray
        ``controller.W_xh``, ``.W_hh`` (of what was read, then h), ``.b_h``; ``heads.W``, ``heads.b``;
        ``output.W_hy``, ``.b_y``; ``start.weights`` (heads, locations), whose softmax heads begin with, and
        ``start.reads``.

    Raises
    ------
    ValueError
        For settings out of their range.

    Examples
    --------
    Two bits are given back after a pause:

    >>> import numpy as np, rnncore as rc
    >>> x = np.zeros((4, 4, 3), dtype="float32")
    >>> x[:2, :, :2] = np.random.default_rng(0).integers(0, 2, (2, 4, 2))
    >>> x[2, :, 2] = 1  # now
    >>> machine = rc.models.NeuralTuringMachine(3, 2, hidden_size=16, locations=8, width=4)
    >>> counted = np.array([0, 0, 1, 1])[:, None] * np.ones((1, 4))
    >>> targets, adam = np.concatenate([x[:2, :, :2]] * 2), rc.Adam(0.01, clip_norm=10)
    >>> losses = [machine.train_step(x, targets, adam, sample_weight=counted) for _ in range(300)]
    >>> bool(((machine.predict(x) > 0.5) == targets)[2:].all())
    True
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 100,
        locations: int = 128,
        width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shifts: int = 1,
        controller: str = "lstm",
        loss: str = "sigmoid",
        initial_memory: float = 1e-6,
        random_state: int = 0,
        dtype: Any = "float32",
        n_threads: int | None = None,
    ) -> None:
        self.input_size = _checks.whole(input_size, "input_size")
        self.output_size = _checks.whole(output_size, "output_size")
        self.hidden_size = _checks.whole(hidden_size, "hidden_size")
        self.width = _checks.whole(width, "width")
        self.read_heads = _checks.whole(read_heads, "read_heads")
        self.write_heads = _checks.whole(write_heads, "write_heads")
        self.shifts = _checks.whole(shifts, "shifts")
        self.locations = _checks.whole(locations, "locations")
        if self.locations < 2 * self.shifts + 1:
            raise ValueError(
                f"locations must be at least {2 * self.shifts + 1}, as many as there are shifts; got {self.locations}"
            )
        self.controller = _checks.one_of(controller, CONTROLLERS, "controller")
        self.loss = _checks.one_of(loss, tuple(LOSSES), "loss")
        if not _checks.is_number(initial_memory) or not math.isfinite(initial_memory):
            raise ValueError(f"initial_memory must be a finite number, got {initial_memory!r}")
        self.initial_memory = float(initial_memory)
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.dtype = _checks.dtype(dtype)
        self.n_threads = n_threads
        self.dropout_seed = self.dropout_step = 0
        self.layout = Layout(self._shapes())
        self._frozen: frozenset[str] = frozenset()
        self._access = Access()
        self._schedule: Schedule | None = None
        self._theta, self._grad = (aligned_zeros(self.layout.size, self.dtype) for _ in range(2))
        self._params, self._grads = self.layout.views(self._theta), self.layout.views(self._grad)
        self._touched = TouchedRows(())
        self._ranges = UpdateRanges(self.layout)
        self._kernel = self._made_kernel()
        self._initialise()

    # -------------------------------------------------------------- structure

    @property
    def _heads(self) -> int:
        return self.read_heads + self.write_heads

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        read, hidden, lstm = self.read_heads * self.width, self.hidden_size, self.controller == "lstm"
        gates = (4 if lstm else 1) * hidden
        told = self._heads * (self.width + 4 + 2 * self.shifts) + 2 * self.write_heads * self.width
        return {
            "controller.W_xh": (self.input_size, gates),
            "controller.W_hh": (read + hidden if lstm else read, gates),
            "controller.b_h": (gates,),
            "heads.W": (hidden, told),
            "heads.b": (told,),
            "output.W_hy": (read + hidden, self.output_size),
            "output.b_y": (self.output_size,),
            "start.weights": (self._heads, self.locations),
            "start.reads": (read,),
        }

    def _made_kernel(self) -> Turing:
        sizes = (self.input_size, self.output_size, self.hidden_size, self.locations, self.width)
        places = [self.layout.starts[name] for name in _PLACES]
        heads = (self.read_heads, self.write_heads, self.shifts)
        return Turing(self.dtype.itemsize, *sizes, *heads, self.controller == "lstm", places)

    def _initialise(self) -> None:
        """Draw weights (Glorot and Bengio 2010); the LSTM's forget gates begin open, heads at the first location."""
        rng = np.random.default_rng(self.random_state)
        for name in ("controller.W_xh", "controller.W_hh", "heads.W", "output.W_hy"):
            view = self._params[name]
            rows, columns = view.shape
            if name == "controller.W_xh":
                rows += len(self._params["controller.W_hh"])
            if name.startswith("controller"):
                columns = self.hidden_size
            bound = math.sqrt(6 / (rows + columns))
            view[...] = rng.uniform(-bound, bound, view.shape)
        if self.controller == "lstm":
            self._params["controller.b_h"][self.hidden_size : 2 * self.hidden_size] = 1
        self._params["start.weights"][:, 0] = _FOCUS

    def update_ranges(self, lazy: bool, groups: Any = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit, see ``Network.update_ranges``."""
        return self._ranges.of(self._touched if lazy else None, [self._frozen], lambda: self.frozen, groups)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self._grad[...] = 0

    def copy(self, dtype: Any = None) -> NeuralTuringMachine:
        """Return a machine with the same parameters, in another precision if asked."""
        twin = NeuralTuringMachine(**self._arguments(), dtype=self.dtype if dtype is None else dtype)
        twin.theta[...] = self._theta
        twin.freeze(*self.frozen)
        twin.n_threads = self.n_threads
        return twin

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTIONS}

    def __repr__(self) -> str:
        return (
            f"NeuralTuringMachine({self.input_size}, {self.output_size}, hidden_size={self.hidden_size}, "
            f"locations={self.locations}, width={self.width}, controller={self.controller!r}, "
            f"{self._theta.size} parameters)"
        )

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        own = {name: saving.plain(value) for name, value in self._arguments().items()}
        return "NeuralTuringMachine", {"machine": own | {"dtype": self.dtype.name, "frozen": [*self.frozen]}}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> NeuralTuringMachine:
        own = dict(header["machine"])
        frozen = own.pop("frozen")
        if set(own) != {*OPTIONS, "dtype"}:
            raise ValueError(f"expected the settings {', '.join(OPTIONS)}, dtype; got {', '.join(sorted(own))}")
        made = saving.read(lambda given: cls(**given), own, arrays)
        made.freeze(*frozen)
        return made

    def __getstate__(self) -> dict[str, Any]:
        own = {"arguments": self._arguments(), "dtype": self.dtype, "n_threads": self.n_threads}
        return own | {"flat": (self._theta, self._grad), "frozen": self.frozen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):
            made = NeuralTuringMachine(**state["arguments"], dtype=state["dtype"], n_threads=state["n_threads"])
            for array, value, name in zip((made._theta, made._grad), state["flat"], ("theta", "grad"), strict=True):
                array[...] = _checks.flat(value, name, array)
            made.freeze(*state["frozen"])
        self.__dict__.update(made.__dict__)

    # -------------------------------------------------------------- running

    def _start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what a sequence begins with: memory (width, locations), weights, and what was read."""
        logits = self._params["start.weights"]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        memory = np.full((self.width, self.locations), self.initial_memory, dtype=self.dtype)
        return memory, weights, self._params["start.reads"]

    def _given(self, x: Any, lengths: Any) -> tuple[np.ndarray, Schedule, np.ndarray]:
        """Return x as rows in packed order, the batch's layout, and the rows' numbers among T·B."""
        found = _checks.dense(x, self.input_size, self.dtype)
        steps, sequences = found.shape[:2]
        schedule = self._schedule_of(steps, sequences, _checks.lengths(lengths, steps, sequences))
        flat = schedule.flat()
        return found.reshape(steps * sequences, -1)[flat], schedule, flat

    def _scores(self, x: np.ndarray, schedule: Schedule, kernel: Turing, training: bool) -> np.ndarray:
        return kernel.forward(
            self._theta, x, schedule, *self._start(), _threads.resolve(self.n_threads), backward=training
        )

    def _unpacked(self, rows: np.ndarray, schedule: Schedule, flat: np.ndarray) -> np.ndarray:
        made = np.zeros((schedule.steps * schedule.sequences, *rows.shape[1:]), dtype=rows.dtype)
        made[flat] = rows
        return made.reshape(schedule.steps, schedule.sequences, *rows.shape[1:])

    def forward(self, x: Any, lengths: Any = None) -> np.ndarray:
        """Return scores (T, B, output_size): y; zeros behind the sequences' ends.

        Parameters
        ----------
        x : array (T, B, input_size)
        lengths : array (B,) of ints, optional

        Raises
        ------
        ValueError
            For arrays that do not fit.
        """
        rows, schedule, flat = self._given(x, lengths)
        with self._access.reading:
            return self._unpacked(self._scores(rows, schedule, self._made_kernel(), False), schedule, flat)

    def predict(self, x: Any, lengths: Any = None) -> np.ndarray:
        """Return the outputs: probabilities of bits (T, B, K) or classes (T, B, K), or numbers."""
        return predictions(self.loss, self.forward(x, lengths))

    def trace(self, x: Any) -> MachineTrace:
        """Return how one sequence x (T, input_size) was worked on: outputs, memory, and where each head looked.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> machine = rc.models.NeuralTuringMachine(3, 2, hidden_size=8, locations=16, width=4, read_heads=2)
        >>> trace = machine.trace(np.zeros((5, 3)))
        >>> trace.memory.shape, trace.reading.shape
        ((5, 16, 4), (2, 5, 16))
        """
        found = _checks.array(x, "x")
        if found.ndim != 2:
            raise ValueError(f"x must be one sequence (T, {self.input_size}), got shape {found.shape}")
        rows, schedule, _ = self._given(found[:, None], None)
        with self._access.reading:
            kernel = self._made_kernel()
            scores = self._scores(rows, schedule, kernel, False)
        memory, weights = kernel.traces()
        by_head = weights.swapaxes(0, 1)
        return MachineTrace(
            predictions(self.loss, scores),
            memory.swapaxes(1, 2),
            by_head[: self.read_heads],
            by_head[self.read_heads :],
        )

    # -------------------------------------------------------------- training

    def loss_and_grad(
        self, x: Any, targets: Any, lengths: Any = None, accumulate: bool = False, sample_weight: Any = None
    ) -> float:
        """Return the mean loss per step, in nats (squared: half the squares), and leave its gradient in ``grad``.

        Parameters
        ----------
        x : array (T, B, input_size)
        targets : array
            Sigmoid: probabilities (T, B, output_size); softmax: classes (T, B), -1 counts nothing; squared: numbers
            (T, B, output_size).
        lengths : array (B,) of ints, optional
        accumulate : bool
            Add to ``grad`` instead of overwriting it.
        sample_weight : array (B,) or (T, B), optional
            How much each sequence, or step, counts: 0 and 1 leave out steps whose outputs are of no interest.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        RuntimeError
            If another Python thread is using this machine.
        """
        rows, schedule, flat = self._given(x, lengths)
        with self._access.training:
            scores = self._scores(rows, schedule, self._kernel, True)
            loss, gradient = learn(
                self.loss, scores, targets, sample_weight, (schedule.steps, schedule.sequences), flat
            )
            dweights, dreads = self._kernel.backward(self._grad, gradient, accumulate)
            _, weights, _ = self._start()
            dweights = dweights.sum(axis=0)
            own = {
                "start.weights": weights * (dweights - (weights * dweights).sum(axis=1, keepdims=True)),
                "start.reads": dreads.sum(axis=0),
            }
            for name, value in own.items():
                self._grads[name] = self._grads[name] + value if accumulate else value
        return loss

    def train_step(self, x: Any, targets: Any, optimizer: Any, lengths: Any = None, sample_weight: Any = None) -> float:
        """Forward, loss, backward, clipping and update; returns the loss before the update.

        The arguments are those of ``loss_and_grad``, and an optimizer such as ``rnncore.Adam(1e-3, clip_norm=10)``.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite, naming what is; weights and the optimizer are as they were.
        """
        loss = self.loss_and_grad(x, targets, lengths, False, sample_weight)
        if not math.isfinite(loss):
            raise self._explained(np.asarray(x), lengths, loss)
        optimizer.step(self)
        return loss

    def fit(self, batches: Iterable[Any], optimizer: Any) -> list[float]:
        """Train on batches that come one by one; return the loss of each before its update.

        Parameters
        ----------
        batches : iterable of tuples
            x, targets and, where there are some, lengths and sample_weight, as `loss_and_grad` takes them.
        optimizer
            Such as ``rnncore.Adam(3e-3, clip_norm=1)``.

        Examples
        --------
        >>> import rnncore as rc
        >>> machine = rc.models.NeuralTuringMachine(5, 4, hidden_size=32, locations=32, width=8)
        >>> batches = (rc.datasets.copied_vectors(16, longest=8, random_state=n) for n in range(10))
        >>> len(machine.fit(batches, rc.Adam(3e-3, clip_norm=1)))
        10
        """
        losses = []
        for x, targets, *more in batches:
            lengths, weight = (*more, None, None)[:2]
            losses.append(self.train_step(x, targets, optimizer, lengths, weight))
        return losses

    def _explained(self, x: np.ndarray, lengths: Any, loss: float) -> NonFiniteError:
        """Return what made a loss not finite: x, the parameters, or else the loss itself."""
        sizes = _checks.lengths(lengths, *x.shape[:2])
        if sizes is not None:
            x = np.where((np.arange(len(x))[:, None] < sizes)[..., None], x, 0)
        at = first(x.swapaxes(0, 1))
        if at is not None:
            return problem("x", float(x.swapaxes(0, 1)[at]), at[0], at[1])
        return find_in_arrays(self) or problem("the loss", loss)
