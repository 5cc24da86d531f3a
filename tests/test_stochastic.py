"""Stochastic binary units: draws with the right frequencies, straight-through gradients."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 7, 6


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def made(rng, **options):
    layer = rc.Recurrent("elman", 4, 5, activation="binary", dtype="float64", **options)
    return layer, rng.standard_normal((T, B, 4))


def test_draws_have_their_probability():
    layer = rc.Recurrent("elman", 1, 300, activation="binary", random_state=3)
    layer.theta[:] = 0
    layer.params["layers.0.fwd.b_h"][:] = wanted = np.linspace(-3, 3, 300)
    y, _ = layer.forward(np.zeros((40, 50, 1), np.float32))
    assert set(np.unique(y)) == {0, 1}
    probability = 1 / (1 + np.exp(-wanted))
    spread = np.sqrt(probability * (1 - probability) / 2000)
    assert np.abs((y.mean(axis=(0, 1)) - probability) / spread).max() < 5
    for axis in (0, 1):  # neighbours in time and in the batch are drawn apart from each other
        one, two = (np.take(y, range(i, y.shape[axis] - 1 + i), axis) - probability for i in (0, 1))
        assert abs((one * two).mean()) < 0.01


def test_without_training_the_more_probable_value_counts(rng):
    layer, x = made(rng)
    p = {name.removeprefix("layers.0.fwd."): view for name, view in layer.params.items()}
    h = np.zeros((B, 5))
    y, (last,) = layer.forward(x, training=False)
    for t in range(T):
        h = (x[t] @ p["W_xh"] + h @ p["W_hh"] + p["b_h"] > 0).astype(float)
        np.testing.assert_array_equal(y[t], h)
    np.testing.assert_array_equal(last[0], h)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("zoneout", [0.0, 0.4])
def test_gradients_go_straight_through(rng, reverse, zoneout):
    """As if each unit had handed on its probability, at the values that were drawn."""
    layer, x = made(rng, reverse=reverse, zoneout=zoneout)
    lengths = twins.random_lengths(rng, T, B)
    state = (rng.random((1, B, 5)),)
    dy = rng.standard_normal((T, B, 5))
    layer.dropout_step = 7
    layer.zero_grad()
    y, _ = layer.forward(x, state, lengths)
    net = ref.Stack(4, 5, direction="reverse" if reverse else "fwd")
    masks = twins.DropoutProbe(net, T, B, lengths, zoneout=zoneout).masks() if zoneout else {}
    shares = masks.get(("zone", 0), [np.ones((T, B, 5))])[0]
    dx, (dstate,) = layer.backward(dy)

    def loss(arrays):
        p = {name.removeprefix("layers.0.fwd.").removeprefix("layers.0.bwd."): a for name, a in arrays.items()}
        total = 0
        for b in range(B):
            h = p["state"][0, b]
            for t in range(lengths[b])[:: -1 if reverse else 1]:
                chance = ref.sigmoid(arrays["x"][t, b] @ p["W_xh"] + h @ p["W_hh"] + p["b_h"])
                old = h
                h = y[t, b] + 1j * np.imag(old + shares[t, b] * (chance - old))
                total = total + (h * dy[t, b]).sum()
        return total

    values = dict(layer.params) | {"x": x, "state": state[0]}
    exact = ref.derivative(loss, values)
    for name, gradient in (dict(layer.grads) | {"x": dx, "state": dstate}).items():
        assert ref.relative_error(gradient, exact[name]) < 1e-11, name


def test_draws_repeat_by_step_and_for_any_number_of_threads(rng):
    layer, x = made(rng)
    several, _ = made(rng, n_threads=3)
    first, second = (layer.forward(x)[0] for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(several.forward(x)[0], first)
    layer.dropout_step = 0
    np.testing.assert_array_equal(layer.forward(x)[0], first)


def test_a_network_of_them_learns(rng):
    """To say the bit of two steps ago."""
    x = rng.integers(0, 2, (8, 200, 1)).astype(np.float32)
    targets = np.concatenate([np.full((2, 200), -1), x[:-2, :, 0].astype(int)])
    net = rc.Network(rc.Recurrent("elman", 1, 40, activation="binary"), head=rc.Softmax(2))
    optimizer = rc.Adam(learning_rate=0.02, clip_norm=1.0)
    for _ in range(300):
        net.train_step(x, targets, optimizer)
    assert (net.predict(x).argmax(axis=-1) == targets)[2:].mean() > 0.99
