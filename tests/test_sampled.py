"""Sampled softmax: its estimate against NumPy, its gradient, and the rows it touches."""

import numpy as np
import peers
import pytest
import twins

import rnncore as rc

K, H, T, B = 60, 5, 6, 4
LENGTHS = np.array([6, 2, 6, 1])


def network(dtype="float64", pooling="every", classes=K, samples=12, draw="log-uniform", **options):
    head = rc.SampledSoftmax(classes, samples=samples, draw=draw)
    return rc.Network(rc.Recurrent("gru", 4, H, dtype=dtype, **options), head=head, pooling=pooling)


def batch(dtype="float64", pooling="every", classes=K, seed=0):
    rng = np.random.default_rng(seed)
    shape = (T, B) if pooling == "every" else (B,)
    return rng.standard_normal((T, B, 4)).astype(dtype), (classes * rng.random(shape) ** 3).astype(int)


def exact(net):
    """The softmax that it estimates."""
    options = {"bidirectional": net.layers[0].bidirectional, "dtype": net.dtype}
    twin = rc.Network(rc.Recurrent("gru", 4, H, **options), head=rc.Softmax(net.head.outputs), pooling=net.pooling)
    for name, values in net.params.items():
        if name != "head.W_yh":
            twin.params[name] = values
    twin.params["head.W_hy"] = net.params["head.W_yh"].T
    return twin


def estimate(net, scores, targets, step):
    """The losses that training estimates, and their gradient by the scores."""
    ids, logs = net.head.drawn(net.dropout_seed, step)
    losses, ds = np.zeros(targets.shape), np.zeros_like(scores)
    for place in np.argwhere(targets >= 0):
        place, y = tuple(place), targets[tuple(place)]
        there = ids != y
        terms = np.append(np.exp(scores[place][ids[there]] - logs[there]), np.exp(scores[place][y]))
        losses[place] = np.log(terms.sum()) - scores[place][y]
        ds[place][ids[there]] = terms[:-1] / terms.sum()
        ds[place][y] = terms[-1] / terms.sum() - 1
    return losses, ds


@pytest.mark.parametrize("draw", ["log-uniform", "uniform"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["every", "mean"])
def test_loss_and_gradient_are_those_of_the_estimate(pooling, bidirectional, draw):
    net = network(pooling=pooling, bidirectional=bidirectional, draw=draw)
    twin = exact(net)
    for step in range(3):
        x, targets = batch(pooling=pooling, seed=step)
        targets.flat[1] = -1
        weights = np.random.default_rng(step).random(targets.shape)
        loss = net.loss_and_grad(x, targets, LENGTHS, sample_weight=weights)
        assert net.dropout_step == step + 1
        inside = np.arange(T)[:, None] < LENGTHS if pooling == "every" else np.ones(B, bool)
        scores, _ = twin.forward(x, LENGTHS)
        losses, ds = estimate(net, scores, np.where(inside, targets, -1), step)
        counted = (inside & (targets >= 0)).sum()
        assert loss == pytest.approx((losses * weights).sum() / counted, rel=1e-12)
        twin.backward(ds * weights[..., None] / counted)
        for name in net.params:
            wanted = twin.grads["head.W_hy"].T if name == "head.W_yh" else twin.grads[name]
            assert np.allclose(net.grads[name], wanted, rtol=1e-9, atol=1e-15), name


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}])
def test_with_all_classes_it_is_softmax(options):
    net = network(samples=K, **options)
    twin = exact(net)
    x, targets = batch()
    targets[0, 0] = -1
    for accumulate in (False, True):
        loss = net.loss_and_grad(x, targets, LENGTHS, accumulate=accumulate)
        assert loss == pytest.approx(twin.loss_and_grad(x, targets, LENGTHS, accumulate=accumulate), rel=1e-12)
        assert np.allclose(net.grads["head.W_yh"], twin.grads["head.W_hy"].T, rtol=1e-9, atol=1e-15)
        assert np.allclose(net.grads["head.b_y"], twin.grads["head.b_y"], rtol=1e-9, atol=1e-15)
        assert np.allclose(net.grads["layers.0.fwd.W_hh"], twin.grads["layers.0.fwd.W_hh"], rtol=1e-9, atol=1e-15)
    assert np.allclose(net.predict(x, LENGTHS), twin.predict(x, LENGTHS), rtol=1e-12)
    assert net.loss(x, targets, LENGTHS) == pytest.approx(twin.loss(x, targets, LENGTHS), rel=1e-12)


@pytest.mark.parametrize("draw", ["log-uniform", "uniform"])
def test_the_sum_over_all_classes_is_met_in_the_mean(draw):
    head = rc.SampledSoftmax(K, samples=12, draw=draw)
    exponentials = np.random.default_rng(0).random(K)
    there = np.zeros(K)
    found = []
    for step in range(20_000):
        ids, logs = head.drawn(7, step)
        there[ids] += 1
        found.append((exponentials[ids] / np.exp(logs)).sum())
        if step == 0:
            assert (np.diff(ids) > 0).all() and ids[0] >= 0 and ids[-1] < K
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(exponentials.sum(), abs=4 * error)
    if draw == "log-uniform":
        assert there[0] > 3 * there[10] > 3 * there[-1]


