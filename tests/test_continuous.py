"""Continuous-time networks, what the other tests do not ask of every cell: time itself, constants, teacher forcing."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B, D, H = 5, 3, 4, 3
SOLVERS = {
    "euler": {},
    "euler in sub-steps": {"substeps": 3},
    "rk4": {"solver": "rk4"},
    "rk4 in sub-steps": {"solver": "rk4", "substeps": 2},
}


@pytest.fixture
def rng():
    return np.random.default_rng(41)


def net_of(activation="tanh", direction="fwd", **options) -> ref.Stack:
    return ref.Stack(D, H, 1, direction, activation, "ctrnn", cell_options=tuple(options.items()))


def timed(rng, steps=T, sequences=B) -> np.ndarray:
    x = rng.standard_normal((steps, sequences, D))
    x[..., -1] = rng.uniform(0.1, 2, (steps, sequences))
    return x


def compare_gradients(rng, net, x, lengths=None, feedback=None, start=None):
    params = net.random_params(rng)
    layer = twins.layer(net, params)
    dy, dfinal = rng.standard_normal((T, B, net.output_size)), twins.random_state(rng, net, B)
    start = start or twins.named_state(rng, net, B)
    y, final = layer.forward(x, tuple(start.values()), lengths, feedback=feedback)
    dx, dstate = layer.backward(dy, dfinal)
    wanted, last = ref.forward(net, params, x, tuple(start.values()), lengths, None, feedback)
    for one, other in zip((y, *final), (wanted, *last), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    got = dict(layer.grads) | {"x": dx} | dict(zip(start, dstate, strict=True))
    exact = ref.derivative(twins.weighted_sum(net, x, dy, dfinal, lengths, None, feedback), {**params, **start, "x": x})
    for name in got.keys() - {"state 0"}:  # of the state before, y alone is read
        assert ref.relative_error(got[name], exact[name]) < 1e-11, name
    assert not dstate[0].any()


@pytest.mark.parametrize("direction", ["fwd", "reverse", "sum"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_irregular_steps(rng, solver, direction):
    net = net_of("sigmoid", direction, irregular=True, **SOLVERS[solver])
    compare_gradients(rng, net, timed(rng), lengths=[5, 2, 4])


@pytest.mark.parametrize("taught", [None, 2])
@pytest.mark.parametrize("teacher", [0.1, 1.0])
def test_teacher_forcing(rng, teacher, taught):
    net = net_of(teacher=teacher, taught=taught)
    y = 0.5 * rng.standard_normal((1, B, H))
    start = {"state 0": np.tanh(y), "state 1": y}
    compare_gradients(rng, net, rng.standard_normal((T, B, D)), [3, 5, 1], rng.standard_normal((T, B, H)), start)


def test_several_stages_cannot_be_taught(rng):
    layer = rc.Recurrent("ctrnn", D, H, solver="rk4")
    with pytest.raises(ValueError, match="not for ctrnn in several stages"):
        layer.forward(np.zeros((T, B, D)), feedback=np.zeros((T, B, H)))


def test_without_connections_a_unit_relaxes_as_its_constant_says():
    """y = I·(1 - e^(-t/τ)): the one equation of the family with a solution to write down."""
    steps, step, tau, target = 40, 0.1, 0.7, 1.3
    layer = rc.Recurrent("ctrnn", 1, 1, dtype="float64", activation="identity", solver="rk4", time_step=step, tau=tau)
    layer.params["layers.0.fwd.W_hh"][...] = 0
    layer.params["layers.0.fwd.W_xh"][...] = 0
    layer.params["layers.0.fwd.b_h"][...] = target
    y, _ = layer.forward(np.zeros((steps, 1, 1)))
    t = step * np.arange(1, steps + 1)
    np.testing.assert_allclose(y[:, 0, 0], target * (1 - np.exp(-t / tau)), rtol=1e-5)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("rk4", 4)])
def test_order_of_the_solver(rng, solver, order):
    """Twice as many sub-steps: the error falls by 2 to the order."""
    W = 2 * rng.standard_normal((H, H))
    options = {"steps": 1, "time_step": 1.0, "solver": solver, "tau": [0.7, 1.0, 1.5], "start": [0.3, -1.0, 0.5]}
    exact, *found = (rc.models.simulate(W, 0.1, substeps=n, **options)[0] for n in (800, 8, 16))
    if solver == "euler":
        exact = rc.models.simulate(W, 0.1, substeps=100, **options | {"solver": "rk4"})[0]
    errors = [np.abs(each - exact).max() for each in found]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_equal_steps_are_equal_steps(rng):
    """Irregular or not, in one piece or in sub-steps, to the bit."""
    x = timed(rng)
    x[..., -1] = 0.25
    one = rc.Recurrent("ctrnn", D, H, dtype="float64", irregular=True, activation="sigmoid", random_state=3)
    other = rc.Recurrent("ctrnn", D, H, dtype="float64", time_step=0.25, activation="sigmoid", random_state=3)
    other.theta = one.theta
    for got, wanted in zip(one.forward(x)[1], other.forward(x)[1], strict=True):
        twins.assert_same_bits(got, wanted)
    halves = rc.Recurrent("ctrnn", D, H, dtype="float64", time_step=0.5, substeps=2, activation="sigmoid")
    halves.theta = one.theta
    twice = np.repeat(x, 2, axis=0)
    np.testing.assert_allclose(halves.forward(x)[0], other.forward(twice)[0][1::2], rtol=1e-13)


def test_samples_may_come_when_they_like():
    """The same current, seen at other times: the same state in the end."""
    layer = rc.Recurrent("ctrnn", 2, 6, dtype="float64", irregular=True, solver="rk4", substeps=4, tau=2)
    rng = np.random.default_rng(0)
    x = np.ones((30, 2, 2))
    x[:, :, 1] = rng.dirichlet(np.ones(30), 2).T * 5
    _, (h, _) = layer.forward(x)
    np.testing.assert_allclose(h[0, 0], h[0, 1], atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_a_time_step_of_zero_or_below_is_named(rng, bad):
    x = timed(rng)
    x[3, 1, -1] = bad
    layer = rc.Recurrent("ctrnn", D, H, irregular=True)
    wanted = f"time steps, .* must be above 0: got {bad:g} at step 3 of sequence 1"
    net = rc.Network(rc.Recurrent("ctrnn", D, H, irregular=True), head=rc.Softmax(2))
    session = layer.session(batch_size=B)
    for call in (layer.forward, net.predict, session.run):
        with pytest.raises(ValueError, match=wanted):
            call(x)
    with pytest.raises(ValueError, match="must be above 0"):
        session.step(x[3].astype("float32"))
    with pytest.raises(ValueError, match="must be above 0"):
        net.train_step(x, np.zeros((T, B), int), rc.SGD())
    layer.forward(x, lengths=[5, 3, 5])  # past a sequence's end nothing counts


def test_irregular_steps_belong_to_the_data():
    with pytest.raises(ValueError, match="irregular is for one layer"):
        rc.Recurrent("ctrnn", D, H, num_layers=2, irregular=True)
    layers = [rc.Recurrent("elman", D, D), rc.Recurrent("ctrnn", D, H, irregular=True)]
    with pytest.raises(ValueError, match="irregular is for the first layer"):
        rc.Network(layers, head=rc.Softmax(2))
    with pytest.raises(ValueError, match="irregular is for the first layer"):
        rc.Network(layers[1], head=rc.Softmax(2), embedding=rc.Embedding(9, D))
    with pytest.raises(ValueError, match="expected numbers, got ids"):
        layers[1].forward(np.zeros((T, B), int))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("tau", value) for value in (0, -1.0, np.inf, [1.0, 0.0, 1.0], [1.0, 2.0], "slow", [[1.0]])),
        *(("time_step", value) for value in (0, -0.1, np.nan, "1")),
        *(("solver", "rk5"), ("substeps", 0), ("irregular", 1.5), ("teacher", 1.5), ("taught", 0)),
    ],
)
def test_options_that_mean_nothing_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        rc.Recurrent("ctrnn", D, H, **{option: value})


def test_time_constants_start_as_asked_and_are_kept(tmp_path):
    layer = rc.Recurrent("ctrnn", D, H, tau=(1.0, 5.0, 70.0), irregular=True, dtype="float64")
    np.testing.assert_allclose(np.exp(layer.params["layers.0.fwd.rho"]), [1, 5, 70])
    assert not layer.params["layers.0.fwd.W_xh"][-1].any()  # the times are no input to begin with
    layer.theta += 0.1
    layer.save(tmp_path / "layer.safetensors")
    x = timed(np.random.default_rng(0))
    np.testing.assert_array_equal(rc.load(tmp_path / "layer.safetensors").forward(x)[0], layer.forward(x)[0])


def test_any_number_of_threads(rng):
    layer = rc.Recurrent("ctrnn", D, 40, irregular=True, solver="rk4", substeps=2)
    x, dy = timed(rng, 30, 16).astype("float32"), rng.standard_normal((30, 16, 40)).astype("float32")
    found = []
    for threads in (1, 2, 5):
        layer.n_threads = threads
        layer.zero_grad()
        layer.forward(x)
        dx, _ = layer.backward(dy)
        found.append((dx, layer.grad.copy()))
    for other in found[1:]:
        twins.assert_same_bits(other[0], found[0][0])
        twins.assert_same_bits(other[1], found[0][1])


def test_chunks_and_single_steps_are_the_whole(rng):
    layer = rc.Recurrent("ctrnn", D, H, irregular=True, solver="rk4", dtype="float64")
    x = timed(rng)
    whole, _ = layer.forward(x, training=False)
    _, state = layer.forward(x[:2], training=False)
    twins.assert_same_bits(layer.forward(x[2:], state, training=False)[0], whole[2:])
    session = layer.session(batch_size=B)
    twins.assert_same_bits(np.array([session.step(x_t) for x_t in x]), whole)


# ------------------------------------------------------------------------------------------------------- simulate()


def test_beer_s_oscillator():
    """The published pair of units, two of whose figures are its period and how far it swings."""
    outputs = rc.models.simulate([[4.5, -1], [1, 4.5]], [-2.75, -1.75], steps=8000, time_step=0.05, start=[0.5, 0])
    late = outputs[4000:]
    np.testing.assert_allclose([late.min(), late.max()], [0.1891, 0.8109], atol=0.002)
    y = late[:, 0] - 0.5
    rises = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    crossings = 0.05 * (rises + y[rises] / (y[rises] - y[rises + 1]))
    np.testing.assert_allclose(np.diff(crossings), 29.0, rtol=0.005)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": [[1.0, 2.0]]}, "weights must be a square matrix"),
        ({"biases": [1.0, 2.0, 3.0]}, "biases must be a finite number, or one for each of 2 units"),
        ({"tau": 0.0}, "tau must be a number above 0"),
        ({"start": np.nan}, "start must be a finite number"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"time_step": 0.0}, "time_step must be above 0"),
    ],
)
def test_simulate_says_what_it_wants(given, message):
    with pytest.raises(ValueError, match=message):
        rc.models.simulate(**{"weights": np.eye(2), "steps": 3, "time_step": 0.1} | given)
