"""Forecaster as a darts model: ``from rnncore.darts import RNNForecastingModel``.

It takes the settings of `rnncore.Forecaster` as keywords, and series and covariates as darts holds them; its backtests,
historical forecasts, residuals, searches, encoders and metrics take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from rnncore.data.readers import DataError
from rnncore.estimators._adapting import made_of, taking_settings
from rnncore.estimators.forecaster import Forecaster
from rnncore.train.batches import generator

try:
    from darts.models.forecasting.forecasting_model import GlobalForecastingModel
    from darts.utils.ts_utils import SeriesType, get_series_seq_type, series2seq
except ModuleNotFoundError as error:
    if error.name == "pytorch_lightning":
        raise ImportError("darts needs more beside PyTorch: pip install 'u8darts[torch]'") from error
    if error.name != "darts":
        raise
    raise ImportError("rnncore.darts needs darts: pip install u8darts") from error

__all__ = ["RNNForecastingModel"]

_SETTLED = {"warm_start": False}


class RNNForecastingModel(GlobalForecastingModel):
    """A recurrent network says what comes next: `rnncore.Forecaster`, for darts.

    One network learns one series or many, uni- or multivariate, with past covariates (of which the last that is known
    goes on) and future ones. A forecast looks back on `window` steps, and as many more as differences need. Series are
    scaled inside: the only one that was learned as it was then, and of several each one that is given by itself.

    Parameters
    ----------
    **settings
        Those of `rnncore.Forecaster`. With ``strategy="direct"`` its `horizon` is darts' output_chunk_length, the
        furthest `predict` goes; drawn samples need ``output="normal"`` or ``output="quantiles"``.
    add_encoders : dict, optional
        Covariates that darts makes of the time index.

    Attributes
    ----------
    model_ : rnncore.Forecaster
        What was fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from darts import TimeSeries
    >>> t = np.arange(200)
    >>> series = TimeSeries.from_values(np.sin(t / 5) + 0.01 * t)
    >>> model = RNNForecastingModel(window=30, difference=1, hidden_size=16, max_epochs=20).fit(series[:180])
    >>> forecast = model.predict(20)
    >>> from darts.metrics import mae
    >>> len(forecast), bool(mae(series[180:], forecast) < 0.3)
    (20, True)
    """

    __init__ = taking_settings(Forecaster, GlobalForecastingModel, _SETTLED, add_encoders=None)

    # -- what darts asks ----------------------------------------------------------------------------------------------

    @property
    def supports_multivariate(self) -> bool:
        """Several numbers a step: yes."""
        return True

    @property
    def supports_past_covariates(self) -> bool:
        """Covariates that are known when the series is: yes."""
        return True

    @property
    def supports_future_covariates(self) -> bool:
        """Covariates that are known ahead: yes."""
        return True

    @property
    def supports_sample_weight(self) -> bool:
        """Weights of steps: no."""
        return False

    @property
    def supports_optimized_historical_forecasts(self) -> bool:
        """Backtests of its own: no, darts' are used."""
        return False

    @property
    def supports_probabilistic_prediction(self) -> bool:
        """Drawn samples: with output="normal" and "quantiles", but for direct forecasts from differences."""
        return self.output != "point" and not (self.strategy == "direct" and bool(self.difference))

    @property
    def output_chunk_length(self) -> int:
        """Steps that are told at once."""
        return int(self.horizon) if self.strategy == "direct" else 1

    @property
    def min_train_samples(self) -> int:
        """Two windows."""
        return 2

    @property
    def _target_window_lengths(self) -> tuple[int, int]:
        given = self.difference
        lost = sum(given) if isinstance(given, Sequence | np.ndarray) else int(given)
        return int(self.window) + lost, self.output_chunk_length

    @property
    def extreme_lags(self) -> tuple[int, int, int | None, int | None, int | None, int | None, int]:
        """First and last step that is looked at of series, past and future covariates, 0 the first that is told."""
        back, ahead = -self._target_window_lengths[0], self.output_chunk_length - 1
        past = (back, -1) if self.uses_past_covariates else (None, None)
        future = (back, ahead) if self.uses_future_covariates else (None, None)
        return back, ahead, *past, *future, 0

    @property
    def _model_encoder_settings(self) -> tuple[int, int, bool, bool, None, None]:
        return *self._target_window_lengths, True, True, None, None

    # -- learning and applying ----------------------------------------------------------------------------------------

    def fit(
        self, series: Any, past_covariates: Any = None, future_covariates: Any = None, verbose: bool | None = None
    ) -> Self:
        """Learn from one or many series, of the steps for which there are covariates.

        Parameters
        ----------
        series, past_covariates, future_covariates : TimeSeries, or a sequence of them
        verbose : bool, optional
            In place of the setting.

        Returns
        -------
        self
        """
        self.encoders = self.initialize_encoders()
        if self.encoders.encoding_available:
            past_covariates, future_covariates = self.generate_fit_encodings(
                series=series, past_covariates=past_covariates, future_covariates=future_covariates
            )
        super().fit(series=series, past_covariates=past_covariates, future_covariates=future_covariates)
        parts = _columns([_table(*one) for one in _together(series, past_covariates, future_covariates)])
        self.model_ = made_of(Forecaster, self, _SETTLED)
        if verbose is not None:
            self.model_.verbose = int(verbose)
        single = get_series_seq_type(series) == SeriesType.SINGLE
        self.model_.fit(*[part[0] if part and single else part for part in parts])
        self._draws = generator(self.random_state)
        return self

    def predict(
        self,
        n: int,
        series: Any = None,
        past_covariates: Any = None,
        future_covariates: Any = None,
        num_samples: int = 1,
        verbose: bool | None = None,
        predict_likelihood_parameters: bool = False,
        show_warnings: bool = True,
        random_state: int | None = None,
    ) -> Any:
        """Say the next n steps, of the series that was learned or of those that are given.

        Parameters
        ----------
        n : int
        series, past_covariates, future_covariates : TimeSeries, or a sequence of them, optional
        num_samples : int
            1: what is expected; more: paths that are drawn.
        random_state : int, optional
            Draws these; None: others at each call.
        verbose, predict_likelihood_parameters, show_warnings
            As darts passes them; there are no such parameters.

        Returns
        -------
        TimeSeries, or a list of them
        """
        if series is None:
            if self.training_series is None:
                raise ValueError("predict: the model learned from several series: say which go on, series=…")
            series = self.training_series
        form = get_series_seq_type(series)
        given = series2seq(series)
        if past_covariates is None and self.past_covariate_series is not None:
            past_covariates = [self.past_covariate_series] * len(given)
        if future_covariates is None and self.future_covariate_series is not None:
            future_covariates = [self.future_covariate_series] * len(given)
        if self.encoders.encoding_available:
            past_covariates, future_covariates = self.generate_predict_encodings(
                n=n, series=given, past_covariates=past_covariates, future_covariates=future_covariates
            )
        super().predict(
            n,
            given,
            past_covariates,
            future_covariates,
            num_samples=num_samples,
            predict_likelihood_parameters=predict_likelihood_parameters,
            show_warnings=False,  # of past covariates that darts' models would need ahead
        )
        sets = _together(given, past_covariates, future_covariates)
        names = [f"given {place}" for place in range(len(sets))]  # not those of `fit`
        after = tuple(
            part and dict(zip(names, part, strict=True)) for part in _columns([_table(*one, True) for one in sets])
        )
        X = None
        if future_covariates is not None:
            steps = self.output_chunk_length if self.strategy == "direct" else n
            X = {
                name: _ahead(future, self._generate_new_dates(steps, input_series=one))
                for name, (one, _, future) in zip(names, sets, strict=True)
            }
        if num_samples == 1:
            found = self.model_.predict(n, X, after=after)
            values = [found[name][:, :, None] for name in names]
        else:
            seed = self._draws if random_state is None else random_state
            found = self.model_.sample(num_samples, n, X, after=after, random_state=seed)
            values = [np.moveaxis(found[name], 0, -1) for name in names]
        made = [self._build_forecast_series(one, input_series=part) for one, part in zip(values, given, strict=True)]
        return series2seq(made, seq_type_out=form)


