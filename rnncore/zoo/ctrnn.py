"""Continuous time: two units that swing by themselves, and six that learn to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import simulate
from rnncore.nn.heads import SquaredError
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.optimizers import Adam
from rnncore.optim.schedules import Cosine
from rnncore.zoo import Demonstration

__all__ = ["learn_sine", "oscillator", "period_of", "show", "sine"]

PERIOD, HEARD = 40, 4  # steps; periods that are learned from
_SHOWN = 10  # periods
_EPOCHS = 2000


def oscillator(steps: int, time_step: float = 0.05, solver: str = "rk4") -> np.ndarray:
    """Return the outputs (steps, 2) of a pair of units of Beer's kind (1995), at the centres of their nullclines."""
    W, biases = [[4.5, -1.0], [1.0, 4.5]], [-2.75, -1.75]
    return simulate(W, biases, steps=steps, time_step=time_step, solver=solver, start=[0.5, 0.0])


def period_of(wave: np.ndarray) -> float:
    """Return the mean time, in steps, from one rise through the middle to the next."""
    y = wave - (wave.max() + wave.min()) / 2
    rises = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    return float(np.diff(rises + y[rises] / (y[rises] - y[rises + 1])).mean())


def sine(periods: int) -> np.ndarray:
    """Return what is to be learned, (steps, 1, 1)."""
    t = np.arange(1, periods * PERIOD + 1)
    return (0.8 * np.sin(2 * np.pi * t / PERIOD)).astype(np.float32)[:, None, None]


def learn_sine(seed: int) -> Network:
    """Return six units that were shown four periods of a sine, and hear nothing."""
    layer = Recurrent("ctrnn", 1, 6, tau=2.0, time_step=0.5, random_state=seed, n_threads=1)
    net, wave = Network(layer, head=SquaredError(1)), sine(HEARD)
    adam = Adam(0.02, clip_norm=1.0, schedule=Cosine(steps=_EPOCHS))
    for _ in range(_EPOCHS):
        net.train_step(np.zeros_like(wave), wave, adam)
    return net


def show(say: Callable[[str], None]) -> Demonstration:
    """Let both swing."""
    outputs = oscillator(4000)
    late, step = outputs[2000:], 0.05
    period = period_of(outputs[:, 0]) * step
    say(f"two units swing with a period of {period:.2f} time constants, from {late.min():.4f} to {late.max():.4f}")
    net, wave = learn_sine(0), sine(_SHOWN)
    said = net.predict(np.zeros_like(wave))[:, 0, 0]
    off = period_of(said[HEARD * PERIOD :]) / PERIOD - 1
    say(f"six units have learned {HEARD} periods of a sine, and go on: their frequency is off by {abs(off):.3%}")
    constants = np.exp(net.params["layers.0.fwd.rho"])
    say(f"their time constants, 2 to begin with, are {', '.join(f'{tau:.2f}' for tau in sorted(constants))}")

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 5)
        (above, plane), (below, units) = figure.subplots(2, 2, width_ratios=[2, 1])
        above.plot(step * np.arange(len(outputs)), outputs)
        above.set_title("two units, without input", fontsize=10)
        plane.plot(*outputs.T, linewidth=0.8)
        plane.set_title("one over the other", fontsize=10)
        below.plot(wave[:, 0, 0], color="black", label="the sine")
        below.plot(said, color="tab:orange", linestyle="--", label="six units")
        below.axvline(HEARD * PERIOD, color="gray", linestyle=":", label="learned until here")
        below.legend(fontsize=8, loc="lower right")
        units.bar(range(6), sorted(constants))
        units.set_title("learned time constants", fontsize=10)

    return Demonstration({"period, time constants": round(period, 3), "frequency of the sine, off by": abs(off)}, draw)
