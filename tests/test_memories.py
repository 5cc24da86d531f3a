"""Associative memories: energies that never rise, rules against their equations, threads, files, errors."""

import os
import pickle
import warnings

import numpy as np
import pytest
from costs import late
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import rnncore as rc
from rnncore.models import BAM, ContinuousHopfield, Hopfield, ModernHopfield

RULES = ("hebb", "projection", "storkey")
seeds = st.integers(0, 2**32 - 1)


def bipolar(rng, *shape):
    return rng.choice([-1, 1], shape)


def energy(W, thresholds, s):
    return -0.5 * s @ W @ s + thresholds @ s


# -- discrete ---------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(RULES), st.sampled_from(["random", "cyclic"]), st.booleans())
def test_energy_falls_with_every_change(seed, rule, order, with_thresholds):
    rng = np.random.default_rng(seed)
    units, count = int(rng.integers(2, 40)), int(rng.integers(1, 12))
    thresholds = rng.normal(0, 0.2, units) if with_thresholds else np.zeros(units)
    memory = Hopfield(rule, order=order, thresholds=thresholds, dtype="float64", random_state=seed)
    memory.fit(bipolar(rng, count, units))
    way = memory.recall(bipolar(rng, units))
    W = memory.weights_
    along = [energy(W, thresholds, way.after(n).astype(float)) for n in range(len(way.flips) + 1)]
    assert np.allclose(along, way.energies, rtol=0, atol=1e-10)
    assert np.all(np.diff(along) < 1e-10) and np.all(np.diff(way.energies) < 0)
    h = W @ way.state - thresholds
    assert way.ending == "fixed point" and np.all(way.state * h >= -1e-10)
    assert np.array_equal(way.after(len(way.flips)), way.state)


@given(seeds)
def test_any_symmetric_couplings_come_to_rest(seed):
    rng = np.random.default_rng(seed)
    units = int(rng.integers(1, 30))
    W = rng.standard_normal((units, units))
    W = np.triu(W, 1) + np.triu(W, 1).T
    memory = Hopfield.of_weights(W, dtype="float64")
    states = bipolar(rng, 5, units)
    found = memory.predict(states)
    assert np.all(found * (found @ W) >= -1e-12)
    assert np.all(memory.energy(found) <= memory.energy(states) + 1e-12)
    assert np.allclose(memory.energy(found), [energy(W, np.zeros(units), s) for s in found.astype(float)])


def test_hebbs_rule():
    patterns = bipolar(np.random.default_rng(0), 7, 20)
    wanted = patterns.T @ patterns / 20
    np.fill_diagonal(wanted, 0)
    memory = Hopfield(dtype="float64").fit(patterns)
    assert np.allclose(memory.weights_, wanted, rtol=0, atol=1e-15)
    in_parts = Hopfield(dtype="float64").partial_fit(patterns[:3]).partial_fit(patterns[3:])
    assert np.array_equal(in_parts.couplings_, memory.couplings_) and in_parts.n_patterns_ == 7


def test_projection():
    """Patterns, dependent ones among them, are kept; without the diagonal W is the projection onto them."""
    patterns = bipolar(np.random.default_rng(1), 9, 30)
    patterns = np.concatenate([patterns, patterns[:2], -patterns[2:4]])
    memory = Hopfield("projection", dtype="float64").fit(patterns)
    wanted = np.linalg.pinv(patterns.astype(float)) @ patterns
    np.fill_diagonal(wanted, 0)
    assert np.allclose(memory.weights_, wanted, rtol=0, atol=1e-12)
    assert np.array_equal(memory.predict(patterns), patterns)


def test_as_many_patterns_as_units_leave_every_state_as_it_is():
    memory = Hopfield("projection").fit(np.where(np.tri(16) > 0, 1, -1))
    states = bipolar(np.random.default_rng(2), 20, 16)
    assert np.array_equal(memory.predict(states), states)


