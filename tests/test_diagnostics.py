"""`rc.state_jacobian_norms`: how much of the past a state still depends on, against derivatives of the reference."""

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 6, 2


def jacobian_norms(net: ref.Stack, params, x) -> np.ndarray:
    """||dh_T/dh_t|| by complex steps through the reference, one unit of one state at a time."""
    norms = np.ones((T, B))
    for b in range(B):
        for t in range(T - 1):
            _, state = ref.forward(net, params, x[: t + 1, b : b + 1])
            rows = []
            for i in range(net.hidden_size):
                moved = state[0].astype(complex)
                moved[0, 0, i] += 1e-30j
                _, (last,) = ref.forward(net, params, x[t + 1 :, b : b + 1], (moved,))
                rows.append(np.imag(last[0, 0]) / 1e-30)
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
