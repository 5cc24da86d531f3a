"""Whole networks and taggers as ONNX models, run by onnxruntime beside our own predictions."""

import json
import sys

import numpy as np
import pytest
import reference as ref
from peers import peer

import rnncore as rc
from rnncore.datasets import news_requests

T, B, D, H, K = 7, 4, 3, 6, 5
LENGTHS = np.array([7, 1, 4, 6])
DIRECTIONS = [{}, {"reverse": True}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum"}]
names = [direction["merge"] if "merge" in direction else next(iter(direction), "forward") for direction in DIRECTIONS]
every_direction = pytest.mark.parametrize("direction", DIRECTIONS, ids=names)


def run(path, **inputs):
    """The model's outputs by name."""
    peer("onnx")
    options = peer("onnxruntime").SessionOptions()
    options.log_severity_level = 3
    session = peer("onnxruntime").InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def exported(net, tmp_path, inputs=None, **given):
    peer("onnx")
    net.to_onnx(tmp_path / "net.onnx", inputs)
    return run(tmp_path / "net.onnx", **given)


def random(layers, head, **options):
    net = rc.Network(layers, head=head, **options)
    net.theta[...] = np.random.default_rng(5).standard_normal(net.theta.size) * 0.5
    return net


def random_x():
    return np.random.default_rng(6).standard_normal((T, B, D)).astype(np.float32)


within = np.arange(T)[:, None] < LENGTHS


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ref.FAMILY)
@every_direction
def test_every_cell(name, direction, tmp_path):
    cell, options = ref.FAMILY[name]
    net = random(rc.Recurrent(cell, D, H, num_layers=2, **direction, **options), rc.Softmax(K))
    found = exported(net, tmp_path, x=random_x(), lengths=LENGTHS)
    wanted = net.predict(random_x(), lengths=LENGTHS)
    assert_close(found["probabilities"][within], wanted[within])
    logs = found["scores"] - np.log(np.exp(found["scores"]).sum(-1, keepdims=True))
    assert_close(np.exp(logs)[within], wanted[within])


@pytest.mark.parametrize("variant", ["NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR", "1997"])
def test_every_variant_of_the_lstm(variant, tmp_path):
    net = random(rc.Recurrent("lstm", D, H, variant=variant, peepholes=variant == "1997"), rc.Softmax(K))
    found = exported(net, tmp_path, x=random_x(), lengths=LENGTHS)
    assert_close(found["probabilities"][within], net.predict(random_x(), lengths=LENGTHS)[within])


