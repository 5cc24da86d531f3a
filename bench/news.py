"""The original's tagged news requests, split as its author's Mac split them (SPEC: the libc++ shuffle)."""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path

import numpy as np

from bench import files

Sentences = list[list[str]]
TRAIN_SENTENCES = 800


def data_file(path: str | None) -> Path:
    """File named on the command line, else the one in $RNNCORE_DATA."""
    return files.data_file(path, "news_tagged_data.txt")


def read(path: Path) -> tuple[Sentences, Sentences]:
    """Words and labels of each sentence: one `word TAB label` per line, a blank line between sentences."""
    words: Sentences = []
    labels: Sentences = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        pairs = [line.split() for line in block.splitlines() if line.strip()]
        if pairs:
            words.append([pair[0] for pair in pairs])
            labels.append([pair[1] for pair in pairs])
    return words, labels


def libcxx_shuffle(items: MutableSequence[int]) -> None:
    """Shuffle in place as libc++'s unseeded `random_shuffle` does: mt19937(5489), low bits, rejection."""
    draw = np.random.RandomState(5489)
    for first in range(len(items) - 1):
        size = len(items) - first
        mask = (1 << (size - 1).bit_length()) - 1
        while True:
            offset = int(draw.randint(0, 2**32, dtype=np.uint32)) & mask
            if offset < size:
                break
        items[first], items[first + offset] = items[first + offset], items[first]


def author_split(count: int) -> tuple[list[int], list[int]]:
    """Indices of the training and the test sentences."""
    order = list(range(count))
    libcxx_shuffle(order)
    return order[:TRAIN_SENTENCES], order[TRAIN_SENTENCES:]


def random_split(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Split of the same sizes by another shuffle."""
    order = shuffled(count, seed)
    return order[:TRAIN_SENTENCES], order[TRAIN_SENTENCES:]


def shuffled(count: int, seed: int) -> list[int]:
    """0 .. count-1 in random order."""
    return np.random.default_rng(seed).permutation(count).tolist()
