"""sktime's own checks of its adapters, and that they say what rnncore's estimators say."""

import warnings

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.data.readers import DataError

QUICK = {"hidden_size": 8, "max_epochs": 3, "n_threads": 1}
SOON = {"hidden_size": 6, "max_epochs": 3, "window": 12, "n_threads": 1}


@pytest.fixture(scope="module")
def sktime():
    """The adapters; sktime speaks up about defaults of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer("sktime")
        import rnncore.sktime

        yield rnncore.sktime


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["RNNClassifier", "RNNRegressor", "RNNForecaster"])
def test_sktimes_checks(sktime, name):
    """All of them, with all settings of `get_test_params`; none is left out."""
    checks = peer("sktime.utils.estimator_checks")
    found = checks.check_estimator(getattr(sktime, name), verbose=False)
    assert len(found) > 100 and {check: said for check, said in found.items() if said != "PASSED"} == {}


def panel(n: int = 24, gaps: bool = True):
    """Walks of unequal lengths with a gap and a column of kinds: a frame, and the same for rnncore."""
    pandas = peer("pandas")
    rng = np.random.default_rng(0)
    parts = []
    for number in range(n):
        walk = np.cumsum(rng.normal(0.5 * (number % 2), 1, (rng.integers(6, 15), 2)), axis=0)
        if gaps:
            walk[3, 1] = np.nan
        parts.append(pandas.DataFrame({"a": walk[:, 0], "b": walk[:, 1], "kind": [*"xyzxyz" * 3][: len(walk)]}))
    frame = pandas.concat(parts, keys=[f"s{9 - k % 10}{k}" for k in range(n)], names=["which", "when"])
    y = np.array(["up" if k % 2 else "level" for k in range(n)])
    flat = frame.droplevel(1).reset_index()
    return frame, y, rc.Series.of(flat, sequence="which")


def test_panels_with_gaps_and_kinds(sktime):
    X, y, series = panel()
    model = sktime.RNNClassifier(**QUICK).fit(X, y)
    wanted = rc.SequenceClassifier(**QUICK, missing="mask").fit(series, y)
    assert np.array_equal(model.predict_proba(X), wanted.predict_proba(series))
    assert np.array_equal(model.predict(X), wanted.predict(series))
    assert model.model_.specification_.pipeline.of.kinds == [["x", "y", "z"]]
    numbers = np.column_stack([np.arange(24.0), -np.arange(24.0)])
    found = sktime.RNNRegressor(**QUICK).fit(X, numbers).predict(X)
    assert np.array_equal(found, rc.SequenceRegressor(**QUICK, missing="mask").fit(series, numbers).predict(series))


def test_arrays_are_frames(sktime):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(20, 3, 7)), np.arange(20) % 2
    peer("sktime")
    from sktime.datatypes import convert_to

    frame = convert_to(X, "pd-multiindex")
    model = sktime.RNNClassifier(**QUICK).fit(X, y)
    assert np.array_equal(model.predict_proba(frame), model.predict_proba(X))
    assert model.predict(X).dtype == y.dtype


def test_in_their_pipelines_and_searches(sktime):
    from sklearn.model_selection import GridSearchCV
    from sktime.transformations.panel.padder import PaddingTransformer

    X, y, _ = panel(gaps=False)
    X = X[["a", "b"]]
    pipeline = PaddingTransformer() * sktime.RNNClassifier(**QUICK)
    assert set(pipeline.fit(X, y).predict(X)) <= {"up", "level"}
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(20, 2, 5)), np.arange(20) % 2
    search = GridSearchCV(sktime.RNNClassifier(**QUICK), {"hidden_size": [4, 6]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_.model_.hidden_size == search.best_params_["hidden_size"]


def test_settings(sktime):
    model = sktime.RNNClassifier(hidden_size=5)
    settings = model.get_params()
    assert settings["hidden_size"] == 5 and settings["pooling"] == rc.SequenceClassifier().pooling
    assert {"missing", "per_step", "lowercase"}.isdisjoint(settings)
    assert model.clone().get_params() == settings
    with pytest.raises(TypeError, match="colour"):
        sktime.RNNClassifier(colour="red")
    point, interval = sktime.RNNForecaster(), sktime.RNNForecaster(output="normal")
    assert not point.get_tag("capability:pred_int") and interval.get_tag("capability:pred_int")
    assert sktime.RNNForecaster(strategy="direct").get_tag("requires-fh-in-fit")
    assert interval.set_params(output="point").get_tag("capability:pred_int") is False


# ---------------------------------------------------------------- forecasts


def swinging(n: int = 80, seed: int = 0) -> np.ndarray:
    t = np.arange(n)
    return 10 + np.sin(t / 3) + 0.02 * t + 0.05 * np.random.default_rng(seed).standard_normal(n)


def monthly(n: int = 80, seed: int = 0):
    pandas = peer("pandas")
    return pandas.Series(swinging(n, seed), index=pandas.period_range("2000-01", periods=n, freq="M"), name="y")


def test_one_series_with_covariates(sktime):
    y = monthly()
    X = peer("pandas").DataFrame({"month": y.index.month, "year": y.index.year}, index=y.index)
    model = sktime.RNNForecaster(**SOON, difference=1, output="normal").fit(y[:70], X[:70])
    ours = rc.Forecaster(**SOON, difference=1, output="normal").fit(swinging()[:70], X[:70].to_numpy())
    wanted = ours.predict(6, X[70:76].to_numpy())
    found = model.predict([2, 6], X[70:])
    assert np.array_equal(found.to_numpy(), wanted[[1, 5]]) and found.index.equals(y.index[[71, 75]])
    quantiles = model.predict_quantiles([2, 6], X[70:], alpha=[0.05, 0.9])
    of_ours = ours.predict(6, X[70:76].to_numpy(), quantiles=[0.05, 0.9])
    assert np.array_equal(quantiles.to_numpy(), of_ours[[1, 5]])
    assert [*quantiles.columns] == [("y", 0.05), ("y", 0.9)]
    with pytest.raises(ValueError, match="2005-12"):
        model.predict([1, 3], X[70:71])


def test_update_learns_nothing_anew_and_takes_what_is_new(sktime):
    y = monthly()
    model = sktime.RNNForecaster(**SOON).fit(y[:60])
    weights = model.model_.network_.theta.copy()
    model.update(y[50:66])  # ten of them are known
    assert np.array_equal(model.model_.network_.theta, weights) and model.cutoff[0] == y.index[65]
    ours = rc.Forecaster(**SOON).fit(swinging()[:60]).update(swinging()[60:66])
    assert np.array_equal(model.predict([1, 2, 3]), ours.predict(3))
    assert np.array_equal(model.update(y[60:64]).predict([1, 2, 3]), ours.predict(3))


@pytest.mark.parametrize("options", [{}, {"strategy": "direct"}, {"output": "quantiles"}])
def test_panels_of_unequal_lengths_and_ends(sktime, options):
    pandas = peer("pandas")
    series = {"a": monthly(60, 1), "b": monthly(45, 2), "c": monthly(52, 3)[10:]}
    y = pandas.concat(series, names=["which", "when"]).to_frame()
    model = sktime.RNNForecaster(**SOON, **options).fit(y, fh=[1, 4])
    horizon = {"horizon": 4} if options.get("strategy") == "direct" else {}
    ours = rc.Forecaster(**SOON, **options, **horizon).fit([one.to_numpy() for one in series.values()])
    found = model.predict()
    for (name, one), wanted in zip(series.items(), ours.predict(4), strict=True):
        part = found.loc[name]
        assert np.array_equal(part["y"].to_numpy(), wanted[[0, 3]])
        assert part.index.equals(pandas.PeriodIndex([one.index[-1] + 1, one.index[-1] + 4]))
    if options.get("output"):
        assert model.predict_interval(coverage=0.8).loc["b"].shape == (2, 2)
    with pytest.raises((DataError, ValueError), match="'z'"):
        model.update(pandas.concat({"z": monthly(60, 4)}, names=["which", "when"]).to_frame())


@pytest.mark.filterwarnings("ignore")
def test_in_their_backtests_and_pipelines(sktime):
    """`evaluate` without refitting, on what their transformations leave."""
    from sktime.forecasting.compose import TransformedTargetForecaster
    from sktime.forecasting.model_evaluation import evaluate
    from sktime.performance_metrics.forecasting import MeanAbsoluteError
    from sktime.split import ExpandingWindowSplitter
    from sktime.transformations.detrend import Detrender

    y = monthly(100)
    forecaster = sktime.RNNForecaster(**(SOON | {"max_epochs": 60}))
    pipeline = TransformedTargetForecaster([("trend", Detrender()), ("forecaster", forecaster)])
    splits = ExpandingWindowSplitter(fh=[1, 2, 3], initial_window=80, step_length=4)
    for model in (forecaster, pipeline):
        found = evaluate(
            model, splits, y, strategy="no-update_params", scoring=MeanAbsoluteError(), error_score="raise"
        )
        assert len(found) == 5 and found["test_MeanAbsoluteError"].mean() < 0.4
