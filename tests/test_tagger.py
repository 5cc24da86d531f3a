"""SequenceTagger: learning, scikit-learn's conventions, model files, and everything that can go wrong."""

import copy
import json
import pickle
import signal
import struct
import threading
import time
import warnings

import numpy as np
import pytest
from costs import seconds_of
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

import rnncore as rc
from rnncore.data.readers import DataError, read_tagged
from rnncore.datasets import news_requests, original_split, random_split
from rnncore.estimators.tagger import SequenceTagger
from rnncore.io.files import ModelFileError, load
from rnncore.optim.optimizers import SGD, Adam
from rnncore.optim.schedules import Exponential
from rnncore.train.trainer import DivergenceWarning


@pytest.fixture(scope="module")
def sample():
    return news_requests(120)


@pytest.fixture(scope="module")
def fitted(sample):
    return SequenceTagger(hidden_size=16, max_epochs=3, window=0, affixes=0, shapes=False).fit(*sample)


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def test_learns_the_sample():
    sentences, tags = news_requests()
    train, test = random_split(1000, 0.2, 0)
    tagger = SequenceTagger().fit([sentences[i] for i in train], [tags[i] for i in train])
    assert tagger.score([sentences[i] for i in test], [tags[i] for i in test]) > 0.965  # the majority label: 0.81


def test_beats_the_original_on_its_file(data):
    """More than 2092 of 2199 words right, the original's published result, with the defaults: the mean of 5 seeds."""
    sentences, tags = read_tagged(data("news_tagged_data.txt"))
    (train_x, train_y), (test_x, test_y) = (
        ([sentences[i] for i in part], [tags[i] for i in part]) for part in original_split(1000)
    )
    right = []
    for seed in range(5):
        correct, total = SequenceTagger(random_state=seed).fit(train_x, train_y).count_correct(test_x, test_y)
        assert total == 2199
        right.append(correct)
    assert np.mean(right) > 2092


def test_predictions_have_the_shape_of_the_sentences(sample):
    sentences, tags = sample
    fitted = SequenceTagger(hidden_size=16, max_epochs=3, head="softmax").fit(*sample)
    predicted, probabilities = fitted.predict(sentences), fitted.predict_proba(sentences)
    assert [len(labels) for labels in predicted] == [len(sentence) for sentence in sentences]
    assert {type(label) for labels in predicted for label in labels} == {str}
    assert fitted.classes_.tolist() == sorted({tag for labels in tags for tag in labels})
    for sentence, labels, p in zip(sentences, predicted, probabilities, strict=True):
        assert p.shape == (len(sentence), len(fitted.classes_))
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)
        assert fitted.classes_[p.argmax(axis=1)].tolist() == labels
    right = sum(a == b for p, t in zip(predicted, tags, strict=True) for a, b in zip(p, t, strict=True))
    assert fitted.score(sentences, tags) == right / sum(map(len, tags))
    assert fitted.predict([]) == [] and fitted.predict_proba([]) == []


def test_one_sentence_is_tagged_as_among_others(fitted, sample):
    together = fitted.predict_proba(sample[0][:20])
    for sentence, p in zip(sample[0], together, strict=False):
        np.testing.assert_allclose(fitted.predict_proba([sentence])[0], p, rtol=1e-4, atol=1e-6)


def test_the_seed_decides(sample):
    def fit(seed):
        return SequenceTagger(hidden_size=8, max_epochs=2, random_state=seed).fit(*sample).predict_proba(sample[0])

    assert same(fit(1), fit(1)) and not same(fit(1), fit(2))
    assert same(fit(np.random.default_rng(5)), fit(np.random.default_rng(5)))
    assert same(fit(np.random.RandomState(5)), fit(np.random.RandomState(5)))
    assert not same(fit(None), fit(None))


