"""The n most probable labellings of sequences: paths of a chain, or products of independent steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnncore.data.sequences import Sequences
from rnncore.train.predictions import STEPS_AT_ONCE, batches_to_predict

__all__ = ["best_products", "n_best"]


def n_best(
    network: Any, data: Sequences, n: int, arrange: Callable[..., Any] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the n most probable labellings of some sequences at a time, the best first.

    Yields
    ------
    rows : (B,)
        Which sequences.
    paths : (n or fewer, T, B) int64
        -1 past a sequence's end, and where there are fewer labellings. Of a network with one output for each sequence,
        T is 1.
    logs : (n or fewer, B) float64
        Logarithms of their probabilities, -inf where there are fewer labellings.
    """
    output = network.outputs[0]
    for batch, _, rows, _ in batches_to_predict(data, arrange, max(1, STEPS_AT_ONCE // n)):
        lengths = data.lengths[rows]
        if output.head.name == "crf":
            paths, logs = network.decode(batch, lengths=lengths, top=n)
            paths, logs = paths.reshape(n, -1, len(rows)), logs.reshape(n, -1)
        else:
            probabilities = network.predict(batch, lengths=lengths)
            if not output.by_step:
                probabilities, lengths = probabilities[None], np.ones_like(lengths)
            paths, logs = best_products(probabilities, lengths, n)
        yield rows, paths, np.minimum(logs, 0.0)  # the last digits may be above


def best_products(probabilities: np.ndarray, lengths: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the n most probable label sequences where each step's label is independent of the others, exactly.

    Step by step, the n best beginnings meet the step's n best labels. Both are sorted, so that the beginning i (from 0)
    with the label j comes after (i+1)·(j+1) - 1 others at least: of n·n pairs, the n·log n with (i+1)·(j+1) <= n are
    enough.

    Parameters
    ----------
    probabilities : (T, B, K) array
    lengths : (B,)
        The longest first, T.
    n : int

    Returns
    -------
    paths : (m, T, B) int64
        With m the smaller one of n and K^T; -1 past a sequence's end and where a shorter one has fewer.
    logs : (m, B) float64

    Examples
    --------
    >>> paths, logs = best_products(np.array([[[0.9, 0.1]], [[0.4, 0.6]]]), np.array([2]), 3)
    >>> paths[:, :, 0].tolist(), np.exp(logs[:, 0]).round(2).tolist()
    ([[0, 1], [0, 0], [1, 1]], [0.54, 0.36, 0.06])
    """
    steps, sequences, n_labels = probabilities.shape
    most = min(n_labels, n)
    sums = np.zeros((sequences, 1))  # of the best beginnings, (B, width)
    choices: list[tuple[np.ndarray, np.ndarray]] = []  # at each step (active, width): which beginning, and which label
    widths = [1]  # how many beginnings of each length there are, at most n
    found = np.full((sequences, 1), -np.inf)
    for t in range(steps):
        active = int((lengths > t).sum())
        with np.errstate(divide="ignore"):
            logs = np.log(probabilities[t, :active].astype(np.float64))
        best = logs.argmax(axis=1)[:, None] if most == 1 else np.argsort(-logs, axis=1, kind="stable")[:, :most]
        logs = np.take_along_axis(logs, best, axis=1)
        before, label = _worth_a_try(widths[-1], most, n)
        tried = sums[:active, before] + logs[:, label]
        widths.append(min(n, widths[-1] * n_labels))
        kept = np.argsort(-tried, axis=1, kind="stable")[:, : widths[-1]]
        choices.append((before[kept], np.take_along_axis(best, label[kept], axis=1)))
        sums = np.take_along_axis(tried, kept, axis=1)
        found = np.pad(found, ((0, 0), (0, widths[-1] - found.shape[1])), constant_values=-np.inf)
        found[:active] = sums
    return _traced_back(choices, widths, lengths), found.T.copy()


def _worth_a_try(width: int, most: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a beginning and a label that can be among the n best, each numbered by its rank."""
    counts = np.minimum(n // np.arange(1, width + 1), most)
    before = np.repeat(np.arange(width), counts)
    return before, np.arange(len(before)) - np.repeat(np.cumsum(counts) - counts, counts)


def _traced_back(choices: list[tuple[np.ndarray, np.ndarray]], widths: list[int], lengths: np.ndarray) -> np.ndarray:
    """Follow the choices from the ends of all sequences to their beginnings."""
    most, sequences = widths[-1], len(lengths)
    paths = np.full((most, len(choices), sequences), -1)
    at = np.tile(np.arange(most), (sequences, 1))
    for t in range(len(choices) - 1, -1, -1):
        before, labels = choices[t]
        active = len(labels)
        inside = np.minimum(at[:active], widths[t + 1] - 1)  # there are fewer labellings of short sequences
        paths[:, t, :active] = np.take_along_axis(labels, inside, axis=1).T
        at[:active] = np.take_along_axis(before, inside, axis=1)
    there = np.arange(most)[:, None] < np.array(widths)[lengths]
    paths[~there[:, None, :] & (paths >= 0)] = -1
    return paths
