"""Labels that are not certain: for every step the probabilities of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.data.tokens import TokenLists

__all__ = ["SoftLabels"]


class SoftLabels(TokenLists):
    """Lists of labels to learn from that are only probable; looked at as lists, they hold the most probable ones.

    Parameters
    ----------
    classes : list
        The labels.
    probabilities : (N, K) array
        Of all places of all lists.
    lengths : (S,) int64

    Examples
    --------
    >>> soft = SoftLabels(["B", "O"], np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([2]))
    >>> soft[0], soft.of(["O", "A", "B"]).tolist()
    (['B', 'O'], [[0.1, 0.0, 0.9], [0.8, 0.0, 0.2]])
    """

    def __init__(self, classes: list[Any], probabilities: np.ndarray, lengths: np.ndarray) -> None:
        super().__init__(classes, probabilities.argmax(axis=1).astype(np.int32), lengths)
        self.probabilities = probabilities

    def select(self, rows: Any) -> SoftLabels:
        """Copy the lists `rows`."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        places = np.repeat(self._ends[rows] - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        return SoftLabels(self.tokens, self.probabilities[places], lengths)

    def of(self, classes: list[Any]) -> np.ndarray:
        """Return the probabilities of these labels, (N, K)."""
        found = np.zeros((len(self.probabilities), len(classes)), dtype=self.probabilities.dtype)
        number = {label: n for n, label in enumerate(classes)}
        found[:, [number[label] for label in self.tokens]] = self.probabilities
        return found