@pytest.mark.parametrize(
    "options",
    [
        *({"activation": name} for name in ("sigmoid", "relu", "leaky_relu", "clipped_relu", "identity", "binary")),
        {"cell": "mut1", "hidden_size": D},
        {"cell": "mut2", "hidden_size": D},
        {"cell": "jordan", "activation": "leaky_relu", "output_activation": "relu", "outputs": 4},
        {"cell": "lstm", "zoneout": (0.3, 0.2)},
        {"cell": "gru", "zoneout": 0.3, "recurrent_dropout": 0.2, "output_dropout": 0.5, "input_dropout": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", ["numbers", "ids", "bags"])
def test_what_layers_may_have(options, inputs, tmp_path):
    settings = {"cell": "elman", "input_size": D, "hidden_size": H, "bidirectional": True} | options
    net = random(rc.Recurrent(**settings), rc.SquaredError(K))
    x = {
        "numbers": random_x(),
        "ids": np.random.default_rng(0).integers(0, D, (T, B)),
        "bags": np.random.default_rng(0).integers(-1, D, (T, B, 2)),
    }[inputs]
    found = exported(net, tmp_path, inputs, x=x, lengths=LENGTHS)
    assert_close(found["scores"][within], net.predict(x, lengths=LENGTHS)[within])


@pytest.mark.parametrize("readout", ["every", "last", "mean", "max", "attention"])
@pytest.mark.parametrize("cell", ["lstm", "mgu"])
@every_direction
def test_readouts_heads_and_embeddings(readout, cell, direction, tmp_path):
    layers = [rc.Recurrent(cell, 4, H, **direction)]
    layers.append(rc.Recurrent("gru", layers[0].output_size, H, **direction))
    net = random(layers, rc.SigmoidCrossEntropy(K), readout=readout, embedding=rc.Embedding(9, 4))
    ids = np.random.default_rng(1).integers(0, 9, (T, B))
    found = exported(net, tmp_path, x=ids, lengths=LENGTHS)["probabilities"]
    wanted = net.predict(ids, lengths=LENGTHS)
    assert_close(*((found[within], wanted[within]) if readout == "every" else (found, wanted)))


def test_no_projection(tmp_path):
    net = random(rc.Recurrent("elman", D, H, bidirectional=True), rc.SquaredError(K, project=False))
    found = exported(net, tmp_path, x=random_x(), lengths=LENGTHS)["scores"]
    assert_close(found[within], net.predict(random_x(), lengths=LENGTHS)[within])


@pytest.mark.parametrize("rule", [None, ["O", "B-X", "I-X", "B-Y", "I-Y"]])
def test_the_most_probable_labels(rule, tmp_path):
    head = rc.CRF(K, None if rule is None else rc.heads.bio_constraints(rule))
    net = random(rc.Recurrent("gru", D, H), head)
    for draw in range(5):
        net.theta[...] = np.random.default_rng(draw).standard_normal(net.theta.size)
        found = exported(net, tmp_path, x=random_x(), lengths=LENGTHS)["labels"]
        wanted = net.decode(random_x(), lengths=LENGTHS)[0]
        assert np.array_equal(found[within], wanted[within]) and not found[~within].any()


def test_any_number_of_steps_and_sequences(tmp_path):
    peer("onnx")
    net = random(rc.Recurrent("lstm", D, H, bidirectional=True), rc.CRF(K))
    net.to_onnx(tmp_path / "net.onnx")
    for steps, sequences in ((1, 1), (3, 2), (50, 9)):
        x = np.random.default_rng(0).standard_normal((steps, sequences, D)).astype(np.float32)
        lengths = np.full(sequences, steps)
        found = run(tmp_path / "net.onnx", x=x, lengths=lengths)
        assert np.array_equal(found["labels"], net.decode(x, lengths=lengths)[0])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"head": "softmax", "cell": "lstm", "num_layers": 2},
        {"embedding_size": 5, "cell": "gru"},
        {"window": 1, "affixes": 2},
        {"skip": True, "constraints": "auto"},
        {"skip": "only", "window": 1},
    ],
    ids=str,
)
def test_taggers(settings, tmp_path):
    peer("onnx")
    sentences, tags = news_requests(60)
    tagger = rc.SequenceTagger(hidden_size=8, max_epochs=2, **settings).fit(sentences, tags)
    tagger.to_onnx(tmp_path / "tagger.onnx")
    model = peer("onnx").load(str(tmp_path / "tagger.onnx"))
    about = json.loads({entry.key: entry.value for entry in model.metadata_props}["rnncore"])
    assert about["classes"] == tagger.classes_.tolist() and about["encoder"] == tagger.encoder_.to_json()
    labels = []
    for sentence in sentences[:20]:
        x = tagger.specification_.pipeline.collate(tagger.encoder_.encode([sentence])[:, None])
        x, *sparse = x if isinstance(x, tuple) else (x,)
        inputs = {"x": x.astype(np.int64), "lengths": np.array([len(sentence)])}
        if sparse:
            inputs |= {"skip_ids": sparse[0].astype(np.int64), "skip_values": np.ones(sparse[0].shape, np.float32)}
        found = run(tmp_path / "tagger.onnx", **inputs)
        best = found["labels"] if "labels" in found else found["scores"].argmax(-1)
        labels.append([about["classes"][label] for label in best[:, 0]])
    assert labels == tagger.predict(sentences[:20])


# ------------------------------------------------------------------------------------------- several heads and segments

