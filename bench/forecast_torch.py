"""PyTorch doing what a Forecaster's fit does: a layer and a projection on shuffled windows, Adam, cosine, clipping."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

_MODULES: dict[str, Any] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Fit:
    """As its users write it: windows cut beforehand, a loop over epochs and batches.

    Parameters
    ----------
    model : Forecaster
        A fitted one, whose sizes, settings and number of epochs are taken.
    y : (T,) array
        What it was fitted on.
    """

    def __init__(self, model: Any, y: np.ndarray, seed: int) -> None:
        torch.manual_seed(seed)
        settings = model.specification_.settings
        z = model.scalers_[None].apply(y[:, None])[:, 0].astype(np.float32)
        ahead = settings.horizon if settings.strategy == "direct" else 1
        n = len(z) - ahead
        window, stride = settings.window, settings.stride or max(1, settings.window // 8)
        starts = np.arange(0, n - window + 1, stride)
        steps = starts + np.arange(window)[:, None]
        self.x = torch.from_numpy(z[steps][..., None])
        self.targets = torch.from_numpy(np.stack([z[steps + k] for k in range(1, ahead + 1)], axis=-1))
        self.layer = _MODULES[settings.cell](1, settings.hidden_size)
        self.linear = nn.Linear(settings.hidden_size, ahead)
        self.drop = nn.Dropout(settings.dropout)
        self.batch = settings.batch_size or min(max(len(starts) // 50, 8), 64)
        self.epochs, self.clip = model.n_epochs_, settings.clip_norm
        self.parameters = [*self.layer.parameters(), *self.linear.parameters()]
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=decay)
        total = self.epochs * -(-len(starts) // self.batch)
        half = math.pi / total
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda n: (1 + math.cos(half * n)) / 2)
        self.loss = math.nan

    def run(self) -> None:
        many = self.x.shape[1]
        for _ in range(self.epochs):
            total, order = 0.0, torch.randperm(many)
            for at in range(0, many, self.batch):
                rows = order[at : at + self.batch]
                self.optimizer.zero_grad(set_to_none=True)
                outputs, _ = self.layer(self.x[:, rows])
                error = self.linear(self.drop(outputs)) - self.targets[:, rows]
                loss = (error**2).sum(-1).mean()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, self.clip)
                self.optimizer.step()
                self.schedule.step()
                total += loss.item() * len(rows)
            self.loss = total / many
