"""What the tests of tasks from the papers share: counting seeds, telling figures, and putting strings into arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

import rnncore as rc

SEEDS = range(5)
Result = TypeVar("Result")


def solved_by(attempts: Sequence[bool], wanted: int) -> None:
    assert sum(attempts) >= wanted, f"solved with {sum(attempts)} of {len(attempts)} seeds, {wanted} were wanted"


def for_each_seed(tell: Callable[..., None], attempt: Callable[[int], Result], **label: Any) -> list[Result]:
    """Run an attempt for all seeds, and tell what came out and how much processor time it took."""
    start = time.process_time()
    results = [attempt(seed) for seed in SEEDS]
    tell(**label, results=results, seconds=round(time.process_time() - start, 1))
    return results


def layer(cell: str, inputs: int, hidden: int, seed: int, **options: Any) -> rc.Recurrent:
    return rc.Recurrent(cell, inputs, hidden, random_state=seed, n_threads=1, **options)


def next_symbols(strings: Sequence[str], symbols: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each symbol's number (T, B), that of the symbol after it (-1 past the end), and lengths."""
    lengths = np.array([len(string) - 1 for string in strings])
    ids = np.zeros((lengths.max(), len(strings)), dtype=np.int64)
    targets = np.full_like(ids, -1)
    for b, string in enumerate(strings):
        numbers = [symbols.index(symbol) for symbol in string]
        ids[: lengths[b], b], targets[: lengths[b], b] = numbers[:-1], numbers[1:]
    return ids, targets, lengths


def padded(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (T_b, D) as one float32 array (T, B, D), and their lengths."""
    lengths = np.array([len(sequence) for sequence in sequences])
    x = np.zeros((lengths.max(), len(sequences), sequences[0].shape[1]), dtype=np.float32)
    for b, sequence in enumerate(sequences):
        x[: len(sequence), b] = sequence
    return x, lengths
