"""Classifying and regressing sequences: forms of data, of targets, what is scaled, missing, refused, kept."""

import pickle

import numpy as np
import pytest
from peers import peer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import check_estimator

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.estimators._series_pipeline import SeriesPipeline

QUICK = {"max_epochs": 4, "hidden_size": 8}


def drifting(n: int = 80, width: int = 2, seed: int = 0):
    """Walks of unequal lengths that drift up or not, and what they are."""
    rng = np.random.default_rng(seed)
    X = [np.cumsum(rng.normal(0.5 * (i % 2), 1, (rng.integers(5, 20), width)), axis=0) for i in range(n)]
    return X, ["up" if i % 2 else "level" for i in range(n)]


# ---------------------------------------------------------------- scikit-learn's own checks

NOT_FOR_MINIBATCHES = {
    "check_sample_weight_equivalence_on_dense_data": "a repeated sequence falls into other minibatches than one of "
    "weight 2: the same mean, another path to it"
}


#: skipped where pandas, or SciPy's switch for other arrays, is not there
WITHOUT_A_PACKAGE = {
    "check_array_api_input",
    "check_sample_weights_pandas_series",
    "check_classifier_data_not_an_array",
    "check_regressor_data_not_an_array",
}


@pytest.mark.parametrize("kind", [rc.SequenceClassifier, rc.SequenceRegressor])
def test_scikit_learns_checks(kind):
    results = check_estimator(
        kind(hidden_size=16, n_threads=1), expected_failed_checks=NOT_FOR_MINIBATCHES, on_skip=None
    )
    assert {found["check_name"] for found in results if found["status"] == "xfail"} == {*NOT_FOR_MINIBATCHES}
    skipped = {found["check_name"] for found in results if found["status"] == "skipped"}
    assert skipped <= WITHOUT_A_PACKAGE | {"check_classifiers_multilabel_output_format_decision_function"}


# ---------------------------------------------------------------- forms of data


def test_arrays_and_lists_are_the_same():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 6, 3)), np.arange(40) % 2
    wanted = rc.SequenceClassifier(**QUICK).fit(X, y).predict_proba(X)
    for other in ([*X], X.tolist(), rc.Series.of(X), X.astype("float32").astype("float64")):
        found = rc.SequenceClassifier(**QUICK).fit(other, y).predict_proba(X)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    flat = X[..., 0]
    wanted = rc.SequenceClassifier(**QUICK).fit(flat, y).predict_proba(flat)
    for other in (flat[..., None], [*flat], flat.tolist()):
        assert np.array_equal(rc.SequenceClassifier(**QUICK).fit(other, y).predict_proba(other), wanted)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_long_frames(library):
    frames = peer(library)
    X, y = drifting(30)
    rng = np.random.default_rng(2)
    rows = {"who": [], "when": [], "a": [], "b": [], "machine": []}
    for number, part in enumerate(X):
        stamps = np.cumsum(rng.random(len(part)) + 0.1)
        for at in rng.permutation(len(part)):
            for name, value in zip(rows, (number, stamps[at], *part[at], "xyz"[at % 3]), strict=True):
                rows[name].append(value)
    series = rc.Series.of(frames.DataFrame(rows), sequence="who", time="when")
    assert series.names == ["a", "b"] and series.kind_names == ["machine"]
    assert all(np.array_equal(series[n], part) for n, part in enumerate(X))
    model = rc.SequenceClassifier(**QUICK).fit(series, y)
    reads = model.specification_.pipeline
    assert reads.segments["numbers"].width == 3  # two columns and the time between steps
    scores = cross_val_score(rc.SequenceClassifier(**QUICK), series, y, cv=2, error_score="raise")
    assert len(scores) == 2
    search = GridSearchCV(rc.SequenceClassifier(max_epochs=1), {"hidden_size": [4, 8]}, cv=2).fit(series, y)
    assert search.best_estimator_.specification_.pipeline.of.kind_names == ["machine"]
    with pytest.raises(DataError, match="no column 'whom'"):
        rc.Series.of(frames.DataFrame(rows), sequence="whom")
    with pytest.raises(DataError, match="machine"):
        rc.Series.of(frames.DataFrame(rows))
    rows["when"] = [1.0] * len(rows["when"])
    with pytest.raises(DataError, match=r"sequence 0, step 1.*not after"):
        rc.Series.of(frames.DataFrame(rows), sequence="who", time="when")


