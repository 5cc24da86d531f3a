"""Automata: made small, compared, drawn, and found in networks."""

import itertools

import numpy as np
import pytest

import rnncore as rc
from rnncore.datasets import tomita_accepts, tomita_strings
from rnncore.models import Automaton, StringRecognizer, extract_automaton

EVEN = Automaton("01", [[0, 1], [1, 0]], accepting=[0])


def random_automaton(rng, n_states=8):
    accepting = np.flatnonzero(rng.random(n_states) < 0.4)
    return Automaton("ab", rng.integers(0, n_states, (n_states, 2)), accepting, int(rng.integers(n_states)))


def fewest_states(automaton, length):
    """By what can follow: states after short strings are one if the same strings are then accepted (Myhill, Nerode)."""
    strings = ["".join(s) for n in range(length + 1) for s in itertools.product(automaton.alphabet, repeat=n)]
    return len({tuple(automaton.accepts(one + other) for other in strings) for one in strings})


def test_minimised_has_no_state_too_many_and_accepts_the_same():
    rng = np.random.default_rng(0)
    for _ in range(10):
        automaton = random_automaton(rng, 5)
        small = automaton.minimised()
        assert small.n_states == fewest_states(automaton, 5)
        strings = ["".join(rng.choice(["a", "b"], n)) for n in rng.integers(0, 30, 100)]
        assert [small.accepts(s) for s in strings] == [automaton.accepts(s) for s in strings]
        assert small.start == 0 and small.minimised().transitions.tolist() == small.transitions.tolist()


def test_equal_whatever_the_numbers_of_the_states():
    rng = np.random.default_rng(1)
    for _ in range(20):
        one = random_automaton(rng)
        place = rng.permutation(one.n_states)  # state i is now place[i]
        table = np.empty_like(one.transitions)
        table[place] = place[one.transitions]
        other = Automaton("ab", table, place[list(one.accepting)], int(place[one.start]))
        assert one.equals(other)
        state = one.minimised()
        if state.n_states > 1:
            flipped = state.accepting ^ {state.n_states - 1}
            assert not one.equals(Automaton("ab", state.transitions, flipped))
    assert not EVEN.equals(Automaton("10", [[0, 1], [1, 0]], [0]))


def test_dot_and_drawing():
    assert '0 -> 1 [label="1"];' in EVEN.to_dot() and "0 [shape=doublecircle];" in EVEN.to_dot()
    assert '[label="\\", \\\\"]' in Automaton('"\\', [[0, 0]], []).to_dot()
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.add_subplot()
    EVEN.draw(axes)
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["0", "1", "0", "1", "0", "1"]
    assert len(axes.patches) == 3 + 4  # circles, one of them double, and arrows
    Automaton("a", [[0]], []).draw(figure.add_subplot())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("", [[0]], []), "alphabet must be a string of different symbols"),
        (("aa", [[0, 0]], []), "alphabet must be"),
        (("ab", [[0]], []), r"transitions must be whole numbers, \(states, 2\)"),
        (("ab", [[0.5, 0]], []), "transitions must be whole numbers"),
        (("ab", [[0, 1]], []), "transitions must lead to states 0 to 0, got 0 to 1"),
        (("ab", [[0, 0]], [1]), "accepting states must be a whole number from 0 to 0"),
        (("ab", [[0, 0]], [0], 2), "start must be a whole number from 0 to 0"),
    ],
)
def test_what_is_no_automaton(given, said):
    with pytest.raises(ValueError, match=said):
        Automaton(*given)


def test_a_symbol_from_elsewhere():
    with pytest.raises(ValueError, match="expected a string of the symbols 01, got '2' in it"):
        EVEN.accepts("012")


def by_hand(H=2, dtype="float32"):
    """A second-order network that is EVEN: symbol 1 exchanges two units, symbol 0 keeps them; 2 ends a string."""
    layer = rc.Recurrent("second_order", 3, H, dtype=dtype)
    keep = np.array([[20.0, -20], [-20, 20]])
    layer.params["layers.0.fwd.W_xh"][...] = np.stack([keep, -keep, keep]).reshape(3, 4)
    layer.params["layers.0.fwd.b_h"][...] = 0
    return rc.Network(layer, head=rc.SquaredError(1, project=False), pooling="last")


@pytest.mark.parametrize("divisions", [2, 3, 5])
def test_extraction_from_a_network_made_by_hand(divisions):
    start = (np.array([[[1.0, 0.0]]], np.float32),)
    assert extract_automaton(by_hand(), end=2, start=start, divisions=divisions).equals(EVEN)
    same = extract_automaton(by_hand(), start=start, accepts_empty=True, inputs=[0, 1], divisions=divisions)
    assert same.equals(EVEN)


