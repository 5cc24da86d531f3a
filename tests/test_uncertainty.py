"""N best labellings, confidence and temperature: against the enumeration of all labellings."""

import itertools
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests
from rnncore.estimators._pipeline import TokenPipeline
from rnncore.estimators._task import LabelTask
from rnncore.estimators._uncertainty import Uncertainty
from rnncore.heads import bio_constraints
from rnncore.train.n_best import best_products
from rnncore.train.temperature import HOTTEST

QUICK = {"hidden_size": 6, "max_epochs": 2, "dtype": "float64", "recurrent_dropout": 0.0, "dropout": 0.0}
CHUNKS = ["B-X", "I-X", "O"]
SENTENCES = [[*"abca"], [*"b"], [*"ac"], [], [*"zza"], [*"cabb"]]
TAGS = [["B-X", "I-X", "O", "O"], ["O"], ["B-X", "I-X"], [], ["O", "O", "B-X"], ["O", "B-X", "I-X", "O"]]


def small(**settings):
    """A tagger of three chunk labels whose scores are all of a size."""
    with pytest.warns(UserWarning, match="empty"):
        tagger = rc.SequenceTagger(**QUICK | settings).fit(SENTENCES, TAGS)
    rng = np.random.default_rng(4)
    for name, array in tagger.network_.params.items():
        if name.startswith("head."):
            array[...] = rng.standard_normal(array.shape)
    return tagger


def enumerated(tagger, sentence):
    """All labellings of a sentence that are allowed, with their probabilities, by the scores alone."""
    net, n = tagger.network_, len(sentence)
    (x,) = (tagger._encoded([sentence]).x,)
    scores = net.forward(tagger._pipeline.collate(x[:, None]), training=False)[0][:, 0]
    chain = {name: net.params.get(f"head.{name}", 0.0) for name in ("start", "transitions", "end")}
    crf = tagger._task.kind == "crf"
    rule = bio_constraints(CHUNKS) if tagger.constraints else None
    found = {}
    for path in itertools.product(range(3), repeat=n):
        pairs = list(itertools.pairwise(path))
        if rule is not None and not (rule.start[path[0]] and all(rule.transitions[i, j] for i, j in pairs)):
            continue
        score = sum(scores[t, label] for t, label in enumerate(path))
        if crf:
            score += chain["start"][path[0]] + chain["end"][path[-1]] + sum(chain["transitions"][p] for p in pairs)
        found[tuple(CHUNKS[label] for label in path)] = np.exp(score)
    total = sum(found.values())
    return {path: p / total for path, p in found.items()}


KINDS = {
    "crf": {},
    "constrained": {"constraints": "bio"},
    "softmax": {"head": "softmax"},
    "weighted": {"class_weight": "balanced"},
    "direct": {"skip": True, "affixes": 1},
}


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("n", [1, 2, 5, 1000])
def test_n_best_are_those_of_the_enumeration(settings, n):
    tagger = small(**settings)
    found = tagger.predict_n_best(SENTENCES, n)
    assert [len(paths) for paths in found][3] == 1 and found[3] == [([], 1.0)]
    for sentence, paths in zip(SENTENCES, found, strict=True):
        if not sentence:
            continue
        every = enumerated(tagger, sentence)
        assert len(paths) == min(n, len(every))
        probabilities = [p for _, p in paths]
        np.testing.assert_allclose(probabilities, sorted(every.values(), reverse=True)[:n], rtol=1e-9)
        assert len({tuple(labels) for labels, _ in paths}) == len(paths)
        np.testing.assert_allclose(probabilities, [every[tuple(labels)] for labels, _ in paths], rtol=1e-9)
    assert [paths[0][0] for paths in found] == tagger.predict(SENTENCES)
    np.testing.assert_allclose(tagger.confidence(SENTENCES), [paths[0][1] for paths in found], rtol=1e-9)


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_label_probabilities_are_marginals(settings):
    tagger = small(**settings)
    unseen = [["Z" if t == 1 else label for t, label in enumerate(labels)] for labels in TAGS]
    found = tagger.label_probabilities(SENTENCES, unseen)
    assert [len(p) for p in found] == [len(labels) for labels in TAGS]
    for sentence, labels, own in zip(SENTENCES, unseen, found, strict=True):
        every = enumerated(tagger, sentence) if sentence else {}
        expected = [sum(p for path, p in every.items() if path[t] == label) for t, label in enumerate(labels)]
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_temperature_divides_the_scores(settings):
    """So that all labellings' probabilities are p^(1/T), once more divided by their sum."""
    tagger = small(**settings)
    before = [enumerated(tagger, sentence) for sentence in SENTENCES if sentence]
    predicted = tagger.predict(SENTENCES)
    assert tagger.calibrate(SENTENCES, TAGS) is tagger
    assert tagger.temperature_ != 1 and tagger.predict(SENTENCES) == predicted
    for sentence, every in zip(filter(None, SENTENCES), before, strict=True):
        total = sum(p ** (1 / tagger.temperature_) for p in every.values())
        for labels, p in tagger.predict_n_best([sentence], 100)[0]:
            np.testing.assert_allclose(p, every[tuple(labels)] ** (1 / tagger.temperature_) / total, rtol=1e-8)


