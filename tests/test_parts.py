"""A network of parts: segments side by side, poolings, several heads, losses outside; against NumPy and differences."""

import copy
import pickle

import numpy as np
import pytest
from covering import covering_cases

import rnncore as rc
from rnncore.nn.inputs import distinct_rows

T, B, H, V = 5, 4, 3, 7
SEGMENTS = {
    "word": rc.Embedding(V, 3),
    "numbers": rc.Numbers(2),
    "vector": rc.SequenceVector(2),
    "letters": rc.Letters(6, 2, cell="gru"),
    "features": rc.Features(9, 3),
    "forms": rc.Features(30, 2),
}


class Huber(rc.CustomHead):
    """A loss that no head has; `sample_weight` counts sequences."""

    def loss_and_grad(self, scores, targets, lengths, sample_weight=None):
        real = np.ones(scores.shape[:2], bool)
        if lengths is not None:
            real = np.arange(len(scores))[:, None] < lengths
        weights = real * (1.0 if sample_weight is None else sample_weight)
        error = np.where(real[..., None], scores - targets, 0)
        small = abs(error) < 1
        loss = np.where(small, error**2 / 2, abs(error) - 0.5) * weights[..., None]
        return loss.sum() / real.sum(), np.where(small, error, np.sign(error)) * weights[..., None] / real.sum()


HEADS = {
    "slots": rc.CRF(3),
    "intent": rc.Softmax(4, pooling="attention"),
    "last": rc.SquaredError(2, pooling="last"),
    "mean": rc.SigmoidCrossEntropy(2, pooling="mean"),
    "max": rc.Softmax(3, class_weight=[1, 2, 0.5], pooling="max"),
    "each": rc.SquaredError(2, project=False),
    "huber": Huber(2),
}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def segments(rng, names):
    letters = rng.integers(0, 6, (T, B, 4))
    letters[np.arange(4) >= rng.integers(0, 5, (T, B, 1))] = -1
    arrays = {
        "word": rng.integers(-1, V, (T, B, 2)),
        "numbers": rng.standard_normal((T, B, 2)),
        "vector": rng.standard_normal((B, 2)),
        "letters": letters,
        "features": (rng.integers(-1, 9, (T, B, 4)), rng.standard_normal((T, B, 4))),
        "forms": rng.integers(-1, 30, (T, B, 3)),
    }
    return {name: arrays[name] for name in names}


def targets_for(rng, names):
    found = {
        "slots": rng.integers(-1, 3, (T, B)),
        "intent": rng.integers(0, 4, B),
        "last": rng.standard_normal((B, 2)),
        "mean": rng.random((B, 2)),
        "max": rng.integers(0, 3, B),
        "each": rng.standard_normal((T, B, 2)),
        "huber": 2 * rng.standard_normal((T, B, 2)),
    }
    return {name: found[name] for name in names}


def network(heads, inputs=None, cell="gru", dtype="float64", loss_weights=None, skip=0, **options):
    width = 4 if inputs is None else sum(part.width for part in inputs.values())
    layer = rc.Recurrent(cell, width, H, dtype=dtype, random_state=3, **options)
    net = rc.Network(layer, heads=heads, inputs=inputs, loss_weights=loss_weights, skip=skip)
    draw = np.random.default_rng(8)
    net.theta[...] = draw.standard_normal(net.theta.size) * 0.5
    return net


DIRECTIONS = {
    "forward": {},
    "both": {"bidirectional": True},
    "summed": {"bidirectional": True, "merge": "sum"},
    "reverse": {"reverse": True},
}
DROPOUTS = {
    "none": {},
    "output": {"output_dropout": 0.4},
    "inside": {"input_dropout": 0.3, "recurrent_dropout": 0.3},
}
OPTIONS = {
    "cell": ["elman", "lstm", "gru", "indrnn"],
    "direction": list(DIRECTIONS),
    "num_layers": [1, 2],
    "heads": [
        "slots intent",
        "last intent each",
        "max mean huber",
        "last slots",
        "intent",
        "last max intent each slots mean huber",
    ],
    "inputs": ["", "word numbers", "vector word letters", "letters", "word numbers vector letters", "features forms"],
    "ragged": [False, True],
    "dropout": list(DROPOUTS),
    "state": [False, True],
}
CASES = covering_cases(OPTIONS, lambda case: not case["state"] or case["direction"] == "forward")


@pytest.mark.kernels
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_gradients(case):
    """Of all parameters, by central differences, and of what is read."""
    rng = np.random.default_rng(CASES.index(case))
    inputs = {name: SEGMENTS[name] for name in case["inputs"].split()} or None
    options = DIRECTIONS[case["direction"]] | DROPOUTS[case["dropout"]] | {"num_layers": case["num_layers"]}
    heads = {name: HEADS[name] for name in case["heads"].split()}
    weights = {name: 0.5 + n for n, name in enumerate(heads)}
    net = network(heads, inputs, case["cell"], loss_weights=weights, **options)
    x = rng.standard_normal((T, B, 4)) if inputs is None else segments(rng, inputs)
    y = targets_for(rng, heads)
    lengths = np.array([3, T, 1, 4]) if case["ragged"] else None
    state = None
    if case["state"]:
        shape = net.layers[0].num_layers, B, H
        state = tuple(rng.standard_normal(shape) for _ in net.layers[0].state_widths)

    def loss_at(theta):
        net.theta[...] = theta
        net.dropout_step = 2
        return net.loss_and_grad(x, y, lengths, state)

    start = net.theta.copy()
    loss_at(start)
    assert sum(net.losses.values()) == pytest.approx(loss_at(start))
    grad, small = net.grad.copy(), 1e-6
    for _ in range(6):
        direction = rng.standard_normal(start.size)
        difference = (loss_at(start + small * direction) - loss_at(start - small * direction)) / (2 * small)
        assert grad @ direction == pytest.approx(difference, rel=2e-5, abs=1e-7)


