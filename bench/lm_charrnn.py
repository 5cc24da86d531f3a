"""char-rnn's defaults on its own split: characters a second, and what is learned, beside PyTorch and JAX."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from bench import agreement, language, report
from bench.language import Model
from bench.setting import Setting
from bench.text import Batch, Text, interleaved
from bench.timing import interleaved as timed

LAST_BIT, OTHER = np.float32(1 + 2.0**-23), "rnncore, start changed in the last bit"
FIRST_STEPS, ITERATIONS, EPOCHS = 5, 1000, 10  # char-rnn's rate falls after the tenth epoch only


def measure(setting: Setting, text: Text) -> dict[str, Any]:
    model = language.char_rnn(text.symbols)
    training, validation = interleaved(text, model.batch, model.steps)
    speed = compare("char-rnn's defaults", setting, model, training, 1.5)
    if not setting.ours:
        return {"speed": speed}
    epochs = 0 if setting.quick else EPOCHS
    contestants = [one for one in trainers(setting, model) if one.name != "JAX"]
    learned = {
        one.name: _learn(one, training, validation, epochs) for one in contestants if epochs or one.name == "rnncore"
    }
    if epochs:
        # How far rounding alone leads from the same start: no two programs can be closer than one is to itself.
        start = {name: array * LAST_BIT for name, array in model.initial().items()}
        learned[OTHER] = _learn(trainers(setting, model, start)[0], training, validation, epochs)
    _print(learned)
    return {"speed": speed, "learned": learned}


def trainers(setting: Setting, model: Model, start: Any = None) -> list[Any]:
    """All contestants with the same first weights, ours first."""
    start = start or model.initial()
    made: list[Any] = []
    if setting.ours:
        from bench import language_rnncore

        made.append(language_rnncore.Trainer(model, start, setting.threads))
    if setting.torch:
        from bench import language_torch

        made.append(language_torch.Trainer(model, start))
    if setting.jax:
        from bench import language_jax

        made.append(language_jax.Trainer(model, start))
    return made


def compare(
    what: str, setting: Setting, model: Model, batches: list[Batch], bar: float, tolerance: float = 1e-5
) -> dict[str, Any]:
    """Symbols a second of training steps, after the first steps' losses have agreed."""
    made = trainers(setting, model)
    difference = first_losses(made, batches, tolerance)
    calls = {one.name: steps(one, batches) for one in made}
    timings = timed(calls, setting.budget(20.0))
    speeds = {name: model.batch * model.steps / setting.seconds(timing) for name, timing in timings.items()}
    mine = speeds.get("rnncore")
    ratios = {name: report.ratio(mine, speed) for name, speed in speeds.items() if name != "rnncore"}
    report.table(
        f"{setting.title('lm', what)} · training",
        [("", ""), ("symbols/s", ",.0f"), ("ms a step", "ms"), ("rnncore is faster", ".2f")],
        [[name, speed, setting.seconds(timings[name]) * 1e3, ratios.get(name)] for name, speed in speeds.items()],
    )
    report.footnotes([{"difference": difference, "crowded": setting.crowded(timings)}])
    for name, ratio in ratios.items():
        report.at_least(f"speed over {name}'s", ratio, bar)
    return {"symbols/s": speeds, "ratios": ratios, "difference": difference}


def first_losses(made: list[Any], batches: list[Batch], tolerance: float) -> float:
    """Largest relative difference between the losses of the first steps."""
    losses = {one.name: [one.train(*batch) for batch in batches[:FIRST_STEPS]] for one in made}
    reference = losses[made[-1].name]
    worst = 0.0
    for name, found in losses.items():
        worst = max(worst, *(abs(a - b) / b for a, b in zip(found, reference, strict=True)))
        if not worst <= tolerance:
            raise agreement.DisagreementError(f"{name} and {made[-1].name} disagree: losses {found}, {reference}")
    return worst


def steps(trainer: Any, batches: list[Batch]) -> Any:
    given = itertools.cycle(batches)
    return lambda: trainer.train(*next(given))


def _learn(trainer: Any, training: list[Batch], validation: list[Batch], epochs: int) -> dict[str, Any]:
    """Nats on the validation part after so many iterations, and after each epoch; CPU seconds of training alone."""
    seconds, after, done = 0.0, None, 0
    by_epoch: list[float] = []
    while len(by_epoch) < epochs or done < ITERATIONS:
        trainer.reset()
        for batch in training:
            start = time.process_time()
            trainer.train(*batch)
            seconds += time.process_time() - start
            done += 1
            if done == ITERATIONS:
                after = {"nats": trainer.validate(validation), "seconds": seconds}
                if not epochs:
                    return {"after": after, "epochs": [], "seconds": seconds}
        by_epoch.append(trainer.validate(validation))
    return {"after": after, "epochs": by_epoch, "seconds": seconds}


def _print(learned: dict[str, Any]) -> None:
    names = list(learned)
    rows: list[list[report.Cell]] = [
        [f"{ITERATIONS} iterations", *(learned[name]["after"]["nats"] for name in names)],
        *(
            [f"epoch {n + 1}", *values]
            for n, values in enumerate(zip(*(one["epochs"] for one in learned.values()), strict=True))
        ),
        ["CPU seconds of training", *(learned[name]["seconds"] for name in names)],
    ]
    report.table(
        "lm · char-rnn's defaults · nats/character on its split's 5 %",
        [("", ""), *((name, ".4f") for name in names)],
        rows,
    )
    ours = learned["rnncore"]
    report.at_most(f"nats after {ITERATIONS} iterations", ours["after"]["nats"], 1.80, ".3f")
    if "PyTorch" in learned:
        distance = _farthest(ours, learned["PyTorch"])
        report.at_most("largest difference from PyTorch's at the end of an epoch", distance, 0.01, ".4f")
    if OTHER in learned:
        print(f"           (from {OTHER}: {_farthest(ours, learned[OTHER]):.4f})")


def _farthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(abs(a - b) for a, b in zip(one["epochs"], other["epochs"], strict=True))
