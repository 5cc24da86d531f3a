"""Denormal numbers are zeros inside the core, and nowhere else."""

import numpy as np
import pytest
from test_optimizers import FlatNet

import rnncore as rc
from rnncore._core.kernels import float_controls

T, B, D, H, K = 8, 4, 3, 5, 2


def batch(dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((T, B, D)).astype(dtype), rng.integers(0, K, (T, B))


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_caller_s_arithmetic_is_as_it_was(dtype, n_threads):
    before, flush = float_controls()
    assert not before & flush

    def unchanged():
        assert float_controls()[0] & flush == 0
        tiny = np.array([np.finfo(dtype).tiny], dtype)
        assert (tiny / 4)[0] > 0 and (tiny / 4 * 4)[0] == tiny[0]

    x, targets = batch(dtype)
    for head, options in ((rc.Softmax(K), {}), (rc.CRF(K), {}), (rc.Softmax(K), {"readout": "mean"})):
        net = rc.Network(rc.Recurrent("lstm", D, H, dtype=dtype, n_threads=n_threads), head=head, **options)
        y = targets[0] if options else targets
        for clip in (None, 1.0):
            net.train_step(x, y, rc.Adam(clip_norm=clip))
            unchanged()
        net.predict(x)
        unchanged()
        if not options:
            net.decode(x)
            unchanged()
        with pytest.raises(rc.NonFiniteError):
            net.train_step(np.full_like(x, np.nan), y, rc.Adam())
        unchanged()
    layer = rc.Recurrent("gru", D, H, dtype=dtype, n_threads=n_threads)
    y, state = layer.forward(x, state=(np.zeros((1, B, H), dtype),))
    unchanged()
    layer.backward(np.ones_like(y))
    unchanged()
    with pytest.raises(RuntimeError):
        layer.backward(np.ones_like(y))
    unchanged()
    layer.step(x[0], state)
    unchanged()


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_denormals_are_zeros(dtype, n_threads):
    """On all threads, forward, backward and in the optimizer."""
    if not float_controls()[1]:
        pytest.skip("this processor has no such switch")
    tiny = np.finfo(dtype).tiny
    size = 130  # enough work for two threads
    layer = rc.Recurrent("elman", size, size, activation="identity", dtype=dtype, n_threads=n_threads)
    layer.theta[:] = 0
    layer.params[next(name for name in layer.params if name.endswith("W_xh"))][...] = np.eye(size)
    x = np.full((20, 40, size), tiny / 8, dtype)
    y, _ = layer.forward(x)
    assert not y.any()
    dx, _ = layer.backward(x)
    assert not dx.any() and not layer.grad.any()
    net = FlatNet(np.zeros(600_000, dtype), n_threads=n_threads)
    net.grad[:] = tiny / 8
    rc.SGD(1.0).step(net)
    assert not net.theta.any()
    net.grad[:] = tiny
    rc.SGD(1.0).step(net)
    assert (net.theta == -tiny).all()


def test_normal_numbers_keep_their_bits():
    """Numbers scaled by a power of two, towards the smallest normal one: nothing but the exponent may change."""
    x, _ = batch("float32")
    results = set()
    for scale in (1.0, 2.0**-60):
        net = rc.Network(rc.Recurrent("elman", D, H, activation="identity", random_state=1), head=rc.SquaredError(1))
        net.theta[:] = np.random.default_rng(0).standard_normal(net.theta.size)
        for name, view in net.params.items():
            view *= scale if ".b_" in name or name.endswith("b_y") else 1
        y = net.predict(x * np.float32(scale)) / np.float32(scale)
        results.add(y.tobytes())
    assert len(results) == 1
