"""min-char-rnn: the loss curve of its NumPy transcription from the same numbers, and how much faster it comes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import min_char_rnn_numpy as original
from bench import report
from bench.agreement import DisagreementError
from bench.setting import Setting
from bench.text import Batch, Text
from bench.timing import interleaved

ITERATIONS, QUICK_ITERATIONS = 10_000, 500
FIRST_STEPS, TOLERANCE = 3, {"float64": 1e-12, "float32": 1e-4}
LAST_BIT, FARTHEST = 1 + 2.0**-52, 0.1


class Trainer:
    """rnncore with the original's update: Adagrad's sum of squares begins at 1e-8, so it stays √(s + 1e-8)."""

    def __init__(self, symbols: int, start: dict[str, np.ndarray], dtype: str, threads: int) -> None:
        import rnncore as rc

        self.name = f"rnncore, {dtype}"
        layer = rc.Recurrent("elman", symbols, original.HIDDEN, dtype=dtype, n_threads=threads)
        self.net = rc.Network(layer, head=rc.Softmax(symbols))
        names = {"layers.0.fwd.W_xh": "Wxh", "layers.0.fwd.W_hh": "Whh", "layers.0.fwd.b_h": "bh", "head.W_hy": "Why"}
        for own, theirs in {**names, "head.b_y": "by"}.items():
            self.net.params[own][...] = start[theirs].T.reshape(self.net.params[own].shape)
        self.optimizer = rc.Adagrad(original.RATE, clip_value=original.CLAMP, eps=1e-30)
        squares = np.full(self.net.theta.shape, original.EPS, dtype)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "sum_of_squares": squares})
        self.reset()

    def reset(self) -> None:
        self.state: Any = None

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        loss: float = self.net.loss_and_grad(x[:, None], y[:, None], state=self.state, divisor=1.0)
        self.optimizer.step(self.net)
        self.state = self.net.state
        return loss


def measure(setting: Setting, text: Text) -> dict[str, Any]:
    start = original.initial(text.symbols)
    made: list[Any] = [original.Trainer(text.symbols, start)]
    if setting.ours:
        made += [Trainer(text.symbols, start, dtype, setting.threads) for dtype in ("float32", "float64")]
    # Early steps go by gradients' signs: rounding grows tenfold with each, in the original as in ours.
    other = original.Trainer(text.symbols, {name: array * LAST_BIT for name, array in start.items()})
    other.name = "NumPy, start changed in the last bit"
    count = QUICK_ITERATIONS if setting.quick else ITERATIONS
    losses = {one.name: _losses(one, text, count) for one in [*made, other]}
    for one in made[1:]:
        _require(one.name, losses[one.name], losses["NumPy"])
    curves = {name: _smooth(found, text.symbols) for name, found in losses.items()}
    differences = {name: float(abs(curve / curves["NumPy"] - 1).max()) for name, curve in curves.items()}
    timings = interleaved({one.name: _steps(one, text) for one in made}, setting.budget(6.0))
    rates = {name: 1 / setting.seconds(timing) for name, timing in timings.items()}
    ratios = {name: rate / rates["NumPy"] for name, rate in rates.items()}
    report.table(
        f"{setting.title('lm', 'min-char-rnn')} · {count} iterations, the transcription in float64",
        [
            ("", ""),
            ("smooth loss", ".4f"),
            ("farthest from NumPy's", ".2%"),
            ("iterations/s", ",.0f"),
            ("x NumPy", ".1f"),
        ],
        [[name, curves[name][-1], differences[name], rates.get(name), ratios.get(name)] for name in curves],
    )
    if setting.ours:
        worst = max(differences[one.name] for one in made)
        report.at_most("smooth loss's distance from the transcription's", worst, FARTHEST, ".2%")
    report.at_least("speed over the transcription's", ratios.get("rnncore, float32"), 20.0, ".1f")
    return {
        "smooth": {name: float(curve[-1]) for name, curve in curves.items()},
        "rates": rates,
        "difference": differences,
    }


def _chunks(text: Text) -> Iterator[Batch | None]:
    """The text over and over; None where it begins again, and the state with it."""
    steps = original.STEPS
    while True:
        yield None
        for at in range(0, len(text.ids) - steps - 1, steps):
            yield text.ids[at : at + steps], text.ids[at + 1 : at + steps + 1]


def _losses(trainer: Any, text: Text, count: int) -> list[float]:
    losses = []
    for chunk in itertools.islice(_chunks(text), count + 1):
        if chunk is None:
            trainer.reset()
        else:
            losses.append(trainer.train(*chunk))
    return losses


def _smooth(losses: list[float], symbols: int) -> np.ndarray:
    """The average that the original prints."""
    smooth, curve = original.STEPS * math.log(symbols), []
    for loss in losses:
        smooth = 0.999 * smooth + 0.001 * loss
        curve.append(smooth)
    return np.array(curve)


def _require(name: str, found: list[float], expected: list[float]) -> None:
    worst = max(abs(a - b) / b for a, b in zip(found[:FIRST_STEPS], expected, strict=False))
    if not worst <= TOLERANCE[name.partition(", ")[2]]:
        raise DisagreementError(f"{name} and NumPy disagree: first losses differ by {worst:.1e}")


def _steps(trainer: Any, text: Text) -> Any:
    chunks = filter(None, _chunks(text))
    return lambda: trainer.train(*next(chunks))
