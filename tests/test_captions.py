"""`rc.CaptionModel`: sentences about vectors, classes and sequences of vectors."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.data.texts import words_of
from rnncore.io.files import ModelFileError

COLOURS, SIZES = ("red", "green", "blue"), ("small", "large")


def told(colour, size):
    """Say it in sentences of two lengths."""
    return f"a {SIZES[size]} {COLOURS[colour]} one" if size else f"{COLOURS[colour]}, {SIZES[size]}"


def vectors(n, seed=0):
    rng = np.random.default_rng(seed)
    colour, size = rng.integers(0, 3, n), rng.integers(0, 2, n)
    x = 5 + 2 * np.column_stack([np.eye(3)[colour], size]) + rng.normal(0, 0.2, (n, 4))
    return x, [told(*row) for row in zip(colour, size, strict=True)]


def sequences(n, seed=0):
    """Make signals of 3 to 8 steps: the colour is named at the first, the size at some later one."""
    rng = np.random.default_rng(seed)
    x, sentences = [], []
    for _ in range(n):
        steps, colour, size = rng.integers(3, 9), rng.integers(0, 3), rng.integers(0, 2)
        one = rng.normal(0, 0.1, (steps, 5))
        one[0, colour] += 1
        one[rng.integers(1, steps), 3 + size] += 1
        x.append(one)
        sentences.append(told(colour, size))
    return x, sentences


def model(**settings):
    usual = {"hidden_size": 24, "embedding_size": 16, "max_epochs": 12, "learning_rate": 0.02, "batch_size": 8}
    return rc.CaptionModel(**usual | settings)


@pytest.fixture(scope="module")
def fitted():
    return model().fit(*vectors(300))


@pytest.fixture(scope="module")
def attentive():
    return model(hidden_size=16, max_epochs=15).fit(*sequences(400))


# -- what it learns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["word", "char"])
@pytest.mark.parametrize("conditioning", ["state", "input", "both"])
def test_sentences_about_vectors(unit, conditioning):
    learned = model(unit=unit, conditioning=conditioning, cell="lstm" if unit == "word" else "gru").fit(*vectors(300))
    x, sentences = vectors(60, seed=1)
    assert learned.predict(x) == sentences
    assert learned.score(x, sentences) == 1.0


@pytest.mark.parametrize("conditioning", ["state", "input", "both", None])
@pytest.mark.parametrize("attention", ["general", "dot", None])
def test_sentences_about_sequences(conditioning, attention):
    settings = {"conditioning": conditioning, "attention": attention, "max_epochs": 15}
    settings |= {"bidirectional": attention != "dot"}  # which needs what is read as wide as what is written
    if attention is None and conditioning is None:
        with pytest.raises(ValueError, match="without attention the decoder is told nothing"):
            model(**settings).fit(*sequences(10))
        return
    learned = model(**settings).fit(*sequences(400))
    x, sentences = sequences(60, seed=1)
    assert learned.score(x, sentences) >= 0.95


@pytest.mark.parametrize("names", [["cat", "dog", "cow"], [7, 0, 3]])
def test_sentences_about_classes(names):
    sentences = ["it meows", "it barks at night", "moo"]
    learned = model(max_epochs=40, dropout=0.0).fit(names * 10, sentences * 10)
    assert learned.predict(names[::-1]) == sentences[::-1]
    assert learned.predict(np.array(names)) == sentences
    with pytest.raises(DataError, match=r"vectors\[1\]: 'ox' is not one of the 3 classes"):
        learned.predict([names[0], "ox"])


def test_vectors_may_come_in_any_units():
    x, sentences = vectors(40)
    units = np.array([2.0**20, 2.0**-20, 1.0, 8.0])
    one, other = model(max_epochs=2).fit(x, sentences), model(max_epochs=2).fit(x * units, sentences)
    np.testing.assert_array_equal(one.network_.theta, other.network_.theta)
    shifted = model(max_epochs=2).fit(x + 100, sentences)
    np.testing.assert_allclose(one.history_[-1]["loss"], shifted.history_[-1]["loss"], rtol=1e-3)


def test_a_number_that_never_changes_does_no_harm():
    x, sentences = vectors(200)
    assert model().fit(np.column_stack([x, np.full(200, 3.0)]), sentences).history_[-1]["loss"] < 0.1


def test_lists_frames_and_names_of_data():
    pandas = pytest.importorskip("pandas")
    x, sentences = vectors(40)
    usual = model(max_epochs=2).fit(x, sentences)
    for given in (x.tolist(), list(x), pandas.DataFrame(x), x.astype(object)):
        np.testing.assert_array_equal(model(max_epochs=2).fit(given, sentences).network_.theta, usual.network_.theta)
    named = model(max_epochs=2).fit(vectors=x, sentences=pandas.Series(sentences))
    assert named.score(vectors=x, sentences=sentences) == usual.score(x, sentences)


def test_capitals_and_spaces():
    learned = model(lowercase=True, max_epochs=40).fit([0, 1] * 10, ["Stop,  NOW!", "go on"] * 10)
    assert learned.predict([0, 1]) == ["stop, now!", "go on"]
    assert learned.score([0, 1], ["STOP, now!", "go on"]) == 1.0
    assert learned.symbols_ == ["!", ",", "go", "now", "on", "stop"]


# -- searching --------------------------------------------------------------------------------------------------------


def test_the_best_texts_have_the_probabilities_that_the_network_gives_them(fitted):
    x, _ = vectors(5, seed=2)
    found = fitted.predict_n_best(x, 4)
    task, data = fitted.specification_.task, fitted._data_of(x)
    for row, several in enumerate(found):
        assert len(several) == 4
        logs = [log for _, log in several]
        assert logs == sorted(logs, reverse=True)
        targets = task.encode([words_of(text) for text, _ in several])
        own = fitted.network_.log_probabilities(np.repeat(data.x[row : row + 1], 4, axis=0), targets).sum(axis=1)
        np.testing.assert_allclose(logs, own, rtol=1e-4, atol=1e-5)
    assert [several[0][0] for several in found] == fitted.predict(x, beam_size=4)


def test_a_beam_finds_what_is_at_least_as_probable():
    learned = model(max_epochs=1, unit="char").fit(*vectors(100))
    x, _ = vectors(30, seed=3)
    greedy = [several[0][1] for several in learned.predict_n_best(x, 1, beam_size=1)]
    wide = [several[0][1] for several in learned.predict_n_best(x, 1, beam_size=16)]
    assert np.mean(np.array(wide) >= np.array(greedy) - 1e-6) > 0.9
    assert np.mean(wide) > np.mean(greedy)


def test_larger_penalties_favour_longer_texts():
    x, _ = vectors(30, seed=3)
    learned = model(max_epochs=1, unit="char").fit(*vectors(100))
    lengths = [np.mean([len(text) for text in learned.predict(x, 8, p)]) for p in (0.0, 2.0)]
    assert lengths[0] < lengths[1]


def test_texts_are_no_longer_than_asked_for(fitted):
    x, _ = vectors(3)
    assert [len(words_of(text)) for text in fitted.predict(x, max_length=2)] == [2, 2, 2]


# -- judging ----------------------------------------------------------------------------------------------------------


def test_figures_are_those_counted_by_hand(fitted):
    x, sentences = vectors(20, seed=4)
    assert fitted.predict(x) == sentences
    wrong = list(sentences)
    wrong[0] += " too"  # one word left out
    wrong[1] = wrong[1].replace(wrong[1].split()[-1], "unheard-of")  # one word changed, never seen
    words = sum(len(words_of(text)) for text in wrong)
    measured = fitted.evaluate(x, wrong)
    assert measured["exact"] == fitted.score(x, wrong) == 0.9
    assert measured["error_rate"] == fitted.error_rate(x, wrong) == 2 / words
    assert measured["n"] == 20 and 0 < measured["nats"] < 0.2
    weights = np.r_[1.0, 0.0, np.zeros(17), 3.0]
    assert fitted.score(x, wrong, sample_weight=weights) == 0.75
    assert fitted.evaluate(x[:1], ["never heard of it"])["nats"] is None


def test_attention_looks_where_the_colour_is_told(attentive):
    x, sentences = sequences(30, seed=5)
    for source, sentence in zip(x, sentences, strict=True):
        weights, steps, words = attentive.attention_weights(source, sentence)
        assert weights.shape == (len(words), len(source)) and steps == list(range(len(source)))
        assert words == [*words_of(sentence), "end"]
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    written = attentive.attention_weights(x[0])
    again = attentive.attention_weights(x[0], attentive.predict(x[:1])[0])
    np.testing.assert_array_equal(written[0], again[0])


def test_a_vector_has_nothing_to_look_at(fitted):
    with pytest.raises(ValueError, match="this network has no attention"):
        fitted.attention_weights(vectors(1)[0][0])


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [vectors, sequences])
def test_the_same_bits_for_any_number_of_threads_and_after_saving(make, tmp_path):
    x, sentences = make(80)
    one, two = (model(n_threads=n, max_epochs=4).fit(x, sentences) for n in (1, 2))
    np.testing.assert_array_equal(one.network_.theta, two.network_.theta)
    expected = one.predict_n_best(x, 3)
    assert two.predict_n_best(x, 3) == expected
    one.save(tmp_path / "model.rnncore")
    loaded = rc.load(tmp_path / "model.rnncore")
    assert loaded.predict_n_best(x, 3) == expected
    assert pickle.loads(pickle.dumps(one)).predict_n_best(x, 3) == expected
    assert loaded.get_params() == one.get_params()
    with pytest.raises(NotFittedError):
        clone(one).predict(x)


def test_class_names_are_saved(tmp_path):
    learned = model(max_epochs=30).fit(["cat", "dog"] * 10, ["meow", "woof"] * 10)
    learned.save(tmp_path / "model.rnncore")
    assert rc.load(tmp_path / "model.rnncore").predict(["dog", "cat"]) == ["woof", "meow"]


def test_early_stopping_watches_exact_sentences():
    x, sentences = vectors(200)
    records = []
    settings = {"learning_rate": 0.05, "schedule": None, "max_epochs": 60}
    learned = model(early_stopping=True, n_iter_no_change=2, callbacks=[records.append], **settings)
    learned.fit(x, sentences)
    assert learned.stopped_ == "early" and len(records) == learned.n_epochs_ < 60
    assert max(record["val_score"] for record in records) == 1.0 and records[0]["val_loss"] > records[-1]["val_loss"]
    watched = model(n_iter_no_change=2, **settings).fit(x, sentences, validation_data=vectors(20, seed=9))
    assert watched.stopped_ == "early"
    unheard = model(max_epochs=3, n_iter_no_change=9)
    unheard.fit(x, sentences, validation_data=(x[:4], ["words never seen", *sentences[1:4]]))
    assert max(record["val_score"] for record in unheard.history_) <= 0.75


def test_a_training_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path):
    x, sentences = sequences(60)
    whole = model(max_epochs=4).fit(x, sentences)

    class Stop(rc.Callback):
        def on_batch_end(self, trainer, record):
            if record["epoch"] == 2 and record["batch"] == 3:
                raise KeyboardInterrupt

    path = tmp_path / "training.ckpt"
    with pytest.raises(KeyboardInterrupt):
        model(max_epochs=4, callbacks=[Stop()]).fit(x, sentences, checkpoint=path, checkpoint_every=0)
    resumed = model(max_epochs=4).fit(x, sentences, resume=path)
    np.testing.assert_array_equal(resumed.network_.theta, whole.network_.theta)


def test_learning_bit_by_bit_and_going_on():
    x, sentences = vectors(100)
    bit = model()
    for _ in range(12):
        bit.partial_fit(x, sentences)
    assert bit.score(x, sentences) > 0.9
    with pytest.raises(DataError, match="'purple' was not in the training data"):
        bit.partial_fit(x[:1], ["purple"])
    before = bit.network_.theta.copy()
    bit.set_params(warm_start=True, max_epochs=1).fit(x, sentences)
    assert bit.score(x, sentences) > 0.9 and (bit.network_.theta != before).any()


def test_words_of_later_data_can_be_named_beforehand():
    learned = model().partial_fit([0, 1], ["one", "two"], classes=["one", "two", "three", "four"])
    assert {"three", "four"} <= set(learned.symbols_)
    learned.partial_fit([0, 1], ["three", "four"])


def test_a_sentence_of_weight_two_counts_like_two():
    x, sentences = vectors(30)
    once = model(max_epochs=1, batch_size=64, dropout=0.0)
    several = np.r_[np.arange(30), np.arange(10)]
    once.fit(x[several], [sentences[i] for i in several])
    weighed = model(max_epochs=1, batch_size=64, dropout=0.0)
    weighed.fit(x, sentences, sample_weight=np.r_[np.full(10, 2.0), np.ones(20)])
    np.testing.assert_allclose(weighed.history_[0]["loss"], once.history_[0]["loss"], rtol=0.01)


# -- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, s: (np.where(np.arange(6)[:, None] == 3, np.nan, x), s), r"vectors\[3\] holds NaN"),
        (lambda x, s: (np.where(np.arange(6)[:, None] == 2, np.inf, x), s), r"vectors\[2\] holds NaN or infinite"),
        (lambda x, s: ([*x[:4], x[4, :3], x[5]], s), r"vectors\[4\]: expected 4 numbers, got 3"),
        (lambda x, s: (x, [*s[:5], ""]), "sentence 5 is empty"),
        (lambda x, s: (x, [*s[:5], "  "]), "sentence 5 is empty"),
        (lambda x, s: (x, [*s[:5], 7]), "sentence 5: expected a str, got int"),
        (lambda x, s: (x, [*s[:5], None]), "sentence 5: expected a str, got NoneType"),
        (lambda x, s: (x, s[:5]), "expected as many sentences as vectors, got 5 and 6"),
        (lambda x, s: ([], []), "there are no vectors"),
        (lambda x, s: ("abcdef", s), r"expected an array \(N, V\)"),
        (lambda x, s: (x[:, 0], s), r"vectors\[0\]: expected a vector \(V,\)"),
        (lambda x, s: (x[:, :0], s), r"vectors\[0\]: expected at least one number"),
        (lambda x, s: ([*"abcde", 3.5], s), r"vectors\[5\]: expected a class"),
        (lambda x, s: ([*"abcde", 3], s), "labels must be all strings or all integers"),
        (lambda x, s: ([[["a"]]] * 6, s), r"vectors\[0\]: expected numbers"),
        (lambda x, s: (x * 1e300, s), "too large to be scaled"),
        (lambda x, s: (None, s), "vectors must be"),
    ],
)
def test_data_that_cannot_be_used_are_named(change, message):
    x, sentences = vectors(6)
    learned = model(max_epochs=1)
    with pytest.raises(DataError, match=message):
        learned.fit(*change(x, sentences))
    assert not hasattr(learned, "network_")


def test_sources_unlike_those_of_training_are_named(fitted, attentive):
    x, _ = vectors(4)
    x[2, 1] = np.nan
    with pytest.raises(DataError, match=r"vectors\[2\] holds NaN"):
        fitted.predict(x)
    with pytest.raises(DataError, match=r"vectors\[0\]: expected 4 numbers, got 3"):
        fitted.predict(x[:, :3])
    with pytest.raises(DataError, match=r"expected vectors \(N, V\) as in training, got classes"):
        fitted.predict(["red"])
    with pytest.raises(DataError, match="as in training, got sequences"):
        fitted.predict(np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match=r"vectors\[1\]: its numbers are too large"):
        fitted.predict(np.array([[0.0, 0, 0, 0], [1e300, 0, 0, 0]]))
    with pytest.raises(DataError, match="vector 1 is empty"):
        attentive.predict([np.zeros((2, 5)), np.zeros((0, 5))])
    assert fitted.predict(np.zeros((0, 4))) == []
    assert attentive.predict([np.zeros((1, 5))] * 2) != []


@pytest.mark.parametrize(
    "settings",
    [
        {"unit": "syllable"},
        {"conditioning": "none"},
        {"attention": "additive"},
        {"label_smoothing": 1.0},
        {"lowercase": 1},
        {"embedding_size": 0},
        {"bidirectional": "yes"},
    ],
)
def test_settings_that_cannot_be_used(settings):
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
        model(**settings).fit(*vectors(6))


def test_searches_that_make_no_sense(fitted):
    x, _ = vectors(2)
    for options in ({"beam_size": 0}, {"length_penalty": -0.5}, {"max_length": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            fitted.predict(x, **options)
    with pytest.raises(ValueError, match="beam_size: expected at least n=3, got 2"):
        fitted.predict_n_best(x, 3, beam_size=2)


def test_files_that_are_no_caption_model(fitted, tmp_path):
    path = tmp_path / "model.rnncore"
    fitted.save(path)
    header, arrays = fitted._to_model()
    for change in (
        {"classes": []},
        {"classes": header["classes"] * 100000},
        {"source": "smells"},
        {"scale": {"mean": [0.0], "factor": [1.0]}},
        {"vector_size": 10**9},
    ):
        with pytest.raises((ValueError, ModelFileError)):
            type(fitted)._from_model(header | change, arrays)
