"""A network: recurrent layers and a head on one flat vector of parameters."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.heads import Head as HeadKernel
from rnncore._core.memory import Saved
from rnncore._core.plan import Plan
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore._finite import NonFiniteError, explain
from rnncore.nn import order, saving, summary
from rnncore.nn.access import Access
from rnncore.nn.activations import ShowsActivations, of_network
from rnncore.nn.attributes import RunSettings, fixed
from rnncore.nn.heads import CRF, LOSSES, READOUTS, Head, Softmax
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.recurrent import (
    DENSE,
    EMBEDDED,
    SYMBOLS,
    Recurrent,
    State,
    adopt,
    cell_options,
    users_attributes,
)
from rnncore.nn.touched import TouchedRows

if TYPE_CHECKING:
    from rnncore.nn.session import Session


class Space(NamedTuple):
    """Where one call at a time runs: the layers' workspace and the head's."""

    layers: Workspace
    head: HeadKernel


# What a batch brings, checked: kind of input, x, lengths, sparse features' ids and values, states, feedback.
Inputs = tuple[
    int,
    np.ndarray,
    np.ndarray | None,
    np.ndarray | None,
    np.ndarray | None,
    list[np.ndarray] | None,
    np.ndarray | None,
]


@dataclass(frozen=True)
class Embedding:
    """A table of vectors, one per symbol, between ids and the first layer.

    Parameters
    ----------
    symbols : int
        V, the number of symbols.
    size : int
        E, the width of a vector: the first layer's ``input_size``.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.Embedding(1000, 64).size
    64
    """

    symbols: int
    size: int

    def __post_init__(self) -> None:
        _checks.whole(self.symbols, "symbols")
        _checks.whole(self.size, "size")


@fixed("single", "layers", "head", "readout", "embedding", "skip", "batch_first", "dtype", "layout")
class Network(FlatArrays, Freezable, ShowsActivations, RunSettings):
    """Recurrent layers, a readout and a head, trained together.

    Parameters
    ----------
    layers : Recurrent or list of Recurrent
        Each layer's input_size is the output_size of the one before. Their parameters move into the network's.
    head : Head
        Softmax(K), SquaredError(K), SigmoidCrossEntropy(K) or CRF(K).
    readout : {"every", "last", "mean", "max"}
        The head sees the outputs of every step, or one vector per sequence: the last outputs (of each direction, at
        its own last step), their mean, or the largest number of each unit.
    embedding : Embedding, optional
        For symbols (ids) as input. Without one, ids pick rows of the first layer's W_xh.
    skip : int
        Number N of sparse features with direct weights to the head's scores, past the recurrent layers, as a
        maximum-entropy model has them: s_t += Σ_f value_f·W_skip[id_f]. With skip, wherever x is asked for it is a
        tuple (x, ids) or (x, ids, values): ids (T, B, F) with -1 for none, values numbers of that shape (ones if left
        out). Needs readout "every".
    batch_first : bool
        Wherever a batch is asked for or comes back, it is (B, T, ...) instead of (T, B, ...): x, targets of every step,
        feedback, sparse features, predictions, labels, activations. States stay as they are. The layers themselves
        run time first.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and gradients, flat: ``embedding.E`` (V, E), ``layers.0.fwd.W_xh`` and so on; of a head that
        projects, ``head.W_hy`` (F, K) and ``head.b_y`` (K,); a CRF's ``head.transitions`` (K, K), ``head.start`` and
        ``head.end`` (K,); ``head.W_skip`` (N, K), zeros at first.
    params, grads : mapping of str to ndarray
        Named views of them.
    state : tuple, or list of tuples for a list of layers
        Final states of the latest training call: pass it on as ``state=`` to carry on where a chunk of text ended.
    dropout_seed, dropout_step : int
        The same values give the same masks; the step counts training passes.

    Raises
    ------
    ValueError
        For parts that do not fit together, saying what would.
    AttributeError
        By setting a part later: only ``n_threads``, ``dropout_seed`` and ``dropout_step`` can change.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
    >>> x = np.random.default_rng(0).normal(size=(5, 2, 4)).astype("float32")
    >>> opt = rc.Adam(learning_rate=0.1)
    >>> losses = [net.train_step(x, np.zeros((5, 2), int), opt) for _ in range(20)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    >>> net.predict(x).shape
    (5, 2, 3)
    """

    def __init__(
        self,
        layers: Recurrent | Sequence[Recurrent],
        head: Head,
        readout: str = "every",
        embedding: Embedding | None = None,
        skip: int = 0,
        batch_first: bool = False,
    ) -> None:
        self.single = isinstance(layers, Recurrent)
        self.layers: tuple[Recurrent, ...] = (layers,) if isinstance(layers, Recurrent) else tuple(layers)
        self.head = head
        self.readout = _checks.one_of(readout, READOUTS, "readout")
        self.embedding = embedding
        self.skip = _checks.whole(skip, "skip", least=0)
        self.batch_first = _checks.flag(batch_first, "batch_first")
        self._check_parts()
        self.dtype = self.layers[0].dtype
        self.layout = Layout(self._shapes())
        self.n_threads = self.layers[0].n_threads
        self.dropout_seed = self.layers[0].dropout_seed
        self.dropout_step = 0
        self._access = Access()
        self._frozen: frozenset[str] = frozenset()
        theta, grad = aligned_zeros(self.layout.size, self.dtype), aligned_zeros(self.layout.size, self.dtype)
        for start, layer in zip(self._layer_starts(), self.layers, strict=True):
            theta[start : start + layer.layout.size] = layer._theta
        self._bind(theta, grad)
        self._initialise()

    # -------------------------------------------------------------- structure

    def _check_parts(self) -> None:
        if not self.layers or not all(isinstance(layer, Recurrent) for layer in self.layers):
            raise ValueError("layers must be a Recurrent or a list of at least one")
        if not isinstance(self.head, Head):
            raise ValueError(f"head must be a head such as rnncore.Softmax(K), got {self.head!r}")
        if type(self.head) not in LOSSES:
            known = ", ".join(loss.__name__ for loss in LOSSES)
            raise ValueError(
                f"head must be one of the compiled losses, {known}; got {type(self.head).__name__}, a class of its own "
                "whose loss the kernels do not know: use one of those"
            )
        if self.embedding is not None and not isinstance(self.embedding, Embedding):
            raise ValueError(f"embedding must be rnncore.Embedding(symbols, size) or None, got {self.embedding!r}")
        if self.readout != "every" and (self.head.name == "crf" or self.skip):
            what = "a CRF head needs" if self.head.name == "crf" else "sparse features (skip) need"
            raise ValueError(f"{what} readout='every', got {self.readout!r}")
        width = self.embedding.size if self.embedding else self.layers[0].input_size
        for n, layer in enumerate(self.layers):
            if layer.input_size != width:
                raise ValueError(f"layer {n} has input_size {layer.input_size}, but {width} numbers come to it")
            width = layer.output_size
        if not self.head.project and self.head.outputs > width:
            raise ValueError(
                f"a head of {self.head.outputs} outputs with project=False needs a layer of at least as many: the last "
                f"one gives {width}"
            )
        first = self.layers[0]
        for layer in self.layers[1:]:
            if (layer.dtype, layer.truncate) != (first.dtype, first.truncate):
                raise ValueError("all layers of a network need the same dtype and the same truncate")
        if any(layer.batch_first for layer in self.layers):
            raise ValueError(
                "layers of a network run time first: give batch_first=True to the Network, not to its layers"
            )
        if len({id(layer) for layer in self.layers}) != len(self.layers):
            raise ValueError("each layer can stand in a network once: build a second one")

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        if self.embedding:
            shapes["embedding.E"] = (self.embedding.symbols, self.embedding.size)
        depth = 0
        for layer in self.layers:
            for name, shape in layer.layout.shapes.items():
                _, number, rest = name.split(".", 2)
                shapes[f"layers.{depth + int(number)}.{rest}"] = shape
            depth += layer.num_layers
        for name, shape in self.head.shapes(self.layers[-1].output_size).items():
            shapes[f"head.{name}"] = shape
        if self.skip:
            shapes["head.W_skip"] = (self.skip, self.head.outputs)
        return shapes

    def _layer_starts(self) -> list[int]:
        starts, start = [], self.embedding.symbols * self.embedding.size if self.embedding else 0
        for layer in self.layers:
            starts.append(start)
            start += layer.layout.size
        return starts

    def _bind(self, theta: np.ndarray, grad: np.ndarray) -> None:
        """Take flat arrays as the parameters and gradients, of the layers too."""
        self._theta, self._grad, self._touched = theta, grad, TouchedRows(self._tables().values())
        self._params, self._grads = self.layout.views(theta), self.layout.views(grad)
        for start, layer in zip(self._layer_starts(), self.layers, strict=True):
            end = start + layer.layout.size
            layer.move_to(theta[start:end], grad[start:end], self._touched, self._access)
        self._plans: dict[int, Plan] = {}
        self._idle: dict[int, list[Space]] = {kind: [] for kind in (DENSE, SYMBOLS, EMBEDDED)}  # no call runs in them
        self._training: dict[int, tuple[Space, Saved]] = {}
        self._latest: Workspace | None = None  # of the last training call
        self._trained_on: tuple[Any, Any, Any, Any] | None = None
        self._schedule: Schedule | None = None
        self._snapshot: Any = None  # a weak reference to what sessions have packed
        self._ranges = UpdateRanges(self.layout, self._tables())

    def _head_kernel(self) -> HeadKernel:
        return HeadKernel(
            self.dtype.itemsize,
            self.head.kernel,
            READOUTS.index(self.readout),
            self.layers[-1].output_parts,
            self.head.outputs,
            self.layout.starts.get("head.W_hy", -1),
            self.layout.starts.get("head.b_y", -1),
            self.head.weights(self.dtype),
            self.head.smoothing,
            self._chain(),
            (self.skip, self.layout.starts["head.W_skip"]) if self.skip else None,
        )

    def _chain(self) -> tuple[int, int, int, np.ndarray | None] | None:
        """Return what the kernels need for a CRF: its parameters' places and its constraints."""
        if not isinstance(self.head, CRF):
            return None
        starts, rule = self.layout.starts, self.head.constraints
        places = (starts["head.transitions"], starts["head.start"], starts["head.end"])
        return (*places, None if rule is None else rule.flags())

    def _initialise(self) -> None:
        rng = np.random.default_rng([self.layers[0].random_state, 1])
        if self.embedding:
            table = self.params["embedding.E"]
            table[...] = rng.normal(0, 1 / np.sqrt(self.embedding.size), table.shape)
        bound = 1 / np.sqrt(self.layers[-1].output_size)
        for name in self.head.shapes(1):
            array = self.params[f"head.{name}"]
            if name not in self.head.starts_at_zero:
                array[...] = rng.uniform(-bound, bound, array.shape)

    def kernel_plan(self, kind: int) -> Plan:
        """Return the layers' structure as the compiled core knows it, for one kind of input."""
        if kind not in self._plans:
            groups: list[list[dict]] = []
            widths, more_dropout = None, 0.0
            for start, layer in zip(self._layer_starts(), self.layers, strict=True):
                groups.append(layer.describe(start, widths, more_dropout))
                widths, more_dropout = layer.output_parts, layer.output_dropout
            options = {
                "symbols": self.embedding.symbols if self.embedding else self.layers[0].input_size,
                "embedding": self.embedding.size if self.embedding else 0,
                "table": 0,
                "output_dropout": self.layers[-1].output_dropout,
                "truncate": self.layers[0].truncate,
            }
            self._plans[kind] = Plan(self.dtype.itemsize, groups, kind, options)
        return self._plans[kind]

    def _space(self, kind: int) -> Space:
        """Return a space that no other call runs in."""
        try:
            return self._idle[kind].pop()
        except IndexError:
            return Space(Workspace(self.kernel_plan(kind)), self._head_kernel())

    def _training_space(self, kind: int) -> tuple[Space, Saved]:
        """Return the space of training calls, one at a time, and what they save for backward."""
        if kind not in self._training:
            self._training[kind] = self._space(kind), Saved()
        return self._training[kind]

    def to_onnx(self, path: str | os.PathLike[str], inputs: str | None = None, about: Any = None) -> None:
        """Write the whole network as one ONNX model, for onnxruntime and others; needs the package onnx.

        Cells that ONNX has operators for become these, all others loops over their equations. It computes in single
        precision, without dropout, on batches of any number of steps and sequences.

        Its inputs are ``x`` (T, B, D), ids (T, B) or bags (T, B, N), and ``lengths`` (B,) int64; of a network with
        sparse features also ``skip_ids`` and ``skip_values`` (T, B, F). Its outputs are ``scores``, before softmax or
        sigmoid, with these heads ``probabilities``, and with a CRF ``labels``, the most probable ones. What lies past
        a sequence's end means nothing, but ids there must be ids, too.

        Parameters
        ----------
        path : str or path
        inputs : {"numbers", "ids", "bags"}, optional
            What x is. Without: numbers, or ids where there is an embedding.
        about : anything JSON can hold, optional
            Kept in the model's metadata under ``rnncore``.

        Raises
        ------
        ValueError
            For a cell that cannot be written.
        ImportError
            If onnx is not installed.

        Examples
        --------
        >>> import rnncore as rc
        >>> net = rc.Network(rc.Recurrent("lstm", 3, 5, bidirectional=True), head=rc.Softmax(2))
        >>> net.to_onnx("net.onnx")  # doctest: +SKIP
        """
        from rnncore.interop.models import write_onnx

        write_onnx(self, path, inputs, about)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a model file, which ``rnncore.load`` reads; whole or not at all.

        It holds the parts' options, weights, what is frozen and dropout's counters; not the gradient, nor
        ``n_threads``. An optimizer's ``state_dict`` is kept apart.

        Parameters
        ----------
        path : str or path
            By custom it ends in ``.safetensors``. An existing file is replaced in one step.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.

        Examples
        --------
        >>> import os, tempfile, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> net.save(path)
        >>> rc.load(path)
        Network([Recurrent("elman", 4, 8, dtype="float32")], ..., 131 parameters)
        """
        from rnncore.io.files import write_model

        write_model(path, "Network", {"network": saving.network_to_json(self)}, saving.weights_of(self))

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Network:
        return saving.read_network(header, arrays)

    def summary(self) -> str:
        """Return a table of the parts: the shape of their outputs, parameters, bytes.

        Examples
        --------
        >>> import rnncore as rc
        >>> print(rc.Network(rc.Recurrent("gru", 3, 5), head=rc.Softmax(2), embedding=rc.Embedding(9, 3)).summary())
        part       what                 output     parameters  bytes
        embedding  of 9 symbols         (T, B, 3)          27    108
        layers.0   gru, forward         (T, B, 5)         140    560
        head       softmax, every step  (T, B, 2)          12     48
        total                                             179    716
        """
        frozen = sum(self._params[name].size for name in self.frozen)
        return summary.table(summary.network_rows(self), self.dtype.itemsize, frozen)

    def copy(self, dtype: Any = None) -> Network:
        """Return a network of the same structure and parameters, in another precision if asked.

        Examples
        --------
        >>> import rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
        >>> net.copy("float64").theta.dtype
        dtype('float64')
        """
        precision = self.dtype if dtype is None else _checks.dtype(dtype)
        layers = [Recurrent(**cell_options(layer), dtype=precision) for layer in self.layers]
        twin = Network(
            layers[0] if self.single else layers, self.head, self.readout, self.embedding, self.skip, self.batch_first
        )
        twin.theta[...] = self.theta
        twin.freeze(*self.frozen)
        twin.dropout_seed, twin.dropout_step, twin.n_threads = self.dropout_seed, self.dropout_step, self.n_threads
        return twin

    def __repr__(self) -> str:
        return f"Network({list(self.layers)}, {self.head}, readout={self.readout!r}, {self.theta.size} parameters)"

    def __getstate__(self) -> dict[str, Any]:
        names = ("single", "layers", "head", "readout", "embedding", "skip", "batch_first", "n_threads", "dropout_seed")
        own = {name: getattr(self, name) for name in (*names, "dropout_step")}
        arrays = {"theta": self._theta, "grad": self._grad, "touched": self._touched.state(), "frozen": self.frozen}
        return users_attributes(self) | own | arrays

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):  # through the constructor, so that no unchecked number gets to the kernels
            made = object.__new__(type(self))
            layers, embedding = state["layers"], state["embedding"]
            Network.__init__(
                made,
                layers[0] if state["single"] else layers,
                replace(state["head"]),
                state["readout"],
                None if embedding is None else replace(embedding),
                state.get("skip", 0),
                state.get("batch_first", False),
            )
            made.n_threads = state["n_threads"]
            made.dropout_seed, made.dropout_step = state["dropout_seed"], state["dropout_step"]
            for array, name in ((made._theta, "theta"), (made._grad, "grad")):
                array[...] = _checks.flat(state[name], name, array)
            rows = {start: len(made._params[name]) for name, start in made._tables().items()}
            made._touched.restore(state.get("touched", {}), rows)
            made.freeze(*state.get("frozen", ()))
            adopt(self, made, state)

    def __copy__(self) -> Network:
        return copy.deepcopy(self)  # layers cannot stand in two networks

    # -------------------------------------------------------------- running

    def _check_input(self, x: Any, lengths: Any) -> tuple[int, np.ndarray, np.ndarray | None]:
        if type(x) is not np.ndarray:
            x = _checks.array(x, "x")
        steps, sequences = x.shape[:2] if x.ndim >= 2 else (0, 0)
        sizes = None if lengths is None else _checks.lengths(lengths, steps, sequences)
        if x.dtype.kind in "iu":
            symbols = self.embedding.symbols if self.embedding else self.layers[0].input_size
            return EMBEDDED if self.embedding else SYMBOLS, _checks.ids(x, symbols, sizes), sizes
        if self.embedding:
            raise ValueError(f"a network with an embedding reads ids (whole numbers), got an array of {x.dtype}")
        return DENSE, _checks.dense(x, self.layers[0].input_size, self.dtype), sizes

    def check_state(self, state: Any, sequences: int) -> list[np.ndarray] | None:
        """Return a state's arrays, those of each of the ``layers`` in turn, checked."""
        if state is None:
            return None
        if any(layer.bidirectional or layer.reverse for layer in self.layers):
            raise ValueError("a carried state needs layers that run forward in time: a reverse direction starts anew")
        states = [state] if self.single else list(state)
        if len(states) != len(self.layers):
            raise ValueError(f"state must be a list of {len(self.layers)} tuples, one per layer; got {len(states)}")
        return [
            part for layer, own in zip(self.layers, states, strict=True) for part in layer.check_state(own, sequences)
        ]

    def join_state(self, arrays: list[np.ndarray]) -> Any:
        """Return a state's arrays as a tuple, or a list of tuples for a list of layers."""
        states = []
        for layer in self.layers:
            states.append(tuple(arrays[: len(layer.state_widths)]))
            arrays = arrays[len(layer.state_widths) :]
        return states[0] if self.single else states

    def _check(self, x: Any, lengths: Any, state: Any, feedback: Any) -> Inputs:
        x, ids, values = _checks.skip_input(x, self.skip)
        kind, x, sizes = self._check_input(x, lengths)
        if ids is not None:
            ids, values = _checks.skip_features(ids, values, self.skip, x.shape[:2], sizes, self.dtype)
        self.head.check_batch(x.shape[0], sizes)
        states = None if state is None else self.check_state(state, x.shape[1])
        given = None if feedback is None else self.layers[-1].check_feedback(feedback, x.shape[0], x.shape[1])
        return kind, x, sizes, ids, values, states, given

    def _time_first(self, x: Any, feedback: Any, targets: Any = None) -> tuple[Any, Any, Any]:
        """Return what a caller gives batch first as everything behind the door takes it."""
        if self.readout == "every":
            targets = order.time_first(targets, "targets")
        return order.time_first(x, "x"), order.time_first(feedback, "feedback"), targets

    def _run(
        self,
        space: Space,
        x: np.ndarray,
        sizes: np.ndarray | None,
        states: list[np.ndarray] | None,
        feedback: np.ndarray | None,
        saved: Saved | None,
    ) -> None:
        """Run the layers forward."""
        schedule = self._schedule_of(x.shape[0], x.shape[1], sizes)
        threads = _threads.resolve(self._n_threads)
        seed, step = self._dropout_seed, self._dropout_step
        space.layers.forward(self._theta, schedule, x, states, saved, threads, seed, step, feedback)

    def loss_and_grad(
        self,
        x: Any,
        targets: Any,
        lengths: Any = None,
        state: Any = None,
        accumulate: bool = False,
        sample_weight: Any = None,
        feedback: Any = None,
    ) -> float:
        """Return the mean loss of a batch, and leave its gradient in ``grad``.

        Parameters
        ----------
        x : array (T, B, D), or ids (T, B), or bags of ids (T, B, F) with -1 for none
            A tuple (x, ids) or (x, ids, values) for a network with sparse features, see ``skip``.
        targets : array
            Classes (T, B) for readout "every", else (B,); -1 is ignored (a CRF
            sums over what is not known). Numbers (T, B, K) or (B, K) for squared error
            and sigmoid heads. What lies past a sequence's end does not count.
        lengths : array (B,) of ints, optional
        state : tuple of arrays (layers, B, H), optional
            Initial states, as left in ``state`` by the batch before.
        accumulate : bool
            Add to ``grad`` instead of overwriting it.
        sample_weight : array (B,) of numbers of at least 0, optional
            Factor of each sequence's loss. The divisor stays what it is without: weights with a mean other than 1
            change the size of the loss.
        feedback : array (T, B, F), optional
            Teacher forcing, see ``Recurrent.forward``: what the last layer sees instead of its own outputs.

        Returns
        -------
        float
            Mean over counted targets: nats for cross-entropies.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        RuntimeError
            If another Python thread is using this network.
        """
        if self.batch_first:
            x, feedback, targets = self._time_first(x, feedback, targets)
        kind, rows, sizes, ids, values, states, given = self._check(x, lengths, state, feedback)
        steps, sequences = rows.shape[:2]
        shape = (steps, sequences) if self.readout == "every" else (sequences,)
        targets = self.head.check_targets(targets, shape, sizes, self.dtype)
        weights = None if sample_weight is None else _checks.sample_weight(sample_weight, sequences)
        with self._access.training:
            space, saved = self._training_space(kind)
            self._run(space, rows, sizes, states, given, saved)
            self._latest = space.layers
            arrays = (self._theta, self._grad, self._touched)
            loss: float = space.head.loss_and_grad(
                space.layers, saved, *arrays, targets, accumulate, ids, values, weights
            )
            self.__dict__["_dropout_step"] += 1
            self.__dict__["_trained_on"] = (x, targets, lengths, state)
            return loss

    def train_step(
        self,
        x: Any,
        targets: Any,
        optimizer: Any,
        lengths: Any = None,
        state: Any = None,
        sample_weight: Any = None,
        feedback: Any = None,
    ) -> float:
        """Forward, loss, backward, clipping and update; returns the loss before the update.

        The arguments are those of ``loss_and_grad``, and an optimizer such as ``rnncore.Adam()``.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite. Weights, the optimizer and ``dropout_step`` are as they were;
            the error names what is not finite, and sequence and step.
        """
        dropout_step = self.dropout_step
        loss = self.loss_and_grad(x, targets, lengths, state, sample_weight=sample_weight, feedback=feedback)
        try:
            if not math.isfinite(loss):
                raise NonFiniteError("the loss is not finite", "the loss")
            optimizer.step(self)
        except NonFiniteError as problem:
            self.dropout_step = dropout_step
            if self.batch_first:
                x, feedback, targets = self._time_first(x, feedback, targets)
            batch = {"x": x, "targets": targets, "lengths": lengths, "state": state, "feedback": feedback}
            raise explain(self, batch | {"sample_weight": sample_weight}, loss, problem) from None
        return loss

    def predict(
        self,
        x: Any,
        lengths: Any = None,
        state: Any = None,
        feedback: Any = None,
        return_state: bool = False,
        out: np.ndarray | None = None,
    ) -> Any:
        """Return probabilities (or values, for squared error) without dropout; any number of threads may call at once.

        Without ``feedback``, cells that see their own outputs run free.

        Parameters
        ----------
        x, lengths, state, feedback
            As for ``loss_and_grad``.
        return_state : bool
            Return a pair, the second of which is the final state.
        out : array, optional
            Where the result goes: C-contiguous, of the network's dtype and the result's shape.

        Returns
        -------
        array (T, B, K), zero past a sequence's end, for readout "every"; else (B, K)
        """
        if not self.batch_first:
            return self._predict(x, lengths, state, feedback, return_state, out)
        x, feedback, _ = self._time_first(x, feedback)
        if self.readout != "every":
            return self._predict(x, lengths, state, feedback, return_state, out)
        found, final = self._predict(x, lengths, state, feedback, True, None)
        found = order.batch_first(found, out)
        return (found, final) if return_state else found

    def _predict(
        self,
        x: Any,
        lengths: Any,
        state: Any,
        feedback: Any = None,
        return_state: bool = False,
        out: np.ndarray | None = None,
    ) -> Any:
        """Predict, time first."""
        kind, rows, sizes, ids, values, states, given = self._check(x, lengths, state, feedback)
        if out is not None:
            steps, sequences = rows.shape[:2]
            shape = (steps, sequences) if self.readout == "every" else (sequences,)
            out = _checks.out(out, (*shape, self.head.outputs), self.dtype, rows)
        with self._access.reading:
            space = self._space(kind)
            self._run(space, rows, sizes, states, given, None)
            result: Any = space.head.predict(space.layers, self._theta, ids, values, out)
            if return_state:
                result = result, self.join_state(space.layers.final_states())
            self._idle[kind].append(space)
            return result

    def _activations(self, x: Any, lengths: Any, state: Any, feedback: Any) -> dict[str, np.ndarray]:
        if not self.batch_first:
            return of_network(self, x, lengths, state, feedback)
        x, feedback, _ = self._time_first(x, feedback)
        return {name: order.batch_first(v) for name, v in of_network(self, x, lengths, state, feedback).items()}

    def decode(self, x: Any, lengths: Any = None, top: int = 1, state: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable labels: of whole sequences for a CRF (Viterbi), of each output for softmax.

        Parameters
        ----------
        x, lengths, state
            As for ``loss_and_grad``.
        top : int
            A CRF gives this many label sequences for each input, the best first.

        Returns
        -------
        paths : int64 array (T, B), or (top, T, B) for top > 1
            -1 past a sequence's end, and all of it where there are fewer than `top` label sequences. For a softmax
            head with a readout other than "every": (B,).
        scores : float64 array (B,), or (top, B) for top > 1
            Log-probability of each path, -inf where there is none. (For softmax, the sum over outputs.)

        Raises
        ------
        ValueError
            For heads without classes, top > 1 without a CRF, and arrays that do not fit.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 2, 8), head=rc.CRF(2))
        >>> paths, scores = net.decode(np.zeros((1, 1, 2), dtype="float32"), top=3)
        >>> sorted(paths[:, 0, 0].tolist()), bool(np.isclose(np.exp(scores).sum(), 1))
        ([-1, 0, 1], True)
        """
        top = _checks.whole(top, "top", most=10_000)
        if self.head.name not in ("softmax", "crf"):
            raise ValueError(
                f"decode needs a head of classes, softmax or crf; a {self.head.name} head has predict alone"
            )
        if self.batch_first:
            x, _, _ = self._time_first(x, None)
        paths, scores = self._decode(x, lengths, top, state)
        if self.batch_first and self.readout == "every":
            paths = np.ascontiguousarray(paths.swapaxes(-1, -2))
        return paths, scores

    def _decode(self, x: Any, lengths: Any, top: int, state: Any) -> tuple[np.ndarray, np.ndarray]:
        """Decode, time first."""
        if self.head.name == "softmax":
            if top > 1:
                raise ValueError(f"top={top} needs a CRF head: a softmax head decides each output for itself")
            return self._most_probable(self._predict(x, lengths, state), lengths)
        kind, rows, sizes, ids, values, states, given = self._check(x, lengths, state, None)
        with self._access.reading:
            space = self._space(kind)
            self._run(space, rows, sizes, states, given, None)
            paths, scores = space.head.decode(space.layers, self._theta, top, ids, values)
            self._idle[kind].append(space)
        return (paths, scores) if top > 1 else (paths[0], scores[0])

    def _most_probable(self, probabilities: np.ndarray, lengths: Any) -> tuple[np.ndarray, np.ndarray]:
        paths = probabilities.argmax(axis=-1)
        with np.errstate(divide="ignore"):
            scores = np.log(probabilities.max(axis=-1), dtype=np.float64)
        if self.readout != "every":
            return paths, scores
        if lengths is not None:
            beyond = np.arange(len(paths))[:, None] >= np.asarray(lengths)
            paths[beyond], scores[beyond] = -1, 0.0
        return paths, scores.sum(axis=0)

    def session(self, batch_size: int = 1, weight_dtype: Any = None) -> Session:
        """Return a stream through this network, on weights that are packed once; its results are those of ``predict``.

        Parameters
        ----------
        batch_size : int
            B, sequences side by side.
        weight_dtype : str, optional
            The layers' own dtype, as yet.

        Returns
        -------
        Session

        Raises
        ------
        ValueError
            Where the head looks at whole sequences: another readout than "every".

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("gru", 9, 5), head=rc.Softmax(9))
        >>> session = net.session()
        >>> [int(session.step(np.array([symbol])).argmax()) < 9 for symbol in (3, 1, 4)]
        [True, True, True]
        """
        from rnncore.nn.session import Session

        return Session(self, batch_size, weight_dtype)

    # what a session asks

    def _session_parts(self) -> Any:
        from rnncore.nn.session import Parts

        if self.readout != "every":
            raise ValueError(f"a session needs outputs at every step, not readout={self.readout!r}: use predict()")
        widths = [
            (layer.num_layers * len(layer.directions), n) for layer in self.layers for n in layer.state_widths.values()
        ]
        carries = not any(layer.bidirectional or layer.reverse for layer in self.layers)
        return Parts(widths, self.layers[0].input_size, self.head.outputs, carries)

    def _input_kinds(self) -> tuple[int, ...]:
        return (EMBEDDED,) if self.embedding else (DENSE, SYMBOLS)

    def _session_head(self) -> HeadKernel:
        return self._head_kernel()

    def _session_input(self, x: Any, lengths: Any) -> Any:
        kind, rows, sizes, ids, values, _, _ = self._check(x, lengths, None, None)
        return kind == DENSE, rows, sizes, ids, values

    def _session_state(self, arrays: list[np.ndarray]) -> Any:
        return self.join_state(arrays)

    def _session_arrays(self, state: Any, sequences: int) -> list[np.ndarray]:
        arrays = self.check_state(state, sequences)
        assert arrays is not None
        return arrays

    @property
    def state(self) -> Any:
        """Final states of the latest training call; ``predict(…, return_state=True)`` gives those of a prediction."""
        if self._latest is None:
            raise RuntimeError(
                "there is no state of a training call: call loss_and_grad or train_step first; "
                "predict(…, return_state=True) returns that of a prediction"
            )
        return self.join_state(self._latest.final_states())

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self._grad[...] = 0
        self._touched.clear()

    # -------------------------------------------------------------- for optimizers and reports

    def curvature(self) -> np.ndarray:
        """Return the diagonal curvature of the latest ``loss_and_grad``, flat like ``theta``: what "sdlm" divides by.

        The batch's arrays are read again: leave them unchanged until then. All sequences count alike, weighted or not.

        Raises
        ------
        ValueError
            If a part of this network has no curvature recursion (see `rnncore.optim.curvature`).
        RuntimeError
            Without a ``loss_and_grad`` before.
        """
        from rnncore.optim.curvature import diagonal_curvature

        if self._trained_on is None:
            raise RuntimeError("there is no batch to take the curvature of: call loss_and_grad or train_step first")
        return diagonal_curvature(self, *self._trained_on)

    def _tables(self) -> dict[str, int]:
        """Parameters whose rows belong to symbols or features, and where they begin; in the order of theta."""
        if self.embedding:
            names = ["embedding.E"]
        else:
            names = [f"layers.0.{direction}.W_xh" for direction in self.layers[0].directions]
        if self.skip:
            names.append("head.W_skip")
        return {name: self.layout.starts[name] for name in names}

    def keep_bounds(self) -> None:
        """Put parameters that a cell bounds back within their bounds; an optimizer's step ends with this."""
        for layer in self.layers:
            layer.keep_bounds()

    def update_ranges(self, lazy: bool, groups: Mapping[str, int] | None = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit: rows (start, length, rule) of int64, sorted.

        With ``lazy``, rows of symbols and sparse features whose gradient is zero are left out; what is frozen always
        is. The rule is 2·group, plus 1 where weights decay: biases do not. ``groups`` has the group of each parameter.
        """
        frozen = (self._frozen, *(layer._frozen for layer in self.layers))
        return self._ranges.of(self._touched if lazy else None, frozen, self._frozen_names, groups)

    def _frozen_names(self) -> tuple[str, ...]:
        return self.frozen

    def _homes(self) -> dict[str, tuple[Freezable, str]]:
        """Return for each parameter who it belongs to, a layer or the network, and its name there."""
        homes: dict[str, tuple[Freezable, str]] = {name: (self, name) for name in self.layout.shapes}
        depth = 0
        for layer in self.layers:
            for name in layer.layout.shapes:
                _, number, rest = name.split(".", 2)
                homes[f"layers.{depth + int(number)}.{rest}"] = layer, name
            depth += layer.num_layers
        return homes

    def memory(self) -> dict[str, int]:
        """Return the bytes this network holds, by purpose.

        Returns
        -------
        dict
            parameters, gradients, packed (weights in the kernels' order), tape_and_scratch (arrays of the largest batch
            so far).
        """
        spaces = [space for space, _ in self._training.values()] + [
            space for idle in self._idle.values() for space in idle
        ]
        sizes = [kernel.sizes() for space in spaces for kernel in space]
        return {
            "parameters": self._theta.nbytes,
            "gradients": self._grad.nbytes,
            "packed": sum(packed for packed, _ in sizes),
            "tape_and_scratch": sum(work for _, work in sizes)
            + sum(saved.size() for _, saved in self._training.values()),
        }


__all__ = ["Embedding", "Network", "Softmax", "State"]
