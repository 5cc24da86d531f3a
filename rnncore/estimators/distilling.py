"""One network that learns what others say: a teacher's probabilities in the place of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from rnncore.data.encoders import LabelEncoder
from rnncore.data.inputs import sequences_of
from rnncore.estimators._combining import combined
from rnncore.estimators._examples import Examples, Nouns
from rnncore.estimators._soft_labels import SoftLabels
from rnncore.optim.arguments import check_number

__all__ = ["distil"]


def distil(
    teacher: Any,
    student: Any,
    X: Any,
    y: Any = None,
    labels: float = 0.5,
    temperature: float = 1.0,
    **fit_params: Any,
) -> Any:
    """Train one tagger on the probabilities that another, or an ensemble, gives to all labels of all words.

    They say more than labels do: which others would have been nearly right (Hinton, Vinyals and Dean 2015). `X` needs
    no labels, so more sentences may be there than somebody has tagged.

    Parameters
    ----------
    teacher : fitted estimator
        With `predict_proba` and `classes_`: a `SequenceTagger` or `Ensemble`.
    student : SequenceTagger
        With head="softmax" and no class weights; it stays as it is.
    X : list of sequences
        As for `fit`.
    y : list, optional
        The labels of `X`, where they are known.
    labels : float
        How much they count beside the teacher's probabilities, from 0 (not at all) to 1.
    temperature : float
        Learn p^(1/temperature), normalised, by the student's scores divided by the temperature: above 1, labels that
        the teacher finds improbable count more.
    **fit_params
        More arguments of the student's `fit`, such as ``validation_data``.

    Returns
    -------
    SequenceTagger
        A clone of `student`, fitted.

    Raises
    ------
    ValueError, TypeError
        For a student that cannot learn probabilities, and a teacher that has none.

    Examples
    --------
    >>> import rnncore as rc
    >>> sentences, tags = rc.datasets.news_requests(100)
    >>> teacher = rc.SequenceTagger(max_epochs=5).fit(sentences, tags)
    >>> student = rc.distil(teacher, rc.SequenceTagger(head="softmax", hidden_size=8, max_epochs=5), sentences)
    >>> student.classes_.tolist() == teacher.classes_.tolist()
    True
    """
    for name in ("predict_proba", "classes_"):
        if not hasattr(teacher, name):
            raise TypeError(f"teacher: expected a fitted estimator with {name}, got {type(teacher).__name__}")
    check_number("labels", labels, "[0, 1]", 0.5)
    check_number("temperature", temperature, "(0, inf)", 2.0)
    made = clone(student)
    _check_student(made)
    X = sequences_of(X, "sentences")
    found = teacher.predict_proba(X)
    classes = np.asarray(teacher.classes_).tolist()
    probabilities = np.concatenate(found) if len(found) else np.empty((0, len(classes)))
    if temperature != 1:
        probabilities = combined([probabilities], np.array([1 / temperature]), "product")
    lengths = np.array([len(part) for part in found], dtype=np.int64)
    soft = SoftLabels(classes, probabilities, lengths)
    if y is not None:
        y = Examples.of(X, y, Nouns("sentence", "tag", "word"), per_step=True).targets
        known = LabelEncoder().fit([classes, *y])
        mixed = (1 - labels) * soft.of(known.classes)
        mixed[np.arange(len(mixed)), known.encode(y)] += labels
        soft = SoftLabels(known.classes, mixed.astype(probabilities.dtype), lengths)
    made.fit(X, soft, **fit_params)
    for name, array in made.network_.params.items():
        if name.startswith("head."):  # what learned were the scores divided by the temperature
            array *= temperature
    return made


def _check_student(student: Any) -> None:
    task: Any = student._make_task(student) if hasattr(student, "_make_task") else None
    if not hasattr(task, "kind"):
        raise TypeError(f"student: expected a SequenceTagger, got {type(student).__name__}")
    if task.kind != "softmax":
        raise ValueError(
            "student: a CRF learns sequences of labels, not each label's probabilities: set head='softmax'"
        )
    if student.sentence_labels:
        raise ValueError("student: expected a tagger of tags alone: set sentence_labels=False")
    if student.class_weight is not None:
        raise ValueError("student: class_weight goes with labels, not with probabilities: leave it out")
