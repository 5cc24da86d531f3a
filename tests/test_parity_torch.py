"""Values and all gradients against PyTorch in float64, to 1e-12."""

import numpy as np
import pytest
import reference as ref
import twins
from peers import peer

torch = peer("torch")

from torch_twin import rnn_gradients, rnn_twin, run  # noqa: E402

TOLERANCE = 1e-12
NETS = [
    ref.Stack(3, 4),
    ref.Stack(13, 33, activation="relu"),
    ref.Stack(1, 64, direction="concat"),
    ref.Stack(29, 50, num_layers=3),
    ref.Stack(17, 21, num_layers=2, direction="concat"),
    ref.Stack(40, 77, num_layers=2, direction="concat", activation="relu"),
    ref.Stack(3, 4, cell="lstm"),
    ref.Stack(13, 33, num_layers=2, direction="concat", cell="lstm"),
    ref.Stack(5, 65, cell="lstm"),
    ref.Stack(3, 4, cell="lstm", cell_options=(("proj_size", 1),)),
    ref.Stack(13, 33, num_layers=2, direction="concat", cell="lstm", cell_options=(("proj_size", 20),)),
    ref.Stack(5, 65, num_layers=3, cell="lstm", cell_options=(("proj_size", 64),)),
    ref.Stack(3, 4, cell="gru"),
    ref.Stack(13, 33, num_layers=2, direction="concat", cell="gru"),
    ref.Stack(5, 65, cell="gru"),
]
SHAPES = [(1, 1), (25, 1), (1, 9), (14, 7), (31, 20)]


def close(ours, theirs, what=""):
    assert ref.relative_error(ours, theirs.detach().numpy()) < TOLERANCE, what


def random_params(net: ref.Stack, rng) -> ref.Arrays:
    return net.random_params(rng, 1 / np.sqrt(net.hidden_size))


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "packed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_layers(net, shape, ragged):
    T, B = shape
    rng = np.random.default_rng(T * B)
    params = random_params(net, rng)
    x = rng.standard_normal((T, B, net.input_size))
    lengths = twins.random_lengths(rng, T, B).tolist() if ragged else None
    start, dfinal = twins.random_state(rng, net, B), twins.random_state(rng, net, B)
    dy = rng.standard_normal((T, B, net.output_size))

    twin = rnn_twin(net, params)
    tx, tstart = torch.tensor(x, requires_grad=True), tuple(torch.tensor(s, requires_grad=True) for s in start)
    ty, tfinal = run(twin, tx, tstart, lengths)
    total = (ty * torch.tensor(dy)).sum()
    for state, weights in zip(tfinal, dfinal, strict=True):
        total = total + (state * torch.tensor(weights)).sum()
    total.backward()

    layer = twins.layer(net, params)
    layer.zero_grad()
    y, final = layer.forward(x, state=start, lengths=lengths)
    dx, dstart = layer.backward(dy, dstate=dfinal)
    close(y, ty, "y")
    close(dx, tx.grad, "dx")
    for ours, theirs in zip(final, tfinal, strict=True):
        close(ours, theirs, "final state")
    for ours, theirs in zip(dstart, tstart, strict=True):
        close(ours, theirs.grad, "initial state")
    for name, wanted in rnn_gradients(twin, net).items():
        assert ref.relative_error(layer.grads[name], wanted) < TOLERANCE, name


