"""`rc.RTRL`: the same gradient as by going back in time, had on the way forward; and what a stream adds to that."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref
import twins
from covering import covering_cases

import rnncore as rc

T, B, D, H = 7, 3, 2, 4
OPTIONS = {
    "activation": list(ref.ACTIVATIONS),
    "kind": ["squared", "sigmoid"],
    "K": [1, 3, 4],
    "project": [False, True],
    "ragged": [False, True],
    "state": [False, True],
}
CASES = covering_cases(OPTIONS, lambda case: True)


@pytest.fixture
def rng():
    return np.random.default_rng(61)


def fully_recurrent(K=2, activation="sigmoid", **options):
    layer = rc.Recurrent("elman", D, H, activation=activation, dtype=options.pop("dtype", "float64"), **options)
    return rc.Network(layer, head=rc.SquaredError(K, project=False))


class Recorder:
    """Stands for an optimizer: notes each step's gradient, changes nothing."""

    def __init__(self):
        self.seen = []

    def step(self, net):
        self.seen.append(net.grad.copy())


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_gradient_is_that_of_back_propagation_and_of_differences(case):
    rng = np.random.default_rng(CASES.index(case))
    stack = ref.Stack(D, H, activation=case["activation"])
    head = ref.Head(case["kind"], case["K"], project=case["project"])
    net = twins.network(stack, head, params=twins.random_params(stack, head, rng))
    x, targets = rng.standard_normal((T, B, D)), head.random_targets(rng, (T, B))
    lengths = twins.random_lengths(rng, T, B) if case["ragged"] else None
    state = twins.random_state(rng, stack, B) if case["state"] else None

    loss, grad = rc.RTRL(net).gradient(x, targets, lengths=lengths, state=state)
    assert loss == pytest.approx(net.loss_and_grad(x, targets, lengths=lengths, state=state), rel=1e-12)
    by_time = net.grad.copy()
    assert ref.relative_error(grad, by_time) < 1e-10
    rough = ref.central_differences(lambda: net.loss_and_grad(x, targets, lengths=lengths, state=state), net.theta)
    assert ref.relative_error(grad, rough) < 1e-6


def test_long_sequence(rng):
    """Errors do not add up: 1000 steps of a network near the edge of chaos."""
    net = fully_recurrent(activation="tanh")
    net.params["layers.0.fwd.W_hh"][...] = np.linalg.qr(rng.standard_normal((H, H)))[0]
    x, targets = rng.standard_normal((1000, 1, D)), rng.standard_normal((1000, 1, 2))
    _, grad = rc.RTRL(net).gradient(x, targets)
    net.loss_and_grad(x, targets)
    assert ref.relative_error(grad, net.grad) < 1e-10


def test_single_precision(rng):
    net = fully_recurrent(dtype="float32")
    x, targets = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2))
    _, grad = rc.RTRL(net).gradient(x, targets)
    net.loss_and_grad(x, targets)
    assert grad.dtype == np.float32
    assert ref.relative_error(grad, net.grad) < 1e-5


def forced_loss(params, x, targets, forced: bool):
    """Mean loss of one sequence, step by step, for real and complex numbers; NaN is no target."""
    h, total, K = np.zeros(H), 0.0, targets.shape[1]
    for row, target in zip(x, targets, strict=True):
        h = ref.sigmoid(
            row @ params["layers.0.fwd.W_xh"] + h @ params["layers.0.fwd.W_hh"] + params["layers.0.fwd.b_h"]
        )
        known = ~np.isnan(target)
        total = total + ((h[:K] - target)[known] ** 2).sum()
        if forced:
            h = np.concatenate([np.where(known, target, h[:K]), h[K:]])
    return total / len(x)


