"""Beam search against enumeration of all outputs."""

import itertools

import numpy as np
import pytest

from rnncore.nn.beam import beam_search, length_factor


class Table:
    """Writes by a table: for each sequence and each beginning, log-probabilities that a generator drew."""

    def __init__(self, n_sequences, beams, symbols, seed=0, levels=None):
        self.symbols, self.seed, self.levels = symbols, seed, levels
        self.rows = [(s, ()) for s in range(n_sequences) for _ in range(beams)]
        self.begun = False
        self.steps = []

    def logs(self, sequence, beginning):
        rng = np.random.default_rng([self.seed, sequence, len(beginning), *beginning])
        raw = rng.random(self.symbols + 1) if self.levels is None else rng.integers(1, self.levels, self.symbols + 1)
        return np.log(raw / raw.sum())

    def step(self, ids):
        assert len(ids) == len(self.rows)
        if self.begun:
            self.rows = [(s, (*y, int(i))) for (s, y), i in zip(self.rows, ids, strict=True)]
        else:
            assert (ids == self.symbols).all(), "the first symbol read is the end"
        self.begun = True
        self.steps.append(len(self.rows))
        return np.array([self.logs(*row) for row in self.rows])

    def select(self, rows):
        self.rows = [self.rows[r] for r in rows]

    def log_probability(self, sequence, output):
        whole = (*output, self.symbols)
        return sum(self.logs(sequence, whole[:t])[symbol] for t, symbol in enumerate(whole))


def enumerated(table, sequence, longest, penalty):
    """Return all outputs as (-score, output), best first."""
    found = []
    for n in range(longest + 1):
        for output in itertools.product(range(table.symbols), repeat=n):
            found.append((-table.log_probability(sequence, output) / length_factor(n, penalty), output))
    return sorted(found, key=lambda one: (one[0], len(one[1]), one[1]))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize(("symbols", "longest"), [(1, 4), (2, 3), (3, 3)])
def test_a_beam_as_wide_as_there_are_outputs_finds_them_all_in_order(symbols, longest, penalty):
    wide = sum(symbols**n for n in range(longest + 1))
    found = beam_search(Table(3, wide, symbols), 3, wide, symbols, longest, length_penalty=penalty, n_best=wide)
    table = Table(3, 1, symbols)
    for sequence, hypotheses in enumerate(found):
        wanted = enumerated(table, sequence, longest, penalty)
        assert [tuple(one.symbols.tolist()) for one in hypotheses] == [output for _, output in wanted]
        np.testing.assert_allclose([one.score for one in hypotheses], [-score for score, _ in wanted], rtol=1e-12)
        for one in hypotheses:
            expected = table.log_probability(sequence, tuple(one.symbols.tolist()))
            np.testing.assert_allclose(one.log_probability, expected, rtol=1e-12)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_searches_that_stop_early_have_found_the_best(penalty):
    steps = []
    for seed in range(40):
        table = Table(1, 15, 2, seed)
        ((best,),) = beam_search(table, 1, 15, 2, 3, length_penalty=penalty)
        (_, output), *_ = enumerated(Table(1, 1, 2, seed), 0, 3, penalty)
        assert tuple(best.symbols.tolist()) == output
        steps.append(len(table.steps))
    assert min(steps) < 4, "no search stopped before the longest output"


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_of_one_takes_the_most_probable_symbol(penalty):
    found = beam_search(Table(20, 1, 4), 20, 1, 4, 6, length_penalty=penalty)
    table = Table(20, 1, 4)
    for sequence, (best,) in enumerate(found):
        output = ()
        while len(output) < 6 and (symbol := int(table.logs(sequence, output).argmax())) != 4:
            output = (*output, symbol)
        assert tuple(best.symbols.tolist()) == output
    assert len({len(best.symbols) for (best,) in found}) > 2


def test_sequences_side_by_side_are_found_one_by_one_too():
    class Shifted(Table):
        def logs(self, sequence, beginning):
            return super().logs(sequence + self.shift, beginning)

    together = beam_search(Table(8, 3, 5), 8, 3, 5, 7, 0.6, n_best=3)
    for sequence in range(8):
        alone = Shifted(1, 3, 5)
        alone.shift = sequence
        (found,) = beam_search(alone, 1, 3, 5, 7, 0.6, n_best=3)
        assert [one.symbols.tolist() for one in found] == [one.symbols.tolist() for one in together[sequence]]
        assert [one[1:] for one in found] == [one[1:] for one in together[sequence]]


