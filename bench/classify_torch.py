"""What a person would write in PyTorch to classify sequences: padded once, minibatches drawn and packed, Adam."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from bench.weights import Arrays

_MODULES: dict[str, Any] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Classifier(nn.Module):
    """A recurrent layer, dropout, and scores of what it ends with, or of every step."""

    def __init__(self, net: Any, cell: str, dropout: float, by_step: bool) -> None:
        from rnncore import to_torch

        super().__init__()
        layer, self.by_step = net.layers[0], by_step
        ways = layer.bidirectional
        dtype = getattr(torch, net.dtype.name)
        sizes = (layer.input_size, layer.hidden_size, layer.num_layers)
        between = dropout if layer.num_layers > 1 else 0.0
        self.rnn = _MODULES[cell](*sizes, bidirectional=ways, dropout=between, dtype=dtype)
        self.rnn.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(layer).items()})
        outputs = net.params["head.W_hy"].shape
        self.linear = nn.Linear(*outputs, dtype=dtype)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(np.array(net.params["head.W_hy"]).T))
            self.linear.bias.copy_(torch.from_numpy(np.array(net.params["head.b_y"])))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Any, lengths: Any) -> Any:
        """Return scores (B, K), or (T, B, K)."""
        ragged = lengths is not None
        outputs, last = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False) if ragged else x)
        if self.by_step:
            return self.linear(self.drop(pad_packed_sequence(outputs)[0] if ragged else outputs))
        last = last[0] if isinstance(last, tuple) else last
        ways = 2 if self.rnn.bidirectional else 1
        return self.linear(self.drop(torch.cat(tuple(last[-ways:]), dim=1)))


class Training:
    """As many passes as the estimator makes, with its settings, on data that are already scaled."""

    name = "PyTorch"

    def __init__(self, net: Any, settings: Any, data: Any) -> None:
        self.settings = settings
        self.module = Classifier(net, settings.cell, settings.dropout, data.per_step)
        ends = np.cumsum(data.lengths)[:-1]
        self.x = pad_sequence([torch.from_numpy(part) for part in np.split(data.x, ends)])
        y = [torch.from_numpy(part) for part in np.split(data.y, ends)] if data.per_step else None
        self.y = torch.from_numpy(data.y).long() if y is None else pad_sequence(y)
        self.lengths = torch.from_numpy(data.lengths)
        self.ragged = bool((self.lengths != self.lengths[0]).any())
        make = torch.optim.SGD if settings.optimizer == "sgd" else torch.optim.Adam
        self.optimizer = make(self.module.parameters(), lr=settings.learning_rate)

    def call(self) -> None:
        size, noise = self.settings.batch_size, self.settings.noise
        for _ in range(self.settings.max_epochs):
            for rows in torch.randperm(len(self.lengths)).split(size):
                lengths = self.lengths[rows]
                x = self.x[: lengths.max(), rows]
                if noise:
                    x = x + noise * torch.randn_like(x)
                self.optimizer.zero_grad()
                scores = self.module(x, lengths if self.ragged else None)
                self._loss(scores, rows, lengths).backward()
                nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
                self.optimizer.step()

    def _loss(self, scores: Any, rows: Any, lengths: Any) -> Any:
        if not self.module.by_step:
            return nn.functional.cross_entropy(scores, self.y[rows])
        there = torch.arange(len(scores))[:, None] < lengths
        y = self.y[: len(scores), rows]
        return nn.functional.binary_cross_entropy_with_logits(scores[there], y[there], reduction="sum") / lengths.sum()

    def results(self) -> Arrays:
        rnn = self.module.rnn
        found = {"head.W_hy": self.module.linear.weight}
        for number in range(rnn.num_layers):
            for way, ending in (("fwd", ""), ("bwd", "_reverse"))[: 1 + rnn.bidirectional]:
                for name, theirs in (("W_xh", "ih"), ("W_hh", "hh")):
                    found[f"layers.{number}.{way}.{name}"] = getattr(rnn, f"weight_{theirs}_l{number}{ending}")
        return {name: np.ascontiguousarray(tensor.detach().numpy().T) for name, tensor in found.items()}
