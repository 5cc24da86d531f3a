"""`rc.LanguageModel`: what it learns from, how it judges, and what it writes."""

import math
import pickle
import signal
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.data.symbols import SymbolTable
from rnncore.data.texts import joined_words, words_of
from rnncore.estimators._choice import Choice
from rnncore.estimators.presets import LANGUAGE_MODELS
from rnncore.io.files import ModelFileError

ABC = "abc" * 60
LINES = "anna sees otto.\notto sees anna.\nanna and otto see.\n" * 6


def model(**settings):
    return rc.LanguageModel(**{"hidden_size": 12, "max_epochs": 3, "seq_length": 8, **settings})


@pytest.fixture(scope="module")
def letters():
    return model(max_epochs=25, dropout=0.0).fit(ABC)


@pytest.fixture(scope="module")
def names():
    return model(sentences=True, max_epochs=20, hidden_size=24).fit("anna\notto\nemma\n" * 20)


# -- symbols ----------------------------------------------------------------------------------------------------------


def test_characters_are_those_of_unicode():
    table = SymbolTable("char").fit("naïve 🙂 naïve")
    assert "🙂" in table.symbols and table.symbols == sorted(table.symbols)
    ids = table.encode("🙂ï").part(0, 2)
    assert table.decode(ids) == "🙂ï"
    with pytest.raises(DataError, match="'z' is not among the 7 of the training text"):
        table.encode("z")


def test_rare_characters_are_unknown_where_asked_for():
    table = SymbolTable("char", min_count=2).fit("aabbc")
    assert table.symbols == ["<unknown>", "a", "b"] and table.counts.tolist() == [1, 2, 2]
    assert table.encode("abz").part(0, 3).tolist() == [1, 2, 0]


def test_vocabulary_size_counts_what_is_special():
    text = "the cat the dog the end\nthe cat"
    table = SymbolTable("word", vocabulary_size=6, sentences=True).fit(text)
    assert table.symbols == ["<unknown>", "<start>", "<end>", "the", "cat", "dog"]
    assert table.counts.tolist() == [1, 2, 2, 4, 2, 1]
    with pytest.raises(DataError, match="leaves no room"):
        SymbolTable("word", vocabulary_size=3, sentences=True).fit(text)


def test_a_word_that_is_called_unknown_is():
    table = SymbolTable("word").fit("a <unknown> a")
    assert table.symbols == ["<unknown>", "a"]
    assert table.encode("<unknown> b a").part(0, 3).tolist() == [0, 0, 1]


def test_words_are_divided_and_joined():
    text = "To be, or (not) to be: that's <unk>!"
    assert joined_words(words_of(text)) == text


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
@pytest.mark.parametrize("sentences", [False, True])
def test_encoding_and_decoding_are_inverse(unit, sentences):
    table = SymbolTable(unit, sentences=sentences).fit(LINES)
    if sentences:
        found = "".join(table.decode(ids[1:]) for ids in table.encode_sentences(LINES))
    else:
        found = table.decode(table.encode(LINES).part(0, 10**6))
    assert found == LINES


def test_symbols_survive_a_model_file_and_forged_ones_do_not():
    table = SymbolTable("byte", sentences=True).fit(b"ab\nc\n")
    assert SymbolTable("byte", sentences=True).from_json(table.to_json()).symbols == table.symbols
    for symbols in (["a"], [300], [1, 1], [], [1.5]):
        with pytest.raises(ValueError):
            SymbolTable("byte").from_json({"symbols": symbols, "counts": [1] * len(symbols)})
    for options, symbols, counts in (
        ({"unit": "char", "sentences": True}, ["a"], [1]),
        ({"unit": "word"}, ["a"], [1]),
        ({"unit": "id"}, [0, 2], [1, 1]),
        ({"unit": "char"}, ["a"], [[1]]),
        ({"unit": "char"}, ["a"], [-1]),
        ({"unit": "char"}, ["a"], [2**63]),
    ):
        with pytest.raises(ValueError):
            SymbolTable(**options).from_json({"symbols": symbols, "counts": counts})


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_is_the_loop_one_would_write():
    ids = np.random.default_rng(0).integers(0, 5, 203)
    stream = rc.Stream(ids, rows=4, steps=11)
    assert stream.columns == 50 and stream.n_batches == 5 and stream.n_steps == 200
    nets = [rc.Network(rc.Recurrent("gru", 5, 6, random_state=2), head=rc.Softmax(5)) for _ in range(2)]
    trainer = rc.Trainer(nets[0], rc.SGD(0.5), stream, max_epochs=2).run()
    losses, optimizer = [], rc.SGD(0.5)
    for _ in range(2):
        state, total = None, 0.0
        for start in range(0, 50, 11):
            steps = min(11, 50 - start)
            x = np.stack([ids[b * 50 + start : b * 50 + start + steps] for b in range(4)], axis=1)
            y = np.stack([ids[b * 50 + start + 1 : b * 50 + start + steps + 1] for b in range(4)], axis=1)
            total += nets[1].train_step(x, y, optimizer, state=state) * steps * 4
            state = nets[1].state
        losses.append(total / 200)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    np.testing.assert_allclose([record["loss"] for record in trainer.history], losses, rtol=1e-12)