def test_sequences_that_are_done_leave():
    table = Table(30, 2, 3)
    beam_search(table, 30, 2, 3, 8)
    assert table.steps[0] == 60
    assert table.steps == sorted(table.steps, reverse=True)
    assert table.steps[-1] < 60


def test_every_sequence_may_have_a_length_of_its_own():
    longest = np.array([0, 1, 2, 5])
    found = beam_search(Table(4, 31, 2), 4, 31, 2, longest, n_best=31)
    for n, hypotheses in zip(longest, found, strict=True):
        assert max(len(one.symbols) for one in hypotheses) == n
    for n in (0, 1, 2):
        assert len(found[n]) == 2 ** (n + 1) - 1


def test_of_equal_scores_the_shorter_then_the_better_beginning_then_the_lower_symbol():
    class Even:
        def step(self, ids):
            return np.log(np.full((len(ids), 3), 1 / 3))

        def select(self, rows):
            pass

    (found,) = beam_search(Even(), 1, 7, 2, 2, n_best=7)
    assert [one.symbols.tolist() for one in found] == [[], [0], [1], [0, 0], [0, 1], [1, 0], [1, 1]]
    for seed in range(20):  # few levels: many scores are equal to the bit
        wanted = enumerated(Table(1, 1, 2, seed, levels=3), 0, 2, 0.0)
        (found,) = beam_search(Table(1, 7, 2, seed, levels=3), 1, 7, 2, 2, n_best=7)
        np.testing.assert_allclose([one.score for one in found], [-score for score, _ in wanted], rtol=1e-12)


def test_longer_outputs_win_with_a_length_penalty():
    class Coin:
        def step(self, ids):
            return np.log(np.tile([0.6, 0.4], (len(ids), 1)))

        def select(self, rows):
            pass

    lengths = [len(beam_search(Coin(), 1, 8, 1, 6, penalty)[0][0].symbols) for penalty in (0.0, 1.0, 3.0)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == 6


def test_what_is_impossible_is_never_found():
    class One:
        """Writes 0 twice; nothing else has a probability."""

        n = 0

        def step(self, ids):
            self.n += 1
            logs = np.full((len(ids), 4), -np.inf)
            logs[:, 0 if self.n < 3 else 3] = 0.0
            return logs

        def select(self, rows):
            pass

    (found,) = beam_search(One(), 1, 4, 3, 9, n_best=4)
    assert [(one.symbols.tolist(), one.log_probability) for one in found] == [([0, 0], 0.0)]
    assert beam_search(One(), 1, 4, 3, 1) == [[]]


def test_no_sequences():
    assert beam_search(Table(0, 2, 2), 0, 2, 2, 5) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size: expected at least 1"),
        ({"n_best": 3}, "n_best=3 outputs need as wide a beam, got beam_size=2"),
        ({"length_penalty": -1}, "length_penalty"),
        ({"length_penalty": float("nan")}, "length_penalty"),
        ({"max_length": -1}, "max_length"),
        ({"max_length": np.array([1, 2])}, "for each of 3 sequences"),
        ({"max_length": np.array([1.0, 2, 3])}, "max_length"),
        ({"max_length": np.array([1, -2, 3])}, "max_length"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    usual = {"n_sequences": 3, "beam_size": 2, "end": 2, "max_length": 5}
    with pytest.raises(ValueError, match=message):
        beam_search(Table(3, 2, 2), **usual | options)


def test_log_probabilities_that_are_no_numbers():
    class Broken:
        def step(self, ids):
            return np.full((len(ids), 3), np.nan)

        def select(self, rows):
            pass

    with pytest.raises(ValueError, match="log-probabilities are NaN"):
        beam_search(Broken(), 1, 2, 2, 5)


def test_many_improbable_ends_do_not_hide_what_is_probable():
    class Steady:
        """Symbol 0 ten times, then the end; before that the end is always there, but improbable."""

        written = 0

        def step(self, ids):
            self.written += 1
            p = [0.005, 0.005, 0.99] if self.written == 11 else [0.98, 0.005, 0.015]
            return np.log(np.tile(p, (len(ids), 1)))

        def select(self, rows):
            pass

    for length_penalty in (0.0, 0.6):
        ((found,),) = beam_search(Steady(), 1, 3, end=2, max_length=20, length_penalty=length_penalty)
        assert found.symbols.tolist() == [0] * 10
