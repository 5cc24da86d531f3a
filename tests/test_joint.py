"""Several answers from one network: labels of sentences beside the tags, tags of several columns."""

import json
import pickle
from itertools import chain

import numpy as np
import pytest
from peers import peer
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import rnncore as rc
from rnncore.cli import main
from rnncore.data.readers import DataError, read_packed, read_tagged
from rnncore.datasets import news_requests
from rnncore.io.checkpoints import Checkpoints
from rnncore.io.files import ModelFileError, read_model, write_model

QUICK = {"hidden_size": 8, "max_epochs": 4}


class CutOffError(Exception):
    pass


@pytest.fixture(scope="module")
def sample():
    """Sentences, tags, and whether each asks for news or not."""
    sentences, tags = news_requests(80)
    return sentences, tags, ["news" if "news" in words else "other" for words in sentences]


@pytest.fixture(scope="module")
def columns(sample):
    sentences, tags, _ = sample
    return {"slots": tags, "size": [[min(len(word), 5) for word in words] for words in sentences]}


@pytest.fixture(scope="module")
def joint(sample):
    return rc.SequenceTagger(sentence_labels=True, hidden_size=16, max_epochs=12).fit(*sample)


# ---------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_of_a_chain_and_a_pooled_label(pooling, bidirectional):
    """Of ragged sequences, some steps and some sequences without a target."""
    rng = np.random.default_rng(1)
    layer = rc.Recurrent("lstm", 4, 5, bidirectional=bidirectional, dtype="float64")
    heads = {"tags": rc.CRF(3), "other": rc.Softmax(4), "sentence": rc.Softmax(3, pooling=pooling)}
    net = rc.Network(layer, heads=heads, loss_weights={"sentence": 0.7}, skip=6)
    lengths = np.array([5, 1, 3])
    x = (rng.standard_normal((5, 3, 4)), rng.integers(-1, 6, (5, 3, 2)))
    targets = {
        "tags": rng.integers(0, 3, (5, 3)),
        "other": rng.integers(-1, 4, (5, 3)),
        "sentence": np.array([2, -1, 0]),
    }
    net.theta[...] = rng.standard_normal(net.theta.size) * 0.5
    worst = rc.gradcheck(net, x, targets, lengths)
    assert max(worst.values()) < 1e-5, worst


# ---------------------------------------------------------------------------------------- data of several targets


def some_sequences(rng, n=9):
    x = [rng.standard_normal((length, 2)) for length in rng.integers(1, 6, n)]
    return x, {"every": [(part[:, 0] > 0).astype(int) for part in x], "one": np.array([len(part) % 2 for part in x])}


def test_sequences_hold_several_targets():
    x, y = some_sequences(np.random.default_rng(0))
    data = rc.Sequences.of(x, y)
    assert data.per_step == {"every": True, "one": False}
    some = data.select(np.array([4, 1]))
    assert some.y["one"].tolist() == y["one"][[4, 1]].tolist()
    assert some.y["every"].tolist() == [*y["every"][4], *y["every"][1]]
    with pytest.raises(DataError, match="9 sequences, got 8"):
        rc.Sequences.of(x, y | {"one": y["one"][:8]})


