"""Forecasting: transforms and back, windows, covariates, intervals, new data, what is kept and refused."""

import pickle

import numpy as np
import pytest

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.estimators._forecast_data import Scaler
from rnncore.estimators._forecast_heads import NormalHead, QuantileHead
from rnncore.estimators.presets import FORECASTERS, settings_of

QUICK = {"max_epochs": 3, "hidden_size": 6, "window": 12}


def swinging(n: int = 150, seed: int = 0) -> np.ndarray:
    t = np.arange(n)
    return 10 + np.sin(t / 3) + 0.02 * t + 0.05 * np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("lags", [(), (1,), (12,), (1, 12), (3, 1, 2)])
def test_transforms_and_back(log, lags):
    rng = np.random.default_rng(0)
    y = np.exp(rng.normal(size=(60, 2)))
    scaler = Scaler.of(y[:50], log, lags, True)
    z = scaler.apply(y)
    assert len(z) == 60 - sum(lags)
    np.testing.assert_allclose(scaler.undo(z[-10:], y[:50]), y[50:], rtol=1e-10)
    paths = scaler.undo(np.stack([z[-10:], z[-10:]]), y[:50])
    np.testing.assert_allclose(paths[1], y[50:], rtol=1e-10)
    twin = Scaler.from_json(scaler.to_json())
    assert np.array_equal(twin.apply(y), z)


@pytest.mark.parametrize("head", [NormalHead(2), QuantileHead(2, (0.1, 0.5, 0.8))])
def test_losses_have_their_gradients(head):
    rng = np.random.default_rng(1)
    scores, targets = rng.normal(size=(4, 3, head.outputs)), rng.normal(size=(4, 3, 2))
    lengths = np.array([4, 2, 3])
    _, gradient = head.loss_and_grad(scores, targets, lengths)
    for at in np.ndindex(scores.shape):
        moved = scores.copy()
        moved[at] += 1e-6
        above = head.loss_and_grad(moved, targets, lengths)[0]
        moved[at] -= 2e-6
        below = head.loss_and_grad(moved, targets, lengths)[0]
        assert (above - below) / 2e-6 == pytest.approx(gradient[at], abs=1e-8)


@pytest.mark.parametrize("strategy", ["recursive", "direct"])
@pytest.mark.parametrize("difference", [0, 1])
def test_learns_what_swings(strategy, difference):
    y = swinging(200)
    model = rc.Forecaster(
        window=30, hidden_size=24, max_epochs=30, strategy=strategy, horizon=10, difference=difference
    ).fit(y[:180])
    found = model.predict(10)
    assert found.shape == (10,)
    assert np.abs(found - y[180:190]).mean() < 0.6  # the mean of what went before is wrong by 1.9
    later = model.update(y[180:190]).predict(10)
    assert np.abs(later - y[190:200]).mean() < 0.6
    again = model.predict(10, after=(y[:180],))
    np.testing.assert_allclose(again, found, rtol=1e-6)


def test_a_recursive_forecast_goes_on_from_itself():
    """Ten steps at once are one, then what is told of it, nine times."""
    y = swinging()
    model = rc.Forecaster(**QUICK, dtype="float64").fit(y[:100])
    whole = model.predict(10)
    stepwise = rc.Forecaster(**(QUICK | {"window": 100}), dtype="float64").fit(y[:100])
    assert np.isfinite(whole).all()
    told = []
    for _ in range(3):
        told.append(stepwise.predict(1)[0])
        stepwise.update(told[-1:])
    np.testing.assert_allclose(
        told, rc.Forecaster(**(QUICK | {"window": 100}), dtype="float64").fit(y[:100]).predict(3), rtol=1e-6
    )


