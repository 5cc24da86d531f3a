"""Pushdown networks: the continuous stack once more in Python, gradients, automata, threads, files, errors."""

import copy
import pickle

import numpy as np
import pytest

import rnncore as rc
from rnncore.models import ContinuousStack, PushdownAutomaton, PushdownNetwork
from rnncore.models.pushdown import all_strings

STRINGS = ["aabbabbbaab", "b", "abab", "bbaa", "aaaaaaaab", "abba" * 5, "ccacbb"]
LEGAL = [True, False, True, False, True, True, False]


def net(**settings):
    made = PushdownNetwork(**{"symbols": "abc", "states": 3, **settings})
    made.theta *= 3  # some actions are large
    return made


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def reference(made, string):
    """The score, and states, actions, readings, lengths of a string, with `ContinuousStack`."""
    p, stack, missing = made.params, ContinuousStack(len(made.symbols)), 0.0
    S, steps = np.eye(made.states)[0], []
    R = np.append(stack.read(), 1.0)
    for symbol in string:
        number = made.symbols.index(symbol)
        if made.order == 3:
            z = np.einsum("ijk,j,k->i", p["W"][number], S, R)
        else:
            z = np.einsum("ijk,j,k->i", p["W_reading"], S, R) + p["W_input"][:, :, number] @ S
        after = sigmoid(z + p["bias"])
        S, action = after[:-1], 2 * after[-1] - 1
        if action > made.dead_zone:
            stack.push(number, action)
        elif action < -made.dead_zone:
            missing += max(0, -action - stack.length)
            stack.pop(min(-action, stack.length))
        R = np.append(stack.read(), max(0, 1 - stack.read().sum()))
        steps.append((S, action, R, stack.length))
    return S[0] - stack.length - missing, *map(np.array, zip(*steps, strict=True))


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("dead_zone", [0.0, 0.3])
def test_does_what_the_equations_say(order, dead_zone):
    for seed in range(5):
        made = net(order=order, dead_zone=dead_zone, random_state=seed)
        for string, score in zip(STRINGS, made.scores(STRINGS), strict=True):
            expected, *arrays = reference(made, string)
            assert score == pytest.approx(expected, abs=1e-12)
            trace = made.trace(string)
            assert trace.score == score
            for found, wanted in zip(trace[1:], arrays, strict=True):
                np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("dead_zone", [0.0, 0.3])
def test_exact_gradient_is_that_of_central_differences(order, dead_zone):
    for seed in range(3):
        made = net(order=order, dead_zone=dead_zone, random_state=seed)
        made.loss_and_grad(STRINGS, LEGAL)
        found, wanted, step = made.grad.copy(), np.empty(made.theta.size), 1e-6
        for n in range(made.theta.size):
            old, both = made.theta[n], []
            for sign in (1, -1):
                made.theta[n] = old + sign * step
                both.append(made.loss_and_grad(STRINGS, LEGAL))
            made.theta[n] = old
            wanted[n] = (both[0] - both[1]) / (2 * step)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)  # losses of some tens, step 1e-6


def test_approximate_gradient_is_exact_where_one_symbol_is_read_on_top():
    exact, approximate = (net(gradient=kind, states=2) for kind in ("exact", "approximate"))
    for made in (exact, approximate):  # every action pushes nearly 1: what is read is the top, and a little below it
        made.params["bias"][-1] = 40
    strings, legal = ["ab", "cab", "aa"], [True, True, False]
    losses = [made.loss_and_grad(strings, legal) for made in (exact, approximate)]
    assert losses[0] == losses[1]
    np.testing.assert_allclose(exact.grad, approximate.grad, atol=1e-12)


def test_approximate_gradient_points_where_the_exact_one_does():
    agreements = []
    for seed in range(10):
        pair = [net(gradient=kind, random_state=seed) for kind in ("exact", "approximate")]
        for made in pair:
            made.loss_and_grad(STRINGS, LEGAL)
        a, b = (made.grad for made in pair)
        agreements.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert np.median(agreements) > 0.7


