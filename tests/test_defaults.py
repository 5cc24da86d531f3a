"""Settings that are left to the data."""

import pickle
import time

import numpy as np
import pytest
from sklearn.base import clone

import rnncore as rc
from rnncore.data.tokens import TokenLists
from rnncore.datasets import news_requests
from rnncore.estimators._defaults import BY_DATA, chosen
from rnncore.estimators._look import Look, look_at

PLAIN = Look(sentences=900, words=9000, labels=9, chunks=True, unseen=0.1, guessed=0.3, spelled=0.31)
FIT = {"max_epochs": 1}


def said(**changes):
    return Look(**{**PLAIN.__dict__, **changes})


def names(n, endings, rng):
    """Sentences of words that occur but once, with one ending for each label where there are several."""
    sentences, tags = [], []
    for _ in range(n):
        kinds = rng.integers(0, 2, 5)
        made = ["".join(rng.choice(list("bcdfgklmnp"), 6)) for _ in kinds]
        sentences.append([word + endings[kind % len(endings)] for word, kind in zip(made, kinds, strict=True)])
        tags.append([f"label{kind}" for kind in kinds])
    return sentences, tags


# -- what data look like ----------------------------------------------------------------------------------------------


def test_counts():
    look = look_at(
        [["a", "b"], ["A"], ["a"], ["b", "b", "a"], ["new", "b"]], [["x", "y"], ["x"], ["x"], list("yyx"), "zy"]
    )
    assert (look.sentences, look.words, look.labels) == (5, 9, 3)
    assert look.unseen == 0.5  # of "new" and "b"
    assert look.guessed == look.spelled == 0.0


@pytest.mark.parametrize(("endings", "tells"), [(["oq", "uq"], True), (["q"], False)])
def test_whether_spelling_tells(endings, tells):
    look = look_at(*names(300, endings, np.random.default_rng(0)))
    assert look.unseen == 1.0
    assert (look.spelled > 0.95) == tells and (look.spelled - look.guessed > 0.08) == tells


def test_little_data():
    assert look_at([["a"]], [["x"]]) == Look(1, 1, 1, False, 1.0, 0.0, 0.0)
    assert look_at([["a"], []], [["x"], []]).words == 1


@pytest.mark.parametrize("tokens", [[1, 2], [{"a": 1}, {}], np.zeros((2, 3))], ids=str)
def test_tokens_that_are_no_words(tokens):
    assert look_at([tokens], [["x", "y"]]) is None


def test_many_sentences_are_sampled():
    few, many = look_at(*news_requests(4000)), look_at(*news_requests(12_000))
    assert many.sentences == 12_000 and abs(few.spelled - many.spelled) < 0.1


# -- what is chosen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "units", "spelling"),
    [
        (PLAIN, 64, False),
        (said(chunks=False), 64, False),
        (said(chunks=False, spelled=0.4), 64, True),
        (said(chunks=False, spelled=0.4, unseen=0.001), 64, True),
        (said(spelled=0.4), 32, True),
        (said(words=30_000, sentences=3000), 96, True),
        (said(labels=72), 96, True),
        (said(labels=72, unseen=0.02), 32, False),
        (None, 32, False),
    ],
)
def test_spelling_and_size_by_what_data_look_like(look, units, spelling):
    found = chosen(rc.SequenceTagger(), look)
    assert list(found) == list(BY_DATA)
    assert found == {
        "hidden_size": units,
        "learning_rate": {32: 0.02, 64: 0.01, 96: 0.008}[units],
        "window": int(spelling),
        "affixes": 4 if spelling else 0,
        "shapes": spelling,
        "dropout": 0.3 if spelling and not look.chunks else 0.5,
        "input_dropout": 0.0,
        "word_dropout": 0.3,
    }


def test_what_is_set_stays():
    found = chosen(rc.SequenceTagger(hidden_size=16, affixes=2, shapes=False), said(labels=72))
    assert {**found, "learning_rate": 0.02, "window": 1} == found and not {"hidden_size", "affixes", "shapes"} & set(
        found
    )
    assert chosen(rc.SequenceTagger(bidirectional=False), said(labels=72))["window"] == 0
    assert chosen(rc.SequenceTagger(), None)["hidden_size"] == 32