HEADS = {
    "slots": rc.CRF(4, rc.heads.bio_constraints(["O", "B-X", "I-X", "B-Y"])),
    "free": rc.CRF(3),
    "each": rc.SigmoidCrossEntropy(2),
    "values": rc.SquaredError(3, project=False),
    "last": rc.SquaredError(2, pooling="last"),
    "mean": rc.SquaredError(4, pooling="mean", project=False),
    "max": rc.Softmax(3, pooling="max"),
    "intent": rc.Softmax(4, pooling="attention"),
}
CHAINS = ("slots", "free")


def segments(rng, steps, sequences, letters):
    """A random batch of all segments; padding is ids and numbers, too."""
    spelled = rng.integers(0, 6, (steps, sequences, letters))
    spelled[np.arange(letters) >= rng.integers(0, letters + 1, (steps, sequences, 1))] = -1
    return {
        "word": rng.integers(0, 9, (steps, sequences)),
        "bag": rng.integers(-1, 7, (steps, sequences, 3)),
        "numbers": rng.standard_normal((steps, sequences, 2)).astype(np.float32),
        "vector": rng.standard_normal((sequences, 2)).astype(np.float32),
        "letters": spelled,
        "features": (rng.integers(-1, 8, (steps, sequences, 2)), rng.random((steps, sequences, 2), np.float32)),
    }


def of_parts(
    cell="lstm",
    heads=HEADS,
    letters="gru",
    skip=0,
    dtype="float32",
    names=None,
    options=None,
    attention=None,
    **direction,
):
    inputs = {
        "word": rc.Embedding(9, 3),
        "bag": rc.Embedding(7, 2),
        "numbers": rc.Numbers(2),
        "vector": rc.SequenceVector(2),
        "letters": rc.Letters(
            6, 4, letters, bidirectional=direction.get("bidirectional", False), options=options or {}
        ),
        "features": rc.Features(8, 3),
    }
    inputs = {name: part for name, part in inputs.items() if names is None or name in names}
    layer = rc.Recurrent(cell, sum(part.width for part in inputs.values()), H, dtype=dtype, **direction)
    if attention is not None:
        attention = rc.Attention(layer.output_size, dtype=dtype, **attention)
    net = rc.Network(layer, heads=heads, inputs=inputs, skip=skip, attention=attention)
    net.theta[...] = np.random.default_rng(5).standard_normal(net.theta.size)
    return net


def check_parts(net, path, rng, shapes=((7, 4, 5), (1, 1, 1), (12, 9, 8)), bags=None):
    """The model's outputs are predictions, scores and labels for batches of several sizes."""
    peer("onnx")
    net.to_onnx(path, bags)
    for steps, sequences, letters in shapes:
        x = segments(rng, steps, sequences, letters)
        x = {name: x[name] for name in net.inputs}
        lengths, inputs, given = rng.integers(1, steps + 1, sequences), dict(x), x
        if "features" in x:
            inputs |= dict(zip(("features", "features.values"), x["features"], strict=True))
        if net.skip:
            ids = rng.integers(-1, net.skip, (steps, sequences, 2))
            given, values = (x, ids), np.ones(ids.shape, np.float32)
            inputs |= {"skip_ids": ids, "skip_values": values}
        found = run(path, lengths=lengths, **inputs)
        wanted, (scores, _) = net.predict(given, lengths), net.forward(given, lengths, training=False)
        for name, one in wanted.items():
            assert_close(found.pop(name), one)
            assert_close(found.pop(f"{name}.scores"), scores[name])
        chains = {name: found.pop(f"{name}.labels") for name in net.heads if name in CHAINS}
        assert not found
        best = net.decode(given, lengths) if len(chains) == len(net.heads) else {}
        for name, (labels, _) in best.items():
            assert np.array_equal(chains[name][labels >= 0], labels[labels >= 0])


@every_direction
def test_heads_and_segments(direction, tmp_path):
    check_parts(of_parts(**direction), tmp_path / "net.onnx", np.random.default_rng(0), bags={"bag": "bags"})