def test_bits_do_not_depend_on_threads():
    strings = all_strings("abc", 5)
    legal = np.array([string.count("a") == string.count("b") for string in strings])
    found = []
    for threads in (1, 2, 3, 7):
        made = net(n_threads=threads)
        found.append((made.loss_and_grad(strings, legal), made.grad.tobytes(), made.scores(strings).tobytes()))
    assert all(other == found[0] for other in found)


def balanced(string):
    while "()" in string:
        string = string.replace("()", "")
    return not string


def test_learns_parentheses_as_an_automaton():
    made = PushdownNetwork("()", random_state=1)
    automaton = made.fit_language(balanced)
    assert all(automaton.accepts(string) == balanced(string) for string in all_strings("()", 10))
    assert not automaton.accepts(")")
    assert "empty" in str(automaton) and str(automaton).startswith("start 0, accepting")
    with pytest.raises(RuntimeError, match="no automaton of the language was found in 1 attempts"):
        made.fit_language(balanced, attempts=1, rounds=1, epochs=1)
    counting = PushdownNetwork("()", states=1)
    counting.theta[:] = 0
    counting.params["bias"][:] = 9, np.log(1.3 / 0.7)  # pushes 0.3 of each symbol: one is accepted, two are not
    assert counting.predict(["(", "(("]).tolist() == [True, False]
    with pytest.raises(ValueError, match="train it longer"):
        counting.quantise(["(", "(("])


def test_stays_the_same_through_files_pickles_and_copies(tmp_path):
    made = net(order=3)
    made.fit(STRINGS, LEGAL, epochs=20)
    made.freeze("bias")
    made.save(tmp_path / "net.safetensors")
    for twin in (rc.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert np.array_equal(twin.scores(STRINGS), made.scores(STRINGS)) and twin.frozen == ("bias",)
    before = made.params["bias"].copy()
    made.train_step(STRINGS, LEGAL, rc.SGD(0.1))
    assert np.array_equal(made.params["bias"], before)


def test_an_automaton_stops_where_nothing_can_be_popped():
    moves = {(0, "", "a"): (0, -1), (0, "", "b"): (0, 1), (0, "b", "b"): (0, -1)}
    automaton = PushdownAutomaton(0, frozenset({0}), moves)
    assert [automaton.accepts(string) for string in ("a", "bb", "bbb", "ba", "")] == [False, True, False, False, True]


def test_a_stack_says_what_it_cannot_do():
    stack = ContinuousStack(2)
    stack.push(1, 0.4)
    with pytest.raises(ValueError, match=r"cannot pop 1 from a stack that holds 0\.4"):
        stack.pop()
    assert stack.entries == [(1, 0.4)]
    with pytest.raises(ValueError, match="symbol must be one of 0 to 1, got 2"):
        stack.push(2)
    with pytest.raises(ValueError, match="length"):
        stack.push(0, -1.0)
    with pytest.raises(ValueError, match="depth"):
        stack.read(0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"symbols": "aa"}, "different characters"),
        ({"states": 0}, "states"),
        ({"order": 4}, "order"),
        ({"gradient": "none"}, "gradient must be one of"),
        ({"dead_zone": 1.0}, "dead_zone"),
    ],
)
def test_settings_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        PushdownNetwork(**wrong)


def test_strings_that_do_not_fit_are_named():
    made = net()
    with pytest.raises(ValueError, match="list of strings"):
        made.predict("aab")
    with pytest.raises(ValueError, match="none may be empty"):
        made.predict(["a", ""])
    with pytest.raises(ValueError, match="got 'd'"):
        made.predict(["ad"])
    with pytest.raises(ValueError, match="legal must be 1"):
        made.loss_and_grad(["a"], [True, False])
    made.theta[0] = np.nan
    with pytest.raises(rc.NonFiniteError, match="W_reading"):
        made.train_step(["a"], [True], rc.SGD())
