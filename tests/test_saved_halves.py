"""Mixed precision saves gates, and gradients of gates, in 16 bits; and what is at hand of gates without training."""

import numpy as np
import pytest
from test_mixed_products import rounded

import rnncore as rc

pytestmark = pytest.mark.kernels
MIXED = "mixed_bfloat16"
T, B, D = 7, 5, 6
LENGTHS = np.array([7, 3, 1, 5, 7])


def saved(gate):
    """A gate in 16 bits: parts of 32767."""
    return np.rint(gate * 32767) / 32767


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def elman_step(p, x, state, r):
    return (np.tanh(r(x) @ r(p["W_xh"]) + p["b_h"] + r(state[0]) @ r(p["W_hh"])),), ()


def elman_back(p, state, after, gates, d, keep, r):
    da = r(d[0] * (1 - after[0] ** 2))
    return da, {"W_hh": np.outer(r(state[0]), da), "b_h": da}, (da @ r(p["W_hh"]).T,)


def lstm_step(p, x, state, r):
    h, c = state
    i, f, g, o = np.split(r(x) @ r(p["W_xh"]) + p["b_h"] + r(h) @ r(p["W_hh"]), 4)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    new = f * c + i * g
    return (o * np.tanh(new), new), (i, f, g, o)


def lstm_back(p, state, after, gates, d, keep, r):
    i, f, g, o = map(keep, gates)
    dh, dc = d
    tc = np.tanh(after[1])
    dc = dc + dh * o * (1 - tc**2)
    da = np.concatenate([dc * g * i * (1 - i), dc * state[1] * f * (1 - f), dc * i * (1 - g**2), dh * tc * o * (1 - o)])
    da = r(da)
    grads = {"W_hh": np.outer(r(state[0]), da), "b_h": da}
    return da, grads, (da @ r(p["W_hh"]).T, dc * f)


def gru_step(p, x, state, r):
    (h,) = state
    R, Z, N = np.split(r(x) @ r(p["W_xh"]) + p["b_h"], 3)
    ur, uz, q = np.split(r(h) @ r(p["W_hh"]), 3)
    q = q + p["b_hn"]
    R, Z = sigmoid(R + ur), sigmoid(Z + uz)
    N = np.tanh(N + R * q)
    return ((1 - Z) * N + Z * h,), (R, Z, N, q)


def gru_back(p, state, after, gates, d, keep, r):
    R, Z, N = map(keep, gates[:3])
    q = gates[3] if keep(0.3) == 0.3 else rounded(np.float32(gates[3])).astype(float)
    (dh,), (h,) = d, state
    dn = dh * (1 - Z) * (1 - N**2)
    da = r(np.concatenate([dn * q * R * (1 - R), dh * (h - N) * Z * (1 - Z), dn]))
    dq = np.concatenate([da[: 2 * len(h)], r(dn * R)])
    grads = {"W_hh": np.outer(r(h), dq), "b_h": da, "b_hn": dq[2 * len(h) :]}
    return da, grads, (dq @ r(p["W_hh"]).T + dh * Z,)


STEPS = {"elman": (elman_step, elman_back), "lstm": (lstm_step, lstm_back), "gru": (gru_step, gru_back)}


def own(arrays):
    """Those of the only layer and direction, by their short names."""
    return {name.rpartition(".")[2]: array for name, array in arrays.items()}


def reference(cell, layer, x, dy, state, dstate, keep, r, reverse=False):
    """Gradients, one sequence and step at a time, in float64."""
    p = {name: array.astype(float) for name, array in own(layer.params).items()}
    step, back = STEPS[cell]
    grads = {name: np.zeros_like(array) for name, array in p.items()}
    dx, dstart = np.zeros(x.shape), [np.zeros(s.shape[1:]) for s in state]
    for n, length in enumerate(LENGTHS):
        steps = range(length)[:: -1 if reverse else 1]
        at, trace = tuple(s[0, n].astype(float) for s in state), []
        for t in steps:
            after, gates = step(p, x[t, n].astype(float), at, r)
            trace.append((t, at, after, gates))
            at = after
        d = [s[0, n].astype(float) for s in dstate]
        for t, before, after, gates in reversed(trace):
            d[0] = d[0] + dy[t, n]
            da, more, d = back(p, before, after, gates, d, keep, r)
            d = list(d)
            dx[t, n] = da @ r(p["W_xh"]).T
            for name, array in more.items():
                grads[name] += array
            grads["W_xh"] += np.outer(r(x[t, n].astype(float)), da)
        for i, one in enumerate(d):
            dstart[i][n] = one
    return {**grads, "dx": dx, **{f"dstate {i}": one for i, one in enumerate(dstart)}}


