"""Search without gradients: every method finds what it should, counts what it does, and no process changes a result."""

import importlib.util

import numpy as np
import pytest

import rnncore as rc
from rnncore.search import METHODS, minimize

HERE = [name for name in METHODS if name != "cma" or importlib.util.find_spec("cma")]


def sphere(x):
    return float(np.sum((x - 0.3) ** 2))


@pytest.mark.parametrize("method", HERE)
def test_finds_a_minimum_and_stops_there(method):
    bar = {"random": 0.05, "dual_annealing": 1e-6}.get(method, 1e-3)
    found = minimize(np.full(3, 0.9), sphere, method, target=bar, max_evaluations=5000, random_state=1)
    assert found.stopped == "target" and found.value <= bar and found.method == method
    assert sphere(found.theta) == found.value
    assert found.history[-1] == (found.evaluations, found.value)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in zip(found.history, found.history[1:], strict=False))


@pytest.mark.parametrize("method", HERE)
def test_the_budget_is_kept(method):
    calls = []

    def counted(x):
        calls.append(sphere(x))
        return calls[-1]

    found = minimize(np.zeros(2), counted, method, max_evaluations=137, random_state=0)
    assert found.evaluations == len(calls) == 137 and found.stopped == "budget"
    assert found.value == min(calls)


@pytest.mark.parametrize("method", HERE)
def test_the_same_seed_is_the_same_search(method):
    one, other, third = (
        minimize(np.zeros(2), sphere, method, max_evaluations=90, random_state=seed) for seed in (5, 5, 6)
    )
    assert one.history == other.history and np.array_equal(one.theta, other.theta)
    assert one.history != third.history or np.array_equal(one.theta, third.theta)


@pytest.mark.parametrize("method", HERE)
def test_global_random_numbers_are_left_alone(method):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (theirs)
    minimize(np.zeros(2), sphere, method, max_evaluations=50)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def network():
    head = rc.SquaredError(1, pooling="last")
    return rc.Network(rc.Recurrent("elman", 1, 2, activation="tanh", random_state=0), head=head)


def first_number(net):
    x = np.random.default_rng(0).standard_normal((5, 40, 1)).astype(np.float32)
    return float(np.mean((net.predict(x)[:, 0] - np.sign(x[0, :, 0])) ** 2))


@pytest.mark.parametrize("method", ["random", "genetic", "evolution"])
def test_processes_change_nothing(method):
    results = []
    for n_jobs in (1, 2):
        net = network()
        results.append(
            minimize(net, first_number, method, bounds=(-3, 3), target=0.5, max_evaluations=400, n_jobs=n_jobs)
        )
        assert np.array_equal(net.theta, results[-1].theta)
    one, two = results
    assert one.history == two.history and one.evaluations == two.evaluations and one.stopped == two.stopped
    assert np.array_equal(one.theta, two.theta)


def test_a_network_holds_the_best_and_nothing_if_it_fails():
    net = network()
    found = minimize(net, first_number, "evolution", max_evaluations=100)
    assert first_number(net) == found.value and found.theta.dtype == net.theta.dtype
    before, calls = net.theta.copy(), []

    def fails(net):
        calls.append(1)
        if len(calls) == 30:
            raise RuntimeError("no more")
        return 1.0

    with pytest.raises(RuntimeError, match="no more"):
        minimize(net, fails, "random", max_evaluations=100)
    assert np.array_equal(net.theta, before)


def test_all_at_once_is_one_by_one():
    for method in ("random", "genetic", "annealing", "evolution", "differential_evolution"):
        one = minimize(np.zeros(2), sphere, method, max_evaluations=200, target=1e-3)
        all_ = minimize(
            np.zeros(2),
            lambda x: [sphere(row) for row in x],
            method,
            max_evaluations=200,
            target=1e-3,
            vectorized=True,
        )
        assert one.history == all_.history and one.evaluations == all_.evaluations


def test_a_callback_sees_and_stops():
    seen = []

    def stop(result):
        seen.append(result)
        return result.evaluations >= 100

    found = minimize(np.zeros(2), sphere, "random", callback=stop, batch=40)
    assert found.stopped == "callback" and found.evaluations == 120
    assert [result.evaluations for result in seen] == [40, 80, 120] and seen[0].stopped == "running"


@pytest.mark.parametrize("method", HERE)
def test_what_is_no_number_counts_as_infinite(method):
    def half(x):
        return sphere(x) if x[0] > 0 else np.nan

    found = minimize(np.full(2, 0.5), half, method, max_evaluations=300)
    assert np.isfinite(found.value) and found.theta[0] > 0


def test_options_do_what_they_say():
    near = minimize(np.zeros(2), sphere, "evolution", max_evaluations=300, selection="plus", recombination="none")
    assert near.value < 1e-3
    chains = minimize(np.zeros(2), sphere, "annealing", max_evaluations=2000, chains=4, restarts=1, step=0.2)
    assert chains.value < 1e-2 and chains.evaluations == 2000
    low, high = np.array([0.5, -1.0]), np.array([1.0, 0.0])
    inside = []
    for method in ("random", "differential_evolution", "dual_annealing"):
        minimize(np.array([0.7, -0.5]), lambda x: inside.append(x.copy()) or sphere(x), method, bounds=(low, high),
                 max_evaluations=200)  # fmt: skip
    assert np.all(inside >= low) and np.all(inside <= high)


def test_one_number():
    for method in HERE:
        found = minimize(np.zeros(1), lambda x: float((x[0] - 0.3) ** 2), method, max_evaluations=500, random_state=2)
        assert found.theta.shape == (1,) and found.value < 1e-2


def test_errors_say_what_to_do():
    cases = [
        (lambda: minimize(np.zeros(2), sphere, "simplex"), "method: expected 'random'"),
        (lambda: minimize(np.zeros(2), sphere, "random", popsize=3), "no option 'popsize'; it has batch"),
        (lambda: minimize(np.zeros((2, 2)), sphere, "random"), "array"),
        (lambda: minimize(np.array([np.nan]), sphere, "random"), "start must be finite"),
        (lambda: minimize(np.zeros(2), sphere, "random", bounds=(1, 0)), "lower ones below"),
        (lambda: minimize(np.zeros(2), sphere, "random", bounds=([0, 0, 0], 1)), "each a number or 2 of them"),
        (lambda: minimize(np.zeros(2), sphere, "random", max_evaluations=0), "max_evaluations: expected at least 1"),
        (lambda: minimize(np.zeros(2), sphere, "genetic", elite=60), "elite: expected less than population"),
        (lambda: minimize(np.zeros(2), lambda x: [1.0], "random", vectorized=True), "must return 64 values"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="objective must return a number, got str"):
        minimize(np.zeros(2), lambda x: "low", "random")


def test_cma_is_asked_for_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(ValueError, match=r"pip install 'rnncore\[search\]'"):
        minimize(np.zeros(2), sphere, "cma")
