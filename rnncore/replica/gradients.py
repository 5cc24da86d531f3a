"""The original's gradient check, with a verdict: analytic gradients beside central differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncore._core.cxx_random import OpenCVRandom
from rnncore.replica.model import Replica, matrix_names

__all__ = ["Comparison", "check_gradients", "derivatives"]

_STEPS = (1e-4, 1e-5, 1e-6)  # the original's, and smaller ones for where a ReLU switches in between
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Comparison:
    """How one matrix fared: the largest difference relative to its largest gradient, over `checked` numbers."""

    name: str
    error: float
    checked: int

    @property
    def passed(self) -> bool:
        """Whether the gradient can be trusted."""
        return self.error < TOLERANCE


def derivatives(engine: Any, windows: Any, batch: np.ndarray, names: Any) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
    """Return gradient and curvature (in, out) of each matrix, for an engine with separate accumulators.

    They are what one update without memory leaves behind: D = κ and v = g·rate/(D + mu). The weights are put back.
    """
    before = {name: engine.get(*name) for name in names}
    engine.clear_accumulators()
    engine.iterate(windows, batch, OpenCVRandom(), 0.0, 0.0, 1.0, 1.0)
    found = {}
    for name in names:
        curvature = engine.get(*name, "D")
        found[name] = (engine.get(*name, "v") * (curvature + 1.0), curvature)
        engine.set(*name, before[name])
    engine.clear_accumulators()
    return found


def check_gradients(
    replica: Replica, sentences: Any, tags: Any, per_matrix: int = 40, random_state: int = 0
) -> list[Comparison]:
    """Check the gradient of every matrix on a batch of two windows, without dropout.

    The original compares every number, which its own size makes days of work; here `per_matrix` numbers are drawn of
    each matrix, from those with the largest gradients and from all.

    Returns
    -------
    list of Comparison
        One per matrix; all must have `passed`.
    """
    config = replica.config
    plain = tuple(type(layer)(layer.neurons, layer.weight_decay) for layer in config.hidden)
    twin = Replica(
        replica.version,
        type(config)(**{**vars(config), "batch_size": 2, "hidden": plain}),
        accumulators="separate",
        split=replica.split,
        n_threads=replica.n_threads,
    )
    twin.prepare(sentences, tags)
    engine, windows, batch = twin._engine, twin._train, twin._draw()
    names = [tuple(rest) for _, *rest in matrix_names(twin.version, len(plain))]
    found = derivatives(engine, windows, batch, names)
    rng = np.random.default_rng(random_state)
    result = []
    for name, (label, *_) in zip(names, matrix_names(twin.version, len(plain)), strict=True):
        gradient = found[name][0]
        places = np.unique(
            np.concatenate(
                [
                    np.argsort(np.abs(gradient), axis=None)[-(per_matrix // 2) :],
                    rng.integers(gradient.size, size=per_matrix // 2),
                ]
            )
        )
        scale = np.abs(gradient).max() or 1.0
        error = max(_difference(engine, windows, batch, name, int(place), gradient) for place in places) / scale
        result.append(Comparison(label, error, len(places)))
    return result


def _difference(engine: Any, windows: Any, batch: np.ndarray, name: Any, place: int, gradient: np.ndarray) -> float:
    weights = engine.get(*name)
    value, best = weights.flat[place], np.inf
    for step in _STEPS:
        costs = []
        for moved in (value + step, value - step):
            weights.flat[place] = moved
            engine.set(*name, weights)
            costs.append(sum(engine.cost(windows, batch, OpenCVRandom())))
        best = min(best, abs((costs[0] - costs[1]) / (2 * step) - gradient.flat[place]))
        if best < TOLERANCE * np.abs(gradient).max():
            break
    weights.flat[place] = value
    engine.set(*name, weights)
    return float(best)
