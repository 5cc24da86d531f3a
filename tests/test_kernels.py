"""The compiled core alone: a small selection that is run for every instruction-set level and product.

Against back-propagation written for whole batches in plain NumPy, itself held against the reference below.
"""

import numpy as np
import pytest
import reference as ref
import twins

pytestmark = pytest.mark.kernels

SLOPES = {  # the derivative, from the output
    "tanh": lambda h: 1 - h * h,
    "sigmoid": lambda h: h * (1 - h),
    "relu": lambda h: (h > 0).astype(float),
    "leaky_relu": lambda h: np.where(h > 0, 1, 0.01),
    "clipped_relu": lambda h: ((h > 0) & (h < 6)).astype(float),
    "identity": np.ones_like,
}


def elman(p, x, h0, lengths, dy, dh, activation):
    """y, the final state and all gradients of one forward layer; sequences beyond their end stand still."""
    T = len(x)
    f, slope = ref.ACTIVATIONS[activation], SLOPES[activation]
    alive = (np.arange(T)[:, None] < lengths)[:, :, None]
    h, y = [h0], np.zeros(dy.shape)
    for t in range(T):
        new = f(x[t] @ p["W_xh"] + h[-1] @ p["W_hh"] + p["b_h"])
        y[t] = np.where(alive[t], new, 0)
        h.append(np.where(alive[t], new, h[-1]))
    grads = {name: np.zeros_like(array) for name, array in p.items()}
    dx, carry = np.zeros_like(x), dh
    for t in reversed(range(T)):
        dz = np.where(alive[t], (carry + dy[t]) * slope(h[t + 1]), 0)
        grads["W_xh"] += np.where(alive[t], x[t], 0).T @ dz
        grads["W_hh"] += h[t].T @ dz
        grads["b_h"] += dz.sum(axis=0)
        dx[t] = dz @ p["W_xh"].T
        carry = np.where(alive[t], dz @ p["W_hh"].T, carry)
    return {"y": y, "final": h[-1], "dx": dx, "dh0": carry, **grads}


def run(net: ref.Stack, params, x, h0, lengths, dy, dh, dtype, **options):
    layer = twins.layer(net, params, dtype, **options)
    layer.zero_grad()
    y, (final,) = layer.forward(x.astype(dtype), state=(h0.astype(dtype),), lengths=lengths)
    dx, (dh0,) = layer.backward(dy.astype(dtype), dstate=(dh.astype(dtype),))
    return {"y": y, "final": final, "dx": dx, "dh0": dh0} | {k.split(".")[-1]: v for k, v in layer.grads.items()}


def case(net: ref.Stack, T, B, ragged):
    rng = np.random.default_rng(B)
    params = {name: (array / np.sqrt(net.hidden_size)) for name, array in net.random_params(rng, 1.0).items()}
    (h0,) = twins.random_state(rng, net, B)
    lengths = twins.random_lengths(rng, T, B) if ragged else np.full(B, T)
    x, dy = rng.standard_normal((T, B, net.input_size)), rng.standard_normal((T, B, net.hidden_size))
    return params, (x, h0, lengths, dy, rng.standard_normal(h0.shape))


def own(params):
    return {name.split(".")[-1]: array for name, array in params.items()}


# T, B, D, H: round ones, odd ones, one row, many rows, every remainder of a tile, more than a panel keeps in cache
SIZES = [
    (1, 1, 1, 1),
    (4, 1, 64, 64),
    (9, 5, 3, 17),
    (6, 6, 16, 32),
    (7, 13, 93, 77),
    (3, 37, 10, 200),
    (5, 64, 128, 128),
    (12, 7, 50, 65),
    (2, 100, 5, 33),
    (20, 3, 130, 15),
    (3, 12, 257, 260),
    (3, 70, 9, 1100),
]


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_the_batch_formula_is_the_reference(activation):
    net = ref.Stack(4, 3, activation=activation)
    params, data = case(net, 5, 3, ragged=True)
    x, h0, lengths, dy, dh = data

    def weighted_sum(a):
        y, (final,) = ref.forward(net, a, a["dx"], (a["dh0"],), lengths)
        return (y * dy).sum() + (final * dh).sum()

    exact = ref.derivative(weighted_sum, {**params, "dx": x, "dh0": h0})
    got = elman(own(params), x, h0[0], lengths, dy, dh[0], activation)
    for name, array in exact.items():
        mine = got[name.split(".")[-1]]
        assert ref.relative_error(mine, array.reshape(mine.shape)) < 1e-13, name
    y, (final,) = ref.forward(net, params, x, (h0,), lengths)
    assert ref.relative_error(got["y"], y) < 1e-14
    assert ref.relative_error(got["final"], final[0]) < 1e-14


