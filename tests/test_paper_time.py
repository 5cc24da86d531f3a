"""Networks in continuous time and of several time scales, on the tasks of their papers (long; `pytest -m paper`)."""

from __future__ import annotations

import numpy as np
import pytest
from paper import SEEDS, for_each_seed, solved_by

from rnncore.zoo import clockwork, ctrnn, hierarchy, mtrnn

pytestmark = pytest.mark.paper


@pytest.mark.parametrize(("solver", "time_step"), [("rk4", 0.05), ("euler", 0.01)])
def test_two_units_oscillate(solver, time_step, tell):
    """A pair of Beer's kind (1995): the period 29.00 within .5 %, outputs in [.1891, .8109] within .002."""
    outputs = ctrnn.oscillator(round(400 / time_step), time_step, solver)
    late = outputs[len(outputs) // 4 :]
    period = ctrnn.period_of(late[:, 0]) * time_step
    tell(solver=solver, period=round(period, 3), range=(round(late.min(), 4), round(late.max(), 4)))
    assert period == pytest.approx(29.0, rel=0.005)
    assert (late.min(), late.max()) == pytest.approx((0.1891, 0.8109), abs=0.002)


def test_six_units_learn_a_sine(tell):
    """Running by themselves, with a frequency off by < 1 % and an NRMSE over three periods < .1."""

    def attempt(seed):
        net, wave = ctrnn.learn_sine(seed), ctrnn.sine(20)
        said = net.predict(np.zeros_like(wave))[:, 0, 0]
        three = slice(3 * ctrnn.PERIOD)
        error = np.sqrt(np.mean((said[three] - wave[three, 0, 0]) ** 2)) / wave.std()
        off = abs(ctrnn.period_of(said[ctrnn.HEARD * ctrnn.PERIOD :]) / ctrnn.PERIOD - 1)
        return round(float(off), 5), round(float(error), 4)

    results = for_each_seed(tell, attempt)
    solved_by([off < 0.01 and error < 0.1 for off, error in results], len(SEEDS))


def test_clockwork_generates_a_sum_of_sines(tell):
    """Koutník et al. 2014, reduced: 320 steps of four sines, 2,497 parameters beside 2,449; at most .6 of the error."""

    def attempt(seed):
        wave, nets = clockwork.waves(seed), (clockwork.clockwork(seed), clockwork.simple(seed))
        assert [net.theta.size for net in nets] == [2497, 2449]
        # each with the best of the rates that were tried
        return [round(clockwork.learn(net, wave, rate)[-1], 5) for net, rate in zip(nets, (0.01, 0.001), strict=True)]

    results = for_each_seed(tell, attempt)
    solved_by([ticking <= 0.6 * simple for ticking, simple in results], len(SEEDS))


@pytest.mark.parametrize("steps", [25, 50, 100])
def test_levels_of_time_latch(steps, tell):
    """El Hihi and Bengio 1996, reduced: two classes told apart by the first ten steps, noise after that."""

    def attempt(seed):
        nets = hierarchy.hierarchy(seed), hierarchy.flat(seed)
        return [hierarchy.errors_of(net, steps, seed)[-1] for net in nets]

    results = for_each_seed(tell, attempt, steps=steps)
    solved_by([levels <= 0.01 for levels, _ in results], len(SEEDS))
    if steps == 100:
        assert min(flat for _, flat in results) > 0.4


def test_time_scales_make_sequences_of_primitives(tell):
    """Yamashita and Tani 2008, reduced: five movements with errors < .01.

    With slow units as fast as the fast ones the sequences of primitives are twice as far off, by the median.
    """

    def attempt(seed):
        return {slow: mtrnn.learn(seed, slow)[1].round(5).tolist() for slow in (70.0, 5.0)}

    results = for_each_seed(tell, attempt)
    solved_by([max(errors[70.0]) < 0.01 for errors in results], len(SEEDS))
    composed = {slow: np.median([np.mean(errors[slow][3:]) for errors in results]) for slow in (70.0, 5.0)}
    tell(composed=composed, ratio=round(composed[5.0] / composed[70.0], 2))
    assert composed[5.0] >= 2 * composed[70.0]
