"""Ensembles: members combined as their definition says, fitted, kept in files, and refused where they do not fit."""

import math
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

import rnncore as rc
from rnncore.cli import main
from rnncore.datasets import misspelt, news_requests
from rnncore.estimators._combining import chosen_weights, combined
from rnncore.estimators._consistent import most_probable

TINY = {"hidden_size": 8, "max_epochs": 3}


@pytest.fixture(scope="module")
def data():
    sentences, tags = news_requests(160)
    return sentences[:120], tags[:120], sentences[120:], tags[120:]


@pytest.fixture(scope="module")
def members(data):
    """Taggers of words and of spelling, with a CRF and without."""
    X, y = data[:2]
    return [
        rc.SequenceTagger(**TINY, random_state=1).fit(X, y),
        rc.SequenceTagger(**TINY, head="softmax", affixes=2, shapes=True, cell="gru").fit(X, y),
        rc.SequenceTagger(**TINY, head="softmax", lowercase=False, window=1).fit(X, y),
    ]


def joint(members, **options):
    return rc.Ensemble(members, prefit=True, **options).fit()


# -- combining -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [1, 2, 5]])
def test_the_mean_and_the_product_are_what_they_are_called(members, data, weights):
    X = data[2]
    w = np.full(3, 1 / 3) if weights is None else np.array(weights) / 8
    each = [np.concatenate(member.predict_proba(X)).astype(float) for member in members]
    mean = joint(members, weights=weights)
    product = joint(members, combine="product", weights=weights)
    np.testing.assert_allclose(np.concatenate(mean.predict_proba(X)), sum(v * p for v, p in zip(w, each, strict=True)))
    wanted = np.prod([np.maximum(p, 1e-37) ** v for v, p in zip(w, each, strict=True)], axis=0)
    wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.concatenate(product.predict_proba(X)), wanted, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(mean.weights_, w)


def test_a_product_of_zeros_is_still_a_distribution():
    first, second = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    found = combined([first, second], np.array([0.5, 0.5]), "product")
    assert np.isfinite(found).all() and found.sum() == pytest.approx(1)
    assert found[0, 0] == pytest.approx(0.5) and found[0, 2] < 1e-15


def test_members_with_other_labels_are_aligned_by_them(data):
    X, y = data[:2]
    few = [[("O" if label.endswith("KEYWORD") else label) for label in labels] for labels in y]
    more = [[*labels[:-1], "A-NEW"] for labels in y]
    parts = [rc.SequenceTagger(**TINY, random_state=i).fit(X, z) for i, z in enumerate((y, few, more))]
    found = joint(parts, weights=[1, 2, 3])
    assert found.classes_.tolist() == sorted({label for z in (y, few, more) for labels in z for label in labels})
    p = np.concatenate(found.predict_proba(X))
    total = np.zeros_like(p)
    for part, weight in zip(parts, (1, 2, 3), strict=True):
        own = np.concatenate(part.predict_proba(X))
        for n, label in enumerate(part.classes_):
            total[:, found.classes_.tolist().index(label)] += weight / 6 * own[:, n]
    np.testing.assert_allclose(p, total, atol=1e-12)


@pytest.mark.parametrize("how", ["mean", "product"])
def test_chosen_weights_are_no_worse_than_any_on_a_grid(how):
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 200)
    skill = np.array([0.1, 1.0, 2.0])[:, None, None]
    scores = rng.normal(size=(3, 200, 4)) + skill * (right[:, None] == np.arange(4))
    p = np.exp(scores)
    p /= p.sum(axis=2, keepdims=True)

    def loss(w):
        return -np.log(combined(list(p), w, how)[np.arange(200), right]).mean()

    found = chosen_weights(p, right, how)
    assert found.min() >= 0 and found.sum() == pytest.approx(1) and found.argmax() == 2
    grid = [np.array([a, b, 10 - a - b]) / 10 for a in range(11) for b in range(11 - a)]
    assert loss(found) <= min(map(loss, grid)) + 1e-6