def test_a_trainer_deals_several_targets():
    """A minibatch of all sequences is the step that it is by hand, and validation sees each head."""
    x, y = some_sequences(np.random.default_rng(0))
    data = rc.Sequences.of(x, y)

    def network():
        heads = {"every": rc.Softmax(2), "one": rc.Softmax(2, pooling="last")}
        return rc.Network(rc.Recurrent("gru", 2, 4, dtype="float64"), heads=heads)

    by_hand, trained = network(), network()
    order = np.argsort(-data.lengths, kind="stable")
    at = data.positions(order)
    targets = {"every": data.y["every"][at], "one": data.y["one"][order]}
    loss = by_hand.train_step(data.x[at], targets, rc.Adam(0.1), data.lengths[order])
    trainer = rc.Trainer(trained, rc.Adam(0.1), data, max_epochs=1, batch_size=9, validation=data).run()
    record = trainer.history[0]
    assert record["loss"] == pytest.approx(loss, rel=1e-12)
    assert np.allclose(trained.theta, by_hand.theta, rtol=0, atol=1e-12)
    assert record["val_loss"] == pytest.approx(record["val_loss_every"] + record["val_loss_one"])
    in_parts = network()
    rc.Trainer(in_parts, rc.Adam(0.1), data, max_epochs=1, batch_size=9, parts=3).run()
    assert np.allclose(in_parts.theta, by_hand.theta, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------- labels of sentences


def test_both_are_learned(joint, sample):
    sentences, tags, labels = sample
    assert joint.score(sentences, tags) > 0.9
    found = joint.predict_sentences(sentences)
    assert (found == np.array(labels)).mean() > 0.95
    assert joint.sentence_classes_.tolist() == ["news", "other"] and "B-NEWSTYPE" in joint.classes_
    assert [len(part) for part in joint.predict(sentences)] == [*map(len, sentences)]
    p = joint.predict_sentences_proba(sentences)
    assert p.shape == (80, 2) and np.allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (joint.sentence_classes_[p.argmax(axis=1)] == found).all()
    both = joint.predict_answers(sentences)
    assert both["tags"] == joint.predict(sentences) and (both["sentence"] == found).all()
    marginals = joint.predict_proba(sentences[:3])
    assert [part.shape for part in marginals] == [(len(words), len(joint.classes_)) for words in sentences[:3]]
    assert joint.count_correct(sentences, tags)[1] == sum(map(len, sentences))


def test_one_sentence_at_a_time_is_the_same(joint, sample):
    some = sample[0][:9]
    alone = np.concatenate([joint.predict_sentences_proba([words]) for words in some])
    assert np.array_equal(alone, joint.predict_sentences_proba(some))


@pytest.mark.filterwarnings("ignore:1 empty sentences were left out")
def test_a_sentence_without_words(joint, sample):
    """Nothing is known of it: it gets the shares of the labels, and the most frequent one."""
    share = sample[2].count("news") / 80
    p = joint.predict_sentences_proba([[], ["news"]])
    assert p[0] == pytest.approx([share, 1 - share]) and p[1, 0] > 0.5
    some = joint.predict_sentences([[], *sample[0]])
    assert some[1:].tolist() == joint.predict_sentences(sample[0]).tolist()  # the longer label is not cut off
    assert joint.predict_sentences([["news"], []])[1] == ("news" if share > 0.5 else "other")
    assert joint.predict_sentences([[]]).shape == (1,) and joint.predict([[], ["news"]])[0] == []
    assert joint.predict_proba([[]])[0].shape == (0, len(joint.classes_))
    sentences, tags, labels = sample
    with pytest.raises(DataError, match="sentence 80 is empty, but has the label 'news'"):
        rc.SequenceTagger(sentence_labels=True).fit([*sentences, []], [*tags, []], [*labels, "news"])
    weights = np.append(np.ones(80), 0)
    made = rc.SequenceTagger(sentence_labels=True, **QUICK)
    without = clone(made).fit(*sample)
    made.fit([*sentences, []], [*tags, []], [*labels, "news"], weights)
    assert np.array_equal(made.network_.theta, without.network_.theta)


def test_evaluation_counts_both(joint, sample):
    sentences, tags, labels = sample
    wrong = [*labels[:40], *("other" if label == "news" else "news" for label in labels[40:])]
    result = joint.evaluate(sentences, tags, wrong)
    found, predicted = joint.predict(sentences), joint.predict_sentences(sentences)
    right = [own == other for own, other in zip(tags, found, strict=True)]
    also = [a and b == c for a, b, c in zip(right, wrong, predicted.tolist(), strict=True)]
    assert result["whole"] == {"accuracy": sum(also) / 80, "correct": sum(also), "total": 80}
    assert result["sentence"]["accuracy"] == (predicted == np.array(wrong)).mean()
    assert result["sentence"]["labels"]["news"]["there"] == wrong.count("news")
    tags_alone = joint.evaluate(sentences, tags)
    assert "sentence" not in tags_alone and tags_alone["whole"]["correct"] == sum(right) > sum(also)
    assert tags_alone["accuracy"] == result["accuracy"] == joint.score(sentences, tags)
    json.dumps(result)


def test_unseen_labels_count_as_wrong(joint, sample):
    sentences, tags, _ = sample
    result = joint.evaluate(sentences[:2], tags[:2], ["weather", "weather"])
    assert result["sentence"]["accuracy"] == 0 == result["whole"]["correct"]


def test_the_third_argument_stays_the_weights_without_labels(sample):
    sentences, tags, labels = sample
    weights = np.linspace(1, 2, 80)
    by_place = rc.SequenceTagger(**QUICK).fit(sentences, tags, weights)
    by_name = rc.SequenceTagger(**QUICK).fit(sentences, tags, sample_weight=weights)
    assert np.array_equal(by_place.network_.theta, by_name.network_.theta)
    watched = rc.SequenceTagger(**QUICK).fit(sentences, tags, None, (sentences, tags))
    assert "val_score" in watched.history_[0]
    assert (
        by_place.evaluate(sentences, tags, True)["entities"]
        == by_name.evaluate(sentences, tags, strict=True)["entities"]
    )
    again = rc.SequenceTagger(**QUICK).partial_fit(sentences, tags, ["B-NEVER"])
    assert "B-NEVER" in again.classes_
    for call in (
        lambda: rc.SequenceTagger().fit(sentences, tags, labels),
        lambda: rc.SequenceTagger().fit(sentences, tags, sentence_labels=labels),
        lambda: rc.SequenceTagger().partial_fit(sentences, tags, sentence_labels=labels),
        lambda: by_place.evaluate(sentences, tags, labels),
        lambda: rc.SequenceTagger().fit(sentences, tags, validation_data=(sentences, tags, labels)),
    ):
        with pytest.raises(DataError, match=r"sentence_labels=True|expected \(sentences, tags\)"):
            call()


def test_what_cannot_be_used(joint, sample):
    sentences, tags, labels = sample
    made = rc.SequenceTagger(sentence_labels=True, **QUICK)
    with pytest.raises(DataError, match="expected a label for each sentence"):
        made.fit(sentences, tags)
    with pytest.raises(DataError, match="as many sentence labels as sentences, got 80 and 79"):
        made.fit(sentences, tags, labels[:-1])
    with pytest.raises(DataError, match="list of sequences, got str"):
        made.fit(sentences, tags, "news")
    with pytest.raises(DataError, match="all strings or all integers, got int, str"):
        made.fit(sentences, tags, [1, *labels[1:]])
    with pytest.raises(DataError, match=r"labels of sentences\), got 2 parts"):
        made.fit(sentences, tags, labels, validation_data=(sentences, tags))
    with pytest.raises(DataError, match="label 'weather' was not in the training data"):
        clone(made).fit(sentences, tags, labels).partial_fit(sentences, tags, ["weather"] * 80)
    with pytest.raises(TypeError, match="sentence_labels"):
        made.set_params(sentence_labels="yes").fit(sentences, tags, labels)
    with pytest.raises(ValueError, match="sentence_weight"):
        rc.SequenceTagger(sentence_labels=True, sentence_weight=0).fit(*sample)
    plain = rc.SequenceTagger(**QUICK).fit(sentences, tags)
    for call in (plain.predict_sentences, plain.predict_sentences_proba):
        with pytest.raises(ValueError, match="fitted without labels of sentences"):
            call(sentences)
    assert not hasattr(plain, "sentence_classes_")
    with pytest.raises(DataError, match="expected the tags as lists, got a dict of slots"):
        joint.score(sentences, {"slots": tags})


def test_what_is_known_of_the_setting_alone_changes_nothing(sample):
    """Without labels the weight of their loss is of no account; with them it is."""
    sentences, tags, _ = sample
    plain, other = (rc.SequenceTagger(sentence_weight=w, **QUICK).fit(sentences, tags) for w in (1.0, 5.0))
    assert np.array_equal(plain.network_.theta, other.network_.theta)
    one, five = (rc.SequenceTagger(sentence_labels=True, sentence_weight=w, **QUICK).fit(*sample) for w in (1.0, 5.0))
    assert not np.array_equal(one.network_.theta, five.network_.theta)
    assert five.network_.loss_weights == {"sentence": 5.0}


def test_watched_by_both(sample):
    train, apart = ([part[:60] for part in sample], tuple(part[60:] for part in sample))
    made = rc.SequenceTagger(sentence_labels=True, hidden_size=8, max_epochs=6).fit(*train, validation_data=apart)
    best = max(made.history_, key=lambda record: (record["val_score"], -record["val_loss"]))
    accuracy, its = made.score(*apart[:2]), (made.predict_sentences(apart[0]) == np.array(apart[2])).mean()
    assert best["val_score"] == pytest.approx((accuracy + its) / 2)
    assert best["val_score_tags"] == pytest.approx(accuracy) and best["val_score_sentence"] == pytest.approx(its)
    assert best["val_loss"] == pytest.approx(best["val_loss_tags"] + made.sentence_weight * best["val_loss_sentence"])
    aside = rc.SequenceTagger(sentence_labels=True, early_stopping=True, **QUICK).fit(*sample)
    assert "val_score_sentence" in aside.history_[0]


def test_weights_of_sentences(sample):
    """One of weight 0 is as if it were not there, its label neither."""
    sentences, tags, labels = sample
    made = rc.SequenceTagger(sentence_labels=True, **QUICK)
    without = clone(made).fit(sentences[:79], tags[:79], labels[:79])
    made.fit(sentences, tags, [*labels[:79], "weather"], sample_weight=[1] * 79 + [0])
    assert made.sentence_classes_.tolist() == ["news", "other"]
    assert np.array_equal(made.network_.theta, without.network_.theta)
    heavy = clone(made).fit(*sample, np.where(np.array(labels) == "news", 100.0, 0.01))
    assert (
        heavy.predict_sentences_proba(sentences)[:, 0].mean() > without.predict_sentences_proba(sentences)[:, 0].mean()
    )


def test_class_weight_is_that_of_tags(sample):
    made = rc.SequenceTagger(sentence_labels=True, class_weight={"O": 3.0}, **QUICK).fit(*sample)
    heads = made.network_.heads
    assert type(heads["tags"]) is rc.Softmax and max(heads["tags"].class_weight) == 3
    assert heads["sentence"].class_weight is None


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True, "max_epochs": 6}, {"cell": "lstm", "affixes": 2}])
def test_a_training_cut_off_goes_on_with_the_same_bits(sample, columns, tmp_path, settings):
    def make():
        return rc.SequenceTagger(**{"sentence_labels": True, **QUICK, **settings})

    class Some(Checkpoints):
        left = 31

        def write(self, state, arrays):
            super().write(state, arrays)
            self.left -= 1
            if not self.left:
                raise CutOffError

    for y in (sample[1], columns):
        data = sample[0], y, sample[2]
        whole = make().fit(*data)
        with pytest.raises(CutOffError):
            make().fit(*data, checkpoint=Some(tmp_path / "kept", 0.0))
        again = make().fit(*data, resume=tmp_path / "kept")
        assert again.network_.theta.tobytes() == whole.network_.theta.tobytes()
        other = [*data[2][1:], data[2][0]]
        with pytest.raises(DataError, match=r"on other data|validation data"):
            make().fit(*data[:2], other, resume=tmp_path / "kept")


