"""Where a training's minibatches come from: sequences laid end to end, a list of batches, or a function yielding them.

Sequences cost a few microseconds of Python for each minibatch: the order of a whole epoch is drawn at once, and a batch
is gathered from flat arrays by one table of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from rnncore.data.sequences import Sequences, take_rows

__all__ = ["Batch", "GivenBatches", "SequenceBatches", "generator", "in_parts", "minibatches"]

# How many minibatches are sorted by length together: more makes a batch's lengths more equal (fewer and fuller time
# steps), fewer leaves the batches more random.
_POOL = 8

# How many places, of steps past a sequence's end too, are gathered at once: small minibatches several together, which
# saves most of the time that each takes in Python.
_GATHERED = 2048


class Batch(NamedTuple):
    """What one training step is given."""

    x: Any
    targets: Any
    lengths: Any = None
    sample_weight: Any = None
    rows: np.ndarray | None = None  # which sequences of the data these are
    size: float = 1.0  # how much its loss counts in the mean of the epoch
    n_steps: int = 0


def generator(random_state: Any) -> np.random.Generator:
    """Make a generator from a seed, None, a `Generator` or a `RandomState`."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31 - 1)
    return np.random.default_rng(random_state)


def minibatches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield index arrays that visit every sequence once: shuffled, sequences of similar length together.

    Everything is drawn before the first array comes, so whoever knows how many came knows where the epoch stands.

    Parameters
    ----------
    lengths : (S,) int array
    batch_size : int
        Sequences in a batch; one may be smaller.
    rng : numpy.random.Generator

    Examples
    --------
    >>> [sorted(rows.tolist()) for rows in minibatches(np.array([3, 3, 3]), 3, np.random.default_rng(0))]
    [[0, 1, 2]]
    """
    order, starts = _drawn(lengths, batch_size, rng)
    for start in starts:
        yield order[start : start + batch_size]


def _drawn(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Draw an epoch: sequences, those of a minibatch side by side, the longest first; where each batch begins."""
    order = rng.permutation(len(lengths))
    pool = np.arange(len(order)) // (batch_size * _POOL)
    order = order[np.lexsort((-lengths[order], pool))]
    return order, rng.permutation(np.arange(0, len(order), batch_size)).tolist()


