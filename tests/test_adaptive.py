"""Adaptive softmax: against NumPy, PyTorch, central differences, and itself in other forms."""

import numpy as np
import peers
import pytest
import twins

import rnncore as rc

K, H, T, B = 50, 9, 7, 6
LENGTHS = np.array([7, 3, 7, 1, 5, 6])
CUTOFFS = (10, 20, 44)


def network(dtype="float64", pooling="every", cutoffs=CUTOFFS, shrink=2, classes=K, **options):
    head = rc.AdaptiveSoftmax(classes, cutoffs=cutoffs, shrink=shrink)
    return rc.Network(rc.Recurrent("gru", 4, H, dtype=dtype, **options), head=head, pooling=pooling)


def batch(dtype="float64", pooling="every", classes=K, seed=0):
    rng = np.random.default_rng(seed)
    shape = (T, B) if pooling == "every" else (B,)
    return rng.standard_normal((T, B, 4)).astype(dtype), rng.integers(-1, classes, shape)


def log_softmax(s):
    s = s - s.max(axis=-1, keepdims=True)
    return s - np.log(np.exp(s).sum(axis=-1, keepdims=True))


def log_probabilities(params, z, head=None, name="head"):
    """In NumPy, of all classes."""
    own = log_softmax(z @ params[f"{name}.W_hy"] + params[f"{name}.b_y"])
    clusters = sum(key.startswith(f"{name}.tails.") for key in params) // 2
    frequent = own.shape[-1] - clusters
    parts = [own[..., :frequent]]
    for i in range(clusters):
        within = log_softmax(z @ params[f"{name}.tails.{i}.P"] @ params[f"{name}.tails.{i}.W"])
        parts.append(own[..., frequent + i, None] + within)
    return np.concatenate(parts, axis=-1)


def outputs(net, x, lengths, pooling):
    """What the head sees, by a head that shows it."""
    width = sum(net.seen_parts)
    twin = rc.Network(net.layers[0].copy(), head=rc.SquaredError(width, project=False), pooling=pooling)
    return twin.predict(x, lengths)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["every", "last", "mean", "max"])