def test_files_pickles_and_copies(joint, sample, tmp_path):
    joint.save(tmp_path / "joint.safetensors")
    for other in (rc.load(tmp_path / "joint.safetensors"), pickle.loads(pickle.dumps(joint))):
        assert other.predict(sample[0]) == joint.predict(sample[0])
        assert np.array_equal(other.predict_sentences_proba(sample[0]), joint.predict_sentences_proba(sample[0]))
        assert np.array_equal(other.predict_sentences([[]]), joint.predict_sentences([[]]))
    made = clone(joint)
    assert not hasattr(made, "network_") and made.sentence_labels
    assert np.array_equal(made.fit(*sample).network_.theta, joint.network_.theta)


def test_files_whose_parts_do_not_fit(joint, tmp_path):
    joint.save(tmp_path / "joint.safetensors")
    header, arrays = read_model(tmp_path / "joint.safetensors")
    kind = header.pop("kind")

    def refused(**answer):
        changed = {**header, "answers": {**header["answers"], "sentence": {**header["answers"]["sentence"], **answer}}}
        write_model(tmp_path / "forged.safetensors", kind, changed, arrays)
        with pytest.raises(ModelFileError):
            rc.load(tmp_path / "forged.safetensors")

    refused(shares=[1.0])
    refused(pooling="every")
    refused(pooling="least")
    refused(classes=["news"])
    refused(classes=[*map(str, range(100_000))], shares=[0.0] * 100_000)


