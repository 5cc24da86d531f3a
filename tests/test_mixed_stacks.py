"""Networks of unlike layers, one above the other: other cells, sizes, depths and directions in one stack.

The reference runs its stacks one by one. What the engine does with several is one pass over all layers.
"""

import pickle
from itertools import accumulate

import numpy as np
import pytest
import reference as ref
import twins
from covering import covering_cases

import rnncore as rc

T, B, D, E, SYMBOLS = 4, 2, 4, 3, 5
#: (cell, hidden, layers, direction, activation), from the bottom up
STACKS = {
    "elman over lstm over gru": [
        ("gru", 2, 1, "fwd", "tanh"),
        ("lstm", 3, 1, "fwd", "tanh"),
        ("elman", 2, 1, "fwd", "sigmoid"),
    ],
    "gru over elman over lstm": [
        ("lstm", 1, 2, "fwd", "tanh"),
        ("elman", 3, 1, "fwd", "relu"),
        ("gru", 2, 1, "fwd", "tanh"),
    ],
    "mgu over mut1": [("mut1", 3, 1, "fwd", "tanh"), ("mgu", 2, 1, "fwd", "tanh")],
    "both below": [("lstm", 3, 1, "concat", "tanh"), ("elman", 4, 1, "fwd", "tanh")],
    "both above": [("elman", 4, 1, "fwd", "identity"), ("gru", 3, 2, "concat", "tanh")],
    "sum below": [("gru", 3, 1, "sum", "tanh"), ("lstm", 4, 1, "reverse", "tanh"), ("elman", 2, 1, "concat", "tanh")],
    "sum above": [("elman", 2, 2, "concat", "leaky_relu"), ("lstm", 3, 1, "sum", "tanh")],
}
OPTIONS = {
    "stack": list(STACKS),
    "ragged": [False, True],
    "truncate": [None, 1, 2],
    "state": [False, True],
    "input": ["dense", "ids", "bags", "embedded ids"],
    "readout": ["every", "last", "mean", "max"],
    "head": ["softmax", "squared", "squared outputs", "crf"],
}


def goes_forward(name: str) -> bool:
    return all(direction == "fwd" for *_, direction, _ in STACKS[name])


def allowed(case):
    chains_see_every_step = case["head"] != "crf" or case["readout"] == "every"
    return chains_see_every_step and (goes_forward(case["stack"]) or not case["state"])


CASES = covering_cases(OPTIONS, allowed)


def stacks_of(name: str, inputs: int, truncate=None) -> list[ref.Stack]:
    found = []
    for cell, hidden, depth, direction, activation in STACKS[name]:
        found.append(ref.Stack(inputs, hidden, depth, direction, activation, cell, truncate))
        inputs = found[-1].output_size
    return found


def random_params(stacks, head: ref.Head, rng) -> ref.Arrays:
    """As a network names them: layers numbered from the bottom."""
    params = {}
    for stack, first in zip(stacks, accumulate((s.num_layers for s in stacks), initial=0), strict=False):
        for name, array in stack.random_params(rng).items():
            params[renamed(name, first)] = array
    return params | head.random_params(rng, stacks[-1].output_size)


def renamed(name: str, by: int) -> str:
    _, number, rest = name.split(".", 2)
    return f"layers.{int(number) + by}.{rest}"


def own_params(params, stack, first: int) -> ref.Arrays:
    """One stack's parameters, numbered from 0."""
    layers = range(first, first + stack.num_layers)
    return {
        renamed(name, -first): array
        for name, array in params.items()
        if name.startswith("layers.") and int(name.split(".")[1]) in layers
    }


def run(stacks, params, x, lengths, states):
    """The top outputs, and each stack's final states; truncated, a path's steps count in whatever layer they are."""
    h = stacks[0].truncate
    firsts = list(accumulate((s.num_layers for s in stacks), initial=0))
    earlier = [None if h is None else {}] * len(stacks)
    dtype = complex if h else np.result_type(x, *params.values())
    for _ in range(h or 1):
        y, finals = x, []
        for i, stack in enumerate(stacks):
            state = states[i] if states else None
            y, final, seen = ref.one_run(
                stack, own_params(params, stack, firsts[i]), y, state, lengths, None, dtype, earlier[i]
            )
            finals.append(final)
            earlier[i] = None if h is None else seen
    return y, finals