def test_known_covariates_are_seen_ahead():
    """y is what was announced for its own step: nothing but X tells it."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 1))
    y = 3 * X[:, 0] + 5
    for options in ({}, {"strategy": "direct", "horizon": 4}):
        model = rc.Forecaster(window=20, hidden_size=16, max_epochs=40, learning_rate=0.02, **options)
        model.fit(y[:290], X[:290])
        np.testing.assert_allclose(model.predict(4, X[290:294]), y[290:294], atol=0.7)
        with pytest.raises(DataError, match="known covariates"):
            model.predict(4)
        with pytest.raises(DataError, match=r"\(4, 1\)"):
            model.predict(4, X[290:292])


def test_past_covariates_and_several_numbers():
    rng = np.random.default_rng(3)
    past = rng.normal(size=(300, 2))
    y = np.column_stack([np.roll(past[:, 0], 1), swinging(300)])
    model = rc.Forecaster(window=20, hidden_size=16, max_epochs=30, learning_rate=0.02).fit(y[:-1], past=past[:-1])
    assert model.predict(1).shape == (1, 2)
    assert model.predict(1)[0, 0] == pytest.approx(y[-1, 0], abs=0.7)
    model.update(y[-1:], past=past[-1:])
    assert model.predict(5).shape == (5, 2)


def test_many_series_of_unequal_length():
    y = {f"s{n}": swinging(40 + 17 * n, n) * 10**n for n in range(4)}
    model = rc.Forecaster(**QUICK).fit(y)
    found = model.predict(5)
    assert list(found) == list(y)
    assert all(0.5 < found[name].mean() / part[-5:].mean() < 2 for name, part in y.items())
    model.update({"s2": y["s2"][:3]})
    moved = model.predict(5)
    assert np.array_equal(moved["s1"], found["s1"])
    assert not np.array_equal(moved["s2"], found["s2"])
    listed = rc.Forecaster(**QUICK).fit([*y.values()]).predict(5)
    assert all(map(np.array_equal, listed, found.values()))
    with pytest.raises(DataError, match="no series 's9'"):
        model.update({"s9": y["s2"]})


@pytest.mark.parametrize("output", ["normal", "quantiles"])
@pytest.mark.parametrize("options", [{}, {"difference": 1}, {"strategy": "direct", "horizon": 5}])
def test_intervals(output, options):
    rng = np.random.default_rng(4)
    y = rng.normal(size=600).cumsum() if options.get("difference") else 2 * rng.normal(size=600) + 7
    model = rc.Forecaster(window=20, hidden_size=8, max_epochs=12, output=output, **options).fit(y)
    levels = (0.05, 0.5, 0.95)
    found = model.predict(5, quantiles=levels)
    assert found.shape == (5, 3)
    assert (np.diff(found, axis=1) > 0).all()
    assert np.array_equal(found, model.predict(5, quantiles=levels))
    width = found[:, 2] - found[:, 0]
    wanted = 3.29 * (np.sqrt(np.arange(1, 6)) if options.get("difference") else 2)
    np.testing.assert_allclose(width / wanted, 1, atol=0.35)
    assert model.predict(5).shape == (5,)


@pytest.mark.parametrize("several", [False, True])
def test_saved_pickled_and_threads(tmp_path, several):
    y = [swinging(60), swinging(45, 1)] if several else swinging(60)
    X = [np.arange(60.0), np.arange(45.0)] if several else np.arange(60.0)
    more = [np.arange(3.0)] * 2 if several else np.arange(3.0)
    model = rc.Forecaster(**QUICK, output="normal", difference=(1, 3), log=True).fit(y, X)
    wanted = model.predict(3, more, quantiles=[0.1, 0.9])
    other = rc.Forecaster(**QUICK, output="normal", difference=(1, 3), log=True, n_threads=2).fit(y, X)
    model.save(tmp_path / "model.safetensors")
    for twin in (rc.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model)), other):
        found = twin.predict(3, more, quantiles=[0.1, 0.9])
        assert all(map(np.array_equal, found, wanted)) if several else np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("y", "X", "options", "message"),
    [
        (np.arange(3.0), None, {"difference": 2}, "at least"),
        ([1.0, np.nan, 2.0], None, {}, "step 1"),
        (np.arange(30.0), np.arange(29.0), {}, "row for each"),
        (np.arange(30.0) - 5, None, {"log": True}, "above 0"),
        ([np.arange(30.0), np.zeros((30, 2))], None, {}, "as many columns"),
        ([np.arange(30.0), np.array([1.0, np.inf])], None, {}, "series 1, step 1"),
        ([], None, {}, "numbers|at least one|empty"),
        (np.arange(30.0), None, {"difference": -1}, "difference"),
        (np.arange(30.0), None, {"output": "mean"}, "output"),
        (np.arange(30.0), None, {"quantiles": (0.5, 0.2)}, "quantiles"),
        (np.arange(30.0), None, {"strategy": "both"}, "strategy"),
        (np.arange(30.0), None, {"window": 0}, "window"),
        (np.arange(30.0), None, {"scale": "windows"}, "scale: expected True, False or 'window', got 'windows'"),
    ],
)
def test_what_is_refused(y, X, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rc.Forecaster(**(QUICK | options)).fit(y, X)


def test_times_that_do_not_fit():
    pandas = pytest.importorskip("pandas")
    days = pandas.date_range("2020-01-01", periods=40)
    y = pandas.Series(swinging(40), days)
    model = rc.Forecaster(**QUICK)
    assert model.fit(y).predict(2).shape == (2,)
    with pytest.raises(DataError, match=r"2020-01-01 .*there twice"):
        model.fit(pandas.Series(swinging(40), [days[0], *days[:-1]]))
    with pytest.raises(DataError, match="go back"):
        model.fit(y[::-1])
    with pytest.raises(DataError, match="the times of y"):
        model.fit(y, pandas.Series(np.zeros(40), days + pandas.Timedelta(days=1)))


@pytest.mark.parametrize("options", [{}, {"strategy": "direct", "horizon": 5}])
def test_intervals_are_held_against_what_came(options):
    """A network that has learned noise by heart is far too sure; what it misses tells."""
    y = np.random.default_rng(6).standard_normal(1500)
    options = options | {"window": 20, "hidden_size": 48, "max_epochs": 60, "stride": 5, "output": "normal"}
    ends = range(700, 1400, 7)
    came = np.array([y[end : end + 5] for end in ends])
    inside, points = {}, {}
    for calibration in (0.0, 0.3):
        model = rc.Forecaster(**options, calibration=calibration).fit(y[:700])
        low, high = np.moveaxis(model.predict(5, quantiles=[0.05, 0.95], after=([y[:end] for end in ends],)), -1, 0)
        inside[calibration] = float(((low <= came) & (came <= high)).mean())
        points[calibration] = model.predict(5)
    assert inside[0.0] < 0.6
    assert 0.7 < inside[0.3] < 0.95
    assert np.array_equal(points[0.0], points[0.3])


@pytest.mark.parametrize("options", [{}, {"strategy": "direct", "horizon": 5}, {"log": True}, {"difference": 1}])
def test_windows_in_their_own_scale(options, tmp_path):
    """Whatever a window is multiplied by, and lifted to, its forecast is, too; logarithms are only multiplied."""
    y = swinging(120)
    settings = QUICK | {"scale": "window", "n_threads": 1} | options
    model = rc.Forecaster(**settings).fit(y)
    forecast = model.predict(5)
    lifted = 0.0 if "log" in options else 500.0
    other = model.predict(5, after=7 * y + lifted)
    np.testing.assert_allclose(other, 7 * forecast + lifted, rtol=2e-4)
    assert np.array_equal(rc.Forecaster(**settings | {"n_threads": 2}).fit(y).predict(5), forecast)
    model.save(tmp_path / "model")
    assert np.array_equal(rc.load(tmp_path / "model").predict(5), forecast)
    assert np.array_equal(model.update(y[-1:]).predict(5), model.predict(5, after=np.append(y, y[-1])))
    assert np.isfinite(model.predict(5, after=np.full(40, 10.0))).all()  # nothing moves there


def test_windows_in_their_own_scale_follow_what_outgrows_the_past():
    t = np.arange(400)
    y = (1 + 3 * (t > 300)) * (10 + np.sin(t / 3)) + 0.05 * np.random.default_rng(0).standard_normal(400)
    options = {"window": 20, "hidden_size": 16, "max_epochs": 15, "strategy": "direct", "horizon": 5}
    error = {}
    for scale in (True, "window"):
        model = rc.Forecaster(**options, scale=scale).fit(y[:300])
        error[scale] = np.abs(model.predict(after=y[:380]) - y[380:385]).mean()
    assert error["window"] < error[True] / 5


def test_calibration_of_short_series():
    with pytest.raises(DataError, match=r"calibration=0\.9 leaves 2 to learn from: at least 3"):
        rc.Forecaster(**QUICK, output="normal", calibration=0.9).fit(swinging(20))
    model = rc.Forecaster(**QUICK, output="normal", strategy="direct", horizon=4).fit(swinging(20))
    assert (np.diff(model.predict(quantiles=[0.1, 0.5, 0.9]), axis=1) > 0).all()
    several = rc.Forecaster(**QUICK, output="quantiles", log=True).fit([swinging(30), swinging(50, 1)])
    assert all((one > 0).all() for one in several.predict(3, quantiles=[0.001, 0.999]))


def test_early_stopping_watches_the_end():
    y = swinging(200)
    model = rc.Forecaster(window=20, hidden_size=24, max_epochs=200, early_stopping=True, n_iter_no_change=5).fit(y)
    best = min(record["val_loss"] for record in model.history_)
    assert model.stopped_ == "early" and model.n_epochs_ < 200
    assert model.history_[-1 - 5]["val_loss"] == best
    normal = rc.Forecaster(**QUICK, output="normal", early_stopping=True).fit(y)
    assert all(np.isfinite(record["val_loss"]) for record in normal.history_)
    with pytest.raises(DataError, match="nothing of one would be left"):
        rc.Forecaster(**QUICK, early_stopping=True, validation_fraction=0.99).fit(y[:10])


def test_goes_on_from_what_was_learned():
    model = rc.Forecaster(**QUICK, warm_start=True).fit(swinging(60), np.arange(60.0))
    before = model.network_.theta.copy()
    model.fit(swinging(80), np.arange(80.0))
    assert not np.array_equal(model.network_.theta, before)
    with pytest.raises(DataError, match=r"warm start: expected \(1, 1, 0\) columns"):
        model.fit(swinging(60))


@pytest.mark.parametrize("name", list(FORECASTERS))
def test_presets_are_settings(name):
    settings = settings_of(FORECASTERS, name)
    model = rc.Forecaster(**(settings | {"max_epochs": 1, "horizon": 3})).fit(swinging(80))
    assert model.predict().shape == (3,)


def test_predictions_that_are_refused():
    model = rc.Forecaster(**QUICK).fit(swinging(50))
    with pytest.raises(ValueError, match="output='normal'"):
        model.predict(3, quantiles=[0.5])
    with pytest.raises(DataError, match="without covariates"):
        model.predict(3, np.zeros((3, 1)))
    with pytest.raises(DataError, match="columns of y"):
        model.update(np.zeros((3, 2)))
    direct = rc.Forecaster(**QUICK, strategy="direct", horizon=3).fit(swinging(50))
    assert direct.predict().shape == (3,)
    with pytest.raises(ValueError, match="next 3 steps"):
        direct.predict(4)
    constant = rc.Forecaster(**QUICK).fit(np.full(40, 5.0))
    np.testing.assert_allclose(constant.predict(3), 5, atol=1)


@pytest.mark.parametrize("options", [{"difference": 1}, {"strategy": "direct", "horizon": 5}])
def test_paths_are_as_wide_as_quantiles(options):
    """Also where calibration made these wider; steps of a path go together where one follows from the other."""
    y = np.random.default_rng(5).normal(size=400).cumsum() / 5 if options.get("difference") else swinging(400)
    for calibration in (0.0, 0.2):
        model = rc.Forecaster(
            window=20, hidden_size=8, max_epochs=8, output="normal", calibration=calibration, **options
        )
        model.fit(y)
        paths = model.sample(2000, 5)
        assert paths.shape == (2000, 5)
        wanted = model.predict(5, quantiles=[0.1, 0.5, 0.9])
        found = np.quantile(paths, [0.1, 0.5, 0.9], axis=0).T
        assert np.abs(found - wanted).max() < 0.2 * (wanted[:, 2] - wanted[:, 0]).max()
        together = np.corrcoef(paths[:, 3], paths[:, 4])[0, 1]
        assert together > 0.7 if options.get("difference") else abs(together) < 0.1
        assert np.array_equal(paths, model.sample(2000, 5))
    with pytest.raises(ValueError, match="paths need output"):
        rc.Forecaster(**QUICK).fit(y).sample(3, 2)
