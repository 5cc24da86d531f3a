"""Reservoirs, their readouts, and the estimators made of them."""

import json
import pickle

import numpy as np
import peers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, cpu_count, delayed
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

import rnncore as rc
from rnncore import datasets
from rnncore.models.readout import LeastSquares, RecursiveLeastSquares
from rnncore.models.topology import recurrent, spectral_radius

FUNCTIONS = {"tanh": np.tanh, "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "relu": lambda a: np.maximum(a, 0)}
FUNCTIONS["identity"] = lambda a: a


def plain(reservoir, u, feedback=None):
    """The states, by the formula."""
    W, f, a = reservoir.W.toarray(), FUNCTIONS[reservoir.activation], reservoir.leak_rate
    x, found = np.zeros(reservoir.n_units), []
    for t, now in enumerate(u):
        drive = W @ x + now @ reservoir.W_in + reservoir.bias
        if feedback is not None and t:
            drive = drive + feedback[t - 1] @ reservoir.W_fb
        x = (1 - a) * x + a * f(drive)
        found.append(x)
    return np.array(found)


@pytest.mark.parametrize("activation", sorted(FUNCTIONS))
@pytest.mark.parametrize("connectivity", [0.1, 0.7])  # sparse and dense
@pytest.mark.parametrize("n_units", [1, 7, 33])
def test_states_by_the_formula(activation, connectivity, n_units):
    options = {"topology": "ring"} if n_units == 1 else {}
    reservoir = rc.Reservoir(
        n_units, 0.8, leak_rate=0.3, bias_scaling=0.2, connectivity=connectivity, activation=activation, **options
    )
    u = np.random.default_rng(0).normal(size=(20, 3))
    states = reservoir.states(u)
    assert np.allclose(states, plain(reservoir, u), rtol=1e-12, atol=1e-14)
    single = rc.Reservoir(
        n_units, 0.8, 0.3, 1.0, 0.2, connectivity=connectivity, activation=activation, dtype="float32", **options
    ).states(u)
    assert single.dtype == np.float32 and np.allclose(single, states, rtol=1e-3, atol=1e-5)


def test_feedback_is_of_the_step_before():
    reservoir = rc.Reservoir(20, feedback_scaling=0.5)
    rng = np.random.default_rng(0)
    us, ys = [rng.normal(size=(n, 2)) for n in (9, 1, 5)], [rng.normal(size=(n, 3)) for n in (9, 1, 5)]
    for found, u, y in zip(reservoir.states(us, ys), us, ys, strict=True):
        assert np.allclose(found, plain(reservoir, u, y), rtol=1e-12, atol=1e-14)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), numbers=st.integers(20, 2000))
@settings(max_examples=30, deadline=None)
def test_pieces_threads_and_lists_change_no_bit(lengths, numbers):
    import rnncore.models.reservoir as module

    rng = np.random.default_rng(0)
    us, ys = [rng.normal(size=(n, 2)) for n in lengths], [rng.normal(size=(n, 1)) for n in lengths]
    reservoir = rc.Reservoir(16, feedback_scaling=0.3, n_threads=1)
    whole = reservoir.states(us, ys)
    kept = module._NUMBERS
    module._NUMBERS = numbers
    try:
        for threads in (1, 3):
            reservoir.n_threads = threads
            assert all(map(np.array_equal, reservoir.states(us, ys), whole))
    finally:
        module._NUMBERS = kept
    assert all(np.array_equal(reservoir.states(u, y), part) for u, y, part in zip(us, ys, whole, strict=True))


def test_going_on_from_a_state():
    reservoir, u = rc.Reservoir(30), np.random.default_rng(0).normal(size=(12, 1))
    first = reservoir.states(u[:5])
    assert np.array_equal(np.vstack([first, reservoir.states(u[5:], state=first[-1])]), reservoir.states(u))


