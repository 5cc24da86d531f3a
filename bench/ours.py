"""rnncore's side of every comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench import weights
from bench.shapes import Shape
from bench.weights import Arrays


def has_cell(cell: str) -> bool:
    """Whether rnncore knows the cell yet; says so when it does not."""
    try:
        from rnncore import CELLS
    except ImportError as error:
        raise SystemExit(
            f"bench: rnncore cannot be imported ({error}): pip install -e . first, or --peers-only"
        ) from None
    if cell in CELLS:
        return True
    print(f"note: {cell} is left out (rnncore.CELLS has {', '.join(CELLS)})")
    return False


def assign(params: Mapping[str, np.ndarray], start: Arrays) -> None:
    """Write weights by the last part of their names."""
    missing = set(start)
    for name, view in params.items():
        key = name.rpartition(".")[2]
        view[...] = start[key].reshape(view.shape)
        missing.discard(key)
    if missing:
        raise KeyError(f"rnncore has no parameter named {sorted(missing)}; it has {sorted(params)}")


def _by_key(views: Mapping[str, np.ndarray]) -> Arrays:
    return {name.rpartition(".")[2]: np.array(view) for name, view in views.items()}


def network(
    cell: str, shape: Shape, dtype: str, outputs: int, learning_rate: float, threads: int, optimizer: str = "sgd"
) -> tuple[Any, Any]:
    """One layer with a softmax head, and its optimizer."""
    import rnncore as rc

    layer = rc.Recurrent(cell, input_size=shape.D, hidden_size=shape.H, dtype=dtype, n_threads=threads)
    net = rc.Network(layer, head=rc.Softmax(outputs), readout="every")
    return net, rc.OPTIMIZERS[optimizer](learning_rate=learning_rate)


class Step:
    """`Network.train_step`: layer + softmax head + SGD; the input needs no gradient."""

    name = "rnncore"

    def __init__(
        self,
        cell: str,
        shape: Shape,
        dtype: str,
        outputs: int,
        learning_rate: float,
        threads: int,
        optimizer: str = "sgd",
    ) -> None:
        self.net, self.optimizer = network(cell, shape, dtype, outputs, learning_rate, threads, optimizer)
        assign(self.net.params, weights.initial(cell, shape, dtype, outputs))
        self.x = weights.inputs(shape, dtype)
        self.targets = weights.targets(shape, outputs)
        self.loss = 0.0

    def call(self) -> None:
        self.loss = self.net.train_step(self.x, self.targets, self.optimizer)

    def results(self) -> Arrays:
        return {**_by_key(self.net.params), "loss": np.asarray(self.loss)}


class Layer:
    """`Recurrent.forward` + `backward` with dX; the weights count as changed before every call."""

    name = "rnncore"

    def __init__(self, cell: str, shape: Shape, dtype: str, threads: int, lengths: np.ndarray | None = None) -> None:
        import rnncore as rc

        self.layer = rc.Recurrent(cell, input_size=shape.D, hidden_size=shape.H, dtype=dtype, n_threads=threads)
        arrays = self.layer.dtype.name  # float32 in mixed precision
        assign(self.layer.params, weights.initial(cell, shape, arrays))
        self.x = weights.inputs(shape, arrays)
        self.dy = weights.output_gradient(shape, arrays)
        self.lengths = lengths
        self.layer.zero_grad()
        self.y: Any = None
        self.dx: Any = None

    def call(self) -> None:
        self.y, _ = self.layer.forward(self.x, lengths=self.lengths)
        self.dx, _ = self.layer.backward(self.dy)

    def results(self) -> Arrays:
        return {**_by_key(self.layer.grads), "y": self.y, "dx": self.dx}


class Session:
    """One forward pass of a session that starts from given states: `step` for one step, else `run`, `out=` given.

    A timed call goes on from the state that the last one left, as a stream does.
    """

    name = peer = "rnncore"

    def __init__(self, cell: str, shape: Shape, threads: int, weight_dtype: str | None = None) -> None:
        import rnncore as rc

        layer = rc.Recurrent(cell, input_size=shape.D, hidden_size=shape.H, dtype="float32", n_threads=threads)
        assign(layer.params, weights.initial(cell, shape, "float32"))
        self.session = layer.session(shape.B, weight_dtype) if weight_dtype else _session(layer, shape.B)
        self.start = tuple(state[None] for state in weights.states(shape, "float32", len(layer.state_widths)))
        self.session.state = self.start
        self.x = weights.inputs(shape, "float32")
        self.y = np.empty((shape.T, shape.B, shape.H), np.float32)
        self.one_step = shape.T == 1
        if self.one_step:
            self.x, self.y = self.x[0], self.y[0]
        self.method = self.session.step if self.one_step else self.session.run

    def call(self) -> None:
        self.method(self.x, out=self.y)

    def results(self) -> Arrays:
        y = self.y[None] if self.one_step else self.y
        return {"y": y, **{name: state[0] for name, state in zip("hc", self.session.state, strict=False)}}


def _session(layer: Any, batch_size: int) -> Any:
    """The layer's session; a layer without one runs `forward` instead."""
    return layer.session(batch_size=batch_size) if hasattr(layer, "session") else _Forward(layer)


class _Forward:
    """What a session does, by `Recurrent.forward`, which packs the weights with every call."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.state = layer, None

    def run(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[...], self.state = self.layer.forward(x, self.state, training=False)
        return out

    def step(self, x_t: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self.run(x_t[None], out[None])[0]
