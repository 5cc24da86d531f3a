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


def test_what_cannot_be_written(tmp_path, monkeypatch):
    net = random(rc.Recurrent("lstm", 4, H), rc.Softmax(K), embedding=rc.Embedding(9, 4))
    for wrong in ("numbers", "letters", 3):
        if peer("onnx"):
            with pytest.raises(ValueError, match="inputs must be one of ids, bags"):
                net.to_onnx(tmp_path / "net.onnx", wrong)
    monkeypatch.setattr("rnncore.interop.models.STEPS", {})
    with pytest.raises(ValueError, match="the cell mgu cannot be written"):
        random(rc.Recurrent("mgu", D, H), rc.Softmax(K)).to_onnx(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        net.to_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
