"""darts' backtests, covariates, samples and searches with its adapter, which says what rnncore's forecaster says."""

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.data.readers import DataError

SOON = {"hidden_size": 6, "max_epochs": 3, "window": 12, "n_threads": 1}


@pytest.fixture(scope="module")
def model_of():
    peer("darts")
    from rnncore.darts import RNNForecastingModel

    return RNNForecastingModel


def swinging(n: int = 80, seed: int = 0) -> np.ndarray:
    t = np.arange(n)
    return 10 + np.sin(t / 3) + 0.02 * t + 0.05 * np.random.default_rng(seed).standard_normal(n)


def series_of(values: np.ndarray, start: str | None = "2000-01"):
    """darts' series, by months or by numbers."""
    darts, pandas = peer("darts"), peer("pandas")
    if start is None:
        return darts.TimeSeries.from_values(values)
    times = pandas.date_range(start, periods=len(values), freq="MS")
    return darts.TimeSeries.from_times_and_values(times, values)


@pytest.mark.parametrize("start", ["2000-01", None])
@pytest.mark.parametrize("options", [{"difference": 1}, {"strategy": "direct", "horizon": 5}])
def test_one_series_with_covariates(model_of, start, options):
    """The past covariates begin later, the future ones go on."""
    rng = np.random.default_rng(0)
    y, past, future = swinging(), rng.normal(size=(80, 2)), rng.normal(size=(90, 1))
    given = {"past_covariates": series_of(past, start)[5:], "future_covariates": series_of(future, start)}
    model = model_of(**SOON, **options).fit(series_of(y, start)[:70], **given)
    ours = rc.Forecaster(**SOON, **options).fit(y[5:70], future[5:70], past[5:70])
    found = model.predict(5)
    assert np.array_equal(found.values()[:, 0], ours.predict(5, future[70:75]))
    assert found.time_index.equals(series_of(y, start).time_index[70:75])
    later = model.predict(5, series_of(y, start)[:76], **given)
    wanted = ours.predict(5, future[76:81], after=(y[5:76], future[5:76], past[5:76]))
    assert np.array_equal(later.values()[:, 0], wanted)
    with pytest.raises(DataError, match="reach to"):
        model.predict(5, future_covariates=series_of(future, start)[:72])
    with pytest.raises(DataError, match="must cover the series"):
        model.predict(5, past_covariates=series_of(past, start)[:66])


def test_backtests_without_refitting(model_of):
    """Every forecast is the one from there on, by weights that were learned once; darts' metrics take them."""
    metrics = peer("darts.metrics")
    y, future = swinging(), np.random.default_rng(0).normal(size=(80, 1))
    whole, known = series_of(y), series_of(future)
    model = model_of(**(SOON | {"max_epochs": 30}), difference=1).fit(whole[:60], future_covariates=known)
    ours = model.model_
    found = model.historical_forecasts(
        whole, future_covariates=known, start=whole.time_index[62], forecast_horizon=4, retrain=False
    )
    assert len(found) == 80 - 62 - 3
    for n in (62, 70, 76):
        wanted = ours.predict(4, future[n : n + 4], after=(y[:n], future[:n]))[-1]
        assert found.values()[n - 62, 0] == wanted
    error = model.backtest(
        whole,
        future_covariates=known,
        start=whole.time_index[62],
        forecast_horizon=4,
        retrain=False,
        last_points_only=True,
        metric=metrics.mae,
    )
    assert error == pytest.approx(np.abs(found.values()[:, 0] - y[65:]).mean()) and error < 0.5
    refitted = model.historical_forecasts(
        whole, future_covariates=known, start=whole.time_index[70], forecast_horizon=4, stride=3, retrain=True
    )
    wanted = rc.Forecaster(**(SOON | {"max_epochs": 30}), difference=1).fit(y[:70], future[:70])
    assert refitted.values()[0, 0] == wanted.predict(4, future[70:74])[-1]


def test_many_series(model_of):
    """Of unequal lengths; each that is given is scaled by itself, in whatever place of the list it stands."""
    parts = [swinging(60), 100 * swinging(45, 1), swinging(52, 2)]
    model = model_of(**SOON).fit([series_of(part) for part in parts])
    found = model.predict(3, [series_of(part) for part in parts])
    wanted = rc.Forecaster(**SOON).fit(parts).predict(3)
    for one, own in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.values()[:, 0], own, rtol=1e-12)
    alone = model.predict(3, series_of(parts[1]))
    assert np.array_equal(alone.values(), found[1].values())
    with pytest.raises(ValueError, match="say which"):
        model.predict(3)
    with pytest.raises(DataError, match="one for each of the 3"):
        model_of(**SOON).fit([series_of(part) for part in parts], past_covariates=[series_of(parts[0])])


@pytest.mark.parametrize("options", [{"output": "normal", "difference": 1}, {"output": "quantiles"}])
def test_samples(model_of, options):
    metrics = peer("darts.metrics")
    y = series_of(np.column_stack([swinging(), swinging(seed=1)]))
    model = model_of(**(SOON | {"max_epochs": 20}), **options).fit(y[:70])
    drawn = model.predict(4, num_samples=300, random_state=0)
    assert drawn.all_values().shape == (4, 2, 300)
    wanted = model.model_.predict(4, quantiles=[0.1, 0.9])
    assert np.abs(drawn.quantile(0.1).values() - wanted[:, :, 0]).max() < 0.1
    assert np.abs(drawn.quantile(0.9).values() - wanted[:, :, 1]).max() < 0.1
    assert np.isfinite(metrics.mql(y[70:74], drawn, q=0.9))
    again = model.predict(4, num_samples=300, random_state=0)
    assert np.array_equal(again.all_values(), drawn.all_values())
    others = [model.predict(4, num_samples=5).all_values() for _ in range(2)]
    assert not np.array_equal(*others)
    assert not model_of(**SOON).supports_probabilistic_prediction
    with pytest.raises(ValueError, match="probabilistic"):
        model_of(**SOON).fit(y[:70]).predict(3, num_samples=2)


def test_encoders_searches_and_files(model_of, tmp_path):
    metrics = peer("darts.metrics")
    y = series_of(swinging())
    model = model_of(**SOON, add_encoders={"datetime_attribute": {"future": ["month"]}}).fit(y[:70])
    assert model.model_.specification_.pipeline.sizes == (1, 1, 0) and len(model.predict(7)) == 7
    model.save(tmp_path / "model.pkl")
    assert np.array_equal(model_of.load(tmp_path / "model.pkl").predict(7).values(), model.predict(7).values())
    best, settings, error = model_of.gridsearch(
        {"hidden_size": [4, 6], "max_epochs": [2]}, y, forecast_horizon=2, start=0.8, stride=5, metric=metrics.mae
    )
    assert best.hidden_size == settings["hidden_size"] and np.isfinite(error)
    assert model.untrained_model().model_params == model.model_params
    with pytest.raises(TypeError, match="colour"):
        model_of(colour="red")
