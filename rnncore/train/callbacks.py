"""What looks on while a network is trained, and may stop it."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["CSVLogger", "Callback", "EarlyStopping", "ProgressBar", "as_callbacks"]


class Callback:
    """Base of what a `rnncore.Trainer` calls while it trains; every method does nothing until overridden.

    ``trainer.stop()`` in any of them ends the training at the next end of a minibatch, and so does a true value that
    `on_epoch_end` returns. `trainer` has ``network``, ``optimizer``, ``history``, ``epoch``, ``max_epochs`` and
    ``stopped``.

    Where training is to go on from checkpoints with the same bits, a callback that changes it by what it remembers
    needs `state_dict` and `load_state_dict`.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> class Patience(rc.Callback):
    ...     def on_epoch_end(self, trainer, record):
    ...         if record["loss"] < 0.1:
    ...             trainer.stop()
    >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
    >>> batch = (np.ones((5, 2, 4), dtype="float32"), np.zeros((5, 2), int))
    >>> trainer = rc.Trainer(net, rc.Adam(0.1), [batch], max_epochs=100, callbacks=[Patience()]).run()
    >>> trainer.stopped, trainer.history[-1]["loss"] < 0.1 < trainer.history[-2]["loss"]
    ('callback', True)
    """

    def on_train_begin(self, trainer: Any) -> None:
        """Be told that training begins, or goes on from a checkpoint."""

    def on_epoch_begin(self, trainer: Any) -> None:
        """Be told that an epoch begins, or goes on in its middle."""

    def on_batch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        """See a minibatch's epoch, batch, loss, steps (of all its sequences) and mean_loss (of the epoch until now)."""

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> Any:
        """See the record that has been added to ``trainer.history``."""

    def on_train_end(self, trainer: Any) -> None:
        """Be told that training is over, for whatever reason."""

    def state_dict(self) -> dict[str, Any]:
        """Return what to keep in a checkpoint: arrays, and what JSON can hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class _Plain(Callback):
    """A callable that is given each epoch's record and stops training by returning something true."""

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> Any:
        return self.function(record)


def as_callbacks(given: Iterable[Any] | None) -> list[Callback]:
    """Check callbacks and wrap plain callables.

    Raises
    ------
    TypeError
        If one is neither.
    """
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        raise TypeError(f"callbacks: expected a list of callables, got {given!r}")
    wrong = [one for one in given if isinstance(one, type) or not (isinstance(one, Callback) or callable(one))]
    if wrong:
        raise TypeError(f"callbacks: expected a list of callables or rnncore.Callback objects, got {wrong[0]!r} in it")
    return [one if isinstance(one, Callback) else _Plain(one) for one in given]


