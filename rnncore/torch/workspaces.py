"""Where one pass over torch's tensors happens: an engine with parameters of its own, lent from a pool.

An engine's forward pass leaves what its backward pass needs in its own memory. Several forward passes may precede their
backward passes in a graph, so each takes a workspace to itself, and hands it back when it is done.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnncore._core.schedule import Batch
from rnncore._core.stack import Stack
from rnncore.nn.recurrent import DENSE, Recurrent

IDLE_BYTES = 1 << 30  # workspaces beyond this, the longest unused first, are let go
LENT_BYTES = 1 << 30  # tapes beyond this are not kept: their backward passes run the forward pass again


class Net(NamedTuple):
    """All that distinguishes one engine from another."""

    cell: str
    activation: str
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    dropout: float
    dtype: torch.dtype

    @property
    def units(self) -> int:
        """Layers times directions."""
        return self.num_layers * (2 if self.bidirectional else 1)

    @property
    def output(self) -> int:
        """Numbers that one unit puts out at a step."""
        return self.proj_size or self.hidden_size

    @property
    def states(self) -> tuple[int, ...]:
        """Widths of the arrays that make a state: h, or h and c."""
        return (self.output, self.hidden_size) if self.cell == "lstm" else (self.output,)


class Pass(NamedTuple):
    """What a forward pass depends on besides its tensors; running it again gives the same bits."""

    net: Net
    batch: Batch
    batch_sizes: Tensor | None  # of a PackedSequence
    has_state: bool
    threads: int
    seed: int  # of the dropout masks


class Unit(NamedTuple):
    """Views of the parameters of one direction of one layer, or of their gradients, under our names."""

    W_xh: Tensor
    W_hh: Tensor
    b_h: Tensor
    b_hn: Tensor | None  # the GRU's
    W_hr: Tensor | None  # the projected LSTM's

    def load(self, w_ih: Tensor, w_hh: Tensor, *others: Tensor) -> None:
        """Take torch's parameters of the unit; biases and projection are there or not."""
        self.W_xh.copy_(w_ih.t())
        self.W_hh.copy_(w_hh.t())
        if self.W_hr is not None:
            self.W_hr.copy_(others[-1].t())
        if len(others) < 2:
            return
        b_ih, b_hh = others[:2]
        if self.b_hn is None:
            torch.add(b_ih, b_hh, out=self.b_h)
            return
        at = 2 * self.b_hn.shape[0]  # n's biases stay apart: one of them is inside the reset gate's product
        torch.add(b_ih[:at], b_hh[:at], out=self.b_h[:at])
        self.b_h[at:].copy_(b_ih[at:])
        self.b_hn.copy_(b_hh[at:])

    def as_torch(self, bias: bool) -> list[Tensor]:
        """Return new tensors in the shapes of torch's parameters; no two share memory."""
        arrays = [_transposed(self.W_xh), _transposed(self.W_hh)]
        if bias:
            hidden = self.b_h.clone()
            if self.b_hn is not None:
                hidden[-self.b_hn.shape[0] :] = self.b_hn
            arrays += [self.b_h.clone(), hidden]
        if self.W_hr is not None:
            arrays.append(_transposed(self.W_hr))
        return arrays


def _transposed(matrix: Tensor) -> Tensor:
    """Return a copy, row by row; contiguous() would not copy a matrix of one row."""
    return matrix.t().clone(memory_format=torch.contiguous_format)


def array_of(tensor: Tensor) -> np.ndarray:
    """Return a tensor's numbers as a C-contiguous array, without copying where they are that already."""
    return tensor.detach().resolve_neg().contiguous().numpy()