def test_panels_of_pandas():
    pandas = peer("pandas")
    X, y = drifting(10)
    parts = [pandas.DataFrame(part, columns=["a", "b"]) for part in X]
    panel = pandas.concat(parts, keys=range(10), names=["instance", "time"])
    series = rc.Series.of(panel)
    assert all(np.array_equal(series[n], part) for n, part in enumerate(X))
    assert np.array_equal(series.times[: len(X[0])], np.arange(len(X[0])))
    assert rc.SequenceClassifier(**QUICK).fit(panel, y).predict(panel).shape == (10,)
    wide = pandas.DataFrame(np.random.default_rng(0).normal(size=(10, 5)))
    assert rc.SequenceClassifier(**QUICK).fit(wide, y).predict(wide).shape == (10,)


def test_strings_and_tokens():
    texts = ["abab" * 3, "bbaa" * 2, "abca" * 4] * 20
    y = [0, 1, 2] * 20
    model = rc.SequenceClassifier(max_epochs=15, hidden_size=8, dropout=0.0).fit(texts, y)
    assert model.score(texts, y) == 1
    words = [["good", "day"], ["bad", "day"], ["so", "so"]] * 20
    model = rc.SequenceClassifier(max_epochs=15, hidden_size=8, embedding_size=5, dropout=0.0).fit(words, y)
    assert model.score(words, y) == 1
    with pytest.raises(DataError, match="sequences of tokens"):
        model.predict([np.zeros((3, 2))])


# ---------------------------------------------------------------- targets


def test_targets_of_steps():
    X, _ = drifting(60)
    above = [(part[:, 0] > 1).astype(int) for part in X]
    model = rc.SequenceClassifier(max_epochs=12, hidden_size=16).fit(X, above)
    assert model.score(X, above) > 0.95
    assert [len(found) for found in model.predict(X)] == [len(part) for part in X]
    assert all(p.shape == (len(part), 2) for p, part in zip(model.predict_proba(X), X, strict=True))
    flags = [(part > 1).astype(int) for part in X]
    model = rc.SequenceClassifier(max_epochs=12, hidden_size=16, noise=0.0).fit(X, flags)
    assert model.score(X, flags) > 0.9
    assert model.predict(X)[0].shape == flags[0].shape
    sums = [np.cumsum(part[:, 0]) for part in X]
    model = rc.SequenceRegressor(max_epochs=20, hidden_size=16, dropout=0.0, bidirectional=False).fit(X, sums)
    assert model.score(X, sums) > 0.95
    assert all(found.shape == want.shape for found, want in zip(model.predict(X), sums, strict=True))


def test_several_numbers_and_flags_of_sequences():
    X, _ = drifting(80)
    y = np.array([[part[-1, 0], 100 * part[:, 1].mean()] for part in X])
    model = rc.SequenceRegressor(max_epochs=25, hidden_size=16, dropout=0.0).fit(X, y)
    assert model.predict(X).shape == (80, 2)
    assert model.score(X, y) > 0.8
    flags = (y > 0).astype(int)
    model = rc.SequenceClassifier(max_epochs=15, hidden_size=16).fit(X, flags)
    assert model.predict(X).shape == (80, 2) and model.predict_proba(X).shape == (80, 2)
    assert model.score(X, flags) > 0.6
    with pytest.raises(DataError, match="0 and 1 alone"):
        model.score(X, flags + 1)
    one = rc.SequenceRegressor(**QUICK).fit(X, y[:, :1])
    assert one.predict(X).shape == (80, 1)


def two_labels(X, by_step: bool):
    """A word, and one of three numbers, for each step or each sequence."""

    def of(a, b):
        return ["up" if a > 0 else "down", int(b > -1) + int(b > 1)]

    if by_step:
        return [[of(*step) for step in part] for part in X]
    return [of(part[:, 0].sum(), part[:, 1].sum()) for part in X]


