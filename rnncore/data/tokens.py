"""Lists of tokens, as Python's own or as arrays: a million sentences of strings would fill the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

__all__ = ["TokenLists", "look_up", "select", "token_counts"]


class TokenLists(Sequence[list[Any]]):
    """A sequence of lists of tokens, held as arrays: each distinct token once, and four bytes for every use of it.

    Parameters
    ----------
    tokens : list
        The distinct tokens, in the order of their first use.
    ids : (N,) int32
        For all places of all lists the token's number.
    lengths : (S,) int64

    Examples
    --------
    >>> TokenLists(["top", "news"], np.array([0, 1, 1], dtype=np.int32), np.array([2, 1]))[0]
    ['top', 'news']
    """

    def __init__(self, tokens: list[Any], ids: np.ndarray, lengths: np.ndarray) -> None:
        self.tokens = tokens
        self.ids = ids
        self.lengths = lengths
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        end, length = self._ends[index], self.lengths[index]
        return [*map(self.tokens.__getitem__, self.ids[end - length : end].tolist())]

    def select(self, rows: Any) -> TokenLists:
        """Copy the lists `rows`, and of the tokens those that they use."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        places = np.repeat(self._ends[rows] - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        used, first, ids = np.unique(self.ids[places], return_index=True, return_inverse=True)
        order = np.argsort(first)
        number = np.empty(len(order), dtype=np.int32)
        number[order] = np.arange(len(order))
        return TokenLists([self.tokens[i] for i in used[order].tolist()], number[ids], lengths)


def select(lists: Sequence[Any], rows: Sequence[int] | np.ndarray) -> Sequence[Any]:
    """Return some of the sequences of a data set, or of its targets, in the form it has."""
    if isinstance(lists, np.ndarray):
        return lists[np.asarray(rows)]  # type: ignore[no-any-return]
    return lists.select(rows) if hasattr(lists, "select") else [lists[i] for i in rows]


def token_counts(sequences: Iterable[Iterable[Any]]) -> Counter[Any]:
    """Count the tokens of all sequences, in the order of their first use."""
    if isinstance(sequences, TokenLists):
        counts = np.bincount(sequences.ids, minlength=len(sequences.tokens)).tolist()
        return Counter(dict(zip(sequences.tokens, counts, strict=True)))
    return Counter(chain.from_iterable(sequences))


def look_up(sequences: Iterable[Iterable[Any]], ids_of: Callable[[Any], Any]) -> np.ndarray:
    """Return what `ids_of` returns, for all tokens of all sequences: (N,) or (N, C) int32."""
    if isinstance(sequences, TokenLists):
        return np.array([*map(ids_of, sequences.tokens)], dtype=np.int32)[sequences.ids]
    return np.array([*map(ids_of, chain.from_iterable(sequences))], dtype=np.int32)
