"""Attention over a memory: its equations in NumPy, differences, what must not matter, and as a part of a network."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnncore as rc
from rnncore._core import kernels

T, S, B, H, M = 5, 7, 4, 3, 6
SCORES = ("general", "dot", "scaled_dot")
NATIVE = kernels.config()["gemm"] == "native"


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def equations(attention, q, m=None, lengths=None, memory_lengths=None):
    """Outputs and weights, one query at a time, in double."""
    p = {name: np.asarray(value, float) for name, value in attention.params.items()}
    m, memory_lengths = (q, lengths) if m is None else (m, memory_lengths)
    (T, B, _), S = q.shape, len(m)
    lengths = [T] * B if lengths is None else lengths
    memory_lengths = [S] * B if memory_lengths is None else memory_lengths
    h, weights = np.zeros((T, B, attention.output_size)), np.zeros((T, B, S))
    for b in range(B):
        for t in range(lengths[b]):
            seen = min(memory_lengths[b], t + 1) if attention.causal else memory_lengths[b]
            rows = np.asarray(m[:seen, b], float)
            query = np.asarray(q[t, b], float)
            e = rows @ (query @ p["W"] if attention.score == "general" else query)
            e = e / np.sqrt(attention.size) if attention.score == "scaled_dot" else e
            a = np.exp(e - e.max())
            a /= a.sum()
            h[t, b] = np.tanh(np.concatenate([a @ rows, query]) @ p["W_c"])
            weights[t, b, :seen] = a
    return h, weights


def cases():
    for score, causal, own, ragged in itertools.product(SCORES, (False, True), (False, True), (False, True)):
        width = None if own or score != "general" else M
        yield pytest.param(
            {"size": H, "memory_size": width, "score": score, "causal": causal, "output_size": 4 if ragged else None},
            own,
            ragged,
            id=f"{score}-{'causal' if causal else 'all'}-{'own' if own else 'memory'}-{'ragged' if ragged else 'full'}",
        )


def arrays(rng, options, own, ragged, dtype="float64"):
    q = rng.standard_normal((T, B, H)).astype(dtype)
    m = None if own else rng.standard_normal((S, B, options["memory_size"] or H)).astype(dtype)
    lengths = rng.integers(1, T + 1, B) if ragged else None
    memory_lengths = rng.integers(1, S + 1, B) if ragged and not own else None
    return q, m, lengths, memory_lengths


# ---------------------------------------------------------------- the equations


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("options", "own", "ragged"), [*cases()])
def test_outputs_and_weights_are_the_equations(rng, options, own, ragged, dtype):
    attention = rc.Attention(**options, dtype=dtype)
    given = arrays(rng, options, own, ragged, dtype)
    h, weights = equations(attention, *given)
    tolerance = 1e-6 if dtype == "float32" else 1e-14  # a dozen roundings of numbers of size 1
    assert np.allclose(attention.forward(*given), h, rtol=0, atol=tolerance)
    assert np.allclose(attention.weights(*given), weights, rtol=0, atol=tolerance)
    assert np.array_equal(attention.weights(*given) == 0, weights == 0)  # masks are exact


@pytest.mark.kernels
@pytest.mark.parametrize(("options", "own", "ragged"), [*cases()])
def test_gradients_by_differences(rng, options, own, ragged):
    attention = rc.Attention(**options, dtype="float64")
    q, m, lengths, memory_lengths = arrays(rng, options, own, ragged)
    worst = rc.gradcheck(attention, q, lengths=lengths, memory=m, memory_lengths=memory_lengths)
    assert set(worst) == {*attention.params, "x", *(() if own else ("memory",))}
    assert max(worst.values()) < 1e-6, worst


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_outputs_and_gradients_are_pytorch_s(rng, score, causal):
    torch = pytest.importorskip("torch")
    T, S, B, H = 19, 33, 5, 12
    M = 21 if score == "general" else H
    attention = rc.Attention(H, M, score, causal, output_size=10, dtype="float64")
    q, m, dh = rng.standard_normal((T, B, H)), rng.standard_normal((S, B, M)), rng.standard_normal((T, B, 10))
    memory_lengths = rng.integers(1, S + 1, B)
    h = attention.forward(q, m, memory_lengths=memory_lengths)
    dq, dm = attention.backward(dh)
    tensors = [torch.tensor(x, requires_grad=True) for x in (q, m, *attention.params.values())]
    tq, tm, *weights = tensors
    by_sequence, memory = tq.transpose(0, 1), tm.transpose(0, 1)
    scores = torch.bmm(by_sequence @ weights[0] if score == "general" else by_sequence, memory.transpose(1, 2))
    hidden = torch.arange(S)[None, None, :] >= torch.tensor(memory_lengths)[:, None, None]
    if causal:
        hidden = hidden | (torch.arange(S)[None, None, :] > torch.arange(T)[None, :, None])
    scores = scores / (H**0.5 if score == "scaled_dot" else 1)
    share = torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=2)
    wanted = torch.tanh(torch.cat([torch.bmm(share, memory), by_sequence], dim=2) @ weights[-1]).transpose(0, 1)
    gradients = torch.autograd.grad(wanted, tensors, torch.tensor(dh))
    assert np.allclose(h, wanted.detach().numpy(), rtol=0, atol=1e-10)
    for got, other in zip((dq, dm, *attention.grads.values()), gradients, strict=True):
        assert np.allclose(got, other.numpy(), rtol=0, atol=1e-10)


@pytest.mark.kernels
@pytest.mark.parametrize(("T", "S", "H", "M", "F"), [(70, 130, 17, 40, 33), (1, 200, 8, 8, 8), (40, 1, 30, 9, 5)])
@pytest.mark.parametrize("causal", [False, True])
def test_larger_sizes(rng, T, S, H, M, F, causal):
    attention = rc.Attention(H, M, causal=causal, output_size=F, dtype="float64")
    q, m = rng.standard_normal((T, 3, H)), rng.standard_normal((S, 3, M))
    lengths, memory_lengths = [T, 1, max(T // 2, 1)], [1, S, max(S // 3, 1)]
    h, weights = equations(attention, q, m, lengths, memory_lengths)
    assert np.allclose(attention.forward(q, m, lengths, memory_lengths), h, rtol=0, atol=1e-13)
    assert np.allclose(attention.weights(q, m, lengths, memory_lengths), weights, rtol=0, atol=1e-13)
    worst = rc.gradcheck(attention, q, lengths=lengths, memory=m, memory_lengths=memory_lengths, samples=20)
    assert max(worst.values()) < 1e-5, worst


@pytest.mark.kernels
def test_large_scores_stay_probabilities(rng):
    attention = rc.Attention(4, score="dot")
    q = (1e18 * rng.standard_normal((T, B, 4))).astype("float32")
    weights = attention.weights(q)
    assert np.allclose(weights.sum(axis=2), 1)
    assert np.array_equal(weights.argmax(axis=2), np.einsum("tbh,sbh->tbs", *[q.astype(float)] * 2).argmax(axis=2))


# ---------------------------------------------------------------- what must not matter


@pytest.mark.kernels
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from(SCORES), st.booleans(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_a_batch_is_its_sequences_one_by_one(seed, score, causal, own, dtype):
    """Padding, its numbers, other sequences and the order of sequences do not matter."""
    rng = np.random.default_rng(seed)
    T, S, B, H = rng.integers(1, 12, 4)
    M = int(rng.integers(1, 12)) if score == "general" and not own else H
    attention = rc.Attention(int(H), int(M), score, causal, dtype=dtype)
    q, m = rng.standard_normal((T, B, H)).astype(dtype), rng.standard_normal((S, B, M)).astype(dtype)
    lengths, memory_lengths = rng.integers(1, T + 1, B), rng.integers(1, S + 1, B)
    dh = rng.standard_normal((T, B, H)).astype(dtype)
    for b in range(B):
        q[lengths[b] :, b] = m[memory_lengths[b] :, b] = np.nan
    memory = {} if own else {"memory": m, "memory_lengths": memory_lengths}
    h = attention.forward(q, lengths=lengths, **memory)
    dq, dm = attention.backward(dh)
    weights = attention.weights(q, lengths=lengths, **memory)
    gradient = attention.grad.copy()
    attention.zero_grad()
    for b in range(B):
        some, alone = lengths[b], {} if own else {"memory": m[: memory_lengths[b], b : b + 1]}
        one = attention.forward(q[:some, b : b + 1], **alone)
        dq_one, dm_one = attention.backward(dh[:some, b : b + 1])
        # BLAS has other bits for other sizes
        near = np.array_equal if NATIVE else lambda x, y: np.allclose(x, y, rtol=0, atol=1e-5)
        assert near(h[:some, b], one[:, 0])
        assert near(dq[:some, b], dq_one[:, 0])
        assert not h[some:, b].any()
        assert not dq[some:, b].any()
        seen = some if own else memory_lengths[b]
        assert near(weights[:some, b, :seen], attention.weights(q[:some, b : b + 1], **alone)[:, 0])
        assert not weights[some:, b].any()
        if not own:
            assert near(dm[: memory_lengths[b], b], dm_one[:, 0])
            assert not dm[memory_lengths[b] :, b].any()
    assert np.allclose(gradient, attention.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.kernels
@pytest.mark.parametrize(("H", "M", "S"), [(17, 40, 33), (64, 64, 120), (5, 3, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_queries_a_few_at_a_time_are_queries_together(rng, H, M, S, dtype):
    """To the bit, though a few do not pack the memory: what a decoder asks step by step is what it learned with."""
    attention = rc.Attention(H, M, output_size=20, dtype=dtype)
    q, m = rng.standard_normal((50, 3, H)).astype(dtype), rng.standard_normal((S, 3, M)).astype(dtype)
    h = attention.forward(q, m, training=False)
    for first, count in ((0, 1), (7, 2), (3, 4), (10, 5), (20, 30)):
        some = attention.forward(q[first : first + count], m, training=False)
        if NATIVE:
            assert np.array_equal(some, h[first : first + count])
        else:  # BLAS has other bits for other sizes: some 1e-6 in scores of size 10, and so in their exponentials
            assert np.allclose(some, h[first : first + count], rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from(SCORES))
def test_a_memory_in_another_order_gives_weights_in_that_order(seed, score):
    rng = np.random.default_rng(seed)
    T, S, B, H = rng.integers(1, 12, 4)
    attention = rc.Attention(int(H), score=score, dtype="float64")
    q, m = rng.standard_normal((T, B, H)), rng.standard_normal((S, B, H))
    order = rng.permutation(S)
    assert np.allclose(attention.weights(q, m[order]), attention.weights(q, m)[:, :, order], rtol=0, atol=1e-13)
    assert np.allclose(attention.forward(q, m[order]), attention.forward(q, m), rtol=0, atol=1e-12)


@pytest.mark.kernels
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([1.0, np.nan, np.inf]))
def test_causal_attention_does_not_see_what_comes(seed, factor):
    """Not even what is not a number."""
    rng = np.random.default_rng(seed)
    T, B, H = rng.integers(2, 40), 2, rng.integers(1, 20)
    attention = rc.Attention(int(H), causal=True, dtype="float64")
    q = rng.standard_normal((T, B, H))
    until = rng.integers(1, T)
    before, weights = attention.forward(q), attention.weights(q)
    q[until:] = factor * (1 + rng.random((T - until, B, H)))
    assert np.allclose(attention.forward(q)[:until], before[:until], rtol=0, atol=1e-14)
    assert np.array_equal(attention.weights(q)[:until], weights[:until])


@pytest.mark.kernels
@pytest.mark.parametrize("own", [False, True])
def test_the_same_bits_for_any_number_of_threads(rng, own):
    if not NATIVE:
        pytest.skip("BLAS has other bits for other sizes")
    attention = rc.Attention(48, causal=own)
    q, m = rng.standard_normal((40, 9, 48)).astype("f4"), rng.standard_normal((60, 9, 48)).astype("f4")
    memory = {} if own else {"memory": m, "memory_lengths": rng.integers(1, 61, 9)}
    lengths, found = rng.integers(1, 41, 9), []
    for threads in (1, 2, 3, 8):
        attention.n_threads = threads
        attention.zero_grad()
        h = attention.forward(q, lengths=lengths, **memory)
        dq, dm = attention.backward(h)
        found.append([h, dq, attention.grad.copy(), *(() if own else (dm,))])
    for other in found[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(found[0], other, strict=True))


def test_batch_first_is_the_same_with_axes_turned(rng):
    attention = rc.Attention(H, M)
    turned = rc.Attention(H, M, batch_first=True)
    q, m = rng.standard_normal((T, B, H)).astype("f4"), rng.standard_normal((S, B, M)).astype("f4")
    options = {"lengths": [5, 1, 3, 2], "memory_lengths": [7, 2, 3, 1]}
    h = attention.forward(q, m, **options)
    out = np.empty((B, T, H), "f4")
    assert turned.forward(q.swapaxes(0, 1), m.swapaxes(0, 1), **options, out=out) is out
    assert np.array_equal(out.swapaxes(0, 1), h)
    for got, wanted in zip(turned.backward(out), attention.backward(h), strict=True):
        assert np.array_equal(got.swapaxes(0, 1), wanted)
    assert np.array_equal(turned.grad, attention.grad)
    weights = turned.weights(q.swapaxes(0, 1), m.swapaxes(0, 1), **options)
    assert np.array_equal(weights.swapaxes(0, 1), attention.weights(q, m, **options))


def test_places_for_results(rng):
    attention = rc.Attention(H)
    q = rng.standard_normal((T, B, H)).astype("f4")
    h = attention.forward(q, lengths=[5, 1, 2, 3])
    dq, _ = attention.backward(h)
    out, dout = np.full((T, B, H), 7, "f4"), np.full((T, B, H), 7, "f4")
    assert attention.forward(q, lengths=[5, 1, 2, 3], out=out) is out
    assert attention.backward(h, out=dout)[0] is dout
    assert np.array_equal(out, h)
    assert np.array_equal(dout, dq)
    with pytest.raises(ValueError, match="share memory"):
        attention.forward(q, out=q)


# ---------------------------------------------------------------- by itself


def test_copies_pickles_and_files_are_the_same(rng, tmp_path):
    attention = rc.Attention(H, M, causal=True, output_size=2, random_state=4, n_threads=1)
    attention.freeze("W")
    attention.save(tmp_path / "attention.safetensors")
    q, m = rng.standard_normal((T, B, H)), rng.standard_normal((S, B, M))
    h = attention.forward(q, m)
    attention.backward(h)
    twins = [pickle.loads(pickle.dumps(attention)), copy.deepcopy(attention), attention.copy()]
    twins.append(rc.load(tmp_path / "attention.safetensors"))
    for twin in twins:
        assert np.array_equal(twin.forward(q, m, training=False), h)
        assert (twin.frozen, twin.random_state, repr(twin)) == (("W",), 4, repr(attention))
    assert np.array_equal(twins[0].grad, attention.grad)
    assert np.allclose(attention.copy("float64").forward(q, m), h, atol=1e-6)


def test_an_optimizer_trains_it_alone_but_for_what_is_frozen(rng):
    attention = rc.Attention(H, dtype="float64")
    attention.freeze("W")
    before = attention.theta.copy()
    q, wanted = rng.standard_normal((T, B, H)), np.tanh(rng.standard_normal((T, B, H)))
    adam, losses = rc.Adam(0.02), []
    for _ in range(50):
        h = attention.forward(q)
        losses.append(((h - wanted) ** 2).sum())
        attention.zero_grad()
        attention.backward(2 * (h - wanted))
        adam.step(attention)
    assert losses[-1] < 0.8 * losses[0]
    size = attention.params["W"].size
    assert np.array_equal(attention.theta[:size], before[:size])
    assert not np.array_equal(attention.theta[size:], before[size:])


def test_backward_belongs_to_the_latest_training_pass(rng):
    attention = rc.Attention(H)
    q = rng.standard_normal((T, B, H)).astype("f4")
    with pytest.raises(RuntimeError, match="call forward again"):
        attention.backward(q)
    h = attention.forward(q)
    attention.forward(q[:2], training=False)
    attention.weights(q[:1])
    with pytest.raises(ValueError, match="shape of the outputs"):
        attention.backward(h[:2])
    attention.backward(h)
    first = attention.grad.copy()
    with pytest.raises(RuntimeError, match="call forward again"):
        attention.backward(h)
    attention.forward(q)
    attention.backward(h)
    assert np.allclose(attention.grad, 2 * first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be a whole number"),
        ({"size": 3, "score": "concat"}, "score must be one of general, dot, scaled_dot"),
        ({"size": 3, "memory_size": 4, "score": "dot"}, "take score='general'"),
        ({"size": 3, "dtype": "int8"}, "dtype must be"),
    ],
)
def test_options_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        rc.Attention(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": np.empty((0, B, M))}, "memory is empty"),
        ({"memory_lengths": [0, 1, 1, 1]}, "memory_lengths must lie between 1 and S = 7"),
        ({"memory_lengths": [1, 1]}, "memory_lengths must be 4 whole numbers"),
        ({"lengths": [T + 1, 1, 1, 1]}, "lengths must lie between 1 and T = 5"),
        ({"memory": None}, "queries of 3 numbers cannot be a memory of 6"),
        ({"memory": np.ones((S, B, M + 1))}, r"memory must have shape \(T, B, 6\)"),
        ({"memory": np.ones((S, B + 1, M))}, "memory must be of 4 sequences"),
        ({"queries": np.ones((T, B))}, r"queries must have shape \(T, B, 3\)"),
        ({"out": np.ones((T, B, H + 1), "f4")}, "out must be"),
    ],
)
def test_arrays_that_do_not_fit(change, message):
    given = {"queries": np.ones((T, B, H), "f4"), "memory": np.ones((S, B, M), "f4")}
    with pytest.raises(ValueError, match=message):
        rc.Attention(H, M).forward(**(given | change))


def test_lengths_of_a_memory_that_is_not_there():
    with pytest.raises(ValueError, match="without one"):
        rc.Attention(H).forward(np.ones((T, B, H)), memory_lengths=[1] * B)
