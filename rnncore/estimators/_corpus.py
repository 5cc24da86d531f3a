"""A text as a language model trains on it: as a stream or as sentences, with what is set apart to watch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.symbols import SymbolTable
from rnncore.estimators._text import TextPipeline
from rnncore.train.streams import Stream

__all__ = ["Corpus", "corpus_of"]

_FEW = 50  # chunks that an epoch has at least, if it can: few updates hurt more than small batches
_ROWS = 25


class Corpus(NamedTuple):
    """What is trained on and, if there is anything, what is watched."""

    train: Any  # Stream or Sequences
    watched: Any
    batch_size: int
    n_batches: int
    n_symbols: int


def corpus_of(
    settings: Any, pipeline: TextPipeline, text: Any, apart: Any, rng: np.random.Generator, part_off: bool = True
) -> Corpus:
    """Lay out what is trained on and what is watched.

    Parameters
    ----------
    settings : LanguageModel
    pipeline : TextPipeline
    text : text
    apart : text or None
        What is watched, if not a part of `text`.
    rng : numpy.random.Generator
    part_off : bool
        False: nothing is to be watched.
    """
    how = None
    if part_off and apart is None:
        how = settings.validation or ("tail" if settings.early_stopping else None)
    if pipeline.table.sentences:
        return _of_sentences(settings, pipeline, text, apart, how, rng)
    return _of_stream(settings, pipeline.table, text, apart, how)


def _of_sentences(
    settings: Any, pipeline: TextPipeline, text: Any, apart: Any, how: str | None, rng: np.random.Generator
) -> Corpus:
    data: Any = pipeline.encode(text)
    watched = None if apart is None else pipeline.encode(apart)
    if how is not None:
        n = len(data)
        if n < 2:
            raise DataError("expected at least 2 sentences, one of them to validate on, got 1")
        order = np.arange(n) if how == "tail" else rng.permutation(n)
        n_apart = min(max(1, round(settings.validation_fraction * n)), n - 1)
        data, watched = data.select(order[: n - n_apart]), data.select(order[n - n_apart :])
    size = settings.batch_size or min(max(len(data) // 50, 1), 32)
    return Corpus(data, watched, size, -(-len(data) // size), len(data.x))


def _of_stream(settings: Any, table: SymbolTable, text: Any, apart: Any, how: str | None) -> Corpus:
    ids, lookup = table.encode(text)
    n, steps = len(ids), settings.seq_length
    if n < 2:
        raise DataError(f"expected a text of at least 2 symbols, one to read and one to predict, got {n}")
    rows = settings.batch_size or _ROWS
    if settings.batch_size is None:
        rows = max(1, min(rows, n // (_FEW * steps)))
    watched = None
    if how == "interleaved":
        steps = min(steps, max(n // 2, 1))
        train, watched = Stream.interleaved(
            ids, max(1, min(rows, n // (2 * steps))), steps, settings.validation_fraction, lookup=lookup
        )
    else:
        n_apart = 0
        if how == "tail":
            n_apart = max(2, round(settings.validation_fraction * n))
            if n - n_apart < 2:
                raise DataError(
                    f"expected at least 2 symbols to train on and 2 to validate on, a part of "
                    f"{settings.validation_fraction} (validation_fraction); got a text of {n}"
                )
        train = Stream(ids[: n - n_apart], rows, steps, lookup=lookup)
        if n_apart:
            watched = Stream(ids[n - n_apart :], rows, steps, lookup=lookup)
        elif apart is not None:
            given = table.encode(apart)
            if len(given) < 2:
                raise DataError(f"validation_data: expected at least 2 symbols, got {len(given)}")
            watched = Stream(given.ids, rows, steps, lookup=given.lookup)
    return Corpus(train, watched, train.rows, train.n_batches or 0, train.n_steps or 1)
