"""Softmax with probabilities for targets: one-hot ones are classes, gradients are right, PyTorch agrees."""

import numpy as np
import pytest
from peers import peer

import rnncore as rc

T, B, D, K = 6, 4, 3, 5
LENGTHS = np.array([6, 4, 1, 3])


def network(dtype="float64", head=None, pooling="every", **options):
    layer = rc.Recurrent("gru", D, 7, dtype=dtype, random_state=1, bidirectional=True)
    return rc.Network(layer, head or rc.Softmax(K, **options), pooling)


def data(pooling="every", dtype="float64"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, B, D)).astype(dtype)
    shape = (T, B) if pooling == "every" else (B,)
    return x, rng.integers(0, K, shape), rng.dirichlet(np.ones(K), shape).astype(dtype)


def inside():
    return np.arange(T)[:, None] < LENGTHS


OPTIONS = [{}, {"class_weight": [1, 2, 0.5, 0, 3]}, {"label_smoothing": 0.2}]
OPTIONS.append(OPTIONS[1] | OPTIONS[2])


@pytest.mark.kernels
@pytest.mark.parametrize("pooling", ["every", "last", "mean"])
@pytest.mark.parametrize("options", OPTIONS)
def test_one_hot_targets_are_classes(options, pooling):
    net = network(pooling=pooling, **options)
    x, ids, _ = data(pooling)
    ids.flat[1] = -1
    soft = np.where(ids[..., None] == np.arange(K), 1.0, 0.0)
    for extra in ({}, {"sample_weight": np.array([1, 0, 2, 0.5])}, {"divisor": 7.0}):
        loss = net.loss_and_grad(x, ids, LENGTHS, **extra)
        grad = net.grad.copy()
        assert np.isclose(net.loss_and_grad(x, soft, LENGTHS, **extra), loss, rtol=1e-12)
        np.testing.assert_allclose(net.grad, grad, rtol=1e-10, atol=1e-14)
    assert np.isclose(net.batch_weight(soft, LENGTHS), net.batch_weight(ids, LENGTHS))
    assert np.isclose(net.loss(x, soft, LENGTHS), net.loss(x, ids, LENGTHS))


@pytest.mark.kernels
@pytest.mark.parametrize("pooling", ["every", "max"])
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients(options, pooling):
    net = network(pooling=pooling, **options)
    x, _, soft = data(pooling)
    assert rc.gradcheck(net, x, soft * np.linspace(0.5, 2, K), LENGTHS)


@pytest.mark.kernels
def test_the_loss_is_the_cross_entropy_and_what_lies_past_an_end_does_not_count():
    net = network("float32")
    x, _, soft = data(dtype="float32")
    p = net.predict(x, LENGTHS).astype(np.float64)
    wanted = -(soft * np.log(np.where(inside()[..., None], p, 1))).sum(axis=-1)[inside()].mean()
    padded = soft.copy()
    padded[~inside()] = np.nan
    assert np.isclose(net.loss_and_grad(x, padded, LENGTHS), wanted, rtol=1e-5)
    padded[~inside()] = -3
    assert np.isclose(net.loss(x, padded, LENGTHS), wanted, rtol=1e-5)
    found = net.log_likelihood(x, soft, LENGTHS)
    assert np.isclose(-found[inside()].mean(), wanted, rtol=1e-5)


def test_lists_and_tensors_are_probabilities_too():
    torch = peer("torch")
    net = network()
    x, ids, soft = data()
    wanted = net.loss_and_grad(x, soft)
    assert net.loss_and_grad(x, soft.tolist()) == net.loss_and_grad(x, torch.tensor(soft)) == wanted
    assert net.loss_and_grad(x, torch.tensor(ids)) == net.loss_and_grad(x, ids.tolist()) == net.loss_and_grad(x, ids)


