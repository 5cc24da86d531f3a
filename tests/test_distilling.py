"""Distilling: a student learns the teacher's probabilities, with labels beside them or without."""

import numpy as np
import pytest

import rnncore as rc
from rnncore.datasets import news_requests
from rnncore.estimators._soft_labels import SoftLabels

STUDENT = {"head": "softmax", "hidden_size": 24, "max_epochs": 15, "word_dropout": 0.0, "dropout": 0.0}


@pytest.fixture(scope="module")
def data():
    sentences, tags = news_requests(260)
    return sentences[:60], tags[:60], sentences[60:]


@pytest.fixture(scope="module")
def teacher(data):
    return rc.Ensemble.of_seeds(rc.SequenceTagger(max_epochs=6, hidden_size=16), 2).fit(*data[:2])


def divergence(teacher, student, X):
    """Mean of Σ_k t_k log(t_k / p_k)."""
    t, p = (np.concatenate(one.predict_proba(X)).astype(np.float64) for one in (teacher, student))
    return (t * np.log(np.maximum(t, 1e-30) / np.maximum(p, 1e-30))).sum(axis=1).mean()


def test_a_student_comes_near_to_its_teacher_by_sentences_without_labels(teacher, data):
    X, y, more = data
    student = rc.SequenceTagger(**STUDENT)
    taught = teacher.distil(student, [*X, *more])
    assert not hasattr(student, "network_") and taught.classes_.tolist() == teacher.classes_.tolist()
    by_labels = rc.SequenceTagger(**STUDENT).fit(X, y)
    assert divergence(teacher, taught, more) < 0.3 * divergence(teacher, by_labels, more)
    again = rc.distil(teacher, student, [*X, *more])
    assert (again.network_.theta == taught.network_.theta).all()


def test_at_a_higher_temperature_the_student_is_as_sure_as_the_teacher(teacher, data):
    X, _, more = data
    found = {T: rc.distil(teacher, rc.SequenceTagger(**STUDENT), [*X, *more], temperature=T) for T in (1.0, 2.0, 4.0)}
    sure = {T: np.concatenate(one.predict_proba(more)).max(axis=1).mean() for T, one in found.items()}
    wanted = np.concatenate(teacher.predict_proba(more)).max(axis=1).mean()
    assert all(abs(value - wanted) < 0.05 for value in sure.values()), (sure, wanted)
    assert len({one.network_.theta.tobytes() for one in found.values()}) == 3
    assert all(divergence(teacher, one, more) < 0.2 for one in found.values())


def test_labels_count_as_much_as_is_said(teacher, data):
    X, y, _ = data
    wrong = [["A-NEW"] * len(labels) for labels in y]
    p = [
        np.concatenate(rc.distil(teacher, rc.SequenceTagger(**STUDENT), X, wrong, labels=share).predict_proba(X))
        for share in (0.0, 0.3, 1.0)
    ]
    assert p[0][:, 0].mean() < 0.01 and 0.25 < p[1][:, 0].mean() < 0.35 and p[2][:, 0].mean() > 0.99
    same = rc.distil(teacher, rc.SequenceTagger(**STUDENT), X, y, labels=1.0)
    alone = rc.SequenceTagger(**STUDENT).fit(X, y)
    np.testing.assert_allclose(np.concatenate(same.predict_proba(X)), np.concatenate(alone.predict_proba(X)), atol=2e-3)


def test_empty_sentences_weights_and_validation_go_with_it(teacher, data, tmp_path):
    X, y, more = data
    student = rc.SequenceTagger(**STUDENT)
    with pytest.warns(UserWarning, match="empty"):
        with_empty = rc.distil(teacher, student, [X[0], [], *X[1:]])
    plain = rc.distil(teacher, student, X)
    assert (with_empty.network_.theta == plain.network_.theta).all()
    few = np.arange(len(X)) < 30
    weighed = rc.distil(teacher, student, X, sample_weight=few.astype(float))
    assert (weighed.network_.theta == rc.distil(teacher, student, X[:30]).network_.theta).all()
    watched = rc.distil(teacher, student, more, validation_data=(X, y))
    assert 0 < watched.history_[-1]["val_score"] <= 1
    early = rc.distil(teacher, rc.SequenceTagger(**STUDENT, early_stopping=True), more)
    assert early.history_[-1]["val_score"] > early.history_[0]["val_score"]
    watched.save(tmp_path / "m.safetensors")
    assert rc.load(tmp_path / "m.safetensors").predict(X) == watched.predict(X)


def test_soft_labels_are_lists_of_the_most_probable_ones():
    p = np.array([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])
    soft = SoftLabels(["x", "y"], p, np.array([2, 1]))
    assert [*soft] == [["x", "y"], ["x"]] and len(soft) == 2
    part = soft.select([1])
    assert isinstance(soft[1:], SoftLabels) and [*part] == [["x"]]
    np.testing.assert_array_equal(part.of(["y", "z", "x"]), [[0.5, 0, 0.5]])


@pytest.mark.parametrize(
    ("student", "error", "message"),
    [
        (rc.SequenceTagger(), ValueError, "head='softmax'"),
        (rc.SequenceTagger(class_weight="balanced"), ValueError, "class_weight"),
        (rc.SequenceTagger(head="softmax", sentence_labels=True), ValueError, "tags alone"),
        (rc.LanguageModel(), TypeError, "SequenceTagger"),
    ],
)
def test_students_that_cannot_learn_it(teacher, data, student, error, message):
    with pytest.raises(error, match=message):
        rc.distil(teacher, student, data[0])


def test_other_errors(teacher, data):
    student = rc.SequenceTagger(**STUDENT)
    with pytest.raises(TypeError, match="teacher"):
        rc.distil(rc.LanguageModel(), student, data[0])
    with pytest.raises(ValueError, match="labels"):
        rc.distil(teacher, student, *data[:2], labels=1.5)
    with pytest.raises(ValueError, match="temperature"):
        rc.distil(teacher, student, data[0], temperature=0)
    with pytest.raises(ValueError, match="as many"):
        rc.distil(teacher, student, data[0], data[1][1:])