def test_labels_fit_one_another_and_are_the_most_probable_that_do():
    rule = rc.heads.bio_constraints(["B-X", "B-Y", "I-X", "I-Y", "O"])
    rng = np.random.default_rng(1)
    lengths = np.array([1, 4, 3, 4, 2])
    logs = np.log(rng.dirichlet(np.ones(5) / 2, lengths.sum()))
    found = most_probable(logs, lengths, rule)
    for start, length in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
        part = logs[start : start + length]
        paths = np.stack(np.meshgrid(*[np.arange(5)] * length, indexing="ij"), axis=-1).reshape(-1, length)
        fine = [path for path in paths if rule.first_break(path) is None]
        best = max(fine, key=lambda path: part[np.arange(length), path].sum())
        assert found[start : start + length].tolist() == best.tolist()
    assert (found != logs.argmax(axis=1)).any()


def test_predictions_keep_to_the_scheme_unless_the_data_do_not(members, data):
    X, y, new, _ = data
    rule = rc.heads.bio_constraints(members[0].classes_.tolist())
    number = {label: n for n, label in enumerate(members[0].classes_)}

    def breaks(labels):
        return sum(rule.first_break(np.array([number[label] for label in part])) is not None for part in labels)

    free = joint(members, constraints=None)
    assert breaks(free.predict(new)) > 0 == breaks(joint(members).predict(new))
    p = free.predict_proba(new)
    assert free.predict(new) == [free.classes_[part.argmax(axis=1)].tolist() for part in p]
    odd = [[label.replace("B-", "I-") for label in part] for part in y]  # chunks may begin with I
    fitted = rc.Ensemble([rc.SequenceTagger(**TINY)]).fit(X, odd)
    assert any(part[0].startswith("I-") for part in fitted.predict(X))


# -- scikit-learn ---------------------------------------------------------------------------------------------------


def test_parameters_stay_as_they_are_and_are_reached_by_name():
    made = [("a", rc.SequenceTagger(hidden_size=3)), ("b", rc.SequenceTagger())]
    ensemble = rc.Ensemble(made, combine="product", weights=[1, 2])
    assert ensemble.estimators is made and ensemble.get_params(deep=False)["estimators"] is made
    assert ensemble.get_params()["a__hidden_size"] == 3 and ensemble.get_params()["b"] is made[1][1]
    ensemble.set_params(a__hidden_size=4, b=rc.SequenceTagger(cell="gru"), combine="mean")
    assert made[0][1].hidden_size == 4 and ensemble.get_params()["b__cell"] == "gru" and ensemble.combine == "mean"
    twin = clone(ensemble)
    assert twin.estimators[0][1] is not ensemble.estimators[0][1] and twin.get_params()["b__cell"] == "gru"
    bare = rc.Ensemble([rc.SequenceTagger(), rc.SequenceTagger()]).set_params(member1__cell="lstm")
    assert bare.estimators[1].cell == "lstm"
    with pytest.raises(ValueError, match="nothing"):
        ensemble.set_params(nothing=1)
    assert "nothing" not in repr(ensemble)