def test_going_on(sample):
    """Warm, and one epoch at a time with labels that come later."""
    sentences, tags, labels = sample
    made = rc.SequenceTagger(sentence_labels=True, warm_start=True, **QUICK).fit(*sample)
    before = made.network_.theta.copy()
    made.fit(sentences, tags, ["news"] * 80)
    assert made.sentence_classes_.tolist() == ["news", "other"]
    assert not np.array_equal(made.network_.theta, before)
    assert (made.predict_sentences(sentences) == "news").all()
    bit = rc.SequenceTagger(sentence_labels=True, **QUICK)
    bit.partial_fit(sentences, tags, labels, None, sentence_classes=["weather"])
    assert bit.sentence_classes_.tolist() == ["news", "other", "weather"]
    losses = [bit.partial_fit(sentences, tags, ["weather"] * 80).history_[-1]["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]
    with pytest.raises(DataError, match="as lists, as they were fitted; got a dict of slots"):
        bit.partial_fit(sentences, {"slots": tags}, labels)
    plain = rc.SequenceTagger(warm_start=True, **QUICK).fit(sentences, tags)
    for go_on in (plain.fit, plain.partial_fit):
        with pytest.raises(DataError, match="as lists, as they were fitted; got a dict of slots"):
            go_on(sentences, {"slots": tags})
    with pytest.raises(DataError, match="got a dict of tags"):
        plain.fit(sentences, {"tags": tags})
    with pytest.raises(ValueError, match="set sentence_labels as it was"):
        plain.set_params(sentence_labels=True).partial_fit(*sample)


def test_words_as_they_come(sample):
    sentences, tags, _ = sample
    made = rc.SequenceTagger(sentence_labels=True, bidirectional=False, head="softmax", **QUICK).fit(*sample)
    label_of = made.stream()
    assert [label_of(word) for word in sentences[0]] == made.predict(sentences[:1])[0]
    both = rc.SequenceTagger(bidirectional=False, head="softmax", **QUICK).fit(sentences, {"a": tags, "b": tags})
    assert both.stream()(sentences[0][0]) == {name: part[0][0] for name, part in both.predict(sentences[:1]).items()}


def test_one_onnx_model(sample, tmp_path):
    peer("onnx")
    made = rc.SequenceTagger(sentence_labels=True, **QUICK).fit(*sample)
    made.to_onnx(tmp_path / "joint.onnx")
    model = peer("onnx").load(str(tmp_path / "joint.onnx"))
    about = json.loads({entry.key: entry.value for entry in model.metadata_props}["rnncore"])
    assert about["classes"] == made.classes_.tolist() and about["sentence_classes"] == ["news", "other"]
    words = sample[0][0]
    inputs = {"x": made.encoder_.encode([words])[:, None].astype(np.int64), "lengths": np.array([len(words)])}
    session = peer("onnxruntime").InferenceSession(str(tmp_path / "joint.onnx"))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, inputs), strict=True))
    assert np.allclose(found["sentence"], made.predict_sentences_proba([words]), atol=1e-5)
    assert [about["classes"][label] for label in found["tags.labels"][:, 0]] == made.predict([words])[0]


