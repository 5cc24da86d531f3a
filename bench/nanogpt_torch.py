"""nanoGPT's setting for a CPU (Karpathy 2022), written anew: 4 blocks of 4 heads, 128 wide, 64 characters of context.

Each block adds attention(norm(x)) and then mlp(norm(x)) to x; no biases, no dropout; the last projection is the
embedding's transpose. AdamW (0.9, 0.99), weights of two axes decay by 0.1, the gradient's norm is clipped to 1; the
rate rises to 1e-3 over 100 iterations and falls along a cosine to 1e-4 at the 2000th. Batches are 12 random stretches.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

BLOCK, BATCH, LAYERS, HEADS, WIDTH = 64, 12, 4, 4, 128
ITERATIONS, WARMUP, MOST, LEAST = 2000, 100, 1e-3, 1e-4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH, bias=False)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attended = nn.Linear(WIDTH, WIDTH, bias=False)
        self.before_mlp = nn.LayerNorm(WIDTH, bias=False)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        parts = self.queries_keys_values(self.before_attention(x)).split(WIDTH, dim=2)
        q, k, v = (part.view(rows, steps, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts)
        found = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attended(found.transpose(1, 2).reshape(rows, steps, WIDTH))
        return x + self.narrow(nn.functional.gelu(self.wide(self.before_mlp(x))))


class GPT(nn.Module):
    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(symbols, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.last = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                onto_the_sum = name.endswith(("attended.weight", "narrow.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * LAYERS) if onto_the_sum else 1))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        hidden = self.symbols(x) + self.places.weight[: x.shape[1]]
        scores = nn.functional.linear(self.last(self.blocks(hidden)), self.symbols.weight)
        return nn.functional.cross_entropy(scores.view(-1, scores.shape[-1]), y.reshape(-1))


class Trainer:
    name = "nanoGPT in PyTorch"

    def __init__(self, ids: np.ndarray, symbols: int, seed: int = 1337) -> None:
        torch.manual_seed(seed)
        self.ids, self.done = torch.from_numpy(ids), 0
        self.net = GPT(symbols)
        kinds: tuple[list[Tensor], list[Tensor]] = ([], [])
        for p in self.net.parameters():
            kinds[p.dim() >= 2].append(p)
        groups = [{"params": kinds[False], "weight_decay": 0.0}, {"params": kinds[True], "weight_decay": 0.1}]
        self.optimizer = torch.optim.AdamW(groups, lr=MOST, betas=(0.9, 0.99))

    def _rate(self) -> float:
        if self.done < WARMUP:
            return MOST * (self.done + 1) / (WARMUP + 1)
        share = (self.done - WARMUP) / (ITERATIONS - WARMUP)
        return LEAST + (MOST - LEAST) * 0.5 * (1 + math.cos(math.pi * share))

    def train(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        starts = torch.randint(len(self.ids) - BLOCK, (BATCH,))
        x = torch.stack([self.ids[at : at + BLOCK] for at in starts])
        y = torch.stack([self.ids[at + 1 : at + 1 + BLOCK] for at in starts])
        self.optimizer.zero_grad(set_to_none=True)
        self.net.loss(x, y).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1

    @torch.no_grad()
    def validate(self, ids: np.ndarray) -> float:
        """Nats per character of all the text, cut into stretches of 64, each read alone."""
        count = (len(ids) - 1) // BLOCK
        x, y = (torch.from_numpy(ids[at : at + count * BLOCK]).view(-1, BLOCK) for at in (0, 1))
        losses = [self.net.loss(*pair) * len(pair[0]) for pair in zip(x.split(256), y.split(256), strict=True)]
        return float(sum(losses)) / count