ENDS_IN_ONE = Automaton("01", [[0, 1], [0, 1]], [1])


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("head", [rc.Softmax(2), rc.SigmoidCrossEntropy(1)], ids=["classes", "number"])
@pytest.mark.parametrize("pooling", ["last", "every"])
def test_extraction_from_other_cells_and_heads(cell, head, pooling):
    rng = np.random.default_rng(0)
    layers = [rc.Recurrent(cell, 2, 4, random_state=0), rc.Recurrent("elman", 4, 3, random_state=1)]
    net = rc.Network(layers, head=type(head)(head.outputs), pooling=pooling)
    optimizer = rc.Adam(0.05)
    for _ in range(120):
        ids = rng.integers(0, 2, (6, 32))
        wanted = ids if pooling == "every" else ids[-1]
        net.train_step(np.eye(2, dtype="float32")[ids], wanted if head.outputs == 2 else wanted[..., None], optimizer)
    found = extract_automaton(net, inputs=np.eye(2), strings=tomita_strings(6))
    assert found.equals(ENDS_IN_ONE)


def test_what_cannot_be_extracted():
    layer = rc.Recurrent("elman", 2, 8, activation="tanh", random_state=0)
    layer.theta[...] = np.random.default_rng(0).normal(0, 3, layer.theta.size)
    net = rc.Network(layer, head=rc.SquaredError(1, project=False), pooling="last")
    with pytest.raises(ValueError, match="more than 20 cells, at 3 divisions"):
        extract_automaton(net, divisions=3, max_states=20)
    with pytest.raises(ValueError, match="divisions must be a whole number from 2"):
        extract_automaton(net, divisions=1)
    with pytest.raises(ValueError, match="inputs must have a row for each of 2 symbols, got 3"):
        extract_automaton(net, inputs=np.eye(3))
    with pytest.raises(ValueError, match="one number, or two classes"):
        extract_automaton(rc.Network(rc.Recurrent("elman", 2, 3), head=rc.Softmax(3), pooling="last"))


def test_no_automaton_agrees():
    """A unit that falls slowly: whether it is above 1/2 after a few symbols, no coarse division can know."""
    layer = rc.Recurrent("elman", 2, 1, activation="identity", dtype="float64")
    layer.theta[...] = [0, 0, 0.99, 0]
    net = rc.Network(layer, head=rc.SquaredError(1, project=False), pooling="last")
    with pytest.raises(ValueError, match="no automaton of up to 8 divisions"):
        extract_automaton(net, start=(np.ones((1, 1, 1)),), accepts_empty=True, strings=["0" * 60, "0" * 80])


# ------------------------------------------------------------------------------------------------------- recognizers


@pytest.mark.parametrize("truncate", [None, 2])
def test_a_cascaded_network_learns_parity(truncate):
    strings = tomita_strings(5)[1:]
    odd = [string.count("1") % 2 for string in strings]
    net = StringRecognizer.cascaded(truncate=truncate, random_state=0).fit(strings, odd)
    assert net.network_.theta.size == 18 and net.converged_ and net.score(strings, odd) == 1
    assert net.automaton().equals(Automaton("01", [[0, 1], [1, 0]], [1]))
    assert not net.predict([""])[0]  # what the first state says


def test_saved_and_loaded(tmp_path):
    strings, accepted = rc.datasets.tomita(1, 60, 5)
    net = StringRecognizer(cell_options={"augmented": True}, max_epochs=5, random_state=3).fit(strings, accepted)
    assert net.n_epochs_ == 5 and not net.converged_
    net.save(tmp_path / "net.safetensors")
    loaded = rc.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(net.outputs(strings), loaded.outputs(strings))
    assert loaded.get_params() == net.get_params() and loaded.n_epochs_ == 5
    again = StringRecognizer(cell_options={"augmented": True}, max_epochs=5, random_state=3).fit(strings, accepted)
    np.testing.assert_array_equal(net.theta_, again.theta_)


def test_other_cells_recognize_too():
    strings, accepted = rc.datasets.tomita(1, 200, 6, random_state=0)
    net = StringRecognizer("elman", 4, cell_options={"activation": "sigmoid"}, learning_rate=0.05)
    net.fit(strings, accepted)
    assert net.converged_ and net.automaton(strings=strings[:50]).n_states == 2
    assert net.predict(["111", "1110"]).tolist() == [tomita_accepts(1, "111"), tomita_accepts(1, "1110")]


@pytest.mark.parametrize(
    ("options", "strings", "accepted", "said"),
    [
        ({}, ["0", "2"], [0, 1], "expected strings of the symbols 01, got '2'"),
        ({}, "01", [0, 1], "expected a list of strings"),
        ({}, ["0"], [2], "accepted must be 0 or 1 for each of 1 strings"),
        ({}, ["0"], [0, 1], r"got shape \(2,\)"),
        ({"end_symbol": False}, [""], [1], "strings must not all be empty"),
        ({"code": "bits"}, ["0"], [1], "code"),
        ({"alphabet": "00"}, ["0"], [1], "alphabet must be"),
        ({"start": 2.0}, ["0"], [1], "start"),
        ({"tolerance": 0.0}, ["0"], [1], "tolerance"),
        ({"working_set": 0}, ["0"], [1], "working_set"),
        ({"n_units": 0}, ["0"], [1], "n_units"),
    ],
)
def test_what_cannot_be_learned(options, strings, accepted, said):
    with pytest.raises(ValueError, match=said):
        StringRecognizer(**options).fit(strings, accepted)


def test_not_fitted_yet():
    with pytest.raises(ValueError, match="not fitted yet"):
        StringRecognizer().predict(["0"])
