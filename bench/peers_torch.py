"""PyTorch doing what rnncore does: a whole training step, a layer alone, and a layer on a PackedSequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bench import weights
from bench.shapes import Shape
from bench.weights import Arrays

_MODULES: dict[str, Any] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def set_threads(threads: int) -> None:
    torch.set_num_threads(threads)


def _layer(cell: str, shape: Shape, dtype: str, start: Arrays, kind: Any = None) -> Any:
    module: Any = (kind or _MODULES[cell])(shape.D, shape.H, dtype=getattr(torch, dtype))
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.from_numpy(start["W_xh"].T))
        module.weight_hh_l0.copy_(torch.from_numpy(start["W_hh"].T))
        module.bias_ih_l0.copy_(torch.from_numpy(start["b_h"]))
        module.bias_hh_l0.zero_()  # PyTorch has a second bias; its gradient is the first one's
        if cell == "gru":
            module.bias_hh_l0[2 * shape.H :].copy_(torch.from_numpy(start["b_hn"]))
    return module


def _named(cell: str, module: Any) -> dict[str, torch.Tensor]:
    """PyTorch's tensors under rnncore's names (still transposed)."""
    named = {"W_xh": module.weight_ih_l0, "W_hh": module.weight_hh_l0, "b_h": module.bias_ih_l0}
    if cell == "gru":
        named["b_hn"] = module.bias_hh_l0
    return named


def _arrays(cell: str, shape: Shape, tensors: dict[str, torch.Tensor]) -> Arrays:
    arrays = {name: np.ascontiguousarray(tensor.detach().numpy().T) for name, tensor in tensors.items()}
    if cell == "gru":
        arrays["b_hn"] = arrays["b_hn"][2 * shape.H :]
    return arrays


class Step:
    """Layer + Linear + cross-entropy + SGD, through autograd as its users write it; no gradient of the input."""

    name = "PyTorch"

    def __init__(self, cell: str, shape: Shape, dtype: str, outputs: int, learning_rate: float) -> None:
        start = weights.initial(cell, shape, dtype, outputs)
        self.cell, self.shape, self.outputs = cell, shape, outputs
        self.layer = _layer(cell, shape, dtype, start)
        self.linear = nn.Linear(shape.H, outputs, dtype=getattr(torch, dtype))
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(start["W_hy"].T))
            self.linear.bias.copy_(torch.from_numpy(start["b_y"]))
        parameters = [*self.layer.parameters(), *self.linear.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=learning_rate)
        self.x = torch.from_numpy(weights.inputs(shape, dtype))
        self.targets = torch.from_numpy(weights.targets(shape, outputs)).reshape(-1)
        self.loss = torch.tensor(0.0)

    def call(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        y, _ = self.layer(self.x)
        scores = self.linear(y)
        self.loss = nn.functional.cross_entropy(scores.view(-1, self.outputs), self.targets)
        self.loss.backward()
        self.optimizer.step()

    def results(self) -> Arrays:
        tensors = _named(self.cell, self.layer)
        arrays = _arrays(self.cell, self.shape, {**tensors, "W_hy": self.linear.weight, "b_y": self.linear.bias})
        return {**arrays, "loss": self.loss.detach().numpy()}


class Layer:
    """Forward and backward of the layer alone, with the gradient of the input.

    With `lengths` it packs its padded input and pads its packed output, as code around a PackedSequence must.
    """

    name = "PyTorch"

    def __init__(self, cell: str, shape: Shape, dtype: str, lengths: np.ndarray | None = None) -> None:
        self.cell, self.shape = cell, shape
        self.layer = _layer(cell, shape, dtype, weights.initial(cell, shape, dtype))
        self.x = torch.from_numpy(weights.inputs(shape, dtype)).requires_grad_()
        self.dy = torch.from_numpy(weights.output_gradient(shape, dtype))
        self.lengths: Any = None if lengths is None else torch.from_numpy(lengths)
        self.y = self.x
        self.tensors = [self.x, *_named(cell, self.layer).values()]
        self.grads: tuple[torch.Tensor, ...] = ()

    def call(self) -> None:
        if self.lengths is None:
            self.y, _ = self.layer(self.x)
        else:
            packed = pack_padded_sequence(self.x, self.lengths, enforce_sorted=False)
            y, _ = self.layer(packed)
            self.y, _ = pad_packed_sequence(y, total_length=self.shape.T)
        self.grads = torch.autograd.grad(self.y, self.tensors, self.dy)

    def results(self) -> Arrays:
        names = _named(self.cell, self.layer)
        arrays = _arrays(self.cell, self.shape, dict(zip(names, self.grads[1:], strict=True)))
        return {**arrays, "y": self.y.detach().numpy(), "dx": self.grads[0].numpy()}


class Autocast(Layer):
    """`Layer` with parameters in float32 and products in bfloat16, as PyTorch's users ask for it."""

    name = "PyTorch, autocast"

    def __init__(self, cell: str, shape: Shape) -> None:
        super().__init__(cell, shape, "float32")

    def call(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            self.y, _ = self.layer(self.x)
        self.grads = torch.autograd.grad(self.y, self.tensors, self.dy.to(self.y.dtype))
        self.y = self.y.float()


class AlreadyPacked(Layer):
    """Ragged `Layer` whose data come and stay packed and sorted: less than any user's job, PyTorch at its best."""

    name = "PyTorch, already packed"

    def __init__(self, cell: str, shape: Shape, dtype: str, lengths: np.ndarray) -> None:
        super().__init__(cell, shape, dtype, lengths)
        order = torch.from_numpy(np.argsort(-lengths, kind="stable"))
        packed_x = pack_padded_sequence(self.x.detach()[:, order], self.lengths[order])
        self.batch_sizes = packed_x.batch_sizes
        self.dy = pack_padded_sequence(self.dy[:, order], self.lengths[order]).data
        self.tensors[0] = packed_x.data.clone().requires_grad_()

    def call(self) -> None:
        packed_y, _ = self.layer(PackedSequence(self.tensors[0], self.batch_sizes))
        self.grads = torch.autograd.grad(packed_y.data, self.tensors, self.dy)

    def results(self) -> Arrays:
        names = _named(self.cell, self.layer)
        return _arrays(self.cell, self.shape, dict(zip(names, self.grads[1:], strict=True)))


class Script:
    """A training step around the module alone, by torch.nn's or a module of another `kind`: full or already packed."""

    def __init__(
        self, name: str, kind: Any, cell: str, shape: Shape, dtype: str, lengths: np.ndarray | None, rate: float
    ) -> None:
        self.name, self.cell, self.shape = name, cell, shape
        self.layer = _layer(cell, shape, dtype, weights.initial(cell, shape, dtype), kind)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=rate)
        self.x: Any = torch.from_numpy(weights.inputs(shape, dtype))
        self.dy = torch.from_numpy(weights.output_gradient(shape, dtype))
        if lengths is not None:
            order = torch.from_numpy(np.argsort(-lengths, kind="stable"))
            sizes = torch.from_numpy(lengths)[order]
            self.x = pack_padded_sequence(self.x[:, order], sizes)
            self.dy = pack_padded_sequence(self.dy[:, order], sizes).data

    def call(self) -> None:
        self.optimizer.zero_grad()
        y, _ = self.layer(self.x)
        y = y.data if isinstance(y, PackedSequence) else y
        y.backward(self.dy)
        self.optimizer.step()

    def results(self) -> Arrays:
        return _arrays(self.cell, self.shape, _named(self.cell, self.layer))


