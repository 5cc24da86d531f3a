"""Transcriber: strings from feature vectors, decoded in all ways, kept and gone on with."""

import itertools
import pickle

import numpy as np
import pytest
from sklearn.base import clone

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.estimators._decoding import Decoder
from rnncore.estimators._frames import FramePipeline
from rnncore.estimators._language_rater import rater_for
from rnncore.estimators._writing import Writer
from rnncore.metrics import error_rate
from rnncore.nn.ctc_decoding import log_probabilities, prefix_beam_search


def features(sounds):
    return [rc.audio.log_mel(sound, rc.datasets.TONES_RATE, n_mels=16) for sound in sounds]


@pytest.fixture(scope="module")
def sample():
    sounds, strings = rc.datasets.dialled(90, shortest=1, longest=5, keys="147", noise=0.05)
    return features(sounds), strings


def quick(**settings):
    return rc.Transcriber(**{"hidden_size": 12, "num_layers": 1, "max_epochs": 12, "stack": 2, "every": 2, **settings})


@pytest.fixture(scope="module")
def fitted(sample):
    X, strings = sample
    return quick().fit(X[:70], strings[:70])


def test_it_learns_what_was_dialled(sample, fitted):
    X, strings = sample
    found = fitted.predict(X[70:])
    assert all(isinstance(string, str) for string in found) and fitted.classes_ == ["1", "4", "7"]
    assert fitted.score(X[70:], strings[70:]) == pytest.approx(1 - error_rate(strings[70:], found))
    assert fitted.score(X[70:], strings[70:]) > 0.9


def test_an_array_is_a_list_of_sequences(sample, fitted):
    X, _ = sample
    together = np.stack([x[:10] for x in X[:5]])
    assert fitted.predict(together) == fitted.predict([x[:10] for x in X[:5]])


@pytest.mark.parametrize("kind", [list, np.array, tuple])
def test_lists_of_labels_come_back_as_lists(sample, kind):
    X, strings = sample
    numbers = [kind([int(key) for key in string]) for string in strings]
    model = quick().fit(X[:70], numbers[:70])
    assert model.classes_ == [1, 4, 7]
    found = model.predict(X[70:])
    assert found == [[int(key) for key in string] for string in quick().fit(X[:70], strings[:70]).predict(X[70:])]
    assert model.predict_n_best(X[70:71], 1)[0][0][0] == model.predict(X[70:71], beam_size=16)[0]


@pytest.mark.parametrize("settings", [{}, {"stack": 1, "every": 1, "cell": "lstm", "dtype": "float64"}, {"stack": 3}])
def test_the_same_bits_for_any_threads_and_after_saving(sample, tmp_path, settings):
    X, strings = sample
    models = [quick(n_threads=n, max_epochs=3, **settings).fit(X[:40], strings[:40]) for n in (1, 2)]
    assert np.array_equal(models[0].network_.theta, models[1].network_.theta)
    models[0].save(tmp_path / "m.safetensors")
    loaded = rc.load(tmp_path / "m.safetensors")
    for other in (models[1], loaded, pickle.loads(pickle.dumps(models[0]))):
        assert other.predict(X) == models[0].predict(X)
        assert other.predict_n_best(X[:5]) == models[0].predict_n_best(X[:5])
    assert clone(loaded).get_params() == models[0].get_params() | {"n_threads": loaded.n_threads}


