"""Attention as a part of a network, between the recurrence and the heads."""

import copy
import pickle

import numpy as np
import pytest
from covering import covering_cases

import rnncore as rc
from rnncore._core import kernels

T, B, D, H = 5, 4, 3, 4
SEGMENTS = {"word": rc.Embedding(7, 3), "numbers": rc.Numbers(2), "vector": rc.SequenceVector(2)}


class Distance(rc.CustomHead):
    """The squared error of pooled outputs, taken in Python."""

    def loss_and_grad(self, scores, targets, lengths):
        error = scores - targets
        return (error**2).sum() / len(scores), 2 * error / len(scores)


HEADS = {
    "slots": rc.CRF(3),
    "intent": rc.Softmax(4, pooling="attention"),
    "last": rc.SquaredError(2, pooling="last"),
    "mean": rc.SigmoidCrossEntropy(2, pooling="mean"),
    "max": rc.Softmax(3, pooling="max"),
    "each": rc.SquaredError(2, project=False),
    "own": Distance(2, pooling="last"),
}
DIRECTIONS = {
    "forward": {},
    "both": {"bidirectional": True},
    "summed": {"bidirectional": True, "merge": "sum"},
    "reverse": {"reverse": True},
}
DROPOUTS = {"none": {}, "output": {"output_dropout": 0.4}, "inside": {"input_dropout": 0.3, "recurrent_dropout": 0.3}}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def network(heads=("slots",), inputs=None, cell="gru", attention="general", dtype="float64", parts=None, **options):
    parts = parts or {}
    width = D if inputs is None else sum(part.width for part in inputs.values())
    layer = rc.Recurrent(cell, width, H, dtype=dtype, random_state=2, **options)
    if isinstance(attention, dict):
        attention = rc.Attention(layer.output_size, dtype=dtype, **attention)
    heads = {name: HEADS[name] for name in heads}
    return rc.Network(layer, heads=heads, inputs=inputs, attention=attention, **parts)


def segments(rng, names):
    made = {
        "word": rng.integers(-1, 7, (T, B, 2)),
        "numbers": rng.standard_normal((T, B, 2)),
        "vector": rng.standard_normal((B, 2)),
    }
    return {name: made[name] for name in names}


def targets(rng, heads):
    made = {
        "slots": rng.integers(0, 3, (T, B)),
        "intent": np.array([0, 3, -1, 1]),
        "last": rng.standard_normal((B, 2)),
        "mean": rng.random((B, 2)),
        "max": rng.integers(0, 3, B),
        "each": rng.standard_normal((T, B, 2)),
        "own": rng.standard_normal((B, 2)),
    }
    return {name: made[name] for name in heads}


# ---------------------------------------------------------------- what it computes


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("direction", list(DIRECTIONS))
def test_heads_see_what_attention_makes_of_the_outputs(rng, direction, dtype):
    options = DIRECTIONS[direction]
    net = network(list(HEADS), attention={"causal": True, "output_size": 7}, dtype=dtype, **options)
    x, lengths = rng.standard_normal((T, B, D)).astype(dtype), np.array([3, T, 1, 4])
    outputs, _ = net.layers[0].forward(x, lengths=lengths, training=False)
    h = net.attention.forward(outputs, lengths=lengths, training=False)
    scores, _ = net.forward(x, lengths, training=False)
    last = h[lengths - 1, np.arange(B)]
    inside = (np.arange(T)[:, None] < lengths)[..., None]
    wanted = {
        "slots": h,
        "last": last,
        "own": last,
        "mean": h.sum(axis=0) / lengths[:, None],
        "max": np.where(inside, h, -np.inf).max(axis=0),
    }
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-13}
    for name, z in wanted.items():
        found = z @ net.params[f"heads.{name}.W_hy"] + net.params[f"heads.{name}.b_y"]
        found = found * inside if found.ndim == 3 else found
        np.testing.assert_allclose(scores[name], found, **tolerance)
    np.testing.assert_array_equal(scores["each"], h[..., :2])
    weights = net.activations(x, lengths)["attention.weights"]
    np.testing.assert_array_equal(weights, net.attention.weights(outputs, lengths=lengths))


