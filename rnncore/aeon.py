"""rnncore's estimators as aeon's own: ``from rnncore.aeon import RNNClassifier, RNNRegressor``.

They take the settings of `SequenceClassifier` and `SequenceRegressor` as keywords, and the collections of aeon: arrays
(S, D, T), or lists of (D, T) of unequal lengths.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from rnncore.data.series import Series
from rnncore.estimators._adapting import PANEL_SETTINGS, made_of, taking_settings
from rnncore.estimators.series import SequenceClassifier, SequenceRegressor

try:
    from aeon.classification import BaseClassifier
    from aeon.regression import BaseRegressor
except ModuleNotFoundError as error:
    if error.name != "aeon":
        raise
    raise ImportError("rnncore.aeon needs aeon: pip install aeon") from error

__all__ = ["RNNClassifier", "RNNRegressor"]

_TAGS = {
    "X_inner_type": ["numpy3D", "np-list"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "algorithm_type": "deeplearning",
}


def series_of_collection(X: Any) -> Series:
    """Return aeon's collection, an array (S, D, T) or a list of (D, T)."""
    if isinstance(X, np.ndarray):
        return Series.of(np.ascontiguousarray(X.transpose(0, 2, 1)))
    return Series.of([part.T for part in X])


class RNNClassifier(BaseClassifier):
    """A recurrent network says which class a time series is of: `rnncore.SequenceClassifier`, for aeon.

    Series may have unequal lengths, several channels, and gaps: NaN is a number that is not there.

    Parameters
    ----------
    **settings
        Those of `rnncore.SequenceClassifier`, but for those that are of tokens or of labels for every step.

    Attributes
    ----------
    model_ : rnncore.SequenceClassifier
        What was fitted.

    Examples
    --------
    >>> from aeon.datasets import load_unit_test
    >>> X, y = load_unit_test(split="train")
    >>> RNNClassifier(hidden_size=16, max_epochs=20).fit(X, y).predict(X[:2]).shape
    (2,)
    """

    _tags = _TAGS

    __init__ = taking_settings(SequenceClassifier, BaseClassifier, PANEL_SETTINGS)

    def _fit(self, X: Any, y: np.ndarray) -> Self:
        self.model_ = made_of(SequenceClassifier, self, PANEL_SETTINGS).fit(series_of_collection(X), y)
        return self

    def _predict_proba(self, X: Any) -> np.ndarray:
        found: np.ndarray = self.model_.predict_proba(series_of_collection(X))
        return found

    def _predict(self, X: Any) -> np.ndarray:
        return np.asarray(self.classes_)[self._predict_proba(X).argmax(axis=1)]

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        quick = {"hidden_size": 8, "max_epochs": 3, "n_threads": 1}
        return [quick, quick | {"cell": "lstm", "pooling": "attention", "bidirectional": False}]


class RNNRegressor(BaseRegressor):
    """A recurrent network says a number of a time series: `rnncore.SequenceRegressor`, for aeon.

    Series are as for `RNNClassifier`.

    Parameters
    ----------
    **settings
        Those of `rnncore.SequenceRegressor`, but for those that are of tokens or of targets for every step.

    Attributes
    ----------
    model_ : rnncore.SequenceRegressor
        What was fitted.

    Examples
    --------
    >>> from aeon.datasets import load_covid_3month
    >>> X, y = load_covid_3month(split="train")
    >>> RNNRegressor(hidden_size=16, max_epochs=20).fit(X, y).predict(X[:2]).shape
    (2,)
    """

    _tags = _TAGS

    __init__ = taking_settings(SequenceRegressor, BaseRegressor, PANEL_SETTINGS)

    def _fit(self, X: Any, y: np.ndarray) -> Self:
        self.model_ = made_of(SequenceRegressor, self, PANEL_SETTINGS).fit(series_of_collection(X), y)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        found: np.ndarray = self.model_.predict(series_of_collection(X))
        return found

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        return RNNClassifier._get_test_params(parameter_set)