def test_folds_of_both(sample):
    sentences, tags, labels = sample
    made = rc.SequenceTagger(sentence_labels=True, **QUICK)
    scores = cross_val_score(made, sentences, tags, cv=2, params={"sentence_labels": labels})
    assert scores.shape == (2,) and (scores > 0.3).all()


def test_the_same_bits_for_any_number_of_threads(sample):
    made = [
        rc.SequenceTagger(sentence_labels=True, hidden_size=40, max_epochs=2, n_threads=n).fit(*sample) for n in (1, 3)
    ]
    assert made[0].network_.theta.tobytes() == made[1].network_.theta.tobytes()


# ------------------------------------------------------------------------------------------------- several columns


def test_columns_come_as_a_dict(sample, columns):
    sentences = sample[0]
    made = rc.SequenceTagger(hidden_size=16, max_epochs=12).fit(sentences, columns)
    found = made.predict(sentences)
    assert list(found) == ["slots", "size"] and [*map(len, found["size"])] == [*map(len, sentences)]
    assert made.classes_["size"].tolist() == sorted({size for sizes in columns["size"] for size in sizes})
    assert made.predict_proba(sentences[:1])["slots"][0].shape == (len(sentences[0]), len(made.classes_["slots"]))
    counts = made.count_correct(sentences, columns)
    shares = [right / total for right, total in counts.values()]
    assert made.score(sentences, columns) == pytest.approx(np.mean(shares)) and min(shares) > 0.8
    result = made.evaluate(sentences, columns)
    assert [result[name]["accuracy"] for name in columns] == shares and result["slots"]["entities"]
    assert made.predict([[], ["news"]])["size"][0] == []
    assert made.evaluate(sentences, dict(reversed(columns.items()))).keys() == result.keys()
    weighed = made.score(sentences, columns, sample_weight=[1] + [0] * 79)
    assert weighed == pytest.approx(made.score(sentences[:1], {name: part[:1] for name, part in columns.items()}))