@pytest.mark.parametrize("by_step", [False, True])
def test_several_labels(tmp_path, by_step):
    rng = np.random.default_rng(3)
    X = [rng.normal(size=(rng.integers(4, 9), 2)) for _ in range(150)]
    y = two_labels(X, by_step)
    options = {"max_epochs": 25, "hidden_size": 16, "dropout": 0.0, "noise": 0.1}
    model = rc.SequenceClassifier(**options).fit(X, y)
    assert [own.tolist() for own in model.classes_] == [["down", "up"], [0, 1, 2]]
    assert model.score(X, y) > 0.9
    found, p = model.predict(X), model.predict_proba(X)
    if by_step:
        assert all(one.shape == (len(part), 2) for one, part in zip(found, X, strict=True))
        found, y_all = np.concatenate(found), [row for part in y for row in part]
        p = [np.concatenate(one) for one in p]
    else:
        y_all = y
    assert [one.shape[1] for one in p] == [2, 3]
    for column, own in enumerate(model.classes_):
        np.testing.assert_allclose(p[column].sum(axis=1), 1, rtol=1e-5)
        assert np.array_equal(own[p[column].argmax(axis=1)], found[:, column].astype(own.dtype))
        assert np.mean([a == b[column] for a, b in zip(found[:, column], y_all, strict=True)]) > 0.9
    model.save(tmp_path / "m.safetensors")
    for twin in (rc.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(np.concatenate(twin.predict(X)), np.concatenate(model.predict(X)))
    watched = rc.SequenceClassifier(class_weight="balanced", early_stopping=True, max_epochs=3, hidden_size=8)
    watched.fit(X, y, sample_weight=np.arange(150) + 1.0)
    assert {"val_loss", "val_score"} <= {*watched.history_[0]}
    again = rc.SequenceClassifier(**QUICK).partial_fit(X, y, classes=[["down", "same", "up"], [0, 1, 2, 3]])
    assert [len(own) for own in again.classes_] == [3, 4]


def test_labels_in_columns_are_those_of_frames_and_arrays():
    X, _ = drifting(40)
    y = np.array(two_labels(X, False))
    wanted = rc.SequenceClassifier(**QUICK).fit(X, y).predict(X)
    assert wanted.dtype.kind == "U"
    frame = peer("pandas").DataFrame(y, columns=["a", "b"])
    assert np.array_equal(rc.SequenceClassifier(**QUICK).fit(X, frame).predict(X), wanted)
    balanced = rc.SequenceClassifier(class_weight="balanced", **QUICK).fit(X, y)
    _, at, counts = np.unique(y[:, 0], return_inverse=True, return_counts=True)
    _, at2, counts2 = np.unique(y[:, 1], return_inverse=True, return_counts=True)
    weights = (40 / (2 * counts))[at] * (40 / (len(counts2) * counts2))[at2]
    same = rc.SequenceClassifier(**QUICK).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(balanced.predict_proba(X)[1], same.predict_proba(X)[1], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- scales, gaps


def test_scales_make_no_difference():
    X, _ = drifting(50)
    y = np.array([part[:, 0].mean() for part in X])
    plain = rc.SequenceRegressor(dtype="float64", **QUICK).fit(X, y).predict(X)
    moved = [part * [1e6, 1e-6] + [5e6, -3] for part in X]
    other = rc.SequenceRegressor(dtype="float64", **QUICK).fit(moved, y * 1e5 - 7e5).predict(moved)
    np.testing.assert_allclose((other + 7e5) / 1e5, plain, rtol=1e-6, atol=1e-6)
    constant = [np.column_stack([part, np.full(len(part), 3.0)]) for part in X]
    assert np.isfinite(rc.SequenceRegressor(**QUICK).fit(constant, y).predict(constant)).all()


def test_missing_numbers_are_marked():
    X, y = drifting(60)
    rng = np.random.default_rng(3)
    holes = [part.copy() for part in X]
    for part in holes:
        part[rng.random(len(part)) < 0.3, 0] = np.nan
    with pytest.raises(DataError, match=r"sequence \d+, step \d+, column 0.*NaN.*missing='mask'"):
        rc.SequenceClassifier(**QUICK).fit(holes, y)
    model = rc.SequenceClassifier(missing="mask", **QUICK).fit(holes, y)
    pipeline = model.specification_.pipeline.of
    assert pipeline.input_size == 4  # two columns, whether the first is missing, and since when
    encoded = pipeline.encode(rc.Series.of([np.array([[1.0, 0], [np.nan, 0], [np.nan, 0], [2.0, 0]])])).x
    assert encoded[:, 2].tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(np.expm1(encoded[:, 3]), [0, 1, 2, 3], rtol=1e-6)
    assert encoded[1, 0] == 0
    holes[0][0, 0] = np.inf
    with pytest.raises(DataError, match=r"sequence 0, step 0, column 0.*inf"):
        model.predict(holes)


def test_noise_does_not_add_up():
    """It is written over that of the epoch before, and only over numbers."""
    series = rc.Series.of([np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, 7.0]])], times=[[0.0, 1.0, 3.0]])
    pipeline = SeriesPipeline(missing="mask", noise=0.5)
    pipeline.fit(series)
    data = pipeline.encode(series)
    clean, change = data.x.copy(), pipeline.augment(data)
    first = change(data.x, np.random.default_rng(0)).copy()
    change(data.x, np.random.default_rng(1))
    assert np.array_equal(change(data.x, np.random.default_rng(0)), first)
    drawn = np.random.default_rng(0).standard_normal((3, 2), dtype="float32") * np.float32(0.5)
    assert np.array_equal(first[:, :2], clean[:, :2] + drawn)
    assert np.array_equal(first[:, 2:], clean[:, 2:])
    assert SeriesPipeline().augment(data) is None