@pytest.mark.parametrize(("effort", "units"), [("low", 48), ("usual", 96), ("high", 128)])
def test_effort(effort, units):
    found = chosen(rc.SequenceTagger(effort=effort), said(labels=72))
    assert found["hidden_size"] == units
    assert found["input_dropout"] == (0.5 if effort == "high" else 0.0)
    passes = [rc.SequenceTagger(effort=name)._epochs(1000) for name in ("low", "usual", "high")]
    assert passes == [12, 20, 50]
    with pytest.raises(ValueError, match="effort"):
        rc.SequenceTagger(effort="much").fit([["a"]], [["b"]])


def test_a_fitted_tagger_tells(tmp_path):
    data = names(60, ["oq", "uq"], np.random.default_rng(1))
    tagger = rc.SequenceTagger(**FIT, shapes=False).fit(*data)
    dropped = {"dropout": 0.3, "input_dropout": 0.0, "word_dropout": 0.3}
    assert tagger.chosen_ == {"hidden_size": 64, "learning_rate": 0.01, "window": 1, "affixes": 4} | dropped
    assert tagger.hidden_size is None and clone(tagger).get_params() == tagger.get_params()
    assert tagger.network_.layers[0].hidden_size == 64
    tagger.save(tmp_path / "model")
    for again in (rc.load(tmp_path / "model"), pickle.loads(pickle.dumps(tagger))):
        assert again.chosen_ == tagger.chosen_ and again.get_params() == tagger.get_params()
        assert again.predict(data[0]) == tagger.predict(data[0])


def test_the_same_as_said_aloud():
    data = names(60, ["oq", "uq"], np.random.default_rng(1))
    left = rc.SequenceTagger(**FIT).fit(*data)
    said_aloud = rc.SequenceTagger(**FIT, **left.chosen_).fit(*data)
    assert left.network_.theta.tobytes() == said_aloud.network_.theta.tobytes() and said_aloud.chosen_ == {}


def test_files_and_lists_give_the_same():
    sentences, tags = names(60, ["oq", "uq"], np.random.default_rng(1))
    kinds = sorted({word for sentence in sentences for word in sentence})
    ids = np.array([kinds.index(word) for sentence in sentences for word in sentence])
    packed = TokenLists(kinds, ids, np.array([len(sentence) for sentence in sentences]))
    assert look_at(packed, tags) == look_at(sentences, tags)


def test_going_on_keeps_what_was_chosen():
    """Other data would have other settings chosen."""
    tagger = rc.SequenceTagger(**FIT, warm_start=True).fit(*names(60, ["oq", "uq"], np.random.default_rng(1)))
    before = dict(tagger.chosen_)
    tagger.fit(*names(400, ["q"], np.random.default_rng(2)))
    assert tagger.chosen_ == before
    tagger.partial_fit(*names(400, ["q"], np.random.default_rng(2)))
    assert tagger.chosen_ == before
    tagger.set_params(warm_start=False).fit(*names(400, ["q"], np.random.default_rng(2)))
    assert tagger.chosen_["affixes"] == 0


def test_resuming_chooses_the_same(tmp_path):
    data = names(60, ["oq", "uq"], np.random.default_rng(1))
    whole = rc.SequenceTagger(max_epochs=2).fit(*data)
    rc.SequenceTagger(max_epochs=2, callbacks=[lambda record: True]).fit(
        *data, checkpoint=tmp_path / "c", checkpoint_every=0
    )
    resumed = rc.SequenceTagger(max_epochs=2).fit(*data, resume=tmp_path / "c")
    assert resumed.network_.theta.tobytes() == whole.network_.theta.tobytes()


def test_new_words_without_end_are_looked_at_by_sample():
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, (60_000, 8)).astype(np.uint8)
    words = [row.tobytes().decode() for row in letters]
    tags = [f"{kind}" for kind in rng.integers(0, 500, len(words))]
    parted = [words[n : n + 20] for n in range(0, len(words), 20)], [tags[n : n + 20] for n in range(0, len(tags), 20)]
    seconds = time.process_time()
    assert look_at(*parted).labels == 500
    assert time.process_time() - seconds < 40  # minutes, where every word is weighed for every label