def test_threads_give_the_same_bits(sample):
    weights = [
        SequenceTagger(hidden_size=16, max_epochs=2, n_threads=n).fit(*sample).network_.theta.tobytes()
        for n in (1, 2, 3)
    ]
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.parametrize(("n", "epochs"), [(100, 20), (1000, 20), (4000, 10), (50_000, 5)])
def test_epochs_follow_the_number_of_sentences(n, epochs):
    tagger = SequenceTagger(hidden_size=1, batch_size=25_000, head="softmax")
    assert tagger.fit([["a"], ["b"]] * (n // 2), [["X"], ["Y"]] * (n // 2)).n_epochs_ == epochs


def test_history(fitted):
    assert fitted.n_epochs_ == 3 and fitted.stopped_ is None
    assert [record["epoch"] for record in fitted.history_] == [1, 2, 3]
    assert fitted.history_[2]["loss"] < fitted.history_[0]["loss"]
    assert all(record["seconds"] > 0 for record in fitted.history_)


def test_integers_as_words_and_labels():
    rng = np.random.default_rng(0)
    x = [rng.integers(5, size=rng.integers(2, 9)) for _ in range(80)]
    y = [(part % 2 * 7).tolist() for part in x]
    tagger = SequenceTagger(hidden_size=8, max_epochs=20, learning_rate=0.02).fit(x, y)
    assert tagger.classes_.tolist() == [0, 7] and type(tagger.predict(x)[0][0]) is int
    assert tagger.score(x, y) > 0.95


def test_feature_vectors():
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(rng.integers(2, 9), 3)) for _ in range(80)]
    y = [np.where(part[:, 1] > 0, "up", "down").tolist() for part in x]
    tagger = SequenceTagger(hidden_size=8, max_epochs=20, learning_rate=0.02).fit(x, y)
    assert tagger.score(x, y) > 0.9
    with pytest.raises(DataError, match=r"expected a \(T, 3\) array"):
        tagger.predict([np.zeros((2, 4))])


def test_features_too_large_for_the_precision():
    with pytest.raises(DataError, match="too large for float32"):
        SequenceTagger(hidden_size=4).fit([np.full((2, 2), 1e300)], [["a", "b"]])


@pytest.mark.parametrize("tags", [[["O"]], [["O", "B", "O"]]])
def test_one_sentence_is_enough(tags):
    tagger = SequenceTagger(hidden_size=8, max_epochs=100, learning_rate=0.05).fit(
        [["a", "b", "c"][: len(tags[0])]], tags
    )
    assert tagger.predict([["a", "b", "c"][: len(tags[0])]]) == tags


def test_labels_without_weight_do_not_count():
    tagger = SequenceTagger(hidden_size=4, max_epochs=5, batch_size=1, class_weight={"O": 0.0})
    tagger.fit([["a"], ["b"], ["c", "a"]], [["O"], ["O"], ["B", "O"]])
    assert tagger.stopped_ is None and tagger.predict([["a"]]) == [["B"]]