OPTIONS = {
    "cell": ["elman", "lstm", "gru", "indrnn"],
    "direction": list(DIRECTIONS),
    "num_layers": [1, 2],
    "heads": ["slots intent", "last intent each", "max mean own", "last", "last max intent each slots mean own"],
    "inputs": ["", "word numbers", "vector word"],
    "attention": ["general", "dot", "scaled_dot"],
    "causal": [False, True],
    "width": [None, 7],
    "ragged": [False, True],
    "dropout": list(DROPOUTS),
    "state": [False, True],
    "batch_first": [False, True],
}
CASES = covering_cases(OPTIONS, lambda case: not case["state"] or case["direction"] == "forward")


@pytest.mark.kernels
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_gradients(case):
    """Of all parameters, by central differences."""
    rng = np.random.default_rng(CASES.index(case))
    heads, inputs = case["heads"].split(), {name: SEGMENTS[name] for name in case["inputs"].split()} or None
    options = DIRECTIONS[case["direction"]] | DROPOUTS[case["dropout"]] | {"num_layers": case["num_layers"]}
    attention = {"score": case["attention"], "causal": case["causal"], "output_size": case["width"]}
    parts = {"loss_weights": {heads[0]: 0.5}, "batch_first": case["batch_first"]}
    net = network(heads, inputs, case["cell"], attention, parts=parts, **options)
    x = rng.standard_normal((T, B, D)) if inputs is None else segments(rng, inputs)
    y, state = targets(rng, heads), None
    if case["batch_first"]:
        x, _, y = net._time_first(x, None, y)
    if case["state"]:
        shape = net.layers[0].num_layers, B, H
        state = tuple(rng.standard_normal(shape) for _ in net.layers[0].state_widths)
    lengths = np.array([3, T, 1, 4]) if case["ragged"] else None
    worst = rc.gradcheck(net, x, y, lengths, state)
    assert {name for name in worst if name.startswith("attention")} >= {"attention.W_c"}
    assert max(worst.values()) < 2e-5, worst


@pytest.mark.parametrize("direction", ["forward", "summed"])
def test_a_loss_outside_goes_back_to_what_is_read(rng, direction):
    net = network(["last", "slots"], **DIRECTIONS[direction])
    x, lengths = rng.standard_normal((T, B, D)), np.array([3, T, 1, 4])
    weights = {"last": rng.standard_normal((B, 2)), "slots": rng.standard_normal((T, B, 3))}

    def loss():
        scores, _ = net.forward(x, lengths)
        return sum((weights[name] * scores[name]).sum() for name in weights)

    loss()
    dx, _ = net.backward(weights)
    for at in [(0, 0, 0), (4, 1, 2), (2, 0, 1), (3, 3, 0)]:
        kept = x[at]
        x[at] = kept + 1e-6
        above = loss()
        x[at] = kept - 1e-6
        below = loss()
        x[at] = kept
        assert dx[at] == pytest.approx((above - below) / 2e-6, rel=1e-6, abs=1e-9)
    assert not dx[3:, 0].any()