class Inference:
    """One forward pass from given states under inference_mode: torch.nn's layer, or for one step its cell."""

    peer = "PyTorch"

    def __init__(self, cell: str, shape: Shape, cell_module: bool) -> None:
        self.name = f"PyTorch, {'cell' if cell_module else 'layer'}"
        start = weights.initial(cell, shape, "float32")
        self.module = _layer(cell, shape, "float32", start).eval()
        given = [torch.from_numpy(state) for state in weights.states(shape, "float32", 2 if cell == "lstm" else 1)]
        self.x = torch.from_numpy(weights.inputs(shape, "float32"))
        if cell_module:
            single = {"elman": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[cell](shape.D, shape.H)
            single.load_state_dict({name.removesuffix("_l0"): p for name, p in self.module.state_dict().items()})
            self.module, self.x = single.eval(), self.x[0]
        else:
            given = [state[None] for state in given]
        self.cell_module = cell_module
        self.state: Any = tuple(given) if cell == "lstm" else given[0]
        self.found: Any = ()

    def call(self) -> None:
        with torch.inference_mode():
            self.found = self.module(self.x, self.state)

    def results(self) -> Arrays:
        if self.cell_module:
            states = self.found if isinstance(self.found, tuple) else (self.found,)
            y = states[0][None]
        else:
            y, last = self.found
            states = [state[0] for state in (last if isinstance(last, tuple) else (last,))]
        return {"y": y.numpy(), **{name: state.numpy() for name, state in zip("hc", states, strict=False)}}


def forms(cell: str, shape: Shape, threads: int) -> list[Inference]:
    """Every way to ask for it; the fastest counts."""
    set_threads(threads)
    return [Inference(cell, shape, cell_module) for cell_module in ([False, True] if shape.T == 1 else [False])]
