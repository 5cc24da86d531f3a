"""The variants of the LSTM that Greff et al. 2017 compared, on the adding problem (`-m paper`)."""

from functools import cache

import numpy as np
import pytest
from paper import SEEDS, for_each_seed, layer

import rnncore as rc
from rnncore.datasets import adding_problem
from rnncore.nn.cells import LSTM

pytestmark = pytest.mark.paper
STEPS, BATCH, LENGTH, UNITS = 1500, 32, 50, 12

VARIANTS = {
    "vanilla": {"peepholes": True},
    "NP": {"peepholes": False},
    **{
        name: {"peepholes": True, "variant": name}
        for name in ("NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR")
        if name in LSTM.FLAGS
    },
}


def adding(sequences: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    made, sums = adding_problem(sequences, LENGTH, form="modern", random_state=seed)
    return np.stack(made, axis=1).astype(np.float32), sums[:, None]


@cache
def training_data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return adding(STEPS * BATCH, seed)


def error_after_training(seed: int, **options) -> float:
    """Mean squared error on 2560 new sequences; always saying 1 has 1/6."""
    net = rc.Network(layer("lstm", 2, UNITS, seed, **options), rc.SquaredError(1), readout="last")
    opt = rc.Adam(learning_rate=0.005, clip_norm=0.1)
    x, sums = training_data(seed)
    for start in range(0, STEPS * BATCH, BATCH):
        part = slice(start, start + BATCH)
        net.train_step(x[:, part], sums[part], opt)
    x, sums = adding(2560, 10_000 + seed)
    return float(np.mean((net.predict(x) - sums) ** 2))


@cache
def errors(name: str) -> list[float]:
    return [error_after_training(seed, **VARIANTS[name]) for seed in SEEDS]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_adds(name, tell):
    """The median of five seeds: 0.04 at most."""
    found = for_each_seed(tell, lambda seed: errors(name)[seed], variant=name)
    tell(median=np.median(found))
    assert np.median(found) < 0.04


@pytest.mark.parametrize("name", ["CIFG", "NP"])
def test_coupled_gates_and_missing_peepholes_cost_little(name):
    """The two simplifications that the study found harmless: at most twice the vanilla cell's error."""
    assert np.median(errors(name)) <= 2 * np.median(errors("vanilla"))
