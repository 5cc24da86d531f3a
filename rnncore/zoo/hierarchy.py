"""Two classes told apart by ten steps at the beginning, asked for after noise: levels of time remember."""

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

__all__ = ["CUE", "PERIODS", "errors_of", "flat", "hierarchy", "sequences", "show"]

CUE, NOISE, UNITS = 10, 0.5, 6
PERIODS = (1, 5, 25)
BATCH, UPDATES, LOOKS = 32, 1000, 100


def sequences(steps: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return noise (steps, count, 1) that begins with a sine or its negative, and which of both, (count, 1)."""
    x = rng.normal(0, NOISE, (steps, count, 1))
    classes = rng.choice([-1.0, 1.0], count)
    x[:CUE, :, 0] += classes * np.sin(2 * np.pi * np.arange(CUE) / CUE)[:, None]
    return x.astype(np.float32), classes.astype(np.float32)[:, None]


def hierarchy(seed: int) -> Clockwork:
    """Return three levels of six units that tick every 1, 5 and 25 steps."""
    return Clockwork(1, UNITS, PERIODS, 1, reads="faster", random_state=seed, n_threads=1)


def flat(seed: int) -> Network:
    """Return as many units at one level."""
    layer = Recurrent("elman", 1, UNITS * len(PERIODS), random_state=seed, n_threads=1)
    return Network(layer, head=SquaredError(1, pooling="last"))


def _answers(net: Clockwork | Network, x: np.ndarray) -> np.ndarray:
    return np.sign(net.forward(x, training=False)[0][-1] if isinstance(net, Clockwork) else net.predict(x))


def errors_of(net: Clockwork | Network, steps: int, seed: int) -> list[float]:
    """Train on new sequences at every step; return the share of new ones that it gets wrong, after every hundred."""
    rng, adam = np.random.default_rng(seed), Adam(0.005, clip_norm=1.0)
    x, classes = sequences(steps, 1000, np.random.default_rng(99))
    errors = []
    for update in range(1, UPDATES + 1):
        net.train_step(*sequences(steps, BATCH, rng), adam)
        if update % LOOKS == 0:
            errors.append(float(np.mean(_answers(net, x) != classes)))
    return errors


def show(say: Callable[[str], None]) -> Demonstration:
    """Train both on sequences of 100 steps."""
    nets: dict[str, Clockwork | Network] = {"hierarchy": hierarchy(0), "flat": flat(0)}
    errors = {}
    for name, net in nets.items():
        errors[name] = errors_of(net, 100, 0)
        say(f"{name}: {net.theta.size} parameters, {errors[name][-1]:.1%} of 100-step sequences wrong")
    shown, _ = sequences(100, 1, np.random.default_rng(3))
    levels = Clockwork(1, UNITS, PERIODS, None, reads="faster", n_threads=1)
    trained = nets["hierarchy"]
    for name, view in levels.params.items():
        view[...] = trained.params[name]
    held = levels.forward(shown, training=False)[0][:, 0]

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 6)
        panels = figure.subplots(len(PERIODS) + 2, 1)
        panels[0].plot(shown[:, 0, 0], color="black", linewidth=0.8)
        panels[0].set_ylabel("input", fontsize=8)
        for i, period in enumerate(PERIODS):
            panels[1 + i].step(np.arange(100), held[:, UNITS * i : UNITS * (i + 1)], where="post", linewidth=0.8)
            panels[1 + i].set_ylabel(f"every {period}", fontsize=8)
        for name, each in errors.items():
            panels[-1].plot(LOOKS * np.arange(1, len(each) + 1), each, label=name)
        panels[-1].legend(frameon=False, fontsize=8)
        panels[-1].set_ylabel("wrong", fontsize=8)
        panels[-1].set_xlabel("updates")

    return Demonstration({f"{name}, wrong after 100 steps": each[-1] for name, each in errors.items()}, draw)