@pytest.mark.parametrize("forced", [False, True], ids=["free", "forced"])
def test_forced_units_and_targets_that_are_not_there(rng, forced):
    net = fully_recurrent()
    x, targets = rng.standard_normal((T, D)), rng.random((T, 2))
    targets[rng.random((T, 2)) < 0.4] = np.nan
    rtrl = rc.RTRL(net, teacher_forcing=forced)
    loss, grad = rtrl.gradient(x[:, None], targets[:, None])
    assert loss == pytest.approx(forced_loss(net.params, x, targets, forced), rel=1e-12)
    wanted = ref.derivative(lambda a: forced_loss(a, x, targets, forced), dict(net.params))
    for name, view in net.layout.views(grad).items():
        assert ref.relative_error(view, wanted[name]) < 1e-12, name
    before = net.theta.copy()
    predicted = rtrl.run(x, targets)
    np.testing.assert_array_equal(net.theta, before)
    assert np.nansum((predicted - targets) ** 2) / T == pytest.approx(loss, rel=1e-12)


def test_forced_units_take_their_targets(rng):
    rtrl = rc.RTRL(fully_recurrent(), teacher_forcing=True)
    rtrl.step(rng.standard_normal(D), [0.25, np.nan])
    assert rtrl.state[0][0, 0, 0] == 0.25
    P = rtrl.sensitivities
    assert not P[0].any()
    assert P[1].any()


def test_sensitivities_are_the_state_s_derivatives(rng):
    net, x = fully_recurrent(), rng.standard_normal((T, D))
    rtrl = rc.RTRL(net)
    rtrl.run(x)
    stack, wanted = ref.Stack(D, H, activation="sigmoid"), []
    for k in range(H):
        value = lambda a, k=k: ref.forward(stack, a, x[:, None])[1][0][0, 0, k]  # noqa: E731
        parts = ref.derivative(value, dict(net.params)).values()
        wanted.append(np.concatenate([part.reshape(-1, H) for part in parts]))
    np.testing.assert_allclose(rtrl.sensitivities, wanted, rtol=1e-11, atol=1e-14)


def test_a_stream_is_its_steps_and_its_gradients_add_up(rng):
    net, x, targets = fully_recurrent(), rng.standard_normal((T, D)), rng.random((T, 2))
    one, two = (rc.RTRL(net, Recorder()) for _ in range(2))
    whole = one.run(x, targets)
    parts = [two.step(*both) for both in zip(x[:3], targets[:3], strict=True)]
    parts = np.concatenate([parts, two.run(x[3:], targets[3:])])
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(one.optimizer.seen, two.optimizer.seen)
    predicted, state = net.predict(x[:, None], return_state=True)
    np.testing.assert_allclose(whole, predicted[:, 0], rtol=1e-13)
    np.testing.assert_allclose(one.state[0], state[0], rtol=1e-13)
    _, grad = one.gradient(x[:, None], targets[:, None])
    np.testing.assert_allclose(np.mean(one.optimizer.seen, axis=0), grad, rtol=1e-12, atol=1e-15)


def test_steps_without_a_target_learn_nothing(rng):
    rtrl = rc.RTRL(fully_recurrent(), Recorder())
    rtrl.step(rng.standard_normal(D))
    assert not rtrl.optimizer.seen
    rtrl.step(rng.standard_normal(D), [0.5, np.nan])
    assert len(rtrl.optimizer.seen) == 1
    assert np.isfinite(rtrl.optimizer.seen[0]).all()


def test_a_new_stream(rng):
    net, x = fully_recurrent(), rng.standard_normal((T, D))
    rtrl = rc.RTRL(net)
    first = rtrl.run(x)
    rtrl.reset()
    np.testing.assert_array_equal(rtrl.run(x), first)
    assert rtrl.state[0].any()
    rtrl.reset(state=(np.full((1, 1, H), 0.5),))
    assert (rtrl.state[0] == 0.5).all()
    assert not rtrl.sensitivities.any()
    assert np.abs(rtrl.run(x) - first).max() > 1e-3


