"""The original program in plain NumPy, one window after another, with its one-hot vectors: what the replica must equal.

Everything is as the program has it: matrices (out, in), "_l" and "_r" for the two directions, loops over time.
"""

import numpy as np

INITIAL, MU = 0.12, 1e-2


class Program:
    """Weights, costs, derivatives and updates. `keep` and `decay` are lists, one number per hidden layer."""

    def __init__(self, both, words, hidden, classes, keep, decay, softmax_decay, aliased, uniform):
        self.both, self.words, self.keep, self.decay, self.softmax_decay = both, words, keep, decay, softmax_decay
        self.layers, self.aliased, self.uniform = len(hidden), aliased, uniform
        self.sides = ["_l", "_r"] if both else [""]
        self.theta = {}
        for layer, size in enumerate(hidden):
            for side in self.sides:
                inputs = hidden[layer - 1] if layer else words
                self.theta[f"hlayer{layer}_U{side}"] = uniform(-1, 1, (size, inputs)) * INITIAL
                self.theta[f"hlayer{layer}_W{side}"] = uniform(-1, 1, (size, size)) * INITIAL
        for side in self.sides:
            self.theta[f"smr_W{side}"] = uniform(-1, 1, (classes, hidden[-1])) * INITIAL
        self.curvature = {name: np.zeros_like(array) for name, array in self.theta.items()}
        self.velocity = {name: np.zeros_like(array) for name, array in self.theta.items()}
        if aliased:
            for name in self.theta:
                if name.startswith("hlayer"):
                    own = name.replace("_r", "_l") if both else name
                    self.curvature[name] = self.velocity[name] = self.curvature[own]

    def decay_of(self, name):
        return self.softmax_decay if name.startswith("smr") else self.decay[int(name[6 : name.index("_")])]

    def times(self, side, steps):
        return range(steps - 1, -1, -1) if side == "_r" else range(steps)

    def forward(self, x, training):
        """x (N, T) -> activations h[layer][side][t] (H, N), masks alike, probabilities[t] (C, N)"""
        steps = x.shape[1]
        one_hot = [np.eye(self.words)[:, x[:, t]] for t in range(steps)]
        h, masks = [], []
        for layer in range(self.layers):
            h.append({})
            masks.append({})
            for side in self.sides:
                out, mask = [None] * steps, [None] * steps
                for place, t in enumerate(self.times(side, steps)):
                    inputs = one_hot[t] if layer == 0 else sum(h[layer - 1][s][t] for s in self.sides)
                    a = self.theta[f"hlayer{layer}_U{side}"] @ inputs
                    if place:
                        before = t + 1 if side == "_r" else t - 1
                        a += self.theta[f"hlayer{layer}_W{side}"] @ out[before]
                    mask[t] = np.ones_like(a)
                    if self.keep[layer] < 1:
                        mask[t] = (
                            1.0 * (self.uniform(0, 1, a.shape) <= self.keep[layer])
                            if training
                            else np.full_like(a, self.keep[layer])
                        )
                    out[t] = np.maximum(a, 0) * mask[t]
                h[layer][side], masks[layer][side] = out, mask
        p = []
        for t in range(steps):
            scores = sum(self.theta[f"smr_W{side}"] @ h[-1][side][t] for side in self.sides)
            scores = np.exp(scores - scores.max(axis=0))
            p.append(scores / scores.sum(axis=0))
        return one_hot, h, masks, p

    def predict(self, x):
        *_, p = self.forward(x, False)
        return p[x.shape[1] // 2 if self.both else -1].argmax(axis=0)

    def cost_and_derivatives(self, x, y):
        """y (outputs, N): all steps, or the last; returns (J1, J2, J3, J4), gradients, curvatures"""
        n, steps = x.shape
        one_hot, h, _, p = self.forward(x, True)
        residual, j1 = [None] * steps, 0.0
        for t in range(steps):
            if not self.both and t < steps - 1:
                continue
            target = np.eye(p[t].shape[0])[:, y[t if self.both else 0]]
            residual[t] = p[t] - target
            j1 -= (target * np.log(p[t])).sum() / n
        costs = [j1, 0.0, 0.0, 0.0]
        for name, array in self.theta.items():
            term = 1 if name.startswith("smr") else 2 if "_W" in name else 3
            costs[term] += self.decay_of(name) / 2 * (array**2).sum()
        g = {name: np.zeros_like(array) for name, array in self.theta.items()}
        c = {name: np.zeros_like(array) for name, array in self.theta.items()}
        delta = [{side: [None] * steps for side in self.sides} for _ in range(self.layers)]
        epsilon = [{side: [None] * steps for side in self.sides} for _ in range(self.layers)]
        for layer in range(self.layers - 1, -1, -1):
            for side in self.sides:
                W, S = self.theta[f"hlayer{layer}_W{side}"], self.theta[f"smr_W{side}"]
                order = list(self.times(side, steps))
                for place in range(steps - 1, -1, -1):
                    t = order[place]
                    d = np.zeros_like(h[layer][side][t])
                    e = np.zeros_like(d)
                    if layer == self.layers - 1 and residual[t] is not None:
                        d += S.T @ residual[t]
                        e += (S**2).T @ residual[t] ** 2
                    if layer < self.layers - 1:
                        for s in self.sides:
                            U = self.theta[f"hlayer{layer + 1}_U{s}"]
                            d += U.T @ delta[layer + 1][s][t]
                            e += (U**2).T @ epsilon[layer + 1][s][t]
                    if place < steps - 1:
                        d += W.T @ delta[layer][side][order[place + 1]]
                        e += (W**2).T @ epsilon[layer][side][order[place + 1]]
                    slope = (h[layer][side][t] > 0) * 1.0
                    delta[layer][side][t], epsilon[layer][side][t] = d * slope, e * slope**2
                for place, t in enumerate(order):
                    d, e = delta[layer][side][t], epsilon[layer][side][t]
                    below = [one_hot[t]] if layer == 0 else [h[layer - 1][s][t] for s in self.sides]
                    g[f"hlayer{layer}_U{side}"] += d @ sum(below).T / n
                    c[f"hlayer{layer}_U{side}"] += e @ sum(b**2 for b in below).T / n  # not (a + b)²: the program's own
                    if place:
                        before = h[layer][side][order[place - 1]]
                        g[f"hlayer{layer}_W{side}"] += d @ before.T / n
                        c[f"hlayer{layer}_W{side}"] += e @ (before**2).T / n
        for side in self.sides:
            for t in range(steps):
                if residual[t] is not None:
                    g[f"smr_W{side}"] += residual[t] @ h[-1][side][t].T / n
                    c[f"smr_W{side}"] += residual[t] ** 2 @ (h[-1][side][t] ** 2).T / n
        for name in self.theta:
            g[name] += self.decay_of(name) * self.theta[name]
            c[name] += self.decay_of(name)
        return costs, g, c

    def iterate(self, x, y, k, rate):
        """One iteration: costs before it, and the update in the program's order."""
        costs, g, c = self.cost_and_derivatives(x, y)
        a, b = (0.5, 0.5) if k <= 30 else (0.9, 0.95)
        for name in sorted(self.theta, key=lambda name: (not name.startswith("smr"), "_r" in name)):
            D, v = self.curvature[name], self.velocity[name]
            D[...] = a * D + (1 - a) * c[name]
            step = g[name] * (rate / (D + MU))
            v[...] = b * v + (1 - b) * step
            self.theta[name] -= v
        return costs