def loss_of(stacks, head, readout, params, x, targets, lengths, states):
    if "embedding.E" in params:
        x = ref.embed(x, params["embedding.E"])
    x = ref.as_dense(x, stacks[0].input_size)
    y, finals = run(stacks, params, x, lengths, states)
    z = ref.read_out(stacks[-1], readout, y, finals[-1], lengths)
    if head.project:
        z = z @ params["head.W_hy"] + params["head.b_y"]
    z = z[..., : head.K]
    if head.kind == "crf":
        return ref.crf_loss(z, targets, lengths, params)
    if readout == "every":
        valid = np.arange(len(z))[:, None] < lengths
        z, targets = z[valid], targets[valid]
    return ref.LOSSES[head.kind](z, targets)


def made_of(stacks, head, params, readout="every", dtype="float64", **options):
    layers = [rc.Recurrent(**stack.options(), dtype=dtype, **options) for stack in stacks]
    table = rc.Embedding(*params["embedding.E"].shape) if "embedding.E" in params else None
    net = rc.Network(layers, head=head.make(rc), readout=readout, embedding=table)
    twins.fill(net, params)
    return net


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(v).replace(" ", "_") for v in case.values()))
def test_loss_gradient_and_states(case):
    rng = np.random.default_rng(CASES.index(case))
    embedded, kind = case["input"].startswith("embedded"), case["input"].removeprefix("embedded ")
    inputs = D if kind == "dense" else E if embedded else SYMBOLS
    stacks = stacks_of(case["stack"], inputs, case["truncate"])
    head = ref.Head(case["head"].split()[0], 2, project="outputs" not in case["head"])
    params = random_params(stacks, head, rng)
    if embedded:
        params["embedding.E"] = rng.standard_normal((SYMBOLS, E))
    net = made_of(stacks, head, params, case["readout"])
    x = twins.random_input(rng, kind, T, B, inputs if kind == "dense" else SYMBOLS)
    lengths = twins.random_lengths(rng, T, B) if case["ragged"] else np.full(B, T)
    targets = head.random_targets(rng, (T, B) if case["readout"] == "every" else (B,))
    states = [twins.random_state(rng, stack, B) for stack in stacks] if case["state"] else None

    loss = net.loss_and_grad(x, targets, lengths=lengths, state=states)
    grads = {name: view.copy() for name, view in net.grads.items()}
    arguments = (x, targets, lengths, states)
    assert loss == pytest.approx(np.real(loss_of(stacks, head, case["readout"], params, *arguments)), rel=1e-12)
    wanted = ref.derivative(lambda a: loss_of(stacks, head, case["readout"], a, *arguments), params)
    for name in params:
        assert ref.relative_error(grads[name], wanted[name]) < 1e-11, name

    dense = ref.embed(x, params["embedding.E"]) if embedded else ref.as_dense(x, inputs)
    _, finals = run(stacks, params, dense, lengths, states)
    for ours, theirs in zip(net.state, finals, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, np.real(other), rtol=1e-12, atol=1e-14)


