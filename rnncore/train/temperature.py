"""One temperature for a network's scores, so that its probabilities are as often right as they say.

Guo, Pleiss, Sun and Weinberger 2017: p = softmax(s / T) with the T that held-out data are most probable under. All that
a head computes scores from is linear in its parameters, the scores of a chain's transitions, starts and ends among it:
dividing these by T is dividing the scores, and the order of labels and of whole labellings stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from rnncore.data.sequences import Sequences
from rnncore.train.predictions import probabilities_of

__all__ = ["HOTTEST", "best_temperature", "temper"]

HOTTEST = 16.0  # and the coldest is its inverse
_CLOSE = 1e-3  # of the logarithm


def temper(network: Any, temperature: float) -> None:
    """Divide the scores of a network's heads by a temperature."""
    with network._access.training:
        for output in network.outputs:
            output.temper(network.params, temperature)


def best_temperature(network: Any, data: Sequences, arrange: Callable[..., Any] | None = None) -> float:
    """Return what to divide the scores by so that the targets are as probable as can be, each by itself.

    Targets of -1 do not count. The network stays as it is.
    """
    targets = np.asarray(data.y)
    known = targets >= 0
    losses: dict[float, float] = {}

    def loss_at(log: float) -> float:
        if log not in losses:
            tempered = network.copy()
            temper(tempered, math.exp(log))
            found = probabilities_of(tempered, data, targets, arrange)[known]
            losses[log] = -float(np.log(np.maximum(found, np.finfo(np.float32).tiny)).mean())
        return losses[log]

    step, limit = math.log(2), math.log(HOTTEST)
    direction = step if loss_at(step) < loss_at(-step) else -step
    log = 0.0
    while abs(log + direction) <= limit + _CLOSE and loss_at(log + direction) < loss_at(log):
        log += direction
    around = (max(log - step, -limit), min(log + step, limit))
    minimize_scalar(loss_at, bounds=around, method="bounded", options={"xatol": _CLOSE})
    return math.exp(min(losses, key=lambda log: (losses[log], abs(log))))