def test_an_array_of_equally_long_sequences():
    x = np.arange(60).reshape(20, 3) % 4
    tagger = SequenceTagger(hidden_size=4, max_epochs=2).fit(x, x)
    assert len(tagger.predict(x)) == 20


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding_size": 12, "input_dropout": 0.2},
        {"num_layers": 2, "recurrent_dropout": 0.2},
        {"bidirectional": False},
        {"activation": "relu", "clip_norm": 1.0},
        {"dtype": "float64"},
        {"word_dropout": 0.0, "dropout": 0.0},
        {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine"},
        {"optimizer": Adam(0.01, clip_norm=1.0, schedule=Exponential(0.9, unit="epoch"))},
        {"schedule": "halve_on_plateau"},
        {"class_weight": "balanced"},
        {"class_weight": {"O": 0.5}},
        {"class_weight": "balanced", "head": "crf", "constraints": "auto"},
        {"batch_size": 1000},
        {"min_count": 2, "lowercase": False, "fold_digits": False},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings(sample, settings, tmp_path):
    tagger = SequenceTagger(**{"hidden_size": 8, "max_epochs": 3, **settings}).fit(*sample)
    assert tagger.history_[-1]["loss"] < tagger.history_[0]["loss"]
    assert tagger.network_.theta.dtype == tagger.dtype
    tagger.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert same(tagger.predict_proba(sample[0]), again.predict_proba(sample[0]))
    assert repr(again.get_params()) == repr(tagger.get_params())


@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_class_weights_shift_the_balance(sample, head):
    plain = SequenceTagger(hidden_size=8, max_epochs=4, head=head).fit(*sample)
    weighted = SequenceTagger(hidden_size=8, max_epochs=4, head=head, class_weight={"O": 0.01}).fit(*sample)
    share = [
        np.mean([tag == "O" for tags in tagger.predict(sample[0]) for tag in tags]) for tagger in (plain, weighted)
    ]
    assert share[1] < share[0]


# -- scikit-learn's conventions -----------------------------------------------------------------------------------


def test_parameters_are_kept_untouched():
    optimizer = SGD(0.1)
    tagger = SequenceTagger(hidden_size=7, optimizer=optimizer, class_weight={"a": 2})
    assert tagger.get_params()["optimizer"] is optimizer
    copied = clone(tagger.set_params(dropout=0.25))
    assert copied.hidden_size == 7 and copied.dropout == 0.25 and not hasattr(copied, "network_")


def test_an_optimizer_object_serves_many_fits(sample):
    tagger = SequenceTagger(hidden_size=4, max_epochs=1, optimizer=Adam(0.01))
    first = tagger.fit(*sample).predict_proba(sample[0])
    assert same(first, tagger.fit(*sample).predict_proba(sample[0]))
    assert tagger.optimizer.steps == 0


@pytest.mark.parametrize("how", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_copies_predict_the_same(fitted, sample, how):
    again = how(fitted)
    assert same(fitted.predict_proba(sample[0]), again.predict_proba(sample[0]))
    again.partial_fit(*sample)
    assert again.n_epochs_ == fitted.n_epochs_ + 1 and not same(
        fitted.predict_proba(sample[0]), again.predict_proba(sample[0])
    )


def test_model_selection(sample):
    tagger = SequenceTagger(hidden_size=4, max_epochs=2)
    assert cross_val_score(tagger, *sample, cv=2).shape == (2,)
    search = GridSearchCV(tagger, {"learning_rate": [1e-5, 0.03]}, cv=2).fit(*sample)
    assert search.best_params_ == {"learning_rate": 0.03}


def test_not_fitted_yet(sample):
    with pytest.raises(NotFittedError, match="call fit first"):
        SequenceTagger().predict(sample[0])


# -- stopping, continuing -------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_weights(sample):
    sentences, tags = sample
    tagger = SequenceTagger(hidden_size=8, max_epochs=60, learning_rate=0.02, early_stopping=True, n_iter_no_change=3)
    tagger.fit(sentences[:90], tags[:90], validation_data=(sentences[90:], tags[90:]))
    scores = [record["val_score"] for record in tagger.history_]
    assert tagger.stopped_ == "early" and len(scores) < 60
    assert tagger.score(sentences[90:], tags[90:]) == pytest.approx(max(scores))
    assert np.argmax(scores) <= len(scores) - 3


def test_early_stopping_sets_sentences_aside(sample):
    plain = {"affixes": 0, "shapes": False, "window": 0}
    tagger = SequenceTagger(hidden_size=4, max_epochs=2, early_stopping=True, validation_fraction=0.5, **plain).fit(
        *sample
    )
    assert all({"val_loss", "val_score"} <= record.keys() for record in tagger.history_)
    assert len(tagger.encoder_.tokens) < len({word for sentence in sample[0] for word in sentence})
    with pytest.raises(DataError, match="at least 2"):
        tagger.fit([["a"]], [["O"]])


def test_callbacks_see_epochs_and_may_stop(sample):
    seen = []
    tagger = SequenceTagger(hidden_size=4, callbacks=[seen.append, lambda record: record["epoch"] == 2]).fit(*sample)
    assert [record["epoch"] for record in seen] == [1, 2] and tagger.stopped_ == "callback"


def test_warm_start_goes_on(sample):
    tagger = SequenceTagger(hidden_size=8, max_epochs=2, warm_start=True, schedule=None).fit(*sample)
    first = tagger.history_[-1]["loss"]
    tagger.fit([*sample[0], ["surprise"]], [*sample[1], ["O"]])
    assert tagger.n_epochs_ == 4 and tagger.history_[2]["loss"] < first
    cold = clone(tagger).set_params(warm_start=False).fit(*sample)
    assert cold.fit(*sample).n_epochs_ == 2


def test_partial_fit(sample):
    sentences, tags = sample
    tagger = SequenceTagger(hidden_size=8)
    for _ in range(3):
        tagger.partial_fit(sentences[:60], tags[:60], classes=sorted({tag for labels in tags for tag in labels}))
        tagger.partial_fit(sentences[60:], tags[60:])
    assert tagger.n_epochs_ == 6 and tagger.history_[-2]["loss"] < tagger.history_[0]["loss"]
    with pytest.raises(DataError, match="not in the training data"):
        tagger.partial_fit([["a"]], [["NEW"]])


def test_interrupt_keeps_what_was_learned(sample):
    tagger = SequenceTagger(hidden_size=8, max_epochs=10_000)

    def interrupt(record):
        if record["epoch"] == 3:
            signal.raise_signal(signal.SIGINT)

    tagger.callbacks = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        tagger.fit(*sample)
    assert tagger.stopped_ == "interrupted" and tagger.n_epochs_ == 3
    assert tagger.score(*sample) > 0.3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait(sample):
    def interrupt(record):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    tagger = SequenceTagger(hidden_size=8, max_epochs=100, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        tagger.fit(*sample)
    assert tagger.n_epochs_ == 1 and tagger.predict(sample[0])


def test_fits_in_a_thread(sample):
    tagger = SequenceTagger(hidden_size=4, max_epochs=1)
    thread = threading.Thread(target=tagger.fit, args=sample)
    thread.start()
    thread.join()
    assert tagger.n_epochs_ == 1


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_divergence_stops_and_keeps_sound_weights(sample, clip_norm):
    x = [np.full((3, 2), 1e300)] + [np.ones((3, 2))] * 9
    y = [["a", "b", "a"]] * 10
    tagger = SequenceTagger(
        hidden_size=4, dtype="float64", activation="relu", optimizer="sgd", learning_rate=1e300, clip_norm=clip_norm
    )
    with pytest.warns(DivergenceWarning, match=r"epoch \d+, batch \d+ of \d+"):
        tagger.fit(x, y)
    assert tagger.stopped_ == "diverged" and np.isfinite(tagger.network_.theta).all()


def test_silent_unless_asked(sample, capfd):
    SequenceTagger(hidden_size=4, max_epochs=2).fit(*sample)
    assert capfd.readouterr() == ("", "")
    SequenceTagger(hidden_size=4, max_epochs=2, verbose=1).fit(*sample)
    out, err = capfd.readouterr()
    assert out == "" and "loss" in err and "words" in err


# -- what can go wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentences", "tags", "message"),
    [
        ([], [], "no sentences"),
        ([["a"]], [], "got 1 and 0"),
        ([["a", "b"]], [["O"]], "sentence 0 has 2 words but 1 tags"),
        ([[], []], [[], []], "there are no words: all sentences are empty"),
        ([["a"], []], [["O"], ["O"]], "sentence 1 has 0 words but 1 tags"),
        ([{"w": 1}], [["O"]], r"sentences\[0\] must be a sequence, got dict"),
        ({"w": 1}, [["O"]], "sentences must be a list of sequences, got dict"),
        ([["a"]], [{"O": 1}], r"tags\[0\] must be a sequence, got dict"),
        ([["a"]], [[{"O": 1}]], "labels must be all strings or all integers, got dict"),
        ([["a"]], [[["O"]]], "labels must be all strings or all integers, got list"),
        (["a b"], ["O O"], "split each into words"),
        ("a b", "O O", "list of sequences"),
        (None, None, "list of sequences"),
        ([["a", None]], [["O", "O"]], "strings or integers"),
        ([["a"]], [[None]], "all strings or all integers"),
        ([["a"], ["b"]], [["O"], [1]], "all strings or all integers"),
        ([[1.5, 2.5]], [["O", "O"]], "list of float"),
    ],
)
def test_bad_data(sentences, tags, message):
    with pytest.raises(DataError, match=message):
        SequenceTagger(hidden_size=4).fit(sentences, tags)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "hmm"}, "head: expected 'softmax' or 'crf', got 'hmm'"),
        ({"constraints": "bio", "head": "softmax"}, "constraints do not go with head='softmax'"),
        ({"head": "crf", "class_weight": {"O": -1.0}}, "class_weight must be"),
        ({"hidden_size": 0}, "hidden_size: expected at least 1"),
        ({"hidden_size": "big"}, "hidden_size: expected a whole number"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_epochs": -1}, "max_epochs"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"dropout": 1.0}, "dropout"),
        ({"word_dropout": -0.1}, "word_dropout"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"bidirectional": "yes"}, "bidirectional: expected True or False"),
        ({"optimizer": "newton"}, "optimizer: expected one of sgd"),
        ({"schedule": "sine"}, "schedule: expected None"),
        ({"class_weight": "fair"}, "class_weight: expected None, 'balanced'"),
        ({"class_weight": {"X": 2.0}}, "class_weight: no label 'X'"),
        ({"cell": "elwoman"}, "elwoman"),
        ({"activation": "tan"}, "tan"),
        ({"dtype": "float16"}, "float16"),
        ({"n_threads": 0}, "n_threads"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SequenceTagger(**settings).fit([["a", "b"]], [["O", "O"]])


def test_sentences_without_words(sample):
    """They have no labels; what is learned is what the others say."""
    sentences, tags = ([*part[:40], [], *part[40:], []] for part in sample)
    for settings in ({}, {"window": 1, "affixes": 2, "head": "softmax"}):
        tagger = SequenceTagger(hidden_size=8, max_epochs=2, **settings).fit(*sample)
        with pytest.warns(UserWarning, match="2 empty sentences were left out, the first of them number 40"):
            other = SequenceTagger(hidden_size=8, max_epochs=2, **settings).fit(sentences, tags)
        assert other.network_.theta.tobytes() == tagger.network_.theta.tobytes()
        predicted = tagger.predict(sentences)
        assert predicted[40] == predicted[-1] == [] and [p for p in predicted if p] == tagger.predict(sample[0])
        marginals = tagger.predict_proba(sentences)
        assert marginals[40].shape == (0, len(tagger.classes_)) and len(marginals) == len(sentences)
        assert tagger.predict([[]]) == [[]] and tagger.predict([]) == [] and len(tagger.predict_proba([[]])[0]) == 0
        assert tagger.score(sentences, tags) == tagger.score(*sample)
        assert tagger.evaluate(sentences, tags) == tagger.evaluate(*sample)
        assert tagger.count_correct(sentences, tags) == tagger.count_correct(*sample)
        assert np.array_equal(tagger.knows(sentences), tagger.knows(sample[0]))
    with pytest.warns(UserWarning, match="2 empty"):
        tagger.partial_fit(sentences, tags, sample_weight=np.ones(len(sentences)))
    with pytest.raises(ValueError, match="only sentences without words have a weight"):
        SequenceTagger().fit([["a"], []], [["O"], []], sample_weight=[0, 1])


def test_the_first_sentence_may_be_empty():
    vectors = [np.zeros((0, 3)), np.ones((2, 3))]
    with pytest.warns(UserWarning, match="1 empty"):
        tagger = SequenceTagger(max_epochs=1).fit(vectors, [[], ["A", "B"]])
    assert list(map(len, tagger.predict(vectors))) == [0, 2]
    with pytest.warns(UserWarning, match="1 empty"):
        SequenceTagger(max_epochs=1, constraints="bio").fit([[], ["a"]], [[], ["B-X"]])


@pytest.mark.parametrize("size", [1e-300, 1e300, 1.7e308])
def test_weights_of_any_size(sample, size):
    """Only how they compare counts."""
    weights = np.random.default_rng(0).integers(1, 4, len(sample[0])).astype(float)
    one, other = (
        SequenceTagger(hidden_size=8, max_epochs=2).fit(*sample, sample_weight=scale * weights)
        for scale in (1.0, size / weights.max())
    )
    np.testing.assert_allclose(other.network_.theta, one.network_.theta, rtol=1e-3, atol=1e-5)
    assert other.score(*sample, sample_weight=size / 3 * weights) == pytest.approx(
        other.score(*sample, sample_weight=weights)
    )
    with pytest.raises(ValueError, match="class_weight must"):
        SequenceTagger(class_weight={"O": size}).fit(*sample) if size > 1 else rc.Softmax(2, [size, size])


def test_sample_weights(sample):
    def fit(weights):
        return SequenceTagger(hidden_size=8, max_epochs=3).fit(*sample, sample_weight=weights).network_.theta

    n = len(sample[0])
    plain = SequenceTagger(hidden_size=8, max_epochs=3).fit(*sample).network_.theta
    assert np.array_equal(fit(np.full(n, 0.1)), plain) and not np.array_equal(fit(np.arange(n)), plain)


def test_a_sentence_without_weight_is_not_learned():
    x, y = [["a"], ["a"], ["b"]], [["X"], ["Y"], ["Y"]]
    for weights, label in (([1, 0, 1], "X"), ([0, 1, 1], "Y")):
        tagger = SequenceTagger(hidden_size=4, max_epochs=40, word_dropout=0.0, batch_size=1)
        assert tagger.fit(x, y, sample_weight=weights).predict([["a"]]) == [[label]]


def full_batch(head, class_weight, **settings):
    """A tagger that trains on all sentences in one batch, with nothing left to chance."""
    settings |= {"hidden_size": 6, "max_epochs": 5, "batch_size": 999, "optimizer": "sgd", "learning_rate": 0.5}
    settings |= {"dropout": 0.0, "recurrent_dropout": 0.0, "word_dropout": 0.0, "clip_norm": None, "dtype": "float64"}
    return SequenceTagger(head=head, class_weight=class_weight, **settings)


@pytest.mark.parametrize("class_weight", [None, {"O": 0.3}])
@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_a_weight_of_two_is_a_sentence_twice(sample, head, class_weight):
    some = [part[:23] for part in sample]
    repeats = [2, *[1] * 20, 3, 2]

    def fit(sentences, tags, weights=None):  # the same vocabulary and first weights for all
        tagger = full_batch(head, class_weight, warm_start=True).fit(*some)
        return tagger.fit(sentences, tags, sample_weight=weights).network_.theta

    twice = fit(*([item for item, n in zip(part, repeats, strict=True) for _ in range(n)] for part in some))
    weighted = fit(*some, np.array(repeats) / 10)
    np.testing.assert_allclose(weighted, twice, rtol=1e-10, atol=1e-13)
    assert not np.allclose(fit(*some), twice, rtol=1e-3)


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_a_sentence_without_weight_is_as_if_it_were_not_there(sample, head):
    without = full_batch(head, {"O": 2.0}).fit(*(part[:20] for part in sample))
    weightless = full_batch(head, {"O": 2.0}).fit(*(part[:23] for part in sample), sample_weight=[4] * 20 + [0] * 3)
    assert weightless.network_.theta.tobytes() == without.network_.theta.tobytes()
    assert weightless.encoder_.tokens == without.encoder_.tokens


def test_weights_in_a_score(fitted, sample):
    first, second = (fitted.score(sample[0][i : i + 1], sample[1][i : i + 1]) for i in (0, 1))
    lengths = [len(sample[0][i]) for i in (0, 1)]
    two = [part[:2] for part in sample]
    wanted = (3 * first * lengths[0] + second * lengths[1]) / (3 * lengths[0] + lengths[1])
    assert fitted.score(*two, sample_weight=[3, 1]) == pytest.approx(wanted)
    assert fitted.score(*two, sample_weight=[0, 2]) == second


def test_sample_weights_of_a_part(sample):
    def go_on(*some, **options):
        tagger = full_batch("crf", None).fit(*(part[:20] for part in sample))
        return tagger.partial_fit(*some, **options).network_.theta

    some = [part[:3] for part in sample]
    thrice = [[*part, part[0], part[0]] for part in some]
    np.testing.assert_allclose(go_on(*some, sample_weight=[3, 1, 1]), go_on(*thrice), rtol=1e-10, atol=1e-13)


def test_sample_weights_go_with_early_stopping(sample):
    tagger = SequenceTagger(hidden_size=4, max_epochs=2, early_stopping=True)
    assert tagger.fit(*sample, sample_weight=np.arange(len(sample[0]))).n_epochs_ == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "expected 120 numbers"), ([-1.0] * 120, "at least 0"), ([0] * 120, "not all"), ([np.nan] * 120, "finite")],
)
def test_bad_sample_weights(sample, weights, message):
    with pytest.raises(ValueError, match=message):
        SequenceTagger().fit(*sample, sample_weight=weights)


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "cell": "lstm"}, {"embedding_size": 5, "skip": True}])
def test_words_as_they_come(sample, settings):
    tagger = SequenceTagger(hidden_size=8, max_epochs=3, bidirectional=False, head="softmax", **settings).fit(*sample)
    for words, labels in zip(sample[0][:20], tagger.predict(sample[0][:20]), strict=True):
        label_of = tagger.stream()
        assert [label_of(word) for word in words] == labels


