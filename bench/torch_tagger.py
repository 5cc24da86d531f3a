"""What a person would write in PyTorch: a bi-directional Elman network with a CRF on top, in padded batches.

Embedding 64, hidden 128, dropout 0.5, word dropout 0.1, 20 epochs of batches of 16, Adam at 3e-3 falling to 0.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from bench.news import Sentences

PAD, UNKNOWN = 0, 1
EPOCHS, BATCH, RATE, WORD_DROPOUT = 20, 16, 3e-3, 0.1


class Chain(nn.Module):
    """Linear-chain CRF in log space: (T, B, K) scores and a (T, B) mask."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.between = nn.Parameter(torch.zeros(labels, labels))
        self.first = nn.Parameter(torch.zeros(labels))
        self.last = nn.Parameter(torch.zeros(labels))

    def loss(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood per word."""
        gold = scores.gather(2, tags[:, :, None])[:, :, 0] * mask
        steps = self.between[tags[:-1], tags[1:]] * mask[1:]
        ends = tags.gather(0, mask.sum(0, keepdim=True).long() - 1)[0]
        path = gold.sum() + steps.sum() + self.first[tags[0]].sum() + self.last[ends].sum()
        alpha = self.first + scores[0]
        for t in range(1, len(scores)):
            onward = torch.logsumexp(alpha[:, :, None] + self.between, dim=1) + scores[t]
            alpha = torch.where(mask[t, :, None] > 0, onward, alpha)
        return (torch.logsumexp(alpha + self.last, dim=1).sum() - path) / mask.sum()

    def best(self, scores: Tensor) -> list[int]:
        """Viterbi path of one sequence (T, K)."""
        value, came_from = self.first + scores[0], []
        for row in scores[1:]:
            value, back = (value[:, None] + self.between).max(dim=0)
            value = value + row
            came_from.append(back)
        path = [int((value + self.last).argmax())]
        for back in reversed(came_from):
            path.append(int(back[path[-1]]))
        return path[::-1]


class Tagger:
    """`fit` and `predict` on lists of words and tags."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _scores(self, words: Tensor, lengths: Tensor) -> Tensor:
        inputs = self.drop(self.embedding(words))
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, enforce_sorted=False)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
        return self.out(self.drop(outputs))

    def fit(self, sentences: Sentences, tags: Sentences) -> None:
        torch.manual_seed(self.seed)
        shuffle = random.Random(self.seed).shuffle
        self.words = {word: i + 2 for i, word in enumerate(sorted({word for row in sentences for word in row}))}
        self.labels = sorted({tag for row in tags for tag in row})
        number = {tag: i for i, tag in enumerate(self.labels)}
        data = [
            (torch.tensor([self.words[w] for w in row]), torch.tensor([number[tag] for tag in of]))
            for row, of in zip(sentences, tags, strict=True)
        ]
        self.embedding = nn.Embedding(len(self.words) + 2, 64, padding_idx=PAD)
        self.rnn = nn.RNN(64, 128, bidirectional=True)
        self.drop, self.out, self.chain = nn.Dropout(0.5), nn.Linear(256, len(self.labels)), Chain(len(self.labels))
        self.parts = nn.ModuleList([self.embedding, self.rnn, self.drop, self.out, self.chain])
        optimizer = torch.optim.Adam(self.parts.parameters(), lr=RATE)
        total = EPOCHS * -(-len(data) // BATCH)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
        self.parts.train()
        for _ in range(EPOCHS):
            shuffle(data)
            for at in range(0, len(data), BATCH):
                rows, of = zip(*data[at : at + BATCH], strict=True)
                lengths = torch.tensor([len(row) for row in rows])
                words = nn.utils.rnn.pad_sequence(rows)
                words = words.masked_fill((torch.rand(words.shape) < WORD_DROPOUT) & (words != PAD), UNKNOWN)
                mask = (torch.arange(len(words))[:, None] < lengths).float()
                optimizer.zero_grad()
                loss = self.chain.loss(self._scores(words, lengths), nn.utils.rnn.pad_sequence(of), mask)
                loss.backward()
                nn.utils.clip_grad_norm_(self.parts.parameters(), 5.0)
                optimizer.step()
                schedule.step()

    @torch.no_grad()
    def predict(self, sentences: Sentences) -> Sentences:
        self.parts.eval()
        found = []
        for row in sentences:
            words = torch.tensor([[self.words.get(word, UNKNOWN)] for word in row])
            scores = self._scores(words, torch.tensor([len(row)]))[:, 0]
            found.append([self.labels[k] for k in self.chain.best(scores)])
        return found
