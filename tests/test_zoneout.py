"""Zoneout: states that keep their numbers, in any cell that knows it."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 6, 5


def zoned_states(name: str) -> int:
    """How many states of one of the family zoneout acts on."""
    cell, options = ref.FAMILY[name]
    kind = rc.CELLS[cell]
    return len(kind.record(kind.plan("tanh", kind.settle(options, "tanh"))).zoned)


ZONED = [name for name in ref.FAMILY if zoned_states(name)]


def rates(name: str) -> float | list[float]:
    return [0.4, 0.3] if zoned_states(name) == 2 else 0.4


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.3], ids=["alone", "with recurrent dropout"])
@pytest.mark.parametrize("direction", ["fwd", "reverse", "concat"])
@pytest.mark.parametrize("name", ZONED)
def test_training_follows_the_reference(rng, name, direction, recurrent_dropout):
    net = ref.member(name, 3, 2, 2 if direction == "fwd" else 1, direction)
    params, lengths = net.random_params(rng), twins.random_lengths(rng, T, B)
    start, dfinal = twins.named_state(rng, net, B), twins.random_state(rng, net, B)
    x, dy = rng.standard_normal((T, B, 3)), rng.standard_normal((T, B, net.output_size))
    masks = twins.DropoutProbe(net, T, B, lengths, zoneout=rates(name)).masks()
    if recurrent_dropout:
        masks |= twins.DropoutProbe(net, T, B, lengths, recurrent_dropout=recurrent_dropout).masks()
    layer = twins.layer(net, params, zoneout=rates(name), recurrent_dropout=recurrent_dropout)
    layer.dropout_step = 7
    layer.zero_grad()
    y, final = layer.forward(x, tuple(start.values()), lengths)
    wanted, last = ref.forward(net, params, x, tuple(start.values()), lengths, masks)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)
    for ours, other in zip(final, last, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-13)
    dx, dstart = layer.backward(dy, dfinal)
    found = dict(layer.grads) | {"x": dx} | dict(zip(start, dstart, strict=True))
    for key, error in ref.gradient_error(
        twins.weighted_sum(net, x, dy, dfinal, lengths, masks), params | start | {"x": x}, found
    ).items():
        assert error < 1e-11, key


@pytest.mark.parametrize("proj_size", [4, 40])
def test_with_dropout_where_states_differ_in_width(rng, proj_size):
    """h of other whole vectors than c: masks and carried states have rows of h's length."""
    net = ref.Stack(3, 20, cell="lstm", cell_options=(("proj_size", proj_size),))
    params = {name: array / np.sqrt(20) for name, array in net.random_params(rng).items()}
    masks = twins.DropoutProbe(net, T, B, zoneout=[0.4, 0.3]).masks()
    masks |= twins.DropoutProbe(net, T, B, recurrent_dropout=0.3).masks()
    layer = twins.layer(net, params, zoneout=[0.4, 0.3], recurrent_dropout=0.3)
    x, dy = rng.standard_normal((T, B, 3)), rng.standard_normal((T, B, proj_size))
    layer.dropout_step = 7
    layer.zero_grad()
    y, _ = layer.forward(x)
    np.testing.assert_allclose(y, ref.forward(net, params, x, masks=masks)[0], rtol=1e-12, atol=1e-13)
    layer.backward(dy)
    way = {name: rng.standard_normal(array.shape) for name, array in params.items()}
    moved = {name: array + 1e-30j * way[name] for name, array in params.items()}
    exact = np.imag((ref.forward(net, moved, x, masks=masks)[0] * dy).sum()) / 1e-30
    assert sum((layer.grads[name] * way[name]).sum() for name in params) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("truncate", [1, 3])
@pytest.mark.parametrize("name", ZONED)
def test_truncated(rng, name, truncate):
    net = ref.member(name, 4, 3, truncate=truncate)
    params, start = net.random_params(rng), twins.named_state(rng, net, B)
    dfinal = twins.random_state(rng, net, B)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, net.output_size))
    masks = twins.DropoutProbe(net, T, B, zoneout=rates(name)).masks()
    layer = twins.layer(net, params, zoneout=rates(name))
    layer.dropout_step = 7
    layer.zero_grad()
    layer.forward(x, tuple(start.values()))
    dx, dstart = layer.backward(dy, dfinal)
    found = dict(layer.grads) | {"x": dx} | dict(zip(start, dstart, strict=True))
    for key, error in ref.gradient_error(
        twins.weighted_sum(net, x, dy, dfinal, None, masks), params | start | {"x": x}, found
    ).items():
        assert error < 1e-11, key


@pytest.mark.parametrize("name", ZONED)
def test_without_training_it_takes_the_mean(rng, name):
    net = ref.member(name, 4, 3)
    params, start = net.random_params(rng), twins.random_state(rng, net, B)
    x = rng.standard_normal((T, B, 4))
    layer = twins.layer(net, params, zoneout=rates(name))
    kept = zip(np.atleast_1d(rates(name)), net.state_widths, strict=False)
    shares = [np.full((T, B, width), 1 - rate) for rate, width in kept]
    wanted, last = ref.forward(net, params, x, start, masks={("zone", 0): shares})
    y, final = layer.forward(x, start, training=False)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)
    state = start
    for t in range(T):
        y_t, state = layer.step(x[t], state)
    np.testing.assert_allclose(y_t, wanted[-1], rtol=1e-12, atol=1e-13)
    for ours, other, streamed in zip(final, last, state, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(streamed, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ZONED)
def test_any_number_of_threads_gives_the_same_bits(rng, name):
    net = ref.member(name, 6, 40)
    x, dy = rng.standard_normal((T, 9, 6)), rng.standard_normal((T, 9, net.output_size))
    results = []
    for threads in (1, 2, 3):
        layer = rc.Recurrent(**net.options(), zoneout=0.3, dtype="float64", n_threads=threads)
        layer.zero_grad()
        y, _ = layer.forward(x)
        dx, _ = layer.backward(dy)
        results.append([y, dx, layer.grad.copy()])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            twins.assert_same_bits(one, two)


def test_rate():
    layer = rc.Recurrent("lstm", 3, 400, zoneout=(0.2, 0.7), random_state=1)
    layer.theta[:] = 0
    layer.params["layers.0.fwd.b_h"][:] = 1
    _, (h, c) = layer.forward(np.zeros((1, 50, 3), np.float32))
    assert abs((h == 0).mean() - 0.2) < 0.02
    assert abs((c == 0).mean() - 0.7) < 0.02


@pytest.mark.parametrize("zoneout", [1.0, -0.1, "much", (0.1, 0.1), None, (), [[0.1]]], ids=str)
def test_bad_rates(zoneout):
    with pytest.raises(ValueError, match="zoneout"):
        rc.Recurrent("gru", 3, 4, zoneout=zoneout)