def test_labels_that_were_not_trained_on():
    X, y = drifting(20)
    model = rc.SequenceClassifier(warm_start=True, **QUICK).fit(X, y)
    assert model.score(X[:2], ["down", "down"]) == 0
    with pytest.raises(DataError, match="label 'down' was not in the training data; known labels: level, up"):
        model.fit(X[:2], ["up", "down"])
    columns = np.array([[label, "ab"[n % 2]] for n, label in enumerate(y)])
    model = rc.SequenceClassifier(**QUICK).fit(X, columns)
    assert model.score(X[:1], np.array([["down", "a"]])) == 0


def test_preset_of_several_at_once():
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 2, (12, 4)).astype(float) for _ in range(30)]
    y = [(1 - part[:, ::-1]).astype(int) for part in X]
    model = rc.SequenceClassifier.preset("polyphony", max_epochs=12).fit(X, y)
    assert not model.network_.layers[0].bidirectional and model.score(X, y) > 0.9
    assert np.array_equal(
        model.predict_proba([X[0][:5]])[0], model.predict_proba(X[:1])[0][:5]
    )  # nothing of later steps
    assert rc.SequenceClassifier.preset("default").get_params() == rc.SequenceClassifier().get_params()
    with pytest.raises(ValueError, match="preset"):
        rc.SequenceClassifier.preset("loud")


def test_times_are_read():
    """What is between two steps is in their times alone."""
    rng = np.random.default_rng(4)
    y = np.arange(120) % 2
    times = [np.cumsum(rng.exponential(3.0 if label else 0.3, 10) + 0.01) for label in y]
    X = rc.Series.of([rng.normal(size=(10, 1)) for _ in y], times=times)
    model = rc.SequenceClassifier(max_epochs=15, hidden_size=8).fit(X, y)
    assert model.score(X, y) > 0.95
    with pytest.raises(DataError, match="times of all steps"):
        model.predict([np.zeros((10, 1))])
    stamps = np.array(["2024-01-01", "2024-01-03"], dtype="datetime64[D]")
    assert rc.Series.of([np.zeros(2)], times=[stamps]).times.tolist() == [1704067200.0, 1704240000.0]


# ---------------------------------------------------------------- kept, and refused