@pytest.mark.kernels
@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_several_heads_are_the_sum_of_single_ones(rng, merge):
    net = network(HEADS, bidirectional=True, merge=merge, loss_weights={"slots": 0.3})
    x, y, lengths = rng.standard_normal((T, B, 4)), targets_for(rng, HEADS), np.array([T, 2, 5, 1])
    loss = net.loss_and_grad(x, y, lengths)
    found, predicted = net.grads, net.predict(x, lengths)
    total, layers = 0.0, 0.0
    for name, head in HEADS.items():
        single = network({name: head}, bidirectional=True, merge=merge)
        for own in single.params:
            single.params[own][...] = net.params[own]
        factor = 0.3 if name == "slots" else 1
        total += factor * single.loss_and_grad(x, {name: y[name]}, lengths)
        layers = layers + factor * single.grad[: single.layers[0].layout.size]
        for own in single.grads:
            if own.startswith("heads"):
                np.testing.assert_allclose(found[own], factor * single.grads[own], rtol=1e-11, atol=1e-13)
        np.testing.assert_array_equal(predicted[name], single.predict(x, lengths)[name])
    assert loss == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(net.grad[: len(layers)], layers, rtol=1e-10, atol=1e-12)


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_attention_is_its_equations(rng, dtype, bidirectional):
    layer = rc.Recurrent("lstm", 4, H, dtype=dtype, bidirectional=bidirectional)
    net = rc.Network(layer, head=rc.SquaredError(2), pooling="attention")
    x, lengths = rng.standard_normal((T, B, 4)).astype(dtype), np.array([T, 1, 3, 2])
    h, _ = layer.forward(x, lengths=lengths, training=False)
    p = {name.removeprefix("head."): value.astype("float64") for name, value in net.params.items()}
    energy = np.tanh(h @ p["attention.W"] + p["attention.b"]) @ p["attention.v"]
    energy[np.arange(T)[:, None] >= lengths] = -np.inf
    share = np.exp(energy - energy.max(axis=0))
    share /= share.sum(axis=0)
    wanted = (share[..., None] * h).sum(axis=0) @ p["W_hy"] + p["b_y"]
    np.testing.assert_allclose(net.predict(x, lengths), wanted, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-7)


@pytest.mark.kernels
def test_segments_are_one_row(rng):
    """The same network on the joined rows, built by hand."""
    names = ["numbers", "word", "vector"]
    net = network({"y": rc.Softmax(3)}, {name: SEGMENTS[name] for name in names}, bidirectional=True)
    x, lengths = segments(rng, names), np.array([2, T, 4, 4])
    table = np.vstack([net.params["inputs.word.E"], np.zeros((1, 3))])
    rows = [x["numbers"], table[x["word"]].sum(axis=2), np.broadcast_to(x["vector"], (T, B, 2))]
    joined = np.concatenate(rows, axis=2)
    plain = rc.Network(rc.Recurrent("gru", 7, H, dtype="float64", bidirectional=True), heads={"y": rc.Softmax(3)})
    for name, values in plain.params.items():
        values[...] = net.params[name]
    y = rng.integers(0, 3, (T, B))
    np.testing.assert_array_equal(net.predict(x, lengths)["y"], plain.predict(joined, lengths)["y"])
    assert net.loss_and_grad(x, {"y": y}, lengths) == plain.loss_and_grad(joined, {"y": y}, lengths)
    scores, _ = net.forward(x, lengths)
    _, (dx, *_) = plain.forward(joined, lengths), plain.backward(scores)
    found, _ = net.backward(scores)
    np.testing.assert_allclose(found["numbers"], dx[..., :2], rtol=1e-12)
    np.testing.assert_allclose(found["vector"], dx[..., 5:].sum(axis=0), rtol=1e-10, atol=1e-14)
    assert found["word"] is None


@pytest.mark.kernels
def test_features_are_numbers_times_a_matrix(rng):
    """A row of mostly zeros times E; the gradient of E has the batch's rows alone, whatever came before."""
    part = rc.Features(9, 3)
    net = network({"y": rc.Softmax(3)}, {"form": part}, bidirectional=True)
    plain = rc.Network(rc.Recurrent("gru", 9, H, dtype="float64", bidirectional=True), heads={"y": rc.Softmax(3)})
    E = net.params["inputs.form.E"]
    for way in ("fwd", "bwd"):
        plain.params[f"layers.0.{way}.W_xh"][...] = E @ net.params[f"layers.0.{way}.W_xh"]
    for name, values in plain.params.items():
        if not name.endswith("W_xh"):
            values[...] = net.params[name]
    y, lengths = {"y": rng.integers(0, 3, (T, B))}, np.array([2, T, 4, 4])
    net.loss_and_grad({"form": rng.integers(0, 9, (T, B, 2))}, y)
    ids, values = rng.integers(-1, 5, (T, B, 3)), rng.standard_normal((T, B, 3))
    ids[2:, 0], values[2:, 0] = 99, np.nan  # past the end
    dense = np.zeros((T, B, 9))
    for t, b, f in np.argwhere((ids >= 0) & (ids < 9)):
        dense[t, b, ids[t, b, f]] += values[t, b, f]
    x = {"form": (ids, values)}
    assert net.loss_and_grad(x, y, lengths) == pytest.approx(plain.loss_and_grad(dense, y, lengths), rel=1e-12)
    gradient = sum(plain.grads[f"layers.0.{way}.W_xh"] @ net.params[f"layers.0.{way}.W_xh"].T for way in ("fwd", "bwd"))
    np.testing.assert_allclose(net.grads["inputs.form.E"], gradient, rtol=1e-9, atol=1e-13)
    assert not net.grads["inputs.form.E"][5:].any()
    before = E.copy()
    net.train_step(x, y, rc.Adam(0.1, lazy=True), lengths)
    assert (before[:5] != E[:5]).all() and np.array_equal(before[5:], E[5:])