def test_layer_normalisation():
    """Ba, Kiros and Hinton's equations 20-22 in PyTorch's words."""
    T, B, D, H = 9, 4, 5, 13
    rng = np.random.default_rng(34)
    net = ref.Stack(D, H, cell="lstm", cell_options=(("layer_norm", True),))
    params, x, dy = net.random_params(rng), rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H))
    leaf = {name.split(".")[-1]: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    normal = torch.nn.functional.layer_norm
    h = c = torch.zeros(B, H, dtype=torch.float64)
    outputs = []
    for x_t in torch.tensor(x):
        from_x, from_h = (
            normal(v @ leaf[f"W_{name}h"], (4 * H,), leaf[f"gain_{name}"]) for name, v in (("x", x_t), ("h", h))
        )
        i, f, g, o = (from_x + from_h + leaf["b_h"]).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(normal(c, (H,), leaf["gain_c"], leaf["shift_c"]))
        outputs.append(h)
    wanted = torch.stack(outputs)
    (wanted * torch.tensor(dy)).sum().backward()

    layer = twins.layer(net, params)
    layer.zero_grad()
    y, _ = layer.forward(x)
    layer.backward(dy)
    close(y, wanted)
    for name, tensor in leaf.items():
        close(layer.grads[f"layers.0.fwd.{name}"], tensor.grad, name)


HEAD_OPTIONS = [{}, {"class_weight": [0.3, 1.0, 2.0, 0.7, 1.5]}, {"label_smoothing": 0.1}]


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("readout", ["every", "last"])
@pytest.mark.parametrize("options", HEAD_OPTIONS, ids=["plain", "weights", "smooth"])
def test_classifiers(options, readout, cell):
    """Symbols through an embedding, two layers both ways, packed sequences, softmax; some targets ignored."""
    V, E, H, K, T, B = 23, 11, 19, 5, 17, 9
    rng = np.random.default_rng(31)
    net, head = ref.Stack(E, H, 2, "concat", cell=cell), ref.Head("softmax", K, options)
    params = random_params(net, rng) | head.random_params(rng, 2 * H)
    params["embedding.E"] = rng.standard_normal((V, E))
    ids, lengths = rng.integers(0, V, (T, B)), twins.random_lengths(rng, T, B)
    targets = rng.integers(-1, K, (T, B) if readout == "every" else (B,))

    twin = rnn_twin(net, {name: a for name, a in params.items() if name.startswith("layers")})
    leaf = {n: torch.tensor(params[n], requires_grad=True) for n in ("embedding.E", "head.W_hy", "head.b_y")}
    y, (final, *_) = run(twin, leaf["embedding.E"][torch.tensor(ids)], None, lengths.tolist())
    wanted_targets = targets.copy()
    if readout == "every":
        wanted_targets[np.arange(T)[:, None] >= lengths] = -1
    else:
        y = torch.cat([final[-2], final[-1]], dim=1)
    scores = y @ leaf["head.W_hy"] + leaf["head.b_y"]
    loss = torch.nn.functional.cross_entropy(
        scores.reshape(-1, K),
        torch.tensor(wanted_targets.ravel()),
        weight=torch.tensor(options["class_weight"], dtype=torch.float64) if "class_weight" in options else None,
        label_smoothing=options.get("label_smoothing", 0.0),
        ignore_index=-1,
    )
    loss.backward()

    made = twins.network(net, head, readout, params, symbols=V)
    assert made.loss_and_grad(ids, targets, lengths=lengths) == pytest.approx(loss.item(), rel=TOLERANCE)
    for name, tensor in leaf.items():
        close(made.grads[name], tensor.grad, name)
    for name, wanted in rnn_gradients(twin, net).items():
        assert ref.relative_error(made.grads[name], wanted) < TOLERANCE, name


@pytest.mark.parametrize("kind", ["squared", "sigmoid"])
def test_other_heads(kind):
    H, K, T, B = 19, 5, 17, 9
    rng = np.random.default_rng(32)
    net, head = ref.Stack(7, H), ref.Head(kind, K)
    params = random_params(net, rng) | head.random_params(rng, H)
    x, targets = rng.standard_normal((T, B, 7)), head.random_targets(rng, (T, B))
    twin = rnn_twin(net, {name: a for name, a in params.items() if name.startswith("layers")})
    leaf = {n: torch.tensor(params[n], requires_grad=True) for n in ("head.W_hy", "head.b_y")}
    scores = twin(torch.tensor(x))[0] @ leaf["head.W_hy"] + leaf["head.b_y"]
    F = torch.nn.functional
    loss_of = F.mse_loss if kind == "squared" else F.binary_cross_entropy_with_logits
    loss = loss_of(scores, torch.tensor(targets), reduction="sum") / (T * B)
    loss.backward()
    made = twins.network(net, head, params=params)
    assert made.loss_and_grad(x, targets) == pytest.approx(loss.item(), rel=TOLERANCE)
    for name, tensor in leaf.items():
        close(made.grads[name], tensor.grad, name)
    for name, wanted in rnn_gradients(twin, net).items():
        assert ref.relative_error(made.grads[name], wanted) < TOLERANCE, name


def test_an_embedding_row_used_twice_gets_both_gradients():
    E = 3
    net, head = ref.Stack(E, 4), ref.Head("squared", 2)
    rng = np.random.default_rng(33)
    params = twins.random_params(net, head, rng, symbols=4)
    ids, targets = np.array([[1, 1], [1, 2]]), rng.standard_normal((2, 2, 2))
    leaf = torch.tensor(params["embedding.E"], requires_grad=True)
    twin = rnn_twin(net, {name: a for name, a in params.items() if name.startswith("layers")})
    scores = twin(leaf[torch.tensor(ids)])[0] @ torch.tensor(params["head.W_hy"]) + torch.tensor(params["head.b_y"])
    (torch.nn.functional.mse_loss(scores, torch.tensor(targets), reduction="sum") / 4).backward()
    made = twins.network(net, head, params=params, symbols=4)
    made.loss_and_grad(ids, targets)
    close(made.grads["embedding.E"], leaf.grad)
    assert not made.grads["embedding.E"][[0, 3]].any()