def test_one_column_with_a_name_is_the_same_network(sample):
    sentences, tags, _ = sample
    plain = rc.SequenceTagger(**QUICK).fit(sentences, tags)
    named = rc.SequenceTagger(**QUICK).fit(sentences, {"slots": tags})
    assert named.predict(sentences) == {"slots": plain.predict(sentences)}
    assert np.array_equal(named.network_.theta, plain.network_.theta)


def test_columns_and_labels_of_sentences(sample, columns, tmp_path):
    sentences, _, labels = sample
    made = rc.SequenceTagger(sentence_labels=True, early_stopping=True, **QUICK).fit(sentences, columns, labels)
    assert {f"val_score_{name}" for name in ("slots", "size", "sentence")} <= set(made.history_[0])
    assert list(made.evaluate(sentences, columns, labels)) == ["slots", "size", "sentence"]
    assert sorted(made.predict_answers(sentences[:1])) == ["sentence", "size", "slots"]
    made.save(tmp_path / "all.safetensors")
    loaded = rc.load(tmp_path / "all.safetensors")
    assert loaded.predict(sentences) == made.predict(sentences) and list(loaded.classes_) == ["slots", "size"]
    loaded.partial_fit(sentences, columns, labels)


def test_settings_of_columns(sample, columns):
    sentences = sample[0]
    made = rc.SequenceTagger(class_weight={"size": {1: 4.0}}, **QUICK).fit(sentences, columns)
    assert made.network_.heads["slots"].class_weight is None and max(made.network_.heads["size"].class_weight) == 4
    chains = rc.SequenceTagger(constraints="auto", **QUICK).fit(sentences, columns)
    assert not chains.network_.heads["slots"].constraints.transitions.all()
    assert chains.network_.heads["size"].constraints.transitions.all()
    broken = {**columns, "slots": [["I-KEYWORDS"] * len(words) for words in sentences]}
    broken["slots"][3][0] = "O"
    with pytest.raises(DataError, match="'I-KEYWORDS' cannot"):
        rc.SequenceTagger(constraints="bio").fit(sentences, broken)


@pytest.mark.parametrize("names", [["a.b"], [""], [3], ["sentence"], []])
def test_names_that_columns_cannot_have(sample, names):
    with pytest.raises(DataError, match="names of columns of tags"):
        rc.SequenceTagger().fit(sample[0], dict.fromkeys(names, sample[1]))


def test_columns_that_do_not_fit(sample, columns):
    sentences, tags, _ = sample
    with pytest.raises(DataError, match=r"sentence 0 has \d words but \d size tags"):
        rc.SequenceTagger().fit(sentences, {**columns, "size": [part[1:] for part in tags]})
    made = rc.SequenceTagger(**QUICK).fit(sentences, columns)
    with pytest.raises(DataError, match="expected the tags as a dict of slots, size, got lists"):
        made.score(sentences, tags)
    with pytest.raises(DataError, match="got a dict of slots"):
        made.evaluate(sentences, {"slots": tags})
    plain = rc.SequenceTagger(**QUICK).fit(sentences, tags)
    with pytest.raises(DataError, match="must be a list of sequences, got dict"):
        plain.evaluate(sentences, columns)


# ------------------------------------------------------------------------------------------------------- the files


def written(path, sample, extra=None):
    sentences, tags, _ = sample
    rows = [[(w, t, str(len(w))) for w, t in zip(*pair, strict=True)] for pair in zip(sentences, tags, strict=True)]
    fields = 2 if extra is None else 3
    path.write_text("\n".join("".join("\t".join(row[:fields]) + "\n" for row in part) for part in rows))
    return path


