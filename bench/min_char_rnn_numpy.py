"""min-char-rnn (Karpathy 2015), written anew in NumPy from its equations: one row, 25 steps, Adagrad.

h_t = tanh(Wxh x_t + Whh h_{t-1} + bh),  p_t = softmax(Why h_t + by),  loss = -Σ_t ln p_t[next]
g clipped to ±5,  s += g²,  p -= rate g / √(s + 1e-8)
"""

from __future__ import annotations

import numpy as np

from bench.weights import Arrays

HIDDEN, STEPS, RATE, CLAMP, EPS = 100, 25, 0.1, 5.0, 1e-8


def initial(symbols: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    sizes = {"Wxh": (HIDDEN, symbols), "Whh": (HIDDEN, HIDDEN), "Why": (symbols, HIDDEN)}
    start = {name: 0.01 * rng.standard_normal(size) for name, size in sizes.items()}
    return {**start, "bh": np.zeros((HIDDEN, 1)), "by": np.zeros((symbols, 1))}


class Trainer:
    name = "NumPy"

    def __init__(self, symbols: int, start: Arrays) -> None:
        self.symbols = symbols
        self.p = {name: array.copy() for name, array in start.items()}
        self.squares = {name: np.zeros_like(array) for name, array in start.items()}
        self.reset()

    def reset(self) -> None:
        self.h = np.zeros((HIDDEN, 1))

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        """One chunk; the sum of its losses before the step."""
        loss, gradient = self.loss_and_gradient(x, y)
        for name, p in self.p.items():
            g = np.clip(gradient[name], -CLAMP, CLAMP)
            self.squares[name] += g * g
            p -= RATE * g / np.sqrt(self.squares[name] + EPS)
        return loss

    def loss_and_gradient(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Arrays]:
        p, h, inputs, probabilities, loss = self.p, [self.h], [], [], 0.0
        for symbol, following in zip(x, y, strict=True):
            one_hot = np.zeros((self.symbols, 1))
            one_hot[symbol] = 1
            inputs.append(one_hot)
            h.append(np.tanh(p["Wxh"] @ one_hot + p["Whh"] @ h[-1] + p["bh"]))
            power = np.exp(p["Why"] @ h[-1] + p["by"])
            probabilities.append(power / power.sum())
            loss -= float(np.log(probabilities[-1][following, 0]))
        gradient = {name: np.zeros_like(array) for name, array in p.items()}
        from_later = np.zeros_like(self.h)
        for t in reversed(range(len(x))):
            dy = probabilities[t].copy()
            dy[y[t]] -= 1
            gradient["Why"] += dy @ h[t + 1].T
            gradient["by"] += dy
            da = (1 - h[t + 1] ** 2) * (p["Why"].T @ dy + from_later)
            gradient["bh"] += da
            gradient["Wxh"] += da @ inputs[t].T
            gradient["Whh"] += da @ h[t].T
            from_later = p["Whh"].T @ da
        self.h = h[-1]
        return loss, gradient
