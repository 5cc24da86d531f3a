"""What estimators share: a small one of one's own, frozen specifications, scikit-learn, all kinds of input."""

import copy
import pickle
import subprocess
import sys
from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from peers import peer
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks

import rnncore as rc
from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests
from rnncore.estimators._documentation import described_settings
from rnncore.estimators._pipeline import TokenPipeline
from rnncore.estimators._task import LabelTask, SequenceTask
from rnncore.estimators.sequences import SequenceEstimator
from rnncore.io import files
from rnncore.metrics import entity_averages
from rnncore.train.predictions import predict_sequences


@pytest.fixture(scope="module")
def sample():
    return news_requests(60)


def quick(**settings):
    return rc.SequenceTagger(**{"hidden_size": 6, "max_epochs": 3, **settings})


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


# -- an estimator on a page -------------------------------------------------------------------------------------------


class Numbers(SequenceTask):
    """A number for each sequence."""

    per_step, readout = False, "mean"

    def fit(self, targets, classes=None):
        pass

    def encode(self, targets, unseen=None):
        return np.asarray(targets, dtype=np.float64)[:, None]

    def head(self):
        return rc.SquaredError(1)

    def predict(self, network, data, collate):
        return predict_sequences(network, data, 1, collate)[:, 0]

    def score(self, network, data, collate, weights):
        return 1 - np.mean((self.predict(network, data, collate) - data.y[:, 0]) ** 2) / data.y.var()


@dataclass(eq=False, repr=False)
class StringRater(SequenceEstimator):
    """Rate strings of symbols, by a number or by a label.

    Parameters
    ----------
    target : "number" or "label"
        What each string has.
    """

    target: str = "number"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @staticmethod
    def _make_pipeline(settings):
        return TokenPipeline(lowercase=False, embedding_size=settings.embedding_size)

    @staticmethod
    def _make_task(settings):
        return Numbers() if settings.target == "number" else LabelTask(per_step=False, readout="last")


def strings(n=200):
    rng = np.random.default_rng(0)
    return [[*"".join(rng.choice(list("aAb"), rng.integers(1, 9)))] for _ in range(n)]


@pytest.mark.parametrize("target", ["number", "label"])
def test_an_estimator_on_a_page(target, tmp_path, monkeypatch):
    x = strings()
    y = [part.count("a") / len(part) for part in x] if target == "number" else ["ab"[part[-1] == "a"] for part in x]
    rater = StringRater(target=target, hidden_size=12, embedding_size=4, max_epochs=40, early_stopping=True)
    rater.fit(x[:150], y[:150])
    assert rater.score(x[150:], y[150:]) > 0.9 and {"val_score", "loss"} <= rater.history_[0].keys()
    assert np.shape(rater.predict(x)) == (200,)
    for again in (pickle.loads(pickle.dumps(rater)), copy.deepcopy(rater)):
        assert np.array_equal(again.predict(x), rater.predict(x))
    monkeypatch.setitem(files.KINDS, "StringRater", __name__)
    rater.save(tmp_path / "m")
    assert np.array_equal(rc.load(tmp_path / "m").predict(x), rater.predict(x))
    weights = np.arange(200.0)
    assert rater.partial_fit(x, y, sample_weight=weights).n_epochs_ == len(rater.history_)
    assert clone(rater).get_params() == rater.get_params() and "hidden_size" in rater.__doc__
    with pytest.raises(DataError, match="sequence 1 is empty"):
        rater.predict([["a"], []])
    with pytest.raises(DataError, match="as many targets as sequences, got 2 and 1"):
        rater.fit([["a"], ["b"]], [1])
    with pytest.raises(NotFittedError):
        clone(rater).predict(x)


def test_settings_tell_what_they_are():
    rows = described_settings(rc.SequenceTagger)
    assert {name for name, _, _ in rows} == set(rc.SequenceTagger().get_params())
    assert [name for name, _, sentence in rows if not sentence.endswith(".") and not sentence.endswith(":")] == []
    assert ("recurrent_dropout", 0.2) in [row[:2] for row in rows]
    text = rc.SequenceTagger.__doc__
    assert text.count("\n    class_weight :") + text.count("\nclass_weight :") == 1
    assert [text.index(word) for word in ("Parameters", "Attributes", "Notes", "Examples")] == sorted(
        text.index(word) for word in ("Parameters", "Attributes", "Notes", "Examples")
    )


