"""What one call leaves behind decides nothing in the next: known cases, and a fixed sample of the net in calls.py."""

import copy
import pickle

import calls
import numpy as np
import pytest

import rnncore as rc

kernels = pytest.mark.kernels


@pytest.mark.parametrize("first", [*(pytest.param(n, marks=kernels) for n in range(0, 80, 20)), *range(80, 240, 20)])
def test_random_calls_equal_those_of_fresh_objects(first):
    """Longer: python tests/calls.py --calls 100000."""
    for seed in range(first, first + 20):
        assert calls.run_sequence(seed) == calls.CALLS


class Keeps(rc.Recurrent):
    """A layer that goes on from the state before where none is given."""

    def forward(self, x, state=None, **options):
        before = getattr(self, "before", None)
        if state is None and before is not None and before[0].shape[1] == np.shape(x)[1]:
            state = before
        y, self.before = super().forward(x, state, **options)
        return y, self.before


class CallsOfKeeps(calls.LayerCalls):
    def build(self):
        return Keeps(**self.options)


@kernels
def test_the_net_catches_what_an_earlier_call_left():
    caught = 0
    for seed in range(40):
        try:
            CallsOfKeeps(seed).run(calls.CALLS)
        except calls.DiffersError:
            caught += 1
    assert caught >= 4


@kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_full_batch_after_a_ragged_one_is_dropped_out(dtype):
    """The places of both batches' arrays may coincide; that says nothing about dropout."""
    x = np.random.default_rng(1).standard_normal((40, 6, 3)).astype(dtype)
    lengths = np.full(6, 40)
    lengths[2] = 1
    used, fresh = (rc.Recurrent("elman", 3, 8, input_dropout=0.3, dtype=dtype) for _ in range(2))
    used.forward(x, lengths=lengths)
    used.dropout_step = 0
    np.testing.assert_array_equal(used.forward(x)[0], fresh.forward(x)[0])
    np.testing.assert_array_equal(used.backward(np.ones((40, 6, 8)))[0], fresh.backward(np.ones((40, 6, 8)))[0])
    np.testing.assert_array_equal(used.grad, fresh.grad)


# ------------------------------------------------------------------------------------------------- rows of gradients

SYMBOLS, FEATURES, K = 9, 11, 3
IDS, MORE = np.array([[1, 4], [4, 2]]), np.array([[7, 2], [8, 8]])
TARGETS = np.array([[0, 2], [1, 1]])


def tagger(embedded=False, sparse=False, dtype="float64"):
    table = rc.Embedding(SYMBOLS, 5) if embedded else None
    layer = rc.Recurrent("gru", 5 if embedded else SYMBOLS, 4, dtype=dtype, bidirectional=True)
    return rc.Network(layer, head=rc.Softmax(K), embedding=table, skip=FEATURES if sparse else 0)


def gradient_of(net, *batch):
    twin = net.copy()
    twin.loss_and_grad(*batch)
    return twin.grad.copy()


def test_ids_after_dense_rows_after_ids():
    net = tagger()
    dense = np.random.default_rng(2).standard_normal((2, 2, SYMBOLS))
    for x in (IDS, dense, MORE, MORE, dense, IDS):
        net.loss_and_grad(x, TARGETS)
        np.testing.assert_array_equal(net._grad, gradient_of(net, x, TARGETS))


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("through", ["net", "views", "layer", "layer views"])
def test_rows_that_the_user_wrote_to_are_overwritten(embedded, through):
    net = tagger(embedded, sparse=True)
    batch = (IDS, MORE[..., None]), TARGETS
    net.loss_and_grad(*batch)
    if through == "net":
        net.grad += 1
    elif through == "layer":
        net.layers[0].grad[...] += 1
    else:
        views = net.grads if through == "views" else net.layers[0].grads
        for view in views.values():
            view += 1
    changed = net._grad.copy()
    net.train_step(*batch, rc.SGD(0.0))
    wanted = gradient_of(net, *batch)
    assert (changed != wanted).any()
    np.testing.assert_array_equal(net._grad, wanted)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
def test_a_step_visits_rows_that_the_user_wrote_to(lazy, embedded):
    net = tagger(embedded, sparse=True)
    net.loss_and_grad((IDS, MORE[..., None]), TARGETS)
    net.grad += 1
    wanted = net.theta - 0.5 * net._grad
    rc.SGD(0.5, lazy=lazy).step(net)
    np.testing.assert_allclose(net.theta, wanted, rtol=1e-15)


def test_a_prediction_does_not_change_which_rows_a_step_visits():
    net = tagger()
    net.loss_and_grad(np.random.default_rng(3).standard_normal((2, 2, SYMBOLS)), TARGETS)
    net.predict(IDS)
    wanted = net.theta - 0.5 * net._grad
    rc.SGD(0.5).step(net)
    np.testing.assert_allclose(net.theta, wanted, rtol=1e-15)


def test_a_step_visits_rows_to_which_a_layer_of_the_network_added():
    net = tagger()
    net.loss_and_grad(IDS, TARGETS)
    y, _ = net.layers[0].forward(MORE)
    net.layers[0].backward(np.ones_like(y))
    wanted = net.theta - 0.5 * net._grad
    rc.SGD(0.5).step(net)
    np.testing.assert_allclose(net.theta, wanted, rtol=1e-15)


def test_accumulated_rows_are_those_since_the_gradient_was_zeroed():
    net = tagger()
    net.loss_and_grad(MORE, TARGETS)
    net.zero_grad()
    net.loss_and_grad(IDS, TARGETS, accumulate=True)
    start = net.layout.starts["layers.0.fwd.W_xh"]
    visited = net.update_ranges(True)
    inside = visited[(visited[:, 0] >= start) & (visited[:, 0] < start + net.params["layers.0.fwd.W_xh"].size)]
    assert ((inside[:, 0] - start) // inside[:, 1]).tolist() == [1, 2, 4]


def test_a_pickled_network_knows_its_rows():
    net = tagger(sparse=True)
    net.loss_and_grad((IDS, MORE[..., None]), TARGETS)
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.update_ranges(True), net.update_ranges(True))
    for each in (net, twin):
        rc.Adam(0.1, weight_decay=0.1).step(each)
    np.testing.assert_array_equal(twin.theta, net.theta)


def test_a_shallow_copy_stands_on_its_own():
    net = tagger()
    twin = copy.copy(net)
    twin.theta[...] = 0
    assert net.theta.any() and np.shares_memory(net.layers[0].theta, net.theta)
    np.testing.assert_array_equal(net.layers[0].theta, net.theta[: net.layers[0].theta.size])
