"""What a user may pass as sequences, made one thing: a list of sequences, whatever held them before.

Lists, tuples, generators, NumPy arrays, Series and frames of pandas and polars, Arrow arrays: none of these libraries
is imported, objects are known by their methods. What cannot be meant is refused with the number of the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.tokens import TokenLists

__all__ = ["is_frame", "sequences_of", "values_of"]

_PLAIN = {list, tuple}
_LISTING = ("to_list", "to_pylist")  # of pandas and polars, of Arrow


def sequences_of(given: Any, name: str = "sentences") -> Any:
    """Return a list of sequences: lists or tuples of tokens, or arrays; `TokenLists` stay what they are.

    A frame that is a sequence has a row for every step: an array (T, D) where all its columns are numbers, else a list
    of dicts.

    Raises
    ------
    DataError
        If `given` is no list of sequences, or one of them is a string, a set, a dict, a sparse matrix or a tensor.

    Examples
    --------
    >>> sequences_of(words.split() for words in ("top news", "news"))
    [['top', 'news'], ['news']]
    """
    if isinstance(given, TokenLists):
        return given
    found = _outer(given, name)
    if set(map(type, found)) <= _PLAIN:
        return found
    return [part if type(part) in _PLAIN else _sequence(part, f"{name}[{i}]") for i, part in enumerate(found)]


def values_of(given: Any, name: str = "targets") -> list[Any]:
    """Return one value for every sequence as a list: from a list, an array, a Series or a generator.

    Examples
    --------
    >>> values_of(np.array([3, 1]))
    [3, 1]
    """
    return given.tolist() if isinstance(given, np.ndarray) else _outer(given, name)


def _outer(given: Any, name: str) -> list[Any]:
    """Return what holds the sequences as a list."""
    if isinstance(given, list):
        return given
    if isinstance(given, str | bytes | Mapping | set | frozenset) or given is None:
        raise DataError(f"{name} must be a list of sequences, got {type(given).__name__}")
    _refuse_matrices(given, name)
    if isinstance(given, np.ndarray):
        if not given.ndim:
            raise DataError(f"{name} must be a list of sequences, got an array of one {given.dtype}")
        return list(given)
    if is_frame(given):
        columns = list(given.columns)
        if len(columns) == 1:
            return _outer(given[columns[0]], name)
        table = given.to_numpy()
        if table.dtype.kind not in "fiub":
            shown = ", ".join(map(str, columns[:6]))
            raise DataError(f"{name} must be a list of sequences, got a frame of columns {shown}: pass the one column")
        return list(table)
    listed = _listed(given)
    if listed is None:
        raise DataError(f"{name} must be a list of sequences, got {type(given).__name__}")
    return listed


def _sequence(part: Any, name: str) -> Any:
    """Return one sequence as a list of tokens or an array."""
    if isinstance(part, np.ndarray):
        if not part.ndim:
            raise DataError(f"{name} must be a sequence, got an array of one {part.dtype}")
        return part.tolist() if part.dtype.kind in "UTO" and part.ndim == 1 else part
    if isinstance(part, str | bytes):
        kind = "string" if isinstance(part, str) else "bytes object"
        raise DataError(f"{name} must be a list of tokens, got the {kind} {part[:40]!r}; split each into words first")
    if isinstance(part, Mapping):
        raise DataError(f"{name} must be a sequence, got {type(part).__name__}; a dict of features is a token")
    if isinstance(part, set | frozenset):
        raise DataError(f"{name} must be a sequence, got {type(part).__name__}, which has no order: pass a list")
    _refuse_matrices(part, name)
    if is_frame(part):
        table = part.to_numpy()
        if table.dtype.kind in "fiub":
            return table
        return part.to_dicts() if hasattr(part, "to_dicts") else part.to_dict("records")
    listed = _listed(part)
    if listed is None:
        raise DataError(f"{name} must be a sequence, got {type(part).__name__}")
    return listed


def _refuse_matrices(given: Any, name: str) -> None:
    if hasattr(given, "nnz") and hasattr(given, "toarray"):
        raise DataError(f"{name} is a sparse matrix, {type(given).__name__}: pass lists or arrays, such as .toarray()")
    listed = isinstance(given, np.ndarray) or any(hasattr(given, method) for method in _LISTING)
    if hasattr(given, "__dlpack__") and not listed:
        raise DataError(f"{name} is a tensor, {type(given).__module__.split('.')[0]}'s: pass lists or NumPy arrays")


def is_frame(given: Any) -> bool:
    """Whether it is a frame of pandas or polars, or like one."""
    return hasattr(given, "columns") and hasattr(given, "to_numpy")


def _listed(given: Any) -> list[Any] | None:
    """Return the elements in their order, whatever an index says; None if there are none to be had."""
    for method in _LISTING:
        if hasattr(given, method):
            found: list[Any] = getattr(given, method)()
            return found
    return list(given) if hasattr(given, "__iter__") else None
