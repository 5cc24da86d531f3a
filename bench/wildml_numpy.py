"""WildML's recurrent language model (Britz 2015), written anew in NumPy: one sentence a step, plain descent, no biases.

    s_t = tanh(U[:, x_t] + W s_{t-1}),  o_t = softmax(V s_t),  loss = -Σ_t ln o_t[y_t]

The gradient of each word's loss goes back at most 5 steps, its own included (`bptt_truncate=4` there), one word after
the other. Gradients are sums over the sentence.
"""

from __future__ import annotations

import numpy as np

from bench.weights import Arrays

SYMBOLS, HIDDEN, RATE, STEPS_BACK = 8000, 100, 0.005, 5


def initial(seed: int = 10) -> Arrays:
    """Uniform in ±1/√(numbers that come in): of U the symbols, of V and W the units."""
    rng = np.random.RandomState(seed)
    sizes = {"U": (HIDDEN, SYMBOLS), "V": (SYMBOLS, HIDDEN), "W": (HIDDEN, HIDDEN)}
    return {name: rng.uniform(-(size[1] ** -0.5), size[1] ** -0.5, size) for name, size in sizes.items()}


class Trainer:
    name = "NumPy"

    def __init__(self, start: Arrays) -> None:
        self.p = {name: array.copy() for name, array in start.items()}

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        """Mean loss per word before the step."""
        loss, gradient = self.loss_and_gradient(x, y)
        for name, p in self.p.items():
            p -= RATE * gradient[name]
        return loss / len(x)

    def loss_and_gradient(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Arrays]:
        U, V, W = (self.p[name] for name in "UVW")
        states, scores = np.zeros((len(x) + 1, HIDDEN)), np.empty((len(x), SYMBOLS))  # states[-1]: before the first
        for t, word in enumerate(x):
            states[t] = np.tanh(U[:, word] + W @ states[t - 1])
            power = V @ states[t]
            power = np.exp(power - power.max())
            scores[t] = power / power.sum()
        words = np.arange(len(x))
        loss = -float(np.log(scores[words, y]).sum())
        scores[words, y] -= 1
        gradient = {name: np.zeros_like(array) for name, array in self.p.items()}
        for t in reversed(words):
            gradient["V"] += np.outer(scores[t], states[t])
            da = (V.T @ scores[t]) * (1 - states[t] ** 2)
            for back in range(t, max(-1, t - STEPS_BACK), -1):
                gradient["W"] += np.outer(da, states[back - 1])
                gradient["U"][:, x[back]] += da
                da = (W.T @ da) * (1 - states[back - 1] ** 2)
        return loss, gradient