@pytest.mark.parametrize("cell", ref.FAMILY)
def test_letters_through_every_cell(cell, tmp_path):
    name, options = ref.FAMILY[cell]
    net = of_parts("elman", {"a": HEADS["each"]}, name, options=options, names=("numbers", "letters"))
    check_parts(net, tmp_path / "net.onnx", np.random.default_rng(1))


@every_direction
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("score", ["general", "dot", "scaled_dot"])
def test_attention(score, causal, direction, tmp_path):
    attention = {"score": score, "causal": causal, "output_size": 5}
    net = of_parts("gru", names=("word", "features"), attention=attention, **direction)
    check_parts(net, tmp_path / "net.onnx", np.random.default_rng(6))


@pytest.mark.parametrize(
    "names", [("letters",), ("vector", "word"), ("numbers",), ("letters", "vector"), ("features",)]
)
@pytest.mark.parametrize("cell", ["gru", "mgu"])
def test_some_segments(names, cell, tmp_path):
    heads = {name: HEADS[name] for name in CHAINS}
    net = of_parts(cell, heads, "lstm", names=names, bidirectional=True, dtype="float64")
    check_parts(net, tmp_path / "net.onnx", np.random.default_rng(2))


def test_heads_of_sparse_features(tmp_path):
    heads = {name: HEADS[name] for name in ("each", "intent", "free")}
    check_parts(of_parts(heads=heads, skip=5, names=("word",)), tmp_path / "net.onnx", np.random.default_rng(3))


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_of_parts(seed, tmp_path):
    rng = np.random.default_rng(100 + seed)
    cell, options = ref.FAMILY[str(rng.choice(list(ref.FAMILY)))]
    direction = DIRECTIONS[rng.integers(4)]
    heads = rng.permutation(list(HEADS))[: rng.integers(1, 5)].tolist()
    names = rng.permutation(["word", "bag", "numbers", "vector", "letters", "features"])[: rng.integers(1, 7)].tolist()
    names += ["word"] * (names == ["vector"])
    letters = str(rng.choice(["elman", "lstm", "gru", "mgu", "indrnn", "mut1"]))
    net = of_parts(cell, {name: HEADS[name] for name in heads}, letters, names=names, **direction, **options)
    net.theta[...] *= 0.5
    shapes = [tuple(rng.integers(1, 10, 3)) for _ in range(3)]
    check_parts(net, tmp_path / "net.onnx", rng, shapes, {"bag": "bags"} if "bag" in names else None)


def test_words_without_letters(tmp_path):
    net = of_parts(heads={"each": HEADS["each"]}, names=("letters", "numbers"), bidirectional=True)
    peer("onnx")
    net.to_onnx(tmp_path / "net.onnx")
    x = segments(np.random.default_rng(4), T, B, 3)
    x = {"letters": np.full_like(x["letters"], -1), "numbers": x["numbers"]}
    assert_close(run(tmp_path / "net.onnx", lengths=np.full(B, T), **x)["each"], net.predict(x)["each"])


def test_segments_in_a_list_and_one_head(tmp_path):
    net = random(rc.Recurrent("gru", 5, H), rc.Softmax(K), inputs=[rc.Embedding(9, 3), rc.Numbers(2)])
    x = segments(np.random.default_rng(5), T, B, 1)
    found = exported(net, tmp_path, lengths=LENGTHS, **{"0": x["word"], "1": x["numbers"]})
    wanted = net.predict((x["word"], x["numbers"]), LENGTHS)
    assert set(found) == {"scores", "probabilities"}
    assert_close(found["probabilities"][within], wanted[within])


def test_marginals_of_long_sequences(tmp_path):
    net = of_parts(heads={"slots": HEADS["slots"]}, names=("numbers",))
    net.params["heads.slots.W_hy"][...] *= 5
    check_parts(net, tmp_path / "net.onnx", np.random.default_rng(6), [(300, 2, 1)])