def _together(series: Any, past: Any, future: Any) -> list[tuple[Any, Any, Any]]:
    """Return each series with its covariates, None where there are none."""
    whole = series2seq(series)
    parts = []
    for name, given in (("past_covariates", past), ("future_covariates", future)):
        found = [None] * len(whole) if given is None else series2seq(given)
        if len(found) != len(whole):
            raise DataError(f"{name}: expected one for each of the {len(whole)} series, got {len(found)}")
        parts.append(found)
    return list(zip(whole, *parts, strict=True))


def _table(series: Any, past: Any, future: Any, to_the_end: bool = False) -> tuple[Any, Any, Any]:
    """Return the numbers of the steps for which everything is there: y, known ahead, past."""
    y = series
    for covariates in (past, future):
        y = y if covariates is None else y.slice_intersect(covariates)
    if not len(y) or (to_the_end and y.end_time() != series.end_time()):
        raise DataError(f"covariates must cover the series, {series.start_time()} to {series.end_time()}")
    return tuple(one if one is None else one.slice_intersect(y).values(copy=False) for one in (y, future, past))  # type: ignore[return-value]


def _columns(parts: list[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any]:
    """Return y, known and past covariates, each a list of all series', or None."""
    return tuple(None if column[0] is None else list(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _ahead(future: Any, times: Any) -> np.ndarray:
    """Return the covariates of the times that are asked for."""
    rows = future.time_index.get_indexer(times)
    if (rows < 0).any():
        raise DataError(f"future_covariates must reach to {times[-1]}; there are none of {times[(rows < 0).argmax()]}")
    found: np.ndarray = future.values(copy=False)[rows]
    return found
