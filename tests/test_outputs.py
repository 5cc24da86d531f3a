"""Whose the outputs of a layer are: the caller's, though the layer may still read them."""

import numpy as np
import pytest

import rnncore as rc

T, B, D, H = 5, 3, 4, 16


def layer(cell="gru", **options):
    return rc.Recurrent(cell, D, H, dtype="float64", **options)


def batch(seed=0):
    return np.random.default_rng(seed).standard_normal((T, B, D))


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "mgu"])
def test_outputs_are_read_only_while_backward_needs_them(cell):
    net = layer(cell)
    y, _ = net.forward(batch())
    with pytest.raises(ValueError, match="read-only"):
        y *= 2
    net.backward(np.ones_like(y))
    y *= 2  # nobody else's from here on

    net.forward(batch())
    z, _ = net.forward(batch(), training=False)
    z *= 2


def test_a_forgotten_forward_gives_its_outputs_up():
    net = layer()
    y, _ = net.forward(batch())
    net.forward(batch(1))
    y *= 2


@pytest.mark.parametrize("training", [True, False])
def test_outputs_stay_what_they_were(training):
    """However many passes follow, and whatever part of them is still held."""
    net = layer()
    whole, _ = net.forward(batch(), training=training)
    part = net.forward(batch(1), training=training)[0][2, 1:]
    kept = whole.copy(), part.copy()
    for seed in range(2, 6):
        y, _ = net.forward(batch(seed), training=training)
        if training:
            net.backward(y)
    assert np.array_equal(whole, kept[0]) and np.array_equal(part, kept[1])


def test_gradients_outlive_the_outputs():
    """The layer holds what it needs, also where the caller lets go of it."""
    net, twin = layer(), layer()
    twin.theta[:] = net.theta
    y, _ = twin.forward(batch())
    dx, _ = twin.backward(np.ones_like(y))
    net.forward(batch())
    rubbish = [np.full((T + 1, B, H), np.nan) for _ in range(20)]
    found, _ = net.backward(np.ones((T, B, H)))
    assert np.array_equal(found, dx) and np.array_equal(net.grad, twin.grad) and len(rubbish) == 20


@pytest.mark.parametrize("options", [{"reverse": True}, {"num_layers": 2}], ids=lambda o: next(iter(o)))
def test_the_last_layer_of_one_direction(options):
    net = layer(**options)
    start = (np.random.default_rng(2).standard_normal((net.num_layers, B, H)),)
    y, _ = net.forward(batch(), start)
    ragged, _ = net.forward(batch(), start, lengths=[T, T - 1, T])  # rows elsewhere: copied
    np.testing.assert_allclose(y[:, [0, 2]], ragged[:, [0, 2]], rtol=1e-12)
    ragged *= 2


@pytest.mark.parametrize(
    "options",
    [{"bidirectional": True}, {"zoneout": 0.1}, {"output_dropout": 0.5}],
    ids=lambda o: next(iter(o)),
)
def test_copies_are_the_callers_at_once(options):
    net, twin = layer(**options), layer(**options)
    twin.theta[:] = net.theta
    dy = np.ones((T, B, net.output_size))
    for i in range(2):
        net.forward(batch(i))[0][...] = np.nan
        twin.forward(batch(i))
        assert np.array_equal(net.backward(dy)[0], twin.backward(dy)[0])
