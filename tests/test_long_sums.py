"""Sums over very many rows in float32: weight gradients, biases, symbols, initial steps, means over time."""

import numpy as np
import pytest

import rnncore as rc

WORST = 0.1 + 2**-24  # its chain of additions is rounded the same way again and again


def against_float64(build, x, targets, bound, **more):
    """Compare all gradients with those of the same network in float64."""
    grads, losses = [], []
    for dtype in ("float32", "float64"):
        net = build(dtype)
        net.theta[:] = np.random.default_rng(3).uniform(-0.5, 0.5, net.theta.size).astype("float32")
        given = x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        losses.append(net.loss_and_grad(given, targets.astype(dtype) if targets.dtype.kind == "f" else targets, **more))
        grads.append({name: view.astype(np.float64) for name, view in net.grads.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, wanted in grads[1].items():
        assert np.abs(grads[0][name] - wanted).max() <= bound * np.abs(wanted).max(), name


def layer(cell, D, H, dtype, **options):
    return rc.Recurrent(cell, D, H, dtype=dtype, **options)


@pytest.mark.kernels
@pytest.mark.parametrize("rows", ["equal", "random"])
@pytest.mark.parametrize("reverse", [False, True])
def test_dense_rows(rows, reverse):
    T, B = 4, 250_000
    rng = np.random.default_rng(0)
    x = np.full((T, B, 3), WORST, "f") if rows == "equal" else rng.standard_normal((T, B, 3)).astype("f")
    targets = np.zeros((T, B), int) if rows == "equal" else rng.integers(0, 2, (T, B))

    def build(dtype):
        return rc.Network(layer("elman", 3, 4, dtype, reverse=reverse), head=rc.Softmax(2))

    against_float64(build, x, targets, 1e-5)


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("reverse", [False, True])
def test_many_sequences_of_a_cell_with_vectors_and_biases_of_its_own(readout, reverse):
    T, B = 2, 200_000
    x, targets = np.full((T, B, 2), WORST, "f"), np.full((B, 1), 0.3)
    options = {"peepholes": True, "reverse": reverse}
    against_float64(
        lambda dtype: rc.Network(layer("lstm", 2, 3, dtype, **options), head=rc.SquaredError(1), readout=readout),
        x, targets, 1e-5,
    )  # fmt: skip
    against_float64(
        lambda dtype: rc.Network(
            layer("gru", 2, 3, dtype, reset="after", reverse=reverse), head=rc.SquaredError(1), readout=readout
        ),
        x, targets, 1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["symbols", "embedding", "bags", "skip"])
def test_an_id_in_very_many_rows(kind):
    T, B = 2, 300_000
    rng = np.random.default_rng(1)
    ids = np.where(rng.random((T, B)) < 0.9, 2, rng.integers(0, 5, (T, B)))
    ids[0, :5] = [0, 1, 2, 3, 4]
    embedding = rc.Embedding(5, 3) if kind == "embedding" else None
    x = ids
    if kind == "bags":
        x = np.stack([ids, np.where(ids == 3, -1, 4)], axis=2)
    if kind == "skip":
        x = (np.full((T, B, 3), WORST, "f"), ids[..., None])
    targets = np.zeros((T, B), int)
    D = 5 if kind in ("symbols", "bags") else 3

    def build(dtype):
        cell = layer("elman", D, 70, dtype)
        return rc.Network(cell, head=rc.Softmax(2), embedding=embedding, skip=5 if kind == "skip" else 0)

    if kind == "skip":
        got = []
        for dtype in ("float32", "float64"):
            net = build(dtype)
            net.theta[:] = 0
            net.loss_and_grad((x[0].astype(dtype), x[1]), targets)
            got.append(net.grads["head.W_skip"].astype(np.float64))
        assert np.abs(got[0] - got[1]).max() <= 1e-5 * np.abs(got[1]).max()
        return
    against_float64(build, x, targets, 1e-5)


def test_the_mean_of_a_long_sequence():
    x = np.full((1_000_000, 1, 1), WORST, "f")
    outputs = []
    for dtype in ("float32", "float64"):
        net = rc.Network(layer("elman", 1, 70, dtype, activation="identity"), head=rc.SquaredError(1), readout="mean")
        net.theta[:] = 0
        net.params["layers.0.fwd.W_xh"][:] = 1
        net.params["head.W_hy"][69] = 1
        outputs.append(float(net.predict(x.astype(dtype))[0, 0]))
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-5)


@pytest.mark.parametrize("kind", ["dense", "symbols"])
def test_same_bits_for_any_number_of_threads(kind):
    T, B, results = 3, 14_000, set()
    rng = np.random.default_rng(5)
    x = rng.integers(0, 9, (T, B)) if kind == "symbols" else rng.standard_normal((T, B, 9)).astype("f")
    targets = rng.integers(0, 40, (T, B))
    for n_threads in (1, 2, 3, 7):
        net = rc.Network(rc.Recurrent("gru", 9, 130, n_threads=n_threads, random_state=0), head=rc.Softmax(40))
        net.loss_and_grad(x, targets)
        results.add(net.grad.tobytes())
    assert len(results) == 1


def test_accumulating_adds():
    T, B = 2, 40_000
    rng = np.random.default_rng(6)
    x, targets = rng.standard_normal((T, B, 3)).astype("f"), rng.integers(0, 2, (T, B))
    net = rc.Network(rc.Recurrent("elman", 3, 4, random_state=0), head=rc.Softmax(2))
    net.loss_and_grad(x, targets)
    once = net.grad.astype(np.float64)
    net.loss_and_grad(x, targets, accumulate=True)
    np.testing.assert_allclose(net.grad, 2 * once, rtol=0, atol=1e-6 * np.abs(once).max())


@pytest.mark.paper
def test_ten_million_equal_rows():
    T, B = 10, 1_000_000
    x, targets = np.full((T, B, 1), WORST, "f"), np.zeros((T, B), int)
    against_float64(lambda dtype: rc.Network(layer("elman", 1, 2, dtype), head=rc.Softmax(2)), x, targets, 1e-5)
