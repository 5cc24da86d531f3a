"""Several models of one training (Huang et al. 2017): the weights at the end of each cycle of the learning rate."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from rnncore.optim.optimizers import Optimizer
from rnncore.optim.schedules import Cosine
from rnncore.train.callbacks import Callback

__all__ = ["fit_snapshots"]


class _Keeper(Callback):
    """Copies the weights at the end of each cycle of a cosine but the last, whose end is that of the training."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def on_batch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        schedule, steps = trainer.optimizer.schedule, trainer.optimizer.steps
        if steps < schedule.steps and steps % schedule.period == 0:
            self.kept.append(trainer.network.theta.copy())

    def state_dict(self) -> dict[str, Any]:
        return {f"kept{n}": theta for n, theta in enumerate(self.kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = [np.array(state[f"kept{n}"]) for n in range(len(state))]


def fit_snapshots(estimator: Any, n: int, *data: Any, **options: Any) -> list[Any]:
    """Fit an estimator with a learning rate that falls `n` times, and return what it was each time.

    Parameters
    ----------
    estimator
        Fitted in place; the last one of the result.
    n : int
    data, options
        Of its `fit`.

    Returns
    -------
    list of fitted estimators
        Fewer than `n` where training ended early.
    """
    if isinstance(estimator.optimizer, Optimizer):
        raise ValueError("n_snapshots sets the schedule: give the optimizer by its name, or as a dict")
    keeper, callbacks = _Keeper(), estimator.callbacks
    estimator.set_params(
        schedule={"name": Cosine.__name__.lower(), "cycles": n}, callbacks=[*(callbacks or ()), keeper]
    )
    try:
        estimator.fit(*data, **options)
    finally:
        estimator.set_params(callbacks=callbacks)
    found = []
    for theta in keeper.kept:
        twin = copy.deepcopy(estimator)
        twin.network_.theta[...] = theta
        found.append(twin)
    return [*found, estimator]