def test_columns_of_a_file(sample, tmp_path):
    path = written(tmp_path / "three.tsv", sample, extra=True)
    sentences, tags = read_packed(path, (0, {"size": 2, "slots": 1}))
    assert [*sentences] == sample[0] and [*tags["slots"]] == sample[1] and list(tags) == ["size", "slots"]
    assert [*tags["size"]] == [[str(len(word)) for word in words] for words in sample[0]]
    assert tags["slots"].tokens == read_packed(path, (0, 1))[1].tokens
    assert read_tagged(path, (0, {"size": 2, "slots": 1})) == (
        [*sentences],
        {name: [*part] for name, part in tags.items()},
    )


@pytest.fixture
def files(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "data.tsv", sample)
    (tmp_path / "data.intent").write_text("".join(f"ask {label}\n" for label in sample[2]))
    return tmp_path


LABELS = ("--sentence-labels", "data.intent")
FAST = ("--set", "max_epochs=3", "--set", "hidden_size=6", "--quiet")


def test_train_evaluate_predict_and_info(files, sample, capsys):
    apart = ("--valid", "data.tsv", "--valid-sentence-labels", "data.intent")
    assert main(["train", "data.tsv", *LABELS, *apart, *FAST, "--report", "r.json", "--out", "m.safetensors"]) == 0
    report = json.loads((files / "r.json").read_text())
    assert report["n_train"] == 64 and report["settings"]["sentence_labels"] is True
    assert report["test_sentence_accuracy"] == report["evaluation"]["sentence"]["accuracy"]
    assert report["evaluation"]["whole"]["total"] == 16 and "val_score_sentence" in report["history"][0]
    capsys.readouterr()

    assert main(["evaluate", "m.safetensors", "data.tsv", *LABELS, "--report", "e.json"]) == 0
    out = capsys.readouterr().out
    own = json.loads((files / "e.json").read_text())
    model = rc.load(files / "m.safetensors")
    expected = model.evaluate(*sample[:2], [f"ask {label}" for label in sample[2]])
    assert own["test_sentence_accuracy"] == expected["sentence"]["accuracy"]
    assert own["evaluation"]["whole"] == expected["whole"] and own["test_accuracy"] == expected["accuracy"]
    assert f"sentence accuracy {expected['sentence']['accuracy']:.4f}" in out
    assert f"label and tags all right {expected['whole']['accuracy']:.4f}" in out

    (files / "words.txt").write_text("# text = top news\ntop\nnews\n\n\nfrom\n")
    assert main(["predict", "m.safetensors", "words.txt"]) == 0
    (top, news), (other,) = model.predict([["top", "news"], ["from"]])
    first, second = model.predict_sentences([["top", "news"], ["from"]])
    lines = ["# text = top news", f"# intent = {first}", f"top\t{top}", f"news\t{news}", "", ""]
    assert capsys.readouterr().out.splitlines() == [*lines, f"# intent = {second}", f"from\t{other}"]
    assert main(["predict", "m.safetensors", "words.txt", "--out", "again.txt"]) == 0
    assert main(["evaluate", "m.safetensors", "again.txt"]) == 0  # the comments are none of its words
    assert "3 of 3 words right" in capsys.readouterr().out

    assert main(["info", "m.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "labels of sentences (2): ask news ask other" in out and f"labels ({len(model.classes_)}): " in out


def test_a_training_on_files_goes_on(files, capsys, monkeypatch):
    """A checkpoint keeps which files the labels are in."""
    out = ("--out", "m.safetensors", "--checkpoint-every", "0")
    assert main(["train", "data.tsv", *LABELS, *FAST, *out]) == 0
    wanted = rc.load(files / "m.safetensors").network_.theta

    def stop(*_):
        raise OSError(28, "No space left on device", "m.safetensors")

    monkeypatch.setattr(rc.SequenceTagger, "save", stop)
    assert main(["train", "data.tsv", *LABELS, *FAST, *out, "--force"]) == 2
    monkeypatch.undo()
    monkeypatch.chdir(files)
    assert main(["train", "--resume", "m.safetensors.checkpoint", "--quiet"]) == 0
    assert np.array_equal(rc.load(files / "m.safetensors").network_.theta, wanted)
    capsys.readouterr()


def test_settings_in_a_file(files, capsys):
    (files / "c.toml").write_text('data = "data.tsv"\nsentence_labels = "data.intent"\n[settings]\nmax_epochs = 1\n')
    assert main(["train", "--config", "c.toml", "--quiet"]) == 0
    assert rc.load(files / "tag.safetensors").sentence_classes_.tolist() == ["ask news", "ask other"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train", "data.tsv", "--sentence-labels", "short"], ["short", "80 sentences of data.tsv", "got 79"]),
        (["train", "data.tsv", "--sentence-labels", "long"], ["80 sentences", "got 81"]),
        (["train", "data.tsv", "--sentence-labels", "gap"], ["gap, line 2: an empty line"]),
        (["train", "data.tsv", "--sentence-labels", "none"], ["none: no such file"]),
        (["train", *LABELS], ["those of DATA"]),
        (["train", "data.tsv", "--set", "sentence_labels=true"], ["--sentence-labels FILE"]),
        (["train", "data.tsv", *LABELS, "--test", "data.tsv"], ["--test-sentence-labels go together"]),
        (["train", "data.tsv", *LABELS, "--valid-sentence-labels", "data.intent"], ["--valid and"]),
        (["train", "data.tsv", "--test-sentence-labels", "data.intent"], ["goes with --sentence-labels"]),
        (["evaluate", "plain", "data.tsv", *LABELS], ["labels no sentences"]),
        (["evaluate", "joint", "data.tsv", "--sentence-labels", "short"], ["got 79"]),
        (["evaluate", "joint", "data.tsv", "--sentence-labels", "long"], ["got 81"]),
        (["evaluate", "plain", "data.tsv", "--column", "1,a=2"], ["one column without a name"]),
        (["train", "data.tsv", "--column", "1,a=2,a=1"], ["a name of its own"]),
        (["train", "data.tsv", "--column", "1,a=2,1"], ["a name of its own"]),
        (["train", "data.tsv", "--column", "1,2,1"], ["2,upos=4,xpos=5"]),
        (["train", "data.tsv", "--column", "w=1,2"], ["2,upos=4,xpos=5"]),
    ],
)
def test_files_that_do_not_fit(files, sample, capsys, command, said):
    lines = (files / "data.intent").read_text().splitlines(keepends=True)
    (files / "short").write_text("".join(lines[1:]))
    (files / "long").write_text("".join([*lines, "more\n"]))
    (files / "gap").write_text("".join([lines[0], " \n", *lines[2:]]))
    if command[0] == "evaluate":
        made = rc.SequenceTagger(sentence_labels=command[1] == "joint", max_epochs=1)
        made.fit(*sample[: 3 if command[1] == "joint" else 2]).save(files / command[1])
    try:
        status = main(command)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and all(word in err[0] for word in said), err


def test_columns_by_the_command_line(files, sample, capsys):
    written(files / "three.tsv", sample, extra=True)
    named = ("--column", "1,slots=2,size=3")
    assert main(["train", "three.tsv", *named, *FAST, "--report", "r.json"]) == 0
    report = json.loads((files / "r.json").read_text())
    assert list(report["evaluation"]) == ["slots", "size"]
    totals = [report["evaluation"][name]["total"] for name in ("slots", "size")]
    assert report["test_total"] == sum(totals) and totals[0] == totals[1]
    capsys.readouterr()
    assert main(["evaluate", "tag.safetensors", "three.tsv", "--column", "1,size=3,slots=2"]) == 0
    out = capsys.readouterr().out
    assert "\nsize     accuracy" in out and "slots    accuracy" in out
    assert main(["evaluate", "tag.safetensors", "three.tsv", "--column", "1,a=2,b=3"]) == 2
    assert "say where, --column WORD,slots=N,size=N" in capsys.readouterr().err
    (files / "words.txt").write_text("top\nnews\n")
    assert main(["predict", "tag.safetensors", "words.txt"]) == 0
    found = rc.load(files / "tag.safetensors").predict([["top", "news"]])
    both = zip(["top", "news"], found["slots"][0], found["size"][0], strict=True)
    assert capsys.readouterr().out == "".join("\t".join(row) + "\n" for row in both)
    assert main(["info", "tag.safetensors"]) == 0
    assert f"labels of slots ({len(set(chain.from_iterable(sample[1])))}): " in capsys.readouterr().out


@pytest.mark.parametrize("ask", ["confidence", "predict_n_best", "show"])
def test_doubts_are_of_one_answer(ask):
    tagger = rc.SequenceTagger(hidden_size=4, max_epochs=1).fit(
        [["a", "b"]], {"one": [["x", "y"]], "two": [["z", "z"]]}
    )
    with pytest.raises(ValueError, match="one answer alone"):
        getattr(tagger, ask)([["a"]])
