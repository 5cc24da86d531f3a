"""The Neural Turing machine: its equations once more in NumPy, gradients, threads, files, errors."""

import copy
import pickle

import numpy as np
import pytest

import rnncore as rc
from rnncore.models import NeuralTuringMachine

EPSILON, DELTA = 1e-8, 1e-16  # kernels/turing.h
SETTINGS = [
    {},
    {"controller": "feedforward"},
    {"read_heads": 2, "write_heads": 3, "shifts": 2, "locations": 9, "width": 4},
    {"locations": 17, "width": 1, "hidden_size": 20, "controller": "feedforward", "write_heads": 2},
    {"loss": "softmax"},
    {"loss": "squared"},
]
LENGTHS = [6, 3, 5, 1]


def machine(dtype="float64", **settings):
    made = NeuralTuringMachine(
        **{"input_size": 3, "output_size": 2, "hidden_size": 5, "locations": 7, "width": 3, **settings}, dtype=dtype
    )
    rng = np.random.default_rng(1)
    made.theta += 0.3 * rng.standard_normal(made.theta.size)
    return made


def batch(net, lengths=LENGTHS):
    rng = np.random.default_rng(2)
    T, B = max(lengths), len(lengths)
    x = rng.standard_normal((T, B, net.input_size))
    targets = (
        rng.integers(-1, net.output_size, (T, B)) if net.loss == "softmax" else rng.random((T, B, net.output_size))
    )
    return x, targets, rng.random((T, B))


