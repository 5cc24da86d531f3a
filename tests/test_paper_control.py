"""A plant identified by an estimator, one step ahead and free, and controlled by what it has learned (`-m paper`).

The plant is that of Narendra & Parthasarathy 1990; the network sees u(k) and y(k), nothing older, and is trained on
noise and a sine. Errors are root mean squares.
"""

import time

import numpy as np
import pytest

import rnncore as rc
from rnncore.control import PredictiveController
from rnncore.datasets import Plant, plant_inputs

pytestmark = pytest.mark.paper
SEEDS = range(5)
ONE_STEP, FREE = 0.035, 0.08
SETTINGS = {"cell": "elman", "activation": "tanh", "hidden_size": 16, "window": 20, "max_epochs": 40, "scale": False}


def identified(seed: int) -> rc.Forecaster:
    records = [plant_inputs("noise", 900, random_state=10 * seed + n) for n in range(2)] + [plant_inputs("sine", 450)]
    outputs = [Plant().run(u) for u in records]
    return rc.Forecaster(**SETTINGS, random_state=seed, n_threads=1).fit(outputs, records)


def error(found, wanted) -> float:
    return float(np.sqrt(np.mean((np.asarray(found) - wanted) ** 2)))


def test_identification(tell):
    """From rest: one step ahead at each of the 1000 steps of the test, and all of them from its own outputs."""
    u = plant_inputs("test")
    y = Plant().run(u)
    known, seen = np.concatenate([[0], u]), np.concatenate([[0], y])
    ends = range(1, 1001)
    one_step, free, begun = [], [], time.process_time()
    for seed in SEEDS:
        model = identified(seed)
        before = [seen[max(k - 20, 0) : k] for k in ends], [known[max(k - 20, 0) : k] for k in ends]
        one_step.append(error(np.ravel(model.predict(1, [known[k : k + 1] for k in ends], after=before)), y))
        free.append(error(model.predict(1000, u, after=(seen[:1], known[:1])), y))
    tell(one_step=np.round(one_step, 4), free=np.round(free, 4), seconds=round(time.process_time() - begun, 1))
    assert max(one_step) <= ONE_STEP and max(free) <= FREE


def controlled(seed: int, load: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Errors by measurements, and by the model's word alone."""
    controller, found = PredictiveController(identified(seed), horizon=10), []
    for measured in (True, False):
        controller.reset()
        plant, told, outputs = Plant(), 0.0, []
        for k, more in enumerate(load):
            u = controller.step(plant.y if measured else told, reference[k + 1 :])
            told = controller.forecast[0, 0]
            outputs.append(plant.step(u[0] + more))
        found.append(error(outputs, reference[1 : len(load) + 1]))
    return found[0], found[1]


def by_feedback(proportional: float, integral: float, load: np.ndarray, reference: np.ndarray) -> float:
    plant, total, outputs = Plant(), 0.0, []
    for k, more in enumerate(load):
        missing = reference[k + 1] - plant.y
        total += integral * missing
        outputs.append(plant.step(np.clip(proportional * missing + total, -1, 1) + more))
    return error(outputs, reference[1 : len(load) + 1])


def test_control(tell):
    """400 steps, a load on the input from 100 on: beside the open loop, and feedback with the best of 25 gains."""
    k = np.arange(420)
    levels = np.select([k < 50, k < 100, k < 150], [0.5, -0.4, 0.2], -0.6)
    reference = np.where(k < 200, levels, 0.4 * np.sin(np.pi * k / 25) + 0.2 * np.sin(np.pi * k / 10))
    gains = (0.05, 0.1, 0.2, 0.4, 0.6)
    for name, load in (("alone", np.zeros(400)), ("loaded", np.where(k[:400] < 100, 0.0, 0.2))):
        begun = time.process_time()
        found, open_loop = zip(*(controlled(seed, load, reference) for seed in SEEDS), strict=True)
        feedback = min(by_feedback(p, i, load, reference) for p in gains for i in gains)
        tell(
            **{
                f"{name}: controlled": np.round(found, 4),
                f"{name}: open loop": np.round(open_loop, 4),
                f"{name}: feedback": round(feedback, 4),
                f"{name}: seconds": round(time.process_time() - begun, 1),
            }
        )
        assert max(found) < 0.5 * feedback
        if name == "loaded":
            assert max(found) < 0.25 * min(open_loop)