@pytest.mark.kernels
def test_the_gradient_of_features_values(rng):
    net = network({"y": HEADS["each"]}, {"form": rc.Features(9, 3)})
    ids, values = rng.integers(-1, 9, (T, B, 4)), rng.standard_normal((T, B, 4))
    given, lengths = rng.standard_normal((T, B, 2)), np.array([2, T, 4, 4])
    net.forward({"form": (ids, values)}, lengths)
    found = net.backward({"y": given})[0]["form"]
    inside = (np.arange(T)[:, None] < lengths)[..., None]
    assert not found[(ids < 0) | ~inside].any() and found.shape == ids.shape
    direction, ends = rng.standard_normal(values.shape), []
    for step in (1e-6, -1e-6):
        scores, _ = net.forward({"form": (ids, values + step * direction)}, lengths, training=False)
        ends.append((scores["y"] * given * inside).sum())
    assert (found * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)
    net.forward({"form": ids}, lengths)
    assert net.backward({"y": given})[0]["form"] is None


def test_values_that_are_not_finite_are_named(rng):
    net = network({"y": rc.Softmax(3)}, {"form": rc.Features(9, 3)})
    ids, values = rng.integers(0, 9, (T, B, 4)), rng.standard_normal((T, B, 4))
    values[3, 2, 0] = np.nan
    with pytest.raises(rc.NonFiniteError, match="form") as found:
        net.train_step({"form": (ids, values)}, {"y": rng.integers(0, 3, (T, B))}, rc.SGD())
    assert (found.value.sequence, found.value.step) == (2, 3)


@pytest.mark.kernels
def test_letters_against_their_own_layer(rng):
    part = SEGMENTS["letters"]
    layer = rc.Recurrent("elman", 4, 4, activation="identity", dtype="float64")
    net = rc.Network(layer, head=rc.SquaredError(4, project=False), inputs=[part])
    net.params["layers.0.fwd.W_xh"][...] = np.eye(4)
    net.params["layers.0.fwd.W_hh"][...] = net.params["layers.0.fwd.b_h"][...] = 0
    letters = segments(rng, ["letters"])["letters"]
    letters[0, 0], letters[1, 0] = -1, [3, 1, -1, -1]
    found = net.predict((letters,))
    reader = part.layer("float64", 0)
    for name, values in reader.params.items():
        values[...] = net.params["inputs.0." + name.removeprefix("layers.0.")]
    for t in range(T):
        for b in range(B):
            word = letters[t, b][letters[t, b] >= 0]
            wanted = np.zeros(4)
            if len(word):
                _, (h,) = reader.forward(word[:, None], training=False)
                wanted = h[:, 0].ravel()
            np.testing.assert_allclose(found[t, b], wanted, rtol=1e-12, atol=1e-15)


def test_distinct_rows(rng):
    ids = rng.integers(-1, 2, (200, 3))
    first, kind = distinct_rows(ids)
    np.testing.assert_array_equal(ids[first[kind]], ids)
    assert len(first) == len(np.unique(ids, axis=0))
    a, b = np.random.default_rng(0).integers(1, 2**63, 2, dtype=np.uint64) | np.uint64(1)
    with np.errstate(over="ignore"):
        alike = np.array([[0, 0], [b, np.uint64(0) - a]], dtype=np.uint64).astype(np.int64)  # a·b - b·a: one key
    first, kind = distinct_rows(alike)
    np.testing.assert_array_equal(alike[first[kind]], alike)
    assert len(first) == 2


