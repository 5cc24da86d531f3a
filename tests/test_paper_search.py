"""Search without gradients: a latch over 100 steps, and the parity of 50 bits (long; `pytest -m paper`)."""

from __future__ import annotations

import numpy as np
import pytest
from paper import SEEDS, for_each_seed, layer, solved_by
from peers import peer

import rnncore as rc

pytestmark = pytest.mark.paper

STEPS, MARGIN = 100, 1.5
METHODS = {"random": {}, "genetic": {}, "annealing": {"restarts": 9}, "cma": {}, "evolution": {}}


def latch(count: int, rng: np.random.Generator, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences that begin with their class, 1 or -1, and go on with noise of variance 0.2 (times noise²)."""
    x = rng.normal(0, noise * np.sqrt(0.2), (STEPS, count, 1))
    classes = rng.choice([-1, 1], count)
    x[0, :, 0] = classes
    return x.astype(np.float32), classes


def wrong(net: rc.Network, x: np.ndarray, classes: np.ndarray) -> float:
    return float(np.mean(np.sign(net.predict(x)[:, 0]) != classes))


@pytest.mark.parametrize("method", METHODS)
def test_latch(method, tell):
    """Five tanh units, the first of which answers; seen with noise half as strong again as in the test."""
    if method == "cma":
        peer("cma")

    def attempt(seed):
        rng = np.random.default_rng(seed)
        x, classes = latch(200, rng, MARGIN)
        more = latch(2000, rng, MARGIN)
        head = rc.SquaredError(1, project=False, pooling="last")
        net = rc.Network(layer("elman", 1, 5, seed, activation="tanh"), head=head)

        def objective(net):
            """Return the squared error; where that is next to nothing, what part of more sequences is wrong."""
            error = float(np.mean((net.predict(x)[:, 0] - classes) ** 2))
            return error if error > 0.01 else wrong(net, *more)

        found = rc.search.minimize(
            net,
            objective,
            method,
            bounds=(-10, 10) if method != "cma" else (-5, 5),
            target=0.0,
            max_evaluations=20_000,
            random_state=seed,
            **METHODS[method],
        )
        return found.evaluations, wrong(net, *latch(300, rng))

    results = for_each_seed(tell, attempt, method=method, criterion="300 new sequences right; 5 of 5")
    solved_by([missed == 0 for _, missed in results], len(SEEDS))


def parity(count: int, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    bits = rng.integers(0, 2, (steps, count, 1))
    return (2 * bits - 1).astype(np.float32), 1 - 2 * (bits.sum(axis=0)[:, 0] % 2)


def test_parity(tell):
    """Two tanh units and a sum of them; weights are guessed from U[-30, 30]."""

    def attempt(seed):
        rng = np.random.default_rng(seed)
        x, odd = parity(64, 50, rng)
        head = rc.SquaredError(1, pooling="last")
        net = rc.Network(layer("elman", 1, 2, seed, activation="tanh"), head=head)
        found = rc.search.minimize(
            net,
            lambda net: wrong(net, x, odd),
            "random",
            bounds=(-30, 30),
            target=0.0,
            max_evaluations=60_000,
            random_state=seed,
        )
        return found.evaluations, wrong(net, *parity(4096, 50, rng)), wrong(net, *parity(4096, 500, rng))

    results = for_each_seed(tell, attempt, criterion="4096 new strings of 50 and 500 right; 3 of 5")
    solved_by([of_50 == of_500 == 0 for _, of_50, of_500 in results], 3)
