"""Writing step by step: what does not change from step to step is packed once, and held."""

from __future__ import annotations

import numpy as np

from rnncore import _threads
from rnncore._core.dense import Dense
from rnncore._core.held_memory import HeldMemory
from rnncore._core.schedule import Schedule
from rnncore.nn.decoder import SYMBOL, VECTOR, Decoder, Known
from rnncore.nn.session import snapshot_of


class Decoding:
    """A decoder at work, `beams` rows side by side for each sequence; it drives `rnncore.nn.beam.beam_search`.

    Made by ``EncoderDecoder.decoding(…)``. Parameters that change later do not reach it. For one thread at a time.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.EncoderDecoder(None, rc.Recurrent("gru", 4, 8), symbols=5, vector_size=3)
    >>> decoding = net.decoding(np.ones((2, 3)), beams=2)
    >>> found = decoding.step(np.full(4, 5))  # number 5 begins
    >>> found.shape, bool(np.allclose(np.exp(found).sum(axis=1), 1))
    ((4, 6), True)
    >>> decoding.select(np.array([0, 0, 3]))
    >>> decoding.step(np.array([1, 2, 3])).shape
    (3, 6)
    """

    def __init__(self, decoder: Decoder, known: Known, sequences: int, beams: int) -> None:
        self._snapshot = snapshot_of(decoder, decoder.weight_dtype or decoder.dtype.name)
        self._theta = self._snapshot.theta
        self._threads = _threads.resolve(decoder.n_threads)
        kind = decoder.input_kind()
        self._space = self._snapshot.workspace(kind, decoder.kernel_plan(kind))
        self._reader = self._snapshot.reader(decoder)
        self._vector = known.vector
        #: which sequence each row belongs to
        self.owner = np.repeat(np.arange(sequences, dtype=np.int64), beams)
        given = known.state
        if given is None:
            units = [(each.num_layers, width) for each in decoder.layers for width in each.state_widths.values()]
            given = [np.zeros((count, sequences, width), dtype=decoder.dtype) for count, width in units]
        self._state = [np.repeat(part, beams, axis=1) for part in given]
        starts, size, width = decoder.layout.starts, decoder.dtype.itemsize, sum(decoder.seen_parts)
        places = starts["head.W_hy"], starts["head.b_y"]
        self._project = Dense(size, width, decoder.head.outputs, *places, False, decoder.mixed)
        self._project.hold(self._theta, self._snapshot.storage)
        self._memory: HeldMemory | None = None
        if decoder.attention is not None:
            self._hold_memory(decoder, known)

    def _hold_memory(self, decoder: Decoder, known: Known) -> None:
        """Work out the keys once: e = q·W·mᵀ = q·(m·Wᵀ)ᵀ."""
        attention, memory = decoder.attention, known.memory
        assert attention is not None and memory is not None
        steps, sequences = memory.shape[:2]
        keys = memory
        if attention.score == "general":
            turned = np.ascontiguousarray(attention.params["W"].T).reshape(-1)
            key = Dense(memory.itemsize, attention.memory_size, attention.size, 0, -1, False, decoder.mixed)
            rows = memory.reshape(steps * sequences, attention.memory_size)
            keys = key.forward(turned, rows, self._threads).reshape(steps, sequences, attention.size)
        sizes = np.full(sequences, steps) if known.memory_lengths is None else known.memory_lengths
        factor = attention.size**-0.5 if attention.score == "scaled_dot" else 1.0
        self._memory = HeldMemory(keys, memory, sizes, factor)
        width, W_c = attention.memory_size + attention.size, decoder.layout.starts["attention.W_c"]
        self._combine = Dense(memory.itemsize, width, attention.output_size, W_c, -1, True, decoder.mixed)
        self._combine.hold(self._theta, self._snapshot.storage)

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read the symbol (rows,) that each row wrote last, K at first; return log-probabilities of the next.

        Returns
        -------
        float64 array (rows, K + 1)
            Number K is the end.
        """
        rows = len(self.owner)
        schedule = Schedule(1, rows, None)
        x = np.ascontiguousarray(ids, dtype=np.int64).reshape(1, rows)
        if self._reader is not None:
            assert self._vector is not None
            inputs = {SYMBOL: x, VECTOR: self._vector[self.owner]}
            x, _ = self._reader.forward(inputs, schedule, False, (self._threads, 0, 0))
        run = (None, self._threads, 0, 0, None, True)
        seen = self._space.forward(self._theta, schedule, x, self._state, *run).reshape(rows, -1)
        self._state = self._space.final_states()
        if self._memory is not None:
            context, _ = self._memory.attend(seen, self.owner, self._threads)
            seen = self._combine.forward(self._theta, np.concatenate([context, seen], axis=1), self._threads)
        scores = self._project.forward(self._theta, seen, self._threads)
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True, dtype=np.float64))

    def select(self, rows: np.ndarray) -> None:
        """Go on with these rows, in this order: some may come several times, others not at all."""
        self.owner = self.owner[rows]
        self._state = [np.ascontiguousarray(part[:, rows]) for part in self._state]
