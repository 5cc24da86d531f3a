"""Sessions: streams on weights that are packed once, with a state that stays inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.heads import Head
from rnncore._core.plan import Plan
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore._core.session import Stepper, same_bytes
from rnncore._core.weights import Weights
from rnncore.nn import order
from rnncore.nn import outputs as places
from rnncore.nn.custom import CustomHead

if TYPE_CHECKING:
    from rnncore.nn.inputs import Reader
    from rnncore.nn.network import Network
    from rnncore.nn.recurrent import Recurrent

DENSE = 0  # the kind of input, as the compiled core numbers it


class Snapshot:
    """Parameters as they were at one time, and what was packed of them: any number of sessions read one snapshot."""

    def __init__(self, owner: Recurrent | Network, storage: str) -> None:
        self.theta = owner._theta.copy()
        self.storage = storage
        self._weights: dict[int, Weights] = {}
        self._heads: dict[str, Head] = {}
        self._reader: Reader | None = None

    def still(self, owner: Recurrent | Network) -> bool:
        """Whether the owner's parameters are these, to the bit."""
        return same_bytes(self.theta, owner._theta)

    def workspace(self, kind: int, plan: Plan) -> Workspace:
        """Return a new workspace on the packed weights."""
        if kind not in self._weights:
            self._weights[kind] = Weights(plan, self.theta, self.storage)
        return Workspace(plan, self._weights[kind])

    def heads(self, owner: Any) -> dict[str, Head]:
        """Return new heads on the packed projections by name, none of a layer."""
        if not is_network(owner):
            return {}
        made = {part.name: head for part, head in zip(owner.outputs, owner._head_kernels(), strict=True)}
        for name, head in made.items():
            head.hold(self.theta, self._heads.get(name), self.storage)
        self._heads = self._heads or made
        return made

    def reader(self, network: Network) -> Reader | None:
        """Return what reads a network's segments, or None where it has none."""
        if self._reader is None and network._reader is not None:
            self._reader = network._reader.held(self.theta, network.layout, self.storage)
        return self._reader


def snapshot_of(owner: Any, storage: str) -> Snapshot:
    """Return a snapshot of the owner's parameters: one that a session has already, if they are still the same."""
    kept: Snapshot | None = owner._snapshots.get(storage)
    if kept is None or not kept.still(owner):
        kept = owner._snapshots[storage] = Snapshot(owner, storage)
    return kept


def is_network(owner: Any) -> bool:
    """Whether this is a network, not a layer."""
    return hasattr(type(owner), "train_step")


class Parts(NamedTuple):
    """What a session takes from a layer or a network."""

    widths: list[tuple[int, int]]  # of a state's arrays: units, numbers
    inputs: int  # columns of dense input that needs no look at its numbers, or -1: it does
    outputs: int  # of the last layer, or of the first head
    carries: bool  # a state, which layers do that run forward in time
    plain: bool  # one array comes, to compiled heads
    alone: bool  # and one goes at every step


def parts_of(owner: Any) -> Parts:
    """Return what a session takes from a layer or a network."""
    layers = owner.layers if is_network(owner) else (owner,)
    units = [(layer.num_layers * len(layer.directions), n) for layer in layers for n in layer.state_widths.values()]
    outputs, plain, alone = layers[-1].output_size, True, True
    if is_network(owner):
        if owner.attention is not None:
            raise ValueError("a session goes step by step, and attention looks at all steps: use predict()")
        outputs = owner.outputs[0].head.outputs
        custom = any(isinstance(head, CustomHead) for head in owner.heads.values())
        plain = not (custom or owner._reader or owner.skip)
        alone = plain and owner.head is not None and owner.outputs[0].by_step and owner.head.name != "adaptive"
    carries = not any(layer.bidirectional or layer.reverse for layer in layers)
    inputs = -1 if layers[0].plan.timed else layers[0].input_size
    return Parts(units, inputs, outputs, carries, plain, alone)


class Given(NamedTuple):
    """What a layer is given, checked; a network's Batch is like it."""

    kind: int
    x: Any
    steps: int
    sequences: int
    sizes: np.ndarray | None


