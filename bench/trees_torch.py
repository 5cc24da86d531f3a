"""Recursive networks as a PyTorch program has them: a loop over nodes, children first."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy


class Recursive:
    """The cells of `rnncore.models.TreeNetwork`, with its parameters."""

    def __init__(self, net: Any) -> None:
        self.cell, self.H, self.A = net.cell, net.hidden_size, net.max_children
        self.p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}

    def node(self, e: Any, children: list[Any]) -> Any:
        """Return what a node has: a vector, of a tree-LSTM with its cell."""
        p, H = self.p, self.H
        if self.cell in ("plain", "tensor"):
            if not children:
                return e
            c = torch.cat(children)
            a = e + p["b"] + c @ p["W"][: len(c)]
            if self.cell == "tensor":
                n = len(children)
                V = p["V"][:n, :n].permute(0, 2, 1, 3, 4).reshape(n * H, n * H, H)
                a = a + torch.einsum("i,j,ijm->m", c, c, V)
            return torch.tanh(a)
        fx, iou = torch.split(e + p["b"], [H, 3 * H])
        cells = [cell for _, cell in children]
        gates: list[Any] = []
        if children and self.cell == "lstm":
            h = torch.cat([h for h, _ in children])
            joined = h @ p["W"][: len(h)]
            iou = iou + joined[: 3 * H]
            gates = [torch.sigmoid(fx + joined[(3 + k) * H : (4 + k) * H]) for k in range(len(children))]
        elif children:
            stacked = torch.stack([h for h, _ in children])
            iou = iou + stacked.sum(0) @ p["W"]
            gates = list(torch.sigmoid(fx + stacked @ p["W_f"]))
        i, o, u = torch.split(iou, H)
        c = torch.sigmoid(i) * torch.tanh(u)
        for gate, cell in zip(gates, cells, strict=True):
            c = c + gate * cell
        return torch.sigmoid(o) * torch.tanh(c), c

    def loss(self, trees: list[Any], targets: Any) -> Any:
        """Return the mean cross-entropy at the roots of nested tuples of numbers."""
        found = [self.tree(tree) for tree in trees]
        h = torch.stack([one if self.cell in ("plain", "tensor") else one[0] for one in found])
        return cross_entropy(h @ self.p["W_out"] + self.p["b_out"], targets)

    def tree(self, tree: Any) -> Any:
        """Return what the root of a tree has."""
        if not isinstance(tree, tuple):
            return self.node(self.p["labels"][tree], [])
        return self.node(self.p["labels"][tree[0]], [self.tree(child) for child in tree[1:]])
