"""The training loop: epochs, minibatches, validation, checkpoints, interruption. It trains any network.

What looks on is in `callbacks`, where minibatches come from in `batches`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncore._finite import NonFiniteError
from rnncore.data.sequences import Sequences
from rnncore.io.checkpoints import Checkpoints, fingerprint, open_checkpoints, plain
from rnncore.nn.recurrent import cell_options
from rnncore.optim.arguments import check_choice, check_count
from rnncore.train.agreement import heard_everywhere
from rnncore.train.batches import Batch, GivenBatches, SequenceBatches, generator, in_parts, minibatches
from rnncore.train.callbacks import Callback, EarlyStopping, ProgressBar, as_callbacks
from rnncore.train.communicators import end_all
from rnncore.train.predictions import batches_to_predict, decode, predict
from rnncore.train.shards import KEEP, SIGNALLED, STOP, Shards, arrays_of
from rnncore.train.signals import deferred_signals, stop_for
from rnncore.train.streams import Stream
from rnncore.train.validation import batch_weight, validation_of

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


class DivergenceWarning(RuntimeWarning):
    """Training met a loss or gradient that is not finite and stopped; what was learned until then was kept."""


class CheckpointWarning(RuntimeWarning):
    """A checkpoint could not be written; training goes on, and the last one is as it was."""


@dataclass
class _Position:
    """Where training stands: `batch` minibatches into an epoch at whose start the generator had the state `rng`."""

    epoch: int
    rng: Any
    batch: int = 0
    total: float = 0.0  # of the losses until now, each times its batch's size
    done: float = 0  # the sizes: words, for instance
    seconds: float = 0.0
    steps: int = 0


class Trainer:
    """Trains a network in place, epoch by epoch.

    Parameters
    ----------
    network : Network
        Or anything with its ``train_step``, ``theta``, ``grad`` and ``dropout_step``; for `data` that are batches with
        its ``batch_weight`` and ``batch_shape``, too.
    optimizer : optimizer
    data : Sequences, Stream, list of batches, or callable
        `rnncore.Sequences` are dealt to minibatches anew every epoch. A list holds batches as ``train_step`` takes
        them: ``(x, targets)``, ``(x, targets, lengths)`` or ``(x, targets, lengths, sample_weight)``, time first. A
        callable gets the epoch's number, from 1 on, and yields them; asked for the same epoch again it must yield the
        same. A `rnncore.Stream` is read chunk by chunk.
    max_epochs : int
    batch_size : int
        Sequences in a minibatch, where `data` are `Sequences`.
    shuffle : bool
        Visit a list of batches in a new order every epoch.
    random_state : int, None, Generator or RandomState
        Draws the order of the sequences and what `corrupt` needs.
    carry : bool, optional
        Begin each batch with the state that the one before ended in, as for a long text cut into chunks (truncated
        backpropagation through time); an epoch begins with zeros. Without: as a `Stream` needs it, and nothing else.
    reduction : {"mean", "sequence"}
        What is minimised: the mean loss of a batch's targets, or the sum of each sequence's, as a mean over sequences
        (the gradient is then larger by as much as sequences are long). Losses are reported as means all the same.
    parts, max_rows : int, optional
        Deal every batch's sequences to so many parts, or to parts of at most so many rows (steps times sequences), that
        take less memory and make one step of the optimizer together: of the loss and gradient of the whole batch.
    validation : as `data`, optional
        Measured after every epoch, without dropout: ``val_loss`` is the mean loss. Training stops after
        `n_iter_no_change` epochs without a better one and ends with the weights of the best (see
        `rnncore.callbacks.EarlyStopping`).
    validate : callable, optional
        Measures in its own way: a dict with at least ``val_score`` (higher is better); ``val_loss`` breaks ties.
    n_iter_no_change : int or None
        None: never stop early, and keep the last weights.
    callbacks : sequence of Callback or callable
        Plain callables get the record of each epoch; one that returns true stops training.
    progress : bool
        Show a bar on standard error: loss, steps per second, time left.
    unit : str
        What a time step is called in the bar.
    weights : (S,) array, optional
        Factor of each sequence's loss, where `data` are `Sequences`.
    corrupt : callable, optional
        ``corrupt(x, rng)`` returns the inputs of one epoch (word dropout) of `Sequences`: another array, or `x`, if it
        makes all of them anew.
    arrange : callable, optional
        Turns the (T, B, ...) inputs of a batch of `Sequences`, and their values if the data have any, into what the
        network takes.
    checkpoint : path, optional
        File to keep the state of the training in, every `checkpoint_every` seconds, between two minibatches, and after
        a signal. Where it cannot be written, training goes on with a `CheckpointWarning`.
    checkpoint_every : float
    comm : mpi4py communicator, torch.distributed, or Communicator, optional
        Processes that train together (`rnncore.train.communicators`): each makes the same trainer on the same data, and
        has the same network in the end. Callbacks are called in all of them, the bar and checkpoints are process 0's.
    shards : int, optional
        Parts that every batch is dealt to, sequence by sequence in turn, whatever their number of processes: a power of
        two, and a multiple of theirs. The bits depend on the shards alone. Without: those of the checkpoint that
        training goes on from, or as many as processes.
    resume : path, optional
        A checkpoint to go on from, with an equal network, optimizer and data: the result has the same bits as if
        training had never stopped. Further checkpoints take its place, unless `checkpoint` names another file.

    Attributes
    ----------
    history : list of dict
        One record for each complete epoch: epoch, loss (the mean), seconds, and what validation measured.
    epoch : int
        The epoch at hand, from 1 on.
    n_steps : int or None
        Time steps in an epoch, where that is known before.
    n_done : int
        Time steps trained on until now.
    shards : int or None
        How many parts every batch is dealt to; None where it is whole.
    stopped : str or None
        Why training ended: None (all epochs done), "early", "callback", "interrupted" (by Ctrl-C, SIGTERM or SIGHUP,
        after the minibatch at hand) or "diverged" (a loss or gradient that is not finite: it never reaches the weights,
        which stay as the minibatch before left them, and a `DivergenceWarning` names epoch, batch, sequence and step).

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.normal(size=(length, 2)) for length in (5, 9, 3, 7) * 10]
    >>> data = rc.Sequences.of(x, [(part[:, 0] > 0).astype(int) for part in x])  # a target for every step
    >>> net = rc.Network(rc.Recurrent("gru", 2, 8), head=rc.Softmax(2))
    >>> trainer = rc.Trainer(net, rc.Adam(0.02), data, max_epochs=20, batch_size=8).run()
    >>> trainer.history[-1]["loss"] < 0.2 < trainer.history[0]["loss"]
    True
    """

    @heard_everywhere
    def __init__(
        self,
        network: Any,
        optimizer: Any,
        data: Sequences | Sequence[Any] | Callable[[int], Iterable[Any]],
        *,
        max_epochs: int = 10,
        batch_size: int = 32,
        shuffle: bool = False,
        random_state: Any = 0,
        carry: bool | None = None,
        reduction: str = "mean",
        parts: int | None = None,
        max_rows: int | None = None,
        validation: Any = None,
        validate: Callable[[], dict[str, float]] | None = None,
        n_iter_no_change: int | None = 10,
        callbacks: Sequence[Any] | None = None,
        progress: bool = False,
        unit: str = "step",
        weights: np.ndarray | None = None,
        corrupt: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        arrange: Callable[..., Any] | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
        comm: Any = None,
        shards: int | None = None,
    ) -> None:
        check_count("max_epochs", max_epochs, 1)
        check_count("batch_size", batch_size, 1)
        for name, value in (("parts", parts), ("max_rows", max_rows), ("n_iter_no_change", n_iter_no_change)):
            if value is not None:
                check_count(name, value, 1)
        if parts is not None and max_rows is not None:
            raise ValueError("parts and max_rows both say how a batch is dealt to parts: leave one of them out")
        check_choice("reduction", reduction, ("mean", "sequence"))
        carry = isinstance(data, Stream) if carry is None else carry
        if reduction != "mean" and (parts or max_rows or len(getattr(network, "heads", ())) > 1):
            raise ValueError("reduction='sequence' is for networks of one head and whole batches: leave it out")
        if carry and (parts or max_rows):
            raise ValueError("a batch whose state is carried on cannot be dealt to parts: leave parts and max_rows out")
        if (comm is not None or shards is not None) and (parts or max_rows):
            raise ValueError("shards are parts of a batch already: leave parts and max_rows out")
        if validation is not None and validate is not None:
            raise ValueError("validation (data) and validate (a function) exclude each other: leave one of them out")
        self.network = network
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.rng = generator(random_state)
        self.carry = carry
        self.reduction = reduction
        self._divide = (parts, max_rows) if parts or max_rows else None
        self._source = self._batches(data, batch_size, shuffle, weights, corrupt, arrange)
        if validation is not None:
            watched = self._batches(validation, batch_size, False, None, None, arrange)
            validate = validation_of(network, watched, carry)
        self.validate = validate
        self._checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        if shards is None and self._checkpoints is not None:
            shards = self._checkpoints.shards
        together = comm is not None or shards is not None
        if together and not getattr(optimizer, "of_shards", False):
            raise ValueError(
                f"{type(optimizer).__name__} cannot make a step on a part of the parameters: leave comm and shards "
                "out, or take another optimizer of rnncore"
            )
        self._shards = Shards(network, comm, shards) if together else None
        self.shards = None if self._shards is None else self._shards.count
        self.rank = 0 if self._shards is None else self._shards.comm.rank
        self._stopper = None if validate is None or n_iter_no_change is None else EarlyStopping(n_iter_no_change)
        self.callbacks = as_callbacks(callbacks)
        self._bar = ProgressBar(unit) if progress and self.rank == 0 else None
        self.history: list[dict[str, Any]] = []
        self.stopped: str | None = None
        self._at = _Position(1, self.rng.bit_generator.state)
        self._carried: Any = None
        self._keeps = self._checkpoints is not None  # or process 0 does
        self._next_checkpoint = math.inf
        self._warned = False
        self._signals: list[int] = []  # that came during `run`
        self._settings = {
            "network": _described(network),
            "dropout_seed": getattr(network, "dropout_seed", None),
            "optimizer": repr(optimizer),
            "batch_size": batch_size,
            "shuffle": shuffle,
            "carry": carry,
            "reduction": reduction,
            "parts": list(self._divide or ()),
            "early_stopping": self._stopper is not None and self._stopper.n_iter_no_change,
        }
        if self._checkpoints is not None:
            self._connect(self._checkpoints)

    def _batches(
        self, data: Any, batch_size: int, shuffle: bool, weights: Any, corrupt: Any, arrange: Any
    ) -> SequenceBatches | GivenBatches | Stream:
        if isinstance(data, Sequences | Stream) and getattr(self.network, "batch_first", False):
            raise ValueError(f"{type(data).__name__} come time first: build the network without batch_first")
        if isinstance(data, Sequences):
            return SequenceBatches(data, batch_size, weights, corrupt, arrange)
        if isinstance(data, Stream):
            return data
        if not callable(data) and not isinstance(data, list | tuple):
            raise TypeError(
                "expected data as Sequences, a list of batches, or a function of the epoch's number that yields them; "
                f"got {type(data).__name__}"
                + (", which is used up after one epoch" if hasattr(data, "__next__") else "")
            )
        for name, given in (("weights", weights), ("corrupt", corrupt), ("arrange", arrange)):
            if given is not None:
                raise ValueError(f"{name} goes with data as Sequences; batches must come as the network takes them")
        network = self.network
        return GivenBatches(
            data, shuffle, lambda targets, lengths, x: batch_weight(network, targets, lengths, x), network.batch_shape
        )

    @property
    def epoch(self) -> int:
        """Number of the epoch at hand, from 1 on."""
        return self._at.epoch

    @property
    def n_steps(self) -> int | None:
        """Time steps in an epoch, or None where that is not known before."""
        return self._source.n_steps

    @property
    def n_done(self) -> int:
        """Time steps trained on until now."""
        return (self._at.epoch - 1) * (self.n_steps or 0) + self._at.steps

    def stop(self, reason: str = "callback") -> None:
        """End the training at the next end of a minibatch; for callbacks."""
        self.stopped = self.stopped or reason

    def run(self) -> Trainer:
        """Train until done, stopped or interrupted.

        Returns
        -------
        Trainer
            Itself.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            After Ctrl-C, and after SIGTERM or SIGHUP (with the status 143 or 129): what was learned until then is in
            the network, and in the checkpoint.
        """
        try:
            return self._run()
        except Exception as problem:
            if self._shards is not None and not getattr(problem, "everywhere", False):
                end_all(self._shards.comm)
                problem.everywhere = True  # type: ignore[attr-defined]
            raise

    def _run(self) -> Trainer:
        all_of = [one for one in (self._stopper, *self.callbacks, self._bar) if one is not None]
        if self._shards is not None:
            self._begin_together(self._shards)
        with deferred_signals() as signals:
            self._hooks = [one for one in all_of if type(one).on_batch_end is not Callback.on_batch_end]
            begun: list[Callback] = []
            try:
                for one in all_of:
                    begun.append(one)
                    one.on_train_begin(self)
                self._train(signals, all_of)
            finally:
                for one in begun:
                    one.on_train_end(self)
        if signals:
            stop_for(signals[0])
        return self

    def _train(self, signals: list[int], callbacks: list[Callback]) -> None:
        self._signals = signals
        every = math.inf if self._checkpoints is None else self._checkpoints.every
        self._next_checkpoint = time.perf_counter() + every
        while self._at.epoch <= self.max_epochs and self.stopped is None:
            for one in callbacks:
                one.on_epoch_begin(self)
            record = self._epoch(signals)
            if self.stopped:
                break
            if self.validate is not None:
                record.update(self._validated(self.validate))
            self.optimizer.end_epoch(record.get("val_loss", record["loss"]))
            self.history.append(record)
            self._at = _Position(self._at.epoch + 1, self.rng.bit_generator.state)
            self._carried = None
            if self._shards is not None:
                self._shards.forget_states()
            for one in callbacks:
                if one.on_epoch_end(self, record):
                    self.stop()
            if self._shards is not None:
                self._heed(self._shards.agree(self._flags(signals)), signals)
            if signals:
                self.stopped = "interrupted"
            if self.stopped in (None, "interrupted"):  # there is nothing to go on with after another end
                self._keep(signals)
        if self._shards is not None:
            self._shards.collect(self.optimizer)

    def _epoch(self, signals: list[int]) -> dict[str, Any]:
        at, hooks, now = self._at, self._hooks, time.perf_counter
        started = time.perf_counter() - at.seconds
        for batch in self._source.epoch(at.epoch, self.rng, at.batch):
            try:
                loss = self._step(batch)
            except NonFiniteError as problem:
                self._diverged(problem, at.batch + 1, batch.rows)
                break
            at.total += loss * batch.size
            at.done += batch.size
            at.steps += batch.n_steps
            at.batch += 1
            at.seconds = now() - started
            if hooks:
                record = {"epoch": at.epoch, "batch": at.batch, "loss": loss, "steps": batch.n_steps}
                record["mean_loss"] = at.total / max(at.done, 1e-300)
                for one in hooks:
                    one.on_batch_end(self, record)
            if self._shards is not None:
                self._heed(self._shards.flags, signals)
            if signals:
                self.stopped = "interrupted"
            if signals or self._is_due(started + at.seconds):
                self._keep(signals)
            if self.stopped:
                break
        if not at.batch and not self.stopped:
            raise ValueError(f"epoch {at.epoch}: expected at least one batch, got none")
        return {"epoch": at.epoch, "loss": at.total / (at.done or 1), "seconds": time.perf_counter() - started}

    def _step(self, batch: Batch) -> float:
        network, optimizer = self.network, self.optimizer
        if self._shards is not None:
            return self._step_together(self._shards, batch)
        if self._divide is not None:
            parts = in_parts(batch, *self._divide, network)
            if len(parts) > 1:
                return self._step_of(parts, batch)
        if self.reduction == "mean" and not self.carry:
            loss: float = network.train_step(
                batch.x, batch.targets, optimizer, batch.lengths, sample_weight=batch.sample_weight
            )
            return loss
        options: dict[str, Any] = {"sample_weight": batch.sample_weight}
        if self.reduction == "sequence":
            options["divisor"] = network.batch_shape(batch.x)[1]
        loss = network.train_step(batch.x, batch.targets, optimizer, batch.lengths, self._carried, **options)
        if self.carry:
            self._carried = network.state
        return loss * options["divisor"] / batch.size if "divisor" in options else loss

    def _step_of(self, parts: list[Batch], batch: Batch) -> float:
        """Add up the gradients of a batch's parts, each divided by the weight of the whole, and make one step."""
        network = self.network
        divisor = _counted(network.batch_weight(batch.targets, batch.lengths))
        dropout_step = network.dropout_step
        try:
            loss = 0.0
            for number, part in enumerate(parts):
                loss += network.loss_and_grad(
                    part.x,
                    part.targets,
                    part.lengths,
                    accumulate=number > 0,
                    sample_weight=part.sample_weight,
                    divisor=divisor,
                )
            if not math.isfinite(loss):
                raise NonFiniteError("the loss is not finite", "the loss")
            self.optimizer.step(network)
        except NonFiniteError:
            network.dropout_step = dropout_step
            raise
        return loss

    # -- several processes -------------------------------------------------------------------------------------------

    def _begin_together(self, shards: Shards) -> None:
        """Start from process 0's parameters and random numbers, on data that are the same everywhere."""
        made = json.dumps(plain(self.rng.bit_generator.state)).encode()
        content = {name: value for name, value in self._settings.items() if name != "dropout_seed"}
        content |= {
            "network": [_described(self.network, but=("random_state", "n_threads")), *self._frozen()],
            "steps of the optimizer": self.optimizer.steps,
            "max_epochs": self.max_epochs,
            "shards": shards.count,
            "place to go on from": [self._at.epoch, self._at.batch],
            "validation": self.validate is not None,
            "data": [fingerprint([one]) for one in self._source.content],
        }
        shards.begin(content)
        self._keeps = json.loads(shards.agreement.share(json.dumps(self._keeps).encode()))
        state = json.loads(shards.agreement.share(made))
        if self.rank:
            self.rng.bit_generator.state = self._at.rng = state
        if hasattr(self.network, "dropout_seed"):
            own = [self.network.dropout_seed, self.network.dropout_step]
            self.network.dropout_seed, self.network.dropout_step = json.loads(
                shards.agreement.share(json.dumps(own).encode())
            )

    def _frozen(self) -> tuple[str, ...]:
        return tuple(getattr(self.network, "frozen", ()))

    def _step_together(self, shards: Shards, batch: Batch) -> float:
        network = self.network
        divisor: Any = network.batch_shape(batch.x)[1]
        if self.reduction == "mean":
            divisor = _counted(network.batch_weight(batch.targets, batch.lengths))

        def learn(part: Batch, state: Any, divisor: Any) -> float:
            loss: float = network.loss_and_grad(
                *(part.x, part.targets, part.lengths, state), sample_weight=part.sample_weight, divisor=divisor
            )
            return loss

        loss = shards.step(batch, self.optimizer, divisor, self.carry, self._flags(self._signals), learn)
        return loss if self.reduction == "mean" else loss * divisor / batch.size

    def _flags(self, signals: list[int]) -> int:
        """Return what this process asks all of them for."""
        due = self.rank == 0 and self._checkpoints is not None and time.perf_counter() >= self._next_checkpoint
        return SIGNALLED * bool(signals) | KEEP * due | STOP * (self.stopped not in (None, "interrupted"))

    def _heed(self, flags: int, signals: list[int]) -> None:
        """Do what anybody asked for, in all processes at the same place."""
        if flags & SIGNALLED and not signals:
            signals.append(signal.SIGTERM)
        if flags & STOP:
            self.stop()

    def _is_due(self, now: float) -> bool:
        """Whether a checkpoint is to be written; several processes must all say so."""
        return now >= self._next_checkpoint if self._shards is None else bool(self._shards.flags & KEEP)

    def _validated(self, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return what validation measured, in process 0 for all."""
        if self._shards is None:
            return validate()
        measured, agreement = None, self._shards.agreement
        with agreement.heard():
            measured = plain(validate()) if self.rank == 0 else None
        agreement.agree()
        found: dict[str, float] = json.loads(agreement.share(json.dumps(measured).encode()))
        return found

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _connect(self, checkpoints: Checkpoints) -> None:
        """Have checkpoints written, and stand where the one to go on from stands.

        Whoever opened them has filled in what is trained, or it is this network by itself.
        """
        if not checkpoints.estimator:
            checkpoints.begin(self.rng)
            checkpoints.estimator = type(self).__name__
            checkpoints.data = fingerprint(self._source.content)
            checkpoints.settings = dict(self._settings)
        else:
            checkpoints.data = fingerprint(self._source.content)
        if self.shards is not None:
            checkpoints.settings["shards"] = self.shards
        checkpoints.restore(self)

    def _keep(self, signals: list[int]) -> None:
        if not self._keeps or not (signals or self._is_due(time.perf_counter())):
            return
        if self._shards is not None:
            self._shards.collect(self.optimizer)
            if self.carry:
                whole = self._shards.whole_state()
                self._carried = self.network.join_state(whole) if whole else None
        checkpoints = self._checkpoints
        if self.rank or checkpoints is None:
            return
        try:
            checkpoints.write(*self.state())
            self._warned = False
        except OSError as problem:  # the work done is worth more than the file
            if not self._warned:
                warnings.warn(
                    f"{problem.filename}: {problem.strerror or problem}; training goes on without a new checkpoint",
                    CheckpointWarning,
                    stacklevel=5,
                )
            self._warned = True
        self._next_checkpoint = time.perf_counter() + checkpoints.every

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
        if self._frozen():
            header["frozen"] = list(self._frozen())
        best = {} if self._stopper is None else self._stopper.state_dict()
        if best.get("best"):
            header["best"], arrays["best"] = best["best"], best["weights"]
        if self._carried is not None:
            for number, array in enumerate(arrays_of(self._carried)):
                arrays[f"state.{number}"] = array
        for number, one in enumerate(self.callbacks):
            for name, value in one.state_dict().items():
                if isinstance(value, np.ndarray):
                    arrays[f"callback.{number}.{name}"] = value
                else:
                    header.setdefault("callbacks", {}).setdefault(str(number), {})[name] = value
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
        if header.get("frozen") or self._frozen():
            self.network.unfreeze("*")
            self.network.freeze(*header.get("frozen", ()))
        theta[:] = arrays["theta"]
        if header["best"] and self._stopper is not None:
            self._stopper.load_state_dict({"best": header["best"], "weights": arrays["best"]})
        carried = [arrays[f"state.{number}"] for number in range(sum(name.startswith("state.") for name in arrays))]
        self._carried = self.network.join_state(carried) if carried else None
        if self._shards is not None:
            self._shards.take_state(carried)
        for number, one in enumerate(self.callbacks):
            prefix = f"callback.{number}."
            its = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
            its |= header.get("callbacks", {}).get(str(number), {})
            if its:
                one.load_state_dict(its)

    def _checked_position(self, header: dict[str, Any]) -> _Position:
        """Return where a checkpoint stands; from where no training stood it might never end."""
        position = _Position(**header["position"])
        if "steps" not in header["position"]:  # version 0.1 counted words alone
            position.steps = int(position.done)
        n_batches, n_steps = self._source.n_batches, self._source.n_steps
        for name, value, most in (
            ("epoch", position.epoch - 1, self.max_epochs),
            ("batch", position.batch, 2**62 if n_batches is None else n_batches),
            ("steps", position.steps, 2**62 if n_steps is None else n_steps),
            ("dropout_step", header["dropout_step"], 2**62),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise ValueError(f"{name}: expected a whole number up to {most}, got {value!r}")
        numbers = (position.seconds, position.done, abs(position.total))
        if not all(0 <= value < math.inf for value in numbers):
            raise ValueError(f"expected seconds, weight and loss as numbers, got {numbers}")
        history = header["history"]
        if not isinstance(history, list) or len(history) != position.epoch - 1:
            raise ValueError(f"expected a history of {position.epoch - 1} epochs")
        if not all(isinstance(record, dict) and {"epoch", "loss"} <= set(record) for record in history):
            raise ValueError("expected a history of records, each with epoch and loss")
        if header["best"] and not 1 <= int(header["best"][1]) < position.epoch:
            raise ValueError(f"expected the best epoch among the first {position.epoch - 1}, got {header['best'][1]}")
        return position

    def _diverged(self, problem: NonFiniteError, batch: int, rows: np.ndarray | None) -> None:
        self.stopped = "diverged"
        n_batches = self._source.n_batches
        place = ""
        if problem.sequence is not None:
            step = "" if problem.step is None else f", step {problem.step}"
            which = (
                f"{problem.sequence} of the batch" if rows is None else f"{rows[problem.sequence]} of the training data"
            )
            place = f" (sequence {which}{step})"
        warnings.warn(
            f"a number was not finite in epoch {self._at.epoch}, batch {batch}"
            f"{'' if n_batches is None else f' of {n_batches}'}: {problem.what}{place}; "
            "training stopped and what was learned before was kept. Lower learning_rate, or set clip_norm (try 1.0)",
            DivergenceWarning,
            stacklevel=5,
        )


def _described(network: Any, but: tuple[str, ...] = ()) -> list[str]:
    """Tell one network from another: what it is made of, and all options of its layers but some."""
    layers = [
        sorted((name, value) for name, value in cell_options(layer).items() if name not in but)
        for layer in getattr(network, "layers", ())
    ]
    return [repr(network), *map(repr, layers)]


def _counted(weight: Any) -> Any:
    """Return a batch's weight as a divisor: None where nothing counts, whose loss is 0 whatever it is divided by."""
    if isinstance(weight, dict):
        found = {name: one or None for name, one in weight.items()}
        return found if any(found.values()) else None
    return weight or None
