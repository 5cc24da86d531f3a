"""Learning-rate schedules."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.optim.schedules import SCHEDULES, Constant, Cosine, Exponential, HalveOnPlateau, Linear, Step

EXAMPLES = {
    "constant": Constant(),
    "step": Step(10, 0.3),
    "linear": Linear(50, 0.1),
    "cosine": Cosine(50, 0.1),
    "exponential": Exponential(0.97, 9),
    "halve_on_plateau": HalveOnPlateau(patience=2),
}


def test_every_schedule_has_an_example_here():
    assert set(EXAMPLES) == set(SCHEDULES)
    assert all(type(EXAMPLES[name]) is kind for name, kind in SCHEDULES.items())


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Constant(), {0: 1.0, 10**9: 1.0}),
        (Step(5), {0: 1.0, 4: 1.0, 5: 0.5, 9: 0.5, 10: 0.25}),
        (Linear(10, 0.5), {0: 1.0, 5: 0.75, 10: 0.5, 99: 0.5}),
        (Cosine(10, 0.2), {0: 1.0, 5: 0.6, 10: 0.2, 99: 0.2}),
        (Exponential(0.97, 9), {0: 1.0, 9: 1.0, 10: 0.97, 11: 0.97**2, 10**6: 0.0}),
    ],
)
def test_factors(schedule, factors):
    for step, factor in factors.items():
        assert schedule.factor(step) == schedule(step) == pytest.approx(factor, abs=1e-15)


@pytest.mark.parametrize("name", EXAMPLES)
@given(step=st.integers(0, 10**6))
def test_factors_lie_between_zero_and_one_and_never_rise(name, step):
    schedule = EXAMPLES[name]
    assert 0.0 <= schedule.factor(step + 1) <= schedule.factor(step) <= 1.0


@pytest.mark.parametrize("name", EXAMPLES)
def test_warm_up_rises_evenly_and_then_the_schedule_starts(name):
    kind = SCHEDULES[name]
    plain = EXAMPLES[name]
    options = {key: value for key, value in vars(plain).items() if not key.startswith("_") and key != "warmup"}
    warm = kind(**options, warmup=4)
    assert [warm.factor(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [warm.factor(step + 4) for step in range(60)] == [plain.factor(step) for step in range(60)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_copies_and_states_agree(name):
    schedule = copy.deepcopy(EXAMPLES[name])
    if name == "halve_on_plateau":
        for loss in (3.0, 4.0, 4.0, 4.0, 4.0):
            schedule.observe(loss)
        assert schedule.factor(0) == 0.5
    fresh = copy.deepcopy(EXAMPLES[name])
    fresh.load_state_dict(schedule.state_dict())
    for other in (fresh, pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert other.state_dict() == schedule.state_dict()
        assert other.factor(7) == schedule.factor(7)


def observed(schedule, *losses):
    factors = []
    for loss in losses:
        schedule.observe(loss)
        factors.append(schedule.factor(0))
    return factors


def test_plateau_against_the_best_loss():
    assert observed(HalveOnPlateau(), 3.0, 2.0, 2.5, 2.2, 1.0, 1.0) == [1.0, 1.0, 0.5, 0.25, 0.25, 0.125]


def test_plateau_against_the_last_loss():
    assert observed(HalveOnPlateau(against="last"), 3.0, 2.0, 2.5, 2.2, 2.3) == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_plateau_patience_threshold_and_floor():
    assert observed(HalveOnPlateau(patience=1), 1.0, 2.0, 2.0, 2.0, 2.0) == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert observed(HalveOnPlateau(threshold=0.5), 3.0, 2.8, 2.0) == [1.0, 0.5, 0.5]
    assert observed(HalveOnPlateau(smallest=0.3), 1.0, 1.0, 1.0) == [1.0, 0.5, 0.3]


def test_plateau_takes_nan_for_no_improvement():
    assert observed(HalveOnPlateau(), math.nan, 1.0, math.nan, 0.5, 0.4) == [0.5, 0.5, 0.25, 0.25, 0.25]
    assert observed(HalveOnPlateau(against="last"), 1.0, math.nan, 2.0, 1.0) == [1.0, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Constant, {"warmup": -1}),
        (Constant, {"unit": "day"}),
        (Step, {"every": 0}),
        (Step, {"every": 1, "gamma": 0.0}),
        (Step, {"every": 1, "gamma": math.nan}),
        (Linear, {"steps": 0}),
        (Linear, {"steps": 5, "final": -0.1}),
        (Cosine, {"steps": -5}),
        (Cosine, {"steps": 5, "final": 1.5}),
        (Exponential, {"gamma": 1.5}),
        (Exponential, {"start": -1}),
        (HalveOnPlateau, {"patience": -1}),
        (HalveOnPlateau, {"gamma": 1.0}),
        (HalveOnPlateau, {"threshold": math.nan}),
        (HalveOnPlateau, {"smallest": 2.0}),
        (HalveOnPlateau, {"against": "mean"}),
    ],
)
def test_bad_parameters(kind, options):
    with pytest.raises(ValueError, match="expected"):
        kind(**options)


def test_parameters_of_the_wrong_type():
    with pytest.raises(TypeError, match="expected a whole number"):
        Step(every=2.5)
    with pytest.raises(TypeError, match="expected a number"):
        Exponential(gamma="fast")


def test_foreign_states_are_refused():
    with pytest.raises(ValueError, match="expected no state"):
        Constant().load_state_dict({"factor": 0.5})
    with pytest.raises(ValueError, match="expected the state of a HalveOnPlateau"):
        HalveOnPlateau().load_state_dict({"steps": 3})
