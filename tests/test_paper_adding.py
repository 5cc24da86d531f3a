"""The adding problem of Hochreiter & Schmidhuber 1997, and the easier form of later papers (`-m paper`)."""

from functools import cache

import numpy as np
import pytest
import reference as ref
from paper import SEEDS, for_each_seed, layer, padded, solved_by

import rnncore as rc
from rnncore.datasets import adding_problem
from rnncore.nn.cells import LSTM

pytestmark = pytest.mark.paper

# ---------------------------------------------------------- as in the paper, experiment 4: T = 100, an error below 0.04

BUDGET, BATCH = 74_000, 10


def input_gates_shut(net, hidden_size: int) -> None:
    """Begin with input gates that are nearly shut, as the paper did: what is stored does not drown in noise."""
    net.params["layers.0.fwd.b_h"][:hidden_size] = -3


def sequences_until_found(seed: int, **options) -> int | None:
    """Train until at most 3 of 2560 new sums are wrong."""
    unseen, sums_test = adding_problem(2560, random_state=10_000 + seed)
    x_test, lengths_test = padded(unseen)
    net = rc.Network(layer("lstm", 2, 8, seed, **options), head=rc.SquaredError(1), readout="last")
    input_gates_shut(net, 8)
    opt = rc.Adam(learning_rate=0.01, clip_norm=1, schedule=rc.schedules.Linear(BUDGET // BATCH))
    for part in range(BUDGET // 2000):
        sequences, sums = adding_problem(2000, random_state=1_000_000 * (seed + 1) + part)
        for start in range(0, 2000, BATCH):
            x, lengths = padded(sequences[start : start + BATCH])
            net.train_step(x, sums[start : start + BATCH, None], opt, lengths=lengths)
        wrong = np.abs(net.predict(x_test, lengths_test)[:, 0] - sums_test) >= 0.04
        if wrong.sum() <= 3:
            return 2000 * (part + 1)
    return None


KINDS = {
    "forget gate": {"forget_bias": 5.0},
    "no forget gate": {"variant": "NFG"},
    **({"1997": {"variant": "1997"}} if "1997" in LSTM.FLAGS else {}),
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_adding_problem(options, tell):
    """Within the paper's 74,000 sequences."""
    found = for_each_seed(tell, lambda seed: sequences_until_found(seed, **options), **options)
    solved_by([sequences is not None for sequences in found], 3)


# -------------------------------------------- the easier form: numbers from 0 to 1, always saying 1 has an error of 1/6

EASY_BATCH = 20
EASY_MOST = BUDGET // EASY_BATCH


def easy(sequences: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    made, sums = adding_problem(sequences, length, form="modern", random_state=seed)
    return np.stack(made, axis=1).astype(np.float32), sums[:, None]


def updates_until_close(seed: int, cell: str, length: int, **options) -> int | None:
    made = layer(cell, 2, 16, seed, **options)
    return updates_of(made, seed, length, learning_rate=0.01)


def updates_of(made: rc.Recurrent, seed: int, length: int, learning_rate: float) -> int | None:
    """Train until the mean squared error on 2560 new sequences is below 0.01; look every 25 updates."""
    x_test, sums_test = easy(2560, length, 10_000 + seed)
    net = rc.Network(made, head=rc.SquaredError(1), readout="last")
    opt = rc.Adam(learning_rate=learning_rate, clip_norm=1)
    for update in range(1, EASY_MOST + 1):
        net.train_step(*easy(EASY_BATCH, length, 1_000_000 * (seed + 1) + update), opt)
        if update % 25 == 0 and np.mean((net.predict(x_test) - sums_test) ** 2) < 0.01:
            return update
    return None


@cache
def updates_of_the_lstm(length: int) -> list[int | None]:
    return [updates_until_close(seed, "lstm", length) for seed in SEEDS]


@pytest.mark.parametrize("length", [50, 100])
def test_easy_adding_problem_with_lstm(length, tell):
    found = for_each_seed(tell, lambda seed: updates_of_the_lstm(length)[seed], cell="lstm", length=length)
    solved_by([updates is not None for updates in found], 5)


GATED = {name: ref.FAMILY[name] for name in ("gru", "gru, reset before", "mut1", "mut2", "mut3", "mgu")}


@pytest.mark.parametrize(("length", "share"), [(50, 2.0), (100, 1.0)])
@pytest.mark.parametrize("name", GATED)
def test_easy_adding_problem(name, length, share, tell):
    """100 steps: within the LSTM's updates, the median of its seeds; 50 steps: within twice as many."""
    cell, options = GATED[name]
    most = share * np.median(updates_of_the_lstm(length))
    found = for_each_seed(
        tell, lambda seed: updates_until_close(seed, cell, length, **options), cell=name, length=length, most=most
    )
    solved_by([updates is not None and updates <= most for updates in found], 5)


def updates_of_an_indrnn(seed: int, length: int) -> int | None:
    """Two layers, as in the paper, which lets the upper one begin with memories as long as the sequences."""
    bound = 2 ** (1 / length)
    made = layer("indrnn", 2, 16, seed, num_layers=2, bound=bound)
    made.params["layers.1.fwd.u"][...] = np.random.default_rng(seed).uniform(1 / bound, bound, 16)
    return updates_of(made, seed, length, learning_rate=0.003)


def test_easy_adding_problem_with_indrnn(tell):
    """100 steps: within the LSTM's updates, the median of its seeds."""
    most = np.median(updates_of_the_lstm(100))
    found = for_each_seed(tell, lambda seed: updates_of_an_indrnn(seed, 100), cell="indrnn", length=100, most=most)
    solved_by([updates is not None and updates <= most for updates in found], 5)