@pytest.mark.kernels
@pytest.mark.parametrize("name", [name for name in HEADS if name != "huber"])
def test_a_head_s_own_loss_taken_outside(rng, name):
    """forward, the loss's gradient by differences of the scores, backward: the gradient of loss_and_grad."""
    layer = rc.Recurrent("lstm", 4, H, dtype="float64", dropout=0.2, num_layers=2, output_dropout=0.2)
    net = rc.Network(layer, head=HEADS[name])
    x, y, lengths = rng.standard_normal((T, B, 4)), targets_for(rng, HEADS)[name], np.array([T, 2, 5, 1])
    loss = net.loss_and_grad(x, y, lengths)
    wanted, state = net.grad.copy(), net.state
    net.dropout_step = 0
    scores, final = net.forward(x, lengths)
    for a, b in zip(final, state, strict=True):
        np.testing.assert_array_equal(a, b)
    # the head alone: a network whose layer hands the scores on
    through = rc.Recurrent("elman", scores.shape[-1], scores.shape[-1], activation="identity", dtype="float64")
    through.theta[...] = 0
    through.params["layers.0.fwd.W_xh"][...] = np.eye(scores.shape[-1])
    by_step = scores.ndim == 3
    options = {"project": False, "pooling": "every" if by_step else "last"}
    alone = rc.Network(through, head=type(HEADS[name])(**vars(HEADS[name]) | options))
    for own in ("transitions", "start", "end"):
        if f"head.{own}" in net.params:
            alone.params[f"head.{own}"][...] = net.params[f"head.{own}"]
    as_input = scores if by_step else scores[None]
    assert alone.loss_and_grad(as_input, y, lengths if by_step else None) == pytest.approx(loss, rel=1e-12)
    alone.forward(as_input, lengths if by_step else None)
    small = np.zeros_like(scores)
    flat, differences = scores.ravel(), small.ravel()
    for i in range(flat.size):
        both = []
        for step in (1e-6, -1e-6):
            moved = flat.copy()
            moved[i] += step
            moved = moved.reshape(as_input.shape)
            both.append(alone.loss_and_grad(moved, y, lengths if by_step else None))
        differences[i] = (both[0] - both[1]) / 2e-6
    dx, dstate = net.backward(small)
    own = [n for n in net.params if n.startswith(("layers", "head.W_hy", "head.b_y", "head.attention"))]
    assert dx.shape == x.shape and dstate is None
    reference = dict(
        zip(net.params, np.split(wanted, np.cumsum([v.size for v in net.params.values()])[:-1]), strict=True)
    )
    for n in own:
        np.testing.assert_allclose(net.grads[n].ravel(), reference[n], rtol=1e-5, atol=1e-8)


@pytest.mark.kernels
def test_dx_and_dstate_by_differences(rng):
    net = network({"a": HEADS["each"], "b": HEADS["intent"]}, num_layers=2)
    x, state = rng.standard_normal((T, B, 4)), (rng.standard_normal((2, B, H)),)
    lengths = np.array([3, T, 1, 4])
    given = {"a": rng.standard_normal((T, B, 2)), "b": rng.standard_normal((B, 4))}
    dfinal = (rng.standard_normal((2, B, H)),)

    def value(x, state):
        scores, final = net.forward(x, lengths, state, training=False)
        inside = np.arange(T)[:, None] < lengths
        return (
            (scores["a"] * given["a"])[inside].sum() + (scores["b"] * given["b"]).sum() + (final[0] * dfinal[0]).sum()
        )

    net.forward(x, lengths, state)
    dx, dstate = net.backward(given, dfinal)
    for array, gradient in ((x, dx), (state[0], dstate[0])):
        direction = rng.standard_normal(array.shape)
        ends = []
        for step in (1e-6, -1e-6):
            ends.append(
                value(
                    x + step * direction if array is x else x, state if array is x else (state[0] + step * direction,)
                )
            )
        assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.kernels
@pytest.mark.parametrize("inputs", [None, list(SEGMENTS)], ids=["dense", "segments"])
def test_parts_of_a_batch_are_the_batch(rng, inputs):
    segments_of = None if inputs is None else {name: SEGMENTS[name] for name in inputs}
    net = network(HEADS, segments_of, bidirectional=True)
    x = rng.standard_normal((T, B, 4)) if inputs is None else segments(rng, inputs)
    y, lengths = targets_for(rng, HEADS), np.array([T, 2, 5, 1])
    whole = net.loss_and_grad(x, y, lengths)
    wanted = net.grad.copy()
    total, weights = 0.0, net.batch_weight(y, lengths)
    for some in (slice(0, 1), slice(1, B)):

        def cut(array, by_step=True, some=some):
            if isinstance(array, tuple):
                return tuple(cut(part) for part in array)
            return array[:, some] if by_step else array[some]

        part = cut(x) if inputs is None else {name: cut(x[name], SEGMENTS[name].by_step) for name in inputs}
        labels = {name: cut(y[name], HEADS[name].pooling is None) for name in y}
        total += net.loss_and_grad(part, labels, lengths[some], divisor=weights, accumulate=some.start > 0)
    assert total == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(net.grad, wanted, rtol=1e-9, atol=1e-13)


@pytest.mark.kernels
def test_a_head_without_targets_learns_nothing(rng):
    net = network({"slots": HEADS["slots"], "intent": HEADS["intent"]}, skip=5)
    x = (rng.standard_normal((T, B, 4)), rng.integers(-1, 5, (T, B, 2)))
    y = targets_for(rng, ["slots", "intent"])
    net.loss_and_grad(x, y)
    net.loss_and_grad(x, {"intent": y["intent"]})
    assert set(net.losses) == {"intent"}
    assert not any(net.grads[name].any() for name in net.grads if name.startswith("heads.slots"))
    assert net.grads["heads.intent.W_hy"].any() and "heads.intent.W_skip" not in net.params
    before = net.params["heads.slots.W_skip"].copy()
    net.train_step(x, {"intent": y["intent"]}, rc.SGD(0.1))
    np.testing.assert_array_equal(net.params["heads.slots.W_skip"], before)
    for wrong in ({}, {"intent": None}, {"other": y["slots"]}, y["slots"]):
        with pytest.raises(ValueError, match="dict of slots, intent"):
            net.loss_and_grad(x, wrong)


