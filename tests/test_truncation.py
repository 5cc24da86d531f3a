"""Back-propagation through h steps: against the reference, and at both ends of the scale."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 5, 2
NETS = [
    ref.Stack(4, 3),
    ref.Stack(4, 3, direction="reverse"),
    ref.Stack(4, 2, direction="concat", num_layers=2),
    ref.Stack(4, 2, num_layers=3, activation="sigmoid"),
    *(ref.member(name, 4, 3) for name in ref.FAMILY if name != "elman"),
    *(ref.member(name, 4, 2, direction="sum", num_layers=2) for name in ref.FAMILY if name != "elman"),
]


def gradients(net: ref.Stack, params, x, start, lengths, dy, dfinal):
    layer = twins.layer(net, params)
    layer.zero_grad()
    layer.forward(x, state=tuple(start.values()), lengths=lengths)
    dx, dstart = layer.backward(dy, dstate=dfinal)
    return {name: view.copy() for name, view in layer.grads.items()} | {"x": dx} | dict(zip(start, dstart, strict=True))


def case(net: ref.Stack):
    rng = np.random.default_rng(21)
    params, start, dfinal = net.random_params(rng), twins.named_state(rng, net, B), twins.random_state(rng, net, B)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, net.output_size))
    return params, (x, start, twins.random_lengths(rng, T, B), dy, dfinal)


def with_truncation(net: ref.Stack, steps) -> ref.Stack:
    return replace(net, truncate=steps)


# one run of the reference per step of the window: some windows only
WINDOWS = [(net, h) for net in NETS for h in ((1, 2, 3, T, T + 1) if net.num_layers == 1 else (1, 2, 4))]


@pytest.mark.parametrize(("net", "steps"), WINDOWS, ids=str)
def test_windows(net, steps):
    net = with_truncation(net, steps)
    params, data = case(net)
    x, start, lengths, dy, dfinal = data
    got = gradients(net, params, *data)
    weighted_sum = twins.weighted_sum(net, x, dy, dfinal, lengths)
    for name, error in ref.gradient_error(weighted_sum, {**params, **start, "x": x}, got).items():
        assert error < 1e-11, name


@pytest.mark.parametrize("net", NETS, ids=str)
def test_long_windows_are_full_back_propagation(net):
    params, data = case(net)
    whole = gradients(net, params, *data)
    longest = net.num_layers * T + 1  # of all ways through the layers, the initial state included
    for steps in (longest, 1000):
        windowed = gradients(with_truncation(net, steps), params, *data)
        for name in whole:
            assert ref.relative_error(windowed[name], whole[name]) < 1e-13, name


def test_absurdly_long_windows_take_no_longer():
    """In a process of its own, which can be ended: passes beyond the longest way must not be run."""
    code = """
        import numpy as np, rnncore as rc
        layer = rc.Recurrent("elman", input_size=4, hidden_size=3, truncate=2**31 - 1)
        layer.forward(np.zeros((6, 3, 4), np.float32))
        layer.backward(np.ones((6, 3, 3), np.float32))
    """
    subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(code)], timeout=300, check=True)


def test_one_step_is_elman_s_own_training():
    """The context units are inputs like any others: their history is not asked for."""
    net = ref.Stack(4, 3, truncate=1)
    params, (x, start, _, dy, (dh,)) = case(net)
    p = {name.split(".")[-1]: array for name, array in params.items()}
    h, wanted = start["state 0"][0], np.zeros((3, 3))
    for t in range(T):
        before = h
        h = np.tanh(x[t] @ p["W_xh"] + before @ p["W_hh"] + p["b_h"])
        wanted += before.T @ (dy[t] * (1 - h * h))
    got = gradients(net, params, x, start, None, dy, (0 * dh,))
    assert ref.relative_error(got["layers.0.fwd.W_hh"], wanted) < 1e-12
    assert not got["state 0"].any()


def test_which_outputs_reach_the_initial_state():
    """Output t does iff t + 2 <= h: its window has room for the initial state before the first step."""
    net = ref.Stack(4, 3, truncate=4)
    params, (x, start, _, _, (dh,)) = case(net)
    for t in range(T):
        dy = np.zeros((T, B, 3))
        dy[t] = 1
        got = gradients(net, params, x, start, None, dy, (0 * dh,))
        assert got["state 0"].any() == (t + 2 <= 4)
        reached = [s for s in range(T) if got["x"][s].any()]
        assert reached == [s for s in range(T) if t - 4 < s <= t]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_network(steps):
    net, head = ref.Stack(4, 3, truncate=steps), ref.Head("softmax", 5)
    rng = np.random.default_rng(22)
    params = twins.random_params(net, head, rng)
    made = twins.network(net, head, params=params)
    x, targets, lengths = rng.standard_normal((T, B, 4)), rng.integers(0, 5, (T, B)), twins.random_lengths(rng, T, B)
    made.loss_and_grad(x, targets, lengths=lengths)
    wanted = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, lengths), params)
    for name in params:
        assert ref.relative_error(made.grads[name], wanted[name]) < 1e-11, name


def test_forward_does_not_care():
    net = ref.Stack(4, 3)
    params, (x, start, lengths, _, _) = case(net)
    state = tuple(start.values())
    y, _ = twins.layer(net, params).forward(x, state, lengths)
    z, _ = twins.layer(with_truncation(net, 2), params).forward(x, state, lengths)
    np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "all", float("nan")])
def test_bad_lengths_of_windows(steps):
    with pytest.raises((ValueError, TypeError)):
        rc.Recurrent("elman", input_size=4, hidden_size=3, truncate=steps)
