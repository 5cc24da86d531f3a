"""Where one pass over torch's tensors happens: an engine with parameters of its own, lent from a pool.

A workspace is lent for one pass, forward or backward, and goes back to the pool at its end. What a backward pass needs
of its forward pass is not in there but in a tensor, which autograd keeps, moves, or drops and computes again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnncore._core.memory import Saved
from rnncore._core.run import Workspace as Engine
from rnncore._core.schedule import Schedule
from rnncore.nn.recurrent import DENSE, Recurrent

IDLE_BYTES = 1 << 30  # workspaces beyond this, the longest unused first, are let go
LINE = 64  # bytes: what saved memory is aligned to
NOTHING = torch.empty(0, dtype=torch.uint8, device="cpu")


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
    mixed: bool  # operands of products rounded to bfloat16, beside float32

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
    schedule: Schedule
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
            dtype="mixed_bfloat16" if net.mixed else "float64" if net.dtype == torch.float64 else "float32",
            **options,
        )
        self.engine = Engine(layer.kernel_plan(DENSE))
        self.directions = layer.directions
        self.theta, self.grad = layer.theta, layer.grad
        self.theta[...] = 0
        self.unkept = Saved()  # of a pass that drops out, but has no backward pass
        self.loaded: object = None  # the forward pass whose weights theta holds
        with torch.inference_mode(False):  # tensors made in that mode could not be written to outside it
            self.units = self._views(layer.params)
            self.gradients = self._views(layer.grads)

    def _views(self, arrays: Mapping[str, np.ndarray]) -> list[Unit]:
        views = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return [
            Unit(*(views.get(f"layers.{n}.{direction}.{name}") for name in Unit._fields))  # type: ignore[arg-type]
            for n in range(self.net.num_layers)
            for direction in self.directions
        ]

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(self.engine.sizes()) + self.unkept.size() + self.theta.nbytes + self.grad.nbytes

    def load(self, weights: Sequence[Tensor], pass_: object) -> None:
        """Bring torch's parameters into the engine's order, unless they are there since that very forward pass."""
        if pass_ is not None and self.loaded is pass_:
            return
        self.loaded = None
        per_unit = len(weights) // len(self.units)
        with torch.no_grad():
            for n, unit in enumerate(self.units):
                unit.load(*weights[n * per_unit : (n + 1) * per_unit])
        self.loaded = pass_

    def forward(self, what: Pass, x: Tensor, states: Sequence[Tensor], saved: Saved | None) -> tuple[Tensor, ...]:
        """Return y and the final states; a backward pass may follow if there is saved memory.

        x and y are (T, B, ...), or the rows of a PackedSequence; states (units, B, H). y is the caller's, to write to.
        """
        if saved is None and what.net.dropout > 0:
            saved = self.unkept
        initial = [array_of(part) for part in states] or None
        options = (saved, what.threads, what.seed, 0, None, True, None, saved is None)
        y = self.engine.forward(self.theta, what.schedule, array_of(x), initial, *options)
        final = self.engine.final_states()
        self.engine.release()
        return torch.from_numpy(y), *(torch.from_numpy(part) for part in final)

    def backward(
        self,
        what: Pass,
        saved: Saved,
        dy: Tensor | None,
        dstates: Sequence[Tensor | None],
        want_dx: bool,
        consume: bool,
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """Return the gradients of x (if it is wanted), of the initial states and of the weights.

        With `consume` the saved memory is written to; else it is only read.
        """
        net, schedule = self.net, what.schedule
        if dy is None:
            rows = (schedule.steps, schedule.sequences) if what.batch_sizes is None else (schedule.rows,)
            dy = torch.zeros(*rows, net.output * (2 if net.bidirectional else 1), dtype=net.dtype, device="cpu")
        dfinal = None
        if any(part is not None for part in dstates):
            dfinal = [
                np.zeros((net.units, schedule.sequences, width), self.theta.dtype) if part is None else array_of(part)
                for part, width in zip(dstates, net.states, strict=True)
            ]
        dx, initial = self.engine.backward(self.theta, self.grad, saved, array_of(dy), dfinal, False, want_dx, consume)
        self.engine.release()
        dinitial = [torch.from_numpy(part) for part in initial or ()]
        dweights = [tensor for unit in self.gradients for tensor in unit.as_torch(net.bias)]
        return None if dx is None else torch.from_numpy(dx), dinitial, dweights


class SavedMemory:
    """What the engine asks for saved memory: it gets that of a tensor."""

    def __init__(self) -> None:
        self.tensor = NOTHING

    def __call__(self, size: int) -> np.ndarray:
        """Return so many bytes, aligned: what is not would be copied."""
        self.tensor = torch.empty(size, dtype=torch.uint8, device="cpu")
        start = -self.tensor.data_ptr() % LINE
        if start:
            self.tensor = torch.empty(size + LINE, dtype=torch.uint8, device="cpu")
            start = -self.tensor.data_ptr() % LINE
            self.tensor = self.tensor[start : start + size]
        return self.tensor.numpy()

    def take(self) -> Tensor:
        """Return the tensor, and forget it: the engine may go on knowing us, but not it."""
        tensor, self.tensor = self.tensor, NOTHING
        return tensor


class Pool:
    """Workspaces that wait for the next pass, the longest unused first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Workspace] = []

    @contextmanager
    def lend(self, net: Net, pass_: object = None) -> Iterator[Workspace]:
        """Lend a workspace for such a net; if it is there, the one that has the weights of that forward pass."""
        workspace = self._take(net, pass_)
        try:
            yield workspace
        except BaseException:
            workspace.loaded = None
            raise
        finally:
            self._give_back(workspace)

    def _take(self, net: Net, pass_: object) -> Workspace:
        with self._lock:
            fitting = [n for n, workspace in enumerate(self._idle) if workspace.net == net]
            if fitting:
                return self._idle.pop(next((n for n in fitting if self._idle[n].loaded is pass_), fitting[-1]))
        return Workspace(net)

    def _give_back(self, workspace: Workspace) -> None:
        with self._lock:
            self._idle.append(workspace)
            held = sum(workspace.bytes for workspace in self._idle)
            while held > IDLE_BYTES and len(self._idle) > 1:
                held -= self._idle.pop(0).bytes

    def renew_lock(self) -> None:
        """After a fork: a thread that is not here any more may have had the lock."""
        self._lock = threading.Lock()


POOL = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.renew_lock)
