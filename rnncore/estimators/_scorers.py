"""scikit-learn's scorers by name, for labels of every step.

``scoring="accuracy"``, ``"f1_macro"`` and their kin get lists of labels from a tagger, which scikit-learn's own
functions refuse: here they are laid end to end first. For other predictions nothing changes. ``"chunk_f1"`` counts
chunks (names, phrases) that are right as a whole.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from sklearn.metrics import make_scorer

from rnncore.data.inputs import sequences_of
from rnncore.estimators._task import LabelLists
from rnncore.metrics import entity_averages

__all__ = ["chunk_f1", "register"]

_AVERAGES = ("", "_macro", "_micro", "_weighted")
_NAMES = (
    "accuracy",
    "balanced_accuracy",
    "matthews_corrcoef",
    *(f"{metric}{average}" for metric in ("f1", "precision", "recall", "jaccard") for average in _AVERAGES),
)


class OverSteps:
    """A metric of labels that takes lists of them for all of their labels, one after the other."""

    def __init__(self, metric: Callable[..., Any]) -> None:
        functools.update_wrapper(self, metric)
        self.metric = metric

    def __call__(self, y_true: Any, y_pred: Any, *args: Any, **options: Any) -> Any:
        """Measure."""
        if isinstance(y_pred, LabelLists):
            y_true = sequences_of(y_true, "y_true")
            weights = options.get("sample_weight")
            if weights is not None:
                options["sample_weight"] = np.repeat(weights, [len(labels) for labels in y_true])
            y_true, y_pred = (list(chain.from_iterable(map(list, labels))) for labels in (y_true, y_pred))
        return self.metric(y_true, y_pred, *args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return OverSteps, (self.metric,)


def chunk_f1(y_true: Any, y_pred: Any) -> float:
    """Return the F1 of chunks spelled by labels such as B-X and I-X, all kinds together.

    Examples
    --------
    >>> chunk_f1([["B-X", "I-X", "O"]], [["B-X", "I-X", "B-Y"]])
    0.6666666666666666
    """
    true, found = ([list(labels) for labels in sequences_of(part, "y")] for part in (y_true, y_pred))
    return float(entity_averages(true, found)["micro"]["f1"])


def register() -> None:
    """Let scikit-learn know these scorers by name."""
    try:
        from sklearn.metrics import _scorer  # it has no public way in

        known: dict[str, Any] = _scorer._SCORERS
    except (ImportError, AttributeError):
        return
    for name in _NAMES:
        scorer: Any = known.get(name)
        if hasattr(scorer, "_score_func") and not isinstance(scorer._score_func, OverSteps):
            known[name] = copy.copy(scorer)
            known[name]._score_func = OverSteps(scorer._score_func)
    known.setdefault("chunk_f1", make_scorer(chunk_f1))
