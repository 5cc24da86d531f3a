"""An echo state network hears a chaotic series, and goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.datasets.series import mackey_glass
from rnncore.estimators.esn import ESNRegressor
from rnncore.zoo import Demonstration

__all__ = ["show"]

_UNITS, _HEARD, _AHEAD = 400, 3000, 200
_RUNS = 20
_SHOWN = 30  # units


def _network(seed: int) -> ESNRegressor:
    """Jaeger's (2001), which hears what it says."""
    return ESNRegressor(
        *(_UNITS, 0.79 / 0.9, 0.396),
        feedback_scaling=0.56,
        bias_scaling=0.028,
        connectivity=0.0125,
        distribution="uniform",
        ridge=1e-12,
        washout=1000,
        input_to_readout=False,
        random_state=seed,
        n_threads=1,
    )


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn the series of Mackey and Glass, and tell what comes."""
    series = mackey_glass(_HEARD, squash=True)
    network = _network(0).fit(None, series)
    say(f"{_UNITS} units have heard {_HEARD:,} steps, and {len(network.W_out_)} weights are learned")
    said, came, errors = [], [], []
    for run in range(_RUNS):
        test = mackey_glass(1000 + _AHEAD, squash=True, random_state=100 + run)
        said.append(network.generate(_AHEAD, test[:1000])[:, 0])
        came.append(test[1000:])
        errors.append(abs(said[-1] - came[-1]) / series.std())
    error = np.sqrt(np.mean(np.square(errors), axis=0))
    for steps in (1, 21, 84, _AHEAD):
        say(f"{steps} steps on its own: off by {error[steps - 1]:.5f} of the series' deviation, of {_RUNS} series")
    states = network.reservoirs_[0].states(np.zeros((300, 0)), series[:300, None])

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 7)
        above, middle, below = figure.subplots(3, 1)
        above.plot(states[:, :_SHOWN], linewidth=0.6)
        above.set_title(f"what {_SHOWN} of {_UNITS} units make of the first 300 steps", fontsize=10)
        middle.plot(came[0], color="black", label="what came")
        middle.plot(said[0], color="tab:orange", linestyle="--", label="said, each step from what was said before")
        middle.legend(frameon=False, fontsize=8)
        below.plot(np.arange(1, _AHEAD + 1), error)
        below.set_yscale("log")
        below.set_xlabel("steps on its own")
        below.set_ylabel("error / deviation")

    return Demonstration({"error 84 steps on, of the deviation": float(error[83])}, draw)