def test_frames_are_scaled_and_put_together():
    rng = np.random.default_rng(0)
    X = [5 + 3 * rng.standard_normal((length, 2)) for length in (7, 1, 4)]
    flat = np.concatenate(X)
    for stack, every in [(1, 1), (3, 2), (2, 3), (1, 4)]:
        pipeline = FramePipeline(stack, every, "float64")
        pipeline.fit(X)
        data = pipeline.encode(X)
        expected = []
        for x in X:
            scaled = (x - flat.mean(axis=0)) / flat.std(axis=0)
            for start in range(0, len(x), every):
                expected.append(np.concatenate([scaled[min(start + k, len(x) - 1)] for k in range(stack)]))
        np.testing.assert_allclose(data.x, expected)
        assert data.lengths.tolist() == [-(-len(x) // every) for x in X] and pipeline.input_size == 2 * stack
        again = FramePipeline(stack, every, "float64")
        again.from_json(pipeline.to_json())
        assert np.array_equal(again.encode(X).x, data.x)


def test_features_that_never_change_do_no_harm(sample):
    X, strings = sample
    wider = [np.column_stack([x, np.full(len(x), 3.0)]) for x in X[:40]]
    assert np.isfinite(quick(max_epochs=1).fit(wider, strings[:40]).network_.theta).all()


def test_early_stopping_watches_the_label_error_rate(sample):
    X, strings = sample
    model = quick(max_epochs=4).fit(X[:60], strings[:60], validation_data=(X[60:], strings[60:]))
    record = model.history_[-1]
    assert record["val_score"] == pytest.approx(1 - record["val_label_error_rate"])
    best = max(model.history_, key=lambda one: (one["val_score"], -one["val_loss"]))
    assert best["val_score"] == pytest.approx(model.score(X[60:], strings[60:]))
    likely = [
        model.network_.log_likelihood(
            model._pipeline.encode([x]).x[:, None], [["147".index(key) for key in string]], [-(-len(x) // 2)]
        )[0]
        for x, string in zip(X[60:], strings[60:], strict=True)
    ]
    assert best["val_loss"] == pytest.approx(-np.mean(likely), rel=1e-5)


def test_strings_that_cannot_be_learned_from_can_be_watched(sample):
    X, strings = sample
    watched = ([*X[60:], X[0][:1]], [*strings[60:], "17"])
    watched[1][0] = "1" + "x" + watched[1][0]
    model = quick(max_epochs=2).fit(X[:60], strings[:60], validation_data=watched)
    assert all(np.isfinite(record["val_loss"]) for record in model.history_)
    assert model.score(*watched) < 1


def test_a_string_of_weight_two_is_one_that_is_there_twice(sample):
    X, strings = sample
    rows = [0, 1, 2, 3]
    settings = {"max_epochs": 1, "batch_size": 100, "dropout": 0.0, "dtype": "float64"}
    weighed = quick(**settings).fit(X[:3], strings[:3], sample_weight=[1, 1, 2])
    twice = quick(**settings).fit([*X[:3], X[2]], [*strings[:3], strings[2]])
    scale = twice._pipeline
    weighed_again = quick(**settings)
    weighed_again.fit(X[:3], strings[:3], sample_weight=[1, 1, 2])
    assert np.array_equal(weighed.network_.theta, weighed_again.network_.theta)
    assert len(rows) == 4 and scale.input_size == weighed._pipeline.input_size
    score = weighed.score(X[:3], strings[:3], sample_weight=[1, 1, 2])
    assert score == pytest.approx(weighed.score([*X[:3], X[2]], [*strings[:3], strings[2]]))


def test_a_training_goes_on_from_a_checkpoint_with_the_same_bits(sample, tmp_path):
    X, strings = sample

    def stop(record):
        return record["epoch"] == 2

    whole = quick(max_epochs=5).fit(X[:40], strings[:40])
    path = tmp_path / "c"

    class Cut(rc.Callback):
        def on_epoch_begin(self, trainer):
            if trainer.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(max_epochs=5, callbacks=[Cut()]).fit(X[:40], strings[:40], checkpoint=path, checkpoint_every=0)
    again = quick(max_epochs=5).fit(X[:40], strings[:40], resume=path)
    assert np.array_equal(whole.network_.theta, again.network_.theta)
    assert quick(max_epochs=5, callbacks=[stop]).fit(X[:40], strings[:40]).n_epochs_ == 2


def test_partial_fit_learns_epoch_by_epoch(sample):
    X, strings = sample
    model = quick(hidden_size=8)
    losses = [
        model.partial_fit(X[:40], strings[:40], classes=["1", "4", "7", "9"]).history_[-1]["loss"] for _ in range(4)
    ]
    assert losses[-1] < losses[0] and model.classes_ == ["1", "4", "7", "9"]


def test_sequences_without_steps_say_nothing(sample, fitted):
    X, strings = sample
    nothing = np.zeros((0, 16))
    found, stamps = fitted.predict([X[0], nothing, X[1]], time_stamps=True)
    assert found == [fitted.predict(X[:1])[0], "", fitted.predict(X[1:2])[0]] and stamps[1] == []
    assert fitted.predict_n_best([nothing], 2) == [[("", 0.0)]]
    assert fitted.predict_log_proba([nothing])[0].shape == (0, 4) and fitted.predict([]) == []
    with pytest.warns(UserWarning, match="1 empty sequences were left out, the first of them number 2"):
        quick(max_epochs=1).fit([*X[:2], nothing], [*strings[:2], ""])


def test_empty_strings_are_learned_too(sample):
    X, strings = sample
    silence = [x[:2] for x in X[:20]]
    model = quick().fit([*X[:60], *silence], [*strings[:60], *[""] * 20])
    assert model.predict(silence) == [""] * 20


def test_sounds_are_heard_as_their_energies(tmp_path):
    sounds, strings = rc.datasets.dialled(40, shortest=0, longest=4, keys="147")
    options = {"sample_rate": 8000, "n_mels": 16, "hop": 0.015}
    X = [rc.audio.log_mel(sound, **options) for sound in sounds]
    sound = {"sample_rate": 8000, "sound": {"n_mels": 16, "hop": 0.015}}
    ears, eyes = (quick(max_epochs=3, every=3, stack=3, **its) for its in (sound, {}))
    ears.fit(sounds, strings), eyes.fit(X, strings)
    assert np.array_equal(ears.network_.theta, eyes.network_.theta)
    ears.save(tmp_path / "m.safetensors")
    ears = rc.load(tmp_path / "m.safetensors")
    assert ears.predict([*sounds, np.zeros(0)], time_stamps=True) == tuple(
        [*part, nothing] for part, nothing in zip(eyes.predict(X, time_stamps=True), ("", []), strict=True)
    )
    assert ears.alignment(sounds[3], "1") == eyes.alignment(X[3], "1")
    assert np.array_equal(ears.features(sounds[:1])[0], X[0])
    whole = [(sound * 32767).astype(np.int16) for sound in sounds]
    assert len(ears.predict(whole)) == 40
    with pytest.raises(DataError, match=r"sequence 1 is too short for its string: .* need 5 steps, and there are 2;"):
        quick(**sound, every=1).fit([sounds[0], sounds[1][:400]], [strings[0], "14714"])
    with pytest.raises(DataError, match=r"sequence 1: expected the samples of a sound, .* got float32 \(14, 16\)"):
        ears.predict([sounds[0], X[1][:14]])
    for wrong in ({"mels": 3}, 8000):
        with pytest.raises(ValueError, match="sound: expected None or a dict of some of n_mels, window"):
            quick(sample_rate=8000, sound=wrong).fit(sounds, strings)
    with pytest.raises(ValueError, match="sound is for sounds: give their sample_rate"):
        quick(sound={"n_mels": 3}).fit(sounds, strings)
    with pytest.raises(ValueError, match="take fewer"):
        quick(sample_rate=8000, sound={"n_mels": 300}).fit(sounds, strings)


# -- decoding ---------------------------------------------------------------------------------------------------------


def test_log_probabilities_are_those_of_the_network(sample, fitted):
    X, _ = sample
    data = fitted._pipeline.encode(X[:1])
    expected = fitted.network_.predict(data.x[:, None])[:, 0]
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X[:1])[0]), expected, rtol=1e-5, atol=1e-7)


def test_n_best_are_sums_over_paths(sample, fitted):
    X, _ = sample
    x = X[0][:8]  # four steps
    y = fitted.predict_log_proba([x])[0]
    expected = {}
    for path in itertools.product(range(4), repeat=len(y)):
        string = "".join("147"[symbol] for symbol, _ in itertools.groupby(path) if symbol < 3)
        expected[string] = expected.get(string, 0.0) + np.exp(sum(y[t, k] for t, k in enumerate(path)))
    found = fitted.predict_n_best([x], 500)[0]
    assert {string for string, _ in found} == set(expected)
    for string, score in found:
        assert score == pytest.approx(np.log(expected[string]), abs=1e-9)


def test_words_and_boosts_change_what_is_found(sample, fitted):
    X, _ = sample
    words = ["14", "7", "471", "1147"]
    assert set(fitted.predict(X[70:], words=words)) <= {*words, ""}
    plain = fitted.predict(X[70:], beam_size=16)
    wished = fitted.predict(X[70:], hot_words={"77": 30.0})
    assert sum(string.count("77") for string in wished) > sum(string.count("77") for string in plain)
    assert not any("1" in string for string in fitted.predict(X[70:], hot_words=["1"], hot_boost=-1000.0))
    longer = fitted.predict(X[70:], label_bonus=20.0)
    assert sum(map(len, longer)) > sum(map(len, plain))


SPACED = ["a", "b", " "]


@pytest.mark.parametrize("sentences", [False, True])
@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_language_model_adds_what_it_says_of_whole_strings(unit, sentences, cell):
    text = ["ab ba", "a a b", "ba ba ab", "b a", "bb ab"] * 4
    model = rc.LanguageModel(
        unit=unit, sentences=sentences, hidden_size=6, num_layers=2, cell=cell, max_epochs=3, batch_size=2
    ).fit(text if sentences else " ".join(text))
    writer, n_strings = Writer(model.network_, model._table), 0
    scores = np.random.default_rng(0).standard_normal((5, 1, 4))
    rater = rater_for(model, SPACED, 2, 0.7, 500)()
    for found in prefix_beam_search(scores, beam_size=500, n_best=500, raters=[rater])[0]:
        string = "".join(SPACED[symbol] for symbol in found.symbols)
        if unit == "word" and string != " ".join(string.split()):
            continue  # blanks that no text has
        if sentences and not string.strip():
            continue  # an empty line is no sentence
        read = [(number, p) for number, p in writer.read([string] if sentences else string)]
        if read and not sentences:
            counts = model._table.counts + 1
            read[0] = (read[0][0], counts / counts.sum())
        p = sum(float(np.log(p[number])) for number, p in read)
        assert found.score == pytest.approx(found.log_probability + 0.7 * p, abs=1e-5), string
        n_strings += 1
    assert n_strings > 20


def test_a_narrow_beam_follows_a_language_model_as_a_wide_one():
    model = rc.LanguageModel(hidden_size=8, max_epochs=3).fit("abba baba abab " * 30)
    rng = np.random.default_rng(1)
    scores = 4 * rng.standard_normal((12, 6, 4))
    decoder = Decoder(SPACED, True, " ", beam_size=8, language_model=model, lm_weight=1.0)
    wide = Decoder(SPACED, True, " ", beam_size=400, language_model=model, lm_weight=1.0)
    lengths = np.full(6, 12)
    narrow, best = ([found[0] for found in one.found(scores, lengths)] for one in (decoder, wide))
    assert all(one.score <= other.score + 1e-9 for one, other in zip(narrow, best, strict=True))
    assert sum(one.symbols.tolist() == other.symbols.tolist() for one, other in zip(narrow, best, strict=True)) >= 4


def test_a_language_model_decides_where_sounds_do_not(sample, fitted):
    X, _ = sample
    model = rc.LanguageModel(hidden_size=8, max_epochs=8).fit("1471471471" * 40)
    judged = fitted.predict(X[70:], language_model=model, lm_weight=3.0)
    assert sum(string in "147" * 5 for string in judged) > sum(string in "147" * 5 for string in fitted.predict(X[70:]))


def test_words_labels_meet_a_model_of_words(sample):
    X, strings = sample
    names = {"1": "one", "4": "four", "7": "seven"}
    spoken = [[names[key] for key in string] for string in strings]
    model = quick(max_epochs=3).fit(X[:60], spoken[:60])
    judge = rc.LanguageModel(unit="word", sentences=True, hidden_size=6, max_epochs=2).fit(
        [" ".join(words) for words in spoken]
    )
    assert model.predict(X[60:62], language_model=judge) and model.predict(X[60:62], words=[["one"], ["four", "one"]])
    with pytest.raises(ValueError, match=r"language_model: its symbols \(char\) are none of these labels"):
        model.predict(X[:1], language_model=rc.LanguageModel(hidden_size=4, max_epochs=1).fit("one four seven" * 9))


def test_time_stamps_follow_what_was_dialled(fitted):
    single, keys = rc.datasets.dialled(60, shortest=1, longest=1, keys="147", noise=0.05, random_state=5)
    groups = [slice(start, start + 3) for start in range(0, 60, 3)]
    X = features([np.concatenate(single[some]) for some in groups])
    strings = ["".join(keys[some]) for some in groups]
    found, stamps = fitted.predict(X, time_stamps=True)
    for x, string, spans in zip(X, found, stamps, strict=True):
        assert "".join(span.symbol for span in spans) == string
        assert fitted.alignment(x) == spans
        for one, other in itertools.pairwise(spans):
            assert one.start < one.end <= other.start
        assert all(0 <= span.start < span.end <= len(x) and 0 < span.probability <= 1 for span in spans)
    for x, string, some in zip(X, strings, groups, strict=True):
        spans = fitted.alignment(x, string)
        assert [span.symbol for span in spans] == list(string)
        ends = np.cumsum([len(sound) for sound in single[some]]) / 80  # in steps
        for span, start, end in zip(spans, [0, *ends[:-1]], ends, strict=True):
            assert start - 4 <= span.start and span.end <= end + 4


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_a_string_too_long_for_its_sequence_is_named(sample):
    X, strings = sample
    short = [*X[:3], X[3][:5]]
    with pytest.raises(
        DataError,
        match=r"sequence 3 is too short for its string: 3 labels, 1 of them the same as the one before, need 4 steps, "
        r"and there are 5 steps, of which the network reads 3 \(every=2\)",
    ):
        quick().fit(short, [*strings[:3], "114"])
    quick(max_epochs=1).fit(short, [*strings[:3], "114"], sample_weight=[1, 1, 1, 0])
    quick(max_epochs=1, every=1).fit(short, [*strings[:3], "114"])


def test_bad_input_is_named(sample, fitted):
    X, strings = sample
    for y, message in [
        (strings[:2], "as many strings as sequences, got 3 and 2"),
        ([*strings[:2], 7], "string 2: expected a str or a list of labels, got int"),
        ([*strings[:2], ["1"]], "all str or all lists of labels; string 2 is unlike string 0"),
        (["", "", ""], "all strings are empty"),
    ]:
        with pytest.raises(DataError, match=message):
            quick().fit(X[:3], y)
    with pytest.raises(DataError, match=r"sequence 1: expected a \(T, 16\) array, got shape \(3, 4\)"):
        fitted.predict([X[0], np.zeros((3, 4))])
    with pytest.raises(DataError, match="sequence 0 holds NaN"):
        fitted.predict([np.full((3, 16), np.nan)])
    with pytest.raises(DataError, match=r"sequence 0: expected a \(T, D\) array of features"):
        quick().fit([["a", "b"]], ["1"])
    with pytest.raises(DataError, match="words: '12' has the label '2', which was not in the training data"):
        fitted.predict(X[:1], words=["12"])
    with pytest.raises(DataError, match="hot_words: '' is empty"):
        fitted.predict(X[:1], hot_words=[""])
    with pytest.raises(ValueError, match="word_bonus needs words: the labels have no separator ' '"):
        fitted.predict(X[:1], word_bonus=1.0)
    with pytest.raises(DataError, match="label 'x' was not in the training data"):
        fitted.alignment(X[0], "x1")
    with pytest.raises(DataError, match="'1111' cannot be said in this sequence: 4 symbols need 7 steps"):
        fitted.alignment(X[0][:10], "1111")
    with pytest.raises(DataError, match="expected str, as in training, got lists of labels"):
        fitted.score(X[:1], [["1"]])
    for settings, message in [
        ({"every": 0}, "every"),
        ({"embedding_size": 4}, "embedding_size is not for strings"),
    ]:
        with pytest.raises(ValueError, match=message):
            quick(**settings).fit(X[:3], strings[:3])
    with pytest.raises(ValueError, match="beam_size"):
        fitted.predict(X[:1], beam_size=0)
    for name in ("words", "hot_words"):
        with pytest.raises(TypeError, match=f"{name}: expected a list of words, got the str '14'"):
            fitted.predict(X[:1], **{name: "14"})
    with pytest.raises(TypeError, match=r"language_model: expected a fitted rnncore\.LanguageModel, got str"):
        fitted.predict(X[:1], language_model="lm.safetensors")
    with pytest.raises(TypeError, match="separator: expected a label or None"):
        quick(separator=[" "]).fit(X[:3], strings[:3])
    with pytest.raises(DataError, match="for sounds, say how many samples a second has, sample_rate"):
        quick().fit([np.zeros(500)], ["1"])


def test_damaged_weights_are_told(sample, fitted):
    X, _ = sample
    broken = pickle.loads(pickle.dumps(fitted))
    broken.network_.theta[:] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        broken.predict(X[:1])


def test_scores_of_any_origin_are_decoded_by_a_decoder():
    scores = np.random.default_rng(2).standard_normal((6, 2, 4))
    best = Decoder(["a", "b", " "], True, " ")
    assert best.is_best_path
    wide = Decoder(["a", "b", " "], True, " ", beam_size=300)
    y = log_probabilities(scores)
    lengths = np.array([6, 4])
    for one, other in zip(wide.found(scores, lengths), wide.found(y, lengths), strict=True):
        assert one[0].symbols.tolist() == other[0].symbols.tolist()
        assert one[0].score == pytest.approx(other[0].score, abs=1e-12)