class SequenceBatches:
    """Minibatches drawn anew every epoch.

    Parameters
    ----------
    data : Sequences
        With targets.
    batch_size : int
    weights : (S,) array, optional
        Factor of each sequence's loss.
    corrupt : callable, optional
        ``corrupt(x, rng)`` returns the inputs of one epoch: another array, or `x`, if it makes all of them anew.
    arrange : callable, optional
        Turns the (T, B, ...) inputs of a batch, and their values if the data have any, into what the network takes.
    """

    def __init__(
        self,
        data: Sequences,
        batch_size: int,
        weights: np.ndarray | None = None,
        corrupt: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        arrange: Callable[..., Any] | None = None,
    ) -> None:
        if data.y is None:
            raise ValueError("expected sequences with targets to train on, got Sequences whose y is None")
        self.data = data
        self.batch_size = batch_size
        self.weights = weights
        self.corrupt = corrupt
        self.arrange = arrange
        self.n_batches: int | None = -(-len(data) // batch_size)
        self.n_steps: int | None = int(data.lengths.sum())
        self._begins = np.arange(0, len(data), batch_size)
        self._steps = np.arange(data.lengths.max(), dtype=np.int64)[:, None]
        self.content = [*data.arrays, weights]  # what a checkpoint's fingerprint is of

    def epoch(self, number: int, rng: np.random.Generator, skip: int) -> Iterator[Batch]:
        """Yield an epoch's minibatches but the first `skip`."""
        data, weights, size, arrange = self.data, self.weights, self.batch_size, self.arrange
        inputs = data.x if self.corrupt is None else self.corrupt(data.x, rng)
        order, starts = _drawn(data.lengths, size, rng)
        lengths, places = data.lengths[order], data.starts[order]
        n_steps = np.add.reduceat(lengths, self._begins).tolist()
        longest = lengths[self._begins].tolist()  # the first of a batch is the longest
        counts = n_steps if _by_step(data.per_step) else np.diff(self._begins, append=len(order)).tolist()
        for run in _together(starts[skip:], size, longest, len(order)):
            begin, depth = np.array(run), max(longest[start // size] for start in run)
            some = begin[:, None] + np.arange(min(size, len(order) - run[-1]))
            rows, at = order[some], self._steps[:depth] + places[some][:, None]
            x, y, sizes = take_rows(inputs, at), data.targets(rows, at), lengths[some]
            values = data.values_at(at)
            factors = None if weights is None else weights[rows]
            for n, start in enumerate(run):
                number = start // size
                steps = longest[number]
                yield Batch(
                    arranged(x[n, :steps], None if values is None else values[n, :steps], arrange),
                    _of_batch(y, data.per_step, n, steps),
                    sizes[n],
                    None if factors is None else factors[n],
                    rows[n],
                    counts[number],
                    n_steps[number],
                )


def _by_step(per_step: Any) -> bool:
    """Tell whether a batch's loss counts by its steps: if there are targets at them, for one head at least."""
    return any(per_step.values()) if isinstance(per_step, dict) else per_step


def _of_batch(y: Any, per_step: Any, n: int, steps: int) -> Any:
    """Return the targets of one of several batches that were gathered at once."""
    if isinstance(y, dict):
        return {name: _of_batch(part, per_step[name], n, steps) for name, part in y.items()}
    return y[n, :steps] if per_step else y[n]


def _together(starts: Sequence[int], size: int, longest: Sequence[int], end: int) -> Iterator[list[int]]:
    """Yield runs of minibatches, by where they begin, that are gathered at once: small ones of the same size."""
    run: list[int] = []
    depth = 0
    for start in starts:
        deeper = max(depth, longest[start // size])
        partial = start + size > end
        if run and (partial or (len(run) + 1) * deeper * size > _GATHERED):
            yield run
            run, deeper = [], longest[start // size]
        run.append(start)
        depth = deeper
        if partial:
            yield run
            run, depth = [], 0
    if run:
        yield run


class GivenBatches:
    """Minibatches that somebody else made: ``(x, targets[, lengths[, sample_weight]])``.

    Parameters
    ----------
    batches : list of tuples, or callable
        A callable gets the number of the epoch, from 1 on, and returns an iterable of them: the same ones whenever it
        is asked for the same epoch, or what goes on from a checkpoint is another training.
    shuffle : bool
        Visit a list in a new order every epoch.
    size : callable
        ``size(targets, lengths, x)``: how much a batch's loss counts in the mean of the epoch.
    shape : callable
        ``shape(x)``: T and B.
    """

    def __init__(
        self,
        batches: Sequence[Any] | Callable[[int], Iterable[Any]],
        shuffle: bool,
        size: Callable[[Any, Any, Any], float],
        shape: Callable[[Any], tuple[int, int]],
    ) -> None:
        self.batches = batches
        self.shuffle = shuffle
        self.size = size
        self.shape = shape
        self.n_batches: int | None = None
        self.n_steps: int | None = None
        self.content: list[Any] = []
        if not callable(batches):
            made = [self._made(batch, number) for number, batch in enumerate(batches)]
            if not made:
                raise ValueError("expected at least one batch to train on, got an empty list")
            self.n_batches, self.n_steps = len(made), sum(batch.n_steps for batch in made)
            self.content = [np.asarray(part) for batch in made for part in _flat(batch[:4])]

    def epoch(self, number: int, rng: np.random.Generator, skip: int) -> Iterator[Batch]:
        """Yield an epoch's minibatches but the first `skip`."""
        if callable(self.batches):
            given: Iterable[Any] = self.batches(number)
        else:
            order = rng.permutation(len(self.batches)) if self.shuffle else range(len(self.batches))
            given = (self.batches[i] for i in order)
        for at, batch in enumerate(islice(given, skip, None), start=skip):
            yield self._made(batch, at)

    def _made(self, batch: Any, number: int) -> Batch:
        if not isinstance(batch, tuple | list) or not 2 <= len(batch) <= 4:
            got = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
            raise ValueError(f"batch {number}: expected (x, targets[, lengths[, sample_weight]]), got {got}")
        x, targets, lengths, weight = (*batch, None, None)[:4]
        n_steps = _n_steps(x, lengths, self.shape)
        return Batch(x, targets, lengths, weight, None, self.size(targets, lengths, x), n_steps)


def arranged(x: np.ndarray, values: np.ndarray | None, arrange: Callable[..., Any] | None) -> Any:
    """Bring a batch's inputs, and their values if there are any, into the form that the network takes."""
    if arrange is None:
        return x
    return arrange(x) if values is None else arrange(x, values)


def in_parts(batch: Batch, n_parts: int | None, max_rows: int | None, network: Any) -> list[Batch]:
    """Deal a batch's sequences to several smaller ones: as many as asked for, or as few rows in each.

    Parameters
    ----------
    batch : Batch
    n_parts, max_rows : int or None
        How many parts, or how many rows (steps of sequences, T·B) each may have; a sequence is never cut.
    network : Network
        Knows where sequences stand in its inputs and targets.
    """
    steps, sequences = network.batch_shape(batch.x)
    size = -(-sequences // n_parts) if n_parts else max(1, (max_rows or steps) // steps)
    if size >= sequences:
        return [batch]
    return [some_of(batch, slice(start, start + size), steps, network) for start in range(0, sequences, size)]


def some_of(batch: Batch, some: slice, steps: int, network: Any) -> Batch:
    """Return some of a batch's sequences, of at most so many steps, cut to the longest of them."""
    lengths = None if batch.lengths is None else np.ascontiguousarray(np.asarray(batch.lengths)[some])
    longest = steps if lengths is None else int(lengths.max())
    x, targets = network.part_of_batch(batch.x, batch.targets, longest, some)
    return batch._replace(
        x=x,
        targets=targets,
        lengths=lengths,
        sample_weight=_weights(batch.sample_weight, longest, some, network),
        rows=None if batch.rows is None else batch.rows[some],
    )


def _weights(given: Any, longest: int, some: slice, network: Any) -> np.ndarray | None:
    """Return the weights of some sequences, or of their first steps."""
    if given is None:
        return None
    weights = np.asarray(given)
    if weights.ndim == 1:
        return weights[some]
    return weights[some, :longest] if network.batch_first else weights[:longest, some]


def _n_steps(x: Any, lengths: Any, shape: Callable[[Any], tuple[int, int]]) -> int:
    return int(np.prod(shape(x))) if lengths is None else int(np.sum(lengths))


def _flat(parts: Any) -> Iterator[Any]:
    """Yield the arrays in tuples and dicts of them."""
    for part in parts:
        if isinstance(part, dict):
            yield from _flat(part.values())
        elif isinstance(part, tuple):
            yield from _flat(part)
        elif part is not None:
            yield part