def test_storkeys_rule():
    """Against its sums, term by term."""
    patterns = bipolar(np.random.default_rng(3), 4, 9)
    W = np.zeros((9, 9))
    for x in patterns:
        new = W.copy()
        for i in range(9):
            for j in range(9):
                if i != j:
                    h_ij = sum(W[i, k] * x[k] for k in range(9) if k not in (i, j))
                    h_ji = sum(W[j, k] * x[k] for k in range(9) if k not in (i, j))
                    new[i, j] += (x[i] * x[j] - x[i] * h_ji - h_ij * x[j]) / 9
        W = new
    memory = Hopfield("storkey", dtype="float64").fit(patterns)
    assert np.allclose(memory.weights_, W, rtol=0, atol=1e-14)
    assert np.array_equal(memory.weights_, memory.weights_.T)


def test_all_at_once():
    """A pair that looks at itself crosswise goes back and forth; a pattern stays."""
    pair = Hopfield.of_weights([[0, 1], [1, 0]], update="synchronous")
    assert pair.recall([1, -1]).ending == "two states in turn"
    patterns = bipolar(np.random.default_rng(4), 3, 60)
    memory = Hopfield(update="synchronous").fit(patterns)
    assert memory.recall(patterns[0]).ending == "fixed point"
    s = bipolar(np.random.default_rng(5), 60)
    h = memory.weights_.astype(float) @ s
    after = memory.set_params(max_sweeps=1).recall(s).state
    assert np.array_equal(after, np.where(np.abs(h) < 1e-6, s, np.sign(h)))


def test_glaubers_probabilities():
    """One unit with a threshold alone: on with probability σ(-2·beta·θ)."""
    unit = Hopfield.of_weights(np.zeros((1, 1)), update="stochastic", thresholds=0.3, beta=1.5, max_sweeps=3)
    on = (unit.predict(np.ones((40_000, 1))) == 1).mean()
    p = 1 / (1 + np.exp(2 * 1.5 * 0.3))
    assert abs(on - p) < 5 * np.sqrt(p * (1 - p) / 40_000)


def test_cold_units_recall_and_hot_ones_do_not():
    patterns = bipolar(np.random.default_rng(6), 5, 200)
    memory = Hopfield(update="stochastic", max_sweeps=20).fit(patterns)
    assert np.all((memory.set_params(beta=10.0).predict(patterns) * patterns).mean(axis=1) > 0.95)
    assert np.all(np.abs((memory.set_params(beta=0.2).predict(patterns) * patterns).mean(axis=1)) < 0.5)


@pytest.mark.parametrize("update", ["asynchronous", "synchronous", "stochastic"])
@pytest.mark.parametrize("rule", RULES)
def test_threads_change_nothing(rule, update):
    rng = np.random.default_rng(7)
    patterns, states = bipolar(rng, 12, 101), bipolar(rng, 37, 101)
    one = Hopfield(rule, update, n_threads=1).fit(patterns)
    three = Hopfield(rule, update, n_threads=3).fit(patterns)
    assert np.array_equal(one.couplings_, three.couplings_)
    assert np.array_equal(one.predict(states), three.predict(states))
    assert np.array_equal(one.energy(states), three.energy(states))


def test_binary_patterns():
    patterns = np.random.default_rng(8).integers(0, 2, (4, 80))
    memory = Hopfield(values="binary").fit(patterns)
    damaged = np.where(np.arange(80) < 8, 1 - patterns, patterns)
    assert np.array_equal(memory.predict(damaged), patterns)
    way = memory.recall(damaged[0])
    assert np.array_equal(way.after(0), damaged[0]) and np.array_equal(way.after(len(way.flips)), patterns[0])
    bipolar_one = Hopfield().fit(2 * patterns - 1)
    assert np.array_equal(bipolar_one.couplings_, memory.couplings_)
    assert np.array_equal(memory.predict(patterns.astype(bool)), patterns)


# -- continuous -------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(["rk4", "euler"]), st.sampled_from(["tanh", "logistic"]), st.floats(0.5, 20))
def test_graded_energy_never_rises(seed, method, activation, gain):
    rng = np.random.default_rng(seed)
    units = int(rng.integers(1, 12))
    W = rng.standard_normal((units, units))
    net = ContinuousHopfield.of_weights(
        (W + W.T) / 2,
        gain=gain,
        method=method,
        activation=activation,
        inputs=rng.standard_normal(units),
        resistance=2.0,
        capacitance=0.5,
        max_steps=300,
    )
    way = net.trajectory(rng.uniform(0, 1, units))
    assert np.diff(way.energies).max(initial=0.0) <= 1e-9