def compare(got, wanted, dtype, context):
    for name, array in wanted.items():
        ours = got[name].reshape(array.shape)
        assert ref.relative_error(ours, array) < (2e-5 if dtype == "float32" else 5e-14), (name, context)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size, dtype, ragged):
    T, B, D, H = size
    net = ref.Stack(D, H)
    params, data = case(net, T, B, ragged)
    wanted = elman(own(params), data[0], data[1][0], *data[2:4], data[4][0], "tanh")
    for n_threads in (1, 3):
        compare(run(net, params, *data, dtype, n_threads=n_threads), wanted, dtype, n_threads)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_remainder_of_rows_and_units(dtype):
    """Each batch size up to two tiles of rows and each width up to three vectors, once."""
    for B, H in [(1 + i % 14, 1 + i) for i in range(50)]:
        net = ref.Stack(1 + (7 * H) % 11, H)
        params, data = case(net, 3, B, ragged=True)
        wanted = elman(own(params), data[0], data[1][0], *data[2:4], data[4][0], "tanh")
        compare(run(net, params, *data, dtype, n_threads=1), wanted, dtype, (B, H))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_activations(activation, dtype):
    net = ref.Stack(19, 35, activation=activation)
    params, data = case(net, 8, 9, ragged=True)
    params["layers.0.fwd.b_h"] += 1.5  # some units beyond the clip
    wanted = elman(own(params), data[0], data[1][0], *data[2:4], data[4][0], activation)
    compare(run(net, params, *data, dtype), wanted, dtype, activation)


SIZES = [(5, 7), (33, 64), (20, 35)]
GATED = [ref.member(name, *sizes) for name in ref.FAMILY if name != "elman" for sizes in SIZES]
GATED.append(ref.Stack(9, 18, cell="lstm", cell_options=(("variant", "CIFG"), ("peepholes", True))))
GATED += [ref.member(name, 3, 256) for name in ("lstm", "gru", "lstm with layer norm")]  # rows of 8 KiB get a line more


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("net", GATED, ids=str)
def test_gated_cells(net, n_threads):
    """Outputs against the reference; gradients by its derivative in one random direction per array."""
    T, B = 5, 9
    rng = np.random.default_rng(44)
    params = {name: array / np.sqrt(net.hidden_size) for name, array in net.random_params(rng, 1.0).items()}
    start, dfinal = twins.named_state(rng, net, B), twins.random_state(rng, net, B)
    x, dy = rng.standard_normal((T, B, net.input_size)), rng.standard_normal((T, B, net.output_size))
    lengths = twins.random_lengths(rng, T, B)
    layer = twins.layer(net, params, n_threads=n_threads)
    layer.zero_grad()
    y, final = layer.forward(x, tuple(start.values()), lengths)
    dx, dstart = layer.backward(dy, dfinal)
    wanted, last = ref.forward(net, params, x, tuple(start.values()), lengths)
    compare({"y": y, **dict(enumerate(final))}, {"y": wanted, **dict(enumerate(last))}, "float64", net)

    gradients = dict(layer.grads) | {"x": dx} | dict(zip(start, dstart, strict=True))
    values = params | start | {"x": x}
    function = twins.weighted_sum(net, x, dy, dfinal, lengths)
    for name, gradient in gradients.items():
        way = rng.standard_normal(gradient.shape)
        exact = np.imag(function(values | {name: values[name] + 1e-30j * way})) / 1e-30
        assert abs((gradient * way).sum() - exact) <= 1e-12 * np.linalg.norm(gradient) * np.linalg.norm(way), name

    narrow = twins.layer(net, params, "float32", n_threads=n_threads)
    narrow.zero_grad()
    begin = tuple(s.astype("f") for s in start.values())
    y, final = narrow.forward(x.astype("f"), begin, lengths)
    dx, dstart = narrow.backward(dy.astype("f"), tuple(s.astype("f") for s in dfinal))
    compare({"y": y, **dict(enumerate(final))}, {"y": wanted, **dict(enumerate(last))}, "float32", net)
    compare(dict(narrow.grads) | {"x": dx} | dict(zip(start, dstart, strict=True)), gradients, "float32", net)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("direction", ["reverse", "concat", "sum"])
@pytest.mark.parametrize("depth", [1, 2])
def test_directions_and_depth(direction, depth, dtype):
    T, B = 4, 5
    rng = np.random.default_rng(41)
    for name in ref.FAMILY:
        net = ref.member(name, 6, 9, depth, direction)
        params = net.random_params(rng)
        x, lengths = rng.standard_normal((T, B, 6)), twins.random_lengths(rng, T, B)
        layer = twins.layer(net, params, dtype)
        y, final = layer.forward(x.astype(dtype), lengths=lengths)
        wanted, last = ref.forward(net, params, x, None, lengths)
        compare({"y": y, "final": final[0]}, {"y": wanted, "final": last[0]}, dtype, net)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["ids", "bags"])
