"""rnncore's estimators as sktime's own: ``from rnncore.sktime import RNNClassifier, RNNForecaster, RNNRegressor``.

They take the settings of `SequenceClassifier`, `SequenceRegressor` and `Forecaster` as keywords, and data as sktime
holds them; its pipelines, splits, searches and metrics take them.
"""

from __future__ import annotations

try:
    import sktime  # noqa: F401 - before what comes with it, such as pandas

    from rnncore.sktime.forecasting import RNNForecaster
    from rnncore.sktime.panels import RNNClassifier, RNNRegressor
except ModuleNotFoundError as error:
    if error.name != "sktime":
        raise
    raise ImportError("rnncore.sktime needs sktime: pip install sktime") from error

__all__ = ["RNNClassifier", "RNNForecaster", "RNNRegressor"]
