"""What a person writes in PyTorch: nn.LSTM and nn.Linear, cross-entropy, clipping, an optimizer of torch.optim."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench.language import CLAMP, EPS, NORM, RHO, Model
from bench.text import Batch
from bench.weights import Arrays


class Trainer:
    name = "PyTorch"

    def __init__(self, model: Model, start: Arrays) -> None:
        self.model = model
        self.lstm = nn.LSTM(model.inputs, model.hidden, model.layers)
        self.linear = nn.Linear(model.hidden, model.symbols)
        self.embedding = nn.Embedding(model.symbols, model.embedding) if model.embedding else None
        self._assign(start)
        parts = [self.lstm, self.linear, *([self.embedding] if self.embedding else [])]
        self.parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
        self.optimizer: torch.optim.Optimizer
        if model.rule == "sgd":
            self.optimizer = torch.optim.SGD(self.parameters, lr=model.rate)
        else:
            self.optimizer = torch.optim.RMSprop(self.parameters, lr=model.rate, alpha=RHO, eps=EPS)
        self.state: Any = None

    @torch.no_grad()
    def _assign(self, start: Arrays) -> None:
        given = {name: torch.from_numpy(array) for name, array in start.items()}
        for n in range(self.model.layers):
            prefix = f"layers.{n}.fwd."
            getattr(self.lstm, f"weight_ih_l{n}").copy_(given[prefix + "W_xh"].T)
            getattr(self.lstm, f"weight_hh_l{n}").copy_(given[prefix + "W_hh"].T)
            getattr(self.lstm, f"bias_ih_l{n}").copy_(given[prefix + "b_h"])
            second = getattr(self.lstm, f"bias_hh_l{n}")
            if self.model.two_biases:
                second.copy_(given[prefix + "b_second"])
            else:
                second.zero_()
                second.requires_grad_(False)
        self.linear.weight.copy_(given["head.W_hy"].T)
        self.linear.bias.copy_(given["head.b_y"])
        if self.embedding is not None:
            self.embedding.weight.copy_(given["embedding.E"])

    def reset(self) -> None:
        self.state = None

    def scores(self, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        if self.embedding is not None:
            inputs = self.embedding(x)
        else:
            inputs = nn.functional.one_hot(x, self.model.symbols).float()
        outputs, state = self.lstm(inputs, state)
        return self.linear(outputs), state

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        scores, state = self.scores(torch.from_numpy(x), self.state)
        self.state = tuple(part.detach() for part in state)
        flat = scores.view(-1, self.model.symbols)
        loss = nn.functional.cross_entropy(flat, torch.from_numpy(y).reshape(-1), reduction="sum") / x.shape[1]
        loss.backward()
        if self.model.rule == "sgd":
            nn.utils.clip_grad_norm_(self.parameters, NORM)
        else:
            nn.utils.clip_grad_value_(self.parameters, CLAMP)
        self.optimizer.step()
        return loss.item() / len(x)

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> float:
        total, count, state = 0.0, 0, None
        for x, y in batches:
            scores, state = self.scores(torch.from_numpy(x), state)
            flat = scores.view(-1, self.model.symbols)
            total += nn.functional.cross_entropy(flat, torch.from_numpy(y).reshape(-1), reduction="sum").item()
            count += y.size
        return total / count
