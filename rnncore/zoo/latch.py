"""Search without gradients: a network that remembers its first input for 100 steps of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.nn.heads import SquaredError
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.search import SearchResult, minimize
from rnncore.zoo import Demonstration

__all__ = ["show"]

_STEPS, _TARGET = 100, 0.01
_METHODS: dict[str, dict[str, Any]] = {"random": {}, "genetic": {}, "annealing": {"restarts": 9}, "evolution": {}}


def _sequences(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(0, np.sqrt(0.2), (_STEPS, count, 1))
    classes = rng.choice([-1, 1], count)
    x[0, :, 0] = classes
    return x.astype(np.float32), classes


def show(say: Callable[[str], None]) -> Demonstration:
    """Search with each method that needs no other package."""
    rng = np.random.default_rng(0)
    (x, classes), (new, of_new) = _sequences(200, rng), _sequences(300, rng)

    def error(net: Network) -> float:
        return float(np.mean((net.predict(x)[:, 0] - classes) ** 2))

    found: dict[str, SearchResult] = {}
    figures: dict[str, Any] = {}
    for method, options in _METHODS.items():
        net = Network(
            Recurrent("elman", 1, 5, activation="tanh", random_state=0, n_threads=1),
            head=SquaredError(1, project=False, pooling="last"),
        )
        found[method] = minimize(
            net, error, method, bounds=(-10, 10), target=_TARGET, max_evaluations=20_000, random_state=0, **options
        )
        right = float(np.mean(np.sign(net.predict(new)[:, 0]) == of_new))
        say(
            f"{method}: error {found[method].value:.4f} after {found[method].evaluations:,} evaluations, "
            f"{right:.1%} of new sequences right"
        )
        figures[f"{method}, evaluations"] = found[method].evaluations
        figures[f"{method}, new sequences right"] = right

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for method, result in found.items():
            at, values = zip(*result.history, strict=True)
            axes.step([*at, result.evaluations], [*values, values[-1]], where="post", label=method)
        axes.axhline(_TARGET, color="gray", linestyle=":", label="target")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=_TARGET)
        axes.set_xlabel("evaluations")
        axes.set_ylabel("smallest squared error")
        axes.legend(frameon=False)

    return Demonstration(figures, draw)
