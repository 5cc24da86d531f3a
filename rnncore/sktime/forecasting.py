"""Forecaster as sktime's forecaster: one network for all series of a panel or a hierarchy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sktime.datatypes import get_cutoff
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from rnncore.estimators._adapting import made_of, taking_settings
from rnncore.estimators.forecaster import Forecaster

__all__ = ["RNNForecaster"]

_SETTLED: dict[str, Any] = {"horizon": 1, "warm_start": False}


class RNNForecaster(BaseForecaster):
    """A recurrent network says what comes next: `rnncore.Forecaster`, for sktime.

    One network learns all series of a panel or a hierarchy, of unequal lengths, uni- or multivariate; `X` is known
    ahead, without gaps. `update` takes note of what has come since, and learns nothing anew, whatever `update_params`
    says: `fit` does that. With ``strategy="direct"`` the horizon is that of `fit`. Intervals and quantiles need
    ``output="normal"`` or ``output="quantiles"``. There are no in-sample forecasts.

    Parameters
    ----------
    **settings
        Those of `rnncore.Forecaster`, but for its horizon.

    Attributes
    ----------
    model_ : rnncore.Forecaster
        What was fitted.

    Examples
    --------
    >>> from rnncore.sktime import RNNForecaster
    >>> from sktime.datasets import load_airline
    >>> y = load_airline()
    >>> model = RNNForecaster(window=24, difference=12, log=True, hidden_size=16, max_epochs=20)
    >>> forecast = model.fit(y[:132]).predict(fh=[1, 2, 3])
    >>> bool((abs(forecast / y[132:135] - 1) < 0.2).all())
    True
    """

    _tags = {  # noqa: RUF012
        "authors": "the rnncore developers",
        "maintainers": "the rnncore developers",
        "python_dependencies": "rnncore",
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:non_contiguous_X": False,
        "capability:categorical_in_X": False,
        "capability:missing_values": False,
        "capability:unequal_length": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:update": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
        "requires-fh-in-fit": False,
    }

    _config = {"remember_data": False}  # noqa: RUF012
    _y = _X = None  # which sktime looks for where it remembers nothing

    __init__ = taking_settings(Forecaster, BaseForecaster, _SETTLED)

    def __post_init__(self) -> None:
        direct = self.strategy == "direct"
        self.set_tags(
            **{
                "requires-fh-in-fit": direct,
                "capability:pred_int": self.output != "point" and not (direct and self.difference),
            }
        )

    # -- learning -----------------------------------------------------------------------------------------------------

    def _fit(self, y: Any, X: Any, fh: Any) -> Self:
        parts, known = _by_series(y), _by_series(X)
        self._ends = {name: get_cutoff(part, return_index=True) for name, part in parts.items()}
        self._levels = list(y.index.names)
        settled = dict(_SETTLED)
        if self.strategy == "direct":
            settled["horizon"] = max(_steps(fh, end).max() for end in self._ends.values())
        self.model_ = made_of(Forecaster, self, settled)
        self.model_.fit(_tables(parts), _tables(parts, known))
        return self

    def _update(self, y: Any, X: Any = None, update_params: bool = True) -> Self:
        parts, known = _by_series(y), _by_series(X)
        new = {name: part[part.index > self._end(name)] for name, part in parts.items()}  # the rest is known
        new = {name: part for name, part in new.items() if len(part)}
        if new:
            self.model_.update(_tables(new), _tables(new, known))
            self._ends = self._ends | {name: get_cutoff(part, return_index=True) for name, part in new.items()}
        return self

    def _end(self, name: Any) -> Any:
        if name not in self._ends:
            raise ValueError(f"update: there is no series {name!r} among those that were fitted")
        return self._ends[name][0]

    # -- applying -----------------------------------------------------------------------------------------------------

    def _predict(self, fh: Any, X: Any) -> Any:
        return self._told(fh, X, None, self._get_varnames())

    def _predict_quantiles(self, fh: Any, X: Any, alpha: Any) -> Any:
        names = self._get_varnames()
        return self._told(fh, X, list(alpha), pd.MultiIndex.from_product([names, alpha]))

    def _told(self, fh: Any, X: Any, quantiles: Any, columns: Any) -> Any:
        """Return forecasts, or their quantiles, of all series as one frame."""
        asked = {name: _steps(fh, end) for name, end in self._ends.items()}
        most = max(steps.max() for steps in asked.values())
        known = _by_series(X)
        future = (
            {name: self._future(known[name], asked[name].max(), most, name, fh) for name in asked} if known else None
        )
        found = self.model_.predict(most, future, quantiles=quantiles)
        frames = {
            name: pd.DataFrame(
                found[name][asked[name] - 1].reshape(len(asked[name]), -1),
                index=fh.to_absolute_index(self._ends[name]),
                columns=columns,
            )
            for name in asked
        }
        if list(frames) == [()]:
            return frames[()]
        return pd.concat(frames.values(), keys=frames, names=self._levels)

    def _future(self, X: Any, steps: int, most: int, name: Any, fh: Any) -> np.ndarray:
        """Return covariates of the next steps, and beyond those that are asked for the last again."""
        wanted = ForecastingHorizon(np.arange(1, steps + 1), is_relative=True, freq=fh.freq)
        index = wanted.to_absolute_index(self._ends[name])
        missing = index.difference(X.index)
        if len(missing):
            of = f" of series {name!r}" if name else ""
            raise ValueError(
                f"X{of} must have a row for every step to the last that is asked for: {missing[0]} is not there"
            )
        table: np.ndarray = X.loc[index].to_numpy(dtype=np.float64)
        return np.pad(table, [(0, most - steps), (0, 0)], mode="edge")

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return settings for sktime's checks."""
        quick = {"hidden_size": 4, "max_epochs": 2, "window": 6, "n_threads": 1}
        return [quick | {"output": "normal", "difference": 1}, quick | {"strategy": "direct"}]


def _by_series(given: Any) -> dict[Any, Any]:
    """Return the frame of each series by its place in a panel or hierarchy; a single one's is ()."""
    if given is None:
        return {}
    levels = list(range(given.index.nlevels - 1))
    if not levels:
        return {(): given}
    return {name: part.droplevel(levels) for name, part in given.groupby(level=levels, sort=False)}


def _tables(parts: Mapping[Any, Any], known: Mapping[Any, Any] | None = None) -> Any:
    """Return the series' numbers, or the covariates of the same steps."""
    if known is None:
        return {name: part.to_numpy(dtype=np.float64) for name, part in parts.items()}
    return (
        {name: known[name].loc[part.index].to_numpy(dtype=np.float64) for name, part in parts.items()}
        if known
        else None
    )


def _steps(fh: Any, end: Any) -> np.ndarray:
    """Return how many steps after its end a series is asked for."""
    return fh.to_relative(end).to_numpy().astype(np.int64)