class Session(Stepper):
    """One stream, or ``batch_size`` streams side by side, through a layer or a network.

    Made by ``layer.session(…)`` or ``net.session(…)``. Weights are packed once, memory is kept, and the state stays
    inside from call to call; nothing is dropped out. Sessions made of the same parameters share packed weights. What
    is trained later reaches a session by ``refresh()``.

    Of a network ``step`` and ``run`` return what ``predict`` does: of several heads a dict. A head with pooling sees
    all steps since the stream began (``reset``, or a state that was set), so that each step gives what is known of the
    sequence by now. A CRF sees the steps of one call alone.

    ``weight_dtype="bfloat16"`` keeps float32 weights in half the bits, ``"int8"`` in a quarter: where memory is what a
    step waits for, it takes a half or a quarter of the time. With bfloat16 the weights, and what meets them, are
    rounded to 8 bits of mantissa; with int8 to whole multiples of a scale, of which each column of weights has one,
    and each row of inputs or states another at every step. Sums, states, gates, biases and symbols' rows stay float32.

    A session is for one thread at a time; any number of sessions may run at once.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> layer = rc.Recurrent("gru", input_size=3, hidden_size=5)
    >>> session = layer.session()
    >>> x = np.ones((4, 1, 3), dtype="float32")
    >>> steps = [session.step(x_t) for x_t in x]
    >>> y, state = layer.forward(x, training=False)
    >>> bool(np.array_equal(y, steps)), bool(np.array_equal(session.state[0], state[0]))
    (True, True)
    """

    _owner: Any  # Recurrent or Network
    _parts: Parts
    _snapshot: Snapshot
    _dense: Workspace | None
    _symbols: Workspace | None
    _heads: dict[str, Head]
    _threads: int
    _vectors: dict[str, np.ndarray]  # of whole sequences, as they were given last

    def __new__(cls, owner: Recurrent | Network, batch_size: int = 1, weight_dtype: Any = None) -> Session:
        """Make a session; `layer.session` and `net.session` do."""
        batch_size = _checks.whole(batch_size, "batch_size")
        kept_as = getattr(owner, "weight_dtype", None) if weight_dtype is None else weight_dtype
        storage = _checks.weight_dtype(kept_as, owner.dtype)
        parts = parts_of(owner)
        state = None
        if parts.carries:
            state = [np.zeros((units, batch_size, width), dtype=owner.dtype) for units, width in parts.widths]
        snapshot = snapshot_of(owner, storage)
        first = owner._input_kinds()[0]
        space = snapshot.workspace(first, owner.kernel_plan(first))
        heads = snapshot.heads(owner)
        for head in heads.values() if parts.carries else ():
            head.carry(batch_size)
        threads = _threads.resolve(owner.n_threads)
        made: Session = super().__new__(  # type: ignore[call-arg]
            cls,
            space if first == DENSE else None,
            None if first == DENSE else space,
            heads,
            state,
            batch_size,
            parts.inputs,
            parts.outputs,
            owner.dtype.itemsize,
            threads,
            parts.plain,
        )
        made._owner, made._parts, made._snapshot, made._heads = owner, parts, snapshot, heads
        made._dense, made._symbols = (space, None) if first == DENSE else (None, space)
        made._threads, made._vectors = threads, {}
        return made

    def run(self, x: Any, lengths: Any = None, out: Any = None) -> Any:
        """Run whole sequences, going on from the state; the bits are those of ``forward`` (or ``predict``).

        Parameters
        ----------
        x : array (T, B, D), or ids (T, B), or bags of ids (T, B, F)
            Of a network what ``predict`` takes; a SequenceVector may be left out as for ``step``.
        lengths : array (B,) of ints, optional
            Steps of each sequence, in 1..T. The state goes on from each one's own end.
        out : array (T, B, F), or a dict of arrays for several heads, optional
            Where the result goes.

        Returns
        -------
        array (T, B, F), or (T, B, K) of a network; a dict of them for several heads
            Zero after a sequence's end. Of a head with pooling (B, K): from all steps since the stream began, those of
            earlier calls to the bit for "last" and "max", for "mean" and "attention" to rounding.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        RuntimeError
            If another Python thread is using this session.
        """
        owner = self._owner
        network = is_network(owner)
        x = self._with_vectors(x)
        if owner.batch_first:
            x = owner._time_first(x, None)[0] if network else order.time_first(x, "x")
        batch = self._checked(x, lengths)
        if network:
            results = owner._session_results(tuple(self._heads.values()), self._snapshot.theta, batch, out)
            return self._go(batch, results, None)
        shape = (batch.steps, batch.sequences, self._parts.outputs)
        if owner.batch_first:
            if out is not None:
                order.check_out(out, *shape, owner.dtype, batch.x)
            return order.batch_first(self._go(batch, None, None), out)
        return self._go(batch, None, None if out is None else _checks.out(out, shape, owner.dtype, batch.x))

    def _checked(self, x: Any, lengths: Any) -> Any:
        """Return a batch (T, B, ...), checked."""
        if is_network(self._owner):
            batch: Any = self._owner._check(x, lengths, None, None)
        else:
            kind, x, sizes = self._owner.check_input(x, lengths)
            batch = Given(kind, x, x.shape[0], x.shape[1], sizes)
        if batch.sequences != self.batch_size:
            raise ValueError(
                f"this session is for {self.batch_size} sequences side by side, got {batch.sequences}: make another "
                f"one with batch_size={batch.sequences}"
            )
        return batch

    def _go(self, batch: Any, results: Any, out: np.ndarray | None) -> Any:
        """Run a checked batch."""
        dense, x, schedule = batch.kind == DENSE, batch.x, Schedule(batch.steps, batch.sequences, batch.sizes)
        self._open(dense)
        reader = self._snapshot.reader(self._owner) if is_network(self._owner) else None
        if reader is None:
            return self._run(dense, x, schedule, results, out)
        rows, _ = reader.forward(x, schedule, False, (self._threads, 0, 0))
        found = self._run(dense, rows, schedule, results, out)
        for name, segment in reader.segments.items() if self._parts.carries else ():
            if not segment.by_step and x[name] is not self._vectors.get(name):
                self._vectors[name] = x[name].copy()
        return found

    def _with_vectors(self, x: Any) -> Any:
        """Return a network's input with the vectors of whole sequences that were left out: those given last."""
        reader = self._owner._reader if is_network(self._owner) else None
        if reader is None or not self._vectors:
            return x
        if self._owner.skip and isinstance(x, tuple) and x:
            return reader.with_vectors(x[0], self._vectors), *x[1:]
        return reader.with_vectors(x, self._vectors)

    @property
    def state(self) -> Any:
        """The state: a tuple of arrays (layers, B, H), copies; a list of tuples for a network of a list of layers."""
        if not self._parts.carries:
            raise ValueError("this session carries no state: a reverse direction starts anew at each sequence's end")
        return self._owner.join_state(self._get_state())

    @state.setter
    def state(self, value: Any) -> None:
        if value is None:
            self.reset()
            return
        if not self._parts.carries:
            raise ValueError("a carried state needs layers that run forward in time: a reverse direction starts anew")
        self._set_state(self._owner.check_state(value, self.batch_size))
        for head in self._heads.values():
            head.forget(None)

    def reset(self, rows: Any = None) -> None:
        """Begin anew: set the state to zero, of all sequences or of the given rows (numbers, or a mask).

        What pooling made of their steps is forgotten, and the vectors of whole sequences are: of all, so give them with
        the next step.
        """
        if rows is not None:
            rows = np.asarray(rows)
            mask = rows.dtype == bool and rows.shape == (self.batch_size,)
            numbers = rows.dtype.kind in "iu" and rows.ndim <= 1 and ((rows >= 0) & (rows < self.batch_size)).all()
            if not (mask or numbers or rows.size == 0):
                raise ValueError(
                    f"rows must be numbers from 0 to {self.batch_size - 1}, or a mask of {self.batch_size} flags; "
                    f"got {rows!r}"
                )
            rows = np.flatnonzero(rows) if mask else rows.astype(np.int64)
        self._reset(rows)
        for head in self._heads.values():
            head.forget(rows)
        if rows is None or rows.size:
            self._vectors = {}

    def refresh(self) -> None:
        """Take the parameters as they are now; the state stays."""
        self._snapshot = snapshot_of(self._owner, self._snapshot.storage)
        spaces: list[Workspace | None] = []
        for space, dense in ((self._dense, True), (self._symbols, False)):
            kind = self._kind(dense)
            spaces.append(None if space is None else self._snapshot.workspace(kind, self._owner.kernel_plan(kind)))
        heads = self._snapshot.heads(self._owner)
        for name, head in heads.items() if self._parts.carries else ():
            head.carry(self.batch_size, self._heads[name])
        self._dense, self._symbols = spaces
        self._heads = heads
        self._move()

    # ------------------------------------------------------------ what the compiled half calls

    def _kind(self, dense: bool) -> int:
        return DENSE if dense else next((kind for kind in self._owner._input_kinds() if kind != DENSE), DENSE)

    def _open(self, dense: bool) -> None:
        """Have a workspace for this kind of input."""
        if (self._dense if dense else self._symbols) is not None:
            return
        kind = self._kind(dense)
        space = self._snapshot.workspace(kind, self._owner.kernel_plan(kind))
        if dense:
            self._dense = space
        else:
            self._symbols = space
        self._move()

    def _move(self) -> None:
        self._move_to(self._dense, self._symbols, self._heads)

    def _need_steps(self) -> None:
        if not self._parts.carries:
            raise ValueError("step() runs forward in time only: use run() for bidirectional or reverse layers")

    def _step_input(self, x_t: Any) -> tuple[bool, Any]:
        """Return whether the input of a step is dense, and the input itself, checked."""
        self._need_steps()
        batch = self._checked(_checks.array(x_t, "x_t")[None], None)
        dense = batch.kind == DENSE
        self._open(dense)
        return dense, batch.x[0]

    def _step_of_parts(self, x_t: Any, out: Any) -> Any:
        """Run a step of a network with several parts as a run of one."""
        self._need_steps()
        net, axis = self._owner, int(self._owner.batch_first)

        def at_one_step(array: Any, by_step: bool = True) -> Any:
            return _checks.array(array, "x_t")[(slice(None),) * axis + (None,)] if by_step else array

        x, features = (x_t[0], x_t[1:]) if net.skip and isinstance(x_t, tuple) and x_t else (x_t, ())
        x = at_one_step(x) if net._reader is None else net._reader.each(x, at_one_step)
        if net.skip and isinstance(x_t, tuple):
            x = (x, *(None if part is None else at_one_step(part) for part in features))
        given: list[Any] = [None] * len(net.outputs)
        if out is not None:
            given = places.by_name(net.outputs, out, "out")
            for part, one in zip(net.outputs, given, strict=True):
                if one is not None:
                    _checks.out(one, (self.batch_size, part.head.outputs), net.dtype, np.empty(0))
            wide = [
                np.expand_dims(one, axis) if part.by_step and one is not None else one
                for part, one in zip(net.outputs, given, strict=True)
            ]
            out = places.joined(net.outputs, wide)
        made = places.by_name(net.outputs, self.run(x, out=out), "out")
        found = [
            one if one is not None else made_one.squeeze(axis) if part.by_step else made_one
            for part, one, made_one in zip(net.outputs, given, made, strict=True)
        ]
        return places.joined(net.outputs, found)

    def _refuse_out(self, out: Any) -> None:
        if is_network(self._owner):
            places.by_name(self._owner.outputs, out, "out")
        _checks.out(out, (self.batch_size, self._parts.outputs), self._owner.dtype, np.empty(0))

    def __reduce__(self) -> Any:
        raise TypeError("a session cannot be pickled: pickle the layer or network, and its state")
