"""Forward and backward passes as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnncore.torch.notices import notice
from rnncore.torch.workspaces import POOL, Lease, Pass

FUNCTIONS = {
    ("elman", "tanh"): torch.rnn_tanh,
    ("elman", "relu"): torch.rnn_relu,
    ("lstm", "tanh"): torch.lstm,
    ("gru", "tanh"): torch.gru,
}


def in_graph(tensors: Sequence[Tensor]) -> bool:
    """Whether what is computed from these tensors will want a backward pass."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def run(what: Pass, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return y and the final states, in the graph where anything needs a gradient."""
    tensors = (x, *states, *weights)
    if in_graph(tensors):
        return Recurrence.apply(what, *tensors)  # type: ignore[no-untyped-call]
    lease = POOL.lend(what.net)
    return lease.workspace.forward(what, x, states, weights, what.net.dropout > 0, False)


def _taped(what: Pass, tensors: Sequence[Tensor], want_dx: bool) -> tuple[Lease, tuple[Tensor, ...]]:
    """Run forward and keep the tape: a lease on the workspace that has it, and the outputs."""
    states, weights = _split(what, tensors)
    lease = POOL.lend(what.net)
    return lease, lease.workspace.forward(what, tensors[0], states, weights, True, want_dx)


def _split(what: Pass, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """States and weights of the tensors x, states, weights."""
    first = 1 + (len(what.net.states) if what.has_state else 0)
    return tensors[1:first], tensors[first:]


class Recurrence(torch.autograd.Function):
    """(x, initial states, weights) to (y, final states)."""

    @staticmethod
    def forward(ctx: Any, what: Pass, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return y and the final states."""
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.what = what
        lease, outputs = _taped(what, tensors, ctx.needs_input_grad[1])
        ctx.lease = lease if POOL.may_keep(lease) else None
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return nothing for `what`, and the gradients of the tensors."""
        what, tensors = ctx.what, ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return None, *_differentiable(what, tensors, douts, ctx.needs_input_grad[1:])
        lease, ctx.lease = ctx.lease, None  # a tape serves once: a second backward pass records another
        if lease is None:
            lease, _ = _taped(what, tensors, ctx.needs_input_grad[1])
        dx, dstates, dweights = lease.workspace.backward(what, douts[0], douts[1:])
        return None, dx, *dstates, *dweights


def _differentiable(
    what: Pass, tensors: Sequence[Tensor], douts: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients that have gradients themselves, by PyTorch's own code."""
    net = what.net
    if net.dropout > 0:
        raise RuntimeError(
            "rnncore.torch: gradients of gradients (create_graph=True) do not go through the dropout between layers: "
            "set dropout=0, or use torch.nn's module here"
        )
    notice("gradients of gradients (create_graph=True)")
    with torch.enable_grad():
        own = [tensor.view_as(tensor) for tensor in tensors]  # paths from x or a state to a weight are not ours
        states, weights = _split(what, own)
        if not states:
            shape = (net.units, what.batch.sequences)
            states = [torch.zeros(*shape, width, dtype=net.dtype, device="cpu") for width in net.states]
        start = list(states) if len(states) == 2 else states[0]
        options = (list(weights), net.bias, net.num_layers, 0.0, False, net.bidirectional)
        function: Any = FUNCTIONS[net.cell, net.activation]
        if what.batch_sizes is None:
            outputs = function(own[0], start, *options, False)
        else:
            outputs = function(own[0], what.batch_sizes, start, *options)
        pairs = [(output, dout) for output, dout in zip(outputs, douts, strict=True) if dout is not None]
        wanted = [tensor for tensor, need in zip(own, needed, strict=True) if need]
        gradients = iter(
            torch.autograd.grad(
                [output for output, _ in pairs],
                wanted,
                [dout for _, dout in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return [next(gradients) if need else None for need in needed]
