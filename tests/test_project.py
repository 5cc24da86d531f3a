"""Heads without a projection (`project=False`): the scores are the first outputs as they are."""

import pickle

import numpy as np
import pytest
import reference as ref
import twins
from covering import covering_cases

import rnncore as rc

T, B, D, H = 5, 3, 4, 3
OPTIONS = {
    "kind": ["softmax", "squared", "sigmoid"],
    "K": [1, 2, 3, 4, 6],  # 4 and 6 reach into the second direction's outputs
    "readout": ["every", "last", "mean", "max"],
    "direction": ["fwd", "reverse", "concat", "sum"],
    "cell": ["elman", "lstm", "gru"],
    "depth": [1, 2],
    "ragged": [False, True],
    "output_dropout": [0.0, 0.4],
}


def allowed(case):
    return case["K"] <= (2 * H if case["direction"] == "concat" else H)


CASES = covering_cases(OPTIONS, allowed)


def random_targets(rng, head, readout):
    return head.random_targets(rng, (T, B) if readout == "every" else (B,))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_loss_gradient_and_prediction(case):
    rng = np.random.default_rng(CASES.index(case))
    head, readout = ref.Head(case["kind"], case["K"], project=False), case["readout"]
    net = ref.Stack(D, H, case["depth"], case["direction"], cell=case["cell"])
    params = twins.random_params(net, head, rng)
    dropout = {"output_dropout": case["output_dropout"]} if case["output_dropout"] else {}
    made = twins.network(net, head, readout, params, **dropout)
    assert not [name for name in made.params if name.startswith("head.")]
    x, targets = rng.standard_normal((T, B, D)), random_targets(rng, head, readout)
    lengths = twins.random_lengths(rng, T, B) if case["ragged"] else np.full(B, T)
    masks = twins.DropoutProbe(net, T, B, lengths, **dropout).masks() if dropout else {}

    made.dropout_step = 7
    loss = made.loss_and_grad(x, targets, lengths=lengths)
    assert loss == pytest.approx(ref.loss(net, head, readout, params, x, targets, lengths, masks=masks), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, readout, a, x, targets, lengths, masks=masks), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name

    z, _ = ref.scores(net, readout, params, x, lengths)
    predicted = made.predict(x, lengths=lengths)
    counted = np.arange(T)[:, None] < lengths if readout == "every" else slice(None)
    wanted = ref.link(head.kind, z[..., : head.K])
    np.testing.assert_allclose(predicted[counted], wanted[counted], rtol=1e-12, atol=1e-14)


def test_squared_error_compares_the_outputs_themselves():
    """To the bit, in both precisions: the predictions are the layer's outputs."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((T, B, D))
    for dtype in ("float32", "float64"):
        layer = rc.Recurrent("elman", D, 20, dtype=dtype)
        alone = rc.Recurrent("elman", D, 20, dtype=dtype)
        net = rc.Network(layer, head=rc.SquaredError(17, project=False))
        y, _ = alone.forward(x.astype(dtype), training=False)
        np.testing.assert_array_equal(net.predict(x), y[:, :, :17])


def test_sparse_features_are_added_to_the_outputs():
    rng = np.random.default_rng(2)
    head, net, N = ref.Head("squared", 2, project=False), ref.Stack(D, H), 5
    made = rc.Network(twins.layer(net), head=head.make(rc), skip=N)
    params = net.random_params(rng) | {"head.W_skip": rng.standard_normal((N, 2))}
    twins.fill(made, params)
    x = (rng.standard_normal((T, B, D)), rng.integers(-1, N, (T, B, 3)), rng.standard_normal((T, B, 3)))
    targets, lengths = rng.standard_normal((T, B, 2)), twins.random_lengths(rng, T, B)
    loss = made.loss_and_grad(x, targets, lengths=lengths)
    assert loss == pytest.approx(ref.loss(net, head, "every", params, x, targets, lengths), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-12, name


def test_a_crf_over_the_outputs():
    rng = np.random.default_rng(3)
    head, net = ref.Head("crf", 3, project=False), ref.Stack(D, 2, direction="concat")
    params = twins.random_params(net, head, rng)
    made = twins.network(net, head, params=params)
    assert {name for name in made.params if name.startswith("head.")} == {"head.transitions", "head.start", "head.end"}
    x, targets = rng.standard_normal((T, B, D)), rng.integers(0, 3, (T, B))
    lengths = twins.random_lengths(rng, T, B)
    loss = made.loss_and_grad(x, targets, lengths=lengths)
    assert loss == pytest.approx(ref.loss(net, head, "every", params, x, targets, lengths), rel=1e-13)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-11, name
    paths, scores = made.decode(x, lengths=lengths)
    assert paths.shape == (T, B)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_every_optimizer_trains_it(name):
    rng = np.random.default_rng(4)
    net = rc.Network(rc.Recurrent("elman", D, 8, random_state=1), head=rc.SquaredError(2, project=False))
    x = rng.standard_normal((T, B, D)).astype(np.float32)
    targets = 0.5 * np.tanh(x[:, :, :2])
    opt = rc.OPTIMIZERS[name]() if name == "adadelta" else rc.OPTIMIZERS[name](learning_rate=0.01)
    losses = [net.train_step(x, targets, opt) for _ in range(100)]
    assert losses[-1] < losses[0]


def test_ranges_copies_pickles_and_gradcheck():
    rng = np.random.default_rng(5)
    net = rc.Network(rc.Recurrent("gru", D, 6), head=rc.Softmax(4, project=False))
    ranges = net.update_ranges(lazy=True)
    assert ranges[:, 1].sum() == net.theta.size
    x, targets = rng.standard_normal((T, B, D)), rng.integers(0, 4, (T, B))
    twin = net.copy("float64")
    assert twin.head == net.head
    np.testing.assert_allclose(twin.predict(x), net.predict(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict(x), net.predict(x))
    assert max(rc.gradcheck(net, x, targets, lengths=[5, 1, 3]).values()) < 1e-6


def test_threads_change_no_bit():
    rng = np.random.default_rng(6)
    x, targets = rng.standard_normal((20, 32, 40)).astype(np.float32), rng.standard_normal((20, 32, 50))
    lengths = twins.random_lengths(rng, 20, 32)
    results = []
    for threads in (1, 3):
        layer = rc.Recurrent("elman", 40, 64, n_threads=threads)
        net = rc.Network(layer, head=rc.SquaredError(50, project=False))
        loss = net.loss_and_grad(x, targets, lengths=lengths)
        results.append(np.append(net.grad, np.float32(loss)))
    twins.assert_same_bits(*results)


def test_more_outputs_than_the_layer_has_are_refused():
    with pytest.raises(ValueError, match=r"4 outputs with project=False .* gives 3"):
        rc.Network(rc.Recurrent("elman", D, 3), head=rc.SquaredError(4, project=False))
    rc.Network(rc.Recurrent("elman", D, 3, bidirectional=True), head=rc.SquaredError(4, project=False))


def test_memory_counts_no_packed_projection():
    made = rc.Network(rc.Recurrent("elman", D, 16), head=rc.SquaredError(16, project=False))
    other = rc.Network(rc.Recurrent("elman", D, 16), head=rc.SquaredError(16))
    for net in (made, other):
        net.predict(np.zeros((T, B, D)))
    assert made.memory()["packed"] < other.memory()["packed"]
