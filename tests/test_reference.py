"""The reference against PyTorch in float64: what all other tests lean on."""

import numpy as np
import pytest
import reference as ref
from peers import peer

torch = peer("torch")

from torch_twin import rnn_gradients, rnn_twin, run  # noqa: E402

STACKS = [
    ref.Stack(3, 4),
    ref.Stack(3, 4, activation="relu"),
    ref.Stack(5, 2, num_layers=3),
    ref.Stack(2, 3, direction="concat", num_layers=2),
    ref.Stack(2, 5, direction="concat", activation="relu"),
    ref.Stack(3, 4, cell="lstm"),
    ref.Stack(2, 3, num_layers=2, direction="concat", cell="lstm"),
    ref.Stack(3, 4, cell="gru"),
    ref.Stack(2, 3, num_layers=2, direction="concat", cell="gru"),
]
T, B = 6, 4
LENGTHS = [4, 6, 1, 5]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("net", STACKS, ids=str)
def test_layers(net, lengths):
    rng = np.random.default_rng(1)
    params = net.random_params(rng)
    x = rng.standard_normal((T, B, net.input_size))
    shapes = net.state_shapes(B)
    start = {f"state {i}": rng.standard_normal(shape) for i, shape in enumerate(shapes)}
    dy, dfinal = rng.standard_normal((T, B, net.output_size)), [rng.standard_normal(shape) for shape in shapes]

    twin = rnn_twin(net, params)
    tx = torch.tensor(x, requires_grad=True)
    tstart = tuple(torch.tensor(s, requires_grad=True) for s in start.values())
    ty, tfinal = run(twin, tx, tstart, lengths)
    total = (ty * torch.tensor(dy)).sum()
    for weights, state in zip(dfinal, tfinal, strict=True):
        total = total + (state * torch.tensor(weights)).sum()
    total.backward()

    y, final = ref.forward(net, params, x, tuple(start.values()), lengths)
    assert ref.relative_error(y, ty.detach().numpy()) < 1e-14
    for ours, theirs in zip(final, tfinal, strict=True):
        assert ref.relative_error(ours, theirs.detach().numpy()) < 1e-14

    def weighted_sum(arrays):
        y, final = ref.forward(net, arrays, arrays["x"], tuple(arrays[name] for name in start), lengths)
        return (y * dy).sum() + sum((s * w).sum() for s, w in zip(final, dfinal, strict=True))

    got = ref.derivative(weighted_sum, {**params, "x": x, **start})
    wanted = {**rnn_gradients(twin, net), "x": tx.grad.numpy()}
    wanted |= {name: state.grad.numpy() for name, state in zip(start, tstart, strict=True)}
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert ref.relative_error(got[name], wanted[name]) < 1e-13, name


@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_activations(activation):
    z = np.linspace(-9, 9, 301)
    F = torch.nn.functional
    twin = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "relu": F.relu,
        "leaky_relu": lambda v: F.leaky_relu(v, 0.01),
        "clipped_relu": F.relu6,
        "identity": lambda v: v,
    }[activation]
    tz = torch.tensor(z, requires_grad=True)
    tf = twin(tz)
    tf.sum().backward()
    f = ref.ACTIVATIONS[activation]
    np.testing.assert_allclose(f(z), tf.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(
        np.imag(f(z + 1e-30j)) / 1e-30, tz.grad.numpy(), rtol=1e-12, atol=1e-15
    )  # 1 - tanh² cancels


def test_reverse_is_forward_on_turned_sequences():
    rng = np.random.default_rng(2)
    net, back = ref.Stack(3, 4), ref.Stack(3, 4, direction="reverse")
    params = net.random_params(rng)
    x = rng.standard_normal((T, B, 3))
    turned = np.zeros_like(x)
    for b, n in enumerate(LENGTHS):
        turned[:n, b] = x[:n, b][::-1]
    y, (final,) = ref.forward(back, {k.replace("fwd", "bwd"): v for k, v in params.items()}, x, lengths=LENGTHS)
    z, (same,) = ref.forward(net, params, turned, lengths=LENGTHS)
    for b, n in enumerate(LENGTHS):
        np.testing.assert_array_equal(y[:n, b], z[:n, b][::-1])
    np.testing.assert_array_equal(final, same)


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("weight", [None, [0.5, 1.0, 2.5, 0.1]], ids=["plain", "weighted"])
def test_softmax_loss(weight, smoothing):
    rng = np.random.default_rng(3)
    z, targets = rng.standard_normal((9, 4)), np.array([0, 3, -1, 2, 2, 1, -1, 0, 1])
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor(z),
        torch.tensor(targets),
        weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
        ignore_index=-1,
        label_smoothing=smoothing,
    )
    assert ref.softmax_loss(z, targets, weight, smoothing) == pytest.approx(float(wanted), rel=1e-14)


def test_other_losses():
    rng = np.random.default_rng(4)
    z, t = 3 * rng.standard_normal((9, 4)), rng.random((9, 4))
    F = torch.nn.functional
    sigmoid = F.binary_cross_entropy_with_logits(torch.tensor(z), torch.tensor(t), reduction="sum") / 9
    squared = F.mse_loss(torch.tensor(z), torch.tensor(t), reduction="sum") / 9
    assert ref.sigmoid_loss(z, t) == pytest.approx(float(sigmoid), rel=1e-14)
    assert ref.squared_loss(z, t) == pytest.approx(float(squared), rel=1e-14)


