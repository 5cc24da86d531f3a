"""What echo state networks are known for (`-m paper`): chaotic series, products of past inputs, memory."""

import numpy as np
import pytest
from paper import for_each_seed, solved_by

import rnncore as rc
from rnncore import datasets
from rnncore.models.reservoir import memory_capacity

pytestmark = pytest.mark.paper


def error_84_steps_on(seed: int) -> float:
    """Jaeger 2001: 400 units hear the series as their own output; 1000 steps told, then 84 running free.

    His leaky units, x' = (1 - 0.396)·x + 0.44·f(…) with a radius of 0.79, are ours with a leak rate of 0.396 and a
    radius of 0.79/0.9.
    """
    series = datasets.mackey_glass(3000, squash=True, random_state=seed)
    esn = rc.ESNRegressor(
        *(400, 0.79 / 0.9, 0.396),
        feedback_scaling=0.56,
        bias_scaling=0.2 * 0.14,
        connectivity=0.0125,
        distribution="uniform",
        ridge=1e-12,
        washout=1000,
        input_to_readout=False,
        random_state=seed,
    ).fit(None, series)
    errors = []
    for run in range(50):
        test = datasets.mackey_glass(1084, squash=True, random_state=1000 + 100 * seed + run)
        found = esn.generate(84, test[:1000])[-1, 0]
        errors.append(np.arctanh(np.clip(found, -0.999, 0.999)) - np.arctanh(test[-1]))
    return float(np.sqrt(np.mean(np.square(errors)) / np.arctanh(series).var()))


def test_mackey_glass_84_steps_on(tell):
    """Before: 0.0088; Jaeger's: 0.00028."""
    errors = for_each_seed(tell, error_84_steps_on, task="Mackey-Glass, 84 steps on", units=400)
    solved_by([error <= 0.0088 for error in errors], 5)
    assert np.median(errors) <= 0.002


def test_mackey_glass_one_step_on(tell):
    """reservoirpy's tutorial, 100 units, 2000 steps: 0.00203."""

    def error(seed: int) -> float:
        series = datasets.mackey_glass(2510, random_state=seed)
        series = 2 * (series - series.min()) / np.ptp(series) - 1
        esn = rc.ESNRegressor(100, 1.25, 0.3, ridge=1e-8, washout=100, random_state=seed)
        esn.fit(series[:2000, None], series[1:2001])
        found = esn.predict(series[2000:2500, None], state=esn.state_)
        return float(np.sqrt(np.mean((found - series[2001:2501]) ** 2)))

    assert np.median(for_each_seed(tell, error, task="Mackey-Glass, one step on", units=100)) <= 0.0020


@pytest.mark.parametrize(("units", "most"), [(100, 0.174), (200, 0.145), (400, 0.129)])
def test_narma_of_order_10(units, most, tell):
    """Bars: reservoirpy's, of squared states too."""

    def error(seed: int) -> float:
        u, y = datasets.narma(4800, random_state=seed)
        esn = rc.ESNRegressor(
            units, input_scaling=0.1, bias_scaling=0.1, squared_states=True, ridge=1e-8, washout=100, random_state=seed
        ).fit(u[:2800, None], y[:2800])
        found = esn.predict(u[2800:, None], state=esn.state_)
        return float(np.sqrt(np.mean((found - y[2800:]) ** 2)) / y[2800:].std())

    assert np.median(for_each_seed(tell, error, task="NARMA-10", units=units)) <= most


def test_memory_of_linear_units(tell):
    """Jaeger 2002: at most as many steps as there are units."""

    def capacity(seed: int) -> float:
        reservoir = rc.Reservoir(50, 0.9, input_scaling=0.1, activation="identity", random_state=seed)
        return memory_capacity(reservoir, delays=100, random_state=seed)

    found = for_each_seed(tell, capacity, task="memory capacity", units=50)
    solved_by([50 / 3 < each <= 50 for each in found], 5)


def test_memory_beside_reservoirpy(tell):
    """The same settings, each library's own weights: the same memory, within 5 %."""
    reservoirpy = pytest.importorskip("reservoirpy")

    class Theirs:
        def __init__(self, seed: int) -> None:
            self.node = reservoirpy.nodes.Reservoir(
                100, lr=1.0, sr=0.9, input_scaling=0.1, rc_connectivity=0.1, input_connectivity=1.0, seed=seed,
                Win=reservoirpy.mat_gen.uniform, bias=0.0,
            )  # fmt: skip

        def states(self, u: np.ndarray) -> np.ndarray:
            return self.node.run(u)

    def capacities(seed: int) -> tuple[float, float]:
        ours = rc.Reservoir(100, 0.9, input_scaling=0.1, random_state=seed)
        return memory_capacity(ours, 50, 2500, random_state=seed), memory_capacity(
            Theirs(seed), 50, 2500, random_state=seed
        )

    found = np.mean([capacities(seed) for seed in range(24)], axis=0)  # one reservoir's differs by 8 % from another's
    tell(task="memory capacity beside reservoirpy", units=100, results=found.tolist())
    assert found[0] == pytest.approx(found[1], rel=0.05)
