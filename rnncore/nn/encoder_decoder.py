"""A network that reads a sequence, or a vector, and writes another one, of a length of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.dense import Dense
from rnncore._finite import NonFiniteError, find_in_arrays, first, problem
from rnncore.nn import saving, summary
from rnncore.nn.access import Access
from rnncore.nn.attention import Attention
from rnncore.nn.attributes import KeepsWeights, RunSettings, fixed
from rnncore.nn.decoder import Decoder, Known, Told, written
from rnncore.nn.heads import SquaredError
from rnncore.nn.inputs import Embedding, Segment
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.network import Network, _renewed_inputs
from rnncore.nn.patterns import Freezable
from rnncore.nn.precision import HasPrecision
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.recurrent import Recurrent, adopt, cell_options, users_attributes
from rnncore.nn.touched import Rows, TouchedRows
from rnncore.nn.writing import Writes

CONDITIONINGS = ("state", "input", "both")

_ANOTHER_SEED = 2**62  # the decoder's dropout draws other numbers than the encoder's


class _Touched(TouchedRows):
    """The touched rows of both halves, whose tables begin elsewhere in the whole."""

    def __init__(self, parts: list[tuple[int, TouchedRows]]) -> None:
        self._parts = parts
        self._tables = {start + table: (part, table) for start, part in parts for table in part.state()}

    def of(self, table: int) -> Rows:
        """Return the rows of a table that may differ from zero, or None: any may."""
        part, own = self._tables[table]
        return part.of(own)

    def replace(self, table: int, rows: np.ndarray) -> Rows:
        """Note that a table is written anew, in these rows alone; return those that must be cleared first."""
        part, own = self._tables[table]
        return part.replace(own, rows)

    def mark_all(self) -> None:
        """Note that any row may be written to."""
        for _, part in self._parts:
            part.mark_all()

    def clear(self) -> None:
        """Note that the whole gradient is zero."""
        for _, part in self._parts:
            part.clear()


def _encoder_of(given: Any, embedding: Any, inputs: Any, vector_size: Any) -> Network | None:
    """Return the half that reads: a network whose scores are its outputs; None where a vector stands in its place."""
    if given is None:
        if vector_size is None or embedding is not None or inputs is not None:
            raise ValueError(
                "without an encoder x is one vector for each sequence: give vector_size, and neither embedding nor "
                "inputs"
            )
        return None
    if vector_size is not None:
        raise ValueError(
            "vector_size is for vectors in place of an encoder, whose final states have a size of their own: leave it "
            "out"
        )
    layers = [given] if isinstance(given, Recurrent) else list(given)
    if not layers or not all(isinstance(layer, Recurrent) for layer in layers):
        raise ValueError("encoder must be a Recurrent, a list of at least one, or None")
    return Network(layers, head=SquaredError(layers[-1].output_size, project=False), embedding=embedding, inputs=inputs)


@fixed("encoder", "decoder", "symbols", "conditioning", "vector_size", "label_smoothing", "random_state")
@fixed("dtype", "mixed", "layout", "single_encoder", "single_decoder")
class EncoderDecoder(HasPrecision, FlatArrays, Freezable, Writes, saving.Savable, RunSettings, KeepsWeights):
    """Reads a sequence or a vector and writes a sequence of symbols, each by what it wrote before.

    An encoder's final states, or a vector that is given, are the first state of the decoder, s0 = tanh(v·W + b), or
    stand beside each symbol that it reads, or both (Sutskever, Vinyals and Le 2014; Cho et al. 2014; Vinyals et al.
    2015). With attention the decoder's outputs look at the encoder's before they become scores (Luong, Pham and Manning
    2015, without input feeding)::

        y_t = layers(E[w_t-1], v; s_t-1)     h_t = attention(y_t, encoder's outputs)     p_t = softmax(h_t·W_hy + b_y)

    Parameters
    ----------
    encoder : Recurrent, list of Recurrent, or None
        Reads the source; any directions. None: x is one vector for each sequence.
    decoder : Recurrent or list of Recurrent
        Forward in time. The first one's input_size is the width of its symbols' embedding, and ``vector_size`` more
        where the vector is an input.
    symbols : int
        K. Targets are 0 to K - 1; number K is both what is read before the first symbol and the end that is written.
    embedding, inputs
        Of the source, as of `Network`.
    embedding_size : int, optional
        E of the decoder's symbols; the first layer's input_size says it.
    attention : {"general", "dot", "scaled_dot"}, Attention, or None
        Over the encoder's outputs.
    vector_size : int, optional
        V, without an encoder.
    conditioning : {"state", "input", "both"}, or None
        What the vector, or of an encoder the final states of its last layer (of each direction; an LSTM's c, too), is
        to the decoder. None: nothing, which leaves the attention alone.
    label_smoothing : float
        Of the symbols, as of `Softmax`.
    random_state : int
        Seed of W, the bridge; layers have their own.

    Attributes
    ----------
    theta, grad : ndarray (P,)
        All parameters and gradients, flat: ``encoder.…`` and ``decoder.…`` as in a `Network` (``encoder.layers.0.…``,
        ``decoder.embedding.E`` or ``decoder.inputs.symbol.E``, ``decoder.attention.W``, ``decoder.head.W_hy``), and
        ``bridge.W`` (V, numbers of a state), ``bridge.b``.
    params, grads : mapping of str to ndarray
        Named views of them.
    encoder, decoder : Network
        The two halves.
    dropout_seed, dropout_step : int
        The same values give the same masks; the step counts training passes.

    Raises
    ------
    ValueError
        For parts that do not fit together, saying what would.

    Examples
    --------
    Reversing:

    >>> import numpy as np, rnncore as rc
    >>> encoder, decoder = rc.Recurrent("gru", 8, 16, bidirectional=True), rc.Recurrent("gru", 8, 24)
    >>> net = rc.EncoderDecoder(encoder, decoder, symbols=6, embedding=rc.Embedding(6, 8), attention="general")
    >>> x = np.random.default_rng(0).integers(0, 6, (4, 64))
    >>> adam = rc.Adam(0.02)
    >>> losses = [net.train_step(x, x[::-1].T, adam) for _ in range(150)]
    >>> found, scores = net.decode(x)
    >>> losses[-1] < 0.1, bool((found[0] == x[::-1, 0]).all())
    (True, True)

    From a vector, with a beam:

    >>> net = rc.EncoderDecoder(None, rc.Recurrent("lstm", 8, 16), symbols=6, vector_size=3)
    >>> net.decode(np.ones((2, 3)), beam_size=3, max_length=4)[1].shape
    (2,)
    """

    def __init__(
        self,
        encoder: Recurrent | Sequence[Recurrent] | None,
        decoder: Recurrent | Sequence[Recurrent],
        symbols: int,
        embedding: Embedding | None = None,
        inputs: Mapping[str, Segment] | Sequence[Segment] | None = None,
        embedding_size: int | None = None,
        attention: Attention | str | None = None,
        vector_size: int | None = None,
        conditioning: str | None = "state",
        label_smoothing: float = 0.0,
        random_state: int = 0,
    ) -> None:
        self.symbols = _checks.whole(symbols, "symbols")
        if conditioning is not None:
            _checks.one_of(conditioning, CONDITIONINGS, "conditioning")
        elif attention is None:
            raise ValueError(
                f"without attention the decoder is told nothing of the source but by conditioning: give one of "
                f"{', '.join(CONDITIONINGS)}"
            )
        self.conditioning = conditioning
        self.label_smoothing = _checks.rate(label_smoothing, "label_smoothing")
        self.random_state = _checks.whole(random_state, "random_state", least=0)
        self.single_encoder, self.single_decoder = isinstance(encoder, Recurrent), isinstance(decoder, Recurrent)
        self.encoder = _encoder_of(encoder, embedding, inputs, vector_size)
        memory_size: int | None = None
        if self.encoder is None:
            self.vector_size = _checks.whole(vector_size, "vector_size")
        else:
            last = self.encoder.layers[-1]
            memory_size = last.output_size
            self.vector_size = len(last.directions) * sum(last.state_widths.values())
        writers = [decoder] if isinstance(decoder, Recurrent) else list(decoder)
        if not writers or not all(isinstance(layer, Recurrent) for layer in writers):
            raise ValueError("decoder must be a Recurrent or a list of at least one")
        if any(layer.bidirectional or layer.reverse for layer in writers):
            raise ValueError("a decoder writes forward in time: its layers can be neither bidirectional nor reverse")
        beside = self.vector_size if conditioning in ("input", "both") else 0
        if embedding_size is not None and writers[0].input_size != embedding_size + beside:
            raise ValueError(
                f"the decoder reads an embedding of {embedding_size} numbers"
                + (f" beside a vector of {beside}" if beside else "")
                + f": its first layer needs input_size={embedding_size + beside}, got {writers[0].input_size}"
            )
        self.decoder = Decoder(writers, self.symbols, attention, memory_size, beside, self.label_smoothing)
        self.dtype, self.mixed = self.decoder.dtype, self.decoder.mixed
        if self.encoder is not None and self.encoder.dtype_policy != self.dtype_policy:
            raise ValueError(
                f"encoder and decoder need the same dtype, got {self.encoder.dtype_policy} and {self.dtype_policy}"
            )
        self.layout = Layout(self._shapes())
        self._frozen: frozenset[str] = frozenset()
        self._access = Access()
        theta, grad = aligned_zeros(self.layout.size, self.dtype), aligned_zeros(self.layout.size, self.dtype)
        self._bind(theta, grad)
        self.dropout_seed = writers[0].random_state
        self.dropout_step = 0
        self.n_threads = self.decoder.n_threads
        if self._bridge is not None:
            bound = self.vector_size**-0.5
            view = self.params["bridge.W"]
            view[...] = np.random.default_rng([self.random_state, 3]).uniform(-bound, bound, view.shape)

    # -------------------------------------------------------------- structure

    def _halves(self) -> list[tuple[str, Network]]:
        encoder = [] if self.encoder is None else [("encoder.", self.encoder)]
        return [*encoder, ("decoder.", self.decoder)]

    @property
    def layers(self) -> tuple[Recurrent, ...]:
        """All recurrent layers, those that read first."""
        return tuple(layer for _, half in self._halves() for layer in half.layers)

    def _state_shapes(self) -> list[tuple[int, int]]:
        """Units and width of each array of the decoder's state."""
        return [(layer.num_layers, width) for layer in self.decoder.layers for width in layer.state_widths.values()]

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {prefix + name: shape for prefix, half in self._halves() for name, shape in half.layout.shapes.items()}
        if self.conditioning in ("state", "both"):
            numbers = sum(units * width for units, width in self._state_shapes())
            shapes |= {"bridge.W": (self.vector_size, numbers), "bridge.b": (numbers,)}
        return shapes

    def _bind(self, theta: np.ndarray, grad: np.ndarray) -> None:
        """Take flat arrays as the parameters and gradients, of the two halves too; values move along."""
        self._theta, self._grad = theta, grad
        self._params, self._grads = self.layout.views(theta), self.layout.views(grad)
        touched = []
        start = 0
        for _, half in self._halves():
            where = slice(start, start + half.layout.size)
            theta[where] = half._theta
            half._bind(theta[where], grad[where])
            touched.append((start, half._touched))
            start = where.stop
        self._touched = _Touched(touched)
        self._ranges = UpdateRanges(self.layout, self._tables())
        self._bridge: Dense | None = None
        if "bridge.W" in self.layout.shapes:
            starts, (inputs, outputs) = self.layout.starts, self.layout.shapes["bridge.W"]
            places = starts["bridge.W"], starts["bridge.b"]
            self._bridge = Dense(self.dtype.itemsize, inputs, outputs, *places, True, self.mixed)

    def _tables(self) -> dict[str, int]:
        """Both halves' parameters whose rows belong to symbols, and where they begin; in the order of theta."""
        names = [prefix + name for prefix, half in self._halves() for name in half._tables()]
        return {name: self.layout.starts[name] for name in names}

    @property
    def batch_first(self) -> bool:
        """Sources are (T, B, ...); targets are (B, L) in any case."""
        return False

    @property
    def n_threads(self) -> int | None:
        """Threads; None: the general setting. Results do not depend on it."""
        return self.decoder.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        for _, half in self._halves():
            half.n_threads = value

    @property
    def weight_dtype(self) -> str | None:
        """How predictions keep weights: None, as they are; "bfloat16" or "int8", in fewer bits."""
        return self.decoder.weight_dtype

    @weight_dtype.setter
    def weight_dtype(self, value: str | None) -> None:
        for _, half in self._halves():
            half.weight_dtype = value

    @property
    def dropout_seed(self) -> int:
        """Seed of dropout's random numbers."""
        return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, value: int) -> None:
        self._dropout_seed = _checks.whole(value, "dropout_seed", least=0, most=2**62 - 1)
        for prefix, half in self._halves():
            half.dropout_seed = self._dropout_seed + (_ANOTHER_SEED if prefix == "decoder." else 0)

    @property
    def dropout_step(self) -> int:
        """Number of training passes so far; the same value gives the same masks."""
        return self.decoder.dropout_step

    @dropout_step.setter
    def dropout_step(self, value: int) -> None:
        for _, half in self._halves():
            half.dropout_step = value

    def keep_bounds(self) -> None:
        """Put parameters that a cell bounds back within their bounds; an optimizer's step ends with this."""
        for _, half in self._halves():
            half.keep_bounds()

    def update_ranges(self, lazy: bool, groups: Mapping[str, int] | None = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit, see ``Network.update_ranges``."""
        inner = [part._frozen for _, half in self._halves() for part in (half, *half._inner)]
        return self._ranges.of(self._touched if lazy else None, [self._frozen, *inner], lambda: self.frozen, groups)

    def _homes(self) -> dict[str, tuple[Freezable, str]]:
        homes: dict[str, tuple[Freezable, str]] = {name: (self, name) for name in self.layout.shapes}
        for prefix, half in self._halves():
            homes |= {prefix + name: home for name, home in half._homes().items()}
        return homes

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self._grad[...] = 0
        self._touched.clear()

    def memory(self) -> dict[str, int]:
        """Return the bytes this network holds, by purpose, as ``Network.memory``."""
        found = [half.memory() for _, half in self._halves()]
        total = {name: sum(part[name] for part in found) for name in found[0]}
        return total | {"parameters": self._theta.nbytes, "gradients": self._grad.nbytes}

    def summary(self) -> str:
        """Return a table of the parts: the shape of their outputs, parameters, bytes.

        Examples
        --------
        >>> import rnncore as rc
        >>> net = rc.EncoderDecoder(None, rc.Recurrent("gru", 4, 5), symbols=7, vector_size=3)
        >>> print(net.summary())
        part               what                 output     parameters  bytes
        bridge             to the first state   (B, 5)             20     80
        decoder.embedding  of 8 symbols         (T, B, 4)          32    128
        decoder.layers.0   gru, forward         (T, B, 5)         155    620
        decoder.head       softmax, every step  (T, B, 8)          48    192
        total                                                     255  1,020
        """
        rows: list[summary.Row] = []
        for prefix, half in self._halves():
            if prefix == "decoder." and self._bridge is not None:
                inputs, outputs = self.layout.shapes["bridge.W"]
                rows.append(("bridge", "to the first state", f"(B, {outputs})", (inputs + 1) * outputs))
            own = summary.network_rows(half)
            own = own[:-1] if prefix == "encoder." else own  # its head has no parameters
            rows += [(prefix + name, what, shape, size) for name, what, shape, size in own]
        frozen = sum(self._params[name].size for name in self.frozen)
        return summary.table(rows, self.dtype.itemsize, frozen)

    def copy(self, dtype: Any = None) -> EncoderDecoder:
        """Return a network of the same structure and parameters, in another precision if asked.

        Examples
        --------
        >>> import rnncore as rc
        >>> net = rc.EncoderDecoder(None, rc.Recurrent("gru", 4, 5), symbols=7, vector_size=3)
        >>> net.copy("float64").theta.dtype
        dtype('float64')
        """
        precision = self.dtype_policy if dtype is None else dtype
        given = self._arguments()
        for name in ("encoder", "decoder"):
            layers = given[name]
            if layers is not None:
                made = [Recurrent(**cell_options(each), dtype=precision) for each in layers]
                given[name] = made[0] if getattr(self, f"single_{name}") else made
        if self.decoder.attention is not None:
            given["attention"] = self.decoder.attention.copy(precision)
        twin = EncoderDecoder(**given)
        twin.theta[...] = self._theta
        twin.freeze(*self.frozen)
        twin.dropout_seed, twin.dropout_step, twin.n_threads = self.dropout_seed, self.dropout_step, self.n_threads
        return twin

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments that build a network like this one, with layers as lists, on this one's own parts."""
        encoder = self.encoder
        return {
            "encoder": None if encoder is None else list(encoder.layers),
            "decoder": list(self.decoder.layers),
            "symbols": self.symbols,
            "embedding": None if encoder is None else encoder.embedding,
            "inputs": None if encoder is None else encoder.inputs,
            "attention": self.decoder.attention,
            "vector_size": self.vector_size if encoder is None else None,
            "conditioning": self.conditioning,
            "label_smoothing": self.label_smoothing,
            "random_state": self.random_state,
        }

    def __repr__(self) -> str:
        encoder = f"vectors of {self.vector_size}" if self.encoder is None else str(list(self.encoder.layers))
        return (
            f"EncoderDecoder({encoder}, {list(self.decoder.layers)}, symbols={self.symbols}, "
            f"attention={self.decoder.attention}, conditioning={self.conditioning!r}, {self._theta.size} parameters)"
        )

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        return "EncoderDecoder", {"encoder_decoder": saving.encoder_decoder_to_json(self)}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> EncoderDecoder:
        return saving.read(saving.encoder_decoder_from_json, header["encoder_decoder"], arrays)

    def __getstate__(self) -> dict[str, Any]:
        names = ("single_encoder", "single_decoder", "n_threads", "dropout_seed", "dropout_step")
        own = {name: getattr(self, name) for name in names} | {"arguments": self._arguments()}
        rows = [half._touched.state() for _, half in self._halves()]
        return users_attributes(self) | own | {"flat": (self._theta, self._grad), "rows": rows, "frozen": self.frozen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):  # through the constructor, so that no unchecked number gets to the kernels
            made = object.__new__(type(self))
            given = dict(state["arguments"])
            for name in ("encoder", "decoder"):
                if state[f"single_{name}"]:
                    (given[name],) = given[name]
            table = given["embedding"]
            given["embedding"] = None if table is None else Embedding(table.symbols, table.size)
            given["inputs"] = _renewed_inputs(given["inputs"])
            EncoderDecoder.__init__(made, **given)
            made.n_threads = state["n_threads"]
            made.dropout_seed, made.dropout_step = state["dropout_seed"], state["dropout_step"]
            for array, value, name in zip((made._theta, made._grad), state["flat"], ("theta", "grad"), strict=True):
                array[...] = _checks.flat(value, name, array)
            for (_, half), rows in zip(made._halves(), state["rows"], strict=True):
                lengths = {start: len(half._params[name]) for name, start in half._tables().items()}
                half._touched.restore(rows, lengths)
            made.freeze(*state["frozen"])
            adopt(self, made, state)

    def __copy__(self) -> EncoderDecoder:
        return copy.deepcopy(self)  # layers cannot stand in two networks

    # -------------------------------------------------------------- running

    def _check_vectors(self, x: Any) -> np.ndarray:
        found = _checks.array(x, "x")
        if found.ndim != 2 or found.shape[1] != self.vector_size or found.dtype.kind not in "fiub" or not len(found):
            raise ValueError(
                f"x must be one vector for each sequence, numbers (B, {self.vector_size}); got {found.dtype} of shape "
                f"{found.shape}"
            )
        return np.ascontiguousarray(found, dtype=self.dtype)

    def _read(self, x: Any, lengths: Any, training: bool) -> tuple[np.ndarray, Known]:
        """Return the vector (B, V) that the source is, and what the decoder is told."""
        memory = sizes = state = None
        if self.encoder is None:
            if lengths is not None and (np.asarray(lengths) != 1).any():
                raise ValueError("x is one vector for each sequence, which is one step long: leave lengths out")
            vector = self._check_vectors(x)
        else:
            outputs, final = self.encoder.forward(x, lengths, training=training)
            vector = self._final_vector([final] if self.encoder.single else final)
            if self.decoder.attention is not None:
                memory = outputs
                sizes = _checks.lengths(lengths, *outputs.shape[:2])
        if self._bridge is not None:
            flat = self._bridge_of(training).forward(self._theta, vector, _threads.resolve(self.n_threads))
            state = self._as_state(flat)
        beside = vector if self.conditioning in ("input", "both") else None
        return vector, Known(beside, state, memory, sizes)

    def _bridge_of(self, training: bool) -> Dense:
        """Return the map from the vector to the state: the only one for training, or one that no other call uses."""
        assert self._bridge is not None
        if training:
            return self._bridge
        starts, (inputs, outputs) = self.layout.starts, self.layout.shapes["bridge.W"]
        return Dense(self.dtype.itemsize, inputs, outputs, starts["bridge.W"], starts["bridge.b"], True, self.mixed)

    def _final_vector(self, final: list[Any]) -> np.ndarray:
        """Return the last layer's final states (B, V), those of all directions side by side."""
        assert self.encoder is not None
        ways = len(self.encoder.layers[-1].directions)
        return np.concatenate([part for array in final[-1] for part in array[-ways:]], axis=1)

    def _final_gradient(self, dvector: np.ndarray) -> Any:
        """Return the gradient of the encoder's final states, from that of the vector they make."""
        assert self.encoder is not None
        sequences, at = len(dvector), 0
        arrays = []
        for layer in self.encoder.layers:
            units, ways = layer.num_layers * len(layer.directions), len(layer.directions)
            for width in layer.state_widths.values():
                arrays.append(np.zeros((units, sequences, width), dtype=self.dtype))
                if layer is self.encoder.layers[-1]:
                    for unit in range(units - ways, units):
                        arrays[-1][unit] = dvector[:, at : at + width]
                        at += width
        return self.encoder.join_state(arrays)

    def _as_state(self, flat: np.ndarray) -> list[np.ndarray]:
        """Return what the bridge made as the decoder's state: of array after array, unit after unit."""
        arrays, at = [], 0
        for units, width in self._state_shapes():
            part = flat[:, at : at + units * width].reshape(len(flat), units, width)
            arrays.append(np.ascontiguousarray(part.swapaxes(0, 1)))
            at += units * width
        return arrays

    def _as_flat(self, dstate: list[np.ndarray]) -> np.ndarray:
        """Return a state's gradient as that of what the bridge made."""
        sequences = dstate[0].shape[1]
        return np.concatenate([part.swapaxes(0, 1).reshape(sequences, -1) for part in dstate], axis=1)

    def _sequences(self, x: Any) -> int:
        return self.batch_shape(x)[1]

    def loss_and_grad(
        self,
        x: Any,
        targets: Any,
        lengths: Any = None,
        target_lengths: Any = None,
        accumulate: bool = False,
        sample_weight: Any = None,
        divisor: float | None = None,
    ) -> float:
        """Return the mean loss of a batch in nats per symbol, the end counted, and leave its gradient in ``grad``.

        Parameters
        ----------
        x : array (T, B, D), ids (T, B), bags of ids (T, B, F), what ``inputs`` ask for, or vectors (B, V)
            The source: what the encoder reads; without one, vectors.
        targets : int array (B, L)
            Symbols 0 to K - 1, with -1 behind each one's end. They may be empty.
        lengths : array (B,) of ints, optional
            Steps of the sources.
        target_lengths : array (B,) of ints, optional
            Of the targets; without, what stands before the first -1.
        accumulate : bool
            Add to ``grad`` instead of overwriting it.
        sample_weight : array (B,), optional
            Factor of each sequence's loss.
        divisor : float, optional
            What the sum of the losses is divided by; without, the batch's own ``batch_weight``.

        Raises
        ------
        ValueError
            For arrays that do not fit; an unsound target is named by its sequence.
        RuntimeError
            If another Python thread is using this network.
        """
        targets = written(targets, target_lengths, self._sequences(x), self.symbols)
        weights = None
        if sample_weight is not None:
            weights = _checks.sample_weight(sample_weight, *targets.write.shape)
            if weights.ndim != 1:
                raise ValueError(f"sample_weight must be (B,), one for each sequence; got shape {weights.shape}")
        with self._access.training:
            vector, known = self._read(x, lengths, True)
            loss, told = self.decoder.learn(targets, known, accumulate, weights, divisor)
            self._read_back(vector, known, told, accumulate)
        return loss

    def _read_back(self, vector: np.ndarray, known: Known, told: Told, accumulate: bool) -> None:
        """Go back from the gradient of what the decoder was told to the bridge's and the encoder's parameters."""
        dvector = told.vector
        if self._bridge is not None:
            assert known.state is not None and told.state is not None
            arrays = (vector, self._as_flat(known.state), self._as_flat(told.state))
            threads = _threads.resolve(self.n_threads)
            through = self._bridge.backward(self._theta, self._grad, *arrays, threads, accumulate)
            dvector = through if dvector is None else dvector + through
        if self.encoder is not None:
            dmemory = told.memory
            if dmemory is None:
                pending = self.encoder._pending
                assert pending is not None
                shape = (pending.batch.steps, pending.batch.sequences, self.encoder.heads["head"].outputs)
                dmemory = np.zeros(shape, dtype=self.dtype)
            dstate = None if dvector is None else self._final_gradient(dvector)
            self.encoder.backward(dmemory, dstate, accumulate, want_dx=False)

    def train_step(
        self,
        x: Any,
        targets: Any,
        optimizer: Any,
        lengths: Any = None,
        target_lengths: Any = None,
        sample_weight: Any = None,
        divisor: float | None = None,
    ) -> float:
        """Forward, loss, backward, clipping and update; returns the loss before the update.

        The arguments are those of ``loss_and_grad``, and an optimizer such as ``rnncore.Adam()``.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite. Weights, the optimizer and ``dropout_step`` are as they were;
            the error names what is not finite, in x the sequence and step, too.
        """
        dropout_step = self.dropout_step
        loss = self.loss_and_grad(x, targets, lengths, target_lengths, False, sample_weight, divisor)
        try:
            if not math.isfinite(loss):
                raise self._explained(x, loss)
            optimizer.step(self)
        except NonFiniteError:
            self.dropout_step = dropout_step
            raise
        return loss

    def _explained(self, x: Any, loss: float) -> NonFiniteError:
        """Return what made a loss not finite: the source, the parameters, or else the loss itself."""
        if not isinstance(x, Mapping | tuple | list):
            array = np.asarray(x)
            at = first(array) if array.dtype.kind == "f" else None
            if at is not None:
                sequence, step = (int(at[0]), None) if self.encoder is None else (int(at[1]), int(at[0]))
                return problem("x", float(array[at]), sequence, step)
        return find_in_arrays(self) or problem("the loss", loss)

    # -------------------------------------------------------------- batches

    def batch_shape(self, x: Any) -> tuple[int, int]:
        """Return T and B of a batch of sources; of vectors T is 1."""
        if self.encoder is None:
            return 1, len(self._check_vectors(x))
        try:
            return self.encoder.batch_shape(x)
        except (ValueError, TypeError):
            self.encoder._check(x, None, None, None)  # says what is wrong
            raise

    def batch_weight(self, targets: Any, lengths: Any = None, target_lengths: Any = None) -> float:
        """Return what the sum of a batch's losses is divided by to give their mean: its symbols and ends."""
        given = _checks.array(targets, "targets")
        found = written(given, target_lengths, given.shape[0] if given.ndim else 0, self.symbols)
        return float(found.lengths.sum())

    def part_of_batch(self, x: Any, targets: Any, steps: int, some: slice) -> tuple[Any, Any]:
        """Return some of a batch's sequences, and their sources' first steps: of x and of the targets."""
        own = np.asarray(targets)[some]
        if self.encoder is None:
            return np.asarray(x)[some], own
        return self.encoder.part_of_batch(x, np.zeros((0, self._sequences(x))), steps, some)[0], own


__all__ = ["CONDITIONINGS", "EncoderDecoder"]
