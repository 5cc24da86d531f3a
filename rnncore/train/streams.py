"""One long sequence of symbols as minibatches: rows side by side, read chunk by chunk with the state carried on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.optim.arguments import check_count, check_number
from rnncore.train.batches import Batch

__all__ = ["Stream"]


class Stream:
    """A text as numbers, laid out as rows that are read side by side, chunk by chunk: what comes next is learned.

    Row b holds the symbols from ``b·columns`` on. Chunk c of all rows together is a minibatch, whose targets are the
    symbols one place further on; the state that it ends in is what the next one begins with (truncated
    back-propagation through time). The symbols may lie in a memory-mapped file: a chunk reads its own ones only.

    Parameters
    ----------
    ids : (N,) array of ints
        Symbols' numbers; at least two. Any integer type, in memory or mapped.
    rows : int
        B, how many places of the text are read at once; fewer where the text has not as many symbols to predict.
    steps : int
        T, symbols of each row in a chunk; the last chunk may be shorter.
    lookup : (M,) array of ints, optional
        What `ids` stand for, where they are not what the network reads: ``lookup[ids]`` is.

    Attributes
    ----------
    columns : int
        Symbols in a row.
    n_batches, n_steps : int
        Chunks, and symbols to predict, of an epoch.

    Raises
    ------
    ValueError
        For arrays of other shapes or types, or with less than two symbols.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> stream = rc.Stream(np.arange(13), rows=2, steps=4)
    >>> [(batch.x[:, 0].tolist(), batch.targets[:, 1].tolist()) for batch in stream]
    [([0, 1, 2, 3], [7, 8, 9, 10]), ([4, 5], [11, 12])]

    A network that learns from it; its state is carried from chunk to chunk:

    >>> net = rc.Network(rc.Recurrent("gru", 3, 8), head=rc.Softmax(3))
    >>> trainer = rc.Trainer(net, rc.Adam(0.05), rc.Stream(np.arange(900) % 3, 10, 15), max_epochs=5).run()
    >>> trainer.history[-1]["loss"] < 0.5
    True
    """

    def __init__(self, ids: Any, rows: int = 50, steps: int = 50, *, lookup: Any = None) -> None:
        check_count("rows", rows, 1)
        check_count("steps", steps, 1)
        ids = ids if isinstance(ids, np.ndarray) else np.asarray(ids)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"expected symbols as an array (N,) of whole numbers, got {ids.dtype} {ids.shape}")
        if len(ids) < 2:
            raise ValueError(f"expected at least 2 symbols, one to read and one to predict, got {len(ids)}")
        n_rows = min(rows, len(ids) - 1)
        columns = (len(ids) - 1) // n_rows
        self._set(ids, n_rows, steps, columns, range(-(-columns // steps)), lookup)

    def _set(
        self, ids: np.ndarray, rows: int, steps: int, columns: int, chunks: range, lookup: Any, wraps: bool = False
    ) -> None:
        self.ids, self.rows, self.steps, self.columns = ids, rows, steps, columns
        self.wraps = wraps  # whether the last symbol's target is the first one
        self.lookup = None if lookup is None else np.asarray(lookup, dtype=np.int64)
        self.chunks = chunks
        self.n_batches: int | None = len(chunks)
        self.n_steps: int | None = rows * (min(columns, chunks.stop * steps) - chunks.start * steps)
        self.content = [ids, self.lookup, np.array([rows, steps, columns, chunks.start, chunks.stop])]

    @classmethod
    def interleaved(
        cls, ids: Any, rows: int = 50, steps: int = 50, fraction: float = 0.05, *, lookup: Any = None
    ) -> tuple[Stream, Stream]:
        """Divide a text as char-rnn (Karpathy 2015) does: the last chunks of every row are there to validate on.

        The text is cut to whole chunks, the last symbol's target is the first one; of n chunks the first
        ``floor((1 - fraction)·n)`` are the training part. Its figures do not compare with those of a text's last part:
        the validation part is of all places of the text.

        Parameters
        ----------
        ids, rows, steps, lookup
            As above.
        fraction : float
            Share of the chunks to validate on, more than 0 and less than 1; at least one.

        Returns
        -------
        train, valid : Stream

        Raises
        ------
        ValueError
            If there are less than two chunks.

        Examples
        --------
        >>> train, valid = Stream.interleaved(np.arange(41), rows=2, steps=5, fraction=0.25)
        >>> train.n_batches, [batch.x.T.tolist() for batch in valid]
        (3, [[[15, 16, 17, 18, 19], [35, 36, 37, 38, 39]]])
        """
        check_number("fraction", fraction, "(0, 1)", 0.05)
        whole = cls(ids, rows, steps, lookup=lookup)
        n_chunks = len(whole.ids) // (rows * steps)
        if n_chunks < 2:
            raise ValueError(
                f"expected at least two chunks of {rows} rows x {steps} steps, one of them to validate on: "
                f"{2 * rows * steps} symbols; got {len(whole.ids)}: make rows or steps less"
            )
        n_train = min(max(int((1 - fraction) * n_chunks), 1), n_chunks - 1)
        parts = []
        for chunks in (range(n_train), range(n_train, n_chunks)):
            part = cls.__new__(cls)
            part._set(whole.ids, rows, steps, n_chunks * steps, chunks, lookup, wraps=True)
            parts.append(part)
        return parts[0], parts[1]

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(1, None, 0)

    def epoch(self, number: int, rng: Any, skip: int) -> Iterator[Batch]:
        """Yield the minibatches but the first `skip`; they are the same in every epoch."""
        begins = np.arange(self.rows, dtype=np.int64) * self.columns
        every = np.arange(min(self.steps, self.columns) + 1, dtype=np.int64)[:, None] + begins
        past = self.rows * self.columns
        for chunk in self.chunks[skip:]:
            start = chunk * self.steps
            n = min(self.steps, self.columns - start)
            at = every[: n + 1] + start
            if self.wraps and at[-1, -1] == past:
                at[-1, -1] = 0
            found = self.ids[at]
            read = found.astype(np.int64) if self.lookup is None else self.lookup[found]
            yield Batch(read[:-1], read[1:], size=n * self.rows, n_steps=n * self.rows)