@pytest.mark.kernels
@pytest.mark.parametrize("lazy", [True, False])
def test_training_is_the_same_for_any_number_of_threads_and_after_copies(rng, lazy):
    x, y, lengths = segments(rng, SEGMENTS), targets_for(rng, HEADS), np.array([T, 2, 5, 1])
    thetas = []
    for how in (1, 3, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), rc.Network.copy):
        options = {"dropout": 0.2, "num_layers": 2, "recurrent_dropout": 0.2}
        net = network(HEADS, SEGMENTS, bidirectional=True, dtype="float32", **options)
        if callable(how):
            net = how(net)
        else:
            net.n_threads = how
        optimizer = rc.Adam(0.01, lazy=lazy) if lazy else rc.Adam(0.01)
        for _ in range(3):
            net.train_step(x, y, optimizer, lengths=lengths)
        thetas.append(net.theta.tobytes())
    assert len(set(thetas)) == 1


def test_old_pickles_and_names():
    net = rc.Network(rc.Recurrent("elman", 2, 3), head=rc.Softmax(2), readout="mean")
    assert net.pooling == net.readout == "mean" and net.heads == {"head": rc.Softmax(2)}
    state = net.__getstate__()
    old = {name: value for name, value in state.items() if name not in ("pooling", "heads", "loss_weights", "inputs")}
    made = rc.Network.__new__(rc.Network)
    made.__setstate__(old | {"readout": "mean"})
    assert made.pooling == "mean" and np.array_equal(made.theta, net.theta)


@pytest.mark.kernels
def test_a_loss_of_one_s_own(rng):
    net = network({"huber": Huber(2)})
    x, y = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, 2))
    optimizer = rc.Adam(0.02)
    losses = [net.train_step(x, {"huber": y}, optimizer) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    assert net.predict(x)["huber"].shape == (T, B, 2)
    weighted = net.loss_and_grad(x, {"huber": y}, sample_weight=[2, 2, 2, 2])
    assert weighted == pytest.approx(2 * net.loss_and_grad(x, {"huber": y}))


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "must return the loss and its gradient"),
        ((1.0,), "must return the loss and its gradient"),
        ((1.0, np.zeros((2, 2))), r"got float64 of shape \(2, 2\)"),
        ((1.0, [["a"] * 2] * 4), "got <U1"),
        (("much", np.zeros((T, B, 2))), "could not convert"),
    ],
)
def test_a_loss_that_returns_nonsense_is_an_error(rng, returned, message):
    class Wrong(rc.CustomHead):
        def loss_and_grad(self, scores, targets, lengths):
            scores[...] = np.nan  # its own copy
            return returned

    net = rc.Network(rc.Recurrent("gru", 4, H), head=Wrong(2))
    x, before = rng.standard_normal((T, B, 4)), net.theta.copy()
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            net.train_step(x, None, rc.SGD(0.1))
    np.testing.assert_array_equal(net.theta, before)
    with pytest.raises(ValueError, match="no parameter of that name"):
        net.loss_and_grad(x, None, sample_weight=np.ones(B))
    with pytest.raises(AttributeError, match="fixed"):
        net.head.outputs = 1000000


class CrossEntropy(rc.CustomHead):
    """What `rc.Softmax` does, with a setting of its own."""

    def __init__(self, outputs, sharpness=1.0):
        super().__init__(outputs)
        self.sharpness = sharpness

    def loss_and_grad(self, scores, targets, lengths):
        p = self.predict(scores)
        real = np.ones(targets.shape, bool)
        if lengths is not None and targets.ndim == 2:
            real = np.arange(len(targets))[:, None] < lengths
        right = np.eye(self.outputs)[targets]
        return -np.log((p * right).sum(-1))[real].mean(), self.sharpness * (p - right) * (real / real.sum())[..., None]

    def predict(self, scores):
        p = np.exp(self.sharpness * scores)
        return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("pooling", ["every", "last"])
@pytest.mark.parametrize("lengths", [None, np.array([T, 2, 5, 1])])
def test_a_loss_of_ones_own_is_divided_as_a_compiled_one(rng, pooling, lengths):
    """Weights, a divisor, a batch in parts and `out`: all as for the head that is compiled."""
    layer = rc.Recurrent("gru", 4, H, dtype="float64", random_state=1)
    ours, theirs = (rc.Network(layer, head=head, pooling=pooling) for head in (CrossEntropy(3), rc.Softmax(3)))
    ours.theta[:] = theirs.theta
    x, y = rng.standard_normal((T, B, 4)), rng.integers(0, 3, (T, B) if pooling == "every" else B)
    assert ours.batch_weight(y, lengths) == theirs.batch_weight(y, lengths)
    for divisor in (None, 7.0):
        losses = [net.loss_and_grad(x, y, lengths, divisor=divisor) for net in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1])
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    out = np.empty((*y.shape, 3))
    assert ours.predict(x, lengths, out=out) is out
    inside = np.full(y.shape, True) if lengths is None or pooling == "last" else np.arange(T)[:, None] < lengths
    np.testing.assert_allclose(out[inside], theirs.predict(x, lengths)[inside], rtol=1e-12)
    runs = [rc.Trainer(net, rc.SGD(0.5), [(x, y, lengths)], max_epochs=3, parts=2).run() for net in (ours, theirs)]
    found, wanted = ([record["loss"] for record in run.history] for run in runs)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-9)


