"""The small word model of Zaremba et al. (2014): exact beside PyTorch and JAX, adaptive beside our own exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import language, report
from bench.language import Model
from bench.lm_charrnn import compare, steps
from bench.setting import Setting
from bench.text import Batch, Text, chunks
from bench.timing import interleaved


def measure(setting: Setting, text: Text) -> dict[str, Any]:
    model = language.small_word_model()
    batches = words(model)
    exact = compare("words, 2 x 200", setting, model, batches, 1.4, tolerance=1e-3)  # a rate of 1: rounding grows
    adaptive = _adaptive(setting, model, batches) if setting.ours else None
    return {"exact": exact, "adaptive": adaptive}


def words(model: Model, count: int = 50) -> list[Batch]:
    """Random words, as frequent as Zipf's law has it, the most frequent first."""
    share = 1 / np.arange(1, model.symbols + 1)
    size = count * model.batch * model.steps + 1
    ids = np.random.default_rng(0).choice(model.symbols, size, p=share / share.sum())
    return chunks(ids[:-1], ids[1:], model.batch, model.steps)


def _adaptive(setting: Setting, model: Model, batches: list[Batch]) -> dict[str, Any]:
    import rnncore as rc
    from bench.language_rnncore import Trainer

    start = model.initial()
    made = {"exact": Trainer(model, start, setting.threads)}
    made["adaptive"] = Trainer(model, start, setting.threads, rc.AdaptiveSoftmax(model.symbols))
    timings = interleaved({name: steps(one, batches) for name, one in made.items()}, setting.budget(10.0))
    ms = {name: setting.seconds(timing) * 1e3 for name, timing in timings.items()}
    report.table("rnncore's heads", [("", ""), ("ms a step", "ms")], [[name, value] for name, value in ms.items()])
    report.at_least("speed of adaptive over our exact", ms["exact"] / ms["adaptive"], 2.0)
    return ms