def test_only_rows_that_were_drawn_or_targets_change():
    net = network(classes=1000)
    x, targets = batch(classes=1000)
    adam = rc.Adam(0.01)
    for step in range(3):
        ids, _ = net.head.drawn(net.dropout_seed, step)
        rows = net.params["head.W_yh"].copy()
        net.train_step(x, targets, adam)
        touched = np.union1d(ids, targets)
        changed = np.flatnonzero((net.params["head.W_yh"] != rows).any(axis=1))
        assert np.array_equal(changed, touched) and len(touched) < 60
        visited = sum(length for _, length, _ in net.update_ranges(True))
        assert visited < net.theta.size / 2
    assert np.array_equal(np.flatnonzero(net.grads["head.W_yh"].any(axis=1)), touched)


def test_a_lazy_step_of_sgd_is_a_dense_one():
    nets = [network(classes=1000), network(classes=1000)]
    nets[1].theta[:] = nets[0].theta
    for net, lazy in zip(nets, (True, False), strict=True):
        sgd = rc.SGD(0.5, lazy=lazy)
        for seed in range(4):
            net.train_step(*batch(classes=1000, seed=seed), sgd)
    twins.assert_same_bits(nets[0].theta, nets[1].theta)


def test_gradients_are_central_differences():
    net = network()
    x, targets = batch()
    net.loss_and_grad(x, targets, LENGTHS)
    found = net.grad.copy()
    for i in range(0, net.theta.size, 5):
        loss, was = {}, net.theta[i]
        for step in (-1e-5, 1e-5):
            net.theta[i], net.dropout_step = was + step, 0
            loss[step] = net.loss_and_grad(x, targets, LENGTHS)
        net.theta[i] = was
        assert found[i] == pytest.approx((loss[1e-5] - loss[-1e-5]) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit(dtype):
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((20, 15, 4)).astype(dtype), rng.integers(0, 9000, (20, 15))
    net = network(dtype, classes=9000, samples=3000, bidirectional=True)
    found = []
    for threads in (1, 2, 3):
        net.n_threads, net.dropout_step = threads, 5
        found.append((net.loss_and_grad(x, targets), net.grad.copy(), net.loss(x, targets)))
    for loss, grad, whole in found[1:]:
        assert loss == twins.same_loss(found[0][0]) and whole == twins.same_loss(found[0][2])
        twins.assert_same_bits(grad, found[0][1])


def test_training_goes_on_where_it_was_saved(tmp_path):
    net, adam = network("float32"), rc.Adam(0.05)
    x, targets = batch("float32")
    first = [net.train_step(x, targets, adam) for _ in range(10)]
    net.save(tmp_path / "net.safetensors")
    state = adam.state_dict()
    second = [net.train_step(x, targets, adam) for _ in range(10)]
    again, fresh = rc.load(tmp_path / "net.safetensors"), rc.Adam(0.05)
    fresh.load_state_dict(state)
    assert [again.train_step(x, targets, fresh) for _ in range(10)] == second
    twins.assert_same_bits(again.theta, net.theta)
    for _ in range(200):
        net.train_step(x, targets, adam)
    assert net.loss(x, targets) < 0.5 < first[0]


def test_beside_another_head():
    heads = {"word": rc.SampledSoftmax(K, 12), "kind": rc.Softmax(3)}
    net = rc.Network(rc.Recurrent("gru", 4, H, dtype="float64"), heads=heads)
    x, words = batch()
    net.loss_and_grad(x, {"word": words, "kind": words % 3})
    assert net.grads["heads.word.W_yh"].any()
    net.loss_and_grad(x, {"kind": words % 3})
    assert not net.grads["heads.word.W_yh"].any() and not net.grads["heads.word.b_y"].any()


def test_streams_and_onnx_are_exact(tmp_path):
    net = network("float32")
    x, _ = batch("float32")
    wanted = net.predict(x)
    session = net.session(B)
    twins.assert_same_bits(np.stack([session.step(x_t) for x_t in x]), wanted)
    onnxruntime = peers.peer("onnxruntime")
    peers.peer("onnx")
    net.to_onnx(tmp_path / "net.onnx")
    other = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    (found,) = other.run(["probabilities"], {"x": x, "lengths": np.full(B, T, dtype=np.int64)})
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"samples": 0}, "samples"),
        ({"samples": 1.5}, "samples"),
        ({"draw": "zipf"}, "draw"),
        ({"project": False}, "project must be True"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        rc.SampledSoftmax(K, **options)
    with pytest.raises(ValueError, match="sparse features"):
        rc.Network(rc.Recurrent("gru", 4, H), head=rc.SampledSoftmax(K), skip=3)