# -- what was fitted --------------------------------------------------------------------------------------------------

CHANGES = {
    "hidden_size": 11,
    "num_layers": 2,
    "bidirectional": False,
    "cell": "lstm",
    "head": "softmax",
    "embedding_size": 3,
    "skip": True,
    "affixes": 2,
    "class_weight": "balanced",
    "dtype": "float64",
    "activation": "tanh",
    "cell_options": {"zoneout": 0.1},
    "constraints": "auto",
    "lowercase": False,
    "word_dropout": 0.0,
}


@pytest.mark.parametrize("name", CHANGES)
def test_settings_set_later_change_nothing_that_was_fitted(name, sample, tmp_path):
    tagger = quick(max_epochs=1).fit(*sample)
    wanted = tagger.predict_proba(sample[0]), tagger.predict(sample[0]), tagger.score(*sample)
    before = {"first": CHANGES[name]} if name == "cell_options" else None
    tagger.set_params(**{name: CHANGES[name]})
    tagger.save(tmp_path / "m")
    for again in (tagger, rc.load(tmp_path / "m"), pickle.loads(pickle.dumps(tagger)), copy.deepcopy(tagger)):
        assert same(again.predict_proba(sample[0]), wanted[0])
        assert (again.predict(sample[0]), again.score(*sample)) == wanted[1:]
        assert again.evaluate(*sample)["accuracy"] == wanted[2]
    assert rc.load(tmp_path / "m").get_params()[name] == rc.SequenceTagger().get_params()[name] or name == "hidden_size"
    assert getattr(tagger, name) == CHANGES[name] and (before is None or before["first"] == CHANGES[name])
    if name != "constraints":
        assert tagger.partial_fit(*sample).n_epochs_ == 2
    assert np.isfinite(tagger.network_.theta).all()
    assert getattr(tagger.fit(*sample).specification_.settings, name) == CHANGES[name]


def test_a_stream_and_onnx_go_by_what_was_fitted(sample, tmp_path):
    tagger = quick(bidirectional=False, head="softmax").fit(*sample).set_params(bidirectional=True, head="crf")
    label_of = tagger.stream()
    assert [label_of(word) for word in sample[0][0]] == tagger.predict(sample[0][:1])[0]
    other = quick().fit(*sample).set_params(bidirectional=False, head="softmax")
    with pytest.raises(ValueError, match="can only be tagged as they come"):
        other.stream()
    peer("onnx")
    tagger.set_params(hidden_size=3).to_onnx(tmp_path / "m.onnx")


def test_options_changed_in_place_change_nothing_that_was_fitted(sample, tmp_path):
    options = {"reset": "before"}
    tagger = quick(cell="gru", cell_options=options).fit(*sample)
    wanted = tagger.predict_proba(sample[0])
    options["reset"] = "after"
    assert same(copy.deepcopy(tagger).predict_proba(sample[0]), wanted)
    with pytest.raises(AttributeError, match="fixed"):
        tagger.specification_.settings.hidden_size = 3


def test_a_type_as_dtype_is_kept(sample, tmp_path):
    tagger = quick(dtype=np.float64).fit(*sample)
    tagger.save(tmp_path / "m")
    again = rc.load(tmp_path / "m")
    assert again.dtype == "float64" and same(again.predict_proba(sample[0]), tagger.predict_proba(sample[0]))


# -- inputs -----------------------------------------------------------------------------------------------------------


def odd_index(pandas, parts):
    return pandas.Series(parts, index=range(10 * len(parts), 0, -10))


def as_objects(parts):
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array


