"""Sparse features with direct weights to the scores: every head, gradients, rows touched and updated, threads."""

import pickle

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B, K, F, N = 5, 4, 3, 6, 11
HEADS = ["softmax", "squared", "sigmoid", "crf"]
INPUTS = ["dense", "ids", "bags", "embedded ids"]


def features(rng, size=N, shape=(T, B, F)):
    """Bags of ids, some places empty, some ids twice in a bag."""
    return np.where(rng.random(shape) < 0.7, rng.integers(0, size, shape), -1)


def make(head: ref.Head, rng, kind="dense", direction="concat", dtype="float64", **options):
    """A network with sparse features, and its numbers under the reference's names."""
    embedded = kind.startswith("embedded")
    net = ref.Stack(4 if embedded or kind == "dense" else 7, 2, direction=direction)
    params = twins.random_params(net, head, rng, 7 if embedded else None)
    params["head.W_skip"] = 0.5 * rng.standard_normal((N, K))
    inner = twins.layer(net, dtype=dtype, **options)
    made = rc.Network(inner, head.make(rc), embedding=rc.Embedding(7, 4) if embedded else None, skip=N)
    twins.fill(made, params)
    return made, net, params


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("kind_of_head", HEADS)
def test_loss_and_gradients(kind_of_head, kind, values):
    rng = np.random.default_rng(1)
    head = ref.Head(kind_of_head, K)
    made, net, params = make(head, rng, kind, ["fwd", "reverse", "concat", "sum"][INPUTS.index(kind)])
    inputs = twins.random_input(
        rng, kind.removeprefix("embedded "), T, B, made.layers[0].input_size if kind == "dense" else 7
    )
    lengths, targets = twins.random_lengths(rng, T, B), head.random_targets(rng, (T, B))
    x = (inputs, features(rng), rng.standard_normal((T, B, F))) if values else (inputs, features(rng))
    value = made.loss_and_grad(x, targets, lengths)
    assert value == pytest.approx(ref.loss(net, head, "every", params, x, targets, lengths), rel=1e-12)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-11, name
    assert max(rc.gradcheck(made, x, targets, lengths).values()) < 1e-6


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", HEADS)
def test_predictions(kind, dtype):
    rng = np.random.default_rng(2)
    head = ref.Head(kind, K)
    made, net, params = make(head, rng, dtype=dtype)
    x = (rng.standard_normal((T, B, 4)).astype(dtype), features(rng))
    z, _ = ref.scores(net, "every", params, x)
    if kind == "crf":
        chain = ref.Chain.of(params)
        for b in range(B):
            best = made.decode(x)[0][:, b]
            for t in range(T):
                assert all(chain.score(z[:, b], [*best[:t], k, *best[t + 1 :]]) <= chain.score(z[:, b], best) + 1e-5
                           for k in range(K))  # fmt: skip
        return
    np.testing.assert_allclose(
        made.predict(x), ref.link(kind, z), rtol={"float32": 1e-4, "float64": 1e-12}[dtype], atol=1e-6
    )


def test_weights_begin_at_zero_and_change_nothing():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((T, B, 4)).astype("f")
    plain = rc.Network(rc.Recurrent("elman", 4, 5), head=rc.Softmax(K))
    more = rc.Network(rc.Recurrent("elman", 4, 5), head=rc.Softmax(K), skip=N)
    assert not more.params["head.W_skip"].any()
    for name in plain.params:
        np.testing.assert_array_equal(plain.params[name], more.params[name])
    np.testing.assert_allclose(plain.predict(x), more.predict((x, features(rng))), rtol=1e-5)