@pytest.mark.parametrize("cell", STEPS)
@pytest.mark.parametrize(("H", "reverse"), [(12, False), (16, True), (37, False), (64, True)])
def test_gradients_are_those_of_what_16_bits_keep(cell, H, reverse):
    rng = np.random.default_rng(H)
    layer = rc.Recurrent(cell, D, H, dtype=MIXED, reverse=reverse, random_state=1)
    layer.theta[...] += 0.3 * rng.standard_normal(layer.theta.size).astype("f4")
    x, dy = rng.standard_normal((T, B, D)).astype("f4"), rng.standard_normal((T, B, H)).astype("f4")
    state = tuple(0.5 * rng.standard_normal((1, B, H)).astype("f4") for _ in range(2 if cell == "lstm" else 1))
    dstate = tuple(rng.standard_normal(s.shape).astype("f4") for s in state)
    layer.forward(x, state, lengths=LENGTHS)
    dx, dstart = layer.backward(dy, dstate)
    found = {**own(layer.grads), "dx": dx, **{f"dstate {i}": one[0] for i, one in enumerate(dstart)}}
    past = np.arange(T)[:, None] >= LENGTHS
    dy[past] = 0

    def bf16(a):
        return rounded(np.asarray(a, np.float32)).astype(float)

    wanted = reference(cell, layer, x, dy, state, dstate, saved, bf16, reverse)
    exact = reference(cell, layer, x, dy, state, dstate, lambda g: g, lambda a: a, reverse)
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        size = np.linalg.norm(array)
        # a number that float32 moves across the middle between two of bfloat16 falls to the other side
        assert np.linalg.norm(found[name] - array) <= 6e-4 * size, name
        assert np.linalg.norm(exact[name] - array) > 1e-3 * size, f"{name}: the check would not see 16 bits"


def test_the_gradient_through_a_forget_gate_near_1_is_kept():
    """bfloat16 has no number between 0.996 and 1: after 600 steps the gradient would be 0.1 or 2.5 of what it is."""
    H, steps = 16, 600
    x = np.random.default_rng(0).standard_normal((steps, 1, 4)).astype("f4")
    dy = np.zeros((steps, 1, H), "f4")
    dy[-1] = 1
    first = []
    for dtype in (MIXED, "float32"):
        layer = rc.Recurrent("lstm", 4, H, dtype=dtype, random_state=0)
        p = own(layer.params)
        p["W_hh"][...] = 0
        p["W_xh"][:, H : 2 * H] = 0
        p["b_h"][H : 2 * H] = np.log(0.9985 / 0.0015)
        layer.forward(x)
        first.append(layer.backward(dy)[0][0])
    assert np.linalg.norm(first[0] - first[1]) < 0.05 * np.linalg.norm(first[1])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bias", [-40.0, -12.0, 12.0, 40.0])
def test_gates_that_are_shut_or_open_have_finite_gradients(cell, bias):
    """0.00001 of a gate is nothing in 16 bits, and h/o is tanh(c) no more."""
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((T, B, D)).astype("f4"), rng.standard_normal((T, B, 20)).astype("f4")
    found = []
    for dtype in (MIXED, "float32"):
        layer = rc.Recurrent(cell, D, 20, dtype=dtype, random_state=0)
        b_h = own(layer.params)["b_h"]
        b_h[...] = bias * np.random.default_rng(4).choice([0, 1], b_h.size, p=[0.3, 0.7])
        layer.forward(x)
        found.append((layer.backward(dy)[0], layer.grad.copy()))
    for mixed, whole in zip(*found, strict=True):
        assert np.isfinite(mixed).all()
        assert np.linalg.norm(mixed - whole) <= 0.05 * np.linalg.norm(whole) + 1e-3


def test_less_memory_waits_for_the_backward_pass():
    x = np.zeros((200, 32, 16), "f4")
    for cell, share in (("lstm", 0.75), ("gru", 0.8)):
        held = {}
        for dtype in (MIXED, "float32"):
            layer = rc.Recurrent(cell, 16, 64, dtype=dtype)
            layer.forward(x)
            held[dtype] = layer._saved.size()
        assert held[MIXED] < share * held["float32"], cell


