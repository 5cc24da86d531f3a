"""Machines with a memory beside them, on tasks from their papers (long; `pytest -m paper`)."""

from __future__ import annotations

import pytest
from paper import for_each_seed, layer, solved_by

import rnncore as rc

pytestmark = pytest.mark.paper

BITS, LONGEST, STEPS = 4, 8, 8000


def batches(seed):
    return (rc.datasets.copied_vectors(16, 1, LONGEST, BITS, random_state=seed * STEPS + n) for n in range(STEPS))


def adam():
    return rc.Adam(3e-3, clip_norm=10, schedule=rc.schedules.Cosine(steps=STEPS))


def wrong_bits(net, vectors):
    """Wrong bits in a sequence of so many vectors, the mean of 300."""
    x, targets, _, counted = rc.datasets.copied_vectors(300, vectors, vectors, BITS, random_state=10**6 + vectors)
    return float(((net.predict(x) > 0.5) != targets)[counted > 0].sum() / 300)


def judged(net):
    """Wrong bits of sequences as long as those that were shown, and the share of right ones of twice that."""
    short = max(wrong_bits(net, n) for n in range(1, LONGEST + 1))
    return round(short, 4), round(1 - wrong_bits(net, 2 * LONGEST) / (2 * LONGEST * BITS), 4)


def test_turing_machine_copies_twice_what_it_was_shown(tell):
    """Graves et al. 2014, section 4.1, reduced: 4 bits, up to 8 vectors, 32 locations of 8 numbers, 32 units."""

    def attempt(seed):
        machine = rc.models.NeuralTuringMachine(BITS + 1, BITS, 32, locations=32, width=8, random_state=seed)
        machine.fit(batches(seed), adam())
        return judged(machine)

    found = for_each_seed(tell, attempt)
    solved_by([short < 0.01 and long >= 0.99 for short, long in found], 3)


def test_an_lstm_of_that_size_does_not(tell):
    machine = rc.models.NeuralTuringMachine(BITS + 1, BITS, 32, locations=32, width=8)

    def attempt(seed):
        net = rc.Network(layer("lstm", BITS + 1, 41, seed), head=rc.SigmoidCrossEntropy(BITS))
        assert net.theta.size >= machine.theta.size
        optimizer = adam()
        for x, targets, lengths, counted in batches(seed):
            net.train_step(x, targets, optimizer, lengths, sample_weight=counted)
        return judged(net)

    found = for_each_seed(tell, attempt)
    assert max(long for _, long in found) < 0.95


def a_then_b(string):
    half = len(string) // 2
    return half > 0 and string == "a" * half + "b" * half


def balanced(string):
    while "()" in string:
        string = string.replace("()", "")
    return not string


@pytest.mark.parametrize(("symbols", "belongs", "wanted"), [("ab", a_then_b, 2), ("()", balanced, 3)])
def test_pushdown_network_learns_a_language(symbols, belongs, wanted, tell):
    """Das, Giles and Sun 1992: strings of up to 8 symbols; after quantisation all of up to 12, and n up to 50."""
    strings = rc.models.all_strings(symbols, 12)

    def attempt(seed):
        net = rc.models.PushdownNetwork(symbols, random_state=seed)
        automaton = net.fit_language(belongs)
        wrong = sum(automaton.accepts(string) != belongs(string) for string in strings)
        own = int(sum(net.predict(strings) != [belongs(string) for string in strings]))
        return wrong, sum(automaton.accepts(symbols[0] * n + symbols[1] * n) for n in range(1, 51)), own

    found = for_each_seed(tell, attempt, symbols=symbols)
    solved_by([wrong == 0 and long == 50 for wrong, long, _ in found], wanted)