def test_interleaved_parts_are_char_rnns():
    """Cut to whole chunks; y is x shifted, the first symbol at its end; the first 95 % of the chunks are trained on."""
    rows, steps = 3, 4
    ids = np.arange(rows * steps * 10 + 7)
    train, valid = rc.Stream.interleaved(ids, rows, steps, 0.25)
    whole = ids[: rows * steps * 10]
    x, y = whole.reshape(rows, -1), np.roll(whole, -1).reshape(rows, -1)
    assert (train.n_batches, valid.n_batches) == (7, 3)
    for number, batch in enumerate([*train, *valid]):
        columns = slice(number * steps, (number + 1) * steps)
        np.testing.assert_array_equal(batch.x, x[:, columns].T)
        np.testing.assert_array_equal(batch.targets, y[:, columns].T)


def test_tiny_shakespeare_has_the_batches_of_char_rnn():
    train, valid = rc.Stream.interleaved(np.zeros(1_115_394, dtype=np.uint8), 50, 50)
    assert (train.n_batches, valid.n_batches) == (423, 23)


def test_a_mapped_file_is_read_chunk_by_chunk(tmp_path):
    ids = np.random.default_rng(1).integers(0, 7, 500).astype(np.uint16)
    np.save(tmp_path / "ids.npy", ids)
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    for one, other in zip(rc.Stream(mapped, 3, 20), rc.Stream(ids, 3, 20), strict=True):
        np.testing.assert_array_equal(one.x, other.x)
    fitted = [model(unit="id").fit(text) for text in (tmp_path / "ids.npy", ids, ids.tolist())]
    for other in fitted[1:]:
        np.testing.assert_array_equal(fitted[0].network_.theta, other.network_.theta)
    (tmp_path / "text").write_bytes(LINES.encode())
    one, other = (model(unit="byte").fit(text) for text in (tmp_path / "text", LINES))
    np.testing.assert_array_equal(one.network_.theta, other.network_.theta)


