"""A text as ids, and the two splits that figures are known for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]  # ids (T, B), and the ids that come next


@dataclass(frozen=True)
class Text:
    ids: np.ndarray  # int64, numbers of the bytes in their order
    symbols: int


def read(path: Path) -> Text:
    symbols, ids = np.unique(np.frombuffer(path.read_bytes(), np.uint8), return_inverse=True)
    return Text(ids.astype(np.int64), len(symbols))


def chunks(ids: np.ndarray, following: np.ndarray, rows: int, steps: int) -> list[Batch]:
    """`rows` stretches side by side, cut into batches (steps, rows); what fills no batch is left out."""
    count = len(ids) // (rows * steps)
    x, y = (np.ascontiguousarray(part[: count * rows * steps].reshape(rows, -1).T) for part in (ids, following))
    return [(x[at : at + steps], y[at : at + steps]) for at in range(0, count * steps, steps)]


def interleaved(text: Text, rows: int, steps: int) -> tuple[list[Batch], list[Batch]]:
    """char-rnn's split: the text in `rows` stretches, of each the first 95 % to train on and the rest to validate."""
    ids = text.ids[: len(text.ids) // (rows * steps) * rows * steps]
    batches = chunks(ids, np.roll(ids, -1), rows, steps)
    cut = int(0.95 * len(batches))
    return batches[:cut], batches[cut:]


def tail(text: Text) -> tuple[np.ndarray, np.ndarray]:
    """nanoGPT's split: the first 90 % of the text, and the rest."""
    cut = int(0.9 * len(text.ids))
    return text.ids[:cut], text.ids[cut:]
