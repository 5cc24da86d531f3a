"""SequenceToSequence: strings, lists and numbers rewritten; files, warm starts, bad input, generated pairs."""

import copy
import datetime
import pickle

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore._core import kernels
from rnncore.data.readers import DataError
from rnncore.datasets import dates, reversing, sorting
from rnncore.estimators._rewriting import Rewriting, units_of
from rnncore.plots import plot_attention

native = pytest.mark.skipif(kernels.config()["gemm"] == "blas", reason="BLAS promises a tolerance, not bits")


@pytest.fixture(scope="module")
def pairs():
    return reversing(600, length=5, symbols=6)


@pytest.fixture(scope="module")
def model(pairs):
    return rc.SequenceToSequence(hidden_size=32, embedding_size=16, max_epochs=30, batch_size=16).fit(*pairs)


def small(**settings):
    return rc.SequenceToSequence(**({"hidden_size": 8, "embedding_size": 6, "max_epochs": 2} | settings))


# ------------------------------------------------------------------ learning


def test_it_learns_to_reverse_words(model, pairs):
    sources, targets = reversing(200, length=5, symbols=6, random_state=7)
    assert model.score(sources, targets) > 0.9
    assert model.error_rate(sources, targets) < 0.05
    assert model.score(sources=sources, targets=targets) == model.score(sources, targets)
    assert model.symbols_ == list("abcdef")
    assert model.history_[-1]["loss"] < 0.2 < model.history_[0]["loss"]


def test_what_is_predicted_has_the_form_of_the_targets():
    sources = ["to be", "or not to be"] * 10
    words = small(source_unit="word", target_unit="word").fit(sources, ["sein oder", "nicht sein"] * 10)
    assert all(isinstance(one, str) for one in words.predict(sources[:3])) and "nicht" in words.symbols_
    lists = small().fit([[3, 1], [2]] * 10, [["b", "a"], ["c"]] * 10)
    assert all(isinstance(one, list) for one in lists.predict([[3, 1], [2, 2]])) and lists.symbols_ == ["a", "b", "c"]
    numbers = small().fit([[3, 1], [2]] * 10, [[7, 5], [6]] * 10)
    assert (
        numbers.symbols_ == [5, 6, 7]
        and numbers.predict_n_best([[3, 1]], n=2)[0][0][0] == numbers.predict([[3, 1]], beam_size=5)[0]
    )
    arrays = [np.random.default_rng(n).normal(size=(3 + n % 4, 2)) for n in range(20)]
    features = small().fit(arrays, ["ab"] * 20)
    assert isinstance(features.predict(arrays[:1])[0], str)
    weights, steps, written = features.attention_weights(arrays[0], "ab")
    assert weights.shape == (3, 3) and steps == [0, 1, 2] and written == ["a", "b", "end"]


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": None},
        {"attention": None, "conditioning": "both", "cell": "lstm", "num_layers": 2},
        {"attention": "scaled_dot", "conditioning": None, "bidirectional": False},
        {"embedding_size": None, "label_smoothing": 0.1, "cell": "elman"},
    ],
)
def test_every_way_to_condition_trains_and_keeps(settings, pairs, tmp_path):
    model = small(**settings).fit(*pairs)
    assert model.history_[1]["loss"] < model.history_[0]["loss"]
    model.save(tmp_path / "model.safetensors")
    again = rc.load(tmp_path / "model.safetensors")
    assert again.predict(pairs[0][:20], beam_size=3) == model.predict(pairs[0][:20], beam_size=3)
    assert again.get_params() == {**model.get_params(), "callbacks": None}


def test_empty_targets_are_learned():
    model = small(max_epochs=40, dropout=0.0).fit(["a", "b"] * 20, ["", "x"] * 20)
    assert model.predict(["a", "b"]) == ["", "x"]