def test_parts_of_a_batch_are_the_batch(rng):
    net = network(["slots", "last"])
    x, y, lengths = rng.standard_normal((T, B, D)), targets(rng, ["slots", "last"]), np.array([3, T, 1, 4])
    whole = net.loss_and_grad(x, y, lengths)
    wanted, total, found = net.grad.copy(), net.batch_weight(y, lengths), 0.0
    for some in (slice(0, 1), slice(1, 4)):
        part = {"slots": y["slots"][:, some], "last": y["last"][some]}
        found += net.loss_and_grad(x[:, some], part, lengths[some], divisor=total, accumulate=some.start > 0)
    assert found == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(net.grad, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.kernels
def test_training_is_the_same_for_any_number_of_threads_and_after_copies(rng, tmp_path):
    x, y = rng.standard_normal((30, 20, D)).astype("f4"), {"intent": rng.integers(0, 4, 20)}
    lengths, found = rng.integers(1, 31, 20), []

    def saved(net):
        net.save(tmp_path / "net.safetensors")
        return rc.load(tmp_path / "net.safetensors")

    ways = (lambda net: net, lambda net: pickle.loads(pickle.dumps(net)), copy.deepcopy, lambda net: net.copy(), saved)
    native = kernels.config()["gemm"] == "native"  # BLAS has other bits for other sizes
    for threads, change in zip((1, 2, 3, 8, 2) if native else (2,) * 5, ways, strict=True):
        net = network(["intent"], dtype="float32", bidirectional=True, output_dropout=0.2, attention={"causal": True})
        adam = rc.Adam(0.01)
        net.n_threads = threads
        net.train_step(x, y, adam, lengths)
        net, adam = change(net), rc.Adam(0.01)
        net.n_threads = threads
        for _ in range(3):
            net.train_step(x, y, adam, lengths)
        assert net.attention.causal
        found.append((net.theta.copy(), net.predict(x, lengths)["intent"]))
    for theta, predicted in found[1:]:
        np.testing.assert_array_equal(theta, found[0][0])
        np.testing.assert_array_equal(predicted, found[0][1])


def test_names_of_parameters_are_frozen_and_grouped(rng):
    net = network(["last"], dtype="float32", attention={"output_size": 6})
    assert list(net.params)[-4:] == ["attention.W", "attention.W_c", "heads.last.W_hy", "heads.last.b_y"]
    assert net.params["attention.W_c"].shape == (2 * H, 6) and net.params["heads.last.W_hy"].shape == (6, 2)
    x, y = rng.standard_normal((T, B, D)), targets(rng, ["last"])
    net.freeze("attention.W")
    assert net.attention.frozen == ("W",) and net.copy().frozen == net.frozen == ("attention.W",)
    before = {name: value.copy() for name, value in net.params.items()}
    net.train_step(x, y, rc.SGD(0.1, groups={"attention.W_c": {"learning_rate": 0.0}}))
    same = {name for name, value in net.params.items() if np.array_equal(value, before[name])}
    assert same == {"attention.W", "attention.W_c"}
    net.unfreeze("*")
    net.train_step(x, y, rc.SGD(0.1))
    assert not np.array_equal(net.params["attention.W"], before["attention.W"])


def test_what_it_says_of_itself(rng):
    net = network(["last"], attention={"causal": True, "output_size": 6})
    before = net.memory()["tape_and_scratch"]
    net.loss_and_grad(rng.standard_normal((T, B, D)), targets(rng, ["last"]))
    assert net.memory()["tape_and_scratch"] > before
    row = next(line for line in net.summary().splitlines() if line.startswith("attention"))
    assert " ".join(row.split()) == "attention general, over steps so far (T, B, 6) 64 512"


def test_states_are_carried_by_the_layers_alone(rng):
    net, x = network(["slots"]), rng.standard_normal((T, B, D))
    _, whole = net.predict(x, return_state=True)
    _, half = net.predict(x[:2], return_state=True)
    _, other = net.predict(x[2:], state=half, return_state=True)
    np.testing.assert_array_equal(whole[0], other[0])


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("concat", "score must be one of general"),
        (3, "attention must be rnncore.Attention"),
        (rc.Attention(H + 1, dtype="float64"), "needs size and memory_size 4 and dtype float64"),
        (rc.Attention(H, dtype="float32"), "needs size and memory_size 4 and dtype float64"),
        (rc.Attention(H, batch_first=True, dtype="float64"), "runs time first"),
    ],
)
def test_attention_that_does_not_fit(attention, message):
    with pytest.raises(ValueError, match=message):
        network(attention=attention)