def test_targets_that_only_the_head_knows_are_trained_on(rng):
    class Large(rc.CustomHead):
        def loss_and_grad(self, scores, targets, lengths):
            return float((scores**2).mean()), 2 * scores / scores.size

    given = [(rng.standard_normal((T, B, 4)), target) for target in (None, {"any": 1}, "words")]
    net = rc.Network(rc.Recurrent("gru", 4, H), head=Large(2))
    history = rc.Trainer(net, rc.Adam(0.01), given, max_epochs=9).run().history
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize("batch_first", [False, True])
def test_predictions_of_a_head_of_ones_own_are_zero_past_the_end(rng, batch_first):
    """As those of any head; the compiled one says what they are before it."""
    layer = rc.Recurrent("gru", 4, H, dtype="float64")
    nets = [rc.Network(layer.copy(), head=head(3), batch_first=batch_first) for head in (CrossEntropy, rc.Softmax)]
    nets[1].theta[:] = nets[0].theta
    x, lengths = rng.standard_normal((T, B, 4)), rng.integers(1, T + 1, B)
    x = x.swapaxes(0, 1) if batch_first else x
    own, compiled = (net.predict(x, lengths) for net in nets)
    np.testing.assert_allclose(own, compiled, rtol=1e-12)
    assert np.array_equal(own == 0, compiled == 0) and (lengths == T).all() == bool(own.all())
    out = np.empty_like(own)
    assert nets[0].predict(x, lengths, out=out) is out and np.array_equal(out, own)


def test_a_head_of_ones_own_explains_itself(rng):
    class Narrow(CrossEntropy):
        def predict(self, scores):
            return scores[..., 0]

    x, head = rng.standard_normal((T, B, 4)), CrossEntropy(3)
    head.sharpness = 2.0  # its own settings are its own affair
    assert copy.copy(head).sharpness == 2.0
    with pytest.raises(AttributeError, match="outputs of a CrossEntropy is fixed"):
        head.outputs = 4
    net = rc.Network(rc.Recurrent("gru", 4, H), head=Narrow(3))
    with pytest.raises(ValueError, match=rf"Narrow.predict must return an array \({T}, {B}, 3\), got \({T}, {B}\)"):
        net.predict(x)
    net = rc.Network(rc.Recurrent("gru", 4, H), head=rc.CustomHead(3))
    with pytest.raises(NotImplementedError, match="CustomHead needs a method loss_and_grad"):
        net.loss_and_grad(x, None)


@pytest.mark.kernels
def test_a_loss_that_is_not_finite_changes_nothing(rng):
    class Bad(rc.CustomHead):
        def loss_and_grad(self, scores, targets, lengths):
            return 1.0, scores * np.inf

    net = rc.Network(rc.Recurrent("gru", 4, H), head=Bad(2))
    before = net.theta.copy()
    with pytest.raises(rc.NonFiniteError):
        net.train_step(rng.standard_normal((T, B, 4)), None, rc.SGD(0.1))
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.kernels
def test_backward_belongs_to_the_latest_forward(rng):
    net = network({"last": HEADS["last"]})
    x, y = rng.standard_normal((T, B, 4)), targets_for(rng, ["last"])
    with pytest.raises(RuntimeError, match="forward"):
        net.backward({"last": y["last"]})
    net.forward(x)
    net.predict(x)
    net.backward({"last": y["last"]})
    with pytest.raises(RuntimeError, match="forward"):
        net.backward({"last": y["last"]})
    net.forward(x)
    net.loss_and_grad(x, y)
    with pytest.raises(RuntimeError, match="forward"):
        net.backward({"last": y["last"]})
    net.forward(x)
    with pytest.raises(ValueError, match="shape"):
        net.backward({"last": y["last"][:2]})
    net.backward({"last": y["last"]})  # the mistake cost nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "head=…, one head, or heads"),
        ({"head": rc.Softmax(2), "heads": {"a": rc.Softmax(2)}}, "head=…, one head, or heads"),
        ({"heads": {}}, "must be a dict"),
        ({"heads": {"a.b": rc.Softmax(2)}}, "without a dot"),
        ({"heads": {"a": rc.CRF(2)}, "pooling": "mean"}, "CRF head needs"),
        ({"heads": {"a": rc.Softmax(2, pooling="last")}, "skip": 3}, "sparse features"),
        ({"heads": {"a": rc.Softmax(2)}, "loss_weights": {"b": 1}}, "loss_weights"),
        ({"heads": {"a": rc.Softmax(2)}, "loss_weights": {"a": -1}}, "from 0 up"),
        ({"head": rc.Softmax(2), "pooling": "median"}, "pooling must be one of"),
        ({"head": rc.Softmax(2), "pooling": "mean", "readout": "last"}, "older name"),
        ({"head": rc.Softmax(2), "inputs": []}, "at least one"),
        ({"head": rc.Softmax(2), "inputs": [rc.SequenceVector(4)]}, "segment with steps"),
        ({"head": rc.Softmax(2), "inputs": [rc.Numbers(3)]}, "3 numbers come to it"),
        ({"head": rc.Softmax(2), "inputs": ["word"]}, "must be parts"),
        ({"head": rc.Softmax(2), "inputs": [rc.Numbers(4)], "embedding": rc.Embedding(2, 4)}, "do not go together"),
    ],
)
def test_parts_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        rc.Network(rc.Recurrent("elman", 4, 3), **arguments)