def test_a_beam_is_at_least_as_good_as_the_first_guess(model, pairs):
    sources = pairs[0][:30]
    several = model.predict_n_best(sources, n=3)
    assert all(len(found) == 3 and found[0][1] >= found[1][1] >= found[2][1] for found in several)
    assert [found[0][0] for found in several] == model.predict(sources, beam_size=5)
    once = model.predict_n_best(sources, n=1, beam_size=1)
    assert [found[0][0] for found in once] == model.predict(sources)
    assert max(map(len, model.predict(sources, max_length=2))) == 2


def test_attention_looks_at_each_letter_from_the_end(model):
    weights, source, written = model.attention_weights("abcde")
    assert weights.shape == (6, 5) and source == list("abcde") and written == [*"edcba", "end"]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    given, _, labels = model.attention_weights("abcde", "ab")
    assert given.shape == (3, 5) and labels == ["a", "b", "end"]


def test_a_picture_of_attention(model, tmp_path):
    peer("matplotlib")
    found = model.attention_weights("abc")
    plot_attention(*found, tmp_path / "attention.svg", title="reversing")
    assert (tmp_path / "attention.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match=r"weights must be an array \(2, 3\)"):
        plot_attention(found[0], found[1], found[2][:2], tmp_path / "attention.svg")


# ------------------------------------------------------------------ the house's manners


@native
def test_the_same_seed_gives_the_same_bits_for_any_number_of_threads(pairs):
    fitted = [small(n_threads=n).fit(*pairs) for n in (1, 2, 3)]
    for other in fitted[1:]:
        assert np.array_equal(other.network_.theta, fitted[0].network_.theta)
        assert other.predict(pairs[0], beam_size=2) == fitted[0].predict(pairs[0], beam_size=2)
    assert not np.array_equal(small(random_state=1).fit(*pairs).network_.theta, fitted[0].network_.theta)


def test_pickles_copies_and_files_predict_the_same(model, pairs, tmp_path):
    model.save(tmp_path / "model.safetensors")
    wanted = model.predict_n_best(pairs[0][:50], n=2)
    twins = [rc.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for twin in twins:
        assert twin.predict_n_best(pairs[0][:50], n=2) == wanted
        assert twin.n_epochs_ == 30 and twin.symbols_ == model.symbols_


def test_early_stopping_keeps_the_best_epoch(pairs):
    model = small(early_stopping=True, max_epochs=4, validation_fraction=0.2).fit(*pairs)
    assert {"val_score", "val_loss"} <= set(model.history_[-1])
    apart = reversing(50, length=5, symbols=7, random_state=3)  # g is not known
    watched = small(max_epochs=3).fit(*pairs, validation_data=apart)
    assert watched.history_[-1]["val_score"] <= 1 and np.isfinite(watched.history_[-1]["val_loss"])


def test_training_goes_on(pairs):
    model = small(warm_start=True).fit(*pairs)
    before = model.history_[-1]["loss"]
    assert model.fit(*pairs).history_[-1]["loss"] < before
    part = small()
    for _ in range(3):
        part.partial_fit(*pairs)
    assert part.n_epochs_ == 3 and part.history_[-1]["loss"] < part.history_[0]["loss"]


def test_a_training_that_was_cut_off_goes_on_from_its_checkpoint(pairs, tmp_path):
    whole = small(max_epochs=3).fit(*pairs)
    path = tmp_path / "checkpoint"

    class Stops(rc.Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 1:
                raise SystemExit(9)

    with pytest.raises(SystemExit):
        small(max_epochs=3, callbacks=[Stops()]).fit(*pairs, checkpoint=path, checkpoint_every=0)
    again = small(max_epochs=3).fit(*pairs, resume=path)
    assert np.array_equal(again.network_.theta, whole.network_.theta)


def test_weights_of_pairs_count(pairs):
    sources, targets = pairs
    wrong = [target[::-1] for target in targets]
    weights = np.r_[np.ones(600), np.zeros(600)]
    weighed = small(batch_size=12).fit([*sources, *sources], [*targets, *wrong], sample_weight=weights)
    plain = small(batch_size=12).fit(sources, targets)
    assert np.array_equal(weighed.network_.theta, plain.network_.theta)
    found = plain.predict(sources[:2])
    assert plain.score(sources[:2], [found[0], "aaaaa"], sample_weight=[3, 1]) == 0.75


def test_symbols_that_no_source_had_are_read_as_unknown(model, pairs):
    assert isinstance(model.predict(["abz"])[0], str)
    assert model.score(["ab", "ab"], ["ba", "zz"]) == 0.5  # nor is such a target ever written
    assert 0 < model.error_rate(["ab"], ["zz"]) <= 1


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ("ab", ["a"], "sources: expected a list of strings or of sequences, got one string"),
        (["ab"], ["a", "b"], "expected as many targets as sources, got 2 and 1"),
        (["ab", ["a"]], ["a", "b"], "expected all strings or none, got str as number 0 and list as 1"),
        ([], [], "there are no sources"),
        (["ab"], [""], "all of them are empty"),
        (3, ["a"], "sources: expected a list of strings or of sequences, got int"),
        (["ab"], [[1.5]], "labels must be all strings or all integers"),
        ([["a"], [{"x": 1}]], ["a", "b"], "strings or integers|dict"),
    ],
)
def test_data_that_cannot_be_used_are_refused(sources, targets, message):
    with pytest.raises((DataError, ValueError), match=message):
        small().fit(sources, targets)


def test_settings_that_cannot_be_used_are_refused(pairs):
    for settings, message in (
        ({"attention": "luong"}, "attention"),
        ({"attention": None, "conditioning": None}, "told nothing of the source"),
        ({"source_unit": "line"}, "source_unit"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"min_count": 0}, "min_count"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**settings).fit(*pairs)


def test_sources_without_symbols_are_named(model):
    with pytest.raises(DataError, match="source 1 is empty"):
        model.predict(["ab", ""])
    assert model.predict([]) == [] and model.predict_n_best([]) == []
    with pytest.warns(UserWarning, match="1 empty sources were left out, the first of them number 1"):
        small(max_epochs=1).fit(["ab", "", "b"], ["a", "b", "a"])
    with pytest.raises(DataError, match="targets: expected strings, as in training, got lists"):
        model.score(["ab"], [["a"]])
    with pytest.raises(ValueError, match="beam_size: expected at least n=4, got 2"):
        model.predict_n_best(["ab"], n=4, beam_size=2)


def test_files_with_parts_that_do_not_fit_are_refused():
    task = Rewriting()
    task.fit(units_of(["ab"], "char", "targets"))
    for change in ({"classes": "ab"}, {"classes": []}, {"longest": -1}, {"texts": 1}):
        with pytest.raises(ValueError, match="must be"):
            Rewriting().from_json(task.to_json() | change)


# ------------------------------------------------------------------ generated pairs


def test_generated_pairs_are_right_and_repeat():
    for make, right in ((reversing, lambda text: text[::-1]), (sorting, lambda text: "".join(sorted(text)))):
        sources, targets = make(300, length=7, symbols=5)
        assert [right(one) for one in sources] == targets and make(300, length=7, symbols=5) == (sources, targets)
        assert {len(one) for one in sources} == set(range(1, 8)) and set("".join(sources)) == set("abcde")
        with pytest.raises(ValueError, match="2 to 26"):
            make(symbols=27)


def test_dates_are_written_in_many_ways_that_each_mean_one_day():
    sources, targets = dates(4000)
    assert dates(4000) == (sources, targets) and dates(10, random_state=1)[0] != sources[:10]
    for source, target in zip(sources, targets, strict=True):
        day = datetime.date.fromisoformat(target)
        assert str(day.year) in source and str(day.day) in source
        name = day.strftime("%b").lower()
        numbers = source.replace("-", " ").replace("/", " ").replace(".", " ").split()
        assert name in source.lower() or {f"{day.month}", f"{day.month:02}"} & set(numbers) or source.isdigit()
    assert len(set(targets)) > 3800 and len({len(source) for source in sources}) > 20