def test_what_goes_step_by_step_is_refused(rng):
    layer = rc.Recurrent("elman", D, H)
    net = rc.Network(layer, head=rc.SquaredError(1), attention="dot")
    with pytest.raises(ValueError, match="attention looks at all steps"):
        net.session()
    with pytest.raises(ValueError, match="no curvature recursion"):
        net.train_step(rng.standard_normal((T, B, D)), np.zeros((T, B, 1)), rc.SDLM(0.1))
    with pytest.raises(ValueError, match="attention"):
        rc.EKF(net)
    with pytest.raises(ValueError, match="attention"):
        rc.RTRL(net)


def test_the_loss_that_is_not_finite_is_named(rng):
    net, before = network(["slots"]), None
    x = rng.standard_normal((T, B, D))
    x[3, 2, 1] = np.inf
    before = net.theta.copy()
    with pytest.raises(rc.NonFiniteError, match="x") as found:
        net.train_step(x, targets(rng, ["slots"]), rc.SGD())
    assert (found.value.sequence, found.value.step) == (2, 3)
    np.testing.assert_array_equal(net.theta, before)


class Cut(rc.Callback):
    """Ends training in its fourth epoch."""

    def on_batch_end(self, trainer, record):
        if trainer.epoch == 4:
            raise InterruptedError


def test_the_trainer_resumes_it(rng, tmp_path):
    data = []
    for _ in range(4):
        data.append((rng.standard_normal((T, B, D)).astype("f4"), targets(rng, ["slots"]), rng.integers(1, T + 1, B)))

    def make(*callbacks, **options):
        net = network(["slots"], dtype="float32", output_dropout=0.2)
        options |= {"max_epochs": 6, "checkpoint_every": 0.0, "callbacks": callbacks}
        return rc.Trainer(net, rc.Adam(0.01), data, **options)

    whole = make().run()
    with pytest.raises(InterruptedError):
        make(Cut(), checkpoint=tmp_path / "c").run()
    resumed = make(resume=tmp_path / "c").run()
    np.testing.assert_array_equal(resumed.network.theta, whole.network.theta)


# ---------------------------------------------------------------- what it is for


def asked_pairs(rng, count, sequences):
    """Pairs of a key and a value, then one of the first half's keys; the target is its value."""
    keys = np.array([rng.permutation(20)[:count] for _ in range(sequences)]).T
    values, each = rng.integers(0, 4, (count, sequences)), np.arange(sequences)
    asked = rng.integers(0, count // 2, sequences)
    x = {"key": np.vstack([keys, keys[asked, each][None]]), "value": np.vstack([values, np.full((1, sequences), 4)])}
    return x, values[asked, each]


def test_recall_by_key_needs_attention():
    """Sixteen pairs do not fit into the state of 32 units so soon; attention finds the one that is asked for."""
    right = {}
    for attention in (None, "general"):
        rng = np.random.default_rng(0)
        inputs = {"key": rc.Embedding(20, 16), "value": rc.Embedding(5, 8)}
        head = rc.Softmax(4, pooling="last")
        net = rc.Network(rc.Recurrent("gru", 24, 32), head=head, inputs=inputs, attention=attention)
        adam = rc.Adam(0.005, clip_norm=1.0)
        for _ in range(500):
            net.train_step(*asked_pairs(rng, 16, 64), adam)
        x, wanted = asked_pairs(np.random.default_rng(99), 16, 1000)
        right[attention] = (net.predict(x).argmax(axis=1) == wanted).mean()
    weights = net.activations(x)["attention.weights"][-1]  # of the question
    keys = x["key"][:-1]
    looked_at = keys[weights[:, :-1].argmax(axis=1), np.arange(keys.shape[1])]
    assert right["general"] > 0.97 and right[None] < 0.6, right
    assert (looked_at == x["key"][-1]).mean() > 0.9  # mostly the step of the key, else the one after it