@pytest.mark.parametrize("unit", ["id", "byte"])
def test_a_large_file_takes_little_memory(tmp_path, unit):
    n = 30_000_000
    numbers = np.tile(np.arange(250, dtype=np.uint8), n // 250)
    if unit == "id":
        np.save(tmp_path / "large.npy", numbers.astype(np.uint16))
    else:
        numbers.tofile(tmp_path / "large.npy")
    del numbers
    tracemalloc.start()
    try:
        table = SymbolTable(unit).fit(tmp_path / "large.npy")
        ids, lookup = table.encode(tmp_path / "large.npy")
        train, valid = rc.Stream.interleaved(ids, 50, 50, lookup=lookup)
        batches = [next(iter(train)), next(iter(valid))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(table) == 250 and table.counts.sum() == n and batches[0].x.shape == (50, 50)
    assert peak < n / 2  # bytes: neither the file nor its numbers, of which each would take at least 30 MB


def test_bad_streams():
    for bad in ([1], np.zeros((2, 2), int), [0.5, 1.0], []):
        with pytest.raises(ValueError):
            rc.Stream(bad)
    with pytest.raises(ValueError, match="at least two chunks"):
        rc.Stream.interleaved(np.arange(40), 5, 5)
    network = rc.Network(rc.Recurrent("elman", 3, 2), head=rc.Softmax(3), batch_first=True)
    with pytest.raises(ValueError, match="time first"):
        rc.Trainer(network, rc.SGD(0.1), rc.Stream([0, 1, 2]))


def test_reduction_by_sequence_is_the_mean_times_the_length():
    ids = np.random.default_rng(0).integers(0, 4, 61)
    nets = [rc.Network(rc.Recurrent("elman", 4, 5, random_state=0), head=rc.Softmax(4)) for _ in range(2)]
    runs = [
        rc.Trainer(net, rc.SGD(rate), rc.Stream(ids, 3, 10), max_epochs=2, reduction=reduction).run()
        for net, rate, reduction in zip(nets, (1.0, 0.1), ("mean", "sequence"), strict=True)
    ]
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-4, atol=1e-6)
    losses = [[record["loss"] for record in run.history] for run in runs]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


# -- learning and judging ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_the_score_is_the_mean_log_probability_of_each_next_symbol(unit):
    fitted = model(unit=unit, hidden_size=16).fit(LINES)
    table = fitted._table
    ids = table.encode(LINES[:60]).part(0, 100)
    p = fitted.network_.predict(ids[:-1, None])[:, 0]
    expected = np.log(p[np.arange(len(ids) - 1), ids[1:]].astype(float)).mean()
    assert fitted.score(LINES[:60]) == pytest.approx(expected, abs=1e-6)
    assert fitted.perplexity(LINES[:60]) == pytest.approx(math.exp(-expected), rel=1e-5)


def test_the_score_of_sentences_counts_their_ends(names):
    total, n = 0.0, 0
    for name in ("anna", "emma"):
        ids = names._table.encode_sentences(name)[0]
        p = names.network_.predict(ids[:-1, None].astype(int))[:, 0]
        total += np.log(p[np.arange(len(ids) - 1), ids[1:]].astype(float)).sum()
        n += len(ids) - 1
    assert n == 10
    assert names.score("anna\nemma") == pytest.approx(total / n, abs=1e-6)


def test_a_chunk_does_not_matter_to_the_score(letters, monkeypatch):
    whole = letters.score(ABC)
    monkeypatch.setattr("rnncore.estimators._text._SCORES_AT_ONCE", 7)
    assert letters.score(ABC) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("how", ["tail", "interleaved"])
@pytest.mark.parametrize("sentences", [False, True])
def test_a_part_is_set_apart_and_watched(how, sentences):
    text = LINES * 4
    fitted = model(validation=how, validation_fraction=0.2, sentences=sentences, batch_size=2).fit(text)
    assert all(0 < record["val_loss"] < 4 for record in fitted.history_) and fitted.n_epochs_ == 3
    if how == "tail" and not sentences:
        n = round(0.2 * len(text))
        rows = rc.Stream(fitted._table.encode(text[-n:]).ids, 2, 8)
        losses = []
        state = None
        for batch in rows:
            p, state = fitted.network_.predict(batch.x, state=state, return_state=True)
            losses.append(-np.log(np.take_along_axis(p, batch.targets[..., None], -1).astype(float)).ravel())
        assert fitted.history_[-1]["val_loss"] == pytest.approx(np.concatenate(losses).mean(), abs=1e-5)


def test_early_stopping_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    noise = "".join(rng.choice(list("abcd"), 600))
    stopped = model(early_stopping=True, max_epochs=50, n_iter_no_change=2, hidden_size=40, dropout=0.0).fit(noise)
    assert stopped.stopped_ == "early" and stopped.n_epochs_ < 50
    best = min(record["val_loss"] for record in stopped.history_)
    assert stopped.history_[-1]["val_loss"] > best
    given = model(max_epochs=50, n_iter_no_change=2, hidden_size=40, dropout=0.0).fit(noise, validation_data=noise[:99])
    assert given.stopped_ == "early" or given.n_epochs_ == 50


@pytest.mark.parametrize("settings", [{}, {"sentences": True}, {"unit": "word", "embedding_size": 5}])
def test_a_training_that_was_cut_off_goes_on_with_the_same_bits(tmp_path, settings):
    settings = {"max_epochs": 4, "validation": "tail", "recurrent_dropout": 0.1, **settings}
    whole = model(**settings).fit(LINES)

    class Interrupt(rc.Callback):
        n = 0

        def on_batch_end(self, trainer, record):
            self.n += 1
            if self.n == 7:
                signal.raise_signal(signal.SIGINT)

    path = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        model(callbacks=[Interrupt()], **settings).fit(LINES, checkpoint=path)
    resumed = model(**settings).fit(LINES, resume=path)
    np.testing.assert_array_equal(resumed.network_.theta, whole.network_.theta)
    assert [record["val_loss"] for record in resumed.history_] == [record["val_loss"] for record in whole.history_]
    for other in (LINES[:-16] + LINES[-32:-16], LINES[16:32] + LINES[16:]):
        with pytest.raises(DataError, match=r"other data|validation data"):
            model(**settings).fit(other, resume=path)
    with pytest.raises(DataError, match="other"):
        model(**settings).fit(LINES, validation_data=LINES[:50], resume=path)


def test_scikit_learn_searches_over_sentences():
    lines = LINES.split("\n")[:-1]
    assert (cross_val_score(model(sentences=True), lines, cv=3) < 0).all()
    search = GridSearchCV(model(sentences=True), {"hidden_size": [2, 8]}, cv=2).fit(lines)
    assert isinstance(search.best_estimator_.generate(5, random_state=0), str)


def test_partial_fit_and_warm_start_go_on():
    fitted = model(max_epochs=1).fit(ABC)
    first = -fitted.score(ABC)
    for _ in range(3):
        fitted.partial_fit(ABC)
    assert -fitted.score(ABC) < first and fitted.n_epochs_ == 4
    with pytest.raises(DataError, match="'z' is not among"):
        fitted.partial_fit("zzz")
    warm = model(max_epochs=1, warm_start=True).fit(ABC)
    theta = warm.network_.theta.copy()
    assert warm.fit(ABC).n_epochs_ == 2 and not np.array_equal(theta, warm.network_.theta)


@pytest.mark.parametrize("settings", [{}, {"sentences": True}, {"unit": "byte"}, {"unit": "word"}])
def test_saved_pickled_and_loaded_models_are_the_same(tmp_path, settings):
    fitted = model(**settings).fit(LINES)
    fitted.save(tmp_path / "m.safetensors")
    for other in (rc.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(fitted))):
        assert other.generate(40, random_state=3) == fitted.generate(40, random_state=3)
        assert other.score(LINES) == fitted.score(LINES)
        assert other.history_ == fitted.history_ and other.symbols_ == fitted.symbols_
    assert clone(fitted).get_params() == fitted.get_params()


