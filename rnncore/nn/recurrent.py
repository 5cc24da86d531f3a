"""Recurrent layers on NumPy arrays."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.memory import Saved
from rnncore._core.plan import Plan
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore._core.weights import Weights
from rnncore.nn import order, saving, summary
from rnncore.nn.access import Access
from rnncore.nn.activations import ShowsActivations, of_layer
from rnncore.nn.attributes import RunSettings, fixed
from rnncore.nn.cells import CELLS, Cell
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.precision import HasPrecision
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.touched import TouchedRows

if TYPE_CHECKING:
    from rnncore.nn.session import Session

State = tuple[np.ndarray, ...]

DENSE, SYMBOLS, EMBEDDED = 0, 1, 2  # kinds of input, as the compiled core numbers them
DIRECTIONS = {False: "fwd", True: "bwd"}

#: the constructor's arguments that a layer keeps under the same name
OPTIONS = (
    *("input_size", "hidden_size", "num_layers", "bidirectional", "merge", "activation", "dropout"),
    *("recurrent_dropout", "input_dropout", "output_dropout", "recurrent_dropout_mode", "zoneout", "truncate"),
    *("reverse", "batch_first", "random_state", "n_threads"),
)


@fixed(*(name for name in OPTIONS if name != "n_threads"))
@fixed("cell", "dtype", "mixed", "cell_options", "plan", "zone_rates", "width", "state_widths", "layout")
class Recurrent(HasPrecision, FlatArrays, Freezable, ShowsActivations, saving.Savable, RunSettings):
    """Layers of one recurrent cell, in one direction or both, over batches of sequences.

    Parameters
    ----------
    cell : str
        A name in ``rnncore.CELLS``.
    input_size : int
        D, the width of dense input, or the number of symbols where the input is ids.
    hidden_size : int
        H, units per layer and direction.
    num_layers : int
        Layers on top of one another.
    bidirectional : bool
        Each layer runs over the sequence in both directions.
    merge : {"concat", "sum"}
        What becomes of the two directions' outputs.
    activation : str, optional
        The cell's own by default (tanh; relu for indrnn): tanh, sigmoid, relu, leaky_relu (option ``leaky_slope``),
        clipped_relu (option ``clip_at``), identity; binary: stochastic units, 1 with probability sigmoid(a), with
        straight-through gradients.
    dropout, input_dropout, output_dropout : float
        Rates between layers, on the input of the first, and on the output of the last; kept numbers are scaled by
        1/(1 - rate). Random numbers depend on ``dropout_seed``, ``dropout_step``, layer, sequence and time only.
    recurrent_dropout : float
        Rate on the state as the next step sees it.
    recurrent_dropout_mode : {"sequence", "step"}
        One mask for all steps of a sequence, or one for each step.
    zoneout : float, or one for each of the cell's states, such as (h, c) of an LSTM
        Probability that a unit keeps its state of the step before (Krueger et al. 2017); without training, the mean of
        both. One number is for the first state, the output.
    truncate : int, optional
        Each output's gradient goes back at most this many steps, its own included; None: to the beginning.
    reverse : bool
        A one-directional layer runs from the last step to the first.
    batch_first : bool
        Wherever a batch is asked for or comes back, it is (B, T, ...) instead of (T, B, ...): x, outputs, their
        gradients, feedback, activations. States stay as they are, and so does `step`.
    dtype : {"float32", "float64", "mixed_bfloat16"}
    random_state : int
        Seed of the initial parameters, and of dropout.
    n_threads : int, optional
        Threads; None: the general setting. Results do not depend on it.
    **cell_options
        Options of the cell or its activation.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and all gradients, flat.
    params, grads : mapping of str to ndarray
        Named views of them: ``layers.0.fwd.W_xh`` (D, G·H), ``W_hh`` (H, G·H), ``b_h`` (G·H,); ``bwd`` for the
        reverse direction.
    dropout_seed, dropout_step : int
        The same values give the same masks; the step counts training passes.

    Raises
    ------
    ValueError
        For options that do not fit, saying what would.
    AttributeError
        By setting an option later, but for ``n_threads``, ``dropout_seed`` and ``dropout_step``.

    Notes
    -----
    Bits do not depend on the number of threads, nor on what else is in the batch. With symbols as input, a row of
    W_xh is read per symbol: one-hot vectors are never built.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> layer = rc.Recurrent("elman", input_size=3, hidden_size=5, random_state=1)
    >>> x = np.ones((4, 2, 3), dtype=np.float32)
    >>> y, (h,) = layer.forward(x, lengths=[4, 2])
    >>> y.shape, h.shape
    ((4, 2, 5), (1, 2, 5))
    >>> dx, dstate = layer.backward(np.ones_like(y))
    >>> dx.shape, layer.grads["layers.0.fwd.W_xh"].shape
    ((4, 2, 3), (3, 5))
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        merge: str = "concat",
        activation: str | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        recurrent_dropout_mode: str = "sequence",
        zoneout: float | Sequence[float] = 0.0,
        truncate: int | None = None,
        reverse: bool = False,
        batch_first: bool = False,
        dtype: Any = "float32",
        random_state: int = 0,
        n_threads: int | None = None,
        **cell_options: Any,
    ) -> None:
        self.cell = CELLS[_checks.one_of(cell, tuple(CELLS), "cell")]
        self.input_size = _checks.whole(input_size, "input_size")
        self.hidden_size = _checks.whole(hidden_size, "hidden_size")
        self.num_layers = _checks.whole(num_layers, "num_layers", most=1000)
        self.bidirectional = _checks.flag(bidirectional, "bidirectional")
        self.merge = _checks.one_of(merge, ("concat", "sum"), "merge")
        self.activation = _checks.one_of(
            self.cell.activations[0] if activation is None else activation, self.cell.activations, "activation"
        )
        self.dropout = _checks.rate(dropout, "dropout")
        self.recurrent_dropout = _checks.rate(recurrent_dropout, "recurrent_dropout")
        self.input_dropout = _checks.rate(input_dropout, "input_dropout")
        self.output_dropout = _checks.rate(output_dropout, "output_dropout")
        self.recurrent_dropout_mode = _checks.one_of(
            recurrent_dropout_mode, ("sequence", "step"), "recurrent_dropout_mode"
        )
        self.zoneout = zoneout
        self.truncate = None if truncate is None else _checks.whole(truncate, "truncate")
        self.reverse = _checks.flag(reverse, "reverse")
        self.batch_first = _checks.flag(batch_first, "batch_first")
        if self.reverse and self.bidirectional:
            raise ValueError("reverse is for layers of one direction: leave out reverse or bidirectional")
        self.dtype, self.mixed = _checks.precision(dtype)
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.n_threads = n_threads
        self.cell_options: Mapping[str, Any] = MappingProxyType(cell_options)
        settled = self.cell.settle(cell_options, self.activation)
        self.plan = self.cell.plan(self.activation, settled)
        if self.plan.timed and self.num_layers > 1:
            raise ValueError("irregular is for one layer, which reads the data: put other layers on top of it")
        self.zone_rates = _checks.zoneout(zoneout, self.cell.name, self.cell.record(self.plan).zoned)
        self.width = self.cell.output_width(self.hidden_size, settled)
        self.state_widths: Mapping[str, int] = MappingProxyType(
            self.cell.state_widths(self.hidden_size, settled, self.plan)
        )
        self._bounds = self.cell.bounds(settled)
        self.dropout_seed = self.random_state
        self.dropout_step = 0
        self._frozen: frozenset[str] = frozenset()

        self.layout = Layout(self._shapes(settled))
        size = self.layout.size
        self.move_to(aligned_zeros(size, self.dtype), aligned_zeros(size, self.dtype), TouchedRows(), Access())
        rng = np.random.default_rng(self.random_state)
        for n in range(self.num_layers):
            for name in self.directions:
                prefix = f"layers.{n}.{name}."
                own = {k[len(prefix) :]: v for k, v in self.params.items() if k.startswith(prefix)}
                self.cell.initialise(own, self.hidden_size, settled, rng)

    # -------------------------------------------------------------- structure

    @property
    def directions(self) -> tuple[str, ...]:
        """Names of the directions, in the order of states and parameters."""
        return ("fwd", "bwd") if self.bidirectional else (DIRECTIONS[self.reverse],)

    @property
    def feeds_back(self) -> bool:
        """Whether a step sees the outputs before it, which ``feedback=`` may give."""
        return self.cell.record(self.plan).feeds_back

    @property
    def output_size(self) -> int:
        """F, the width of the outputs."""
        return sum(self.output_parts)

    @property
    def output_parts(self) -> list[int]:
        """Widths of the parts of the output: a concatenated pair is never copied together."""
        return [self.width] * (len(self.directions) if self.merge == "concat" else 1)

    def _widths(self, layer: int) -> list[int]:
        """Widths of the parts of one layer's input."""
        if layer == 0:
            return [self.input_size]
        return self.output_parts

    def _shapes(self, settled: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {
            f"layers.{n}.{direction}.{name}": shape
            for n in range(self.num_layers)
            for direction in self.directions
            for name, shape in self.cell.shapes(sum(self._widths(n)), self.hidden_size, settled, self.plan).items()
        }

    def describe(self, start: int, first_widths: Sequence[int] | None = None, more_dropout: float = 0.0) -> list[dict]:
        """Return what the compiled core needs to know of each layer; parameters begin at ``start`` in theta."""
        layers = []
        for n in range(self.num_layers):
            widths = list(first_widths) if first_widths and n == 0 else self._widths(n)
            rate = self.dropout if n else 1 - (1 - self.input_dropout) * (1 - more_dropout)
            layers.append(
                {
                    "cell": self.cell.record(self.plan, sum(widths), self.hidden_size).name,
                    "hidden": self.hidden_size,
                    "output": self.width,
                    "activation": self.plan.activation,
                    "parameter": self.plan.parameter,
                    "factor": self.plan.factor,
                    "share": self.plan.share,
                    "stages": self.plan.stages,
                    "timed": self.plan.timed and n == 0,
                    "flags": self.plan.flags,
                    "widths": widths,
                    "summed": self.bidirectional and self.merge == "sum",
                    "dropout": rate,
                    "recurrent_dropout": self.recurrent_dropout,
                    "zoneout": self.zone_rates,
                    "mask_per_step": self.recurrent_dropout_mode == "step",
                    "units": [self._places(start, f"layers.{n}.{direction}.") for direction in self.directions],
                }
            )
        return layers

    def _places(self, start: int, prefix: str) -> dict[str, Any]:
        """Where one unit's parameters begin in theta, and how many columns they have."""
        starts = {
            name.removeprefix(prefix): (start + self.layout.starts[name], shape[-1])
            for name, shape in self.layout.shapes.items()
            if name.startswith(prefix)
        }
        return {"reverse": prefix.endswith(".bwd."), "starts": starts}

    def move_to(self, theta: np.ndarray, grad: np.ndarray, touched: TouchedRows, access: Access) -> None:
        """Let the parameters and gradients live in other flat arrays (a Network's); values are not copied."""
        self._theta, self._grad, self._touched, self._access = theta, grad, touched, access
        self._params, self._grads = self.layout.views(theta), self.layout.views(grad)
        bounds = self._bounds.items()
        self._bounded = [
            (name, v, most) for name, v in self._params.items() for own, most in bounds if name.endswith("." + own)
        ]
        self._ranges = UpdateRanges(self.layout)
        self._plans: dict[int, Plan] = {}
        self._idle: dict[int, list[Workspace]] = {DENSE: [], SYMBOLS: []}  # those that no call runs in
        self._packed: dict[int, Weights] = {}  # see hold
        self._saved = Saved()
        self._saved_kind = DENSE
        self._schedule: Schedule | None = None
        self._snapshots: Any = weakref.WeakValueDictionary()  # what sessions have packed, by how it is kept
        self._steppers = threading.local()

    def keep_bounds(self) -> None:
        """Put parameters that a cell bounds back within ± their bound; an optimizer's step ends with this.

        What is frozen stays as it is.

        Examples
        --------
        >>> import rnncore as rc
        >>> layer = rc.Recurrent("indrnn", 2, 3, bound=1.01)
        >>> layer.params["layers.0.fwd.u"][...] = [0.5, 3, -2]
        >>> layer.keep_bounds()
        >>> layer.params["layers.0.fwd.u"].tolist()
        [0.5, 1.0099999904632568, -1.0099999904632568]
        """
        for name, view, most in self._bounded:
            if name not in self._frozen:
                np.clip(view, -most, most, out=view)

    def update_ranges(self, lazy: bool, groups: Mapping[str, int] | None = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit: rows (start, length, rule) of int64, sorted.

        All but what is frozen, for a gradient that ``backward`` adds to may have any row. See
        ``Network.update_ranges``.
        """
        return self._ranges.of(None, [self._frozen], lambda: self._frozen, groups)

    def kernel_plan(self, kind: int) -> Plan:
        """Return the layers' structure as the compiled core knows it, for one kind of input."""
        if kind not in self._plans:
            options = {
                "symbols": self.input_size,
                "embedding": 0,
                "table": 0,
                "output_dropout": self.output_dropout,
                "truncate": self.truncate,
            }
            self._plans[kind] = Plan(self.dtype.itemsize, [self.describe(0)], kind, options, self.mixed)
        return self._plans[kind]

    def _workspace(self, kind: int) -> Workspace:
        """Return a workspace that no other call runs in."""
        try:
            return self._idle[kind].pop()
        except IndexError:
            return Workspace(self.kernel_plan(kind), self._packed.get(kind))

    def hold(self, kind: int, storage: str = "float32") -> None:
        """Pack the weights for one kind of input once, for forward passes: the parameters will not change any more."""
        self._packed[kind] = Weights(self.kernel_plan(kind), self._theta, storage)

    def zero_grad(self) -> None:
        """Set all gradients to zero; ``backward`` adds to them."""
        self._grad[...] = 0

    def copy(self, dtype: Any = None) -> Recurrent:
        """Return layers of the same structure and parameters by themselves, in another precision if asked.

        Examples
        --------
        >>> import rnncore as rc
        >>> layer = rc.Recurrent("lstm", 3, 5)
        >>> twin = layer.copy("float64")
        >>> twin.theta.dtype, bool((twin.theta == layer.theta).all())
        (dtype('float64'), True)
        """
        twin = Recurrent(**cell_options(self), dtype=self.dtype_policy if dtype is None else dtype)
        twin.theta[...] = self._theta
        twin.freeze(*self.frozen)
        twin.dropout_seed, twin.dropout_step = self.dropout_seed, self.dropout_step
        return twin

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        return "Recurrent", {"layer": saving.layer_to_json(self)}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Recurrent:
        return saving.read(saving.layer_from_json, header["layer"], arrays)

    def summary(self) -> str:
        """Return a table of the layers: the shape of their outputs, parameters, bytes.

        Examples
        --------
        >>> import rnncore as rc
        >>> print(rc.Recurrent("lstm", 3, 5, num_layers=2).summary())
        part      what           output     parameters  bytes
        layers.0  lstm, forward  (T, B, 5)         180    720
        layers.1  lstm, forward  (T, B, 5)         220    880
        total                                      400  1,600
        """
        frozen = sum(self._params[name].size for name in self.frozen)
        return summary.table(summary.layer_rows(self), self.dtype.itemsize, frozen)

    def __repr__(self) -> str:
        depth = f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        both = ", bidirectional=True" if self.bidirectional else ""
        sizes = f"{self.input_size}, {self.hidden_size}"
        return f'Recurrent("{self.cell.name}", {sizes}{depth}{both}, dtype="{self.dtype_policy}")'

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in (*OPTIONS, "dropout_seed", "dropout_step")}
        own |= {"cell": self.cell.name, "dtype": self.dtype_policy, "cell_options": dict(self.cell_options)}
        return users_attributes(self) | own | {"theta": self._theta, "grad": self._grad, "frozen": self.frozen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):  # through the constructor, so that no unchecked number gets to the kernels
            cell = state["cell"]
            made = object.__new__(type(self))
            Recurrent.__init__(
                made,
                cell.name if isinstance(cell, Cell) else cell,
                dtype=state["dtype"],
                **{name: state[name] for name in OPTIONS if name != "batch_first"},
                batch_first=state.get("batch_first", False),
                **state["cell_options"],
            )
            made.dropout_seed, made.dropout_step = state["dropout_seed"], state["dropout_step"]
            for array, name in ((made._theta, "theta"), (made._grad, "grad")):
                array[...] = _checks.flat(state[name if name in state else f"_{name}"], name, array)
            made.freeze(*state.get("frozen", ()))
            adopt(self, made, state)

    # -------------------------------------------------------------- states

    def check_state(self, state: Any, sequences: int, name: str = "state") -> list[np.ndarray]:
        """Return a state tuple's arrays (layers·directions, B, width), checked."""
        units = self.num_layers * len(self.directions)
        return _checks.states(state, self.state_widths, (units, sequences), self.dtype)

    # -------------------------------------------------------------- running

    def _activations(self, x: Any, lengths: Any, state: Any, feedback: Any) -> dict[str, np.ndarray]:
        if not self.batch_first:
            return of_layer(self, x, lengths, state, feedback)
        x, feedback = order.time_first(x, "x"), order.time_first(feedback, "feedback")
        found = of_layer(self, x, lengths, state, feedback)
        return {name: order.batch_first(array) for name, array in found.items()}

    def check_feedback(self, feedback: Any, steps: int, sequences: int) -> np.ndarray | None:
        """Return what is given instead of the last layer's outputs, checked; None where nothing is."""
        if feedback is None:
            return None
        if not self.feeds_back:
            able = ", ".join(name for name, cell in CELLS.items() if cell.feeds_back)
            raise ValueError(
                f"feedback is for cells that see their own outputs ({able}), not for {self.cell.name}"
                f"{' in several stages' if self.cell.feeds_back else ''}: leave it out"
            )
        return _checks.feedback(feedback, (steps, sequences, self.output_size), self.dtype)

    def check_input(self, x: Any, lengths: Any) -> tuple[int, np.ndarray, np.ndarray | None]:
        """Return the kind of input, x ready for the kernels, and the lengths of its sequences."""
        array = x if type(x) is np.ndarray else _checks.array(x, "x")
        steps, sequences = array.shape[:2] if array.ndim >= 2 else (0, 0)
        sizes = None if lengths is None else _checks.lengths(lengths, steps, sequences)
        if array.dtype.kind in "iu":
            if self.plan.timed:
                raise ValueError("irregular steps are in the last column of x: expected numbers, got ids")
            return SYMBOLS, _checks.ids(array, self.input_size, sizes), sizes
        array = _checks.dense(array, self.input_size, self.dtype)
        if self.plan.timed:
            _checks.time_steps(array[..., -1], sizes)
        return DENSE, array, sizes

    def forward(
        self,
        x: Any,
        state: State | None = None,
        lengths: Any = None,
        training: bool = True,
        feedback: Any = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """Run the layers over a batch.

        Parameters
        ----------
        x : array (T, B, D), or ids (T, B), or bags of ids (T, B, F) with -1 for none
            A full batch of the layer's dtype is read where it lies: leave it unchanged until ``backward``.
        state : tuple of arrays (layers·directions, B, H), optional
            Initial states; zero without.
        lengths : array (B,) of ints, optional
            Steps of each sequence, in 1..T; all T without.
        training : bool
            Keep what ``backward`` needs, and apply dropout. Without, any number of threads may call at once.
        feedback : array (T, B, F), optional
            Teacher forcing of a cell that sees its own outputs (jordan): what each step of the last layer sees in place
            of the outputs of the step before, mostly the targets. The first step sees the initial state's; the last
            row is not looked at. No gradient passes through it. Each direction has its own part of F, or all of it
            with merge="sum".
        out : array (T, B, F), optional
            Where the outputs go: C-contiguous and of the layer's dtype. Memory that is used again saves the system
            from clearing new pages. After a training pass leave it unchanged until ``backward``.

        Returns
        -------
        y : array (T, B, F)
            Outputs of the last layer, zero after a sequence's end. Those of a full batch and one direction ``backward``
            reads again: they are read-only until then, so change a copy.
        state : tuple of arrays (layers·directions, B, H)
            Each sequence's states at its own end (for the reverse direction: at its first step).

        Raises
        ------
        ValueError
            For arrays that do not fit.
        RuntimeError
            If another Python thread is using this layer, and one of the two is training.
        """
        if not self.batch_first:
            return self._forward(x, state, lengths, training, feedback, out)
        x, feedback = order.time_first(x, "x"), order.time_first(feedback, "feedback")
        if out is not None and x.ndim > 1:
            order.check_out(out, x.shape[0], x.shape[1], self.output_size, self.dtype, x)
        y, final = self._forward(x, state, lengths, training, feedback, None)
        return order.batch_first(y, out), final

    def _forward(
        self, x: Any, state: State | None, lengths: Any, training: bool, feedback: Any, out: np.ndarray | None
    ) -> tuple[np.ndarray, State]:
        """Run the layers over a batch, time first."""
        kind, array, sizes = self.check_input(x, lengths)
        steps, sequences = array.shape[:2]
        arrays = None if state is None else self.check_state(state, sequences)
        given = self.check_feedback(feedback, steps, sequences)
        if out is not None:
            out = _checks.out(out, (steps, sequences, self.output_size), self.dtype, array)
        threads = _threads.resolve(self.n_threads)
        with self._access.training if training else self._access.reading:
            saved = self._give_up() if training else None
            schedule = self._schedule_of(steps, sequences, sizes)
            space = self._workspace(kind)
            options = (self.dropout_seed, self.dropout_step, given, True, out)
            y = space.forward(self._theta, schedule, array, arrays, saved, threads, *options)
            final = space.final_states()
            self._idle[kind].append(space)
            if saved is not None:
                self._dropout_step += 1
                self._saved_kind = kind
                if saved.y is not None and out is None:
                    y.flags.writeable = False
            return y, tuple(final)

    def _give_up(self) -> Saved:
        """Return saved memory whose outputs backward will not read any more: the caller may write to them."""
        saved = self._saved
        if saved.y is not None and saved.y.base is not None:
            saved.y.flags.writeable = True
        return saved

    def backward(
        self, dy: Any, dstate: State | None = None, out: np.ndarray | None = None
    ) -> tuple[np.ndarray | None, State | None]:
        """Back-propagate through the latest ``forward(training=True)``; parameter gradients are added to ``grad``.

        Parameters
        ----------
        dy : array (T, B, F)
            Gradient of the outputs; what lies past a sequence's end does not count.
        dstate : tuple of arrays (layers·directions, B, H), optional
            Gradient of the final states.
        out : array (T, B, D), optional
            Where dx goes: C-contiguous and of the layer's dtype.

        Returns
        -------
        dx : array (T, B, D), or None where the input was ids
        dstate : tuple of arrays (layers·directions, B, H), or None where the initial states were zero

        Raises
        ------
        RuntimeError
            Without a training forward pass before it: each serves one backward pass.
        ValueError
            For arrays that do not fit.
        """
        if not self.batch_first:
            return self._backward(dy, dstate, out)
        if out is not None and self._saved.pending:
            shape = self._saved.schedule.steps, self._saved.schedule.sequences
            order.check_out(out, *shape, self.input_size, self.dtype, np.empty(0))
        dx, initial = self._backward(order.time_first(dy, "dy"), dstate, None)
        return None if dx is None else order.batch_first(dx, out), initial

    def _backward(
        self, dy: Any, dstate: State | None, out: np.ndarray | None
    ) -> tuple[np.ndarray | None, State | None]:
        """Back-propagate, time first."""
        with self._access.training:
            saved, kind = self._saved, self._saved_kind
            if not saved.pending:
                raise RuntimeError(
                    "backward needs a forward(training=True) before it, and each forward serves one backward: "
                    "call forward again"
                )
            shape = (saved.schedule.steps, saved.schedule.sequences)
            dy = _checks.output_gradient(dy, (*shape, self.output_size), self.dtype)
            arrays = None if dstate is None else self.check_state(dstate, shape[1], "dstate")
            if out is not None:
                out = _checks.out(out, (*shape, self.input_size), self.dtype, dy)
            self._touched.mark_all()
            space = self._workspace(kind)
            dx, initial = space.backward(
                self._theta, self._grad, saved, dy, arrays, True, kind == DENSE, True, None, out
            )
            self._idle[kind].append(space)
            self._give_up()
            return dx, None if initial is None else tuple(initial)

    def step(self, x_t: Any, state: State | None = None, out: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """Run one time step, for streams: nothing is kept for ``backward``, nothing dropped out.

        Weights that changed since the last step are packed anew. A ``session`` does not look, and is faster.

        Parameters
        ----------
        x_t : array (B, D), or ids (B,), or bags of ids (B, F)
        state : tuple of arrays (layers, B, H), optional
            What the step before returned; zero without.
        out : array (B, F), optional
            Where the outputs go: C-contiguous and of the layer's dtype.

        Returns
        -------
        y_t : array (B, F)
        state : tuple of arrays (layers, B, H)

        Raises
        ------
        ValueError
            For a layer that needs the future: bidirectional or reverse.
        """
        if self.bidirectional or self.reverse:
            raise ValueError("step() runs forward in time only: use forward() for bidirectional or reverse layers")
        x_t = _checks.array(x_t, "x_t")
        with self._access.reading:
            session = self._stepping(x_t.shape[0] if x_t.ndim else 1)
            session.state = state
            return session.step(x_t, out), session.state

    def _stepping(self, sequences: int) -> Session:
        """Return this thread's session for ``step``, on the parameters as they are."""
        from rnncore.nn.session import Session

        kept: Session | None = getattr(self._steppers, "session", None)
        if kept is None or kept.batch_size != sequences:
            kept = self._steppers.session = Session(self, sequences)
        elif not kept._snapshot.still(self):
            kept.refresh()
        return kept

    def session(self, batch_size: int = 1, weight_dtype: Any = None) -> Session:
        """Return a stream through these layers, on weights that are packed once.

        Parameters
        ----------
        batch_size : int
            B, sequences side by side.
        weight_dtype : {"float32", "float64", "bfloat16", "int8"}, optional
            How weights are kept, if not as they are: in half or a quarter of the bits, of float32 layers
            (:class:`rnncore.nn.session.Session`).

        Returns
        -------
        Session

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> session = rc.Recurrent("lstm", 3, 5).session(batch_size=2)
        >>> y = np.empty((2, 5), dtype="float32")
        >>> for x_t in np.ones((4, 2, 3), dtype="float32"):
        ...     _ = session.step(x_t, out=y)
        >>> session.reset(rows=[1])
        >>> bool(session.state[0][0, 0].any()), bool(session.state[0][0, 1].any())
        (True, False)
        """
        from rnncore.nn.session import Session

        return Session(self, batch_size, weight_dtype)

    # what a session asks

    def _input_kinds(self) -> tuple[int, ...]:
        return DENSE, SYMBOLS

    def join_state(self, arrays: list[np.ndarray]) -> State:
        """Return a state's arrays as a state."""
        return tuple(arrays)


def users_attributes(made: object) -> dict[str, Any]:
    """Return what was added to a layer or network from outside: what is ours is fixed, or begins with an underscore."""
    ours = made._fixed  # type: ignore[attr-defined]
    return {name: value for name, value in vars(made).items() if not (name.startswith("_") or name in ours)}


def adopt(target: object, made: object, state: Mapping[str, Any]) -> None:
    """Let `target` become what was made from a pickle's state, with the attributes that were added from outside."""
    ours = {"touched", *made._fixed, *dir(type(made))}  # type: ignore[attr-defined]
    added = {name: value for name, value in state.items() if not (name.startswith("_") or name in ours)}
    target.__dict__ = vars(made) | added


def cell_options(layer: Recurrent) -> Mapping[str, Any]:
    """Return the keyword arguments that build a layer like this one."""
    return {name: getattr(layer, name) for name in OPTIONS} | {"cell": layer.cell.name} | dict(layer.cell_options)
