"""What must hold for any sizes, drawn by hypothesis."""

import itertools
import math

import numpy as np
import reference as ref
import twins
from hypothesis import given
from hypothesis import strategies as st

small = st.integers(1, 6)
odd = st.integers(1, 21)
seeds = st.integers(0, 2**32 - 1)
directions = st.sampled_from(["fwd", "reverse", "concat", "sum"])
activations = st.sampled_from(list(ref.ACTIVATIONS))
kinds = st.sampled_from(["dense", "ids", "bags"])
stacks = st.builds(
    ref.Stack,
    input_size=st.integers(1, 19),
    hidden_size=odd,
    num_layers=st.integers(1, 2),
    direction=directions,
    activation=activations,
)
HEAD = ref.Head("softmax", 5)
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def zero_state(layer, x):
    """Given like any other one, so that it has a gradient."""
    shape = (layer.num_layers * len(layer.directions), x.shape[1], layer.hidden_size)
    return (np.zeros(shape, layer.theta.dtype),)


def train(layer, x, dy, state=None, lengths=None, dstate=None):
    """Everything a forward and backward return, gradients included."""
    layer.zero_grad()
    state = zero_state(layer, x) if state is None else state
    y, final = layer.forward(x, state=state, lengths=lengths)
    dx, dstart = layer.backward(dy, dstate=dstate)
    return y, final[0], dx, dstart[0], layer.grad.copy()


@given(stacks, odd, odd, kinds, seeds)
def test_a_batch_is_its_sequences_one_by_one(net, T, B, kind, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, lengths = twins.random_input(rng, kind, T, B, net.input_size), twins.random_lengths(rng, T, B)
    (h0,), dy = twins.random_state(rng, net, B), rng.standard_normal((T, B, net.output_size))
    y, final, dx, dh0, grad = train(layer, x, dy, (h0,), lengths)
    total = np.zeros_like(grad)
    for b, n in enumerate(lengths):
        alone = train(layer, x[:n, b : b + 1], dy[:n, b : b + 1], (h0[:, b : b + 1],))
        np.testing.assert_allclose(y[:n, b], alone[0][:, 0], **CLOSE)
        assert not y[n:, b].any()
        np.testing.assert_allclose(final[:, b], alone[1][:, 0], **CLOSE)
        if kind == "dense":
            np.testing.assert_allclose(dx[:n, b], alone[2][:, 0], **CLOSE)
            assert not dx[n:, b].any()
        np.testing.assert_allclose(dh0[:, b], alone[3][:, 0], **CLOSE)
        total += alone[4]
    assert ref.relative_error(grad, total) < 1e-12


@given(stacks, odd, small, seeds)
def test_the_order_of_a_batch_is_the_caller_s(net, T, B, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, lengths = rng.standard_normal((T, B, net.input_size)), twins.random_lengths(rng, T, B)
    y, (final,) = layer.forward(x, lengths=lengths)
    turn = rng.permutation(B)
    z, (other,) = layer.forward(x[:, turn], lengths=lengths[turn])
    np.testing.assert_allclose(y[:, turn], z, **CLOSE)
    np.testing.assert_allclose(final[:, turn], other, **CLOSE)


@given(stacks, odd, small, kinds, st.data(), seeds)
def test_chunks_with_a_carried_state_are_the_whole(net, T, B, kind, data, seed):
    rng = np.random.default_rng(seed)
    net = ref.Stack(net.input_size, net.hidden_size, net.num_layers, "fwd", net.activation)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x = twins.random_input(rng, kind, T, B, net.input_size)
    y, (final,) = layer.forward(x)
    cuts = sorted(data.draw(st.sets(st.integers(1, T))) | {0, T})
    state, parts = None, []
    for start, stop in itertools.pairwise(cuts):
        part, state = layer.forward(x[start:stop], state)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), y, **CLOSE)
    np.testing.assert_allclose(state[0], final, **CLOSE)


