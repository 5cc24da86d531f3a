"""A language model's pipeline and task: texts to numbers and back, and what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.symbols import Encoded, SymbolTable
from rnncore.estimators._choice import NOT_FINITE
from rnncore.estimators._initial import draw_initial
from rnncore.estimators._pipeline import Pipeline
from rnncore.estimators._task import Task
from rnncore.nn.heads import AdaptiveSoftmax, Head, SampledSoftmax, Softmax
from rnncore.nn.inputs import Embedding
from rnncore.train.batches import SequenceBatches
from rnncore.train.streams import Stream
from rnncore.train.validation import Validation

__all__ = ["NextSymbol", "TextPipeline", "batches_of"]

_SCORES_AT_ONCE = 1 << 22
_SENTENCES_AT_ONCE = 32


class TextPipeline(Pipeline):
    r"""Texts to symbols' numbers and back.

    Parameters
    ----------
    embedding_size : int or None
    initial
        How first weights are drawn, see `_initial`.
    options
        As `SymbolTable` takes them.

    Examples
    --------
    >>> pipeline = TextPipeline(unit="char", sentences=True)
    >>> pipeline.fit("ab\nb\n")
    >>> pipeline.encode("b\nab").x.tolist(), pipeline.encode("b\nab").y.tolist()
    ([0, 3, 0, 2, 3], [3, 1, 2, 3, 1])
    """

    def __init__(self, embedding_size: int | None = None, initial: Any = None, **options: Any) -> None:
        self.table = SymbolTable(**options)
        self._embedding_size = embedding_size
        self._initial = initial

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """What the layers read: numbers of a vector, or symbols."""
        return self._embedding_size or len(self.table)

    @property
    def embedding(self) -> Embedding | None:  # type: ignore[override]
        """The table of vectors, if there is one."""
        return None if self._embedding_size is None else Embedding(len(self.table), self._embedding_size)

    def fit(self, sequences: Any) -> None:
        """Collect the symbols of a text."""
        self.table.fit(sequences)

    def encode(self, sequences: Any) -> Sequences:
        """Return sentences as what is read and what is to be predicted."""
        parts = self.table.encode_sentences(sequences)
        if not parts:
            raise DataError("expected at least one sentence, got a text without any")
        x, y = ([part[some] for part in parts] for some in (slice(None, -1), slice(1, None)))
        lengths = np.array([len(part) for part in x], dtype=np.int64)
        return Sequences(np.concatenate(x), np.concatenate(y).astype(np.int64), lengths)

    def begin(self, network: Any) -> None:
        """Draw first weights in the way that was asked for."""
        draw_initial(network, self._initial, np.random.default_rng([network.layers[0].random_state, 2]))

    def to_json(self) -> dict[str, Any]:
        """Describe the symbols."""
        return self.table.to_json()

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self.table.from_json(header)


def batches_of(data: Encoded | Sequences, n_symbols: int) -> Any:
    """Return a text as a stream, or sentences as minibatches, of so many symbols that all their scores fit."""
    if isinstance(data, Encoded):
        steps = max(1, _SCORES_AT_ONCE // n_symbols)
        return Stream(data.ids, 1, min(steps, 4096), lookup=data.lookup)
    return SequenceBatches(data, _SENTENCES_AT_ONCE)


class NextSymbol(Task):
    """To predict each symbol from those before it.

    Parameters
    ----------
    softmax : "exact", "adaptive" or "sampled"
        The head.
    cutoffs : sequence of int, optional
        Of an adaptive softmax.
    samples : int
        Of a sampled one.
    tied : bool
        Whether the embedding's table is the head's weights, too.

    Examples
    --------
    >>> task = NextSymbol()
    >>> task.fit(["a", "b"])
    >>> task.head().outputs
    2
    """

    def __init__(
        self, softmax: str = "exact", cutoffs: Sequence[int] | None = None, samples: int = 512, tied: bool = False
    ) -> None:
        self._softmax = softmax
        self._cutoffs = cutoffs
        self._samples = samples
        self._tied = tied
        self.n_symbols = 0

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Learn how many symbols there are."""
        self.n_symbols = len(targets)

    def head(self) -> Head:
        """Make the head."""
        if self._softmax == "adaptive":
            return AdaptiveSoftmax(self.n_symbols, self._cutoffs)
        if self._softmax == "sampled":
            return SampledSoftmax(self.n_symbols, self._samples)
        return Softmax(self.n_symbols, tied=self._tied)

    def log_likelihood(self, network: Any, data: Encoded | Sequences) -> float:
        """Return the mean over symbols, in nats: of sentences, or of a text that is read as one stream."""
        source = batches_of(data, self.n_symbols)
        found = float(Validation(network, source, carry=isinstance(source, Stream))()["val_score"])
        if not math.isfinite(found):
            raise ValueError(NOT_FINITE)
        return found

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what the pipeline described."""
        self.n_symbols = len(header["symbols"])
