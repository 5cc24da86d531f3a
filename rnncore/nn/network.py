"""A network: what it reads, recurrent layers, and heads, on one flat vector of parameters."""

from __future__ import annotations

import copy
import math
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.attention import Attention as AttentionKernel
from rnncore._core.heads import Head as HeadKernel
from rnncore._core.memory import Saved
from rnncore._core.plan import Plan
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore._finite import NonFiniteError, explain
from rnncore.nn import order, saving, summary
from rnncore.nn import outputs as places
from rnncore.nn.access import Access
from rnncore.nn.activations import ShowsActivations, of_network
from rnncore.nn.attention import Attention, attention_of
from rnncore.nn.attributes import KeepsWeights, RunSettings, fixed
from rnncore.nn.custom import CustomHead, called, predicted, weight_of
from rnncore.nn.heads import POOLINGS, Head, SampledSoftmax, Softmax
from rnncore.nn.inputs import Embedding, Segment, parameter_of, reader_of
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.precision import HasPrecision
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
from rnncore.nn.scoring import ScoresTargets
from rnncore.nn.touched import TouchedRows

if TYPE_CHECKING:
    from rnncore.nn.session import Session, Snapshot


class Space(NamedTuple):
    """Where one call at a time runs: the layers' workspace, the heads', and the attention's between them."""

    layers: Workspace
    heads: tuple[HeadKernel, ...]
    attention: AttentionKernel | None
    snapshot: Snapshot | None = None  # whose packed weights they read; None: those of the latest call


class Batch(NamedTuple):
    """What a batch brings, checked."""

    kind: int
    x: Any  # an array, or one for each segment by name
    steps: int
    sequences: int
    sizes: np.ndarray | None
    ids: np.ndarray | None  # of sparse features
    values: np.ndarray | None
    states: list[np.ndarray] | None
    feedback: np.ndarray | None
    memory: tuple[()] | tuple[Schedule, np.ndarray] = ()  # that a decoder's attention looks at

    def features(self, part: places.Output) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the sparse features' ids and values, for a head that sees them."""
        return (self.ids, self.values) if part.features else (None, None)


class Pending(NamedTuple):
    """A forward pass whose loss is taken outside."""

    space: Space
    saved: Saved
    batch: Batch
    kept: Any


