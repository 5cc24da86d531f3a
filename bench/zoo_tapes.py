"""Neural Turing machines on the copy task: a training step, beside the same machine written with PyTorch."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, report
from bench.setting import Setting
from bench.timing import interleaved

SECONDS = 6.0
EPSILON, DELTA = 1e-8, 1e-16  # kernels/turing.h


class Size(NamedTuple):
    """Bits, longest sequence of vectors, locations and width of the memory, controller, batch; the bar."""

    bits: int
    longest: int
    N: int
    M: int
    H: int
    B: int
    bar: float

    def __str__(self) -> str:
        return ", ".join(map(str, self[:-1]))


SIZES = [Size(4, 8, 32, 8, 64, 16, 10), Size(8, 20, 128, 20, 100, 1, 10), Size(8, 20, 128, 20, 100, 16, 5)]


class Ours:
    name = "rnncore"

    def __init__(self, size: Size, dtype: str, threads: int) -> None:
        import rnncore as rc

        self.machine = rc.models.NeuralTuringMachine(
            size.bits + 1, size.bits, size.H, size.N, size.M, dtype=dtype, n_threads=threads
        )
        self.batch = rc.datasets.copied_vectors(size.B, size.longest, size.longest, size.bits)
        self.start = self.machine.theta.copy()

    def call(self) -> None:
        x, targets, lengths, counted = self.batch
        self.loss = self.machine.loss_and_grad(x, targets, lengths, sample_weight=counted)

    def results(self) -> dict[str, np.ndarray]:
        return {"loss": np.array(self.loss), **{name: grad.copy() for name, grad in self.machine.grads.items()}}


class Theirs:
    """As programs of the network have it: a batch at a time, an operation after another."""

    name = "PyTorch"

    def __init__(self, ours: Ours) -> None:
        import torch

        self.torch, self.machine = torch, ours.machine
        self.p = {name: torch.tensor(view.copy(), requires_grad=True) for name, view in ours.machine.params.items()}
        dtype = self.p["heads.W"].dtype
        self.x, self.y, self.counted = (torch.tensor(ours.batch[n]).to(dtype) for n in (0, 1, 3))

    def call(self) -> None:
        torch, net, p = self.torch, self.machine, self.p
        B, M, S = self.x.shape[1], net.width, net.shifts
        memory = torch.full((B, net.locations, M), net.initial_memory, dtype=self.x.dtype)
        w = [row.expand(B, -1) for row in torch.softmax(p["start.weights"], 1)]
        read, h, c = p["start.reads"].expand(B, -1), torch.zeros(B, net.hidden_size, dtype=self.x.dtype), 0
        scores = []
        for x in self.x:
            a = x @ p["controller.W_xh"] + torch.cat([read, h], 1) @ p["controller.W_hh"] + p["controller.b_h"]
            i, f, g, o = a.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            told = h @ p["heads.W"] + p["heads.b"]
            size = M + 4 + 2 * S
            norms = ((memory**2).sum(2) + EPSILON).sqrt()
            for n in range(2):
                k, beta, gate, gamma, s = told[:, n * size : (n + 1) * size].split([M, 1, 1, 1, 2 * S + 1], 1)
                cosine = (memory @ k[..., None])[..., 0] / (norms * ((k**2).sum(1, keepdim=True) + EPSILON).sqrt())
                content = torch.softmax(torch.nn.functional.softplus(beta) * cosine, 1)
                gate, s = torch.sigmoid(gate), torch.softmax(s, 1)
                gated = gate * content + (1 - gate) * w[n]
                shifted = sum(s[:, S + j, None] * gated.roll(j, 1) for j in range(-S, S + 1))
                w[n] = torch.softmax((1 + torch.nn.functional.softplus(gamma)) * (shifted + DELTA).log(), 1)
            read = (w[0][:, None] @ memory)[:, 0]
            e, add = told[:, 2 * size :].split([M, M], 1)
            memory = memory * (1 - w[1][..., None] * torch.sigmoid(e)[:, None]) + w[1][..., None] * add[:, None]
            scores.append(torch.cat([read, h], 1) @ p["output.W_hy"] + p["output.b_y"])
        each = torch.nn.functional.binary_cross_entropy_with_logits(torch.stack(scores), self.y, reduction="none")
        loss = (each.sum(2) * self.counted).sum() / self.counted.sum()
        for parameter in p.values():
            parameter.grad = None
        loss.backward()
        self.loss = loss.detach()

    def results(self) -> dict[str, np.ndarray]:
        return {"loss": self.loss.numpy(), **{name: value.grad.numpy() for name, value in self.p.items()}}


def run(options: argparse.Namespace) -> dict[str, Any]:
    setting = Setting.of(options, "torch")
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        ours = Ours(size, setting.dtype, setting.threads)
        contestants: list[Any] = [ours] if setting.ours else []
        if setting.torch is not None:
            contestants.append(Theirs(ours))
        tolerance = {"float32": 1e-3, "float64": 1e-9}[setting.dtype]  # cosines of what is nearly nothing
        difference = agreement.require(contestants, setting.dtype, tolerance=tolerance)
        timings = interleaved({each.name: each.call for each in contestants}, setting.budget(SECONDS))
        ms = {name: setting.seconds(timing) * 1e3 for name, timing in timings.items()}
        rows.append(
            {
                "shape": str(size),
                "difference": difference,
                "crowded": setting.crowded(timings),
                "ms": ms,
                "x": report.ratio(ms.get("PyTorch"), ms.get("rnncore")),
                "timings": {name: timing.as_dict() for name, timing in timings.items()},
            }
        )
    columns = [("bits, vectors, N, M, H, B", ""), ("rnncore", "ms"), ("PyTorch", "ms"), ("x", ".1f")]
    lines: list[list[report.Cell]] = [
        [report.label(row), row["ms"].get("rnncore"), row["ms"].get("PyTorch"), row["x"]] for row in rows
    ]
    title = "Neural Turing machine, copying: loss and gradient of a batch, milliseconds"
    report.table(setting.title(title, "matmul"), columns, lines)
    report.footnotes(rows)
    for size, row in zip(SIZES, rows, strict=True):
        report.at_least(f"times PyTorch at ({size})", row["x"], size.bar, ".1f")
    return {"rows": rows}