@pytest.mark.parametrize("settings", [{}, {"bidirectional": False}, {"head": "softmax"}])
def test_words_that_cannot_be_tagged_as_they_come(sample, settings):
    tagger = SequenceTagger(hidden_size=4, max_epochs=1, **settings).fit(*sample)
    with pytest.raises(ValueError, match="bidirectional=False, head='softmax'"):
        tagger.stream()


def test_evaluate(fitted, sample):
    result = fitted.evaluate(*sample)
    assert result["accuracy"] == fitted.score(*sample)
    assert result["unknown"]["total"] == 0 and result["known"]["total"] == sum(map(len, sample[0]))
    assert set(result["entities"]) == {"all", "NEWSTYPE", "KEYWORDS", "PROVIDER", "SECTION"}
    result = fitted.evaluate([["news", "zzz"]], [["B-NEWSTYPE", "NEW"]])
    assert result["unknown"] == {"accuracy": 0.0, "correct": 0, "total": 1}


def test_one_sentence_takes_about_a_millisecond(fitted):
    sentence = [["show", "me", "top", "news", "about", "kenya", "from", "the", "daily", "press"]]
    fitted.predict(sentence)
    assert min(seconds_of(lambda: fitted.predict(sentence)) for _ in range(200)) < 0.005  # 0.2 ms, or on a slow machine