FORMS = {
    "tuples": lambda parts: tuple(map(tuple, parts)),
    "generators": lambda parts: (iter(part) for part in parts),
    "string arrays": lambda parts: [np.array(part) for part in parts],
    "object arrays": lambda parts: as_objects([np.array(part, dtype=object) for part in parts]),
    "deques": lambda parts: deque(map(deque, parts)),
    "a Series of lists": lambda parts: odd_index(peer("pandas"), parts),
    "Series": lambda parts: [odd_index(peer("pandas"), part) for part in parts],
    "a Series of Series": lambda parts: odd_index(peer("pandas"), [odd_index(peer("pandas"), p) for p in parts]),
    "a frame of one column": lambda parts: peer("pandas").DataFrame({"words": parts}),
    "polars": lambda parts: peer("polars").Series("words", parts),
    "a polars frame": lambda parts: peer("polars").DataFrame({"words": parts}),
    "polars Series": lambda parts: [peer("polars").Series(part) for part in parts],
    "Arrow": lambda parts: peer("pyarrow").array(parts),
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_are_one_thing(form, sample):
    make, (x, y) = FORMS[form], sample
    plain, other = quick().fit(x, y), quick().fit(make(x), make(y))
    assert other.network_.theta.tobytes() == plain.network_.theta.tobytes()
    assert other.predict(make(x)) == plain.predict(x) and same(other.predict_proba(make(x)), plain.predict_proba(x))
    assert other.score(make(x), make(y)) == plain.score(x, y)
    assert other.evaluate(make(x), make(y)) == plain.evaluate(x, y)
    assert other.count_correct(make(x), make(y)) == plain.count_correct(x, y)
    assert np.array_equal(other.knows(make(x)), plain.knows(x))
    plain.partial_fit(x, y), other.partial_fit(make(x), make(y))
    assert other.network_.theta.tobytes() == plain.network_.theta.tobytes()
    watched = (make(x), make(y))
    assert quick().fit(x, y, validation_data=watched).history_[0]["val_score"] >= 0


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_as_sentences(library):
    frames, rng = peer(library), np.random.default_rng(0)
    tables = [rng.standard_normal((n, 2)) for n in (3, 1, 4, 2)]
    tags = [["up" if value > 0 else "down" for value in table[:, 0]] for table in tables]
    as_frames = [frames.DataFrame({"a": table[:, 0], "b": table[:, 1]}) for table in tables]
    assert quick().fit(as_frames, tags).network_.theta.tobytes() == quick().fit(tables, tags).network_.theta.tobytes()
    words = [[{"word": "top", "n": 1.5}, {"word": "news", "n": 2.5}], [{"word": "top", "n": 0.5}]]
    as_frames = [frames.DataFrame(part) for part in words]
    tags = [["A", "B"], ["A"]]
    assert quick().fit(as_frames, tags).predict(words) == quick().fit(words, tags).predict(as_frames)
    with pytest.raises(DataError, match="a frame of columns a, b: pass the one column"):
        quick().fit(frames.DataFrame({"a": ["x"], "b": ["y"]}), [["A"]])


def sparse(rows):
    from scipy.sparse import csr_matrix

    return csr_matrix(np.eye(rows))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "top news", r"sentences\[1\] must be a list of tokens, got the string 'top news'; split"),
        (lambda: b"top", r"sentences\[1\] must be a list of tokens, got the bytes object"),
        (lambda: {"top"}, r"sentences\[1\] must be a sequence, got set, which has no order"),
        (lambda: {"w": 1}, r"sentences\[1\] must be a sequence, got dict; a dict of features is a token"),
        (lambda: sparse(2), r"sentences\[1\] is a sparse matrix, csr_matrix"),
        (lambda: peer("torch").zeros(2, 2), r"sentences\[1\] is a tensor, torch's"),
        (lambda: None, r"sentences\[1\] must be a sequence, got NoneType"),
        (lambda: 3, r"sentences\[1\] must be a sequence, got int"),
        (lambda: np.array(3), r"sentences\[1\] must be a sequence, got an array of one"),
    ],
)
def test_what_is_no_sentence_is_named(make, message, sample):
    sentences, tags = [["top", "news"], make(), ["news"]], [["A", "B"], ["A", "B"], ["B"]]
    tagger = quick().fit(*sample)
    for call in (
        lambda: quick().fit(sentences, tags),
        lambda: quick().partial_fit(sentences, tags),
        lambda: tagger.predict(sentences),
        lambda: tagger.predict_proba(sentences),
        lambda: tagger.score(sentences, tags),
        lambda: tagger.evaluate(sentences, tags),
        lambda: tagger.knows(sentences),
    ):
        with pytest.raises(DataError, match=message):
            call()


