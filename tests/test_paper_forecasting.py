"""Forecasts of passengers six months ahead, and of the Mackey-Glass series beside a multilayer perceptron (`-m paper`).

The protocol of the first is that of darts' example of recurrent networks (Herzen et al. 2022, JMLR 23:124), its data
are series G of Box and Jenkins. The second series is that of Mackey and Glass 1977.
"""

import csv

import numpy as np
import pytest
from paper import SEEDS, for_each_seed

import rnncore as rc
from rnncore.estimators.presets import FORECASTERS, settings_of

pytestmark = pytest.mark.paper


def test_airline_passengers_six_months_ahead(data, tell):
    """Trained to January 1959; a forecast from every month on until the end, of which the sixth month counts."""
    with open(data("airline_passengers.csv")) as file:
        y = np.array([float(row[1]) for row in list(csv.reader(file))[1:]])
    ends = range(120, len(y) - 5)
    came = y[125:]

    def attempt(seed: int) -> float:
        model = rc.Forecaster(**settings_of(FORECASTERS, "seasonal"), random_state=seed, n_threads=1).fit(y[:121])
        said = np.array(model.predict(6, after=([y[:end] for end in ends],)))[:, 5]
        return float(100 * np.mean(np.abs(said - came) / came))

    assert np.mean(for_each_seed(tell, attempt, task="airline")) <= 2.9


def test_mackey_glass_beside_a_perceptron(tell):
    """36 steps from windows of 48, 3000 steps to learn from: less than half of the perceptron's error."""
    from sklearn.neural_network import MLPRegressor

    y = rc.datasets.mackey_glass(4000)
    ends = range(3000, 3965, 3)
    came = np.array([y[end : end + 36] for end in ends])
    places = range(48, 3000 - 35)
    windows = [np.array([y[at - 48 : at] for at in some]) - 0.9 for some in (places, ends)]
    perceptron = MLPRegressor(random_state=0, max_iter=500)
    perceptron.fit(windows[0], np.array([y[at : at + 36] for at in places]) - 0.9)
    beside = np.abs(perceptron.predict(windows[1]) + 0.9 - came).mean()

    def attempt(seed: int) -> float:
        settings = {"window": 48, "strategy": "direct", "horizon": 36, "hidden_size": 64}
        model = rc.Forecaster(**settings, random_state=seed, n_threads=1).fit(y[:3000])
        said = np.array(model.predict(after=([y[:end] for end in ends],)))
        return float(np.abs(said - came).mean())

    errors = for_each_seed(tell, attempt, task="Mackey-Glass", beside=float(beside))
    assert len(errors) == len(SEEDS) and max(errors) < beside / 2


@pytest.mark.parametrize("output", ["normal", "quantiles"])
def test_intervals_of_sunspots(data, tell, output):
    """Trained to October 1940, 36 months from every third on: the cycles that came are higher than all before."""
    with open(data("sunspots_monthly.csv")) as file:
        y = np.array([float(row[1]) for row in list(csv.reader(file))[1:]])
    ends = range(2302, len(y) - 35, 3)
    came = np.array([y[end : end + 36] for end in ends])
    settings = settings_of(FORECASTERS, "noisy") | {"window": 125, "horizon": 36, "output": output}

    def attempt(seed: int) -> float:
        model = rc.Forecaster(**settings, random_state=seed, n_threads=1).fit(y[:2302])
        said = np.array(model.predict(quantiles=(0.05, 0.95), after=([y[:end] for end in ends],)))
        return float(((said[..., 0] <= came) & (came <= said[..., 1])).mean())

    assert 0.85 <= np.mean(for_each_seed(tell, attempt, task=f"sunspots, {output}")) <= 0.95