@pytest.mark.kernels
def test_gradcheck_of_parts(rng):
    net = network({"slots": rc.CRF(2), "intent": rc.Softmax(2, pooling="attention")}, SEGMENTS, dtype="float32")
    y = {"slots": rng.integers(0, 2, (T, B)), "intent": rng.integers(0, 2, B)}
    errors = rc.gradcheck(net, segments(rng, SEGMENTS), y, samples=3)
    assert set(errors) == set(net.params) and max(errors.values()) < 1e-6


@pytest.mark.parametrize("options", [3, {"cell": "gru"}, {"num_layers": 2}, {"merge": "sum"}, {"foo": 1}])
def test_letters_options_that_do_not_fit(options):
    with pytest.raises(ValueError, match="options"):
        rc.Letters(4, 2, options=options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x | {"word": x["word"].astype(float)}, "reads ids"),
        (lambda x: x | {"word": x["word"] + V}, "between"),
        (lambda x: x | {"numbers": x["numbers"][:3]}, "same steps and sequences"),
        (lambda x: x | {"vector": x["vector"][:2]}, "of 4 sequences"),
        (lambda x: x | {"vector": np.zeros((B, 3))}, r"numbers \(B, 2\)"),
        (lambda x: x | {"features": x["features"][1]}, r"inputs\['features'\]: ids of sparse features must be whole"),
        (lambda x: x | {"features": (x["features"][0], np.ones((T, B, 3)))}, "must have the shape of their ids"),
        (lambda x: x | {"features": x["features"] * 2}, r"a tuple \(ids, values\), got a tuple of 4"),
        (lambda x: x | {"forms": x["forms"] + 9}, "between -1 .none. and 29"),
        (lambda x: x | {"letters": x["letters"][..., 0]}, "letters must be whole numbers"),
        (lambda x: x | {"letters": np.where(np.arange(4) == 0, -1, 2) + np.zeros((T, B, 1), int)}, "front"),
        (lambda x: {name: x[name] for name in ("word", "numbers")}, "must have the inputs"),
        (lambda x: tuple(x.values())[:2], "of 6 arrays"),
        (lambda x: x["numbers"], "of 6 arrays"),
    ],
)
def test_inputs_that_do_not_fit(rng, change, message):
    net = network({"y": rc.Softmax(2)}, SEGMENTS)
    x = segments(rng, SEGMENTS)
    net.predict(x)
    with pytest.raises(ValueError, match=message):
        net.predict(change(x))


@pytest.mark.kernels
def test_batch_first_is_the_same_with_axes_turned(rng):
    net = network(HEADS, SEGMENTS, bidirectional=True, skip=4)
    turned = rc.Network(
        rc.Recurrent("gru", 16, H, dtype="float64", bidirectional=True), **net._parts() | {"batch_first": True}
    )
    turned.theta[...] = net.theta
    x, y, lengths = segments(rng, SEGMENTS), targets_for(rng, HEADS), np.array([T, 2, 5, 1])
    ids = rng.integers(-1, 4, (T, B, 2))

    def swapped(part):
        return tuple(map(swapped, part)) if isinstance(part, tuple) else part.swapaxes(0, 1)

    def turn(arrays, by_step):
        return {name: swapped(part) if by_step(name) else part for name, part in arrays.items()}

    def every(name):
        return HEADS[name].pooling is None

    x2 = turn(x, lambda name: name != "vector"), ids.swapaxes(0, 1)
    y2 = turn(y, every)
    assert turned.loss_and_grad(x2, y2, lengths) == net.loss_and_grad((x, ids), y, lengths)
    np.testing.assert_array_equal(turned.grad, net.grad)
    wanted, found = net.predict((x, ids), lengths), turned.predict(x2, lengths)
    for name, p in turn(wanted, every).items():
        np.testing.assert_array_equal(found[name], p)
    assert turned.batch_weight(y2, lengths) == net.batch_weight(y, lengths)
    net.dropout_step = turned.dropout_step = 0
    scores, _ = turned.forward(x2, lengths)
    dx, _ = turned.backward(scores)
    net.forward((x, ids), lengths)
    wanted_dx, _ = net.backward(turn(scores, every))
    np.testing.assert_array_equal(dx["numbers"].swapaxes(0, 1), wanted_dx["numbers"])
    np.testing.assert_array_equal(dx["features"].swapaxes(0, 1), wanted_dx["features"])
    np.testing.assert_array_equal(dx["vector"], wanted_dx["vector"])


@pytest.mark.kernels
@pytest.mark.parametrize("inputs", [SEGMENTS, list(SEGMENTS.values()), None], ids=["named", "list", "none"])
def test_files_hold_every_part(rng, tmp_path, inputs):
    heads = {name: head for name, head in HEADS.items() if name != "huber"}
    width = 4 if inputs is None else 16
    layer = rc.Recurrent("lstm", width, H, dtype="float64")
    net = rc.Network(layer, heads=heads, inputs=inputs, loss_weights={"slots": 0.5}, skip=3)
    net.freeze("heads.slots.*")
    net.save(tmp_path / "net.safetensors")
    again = rc.load(tmp_path / "net.safetensors")
    x = rng.standard_normal((T, B, 4)) if inputs is None else segments(rng, SEGMENTS)
    x = (x if inputs is None or isinstance(inputs, dict) else tuple(x.values()), rng.integers(-1, 3, (T, B, 2)))
    for name, p in net.predict(x).items():
        np.testing.assert_array_equal(again.predict(x)[name], p)
    assert again.frozen == net.frozen and again.loss_weights == {"slots": 0.5}
    assert [line.split()[0] for line in net.summary().splitlines()][-8:-1] == [
        "layers.0",
        *[f"heads.{name}" for name in heads],
    ]
    with pytest.raises(ValueError, match="Huber"):
        rc.Network(rc.Recurrent("elman", 4, 3), head=Huber(1)).save(tmp_path / "other.safetensors")