@pytest.mark.parametrize("given", ["top", b"top", {"a": 1}, {1}, None, 3, np.array(3), sparse(2)], ids=str)
def test_what_is_no_list_of_sentences(given, sample):
    for call in (lambda: quick().fit(given, sample[1]), lambda: quick().fit(*sample).predict(given)):
        with pytest.raises(DataError, match=r"sentences (must be a list of sequences|is a sparse)"):
            call()


def test_the_same_list_comes_back():
    sentences = [["a"], ("b",)]
    assert sequences_of(sentences) is sentences  # no copy of what is right already


def test_sets_in_dicts_make_no_difference_between_processes():
    code = (
        "import rnncore as rc; x = [[{'w': {f'f{i}' for i in range(j, j + 9)}}] for j in range(20)];"
        "t = rc.SequenceTagger(hidden_size=3, max_epochs=1).fit(x, [['AB'[i % 2]] for i in range(20)]);"
        "import hashlib; print(hashlib.md5(t.network_.theta.tobytes()).hexdigest(), t.encoder_.features)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1


# -- scikit-learn -----------------------------------------------------------------------------------------------------


def test_data_by_keyword(sample):
    x, y = sample
    whole = quick().fit(x, y)
    for other in (quick().fit(X=x, y=y), quick().fit(sentences=x, tags=y), quick().fit(x, tags=y)):
        assert other.network_.theta.tobytes() == whole.network_.theta.tobytes()
    assert whole.predict(sentences=x) == whole.predict(X=x) == whole.predict(x)
    assert whole.score(sentences=x, tags=y) == whole.score(X=x, y=y) == whole.evaluate(sentences=x, tags=y)["accuracy"]
    with pytest.raises(TypeError, match="both sentences and X"):
        whole.predict(X=x, sentences=x)


@pytest.mark.parametrize("make", [list, as_objects], ids=["lists", "object arrays"])
def test_cross_val_predict(make, sample):
    x, y = sample
    found = cross_val_predict(quick(), make(x), make(y), cv=KFold(3))
    assert found.shape == (60,) and [len(labels) for labels in found] == [len(words) for words in x]
    tagger = quick().fit(x[20:], y[20:])
    assert [list(labels) for labels in found[:20]] == tagger.predict(x[:20])


def test_scorers_by_name(sample):
    x, y = sample
    tagger = quick(max_epochs=10).fit(x, y)
    predicted = tagger.predict(x)
    flat = [[label for labels in part for label in labels] for part in (y, predicted)]
    from sklearn.metrics import f1_score

    assert get_scorer("accuracy")(tagger, x, y) == tagger.score(x, y)
    assert get_scorer("f1_macro")(tagger, as_objects(x), as_objects(y)) == f1_score(*flat, average="macro")
    assert get_scorer("chunk_f1")(tagger, x, y) == entity_averages(y, predicted)["micro"]["f1"]
    weights = np.arange(60.0)
    assert get_scorer("accuracy")(tagger, x, y, sample_weight=weights) == pytest.approx(
        tagger.score(x, y, sample_weight=weights)
    )
    scores = cross_validate(quick(), x, y, cv=2, scoring=["accuracy", "f1_macro", "chunk_f1"])
    assert (scores["test_accuracy"] == cross_val_score(quick(), x, y, cv=2)).all()
    assert not np.isnan(scores["test_f1_macro"]).any() and not np.isnan(scores["test_chunk_f1"]).any()


def test_scorers_of_others_are_as_they_were():
    from sklearn.linear_model import LogisticRegression

    x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    model = LogisticRegression().fit(x, y)
    assert get_scorer("accuracy")(model, x, y) == model.score(x, y) and "accuracy_score" in repr(get_scorer("accuracy"))
    copied = pickle.loads(pickle.dumps(get_scorer("f1")))
    assert copied(model, x, y) == get_scorer("f1")(model, x, y) == 1.0


def test_a_search_in_two_processes(sample):
    search = GridSearchCV(quick(), {"learning_rate": [1e-5, 0.03]}, cv=2, n_jobs=2, scoring="f1_weighted").fit(*sample)
    assert search.best_params_ == {"learning_rate": 0.03} and search.predict(sample[0][:2])


def lower(sentences):
    return [[word.lower() for word in words] for words in sentences]


def test_in_a_pipeline(sample):
    x, y = sample
    steps = make_pipeline(FunctionTransformer(lower), quick(lowercase=False)).fit([[*map(str.upper, p)] for p in x], y)
    assert steps.predict(x) == quick(lowercase=False).fit(lower(x), y).predict(lower(x))
    assert steps.set_params(sequencetagger__hidden_size=5).fit(x, y)[-1].network_.layers[0].hidden_size == 5


def test_sample_weights_are_routed(sample):
    import sklearn

    x, y = sample
    weights = np.arange(60.0)
    with sklearn.config_context(enable_metadata_routing=True):
        tagger = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_validate(tagger, x, y, cv=KFold(2), params={"sample_weight": weights}, return_estimator=True)
        wanted = quick().fit(x[30:], y[30:], sample_weight=weights[30:])
        assert found["estimator"][0].network_.theta.tobytes() == wanted.network_.theta.tobytes()
        assert found["test_score"][0] == wanted.score(x[:30], y[:30], sample_weight=weights[:30])
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            cross_validate(quick(), x, y, cv=2, params={"sample_weight": weights})


def test_views(sample):
    tagger = quick(learning_rate=0.5)
    assert repr(tagger) == "SequenceTagger(hidden_size=6, learning_rate=0.5, max_epochs=3)"
    for shown in (estimator_html_repr(tagger), estimator_html_repr(tagger.fit(*sample))):
        assert "SequenceTagger" in shown and "learning_rate" in shown
    assert "fitted" in estimator_html_repr(tagger)


def test_tags_say_what_is_true():
    tags = rc.SequenceTagger().__sklearn_tags__()
    assert (tags.input_tags.two_d_array, tags.input_tags.string, tags.input_tags.dict) == (False, True, True)
    assert tags.target_tags.required and tags.estimator_type is None and not tags.non_deterministic


# No failure is expected. What scikit-learn does not ask it leaves out itself: data in one table are no sentences, and
# the tags say so (`two_d_array`).
@pytest.mark.filterwarnings("ignore:Can't test estimator SequenceTagger which requires input")
@parametrize_with_checks([rc.SequenceTagger(max_epochs=1)], expected_failed_checks=lambda _: {})
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)


