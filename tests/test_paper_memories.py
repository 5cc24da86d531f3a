"""Associative memories: how much they hold, beside theory and the papers (long; `pytest -m paper`)."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from paper import SEEDS, for_each_seed, solved_by

import rnncore as rc

pytestmark = pytest.mark.paper

N, SHOWN = 500, 8
BARS = {0.05: (1.0, 1.0), 0.10: (0.99, 1.0), 0.12: (0.97, 1.0), 0.20: (0.0, 0.70)}


def patterns_and_damaged(seed: int, load: float, flipped: int = N // 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patterns = rng.choice([-1, 1], (round(load * N), N))
    damaged = patterns[:SHOWN].copy()
    for state in damaged:
        state[rng.permutation(N)[:flipped]] *= -1
    return patterns, damaged


@pytest.mark.parametrize("load", BARS)
def test_hopfield_recalls(load, tell):
    """500 units, patterns with a tenth of their bits flipped: overlap with what was meant, eight patterns a seed."""

    def attempt(seed):
        patterns, damaged = patterns_and_damaged(seed, load)
        memory = rc.models.Hopfield(random_state=seed).fit(patterns)
        ways = [memory.recall(state) for state in damaged]
        assert all(way.ending == "fixed point" for way in ways)
        assert all(np.all(np.diff(way.energies) < 0) for way in ways)
        found = np.array([way.state for way in ways])
        return float(np.abs((found * patterns[:SHOWN]).mean(axis=1)).mean())

    overlaps = for_each_seed(tell, attempt, load=load)
    low, high = BARS[load]
    tell(mean_overlap=round(float(np.mean(overlaps)), 4))
    assert low <= np.mean(overlaps) <= high
    if load == 0.05:
        solved_by([overlap == 1.0 for overlap in overlaps], len(SEEDS))


def test_hopfield_keeps_patterns_stable(tell):
    """McEliece et al. 1987: N/(2 ln N) patterns are nearly all fixed points; to the bit exp(-N·Q(sqrt(N/P))) = 0.90."""
    count = int(N / (2 * math.log(N)))

    def attempt(seed):
        patterns, _ = patterns_and_damaged(seed, count / N)
        return int((rc.models.Hopfield(random_state=seed).fit(patterns).predict(patterns) == patterns).all(1).sum())

    stable = for_each_seed(tell, attempt, patterns=count)
    assert sum(stable) >= 0.85 * count * len(SEEDS)


@pytest.mark.parametrize(("rule", "load"), [("projection", 0.5), ("storkey", 0.25)])
def test_other_rules_hold_more(rule, load, tell):
    """What Hebb's rule loses at 0.2 others hold at more; 2 % of the bits flipped."""

    def attempt(seed):
        patterns, damaged = patterns_and_damaged(seed, load, N // 50)
        found = rc.models.Hopfield(rule, random_state=seed).fit(patterns).predict(damaged)
        return float((found == patterns[:SHOWN]).all(axis=1).mean())

    solved_by([right == 1.0 for right in for_each_seed(tell, attempt, rule=rule, load=load)], 4)


def test_hopfield_of_ten_thousand_units(tell):
    """N²·4 bytes, the patterns once in float32, and 16 MiB: no more."""
    rng = np.random.default_rng(0)
    units, count = 10_000, 300
    patterns = rng.choice(np.array([-1, 1], dtype=np.int8), (count, units))
    damaged = patterns[:SHOWN].copy()
    damaged[:, : units // 10] = 1
    tracemalloc.start()
    found = rc.models.Hopfield().fit(patterns).predict(damaged)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    bound = units**2 * 4 + count * units * (4 + 1) + 16 * 2**20
    tell(peak=f"{peak / 2**20:.0f} MiB", bound=f"{bound / 2**20:.0f} MiB")
    assert peak <= bound
    assert np.array_equal(found, patterns[:SHOWN])


def test_continuous_hopfield_ends_where_the_discrete_one_does(tell):
    """Hopfield 1984: at high gain; 40 starts a seed, a tenth of 200 bits flipped."""

    def attempt(seed):
        rng = np.random.default_rng(seed)
        patterns = rng.choice([-1, 1], (8, 200))
        starts = patterns[rng.integers(0, 8, 40)] * rng.choice([1, -1], (40, 200), p=[0.9, 0.1])
        discrete = rc.models.Hopfield(random_state=seed).fit(patterns).predict(starts)
        graded = rc.models.ContinuousHopfield(gain=50.0, tolerance=1e-3).fit(patterns)
        rises = max(float(np.diff(graded.trajectory(start, every=10).energies).max()) for start in starts[:5])
        return float((np.sign(graded.predict(starts)) == discrete).all(axis=1).mean()), rises

    results = for_each_seed(tell, attempt)
    assert all(rise <= 1e-9 for _, rise in results)
    solved_by([same >= 0.95 for same, _ in results], len(SEEDS))


PAIRS = {2: (1.0, 1.0), 4: (0.99, 1.0), 8: (0.85, 0.97)}


@pytest.mark.parametrize("pairs", PAIRS)
def test_bam_recalls(pairs, tell):
    """64 units in each layer, random pairs; how many of 100 draws a seed recall a pair from its first half."""

    def attempt(seed):
        rng = np.random.default_rng(seed)
        right = 0
        for _ in range(100):
            A, B = rng.choice([-1, 1], (pairs, 64)), rng.choice([-1, 1], (pairs, 64))
            found = rc.models.BAM().fit(A, B).recall(a=A[:1])
            assert np.all(np.diff(found.energies, axis=0) <= 0)
            right += np.array_equal(found.b, B[:1]) and np.array_equal(found.a, A[:1])
        return right / 100

    rates = for_each_seed(tell, attempt, pairs=pairs)
    low, high = PAIRS[pairs]
    assert low <= np.mean(rates) <= high


def test_modern_hopfield_holds_many_more_than_units(tell):
    """Ramsauer et al. 2021: 64 units, 5000 patterns of ±1, a quarter of each unknown."""

    def attempt(seed):
        rng = np.random.default_rng(seed)
        patterns = rng.choice([-1.0, 1.0], (5000, 64))
        damaged = patterns[:500] * (np.arange(64) >= 16)
        memory = rc.models.ModernHopfield(beta=1.0).fit(patterns)
        return float((np.sign(memory.predict(damaged)) == patterns[:500]).all(axis=1).mean())

    solved_by([right >= 0.99 for right in for_each_seed(tell, attempt)], len(SEEDS))
