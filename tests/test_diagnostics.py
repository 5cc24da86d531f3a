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


@pytest.mark.parametrize("name", [name for name in ref.FAMILY if ref.member(name, 2, 5).exact])
def test_gradcheck_takes_a_bare_layer(name):
    """All cells, with dropout, ragged lengths, both directions and a state; of numbers, and of ids."""
    rng = np.random.default_rng(72)
    net = ref.member(name, 3, 6, num_layers=2, direction="concat")
    layer = twins.layer(net, net.random_params(rng), dtype="float32", recurrent_dropout=0.2, dropout=0.3)
    before = layer.theta.copy(), layer._grad.copy(), layer.dropout_step
    state = twins.random_state(rng, net, 2)
    found = rc.gradcheck(layer, rng.standard_normal((4, 2, 3)), lengths=[4, 2], state=state, samples=5)
    assert set(found) == {*layer.params, "x", *(f"state.{name}" for name in layer.state_widths)}
    assert max(found.values()) < 1e-5, found
    found = rc.gradcheck(layer, rng.integers(0, 3, (4, 2)), samples=5, random_state=1)
    assert set(found) == set(layer.params) and max(found.values()) < 1e-5, found
    for array, kept in zip((layer.theta, layer._grad, layer.dropout_step), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("what", ["layers.0.fwd.W_hh", "x", "state.h"])
def test_gradcheck_of_a_layer_sees_a_wrong_gradient(what, monkeypatch):
    rng = np.random.default_rng(73)
    right = rc.Recurrent.backward

    def wrong(layer, dy, *rest):
        dx, dstate = right(layer, dy, *rest)
        if what in layer.params:
            layer.grads[what][0, 0] *= 1.01
        for array in {"x": [dx], "state.h": [dstate[0]]}.get(what, []):
            array[0, 0, 0] *= 1.01
        return dx, dstate

    monkeypatch.setattr(rc.Recurrent, "backward", wrong)
    layer = rc.Recurrent("gru", 3, 4)
    state = (rng.standard_normal((1, 2, 4)),)
    found = rc.gradcheck(layer, rng.standard_normal((5, 2, 3)), state=state)
    assert {name for name, error in found.items() if error > 1e-3} == {what}


def test_gradcheck_of_a_layer_goes_by_the_gradient_it_is_given():
    layer, x = rc.Recurrent("lstm", 2, 3, num_layers=2), np.ones((3, 1, 2))
    nothing = rc.gradcheck(layer, x, dy=np.zeros((3, 1, 3)))
    assert set(nothing.values()) == {0.0}
    assert max(rc.gradcheck(layer, x, dy=np.ones((3, 1, 3))).values()) < 1e-6


def test_gradcheck_refuses_what_is_not_for_it():
    layer, x = rc.Recurrent("elman", 2, 3), np.ones((3, 1, 2))
    net = rc.Network(layer.copy(), head=rc.Softmax(2))
    with pytest.raises(ValueError, match="a layer has no targets"):
        rc.gradcheck(layer, x, np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="leave out dy"):
        rc.gradcheck(net, x, np.zeros((3, 1), int), dy=x)
    with pytest.raises(ValueError, match="dy must have the shape of the outputs"):
        rc.gradcheck(layer, x, dy=x)
    with pytest.raises(ValueError, match="an EncoderDecoder, a Recurrent layer or an Attention, got dict"):
        rc.gradcheck({}, x)


def test_norms_of_a_network_of_one_layer():
    rng = np.random.default_rng(74)
    layer, ids = rc.Recurrent("gru", 5, 4, random_state=2), rng.integers(0, 9, (6, 2))
    net = rc.Network(layer, head=rc.Softmax(2), embedding=rc.Embedding(9, 5))
    wanted = rc.state_jacobian_norms(layer, net.params["embedding.E"][ids])
    np.testing.assert_array_equal(rc.state_jacobian_norms(net, ids), wanted)
    bags = np.stack([ids, np.full_like(ids, -1)], axis=2)
    np.testing.assert_array_equal(rc.state_jacobian_norms(net, bags), wanted)
    plain, x = rc.Network(layer, head=rc.Softmax(2), skip=3), rng.standard_normal((6, 2, 5))
    wanted = rc.state_jacobian_norms(plain.layers[0], x)
    np.testing.assert_array_equal(rc.state_jacobian_norms(plain, (x, ids[..., None])), wanted)
    with pytest.raises(ValueError, match="give one of net"):
        rc.state_jacobian_norms(rc.Network([rc.Recurrent("elman", 2, 2) for _ in "ab"], head=rc.Softmax(2)), ids)


def test_a_copy_of_a_layer_is_its_own():
    layer = rc.Recurrent("lstm", 3, 4, dropout=0.3, num_layers=2, proj_size=2, n_threads=2, random_state=5)
    layer.freeze("*.b_h")
    layer.dropout_seed, layer.dropout_step = 7, 9
    net = rc.Network(layer, head=rc.Softmax(2))
    for dtype in (None, "float64"):
        twin = layer.copy(dtype)
        assert twin.dtype == (dtype or "float32") and repr(twin).replace("64", "32") == repr(layer)
        assert (twin.frozen, twin.dropout_seed, twin.dropout_step, twin.n_threads) == (layer.frozen, 7, 9, 2)
        np.testing.assert_array_equal(twin.theta, layer.theta)
        twin.theta[...] = 0
        assert layer.theta.all() and net.theta[: layer.theta.size].all()