@pytest.mark.kernels
def test_frozen_letters_stay_within_no_bounds(rng):
    part = rc.Letters(5, 3, cell="indrnn", options={"bound": 0.5})
    net = rc.Network(rc.Recurrent("gru", 6, H), head=rc.Softmax(2), inputs={"letters": part})
    letters, y = rng.integers(0, 5, (T, B, 3)), rng.integers(0, 2, (T, B))
    for way in ("fwd", "bwd"):
        net.params[f"inputs.letters.{way}.u"][...] = 0.9
    net.freeze("inputs.letters.fwd.*")
    before = net.params["inputs.letters.fwd.u"].copy()
    net.train_step({"letters": letters}, y, rc.SGD(0.1))
    np.testing.assert_array_equal(net.params["inputs.letters.fwd.u"], before)
    assert np.abs(net.params["inputs.letters.bwd.u"]).max() <= 0.5


@pytest.mark.kernels
@pytest.mark.parametrize(
    "head", [rc.Softmax(3, class_weight=[1, 2, 0.5]), rc.SquaredError(2), rc.SigmoidCrossEntropy(2)]
)
def test_weights_of_steps(rng, head):
    """A step of weight 2 counts twice, one of weight 0 not at all; the divisor stays."""
    net = rc.Network(rc.Recurrent("gru", 4, H, dtype="float64", bidirectional=True), head=head)
    x, lengths = rng.standard_normal((T, B, 4)), np.array([2, T, 1, 4])
    y = rng.integers(0, 3, (T, B)) if head.name == "softmax" else rng.random((T, B, 2))
    weights = rng.random((T, B)) * 2
    weights[0, 1] = 0
    wanted, grad = 0.0, 0.0
    for t, b in np.argwhere(np.arange(T)[:, None] < lengths):
        one = np.zeros((T, B))
        one[t, b] = 1
        loss = net.loss_and_grad(x, y, lengths, sample_weight=one)
        wanted, grad = wanted + weights[t, b] * loss, grad + weights[t, b] * net.grad
    assert net.loss_and_grad(x, y, lengths, sample_weight=weights) == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(net.grad, grad, rtol=1e-10, atol=1e-14)
    by_sequence = rng.random(B)
    loss = net.loss_and_grad(x, y, lengths, sample_weight=by_sequence)
    assert net.loss_and_grad(x, y, lengths, sample_weight=np.tile(by_sequence, (T, 1))) == loss
    turned = rc.Network(rc.Recurrent("gru", 4, H, dtype="float64", bidirectional=True), head=head, batch_first=True)
    turned.theta[...] = net.theta
    found = turned.loss_and_grad(x.swapaxes(0, 1), y.swapaxes(0, 1), lengths, sample_weight=weights.T)
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.kernels
def test_weights_of_steps_are_not_for_losses_of_sequences(rng):
    x, y, weights = rng.standard_normal((T, B, 4)), targets_for(rng, HEADS), np.ones((T, B))
    net = network({"slots": HEADS["slots"], "each": HEADS["each"], "last": HEADS["last"]})
    net.loss_and_grad(x, {"each": y["each"]}, sample_weight=weights)
    for name in ("slots", "last"):
        with pytest.raises(ValueError, match=r"must be \(B,\), one per sequence"):
            net.loss_and_grad(x, {name: y[name], "each": y["each"]}, sample_weight=weights)
    with pytest.raises(ValueError, match="one per step"):
        net.loss_and_grad(x, {"each": y["each"]}, sample_weight=weights[:2])


def test_inputs_in_order_are_batch_first_and_in_parts_too(rng):
    """Segments without names: (B, T, ...) as (T, B, ...), and a batch in parts as the whole."""
    x, y = (rng.integers(0, V, (T, B)), rng.standard_normal((B, 2))), rng.integers(0, 3, (T, B))
    layer = rc.Recurrent("gru", 5, H, dtype="float64", random_state=1)
    nets = [
        rc.Network(layer, head=rc.Softmax(3), inputs=[rc.Embedding(V, 3), rc.SequenceVector(2)], batch_first=first)
        for first in (False, True, False)
    ]
    for net in nets[1:]:
        net.theta[:] = nets[0].theta
    batches = [(x, y), ((x[0].T, x[1]), y.T), (x, y)]
    for net, batch, parts in zip(nets, batches, (None, 3, 2), strict=True):
        rc.Trainer(net, rc.SGD(0.3), [batch], max_epochs=2, parts=parts).run()
    np.testing.assert_allclose(nets[1].theta, nets[0].theta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(nets[2].theta, nets[0].theta, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="names of inputs must be words without a dot"):
        rc.Network(layer, head=rc.Softmax(3), inputs={"a.b": rc.Numbers(5)})
    with pytest.raises(ValueError, match="divisor must be a number above 0, got 0"):
        nets[0].loss_and_grad(x, y, divisor=0)
    with pytest.raises(ValueError, match=r"targets must have shape \(T, B\)"):
        nets[0].batch_weight(y[0])
