"""Second-order cells: the input's matrix, what augmented vectors add, units that are not fed back."""

import numpy as np
import pytest

import rnncore as rc


def layer(H=4, D=3, **options):
    made = rc.Recurrent("second_order", D, H, dtype="float64", random_state=1, **options)
    made.theta[...] = np.random.default_rng(0).normal(size=made.theta.size)
    return made


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_every_symbol_has_a_matrix_of_its_own():
    net, ids = layer(), np.array([[2], [0], [1]])
    W, b = net.params["layers.0.fwd.W_xh"].reshape(3, 4, 4), net.params["layers.0.fwd.b_h"]
    h = np.array([1.0, 0, 0, 0])
    y, _ = net.forward(ids, state=(h[None, None],))
    for t, symbol in enumerate(ids[:, 0]):
        h = sigmoid(h @ W[symbol] + b)
        np.testing.assert_allclose(y[t, 0], h, rtol=1e-12)


def test_from_zeros_the_first_step_hears_nothing():
    y, _ = layer().forward(np.array([[0, 1, 2]]))
    assert (y[0] == y[0, 0]).all()


def test_a_context_net_sets_the_weights_of_a_function_net():
    """Pollack 1991: w_ij = Σ_k W_ijk z_k, z_i = σ(Σ_j w_ij y_j), with a 1 beside context and input: 18 weights."""
    net = layer(3, 1, augmented=True, accept_units=1)
    assert net.theta.size == 18
    x = np.random.default_rng(1).normal(size=(6, 1, 1))
    W = np.concatenate([net.params["layers.0.fwd.W_xh"], net.params["layers.0.fwd.b_h"][None]]).reshape(2, 3, 3)
    z = np.array([0.5, 0.5, 0.5])
    y, _ = net.forward(x, state=(z[None, None],))
    for t in range(6):
        context, seen = np.append(z[1:], 1), np.append(x[t, 0], 1)
        weights = np.einsum("jki,k->ij", W, context)
        z = sigmoid(weights @ seen)
        np.testing.assert_allclose(y[t, 0], z, rtol=1e-12)


def test_no_unit_sees_the_accept_units():
    net, x = layer(accept_units=2), np.random.default_rng(2).normal(size=(1, 1, 3))
    some = np.array([[[0.1, 0.2, 0.3, 0.4]]])
    other = np.array([[[7.0, 8.0, 0.3, 0.4]]])
    np.testing.assert_array_equal(net.forward(x, state=(some,))[0], net.forward(x, state=(other,))[0])
    _, dstate = (net.forward(x, state=(some,)), net.backward(np.ones((1, 1, 4))))[1]
    assert dstate is not None and (dstate[0][0, 0, :2] == 0).all() and (dstate[0][0, 0, 2:] != 0).all()


@pytest.mark.parametrize("H", [2, 3, 5, 16, 17])
@pytest.mark.parametrize("options", [{}, {"augmented": True, "accept_units": 1}], ids=["plain", "cascaded"])
def test_few_units_have_the_gradient_of_double_precision(H, options):
    """Rows of a small matrix are shorter than vectors, which run over their ends."""
    x, found = np.random.default_rng(4).normal(size=(5, 3, 2)), {}
    for dtype in ("float32", "float64"):
        net = rc.Recurrent("second_order", 2, H, dtype=dtype, **options)
        net.theta[...] = np.random.default_rng(0).normal(size=net.theta.size)
        y, _ = net.forward(x, state=(np.full((1, 3, H), 0.5),))
        dx, dstate = net.backward(np.cos(y))
        found[dtype] = [y, dx, dstate[0], net.grad]
    for single, double in zip(found["float32"], found["float64"], strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augmented", [False, True])
def test_same_bits_for_any_number_of_threads(augmented):
    x = np.random.default_rng(3).normal(size=(40, 40, 5)).astype("float32")  # enough to be dealt to threads
    results = []
    for n_threads in (1, 2, 3):
        net = rc.Recurrent("second_order", 5, 20, augmented=augmented, n_threads=n_threads, random_state=1)
        y, _ = net.forward(x)
        dx, _ = net.backward(np.ones_like(y))
        results.append([y, dx, net.grad.copy()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accept_units": 4}, "accept_units must leave a unit"),
        ({"accept_units": -1}, "accept_units must be a whole number"),
        ({"accept_units": True}, "accept_units must be a whole number"),
        ({"augmented": "yes"}, "augmented must be one of False, True"),
        ({"activation": "binary"}, "activation"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises(ValueError, match=said):
        rc.Recurrent("second_order", 3, 4, **options)
