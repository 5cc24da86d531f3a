"""A clockwork network generates a sum of sines; a simple one cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import Clockwork
from rnncore.nn.heads import SquaredError
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.optimizers import Adam
from rnncore.zoo import Demonstration

__all__ = ["clockwork", "learn", "show", "simple", "waves"]

STEPS, SINES = 320, (8, 32, 80, 160)
EPOCHS = 1500


def waves(seed: int) -> np.ndarray:
    """Return a sum of four sines with phases of their own, (320, 1, 1)."""
    rng, t = np.random.default_rng(seed), np.arange(STEPS)
    parts = [np.sin(2 * np.pi * t / period + rng.uniform(0, 2 * np.pi)) for period in SINES]
    return np.sum(parts, axis=0).astype(np.float32)[:, None, None]


def clockwork(seed: int) -> Clockwork:
    """Return 64 units that tick every 1, 2, ..., 128 steps: 2,497 parameters."""
    return Clockwork(1, 8, [2**i for i in range(8)], 1, random_state=seed, n_threads=1)


def simple(seed: int) -> Network:
    """Return 48 units of a simple recurrent network: 2,449 parameters."""
    return Network(Recurrent("elman", 1, 48, random_state=seed, n_threads=1), head=SquaredError(1))


def learn(net: Clockwork | Network, wave: np.ndarray, learning_rate: float) -> list[float]:
    """Train a network that hears a constant, and return the errors of all epochs."""
    x, adam = np.ones_like(wave), Adam(learning_rate, clip_norm=1.0)
    return [float(net.train_step(x, wave, adam)) for _ in range(EPOCHS)]


def show(say: Callable[[str], None]) -> Demonstration:
    """Train both on one sum."""
    wave = waves(0)
    nets: dict[str, tuple[Clockwork | Network, float]] = {
        "clockwork": (clockwork(0), 0.01),
        "simple": (simple(0), 0.001),
    }
    errors, said = {}, {}
    for name, (net, rate) in nets.items():
        errors[name] = learn(net, wave, rate)
        x = np.ones_like(wave)
        said[name] = net.forward(x, training=False)[0] if isinstance(net, Clockwork) else net.predict(x)
        say(f"{name}: {net.theta.size:,} parameters, error after {EPOCHS} epochs {errors[name][-1]:.4f}")

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 5)
        above, below = figure.subplots(2, 1)
        above.plot(wave[:, 0, 0], color="black", label="the sum of four sines")
        for name, outputs in said.items():
            above.plot(outputs[:, 0, 0], label=name, linewidth=1)
        above.legend(frameon=False, fontsize=8)
        for name, each in errors.items():
            below.semilogy(each, label=name, linewidth=0.8)
        below.set_xlabel("epoch")
        below.set_ylabel("squared error")

    return Demonstration({f"{name}, error": each[-1] for name, each in errors.items()}, draw)
