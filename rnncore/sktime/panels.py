"""SequenceClassifier and SequenceRegressor as sktime's classifier and regressor."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sktime.classification.base import BaseClassifier
from sktime.regression.base import BaseRegressor

from rnncore.data.series import Series
from rnncore.estimators._adapting import PANEL_SETTINGS, made_of, taking_settings
from rnncore.estimators.series import SequenceClassifier, SequenceRegressor

__all__ = ["RNNClassifier", "RNNRegressor"]

_TAGS = {
    "authors": "the rnncore developers",
    "maintainers": "the rnncore developers",
    "python_dependencies": "rnncore",
    "X_inner_mtype": ["pd-multiindex", "numpy3D"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "capability:categorical_in_X": True,
    "capability:random_state": True,
    "property:randomness": "derandomized",
}

_SEQUENCE = "which sequence"  # a column's name


def series_of_panel(X: Any) -> Series:
    """Return sktime's panel, numpy3D (S, D, T) or a frame with a MultiIndex (sequence, time), without its times."""
    if isinstance(X, np.ndarray):
        return Series.of(np.ascontiguousarray(X.transpose(0, 2, 1)))
    frame = X.set_axis([str(name) for name in X.columns], axis=1)
    return Series.of(frame.droplevel(-1).rename_axis(_SEQUENCE).reset_index(), sequence=_SEQUENCE)


class RNNClassifier(BaseClassifier):
    """A recurrent network says which class a time series is of: `rnncore.SequenceClassifier`, for sktime.

    Series may have unequal lengths, several numbers a step, columns of kinds that are no numbers, and gaps: NaN is a
    number that is not there. The time index is not read: steps count as equally far apart.

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
    >>> from rnncore.sktime import RNNClassifier
    >>> from sktime.datasets import load_unit_test
    >>> X, y = load_unit_test(split="train", return_type="numpy3D")
    >>> model = RNNClassifier(hidden_size=16, max_epochs=20).fit(X, y)
    >>> model.predict(X[:2]).shape
    (2,)
    """

    _tags = _TAGS | {"capability:predict_proba": True, "capability:class_weight": True}

    __init__ = taking_settings(SequenceClassifier, BaseClassifier, PANEL_SETTINGS)

    def _fit(self, X: Any, y: np.ndarray) -> Self:
        self.model_ = made_of(SequenceClassifier, self, PANEL_SETTINGS)
        self.model_.fit(series_of_panel(X), y)
        return self

    def _predict_proba(self, X: Any) -> np.ndarray:
        found: np.ndarray = self.model_.predict_proba(series_of_panel(X))
        return found

    def _predict(self, X: Any) -> np.ndarray:
        return np.asarray(self.classes_)[self._predict_proba(X).argmax(axis=1)]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return settings for sktime's checks."""
        quick = {"hidden_size": 8, "max_epochs": 3, "n_threads": 1}
        return [quick, quick | {"cell": "lstm", "pooling": "attention", "bidirectional": False}]


class RNNRegressor(BaseRegressor):
    """A recurrent network says a number, or several, of a time series: `rnncore.SequenceRegressor`, for sktime.

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
    >>> from rnncore.sktime import RNNRegressor
    >>> from sktime.datasets import load_unit_test
    >>> X, y = load_unit_test(split="train", return_type="numpy3D")
    >>> model = RNNRegressor(hidden_size=16, max_epochs=20).fit(X, y.astype(float))
    >>> model.predict(X[:2]).shape
    (2,)
    """

    _tags = _TAGS | {"capability:multioutput": True, "y_inner_mtype": "numpy2D"}

    __init__ = taking_settings(SequenceRegressor, BaseRegressor, PANEL_SETTINGS)

    def _fit(self, X: Any, y: np.ndarray) -> Self:
        self.model_ = made_of(SequenceRegressor, self, PANEL_SETTINGS)
        self.model_.fit(series_of_panel(X), y[:, 0] if y.shape[1] == 1 else y)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        found: np.ndarray = self.model_.predict(series_of_panel(X))
        return found

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return settings for sktime's checks."""
        return RNNClassifier.get_test_params(parameter_set)
