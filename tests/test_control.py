"""Control by a model: exact derivatives, plans that are what the model says, limits, loads, what is refused."""

import numpy as np
import pytest

import rnncore as rc
from rnncore.control import PredictiveController
from rnncore.data.readers import DataError
from rnncore.datasets import Plant, plant_inputs

QUICK = {"window": 8, "max_epochs": 5, "n_threads": 1, "dtype": "float64"}


def two_tanks(u: np.ndarray) -> np.ndarray:
    """Two outputs of two inputs, (T, 2): a row is what its inputs led to."""
    y, found = np.zeros(2), []
    for row in u:
        y = np.array([0.7 * y[0] + 0.4 * np.tanh(row[0]), 0.6 * y[1] + 0.3 * y[0] + 0.5 * row[1]])
        found.append(y)
    return np.array(found)


def model_of_tanks(**options) -> rc.Forecaster:
    u = np.random.default_rng(0).uniform(-1, 1, (600, 2)) * [2, 1] + [0.5, 0]
    return rc.Forecaster(**(QUICK | options)).fit(two_tanks(u), u)


@pytest.mark.parametrize(
    "options",
    [{"cell": "lstm"}, {"cell": "gru", "num_layers": 2}, {"cell": "elman", "activation": "tanh", "scale": False}],
)
def test_derivatives(options):
    """Against differences of what is simulated, after a past and from the start."""
    controller = PredictiveController(model_of_tanks(**options), horizon=4, limits=(-2, 2))
    plan = np.random.default_rng(1).uniform(-1, 1, (4, 2))
    for past in (0, 3):
        state = None
        if past:
            x = np.stack([controller._read(np.array([0.1 * n, 0.2]), plan[n]) for n in range(past)])
            _, state = controller._net.predict(x[:, None], return_state=True)
        z = np.array([0.3, -0.2])
        said, states = controller._simulated(z, state, plan)
        J = controller._jacobian(z, states, said, plan).reshape(4, 2, 4, 2)
        for at in np.ndindex(plan.shape):
            moved = [plan.copy(), plan.copy()]
            moved[0][at] += 1e-5
            moved[1][at] -= 1e-5
            above, below = (controller._simulated(z, state, one)[0] for one in moved)
            np.testing.assert_allclose(J[:, :, *at], (above - below) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [True, False])
def test_a_plan_is_what_the_model_says(scale):
    """After any past, the forecast is that of `predict` with the plan as what is known ahead."""
    model = model_of_tanks(scale=scale)
    controller = PredictiveController(model, horizon=5, limits=(-1, 1))
    rng = np.random.default_rng(2)
    y, u = [np.zeros(2)], []
    for _ in range(12):
        u.append(controller.step(y[-1], rng.uniform(-0.3, 0.3, (5, 2))))
        y.append(two_tanks(np.array(u))[-1])
    known = np.concatenate([np.zeros((1, 2)), np.array(u[:-1])])
    wanted = model.predict(5, controller.plan, after=(np.array(y[:-1]), known))
    error = y[-2] - model.predict(1, u[-2][None], after=(np.array(y[:-2]), known[:-1]))[0]
    np.testing.assert_allclose(controller.forecast, wanted + error, rtol=1e-8)


def test_two_outputs_follow_within_limits():
    model = model_of_tanks(cell="elman", activation="tanh", hidden_size=16, max_epochs=30)
    controller = PredictiveController(model, horizon=6, limits=([-1, -0.5], [1, 0.5]))
    inputs, outputs = [], []
    y = np.zeros(2)
    for k in range(60):
        inputs.append(controller.step(y, [0.5, -0.2] if k < 30 else [-0.4, 0.2]))
        y = two_tanks(np.array(inputs))[-1]
        outputs.append(y)
    inputs = np.array(inputs)
    assert (np.abs(inputs) <= [1, 0.5]).all()
    np.testing.assert_allclose(outputs[29], [0.5, -0.2], atol=0.02)
    np.testing.assert_allclose(outputs[59], [-0.4, 0.2], atol=0.02)
    assert np.abs(inputs[29:33]).max() == 1  # as fast as limits let it


def identified() -> rc.Forecaster:
    records = [plant_inputs("noise", 600), plant_inputs("sine", 300)]
    model = rc.Forecaster(cell="elman", activation="tanh", hidden_size=12, window=12, max_epochs=30, scale=False)
    return model.fit([Plant().run(u) for u in records], records)


def test_a_load_leaves_no_lasting_error_and_smoothness_calms():
    model = identified()

    def run(**options):
        controller, plant, inputs = PredictiveController(model, horizon=5, **options), Plant(), []
        for k in range(60):
            inputs.append(controller.step(plant.y, 0.4)[0])
            plant.step(inputs[-1] + (0.2 if k >= 20 else 0))
        return plant.y, np.array(inputs)

    y, inputs = run()
    assert y == pytest.approx(0.4, abs=0.01)
    calm, slow = run(smoothness=1.0)
    assert calm == pytest.approx(0.4, abs=0.02)
    assert np.abs(np.diff(slow)).max() < 0.7 * np.abs(np.diff(inputs)).max()


def test_reset_and_short_references():
    """The last of a reference goes on; a controller that forgot is as new."""
    controller = PredictiveController(identified(), horizon=5)
    first = [controller.step(0.1 * n, 0.3) for n in range(4)]
    controller.reset()
    again = [controller.step(0.1 * n, [0.3, 0.3]) for n in range(4)]
    assert np.array_equal(first, again)


def test_what_is_refused():
    u = plant_inputs("noise", 100)
    y = Plant().run(u)
    refused = {
        "strategy='recursive'": {"strategy": "direct", "horizon": 2},
        "output='point'": {"output": "normal"},
        "difference=0": {"difference": 1},
        "no dropout": {"dropout": 0.2},
    }
    for message, options in refused.items():
        with pytest.raises(ValueError, match=message):
            PredictiveController(rc.Forecaster(**QUICK, **options).fit(y, u))
    with pytest.raises(ValueError, match="inputs as X"):
        PredictiveController(rc.Forecaster(**QUICK).fit(y))
    with pytest.raises(ValueError, match="one series, or scale=False"):
        PredictiveController(rc.Forecaster(**QUICK).fit([y, y], [u, u]))
    with pytest.raises(TypeError, match="SequenceRegressor"):
        PredictiveController(rc.SequenceRegressor())
    model = rc.Forecaster(**QUICK).fit(y, u)
    with pytest.raises(ValueError, match="limits"):
        PredictiveController(model, limits=(1, -1))
    controller = PredictiveController(model)
    with pytest.raises(DataError, match="y must be 1 finite"):
        controller.step(np.nan, 0.0)
    with pytest.raises(DataError, match="reference"):
        controller.step(0.0, [])


def test_the_plant():
    assert Plant().run([1.0, 1.0, 0.5]).tolist() == [1.0, 1.0, 0.25]
    whole, plant = plant_inputs("test"), Plant()
    y = plant.run(whole)
    k = 600
    a, b, c = y[k - 1 : k - 4 : -1]  # y(k), y(k-1), y(k-2)
    assert y[k] == pytest.approx((a * b * c * whole[k - 1] * (c - 1) + whole[k]) / (1 + b * b + c * c))
    with pytest.raises(ValueError, match="kind"):
        plant_inputs("music")