@given(stacks, odd, small, seeds)
def test_a_gradient_goes_through_chunks_by_dstate(net, T, B, seed):
    """Backward chunk by chunk, each one's dstate handed to the one before, is the whole's."""
    rng = np.random.default_rng(seed)
    net = ref.Stack(net.input_size, net.hidden_size, net.num_layers, "fwd", net.activation)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, dy = rng.standard_normal((T + 1, B, net.input_size)), rng.standard_normal((T + 1, B, net.output_size))
    _, _, dx, dh0, grad = train(layer, x, dy)
    cut = (T + 1) // 2
    _, middle = layer.forward(x[:cut])
    layer.zero_grad()
    layer.forward(x[cut:], middle)
    late, dmiddle = layer.backward(dy[cut:])
    layer.forward(x[:cut], zero_state(layer, x))
    early, dstart = layer.backward(dy[:cut], dmiddle)
    np.testing.assert_allclose(np.concatenate([early, late]), dx, **CLOSE)
    np.testing.assert_allclose(dstart[0], dh0, **CLOSE)
    assert ref.relative_error(layer.grad, grad) < 1e-12


@given(stacks, odd, small, st.sampled_from(["ids", "bags"]), seeds)
def test_symbols_are_sums_of_one_hot_rows(net, T, B, kind, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, lengths = twins.random_input(rng, kind, T, B, net.input_size), twins.random_lengths(rng, T, B)
    dy = rng.standard_normal((T, B, net.output_size))
    sparse = train(layer, x, dy, lengths=lengths)
    dense = train(layer, ref.as_dense(x, net.input_size), dy, lengths=lengths)
    for i in (0, 1, 3):
        np.testing.assert_allclose(sparse[i], dense[i], **CLOSE)
    assert sparse[2] is None
    assert ref.relative_error(sparse[4], dense[4]) < 1e-12


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
    results = [train(twins.layer(net, params, dtype, n_threads=n), x, dy, lengths=lengths) for n in (1, 2, 3, 8)]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            twins.assert_same_bits(one, two)


@given(stacks, odd, small, st.sampled_from(["dense", "ids"]), seeds)
def test_streaming_is_forward(net, T, B, kind, seed):
    rng = np.random.default_rng(seed)
    net = ref.Stack(net.input_size, net.hidden_size, net.num_layers, "fwd", net.activation)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x = twins.random_input(rng, kind, T, B, net.input_size)
    state = twins.random_state(rng, net, B)
    y, (final,) = layer.forward(x, state)
    for t in range(T):
        y_t, state = layer.step(x[t], state)
        np.testing.assert_allclose(y_t, y[t], **CLOSE)
    np.testing.assert_allclose(state[0], final, **CLOSE)


@given(stacks, odd, small, seeds)
def test_gradients_are_linear_in_dy(net, T, B, seed):
    rng = np.random.default_rng(seed)
    layer = twins.layer(net, net.random_params(rng, 0.3))
    x, one = rng.standard_normal((T, B, net.input_size)), rng.standard_normal((T, B, net.output_size))
    two = rng.standard_normal(one.shape)
    apart = [train(layer, x, dy) for dy in (one, two)]
    together = train(layer, x, one - 3 * two)
    for i in (2, 3, 4):
        assert ref.relative_error(together[i], apart[0][i] - 3 * apart[1][i]) < 1e-11


@given(st.integers(1, 40), st.integers(1, 64), st.integers(1, 40), st.sampled_from(["fwd", "concat"]), seeds)
def test_single_precision_is_double_precision_rounded(D, H, T, direction, seed):
    """Within c·ceil(log2(T·(D + H)))·eps, for weights that neither forget at once nor explode."""
    rng = np.random.default_rng(seed)
    net, B = ref.Stack(D, H, direction=direction), 3
    params = {name: array / math.sqrt(H) for name, array in net.random_params(rng).items()}
    params = {name: array.astype(np.float32).astype(float) for name, array in params.items()}
    x = rng.standard_normal((T, B, D)).astype(np.float32)
    dy = rng.standard_normal((T, B, net.output_size)).astype(np.float32)
    wide = train(twins.layer(net, params), x.astype(float), dy.astype(float))
    narrow = train(twins.layer(net, params, "float32"), x, dy)
    bound = 16 * math.ceil(math.log2(T * (D + H))) * np.finfo(np.float32).eps
    for one, other in zip(narrow, wide, strict=True):
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