def test_a_forged_file_is_refused(tmp_path):
    fitted = model().fit(ABC)
    header, arrays = fitted._to_model()
    header["symbols"] = header["symbols"][:-1]
    rc.io.files.write_model(tmp_path / "m", "LanguageModel", header, arrays)
    with pytest.raises(ModelFileError):
        rc.load(tmp_path / "m")


def test_the_same_bits_for_any_number_of_threads():
    fitted = [model(n_threads=n, hidden_size=40, batch_size=8).fit(LINES) for n in (1, 2, 3)]
    for other in fitted[1:]:
        np.testing.assert_array_equal(fitted[0].network_.theta, other.network_.theta)
        assert other.generate(50, random_state=0) == fitted[0].generate(50, random_state=0)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_presets_train(name):
    fitted = rc.LanguageModel.preset(name, max_epochs=1, hidden_size=8).fit(LINES)
    assert math.isfinite(fitted.score(LINES))
    assert isinstance(fitted.generate(5, random_state=0), str)


def test_first_weights_of_the_presets():
    net = rc.LanguageModel.preset("char-rnn", max_epochs=1, frozen=("*",)).fit(LINES).network_
    H = 128
    for name, array in net.params.items():
        free = np.delete(array, slice(H, 2 * H)) if name.endswith("b_h") else array
        assert 0.06 < np.abs(free).max() <= 0.08, name
    assert (net.params["layers.0.fwd.b_h"][H : 2 * H] == 1).all()
    net = rc.LanguageModel.preset("wildml", max_epochs=1).fit(LINES).network_
    assert not net.params["layers.0.fwd.b_h"].any() and not net.params["head.b_y"].any()
    V = net.params["head.b_y"].size
    assert np.abs(net.params["layers.0.fwd.W_xh"]).max() <= 1 / np.sqrt(V) + 0.05
    net = rc.LanguageModel.preset("min-char-rnn", max_epochs=1, frozen=("*",)).fit(LINES).network_
    assert net.params["layers.0.fwd.W_hh"].std() == pytest.approx(0.01, rel=0.05)