@pytest.mark.parametrize("options", [{}, {"topology": "ring"}, {"connectivity": 1.0}, {"n_units": 300}])
@pytest.mark.parametrize("radius", [0.5, 1.3])
def test_the_spectral_radius_is_what_was_asked_for(options, radius):
    W = rc.Reservoir(**{"n_units": 60, "spectral_radius": radius, **options}).W
    assert abs(np.linalg.eigvals(W.toarray())).max() == pytest.approx(radius, rel=1e-8)


def test_weights_without_a_circle_have_no_radius():
    assert spectral_radius(sparse.csr_array(np.triu(np.ones((50, 50)), 1))) == 0  # which floating point hides
    for seed in range(20):  # but each unit hears one, so that there is a circle
        assert spectral_radius(recurrent(np.random.default_rng(seed), 3, "random", 0.01, "normal")) > 0


def test_reservoirs_share_no_weights():
    one, other = (rc.Reservoir(20, radius) for radius in (0.5, 1.0))
    one.W.data[...] = 7
    assert np.array_equal(other.W.data, 2 * rc.Reservoir(20, 0.5).W.data)


def test_states_that_run_away_are_named():
    u = [np.ones((5, 1)), np.full((4000, 1), 1.0)]
    with pytest.raises(ValueError, match=r"not finite any more in sequence 1 from step .*identity"):
        rc.Reservoir(20, spectral_radius=3.0, activation="identity").states(u)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([np.ones((3, 2)), np.ones((3, 1))], "as many columns as the first, 2; sequence 1 has 1"),
        ([np.ones((3, 1)), np.array([[1.0], [np.nan]])], "finite: sequence 1, step 1"),
        ([np.ones((3, 1)), np.ones((0, 1))], "at least one step; sequence 1"),
        ([], "at least one sequence"),
        ([["a"]], "numbers"),
    ],
)
def test_unsound_input_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        rc.Reservoir(5).states(given)


@pytest.mark.parametrize(
    "options",
    [
        {"n_units": 0},
        {"leak_rate": 0},
        {"leak_rate": 1.5},
        {"connectivity": 0},
        {"spectral_radius": -1},
        {"noise": -1},
        {"topology": "star"},
        {"activation": "binary"},
        {"distribution": "beta"},
    ],
)
def test_settings_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        rc.Reservoir(**options)
    if next(iter(options)) not in ("n_units",):
        with pytest.raises(ValueError, match=next(iter(options))):
            rc.ESNRegressor(**options).fit(np.ones((5, 1)), np.ones(5))


# ---------------------------------------------------------------- readouts


@pytest.mark.parametrize("ridge", [0.0, 1e-13, 1e-8, 1e-3, 10.0])
def test_least_squares_in_pieces(ridge):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(300, 8)), rng.normal(size=(300, 2))
    z[:, 7] = z[:, 0] + z[:, 1]  # nothing new
    readout = LeastSquares(8, 2, ridge)
    for part in np.array_split(np.arange(300), 7):
        readout.add(z[part], y[part])
        readout._take()
    ridged = np.vstack([z, np.sqrt(ridge) * np.eye(8)])
    wanted = np.linalg.lstsq(ridged, np.vstack([y, np.zeros((8, 2))]), rcond=None)[0]
    if ridge < 1e-3:  # where rounding counts: any of the best solutions
        assert np.allclose(z @ readout.solve(), z @ wanted, rtol=1e-8, atol=1e-8)
    if ridge in (0.0, 1e-3, 10.0):
        assert np.allclose(readout.solve(), wanted, rtol=1e-6, atol=1e-9)


def test_least_squares_go_over_to_roots_as_rows_grow():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(300, 4)), rng.normal(size=(300, 1))
    z[100:] *= 1e4
    readout = LeastSquares(4, 1, 1e-4).add(z[:100], y[:100])
    readout._take()
    assert readout._squares is not None
    readout.add(z[100:], y[100:])
    wanted = np.linalg.lstsq(np.vstack([z, 1e-2 * np.eye(4)]), np.vstack([y, np.zeros((4, 1))]), rcond=None)[0]
    assert np.allclose(readout.solve(), wanted, rtol=1e-9)
    assert readout._squares is None