def test_symbols(kind, dtype):
    """Rows of W_xh gathered and scattered, against the product with one-hot rows."""
    T, B, V, H = 9, 11, 30, 37
    net = ref.Stack(V, H)
    params, (_, h0, lengths, dy, dh) = case(net, T, B, ragged=True)
    x = twins.random_input(np.random.default_rng(42), kind, T, B, V)
    wanted = elman(own(params), ref.as_dense(x, V), h0[0], lengths, dy, dh[0], "tanh")
    layer = twins.layer(net, params, dtype)
    layer.zero_grad()
    y, (final,) = layer.forward(x, state=(h0.astype(dtype),), lengths=lengths)
    _, (dh0,) = layer.backward(dy.astype(dtype), dstate=(dh.astype(dtype),))
    got = {"y": y, "final": final, "dh0": dh0} | {k.split(".")[-1]: v for k, v in layer.grads.items()}
    del wanted["dx"]
    compare(got, wanted, dtype, kind)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("readout", ["every", "last", "mean", "max"])
@pytest.mark.parametrize("kind", ["softmax", "squared", "sigmoid"])
def test_heads(kind, readout, dtype):
    """The fused projection and loss, for the number of classes a tile hates."""
    T, B, H, K = 5, 7, 21, 33
    rng = np.random.default_rng(43)
    net, head = ref.Stack(8, H, direction="concat"), ref.Head(kind, K)
    params = twins.random_params(net, head, rng)
    x, targets = rng.standard_normal((T, B, 8)), head.random_targets(rng, (T, B) if readout == "every" else (B,))
    lengths = twins.random_lengths(rng, T, B)
    made = twins.network(net, head, readout, params, dtype=dtype)
    given = targets if kind == "softmax" else targets.astype(dtype)
    loss = made.loss_and_grad(x.astype(dtype), given, lengths=lengths)
    wanted = ref.loss(net, head, readout, params, x, targets, lengths)
    assert loss == pytest.approx(wanted, rel=1e-5 if dtype == "float32" else 1e-13)
    # the head's bias: one number per class, cheap to derive exactly
    bias = {"head.b_y": params["head.b_y"]}
    exact = ref.derivative(lambda a: ref.loss(net, head, readout, {**params, **a}, x, targets, lengths), bias)
    compare(made.grads, exact, dtype, kind)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_bits(dtype):
    for T, B, D, H in ((6, 37, 20, 77), (20, 3, 8, 64), (4, 128, 16, 32)):
        net = ref.Stack(D, H)
        params, data = case(net, T, B, ragged=True)
        results = [run(net, params, *data, dtype, n_threads=n) for n in (1, 2, 3, 8)]
        for other in results[1:]:
            for name, array in results[0].items():
                twins.assert_same_bits(array, other[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_few_rows_have_the_bits_of_many(cell, dtype):
    """Few sequences take several panels of a matrix at once, many take one: every number of panels and odd ends."""
    T, B = 3, 14
    rng = np.random.default_rng(45)
    for H in [*range(1, 105, 3), 128, 200, 1040]:
        net = ref.Stack(1 + (5 * H) % 130, H, cell=cell)
        layer = twins.layer(net, net.random_params(rng), dtype, n_threads=1)
        x, dy = (rng.standard_normal((T, B, n)).astype(dtype) for n in (net.input_size, H))
        state, dstate = (tuple(s.astype(dtype) for s in twins.random_state(rng, net, B)) for _ in range(2))
        many = run_all(layer, x, state, dy, dstate)
        for rows in range(1, 7):
            some = [tuple(s[:, :rows] for s in group) for group in (state, dstate)]
            few = run_all(layer, x[:, :rows], some[0], dy[:, :rows], some[1])
            for wanted, got in zip(many, few, strict=True):
                twins.assert_same_bits(np.ascontiguousarray(wanted[:, :rows]), got)


def run_all(layer, x, state, dy, dstate):
    """y, the final states, dx and the initial states' gradients: each sequence's own."""
    y, final = layer.forward(np.ascontiguousarray(x), state)
    dx, dstart = layer.backward(np.ascontiguousarray(dy), dstate)
    return [y.copy(), *final, dx, *dstart]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_number_stays_visible(dtype):
    """A NaN in a weight reaches the outputs of all later steps; it must never turn into a number."""
    net = ref.Stack(5, 19)
    params, (x, _, _, _, _) = case(net, 4, 3, ragged=False)
    params["layers.0.fwd.b_h"][7] = np.nan
    y, _ = twins.layer(net, params, dtype).forward(x.astype(dtype), training=False)
    assert np.isnan(y[:, :, 7]).all()
    assert np.isnan(y[1:]).all()
