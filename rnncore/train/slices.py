"""A gradient's sum, and the step of the optimizer, shared among processes.

The flat arrays are dealt to the shards in blocks, block b to shard b mod n. Each process adds up what all have found of
its shards' blocks, and makes the optimizer's step there; parameters then go to all. The gradient's norm is summed shard
by shard, so that it too has the same bits for any number of processes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore._core.ranges import copy_in, copy_out, dealt, length
from rnncore.train.agreement import Agreement, as_bytes
from rnncore.train.partial import Gradients, tree_sum

__all__ = ["Slices"]

BITS = 10  # of 1024 numbers, a block: some rows of a table, so that each process gets its share of frequent ones


class Slices:
    """What one process does of sums and steps.

    Parameters
    ----------
    agreement : Agreement
    count : int
        Shards: a power of two, and a multiple of the number of processes.
    """

    def __init__(self, agreement: Agreement, count: int) -> None:
        self.agreement, self.count = agreement, count
        self.size, self.rank = agreement.comm.size, agreement.comm.rank
        self.each = count // self.size
        self._dealt: tuple[Any, list[np.ndarray]] = None, []
        self._memory: list[np.ndarray] = [np.empty(0), np.empty(0)]

    def sum(self, gradients: Gradients, rows: list[np.ndarray]) -> None:
        """Leave the sum of all processes' gradients, which touch these rows of tables, in this one's blocks."""
        gradients.touch(rows)
        flat = gradients.flat
        parts = self._of_processes(gradients.ranges(rows))
        to_each, from_each = self._rows(parts, flat.dtype)
        for row, part in zip(to_each, parts, strict=True):
            copy_out(flat, part, row)
            row[length(part) :] = 0
        self.agreement.comm.alltoall(_bytes(to_each), _bytes(from_each))
        copy_in(flat, parts[self.rank], tree_sum(from_each))

    # ------------------------------------------------------------ what an optimizer asks

    def of_shards(self, ranges: np.ndarray) -> list[np.ndarray]:
        """Return the ranges in the blocks of each of this process's shards."""
        if self.each == 1:
            return [self._of_processes(ranges)[self.rank]]
        return dealt(ranges, BITS, self.count, 1)[self.rank * self.each : (self.rank + 1) * self.each]

    def own(self, ranges: np.ndarray) -> np.ndarray:
        """Return the ranges in this process's blocks."""
        return ranges if self.size == 1 else self._of_processes(ranges)[self.rank]

    def gathered(self, found: np.ndarray) -> np.ndarray:
        """Return what all processes have found of their shards, in the order of the shards."""
        return self.agreement.gathered(found).reshape(-1, *found.shape[1:])

    def agree(self, problem: BaseException | None) -> None:
        """Raise everywhere what some process met."""
        self.agreement.agree(0, problem)

    def send(self, array: np.ndarray, ranges: np.ndarray) -> None:
        """Make a flat array everywhere, in these ranges, what it is where its blocks belong."""
        if self.size == 1:
            return
        parts = self._of_processes(ranges)
        all_of, (mine, *_) = self._rows(parts, array.dtype)
        copy_out(array, parts[self.rank], mine)
        self.agreement.comm.allgather(as_bytes(mine), _bytes(all_of))
        for rank, (part, row) in enumerate(zip(parts, all_of, strict=True)):
            if rank != self.rank:
                copy_in(array, part, row)

    # ------------------------------------------------------------ the rest

    def _of_processes(self, ranges: np.ndarray) -> list[np.ndarray]:
        if self._dealt[0] is not ranges:  # a step asks three times for the same
            self._dealt = ranges, dealt(ranges, BITS, self.count, self.each)
        return self._dealt[1]

    def _rows(self, parts: list[np.ndarray], dtype: Any) -> list[np.ndarray]:
        """Return two arrays with a row for each of some parts; what was in them is lost."""
        longest = max(map(length, parts))
        if self._memory[0].size < len(parts) * longest or self._memory[0].dtype != dtype:
            self._memory = [np.empty(len(parts) * longest, dtype) for _ in range(2)]
        return [one[: len(parts) * longest].reshape(len(parts), -1) for one in self._memory]


def _bytes(rows: np.ndarray) -> np.ndarray:
    return as_bytes(rows).reshape(len(rows), -1)
