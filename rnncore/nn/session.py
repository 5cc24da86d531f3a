"""Sessions: streams on weights that are packed once, with a state that stays inside."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.heads import Head
from rnncore._core.plan import Plan
from rnncore._core.run import Workspace
from rnncore._core.session import Stepper, same_bytes
from rnncore._core.weights import Weights
from rnncore.nn import order

if TYPE_CHECKING:
    from rnncore.nn.network import Network
    from rnncore.nn.recurrent import Recurrent

DENSE = 0  # the kind of input, as the compiled core numbers it


class Snapshot:
    """Parameters as they were at one time, and what was packed of them: any number of sessions read one snapshot."""

    def __init__(self, owner: Recurrent | Network) -> None:
        self.theta = owner._theta.copy()
        self._weights: dict[int, Weights] = {}
        self._head: Head | None = None

    def still(self, owner: Recurrent | Network) -> bool:
        """Whether the owner's parameters are these, to the bit."""
        return same_bytes(self.theta, owner._theta)

    def workspace(self, kind: int, plan: Plan) -> Workspace:
        """Return a new workspace on the packed weights."""
        if kind not in self._weights:
            self._weights[kind] = Weights(plan, self.theta)
        return Workspace(plan, self._weights[kind])

    def head(self, new: Head) -> Head:
        """Let a new head read the packed projection."""
        if self._head is None:
            self._head = new
            new.hold(self.theta)
        else:
            new.hold(self.theta, self._head)
        return new


def snapshot_of(owner: Recurrent | Network) -> Snapshot:
    """Return a snapshot of the owner's parameters: one that a session has already, if they are still the same."""
    kept = owner._snapshot() if owner._snapshot is not None else None
    if kept is None or not kept.still(owner):
        kept = Snapshot(owner)
        owner._snapshot = weakref.ref(kept)
    return kept


class Parts(NamedTuple):
    """What a session takes from a layer or a network."""

    widths: list[tuple[int, int]]  # of a state's arrays: units, numbers
    inputs: int
    outputs: int
    carries: bool  # a state, which layers do that run forward in time