def test_recursive_least_squares_are_ridge_regression():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    found = RecursiveLeastSquares(5, 2, ridge=0.5).add(z, y).W
    assert np.allclose(found, np.linalg.solve(z.T @ z + 0.5 * np.eye(5), z.T @ y), rtol=1e-9)


def test_forgetting_weighs_the_past():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(80, 4)), rng.normal(size=(80, 1))
    readout = RecursiveLeastSquares(4, 1, ridge=0.5, forgetting=0.9).add(z, y)
    weight = 0.9 ** np.arange(79, -1, -1)
    wanted = np.linalg.solve((z * weight[:, None]).T @ z + 0.5 * 0.9**80 * np.eye(4), (z * weight[:, None]).T @ y)
    assert np.allclose(readout.W, wanted, rtol=1e-8)
    assert np.array_equal(readout.P, readout.P.T)


# ---------------------------------------------------------------- estimators


def sequences(seed=0, lengths=(30, 1, 12)):
    rng = np.random.default_rng(seed)
    us = [rng.normal(size=(n, 2)) for n in lengths]
    return us, [np.cumsum(u, axis=0) * 0.1 for u in us]


def test_the_regressor_is_a_ridge_of_states():
    us, ys = sequences()
    esn = rc.ESNRegressor(25, ridge=0.1, squared_states=True, washout=2).fit(us, ys)
    (reservoir,) = esn.reservoirs_
    z = [np.hstack([plain(reservoir, u), plain(reservoir, u) ** 2, u, np.ones((len(u), 1))]) for u in us]
    wanted = Ridge(alpha=0.1, fit_intercept=False, tol=1e-12).fit(
        np.vstack([part[2:] for part in z]), np.vstack([y[2:] for y in ys])
    )
    for found, part in zip(esn.predict(us), z, strict=True):
        assert np.allclose(found, wanted.predict(part), rtol=1e-7, atol=1e-9)
    assert esn.score(us, ys) > 0.5
    assert np.allclose(esn.state_, [plain(reservoir, u)[-1] for u in us], rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"depth": 2}, {"parallel": 3}, {"depth": 2, "parallel": 2}, {"noise": 0.01}])
def test_save_pickle_clone_and_threads(options, tmp_path):
    us, ys = sequences()
    esn = rc.ESNRegressor(12, input_scaling=[0.5, 1.0], **options).fit(us, ys)
    assert esn.W_out_.shape[0] == 12 * options.get("depth", 1) * options.get("parallel", 1) + 3
    wanted = esn.predict(us)
    esn.save(tmp_path / "esn.safetensors")
    twins = [rc.load(tmp_path / "esn.safetensors"), pickle.loads(pickle.dumps(esn))]
    twins.append(clone(esn).set_params(n_threads=3).fit(us, ys))
    for twin in twins:
        assert all(map(np.array_equal, twin.predict(us), wanted))
    assert json.dumps(twins[0].get_params()) is not None


def test_a_single_array_is_one_sequence_of_steps():
    us, ys = sequences()
    esn = rc.ESNRegressor(20).fit(us[0], ys[0][:, 0])
    assert esn.predict(us[0]).shape == (30,) and isinstance(esn.predict(us), list)
    assert rc.ESNRegressor(20).fit(us[0], ys[0]).predict(us[0]).shape == (30, 2)
    assert rc.ESNRegressor(20).fit(us[0], ys[0][:, 0].tolist()).predict(us[0]).shape == (30,)


def test_partial_fit_goes_on_where_fit_stopped():
    us, ys = sequences(lengths=(60,))
    u, y = us[0], ys[0]
    whole = rc.ESNRegressor(15, readout="rls", ridge=1e-3).fit(u, y)
    parts = rc.ESNRegressor(15, readout="rls", ridge=1e-3).partial_fit(u[:20], y[:20])
    for at in range(20, 60, 10):
        parts.partial_fit(u[at : at + 10], y[at : at + 10])
    assert np.allclose(parts.W_out_, whole.W_out_, rtol=1e-9, atol=1e-12)
    assert not hasattr(rc.ESNRegressor(), "partial_fit")  # of which scikit-learn asks
    with pytest.raises(AttributeError, match="partial_fit"):
        rc.ESNRegressor().partial_fit(u, y)


