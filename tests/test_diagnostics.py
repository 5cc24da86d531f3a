"""`rc.state_jacobian_norms`: how much of the past a state still depends on, against derivatives of the reference."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 6, 2


def jacobian_norms(net: ref.Stack, params, x) -> np.ndarray:
    """||ds_T/ds_t|| by complex steps through the reference, one number of one state at a time."""
    norms = np.ones((T, B))
    for b in range(B):
        for t in range(T - 1):
            _, state = ref.forward(net, params, x[: t + 1, b : b + 1])
            rows = []
            for s, width in enumerate(net.state_widths):
                for i in range(width):
                    moved = [part.astype(complex) for part in state]
                    moved[s][0, 0, i] += 1e-30j
                    _, last = ref.forward(net, params, x[t + 1 :, b : b + 1], tuple(moved))
                    rows.append(np.imag(np.concatenate([part[0, 0] for part in last])) / 1e-30)
            norms[t, b] = np.linalg.norm(np.array(rows), ord=2)
    return norms


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("scale", [0.2, 1.5])
def test_norms_are_the_reference_s(activation, scale):
    rng = np.random.default_rng(71)
    net = ref.Stack(3, 4, activation=activation)
    params = net.random_params(rng, scale)
    x = rng.standard_normal((T, B, 3))
    norms = rc.state_jacobian_norms(twins.layer(net, params), x)
    assert norms.shape == (T, B)
    np.testing.assert_allclose(norms, jacobian_norms(net, params, x), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ref.FAMILY)
def test_all_states_of_a_cell_count(name):
    rng = np.random.default_rng(73)
    net = ref.member(name, 4, 3)
    params = net.random_params(rng)
    x = rng.standard_normal((T, B, 4))
    norms = rc.state_jacobian_norms(twins.layer(net, params), x)
    np.testing.assert_allclose(norms, jacobian_norms(net, params, x), rtol=1e-10, atol=1e-14)


def test_an_lstm_keeps_what_a_simple_network_loses():
    """With the forget gate's bias at 1 and the usual first weights, after 50 steps."""
    x = np.random.default_rng(74).standard_normal((50, 3, 4)).astype(np.float32)
    simple, gated = (rc.state_jacobian_norms(rc.Recurrent(cell, 4, 16), x)[0] for cell in ("elman", "lstm"))
    assert simple.max() < 1e-4 * gated.min()


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_the_bound_of_pascanu_et_al(scale):
    """||dh_T/dh_t|| <= (σ_max(W_hh)·max|f'|)^(T-t); with the identity for f and W_hh = scale·I it is reached."""
    rng = np.random.default_rng(72)
    net = ref.Stack(3, 5)
    params = net.random_params(rng, 0.5 * scale)
    x = rng.standard_normal((12, B, 3))
    bound = np.linalg.norm(params["layers.0.fwd.W_hh"], ord=2) ** np.arange(11, -1, -1)[:, None]
    assert (rc.state_jacobian_norms(twins.layer(net, params), x) <= bound * (1 + 1e-12)).all()

    linear = ref.Stack(3, 5, activation="identity")
    params["layers.0.fwd.W_hh"] = scale * np.eye(5)
    norms = rc.state_jacobian_norms(twins.layer(linear, params), x)
    np.testing.assert_allclose(norms, np.repeat(scale ** np.arange(11.0, -1, -1)[:, None], B, axis=1), rtol=1e-12)


#: max |f'|
STEEPEST = {"tanh": 1, "sigmoid": 0.25, "relu": 1, "leaky_relu": 1, "clipped_relu": 1, "identity": 1}


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_the_bound_holds_for_every_activation(activation, scale):
    """And with σ_max·max|f'| < 1 nothing but a vanishing gradient is left."""
    rng = np.random.default_rng(73)
    net = ref.Stack(3, 5, activation=activation)
    params = net.random_params(rng)
    W = params["layers.0.fwd.W_hh"]
    W *= scale / (np.linalg.norm(W, ord=2) * STEEPEST[activation])
    norms = rc.state_jacobian_norms(twins.layer(net, params), rng.standard_normal((30, B, 3)))
    bound = scale ** np.arange(29.0, -1, -1)[:, None]
    assert (norms <= bound * (1 + 1e-12)).all()
    if scale < 1:
        assert norms[0].max() < 1e-20


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_bound_is_reached_where_units_stay_at_their_steepest(scale):
    """Logistic units at 1/2, W_hh a multiple of a rotation: norms are (σ_max/4)^(T-t), vanishing and exploding."""
    rng = np.random.default_rng(74)
    net = ref.Stack(3, 5, activation="sigmoid")
    params = net.random_params(rng)
    W = params["layers.0.fwd.W_hh"]
    W[...] = 4 * scale * np.linalg.qr(W)[0]
    params["layers.0.fwd.b_h"][...] = -0.5 * W.sum(axis=0)
    state = (np.full((1, B, 5), 0.5),)
    norms = rc.state_jacobian_norms(twins.layer(net, params), np.zeros((12, B, 3)), state)
    np.testing.assert_allclose(norms, np.repeat(scale ** np.arange(11.0, -1, -1)[:, None], B, axis=1), rtol=1e-6)


def test_layers_without_one_direction_in_time_are_refused():
    x = np.zeros((T, B, 3), np.float32)
    for options in ({"num_layers": 2}, {"bidirectional": True}, {"reverse": True}):
        with pytest.raises(ValueError, match="layer"):
            rc.state_jacobian_norms(rc.Recurrent("elman", 3, 4, **options), x)
