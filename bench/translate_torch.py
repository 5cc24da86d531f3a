"""PyTorch doing what an EncoderDecoder does: both directions, tanh bridge, Luong's general attention, softmax, SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench.weights import Arrays

_MODULES: dict[str, Any] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Translator(nn.Module):
    """The network, as its users write it: nothing is done step by step. Without an encoder it writes about vectors."""

    def __init__(self, net: Any, cell: str) -> None:
        from rnncore import to_torch

        super().__init__()
        dtype = getattr(torch, net.dtype.name)
        self.halves = [name for name in ("encoder", "decoder") if getattr(net, name) is not None]
        for half in self.halves:
            layer = getattr(net, half).layers[0]
            ways = layer.bidirectional
            module = _MODULES[cell](layer.input_size, layer.hidden_size, bidirectional=ways, dtype=dtype)
            module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(layer).items()})
            setattr(self, half, module)
        given = {name: torch.tensor(view) for name, view in net.params.items() if ".layers." not in name}
        self.names = {name.replace(".", "_"): name for name in given}
        for name, own in self.names.items():
            self.register_parameter(name, nn.Parameter(given[own]))
        self.states = 2 if cell == "lstm" else 1

    def read(self, source: Any) -> tuple[Any, Any]:
        """Return the encoder's outputs and, side by side, its final states."""
        memory, final = self.encoder(nn.functional.embedding(source, self.encoder_embedding_E))
        final = final if isinstance(final, tuple) else (final,)
        return memory, torch.cat([way for part in final for way in part], dim=1)

    def forward(self, source: Any, read: Any) -> Any:
        """Return scores (L + 1, B, K + 1)."""
        memory, vector = self.read(source) if len(self.halves) == 2 else (None, source)
        state = torch.tanh(vector @ self.bridge_W + self.bridge_b).chunk(self.states, dim=1)
        states = [part[None].contiguous() for part in state]
        embedded = nn.functional.embedding(read, self.decoder_embedding_E)
        outputs, _ = self.decoder(embedded, tuple(states) if self.states == 2 else states[0])
        if memory is None:
            return outputs @ self.decoder_head_W_hy + self.decoder_head_b_y
        queries, kept = (outputs @ self.decoder_attention_W).transpose(0, 1), memory.transpose(0, 1)
        weights = torch.softmax(queries @ kept.transpose(1, 2), dim=2)
        seen = torch.tanh(torch.cat([(weights @ kept).transpose(0, 1), outputs], dim=2) @ self.decoder_attention_W_c)
        return seen @ self.decoder_head_W_hy + self.decoder_head_b_y


class Step:
    """A whole training step."""

    name = "PyTorch"

    def __init__(
        self, net: Any, cell: str, source: np.ndarray, read: np.ndarray, write: np.ndarray, rate: float
    ) -> None:
        self.module = Translator(net, cell)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=rate)
        self.source, self.read = torch.from_numpy(source), torch.from_numpy(read)
        self.write, self.loss = torch.from_numpy(write).reshape(-1), torch.tensor(0.0)

    def call(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        scores = self.module(self.source, self.read)
        self.loss = nn.functional.cross_entropy(scores.view(len(self.write), -1), self.write)
        self.loss.backward()
        self.optimizer.step()

    def results(self) -> Arrays:
        own = {theirs: getattr(self.module, name) for name, theirs in self.module.names.items()}
        for half in self.module.halves:
            own[f"{half}.W_xh"] = getattr(self.module, half).weight_ih_l0.T
            own[f"{half}.W_hh"] = getattr(self.module, half).weight_hh_l0.T
        return {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in own.items()} | {
            "loss": self.loss.detach().numpy()
        }
