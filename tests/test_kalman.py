"""`rc.EKF`: its derivatives against differences, its update against the formulas."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref

import rnncore as rc

D, K, T = 3, 2, 9
NETWORKS = {
    "one layer": [("elman", 4, {})],
    "perceptron": [("elman", 5, {}), ("elman", 4, {"activation": "sigmoid"})],
    "recurrent outputs": [("elman", 4, {}), ("elman", K, {"activation": "identity"})],
    "mixed": [("lstm", 4, {"num_layers": 2}), ("gru", 3, {})],
}


@pytest.fixture
def rng():
    return np.random.default_rng(81)


def network(name="perceptron", project=None, dtype="float64"):
    layers, width = [], D
    for n, (cell, hidden, options) in enumerate(NETWORKS[name]):
        layers.append(rc.Recurrent(cell, width, hidden, dtype=dtype, random_state=n, **options))
        width = hidden
    project = name != "recurrent outputs" if project is None else project
    return rc.Network(layers if len(layers) > 1 else layers[0], head=rc.SquaredError(K, project=project))


@pytest.mark.parametrize("window", [1, 4, 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_jacobian(rng, name, window):
    """The last step's outputs by all weights; what is older than the window is a constant."""
    net = network(name)
    x = rng.standard_normal((T, 2, D))
    ekf = rc.EKF(net, window=window)
    ekf.run(x)
    state, inside = None, x
    if window < T:
        _, state = net.predict(x[: T - window], return_state=True)
        inside = x[T - window :]
    H = ekf.jacobian()
    assert H.shape == (net.theta.size, 2, K)
    for b in range(2):
        for k in range(K):
            rough = ref.central_differences(lambda b=b, k=k: net.predict(inside, state=state)[-1, b, k], net.theta)
            assert ref.relative_error(H[:, b, k], rough) < 1e-8


def filter_step(theta, P, H, error, R, Q):
    """w + K·e and P - K·Hᵀ·P + Q, K = P·H·(R + Hᵀ·P·H)⁻¹, as they stand in the paper."""
    gain = P @ H @ np.linalg.inv(R * np.eye(H.shape[1]) + H.T @ P @ H)
    return theta + gain @ error, P - gain @ H.T @ P + Q * np.eye(len(P))


@pytest.mark.parametrize("coupling", ["global", "layer", "node"])
@pytest.mark.parametrize("streams", [None, 3])
def test_updates_are_the_formulas(rng, coupling, streams):
    """A decoupled filter is the global one whose P lacks the other blocks."""
    net = network()
    shape = () if streams is None else (streams,)
    x, targets = rng.standard_normal((T, *shape, D)), rng.standard_normal((T, *shape, K))
    ekf = rc.EKF(
        net,
        window=3,
        coupling=coupling,
        covariance=5.0,
        measurement_noise=lambda n: 1 / (1 + n),
        process_noise=lambda n: 0.01 * n,
    )
    together = np.zeros((net.theta.size, net.theta.size), bool)
    for group in ekf.groups:
        together[np.ix_(group, group)] = True
    P = 5.0 * np.eye(net.theta.size)
    for t in range(T):
        before = net.theta.copy()
        y = ekf.step(x[t], targets[t])
        after = net.theta.copy()
        net.theta[...] = before
        H = ekf.jacobian().reshape(net.theta.size, -1)
        wanted, P = filter_step(before, P, H, (targets[t] - y).ravel(), 1 / (1 + t), 0.01 * t)
        P = np.where(together, P, 0)
        np.testing.assert_allclose(after, wanted, rtol=1e-9, atol=1e-12)
        net.theta[...] = after
        for group, block in zip(ekf.groups, ekf.P, strict=True):
            np.testing.assert_allclose(block, P[np.ix_(group, group)], rtol=1e-8, atol=1e-11)
    assert ekf.updates == T