def test_labels_never_seen_count_as_wrong(fitted):
    assert fitted.score([["news", "news"]], [["NEW", "NEW"]]) == 0.0


# -- model files ----------------------------------------------------------------------------------------------------


def test_saves_and_loads(fitted, sample, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert type(again) is SequenceTagger and again.get_params() == fitted.get_params()
    assert again.history_ == fitted.history_ and again.classes_.tolist() == fitted.classes_.tolist()
    assert same(fitted.predict_proba(sample[0]), again.predict_proba(sample[0]))
    again.partial_fit(*sample)


def test_loading_is_silent(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["settings"].update(hidden_size=17),
        lambda header: header["settings"].update(hidden_size=10**9),
        lambda header: header["settings"].update(hidden_size="16"),
        lambda header: header["settings"].update(hidden_size=None),
        lambda header: header["settings"].pop("learning_rate"),
        lambda header: header.update(chosen=3),
        lambda header: header["settings"].update(num_layers=10**6),
        lambda header: header["settings"].update(cell="nothing"),
        lambda header: header["settings"].update(colour="red"),
        lambda header: header["settings"].update(optimizer={"@": "system"}),
        lambda header: header["settings"].update(dtype="float64"),
        lambda header: header["classes"].append("X"),
        lambda header: header["encoder"]["tokens"].append("X"),
        lambda header: header["encoder"].update(tokens=[["X"]]),
        lambda header: header["encoder"].update(kind="pickle"),
        lambda header: header["encoder"].pop("tokens"),
        lambda header: header.pop("classes"),
        lambda header: header.pop("settings"),
        lambda header: header.update(settings=[]),
        lambda header: header.update(seed="x"),
        lambda header: header.update(classes=[f"B-{i}" for i in range(10_000)]),
    ],
)
def test_parts_that_do_not_fit(fitted, tmp_path, monkeypatch, change):
    """Headers altered by someone who knows how to compute the checksum."""
    from rnncore.io import files

    header, arrays = fitted._to_model()
    header = copy.deepcopy(header)
    change(header)
    files.write_model(tmp_path / "model", "SequenceTagger", header, arrays)
    started = time.process_time()
    with pytest.raises(ModelFileError, match="do not fit together") as caught:
        load(tmp_path / "model")
    assert time.process_time() - started < 5.0
    assert "\n" not in str(caught.value)


