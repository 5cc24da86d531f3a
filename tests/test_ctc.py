"""The CTC head: against all alignments one by one, against a recursion in log space, PyTorch, and in awkward cases."""

import itertools
import pickle

import numpy as np
import pytest
import twins
from hypothesis import given
from hypothesis import strategies as st
from peers import peer

import rnncore as rc

kernels = pytest.mark.kernels


# ---------------------------------------------------------------- references


def log_softmax(s: np.ndarray) -> np.ndarray:
    top = s.max(axis=-1, keepdims=True)
    return s - top - np.log(np.exp(s - top).sum(axis=-1, keepdims=True))


def collapsed(path, blank: int) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def enumerated(s: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of every sequence of symbols, from all paths."""
    T, outputs = s.shape
    log_p, found = log_softmax(s), {}
    for path in itertools.product(range(outputs), repeat=T):
        name = collapsed(path, outputs - 1)
        found[name] = found.get(name, 0.0) + np.exp(log_p[range(T), path].sum())
    return found


def reference(s: np.ndarray, target) -> tuple[float, np.ndarray]:
    """-log p and its gradient, in log space over the target with blanks around its symbols."""
    T, outputs = s.shape
    log_p, blank = log_softmax(s), outputs - 1
    states = [blank]
    for symbol in target:
        states += [symbol, blank]
    S = len(states)
    skip = [i > 1 and states[i] != blank and states[i] != states[i - 2] for i in range(S)]
    alpha, beta = np.full((T, S), -np.inf), np.full((T, S), -np.inf)
    alpha[0, :2] = log_p[0, states[:2]]
    beta[-1, -2:] = 0
    with np.errstate(divide="ignore"):
        for t in range(1, T):
            for i in range(S):
                before = [alpha[t - 1, j] for j in (i, i - 1, i - 2) if j >= 0 and (j > i - 2 or skip[i])]
                alpha[t, i] = np.logaddexp.reduce(before) + log_p[t, states[i]]
        for t in range(T - 2, -1, -1):
            for i in range(S):
                after = [
                    beta[t + 1, j] + log_p[t + 1, states[j]]
                    for j in (i, i + 1, i + 2)
                    if j < S and (j < i + 2 or skip[j])
                ]
                beta[t, i] = np.logaddexp.reduce(after)
    total = np.logaddexp.reduce(alpha[-1, -2:])
    gradient = np.exp(log_p)
    for i, state in enumerate(states):
        gradient[:, state] -= np.exp(alpha[:, i] + beta[:, i] - total)
    return -float(total), gradient


# ---------------------------------------------------------------- nets


def bare(outputs: int, dtype: str = "float64", n_threads: int = 1) -> rc.Network:
    """A network whose scores are its input."""
    layer = rc.Recurrent("elman", outputs, outputs, activation="identity", dtype=dtype, n_threads=n_threads)
    net = rc.Network(layer, head=rc.CTC(outputs - 1))
    net.theta[...] = 0
    for name in ("layers.0.fwd.W_xh", "head.W_hy"):
        net.params[name][...] = np.eye(outputs)
    return net


def loss_and_dscores(net: rc.Network, s, targets, **more):
    """The loss, and the gradient of bare scores, which is that of the head's bias for one row at a time: by dx."""
    loss = net.loss_and_grad(s, targets, **more)
    return loss, net.grads["head.b_y"].copy()


def random_case(rng, T: int, B: int, K: int, longest: int):
    """Scores, lengths, and targets that fit, empty ones and repeats among them."""
    s = rng.normal(size=(T, B, K + 1))
    lengths = rng.integers(1, T + 1, size=B)
    targets = np.full((B, longest), -1)
    for b in range(B):
        for count in range(int(rng.integers(0, longest + 1)), -1, -1):
            target = rng.integers(0, K, size=count)
            if count + (target[1:] == target[:-1]).sum() <= lengths[b]:
                targets[b, :count] = target
                break
    return s, lengths, targets


def of_target(targets: np.ndarray, b: int) -> list[int]:
    return [int(symbol) for symbol in targets[b] if symbol >= 0]


# ---------------------------------------------------------------- what it computes


@kernels
@pytest.mark.parametrize("T", range(1, 7))
@pytest.mark.parametrize("K", [1, 2, 3])
def test_all_alignments(T, K):
    s = np.random.default_rng([T, K]).normal(size=(T, 1, K + 1)) * 2
    every = enumerated(s[:, 0])
    net = bare(K + 1)
    for target, p in every.items():
        if len(target) <= 3:
            wanted = np.array([target], dtype=int).reshape(1, len(target))
            assert net.loss(s, wanted) == pytest.approx(-np.log(p), rel=1e-12)
            assert net.log_likelihood(s, wanted)[0] == pytest.approx(np.log(p), rel=1e-12)
    assert sum(every.values()) == pytest.approx(1)


@kernels
@pytest.mark.parametrize("seed", range(8))
def test_losses_and_gradients_are_the_references(seed):
    rng = np.random.default_rng(seed)
    T, B, K, L = (int(rng.integers(*span)) for span in ((1, 40), (1, 9), (1, 30), (0, 25)))
    s, lengths, targets = random_case(rng, T, B, K, L)
    net = bare(K + 1)
    loss = net.loss_and_grad(s, targets, lengths)
    wanted = [reference(s[: lengths[b], b], of_target(targets, b)) for b in range(B)]
    assert loss == pytest.approx(np.mean([own for own, _ in wanted]), rel=1e-12)
    ds = np.zeros_like(s)
    for b, (_, gradient) in enumerate(wanted):
        ds[: lengths[b], b] = gradient / B
    for name, want in {
        "head.b_y": ds.sum(axis=(0, 1)),
        "head.W_hy": np.einsum("tbi,tbj->ij", s * (np.arange(T)[:, None] < lengths)[..., None], ds),
    }.items():
        np.testing.assert_allclose(net.grads[name], want, rtol=1e-9, atol=1e-13)


@kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_step_has_its_gradient(dtype):
    """Through a layer that forgets: the gradient of W_xh has that of every step where the inputs are one-hot."""
    rng = np.random.default_rng(3)
    T, K = 12, 5
    s, target = rng.normal(size=(T, K + 1)) * 3, [0, 0, 3, 1]
    layer = rc.Recurrent("elman", T, K + 1, activation="identity", dtype=dtype)
    net = rc.Network(layer, head=rc.CTC(K))
    net.theta[...] = 0
    net.params["layers.0.fwd.W_xh"][...] = s
    net.params["head.W_hy"][...] = np.eye(K + 1)
    loss = net.loss_and_grad(np.eye(T)[:, None], [target])
    want, gradient = reference(s.astype(dtype).astype(float), target)
    assert loss == pytest.approx(want, rel=1e-12 if dtype == "float64" else 1e-6)
    np.testing.assert_allclose(
        net.grads["layers.0.fwd.W_xh"], gradient, atol=1e-13 if dtype == "float64" else 1e-6, rtol=0
    )


@kernels
@given(data=st.data())
def test_scores_far_apart(data):
    """Where probabilities leave the range of doubles, or of floats, the loss is that of log space."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    scale = data.draw(st.sampled_from([10.0, 100.0, 300.0, 1e3, 1e5]))
    T, B, K, L = (data.draw(st.integers(1, most)) for most in (60, 4, 6, 20))
    s, lengths, targets = random_case(rng, T, B, K, L)
    s = (s * scale).astype(dtype)
    net = bare(K + 1, dtype)
    loss = net.loss_and_grad(s, targets, lengths)
    wanted = [reference(s[: lengths[b], b].astype(float), of_target(targets, b)) for b in range(B)]
    assert loss == pytest.approx(np.mean([own for own, _ in wanted]), rel=1e-11 if dtype == "float64" else 1e-5)
    want = np.sum([gradient.sum(axis=0) for _, gradient in wanted], axis=0) / B
    np.testing.assert_allclose(net.grads["head.b_y"], want, atol=1e-9 if dtype == "float64" else 3e-4 * T)
    assert net.loss(s, targets, lengths) == pytest.approx(loss, rel=1e-12)


@kernels
def test_long_paths_that_look_hopeless_for_long():
    """The blank is sure for long, and yet all symbols must come: what is lost by rounding is found again."""
    T, K, L = 300, 2, 80
    s = np.zeros((T, 1, K + 1))
    s[..., K] = 30.0
    target = np.arange(L) % K
    net = bare(K + 1)
    want, gradient = reference(s[:, 0], target)
    assert net.loss_and_grad(s, target[None]) == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(net.grads["head.b_y"], gradient.sum(axis=0), rtol=1e-9)


@kernels
@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_gradients_of_a_network(cell):
    rng = np.random.default_rng(5)
    layer = rc.Recurrent(cell, 3, 5, num_layers=2, bidirectional=True, dtype="float64")
    net = rc.Network(layer, head=rc.CTC(4))
    targets = [[0, 1, 1], [3, -1, -1], [-1, -1, -1], [2, 0, -1]]
    errors = rc.gradcheck(net, rng.normal(size=(7, 4, 3)), np.array(targets), lengths=[7, 3, 1, 5])
    assert max(errors.values()) < 1e-6


@pytest.mark.parametrize("shape", [(20, 6, 8, 5), (60, 4, 200, 12)])
def test_like_pytorch(shape):
    torch = peer("torch")
    T, B, K, L = shape
    rng = np.random.default_rng(0)
    s = rng.normal(size=(T, B, K + 1)) * 2
    counts, lengths = rng.integers(0, L + 1, size=B), rng.integers(2 * L, T + 1, size=B)
    targets = rng.integers(0, K, size=(B, L))
    given = torch.tensor(s, requires_grad=True)
    sizes = torch.tensor(lengths), torch.tensor(counts)
    wanted = torch.nn.functional.ctc_loss(
        torch.log_softmax(given, -1), torch.tensor(targets), *sizes, blank=K, reduction="sum"
    )
    (wanted / B).backward()
    net = bare(K + 1)
    loss = net.loss_and_grad(s, targets, lengths, target_lengths=counts)
    assert abs(loss - wanted.item() / B) < 1e-10 * loss
    np.testing.assert_allclose(net.grads["head.b_y"], given.grad.sum((0, 1)).numpy(), atol=1e-10, rtol=0)
    ds = given.grad.numpy()
    np.testing.assert_allclose(net.grads["head.W_hy"], np.einsum("tbi,tbj->ij", s, ds), atol=1e-10, rtol=0)


# ---------------------------------------------------------------- how it fits in


@kernels
def test_the_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    s, lengths, targets = random_case(rng, 90, 13, 40, 30)
    found = [bare(41, "float32", n) for n in (1, 2, 5)]
    losses = [net.loss_and_grad(s.astype("float32"), targets, lengths) for net in found]
    assert len(set(losses)) == 1
    if twins.native_products():
        assert all(np.array_equal(net.grad, found[0].grad) for net in found)


def test_a_batch_is_its_sequences_one_by_one():
    rng = np.random.default_rng(1)
    s, lengths, targets = random_case(rng, 30, 7, 6, 9)
    net = bare(7)
    together = net.log_likelihood(s, targets, lengths)
    for b in range(7):
        own = net.log_likelihood(s[: lengths[b], b : b + 1], targets[b : b + 1])
        assert own[0] == together[b]
    assert net.loss(s, targets, lengths) == pytest.approx(-together.mean(), rel=1e-14)


def test_lengths_of_targets_say_what_padding_says():
    rng = np.random.default_rng(2)
    s, lengths, targets = random_case(rng, 20, 5, 4, 6)
    counts = (targets >= 0).sum(axis=1)
    noise = np.where(targets < 0, 3, targets)
    net = bare(5)
    assert net.loss(s, noise, lengths, target_lengths=counts) == net.loss(s, targets, lengths)
    opt, other = rc.SGD(0.1), net.copy()
    assert net.train_step(s, noise, opt, lengths, target_lengths=counts) == other.train_step(
        s, targets, rc.SGD(0.1), lengths
    )
    assert np.array_equal(net.theta, other.theta)
    likely = net.log_likelihood(s, noise, lengths, target_lengths=counts)
    assert np.array_equal(likely, net.log_likelihood(s, targets, lengths))


def test_weights_and_parts_of_a_batch():
    rng = np.random.default_rng(4)
    s, lengths, targets = random_case(rng, 15, 6, 3, 5)
    net = bare(4)
    weights = rng.random(6)
    loss = net.loss_and_grad(s, targets, lengths, sample_weight=weights)
    assert loss == pytest.approx(-(weights * net.log_likelihood(s, targets, lengths)).sum() / 6)
    wanted = net.grad.copy()
    assert net.batch_weight(targets, lengths) == 6.0
    parts = 0.0
    for n, some in enumerate((slice(0, 2), slice(2, 6))):
        parts += net.loss_and_grad(
            *(s[:, some], targets[some], lengths[some]),
            accumulate=n > 0,
            sample_weight=weights[some],
            divisor=6.0,
        )
    assert parts == pytest.approx(loss)
    np.testing.assert_allclose(net.grad, wanted, atol=1e-13)


def test_batch_first_and_beside_another_head():
    rng = np.random.default_rng(6)
    x, targets, kinds = rng.normal(size=(8, 3, 2)), [[0, 1], [1, -1], [2, 2]], [0, 1, 1]
    heads = {"text": rc.CTC(3), "kind": rc.Softmax(2, pooling="last")}
    layer = rc.Recurrent("gru", 2, 6, dtype="float64")
    net = rc.Network(layer, heads=heads)
    first = rc.Network(rc.Recurrent("gru", 2, 6, dtype="float64"), heads=heads, batch_first=True)
    first.theta[...] = net.theta
    given = {"text": targets, "kind": kinds}
    loss = net.loss_and_grad(x, given, lengths=[8, 5, 7])
    assert first.loss_and_grad(x.swapaxes(0, 1), given, lengths=[8, 5, 7]) == loss
    assert np.array_equal(first.grad, net.grad)
    counted = {"text": np.maximum(targets, 0), "kind": kinds}
    assert net.loss_and_grad(x, counted, lengths=[8, 5, 7], target_lengths={"text": [2, 1, 2]}) == loss
    assert first.predict(x.swapaxes(0, 1))["text"].shape == (3, 8, 4)
    errors = rc.gradcheck(net, x, given, lengths=[8, 5, 7])
    assert max(errors.values()) < 1e-6
    scores, _ = first.forward(x.swapaxes(0, 1))
    first.backward({"text": scores["text"]})


def test_predictions_are_probabilities_also_step_by_step():
    rng = np.random.default_rng(8)
    net = rc.Network(rc.Recurrent("lstm", 3, 5), head=rc.CTC(4))
    x = rng.normal(size=(6, 2, 3)).astype("float32")
    p = net.predict(x)
    assert p.shape == (6, 2, 5)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-6)
    session = net.session(batch_size=2)
    assert np.array_equal([session.step(x_t) for x_t in x], p)


def test_saved_pickled_and_copied(tmp_path):
    net = rc.Network(rc.Recurrent("gru", 3, 5), head=rc.CTC(4))
    x = np.random.default_rng(9).normal(size=(6, 2, 3)).astype("float32")
    wanted = net.predict(x)
    net.save(tmp_path / "net.safetensors")
    for twin in (rc.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net)), net.copy()):
        assert twin.head == net.head
        assert twin.head.symbols == 4
        assert np.array_equal(twin.predict(x), wanted)


def test_a_trainer_takes_padded_targets():
    rng = np.random.default_rng(10)
    X, y = [], np.full((40, 4), -1)
    for n in range(40):
        symbols = rng.integers(0, 3, size=rng.integers(0, 5))
        steps = np.concatenate([[3, symbol, symbol] for symbol in symbols] + [[3]]).astype(int)
        X.append(np.eye(4, dtype="float32")[steps])
        y[n, : len(symbols)] = symbols
    net = rc.Network(rc.Recurrent("gru", 4, 12), head=rc.CTC(3))
    data = rc.Sequences.of(X, y)
    trainer = rc.Trainer(net, rc.Adam(0.02), data, batch_size=8, max_epochs=40, validation=data).run()
    assert trainer.history[-1]["val_loss"] < 0.1 < trainer.history[0]["val_loss"]


def test_a_loss_that_is_not_finite_names_its_sequence():
    net = bare(3, "float32")
    s = np.zeros((5, 3, 3), dtype="float32")
    net.params["layers.0.fwd.W_xh"][0, 0] = 3e38
    s[2, 1, 0] = 1e30
    before = net.theta.copy()
    with pytest.raises(rc.NonFiniteError, match="sequence 1") as caught:
        net.train_step(s, [[0], [1], [0]], rc.SGD(0.1))
    assert caught.value.sequence == 1
    assert np.array_equal(net.theta, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_breaks_the_kernel(value):
    """Rows of such scores, by a bias: NaN comes out, and the next call is as ever."""
    net = bare(3)
    s = np.zeros((4, 2, 3))
    wanted = net.loss(s, [[0, 1], [1, -1]])
    net.params["head.b_y"][0] = value
    assert not np.isfinite(net.loss_and_grad(s, [[0, 1], [1, -1]]))
    net.params["head.b_y"][0] = 0
    assert net.loss_and_grad(s, [[0, 1], [1, -1]]) == wanted


def test_exported_as_onnx(tmp_path):
    onnxruntime = peer("onnxruntime")
    peer("onnx")
    net = rc.Network(rc.Recurrent("gru", 3, 5, bidirectional=True), head=rc.CTC(4))
    x = np.random.default_rng(11).normal(size=(6, 2, 3)).astype("float32")
    net.to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    given = {each.name: x if each.name == "x" else np.array([6, 4]) for each in session.get_inputs()}
    found, wanted = session.run(["probabilities"], given)[0], net.predict(x, lengths=[6, 4])
    for b, length in enumerate([6, 4]):
        np.testing.assert_allclose(found[:length, b], wanted[:length, b], atol=1e-5)


def test_scores_of_any_origin():
    rng = np.random.default_rng(12)
    s, lengths, targets = random_case(rng, 25, 6, 5, 8)
    losses, ds = rc.ctc.loss_and_grad(s, targets, lengths)
    for b in range(6):
        want, gradient = reference(s[: lengths[b], b], of_target(targets, b))
        assert losses[b] == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(ds[: lengths[b], b], gradient, atol=1e-13)
        assert not ds[lengths[b] :, b].any()
    alone, nothing = rc.ctc.loss_and_grad(s, targets, lengths, gradient=False, n_threads=3)
    assert nothing is None
    assert np.array_equal(alone, losses)
    narrow, _ = rc.ctc.loss_and_grad(s.astype("float32"), targets, lengths)
    np.testing.assert_allclose(narrow, losses, rtol=1e-6)
    with pytest.raises(ValueError, match=r"T, B, K \+ 1"):
        rc.ctc.loss_and_grad(s[0], targets)


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("targets", "more", "message"),
    [
        ([[0, 0, 0], [0, 1, -1]], {}, "sequence 0 are too long.*3 symbols, 2 of.*at least 5 steps, and there are 4"),
        ([[0, 1, 0], [0, 0, -1]], {"lengths": [4, 2]}, "sequence 1 are too long.*at least 3 steps, and there are 2"),
        ([[0, 1, 2], [0, 3, -1]], {}, "between 0 and 2.*sequence 1"),
        ([[0, 1, 2], [0, -2, -1]], {}, "sequence 1"),
        ([[0, -1, 2], [0, 1, -1]], {}, "sequence 0 go on after -1"),
        ([[0.5, 1], [1, 0]], {}, "whole numbers"),
        ([0, 1], {}, "shape"),
        ([[0, 1]], {}, r"shape \(2, L\)"),
        ([[0, 1], [1, 0]], {"target_lengths": [1, 3]}, "sequence 1 is 3"),
        ([[0, 1], [1, 0]], {"target_lengths": [1]}, "2 whole numbers"),
        ([[0, 1], [1, -1]], {"target_lengths": [1, 2]}, "sequence 1 have a number below 0"),
        ([[0, 1], [1, 0]], {"target_lengths": [1.0, 2.0]}, "whole numbers"),
        ([[0, 1], [1, 0]], {"sample_weight": np.ones((4, 2))}, "one per sequence"),
    ],
)
def test_bad_targets(targets, more, message):
    net = rc.Network(rc.Recurrent("gru", 2, 3), head=rc.CTC(3))
    before = net.grad.copy()
    with pytest.raises(ValueError, match=message):
        net.loss_and_grad(np.zeros((4, 2, 2)), np.array(targets), **more)
    assert np.array_equal(net.grad, before)


def test_bad_heads():
    with pytest.raises(ValueError, match="pooling='every'"):
        rc.Network(rc.Recurrent("gru", 2, 3), head=rc.CTC(3), pooling="last")
    with pytest.raises(ValueError, match="symbols"):
        rc.CTC(0)
    with pytest.raises(ValueError, match="target_lengths"):
        rc.Network(rc.Recurrent("gru", 2, 3), head=rc.Softmax(3)).loss_and_grad(
            np.zeros((4, 2, 2)), np.zeros((4, 2), int), target_lengths=[1, 1]
        )
    with pytest.raises(ValueError, match="predict"):
        rc.Network(rc.Recurrent("gru", 2, 3), head=rc.CTC(3)).decode(np.zeros((4, 2, 2)))
