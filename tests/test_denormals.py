"""Denormal numbers count as zero inside the core's calls, and nowhere else."""

import ctypes

import numpy as np
import pytest

import rnncore as rc
from rnncore._core import kernels

pytestmark = pytest.mark.kernels


def flushes() -> bool:
    """Whether denormal numbers are flushed on this thread now."""
    smallest = np.array([np.finfo(np.float32).tiny], np.float32)
    return bool((smallest / np.float32(2))[0] == 0)


def users():
    """Calls of every kind."""
    x, ids = np.ones((4, 3, 5), "float32"), np.zeros((4, 3), int)
    layer = rc.Recurrent("lstm", 5, 4, n_threads=2)
    nets = [rc.Network(rc.Recurrent("gru", 5, 4, n_threads=2), head=head) for head in (rc.Softmax(3), rc.CRF(3))]
    session = layer.session(3)
    yield lambda: layer.forward(x)
    yield lambda: layer.backward(np.ones((4, 3, 4), "float32"))
    yield lambda: session.step(x[0])
    yield lambda: session.run(x)
    attention = rc.Attention(5, n_threads=2)
    yield lambda: attention.forward(x)
    yield lambda: attention.backward(x)
    for net in nets:
        yield lambda net=net: net.predict(x)
        yield lambda net=net: net.decode(x)
        for name in rc.OPTIMIZERS:
            if name != "sdlm":
                yield lambda net=net, name=name: net.train_step(x, ids, rc.OPTIMIZERS[name](1e-3, clip_norm=1.0))


def test_the_caller_s_mode_is_left_alone():
    assert not flushes()
    for call in users():
        call()
        assert not flushes()
    layer = rc.Recurrent("gru", 5, 4)
    with pytest.raises(ValueError):
        layer.forward(np.ones((4, 3, 6)))
    assert not flushes()


def test_a_caller_who_flushes_goes_on_flushing():
    """The mode that a thread came with is the one it leaves with, whichever it is."""
    if kernels.config()["isa"] == "portable" and not hasattr(ctypes, "CDLL"):
        pytest.skip("no way to set the mode here")
    libm = ctypes.CDLL(None)
    if not hasattr(libm, "fegetenv"):
        pytest.skip("the C library cannot set the mode")
    environment = (ctypes.c_uint8 * 64)()
    assert libm.fegetenv(ctypes.byref(environment)) == 0
    mxcsr = ctypes.c_uint32.from_buffer(environment, 28)
    if mxcsr.value & 0x1F80 != 0x1F80:
        pytest.skip("not the layout of x86-64's environment")
    mxcsr.value |= 0x8040
    try:
        assert libm.fesetenv(ctypes.byref(environment)) == 0
        assert flushes()
        for call in users():
            call()
            assert flushes()
    finally:
        mxcsr.value &= ~0x8040
        libm.fesetenv(ctypes.byref(environment))
    assert not flushes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_decays_ends_at_zero(dtype):
    """h halves at each step: without flushing it would be denormal for a while; normal numbers are exact."""
    layer = rc.Recurrent("elman", 1, 4, activation="identity", dtype=dtype)
    layer.theta[...] = 0
    np.fill_diagonal(layer.params["layers.0.fwd.W_hh"], 0.5)
    layer.params["layers.0.fwd.W_xh"][...] = 1
    T = 1200
    x = np.zeros((T, 1, 1), dtype)
    x[0] = 1
    y, _ = layer.forward(x, training=False)
    wanted = np.ldexp(np.ones((), dtype), -np.arange(T)).astype(dtype)
    normal = wanted >= np.finfo(dtype).tiny
    np.testing.assert_array_equal(y[normal, 0, 0], wanted[normal])
    if kernels.config()["isa"] != "portable" and kernels.config()["gemm"] != "blas":
        assert not y[~normal].any()
    tiny = np.full((3, 1, 1), np.finfo(dtype).tiny / 4, dtype)
    assert (layer.forward(tiny, training=False)[0] < np.finfo(dtype).tiny).all()


def test_nan_and_infinity_pass():
    layer = rc.Recurrent("elman", 2, 3, activation="relu")
    x = np.zeros((3, 2, 2), "float32")
    x[1, 0, 0], x[1, 1, 0] = np.nan, np.inf
    y, _ = layer.forward(x, training=False)
    assert np.isnan(y[1:, 0]).any() and np.isfinite(y[0]).all()
    assert not np.isfinite(y[1, 1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_are_never_denormal(dtype):
    """exp(-95) is one in single precision, exp(-730) in double."""
    if kernels.config()["isa"] == "portable":
        pytest.skip("plain C may run on a processor that cannot flush")
    net = rc.Network(rc.Recurrent("elman", 2, 3, dtype=dtype), head=rc.Softmax(3))
    net.theta[...] = 0
    net.params["head.b_y"][...] = 0, -1, -95 if dtype == "float32" else -730
    x = np.zeros((2, 1, 2), dtype)
    found = [net.predict(x), net.session(1).run(x), net.session(1).step(x[0])]
    for p in found:
        assert (p[..., 2] == 0).all() and (p[..., 1] > 0.2).all()