@pytest.mark.parametrize("lazy", [False, True])
def test_only_rows_that_were_met_are_updated(lazy):
    rng = np.random.default_rng(4)
    net, *_ = make(ref.Head("crf", K), rng)
    opt = rc.Adam(learning_rate=0.1, weight_decay=0.1, lazy=lazy)
    x, targets = rng.standard_normal((T, B, 4)), rng.integers(0, K, (T, B))
    for low, high in ((0, 3), (5, 8), (2, 6)):
        before = net.params["head.W_skip"].copy()
        ids = features(rng, high - low)
        ids[ids >= 0] += low
        ids[0, 0, 0] = high - 1
        net.train_step((x, ids), targets, opt)
        met = np.unique(ids[ids >= 0])
        others = np.setdiff1d(np.arange(N), met)
        ranges = net.update_ranges(lazy)
        assert not net.grads["head.W_skip"][others].any()
        assert not lazy or len(net.update_ranges(True)) < len(ranges)  # who reads may write: now any row is visited
        changed = np.flatnonzero((net.params["head.W_skip"] != before).any(axis=1))
        np.testing.assert_array_equal(changed, met if lazy else np.arange(N))
        assert (np.diff(ranges[:, 0]) > 0).all()
        start = net.layout.starts["head.W_skip"]
        rows = ranges[ranges[:, 0] >= start] if lazy else None
        if lazy:
            np.testing.assert_array_equal((rows[:, 0] - start) // K, met)
            assert ranges[:, 1].sum() == net.theta.size - len(others) * K


def test_symbols_and_features_are_both_lazy():
    rng = np.random.default_rng(5)
    net, *_ = make(ref.Head("softmax", K), rng, "ids")
    before = net.theta.copy()
    net.train_step((np.full((T, B), 3), np.full((T, B, 1), 8)), rng.integers(0, K, (T, B)), rc.SGD(learning_rate=0.5))
    after = net.layout.views(net.theta)
    before = net.layout.views(before)
    for name, row in (("layers.0.fwd.W_xh", 3), ("layers.0.bwd.W_xh", 3), ("head.W_skip", 8)):
        assert np.flatnonzero((after[name] != before[name]).any(axis=1)).tolist() == [row]


def test_gradients_add_up_over_batches_with_different_features():
    rng = np.random.default_rng(6)
    net, *_ = make(ref.Head("softmax", K), rng)
    x, targets = rng.standard_normal((T, B, 4)), rng.integers(0, K, (T, B))
    one, other = features(rng, 4), features(rng)
    total = np.zeros_like(net.grad)
    for ids in (one, other):
        net.loss_and_grad((x, ids), targets)
        total += net.grad
    net.loss_and_grad((x, one), targets)
    net.loss_and_grad((x, other), targets, accumulate=True)
    met = np.unique(np.concatenate([one[one >= 0], other[other >= 0]]))
    assert net.update_ranges(True)[:, 1].sum() == net.theta.size - (N - len(met)) * K
    np.testing.assert_allclose(net.grad, total, rtol=1e-13, atol=1e-16)


def test_no_features_at_all_and_padding():
    rng = np.random.default_rng(7)
    net, *_ = make(ref.Head("crf", K), rng)
    x, targets, lengths = rng.standard_normal((T, B, 4)), rng.integers(0, K, (T, B)), [5, 2, 1, 3]
    nothing = net.loss_and_grad((x, np.full((T, B, F), -1)), targets, lengths)
    assert net.loss_and_grad((x, np.empty((T, B, 0), int)), targets, lengths) == nothing
    assert not net.grads["head.W_skip"].any()
    ids = features(rng)
    wanted = net.loss_and_grad((x, ids), targets, lengths)
    beyond = ids.copy()
    beyond[np.arange(T)[:, None] >= np.array(lengths)] = 10**9
    assert net.loss_and_grad((x, beyond), targets, lengths) == wanted


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_gives_the_same_bits(dtype):
    def train(n_threads):
        rng = np.random.default_rng(8)
        net = rc.Network(rc.Recurrent("elman", 4, 8, dtype=dtype, n_threads=n_threads), head=rc.CRF(70), skip=500)
        opt = rc.Adam(learning_rate=0.01)
        for _ in range(3):
            x = rng.standard_normal((9, 40, 4)).astype(dtype), features(rng, 500, (9, 40, 30))
            net.train_step(x, rng.integers(0, 70, (9, 40)), opt, lengths=rng.integers(1, 10, 40))
        return net.theta.copy()

    wanted = train(1)
    for n in (2, 3, 8):
        twins.assert_same_bits(wanted, train(n))


def test_copies_and_pickles():
    rng = np.random.default_rng(9)
    net, *_ = make(ref.Head("crf", K), rng)
    x = rng.standard_normal((T, B, 4)), features(rng)
    for twin in (net.copy(), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(net.predict(x), twin.predict(x))
    old = net.__getstate__()
    old.pop("skip")
    plain = rc.Network(rc.Recurrent("elman", 4, 5), head=rc.Softmax(K))
    state = plain.__getstate__()
    del state["skip"]  # as it was before there were sparse features
    again = object.__new__(rc.Network)
    again.__setstate__(state)
    assert again.skip == 0


def test_learns_what_only_a_feature_tells():
    rng = np.random.default_rng(10)
    ids = rng.integers(0, N, (T, 50, 1))
    net = rc.Network(rc.Recurrent("elman", 2, 2), head=rc.Softmax(2), skip=N)
    x = np.zeros((T, 50, 2), dtype="f"), ids
    opt = rc.Adam(learning_rate=0.3)
    losses = [net.train_step(x, ids[:, :, 0] % 2, opt) for _ in range(60)]
    assert losses[-1] < 0.01 < losses[0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda x, ids: x, r"x must be a tuple \(x, ids\)"),
        (lambda x, ids: (x,), r"x must be a tuple \(x, ids\)"),
        (lambda x, ids: (x, ids[0]), r"shape \(5, 4, 'F'\)"),
        (lambda x, ids: (x, ids[:2]), r"shape \(5, 4, 'F'\)"),
        (lambda x, ids: (x, ids * 1.0), "whole numbers"),
        (lambda x, ids: (x, ids + 1), "ids must lie between -1"),
        (lambda x, ids: (x, ids - 1), "ids must lie between -1"),
        (lambda x, ids: (x, ids, np.ones((T, B))), "must have the shape of their ids"),
    ],
)
def test_wrong_input(x, message):
    rng = np.random.default_rng(11)
    net, *_ = make(ref.Head("softmax", K), rng)
    ids = features(rng)
    ids[0, 0, :2] = [N - 1, -1]
    with pytest.raises(ValueError, match=message):
        net.predict(x(rng.standard_normal((T, B, 4)), ids))


def test_wrong_networks():
    plain = rc.Network(rc.Recurrent("elman", 4, 5), head=rc.Softmax(K))
    with pytest.raises(ValueError, match="this network has no sparse features"):
        plain.predict((np.zeros((T, B, 4)), np.zeros((T, B, 1), int)))
    with pytest.raises(ValueError, match="pooling='every'"):
        rc.Network(rc.Recurrent("elman", 4, 5), head=rc.Softmax(K), readout="mean", skip=3)
    with pytest.raises(ValueError, match="skip must be a whole number"):
        rc.Network(rc.Recurrent("elman", 4, 5), head=rc.Softmax(K), skip=-1)