def log_loss(tagger, x, y):
    return -np.log(np.concatenate(tagger.label_probabilities(x, y))).mean()


@pytest.mark.parametrize("settings", [{}, {"head": "softmax"}])
def test_calibration_makes_held_out_labels_more_probable(settings, tmp_path):
    sentences, tags = news_requests(400)
    tagger = rc.SequenceTagger(hidden_size=16, dropout=0.0, recurrent_dropout=0.0, max_epochs=30, **settings)
    tagger.fit(sentences[:100], tags[:100])
    held_out, new = (sentences[100:250], tags[100:250]), (sentences[250:], tags[250:])
    known = {tag for labels in tags[:100] for tag in labels}
    assert known >= {tag for labels in tags for tag in labels}
    before, before_new = log_loss(tagger, *held_out), log_loss(tagger, *new)
    predicted, score = tagger.predict(sentences), tagger.score(*new)
    tagger.calibrate(*held_out)
    assert tagger.temperature_ > 1.1  # a network that has learned all by heart is too sure
    assert log_loss(tagger, *held_out) < before and log_loss(tagger, *new) < before_new
    assert tagger.predict(sentences) == predicted and tagger.score(*new) == score
    tempered = tagger.confidence(sentences)
    tagger.save(tmp_path / "m")
    for again in (rc.load(tmp_path / "m"), pickle.loads(pickle.dumps(tagger))):
        np.testing.assert_array_equal(again.confidence(sentences), tempered)
    first = tagger.temperature_
    assert abs(tagger.calibrate(*held_out).temperature_ - 1) < 0.01 < first - 1  # nothing is left to do
    tagger.partial_fit(*held_out)
    tagger.max_epochs = 1
    assert not hasattr(tagger.fit(sentences[:50], tags[:50]), "temperature_")


def test_the_best_temperature_is_the_best():
    tagger = small()
    sentences = SENTENCES * 4
    tags = tagger.predict(sentences)
    tags[0][0], tags[4][2] = "O" if tags[0][0] != "O" else "B-X", "O" if tags[4][2] != "O" else "B-X"
    tagger.calibrate(sentences, tags)
    assert 1.01 / HOTTEST < tagger.temperature_ < 0.99 * HOTTEST
    losses = []
    for factor in (0.98, 1.0, 1.02):
        again = pickle.loads(pickle.dumps(tagger))
        for name, array in again.network_.params.items():
            if name.startswith("head."):
                array *= factor
        losses.append(log_loss(again, sentences, tags))
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_calibration_that_data_do_not_tell():
    tagger = small(max_epochs=30)
    with pytest.warns(UserWarning, match="no errors to learn from"):
        tagger.calibrate(SENTENCES[:3], tagger.predict(SENTENCES[:3]))
    assert tagger.temperature_ == pytest.approx(1 / HOTTEST)
    with pytest.raises(DataError, match="none of the labels"):
        tagger.calibrate([["a"]], [["Z"]])
    with pytest.raises(DataError, match="expected as many"):
        tagger.calibrate([["a"]], [["O"], ["O"]])
    one = rc.SequenceTagger(**QUICK).fit([["a"], ["b", "a"]], [["X"], ["X", "X"]])
    assert one.calibrate([["a"]], [["X"]]).temperature_ == 1
    assert one.predict_n_best([["a", "b"]], 3) == [[(["X", "X"], 1.0)]]