class Session(Stepper):
    """One stream, or ``batch_size`` streams side by side, through a layer or a network.

    Made by ``layer.session(…)`` or ``net.session(…)``. Weights are packed once, memory is kept, and the state stays
    inside from call to call; nothing is dropped out. Sessions made of the same parameters share packed weights. What
    is trained later reaches a session by ``refresh()``.

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

    _owner: Recurrent | Network
    _parts: Parts
    _snapshot: Snapshot

    def __new__(cls, owner: Recurrent | Network, batch_size: int = 1, weight_dtype: Any = None) -> Session:
        """Make a session; `layer.session` and `net.session` do."""
        batch_size = _checks.whole(batch_size, "batch_size")
        check_weight_dtype(weight_dtype, owner.dtype)
        parts = owner._session_parts()
        state = None
        if parts.carries:
            state = [np.zeros((units, batch_size, width), dtype=owner.dtype) for units, width in parts.widths]
        snapshot = snapshot_of(owner)
        first = owner._input_kinds()[0]
        space = snapshot.workspace(first, owner.kernel_plan(first))
        head = owner._session_head()
        made: Session = super().__new__(  # type: ignore[call-arg]
            cls,
            space if first == DENSE else None,
            None if first == DENSE else space,
            None if head is None else snapshot.head(head),
            state,
            batch_size,
            parts.inputs,
            parts.outputs,
            owner.dtype.itemsize,
            _threads.resolve(owner.n_threads),
        )
        made._owner, made._parts, made._snapshot = owner, parts, snapshot
        made._dense, made._symbols = (space, None) if first == DENSE else (None, space)
        return made

    _dense: Workspace | None
    _symbols: Workspace | None

    def run(self, x: Any, lengths: Any = None, out: np.ndarray | None = None) -> np.ndarray:
        """Run whole sequences, going on from the state; the bits are those of ``forward`` (or ``predict``).

        Parameters
        ----------
        x : array (T, B, D), or ids (T, B), or bags of ids (T, B, F)
            Of a network with sparse features a tuple, as for ``predict``.
        lengths : array (B,) of ints, optional
            Steps of each sequence, in 1..T. The state goes on from each one's own end.
        out : array (T, B, F), optional
            Where the result goes.

        Returns
        -------
        array (T, B, F), or (T, B, K) of a network
            Zero after a sequence's end.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        RuntimeError
            If another Python thread is using this session.
        """
        if not self._owner.batch_first:
            return self._run_time_first(x, lengths, out)
        x = order.time_first(x, "x")
        rows = x[0] if isinstance(x, tuple) and x else x
        if out is not None and getattr(rows, "ndim", 0) > 1:
            order.check_out(out, rows.shape[0], rows.shape[1], self._parts.outputs, self._owner.dtype, rows)
        return order.batch_first(self._run_time_first(x, lengths, None), out)

    def _run_time_first(self, x: Any, lengths: Any, out: np.ndarray | None) -> np.ndarray:
        dense, x, sizes, ids, values = self._owner._session_input(x, lengths)
        if x.shape[1] != self.batch_size:
            raise ValueError(
                f"this session is for {self.batch_size} sequences side by side, got {x.shape[1]}: make another one "
                f"with batch_size={x.shape[1]}"
            )
        if out is not None:
            out = _checks.out(out, (*x.shape[:2], self._parts.outputs), self._owner.dtype, x)
        self._open(dense)
        return self._run(dense, x, sizes, out, ids, values)

    @property
    def state(self) -> Any:
        """The state: a tuple of arrays (layers, B, H), copies; a list of tuples for a network of a list of layers."""
        if not self._parts.carries:
            raise ValueError("this session carries no state: a reverse direction starts anew at each sequence's end")
        return self._owner._session_state(self._get_state())

    @state.setter
    def state(self, value: Any) -> None:
        if value is None:
            self.reset()
            return
        if not self._parts.carries:
            raise ValueError("a carried state needs layers that run forward in time: a reverse direction starts anew")
        self._set_state(self._owner._session_arrays(value, self.batch_size))

    def reset(self, rows: Any = None) -> None:
        """Begin anew: set the state to zero, of all sequences or of the given rows (numbers, or a mask)."""
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

    def refresh(self) -> None:
        """Take the parameters as they are now; the state stays."""
        self._snapshot = snapshot_of(self._owner)
        spaces: list[Workspace | None] = []
        for space, dense in ((self._dense, True), (self._symbols, False)):
            kind = self._kind(dense)
            spaces.append(None if space is None else self._snapshot.workspace(kind, self._owner.kernel_plan(kind)))
        head = self._owner._session_head()
        self._dense, self._symbols = spaces
        self._move_to(self._dense, self._symbols, None if head is None else self._snapshot.head(head))

    # ------------------------------------------------------------ what the compiled half calls

    def _kind(self, dense: bool) -> int:
        return DENSE if dense else next(kind for kind in self._owner._input_kinds() if kind != DENSE)

    def _open(self, dense: bool) -> None:
        """Have a workspace for this kind of input."""
        if (self._dense if dense else self._symbols) is not None:
            return
        kind = self._kind(dense)
        space = self._snapshot.workspace(kind, self._owner.kernel_plan(kind))
        self._symbols = space  # numbers have theirs from the start, where they are read at all
        head = self._owner._session_head()
        self._move_to(self._dense, self._symbols, None if head is None else self._snapshot.head(head))

    def _step_input(self, x_t: Any) -> tuple[bool, Any]:
        """Return whether the input of a step is dense, and the input itself, checked."""
        if not self._parts.carries:
            raise ValueError("step() runs forward in time only: use run() for bidirectional or reverse layers")
        if isinstance(x_t, tuple):
            return False, tuple(None if part is None else _checks.array(part, "x_t")[None] for part in x_t)
        dense, x, _, _, _ = self._owner._session_input(_checks.array(x_t, "x_t")[None], None)
        if x.shape[1] != self.batch_size:
            raise ValueError(f"this session is for {self.batch_size} sequences side by side, got {x.shape[1]}")
        self._open(dense)
        return dense, x[0]

    def _step_with_features(self, x: tuple[Any, ...], out: np.ndarray | None) -> np.ndarray:
        y = self._run_time_first(x, None, None if out is None else out[None])
        return y[0] if out is None else out

    def _refuse_out(self, out: Any) -> None:
        _checks.out(out, (self.batch_size, self._parts.outputs), self._owner.dtype, np.empty(0))

    def __reduce__(self) -> Any:
        raise TypeError("a session cannot be pickled: pickle the layer or network, and its state")


def check_weight_dtype(value: Any, dtype: np.dtype) -> None:
    """Refuse a type of weights that there are no kernels for."""
    if value is not None and str(value) != dtype.name:
        raise ValueError(f"weight_dtype must be {dtype.name!r}, the layers' own, or None; got {value!r}")