@pytest.mark.parametrize("threads", [1, 2])
def test_saved_pickled_resumed(tmp_path, threads):
    X, y = drifting(40)
    options = QUICK | {"noise": 0.1, "n_threads": threads}
    model = rc.SequenceClassifier(**options).fit(X, y)
    wanted = model.predict_proba(X)
    assert np.array_equal(rc.SequenceClassifier(**(options | {"n_threads": 1})).fit(X, y).predict_proba(X), wanted)
    model.save(tmp_path / "model.safetensors")
    for twin in (rc.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.predict_proba(X), wanted)
        assert twin.classes_.tolist() == ["level", "up"]

    def stop(record):
        return record["epoch"] == 2

    half = rc.SequenceClassifier(callbacks=[stop], **options)
    half.fit(X, y, checkpoint=tmp_path / "half.ckpt", checkpoint_every=0)
    rest = rc.SequenceClassifier(**options).fit(X, y, resume=tmp_path / "half.ckpt")
    assert np.array_equal(rest.predict_proba(X), wanted)
    numbers = np.array([part.sum() for part in X])
    regressor = rc.SequenceRegressor(**options).fit(X, numbers)
    regressor.save(tmp_path / "regressor.safetensors")
    assert np.array_equal(rc.load(tmp_path / "regressor.safetensors").predict(X), regressor.predict(X))
    flags = [(part > 0).astype(int) for part in X]
    flagger = rc.SequenceClassifier(**options).fit(X, flags)
    flagger.save(tmp_path / "flags.safetensors")
    found = rc.load(tmp_path / "flags.safetensors").predict_proba(X)
    assert all(map(np.array_equal, found, flagger.predict_proba(X)))


def test_weights_partial_fit_and_early_stopping():
    X, y = drifting(40)
    balanced = rc.SequenceClassifier(class_weight="balanced", **QUICK).fit(X, y, sample_weight=np.arange(40) + 1.0)
    assert balanced.predict_proba(X).shape == (40, 2)
    model = rc.SequenceClassifier(**QUICK)
    for _ in range(3):
        model.partial_fit(X, y, classes=["level", "up", "down"])
    assert model.classes_.tolist() == ["down", "level", "up"]
    early = rc.SequenceClassifier(early_stopping=True, max_epochs=30, n_iter_no_change=3, hidden_size=8).fit(X, y)
    assert "val_score" in early.history_[0]
    watched = rc.SequenceRegressor(**QUICK).fit(X, np.arange(40.0), validation_data=(X[:5], np.arange(5.0)))
    assert "val_loss" in watched.history_[0]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([np.zeros((3, 2)), np.zeros((2, 3))], ["a", "b"], r"X\[1\] has 3 numbers"),
        ([np.zeros((3, 2))], ["a", "b"], "as many targets as sequences"),
        ([np.zeros((3, 2))] * 2, ["a", "a"], "more than one class"),
        ([np.zeros((3, 2)), np.zeros((0, 2))], [[0, 1, 1], [1]], "sequence 1 has 0 steps but 1"),
        (np.zeros((3, 2, 2, 2)), [0, 1, 1], "Reshape"),
        ([np.zeros((3, 2)), "abc"], ["a", "b"], r"X\[1\] must be numbers"),
        ([np.array([[0.0, np.inf]] * 3)] * 2, ["a", "b"], "sequence 0, step 0, column 1.*inf"),
        ({"a": 1}, [1], "list of sequences"),
        ([np.zeros((3, 2))] * 2, [0.5, 1.5], "continuous"),
        ([np.zeros((3, 2))] * 2, np.array([["a", "b"], ["a", "c"]]), "column 0 are 'a'"),
        ([np.zeros((3, 2))] * 2, np.array([[1, 0.5], [0, 2]]), "continuous"),
        ([np.zeros((3, 2))] * 2, np.array([[1, 0], [0, np.nan]]), "NaN"),
        ([np.zeros((3, 2))] * 2, [np.zeros((3, 2), int), np.full((3, 3), 2)], r"y\[1\], row 0: expected 2 labels"),
    ],
)
def test_what_is_refused(X, y, message):
    with pytest.raises((DataError, TypeError), match=message):
        rc.SequenceClassifier(**QUICK).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "every"}, "pooling"),
        ({"scale": "minmax"}, "scale"),
        ({"missing": "drop"}, "missing"),
        ({"noise": -1}, "noise"),
        ({"per_step": "yes"}, "per_step"),
    ],
)
def test_settings_that_are_refused(options, message):
    X, y = drifting(6)
    with pytest.raises((ValueError, TypeError), match=message):
        rc.SequenceClassifier(**options).fit(X, y)