@pytest.mark.parametrize(("variant", "gate"), [("NIG", 0), ("NFG", 1), ("NOG", 3)])
def test_a_missing_gate_is_an_open_one(variant, gate):
    """An LSTM without a gate is one whose gate is driven to 1 by its bias."""
    rng = np.random.default_rng(8)
    net = ref.Stack(3, 4, cell="lstm")
    params = net.random_params(rng)
    x = rng.standard_normal((T, B, 3))
    without, _ = ref.forward(ref.Stack(3, 4, cell="lstm", cell_options=(("variant", variant),)), params, x)
    params["layers.0.fwd.b_h"][4 * gate : 4 * gate + 4] = 50
    np.testing.assert_allclose(without, ref.forward(net, params, x)[0], rtol=1e-14)


def test_peepholes_of_zero_are_none():
    rng = np.random.default_rng(9)
    net = ref.Stack(3, 4, cell="lstm", cell_options=(("peepholes", True),))
    params = net.random_params(rng)
    x = rng.standard_normal((T, B, 3))
    seen, _ = ref.forward(net, params, x)
    for name in ("w_ci", "w_cf", "w_co"):
        params[f"layers.0.fwd.{name}"][:] = 0
    blind, _ = ref.forward(net, params, x)
    assert np.any(seen != blind)
    np.testing.assert_array_equal(blind, ref.forward(ref.Stack(3, 4, cell="lstm"), params, x)[0])


def test_ids_and_bags():
    ids = np.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(ref.as_dense(ids, 3)[0], [[1, 0, 0], [0, 0, 1]])
    bags = np.array([[[0, 2], [1, 1]], [[-1, 2], [-1, -1]]])
    np.testing.assert_array_equal(ref.as_dense(bags, 3)[0], [[1, 0, 1], [0, 2, 0]])
    np.testing.assert_array_equal(ref.as_dense(bags, 3)[1], [[0, 0, 1], [0, 0, 0]])


def test_readouts():
    rng = np.random.default_rng(5)
    net = ref.Stack(3, 2, direction="concat")
    y, final = ref.forward(net, net.random_params(rng), rng.standard_normal((T, B, 3)), lengths=LENGTHS)
    last = ref.read_out(net, "last", y, final, LENGTHS)
    for b, n in enumerate(LENGTHS):
        np.testing.assert_array_equal(last[b], [*y[n - 1, b, :2], *y[0, b, 2:]])
        np.testing.assert_allclose(ref.read_out(net, "mean", y, final, LENGTHS)[b], y[:n, b].sum(axis=0) / n)
        np.testing.assert_array_equal(ref.read_out(net, "max", y, final, LENGTHS)[b], y[:n, b].max(axis=0))


@pytest.mark.parametrize("h", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_truncated_derivative_is_that_of_detached_windows(depth, h):
    """The reference's `truncate` against PyTorch's `detach`, output by output, the window the same in all layers."""
    rng = np.random.default_rng(6)
    net, steps = ref.Stack(3, 4, depth, truncate=h), 5
    params = net.random_params(rng)
    x, dy = rng.standard_normal((steps, 1, 3)), rng.standard_normal((steps, 1, 4))
    h0 = rng.standard_normal((depth, 1, 4))
    leaf = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    leaf |= {"x": torch.tensor(x, requires_grad=True), "h0": torch.tensor(h0, requires_grad=True)}

    def output(t):
        """h_t of the top layer; no derivative passes the states before its window."""
        states = list(leaf["h0"][:, 0])
        for s in range(t + 1):
            if s == t - h + 1:
                states = [state.detach() for state in states]
            below = leaf["x"][s, 0]
            for layer in range(depth):
                W_xh, W_hh, b_h = (leaf[f"layers.{layer}.fwd.{name}"] for name in ("W_xh", "W_hh", "b_h"))
                below = states[layer] = torch.tanh(below @ W_xh + states[layer] @ W_hh + b_h)
        return below

    sum((output(t) * torch.tensor(dy[t, 0])).sum() for t in range(steps)).backward()

    def weighted_sum(a):
        y, _ = ref.forward(net, a, a["x"], (a["h0"],))
        return (y * dy).sum()

    got = ref.derivative(weighted_sum, {**params, "x": x, "h0": h0})
    for name, tensor in leaf.items():
        wanted = np.zeros_like(got[name]) if tensor.grad is None else tensor.grad.numpy()
        assert ref.relative_error(got[name], wanted) < 1e-13, name
    assert got["h0"].any() == (h > 1)


def test_central_differences_agree_with_the_complex_step():
    rng = np.random.default_rng(7)
    net, head = ref.Stack(2, 3, direction="sum"), ref.Head("softmax", 4, {"label_smoothing": 0.1})
    params = net.random_params(rng) | head.random_params(rng, net.output_size)
    x, targets = rng.standard_normal((T, B, 2)), rng.integers(-1, 4, (T, B))
    exact = ref.derivative(lambda a: ref.loss(net, head, "every", a, x, targets, LENGTHS), params)
    for name, array in params.items():
        rough = ref.central_differences(lambda: ref.loss(net, head, "every", params, x, targets, LENGTHS), array)
        assert ref.relative_error(rough, exact[name]) < 1e-8, name