@pytest.mark.parametrize("precision", ["float32", "float64", MIXED])
@pytest.mark.parametrize("cell", rc.CELLS)
def test_outputs_do_not_depend_on_how_much_of_the_gates_is_at_hand(cell, precision):
    """Without training, and in mixed precision, gates are there for some steps at a time: here for a third of them."""
    rng = np.random.default_rng(5)
    layer = rc.Recurrent(cell, 3, 8, bidirectional=True, num_layers=2, dtype=precision, random_state=0)
    lengths = rng.integers(1, 130, 30)
    lengths[7] = 130
    x = rng.standard_normal((130, 30, 3)).astype(layer.dtype)
    y, state = layer.forward(x, lengths=lengths, training=False)
    trained, final = layer.forward(x, lengths=lengths)
    assert np.array_equal(y, trained) and all(map(np.array_equal, state, final))
    gates = layer.activations(x, lengths=lengths)
    for n in (0, 7, 21):  # alone they fit as a whole
        alone = np.ascontiguousarray(x[: lengths[n], [n]])
        assert np.allclose(layer.forward(alone, training=False)[0][:, 0], y[: lengths[n], n], atol=1e-6)
        for name, array in layer.activations(alone).items():
            np.testing.assert_allclose(gates[name][: lengths[n], n], array[:, 0], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["ids", "picked"])
@pytest.mark.parametrize("cell", STEPS)
def test_symbols_of_many_rows_get_the_sum_of_their_gradients(cell, kind):
    """More rows than are taken back from 16 bits at a time; `picked`: each symbol's product is made once."""
    rng = np.random.default_rng(8)
    ids = rng.integers(0, 9, (150, 30))
    dy = None
    grads = {}
    for dtype in (MIXED, "float32"):
        embedding = {"embedding": rc.Embedding(9, 5)} if kind == "picked" else {}
        layer = rc.Recurrent(cell, 5 if embedding else 9, 8, dtype=dtype, random_state=0, bidirectional=True)
        net = rc.Network(layer, rc.Softmax(3), **embedding)
        dy = rng.integers(0, 3, ids.shape) if dy is None else dy
        net.loss_and_grad(ids, dy)
        grads[dtype] = net.grad.copy()
    assert np.linalg.norm(grads[MIXED] - grads["float32"]) < 0.03 * np.linalg.norm(grads["float32"])


@pytest.mark.parametrize(("o", "c"), [(0.5, 8), (0.12, 6), (0.018, 6), (0.0025, 4)])
def test_saturated_cells_get_no_gradient_of_rounding(o, c):
    """tanh(c) is not h/o, once o is rounded: what 1 - tanh(c)² is then off by would add up over all steps."""
    found = []
    for dtype in (MIXED, "float32"):
        layer = rc.Recurrent("lstm", 1, 16, dtype=dtype)
        p = own(layer.params)
        p["W_hh"][...] = p["W_xh"][...] = 0
        p["b_h"][...] = np.repeat([-20, 20, 0, np.log(o / (1 - o))], 16)  # i, f, g, o
        y, _ = layer.forward(np.zeros((500, 1, 1), "f4"), (np.zeros((1, 1, 16), "f4"), np.full((1, 1, 16), c, "f4")))
        found.append(layer.backward(np.ones_like(y))[1][1][0, 0, 0])
    assert found[0] == pytest.approx(found[1], rel=0.02)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("gate", range(4))
def test_a_gate_that_is_no_number_shows_in_the_gradients(cell, gate):
    layer = rc.Recurrent(cell, 4, 8, dtype=MIXED, random_state=0)
    b_h = own(layer.params)["b_h"]
    if gate * 8 < b_h.size:
        b_h[gate * 8 + 2] = np.nan
    else:
        own(layer.params)["b_hn"][2] = np.nan
    y, _ = layer.forward(np.ones((1, 2, 4), "f4"))
    layer.backward(np.ones_like(y))
    assert np.isnan(layer.grad).any()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_sums_over_very_many_rows_of_symbols_are_sums_of_sums(cell):
    """A chain of 400,000 numbers that are all alike would be off by some thousandths."""
    sums = []
    for dtype in (MIXED, "float32"):
        layer = rc.Recurrent(cell, 3, 4, dtype=dtype, random_state=0)
        p = own(layer.params)
        p["W_hh"][...] = 0
        if cell == "lstm":
            p["W_xh"][:, 4:8], p["b_h"][4:8] = 0, -200  # every step begins anew
        y, _ = layer.forward(np.zeros((400, 1000), int))
        layer.backward(np.broadcast_to(np.float32(np.linspace(0.3, 1.1, 4)), y.shape))
        sums.append(own(layer.grads)["b_h"].copy())
    assert np.allclose(sums[0], sums[1], rtol=4e-3)


@pytest.mark.parametrize("precision", ["float32", "float64", MIXED])
def test_predictions_have_the_bits_of_training_at_sizes_that_fill_no_vector(precision):
    """Also where BLAS multiplies, whose bits depend on how many rows there are."""
    layer = rc.Recurrent("lstm", 65, 17, dtype=precision, random_state=0)
    x = np.random.default_rng(0).standard_normal((130, 40, 65)).astype(layer.dtype)
    assert np.array_equal(layer.forward(x, training=False)[0], layer.forward(x)[0])
