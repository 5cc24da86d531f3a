"""The last tenth of the text: seconds of training until 1.88 nats a character, beside nanoGPT's setting for a CPU.

All of the tenth counts. nanoGPT reads it in stretches of its 64 characters, each alone; a recurrent network reads 50
stretches side by side, each from its beginning. Only training is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench import report
from bench import text as texts
from bench.setting import Setting
from bench.text import Text

GOAL, EVERY, QUICK_SHARE = 1.88, 100, 10
ROWS = 50  # of the validation part
HIDDEN, BATCH, STEPS, RATE, WARMUP, ITERATIONS = 128, 32, 25, 0.02, 50, 600


class Ours:
    """One layer of GRU, Adam with a rate that falls to a twentieth, the gradient's norm clipped to 1."""

    name, iterations = "rnncore", ITERATIONS

    def __init__(self, text: Text, threads: int) -> None:
        import rnncore as rc
        from bench.language_rnncore import nats

        ids, rest = texts.tail(text)
        self.batches = texts.chunks(ids[:-1], ids[1:], BATCH, STEPS)
        self.validation = texts.chunks(rest[:-1], rest[1:], ROWS, STEPS)
        layer = rc.Recurrent("gru", text.symbols, HIDDEN, n_threads=threads)
        self.net = rc.Network(layer, head=rc.Softmax(text.symbols))
        fall = rc.schedules.Linear(ITERATIONS - WARMUP, final=0.05, warmup=WARMUP)
        self.optimizer = rc.Adam(RATE, beta2=0.99, clip_norm=1.0, schedule=fall, lazy=False)
        self.nats, self.done, self.state = nats, 0, None

    def train(self) -> None:
        at = self.done % len(self.batches)
        self.net.train_step(*self.batches[at], self.optimizer, state=self.state if at else None)
        self.state = self.net.state
        self.done += 1

    def validate(self) -> float:
        return self.nats(self.net, self.validation)


class NanoGPT:
    def __init__(self, text: Text) -> None:
        from bench import nanogpt_torch

        ids, self.rest = texts.tail(text)
        self.trainer = nanogpt_torch.Trainer(ids, text.symbols)
        self.name, self.iterations, self.train = self.trainer.name, nanogpt_torch.ITERATIONS, self.trainer.train

    def validate(self) -> float:
        return self.trainer.validate(self.rest)


def measure(setting: Setting, text: Text) -> dict[str, Any]:
    makers: list[Callable[[], Any]] = [lambda: Ours(text, setting.threads)] if setting.ours else []
    makers += [lambda: NanoGPT(text)] if setting.torch else []
    learned = [_until(GOAL, make(), setting.quick) for make in makers]
    report.table(
        f"{setting.title('lm', 'last tenth')} · training until {GOAL} nats/character",
        [("", ""), ("seconds", ".1f"), ("iterations", "d"), ("nats", ".4f")],
        [[one["name"], one["seconds"], one["iterations"], one["nats"]] for one in learned],
    )
    if len(learned) == 2 and not setting.quick:
        ours, theirs = learned
        report.at_most("nats", ours["nats"], GOAL, ".4f")
        report.at_most("share of nanoGPT's time", ours["seconds"] / theirs["seconds"], 1 / 3)
    return {"learned": learned}


def _until(goal: float, trainer: Any, quick: bool) -> dict[str, Any]:
    """Train until the goal is reached, or as long as the setting has it (a tenth of that if quick)."""
    seconds, nats = 0.0, float("inf")
    last = trainer.iterations // (QUICK_SHARE if quick else 1)
    done = 0
    while done < last and nats > goal:
        steps = min(EVERY, last - done)
        start = time.perf_counter()
        for _ in range(steps):
            trainer.train()
        seconds += time.perf_counter() - start
        done += steps
        nats = trainer.validate()
    return {"name": trainer.name, "seconds": seconds, "iterations": done, "nats": nats}