@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(1, 70),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_best_products_are_those_of_the_enumeration(n_labels, lengths, n, seed, ties):
    """Ties and zeros among them: the probabilities are the same, and no labelling comes twice."""
    rng = np.random.default_rng(seed)
    lengths = np.array(sorted(lengths, reverse=True))
    shape = lengths[0], len(lengths), n_labels
    p = rng.integers(0, 3, shape) / 4 if ties else rng.random(shape)
    paths, logs = best_products(p, lengths, n)
    for b, length in enumerate(lengths.tolist()):
        every = {
            path: np.prod([p[t, b, label] for t, label in enumerate(path)])
            for path in itertools.product(range(n_labels), repeat=length)
        }
        there = min(n, len(every))
        got = [tuple(path) for path in paths[:there, :length, b].tolist()]
        assert len(set(got)) == there and (paths[:there, length:, b] == -1).all() and (paths[there:, :, b] == -1).all()
        assert np.isneginf(logs[there:, b]).all()
        np.testing.assert_allclose(np.exp(logs[:there, b]), sorted(every.values(), reverse=True)[:there], atol=1e-12)
        np.testing.assert_allclose(np.exp(logs[:there, b]), [every[path] for path in got], atol=1e-12)
        assert got[0] == tuple(p[:length, b].argmax(axis=1).tolist())


def test_arguments():
    tagger = small()
    for n, error in ((0, ValueError), (10_001, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^n: expected"):
            tagger.predict_n_best(SENTENCES, n)
    assert tagger.predict_n_best([]) == [] and tagger.confidence([]).shape == (0,)
    assert tagger.predict_n_best([[], []], 2) == [[([], 1.0)]] * 2
    assert tagger.confidence([[]]).tolist() == [1.0]
    assert tagger.label_probabilities([[]], [[]])[0].shape == (0,)
    assert len(tagger.predict_n_best((words for words in SENTENCES), 2)) == 6
    assert tagger.predict_n_best(sentences=SENTENCES, n=2) == tagger.predict_n_best(SENTENCES, 2)
    with pytest.raises(ValueError, match="not fitted"):
        rc.SequenceTagger().confidence(SENTENCES)


@dataclass(eq=False, repr=False)
class Classifier(Uncertainty):
    """One label for each sequence."""

    @staticmethod
    def _make_pipeline(settings):
        return TokenPipeline(embedding_size=4)

    @staticmethod
    def _make_task(settings):
        return LabelTask(per_step=False, readout="last")


def test_one_label_for_each_sequence():
    rng = np.random.default_rng(0)
    x = [rng.choice(list("abc"), rng.integers(1, 9)).tolist() for _ in range(60)]
    y = ["ab"[part[-1] == "a"] for part in x]
    rater = Classifier(hidden_size=6, max_epochs=3).fit(x[:40], y[:40])
    found = rater.predict_n_best(x, 5)
    assert [best[0][0] for best in found] == rater.predict(x).tolist() and {len(best) for best in found} == {2}
    np.testing.assert_allclose([sum(p for _, p in best) for best in found], 1, rtol=1e-6)
    np.testing.assert_allclose(rater.confidence(x), [best[0][1] for best in found], rtol=1e-6)
    np.testing.assert_allclose(rater.label_probabilities(x, rater.predict(x)), rater.confidence(x), rtol=1e-6)
    predicted = rater.predict(x).tolist()
    before = -np.log(rater.label_probabilities(x[40:], y[40:])).mean()
    rater.calibrate(x[40:], y[40:])
    assert -np.log(rater.label_probabilities(x[40:], y[40:])).mean() < before
    assert rater.predict(x).tolist() == predicted
    with pytest.raises(DataError, match="empty"):
        rater.confidence([["a"], []])