def test_graded_energy_is_its_integral():
    from scipy.integrate import quad

    W = np.array([[0.0, 0.7], [0.7, 0.3]])
    for activation, inverse in (("tanh", np.arctanh), ("logistic", lambda v: np.log(v / (1 - v)))):
        net = ContinuousHopfield.of_weights(W, gain=3.0, activation=activation, inputs=0.2, resistance=1.5)
        V = np.array([0.3, 0.8])
        stored = sum(quad(lambda v, inverse=inverse: inverse(v) / 3.0, 0, end)[0] for end in V) / 1.5
        assert net.energy(V[None])[0] == pytest.approx(-0.5 * V @ W @ V + stored - 0.2 * V.sum(), abs=1e-9)


def test_settled_states_are_where_nothing_moves():
    patterns = bipolar(np.random.default_rng(9), 3, 50)
    net = ContinuousHopfield(gain=5.0, inputs=0.05).fit(patterns)
    V = net.predict(patterns)
    u = np.arctanh(V) / 5.0
    assert np.abs(V @ net.weights_ - u + 0.05).max() < 1e-5
    assert np.array_equal(V, net.set_params(n_threads=3).predict(patterns))
    assert np.array_equal(V[:1], net.predict(patterns[:1]))


def test_analogue_to_digital_converter():
    """Tank and Hopfield 1986: four units whose outputs are the bits of a number near 0.5 to 14.5."""
    places = 2.0 ** np.arange(4)
    T = -np.outer(places, places)
    np.fill_diagonal(T, 0)
    right = 0
    for number in range(16):
        inputs = number * places - 2.0 ** (2 * np.arange(4) - 1)
        net = ContinuousHopfield.of_weights(T, gain=10.0, activation="logistic", inputs=inputs, tolerance=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bits = net.predict(np.full((1, 4), 0.5))[0] > 0.5
        right += abs(bits @ places - number) <= 1
    assert right >= 14


# -- modern -----------------------------------------------------------------------------------------------------------


@given(seeds, st.floats(0.05, 20))
def test_modern_energy_never_rises(seed, beta):
    rng = np.random.default_rng(seed)
    X, s = rng.standard_normal((9, 6)), rng.standard_normal((4, 6))
    step = ModernHopfield(beta, max_steps=1).fit(X)
    before = step.energy(s)
    assert np.all(before >= -1e-12)  # the constants see to that
    for _ in range(5):
        s = step.predict(s)
        after = step.energy(s)
        assert np.all(after <= before + 1e-12)
        before = after


def test_one_step_is_attention():
    rng = np.random.default_rng(10)
    X, s = rng.standard_normal((8, 5)), rng.standard_normal((3, 5))
    z = 0.7 * s @ X.T
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    memory = ModernHopfield(0.7, max_steps=1).fit(X)
    assert np.allclose(memory.associations(s), p, atol=1e-14)
    assert np.allclose(memory.predict(s), p @ X, atol=1e-14)
    energies = -np.log(np.exp(z).sum(axis=1)) / 0.7 + (s * s).sum(axis=1) / 2 + np.log(8) / 0.7
    assert np.allclose(memory.energy(s), energies + (X * X).sum(axis=1).max() / 2)
    assert np.array_equal(memory.predict(s), memory.set_params(n_threads=3).predict(s))


# -- bidirectional ----------------------------------------------------------------------------------------------------

A, B = np.array([[1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 0, 0]]), np.array([[1, 1, 0, 0], [1, 0, 1, 0]])


@pytest.mark.parametrize("values", ["binary", "bipolar"])
def test_koskos_example(values):
    a, b = (A, B) if values == "binary" else (2 * A - 1, 2 * B - 1)
    memory = BAM(values).fit(a, b)
    rows = [[2, 0, 0, -2], [0, -2, 2, 0], [2, 0, 0, -2], [-2, 0, 0, 2], [0, 2, -2, 0], [-2, 0, 0, 2]]
    assert memory.weights_.tolist() == rows
    assert np.array_equal(memory.predict(a), b) and np.array_equal(memory.predict_source(b), a)
    assert memory.energy(a, b).tolist() == ([-6, -6] if values == "binary" else [-24, -24])
    in_parts = BAM(values).partial_fit(a[:1], b[:1]).partial_fit(a[1:], b[1:])
    assert np.array_equal(in_parts.weights_, memory.weights_) and in_parts.n_pairs_ == 2


@given(seeds, st.sampled_from(["binary", "bipolar"]))
def test_every_matrix_is_bidirectionally_stable(seed, values):
    rng = np.random.default_rng(seed)
    n, p, pairs = (int(number) for number in rng.integers(1, 20, 3))
    low = 0 if values == "binary" else -1
    memory = BAM(values).fit(rng.choice([low, 1], (pairs, n)), rng.choice([low, 1], (pairs, p)))
    found = memory.recall(rng.choice([low, 1], (6, n)), rng.choice([low, 1], (6, p)))
    assert np.all(np.diff(found.energies, axis=0) <= 0)
    forward, back = found.a @ memory.weights_, found.b @ memory.weights_.T
    on, units = (lambda s: s == 1), ((forward, found.b), (back, found.a))
    assert all(np.all(on(state)[heard > 0]) and not np.any(on(state)[heard < 0]) for heard, state in units)


# -- what all have ----------------------------------------------------------------------------------------------------

PATTERNS = bipolar(np.random.default_rng(11), 5, 24)
FITTED = {
    "hopfield": lambda: Hopfield("storkey", thresholds=np.full(24, 0.01), random_state=3).fit(PATTERNS),
    "hebb": lambda: Hopfield(values="binary", dtype=np.float64).fit((PATTERNS + 1) // 2),
    "continuous": lambda: ContinuousHopfield(gain=4.0).fit(PATTERNS),
    "modern": lambda: ModernHopfield(dtype="float32").fit(PATTERNS),
    "bam": lambda: BAM().fit(PATTERNS, PATTERNS[:, :7]),
}


@pytest.mark.parametrize("name", FITTED)
def test_files_pickles_and_clones(name, tmp_path):
    memory = FITTED[name]()
    states = PATTERNS if name != "hebb" else (PATTERNS + 1) // 2
    wanted = memory.predict(states)
    memory.save(tmp_path / "memory.safetensors")
    read = rc.load(tmp_path / "memory.safetensors")
    assert type(read) is type(memory) and read.get_params().keys() == memory.get_params().keys()
    for other in (read, pickle.loads(pickle.dumps(memory))):
        found = other.predict(states)
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
    fresh = clone(memory)
    with pytest.raises(NotFittedError, match="call fit first"):
        fresh.predict(states)
    with pytest.raises(NotFittedError, match="call fit first"):
        fresh.save(tmp_path / "none.safetensors")


def test_info_of_a_model_file(tmp_path, capsys):
    from rnncore.cli import main

    FITTED["hopfield"]().save(tmp_path / "memory.safetensors")
    assert main(["info", str(tmp_path / "memory.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Hopfield, written by rnncore") and "couplings_ (24, 24)" in printed


def test_damaged_parts_of_a_model_file(tmp_path):
    from rnncore.io.files import ModelFileError, write_model

    header, arrays = FITTED["hopfield"]()._to_model()
    write_model(tmp_path / "one.safetensors", "Hopfield", header, {"couplings_": arrays["couplings_"][:5]})
    with pytest.raises(ModelFileError, match=r"couplings_ as finite numbers \(24, 24\)"):
        rc.load(tmp_path / "one.safetensors")


def test_errors_say_what_to_do():
    memory = Hopfield().fit(PATTERNS)
    cases = [
        (lambda: Hopfield().fit([[1, 0, 1]]), "must be -1 or 1, got 0 at unit 1 of pattern 0; .* values='binary'"),
        (lambda: Hopfield(values="binary").fit([[1, -1]]), "must be 0 or 1, got -1 .* values='bipolar'"),
        (lambda: Hopfield().fit([[1, np.nan]]), "got nan at unit 1 of pattern 0"),
        (lambda: Hopfield().fit([1, -1]), r"a single one is x\[None\]"),
        (lambda: memory.predict(PATTERNS[:, :5]), "must have 24 units each.*got 5"),
        (lambda: memory.partial_fit(PATTERNS[:, :5]), "must have 24 units each"),
        (lambda: Hopfield("projection").partial_fit(PATTERNS), "all patterns at once"),
        (lambda: clone(memory).set_params(rule="storkey").fit(PATTERNS).set_params(rule="hebb").partial_fit(PATTERNS),
         "fitted by another rule"),
        (lambda: Hopfield(rule="delta").fit(PATTERNS), "rule: expected 'hebb'"),
        (lambda: Hopfield(thresholds=[1, 2]).fit(PATTERNS).predict(PATTERNS), "thresholds must be .* 24 of them"),
        (lambda: Hopfield.of_weights([[0, 1], [2, 0]]), "symmetric.*units 0 and 1 are 1 and 2"),
        (lambda: Hopfield.of_weights([[1, 1], [1, 0]]), "zeros on their diagonal"),
        (lambda: Hopfield.of_weights([[0, np.inf], [np.inf, 0]]), "finite"),
        (lambda: ContinuousHopfield().fit(PATTERNS).predict(2 * PATTERNS), "outputs from -1 to 1"),
        (lambda: ContinuousHopfield(gain=-1.0).fit(PATTERNS), "gain: expected a number in"),
        (lambda: ModernHopfield().fit([[np.nan]]), "finite"),
        (lambda: ModernHopfield().fit(PATTERNS).energy(PATTERNS[:, :3]), r"\(number, 24\)"),
        (lambda: BAM().fit(PATTERNS, PATTERNS[:2]), "5 rows and 2"),
        (lambda: BAM().fit(PATTERNS, PATTERNS).recall(), "give a, b or both"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_what_does_not_settle_is_told():
    from sklearn.exceptions import ConvergenceWarning

    with pytest.warns(ConvergenceWarning, match="max_sweeps=1"):
        Hopfield(max_sweeps=1).fit(PATTERNS).predict(-PATTERNS * np.where(np.arange(24) < 5, -1, 1))
    with pytest.warns(ConvergenceWarning, match="max_steps=2"):
        ContinuousHopfield(max_steps=2).fit(PATTERNS).predict(PATTERNS)
    with pytest.warns(ConvergenceWarning, match="max_steps=2"):
        ModernHopfield(0.1, max_steps=2).fit(PATTERNS).predict(PATTERNS)


def test_imported_when_asked_for():
    import subprocess
    import sys

    code = (
        "import sys, rnncore; assert not any(m.startswith(('rnncore.models', 'rnncore.search')) for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_ends_a_long_recall(threads):
    memory = Hopfield(update="stochastic", beta=0.1, max_sweeps=10_000, n_threads=threads)
    memory.fit(bipolar(np.random.default_rng(12), 3, 2000))

    seconds = late(lambda: memory.predict(bipolar(np.random.default_rng(13), 8, 2000)), 0.2)
    assert seconds is not None and seconds < 5  # of a minute


@pytest.mark.parametrize("order", ["random", "cyclic"])
def test_where_a_pattern_ends_is_the_same_in_any_batch(order):
    rng = np.random.default_rng(3)
    memory = Hopfield(order=order).fit(rng.choice([-1, 1], (12, 60)))  # crowded: the order decides where one ends
    starts = rng.choice([-1, 1], (40, 60))
    together = memory.predict(starts)
    assert np.array_equal(memory.predict(starts[::-1]), together[::-1])
    for start, end in zip(starts[:5], together[:5], strict=True):
        assert np.array_equal(memory.predict(start[None])[0], end)
        assert np.array_equal(memory.recall(start).state, end)


def test_stochastic_rows_are_draws():
    memory = Hopfield(update="stochastic", beta=0.1, max_sweeps=3).fit(PATTERNS)
    assert len(np.unique(memory.predict(np.repeat(PATTERNS[:1], 20, axis=0)), axis=0)) > 1