FORWARD = [name for name in STACKS if goes_forward(name)]


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chunks_with_the_states_carried_are_the_whole(name, dtype):
    rng = np.random.default_rng(1)
    stacks, head = stacks_of(name, D), ref.Head("softmax", 2)
    net = made_of(stacks, head, random_params(stacks, head, rng), dtype=dtype)
    x = rng.standard_normal((12, B, D)).astype(dtype)
    whole, last = net.predict(x, return_state=True)
    state, parts = None, []
    for start, end in [(0, 1), (1, 6), (6, 12)]:
        part, state = net.predict(x[start:end], state=state, return_state=True)
        parts.append(part)
    twins.assert_same_bits(np.concatenate(parts), whole)
    for ours, theirs in zip(state, last, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            twins.assert_same_bits(one, other)


@pytest.mark.parametrize("name", FORWARD)
def test_steps_of_the_layers_are_the_stack(name):
    rng = np.random.default_rng(2)
    stacks, head = stacks_of(name, D), ref.Head("squared", 2, project=False)
    net = made_of(stacks, head, random_params(stacks, head, rng))
    x = rng.standard_normal((T, B, D))
    states, seen = [None] * len(net.layers), []
    for row in x:
        for n, layer in enumerate(net.layers):
            row, states[n] = layer.step(row, states[n])
        seen.append(row[:, :2])
    np.testing.assert_allclose(net.predict(x), seen, rtol=1e-12)


@pytest.mark.parametrize("name", STACKS)
def test_a_batch_is_its_sequences_and_threads_change_no_bit(name):
    rng = np.random.default_rng(3)
    stacks, head = stacks_of(name, D), ref.Head("softmax", 2)
    params = random_params(stacks, head, rng)
    net = made_of(stacks, head, params, dtype="float32")
    x, lengths = rng.standard_normal((T, 9, D)).astype(np.float32), twins.random_lengths(rng, T, 9)
    together = net.predict(x, lengths=lengths)
    for b, n in enumerate(lengths):
        alone = net.predict(x[:n, b : b + 1])
        np.testing.assert_allclose(together[:n, b], alone[:, 0], rtol=1e-5, atol=1e-6)
    targets = rng.integers(0, 2, (T, 9))
    net.loss_and_grad(x, targets, lengths=lengths)
    other = made_of(stacks, head, params, dtype="float32", n_threads=3)
    other.loss_and_grad(x, targets, lengths=lengths)
    twins.assert_same_bits(other.grad, net.grad)


@pytest.mark.parametrize("name", STACKS)
def test_every_layer_s_own_dropout(name):
    """Of inputs, of outputs (which meets the next layer's of inputs), of states, and between a layer's own layers."""
    rng = np.random.default_rng(4)
    rates = [
        {"input_dropout": 0.2, "output_dropout": 0.3},
        {"input_dropout": 0.4, "recurrent_dropout": 0.3},
        {"output_dropout": 0.5, "recurrent_dropout": 0.2, "recurrent_dropout_mode": "step"},
    ]
    layers = [
        rc.Recurrent(**stack.options() | own, dropout=0.3, dtype="float64", random_state=7)
        for stack, own in zip(stacks_of(name, D), rates, strict=False)
    ]
    net = rc.Network(layers, head=rc.SquaredError(2))
    x, targets = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2))
    lengths = twins.random_lengths(rng, T, B)
    assert np.abs(net.loss_and_grad(x, targets, lengths) - net.loss_and_grad(x, targets, lengths)) > 1e-6
    assert max(rc.gradcheck(net, x, targets, lengths=lengths).values()) < 1e-6


@pytest.mark.parametrize("name", STACKS)
def test_copies_and_pickles(name):
    rng = np.random.default_rng(5)
    stacks, head = stacks_of(name, D), ref.Head("softmax", 2)
    net = made_of(stacks, head, random_params(stacks, head, rng))
    x = rng.standard_normal((T, B, D))
    for twin in (net.copy(), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin.predict(x), net.predict(x))
        assert list(twin.params) == list(net.params)
    assert net.copy("float32").predict(x).dtype == np.float32


def test_what_does_not_fit_is_refused():
    gru = lambda inputs, **options: rc.Recurrent("gru", inputs, 3, **options)  # noqa: E731
    lstm = lambda inputs, **options: rc.Recurrent("lstm", inputs, 5, **options)  # noqa: E731
    head = rc.Softmax(2)
    with pytest.raises(ValueError, match="input_size 4, but 6 numbers"):
        rc.Network([gru(4, bidirectional=True), lstm(4)], head=head)
    with pytest.raises(ValueError, match="truncate"):
        rc.Network([gru(4, truncate=3), lstm(3)], head=head)
    with pytest.raises(ValueError, match="dtype"):
        rc.Network([gru(4, dtype="float64"), lstm(3)], head=head)
    layer = rc.Recurrent("gru", 3, 3)
    with pytest.raises(ValueError, match="once"):
        rc.Network([layer, layer], head=head)
    net = rc.Network([gru(4), lstm(3)], head=head)
    x = np.zeros((T, B, 4))
    h, c = np.zeros((1, B, 3)), np.zeros((1, B, 5))
    net.predict(x, state=[(h,), (c, c)])
    for state in [(h,), [(h,)], [(h,), (c,)], [(c, c), (h,)], [(h,), (c, c), (h,)], [(h[:, :1],), (c, c)]]:
        with pytest.raises(ValueError, match="state"):
            net.predict(x, state=state)
    backward = rc.Network([gru(4, reverse=True), lstm(3)], head=head)
    with pytest.raises(ValueError, match="forward in time"):
        backward.predict(x, state=[(h,), (c, c)])