def test_running_on_its_own_outputs():
    us, ys = sequences(lengths=(200,))
    esn = rc.ESNRegressor(20, feedback_scaling=0.3, squared_states=True).fit(us[0], ys[0])
    (reservoir,) = esn.reservoirs_
    x, y = np.zeros(20), np.zeros(2)
    for u, found in zip(us[0][:50], esn.predict(us[0]), strict=False):
        x = np.tanh(reservoir.W @ x + u @ reservoir.W_in + reservoir.bias + y @ reservoir.W_fb)
        y = np.concatenate([x, x**2, u, [1]]) @ esn.W_out_
        assert np.allclose(found, y, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"squared_states": True}, {"input_to_readout": False}, {"bias_scaling": 0.3}])
def test_generating_hears_what_it_said(options):
    path = datasets.lorenz(300) / 20
    esn = rc.ESNRegressor(40, washout=20, **options).fit(path[:-1], path[1:])
    found = esn.generate(6, path[:100])
    heard = path[:100]
    for step in found:
        assert np.allclose(esn.predict(heard)[-1], step, rtol=1e-7, atol=1e-9)
        heard = np.vstack([heard, step])
    assert esn.generate(0, path[:100]).shape == (0, 3)


def test_generating_without_inputs():
    wave = np.sin(np.arange(600) / 4)
    esn = rc.ESNRegressor(60, feedback_scaling=1.0, bias_scaling=0.2, washout=100, ridge=1e-8).fit(None, wave)
    ahead = esn.generate(50, wave[:300])
    assert ahead.shape == (50, 1) and abs(ahead[:, 0] - wave[300:350]).max() < 0.05
    with pytest.raises(ValueError, match="prime must have 1 columns"):
        esn.generate(5, np.ones((4, 2)))


ROWS_ARE_STEPS = {
    "check_methods_sample_order_invariance": "rows of an array are steps of one sequence: their order counts",
    "check_methods_subset_invariance": "rows of an array are steps of one sequence: what was before them counts",
    "check_fit1d": "an array (T,) is a sequence of one number a step",
}


@pytest.mark.parametrize(("kind", "others"), [(rc.ESNRegressor, ROWS_ARE_STEPS), (rc.ESNClassifier, {})])
def test_scikit_learns_checks(kind, others):
    results = check_estimator(kind(20, n_threads=1), expected_failed_checks=others, on_skip=None)
    assert {found["check_name"] for found in results if found["status"] == "xfail"} == {*others}
    skipped = {found["check_name"] for found in results if found["status"] == "skipped"}
    without_a_package = {"check_array_api_input", "check_sample_weights_pandas_series"}
    assert skipped <= without_a_package | {f"check_{one}_data_not_an_array" for one in ("classifier", "regressor")}


def test_two_classes_have_one_number():
    X = np.random.default_rng(0).normal(size=(30, 12))
    y = np.where(X.mean(axis=1) > 0, "up", "down")
    esn = rc.ESNClassifier(20).fit(X, y)
    assert esn.n_features_in_ == 12 and esn.decision_function(X).shape == (30,)
    assert np.array_equal(esn.predict(X), np.where(esn.decision_function(X) > 0, "up", "down"))
    with pytest.raises(ValueError, match="X has 11 features, but ESNClassifier is expecting 12"):
        esn.predict(X[:, 1:])
    assert np.array_equal(esn.predict([*X[:, 1:]]), rc.ESNClassifier(20).fit([*X], y).predict([*X[:, 1:]]))