def test_parameter_counts_of_char_rnn():
    text = "".join(map(chr, range(32, 97))) * 90  # 65 symbols
    net = rc.LanguageModel.preset("char-rnn", max_epochs=1).fit(text).network_
    assert net.theta.size == 240_321 - 4 * 128 * 2  # char-rnn has two bias vectors to a layer


@pytest.mark.parametrize("sentences", [False, True])
def test_an_adaptive_softmax(tmp_path, sentences):
    words = [f"w{int(number)}" for number in np.random.default_rng(0).zipf(1.5, 3000) if number < 400]
    text = "\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12))
    settings = {"unit": "word", "embedding_size": 12, "sentences": sentences, "validation": "tail", "max_epochs": 4}
    exact, adaptive = (model(softmax=kind, **settings).fit(text) for kind in ("exact", "adaptive"))
    assert "head.tails.0.W" in adaptive.network_.params and "head.tails.0.W" not in exact.network_.params
    assert adaptive.history_[-1]["val_loss"] == pytest.approx(exact.history_[-1]["val_loss"], rel=0.1)
    counts = adaptive._table.counts[3 if sentences else 1 :]
    assert (np.diff(counts) <= 0).all()
    adaptive.save(tmp_path / "m")
    other = rc.load(tmp_path / "m")
    assert other.score(text) == adaptive.score(text)
    assert other.generate(20, random_state=0) == adaptive.generate(20, random_state=0)
    assert sum(p for _, p in adaptive.next_symbols("w1 w2", 10**6)) == pytest.approx(1, abs=1e-5)
    given = model(softmax="adaptive", cutoffs=[5, 30], **settings).fit(text)
    assert given.network_.head.cutoffs == (5, 30)


def test_a_sampled_softmax(tmp_path):
    words = [f"w{int(number)}" for number in np.random.default_rng(0).zipf(1.5, 3000) if number < 400]
    settings = {"unit": "word", "embedding_size": 12, "validation": "tail", "max_epochs": 5}
    exact, sampled = (model(softmax=s, samples=60, **settings).fit(" ".join(words)) for s in ("exact", "sampled"))
    assert sampled.network_.params["head.W_yh"].shape == (len(sampled.symbols_), 12)
    assert sampled.history_[-1]["val_loss"] == pytest.approx(exact.history_[-1]["val_loss"], rel=0.1)
    sampled.save(tmp_path / "m")
    assert rc.load(tmp_path / "m").generate(20, random_state=0) == sampled.generate(20, random_state=0)


def test_tied_vectors(tmp_path):
    settings = {"hidden_size": 12, "embedding_size": 12, "validation": "tail", "max_epochs": 8}
    tied = model(tied=True, **settings).fit(LINES)
    assert set(tied.network_.params) & {"head.W_hy"} == set()
    assert tied.history_[-1]["val_loss"] < tied.history_[0]["val_loss"] < 3
    tied.save(tmp_path / "m")
    assert rc.load(tmp_path / "m").generate(30, random_state=1) == tied.generate(30, random_state=1)
    with pytest.raises(ValueError, match="12"):
        model(tied=True, **settings | {"hidden_size": 10}).fit(LINES)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_writing_is_what_predictions_say(letters):
    """Symbol by symbol through a session: the same as a full forward pass over all that was written before."""
    rng, text = np.random.default_rng(7), "ab"
    choice = Choice(0.8)
    for _ in range(30):
        ids = letters._table.encode(text).part(0, 100)
        text += letters.symbols_[choice(letters.network_.predict(ids[:, None])[-1, 0], rng)]
    assert letters.generate(30, prime="ab", temperature=0.8, random_state=7) == text[2:]


def test_generators_yield_the_same_text(letters):
    text = letters.generate(20, prime="b", random_state=5)
    letters_one_by_one = letters.iter_generate(prime="b", random_state=5)
    assert "".join(next(letters_one_by_one) for _ in range(20)) == text
    assert len(text) == 20 and letters.generate(0) == ""


def test_temperature_zero_takes_the_most_probable(letters):
    assert letters.generate(9, prime="a", temperature=0) == "bcabcabca"
    assert letters.generate(9, prime="a", top_k=1) == "bcabcabca"
    assert letters.generate(9, prime="a", top_p=1e-9) == "bcabcabca"
    assert letters.generate(9, prime="ab", stop="ca") == "ca"


