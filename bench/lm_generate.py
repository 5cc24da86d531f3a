"""Writing one symbol after another at B = 1: a session beside a PyTorch loop, one call of nn.LSTM per symbol."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import language, report
from bench.agreement import DisagreementError
from bench.language import Model
from bench.lm_charrnn import trainers
from bench.setting import Setting
from bench.text import Text
from bench.timing import interleaved

SYMBOLS = 50  # a call


def measure(setting: Setting, text: Text) -> dict[str, Any]:
    models = {"char-rnn's defaults": language.char_rnn(text.symbols), "words, 2 x 200": language.small_word_model()}
    return {what: _measure(setting, what, model) for what, model in models.items()}


class Ours:
    """A session's step and a draw: the symbol at which the summed probabilities pass a random number."""

    name = "rnncore"

    def __init__(self, trainer: Any) -> None:
        self.session = trainer.net.session()
        self.random = np.random.default_rng(0)

    def probabilities(self, ids: list[int]) -> np.ndarray:
        """Of what comes after these symbols."""
        self.session.reset()
        for symbol in ids:
            p = self.session.step(np.array([symbol]))
        return p[0]

    def call(self) -> None:
        symbol = np.zeros(1, np.int64)
        for _ in range(SYMBOLS):
            summed = self.session.step(symbol)[0].cumsum()
            symbol[0] = summed.searchsorted(self.random.random() * summed[-1])


class PyTorch:
    name = "PyTorch"

    def __init__(self, trainer: Any) -> None:
        import torch

        self.torch, self.trainer, self.state = torch, trainer, None

    def probabilities(self, ids: list[int]) -> np.ndarray:
        with self.torch.no_grad():
            scores, _ = self.trainer.scores(self.torch.tensor(ids)[:, None], None)
            return self.torch.softmax(scores[-1, 0], 0).numpy()

    def call(self) -> None:
        symbol = self.torch.zeros(1, 1, dtype=self.torch.int64)
        with self.torch.no_grad():
            for _ in range(SYMBOLS):
                scores, self.state = self.trainer.scores(symbol, self.state)
                symbol = self.torch.multinomial(self.torch.softmax(scores[0], -1), 1)


def _measure(setting: Setting, what: str, model: Model) -> dict[str, Any]:
    forms: dict[str, Any] = {"rnncore": Ours, "PyTorch": PyTorch}
    made = [forms[one.name](one) for one in trainers(setting, model) if one.name in forms]
    found = [one.probabilities([1, 2, 3, 5, 8]) for one in made]
    difference = max(float(abs(one / found[-1] - 1).max()) for one in found)
    if not difference <= 1e-4:
        raise DisagreementError(f"probabilities differ by {difference:.1e}")
    timings = interleaved({one.name: one.call for one in made}, setting.budget(5.0))
    rates = {name: SYMBOLS / setting.seconds(timing) for name, timing in timings.items()}
    report.table(
        f"{setting.title('lm', what)} · writing",
        [("", ""), ("symbols/s", ",.0f"), ("us a symbol", ".1f")],
        [[name, rate, 1e6 / rate] for name, rate in rates.items()],
    )
    report.footnotes([{"difference": difference, "crowded": setting.crowded(timings)}])
    ratio = report.ratio(rates.get("rnncore"), rates.get("PyTorch"))
    report.at_least("symbols/s over PyTorch's", ratio, 5.0)
    return {"symbols/s": rates, "ratio": ratio}
