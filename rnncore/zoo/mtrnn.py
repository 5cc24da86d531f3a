"""A network of several time scales moves in three ways, and in two that are made of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.models import MTRNN
from rnncore.optim.optimizers import Adam
from rnncore.optim.schedules import Cosine
from rnncore.zoo import Demonstration

__all__ = ["NAMES", "learn", "movements", "show"]

PART, EPOCHS = 60, 4000
NAMES = ("A", "B", "C", "AAB", "BCC")


def movements() -> np.ndarray:
    """Return a circle, an eight and an arc again and again, and two sequences of them: (180, 5, 2), within ±0.8."""
    t = 2 * np.pi * np.arange(3 * PART) / 20
    moves = {
        "A": np.stack([0.8 * np.sin(t), 0.8 * np.cos(t)], axis=1),
        "B": np.stack([0.8 * np.sin(t), 0.8 * np.sin(2 * t)], axis=1),
        "C": np.stack([0.8 * np.sin(t), 0.4 - 0.8 * np.cos(t) ** 2], axis=1),
    }
    whole = [moves[name] if len(name) == 1 else np.concatenate([moves[part][:PART] for part in name]) for name in NAMES]
    return np.stack(whole, axis=1).astype(np.float32)


def learn(seed: int, slow: float = 70.0) -> tuple[MTRNN, np.ndarray]:
    """Train 20 fast and 8 slow units; return them, and the mean squared error of each movement that they make."""
    net, wanted = MTRNN(2, len(NAMES), tau=(2.0, 5.0, slow), random_state=seed, n_threads=1), movements()
    adam = Adam(0.01, clip_norm=1.0, schedule=Cosine(steps=EPOCHS))
    for _ in range(EPOCHS):
        net.train_step(wanted, adam)
    return net, ((net.generate(len(wanted)) - wanted) ** 2).mean(axis=(0, 2))


def show(say: Callable[[str], None]) -> Demonstration:
    """Learn all five, and make them from nothing but where the slow units begin."""
    net, errors = learn(0)
    for name, error in zip(NAMES, errors, strict=True):
        say(f"{name}: mean squared error {error:.4f}, running by itself")
    wanted, units = movements(), net.generate(3 * PART, [3], units=True)[:, 0]

    def draw(figure: Any) -> None:
        figure.set_size_inches(9, 6)
        said = net.generate(3 * PART)
        grid = figure.add_gridspec(3, len(NAMES))
        for i, name in enumerate(NAMES):
            axes = figure.add_subplot(grid[0, i])
            axes.plot(*wanted[:, i].T, color="black", linewidth=0.6)
            axes.plot(*said[:, i].T, color="tab:orange", linewidth=0.6)
            axes.set_title(name, fontsize=10)
            axes.set_axis_off()
        for row, (what, columns) in enumerate({"fast units": slice(2, 22), "slow units": slice(22, None)}.items(), 1):
            axes = figure.add_subplot(grid[row, :])
            axes.plot(units[:, columns], linewidth=0.7)
            axes.set_ylabel(f"{what}, AAB", fontsize=8)
            axes.margins(x=0)

    return Demonstration({f"{name}, error": float(error) for name, error in zip(NAMES, errors, strict=True)}, draw)
