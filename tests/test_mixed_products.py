"""Products of mixed precision: operands rounded to bfloat16, sums in float32; held against exact sums in NumPy."""

import errno
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rnncore._core import kernels
from rnncore._core.dense import Dense

pytestmark = pytest.mark.kernels
SIZES = st.one_of(st.integers(1, 40), st.integers(41, 150), st.sampled_from([256, 1024, 1100]))


def rounded(x):
    """The nearest number of bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def one(K, N, bias=True):
    return Dense(4, K, N, 0, K * N if bias else -1, False, mixed=True)


def numbers(rng, *shape):
    """Of many sizes, so that rounding goes either way."""
    return (rng.standard_normal(shape) * 2.0 ** rng.integers(-4, 4, shape)).astype(np.float32)


def nearly(found, wanted, sizes, terms):
    """Equal but for what float32 loses over so many sums of numbers of these sizes."""
    return (np.abs(found - wanted) <= (terms**0.5 + 2) * 2.0**-23 * sizes + 1e-30).all()


@settings(deadline=None, max_examples=60)
@given(rows=SIZES, K=SIZES, N=SIZES, seed=st.integers(0, 2**32))
def test_products_and_gradients_are_those_of_rounded_numbers(rows, K, N, seed):
    assume(rows * K * N <= 5_000_000)  # seconds, where tiles are emulated
    rng = np.random.default_rng(seed)
    theta, x, dy = numbers(rng, K * N + N), numbers(rng, rows, K), numbers(rng, rows, N)
    dense, grad = one(K, N), np.zeros(K * N + N, np.float32)
    W = rounded(theta[: K * N]).reshape(K, N).astype(float)
    r, d = rounded(x).astype(float), rounded(dy).astype(float)
    y = dense.forward(theta, x, 1)
    assert nearly(y, r @ W + theta[K * N :], np.abs(r) @ np.abs(W) + np.abs(theta[K * N :]), K)
    dx = dense.backward(theta, grad, x, y, dy, 1, False)
    assert nearly(dx, d @ W.T, np.abs(d) @ np.abs(W.T), N)
    assert nearly(grad[: K * N].reshape(K, N), r.T @ d, np.abs(r.T) @ np.abs(d), rows)
    assert nearly(grad[K * N :], dy.sum(0, dtype=float), np.abs(dy).sum(0), rows)  # sums are not of rounded numbers
    twice = grad.copy()
    assert np.array_equal(dense.backward(theta, twice, x, y, dy, 1, True), dx)
    assert nearly(twice[: K * N].reshape(K, N), 2 * (r.T @ d), 2 * np.abs(r.T) @ np.abs(d), 2 * rows)


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(2, 150), K=SIZES, N=SIZES, seed=st.integers(0, 2**32))
def test_bits_do_not_depend_on_rows_or_threads(rows, K, N, seed):
    assume(rows * K * N <= 5_000_000)
    rng = np.random.default_rng(seed)
    theta, x, dy = numbers(rng, K * N + N), numbers(rng, rows, K), numbers(rng, rows, N)
    dense, grads = one(K, N), np.zeros((3, K * N + N), np.float32)
    y = dense.forward(theta, x, 1)
    cut = int(rng.integers(1, rows))
    parts = [one(K, N).forward(theta, np.ascontiguousarray(part), 1) for part in (x[:cut], x[cut:])]
    assert np.array_equal(np.concatenate(parts), y)
    dx = dense.backward(theta, grads[0], x, y, dy, 1, False)
    for n in (2, 3):
        assert np.array_equal(one(K, N).forward(theta, x, n), y)
        assert np.array_equal(one(K, N).backward(theta, grads[n - 1], x, y, dy, n, False), dx)
        assert np.array_equal(grads[n - 1], grads[0])


def test_threads_share_large_products():
    """Large enough for several threads, and for sums over blocks of rows."""
    rng = np.random.default_rng(0)
    rows, K, N = 33000, 40, 24
    theta, x, dy = numbers(rng, K * N + N), numbers(rng, rows, K), numbers(rng, rows, N)
    grads = np.zeros((2, K * N + N), np.float32)
    found = [one(K, N).backward(theta, grads[n], x, dy, dy, n + 1, False) for n in range(2)]
    assert np.array_equal(*found) and np.array_equal(*grads)
    exact = rounded(x).T.astype(float) @ rounded(dy)
    assert np.abs(grads[0, : K * N].reshape(K, N) - exact).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("strange", [np.inf, -np.inf, np.nan, 3.4e38])
def test_what_is_not_finite_stays_so_and_stays_in_its_row(strange):
    K, N, rows = 37, 20, 19
    rng = np.random.default_rng(1)
    theta, x = numbers(rng, K * N + N), numbers(rng, rows, K)
    plain = one(K, N).forward(theta, x, 1)
    x[7, 36] = strange  # 3.4e38 is beyond the largest number of bfloat16
    y = one(K, N).forward(theta, x, 1)
    assert not np.isfinite(y[7]).any() and np.array_equal(np.delete(y, 7, 0), np.delete(plain, 7, 0))


def some_product():
    rng = np.random.default_rng(3)
    return one(70, 50).forward(numbers(rng, 70 * 50 + 50), numbers(rng, 41, 70), 2)


def test_threads_and_forks_configure_tiles_for_themselves():
    """Trivially so where there are none."""
    wanted, found = some_product(), []

    def later():
        found.append(some_product())
        found.append(kernels.tile_rows())

    thread = threading.Thread(target=later)
    thread.start()
    thread.join()
    assert np.array_equal(found[0], wanted)
    assert found[1] == kernels.tile_rows() == 0, "tiles are given back when a call ends"
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(some_product(), wanted) else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="Linux gives tiles on x86-64")
def test_a_system_that_refuses_the_tiles_gets_other_products():
    """A filter of system calls, as containers have them, answers for the system."""
    if kernels.permit_tiles() == -1:
        pytest.skip("this build has none")
    code = f"""
        import ctypes, struct, sys
        libc = ctypes.CDLL(None, use_errno=True)
        # the call's number; another one than arch_prctl: allow; its first argument; another one: allow; refuse
        program = b"".join(struct.pack("HBBI", *line) for line in (
            (0x20, 0, 0, 0), (0x15, 0, 3, 158), (0x20, 0, 0, 16), (0x15, 0, 1, 0x1023),
            (0x06, 0, 0, 0x00050000 + {errno.EPERM}), (0x06, 0, 0, 0x7FFF0000)))
        room = ctypes.create_string_buffer(program)
        lines = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 6, ctypes.addressof(room)))
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, lines, 0, 0):
            print("filters are not allowed here")
            sys.exit(0)
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_mixed_products import kernels, some_product
        y = some_product()
        assert kernels.permit_tiles() == {errno.EPERM}, kernels.permit_tiles()
        assert kernels.tiles() != "permitted"
        print("refused", float(abs(y).sum()))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("refused"):
        assert float(done.stdout.split()[1]) == pytest.approx(float(np.abs(some_product()).sum()), rel=1e-5)
    else:
        pytest.skip(done.stdout)


def test_tiles_add_in_the_order_of_the_manual():
    """32 k at a time: even and odd ones in two chains from zero, whose sum is added to what there is."""
    if "amx" not in kernels.config()["extensions"]:
        pytest.skip("not with tiles")
    rng = np.random.default_rng(2)
    rows, K, N = 21, 75, 18
    theta, x = numbers(rng, K * N + N), numbers(rng, rows, K)
    W, r = np.zeros((96, N), np.float32), np.zeros((rows, 96), np.float32)
    W[:K], r[:, :K] = rounded(theta[: K * N]).reshape(K, N), rounded(x)
    wanted = np.tile(theta[K * N :], (rows, 1))
    for start in range(0, 96, 32):
        even, odd = np.zeros((2, rows, N), np.float32)
        for k in range(start, start + 32, 2):  # a product of two is exact in float32
            even += r[:, k, None] * W[k]
            odd += r[:, k + 1, None] * W[k + 1]
        wanted += even + odd
    assert np.array_equal(one(K, N).forward(theta, x, 1), wanted)
