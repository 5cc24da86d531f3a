"""What must hold for any sizes, drawn by hypothesis."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import reference as ref
import twins
from hypothesis import given
from hypothesis import strategies as st

small = st.integers(1, 6)
odd = st.integers(1, 21)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["dense", "ids", "bags"])


def least_size(name: str) -> int:
    """A normalised row of fewer numbers is nearly constant: cancellation leaves little of its gradient."""
    return 4 if ref.FAMILY[name][1].get("layer_norm") else 1


@st.composite
def any_stack(draw, directions=("fwd", "reverse", "concat", "sum")):
    name = draw(st.sampled_from(list(ref.FAMILY)))
    return ref.member(
        name,
        input_size=draw(st.integers(least_size(name), 19)),
        hidden_size=draw(st.integers(least_size(name), 21)),
        num_layers=draw(st.integers(1, 2)),
        direction=draw(st.sampled_from(directions)),
        activation=draw(st.sampled_from(list(ref.ACTIVATIONS))) if name == "elman" else "tanh",
    )


stacks, forward_stacks = any_stack(), any_stack(("fwd",))
HEAD = ref.Head("softmax", 5)
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@dataclass
class Results:
    """Everything a forward and backward return, gradients included."""

    y: np.ndarray
    final: tuple[np.ndarray, ...]
    dx: np.ndarray | None
    dstart: tuple[np.ndarray, ...]
    grad: np.ndarray

    def gradients(self):
        return [*([] if self.dx is None else [self.dx]), *self.dstart, self.grad]

    def arrays(self):
        return [self.y, *self.final, *self.gradients()]


def zero_state(layer, net, x):
    """Given like any other one, so that it has a gradient."""
    return tuple(np.zeros(shape, layer.theta.dtype) for shape in net.state_shapes(x.shape[1]))


def train(layer, net, x, dy, state=None, lengths=None, dstate=None) -> Results:
    layer.zero_grad()
    y, final = layer.forward(x, state=state or zero_state(layer, net, x), lengths=lengths)
    dx, dstart = layer.backward(dy, dstate=dstate)
    return Results(y, final, dx, dstart, layer.grad.copy())


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


@given(stacks, odd, odd, kinds, seeds)
def test_a_batch_is_its_sequences_one_by_one(net, T, B, kind, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, lengths = twins.random_input(rng, kind, T, B, net.input_size), twins.random_lengths(rng, T, B)
    start, dy = twins.random_state(rng, net, B), rng.standard_normal((T, B, net.output_size))
    batch = train(layer, net, x, dy, start, lengths)
    total = np.zeros_like(batch.grad)
    for b, n in enumerate(lengths):
        own = slice(b, b + 1)
        alone = train(layer, net, x[:n, own], dy[:n, own], tuple(s[:, own] for s in start))
        assert_close([batch.y[:n, own]], [alone.y])
        assert_close((s[:, own] for s in batch.final), alone.final)
        assert_close((s[:, own] for s in batch.dstart), alone.dstart)
        assert not batch.y[n:, b].any()
        if kind == "dense":
            assert_close([batch.dx[:n, own]], [alone.dx])
            assert not batch.dx[n:, b].any()
        total += alone.grad
    assert ref.relative_error(batch.grad, total) < 1e-12


@given(stacks, odd, small, seeds)
def test_the_order_of_a_batch_is_the_caller_s(net, T, B, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, lengths = rng.standard_normal((T, B, net.input_size)), twins.random_lengths(rng, T, B)
    y, final = layer.forward(x, lengths=lengths)
    turn = rng.permutation(B)
    z, other = layer.forward(x[:, turn], lengths=lengths[turn])
    assert_close([y[:, turn]], [z])
    assert_close((s[:, turn] for s in final), other)


@given(forward_stacks, odd, small, kinds, st.data(), seeds)
def test_chunks_with_a_carried_state_are_the_whole(net, T, B, kind, data, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x = twins.random_input(rng, kind, T, B, net.input_size)
    y, final = layer.forward(x)
    cuts = sorted(data.draw(st.sets(st.integers(1, T))) | {0, T})
    state, parts = None, []
    for start, stop in itertools.pairwise(cuts):
        part, state = layer.forward(x[start:stop], state)
        parts.append(part)
    assert_close([np.concatenate(parts)], [y])
    assert_close(state, final)


@given(forward_stacks, odd, small, seeds)
def test_a_gradient_goes_through_chunks_by_dstate(net, T, B, seed):
    """Backward chunk by chunk, each one's dstate handed to the one before, is the whole's."""
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, dy = rng.standard_normal((T + 1, B, net.input_size)), rng.standard_normal((T + 1, B, net.output_size))
    whole = train(layer, net, x, dy)
    cut = (T + 1) // 2
    _, middle = layer.forward(x[:cut])
    late = train(layer, net, x[cut:], dy[cut:], middle)
    early = train(layer, net, x[:cut], dy[:cut], dstate=late.dstart)
    assert_close([np.concatenate([early.dx, late.dx])], [whole.dx])
    assert_close(early.dstart, whole.dstart)
    assert ref.relative_error(early.grad + late.grad, whole.grad) < 1e-12


@given(stacks, odd, small, st.sampled_from(["ids", "bags"]), seeds)
def test_symbols_are_sums_of_one_hot_rows(net, T, B, kind, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, lengths = twins.random_input(rng, kind, T, B, net.input_size), twins.random_lengths(rng, T, B)
    dy = rng.standard_normal((T, B, net.output_size))
    sparse = train(layer, net, x, dy, lengths=lengths)
    dense = train(layer, net, ref.as_dense(x, net.input_size), dy, lengths=lengths)
    assert sparse.dx is None
    assert_close([sparse.y, *sparse.final, *sparse.dstart], [dense.y, *dense.final, *dense.dstart])
    assert ref.relative_error(sparse.grad, dense.grad) < 1e-12


@given(odd, small, st.integers(1, 9), seeds)
def test_an_embedding_is_a_product_with_one_hot_rows(T, B, E, seed):
    rng = np.random.default_rng(seed)
    net, V = ref.Stack(E, 4), 7
    params = twins.random_params(net, HEAD, rng, symbols=V)
    with_table = twins.network(net, HEAD, params=params, symbols=V)
    plain_params = {name: array for name, array in params.items() if name != "embedding.E"}
    plain = twins.network(net, HEAD, params=plain_params)
    for kind in ("ids", "bags"):
        x, targets = twins.random_input(rng, kind, T, B, V), rng.integers(0, 5, (T, B))
        looked_up = ref.embed(x, params["embedding.E"])
        np.testing.assert_allclose(with_table.predict(x), plain.predict(looked_up), **CLOSE)
        loss = with_table.loss_and_grad(x, targets)
        assert math.isclose(loss, plain.loss_and_grad(looked_up, targets), rel_tol=1e-12)
        for name in plain_params:
            assert ref.relative_error(with_table.grads[name], plain.grads[name]) < 1e-11, name


@given(stacks, odd, odd, kinds, st.sampled_from(["float32", "float64"]), seeds)
def test_any_number_of_threads_gives_the_same_bits(net, T, B, kind, dtype, seed):
    rng = np.random.default_rng(seed)
    params = net.random_params(rng, 0.3)
    x, lengths = twins.random_input(rng, kind, T, B, net.input_size), twins.random_lengths(rng, T, B)
    dy = rng.standard_normal((T, B, net.output_size))
    layers = [twins.layer(net, params, dtype, n_threads=n) for n in (1, 2, 3, 8)]
    one, *others = (train(layer, net, x, dy, None, lengths) for layer in layers)
    for other in others:
        for a, b in zip(one.arrays(), other.arrays(), strict=True):
            twins.assert_same_bits(a, b)


@given(forward_stacks, odd, small, st.sampled_from(["dense", "ids"]), seeds)
def test_streaming_is_forward(net, T, B, kind, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x = twins.random_input(rng, kind, T, B, net.input_size)
    state = twins.random_state(rng, net, B)
    y, final = layer.forward(x, state)
    for t in range(T):
        y_t, state = layer.step(x[t], state)
        assert_close([y_t], [y[t]])
    assert_close(state, final)


@given(stacks, odd, small, seeds)
def test_gradients_are_linear_in_dy(net, T, B, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, one = rng.standard_normal((T, B, net.input_size)), rng.standard_normal((T, B, net.output_size))
    two = rng.standard_normal(one.shape)
    first, second, both = (train(layer, net, x, dy).gradients() for dy in (one, two, one - 3 * two))
    for a, b, c in zip(first, second, both, strict=True):
        assert ref.relative_error(c, a - 3 * b) < 1e-11


@given(
    st.sampled_from(list(ref.FAMILY)),
    st.integers(1, 40),
    st.integers(1, 64),
    st.integers(1, 40),
    st.sampled_from(["fwd", "concat"]),
    seeds,
)
def test_single_precision_is_double_precision_rounded(name, D, H, T, direction, seed):
    """Within c·ceil(log2(T·(D + H)))·eps, for weights that neither forget at once nor explode."""
    rng = np.random.default_rng(seed)
    D, H = max(D, least_size(name)), max(H, least_size(name))
    net, B = ref.member(name, D, H, direction=direction), 3
    params = {name: array / math.sqrt(H) for name, array in net.random_params(rng).items()}
    params = {name: array.astype(np.float32).astype(float) for name, array in params.items()}
    x = rng.standard_normal((T, B, D)).astype(np.float32)
    dy = rng.standard_normal((T, B, net.output_size)).astype(np.float32)
    wide = train(twins.layer(net, params), net, x.astype(float), dy.astype(float))
    narrow = train(twins.layer(net, params, "float32"), net, x, dy)
    bound = 16 * math.ceil(math.log2(T * (D + H))) * np.finfo(np.float32).eps
    for one, other in zip(narrow.arrays(), wide.arrays(), strict=True):
        assert one.dtype == np.float32
        assert ref.relative_error(one, other) < bound


@given(small, small, seeds)
def test_learning_rate_zero_changes_nothing(T, B, seed):
    import rnncore as rc

    rng = np.random.default_rng(seed)
    net = ref.Stack(4, 3)
    made = twins.network(net, HEAD, params=twins.random_params(net, HEAD, rng))
    before = made.theta.copy()
    for name, make in rc.OPTIMIZERS.items():
        if name == "adadelta":
            continue  # has no learning rate in its usual form
        made.train_step(rng.standard_normal((T, B, 4)), rng.integers(0, 5, (T, B)), make(learning_rate=0.0))
        np.testing.assert_array_equal(made.theta, before, err_msg=name)