def test_a_search_over_all_cores():
    us, ys = sequences(lengths=(30, 20, 25, 30))
    grid = {"spectral_radius": [0.1, 0.9], "ridge": [1e-6, 1.0]}
    alone, together = (GridSearchCV(rc.ESNRegressor(30), grid, cv=2, n_jobs=n).fit(us, ys) for n in (1, 2))
    assert together.best_params_ == alone.best_params_
    assert np.array_equal(together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert np.array_equal(together.predict(us[0]), alone.predict(us[0]))
    threads = Parallel(2)(delayed(rc.get_num_threads)() for _ in range(2))
    assert max(threads) <= max(1, cpu_count() // 2)  # the workers share the processors


def test_the_classifier_by_sequence_and_by_step(tmp_path):
    rng = np.random.default_rng(0)
    X = [np.sin(np.arange(n) / p + rng.uniform(0, 6)) for p in (9, 4) for n in rng.integers(20, 60, 30)]
    y = np.repeat(["slow", "fast"], 30)
    for pooling in ("mean", "last"):
        esn = rc.ESNClassifier(60, washout=5, pooling=pooling).fit(X[::2], y[::2])
        assert esn.score(X[1::2], y[1::2]) > 0.9, pooling
        esn.save(tmp_path / "esn.safetensors")
        twin = rc.load(tmp_path / "esn.safetensors")
        assert np.array_equal(twin.decision_function(X), esn.decision_function(X))
    high = [np.where(x > 0, "up", "down") for x in X]
    by_step = rc.ESNClassifier(20).fit(X, high)
    assert by_step.score(X, high) > 0.95 and len(by_step.predict(X)[3]) == len(X[3])
    with pytest.raises(ValueError, match=r"at least two classes.*slow"):
        rc.ESNClassifier().fit(X[:3], y[:3])
    with pytest.raises(ValueError, match="sequence 0 has"):
        rc.ESNClassifier().fit(X, [part[1:] for part in high])


def test_memory_is_bounded_by_the_units():
    from rnncore.models.reservoir import memory_capacity

    linear = rc.Reservoir(50, 0.9, input_scaling=0.1, activation="identity")
    assert 50 / 3 < memory_capacity(linear, delays=100) <= 50


def test_deep_reservoirs_hear_the_ones_below():
    us, ys = sequences()
    esn = rc.ESNRegressor(12, depth=2).fit(us, ys)
    below, above = esn.reservoirs_
    states = plain(below, us[0])
    z = np.hstack([states, plain(above, states), us[0], np.ones((30, 1))])
    assert np.allclose(esn.predict(us)[0], z @ esn.W_out_, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="one reservoir"):
        rc.ESNRegressor(feedback_scaling=1, depth=2).fit(us, ys)


def test_the_states_of_reservoirpy():
    reservoirpy = peers.peer("reservoirpy")
    ours = rc.Reservoir(40, 0.9, leak_rate=0.4, bias_scaling=0.1)
    u = np.random.default_rng(0).normal(size=(50, 2))
    states = ours.states(u)
    theirs = reservoirpy.nodes.Reservoir(40, lr=0.4, W=ours.W.toarray(), Win=ours.W_in.T.copy(), bias=ours.bias.copy())
    assert np.allclose(theirs.run(u), states, rtol=1e-9, atol=1e-12)


def test_as_a_layer_of_a_network():
    reservoir = rc.Reservoir(20, leak_rate=0.3, bias_scaling=0.2)
    u = np.random.default_rng(0).normal(size=(15, 2))
    layer = reservoir.layer(2)
    assert np.allclose(layer.forward(u[:, None])[0][:, 0], reservoir.states(u), rtol=1e-10, atol=1e-12)
    net = rc.Network(layer, head=rc.Softmax(3))
    net.loss_and_grad(u[:, None], np.zeros((15, 1), int))
    assert net.grads["layers.0.fwd.W_hh"].any()
    assert max(rc.gradcheck(net, u[:, None], np.zeros((15, 1), int)).values()) < 1e-6
    before = net.params["layers.0.fwd.W_hh"].copy()
    net.freeze("layers.0.*")
    net.train_step(u[:, None], np.zeros((15, 1), int), rc.Adam())
    assert np.array_equal(net.params["layers.0.fwd.W_hh"], before)
