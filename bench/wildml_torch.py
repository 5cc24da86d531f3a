"""The same model in PyTorch at its best: nn.Embedding is U, one call of nn.RNN adds W's product; all steps back."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bench.weights import Arrays
from bench.wildml_numpy import HIDDEN, RATE, SYMBOLS


class Trainer:
    name = "PyTorch, all steps back"

    def __init__(self, start: Arrays) -> None:
        self.embedding = nn.Embedding(SYMBOLS, HIDDEN)
        self.rnn = nn.RNN(HIDDEN, HIDDEN, bias=False)
        self.linear = nn.Linear(HIDDEN, SYMBOLS, bias=False)
        recurrent = dict(self.rnn.named_parameters())
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(start["U"].T))
            recurrent["weight_ih_l0"].copy_(torch.eye(HIDDEN))  # what comes in is U's column already
            recurrent["weight_hh_l0"].copy_(torch.from_numpy(start["W"]))
            self.linear.weight.copy_(torch.from_numpy(start["V"]))
        recurrent["weight_ih_l0"].requires_grad_(False)
        parameters = [p for part in (self.embedding, self.rnn, self.linear) for p in part.parameters()]
        self.optimizer = torch.optim.SGD([p for p in parameters if p.requires_grad], lr=RATE)

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        states, _ = self.rnn(self.embedding(torch.from_numpy(x)))
        loss = nn.functional.cross_entropy(self.linear(states), torch.from_numpy(y), reduction="sum")
        loss.backward()
        self.optimizer.step()
        return loss.item() / len(x)