def test_fitting_leaves_the_estimators_as_they_are_and_members_are_as_if_fitted_alone(data):
    X, y, new, _ = data
    made = [("a", rc.SequenceTagger(**TINY)), ("b", rc.SequenceTagger(**TINY, cell="gru"))]
    ensemble = rc.Ensemble(made).fit(sentences=iter(X), tags=iter(y))
    assert not hasattr(made[0][1], "network_")
    for name, estimator in made:
        alone = clone(estimator).fit(X, y)
        assert (alone.network_.theta == ensemble.named_estimators_[name].network_.theta).all()
    before = ensemble.predict_proba(new)
    ensemble.set_params(combine="product", weights=[0, 1])  # counts from the next fit on
    for one, other in zip(before, ensemble.predict_proba(new), strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_number_of_jobs_gives_the_same_bits(data):
    X, y = data[:2]
    ensemble = rc.Ensemble.of_seeds(rc.SequenceTagger(**TINY), 3)
    found = [clone(ensemble).set_params(n_jobs=n).fit(X, y).estimators_ for n in (1, 2)]
    for one, other in zip(*found, strict=True):
        assert (one.network_.theta == other.network_.theta).all()
    thetas = [member.network_.theta for member in found[0]]
    assert (thetas[0] != thetas[1]).any() and (thetas[1] != thetas[2]).any()


def test_a_grid_search_goes_over_members(data):
    X, y = data[:2]
    ensemble = rc.Ensemble([("a", rc.SequenceTagger(**TINY)), ("b", rc.SequenceTagger(**TINY))])
    search = GridSearchCV(ensemble, {"a__hidden_size": [4, 8], "combine": ["product"]}, cv=2).fit(X, y)
    assert search.best_estimator_.named_estimators_["b"].network_ is not None
    assert len(search.cv_results_["params"]) == 2 and np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_frozen_members_are_taken_as_they_are_beside_others_that_are_fitted(members, data):
    X, y = data[:2]
    ensemble = rc.Ensemble([FrozenEstimator(members[0]), rc.SequenceTagger(**TINY)]).fit(X, y)
    assert ensemble.estimators_[0] is members[0] and ensemble.estimators_[1].network_ is not None


def test_it_judges_as_a_tagger_does(members, data):
    _, _, X, y = data
    X, y = [*X, []], [*y, []]
    ensemble = joint(members)
    labels = ensemble.predict(X)
    right = [a == b for one, other in zip(labels, y, strict=True) for a, b in zip(one, other, strict=True)]
    assert labels[-1] == [] and ensemble.predict_proba(X)[-1].shape == (0, len(ensemble.classes_))
    assert ensemble.count_correct(X, y) == (sum(right), len(right))
    assert ensemble.score(X, y) == pytest.approx(np.mean(right))
    weights = np.arange(len(X), dtype=float)
    each = np.repeat(weights, [len(part) for part in y])
    assert ensemble.score(X, y, weights) == pytest.approx(np.average(right, weights=each))
    assert ensemble.evaluate(X, y)["accuracy"] == pytest.approx(np.mean(right))
    np.testing.assert_array_equal(ensemble.knows(X), members[0].knows(X) | members[1].knows(X) | members[2].knows(X))


def test_weights_by_validation_data(members, data):
    _, _, new, labels = data
    ensemble = rc.Ensemble(members, weights="validation", prefit=True).fit(validation_data=(new, labels))

    def loss(one):
        known = [one.classes_.tolist().index(label) for part in labels for label in part]
        return -np.log(np.concatenate(one.predict_proba(new))[np.arange(len(known)), known]).mean()

    assert loss(ensemble) <= min(loss(joint(members)), *(loss(joint(members, weights=w)) for w in np.eye(3))) + 1e-6
    with pytest.raises(ValueError, match="needs validation_data"):
        rc.Ensemble(members, weights="validation", prefit=True).fit()


def test_one_training_gives_several_snapshots(data):
    X, y = data[:2]
    tagger = rc.SequenceTagger(hidden_size=8, max_epochs=8)
    ensemble = rc.Ensemble([("a", tagger)], n_snapshots=4).fit(X, y)
    assert list(ensemble.named_estimators_) == ["a-1", "a-2", "a-3", "a-4"] and len(ensemble.weights_) == 4
    last = ensemble.estimators_[-1]
    assert last.n_epochs_ == 8 and last.callbacks is None and tagger.schedule == "linear"
    alone = clone(tagger).set_params(schedule={"name": "cosine", "cycles": 4}).fit(X, y)
    assert (alone.network_.theta == last.network_.theta).all()
    assert len({one.network_.theta.tobytes() for one in ensemble.estimators_}) == 4
    p = np.concatenate(ensemble.predict_proba(X))
    each = [np.concatenate(one.predict_proba(X)) for one in ensemble.estimators_]
    np.testing.assert_allclose(p, np.mean(each, axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="optimizer by its name"):
        rc.Ensemble([rc.SequenceTagger(optimizer=rc.Adam())], n_snapshots=2).fit(X, y)


# -- how sure it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["mean", "product"])
def test_it_is_as_sure_as_its_probabilities_say(members, data, how):
    _, _, X, y = data
    X, y = [*X, []], [*y, []]
    y[3] = ["NEVER" for _ in y[3]]
    ensemble = joint(members, combine=how)
    column = {label: n for n, label in enumerate(ensemble.classes_)}
    p, labels = ensemble.predict_proba(X), ensemble.predict(X)

    def of(given):
        return [
            [part[t, column[label]] if label in column else 0.0 for t, label in enumerate(own)]
            for part, own in zip(p, given, strict=True)
        ]

    for given in (labels, y):
        found = ensemble.label_probabilities(X, given)
        assert [*map(len, found)] == [*map(len, given)]
        np.testing.assert_allclose(np.concatenate(found), np.concatenate(of(given)))
    np.testing.assert_allclose(ensemble.confidence(X), [*map(np.prod, of(labels))])
    assert ensemble.confidence([[]]).tolist() == [1.0] and ensemble.confidence([]).shape == (0,)
    right = [a == b for one, other in zip(labels, y, strict=True) for a, b in zip(one, other, strict=True)]
    expected = rc.metrics.calibration(np.concatenate(of(labels)), right)
    result = ensemble.evaluate(X, y)
    assert result["mean_confidence"] == pytest.approx(expected["mean_confidence"])
    assert result["calibration_error"] == pytest.approx(expected["calibration_error"])
    table = ensemble.errors(X, y, order="place")
    wrong = [
        (s, t)
        for s, (own, other) in enumerate(zip(y, labels, strict=True))
        for t, (a, b) in enumerate(zip(own, other, strict=True))
        if a != b
    ]
    assert [(one.sentence, one.position) for one in table] == wrong != []
    np.testing.assert_allclose([one.probability for one in table], [of(labels)[s][t] for s, t in wrong])
    assert [list(row) for row in table.counts()] == result["confusions"]
    assert {one.known for one in table} <= {True, False} and len(ensemble.errors(X, labels)) == 0
    assert "NEVER" in str(ensemble.show(X, y)) and str(ensemble.show(X, most=2)).count("\n") == 2


def test_what_an_ensemble_does_not_tell(members, texts, data):
    for name in ("predict_n_best", "calibrate"):
        assert not hasattr(joint(members), name)
    for name in ("confidence", "label_probabilities", "errors", "show"):
        assert not hasattr(joint(texts), name) and hasattr(rc.Ensemble(members), name)
        with pytest.raises(NotFittedError):
            getattr(rc.Ensemble(members), name)(*data[2 : 3 if name == "confidence" else 4])
    columns = rc.SequenceTagger(**TINY).fit(data[0], {"a": data[1]})
    with pytest.raises(ValueError, match="make an ensemble for each column"):
        joint([columns, columns])


def test_members_that_label_sentences_tell_of_their_tags(data, members):
    X, y = data[:2]
    with_labels = rc.SequenceTagger(sentence_labels=True, **TINY).fit(X, y, [len(words) % 2 for words in X])
    ensemble = joint([with_labels, members[0]])
    found = ensemble.label_probabilities(X, y)
    each = [one.label_probabilities(X, y) for one in (with_labels, members[0])]
    np.testing.assert_allclose(
        np.concatenate(found), (np.concatenate(each[0]) + np.concatenate(each[1])) / 2, rtol=1e-5
    )


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"combine": "product", "weights": [3, 1, 1], "constraints": None}])
def test_files_and_pickles_keep_the_bits(members, data, options, tmp_path):
    X = data[2]
    ensemble = joint([("a", members[0]), ("b", members[1]), ("c", members[2])], **options)
    ensemble.save(tmp_path / "m.safetensors")
    for twin in (rc.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(ensemble))):
        assert twin.predict(X) == ensemble.predict(X) and list(twin.named_estimators_) == ["a", "b", "c"]
        for one, other in zip(twin.predict_proba(X), ensemble.predict_proba(X), strict=True):
            np.testing.assert_array_equal(one, other)
        twin.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_a_damaged_file_ends_in_one_error(members, tmp_path):
    path = tmp_path / "m.safetensors"
    header, arrays = joint(members)._to_model()
    for change in ({"weights": [1, 2]}, {"members": []}, {"members": [{"kind": "Nothing"}]}, {"combine": "sum"}):
        rc.io.files.write_model(path, "Ensemble", header | change, arrays)
        with pytest.raises(rc.io.files.ModelFileError):
            rc.load(path)
    rc.io.files.write_model(path, "Ensemble", header, {k: v for k, v in arrays.items() if not k.startswith("1.")})
    with pytest.raises(rc.io.files.ModelFileError):
        rc.load(path)