def test_batches_first_and_sequences_laid_end_to_end():
    x, _, soft = data()
    net = network()
    layer = rc.Recurrent("gru", D, 7, dtype="float64", random_state=1, bidirectional=True)
    twin = rc.Network(layer, rc.Softmax(K), batch_first=True)
    twin.theta[:] = net.theta
    wanted = net.loss_and_grad(x, soft, LENGTHS)
    assert np.isclose(twin.loss_and_grad(x.swapaxes(0, 1), soft.swapaxes(0, 1), LENGTHS), wanted, rtol=1e-12)
    np.testing.assert_allclose(twin.grad, net.grad, rtol=1e-9, atol=1e-14)
    parts = rc.Sequences.of(*([a[:n, b] for b, n in enumerate(LENGTHS)] for a in (x, soft)))
    trainer = rc.Trainer(net, rc.Adam(1e-12), parts, batch_size=B, max_epochs=1, validation=parts).run()
    assert np.isclose(trainer.history[0]["loss"], wanted) and np.isclose(trainer.history[0]["val_loss"], wanted)


@pytest.mark.kernels
def test_classes_after_probabilities_and_predictions_between_are_as_in_a_new_network():
    net, other = network("float32"), network("float32")
    x, ids, soft = data(dtype="float32")
    net.loss_and_grad(x, soft)
    np.testing.assert_array_equal(net.predict(x), other.predict(x))
    assert net.loss_and_grad(x, ids) == other.loss_and_grad(x, ids)
    np.testing.assert_array_equal(net.grad, other.grad)


@pytest.mark.kernels
def test_the_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 30, D)).astype("float32")
    soft = rng.dirichlet(np.ones(K), (40, 30)).astype("float32")
    found = []
    for n_threads in (1, 2, 3):
        net = network("float32")
        net.n_threads = n_threads
        found.append((net.loss_and_grad(x, soft), net.grad.tobytes()))
    assert found[0] == found[1] == found[2]


def test_pytorch_agrees():
    torch = peer("torch")
    net = network()
    x, _, soft = data()
    soft[0, 0] = [0, 1, 0, 0, 0]
    scores, _ = net.forward(x)
    leaf = torch.tensor(scores, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(leaf.reshape(-1, K), torch.tensor(soft.reshape(-1, K)))
    loss.backward()
    net.backward(leaf.grad.numpy())
    wanted = net.grad.copy()
    assert np.isclose(net.loss_and_grad(x, soft), loss.item(), rtol=1e-12)
    np.testing.assert_allclose(net.grad, wanted, rtol=1e-9, atol=1e-13)


def test_a_network_trains_towards_probabilities_with_other_heads_beside_it_and_is_validated():
    x, ids, soft = data()
    net = rc.Network(rc.Recurrent("gru", D, 16, dtype="float64"), heads={"soft": rc.Softmax(K), "hard": rc.Softmax(K)})
    batch = (x, {"soft": soft, "hard": ids})
    trainer = rc.Trainer(net, rc.Adam(0.05), [batch], max_epochs=300, validation=[batch]).run()
    entropy = -(soft * np.log(soft)).sum(axis=-1).mean()
    found = trainer.history[-1]["val_loss_soft"]
    assert entropy < found < entropy + 0.1 < trainer.history[0]["val_loss_soft"]


def test_validation_counts_targets_by_their_mass():
    x, _, soft = data()
    soft[: T // 2] = 0
    soft[-1] *= 3
    net = network()
    trainer = rc.Trainer(net, rc.Adam(1e-12), [(x, soft)], max_epochs=1, validation=[(x, soft)]).run()
    assert np.isclose(trainer.history[0]["val_loss"], net.loss(x, soft))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t - 0.5, "negative"),
        (lambda t: np.where(t == t[0, 0, 0], np.nan, t), "finite"),
        (lambda t: t[..., :-1], r"shape \(6, 4, 5\)"),
        (lambda t: t[..., 0], "whole numbers"),
        (lambda t: t.astype(int), "shape"),
    ],
)
def test_errors(change, message):
    net = network()
    x, _, soft = data()
    with pytest.raises(ValueError, match=message):
        net.loss_and_grad(x, change(soft))


@pytest.mark.parametrize("head", [rc.AdaptiveSoftmax(K, (2,)), rc.SampledSoftmax(K), rc.CRF(K)])
def test_other_heads_take_classes_only(head):
    x, _, soft = data()
    with pytest.raises(ValueError, match="one class per output"):
        network(head=head).loss_and_grad(x, soft)