def test_rows_of_a_frame_of_numbers_are_sequences():
    table = np.array([[1, 2, 3], [3, 2, 1], [2, 2, 2]])
    frame = peer("pandas").DataFrame(table, columns=["first", "second", "third"])
    tags = [["A", "B", "C"], ["C", "B", "A"], ["B", "B", "B"]]
    plain, framed = quick().fit(list(table), tags), quick().fit(frame, tags)
    assert framed.predict(frame) == plain.predict(list(table))
    assert framed.network_.theta.tobytes() == plain.network_.theta.tobytes()


def test_what_is_not_fitted_is_pickled_too(sample):
    made = pickle.loads(pickle.dumps(quick(hidden_size=3)))
    assert made.hidden_size == 3 and not hasattr(made, "network_")
    assert made.fit(*sample).network_.theta.tobytes() == quick(hidden_size=3).fit(*sample).network_.theta.tobytes()


def test_verbose_is_a_flag_or_a_number(sample, capfd):
    for verbose, shows in ((False, False), (True, True), (1, True), (0, False)):
        quick(verbose=verbose).fit(*sample)
        assert ("loss" in capfd.readouterr().err) == shows
    with pytest.raises(ValueError, match="verbose"):
        quick(verbose=-1).fit(*sample)


def test_scorers_are_registered_once_and_where_they_can_be(monkeypatch):
    from sklearn.metrics import _scorer

    from rnncore.estimators._scorers import register

    before = dict(_scorer._SCORERS)
    register()
    assert before == _scorer._SCORERS
    monkeypatch.delattr(_scorer, "_SCORERS")  # it is private: another version may have none
    register()


def test_a_base_class_is_no_estimator():
    with pytest.raises(TypeError, match="_make_pipeline"):
        SequenceEstimator()
