"""Mixed precision in layers, networks and estimators: near float32 by what rounding allows, and the same everywhere.

How near: bfloat16 keeps 8 bits, so rounding moves a number by at most 2^-9 of itself. What that does to a network
depends on the network (a kink, a softmax that is nearly sure), so it is measured: its float32 self is run with every
parameter moved by ±2^-9 of itself, signs drawn at random. Products round both operands, the way back does so once more
with the rounded results of the way forward: four times as much is allowed, and 2^-8 (both operands) of what comes out,
for the last product, whose other operand no parameter moves.
"""

import copy
import ctypes
import functools
import pickle

import numpy as np
import pytest
import reference as ref
from c_table import TABLE
from peers import peer
from test_c_door import at, batch, checked, layer_handle, same
from test_estimators_together import EVERY as FITS
from test_parts import Huber

import rnncore as rc
from rnncore._core import kernels

MIXED = "mixed_bfloat16"
#: gradients jump at the kinks of IndRNN's ReLU, and where another step becomes the largest: smooth ones are compared
FAMILY = {name: (cell, dict(own)) for name, (cell, own) in ref.FAMILY.items()}
for smooth in ("indrnn", "indrnn with a bound"):
    FAMILY[smooth][1]["activation"] = "tanh"
MEMBERS = list(FAMILY)
WAYS = [{}, {"reverse": True}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum", "num_layers": 2}]
T, B, D, H, K = 6, 5, 8, 12, 4
LENGTHS = np.array([6, 3, 1, 5, 6])
native = pytest.mark.skipif(kernels.config()["gemm"] == "blas", reason="BLAS promises a tolerance, not bits")


def near(of, made) -> None:
    """Hold what `of` tells (arrays by name) of a mixed object against its float32 self, `made` both ways."""
    mixed, whole = of(made(MIXED)), of(made("float32"))
    rng, moved = np.random.default_rng(0), []
    for _ in range(4):
        twin = made("float32")
        twin.theta[...] *= 1 + rng.choice([-1, 1], twin.theta.size).astype("f4") * np.float32(2**-9)
        moved.append(of(twin))
    for name, array in whole.items():
        assert not array.any() or not np.array_equal(mixed[name], array), f"nothing was rounded on the way to {name}"
        assert np.isfinite(mixed[name]).all(), name
        allowed = 4 * max(np.linalg.norm(one[name] - array) for one in moved) + 2**-8 * np.linalg.norm(array)
        assert np.linalg.norm(mixed[name] - array) <= allowed + 1e-7, name


def moved_off(made):
    """Parameters that are nowhere zero, so that no gate is flat and no bias without effect; the same for each dtype."""
    made.theta[...] += 0.1 * np.random.default_rng(7).standard_normal(made.theta.size).astype("f4")
    return made


# ------------------------------------------------------------------ layers and attention


@pytest.mark.parametrize("number", range(len(MEMBERS)), ids=MEMBERS)
def test_every_cell_is_near_float32(number):
    rng = np.random.default_rng(number)
    cell, own = FAMILY[MEMBERS[number]]
    x = rng.standard_normal((T, B, D)).astype("f4")

    def made(dtype):
        return moved_off(rc.Recurrent(cell, D, H, dtype=dtype, **own, **WAYS[number % 4]))

    dy = rng.standard_normal((T, B, made("float32").output_size))

    def of(layer):
        y, state = layer.forward(x, lengths=LENGTHS)
        dx, _ = layer.backward(dy)
        return {"y": y, "state": state[0], "dx": dx, **{f"d {name}": grad.copy() for name, grad in layer.grads.items()}}

    near(of, made)


def test_outputs_with_kinks_are_near_float32():
    """Their gradients jump."""
    x = np.random.default_rng(0).standard_normal((T, B, D)).astype("f4")

    def made(dtype):
        return moved_off(rc.Network(rc.Recurrent("indrnn", D, H, dtype=dtype), rc.SquaredError(K), pooling="max"))

    near(lambda net: predictions(net, x), made)


@pytest.mark.parametrize("score", ["general", "dot", "scaled_dot"])
def test_attention_is_near_float32(score):
    rng = np.random.default_rng(0)
    q, m, dout = (rng.standard_normal((steps, B, D)).astype("f4") for steps in (T, 9, T))

    def of(attention):
        c = attention.forward(q, lengths=LENGTHS, memory=m, memory_lengths=LENGTHS + 1)
        dq, dm = attention.backward(dout)
        return {"c": c, "dq": dq, "dm": dm, "grad": attention.grad.copy()}

    near(of, lambda dtype: rc.Attention(D, score=score, dtype=dtype))


def test_steps_are_runs():
    x = np.random.default_rng(0).standard_normal((T, B, D)).astype("f4")
    for cell in rc.CELLS:
        layer = rc.Recurrent(cell, D, H, dtype=MIXED)
        y, _ = layer.forward(x, training=False)
        state, session = None, layer.session(B)
        for x_t, wanted in zip(x, y, strict=True):
            out, state = layer.step(x_t, state)
            assert np.array_equal(out, wanted) and np.array_equal(session.step(x_t), wanted), cell
        assert np.array_equal(layer.session(B).run(x), y)


# ------------------------------------------------------------------ networks

WORDS, LETTERS, FEATURES = 9, 7, 6
INPUTS = {
    "dense": {},
    "ids": {},
    "embedding": {"embedding": rc.Embedding(WORDS, D)},
    "parts": {
        "inputs": {
            "word": rc.Embedding(WORDS, 3),
            "letters": rc.Letters(LETTERS, 2, "gru", bidirectional=True),
            "vector": rc.SequenceVector(1),
        }
    },
    "skip": {"skip": FEATURES},
}
HEADS = {
    "softmax": lambda: {"head": rc.Softmax(K, label_smoothing=0.1, class_weight=[1, 2, 0.5, 1])},
    "last": lambda: {"head": rc.Softmax(K), "pooling": "last"},
    "attended": lambda: {"head": rc.Softmax(K), "pooling": "attention"},
    "squared": lambda: {"head": rc.SquaredError(K), "attention": "general"},
    "sigmoid": lambda: {"head": rc.SigmoidCrossEntropy(K), "pooling": "mean"},
    "crf": lambda: {"head": rc.CRF(K)},
    "ctc": lambda: {"head": rc.CTC(K)},
    "adaptive": lambda: {"head": rc.AdaptiveSoftmax(K, cutoffs=[2])},
    "sampled": lambda: {"head": rc.SampledSoftmax(K, samples=3)},
    "custom": lambda: {"head": Huber(K)},
    "several": lambda: {"heads": {"tags": rc.CRF(K), "kind": rc.Softmax(K, pooling="mean")}},
}
PLAIN = ("softmax", "crf", "squared")  # heads that sparse features may skip to


def of_inputs(rng, kind):
    """Some steps of bags and some words' letters are empty."""
    if kind == "dense":
        return rng.standard_normal((T, B, D)).astype("f4")
    if kind == "ids":
        return rng.integers(-1, D, (T, B, 2))
    ids = rng.integers(0, WORDS, (T, B))
    if kind == "embedding":
        return ids
    if kind == "skip":
        return rng.standard_normal((T, B, D)).astype("f4"), rng.integers(-1, FEATURES, (T, B, 2))
    letters = rng.integers(0, LETTERS, (T, B, 3))
    letters[np.arange(3) >= rng.integers(0, 4, (T, B, 1))] = -1
    return {"word": ids, "letters": letters, "vector": rng.standard_normal((B, 1)).astype("f4")}


def of_targets(rng, head):
    each, whole = rng.integers(0, K, (T, B)), rng.integers(0, K, B)
    numbers = rng.random((T, B, K)).astype("f4")
    found = {"last": whole, "attended": whole, "squared": numbers, "custom": numbers, "sigmoid": numbers[0]}
    found |= {"ctc": np.full((B, 1), 2), "several": {"tags": each, "kind": whole}}
    return found.get(head, each)


def some_network(kind, head, number=1, dtype=MIXED, **options):
    cell, own = FAMILY[MEMBERS[number]]
    parts = INPUTS[kind] | HEADS[head]()
    width = sum(part.width for part in parts["inputs"].values()) if "inputs" in parts else D
    return moved_off(rc.Network(rc.Recurrent(cell, width, H, dtype=dtype, **own, **options), **parts))


def predictions(net, x, lengths=LENGTHS):
    found = net.predict(x, lengths)
    return found if isinstance(found, dict) else {"predictions": found}


def kinds_of(head):
    return [kind for kind in INPUTS if kind != "skip" or head in PLAIN]


CASES = [(n, list(HEADS)[n % len(HEADS)]) for n in range(len(MEMBERS))]
CASES = [(n, head, kinds_of(head)[(n // 2) % len(kinds_of(head))]) for n, head in CASES]
CASES += [(1 + 7 * n % 8, head, kind) for n, head in enumerate(HEADS) for kind in kinds_of(head) if kind != "dense"]


@pytest.mark.parametrize(("number", "head", "kind"), CASES)
def test_networks_are_near_float32(number, head, kind):
    rng = np.random.default_rng(0)
    x, targets = of_inputs(rng, kind), of_targets(rng, head)

    def of(net):
        found = predictions(net, x)
        loss = net.loss_and_grad(x, targets, LENGTHS)
        return found | {"loss": np.array(loss), **{f"d {name}": grad.copy() for name, grad in net.grads.items()}}

    near(of, lambda dtype: some_network(kind, head, number, dtype, **WAYS[number % 4]))


@pytest.mark.parametrize("head", HEADS)
def test_each_head_rounds_its_own_products(head):
    """An IndRNN over ids has no product: what differs, the head has rounded."""
    ids = np.random.default_rng(0).integers(0, D, (T, B))
    nets = [rc.Network(rc.Recurrent("indrnn", D, H, dtype=dtype), **HEADS[head]()) for dtype in (MIXED, "float32")]
    outputs = [net.layers[0].forward(ids, training=False)[0] for net in nets]
    assert np.array_equal(*outputs)
    mixed, whole = (predictions(net, ids) for net in nets)
    assert not any(np.array_equal(mixed[name], whole[name]) for name in whole)


def test_tied_weights_are_near_float32():
    ids = np.random.default_rng(0).integers(0, WORDS, (T, B))

    def of(net):
        loss = net.loss_and_grad(ids, (ids + 1) % WORDS, LENGTHS)
        return predictions(net, ids) | {"loss": np.array(loss), "grad": net.grad.copy()}

    def made(dtype):
        layer = rc.Recurrent("lstm", H, H, dtype=dtype)
        return moved_off(rc.Network(layer, rc.Softmax(WORDS, tied=True), embedding=rc.Embedding(WORDS, H)))

    near(of, made)


def rewriter(attention="general", dtype=MIXED):
    layers = [rc.Recurrent("gru", 6, 8, dtype=dtype), rc.Recurrent("gru", 5, 8, dtype=dtype, random_state=1)]
    return moved_off(rc.EncoderDecoder(*layers, symbols=5, attention=attention, embedding=rc.Embedding(WORDS, 6)))


@pytest.mark.parametrize("attention", [None, "general", "dot"])
def test_what_rewrites_sequences_is_near_float32_and_decodes_as_it_was_trained(attention):
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, WORDS, (T, B)), rng.integers(0, 5, (B, 4))
    targets[1, 2:] = -1
    targets[2] = -1

    def of(net):
        return {"loss": np.array(net.loss_and_grad(ids, targets, LENGTHS)), "grad": net.grad.copy()}

    near(of, lambda dtype: rewriter(attention, dtype))
    net = rewriter(attention)
    assert net.decoder.attention is None or net.decoder.attention.compute_dtype == "bfloat16"
    net.params["decoder.head.b_y"][-1] += 1  # so that outputs end
    outputs, scores = net.decode(ids, LENGTHS, beam_size=3, max_length=6)
    ended = [n for n, one in enumerate(outputs) if len(one) < 6]
    padded = np.full((B, 6), -1)
    for row, one in zip(padded, outputs, strict=True):
        row[: len(one)] = one
    wanted = net.log_probabilities(ids, padded, LENGTHS).sum(axis=1)
    # a decoder rounds the memory where training rounds the query, to compare them
    assert ended and np.allclose(scores[ended], wanted[ended], rtol=0.01 if attention == "general" else 1e-5)


# ------------------------------------------------------------------ the same everywhere


def trained(net, x, targets, lengths=None, steps=3):
    optimizer = rc.Adam(0.01, clip_norm=1.0)
    losses = [net.train_step(x, targets, optimizer, lengths) for _ in range(steps)]
    return net, losses


@native
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@pytest.mark.parametrize("head", [rc.Softmax(K), rc.CRF(K)], ids=["softmax", "crf"])
def test_threads_change_no_bit(cell, head):
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((20, 70, 24)).astype("f4"), rng.integers(0, K, (20, 70))
    lengths, found = rng.integers(1, 21, 70), []
    for n in (1, 2, 3):
        layer = rc.Recurrent(cell, 24, 40, bidirectional=True, dtype=MIXED, n_threads=n, dropout=0.1, num_layers=2)
        net, losses = trained(rc.Network(layer, head, attention="general"), x, targets, lengths)
        found.append((net.theta.tobytes(), losses, net.predict(x, lengths).tobytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", INPUTS)
def test_copies_and_files_are_the_same_network(kind, tmp_path):
    rng = np.random.default_rng(1)
    x, targets = of_inputs(rng, kind), of_targets(rng, "crf")
    net, _ = trained(some_network(kind, "crf"), x, targets, LENGTHS)
    wanted = predictions(net, x)["predictions"]
    net.save(tmp_path / "net")
    twins = [pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy(), rc.load(tmp_path / "net")]
    twins.append(net.copy("float32").copy(MIXED))
    for twin in twins:
        assert (twin.dtype_policy, twin.compute_dtype, twin.dtype) == (MIXED, "bfloat16", np.dtype("float32"))
        assert np.array_equal(predictions(twin, x)["predictions"], wanted)
        assert trained(twin, x, targets, LENGTHS, 1)[1] == trained(net.copy(), x, targets, LENGTHS, 1)[1]
    whole = net.copy("float32")
    assert (whole.dtype_policy, whole.compute_dtype) == ("float32", "float32")
    assert not np.array_equal(predictions(whole, x)["predictions"], wanted)
    assert net.copy("float64").dtype_policy == "float64"


def test_layers_attention_and_rewriters_are_kept_too(tmp_path):
    x = np.random.default_rng(1).standard_normal((T, B, D)).astype("f4")
    ids = np.random.default_rng(1).integers(0, WORDS, (T, B))
    answers = {
        rc.Recurrent("lstm", D, H, dtype=MIXED): lambda one: one.forward(x, training=False)[0],
        rc.Attention(D, dtype=MIXED): lambda one: one.forward(x, training=False),
        rewriter(): lambda one: one.loss(ids, np.ones((B, 3), int)),
    }
    for made, answer in answers.items():
        made.save(tmp_path / "made")
        for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made), made.copy(), rc.load(tmp_path / "made")):
            assert twin.dtype_policy == MIXED and MIXED in repr(twin) + repr(getattr(twin, "decoder", ""))
            assert np.array_equal(answer(twin), answer(made))
        assert not np.array_equal(answer(made.copy("float32")), answer(made))


@native
@pytest.mark.parametrize("kind", INPUTS)
def test_a_session_has_the_bits_of_predictions(kind):
    x = of_inputs(np.random.default_rng(2), kind)
    net = some_network(kind, "softmax")
    assert np.array_equal(net.session(B).run(x, LENGTHS), net.predict(x, LENGTHS))


def test_sessions_keep_weights_in_fewer_bits():
    """Those of bfloat16 are what mixed precision rounds to anyway; int8's are as near as float32's own int8."""
    x = np.random.default_rng(2).standard_normal((T, B, D)).astype("f4")
    net = some_network("dense", "softmax")
    wanted = net.predict(x)
    assert np.allclose(net.session(B, "bfloat16").run(x), wanted, atol=1e-5)
    found = net.session(B, "int8").run(x)
    assert 0 < np.abs(found - wanted).max() < 0.02
    net.weight_dtype = "int8"
    assert np.array_equal(net.predict(x), found)
    assert net.copy().weight_dtype == net.copy("float32").weight_dtype == "int8"
    assert np.array_equal(net.copy("float32").predict(x), found)


def test_a_c_program_computes_the_same():
    rng = np.random.default_rng(3)
    layer = rc.Recurrent("gru", 5, 7, num_layers=2, dtype=MIXED, n_threads=1)
    x = rng.standard_normal((5, 4, 5)).astype("f4")
    handle, wanted = layer_handle(layer, x), layer.forward(x, training=False)[0]
    y = np.empty_like(wanted)
    checked(TABLE.layers_forward(handle, batch(x), at(y), None))
    same([y], [wanted])
    TABLE.layers_close(handle)
    handle = TABLE.session_open(layer.session(4), ctypes.c_int(0))
    checked(TABLE.session_run(handle, batch(x), at(y)))
    same([y], [wanted])
    TABLE.session_close(handle)


def test_shards_add_up_to_the_whole_minibatch():
    """Each is summed in float32: their sum is the minibatch's gradient but for float32's rounding."""
    rng = np.random.default_rng(0)
    data = rc.Sequences.of([rng.standard_normal((5, D)) for _ in range(40)], [rng.integers(0, K, 5) for _ in range(40)])
    found = []
    for shards in (1, 2, 2):
        net = some_network("dense", "softmax")
        trainer = rc.Trainer(net, rc.SGD(0.1), data, max_epochs=2, batch_size=20, shards=shards)
        trainer.run()
        found.append(net.theta.copy())
    assert np.array_equal(found[1], found[2])
    assert np.allclose(found[0], found[1], atol=1e-4)


def test_gradcheck_looks_at_the_network_without_rounding():
    x, targets = np.random.default_rng(0).standard_normal((T, B, D)), np.zeros((T, B), int)
    assert max(rc.gradcheck(some_network("dense", "softmax"), x, targets, samples=20).values()) < 1e-6


def test_onnx_has_the_parameters(tmp_path):
    peer("onnx")
    net = some_network("dense", "softmax")
    x = np.random.default_rng(0).standard_normal((T, B, D)).astype("f4")
    net.to_onnx(tmp_path / "net.onnx")
    session = peer("onnxruntime").InferenceSession(tmp_path / "net.onnx")
    (scores,) = session.run(["scores"], {"x": x, "lengths": np.full(B, T)})
    whole = net.copy("float32").forward(x, training=False)[0]
    assert np.allclose(scores, whole, atol=1e-5) and not np.allclose(
        scores, net.forward(x, training=False)[0], atol=1e-5
    )


# ------------------------------------------------------------------ errors


def test_what_is_fixed_and_what_is_refused():
    layer = rc.Recurrent("gru", 3, 4, dtype=MIXED)
    for name in ("compute_dtype", "dtype_policy", "mixed", "dtype"):
        for made in (layer, rc.Network(layer.copy(), rc.Softmax(2)), rc.Attention(3, dtype=MIXED), rewriter()):
            with pytest.raises(AttributeError):
                setattr(made, name, "float32")
    for name in ("bfloat16", "mixed_float16", 16):
        with pytest.raises(ValueError, match="'float32', 'float64' or 'mixed_bfloat16', got"):
            rc.Recurrent("gru", 3, 4, dtype=name)
        with pytest.raises(ValueError, match="'float32', 'float64' or 'mixed_bfloat16', got"):
            rc.SequenceTagger(dtype=name).fit([["a"]], [["b"]])
    with pytest.raises(ValueError, match="same dtype"):
        rc.Network([layer, rc.Recurrent("gru", 4, 4)], rc.Softmax(2))
    with pytest.raises(ValueError, match="dtype mixed_bfloat16, got"):
        rc.Network(layer, rc.Softmax(2), attention=rc.Attention(4))
    with pytest.raises(ValueError, match="same dtype, got float32 and mixed_bfloat16"):
        rc.EncoderDecoder(rc.Recurrent("gru", 3, 4), layer, symbols=3)
    with pytest.raises(ValueError, match="dtype='mixed_bfloat16'"):
        rc.EncoderDecoder(rc.Recurrent("gru", 3, 4, dtype=MIXED), layer, symbols=3, attention=rc.Attention(4))


X = np.sign(np.random.default_rng(0).standard_normal((4, 6)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: rc.models.Hopfield(dtype=MIXED).fit(X),
        lambda: rc.models.ContinuousHopfield(dtype=MIXED).fit(X),
        lambda: rc.models.ModernHopfield(dtype=MIXED).fit(X),
        lambda: rc.Reservoir(2, 10, dtype=MIXED),
        lambda: rc.ESNRegressor(dtype=MIXED).fit(X[None], X[None]),
        lambda: rc.ESNClassifier(dtype=MIXED).fit(list(X[..., None]), [0, 1, 0, 1]),
        lambda: rc.TreeClassifier(dtype=MIXED).fit([("a", "b")], [0]),
        lambda: rc.models.TreeNetwork(5, 4, 2, dtype=MIXED),
        lambda: rc.models.RAAM(np.eye(3, 6), 2, dtype=MIXED),
        lambda: rc.models.NeuralTuringMachine(3, 2, dtype=MIXED),
        lambda: rc.models.Clockwork(2, 3, [1, 2], 1, dtype=MIXED),
        lambda: rc.models.MTRNN(1, 2, dtype=MIXED),
    ],
)
def test_models_without_it_say_so(make):
    with pytest.raises(ValueError, match=r"^dtype must be 'float32' or 'float64', got 'mixed_bfloat16': mixed prec"):
        make()


# ------------------------------------------------------------------ estimators


def in_it(begin):
    @functools.wraps(begin)
    def wrapped(self, **options):
        begin(self, **{"dtype": MIXED} | options)

    return wrapped


@pytest.fixture
def mixed_by_default(monkeypatch):
    """The estimators that tests elsewhere make, in mixed precision."""
    for estimator in (
        *(rc.SequenceTagger, rc.SequenceClassifier, rc.SequenceRegressor, rc.Forecaster, rc.LanguageModel),
        *(rc.Transcriber, rc.CaptionModel, rc.SequenceToSequence),
    ):
        monkeypatch.setattr(estimator, "__init__", in_it(estimator.__init__))


@pytest.mark.parametrize("fit", FITS)
def test_every_estimator_learns_in_it(fit, mixed_by_default, tmp_path):
    model = fit(shards=2)
    assert model.dtype == MIXED and model.network_.dtype_policy == MIXED and model.network_.theta.dtype == np.float32
    model.save(tmp_path / "model")
    loaded = rc.load(tmp_path / "model")
    assert loaded.dtype == MIXED and loaded.network_.dtype_policy == MIXED
    answers = []
    for one in (model, loaded, pickle.loads(pickle.dumps(model))):
        if isinstance(one, rc.LanguageModel):
            answers.append((one.generate(20, random_state=0), one.score("to be or not")))
        elif isinstance(one, rc.Forecaster):
            answers.append(np.asarray(one.predict(3)).tolist())
        else:
            x = {"captions": ["cat", "dog"], "rewriting": ["cat", "dog"]}.get(fit.__name__)
            if x is None:
                x = SOME[fit.__name__]
            answers.append(repr(one.predict(x)))
    assert answers[0] == answers[1] == answers[2]


WAVES = [np.sin(np.arange(12 + n) * 0.3)[:, None] for n in range(3)]
WORDS_OF = rc.datasets.news_requests(3)[0]
SOME = dict.fromkeys(("tagger", "answers"), WORDS_OF) | dict.fromkeys(("classifier", "regressor", "transcriber"), WAVES)


def test_the_command_trains_in_it_and_tells(tmp_path, capsys):
    from rnncore.cli import main

    words = tmp_path / "words.txt"
    words.write_text("the\tD\ncat\tN\n\na\tD\ndog\tN\n\n" * 20)
    made = str(tmp_path / "model")
    settings = ["--set", "dtype=mixed_bfloat16", "--set", "max_epochs=2"]
    assert main(["train", str(words), *settings, "--out", made]) == 0
    assert rc.load(made).network_.dtype_policy == MIXED
    capsys.readouterr()
    assert main(["info", made]) == 0
    assert "dtype = 'mixed_bfloat16'" in capsys.readouterr().out
