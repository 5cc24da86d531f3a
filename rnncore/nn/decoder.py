"""The half of an `EncoderDecoder` that writes: a network that reads what it wrote before and says what comes next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks
from rnncore._core.schedule import Schedule
from rnncore.nn import outputs as places
from rnncore.nn.attention import SCORES, Attention
from rnncore.nn.heads import Softmax
from rnncore.nn.inputs import Embedding, SequenceVector
from rnncore.nn.network import Batch, Network
from rnncore.nn.recurrent import EMBEDDED, Recurrent

SYMBOL, VECTOR = "symbol", "vector"  # the decoder's inputs, where a vector stands beside each symbol


class Known(NamedTuple):
    """What a decoder is told before it begins to write, each part None where it is not told so."""

    vector: np.ndarray | None = None  # (B, V), beside each symbol
    state: list[np.ndarray] | None = None
    memory: np.ndarray | None = None  # (S, B, M)
    memory_lengths: np.ndarray | None = None


class Told(NamedTuple):
    """Gradients of what a decoder was told."""

    vector: np.ndarray | None
    state: list[np.ndarray] | None
    memory: np.ndarray | None


class Written(NamedTuple):
    """Targets as a decoder reads and writes them: one step later, with the end."""

    read: np.ndarray  # (L + 1, B): begin, then the target's symbols
    write: np.ndarray  # (L + 1, B): the target's symbols, then the end; -1 behind it
    lengths: np.ndarray  # (B,), the end counted


def written(targets: Any, target_lengths: Any, sequences: int, symbols: int) -> Written:
    """Return targets (B, L) as a decoder reads and writes them; number `symbols` is both the begin and the end.

    Examples
    --------
    >>> found = written([[3, 1], [2, -1]], None, 2, 4)
    >>> found.read.T.tolist(), found.write.T.tolist(), found.lengths.tolist()
    ([[4, 3, 1], [4, 2, 4]], [[3, 1, 4], [2, 4, -1]], [3, 2])
    """
    if target_lengths is not None:
        targets = _checks.ended(targets, target_lengths)
    given, counts = _checks.own_length_targets(targets, sequences, symbols)
    longest = int(counts.max())
    write = np.full((longest + 1, sequences), -1, dtype=np.int64)
    write[:-1] = given[:, :longest].T
    read = np.full_like(write, symbols)
    read[1:] = np.where(write[:-1] < 0, symbols, write[:-1])
    write[counts, np.arange(sequences)] = symbols
    return Written(read, write, counts + 1)


class Decoder(Network):
    """Layers, attention over a memory from outside, and a softmax over symbols and the end.

    Parameters
    ----------
    layers : Recurrent or list of Recurrent
        All of them run forward in time.
    symbols : int
        K; number K is the begin and the end.
    attention : Attention, str or None
    memory_size : int or None
        M, where there is attention.
    vector_size : int
        V, numbers that stand beside each symbol; 0: none do.
    label_smoothing : float
    """

    def __init__(
        self,
        layers: Any,
        symbols: int,
        attention: Attention | str | None,
        memory_size: int | None,
        vector_size: int,
        label_smoothing: float,
    ) -> None:
        self._memory_size = memory_size
        first = layers if isinstance(layers, Recurrent) else layers[0]
        width = first.input_size - vector_size
        if width < 1:
            raise ValueError(
                f"the decoder reads a symbol's embedding beside a vector of {vector_size} numbers: its first layer's "
                f"input_size must be greater than that, got {first.input_size}"
            )
        table = Embedding(symbols + 1, width)
        parts: dict[str, Any] = {"embedding": table}
        if vector_size:
            parts = {"inputs": {SYMBOL: table, VECTOR: SequenceVector(vector_size)}}
        head = Softmax(symbols + 1, label_smoothing=label_smoothing)
        super().__init__(layers, head, attention=attention, **parts)

    def _attention_of(self, given: Any, last: Recurrent) -> Attention | None:
        if given is None:
            return None
        size = self._memory_size
        if size is None:
            raise ValueError("attention needs an encoder's outputs to look at: give an encoder, or attention=None")
        if isinstance(given, str):
            _checks.one_of(given, SCORES, "attention")
            return Attention(last.output_size, size, given, dtype=last.dtype_policy, random_state=last.random_state)
        if not isinstance(given, Attention):
            raise ValueError(f"attention must be rnncore.Attention(…) or one of {', '.join(SCORES)}, got {given!r}")
        if (given.size, given.memory_size, given.dtype_policy) != (last.output_size, size, last.dtype_policy):
            raise ValueError(
                f"attention of a decoder of {last.output_size} outputs over an encoder of {size} needs "
                f"rnncore.Attention({last.output_size}, memory_size={size}, dtype={last.dtype_policy!r}), got {given!r}"
            )
        if given.causal or given.batch_first:
            raise ValueError("attention over a source sees all of it, time first: leave out causal and batch_first")
        return given

    def check_batch(self, read: np.ndarray, lengths: np.ndarray, known: Known) -> Batch:
        """Return a batch of what is read, with all that is known."""
        x = read if self._reader is None else {SYMBOL: read, VECTOR: known.vector}
        batch = self._check(x, lengths, None, None)
        memory: Any = ()
        if self.attention is not None:
            assert known.memory is not None
            memory = Schedule(known.memory.shape[0], batch.sequences, known.memory_lengths), known.memory
        return batch._replace(states=known.state, memory=memory)

    def learn(
        self, targets: Written, known: Known, accumulate: bool, weights: np.ndarray | None, divisor: float | None
    ) -> tuple[float, Told]:
        """Return the mean loss, and the gradients of what is known; that of the parameters is left in ``grad``."""
        batch = self.check_batch(targets.read, targets.lengths, known)
        wanted = self._check_targets(targets.write, batch)
        divisors = None if divisor is None else places.check_divisor(self.outputs, divisor)
        own = self.__dict__
        with self._access.training:
            own["_pending"] = None
            space, saved = self._training_space(batch.kind)
            kept = self._run(space, batch, saved)
            own["_latest"] = space.layers
            loss = self._losses_of_heads(space, saved, batch, kept, wanted, weights, divisors, accumulate)
            dx, dstate = self._back(space, saved, batch, kept, None, accumulate, False)
            own["_dropout_step"] += 1
            dmemory = None if space.attention is None else space.attention.memory_gradient(self.dtype)
        return loss, Told(None if kept is None else dx[VECTOR], dstate, dmemory)

    def judge(self, targets: Written, known: Known) -> np.ndarray:
        """Return the log-probability of each symbol and end, (L + 1, B) in float64; zero behind the ends."""
        batch = self.check_batch(targets.read, targets.lengths, known)
        wanted = self._check_targets(targets.write, batch)
        with self._access.reading:
            space = self._space(batch.kind)
            self._run(space, batch, None)
            found = space.heads[0].log_likelihood(space.layers, self._theta, wanted[0])
            self._idle[batch.kind].append(space)
        return found

    def look(self, targets: Written, known: Known) -> np.ndarray:
        """Return what each step's attention weighs the memory with, (L + 1, B, S)."""
        batch = self.check_batch(targets.read, targets.lengths, known)
        with self._access.reading:
            space = self._space(batch.kind)
            self._run(space, batch, None)
            assert space.attention is not None
            found = space.attention.weights(self.dtype)
            self._idle[batch.kind].append(space)
        return found

    def input_kind(self) -> int:
        """Return the kind of input that the layers take."""
        return self._input_kinds()[0] if self._reader else EMBEDDED
