"""Few symbols in many rows: each one's product with the input's weights is made once, and picked."""

import numpy as np
import pytest

import rnncore as rc

V, E, H, T, B = 7, 5, 6, 9, 4  # 36 rows: more than twice the symbols
LENGTHS = np.array([9, 4, 9, 1])
MANY = 1000  # symbols of a table that is too long to be picked from


def network(cell, symbols, dtype="float64", width=E, **options):
    layer = rc.Recurrent(cell, width, H, dtype=dtype, random_state=3, **options)
    net = rc.Network(layer, head=rc.Softmax(4), embedding=rc.Embedding(symbols, width))
    rng = np.random.default_rng(1)
    for name, values in net.params.items():
        if name != "embedding.E":
            values[...] = rng.normal(0, 0.4, values.shape)
    net.params["embedding.E"][:V] = np.random.default_rng(2).normal(0, 1, (V, width))
    return net


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (T, B)), rng.integers(0, 4, (T, B))


def both(cell, **options):
    return network(cell, V, **options), network(cell, MANY, **options)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("width", [E, H])  # some cells add x itself, where it is as wide as they are
@pytest.mark.parametrize("cell", sorted(rc.CELLS))
def test_the_same_bits_forward_and_the_same_gradient(cell, width, lengths):
    x, targets = batch()
    few, many = both(cell, width=width)
    assert np.array_equal(few.predict(x, lengths), many.predict(x, lengths))
    for accumulate in (False, True):
        losses = [net.loss_and_grad(x, targets, lengths, accumulate=accumulate) for net in (few, many)]
        assert losses[0] == losses[1]
        for name, found in few.grads.items():
            wanted = many.grads[name][: len(found)]
            assert np.allclose(found, wanted, rtol=1e-11, atol=1e-14), (name, accumulate)


@pytest.mark.parametrize(
    "options",
    [{"bidirectional": True}, {"reverse": True}, {"num_layers": 2}, {"recurrent_dropout": 0.3}, {"dropout": 0.3}],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_directions_layers_and_dropout(options, dtype):
    x, targets = batch()
    if "dropout" in options:
        options = options | {"num_layers": 2}
    few, many = both("lstm", dtype=dtype, **options)
    losses = [net.loss_and_grad(x, targets, LENGTHS) for net in (few, many)]
    assert losses[0] == losses[1]
    for name, found in few.grads.items():
        assert np.allclose(found, many.grads[name][: len(found)], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_gradient_by_differences(cell):
    net = network(cell, V, bidirectional=True)
    x, targets = batch()
    assert max(rc.gradcheck(net, x, targets, LENGTHS).values()) < 1e-6


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads(threads):
    rng = np.random.default_rng(0)
    x, targets = rng.integers(0, 30, (40, 32)), rng.integers(0, 4, (40, 32))
    found = []
    for count in (1, threads):
        layer = rc.Recurrent("gru", 24, 40, bidirectional=True, random_state=1)
        net = rc.Network(layer, head=rc.Softmax(4), embedding=rc.Embedding(30, 24))
        net.n_threads = count
        net.loss_and_grad(x, targets)
        found.append(net.grad.copy())
    assert np.array_equal(*found)


def test_symbols_that_are_not_there_decide_nothing():
    """Not even where their embeddings are not finite; their own gradient is zero."""
    net, other = network("gru", V), network("gru", V)
    x, targets = batch()
    x[x == 3] = 4
    other.params["embedding.E"][3] = np.inf
    for each in (net, other):
        each.grad[...] = 7  # an earlier gradient
        each.loss_and_grad(x, targets)
    assert np.array_equal(net.grad, other.grad)
    assert not net.grads["embedding.E"][3].any()


def test_states_and_their_gradients():
    x, _ = batch()
    state = tuple(np.random.default_rng(5).normal(size=(1, B, H)) for _ in range(2))
    dscores = np.random.default_rng(6).normal(size=(T, B, 4))
    found = []
    for net in both("lstm"):
        scores, final = net.forward(x, LENGTHS, state)
        _, dstate = net.backward(dscores, final)
        found.append((scores, *final, *dstate))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm", "indrnn"])
def test_a_row_without_a_symbol(cell):
    x, targets = batch()
    x[2, 1] = x[5, 0] = -1
    few, many = both(cell)
    losses = [net.loss_and_grad(x[..., None], targets, LENGTHS) for net in (few, many)]
    assert losses[0] == losses[1]
    for name, found in few.grads.items():
        assert np.allclose(found, many.grads[name][: len(found)], rtol=1e-11, atol=1e-14), name