@fixed(
    *("single", "layers", "head", "heads", "outputs", "readout", "pooling", "loss_weights", "embedding", "skip"),
    *("inputs", "attention", "batch_first", "dtype", "mixed", "layout"),
)
class Network(
    HasPrecision, FlatArrays, Freezable, ShowsActivations, ScoresTargets, saving.Savable, RunSettings, KeepsWeights
):
    """What is read, recurrent layers, pooling and heads, trained together.

    Parameters
    ----------
    layers : Recurrent or list of Recurrent
        Each layer's input_size is the output_size of the one before. Their parameters move into the network's.
    head : Head
        Softmax(K), AdaptiveSoftmax(K), SampledSoftmax(K), SquaredError(K), SigmoidCrossEntropy(K), CRF(K), CTC(K), or
        one on `rnncore.CustomHead`.
    readout : str
        As ``pooling``, by its older name.
    pooling : {"every", "last", "mean", "max", "attention"}
        A head sees the outputs of every step, or one vector per sequence: the last outputs (of each direction, at its
        own last step), their mean, the largest number of each unit, or a mean weighted by attention: z = Σ_t α_t h_t,
        α = softmax over t of tanh(h_t·W + b)·v (Yang et al. 2016). A head may have a ``pooling`` of its own.
    embedding : Embedding, optional
        For symbols (ids) as input. Without one, ids pick rows of the first layer's W_xh.
    skip : int
        Number N of sparse features with direct weights to the head's scores, past the recurrent layers, as a
        maximum-entropy model has them: s_t += Σ_f value_f·W_skip[id_f]. With skip, wherever x is asked for it is a
        tuple (x, ids) or (x, ids, values): ids (T, B, F) with -1 for none, values numbers of that shape (ones if left
        out). Needs pooling "every".
    heads : dict of str to Head, instead of ``head``
        Several heads on the same layers, such as slots for each word and an intent for the sentence. Targets,
        predictions and scores are then dicts; a batch may leave heads out. The loss is the weighted sum of theirs.
    loss_weights : dict of str to float, optional
        How much each head's loss counts; 1 without.
    inputs : dict of str to segments, or a list of them; instead of ``embedding``
        What each step reads, side by side: `Embedding`, `Features`, `Numbers`, `SequenceVector`, `Letters`. x is then a
        dict (or tuple) of arrays. The first layer's input_size is the sum of their widths.
    attention : Attention, or {"general", "dot", "scaled_dot"}, optional
        What heads see are not the layers' outputs but what these find by attention over the steps of their own
        sequence, see `rnncore.Attention`; by the name of a score alone with all else as it is by default.
    batch_first : bool
        Wherever a batch is asked for or comes back, it is (B, T, ...) instead of (T, B, ...): x, targets of every step,
        feedback, sparse features, scores, predictions, labels, activations. States stay as they are. The layers
        themselves run time first.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and gradients, flat: ``embedding.E`` (V, E), ``layers.0.fwd.W_xh`` and so on; of attention
        ``attention.W`` and ``attention.W_c``; of a head that projects, ``head.W_hy`` (F, K) and ``head.b_y`` (K,); a
        CRF's ``head.transitions`` (K, K), ``head.start`` and ``head.end`` (K,); of an adaptive softmax
        ``head.tails.0.P``, ``head.tails.0.W`` and so on, of a sampled one ``head.W_yh`` (K, F);
        ``head.W_skip`` (N, K), zeros at first;
        of attention as pooling ``head.attention.W`` (F, A), ``.b`` and ``.v`` (A,). Of several heads
        ``heads.NAME.W_hy`` and so on, of segments ``inputs.NAME.E`` and so on.
    params, grads : mapping of str to ndarray
        Named views of them.
    state : tuple, or list of tuples for a list of layers
        Final states of the latest training call: pass it on as ``state=`` to carry on where a chunk of text ended.
    head, heads : Head or None, and dict of str to Head
        The only head, if there is but one; all by name ("head" for an only one).
    losses : dict of str to float
        Each head's part of the loss of the latest training call.
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

    A label for each step and one for the sequence, from ids and numbers side by side:

    >>> inputs = {"word": rc.Embedding(50, 6), "numbers": rc.Numbers(2)}
    >>> heads = {"slots": rc.CRF(5), "intent": rc.Softmax(3, pooling="attention")}
    >>> net = rc.Network(rc.Recurrent("gru", 8, 16, bidirectional=True), heads=heads, inputs=inputs)
    >>> x = {"word": np.zeros((4, 2), int), "numbers": np.ones((4, 2, 2))}
    >>> loss = net.train_step(x, {"slots": np.zeros((4, 2), int), "intent": np.array([1, 2])}, rc.Adam(0.1))
    >>> {name: p.shape for name, p in net.predict(x).items()}
    {'slots': (4, 2, 5), 'intent': (2, 3)}
    """

    def __init__(
        self,
        layers: Recurrent | Sequence[Recurrent],
        head: Head | None = None,
        readout: str | None = None,
        embedding: Embedding | None = None,
        skip: int = 0,
        *,
        pooling: str | None = None,
        heads: Mapping[str, Head] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        inputs: Mapping[str, Segment] | Sequence[Segment] | None = None,
        attention: Attention | str | None = None,
        batch_first: bool = False,
    ) -> None:
        self.single = isinstance(layers, Recurrent)
        self.layers: tuple[Recurrent, ...] = (layers,) if isinstance(layers, Recurrent) else tuple(layers)
        if readout is not None and pooling is not None:
            raise ValueError(f"readout is pooling's older name: got {readout!r} and {pooling!r}, leave readout out")
        given = "every" if readout is None else readout
        general = _checks.one_of(given if pooling is None else pooling, POOLINGS, "pooling")
        self.head: Any = head
        self.skip = _checks.whole(skip, "skip", least=0)
        self.outputs = places.outputs_of(head, heads, general, loss_weights, self.skip)
        self.heads: Mapping[str, Head] = MappingProxyType({part.name or "head": part.head for part in self.outputs})
        self.loss_weights = None if loss_weights is None else dict(loss_weights)
        self.pooling = self.readout = general if heads is not None else self.outputs[0].pooling
        self.embedding = embedding
        self.inputs = dict(inputs) if isinstance(inputs, Mapping) else None if inputs is None else list(inputs)
        self._reader = reader_of(inputs)
        self.batch_first = _checks.flag(batch_first, "batch_first")
        self._check_layers()
        last = self.layers[-1]
        self.attention = self._attention_of(attention, last)
        self._check_heads()
        self.dtype, self.mixed = self.layers[0].dtype, self.layers[0].mixed
        self.layout = Layout(self._shapes())
        self.n_threads = self.layers[0].n_threads
        self.dropout_seed = self.layers[0].dropout_seed
        self.dropout_step = 0
        self._losses: dict[str, float] = {}
        self._plain = self.head is not None and self._reader is None and self.attention is None
        self._plain = self._plain and not isinstance(self.head, CustomHead | SampledSoftmax)
        self._strict = [part.head for part in self.outputs if type(part.head).check_batch is not Head.check_batch]
        self._access = Access()
        self._frozen: frozenset[str] = frozenset()
        theta, grad = aligned_zeros(self.layout.size, self.dtype), aligned_zeros(self.layout.size, self.dtype)
        for start, layer in zip(self._layer_starts(), self.layers, strict=True):
            theta[start : start + layer.layout.size] = layer._theta
        if self.attention:
            theta[self._attention_place()] = self.attention._theta
        self._bind(theta, grad)
        self._initialise()

    # -------------------------------------------------------------- structure

    def _check_layers(self) -> None:
        if not self.layers or not all(isinstance(layer, Recurrent) for layer in self.layers):
            raise ValueError("layers must be a Recurrent or a list of at least one")
        if self.embedding is not None and not isinstance(self.embedding, Embedding):
            raise ValueError(f"embedding must be rnncore.Embedding(symbols, size) or None, got {self.embedding!r}")
        if self._reader and self.embedding:
            raise ValueError("inputs and embedding do not go together: make the embedding one of the inputs")
        width = self.embedding.size if self.embedding else self.layers[0].input_size
        width = self._reader.width if self._reader else width
        for n, layer in enumerate(self.layers):
            if layer.input_size != width:
                raise ValueError(f"layer {n} has input_size {layer.input_size}, but {width} numbers come to it")
            width = layer.output_size
        first = self.layers[0]
        if any(layer.plan.timed and (n or self.embedding or self._reader) for n, layer in enumerate(self.layers)):
            raise ValueError(
                "irregular is for the first layer, on dense data, whose last column says how much time passes: not on "
                "top of other layers, an embedding or inputs"
            )
        for layer in self.layers[1:]:
            if (layer.dtype_policy, layer.truncate) != (first.dtype_policy, first.truncate):
                raise ValueError("all layers of a network need the same dtype and the same truncate")
        if any(layer.batch_first for layer in self.layers):
            raise ValueError(
                "layers of a network run time first: give batch_first=True to the Network, not to its layers"
            )
        if len({id(layer) for layer in self.layers}) != len(self.layers):
            raise ValueError("each layer can stand in a network once: build a second one")

    def _attention_of(self, given: Any, last: Recurrent) -> Attention | None:
        return attention_of(given, last.output_size, last)

    def _check_heads(self) -> None:
        width = sum(self.seen_parts)
        for head in self.heads.values():
            if not head.project and head.outputs > width:
                raise ValueError(
                    f"a head of {head.outputs} outputs with project=False needs a layer of at least as many: the last "
                    f"one gives {width}"
                )

        table = self.embedding
        for head in self.heads.values():
            if not getattr(head, "tied", False):
                continue
            if table is None:
                raise ValueError("a tied head projects by the embedding: give embedding=rnncore.Embedding(K, E)")
            if (head.outputs, width) != (table.symbols, table.size):
                raise ValueError(
                    f"a tied head of {head.outputs} outputs on {width} numbers needs an embedding of just as many "
                    f"symbols and numbers, got {table.symbols} and {table.size}: give the last layer as many outputs "
                    "as the embedding has numbers, an LSTM by proj_size=…, any other cell by hidden_size"
                )

    @property
    def seen_parts(self) -> list[int]:
        """Widths of the parts of what heads see."""
        return [self.attention.output_size] if self.attention else self.layers[-1].output_parts

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        if self.embedding:
            shapes["embedding.E"] = (self.embedding.symbols, self.embedding.size)
        if self._reader:
            shapes |= self._reader.shapes
        depth = 0
        for layer in self.layers:
            for name, shape in layer.layout.shapes.items():
                _, number, rest = name.split(".", 2)
                shapes[f"layers.{depth + int(number)}.{rest}"] = shape
            depth += layer.num_layers
        if self.attention:
            shapes |= {f"attention.{name}": shape for name, shape in self.attention.layout.shapes.items()}
        for output in self.outputs:
            shapes |= output.shapes(sum(self.seen_parts))
        return shapes

    def _layer_starts(self) -> list[int]:
        starts, start = [], self.embedding.symbols * self.embedding.size if self.embedding else 0
        if self._reader:
            start = sum(math.prod(shape) for shape in self._reader.shapes.values())
        for layer in self.layers:
            starts.append(start)
            start += layer.layout.size
        return starts

    def _attention_place(self) -> slice:
        """Return which part of theta is the attention's."""
        assert self.attention is not None
        start = self.layout.starts[f"attention.{next(iter(self.attention.layout.shapes))}"]
        return slice(start, start + self.attention.layout.size)

    def _bind(self, theta: np.ndarray, grad: np.ndarray) -> None:
        """Take flat arrays as the parameters and gradients, of the layers too."""
        self._theta, self._grad, self._touched = theta, grad, TouchedRows(self._tables().values())
        self._params, self._grads = self.layout.views(theta), self.layout.views(grad)
        for start, layer in zip(self._layer_starts(), self.layers, strict=True):
            end = start + layer.layout.size
            layer.move_to(theta[start:end], grad[start:end], self._touched, self._access)
        if self.attention:
            where = self._attention_place()
            self.attention.move_to(theta[where], grad[where], self._touched, self._access)
        if self._reader:
            seed = self.layers[0].random_state
            self._reader.bind(self._params, self._grads, self.layout.starts, (theta, grad), seed, self.dtype_policy)
        self._plans: dict[int, Plan] = {}
        self._idle: dict[int, list[Space]] = {kind: [] for kind in (DENSE, SYMBOLS, EMBEDDED)}  # no call runs in them
        self._training: dict[int, tuple[Space, Saved]] = {}
        self._latest: Workspace | None = None  # of the last training call
        self._trained_on: tuple[Any, Any, Any, Any] | None = None
        self._pending: Pending | None = None
        self._schedule: Schedule | None = None
        self._snapshots: Any = weakref.WeakValueDictionary()  # what sessions have packed, by how it is kept
        self._kept: Snapshot | None = None  # what predictions have packed
        self._ranges = UpdateRanges(self.layout, self._tables())
        self._inner = [*self.layers, *([self.attention] if self.attention else ())]
        self._inner += self._reader.layers.values() if self._reader else ()

    def _head_kernels(self) -> tuple[HeadKernel, ...]:
        return tuple(part.kernel(self.layout, self.dtype, self.seen_parts, self.mixed) for part in self.outputs)

    def _initialise(self) -> None:
        rng = np.random.default_rng([self.layers[0].random_state, 1])
        if self.embedding:
            self.embedding.initialise(self.params["embedding.E"], rng)
        if self._reader:
            self._reader.initialise(self.params, rng)
        for output in self.outputs:
            output.initialise(self.params, sum(self.seen_parts), rng)

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
            self._plans[kind] = Plan(self.dtype.itemsize, groups, kind, options, self.mixed)
        return self._plans[kind]

    def _space(self, kind: int) -> Space:
        """Return a space that no other call runs in, on weights kept as `weight_dtype` says."""
        storage, kept = self._weight_dtype, self._kept
        if storage is None:
            kept = None
        elif kept is None or kept.storage != storage or not kept.still(self):
            from rnncore.nn.session import snapshot_of

            kept = snapshot_of(self, storage)
        self._kept = kept
        return self._space_on(kind, kept)

    def _space_on(self, kind: int, snapshot: Snapshot | None) -> Space:
        idle = self._idle[kind]
        while idle:
            space = idle.pop()
            if space.snapshot is snapshot:
                return space
        attention = self.attention.kernel(self._attention_place().start) if self.attention else None
        if snapshot is None:
            return Space(Workspace(self.kernel_plan(kind)), self._head_kernels(), attention)
        layers, heads = snapshot.workspace(kind, self.kernel_plan(kind)), tuple(snapshot.heads(self).values())
        return Space(layers, heads, attention, snapshot)

    def _training_space(self, kind: int) -> tuple[Space, Saved]:
        """Return the space of training calls, one at a time, and what they save for backward."""
        if kind not in self._training:
            self._training[kind] = self._space_on(kind, None), Saved()
        return self._training[kind]

    def to_onnx(
        self, path: str | os.PathLike[str], inputs: str | Mapping[str, str] | None = None, about: Any = None
    ) -> None:
        """Write the whole network as one ONNX model, for onnxruntime and others; needs the package onnx.

        Cells that ONNX has operators for become these, all others loops over their equations. It computes in single
        precision, without dropout, on batches of any number of steps and sequences, time first.

        Its inputs are ``x`` (T, B, D), ids (T, B) or bags (T, B, N), and ``lengths`` (B,) int64; of a network with
        sparse features also ``skip_ids`` and ``skip_values`` (T, B, F). Its outputs are ``scores``, before softmax or
        sigmoid, with these heads ``probabilities``, and with a CRF ``labels``, the most probable ones. What lies past
        a sequence's end means nothing, but ids there must be ids, too.

        Of a network with ``inputs`` each is an input by its own name (of a list ``0``, ``1``, ...), as ``predict``
        takes it; the values of `Features` are ``NAME.values``. Of one with ``heads`` each is an output by its own name,
        what ``predict`` gives: probabilities, a CRF's marginals, or values. ``NAME.scores`` are its scores,
        ``NAME.labels`` a CRF's most probable labels.

        Parameters
        ----------
        path : str or path
        inputs : {"numbers", "ids", "bags"}, or dict of str to {"ids", "bags"}, optional
            What x is. Without: numbers, or ids where there is an embedding. With segments a dict: which of the
            embeddings read bags.
        about : anything JSON can hold, optional
            Kept in the model's metadata under ``rnncore``.

        Raises
        ------
        ValueError
            For a cell, segment or head (a `CustomHead`) that cannot be written, and names that are given twice.
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

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        return "Network", {"network": saving.network_to_json(self)}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Network:
        return saving.read(saving.network_from_json, header["network"], arrays)

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
        precision = self.dtype_policy if dtype is None else dtype
        layers = [Recurrent(**cell_options(layer), dtype=precision) for layer in self.layers]
        parts = self._parts()
        if self.attention:
            parts["attention"] = self.attention.copy(precision)
        twin = Network(layers[0] if self.single else layers, **parts)
        twin.theta[...] = self.theta
        twin.freeze(*self.frozen)
        twin.dropout_seed, twin.dropout_step, twin.n_threads = self.dropout_seed, self.dropout_step, self.n_threads
        twin.weight_dtype = self.weight_dtype if twin.dtype == self.dtype else None
        return twin

    def _parts(self) -> dict[str, Any]:
        """Return the arguments that build a network like this one, but for its layers."""
        several = self.head is None
        return {
            "head": self.head,
            "heads": dict(self.heads) if several else None,
            "pooling": self.pooling,
            "loss_weights": self.loss_weights,
            "embedding": self.embedding,
            "skip": self.skip,
            "inputs": self.inputs,
            "attention": self.attention,
            "batch_first": self.batch_first,
        }

    def __repr__(self) -> str:
        heads = str(self.head) if self.head else str(dict(self.heads))
        return f"Network({list(self.layers)}, {heads}, pooling={self.pooling!r}, {self._theta.size} parameters)"

    def __getstate__(self) -> dict[str, Any]:
        names = ("single", "layers", "n_threads", "dropout_seed", "dropout_step")
        own = {name: getattr(self, name) for name in names} | self._parts()
        arrays = {"theta": self._theta, "grad": self._grad, "touched": self._touched.state(), "frozen": self.frozen}
        return users_attributes(self) | own | arrays

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):  # through the constructor, so that no unchecked number gets to the kernels
            made = object.__new__(type(self))
            layers, embedding = state["layers"], state["embedding"]
            Network.__init__(
                made,
                layers[0] if state["single"] else layers,
                None if state["head"] is None else places.renewed(state["head"]),
                pooling=state["pooling"] if "pooling" in state else state["readout"],
                embedding=None if embedding is None else replace(embedding),
                skip=state.get("skip", 0),
                heads={name: places.renewed(one) for name, one in (state.get("heads") or {}).items()} or None,
                loss_weights=state.get("loss_weights"),
                inputs=_renewed_inputs(state.get("inputs")),
                attention=state.get("attention"),
                batch_first=state.get("batch_first", False),
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
        if not self.embedding:
            return self.layers[0].check_input(x, lengths)
        if type(x) is not np.ndarray:
            x = _checks.array(x, "x")
        steps, sequences = x.shape[:2] if x.ndim >= 2 else (0, 0)
        sizes = None if lengths is None else _checks.lengths(lengths, steps, sequences)
        if x.dtype.kind not in "iu":
            raise ValueError(f"a network with an embedding reads ids (whole numbers), got an array of {x.dtype}")
        return EMBEDDED, _checks.ids(x, self.embedding.symbols, sizes), sizes

    def check_state(self, state: Any, sequences: int) -> list[np.ndarray] | None:
        """Return a state's arrays, those of each of the ``layers`` in turn, checked."""
        if state is None:
            return None
        if any(layer.bidirectional or layer.reverse for layer in self.layers):
            raise ValueError("a carried state needs layers that run forward in time: a reverse direction starts anew")
        return self._state_arrays(state, sequences)

    def _state_arrays(self, state: Any, sequences: int) -> list[np.ndarray]:
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

    def _check(self, x: Any, lengths: Any, state: Any, feedback: Any) -> Batch:
        ids = values = None
        if self.skip or (self._reader is None and type(x) is not np.ndarray):
            x, ids, values = _checks.skip_input(x, self.skip)
        if self._reader is None:
            kind, x, sizes = self._check_input(x, lengths)
            steps, sequences = x.shape[:2]
        else:
            kind = DENSE
            x, steps, sequences, sizes = self._reader.check(x, lengths, self.dtype)
        if ids is not None:
            ids, values = _checks.skip_features(ids, values, self.skip, (steps, sequences), sizes, self.dtype)
        for head in self._strict:
            head.check_batch(steps, sizes)
        states = None if state is None else self.check_state(state, sequences)
        given = None if feedback is None else self.layers[-1].check_feedback(feedback, steps, sequences)
        return Batch(kind, x, steps, sequences, sizes, ids, values, states, given)

    def _time_first(self, x: Any, feedback: Any, targets: Any = None, scores: bool = False) -> tuple[Any, Any, Any]:
        """Return what a caller gives batch first as everything behind the door takes it.

        scores : what stands as targets is shaped as scores are.
        """
        if self._reader is None:
            x = order.time_first(x, "x")
        elif self.skip and isinstance(x, tuple):
            x = (self._reader.time_first(x[0]), *order.time_first(x[1:], "x"))
        else:
            x = self._reader.time_first(x)
        if self.head is not None:
            part = self.outputs[0]
            by_step = part.by_step if scores else part.targets_by_step
            targets = order.time_first(targets, "targets") if by_step else targets
        elif isinstance(targets, Mapping):
            turned = {part.name for part in self.outputs if (part.by_step if scores else part.targets_by_step)}
            targets = {
                name: order.time_first(one, "targets") if name in turned else one for name, one in targets.items()
            }
        return x, order.time_first(feedback, "feedback"), targets

    def _batch_first(self, found: Any) -> Any:
        """Return the results of all heads as a caller wants them who gives batches first."""
        given = [found] if self.head is not None else [found[part.name] for part in self.outputs]
        turned = [
            order.batch_first(one) if part.by_step and one is not None else one
            for part, one in zip(self.outputs, given, strict=True)
        ]
        return places.joined(self.outputs, turned)

    def _run(self, space: Space, batch: Batch, saved: Saved | None) -> Any:
        """Run the layers forward; return what the segments' backward pass will need."""
        schedule = self._schedule_of(batch.steps, batch.sequences, batch.sizes)
        threads = _threads.resolve(self._n_threads)
        seed, step = self._dropout_seed, self._dropout_step
        x, kept = batch.x, None
        if self._reader is not None:
            x, kept = self._reader.forward(x, schedule, saved is not None, (threads, seed, step))
        space.layers.forward(self._theta, schedule, x, batch.states, saved, threads, seed, step, batch.feedback)
        if space.attention is not None:
            space.attention.attend(space.layers, self._theta, saved is not None, *batch.memory)
        return kept

    def loss_and_grad(
        self,
        x: Any,
        targets: Any,
        lengths: Any = None,
        state: Any = None,
        accumulate: bool = False,
        sample_weight: Any = None,
        feedback: Any = None,
        divisor: Any = None,
        target_lengths: Any = None,
    ) -> float:
        """Return the mean loss of a batch, and leave its gradient in ``grad``.

        Parameters
        ----------
        x : array (T, B, D), or ids (T, B), or bags of ids (T, B, F) with -1 for none
            A tuple (x, ids) or (x, ids, values) for a network with sparse features, see ``skip``; a dict or tuple of
            arrays for one with ``inputs``.
        targets : array, or dict of arrays for a network of several heads
            Classes (T, B) for pooling "every", else (B,); -1 is ignored (a CRF
            sums over what is not known). Numbers (T, B, K) or (B, K) for squared error
            and sigmoid heads, and for a softmax that is to learn probabilities. What lies
            past a sequence's end does not count. Symbols (B, L) for a CTC, with -1 behind their ends.
        lengths : array (B,) of ints, optional
        state : tuple of arrays (layers, B, H), optional
            Initial states, as left in ``state`` by the batch before.
        accumulate : bool
            Add to ``grad`` instead of overwriting it.
        sample_weight : array (B,), or (T, B) for heads that see every step, of numbers of at least 0, optional
            Factor of each sequence's loss, or of each step's (but a CRF's, whose loss is of whole sequences). The
            divisor stays what it is without: weights with a mean other than 1
            change the size of the loss.
        feedback : array (T, B, F), optional
            Teacher forcing, see ``Recurrent.forward``: what the last layer sees instead of its own outputs.
        divisor : float, or dict of floats for several heads, optional
            What the sum of the losses is divided by. Without: the batch's own ``batch_weight``, which makes it the
            mean. With that of several batches together, and ``accumulate``, they give the gradient of one.
        target_lengths : array (B,) of ints, optional
            How many symbols each target of a CTC has. Without, all before the first -1.

        Returns
        -------
        float
            Mean over counted targets: nats for cross-entropies. Of a CTC over sequences.

        Raises
        ------
        ValueError
            For arrays that do not fit.
        RuntimeError
            If another Python thread is using this network.
        """
        if target_lengths is not None:
            targets = places.ended(self.outputs, targets, target_lengths)
        if self.batch_first:
            x, feedback, targets = self._time_first(x, feedback, targets)
        batch = self._check(x, lengths, state, feedback)
        wanted = self._check_targets(targets, batch)
        weights = None if sample_weight is None else self._check_weights(sample_weight, batch, wanted)
        divisors = None if divisor is None else places.check_divisor(self.outputs, divisor)
        own = self.__dict__  # what is private needs no look at what is fixed
        with self._access.training:
            own["_pending"] = None
            space, saved = self._training_space(batch.kind)
            kept = self._run(space, batch, saved)
            own["_latest"] = space.layers
            if self._plain:
                loss: float = space.heads[0].loss_and_grad(
                    *(space.layers, saved, self._theta, self._grad, self._touched, wanted[0], accumulate),
                    *(batch.ids, batch.values, weights, None if divisors is None else divisors[0]),
                )
                own["_losses"] = {"head": loss}
            else:
                loss = self._losses_of_heads(space, saved, batch, kept, wanted, weights, divisors, accumulate)
                self._back(space, saved, batch, kept, None, accumulate, False)
            own["_dropout_step"] += 1
            own["_trained_on"] = (x, targets, lengths, state)
            return loss

    def _check_weights(self, given: Any, batch: Batch, wanted: list[Any]) -> np.ndarray:
        if self.batch_first:
            given = order.time_first(given, "sample_weight")
        weights = _checks.sample_weight(given, batch.steps, batch.sequences)
        for part, targets in zip(self.outputs, wanted, strict=True):
            whole = not part.by_step or part.head.of_sequences
            if weights.ndim == 2 and whole and targets is not None:
                what = f"the {part.head.name} head {part.name!r}".replace(" ''", "")
                raise ValueError(f"sample_weight must be (B,), one per sequence, for {what}; got {weights.shape}")
        return weights

    def _check_targets(self, targets: Any, batch: Batch) -> list[Any]:
        """Return each head's targets, or None."""
        if self.head is not None:
            shape: tuple[int, ...] = (batch.steps, batch.sequences) if self.pooling == "every" else (batch.sequences,)
            return [self.head.check_targets(targets, shape, batch.sizes, self.dtype)]
        found = []
        for output, given in zip(self.outputs, places.by_name(self.outputs, targets, "targets"), strict=True):
            shape = output.shape(batch.steps, batch.sequences)
            try:
                one = None if given is None else output.head.check_targets(given, shape, batch.sizes, self.dtype)
            except ValueError as problem:
                raise ValueError(f"targets[{output.name!r}]: {problem}") from None
            found.append(one)
        return found

    def _losses_of_heads(
        self,
        space: Space,
        saved: Saved,
        batch: Batch,
        kept: Any,
        wanted: list[Any],
        weights: np.ndarray | None,
        divisors: list[float | None] | None,
        accumulate: bool,
    ) -> float:
        """Return the loss of a run; leave the heads' gradient in ``grad``, and that of what they see to the layers."""
        arrays = (self._theta, self._grad, self._touched)
        losses, first = {}, True
        for n in places.in_order(self.outputs):
            output, targets = self.outputs[n], wanted[n]
            name = output.name or "head"
            if targets is None and output.name:
                if not accumulate:
                    self._clear_head(output)
                continue
            features = batch.features(output)
            if isinstance(output.head, CustomHead):
                scores = space.heads[n].forward(space.layers, self._theta, True, *features)
                loss, dscores = called(output.head, scores, targets, batch.sizes, weights)
                factor, divisor = output.factor, None if divisors is None else divisors[n]
                if divisor is not None:
                    factor *= output.head.weight(scores.shape, targets, batch.sizes) / divisor
                space.heads[n].backward(
                    space.layers, saved, *arrays, dscores * self.dtype.type(factor), accumulate, first, kept is not None
                )
                losses[name] = loss * factor
            else:
                if isinstance(output.head, SampledSoftmax):
                    space.heads[n].take_samples(*output.head.drawn(self._dropout_seed, self._dropout_step))
                losses[name] = space.heads[n].loss_and_grad(
                    *(space.layers, saved, *arrays, targets, accumulate, *features),  # type: ignore[arg-type]
                    sample_weight=weights,
                    divisor=None if divisors is None else divisors[n],
                    factor=output.factor,
                    first=first,
                    last=False,
                    want_dx=kept is not None,
                )
            first = False
        self.__dict__["_losses"] = losses
        return float(sum(losses.values()))

    def _clear_head(self, output: places.Output) -> None:
        """Zero the gradient of a head that this batch has no targets for."""
        for name in output.shapes(sum(self.seen_parts)):
            self._grads[name][...] = 0
            if name.endswith((".W_skip", ".W_yh")):
                self._touched.replace(self.layout.starts[name], np.empty(0, dtype=np.int64))

    def _back(
        self,
        space: Space,
        saved: Saved,
        batch: Batch,
        kept: Any,
        dstate: list[np.ndarray] | None,
        accumulate: bool,
        want_dx: bool,
    ) -> tuple[Any, Any]:
        """Go back through layers and segments from what the heads left; return dx and the initial states' gradients."""
        dx: Any
        if space.attention is not None:
            space.attention.attend_back(space.layers, self._theta, self._grad, accumulate)
        dx, initial = space.layers.backward(
            *(self._theta, self._grad, saved, None, dstate, accumulate),
            *(want_dx or kept is not None, True, self._touched),
        )
        if kept is not None and self._reader:
            threads = _threads.resolve(self._n_threads)
            dx = self._reader.backward(dx, kept, self._touched, accumulate, threads)
        return dx, initial

    def batch_weight(self, targets: Any, lengths: Any = None) -> Any:
        """Return what the sum of a batch's losses is divided by to give their mean.

        For cross-entropies the sum of the class weights of the counted targets, else the number of outputs.

        Parameters
        ----------
        targets, lengths
            As for ``loss_and_grad``.

        Returns
        -------
        float, or dict of floats for a network of several heads

        Examples
        --------
        Two halves of a batch give the gradient of the whole:

        >>> import numpy as np, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 2, 4, dtype="float64"), head=rc.Softmax(3))
        >>> x, y = np.ones((5, 6, 2)), np.arange(30).reshape(5, 6) % 3
        >>> whole = net.loss_and_grad(x, y)
        >>> wanted = net.grad.copy()
        >>> total = net.batch_weight(y)
        >>> parts = [net.loss_and_grad(x[:, s], y[:, s], divisor=total, accumulate=s.start > 0)
        ...          for s in (slice(0, 3), slice(3, 6))]
        >>> bool(np.isclose(sum(parts), whole)), bool(np.allclose(net.grad, wanted))
        (True, True)
        """
        if self.batch_first:
            targets = self._time_first(None, None, targets)[2]
        found: list[float] = []
        for output, given in zip(self.outputs, places.by_name(self.outputs, targets, "targets"), strict=True):
            if given is None and output.name:
                found.append(0.0)
                continue
            array = _checks.array(given, "targets")
            if output.head.own_length:
                found.append(float(len(array)))
                continue
            steps_and_sequences = array.shape[:2] if output.by_step else (1, *array.shape[:1])
            if len(steps_and_sequences) != 2 or 0 in steps_and_sequences:
                raise ValueError(f"targets must have shape {'(T, B)' if output.by_step else '(B,)'} or more dimensions")
            if isinstance(output.head, CustomHead):
                found.append(weight_of(output.head, output.shape(*steps_and_sequences), given, lengths))
                continue
            sizes = None
            if output.by_step and lengths is not None:
                sizes = _checks.lengths(lengths, *steps_and_sequences)
            shape = array.shape[: 2 if output.by_step else 1]
            checked = output.head.check_targets(array, shape, sizes, self.dtype)
            kernel = output.kernel(self.layout, self.dtype, self.seen_parts, self.mixed)
            found.append(kernel.weight(Schedule(*steps_and_sequences, sizes), checked))
        return places.joined(self.outputs, found)

    def batch_shape(self, x: Any) -> tuple[int, int]:
        """Return T and B of a batch that this network reads."""
        if self.skip and isinstance(x, tuple):
            x = x[0]
        if self._reader is not None:
            x = self._reader.first_by_step(x)
        first, second = np.shape(x)[:2]
        return (second, first) if self.batch_first else (first, second)

    def part_of_batch(self, x: Any, targets: Any, steps: int, some: slice) -> tuple[Any, Any]:
        """Return some of a batch's sequences, and their first steps: of x and of the targets."""
        window = (some, slice(steps)) if self.batch_first else (slice(steps), some)

        def cut(array: Any, by_step: bool = True) -> Any:
            return None if array is None else np.asarray(array)[window if by_step else some]

        def cut_input(given: Any) -> Any:
            return cut(given) if self._reader is None else self._reader.each(given, cut)

        features = x[1:] if self.skip and isinstance(x, tuple) else ()
        x = (cut_input(x[0]), *map(cut, features)) if features else cut_input(x)
        if self.head is not None:
            return x, cut(targets, self.outputs[0].targets_by_step)
        by_step = {part.name: part.targets_by_step for part in self.outputs}
        return x, {name: cut(one, by_step[name]) for name, one in targets.items()}

    def forward(
        self, x: Any, lengths: Any = None, state: Any = None, training: bool = True, feedback: Any = None
    ) -> tuple[Any, Any]:
        """Return the heads' scores, for a loss taken outside; with ``training``, ``backward`` goes on from there.

        Parameters
        ----------
        x, lengths, state, feedback
            As for ``loss_and_grad``.
        training : bool
            Apply dropout and keep what ``backward`` needs. Without, any number of threads may call at once.

        Returns
        -------
        scores : array (T, B, K), zero past a sequence's end, or (B, K) where outputs are pooled; or a dict of them
            Before softmax or sigmoid.
        state
            The final state, as ``state`` of a training call.

        Examples
        --------
        Squared error of a difference of two sequences, which no head has:

        >>> import numpy as np, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 2, 4), head=rc.SquaredError(1, pooling="last"))
        >>> scores, _ = net.forward(np.random.default_rng(0).normal(size=(5, 2, 2)).astype("float32"))
        >>> difference = scores[0] - scores[1] - 1
        >>> dx, _ = net.backward(2 * np.stack([difference, -difference]))
        >>> dx.shape
        (5, 2, 2)
        """
        if any(head.name == "adaptive" for head in self.heads.values()):
            raise ValueError("an adaptive softmax has no scores of all classes: use loss_and_grad, loss or predict")
        if self.batch_first:
            x, feedback, _ = self._time_first(x, feedback)
        batch = self._check(x, lengths, state, feedback)
        with self._access.training if training else self._access.reading:
            if training:
                self._pending = None
                space, saved = self._training_space(batch.kind)
            else:
                space, saved = self._space(batch.kind), None
            kept = self._run(space, batch, saved)
            found = [
                kernel.forward(space.layers, self._theta, training, *batch.features(part))
                for part, kernel in zip(self.outputs, space.heads, strict=True)
            ]
            final = self.join_state(space.layers.final_states())
            if saved is None:
                self._idle[batch.kind].append(space)
            else:
                self._latest = space.layers
                self._pending = Pending(space, saved, batch, kept)
                self.__dict__["_dropout_step"] += 1
            scores = places.joined(self.outputs, found)
            return self._batch_first(scores) if self.batch_first else scores, final

    def backward(
        self, dscores: Any, dstate: Any = None, accumulate: bool = False, want_dx: bool = True
    ) -> tuple[Any, Any]:
        """Go back from the scores' gradient: leaves all parameters' in ``grad``. Belongs to the latest ``forward``.

        Parameters
        ----------
        dscores : array of the scores' shape, or a dict of them
            A dict may leave heads out.
        dstate : as a state, optional
            Gradient of the final states.
        accumulate : bool
            Add to ``grad`` instead of overwriting it.
        want_dx : bool
            Whether dx is of use; without, None may come in its place.

        Returns
        -------
        dx : array (T, B, D), or None where the input was ids; one for each of the ``inputs``
        dstate : gradient of the initial states, or None where there were none

        Raises
        ------
        RuntimeError
            Without a ``forward(training=True)`` before it that no other training call came after.
        ValueError
            For arrays that do not fit.
        """
        with self._access.training:
            pending = self._pending
            if pending is None:
                raise RuntimeError(
                    "backward needs a forward(training=True) before it, without another training call in between, and "
                    "each forward serves one backward: call forward again"
                )
            space, saved, batch, kept = pending
            if self.batch_first:
                dscores = self._time_first(None, None, dscores, scores=True)[2]
            given = []
            for part, one in zip(self.outputs, places.by_name(self.outputs, dscores, "dscores"), strict=True):
                shape = (*part.shape(batch.steps, batch.sequences), part.head.outputs)
                missing = one is None and part.name
                given.append(None if missing else _checks.output_gradient(one, shape, self.dtype))
            arrays = None if dstate is None else self._state_arrays(dstate, batch.sequences)
            self._pending = None
            want_dx = (want_dx or kept is not None) and batch.kind == DENSE
            first = True
            for n in places.in_order(self.outputs):
                dscore = given[n]
                if dscore is None:
                    if not accumulate:
                        self._clear_head(self.outputs[n])
                    continue
                space.heads[n].backward(
                    *(space.layers, saved, self._theta, self._grad, self._touched),
                    *(dscore, accumulate, first, want_dx),
                )
                first = False
            dx, initial = self._back(space, saved, batch, kept, arrays, accumulate, want_dx)
            if self.batch_first:
                dx = order.batch_first(dx) if self._reader is None and dx is not None else dx
                dx = dx if self._reader is None else self._reader.time_first(dx)
            return dx, None if initial is None else self.join_state(initial)

    def train_step(
        self,
        x: Any,
        targets: Any,
        optimizer: Any,
        lengths: Any = None,
        state: Any = None,
        sample_weight: Any = None,
        feedback: Any = None,
        divisor: Any = None,
        target_lengths: Any = None,
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
        if target_lengths is not None:
            targets = places.ended(self.outputs, targets, target_lengths)
        loss = self.loss_and_grad(x, targets, lengths, state, False, sample_weight, feedback, divisor)
        try:
            if not math.isfinite(loss):
                raise NonFiniteError("the loss is not finite", "the loss")
            optimizer.step(self)
        except NonFiniteError as problem:
            self.dropout_step = dropout_step
            if self.batch_first:
                x, feedback, targets = self._time_first(x, feedback, targets)
                sample_weight = order.time_first(sample_weight, "sample_weight")
            batch = self._check(x, lengths, state, feedback)
            raise explain(self, batch, targets, sample_weight, loss, problem) from None
        return loss

    def predict(
        self,
        x: Any,
        lengths: Any = None,
        state: Any = None,
        feedback: Any = None,
        return_state: bool = False,
        out: np.ndarray | None = None,
        heads: Sequence[str] | None = None,
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
        heads : list of str, optional
            Names of the heads to ask, of several; without all of them.

        Returns
        -------
        array (T, B, K), zero past a sequence's end, for pooling "every"; else (B, K); a dict for several heads
        """
        asked = places.asked(self.outputs, heads)
        if self.batch_first:
            x, feedback, _ = self._time_first(x, feedback)
        batch = self._check(x, lengths, state, feedback)
        outs = [None] * len(self.outputs) if out is None else self._check_out(batch, out)
        with self._access.reading:
            space = self._space(batch.kind)
            self._run(space, batch, None)
            if self._plain and not self.batch_first:
                result: Any = space.heads[0].predict(space.layers, self._theta, batch.ids, batch.values, outs[0])
            else:
                result = self._predictions(space, self._theta, batch, outs, asked)
            if return_state:
                result = result, self.join_state(space.layers.final_states())
            self._idle[batch.kind].append(space)
            return result

    def _check_out(self, batch: Batch, out: Any) -> list[Any]:
        """Return the caller's place for each head's results, checked."""
        found = []
        like = batch.x if isinstance(batch.x, np.ndarray) else np.empty(0, self.dtype)
        for part, one in zip(self.outputs, places.by_name(self.outputs, out, "out"), strict=True):
            shape = part.shape(batch.steps, batch.sequences)
            shape = (*(shape[::-1] if self.batch_first else shape), part.head.outputs)
            found.append(None if one is None else _checks.out(one, shape, self.dtype, like))
        return found

    def _predictions(
        self, space: Space, theta: np.ndarray, batch: Batch, outs: list[Any], asked: Sequence[int] | None = None
    ) -> Any:
        """Return what each head, or those `asked`, makes of a run, as the caller wants it."""
        found = []
        asked = range(len(self.outputs)) if asked is None else asked
        for n in asked:
            part, kernel, given = self.outputs[n], space.heads[n], outs[n]
            turn = self.batch_first and part.by_step
            place = None if turn else given
            if isinstance(part.head, CustomHead):
                scores = kernel.forward(space.layers, theta, False, *batch.features(part))
                made = predicted(part.head, scores, batch.sizes, place)
            else:
                made = kernel.predict(space.layers, theta, *batch.features(part), place)
            found.append(order.batch_first(made, given) if turn else made)
        return places.joined([self.outputs[n] for n in asked], found)

    def _activations(self, x: Any, lengths: Any, state: Any, feedback: Any) -> dict[str, np.ndarray]:
        if not self.batch_first:
            return of_network(self, x, lengths, state, feedback)
        x, feedback, _ = self._time_first(x, feedback)
        return {name: order.batch_first(v) for name, v in of_network(self, x, lengths, state, feedback).items()}

    def decode(
        self,
        x: Any,
        lengths: Any = None,
        top: int = 1,
        state: Any = None,
        heads: Sequence[str] | None = None,
        probabilities: bool = False,
    ) -> Any:
        """Return the most probable labels: of whole sequences for a CRF (Viterbi), of each output for softmax.

        Parameters
        ----------
        x, lengths, state
            As for ``loss_and_grad``.
        top : int
            A CRF gives this many label sequences for each input, the best first.
        heads : list of str, optional
            Names of the heads to ask, of several; without all of them.
        probabilities : bool
            Return what `predict` returns beside the others, as the third of three, from the same run of the layers.

        Returns
        -------
        paths : int64 array (T, B), or (top, T, B) for top > 1
            -1 past a sequence's end, and all of it where there are fewer than `top` label sequences. For a softmax
            head with a pooling other than "every": (B,). For several heads a dict of such pairs.
        scores : float64 array (B,), or (top, B) for top > 1
            Log-probability of each path, -inf where there is none. (For softmax, the sum over outputs.)
        probabilities : array (T, B, K) or (B, K), if asked for
            Of each label by itself.

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
        asked = places.asked(self.outputs, heads)
        for part in (self.outputs[n] for n in asked):
            if part.head.name not in ("softmax", "adaptive", "sampled", "crf"):
                raise ValueError(
                    "decode needs heads of classes, softmax, adaptive, sampled or crf; "
                    f"a {part.head.name} head has predict"
                    + (", and rnncore.ctc makes symbols of that" if part.head.name == "ctc" else " alone")
                )
            if part.head.name != "crf" and top > 1:
                raise ValueError(f"top={top} needs a CRF head: a {part.head.name} head decides each output for itself")
        if self.batch_first:
            x, _, _ = self._time_first(x, None)
        batch = self._check(x, lengths, state, None)
        with self._access.reading:
            space = self._space(batch.kind)
            self._run(space, batch, None)
            found: list[Any] = []
            for n in asked:
                part, kernel = self.outputs[n], space.heads[n]
                features = batch.features(part)
                p: Any = None
                if part.head.name != "crf" or probabilities:
                    p = kernel.predict(space.layers, self._theta, *features)
                if part.head.name != "crf":
                    paths, scores = _most_probable(p, batch.sizes, part.by_step)
                else:
                    paths, scores = kernel.decode(space.layers, self._theta, top, *features)
                    paths, scores = (paths, scores) if top > 1 else (paths[0], scores[0])
                if self.batch_first and part.by_step:
                    paths = np.ascontiguousarray(paths.swapaxes(-1, -2))
                    p = order.batch_first(p) if probabilities else None
                found.append((paths, scores, p) if probabilities else (paths, scores))
            self._idle[batch.kind].append(space)
        return places.joined([self.outputs[n] for n in asked], found)

    def session(self, batch_size: int = 1, weight_dtype: Any = None) -> Session:
        """Return a stream through this network, on weights that are packed once; its results are those of ``predict``.

        With several heads, ``step`` and ``run`` return dicts. A head with pooling sees all steps since the stream
        began: ``step`` gives what it makes of the sequence until now. With ``inputs``, a step is given what ``predict``
        takes without the axis of time; a SequenceVector may be left out once it was given, until ``reset``.

        Parameters
        ----------
        batch_size : int
            B, sequences side by side.
        weight_dtype : {"float32", "float64", "bfloat16", "int8"}, optional
            How weights are kept, if not as they are: in half or a quarter of the bits, of float32 networks
            (:class:`rnncore.nn.session.Session`).

        Returns
        -------
        Session

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

    def _input_kinds(self) -> tuple[int, ...]:
        return (DENSE,) if self._reader else (EMBEDDED,) if self.embedding else (DENSE, SYMBOLS)

    def _session_results(self, heads: tuple[HeadKernel, ...], theta: np.ndarray, batch: Batch, out: Any) -> Any:
        """Return what makes a run of a session the heads' results."""
        outs = [None] * len(self.outputs) if out is None else self._check_out(batch, out)
        return lambda layers: self._predictions(Space(layers, heads, None), theta, batch, outs)

    @property
    def losses(self) -> dict[str, float]:
        """Each head's part of the loss of the latest training call; of a network's only head under the name "head"."""
        return dict(self._losses)

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
        elif self._reader:
            names = list(self._reader.tables(self.layout.starts))
        else:
            names = [f"layers.0.{direction}.W_xh" for direction in self.layers[0].directions]
        names += [f"{part.prefix}W_skip" for part in self.outputs if part.features]
        names += [f"{part.prefix}W_yh" for part in self.outputs if part.head.name == "sampled"]
        return {name: self.layout.starts[name] for name in names}

    def keep_bounds(self) -> None:
        """Put parameters that a cell bounds back within their bounds; an optimizer's step ends with this."""
        for layer in self.layers:
            layer.keep_bounds()
        if self._reader:
            self._reader.keep_bounds()

    def update_ranges(self, lazy: bool, groups: Mapping[str, int] | None = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit: rows (start, length, rule) of int64, sorted.

        With ``lazy``, rows of symbols and sparse features whose gradient is zero are left out; what is frozen always
        is. The rule is 2·group, plus 1 where weights decay: biases do not. ``groups`` has the group of each parameter.
        """
        frozen = [self._frozen, *[part._frozen for part in self._inner]]
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
        if self.attention:
            homes |= {f"attention.{own}": (self.attention, own) for own in self.attention.layout.shapes}
        for segment, layer in self._reader.layers.items() if self._reader else ():
            homes |= {parameter_of(segment, own): (layer, own) for own in layer.layout.shapes}
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
        sizes = [space.layers.sizes() for space in spaces]
        sizes += [kernel.sizes() for space in spaces for kernel in space.heads]
        sizes += [space.attention.sizes() for space in spaces if space.attention is not None]
        return {
            "parameters": self._theta.nbytes,
            "gradients": self._grad.nbytes,
            "packed": sum(packed for packed, _ in sizes),
            "tape_and_scratch": sum(work for _, work in sizes)
            + sum(saved.size() for _, saved in self._training.values()),
        }


def _most_probable(
    probabilities: np.ndarray, lengths: np.ndarray | None, by_step: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return each output's most probable class, and its logarithm, summed over steps."""
    paths = probabilities.argmax(axis=-1)
    with np.errstate(divide="ignore"):
        scores = np.log(probabilities.max(axis=-1), dtype=np.float64)
    if not by_step:
        return paths, scores
    if lengths is not None:
        beyond = np.arange(len(paths))[:, None] >= lengths
        paths[beyond], scores[beyond] = -1, 0.0
    return paths, scores.sum(axis=0)


def _renewed_inputs(inputs: Any) -> Any:
    """Return segments that came out of a pickle, checked as new ones are."""
    if isinstance(inputs, Mapping):
        return {name: replace(part) for name, part in inputs.items()}
    return None if inputs is None else [replace(part) for part in inputs]


__all__ = ["Embedding", "Network", "Softmax", "State"]
