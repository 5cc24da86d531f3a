"""WildML's step on one sentence of 45 words: the first loss, and milliseconds beside NumPy and PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench import report
from bench import wildml_numpy as original
from bench.agreement import DisagreementError
from bench.setting import Setting
from bench.text import Text
from bench.timing import interleaved
from bench.weights import Arrays

WORDS, FIRST_STEPS, SENTENCES = 45, 5, 200
CUT, FULL = f"rnncore, {original.STEPS_BACK} steps back", "rnncore, all steps back"


class Trainer:
    def __init__(self, name: str, start: Arrays, truncate: int | None, threads: int) -> None:
        import rnncore as rc

        self.name = name
        layer = rc.Recurrent("elman", original.SYMBOLS, original.HIDDEN, truncate=truncate, n_threads=threads)
        self.net = rc.Network(layer, head=rc.Softmax(original.SYMBOLS))
        params = self.net.params
        for own, theirs in {"layers.0.fwd.W_xh": "U", "layers.0.fwd.W_hh": "W", "head.W_hy": "V"}.items():
            params[own][...] = start[theirs].T
        for bias in ("layers.0.fwd.b_h", "head.b_y"):  # there are none in the original
            params[bias][...] = 0
            self.net.freeze(bias)
        self.optimizer = rc.SGD(original.RATE)

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        loss = self.net.loss_and_grad(x[:, None], y[:, None], divisor=1.0)
        self.optimizer.step(self.net)
        return loss / len(x)


def measure(setting: Setting, text: Text) -> dict[str, Any]:
    """Sentences are random words: time does not depend on which, and the first loss should be that of not knowing."""
    start = original.initial()
    sentences = np.random.default_rng(0).integers(0, original.SYMBOLS, (SENTENCES, WORDS + 1))
    made: list[Any] = [original.Trainer(start)]
    if setting.ours:
        made += [Trainer(CUT, start, original.STEPS_BACK, setting.threads), Trainer(FULL, start, None, setting.threads)]
    if setting.torch:
        from bench import wildml_torch

        made.append(wildml_torch.Trainer(start))
    first = made[1 if setting.ours else 0]
    before = _mean_loss(first, start, sentences)
    losses = {one.name: [one.train(row[:-1], row[1:]) for row in sentences[:FIRST_STEPS]] for one in made}
    difference = max(_difference(losses, CUT, "NumPy"), _difference(losses, FULL, "PyTorch, all steps back"))
    timings = interleaved({one.name: _steps(one, sentences) for one in made}, setting.budget(10.0))
    ms = {name: setting.seconds(timing) * 1e3 for name, timing in timings.items()}
    ours = ms.get(CUT)
    report.table(
        f"{setting.title('lm', 'WildML')} · one sentence of {WORDS} words, the NumPy float64",
        [("", ""), ("ms", "ms"), ("times ours", ".2f")],
        [[name, value, report.ratio(value, ours)] for name, value in ms.items()],
    )
    report.footnotes([{"difference": difference, "crowded": setting.crowded(timings)}])
    report.at_most("distance of the first loss from ln 8000", abs(before - math.log(original.SYMBOLS)), 0.001, ".5f")
    if setting.threads == 1:
        report.at_most("one sentence, ms", ours, 2.5)
    report.at_least("speed over PyTorch's", report.ratio(ms.get("PyTorch, all steps back"), ours), 2.5)
    return {"ms": ms, "first loss": before, "difference": difference}


def _mean_loss(trainer: Any, start: Arrays, sentences: np.ndarray) -> float:
    """Mean loss of the sentences before anything is learned."""
    if not hasattr(trainer, "net"):
        return float(np.mean([trainer.loss_and_gradient(row[:-1], row[1:])[0] / WORDS for row in sentences[:20]]))
    p = trainer.net.predict(sentences[:, :-1].T)
    return -float(np.log(np.take_along_axis(p, sentences[:, 1:].T[..., None], -1)).mean())


def _difference(losses: dict[str, list[float]], name: str, reference: str) -> float:
    """Largest relative difference of two contestants' first losses; 0 where one of them is not here."""
    if name not in losses or reference not in losses:
        return 0.0
    worst = max(abs(a - b) / b for a, b in zip(losses[name], losses[reference], strict=True))
    if not worst <= 1e-5:
        raise DisagreementError(f"{name} and {reference} disagree: losses {losses[name]}, {losses[reference]}")
    return worst


def _steps(trainer: Any, sentences: np.ndarray) -> Any:
    rows = iter(np.tile(sentences, (1000, 1)))

    def call() -> None:
        row = next(rows)
        trainer.train(row[:-1], row[1:])

    return call
