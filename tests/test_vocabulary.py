"""Heads of many classes: scores by blocks of rows, losses without training."""

import numpy as np
import pytest
import twins

import rnncore as rc

K, H, T, B = 12_000, 8, 20, 15  # 300 rows, in blocks of 96
LENGTHS = np.array([20, 3, 20, 17, 1, 20, 9, 20, 20, 12, 20, 20, 5, 20, 19])


def network(dtype="float64", head=None, skip=0, **options):
    layer = rc.Recurrent("elman", 4, H, dtype=dtype, **options)
    return rc.Network(layer, head=head or rc.Softmax(K), skip=skip)


def batch(dtype="float64", seed=0, classes=K):
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, classes, (T, B))
    targets[0, :3] = -1
    return rng.standard_normal((T, B, 4)).astype(dtype), targets


def losses_by_hand(scores, targets, class_weight=None, smoothing=0.0):
    """Of each place, and the scores' gradient of their sum."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    classes = scores.shape[-1]
    w = np.ones(classes) if class_weight is None else np.asarray(class_weight)
    q = (1 - smoothing) * (targets[..., None] == np.arange(classes)) + smoothing / classes
    q = np.where(targets[..., None] >= 0, q * w, 0)
    return -(q * log_p).sum(axis=-1), q.sum(axis=-1, keepdims=True) * np.exp(log_p) - q


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_blocks_of_rows_give_the_gradient_of_the_whole(lengths, smoothing):
    rng = np.random.default_rng(1)
    class_weight = rng.random(K)
    net = network(head=rc.Softmax(K, class_weight=class_weight, label_smoothing=smoothing), bidirectional=True)
    x, targets = batch()
    weights = rng.random((T, B))
    loss = net.loss_and_grad(x, targets, lengths, sample_weight=weights)
    found = net.grad.copy()
    inside = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    scores, _ = net.forward(x, lengths)
    losses, dscores = losses_by_hand(scores, np.where(inside, targets, -1), class_weight, smoothing)
    total = class_weight[targets[inside & (targets >= 0)]].sum()
    net.backward(dscores * weights[..., None] / total)
    assert loss == pytest.approx((losses * weights).sum() / total, rel=1e-12)
    assert np.allclose(found, net.grad, rtol=1e-9, atol=1e-15)
    assert net.loss(x, targets, lengths, sample_weight=weights) == loss


def test_scores_of_all_rows_are_never_there():
    net = network("float32")
    x, targets = batch("float32")
    net.loss_and_grad(x, targets)
    assert net.memory()["tape_and_scratch"] < T * B * K * 4 / 2
    fresh = network("float32")
    fresh.loss(x, targets)
    assert fresh.memory()["tape_and_scratch"] < T * B * K * 4 / 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("accumulate", [False, True])
def test_blocks_change_no_bit(dtype, accumulate):
    """A head that sparse features add to takes all rows at once."""
    net, whole = network(dtype), network(dtype, skip=1)
    whole.theta[: net.theta.size] = net.theta
    x, targets = batch(dtype)
    for threads in (1, 2, 3):
        net.n_threads = threads
        for one, given in ((net, x), (whole, (x, np.full((T, B, 1), -1)))):
            one.zero_grad()
            loss = one.loss_and_grad(given, targets, LENGTHS, accumulate=accumulate)
            if accumulate:
                loss = one.loss_and_grad(given, targets, LENGTHS, accumulate=True)
        assert loss == twins.same_loss(net.loss(x, targets, LENGTHS))
        twins.assert_same_bits(net.grad, whole.grad[: net.grad.size])


@pytest.mark.parametrize("accumulate", [False, True])
def test_sums_over_very_many_rows_stay_exact_over_blocks(accumulate):
    """Sums over more than 32768 rows are joined in double, also where the rows come in blocks."""
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((200, 200, 1)).astype("float32"), rng.integers(0, 64, (200, 200))
    layer = {"truncate": 1}
    nets = [
        rc.Network(rc.Recurrent("elman", 1, 2, **layer), head=rc.Softmax(64, label_smoothing=0.5), skip=skip)
        for skip in (0, 1)
    ]
    for net, given in zip(nets, (x, (x, np.full((200, 200, 1), -1))), strict=True):
        for _ in range(1 + accumulate):
            net.loss_and_grad(given, targets, accumulate=accumulate)
    twins.assert_same_bits(nets[0].grads["head.W_hy"], nets[1].grads["head.W_hy"])
    twins.assert_same_bits(nets[0].grads["head.b_y"], nets[1].grads["head.b_y"])


def test_parts_of_a_batch_add_up():
    net = network()
    x, targets = batch()
    whole = net.loss_and_grad(x, targets, LENGTHS)
    wanted = net.grad.copy()
    total = net.batch_weight(targets, LENGTHS)
    parts = []
    for some in (slice(0, 7), slice(7, B)):
        steps = LENGTHS[some].max()
        parts.append(
            net.loss_and_grad(
                *(x[:steps, some], targets[:steps, some], LENGTHS[some]), divisor=total, accumulate=some.start > 0
            )
        )
    assert sum(parts) == pytest.approx(whole, rel=1e-12)
    assert np.allclose(net.grad, wanted, rtol=1e-9, atol=1e-15)


# -------------------------------------------------------------------- losses without training


HEADS = {
    "softmax": (rc.Softmax(3, class_weight=[1, 2, 0.5], label_smoothing=0.1), "classes"),
    "squared": (rc.SquaredError(3), "numbers"),
    "sigmoid": (rc.SigmoidCrossEntropy(3), "flags"),
    "crf": (rc.CRF(3, class_weight=[1, 2, 0.5]), "classes"),
    "direct": (rc.Softmax(3, project=False), "classes"),
}


def small_batch(kind, pooled, seed=0):
    rng = np.random.default_rng(seed)
    shape = (6,) if pooled else (5, 6)
    targets = {
        "classes": rng.integers(0 if pooled else -1, 3, shape),
        "numbers": rng.standard_normal((*shape, 3)),
        "flags": rng.random((*shape, 3)),
    }[kind]
    return rng.standard_normal((5, 6, 4)), targets, np.array([5, 1, 4, 5, 2, 3])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("pooling", ["every", "last", "mean", "max", "attention"])
@pytest.mark.parametrize("name", HEADS)
def test_loss_is_that_of_a_training_call(name, pooling, batch_first):
    head, kind = HEADS[name]
    if name == "crf" and pooling != "every":
        pytest.skip("a CRF sees every step")
    net = rc.Network(rc.Recurrent("gru", 4, 5, dtype="float64"), head=head, pooling=pooling, batch_first=batch_first)
    x, targets, lengths = small_batch(kind, pooling != "every")
    if batch_first:
        x, targets = x.swapaxes(0, 1), targets if pooling != "every" else targets.swapaxes(0, 1)
    weights = np.random.default_rng(1).random(6)
    trained = net.loss_and_grad(x, targets, lengths, sample_weight=weights)
    grad, step, theta = net.grad.copy(), net.dropout_step, net.theta.copy()
    loss, state = net.loss(x, targets, lengths, sample_weight=weights, return_state=True)
    assert loss == trained and isinstance(loss, float)
    assert np.array_equal(state[0], net.state[0])
    assert np.array_equal(grad, net.grad) and step == net.dropout_step and np.array_equal(theta, net.theta)


def test_loss_knows_no_dropout():
    net = rc.Network(rc.Recurrent("gru", 4, 5, input_dropout=0.5), head=rc.Softmax(3))
    x, targets, lengths = small_batch("classes", False)
    p = net.predict(x, lengths).astype(float)
    counted = (targets >= 0) & (np.arange(5)[:, None] < lengths)
    log_p = np.log(np.where(counted, np.take_along_axis(p, np.maximum(targets, 0)[..., None], -1)[..., 0], 1))
    assert net.loss(x, targets, lengths) == pytest.approx(-log_p[counted].mean(), rel=1e-6)
    found = net.log_likelihood(x, targets, lengths)
    assert np.allclose(found, np.where(counted, log_p, 0), rtol=1e-5) and found.dtype == np.float64


def test_loss_of_several_heads_is_their_weighted_sum():
    heads = {"tags": rc.CRF(3), "kind": rc.Softmax(3, pooling="mean")}
    net = rc.Network(rc.Recurrent("gru", 4, 5), heads=heads, loss_weights={"kind": 0.3})
    x, tags, lengths = small_batch("classes", False)
    kinds = small_batch("classes", True)[1]
    for targets in ({"tags": np.maximum(tags, 0), "kind": kinds}, {"kind": kinds}):
        assert net.loss(x, targets, lengths) == pytest.approx(net.loss_and_grad(x, targets, lengths), rel=1e-6)
    with pytest.raises(ValueError, match=r"log_likelihood needs heads .* not crf"):
        net.log_likelihood(x, {"tags": tags}, lengths)


def test_loss_of_a_head_of_ones_own():
    class Absolute(rc.CustomHead):
        def loss_and_grad(self, scores, targets, lengths):
            return abs(scores - targets).mean(), np.sign(scores - targets) / scores.size

    net = rc.Network(rc.Recurrent("gru", 4, 5), head=Absolute(3))
    x, targets, _ = small_batch("numbers", False)
    assert net.loss(x, targets) == pytest.approx(net.loss_and_grad(x, targets), rel=1e-6)


def test_chunks_with_carried_state_are_the_whole():
    net = network("float32")
    x, targets = batch("float32")
    whole = net.log_likelihood(x, targets)
    first, state = net.log_likelihood(x[:7], targets[:7], return_state=True)
    chunks = np.vstack([first, net.log_likelihood(x[7:], targets[7:], state=state)])
    assert np.array_equal(chunks, whole) if twins.native_products() else np.allclose(chunks, whole, rtol=1e-5)
    sums, state = 0.0, None
    for some in (slice(0, 7), slice(7, T)):
        loss, state = net.loss(x[some], targets[some], state=state, return_state=True)
        sums += loss * net.batch_weight(targets[some])
    assert sums == pytest.approx(-whole.sum(), rel=1e-9)


def test_log_likelihood_leaves_weights_and_smoothing_out():
    plain, other = network(), network(head=rc.Softmax(K, class_weight=np.full(K, 0.5), label_smoothing=0.3))
    other.theta[:] = plain.theta
    x, targets = batch()
    found = plain.log_likelihood(x, targets, LENGTHS)
    assert np.array_equal(other.log_likelihood(x, targets, LENGTHS), found)
    assert other.loss(x, targets, LENGTHS) == other.loss_and_grad(x, targets, LENGTHS)  # and come back
    outside = np.arange(T)[:, None] >= LENGTHS
    assert (found[outside] == 0).all() and (found[targets == -1] == 0).all()
    assert (found[~outside & (targets >= 0)] < 0).all()


def test_nothing_counted_costs_nothing():
    net = network()
    x, _ = batch()
    nothing = np.full((T, B), -1)
    assert net.loss(x, nothing) == 0 and not net.log_likelihood(x, nothing).any()


@pytest.mark.parametrize("ask", ["loss", "log_likelihood"])
def test_bad_targets_are_refused(ask):
    net = network()
    x, targets = batch()
    targets[4, 2] = K - 1
    with pytest.raises(ValueError, match="targets"):
        getattr(net, ask)(x, targets + 5)
    with pytest.raises(ValueError, match="shape"):
        getattr(net, ask)(x, targets[:-1])


@pytest.mark.parametrize(
    "head", [rc.Softmax(K), rc.AdaptiveSoftmax(K), rc.SampledSoftmax(K)], ids=lambda head: head.name
)
def test_validation_asks_for_the_targets_alone(head):
    net = network("float32", head=head)
    net.predict = None  # would need all classes' probabilities
    x, targets = batch("float32")
    trainer = rc.Trainer(
        net, rc.SGD(1e-9), [(x, targets, LENGTHS)], max_epochs=1, validation=[(x, targets, LENGTHS)]
    ).run()
    assert trainer.history[-1]["val_loss"] == pytest.approx(net.loss(x, targets, LENGTHS), rel=1e-9)


# -- few rows, many scores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    ("outputs", "hidden", "steps", "options"),
    [
        (1024, 40, 12, {}),
        (1100, 31, 5, {}),
        (1217, 24, 1, {}),
        (1500, 64, 30, {}),
        (1030, 20, 40, {}),
        (1024, 1100, 2, {}),
        (1100, 24, 7, {"bidirectional": True}),
    ],
)
def test_weights_that_are_used_but_once(outputs, hidden, steps, options, n_threads):
    """Packed some columns at a time, and the smaller factor of dz: as by scores and gradients that are made outside."""
    rng = np.random.default_rng(outputs)
    layer = rc.Recurrent("gru", 5, hidden, dtype="float64", n_threads=n_threads, **options)
    net = rc.Network(layer, head=rc.Softmax(outputs))
    x, y = rng.standard_normal((steps, 2, 5)), rng.integers(0, outputs, (steps, 2))
    lengths = np.array([steps, max(1, steps // 2)])
    scores, _ = net.forward(x, lengths)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    inside = np.arange(steps)[:, None] < lengths
    expected = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0][inside]).mean()
    np.put_along_axis(p, y[..., None], np.take_along_axis(p, y[..., None], -1) - 1, -1)
    net.backward(p * inside[..., None] / lengths.sum())
    outside = net.grad.copy()
    for _ in range(2):
        assert net.loss_and_grad(x, y, lengths) == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(net.grad, outside, rtol=1e-9, atol=1e-14)
    assert net.loss(x, y, lengths) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_rows_have_the_bits_of_many(dtype):
    """Sequences alone, whose weights are packed as they are used, and as part of a batch that packs them before."""
    net = rc.Network(rc.Recurrent("elman", 4, 60, dtype=dtype), head=rc.Softmax(1050))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 60, 4)).astype(dtype), rng.integers(0, 1050, (3, 60))
    together = net.log_likelihood(x, y)
    alone = np.concatenate([net.log_likelihood(x[:, b : b + 1], y[:, b : b + 1]) for b in range(60)], axis=1)
    assert np.array_equal(together, alone) if twins.native_products() else np.allclose(together, alone, rtol=1e-5)
