"""Sub-classes of torch.nn's recurrent modules whose passes run on rnncore's kernels."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from rnncore._core.kernels import MAX_THREADS
from rnncore._core.schedule import Schedule
from rnncore.torch.autograd import in_graph, run
from rnncore.torch.notices import notice, say_once
from rnncore.torch.workspaces import Net, Pass

MODES = {
    "RNN_TANH": ("elman", "tanh", 1),
    "RNN_RELU": ("elman", "relu", 1),
    "LSTM": ("lstm", "tanh", 4),
    "GRU": ("gru", "tanh", 3),
}
# Measured: with H units and fewer than H/32 rows (H/16 without gradients) PyTorch's own code is faster.
ROWS_OF_TRAINING, ROWS_OF_INFERENCE = 32, 16
PLAIN = (Tensor, torch.nn.Parameter)
DTYPES = (torch.float32, torch.float64)


class _OnRnncore(torch.nn.RNNBase):
    """What the three classes have in common: deciding who computes, and the shapes around it."""

    _plain: type[torch.nn.RNNBase]

    def forward(self, input: Any, hx: Any = None) -> Any:  # type: ignore[override]
        """Run the layers, as torch.nn's module of the same name does."""
        proxy = _proxy_in(input, hx)
        if proxy is not None and (path := _path_in(proxy.tracer.root, self)):
            return proxy.tracer.create_proxy("call_module", path, (input,) if hx is None else (input, hx), {})
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # what is recorded are PyTorch's own operators
            return super().forward(input, hx)
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        if isinstance(data, Tensor) and data.is_nested:
            notice("nested tensors")
            return super().forward(input, hx)
        states = self._states(hx)
        weights: list[Any] = [getattr(self, name, None) for name in self._flat_weights_names]
        state = None  # its dtype, under autocast
        if states is not None and _mixes((data, *states), weights):
            state = (data, *states)[-1].dtype
            data, states = data.float(), tuple(part.float() for part in states)
        if states is None or not self._understood(input, data, states, weights):
            return super().forward(input, hx)  # which says what is wrong
        if self._too_little(input, data, states, weights):
            return super().forward(input, hx)  # which is faster
        obstacle = self._obstacle(data, states, weights)
        if obstacle:
            notice(obstacle)
            return super().forward(input, hx)
        y, *final = self._packed(input, data, states, weights) if packed else self._padded(data, states, weights)
        if state:
            ragged = packed and bool(input.batch_sizes[0] != input.batch_sizes[-1])
            dtypes = self._autocast_dtypes(ragged, state)
            y, *final = (part.to(dtype) for part, dtype in zip((y, *final), dtypes, strict=True))
        return y, tuple(final) if len(final) == 2 else final[0]

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """Return torch.nn's own module with the same parameters: the one that TorchScript compiles."""
        twin = self._plain.__new__(self._plain)
        twin.__dict__.update({name: value for name, value in self.__dict__.items() if name != "_qconfig"})
        return twin

    @property
    def qconfig(self) -> Any:
        """What torch.ao.quantization sets on every module it visits."""
        try:
            return self.__dict__["_qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        self.__dict__["_qconfig"] = value
        say_once(
            "torch.ao.quantization knows torch.nn's own classes only and leaves rnncore.torch's as they are: give it "
            "rnncore.torch.to_plain(model)"
        )

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("_qconfig", None)

    # ------------------------------------------------------------ who computes

    def _states(self, hx: Any) -> tuple[Any, ...] | None:
        """Return the initial states as a tuple, or None where they are not what they should be."""
        if hx is None:
            return ()
        if self.mode != "LSTM":
            return (hx,)
        return tuple(hx) if isinstance(hx, (tuple, list)) and len(hx) == 2 else None

    def _understood(self, input: Any, data: Any, states: tuple[Any, ...], weights: list[Any]) -> bool:
        """Whether shapes and kinds are as they should be; PyTorch knows best what to say where not."""
        if not all(isinstance(tensor, Tensor) for tensor in (data, *states, *weights)) or data.numel() == 0:
            return False
        if any(tensor.dtype != data.dtype or tensor.device != data.device for tensor in (*states, *weights)):
            return False
        units = self.num_layers * (2 if self.bidirectional else 1)
        if isinstance(input, PackedSequence):
            if data.dim() != 2 or not _proper(input):
                return False
            shape = [units, int(input.batch_sizes[0])]
        elif data.dim() == 3:
            shape = [units, data.shape[0 if self.batch_first else 1]]
        elif data.dim() == 2:
            shape = [units]
        else:
            return False
        widths = (self.proj_size or self.hidden_size, self.hidden_size)[: len(states)]
        if data.shape[-1] != self.input_size or any(
            list(part.shape) != [*shape, width] for part, width in zip(states, widths, strict=True)
        ):
            return False
        wanted = _shapes(
            *(self.mode, self.input_size, self.hidden_size, self.proj_size),
            *(self.num_layers, bool(self.bidirectional), self.bias),
        )
        return len(weights) == len(wanted) and all(w.shape == s for w, s in zip(weights, wanted, strict=True))

    def _too_little(self, input: Any, data: Tensor, states: tuple[Tensor, ...], weights: list[Tensor]) -> bool:
        """Whether bringing the weights into the engine's order would take longer than the products with them."""
        if isinstance(input, PackedSequence):
            steps = len(input.batch_sizes)
        else:
            steps = data.shape[1 if self.batch_first and data.dim() == 3 else 0]
        rows = data.numel() // self.input_size
        fewest = self.hidden_size // (ROWS_OF_TRAINING if in_graph((data, *states, *weights)) else ROWS_OF_INFERENCE)
        return steps == 1 or rows < fewest

    def _obstacle(self, data: Tensor, states: tuple[Tensor, ...], weights: list[Tensor]) -> str:
        """Return what stands in the way of computing here, or nothing."""
        tensors = (data, *states, *weights)
        if data.device.type != "cpu":
            return f"tensors on {data.device.type}"
        if data.dtype not in DTYPES:
            return f"{data.dtype} tensors"
        if data.dtype == torch.float32 and torch.is_autocast_enabled("cpu") and not _in_autocast():
            return f"autocast to {torch.get_autocast_dtype('cpu')}"
        if self.dropout == 1 and self.training and self.num_layers > 1:
            return "dropout=1"
        if torch._C._are_functorch_transforms_active():
            return "torch.func's transforms"
        if forward_ad._current_level >= 0:
            return "forward-mode differentiation"
        if torch._C._len_torch_dispatch_stack() > 0:
            return "dispatch modes"
        if any(type(tensor) not in PLAIN or tensor.layout != torch.strided for tensor in tensors):
            return "sub-classes and layouts of tensors"
        return ""

    def _autocast_dtypes(self, ragged: bool, state: torch.dtype) -> tuple[torch.dtype, ...]:
        """Return the dtypes of y and of the final states that torch.nn's module gives under autocast to bfloat16.

        A product is bfloat16; what adds to a state of dtype `state` (a GRU's h, an LSTM's c) has the wider dtype of the
        two. An LSTM without projection, over sequences of one length, is one operation of oneDNN, of bfloat16 alone.
        """
        low = torch.bfloat16
        if self.mode == "GRU":
            return state, state
        if self.mode != "LSTM":
            return low, low
        if torch.backends.mkldnn.enabled and not (ragged or self.proj_size):
            return low, low, low
        h = low if self.proj_size else state
        return h, h, state

    # ------------------------------------------------------------ shapes

    def _pass(self, schedule: Schedule, batch_sizes: Tensor | None, dtype: torch.dtype, has_state: bool) -> Pass:
        cell, activation, _ = MODES[self.mode]
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        net = Net(
            cell,
            activation,
            self.input_size,
            self.hidden_size,
            self.proj_size,
            self.num_layers,
            bool(self.bidirectional),
            self.bias,
            dropout,
            dtype,
            dtype == torch.float32 and _in_autocast(),
        )
        seed = int(torch.randint(2**62, (), device="cpu")) if dropout else 0  # torch.manual_seed decides the masks
        return Pass(net, schedule, batch_sizes, has_state, min(torch.get_num_threads(), MAX_THREADS), seed)

    def _padded(self, data: Tensor, states: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
        """Run over (T, B, D), (B, T, D) or (T, D)."""
        alone = data.dim() == 2
        turned = self.batch_first and not alone
        if alone:
            data = data.unsqueeze(1)
            states = tuple(part.unsqueeze(1) for part in states)
        elif turned:
            data = data.transpose(0, 1)
        what = self._pass(Schedule(data.shape[0], data.shape[1]), None, data.dtype, bool(states))
        y, *final = run(what, data, states, weights)
        if alone:
            return y.squeeze(1), *(part.squeeze(1) for part in final)
        return y.transpose(0, 1) if turned else y, *final

    def _packed(
        self, input: PackedSequence, data: Tensor, states: tuple[Tensor, ...], weights: list[Tensor]
    ) -> tuple[Any, ...]:
        """Run over a PackedSequence, whose rows are in the engine's own order."""
        if input.sorted_indices is not None:
            states = tuple(part.index_select(1, input.sorted_indices) for part in states)
        lengths = lengths_of(input.batch_sizes.numpy())
        schedule = Schedule(len(input.batch_sizes), len(lengths), lengths)
        what = self._pass(schedule, input.batch_sizes, data.dtype, bool(states))
        y, *final = run(what, data, states, weights)
        if input.unsorted_indices is not None:
            final = [part.index_select(1, input.unsorted_indices) for part in final]
        return PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices), *final


def to_plain(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model with torch.nn's own modules in the place of rnncore's: for quantization and exporters.

    Examples
    --------
    >>> import torch, rnncore.torch as rt
    >>> type(rt.to_plain(torch.nn.Sequential(rt.GRU(3, 5)))[0])
    <class 'torch.nn.modules.rnn.GRU'>
    """
    copied = copy.deepcopy(model)
    if isinstance(copied, _OnRnncore):
        return copied.__prepare_scriptable__()
    for module in copied.modules():
        for name, child in module.named_children():
            if isinstance(child, _OnRnncore):
                setattr(module, name, child.__prepare_scriptable__())
    return copied


def _in_autocast() -> bool:
    """Whether autocast to bfloat16 is on; float64 is none of its business."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _mixes(tensors: tuple[Any, ...], weights: list[Any]) -> bool:
    """Whether this is a call in mixed precision: data in either of autocast's dtypes, parameters in float32."""
    return (
        _in_autocast()
        and all(isinstance(tensor, Tensor) and tensor.dtype in (torch.float32, torch.bfloat16) for tensor in tensors)
        and all(isinstance(weight, Tensor) and weight.dtype == torch.float32 for weight in weights)
    )


def _proxy_in(*values: Any) -> Any:
    """Return the first of torch.fx's stand-ins for tensors: the model is being recorded."""
    for value in values:
        found = _proxy_in(*value) if isinstance(value, (tuple, list)) else value
        if isinstance(found, torch.fx.Proxy):
            return found
    return None


def _path_in(root: Any, module: torch.nn.Module) -> str:
    """Return where a module is within the model that torch.fx records; nothing where it is all of it."""
    return next((path for path, own in root.named_modules() if own is module), "")


def lengths_of(batch_sizes: np.ndarray) -> np.ndarray:
    """Return the lengths, longest first, of the sequences of which `batch_sizes[t]` reach step t."""
    ending = batch_sizes - np.append(batch_sizes[1:], 0)
    return np.repeat(np.arange(len(batch_sizes), 0, -1, dtype=np.int64), ending[::-1])


def _proper(packed: PackedSequence) -> bool:
    """Whether the numbers of a PackedSequence fit one another."""
    sizes = packed.batch_sizes
    if sizes.device.type != "cpu" or sizes.dtype != torch.int64 or sizes.dim() != 1 or len(sizes) == 0:
        return False
    counts = sizes.numpy()
    return bool(counts[-1] >= 1 and (counts[1:] <= counts[:-1]).all() and counts.sum() == len(packed.data))


@lru_cache(maxsize=256)
def _shapes(
    mode: str, inputs: int, hidden: int, projected: int, layers: int, both: bool, bias: bool
) -> list[torch.Size]:
    """Shapes of all parameters, in torch's order."""
    rows, output, directions = MODES[mode][2] * hidden, projected or hidden, 2 if both else 1
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        width = directions * output if layer else inputs
        unit: list[tuple[int, ...]] = [(rows, width), (rows, output)] + [(rows,)] * (2 * bias)
        shapes += (unit + [(projected, hidden)] * bool(projected)) * directions
    return [torch.Size(shape) for shape in shapes]


class RNN(_OnRnncore, torch.nn.RNN):
    """``torch.nn.RNN`` on rnncore's kernels: tanh or relu, the same arguments, parameters and results, faster on CPUs.

    See Also
    --------
    GRU : says what is computed here and what is left to PyTorch.

    Examples
    --------
    >>> import torch, rnncore.torch as rt
    >>> rnn = rt.RNN(3, 5, nonlinearity="relu")
    >>> y, h = rnn(torch.zeros(4, 2, 3))
    >>> y.shape, h.shape
    (torch.Size([4, 2, 5]), torch.Size([1, 2, 5]))
    """

    _plain = torch.nn.RNN


class LSTM(_OnRnncore, torch.nn.LSTM):
    """``torch.nn.LSTM`` on rnncore's kernels: the same arguments, parameters and results, faster on CPUs.

    See Also
    --------
    GRU : says what is computed here and what is left to PyTorch.

    Examples
    --------
    >>> import torch, rnncore.torch as rt
    >>> lstm = rt.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    >>> y, (h, c) = lstm(torch.zeros(2, 4, 3))
    >>> y.shape, c.shape
    (torch.Size([2, 4, 10]), torch.Size([4, 2, 5]))
    """

    _plain = torch.nn.LSTM


class GRU(_OnRnncore, torch.nn.GRU):
    """``torch.nn.GRU`` on rnncore's kernels: the same arguments, parameters and results, faster on CPUs.

    float32 and float64 tensors on the CPU are computed here, with ``torch.get_num_threads()`` threads, padded or as a
    PackedSequence, and so are their gradients. Under ``torch.autocast("cpu", torch.bfloat16)`` products are those of
    ``dtype="mixed_bfloat16"``, states stay float32 inside; outputs have the dtypes of torch.nn's, gradients those of
    what they belong to. What else there is (other devices and dtypes, nested tensors, autocast to float16,
    torch.func's transforms, forward-mode differentiation, gradients of gradients, batched gradients) is left to
    PyTorch's own code; the first time a warning says so. Compiling, tracing, scripting and selective checkpointing see
    PyTorch's operators. So do, without a word, calls of one step, or of a few rows with large weights, where PyTorch is
    faster: a loop over steps in Python gains nothing, whole sequences do.

    Notes
    -----
    Results agree with torch.nn's to rounding. With ``dropout`` between layers the masks differ from torch.nn's;
    ``torch.manual_seed`` decides them, too. The number of threads does not change the bits.

    What the backward pass needs is in saved tensors, so checkpointing, ``torch.autograd.graph.save_on_cpu`` and other
    hooks that move or drop them work. It may run again where the graph is kept, and outputs may be changed in place.
    Working memory of a pass is kept for the next one, up to about a gigabyte.

    Examples
    --------
    >>> import torch, rnncore.torch as rt
    >>> from torch.nn.utils.rnn import pack_sequence
    >>> gru = rt.GRU(3, 5)
    >>> y, h = gru(pack_sequence([torch.ones(4, 3), torch.ones(2, 3)]))
    >>> h.sum().backward()
    >>> y.data.shape, gru.weight_ih_l0.grad.shape
    (torch.Size([6, 5]), torch.Size([15, 3]))
    """

    _plain = torch.nn.GRU