class Workspace:
    """An engine, its parameters and its gradients."""

    def __init__(self, net: Net) -> None:
        self.net = net
        options: dict[str, Any] = {"proj_size": net.proj_size} if net.proj_size else {}
        layer = Recurrent(
            net.cell,
            net.input_size,
            net.hidden_size,
            num_layers=net.num_layers,
            bidirectional=net.bidirectional,
            activation=net.activation,
            dropout=net.dropout,
            dtype="float64" if net.dtype == torch.float64 else "float32",
            **options,
        )
        self.stack: Stack = layer._stack(DENSE)
        self.layer = layer
        layer.theta[...] = 0
        with torch.inference_mode(False):  # tensors made in that mode could not be written to outside it
            self.units = self._views(layer.params)
            self.gradients = self._views(layer.grads)

    def _views(self, arrays: Mapping[str, np.ndarray]) -> list[Unit]:
        views = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return [
            Unit(*(views.get(f"layers.{n}.{direction}.{name}") for name in Unit._fields))  # type: ignore[arg-type]
            for n in range(self.net.num_layers)
            for direction in self.layer.directions
        ]

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(self.stack.sizes()) + 2 * self.layer.theta.nbytes

    def forward(
        self, what: Pass, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], tape: bool, want_dx: bool
    ) -> tuple[Tensor, ...]:
        """Return y and the final states; with `tape` a backward pass may follow.

        x and y are (T, B, ...), or the rows of a PackedSequence; states (units, B, H).
        """
        per_unit = len(weights) // len(self.units)
        with torch.no_grad():
            for n, unit in enumerate(self.units):
                unit.load(*weights[n * per_unit : (n + 1) * per_unit])
        self.stack.forward(what.batch, array_of(x), _by_unit(states), tape, want_dx, what.threads, what.seed, 0)
        final = self.stack.final_states()
        count = len(self.net.states)
        joined = [torch.from_numpy(np.stack(final[i::count])) for i in range(count)]
        return torch.from_numpy(self.stack.outputs()), *joined

    def backward(
        self, what: Pass, dy: Tensor | None, dstates: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """Return the gradients of x (if it was asked for), of the initial states and of the weights."""
        net, batch = self.net, what.batch
        if dy is None:
            rows = (batch.steps, batch.sequences) if what.batch_sizes is None else (batch.rows,)
            dy = torch.zeros(*rows, net.output * (2 if net.bidirectional else 1), dtype=net.dtype, device="cpu")
        units = None
        if any(part is not None for part in dstates):
            units = _by_unit(
                [
                    torch.zeros(net.units, batch.sequences, width, dtype=net.dtype, device="cpu")
                    if part is None
                    else part
                    for part, width in zip(dstates, net.states, strict=True)
                ]
            )
        self.stack.set_output_gradient(array_of(dy), units is None)
        dx, initial = self.stack.backward(units, False)
        count = len(net.states)
        dinitial = [torch.from_numpy(np.stack(initial[i::count])) for i in range(count)] if initial else []
        dweights = [tensor for unit in self.gradients for tensor in unit.as_torch(net.bias)]
        return None if dx is None else torch.from_numpy(dx), dinitial, dweights


def _by_unit(states: Sequence[Tensor]) -> list[np.ndarray] | None:
    """Arrays (B, H), the states of each unit in turn."""
    arrays = [array_of(part) for part in states]
    return [part[n] for n in range(len(arrays[0])) for part in arrays] if arrays else None


class Lease:
    """A workspace in use; it goes back to the pool when its holder is done or forgotten."""

    __slots__ = ("bytes", "pool", "workspace")

    def __init__(self, pool: Pool, workspace: Workspace) -> None:
        self.pool, self.workspace, self.bytes = pool, workspace, 0

    def __del__(self) -> None:
        self.pool.take_back(self)


class Pool:
    """Workspaces that wait for the next pass, the longest unused first."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collected Lease may come back while its own thread is in here
        self._idle: list[Workspace] = []
        self.lent_bytes = 0

    def lend(self, net: Net) -> Lease:
        """Return a lease on a workspace for such a net."""
        with self._lock:
            for n in range(len(self._idle) - 1, -1, -1):
                if self._idle[n].net == net:
                    return Lease(self, self._idle.pop(n))
        return Lease(self, Workspace(net))

    def may_keep(self, lease: Lease) -> bool:
        """Whether a tape may stay until its backward pass; if so, its memory counts as lent."""
        with self._lock:
            if self.lent_bytes > LENT_BYTES:
                return False
            lease.bytes = lease.workspace.bytes
            self.lent_bytes += lease.bytes
            return True

    def take_back(self, lease: Lease) -> None:
        """Keep a workspace for later."""
        with self._lock:
            self.lent_bytes -= lease.bytes
            self._idle.append(lease.workspace)
            held = sum(workspace.bytes for workspace in self._idle)
            while held > IDLE_BYTES and len(self._idle) > 1:
                held -= self._idle.pop(0).bytes


POOL = Pool()
