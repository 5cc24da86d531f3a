"""The training loop all estimators share: minibatches, validation, early stopping, progress, interruption.

A minibatch costs the loop a few microseconds of Python: the order of a whole epoch is drawn at once, and a batch is
gathered from flat arrays by one table of positions.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from rnncore._finite import NonFiniteError
from rnncore.data.encoders import Sequences
from rnncore.io.checkpoints import plain

__all__ = [
    "CheckpointWarning",
    "DivergenceWarning",
    "Trainer",
    "batches_to_predict",
    "decode",
    "generator",
    "minibatches",
    "predict",
]

# How many minibatches are sorted by length together: more makes a batch's lengths more equal (fewer and fuller time
# steps), fewer leaves the batches more random.
_POOL = 8
_TOKENS_IN_A_PREDICTION = 8192


class DivergenceWarning(RuntimeWarning):
    """Training met a loss or gradient that is not finite and stopped; what was learned until then was kept."""


class CheckpointWarning(RuntimeWarning):
    """A checkpoint could not be written; training goes on, and the last one is as it was."""


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
    order = rng.permutation(len(lengths))
    pool = np.arange(len(order)) // (batch_size * _POOL)
    order = order[np.lexsort((-lengths[order], pool))]
    for start in rng.permutation(np.arange(0, len(order), batch_size)).tolist():
        yield order[start : start + batch_size]


@dataclass
class _Position:
    """Where training stands: `batch` minibatches into an epoch at whose start the generator had the state `rng`."""

    epoch: int
    rng: Any
    batch: int = 0
    total: float = 0.0  # of the losses of its words until now
    done: int = 0  # words
    seconds: float = 0.0


class Trainer:
    """Trains a network in place, epoch by epoch.

    Parameters
    ----------
    network : Network
    optimizer : optimizer
    data : Sequences
        With targets.
    batch_size, max_epochs : int
    rng : numpy.random.Generator
        Draws the order of the sequences and what `corrupt` needs.
    corrupt : callable, optional
        ``corrupt(x, rng)`` returns the inputs of one epoch (word dropout); `x` itself must stay as it is.
    validate : callable, optional
        Measures the network after each epoch: a dict with at least ``val_score`` (higher is better) and ``val_loss``
        (which breaks ties). Training stops after `n_iter_no_change` epochs without a better one, and ends with the
        weights of the best.
    callbacks : sequence of callables
        Called with the record of each epoch; one that returns true stops training.
    progress : bool
        Show a bar on standard error: loss, tokens per second, time left.
    unit : str
        What a time step is called in the bar.
    weights : (S,) array, optional
        Factor of each sequence's loss.
    arrange : callable, optional
        Turns the (T, B, ...) inputs of a batch, and their values if the data have any, into what the network takes.
    checkpoint : callable, optional
        ``checkpoint(header, arrays)`` keeps what `state` returns: called `checkpoint_every` seconds after the last time
        or the start, between two minibatches, and after Ctrl-C. Where it cannot be written, training goes on with a
        `CheckpointWarning`.
    checkpoint_every : float

    Attributes
    ----------
    history : list of dict
        One record for each complete epoch: epoch, loss, seconds, and what `validate` measured.
    stopped : str or None
        Why training ended: None (all epochs done), "early", "callback", "interrupted" (Ctrl-C, after the minibatch at
        hand) or "diverged" (a loss or gradient that is not finite: it never reaches the weights, which stay as the
        minibatch before left them, and a `DivergenceWarning` names epoch, batch, sequence and step).
    """

    def __init__(
        self,
        network: Any,
        optimizer: Any,
        data: Sequences,
        *,
        batch_size: int,
        max_epochs: int,
        rng: np.random.Generator,
        corrupt: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        validate: Callable[[], dict[str, float]] | None = None,
        n_iter_no_change: int = 10,
        callbacks: Sequence[Callable[[dict[str, Any]], Any]] = (),
        progress: bool = False,
        unit: str = "word",
        weights: np.ndarray | None = None,
        arrange: Callable[..., Any] | None = None,
        checkpoint: Callable[[dict[str, Any], dict[str, np.ndarray]], None] | None = None,
        checkpoint_every: float = 60.0,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.data = data
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.rng = rng
        self.corrupt = corrupt
        self.validate = validate
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.progress = progress
        self.unit = unit
        self.weights = weights
        self.arrange = arrange
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.history: list[dict[str, Any]] = []
        self.stopped: str | None = None
        self._best: tuple[tuple[float, float], int, np.ndarray] | None = None
        self._at = _Position(1, rng.bit_generator.state)
        self._next_checkpoint = math.inf
        self._warned = False

    def run(self) -> Trainer:
        """Train until done, stopped or interrupted."""
        with _deferred_interrupt() as interrupted, _bar(self) as bar:
            self._next_checkpoint = time.perf_counter() + self.checkpoint_every
            while self._at.epoch <= self.max_epochs and self.stopped is None:
                record = self._epoch(interrupted, bar)
                if self.stopped:
                    break
                if self.validate is not None:
                    record.update(self.validate())
                    self._compare(record)
                self.optimizer.end_epoch(record.get("val_loss", record["loss"]))
                self.history.append(record)
                self._at = _Position(self._at.epoch + 1, self.rng.bit_generator.state)
                answers = [callback(record) for callback in self.callbacks]
                if any(answers):
                    self.stopped = self.stopped or "callback"
                if interrupted:
                    self.stopped = "interrupted"
                if self.stopped in (None, "interrupted"):  # there is nothing to go on with after another end
                    self._keep(interrupted)
        if self._best is not None:
            self.network.theta[:] = self._best[2]
        return self

    def _epoch(self, interrupted: list[int], bar: Any) -> dict[str, Any]:
        data, lengths, targets = self.data, self.data.lengths, self.data.y
        assert targets is not None
        network, optimizer, at = self.network, self.optimizer, self._at
        started = time.perf_counter() - at.seconds
        inputs = data.x if self.corrupt is None else self.corrupt(data.x, self.rng)
        batches = minibatches(lengths, self.batch_size, self.rng)
        for batch, rows in enumerate(islice(batches, at.batch, None), start=at.batch):
            places = data.positions(rows)
            batch_lengths = lengths.take(rows)
            try:
                x = _arranged(data, inputs, places, self.arrange)
                weights = None if self.weights is None else self.weights[rows]
                loss = network.train_step(x, targets.take(places), optimizer, batch_lengths, sample_weight=weights)
            except NonFiniteError as problem:
                self._diverged(problem, batch + 1, rows)
                break
            n_tokens = int(batch_lengths.sum())
            at.total += loss * n_tokens
            at.done += n_tokens
            at.batch = batch + 1
            at.seconds = time.perf_counter() - started
            if bar is not None:
                bar.advance(n_tokens, at.total / at.done, at.epoch)
            if interrupted:
                self.stopped = "interrupted"
            self._keep(interrupted)
            if interrupted:
                break
        return {"epoch": at.epoch, "loss": at.total / max(at.done, 1), "seconds": time.perf_counter() - started}

    @property
    def n_done(self) -> int:
        """Tokens trained on until now."""
        return (self._at.epoch - 1) * len(self.data.x) + self._at.done

    def _keep(self, interrupted: list[int]) -> None:
        if self.checkpoint is None or not (interrupted or time.perf_counter() >= self._next_checkpoint):
            return
        try:
            self.checkpoint(*self.state())
            self._warned = False
        except OSError as problem:  # the work done is worth more than the file
            if not self._warned:
                warnings.warn(
                    f"{problem.filename}: {problem.strerror or problem}; training goes on without a new checkpoint",
                    CheckpointWarning,
                    stacklevel=4,
                )
            self._warned = True
        self._next_checkpoint = time.perf_counter() + self.checkpoint_every

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return all it takes to go on from here with the same bits: what JSON can hold, and arrays."""
        memory = self.optimizer.state_dict()
        arrays = {"theta": self.network.theta}
        arrays |= {f"optimizer.{name}": value for name, value in memory.items() if isinstance(value, np.ndarray)}
        header = {
            "position": dataclasses.asdict(self._at),
            "history": self.history,
            "dropout_step": self.network.dropout_step,
            "optimizer": {name: value for name, value in memory.items() if not isinstance(value, np.ndarray)},
            "best": None,
        }
        if self._best is not None:
            header["best"] = self._best[:2]
            arrays["best"] = self._best[2]
        return plain(header), arrays

    def restore(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take over what `state` returned, before `run`.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is not the state of such a training.
        """
        theta = self.network.theta
        for name in ("theta", *(["best"] if header["best"] else [])):
            if arrays[name].shape != theta.shape or arrays[name].dtype != theta.dtype:
                raise ValueError(f"expected {name} as {theta.dtype} {theta.shape}, got {arrays[name].shape}")
        position = self._checked_position(header)
        slots = {name[10:]: array for name, array in arrays.items() if name.startswith("optimizer.")}
        self.optimizer.load_state_dict(header["optimizer"] | slots)
        self._at = position
        self.rng.bit_generator.state = self._at.rng
        self.history = list(header["history"])
        self.network.dropout_step = int(header["dropout_step"])
        theta[:] = arrays["theta"]
        if header["best"]:
            merit, epoch = header["best"]
            self._best = ((float(merit[0]), float(merit[1])), int(epoch), arrays["best"].copy())

    def _checked_position(self, header: dict[str, Any]) -> _Position:
        """Return where a checkpoint stands; from where no training stood it might never end."""
        position = _Position(**header["position"])
        n_batches, n_steps = -(-len(self.data) // self.batch_size), len(self.data.x)
        for name, value, most in (
            ("epoch", position.epoch - 1, self.max_epochs),
            ("batch", position.batch, n_batches),
            ("done", position.done, n_steps),
            ("dropout_step", header["dropout_step"], 2**62),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise ValueError(f"{name}: expected a whole number up to {most}, got {value!r}")
        if not 0 <= position.seconds < math.inf or not math.isfinite(position.total):
            raise ValueError(f"expected seconds and a loss as numbers, got {position.seconds} and {position.total}")
        history = header["history"]
        if not isinstance(history, list) or len(history) != position.epoch - 1:
            raise ValueError(f"expected a history of {position.epoch - 1} epochs")
        if not all(isinstance(record, dict) and {"epoch", "loss"} <= set(record) for record in history):
            raise ValueError("expected a history of records, each with epoch and loss")
        if header["best"] and not 1 <= int(header["best"][1]) < position.epoch:
            raise ValueError(f"expected the best epoch among the first {position.epoch - 1}, got {header['best'][1]}")
        return position

    def _diverged(self, problem: NonFiniteError, batch: int, rows: np.ndarray) -> None:
        self.stopped = "diverged"
        n_batches = -(-len(self.data) // self.batch_size)
        place = ""
        if problem.sequence is not None:
            step = "" if problem.step is None else f", step {problem.step}"
            place = f" (sequence {rows[problem.sequence]} of the training data{step})"
        warnings.warn(
            f"a number was not finite in epoch {self._at.epoch}, batch {batch} of {n_batches}: {problem.what}{place}; "
            "training stopped and what was learned before was kept. Lower learning_rate, or set clip_norm (try 1.0)",
            DivergenceWarning,
            stacklevel=4,
        )

    def _compare(self, record: dict[str, Any]) -> None:
        """Keep the weights of the best epoch; stop when there was none for too long."""
        merit = (record["val_score"], -record.get("val_loss", 0.0))
        if self._best is None or merit > self._best[0]:
            self._best = (merit, record["epoch"], self.network.theta.copy())
        elif record["epoch"] - self._best[1] >= self.n_iter_no_change:
            self.stopped = "early"


def predict(network: Any, data: Sequences, n_outputs: int, arrange: Callable[..., Any] | None = None) -> np.ndarray:
    """Run the network over all sequences; return its outputs, (N, n_outputs), in the order of `data`."""
    outputs = np.empty((len(data.x), n_outputs), dtype=network.theta.dtype)
    for batch, at, lengths, real in batches_to_predict(data, arrange):
        outputs[at[real]] = network.predict(batch, lengths=lengths)[real]
    return outputs


def decode(network: Any, data: Sequences, arrange: Callable[..., Any] | None = None) -> np.ndarray:
    """Return the most probable label of every step, (N,), in the order of `data`: a CRF's fit one another."""
    labels = np.empty(len(data.x), dtype=np.int64)
    for batch, at, lengths, real in batches_to_predict(data, arrange):
        labels[at[real]] = network.decode(batch, lengths=lengths)[0][real]
    return labels


def batches_to_predict(
    data: Sequences, arrange: Callable[..., Any] | None = None
) -> Iterator[tuple[Any, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield sequences of similar lengths: what the network takes, their places in `data`, lengths, which are real."""
    order = np.argsort(-data.lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(data.lengths[order[start]])
        rows = order[start : start + max(1, _TOKENS_IN_A_PREDICTION // longest)]
        start += len(rows)
        at = data.positions(rows)
        lengths = data.lengths[rows]
        real = np.arange(longest)[:, None] < lengths
        yield _arranged(data, data.x, at, arrange), at, lengths, real


def _arranged(data: Sequences, x: np.ndarray, places: np.ndarray, arrange: Callable[..., Any] | None) -> Any:
    """Gather a batch of `x` and bring it, with the data's values, into the form that the network takes."""
    x = x.take(places, axis=0)
    if arrange is None:
        return x
    return arrange(x) if data.values is None else arrange(x, data.values.take(places, axis=0))


@contextmanager
def _deferred_interrupt() -> Iterator[list[int]]:
    """Collect Ctrl-C in a list instead of raising it; a second one raises at once.

    Outside of the main thread, or where someone else handles the signal, nothing changes.
    """
    seen: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is not signal.default_int_handler:
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, previous)


class _Bar:
    """A tqdm bar that is bothered ten times a second at most."""

    def __init__(self, bar: Any, max_epochs: int) -> None:
        self._bar = bar
        self._max_epochs = max_epochs
        self._waiting = 0
        self._next = 0.0

    def advance(self, n_tokens: int, loss: float, epoch: int) -> None:
        self._waiting += n_tokens
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + 0.1
            self._bar.set_postfix_str(f"epoch {epoch}/{self._max_epochs}, loss {loss:.4f}", refresh=False)
            self.flush()

    def flush(self) -> None:
        self._bar.update(self._waiting)
        self._waiting = 0


@contextmanager
def _bar(trainer: Trainer) -> Iterator[_Bar | None]:
    if not trainer.progress:
        yield None
        return
    from tqdm import tqdm  # only who wants a bar pays for it

    n_tokens = len(trainer.data.x)
    options: dict[str, Any] = {"unit": f" {trainer.unit}s", "unit_scale": True, "dynamic_ncols": True}
    options |= {"total": trainer.max_epochs * n_tokens, "initial": trainer.n_done}
    with tqdm(desc="training", **options) as bar:
        wrapped = _Bar(bar, trainer.max_epochs)
        yield wrapped
        wrapped.flush()
        if trainer.history:
            bar.set_postfix_str(f"loss {trainer.history[-1]['loss']:.4f}")
