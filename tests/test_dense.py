"""Dense maps and attention over held memories, held against NumPy."""

import numpy as np
import pytest

from rnncore._core import kernels
from rnncore._core.dense import Dense
from rnncore._core.held_memory import HeldMemory

pytestmark = pytest.mark.kernels
native = pytest.mark.skipif(kernels.config()["gemm"] == "blas", reason="BLAS promises a tolerance, not bits")

SIZES = [(1, 1, 1), (3, 5, 7), (16, 32, 8), (37, 19, 33), (130, 64, 130)]  # rows, K, N
CLOSE = {"float32": 2e-5, "float64": 1e-12}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "K", "N"), SIZES)
@pytest.mark.parametrize(("biased", "squash"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_map_and_its_gradient_are_numpys(dtype, rows, K, N, biased, squash, rng):
    theta, grad = rng.standard_normal((2, 3 + K * N + N)).astype(dtype)
    W, b = theta[3 : 3 + K * N].reshape(K, N), theta[3 + K * N :] if biased else 0
    x, dy = rng.standard_normal((rows, K)).astype(dtype), rng.standard_normal((rows, N)).astype(dtype)
    made = [Dense(theta.itemsize, K, N, 3, 3 + K * N if biased else -1, squash) for _ in range(2)]
    made[1].hold(theta)
    wanted = np.tanh(x @ W + b) if squash else x @ W + b
    for dense in made:
        y = dense.forward(theta, x, 1)
        np.testing.assert_allclose(y, wanted, rtol=CLOSE[dtype], atol=CLOSE[dtype] * K)
    du = dy * (1 - wanted**2) if squash else dy
    before = grad.copy()
    dx = made[0].backward(theta, grad, x, y, dy, 1, True)
    tolerance = {"rtol": 10 * CLOSE[dtype], "atol": CLOSE[dtype] * max(rows, N)}
    np.testing.assert_allclose(dx, du @ W.T, **tolerance)
    np.testing.assert_allclose(
        grad[3 : 3 + K * N].reshape(K, N), before[3 : 3 + K * N].reshape(K, N) + x.T @ du, **tolerance
    )
    if biased:
        np.testing.assert_allclose(grad[3 + K * N :], before[3 + K * N :] + du.sum(axis=0), **tolerance)
    else:
        assert np.array_equal(grad[3 + K * N :], before[3 + K * N :])
    assert np.array_equal(grad[:3], before[:3])
    added = grad.copy()
    made[0].backward(theta, grad, x, y, dy, 1, False)
    np.testing.assert_allclose((added - grad)[3 : 3 + K * N], before[3 : 3 + K * N], **tolerance)


@native
def test_bits_of_a_map_do_not_depend_on_threads_nor_on_the_other_rows(rng):
    theta = rng.standard_normal(300 * 200 + 200).astype("float32")
    x, dy = rng.standard_normal((150, 300)).astype("float32"), rng.standard_normal((150, 200)).astype("float32")
    found = []
    for threads in (1, 2, 3):
        dense, grad = Dense(4, 300, 200, 0, 300 * 200, True), np.zeros_like(theta)
        y = dense.forward(theta, x, threads)
        found.append((y, dense.backward(theta, grad, x, y, dy, threads, False), grad))
    assert all(np.array_equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    assert np.array_equal(Dense(4, 300, 200, 0, 300 * 200, True).forward(theta, x[:2].copy(), 1), found[0][0][:2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("S", "B", "H", "M"), [(1, 1, 1, 1), (5, 3, 4, 7), (20, 6, 33, 16), (17, 9, 64, 130)])
def test_queries_look_at_the_memory_of_their_sequence(dtype, S, B, H, M, rng):
    keys, memory = rng.standard_normal((S, B, H)).astype(dtype), rng.standard_normal((S, B, M)).astype(dtype)
    steps = rng.integers(1, S + 1, B)
    steps[0] = S
    for n in range(B):  # what lies past an end is never read
        keys[steps[n] :, n], memory[steps[n] :, n] = np.nan, np.nan
    held = HeldMemory(keys, memory, steps, 0.7)
    owner = rng.integers(0, B, 11)
    q = rng.standard_normal((11, H)).astype(dtype)
    contexts, weights = held.attend(q, owner, 1, True)
    for row, n in enumerate(owner):
        e = 0.7 * keys[: steps[n], n] @ q[row]
        a = np.exp(e - e.max())
        a /= a.sum()
        np.testing.assert_allclose(weights[row, : steps[n]], a, atol=CLOSE[dtype] * H)
        assert not weights[row, steps[n] :].any()
        np.testing.assert_allclose(contexts[row], a @ memory[: steps[n], n], atol=CLOSE[dtype] * H)
    for threads in (2, 3):
        assert np.array_equal(held.attend(q, owner, threads)[0], contexts)
    assert held.attend(q, owner, 1)[1] is None