def softmax(x):
    e = np.exp(x - x.real.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(net, p, x):
    """Scores, memories and weights of one sequence (T, D), one step at a time; p may be complex."""
    M, N, H, S = net.width, net.locations, net.hidden_size, net.shifts
    heads = net.read_heads + net.write_heads
    memory = np.full((N, M), net.initial_memory, dtype=complex)
    w = [softmax(row) for row in p["start.weights"]]
    read, h, c = p["start.reads"], np.zeros(H, complex), np.zeros(H, complex)
    scores, memories, weights = [], [], []
    for given in x:
        heard = np.concatenate([read, h]) if net.controller == "lstm" else read
        a = given @ p["controller.W_xh"] + heard @ p["controller.W_hh"] + p["controller.b_h"]
        if net.controller == "lstm":
            i, f, g, o = np.split(a, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            h = np.tanh(a)
        told = h @ p["heads.W"] + p["heads.b"]
        addresses, changes = np.split(told, [heads * (M + 4 + 2 * S)])
        for n, own in enumerate(np.split(addresses, heads)):
            k, beta, gate, gamma, s = np.split(own, [M, M + 1, M + 2, M + 3])
            beta, gate, gamma, s = np.log1p(np.exp(beta)), sigmoid(gate), 1 + np.log1p(np.exp(gamma)), softmax(s)
            cosine = memory @ k / np.sqrt(((memory**2).sum(axis=1) + EPSILON) * ((k**2).sum() + EPSILON))
            gated = gate * softmax(beta * cosine) + (1 - gate) * w[n]
            shifted = sum(s[S + j] * np.roll(gated, j) for j in range(-S, S + 1))
            w[n] = softmax(gamma * np.log(shifted + DELTA))
        read = np.concatenate([w[u] @ memory for u in range(net.read_heads)])
        kept, added = 1, 0
        for v, own in enumerate(np.split(changes, net.write_heads)):
            e, add = np.split(own, 2)
            kept = kept * (1 - np.outer(w[net.read_heads + v], sigmoid(e)))
            added = added + np.outer(w[net.read_heads + v], add)
        memory = memory * kept + added
        scores.append(np.concatenate([read, h]) @ p["output.W_hy"] + p["output.b_y"])
        memories.append(memory)
        weights.append(np.array(w))
    return np.array(scores), np.array(memories), np.array(weights)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_does_what_the_equations_say(settings, dtype):
    net = machine(dtype, **settings)
    x, _, _ = batch(net)
    found = net.forward(x, LENGTHS)
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-4}
    for b, length in enumerate(LENGTHS):
        scores, memories, weights = reference(net, net.params, x[:length, b])
        np.testing.assert_allclose(found[:length, b], scores.real, **close)
        assert not found[length:, b].any()
        trace = net.trace(x[:length, b])
        np.testing.assert_allclose(trace.memory, memories.real, **close)
        both = np.concatenate([trace.reading, trace.writing]).swapaxes(0, 1)
        np.testing.assert_allclose(both, weights.real, **close)
        np.testing.assert_allclose(both.sum(axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradient_is_that_of_central_differences(settings):
    net = machine(**settings)
    x, targets, weight = batch(net)
    net.loss_and_grad(x, targets, LENGTHS, sample_weight=weight)
    found, wanted, step = net.grad.copy(), np.empty(net.theta.size), 1e-6
    for n in range(net.theta.size):
        old, both = net.theta[n], []
        for sign in (1, -1):
            net.theta[n] = old + sign * step
            both.append(net.loss_and_grad(x, targets, LENGTHS, sample_weight=weight))
        net.theta[n] = old
        wanted[n] = (both[0] - both[1]) / (2 * step)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8)
    net.loss_and_grad(x, targets, LENGTHS, accumulate=True, sample_weight=weight)
    net.loss_and_grad(x, targets, LENGTHS, accumulate=False, sample_weight=weight)
    once = net.grad.copy()
    net.loss_and_grad(x, targets, LENGTHS, accumulate=True, sample_weight=weight)
    np.testing.assert_allclose(net.grad, 2 * once, rtol=1e-12)


def test_a_batch_is_its_sequences_one_by_one():
    net = machine("float32", locations=33, width=5, hidden_size=19, read_heads=2)
    x, _, _ = batch(net)
    together = net.forward(x, LENGTHS)
    for b, length in enumerate(LENGTHS):
        assert np.array_equal(net.forward(x[:length, b : b + 1])[:, 0], together[:length, b])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads(dtype):
    lengths, found = [40, 37, 40, 12, 30, 5, 29], []
    for threads in (1, 2, 3, 9):
        net = machine(dtype, locations=33, width=5, hidden_size=40)
        net.n_threads = threads
        x, targets, weight = batch(net, lengths)
        loss = net.loss_and_grad(x, targets, lengths, sample_weight=weight)
        found.append((loss, net.grad.tobytes(), net.forward(x, lengths).tobytes()))
    assert all(other == found[0] for other in found)


def test_what_does_not_count_has_no_gradient():
    net = machine(loss="softmax")
    x, targets, _ = batch(net)
    short = net.loss_and_grad(x[:, :2], targets[:, :2], LENGTHS[:2])
    grad = net.grad.copy()
    targets[:, 2:] = -1
    assert net.loss_and_grad(x, targets, LENGTHS) == pytest.approx(short, rel=1e-12)
    np.testing.assert_allclose(net.grad, grad, rtol=1e-9, atol=1e-12)


def test_learns_and_stays_the_same_through_files_pickles_and_copies(tmp_path):
    net = NeuralTuringMachine(4, 3, hidden_size=16, locations=10, width=4)
    data = [rc.datasets.copied_vectors(8, longest=3, bits=3, random_state=seed) for seed in range(30)]
    losses = net.fit(data * 10, rc.Adam(3e-3, clip_norm=1))
    assert np.mean(losses[-30:]) < 0.7 * np.mean(losses[:30])
    net.freeze("start.*")
    net.save(tmp_path / "machine.safetensors")
    twins = [rc.load(tmp_path / "machine.safetensors"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy()]
    x = data[0].x
    for twin in twins:
        assert np.array_equal(twin.predict(x), net.predict(x)) and twin.frozen == net.frozen
        assert twin.theta is not net.theta
    before = net.params["start.weights"].copy()
    net.fit(data[:2], rc.SGD(0.1))
    assert np.array_equal(net.params["start.weights"], before)
    wide = net.copy("float64")
    np.testing.assert_allclose(wide.predict(x), net.predict(x), atol=1e-3)


def test_a_number_that_is_not_finite_is_named():
    net = machine("float32")
    x, targets, _ = batch(net)
    x[2, 1, 0] = np.nan
    before = net.theta.copy()
    with pytest.raises(rc.NonFiniteError) as caught:
        net.train_step(x, targets, rc.SGD(), LENGTHS)
    assert (caught.value.what, caught.value.sequence, caught.value.step) == ("x", 1, 2)
    x[2, 1, 0] = 0
    net.params["heads.W"][0, 0] = np.inf
    with pytest.raises(rc.NonFiniteError, match=r"heads\.W"):
        net.train_step(x, targets, rc.SGD(), LENGTHS)
    net.params["heads.W"][0, 0] = before[net.layout.starts["heads.W"]]
    assert np.array_equal(net.theta, before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"locations": 2}, "locations must be at least 3"),
        ({"width": 0}, "width"),
        ({"controller": "gru"}, "controller must be one of lstm, feedforward"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"initial_memory": float("nan")}, "initial_memory must be a finite number"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_settings_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        NeuralTuringMachine(3, 2, **wrong)


def test_arrays_that_do_not_fit_are_named():
    net = machine()
    x, targets, weight = batch(net)
    with pytest.raises(ValueError, match="x"):
        net.predict(x[..., :2])
    with pytest.raises(ValueError, match="lengths"):
        net.predict(x, [7, 1, 1, 1])
    with pytest.raises(ValueError, match="targets"):
        net.loss_and_grad(x, targets[:-1])
    with pytest.raises(ValueError, match="nothing counts"):
        net.loss_and_grad(x, targets, sample_weight=0 * weight)
    with pytest.raises(ValueError, match="one sequence"):
        net.trace(x)
    with pytest.raises(AttributeError, match="fixed when it is built"):
        net.width = 4