@pytest.mark.parametrize("temperature", [1e-300, 1e300, 0.5, 2])
def test_extreme_temperatures(temperature):
    w = Choice(temperature).weights(np.array([0.1, 0.2, 0.7], dtype="f4"))
    assert np.isfinite(w).all() and w[2] == w.max() > 0


def test_choices_have_the_frequencies_that_are_asked_for():
    p = np.array([0.05, 0.15, 0.3, 0.5])
    for options, expected in (
        ({}, p),
        ({"temperature": 0.5}, p**2 / (p**2).sum()),
        ({"top_k": 2}, [0, 0, 0.375, 0.625]),
        ({"top_p": 0.8}, [0, 0, 0.375, 0.625]),
        ({"top_p": 0.81}, np.array([0, 0.15, 0.3, 0.5]) / 0.95),
        ({"forbidden": [3]}, [0.1, 0.3, 0.6, 0]),
    ):
        rng, choice = np.random.default_rng(0), Choice(**options)
        found = np.bincount([choice(p, rng) for _ in range(20_000)], minlength=4) / 20_000
        np.testing.assert_allclose(found, expected, atol=0.015)


def test_nothing_impossible_is_drawn():
    class Last:
        def random(self):
            return np.nextafter(1.0, 0.0)

    assert Choice()(np.array([0.0, 1.0, 0.0]), Last()) == 1
    assert Choice(forbidden=[0])(np.array([1.0, 0.0]), np.random.default_rng(0)) == 1


def test_unknown_words_are_not_written_unless_asked_for():
    text = " ".join([f"rare{i} common" for i in range(60)])
    fitted = model(unit="word", min_count=2, max_epochs=10).fit(text)
    assert set(fitted.generate(60, random_state=0).split()) == {"common"}
    assert "<unknown>" in fitted.generate(60, random_state=0, allow_unknown=True)
    assert fitted.next_symbols("common", 1)[0][0] == "<unknown>"


def test_sentences_begin_and_end(names):
    text = names.generate(200, temperature=0.5, random_state=0)
    assert set(text.split("\n")[:-1]) <= {"anna", "otto", "emma"} and "<start>" not in text
    assert names.generate(50, prime="ot", temperature=0, stop="\n") == "to\n"
    assert names.next_symbols("ann", 1)[0][0] == "a"


def test_beam_search_finds_what_greed_misses(names):
    best = names.beam_search(6, beam_size=6, n_best=3)
    assert {text for text, _ in best} == {"anna\n", "otto\n", "emma\n"}
    scores = [score for _, score in best]
    assert scores == sorted(scores, reverse=True)
    for text, score in best:
        assert names.score(text) * len(text) == pytest.approx(score, abs=1e-4)


def test_a_wide_beam_finds_the_most_probable_of_all_texts(letters):
    every = {}
    for a in "abc":
        for b in "abc":
            for c in "abc":
                ids = letters._table.encode("a" + a + b + c).part(0, 4)
                p = letters.network_.predict(ids[:-1, None])[:, 0]
                every[a + b + c] = float(np.log(p[np.arange(3), ids[1:]].astype(float)).sum())
    found = letters.beam_search(3, "a", beam_size=27, n_best=27)
    assert [text for text, _ in found] == sorted(every, key=every.get, reverse=True)
    np.testing.assert_allclose([score for _, score in found], sorted(every.values(), reverse=True), atol=1e-4)


def test_next_symbols_are_the_networks_probabilities(letters):
    found = letters.next_symbols("ab", 10)
    assert found[0][0] == "c" and len(found) == 3
    assert sum(p for _, p in found) == pytest.approx(1, abs=1e-6)
    assert dict(letters.next_symbols("", 3)) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_bytes_may_be_anything():
    data = bytes(range(256)) * 4
    fitted = model(unit="byte").fit(data)
    assert len(fitted.symbols_) == 256 and isinstance(fitted.generate(10, prime=b"\xff\x00"), bytes)
    assert type(next(fitted.iter_generate(3, prime=b"\x00"))) is bytes