@pytest.mark.parametrize("coupling", ["global", "layer", "node"])
@pytest.mark.parametrize("name", NETWORKS)
def test_groups_hold_every_weight_once(name, coupling):
    net = network(name)
    groups = rc.EKF(net, coupling=coupling).groups
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(net.theta.size))
    levels = sum(layer.num_layers for layer in net.layers) + bool(net.head.project)
    units = sum(layer.num_layers * layer.hidden_size for layer in net.layers) + K * net.head.project
    assert len(groups) == {"global": 1, "layer": levels, "node": units}[coupling]


def test_a_node_is_what_leads_to_a_unit():
    net = network("mixed")
    groups = rc.EKF(net, coupling="node").groups
    for view in net.params.values():
        view[...] = 0
    for name in ("W_xh", "W_hh", "b_h"):
        net.params[f"layers.0.fwd.{name}"][..., 1::4] = 1  # unit 1 of 4, through all gates
    assert np.flatnonzero(net.theta).tolist() in [group.tolist() for group in groups]


def test_covariances_stay_symmetric_and_positive(rng):
    net = network()
    ekf = rc.EKF(net, coupling="layer", measurement_noise=0.1)
    ekf.run(rng.standard_normal((300, D)), rng.standard_normal((300, K)))
    for P in ekf.P:
        np.testing.assert_array_equal(P, P.T)
        assert np.linalg.eigvalsh(P).min() > 0


def test_outputs_are_the_network_s_while_nothing_is_learned(rng):
    for name in NETWORKS:
        net = network(name)
        x = rng.standard_normal((T, 2, D))
        ekf = rc.EKF(net)
        first, state = net.predict(x, return_state=True)
        np.testing.assert_allclose(ekf.run(x), first, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(ekf.run(x), net.predict(x, state=state), rtol=1e-12, atol=1e-14)
        ekf.reset()
        second, start = net.predict(x, return_state=True)
        np.testing.assert_allclose(ekf.run(x), second, rtol=1e-12, atol=1e-14)
        ekf.reset(start)
        np.testing.assert_allclose(ekf.run(x), net.predict(x, state=start), rtol=1e-12, atol=1e-14)
        ekf.reset()
        np.testing.assert_allclose(ekf.run(x[:, 0]), net.predict(x)[:, 0], rtol=1e-12, atol=1e-14)
        assert ekf.updates == 0


def test_targets_that_are_not_there(rng):
    x, targets = rng.standard_normal((T, D)), rng.standard_normal((T, K))
    targets[:3], targets[5:, 1] = np.nan, np.nan
    net = network()
    before, ekf = net.theta.copy(), rc.EKF(net)
    ekf.run(x[:3], targets[:3])
    np.testing.assert_array_equal(net.theta, before)
    ekf.run(x[3:], targets[3:])
    assert ekf.updates == T - 3
    assert np.isfinite(net.theta).all()

    # an output that never has a target might as well not be there
    one, two = network(), rc.Network(network().layers, head=rc.SquaredError(1))
    for part in two.params:
        two.params[part] = one.params[part][..., :1] if part.startswith("head.") else one.params[part]
    targets = np.stack([rng.standard_normal(T), np.full(T, np.nan)], axis=1)
    both = rc.EKF(one, process_noise=0.0).run(x, targets)
    alone = rc.EKF(two, process_noise=0.0).run(x, targets[:, :1])
    np.testing.assert_allclose(both[:, :1], alone, rtol=1e-9)


def test_single_precision(rng):
    x, targets = rng.standard_normal((T, D)), rng.standard_normal((T, K))
    thetas = []
    for dtype in ("float64", "float32"):
        net = network().copy(dtype)
        rc.EKF(net, covariance=1.0).run(x, targets)
        thetas.append(net.theta)
    assert thetas[1].dtype == np.float32
    assert ref.relative_error(thetas[1], thetas[0]) < 1e-3


def test_the_caller_s_array_may_be_used_again(rng):
    x, targets = rng.standard_normal((T, D)), rng.standard_normal((T, K))
    one, two, row = network(), network(), np.empty(D)
    wanted, ekf, found = rc.EKF(one).run(x, targets), rc.EKF(two), []
    for now, target in zip(x, targets, strict=True):
        row[...] = now
        found.append(ekf.step(row, target))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda ekf: pickle.loads(pickle.dumps(ekf))], ids=["copy", "pickle"])