class Own(rc.CustomHead):
    def loss_and_grad(self, scores, targets, lengths):
        return 0.0, 0 * scores


def test_parts_that_cannot_be_written(tmp_path):
    path = tmp_path / "net.onnx"
    peer("onnx")
    with pytest.raises(ValueError, match="the head 'mine' cannot be written as an ONNX model: Own is Python"):
        of_parts(heads={"mine": Own(2)}).to_onnx(path)
    with pytest.raises(ValueError, match="got 'word' twice"):
        of_parts(heads={"word": rc.Softmax(2)}).to_onnx(path)
    for wrong in ("bags", {"numbers": "ids"}, {"word": "numbers"}, ["bags"]):
        with pytest.raises(ValueError, match='dict of "ids" or "bags" for each of word, bag'):
            of_parts().to_onnx(path, wrong)
    assert not list(tmp_path.iterdir())


def test_a_tagger_of_numbers(tmp_path):
    peer("onnx")
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((n, 3)).astype("float32") for n in (4, 1, 6) * 5]
    y = [["up" if value > 0 else "down" for value in part[:, 0]] for part in x]
    tagger = rc.SequenceTagger(hidden_size=8, max_epochs=2).fit(x, y)
    tagger.to_onnx(tmp_path / "tagger.onnx")
    for part in x[:3]:
        found = run(tmp_path / "tagger.onnx", x=part[:, None], lengths=np.array([len(part)]))["scores"]
        assert tagger.classes_[found[:, 0].argmax(-1)].tolist() == tagger.predict([part])[0]


def about(path):
    """What the model's metadata say."""
    return json.loads({one.key: one.value for one in peer("onnx").load(str(path)).metadata_props}["rnncore"])


def test_what_sequences_are(tmp_path):
    peer("onnx")
    rng = np.random.default_rng(0)
    X = [rng.normal(3, 2, (n, 2)) for n in (4, 1, 6) * 5]
    columns = np.array([["a", "x"], ["b", "y"], ["a", "z"]] * 5)
    path, quick = tmp_path / "net.onnx", {"hidden_size": 8, "max_epochs": 2}

    def outputs(model):
        model.to_onnx(path)
        series = about(path)["series"]
        for part in X[:3]:
            x = ((part - series["mean"]) / series["deviation"]).astype(np.float32)
            yield run(path, x=x[:, None], lengths=np.array([len(part)]))

    model = rc.SequenceClassifier(**quick).fit(X, columns[:, 0])
    found = np.concatenate([one["probabilities"] for one in outputs(model)])
    np.testing.assert_allclose(found, model.predict_proba(X[:3]), rtol=0, atol=1e-5)
    assert about(path)["classes"] == ["a", "b"]
    model = rc.SequenceClassifier(**quick).fit(X, columns)
    second = np.concatenate([one["1"] for one in outputs(model)])
    np.testing.assert_allclose(second, model.predict_proba(X[:3])[1], rtol=0, atol=1e-5)
    assert about(path)["answers"]["1"]["classes"] == ["x", "y", "z"]
    model = rc.SequenceRegressor(**quick).fit(X, np.arange(15.0) * 100)
    found = np.concatenate([one["scores"] for one in outputs(model)])[:, 0]
    told = about(path)
    np.testing.assert_allclose(found * told["deviation"] + told["mean"], model.predict(X[:3]), rtol=1e-4)


def test_what_cannot_be_written(tmp_path, monkeypatch):
    net = random(rc.Recurrent("lstm", 4, H), rc.Softmax(K), embedding=rc.Embedding(9, 4))
    for wrong in ("numbers", "letters", 3):
        if peer("onnx"):
            with pytest.raises(ValueError, match="inputs must be one of ids, bags"):
                net.to_onnx(tmp_path / "net.onnx", wrong)
    monkeypatch.setattr("rnncore.interop.layers.STEPS", {})
    with pytest.raises(ValueError, match="the cell mgu cannot be written"):
        random(rc.Recurrent("mgu", D, H), rc.Softmax(K)).to_onnx(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        net.to_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
