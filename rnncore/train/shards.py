"""Steps of a training over several processes, exact: the same bits for any number of them.

A batch is dealt to a fixed number of shards, a power of two; each is computed whole, by one process. A step is then

    header     every process tells whether it failed or shall stop, its shards' losses, and how many rows it touched
    rows       which ones, of tables of symbols (where there are such)
    slices     each process gets one slice of everybody's gradient, and adds them up in the order of the shards
    gradient   everybody gets the slices' sums

and every process makes the same step of the optimizer. Dropout goes by the shard, not by the process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore._finite import NonFiniteError
from rnncore.optim.arguments import check_count
from rnncore.train.agreement import Agreement, as_bytes, failure
from rnncore.train.batches import Batch
from rnncore.train.partial import Gradients, Partial, tree_sum

__all__ = ["Shards"]

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
        self.carried: list[Any] = [None] * each

    # ------------------------------------------------------------ agreement

    def begin(self, content: dict[str, Any]) -> None:
        """Start everywhere from the same parameters; refuse to where `content`, numbers and words, is not the same."""
        agreement = self.agreement
        agreement.agree()
        text = json.dumps(content, sort_keys=True, default=str).encode()
        first = agreement.share(text)
        agreement.agree(0, None if first == text else ValueError(_difference(first, text)))
        self.comm.bcast(self.network.theta.view(np.uint8))

    def agree(self, flags: int) -> int:
        """Return what anybody asks for."""
        self.flags = self.agreement.agree(flags)
        return self.flags

    def _header(
        self, flags: int, problem: BaseException | None, losses: list[float], counts: list[int]
    ) -> tuple[list[float], np.ndarray]:
        """Tell and hear how all are; return all shards' losses, and how many rows of each table each has touched."""
        found = self.agreement.gathered(np.array([flags | failure(problem), *counts, *losses], np.float64))
        self.flags = self.agreement.heed(found[:, 0].astype(np.int64), problem)
        tables = len(counts)
        return found[:, 1 + tables :].reshape(-1).tolist(), found[:, 1 : 1 + tables].astype(np.int64)

    # ------------------------------------------------------------ a step

    def shard(self, batch: Batch, number: int) -> Batch | None:
        """Return every so many-th sequence of a batch, or None where there are not so many."""
        network = self.network
        steps, sequences = network.batch_shape(batch.x)
        if number >= sequences:
            return None
        if self.count == 1:
            return batch
        some = slice(number, None, self.count)
        lengths = None if batch.lengths is None else np.ascontiguousarray(np.asarray(batch.lengths)[some])
        longest = steps if lengths is None else int(lengths.max())
        x, targets = network.part_of_batch(batch.x, batch.targets, longest, some)
        weights = batch.sample_weight
        if weights is not None:
            weights = np.asarray(weights)
            both = (some, slice(longest)) if network.batch_first else (slice(longest), some)
            weights = weights[some] if weights.ndim == 1 else weights[both]
        rows = None if batch.rows is None else batch.rows[some]
        return batch._replace(x=x, targets=targets, lengths=lengths, sample_weight=weights, rows=rows)

    def step(
        self, batch: Batch, optimizer: Any, divisor: Any, carry: bool, flags: int, learn: Callable[..., float]
    ) -> float:
        """Make one step of the optimizer with the gradient of the whole batch; return its loss.

        learn : called with a shard, its state or None, and the divisor; returns the loss and leaves the gradient.
        """
        network = self.network
        first = network.dropout_step
        losses, partial, problem = [0.0] * len(self.mine), self.gradients.none(), None
        try:
            partial = tree_sum(self._partials(batch, divisor, carry, losses, first, learn))
        except Exception as error:  # the others must hear of it
            problem = error
        network.dropout_step = first
        found, counts = self._header(flags, problem, losses, [len(rows) for rows in partial.rows])
        loss: float = tree_sum(found)
        if not np.isfinite(loss):
            raise NonFiniteError("the loss is not finite", "the loss")
        self.gradients.put(self._summed(partial, counts))
        optimizer.step(network)
        network.dropout_step = first + self.count
        return loss

    def _partials(
        self, batch: Batch, divisor: Any, carry: bool, losses: list[float], first: int, learn: Callable[..., float]
    ) -> Any:
        network = self.network
        for n, number in enumerate(self.mine):
            part = self.shard(batch, number)
            if part is None:
                yield self.gradients.none()
                continue
            network.dropout_step = first + number
            losses[n] = learn(part, self.carried[n], divisor)
            if carry:
                self.carried[n] = network.state
            yield self.gradients.take()

    def _summed(self, partial: Partial, counts: np.ndarray) -> Partial:
        """Return the sum of all processes' partial gradients."""
        size = self.comm.size
        if size == 1:
            return partial
        rows = self._all_rows(partial.rows, counts)
        parts = [partial.dense, *(values.reshape(-1) for values in partial.on(rows))]
        length = sum(map(len, parts))
        each = -(-length // size)
        flat = np.zeros((size, each), partial.dense.dtype)
        np.concatenate(parts, out=flat.reshape(-1)[:length])
        slices = np.empty_like(flat)
        self.comm.alltoall(as_bytes(flat).reshape(size, -1), as_bytes(slices).reshape(size, -1))
        self.comm.allgather(as_bytes(tree_sum(slices)), as_bytes(flat).reshape(size, -1))
        total, at, values = flat.reshape(-1), self.gradients.size, []
        for own, width in zip(rows, self.gradients.widths, strict=True):
            values.append(total[at : at + len(own) * width].reshape(-1, width))
            at += len(own) * width
        return Partial(total[: self.gradients.size], rows, values)

    def _all_rows(self, mine: list[np.ndarray], counts: np.ndarray) -> list[np.ndarray]:
        """Return the rows of each table that anybody has touched."""
        if not len(mine) or not counts.any():
            return mine
        padded = np.zeros(int(counts.sum(axis=1).max()), np.int64)
        own = np.concatenate(mine)
        padded[: len(own)] = own
        found = self.agreement.gathered(padded)
        ends = np.cumsum(counts, axis=1)
        return [
            np.unique(np.concatenate([found[r, ends[r, n] - counts[r, n] : ends[r, n]] for r in range(len(found))]))
            for n in range(len(mine))
        ]

    # ------------------------------------------------------------ states of streams

    def forget_states(self) -> None:
        """Begin the next batch with zeros."""
        self.carried = [None] * len(self.mine)

    def whole_state(self) -> list[np.ndarray]:
        """Return the arrays (layers, B, H) of all sequences' carried state, everywhere; none where there is none."""
        parts = [None if state is None else _arrays(state) for state in self.carried]
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


def _arrays(state: Any) -> list[np.ndarray]:
    """Return the arrays of a state: a tuple of them, or a list of tuples."""
    return [array for part in state for array in part] if isinstance(state, list) else list(state)


def _difference(first: bytes, own: bytes) -> str:
    """Tell what is not the same in this process as in process 0."""
    its, mine = json.loads(first), json.loads(own)
    names = [name for name in {**its, **mine} if its.get(name) != mine.get(name)]
    return (
        f"this process was given other {' and '.join(names)} than process 0: all must train the same on the same data"
    )