def test_a_copy_goes_on_by_itself(rng, twin):
    x, targets = rng.standard_normal((2 * T, D)), rng.standard_normal((2 * T, K))
    ekf = rc.EKF(network())
    ekf.run(x[:T], targets[:T])
    before, other = ekf.net.theta.copy(), twin(ekf)
    theirs = other.run(x[T:], targets[T:])
    np.testing.assert_array_equal(ekf.net.theta, before)
    np.testing.assert_array_equal(ekf.run(x[T:], targets[T:]), theirs)
    np.testing.assert_array_equal(ekf.net.theta, other.net.theta)


@pytest.mark.parametrize("coupling", ["global", "layer", "node"])
def test_it_learns_in_one_pass(rng, coupling):
    """A nonlinear system with a memory, y = tanh(x_t + x_{t-1}·x_{t-2}): no linear one explains three quarters."""
    x = rng.uniform(-1, 1, (1502, D))
    wanted = np.tanh(x[2:, :1] + x[1:-1, :1] * x[:-2, :1])
    targets = np.hstack([wanted, -wanted])
    ekf = rc.EKF(network("recurrent outputs"), window=5, coupling=coupling, measurement_noise=10.0)
    error = ((ekf.run(x[2:], targets) - targets) ** 2).mean(axis=1)
    assert error[-300:].mean() < 0.15 * wanted.var()


def test_divergence_is_an_error(rng):
    net = network()
    ekf = rc.EKF(net)
    net.theta[0] = np.nan
    with pytest.raises(FloatingPointError, match="diverged"):
        ekf.step(rng.standard_normal(D), rng.standard_normal(K))
    assert ekf.updates == 0


def test_networks_of_another_kind_are_refused():
    elman = lambda **options: rc.Recurrent("elman", D, 4, **options)  # noqa: E731
    for layers, head, options in [
        (elman(bidirectional=True), rc.SquaredError(K), {}),
        (elman(reverse=True), rc.SquaredError(K), {}),
        (elman(truncate=3), rc.SquaredError(K), {}),
        (elman(dropout=0.1), rc.SquaredError(K), {}),
        (elman(), rc.Softmax(K), {}),
        (elman(), rc.SquaredError(K), {"readout": "last"}),
        (elman(), rc.SquaredError(K), {"skip": 3}),
        (elman(), rc.SquaredError(K), {"embedding": rc.Embedding(5, D)}),
    ]:
        with pytest.raises(ValueError, match="EKF"):
            rc.EKF(rc.Network(layers, head=head, **options))
    with pytest.raises(ValueError, match="Network"):
        rc.EKF(elman())


@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"coupling": "some"},
        {"covariance": 0.0},
        {"process_noise": -1.0},
        {"measurement_noise": 0.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        rc.EKF(network(), **options)


def test_arrays_of_wrong_shape_are_refused():
    ekf = rc.EKF(network())
    for x, target in [
        (np.zeros(D + 1), None),
        (np.zeros((2, 2, D)), None),
        (np.zeros((0, D)), None),
        (np.zeros(D), np.zeros(3)),
        (np.zeros((2, D)), np.zeros(K)),
    ]:
        with pytest.raises(ValueError, match="must have shape"):
            ekf.step(x, target)
    with pytest.raises(ValueError, match="must have shape"):
        ekf.run(np.zeros((T, D)), np.zeros((T - 1, K)))
    with pytest.raises(RuntimeError, match="first"):
        ekf.jacobian()
    ekf.step(np.zeros((2, D)))
    with pytest.raises(ValueError, match="reset"):
        ekf.step(np.zeros((3, D)))
    with pytest.raises(ValueError, match="list of 2"):
        ekf.reset([None])