def test_the_command_line_works_with_one(members, data, tmp_path, capsys):
    _, _, X, y = data
    model, text = str(tmp_path / "m.safetensors"), tmp_path / "test.txt"
    ensemble = joint(members)
    ensemble.save(model)
    text.write_text(
        "\n".join("".join(f"{a}\t{b}\n" for a, b in zip(*pair, strict=True)) for pair in zip(X, y, strict=True))
    )
    assert main(["evaluate", model, str(text)]) == 0
    correct, total = ensemble.count_correct(X, y)
    assert f"{correct / total:.4f}" in capsys.readouterr().out
    assert main(["predict", model, str(text), "--column", "1", "--out", str(tmp_path / "out.txt")]) == 0
    found = [line.split("\t")[-1] for line in (tmp_path / "out.txt").read_text().splitlines() if line]
    assert found == [label for part in ensemble.predict(X) for label in part]
    table = ensemble.errors(X, y)
    assert main(["evaluate", model, str(text), "--errors"]) == 0
    out = capsys.readouterr().out
    assert table.to_text(20) in out and "calibration error" in out
    assert main(["predict", model, str(text), "--column", "1", "--confidence"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sure = np.concatenate(ensemble.label_probabilities(X, ensemble.predict(X)))
    assert [line.split("\t")[-1] for line in lines if line] == [f"{p:.4f}" for p in sure]
    assert main(["predict", model, str(text), "--n-best", "2"]) == 2
    assert "--n-best needs a SequenceTagger of one column of tags; this model: Ensemble" in capsys.readouterr().err
    assert main(["info", model]) == 0
    out = capsys.readouterr().out
    assert "Ensemble" in out and "member2: SequenceTagger, weight 0.333" in out and "cell = 'gru'" in out


# -- language models ------------------------------------------------------------------------------------------------

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 20


@pytest.fixture(scope="module")
def texts():
    common = {"max_epochs": 2, "vocabulary_size": None}
    return [
        rc.LanguageModel(hidden_size=12, **common).fit(TEXT),
        rc.LanguageModel(hidden_size=16, cell="lstm", softmax="adaptive", random_state=3, **common).fit(TEXT),
    ]


@pytest.mark.parametrize("how", ["mean", "product"])
def test_language_models_predict_together(texts, how):
    ensemble = joint(texts, combine=how, weights=[2, 1])
    symbols = texts[0].symbols_
    assert ensemble.symbols_ == symbols != texts[1].symbols_  # by frequency there
    each = [[dict(model.next_symbols(text, len(symbols))) for model in texts] for text in ("th", "the c", " on")]
    for text, (a, b) in zip(("th", "the c", " on"), each, strict=True):
        p = np.array([[one[symbol] for symbol in symbols] for one in (a, b)])
        wanted = combined(list(p), np.array([2, 1]) / 3, how)
        found = dict(ensemble.next_symbols(text, len(symbols)))
        np.testing.assert_allclose([found[symbol] for symbol in symbols], wanted, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("how", ["mean", "product"])
def test_language_models_score_by_the_chain_rule_and_write(texts, how):
    ensemble = joint(texts, combine=how)
    text = "the dog sat."
    logs = [math.log(dict(ensemble.next_symbols(text[:n], 99))[text[n]]) for n in range(1, len(text))]
    assert ensemble.score(text) == pytest.approx(np.mean(logs), rel=1e-5)
    assert ensemble.perplexity(text) == pytest.approx(math.exp(-np.mean(logs)), rel=1e-5)
    assert ensemble.evaluate(text)["n_symbols"] == len(text) - 1
    assert ensemble.score(TEXT) > min(model.score(TEXT) for model in texts)
    written = ensemble.generate(30, "the ", random_state=1)
    assert (
        written == ensemble.generate(30, prime="the ", random_state=1) != ensemble.generate(30, "the ", random_state=2)
    )
    greedy = ensemble.generate(8, "the ", temperature=0)
    for n, letter in enumerate(greedy):
        assert ensemble.next_symbols("the " + greedy[:n], 1)[0][0] == letter
    best, log_p = ensemble.beam_search(3, "the ", beam_size=200)[0]
    steps = [dict(ensemble.next_symbols("the " + best[:n], 99))[best[n]] for n in range(3)]
    assert log_p == pytest.approx(np.log(steps).sum(), rel=1e-4)
    assert [symbol for symbol, _ in ensemble.expectations("the")] == list("the")


def test_language_models_of_sentences_and_weights_by_a_text(texts, tmp_path):
    sentences = ["to be or not", "to be", "not to be"] * 30
    models = [
        rc.LanguageModel(unit="word", sentences=True, hidden_size=8, max_epochs=n, random_state=n).fit(sentences)
        for n in (1, 5)
    ]
    ensemble = joint(models)
    text = ["to be", "not to be or"]
    total, n = 0.0, 0
    for part in text:
        expected = ensemble.expectations([part], 99)
        for symbol, following in expected:
            total, n = total + math.log(dict(following)[symbol]), n + 1
    assert ensemble.score(text) == pytest.approx(total / n, rel=1e-5)
    for how in ("mean", "product"):
        chosen = rc.Ensemble(models, how, weights="validation", prefit=True).fit(validation_data=text)
        assert chosen.weights_.argmax() == 1
        assert (
            chosen.score(text) >= max(joint(models, combine=how).score(text), *(m.score(text) for m in models)) - 1e-5
        )
    ensemble.save(tmp_path / "m.safetensors")
    twin = rc.load(tmp_path / "m.safetensors")
    assert twin.score(text) == ensemble.score(text) and twin.generate(5, random_state=0) == ensemble.generate(
        5, random_state=0
    )


def test_language_models_on_the_command_line(texts, tmp_path, capsys):
    model, text = str(tmp_path / "m.safetensors"), tmp_path / "text.txt"
    text.write_text(TEXT[:100])
    ensemble = joint(texts)
    ensemble.save(model)
    assert main(["generate", model, "--length", "20", "--prime", "the ", "--seed", "1"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == "the " + ensemble.generate(20, "the ", random_state=1)
    assert main(["evaluate", model, str(text)]) == 0
    assert f"{-ensemble.score(TEXT[:100]):.4f} nats" in capsys.readouterr().out
    assert main(["predict", model, str(text)]) == 2
    assert main(["info", model]) == 0


def test_language_models_are_fitted_together():
    ensemble = rc.Ensemble.of_seeds(rc.LanguageModel(hidden_size=8, max_epochs=1), 2).fit(TEXT)
    assert ensemble.score(TEXT) == pytest.approx(joint(ensemble.estimators_).score(TEXT))
    assert not hasattr(ensemble, "predict") and not hasattr(rc.Ensemble([rc.SequenceTagger()]), "generate")
    assert hasattr(rc.Ensemble([rc.SequenceTagger()]), "predict_proba")


# -- what is refused ------------------------------------------------------------------------------------------------


class Silent(rc.SequenceTagger):
    """A tagger without probabilities."""

    predict_proba = property()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m, t: rc.Ensemble([]).fit(), ValueError, "at least one"),
        (lambda m, t: rc.Ensemble(m[0], prefit=True).fit(), ValueError, "a list"),
        (lambda m, t: joint([rc.SequenceTagger, m[0]]), TypeError, "call it first"),
        (lambda m, t: joint([3]), TypeError, "pairs of name"),
        (lambda m, t: joint([("a", m[0]), ("a", m[1])]), ValueError, "must differ"),
        (lambda m, t: joint([("weights", m[0])]), ValueError, "no parameter"),
        (lambda m, t: joint([("a__b", m[0])]), ValueError, "'__'"),
        (lambda m, t: joint([m[0], t[0]]), ValueError, "one task"),
        (lambda m, t: joint([rc.SequenceTagger()]), NotFittedError, "not fitted"),
        (lambda m, t: joint(m, weights=[1, 2]), ValueError, "3 numbers"),
        (lambda m, t: joint(m, weights=[1, 2, -1]), ValueError, "from 0 on"),
        (lambda m, t: joint(m, weights=[0, 0, 0]), ValueError, "not all"),
        (lambda m, t: joint(m, weights=[1, 2, math.nan]), ValueError, "from 0 on"),
        (lambda m, t: joint(m, weights="best"), ValueError, "numbers, 'validation' or None, got 'best'"),
        (
            lambda m, t: rc.Ensemble(m, weights="validation", prefit=True).fit(validation_data=([["a"]],)),
            ValueError,
            r"expected \(sentences, tags\), got 1",
        ),
        (
            lambda m, t: joint([rc.SequenceTagger(**TINY).fit([["a"]], {"one": [["x"]], "two": [["y"]]})]),
            ValueError,
            "one answer for each word",
        ),
        (lambda m, t: joint(m, combine="sum"), ValueError, "combine"),
        (lambda m, t: joint(m, constraints="iob"), ValueError, "constraints"),
        (lambda m, t: rc.Ensemble(m, n_snapshots=0).fit(), ValueError, "n_snapshots"),
        (lambda m, t: rc.Ensemble([rc.SequenceTagger()]).fit(), ValueError, "prefit"),
        (lambda m, t: joint([t[0], rc.LanguageModel(**TINY).fit("xyz" * 20)]), ValueError, "same symbols"),
        (lambda m, t: joint([t[0], rc.LanguageModel(unit="word", **TINY).fit(TEXT)]), ValueError, "unit"),
        (lambda m, t: rc.Ensemble(m).predict([["a"]]), NotFittedError, "call fit"),
        (lambda m, t: rc.Ensemble(m).save("nowhere"), NotFittedError, "call fit"),
    ],
)
def test_errors(members, texts, make, error, message):
    with pytest.raises(error, match=message):
        make(members, texts)


def test_members_need_probabilities(members, data):
    silent = Silent(**TINY).fit(*data[:2])
    with pytest.raises(TypeError, match="predict_proba"):
        joint([members[0], silent])


# -- what it is good for --------------------------------------------------------------------------------------------


def test_a_model_of_letters_and_one_of_words_beat_both_on_misspelt_sentences():
    sentences, tags = news_requests(1400, random_state=3)
    X, y = misspelt(sentences[:400], 0.2, 1), tags[:400]
    new, labels = misspelt(sentences[400:], 0.2, 2), tags[400:]
    plain = {"window": 0, "affixes": 0, "shapes": False, "max_epochs": 12}
    words = rc.SequenceTagger(**plain)
    letters = rc.SequenceTagger(**plain, letters=24, min_count=10**9)  # knows no word as a whole
    ensemble = rc.Ensemble([("words", words), ("letters", letters)], combine="product").fit(X, y)
    alone = [member.count_correct(new, labels)[0] for member in ensemble.estimators_]
    assert ensemble.count_correct(new, labels)[0] > max(alone)