def test_a_forged_model_with_many_labels(tmp_path):
    """The table of what may follow what is not made before it is known that there are weights for it."""
    from rnncore.io import files

    tagger = SequenceTagger(hidden_size=4, max_epochs=1, constraints="auto").fit([["a"]], [["B-X"]])
    header, arrays = tagger._to_model()
    header["classes"] = [f"{place}-{i}" for place in "BI" for i in range(5000)]
    files.write_model(tmp_path / "model", "SequenceTagger", header, arrays)
    started = time.process_time()
    with pytest.raises(ModelFileError, match="classes does not go with"):
        load(tmp_path / "model")
    assert time.process_time() - started < 5.0


def test_the_file_is_plain(fitted, tmp_path):
    """Another program reads vocabulary and settings from the one metadata key."""
    fitted.save(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])["__metadata__"]
    assert list(header) == ["rnncore"]
    assert json.loads(header["rnncore"])["settings"]["hidden_size"] == 16


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        *((cell, None) for cell in rc.CELLS),
        ("gru", {"reset": "before", "zoneout": 0.1}),
        ("lstm", {"proj_size": 5, "layer_norm": True, "peepholes": True}),
        ("jordan", {"outputs": 7, "decay": 0.3}),
        ("elman", {"clip_at": 2.0}),
    ],
    ids=str,
)
def test_any_cell_with_its_options(sample, tmp_path, cell, options):
    tagger = SequenceTagger(cell=cell, cell_options=options, hidden_size=9, max_epochs=1).fit(*sample)
    tagger.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.cell_options == options
    assert again.predict(sample[0]) == tagger.predict(sample[0])


@pytest.mark.parametrize(
    "options", [{"reset": "sideways"}, {"hidden_size": 3}, {"peepholes": True}, "reset", 3], ids=str
)
def test_bad_cell_options(sample, options):
    with pytest.raises(ValueError, match=r"reset|cell_options"):
        SequenceTagger(cell="gru", cell_options=options, max_epochs=1).fit(*sample)