def test_probabilities_and_loss_are_those_of_the_equations(pooling, bidirectional, lengths):
    net = network(pooling=pooling, bidirectional=bidirectional)
    x, targets = batch(pooling=pooling)
    log_p = log_probabilities(net.params, outputs(net, x, lengths, pooling))
    p = net.predict(x, lengths)
    inside = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    inside = inside if pooling == "every" else np.ones(B, bool)
    assert np.allclose(p[inside], np.exp(log_p[inside]), rtol=1e-12) and not p[~inside].any()
    assert np.allclose(p[inside].sum(axis=-1), 1)
    own = np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    own = np.where(inside & (targets >= 0), own, 0)
    assert np.allclose(net.log_likelihood(x, targets, lengths), own, rtol=1e-12)
    weights = np.random.default_rng(1).random(own.shape)
    counted = (inside & (targets >= 0)).sum()
    loss = net.loss_and_grad(x, targets, lengths, sample_weight=weights)
    assert loss == pytest.approx(-(own * weights).sum() / counted, rel=1e-12)
    assert net.loss(x, targets, lengths, sample_weight=weights) == loss


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum"}])
@pytest.mark.parametrize("pooling", ["every", "last", "mean", "max", "attention"])
def test_gradients_are_central_differences(pooling, options):
    net = network(pooling=pooling, **options)
    x, targets = batch(pooling=pooling)
    weights = np.random.default_rng(2).random(targets.shape)
    net.loss_and_grad(x, targets, LENGTHS, sample_weight=weights)
    found = net.grad.copy()
    rng = np.random.default_rng(3)
    for name, start in net.layout.starts.items():
        size = net.params[name].size
        for i in start + rng.choice(size, min(size, 12), replace=False):
            loss, was = {}, net.theta[i]
            for step in (-1e-5, 1e-5):
                net.theta[i] = was + step
                loss[step] = net.loss(x, targets, LENGTHS, sample_weight=weights)
            net.theta[i] = was
            assert found[i] == pytest.approx((loss[1e-5] - loss[-1e-5]) / 2e-5, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("shrink", [1, 2])
def test_torch_agrees(shrink):
    torch = peers.peer("torch")
    net = network(shrink=shrink)
    x, targets = batch()
    targets = np.maximum(targets, 0)
    twin = torch.nn.AdaptiveLogSoftmaxWithLoss(H, K, list(CUTOFFS), div_value=shrink, head_bias=True).double()
    with torch.no_grad():
        twin.head.weight[...] = torch.from_numpy(net.params["head.W_hy"].T)
        twin.head.bias[...] = torch.from_numpy(net.params["head.b_y"])
        for i, tail in enumerate(twin.tail):
            tail[0].weight[...] = torch.from_numpy(net.params[f"head.tails.{i}.P"].T)
            tail[1].weight[...] = torch.from_numpy(net.params[f"head.tails.{i}.W"].T)
    z = torch.from_numpy(outputs(net, x, None, "every")).reshape(-1, H)
    found = twin(z, torch.from_numpy(targets.reshape(-1)))
    found.loss.backward()
    assert net.loss_and_grad(x, targets) == pytest.approx(found.loss.item(), rel=1e-12)
    assert np.allclose(net.log_likelihood(x, targets).reshape(-1), found.output.detach().numpy(), rtol=1e-11)
    assert np.allclose(np.log(net.predict(x)).reshape(-1, K), twin.log_prob(z).detach().numpy(), rtol=1e-11)
    assert np.allclose(net.grads["head.W_hy"], twin.head.weight.grad.T, rtol=1e-9, atol=1e-14)
    assert np.allclose(net.grads["head.b_y"], twin.head.bias.grad, rtol=1e-9, atol=1e-14)
    for i, tail in enumerate(twin.tail):
        assert np.allclose(net.grads[f"head.tails.{i}.P"], tail[0].weight.grad.T, rtol=1e-9, atol=1e-14)
        assert np.allclose(net.grads[f"head.tails.{i}.W"], tail[1].weight.grad.T, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit(dtype):
    """Clusters of many rows and classes, so that products are shared out, and rows come in blocks."""
    classes = 40_000
    net = network(dtype, cutoffs=(2000, 9000), classes=classes, shrink=1, bidirectional=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 20, 4)).astype(dtype)
    targets = rng.integers(0, classes, (30, 20))
    found = []
    for threads in (1, 2, 3):
        net.n_threads = threads
        loss = net.loss_and_grad(x, targets)
        found.append((loss, net.grad.copy(), net.predict(x[:2, :3]), net.loss(x, targets)))
    for other in found[1:]:
        assert all(loss == twins.same_loss(found[0][0]) for loss in (other[0], found[0][3], other[3]))
        twins.assert_same_bits(other[1], found[0][1])
        twins.assert_same_bits(other[2], found[0][2])
    p = net.predict(x)  # in blocks, too
    own = np.take_along_axis(p, targets[..., None], -1)[..., 0]
    assert -np.log(own.astype(float)).mean() == pytest.approx(found[0][0], rel=1e-5)


def test_a_cluster_without_targets_costs_nothing_and_has_no_gradient():
    net = network()
    x, targets = batch()
    net.grad[...] = np.nan  # nothing of it may stay
    net.loss_and_grad(x, targets % 10)
    assert np.isfinite(net.grad).all()
    for i in range(3):
        assert not net.grads[f"head.tails.{i}.P"].any() and not net.grads[f"head.tails.{i}.W"].any()
    before = net.grad.copy()
    net.loss_and_grad(x, np.full((T, B), 12), accumulate=True)
    assert net.grads["head.tails.0.W"].any() and not net.grads["head.tails.1.W"].any()
    second = network()
    second.theta[:] = net.theta
    second.loss_and_grad(x, np.full((T, B), 12))
    assert np.allclose(net.grad, before + second.grad, rtol=1e-12, atol=1e-16)


def test_parts_of_a_batch_add_up():
    net = network()
    x, targets = batch()
    whole = net.loss_and_grad(x, targets)
    wanted, total = net.grad.copy(), net.batch_weight(targets)
    assert total == (targets >= 0).sum()
    halves = [
        net.loss_and_grad(x[:, some], targets[:, some], divisor=total, accumulate=some.start > 0)
        for some in (slice(0, 2), slice(2, B))
    ]
    assert sum(halves) == pytest.approx(whole, rel=1e-12) and np.allclose(net.grad, wanted, rtol=1e-9, atol=1e-15)


def test_without_clusters_it_is_softmax():
    net, plain = network(cutoffs=()), rc.Network(rc.Recurrent("gru", 4, H, dtype="float64"), head=rc.Softmax(K))
    plain.theta[:] = net.theta
    x, targets = batch()
    assert net.loss_and_grad(x, targets, LENGTHS) == plain.loss_and_grad(x, targets, LENGTHS)
    twins.assert_same_bits(net.grad, plain.grad)
    twins.assert_same_bits(net.predict(x, LENGTHS), plain.predict(x, LENGTHS))


def test_beside_another_head():
    heads = {"word": rc.AdaptiveSoftmax(K, CUTOFFS, 2), "kind": rc.Softmax(3, pooling="mean")}
    net = rc.Network(rc.Recurrent("gru", 4, H, dtype="float64"), heads=heads, loss_weights={"word": 0.5})
    x, words = batch()
    targets = {"word": words, "kind": words[0] % 3}
    loss = net.loss_and_grad(x, targets, LENGTHS)
    found = net.grad.copy()
    assert net.loss(x, targets, LENGTHS) == pytest.approx(loss, rel=1e-12)
    z = outputs(net, x, LENGTHS, "every")
    log_p = log_probabilities(net.params, z, name="heads.word")
    counted = (words >= 0) & (np.arange(T)[:, None] < LENGTHS)
    own = np.take_along_axis(log_p, np.maximum(words, 0)[..., None], axis=-1)[..., 0]
    assert net.losses["word"] == pytest.approx(-0.5 * own[counted].mean(), rel=1e-12)
    for i in np.random.default_rng(0).choice(net.theta.size, 60, replace=False):
        loss, was = {}, net.theta[i]
        for step in (-1e-5, 1e-5):
            net.theta[i] = was + step
            loss[step] = net.loss(x, targets, LENGTHS)
        net.theta[i] = was
        assert found[i] == pytest.approx((loss[1e-5] - loss[-1e-5]) / 2e-5, rel=1e-6, abs=1e-9)
    assert net.predict(x)["word"].shape == (T, B, K)
    only_kind = net.loss_and_grad(x, {"kind": words[0] % 3})
    assert only_kind == net.losses["kind"] and not net.grads["heads.word.tails.0.W"].any()


def test_sessions_give_what_predict_does():
    net = network("float32")
    x, _ = batch("float32")
    wanted = net.predict(x)
    session, second = net.session(B), net.session(B)
    twins.assert_same_bits(np.stack([session.step(x_t) for x_t in x]), wanted)
    twins.assert_same_bits(second.run(x), wanted)
    out = np.empty((B, K), "float32")
    session.reset()
    assert session.step(x[0], out=out) is out
    twins.assert_same_bits(out, wanted[0])
    net.theta[:] *= 2
    session.reset()
    session.refresh()
    twins.assert_same_bits(session.run(x), net.predict(x))


def test_decode_gives_the_most_probable_class():
    net = network()
    x, _ = batch()
    p = net.predict(x, LENGTHS)
    paths, scores = net.decode(x, LENGTHS)
    inside = np.arange(T)[:, None] < LENGTHS
    assert np.array_equal(paths, np.where(inside, p.argmax(axis=-1), -1))
    assert np.allclose(scores, np.log(np.where(inside, p.max(axis=-1), 1)).sum(axis=0))
    with pytest.raises(ValueError, match="top=2 needs a CRF head"):
        net.decode(x, top=2)


def test_it_learns_saves_and_copies(tmp_path):
    net = network("float32")
    x, targets = batch("float32")
    adam = rc.Adam(0.05)
    losses = [net.train_step(x, targets, adam) for _ in range(200)]
    assert losses[-1] < 0.5 < 3 < losses[0]
    net.freeze("head.tails.*")
    net.save(tmp_path / "net.safetensors")
    for twin in (rc.load(tmp_path / "net.safetensors"), net.copy()):
        assert twin.head == net.head and twin.frozen == net.frozen
        twins.assert_same_bits(twin.predict(x), net.predict(x))
    before = net.params["head.tails.0.W"].copy()
    net.train_step(x, targets, adam)
    assert np.array_equal(before, net.params["head.tails.0.W"])


def test_onnx_has_the_same_probabilities(tmp_path):
    onnxruntime = peers.peer("onnxruntime")
    peers.peer("onnx")
    net = network("float32")
    x, _ = batch("float32")
    net.to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    given = {"x": x, "lengths": np.full(B, T, dtype=np.int64)}
    (found,) = session.run(["probabilities"], given)
    assert np.allclose(found, net.predict(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"cutoffs": (10, 10)}, "cutoffs must rise"),
        ({"cutoffs": (0, 10)}, "cutoffs"),
        ({"cutoffs": (10, 50)}, "cutoffs must rise, from 1 at least to 49 at most"),
        ({"cutoffs": 10}, "cutoffs must be whole numbers"),
        ({"cutoffs": "abc"}, "cutoffs"),
        ({"cutoffs": (1.5,)}, "cutoffs"),
        ({"cutoffs": tuple(range(1, 18))}, "16 at most"),
        ({"shrink": 0}, "shrink"),
        ({"shrink": 1.5}, "shrink"),
        ({"project": False}, "project must be True"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        rc.AdaptiveSoftmax(K, **options)


def test_what_it_cannot_do_is_said():
    net = network()
    x, targets = batch()
    with pytest.raises(ValueError, match="an adaptive softmax has no scores of all classes"):
        net.forward(x)
    with pytest.raises(ValueError, match="sparse features"):
        rc.Network(rc.Recurrent("gru", 4, H), head=rc.AdaptiveSoftmax(K), skip=3)
    targets[2, 3] = K
    with pytest.raises(ValueError, match="targets"):
        net.loss_and_grad(x, targets)
    elman = rc.Network(rc.Recurrent("elman", 4, H), head=rc.AdaptiveSoftmax(K))
    elman.loss_and_grad(x, np.zeros((T, B), int))
    with pytest.raises(ValueError, match="no curvature recursion for the head adaptive"):
        elman.curvature()


def test_cutoffs_by_default():
    assert rc.AdaptiveSoftmax(10_000).cutoffs == (1000, 4000)
    assert rc.AdaptiveSoftmax(3).cutoffs == ()