def test_ids_come_back_as_numbers():
    fitted = model(unit="id", max_epochs=25).fit([0, 1, 2] * 60)
    assert fitted.generate(4, prime=[0], temperature=0) == [1, 2, 0, 1]
    several = model(unit="id", sentences=True, vocabulary_size=9).fit([[1, 2], [3], [4, 5, 6]] * 5)
    assert len(several.symbols_) == 11 and all(isinstance(i, int) for i in several.generate(5, random_state=0))


def test_callbacks_are_not_part_of_a_model_file(tmp_path):
    for fitted in (model(callbacks=[lambda record: None]).fit(ABC), rc.SequenceTagger(callbacks=[print], max_epochs=1)):
        if isinstance(fitted, rc.SequenceTagger):
            fitted.fit([["a"]], [["b"]])
        fitted.save(tmp_path / "m")
        assert rc.load(tmp_path / "m").callbacks is None


def test_a_fit_that_fails_leaves_what_was_there():
    fitted = model().fit(ABC)
    text, history = fitted.generate(20, random_state=0), fitted.history_
    with pytest.raises(ValueError, match=r"sdlm|SDLM"):
        fitted.set_params(optimizer="sdlm").fit(ABC)
    assert fitted.generate(20, random_state=0) == text and fitted.history_ == history
    new = model(optimizer="sdlm")
    for learn in (new.fit, new.partial_fit):
        with pytest.raises(ValueError):
            learn(ABC)
        assert not hasattr(new, "network_")
    tagger = rc.SequenceTagger(cell="lstm", optimizer="sdlm", max_epochs=1)
    for learn in (tagger.fit, tagger.partial_fit):
        with pytest.raises(ValueError):
            learn([["a"]], [["b"]])
        assert not hasattr(tagger, "network_")


def test_dropout_goes_on_after_pickling():
    fitted = model(dropout=0.5).partial_fit(ABC)
    other = pickle.loads(pickle.dumps(fitted))
    for one in (fitted, other):
        one.partial_fit(ABC)
    np.testing.assert_array_equal(fitted.network_.theta, other.network_.theta)


def test_weights_that_are_no_numbers_do_not_write():
    fitted = model().fit(ABC)
    fitted.network_.theta[:] = np.nan
    for ask in (lambda: fitted.generate(3), lambda: fitted.generate(3, temperature=0), lambda: fitted.score(ABC)):
        with pytest.raises(ValueError, match="not finite"):
            ask()


def test_texts_that_can_be_read_once(tmp_path):
    lines = LINES.split("\n")[:-1]
    expected = model(sentences=True).fit(lines)
    assert model(sentences=True).fit(line for line in lines).score(lines) == expected.score(lines)
    (tmp_path / "t.txt").write_text(LINES)
    whole = model().fit(LINES).score(LINES)
    with open(tmp_path / "t.txt") as file:
        assert model().fit(file).score(LINES) == whole
    with open(tmp_path / "t.txt", "rb") as file:
        assert model().fit(file).score(LINES) == whole
    with pytest.warns(UserWarning, match="pathlib"):
        model().fit(str(tmp_path / "t.txt"))


def test_marks_belong_to_their_letters():
    for text in ("नमस्ते हिन्दी", "cafe\u0301 noir", "مَرْحَبًا", "👩‍🚀 ok"):
        assert words_of(text) == text.split(" ")


def test_vocabulary_size_holds_with_min_count():
    assert len(SymbolTable("char", vocabulary_size=4, min_count=2).fit("aabbccddxyz").symbols) == 4
    assert len(SymbolTable("char", vocabulary_size=9, min_count=2).fit("aabbccddxyz").symbols) == 5
    with pytest.raises(DataError, match="min_count=9"):
        SymbolTable("char", min_count=9).fit("aabb")


def test_words_called_start_and_end_are_words_in_a_stream():
    fitted = model(unit="word").fit("a <end> b <start> " * 30)
    assert fitted.evaluate("a <end> b <start>")["n_unknown"] == 0


def test_a_vocabulary_may_be_larger_than_the_text():
    fitted = model().fit("abab" * 20, vocabulary="abcdef")
    assert len(fitted.symbols_) == 6 and math.isfinite(fitted.score("abf"))


def test_the_whole_text_as_one_chunk():
    fitted = model(seq_length=10**9, batch_size=1).fit(ABC)
    assert math.isfinite(fitted.score(ABC))


