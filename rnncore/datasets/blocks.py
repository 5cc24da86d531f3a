"""Blocks whose first symbol has to be remembered while nothing new comes.

Source: Schmidhuber 1992 (Neural Computation 4:234), the task that he compressed histories for.
"""

from __future__ import annotations

import numpy as np

from rnncore.datasets.drawing import at_least, generator

__all__ = ["long_blocks"]


def long_blocks(n_blocks: int = 1000, lag: int = 20, random_state: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make a stream of blocks "a b1 ... b20" or "x b1 ... b20", each as likely, one after another without a mark.

    Parameters
    ----------
    n_blocks, lag : int
    random_state : int

    Returns
    -------
    symbols : (n_blocks·(lag + 1),) int64 array
        0 for a, 1 for x, then 2 to lag + 1: one after the other, so that of each block only the first is new.
    labels : (n_blocks·(lag + 1),) int64 array
        At the last symbol of a block what its first was; else -1.

    Examples
    --------
    >>> symbols, labels = long_blocks(2, lag=3, random_state=1)
    >>> symbols.tolist(), labels.tolist()
    ([0, 2, 3, 4, 1, 2, 3, 4], [-1, -1, -1, 0, -1, -1, -1, 1])
    """
    at_least("n_blocks", n_blocks, 0)
    at_least("lag", lag, 1)
    first = generator(random_state).integers(2, size=n_blocks)
    symbols = np.tile(np.arange(1, lag + 2), (n_blocks, 1))
    symbols[:, 0] = first
    labels = np.full_like(symbols, -1)
    labels[:, -1] = first
    return symbols.reshape(-1), labels.reshape(-1)