@pytest.mark.parametrize("optimizer", [rc.SGD(0.1), rc.Momentum(0.02), rc.Adam(0.01)], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("project", [False, True])
def test_learning_on_line(rng, optimizer, project):
    """y_t = x_{t-1}: the last input is to be remembered."""
    layer = rc.Recurrent("elman", 1, 4, dtype="float64", random_state=3)
    net = rc.Network(layer, head=rc.SquaredError(1, project=project))
    x = rng.choice([-0.5, 0.5], (4001, 1))
    y = rc.RTRL(net, optimizer.fresh()).run(x[1:], x[:-1])
    error = (y - x[:-1]) ** 2
    assert error[-200:].mean() < 0.1 * error[:200].mean()


def test_an_update_is_the_optimizer_s(rng):
    net = fully_recurrent()
    before, x, target = net.theta.copy(), rng.standard_normal(D), np.array([0.1, 0.9])
    _, grad = rc.RTRL(net).gradient(x[None, None], target[None, None])
    rc.RTRL(net, rc.SGD(learning_rate=0.3)).step(x, target)
    np.testing.assert_allclose(net.theta, before - 0.3 * grad, rtol=1e-13)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda rtrl: pickle.loads(pickle.dumps(rtrl))], ids=["copy", "pickle"])
def test_a_copy_goes_on_by_itself(rng, twin):
    x, targets = rng.standard_normal((2 * T, D)), rng.random((2 * T, 2))
    rtrl = rc.RTRL(fully_recurrent(), rc.Momentum(0.1))
    rtrl.run(x[:T], targets[:T])
    before, other = rtrl.net.theta.copy(), twin(rtrl)
    theirs = other.run(x[T:], targets[T:])
    np.testing.assert_array_equal(rtrl.net.theta, before)
    np.testing.assert_array_equal(rtrl.run(x[T:], targets[T:]), theirs)
    np.testing.assert_array_equal(rtrl.net.theta, other.net.theta)
    np.testing.assert_array_equal(rtrl.sensitivities, other.sensitivities)


def test_networks_of_another_kind_are_refused():
    elman = lambda **options: rc.Recurrent("elman", D, H, **options)  # noqa: E731
    squared = rc.SquaredError(2, project=False)
    for layers, head, options in [
        (rc.Recurrent("gru", D, H), squared, {}),
        (elman(num_layers=2), squared, {}),
        ([elman(), rc.Recurrent("elman", H, H)], squared, {}),
        (elman(reverse=True), squared, {}),
        (elman(bidirectional=True), squared, {}),
        (elman(truncate=3), squared, {}),
        (elman(recurrent_dropout=0.1), squared, {}),
        (elman(zoneout=0.1), squared, {}),
        (elman(), squared, {"readout": "last"}),
        (elman(), squared, {"skip": 3}),
        (elman(), squared, {"embedding": rc.Embedding(5, D)}),
        (elman(), rc.Softmax(2), {}),
        (elman(), rc.CRF(2), {}),
    ]:
        with pytest.raises(ValueError, match="RTRL"):
            rc.RTRL(rc.Network(layers, head=head, **options))
    with pytest.raises(ValueError, match="Network"):
        rc.RTRL(elman())
    for head in (rc.SquaredError(2), rc.SigmoidCrossEntropy(2, project=False)):
        rc.RTRL(rc.Network(elman(), head=head))
        with pytest.raises(ValueError, match="teacher forcing"):
            rc.RTRL(rc.Network(elman(), head=head), teacher_forcing=True)


def test_arrays_of_wrong_shape_are_refused():
    rtrl = rc.RTRL(fully_recurrent())
    for x, target in [(np.zeros(D + 1), None), (np.zeros((1, D)), None), (np.zeros(D), np.zeros(3))]:
        with pytest.raises(ValueError, match="must have shape"):
            rtrl.step(x, target)
    for x, targets in [(np.zeros((T, D + 1)), None), (np.zeros((T, D)), np.zeros((T - 1, 2)))]:
        with pytest.raises(ValueError, match="must have shape"):
            rtrl.run(x, targets)
    with pytest.raises(ValueError, match="must have shape"):
        rtrl.gradient(np.zeros((T, B, D)), np.zeros((T, B, 3)))
    yes_or_no = rc.RTRL(rc.Network(rc.Recurrent("elman", D, H), head=rc.SigmoidCrossEntropy(1)))
    yes_or_no.step(np.zeros(D), [np.nan])
    with pytest.raises(ValueError, match="lie in"):
        yes_or_no.step(np.zeros(D), [1.5])
    with pytest.raises(ValueError, match="state"):
        rtrl.reset(np.zeros((1, 1, H)))