def test_expectations_go_through_several_sentences(names):
    found = names.expectations("anna\nott", 3)
    assert [symbol for symbol, _ in found] == [*"anna", "\n", *"ott", "\n"]
    assert found[5][1] == names.next_symbols("", 3) == names.next_symbols("anna\n", 3)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ([], {}),
        ("a", {}),
        ("\n\n", {"sentences": True}),
        (b"abc", {}),
        (5, {}),
        (None, {}),
        ({"a": 1}, {"sentences": True}),
        ("abc", {"unit": "id"}),
        ([0, -1, 2], {"unit": "id"}),
        ([0, 5], {"unit": "id", "vocabulary_size": 3}),
        ([0, 2**40], {"unit": "id"}),
        ([[0, 1], [-3]], {"unit": "id", "sentences": True}),
        ([[0, 2**40]], {"unit": "id", "sentences": True}),
        ([0.5, 1.5], {"unit": "id"}),
        ("ab", {"validation": "tail"}),
        ("a", {"validation": "interleaved"}),
        ("only one", {"sentences": True, "early_stopping": True}),
        ([["a", 1], ["b", 2]], {"unit": "word"}),
        ([[["a"], ["b", "c"]]], {"unit": "word"}),
        ([b"to be"], {"unit": "word"}),
        ([1, 2], {"sentences": True}),
    ],
)
def test_texts_that_cannot_be_learned_from(text, settings):
    with pytest.raises((DataError, TypeError)) as caught:
        model(**settings).fit(text)
    assert "expected" in str(caught.value) or "too short" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"unit": "letter"},
        {"seq_length": 0},
        {"min_count": 0},
        {"vocabulary_size": 0},
        {"validation": "head"},
        {"validation_fraction": 1.0},
        {"reduction": "sum"},
        {"initial": {"uniform": -1}},
        {"initial": "glorot"},
        {"frozen": "*"},
        {"frozen": None},
        {"truncate": 0},
        {"softmax": "quick"},
        {"tied": True},
        {"samples": 0},
        {"cutoffs": [5]},
        {"softmax": "adaptive", "cutoffs": [5, 3]},
        {"cell": "nope"},
    ],
)
def test_settings_that_cannot_be_used(settings):
    with pytest.raises((ValueError, TypeError)) as caught:
        model(**settings).fit(ABC)
    assert list(settings)[-1] in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"length": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.5},
        {"stop": ""},
        {"prime": "xyz"},
        {"prime": 5},
        {"prime": b"a"},
        {"stop": b"e"},
        {"stop": 3},
    ],
)
def test_what_cannot_be_written(letters, options):
    with pytest.raises((ValueError, TypeError)):
        letters.generate(**{"length": 3, **options})
    with pytest.raises((ValueError, TypeError)):  # at once, not with the first symbol
        letters.iter_generate(**{"length": 3, **options})


@pytest.mark.parametrize("text", ["aaaa", "ab", "aa"])
@pytest.mark.parametrize("validation", [None, "tail", "interleaved"])
def test_the_smallest_texts(text, validation):
    if len(text) == 2 and validation == "tail":
        return  # above
    fitted = model(validation=validation).fit(text)
    assert fitted.generate(4, random_state=0).strip("ab") == "" and math.isfinite(fitted.score(text))


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        for unit in ("char", "byte", "word", "id"):
            with pytest.raises(DataError, match="cannot be read"):
                model(unit=unit).fit(path)
    (tmp_path / "latin").write_bytes("na\xefve\n\xe9t\xe9".encode("latin-1"))
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        model().fit(tmp_path / "latin")
    (tmp_path / "cut.gz").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(DataError, match="gzip"):
        model().fit(tmp_path / "cut.gz")
    (tmp_path / "ids.npy").write_bytes(b"no numbers")
    with pytest.raises(DataError, match=r"\.npy"):
        model(unit="id").fit(tmp_path / "ids.npy")


def test_scores_need_something_to_predict(letters, names):
    for bad in ("", "a"):
        with pytest.raises(DataError, match="at least 2 symbols"):
            letters.score(bad)
    with pytest.raises(DataError, match="at least one sentence"):
        names.score("\n")
    for ask in ("score", "generate", "next_symbols", "beam_search", "evaluate", "expectations"):
        with pytest.raises(NotFittedError):
            getattr(model(), ask)(*([3] if ask in ("generate", "beam_search") else ["abc"]))
