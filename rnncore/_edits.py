"""How far what was written is from what should have been: edit distance, and its share of what should have been."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

__all__ = ["edit_distance", "edit_distances", "error_rate"]

_BLOCK = 4_000_000  # numbers in the table of the pairs that are looked at side by side


def edit_distance(true: Sequence[Hashable], predicted: Sequence[Hashable]) -> int:
    """Count the insertions, deletions and substitutions that make `predicted` of `true` (Levenshtein 1966).

    Parameters
    ----------
    true, predicted : str, or sequences of labels
        A string is a sequence of characters.

    Examples
    --------
    >>> edit_distance("kitten", "sitting"), edit_distance(["a", "red", "square"], ["a", "square"])
    (3, 1)
    """
    return int(edit_distances([true], [predicted])[0])


def edit_distances(true: Sequence[Sequence[Hashable]], predicted: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """Return the `edit_distance` of each pair, all at once.

    Parameters
    ----------
    true, predicted : lists of str, or of sequences of labels
        As many of either.

    Returns
    -------
    int64 array (N,)

    Examples
    --------
    >>> edit_distances(["seven", "nine"], ["even", "nine"]).tolist()
    [1, 0]
    """
    if isinstance(true, str) or isinstance(predicted, str):
        raise ValueError("true and predicted: expected lists of strings or of sequences of labels, got one string")
    if len(true) != len(predicted):
        raise ValueError(
            f"true and predicted: expected as many of either, got {len(true)} and {len(predicted)}: give each what was "
            "predicted for it"
        )
    numbers: dict[Hashable, int] = {}
    pairs = [
        (_numbered(own, numbers, "true", n), _numbered(other, numbers, "predicted", n))
        for n, (own, other) in enumerate(zip(true, predicted, strict=True))
    ]
    found = np.zeros(len(pairs), dtype=np.int64)
    order = sorted(range(len(pairs)), key=lambda n: -len(pairs[n][0]))
    start = 0
    while start < len(order):  # blocks of pairs of like length
        end, widest = start, 0
        while end < len(order):
            widest = max(widest, len(pairs[order[end]][1]) + 1)
            if end > start and (end + 1 - start) * widest > _BLOCK:
                break
            end += 1
        found[order[start:end]] = _distances([pairs[n] for n in order[start:end]])
        start = end
    return found


def error_rate(true: Sequence[Sequence[Hashable]], predicted: Sequence[Sequence[Hashable]]) -> float:
    """Return the edits of all pairs together, divided by how many labels are true: of words the word error rate.

    It can be more than 1. Where no label is true it is 0 without edits, else infinite.

    Parameters
    ----------
    true, predicted : lists of str, or of sequences of labels

    Examples
    --------
    >>> error_rate(["seven", "nine"], ["even", "nine"])
    0.1111111111111111
    """
    edits, labels = int(edit_distances(true, predicted).sum()), sum(map(len, true))
    return edits / labels if labels else float("inf") if edits else 0.0


def _numbered(sequence: Any, numbers: dict[Hashable, int], what: str, n: int) -> np.ndarray:
    """Return equal labels as equal numbers."""
    try:
        return np.array([numbers.setdefault(label, len(numbers)) for label in sequence], dtype=np.int64)
    except TypeError:
        raise ValueError(f"{what}: expected sequences of labels, got {sequence!r} as number {n}") from None


def _distances(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Edit distances of pairs that are sorted by the length of the first, longest first.

    Row i of a pair's table is made of row i-1: d[i][j] = min(d[i-1][j] + 1, d[i-1][j-1] + [a_i ≠ b_j], d[i][j-1] + 1).
    The last is a running minimum of what the others gave, minus its place.
    """
    lengths = np.array([len(own) for own, _ in pairs])
    others = np.full((len(pairs), max(len(other) for _, other in pairs)), -1, dtype=np.int64)
    owns = np.full((len(pairs), lengths[0]), -2, dtype=np.int64)
    for n, (own, other) in enumerate(pairs):
        owns[n, : len(own)], others[n, : len(other)] = own, other
    place = np.arange(others.shape[1] + 1)
    row = np.tile(place, (len(pairs), 1))
    for i in range(lengths[0]):
        going = np.count_nonzero(lengths > i)
        before = row[:going]
        best = before + 1
        best[:, 1:] = np.minimum(best[:, 1:], before[:, :-1] + (others[:going] != owns[:going, i : i + 1]))
        row[:going] = np.minimum.accumulate(best - place, axis=1) + place
    return row[np.arange(len(pairs)), [len(other) for _, other in pairs]]
