"""Forward and backward passes as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnncore._core.memory import Saved
from rnncore.torch.notices import notice
from rnncore.torch.workspaces import POOL, Pass, SavedMemory, array_of

FUNCTIONS = {
    ("elman", "tanh"): torch.rnn_tanh,
    ("elman", "relu"): torch.rnn_relu,
    ("lstm", "tanh"): torch.lstm,
    ("gru", "tanh"): torch.gru,
}
DIFFERENTIABLE = "gradients of gradients (create_graph=True)"
BATCHED = "batched gradients (is_grads_batched=True)"

# PyTorch's own, without public names. Where a version lacks them, saved memory is never written to: that is right, too,
# but wants more scratch memory.
_autograd, _functorch = torch._C._autograd, torch._C._functorch


def _has_hooks() -> bool:
    """Whether hooks see what is saved now."""
    try:
        return _autograd._top_saved_tensors_default_hooks(False) is not None
    except (AttributeError, TypeError):
        return True


def _keeps_graph() -> bool:
    """Whether the backward pass at hand may be followed by another one over the same graph."""
    try:
        return bool(_autograd._get_current_graph_task_keep_graph())
    except AttributeError:
        return True


def _is_batched(tensor: Tensor) -> bool:
    """Whether vmap made it: then it stands for many."""
    return bool(_functorch.is_legacy_batchedtensor(tensor) or _functorch.is_functorch_wrapped_tensor(tensor))


def in_graph(tensors: Sequence[Tensor]) -> bool:
    """Whether what is computed from these tensors will want a backward pass."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def run(what: Pass, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return y and the final states, in the graph where anything needs a gradient."""
    tensors = (x, *states, *weights)
    if in_graph(tensors):
        return Recurrence.apply(what, *tensors)  # type: ignore[no-untyped-call]
    with POOL.lend(what.net) as workspace:
        workspace.load(weights, None)
        return workspace.forward(what, x, states, None)


def _split(what: Pass, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """States and weights of the tensors x, states, weights."""
    first = 1 + (len(what.net.states) if what.has_state else 0)
    return tensors[1:first], tensors[first:]


class Recurrence(torch.autograd.Function):
    """(x, initial states, weights) to (y, final states).

    Everything that backward reads is among the saved tensors, for hooks and checkpoints to see: the tensors it was
    given, and last the engine's saved memory, as bytes. The context itself keeps only how that memory is laid out.
    """

    @staticmethod
    def forward(ctx: Any, what: Pass, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return y and the final states."""
        ctx.set_materialize_grads(False)
        states, weights = _split(what, tensors)
        memory = SavedMemory()
        saved = Saved(memory)
        ctx.what, ctx.pass_ = what, object()
        with POOL.lend(what.net) as workspace:
            workspace.load(weights, ctx.pass_)
            outputs = workspace.forward(what, tensors[0], states, saved)
        # Hooks may hand the same tensor to several nodes, or keep it: only what nobody else has may be written to.
        ctx.ours_alone = not _has_hooks()
        saved.detach()
        ctx.layout = saved
        ctx.save_for_backward(*tensors, memory.take())
        return outputs

    @staticmethod
    def backward(ctx: Any, *douts: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return nothing for `what`, and the gradients of the tensors."""
        what = ctx.what
        *tensors, memory = ctx.saved_tensors
        batched = any(dout is not None and _is_batched(dout) for dout in douts)
        if batched or torch.is_grad_enabled():
            return None, *_by_torch(what, tensors, douts, ctx.needs_input_grad[1:], batched)
        consume = ctx.ours_alone and not _keeps_graph()
        saved = ctx.layout.attached(array_of(memory), array_of(tensors[0]), None)
        with POOL.lend(what.net, ctx.pass_) as workspace:
            workspace.load(_split(what, tensors)[1], ctx.pass_)
            dx, dstates, dweights = workspace.backward(
                what, saved, douts[0], douts[1:], ctx.needs_input_grad[1], consume
            )
        return None, dx, *dstates, *dweights


def _by_torch(
    what: Pass, tensors: Sequence[Tensor], douts: Sequence[Tensor | None], needed: Sequence[bool], batched: bool
) -> list[Tensor | None]:
    """Gradients that have gradients themselves, or of several losses at once, by PyTorch's own code."""
    net = what.net
    kind = BATCHED if batched else DIFFERENTIABLE
    if net.dropout > 0:
        raise RuntimeError(
            f"rnncore.torch: {kind} do not go through the dropout between layers: set dropout=0, or use torch.nn's "
            "module here"
        )
    notice(kind)
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):  # in the dtype of the tensors
        own = [tensor.view_as(tensor) for tensor in tensors]  # paths from x or a state to a weight are not ours
        states, weights = _split(what, own)
        if not states:
            shape = (net.units, what.schedule.sequences)
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
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return [next(gradients) if need else None for need in needed]