class EarlyStopping(Callback):
    """Stop when there was no better epoch for a while, and keep the best epoch's weights.

    Parameters
    ----------
    n_iter_no_change : int
        How many epochs to wait for a better one.
    monitor : str
        What of the record to go by; where it is equal, a lower ``val_loss`` is better.
    mode : "max" or "min"
        Whether more or less of it is better.
    min_delta : float
        By how much it has to be better.

    Attributes
    ----------
    best_epoch : int or None

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
    >>> batch = (np.ones((5, 2, 4), dtype="float32"), np.zeros((5, 2), int))
    >>> stopper = rc.callbacks.EarlyStopping(2, monitor="loss", mode="min", min_delta=0.1)
    >>> trainer = rc.Trainer(net, rc.Adam(0.1), [batch], max_epochs=100, callbacks=[stopper]).run()
    >>> trainer.stopped, stopper.best_epoch == len(trainer.history) - 2
    ('early', True)
    """

    def __init__(
        self, n_iter_no_change: int = 10, monitor: str = "val_score", mode: str = "max", min_delta: float = 0.0
    ) -> None:
        check_count("n_iter_no_change", n_iter_no_change, 1)
        check_choice("mode", mode, ("max", "min"))
        check_number("min_delta", min_delta, "[0, inf)", 0.001)
        self.n_iter_no_change = n_iter_no_change
        self.monitor = monitor
        self.mode = mode
        self.min_delta = min_delta
        self._best: tuple[tuple[float, float], int, np.ndarray] | None = None

    @property
    def best_epoch(self) -> int | None:
        """Number of the best epoch until now, from 1 on."""
        return None if self._best is None else self._best[1]

    def on_train_begin(self, trainer: Any) -> None:
        """Forget an earlier training."""
        if not trainer.history:
            self._best = None

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        """Keep the weights of a better epoch; stop when there was none for too long."""
        if self.monitor not in record:
            known = ", ".join(name for name in record if name not in ("epoch", "seconds"))
            raise KeyError(
                f"EarlyStopping goes by {self.monitor!r}, which an epoch's record does not have: it has {known}"
            )
        value = record[self.monitor]
        merit = (value if self.mode == "max" else -value, -record.get("val_loss", 0.0))
        best = self._best
        if best is None or (merit > best[0] if not self.min_delta else merit[0] > best[0][0] + self.min_delta):
            self._best = (merit, record["epoch"], trainer.network.theta.copy())
        elif record["epoch"] - best[1] >= self.n_iter_no_change:
            trainer.stop("early")

    def on_train_end(self, trainer: Any) -> None:
        """Give the network the best epoch's weights."""
        if self._best is not None:
            trainer.network.theta[:] = self._best[2]

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch, how good it was, and its weights."""
        if self._best is None:
            return {"best": None}
        return {"best": list(self._best[:2]), "weights": self._best[2]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._best = None
        if state["best"]:
            merit, epoch = state["best"]
            self._best = ((float(merit[0]), float(merit[1])), int(epoch), np.array(state["weights"]))


class CSVLogger(Callback):
    """Write each epoch's record as a line of a CSV file.

    Parameters
    ----------
    path : str or path
        Begun anew with each training; one that goes on from a checkpoint writes its earlier epochs again.

    Examples
    --------
    >>> import os, tempfile, numpy as np, rnncore as rc
    >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> net = rc.Network(rc.Recurrent("elman", 4, 8), head=rc.Softmax(3))
    >>> batch = (np.ones((5, 2, 4), dtype="float32"), np.zeros((5, 2), int))
    >>> logger = rc.callbacks.CSVLogger(path)
    >>> _ = rc.Trainer(net, rc.Adam(0.1), [batch], max_epochs=2, callbacks=[logger]).run()
    >>> open(path).read().split()[0]
    'epoch,loss,seconds'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._names: list[str] | None = None

    def on_train_begin(self, trainer: Any) -> None:
        """Begin the file."""
        self._names = None
        with open(self.path, "w", encoding="utf-8"):
            pass
        for record in trainer.history:
            self.on_epoch_end(trainer, record)

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        """Write a line, and the names above the first; what later records have beside these is left out."""
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            first = self._names is None
            self._names = self._names or list(record)
            writer = csv.DictWriter(file, self._names, extrasaction="ignore", lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerow(record)


class ProgressBar(Callback):
    """A bar on standard error: loss, steps per second, time left. It is bothered ten times a second at most.

    Parameters
    ----------
    unit : str
        What a time step is called.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.callbacks.ProgressBar("word").unit
    'word'
    """

    def __init__(self, unit: str = "step") -> None:
        self.unit = unit
        self._bar: Any = None

    def on_train_begin(self, trainer: Any) -> None:
        """Show the bar."""
        from tqdm.auto import tqdm  # only who wants a bar pays for it

        per_epoch = trainer.n_steps
        options: dict[str, Any] = {"unit": f" {self.unit}s", "unit_scale": True, "dynamic_ncols": True}
        options |= {"total": per_epoch and trainer.max_epochs * per_epoch, "initial": trainer.n_done}
        self._bar, self._waiting, self._next = tqdm(desc="training", **options), 0, 0.0

    def on_batch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        """Move the bar."""
        self._waiting += record["steps"]
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + 0.1
            text = f"epoch {record['epoch']}/{trainer.max_epochs}, loss {record['mean_loss']:.4f}"
            self._bar.set_postfix_str(text, refresh=False)
            self._flush()

    def on_train_end(self, trainer: Any) -> None:
        """Leave the bar with the last loss."""
        if self._bar is None:
            return
        self._flush()
        if trainer.history:
            self._bar.set_postfix_str(f"loss {trainer.history[-1]['loss']:.4f}")
        self._bar.close()
        self._bar = None

    def _flush(self) -> None:
        self._bar.update(self._waiting)
        self._waiting = 0
