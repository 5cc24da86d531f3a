"""Steps of a training over several processes, exact: the same bits for any number of them.

A batch is dealt to a fixed number of shards, a power of two; each is computed whole, by one process. A step is then

    header     every process tells whether it failed or shall stop, its shards' losses, and how many rows it touched
    rows       which ones, of tables of symbols (where there are such)
    gradients  each process gets its slice of everybody's, and adds them up in the order of the shards
    norms      everybody hears what is to be known of the slices before a step
    steps      each process makes the optimizer's step on its slice, and everybody gets the parameters

Dropout goes by the shard, not by the process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore._finite import NonFiniteError
from rnncore.optim.arguments import check_count
from rnncore.train.agreement import Agreement, failure
from rnncore.train.batches import Batch, some_of
from rnncore.train.partial import Gradients, merged, tree_sum
from rnncore.train.slices import Slices

__all__ = ["Shards", "arrays_of"]

STOP, SIGNALLED, KEEP = 4, 8, 16  # what a process asks all of them for


class Shards:
    """The shards of one process, and what connects it with the others.

    Parameters
    ----------
    network : Network
    comm : as `communicators.communicator` takes it
    count : int or None
        Shards of a batch: a power of two, and a multiple of the number of processes. None: as many as processes.

    Attributes
    ----------
    comm : Communicator
    count : int
    mine : range
        The shards of this process.
    flags : int
        What anybody asked for at the last step or `agree`.

    Raises
    ------
    TypeError, ValueError
        For a number of shards that does not go with the processes.
    """

    def __init__(self, network: Any, comm: Any, count: int | None) -> None:
        self.agreement = Agreement(comm)
        self.comm = self.agreement.comm
        size = self.comm.size
        if count is None:
            count = size
        check_count("shards", count, 1)
        if count & (count - 1) or count % size:
            raise ValueError(
                f"shards must be a power of two and a multiple of the {size} process{'es' if size > 1 else ''}, got "
                f"{count}: start 1, 2, 4, 8, ... processes, and as many shards or more"
            )
        self.network, self.count = network, count
        each = count // size
        self.mine = range(self.comm.rank * each, (self.comm.rank + 1) * each)
        self.gradients = Gradients(network)
        self.flags = 0
        self.slices = Slices(self.agreement, count)
        self.carried: list[Any] = [None] * each

    # ------------------------------------------------------------ agreement

    def begin(self, content: dict[str, Any]) -> None:
        """Start everywhere from the same parameters; refuse to where `content`, numbers and words, is not the same."""
        self.agreement.same(content)
        self.comm.bcast(self.network.theta.view(np.uint8))

    def agree(self, flags: int) -> int:
        """Return what anybody asks for."""
        self.flags = self.agreement.agree(flags)
        return self.flags

    def _header(
        self, flags: int, problem: BaseException | None, losses: list[float], counts: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tell and hear how all are; return all shards' losses, and how many rows of each table each has touched."""
        found = self.agreement.gathered(np.array([flags | failure(problem), *counts, *losses], np.float64))
        self.flags = self.agreement.heed(found[:, 0].astype(np.int64), problem)
        tables = len(counts)
        return found[:, 1 + tables :].reshape(-1), found[:, 1 : 1 + tables].astype(np.int64)

    # ------------------------------------------------------------ a step

    def shard(self, batch: Batch, number: int) -> Batch | None:
        """Return every so many-th sequence of a batch, or None where there are not so many."""
        steps, sequences = self.network.batch_shape(batch.x)
        if number >= sequences:
            return None
        if self.count == 1:
            return batch
        return some_of(batch, slice(number, None, self.count), steps, self.network)

    def step(
        self, batch: Batch, optimizer: Any, divisor: Any, carry: bool, flags: int, learn: Callable[..., float]
    ) -> float:
        """Make one step of the optimizer with the gradient of the whole batch; return its loss.

        learn : called with a shard, its state or None, and the divisor; returns the loss and leaves the gradient.
        """
        network = self.network
        first = network.dropout_step
        losses, problem, rows = [0.0] * len(self.mine), None, [np.empty(0, np.int64)] * len(self.gradients.widths)
        try:
            self._learn(batch, divisor, carry, losses, learn)
            rows = self.gradients.rows()
        except Exception as error:  # the others must hear of it
            problem = error
        network.dropout_step = first
        found, counts = self._header(flags, problem, losses, self._counts(rows))
        loss = float(tree_sum(found))
        if not np.isfinite(loss):
            raise NonFiniteError("the loss is not finite", "the loss")
        if self.comm.size > 1:
            self.slices.sum(self.gradients, self._all_rows(rows, counts))
        optimizer.step(network, self.slices)
        network.dropout_step = first + self.count
        return loss

    def _learn(self, batch: Batch, divisor: Any, carry: bool, losses: list[float], learn: Callable[..., float]) -> None:
        """Leave in ``grad`` the sum of the gradients of this process's shards."""
        network, first = self.network, self.network.dropout_step

        def each(n: int) -> bool:
            part = self.shard(batch, self.mine[n])
            if part is None:
                return False
            network.dropout_step = first + self.mine[n]
            losses[n] = learn(part, self.carried[n], divisor)
            if carry:
                self.carried[n] = network.state
            return True

        def leave(begin: int, end: int) -> None:
            """Leave the sum of some shards' gradients."""
            if end - begin > 1:
                middle = (begin + end) // 2
                leave(begin, middle)
                left = self.gradients.take()
                leave(middle, end)
                self.gradients.add(left)
            elif not each(begin):
                self.gradients.clear()

        leave(0, len(self.mine))

    @staticmethod
    def _counts(rows: list[np.ndarray]) -> list[int]:
        return [-1 if n and own is rows[0] else len(own) for n, own in enumerate(rows)]

    def _all_rows(self, mine: list[np.ndarray], counts: np.ndarray) -> list[np.ndarray]:
        """Return the rows of each table that anybody has touched; a count of -1: those of the first table."""
        if not mine:
            return mine
        lengths = np.maximum(counts, 0)
        padded = np.zeros(int(lengths.sum(axis=1).max()), np.int64)
        own = np.concatenate([mine[0], *(one for one in mine[1:] if one is not mine[0])])
        padded[: len(own)] = own
        found = self.agreement.gathered(padded)
        ends = np.cumsum(lengths, axis=1)

        def its(rank: int, table: int) -> np.ndarray:
            end = ends[rank, table]
            return its(rank, 0) if counts[rank, table] < 0 else found[rank, end - lengths[rank, table] : end]

        every: list[np.ndarray] = []
        for table in range(len(mine)):
            alike = table > 0 and (counts[:, table] < 0).all()
            every.append(every[0] if alike else merged([its(rank, table) for rank in range(len(found))]))
        return every

    def collect(self, optimizer: Any) -> None:
        """Have all of the optimizer's memory in every process."""
        for slot in optimizer.slots.values():
            self.slices.send(slot, np.array([[0, len(slot), 0]]))

    # ------------------------------------------------------------ states of streams

    def forget_states(self) -> None:
        """Begin the next batch with zeros."""
        self.carried = [None] * len(self.mine)

    def whole_state(self) -> list[np.ndarray]:
        """Return the arrays (layers, B, H) of all sequences' carried state, everywhere; none where there is none."""
        parts = [None if state is None else arrays_of(state) for state in self.carried]
        shapes = None if parts[0] is None else [(len(one), *one.shape[2:]) for one in parts[0]]
        held = self.agreement.gathered(np.array([sum(part[0].shape[1] for part in parts if part)], np.int64))
        shapes = json.loads(self.agreement.share(json.dumps(shapes).encode()))
        whole = []
        for a, (layers, width) in enumerate(shapes or ()):
            own = np.zeros((layers, int(held.sum()), width), self.network.theta.dtype)
            for number, part in zip(self.mine, parts, strict=True):
                if part is not None:
                    own[:, number :: self.count] = part[a]
            every = self.agreement.gathered(own)
            for number in range(self.count):
                rank = number // len(self.mine)
                own[:, number :: self.count] = every[rank][:, number :: self.count]
            whole.append(own)
        return whole

    def take_state(self, whole: list[np.ndarray]) -> None:
        """Carry on from the state of all sequences."""
        self.forget_states()
        for n, number in enumerate(self.mine if whole else ()):
            if number < whole[0].shape[1]:
                own = [np.ascontiguousarray(one[:, number :: self.count]) for one in whole]
                self.carried[n] = self.network.join_state(own)


def arrays_of(state: Any) -> list[np.ndarray]:
    """Return the arrays of a state: a tuple of them, or a list of tuples."""
    return [array for part in state for array in part] if isinstance(state, list) else list(state)
