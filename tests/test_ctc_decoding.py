"""Strings from CTC scores: against all paths enumerated, and against a prefix search in dictionaries."""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from rnncore.nn.automata import Automaton, symbol_bonus, welcome, word_bonus, words_alone
from rnncore.nn.ctc_decoding import align, best_path, log_probabilities, prefix_beam_search

pytestmark = pytest.mark.kernels

SIZES = [(T, K) for T in range(1, 7) for K in (1, 2, 3)]


def spoken(path, blank):
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def every_string(scores):
    """All strings of (T, K + 1) scores, each with the probabilities of its paths."""
    y = log_probabilities(scores)
    found = defaultdict(list)
    for path in itertools.product(range(y.shape[1]), repeat=len(y)):
        found[spoken(path, y.shape[1] - 1)].append((np.exp(sum(y[t, k] for t, k in enumerate(path))), path))
    return found


def narrow_search(scores, size):
    """Prefix beam search in dictionaries of linear probabilities."""
    p = np.exp(log_probabilities(scores))
    blank = p.shape[1] - 1
    beam = {(): (1.0, 0.0)}
    for row in p:
        following = defaultdict(lambda: [0.0, 0.0])
        for prefix, (b, n) in beam.items():
            following[prefix][0] += row[blank] * (b + n)
            if prefix:
                following[prefix][1] += row[prefix[-1]] * n
            for s in range(blank):
                following[(*prefix, s)][1] += row[s] * (b if prefix and prefix[-1] == s else b + n)
        beam = dict(sorted(following.items(), key=lambda item: -sum(item[1]))[:size])
    return [(prefix, np.log(b + n)) for prefix, (b, n) in beam.items()]


@pytest.mark.parametrize(("T", "K"), SIZES)
def test_a_wide_beam_finds_all_strings_with_their_exact_probabilities(T, K):
    rng = np.random.default_rng(10 * T + K)
    scores = 2 * rng.standard_normal((T, 1, K + 1))
    expected = {string: sum(p for p, _ in paths) for string, paths in every_string(scores[:, 0]).items()}
    found = prefix_beam_search(scores, beam_size=(K + 1) ** T, n_best=(K + 1) ** T)[0]
    assert {tuple(one.symbols.tolist()) for one in found} == set(expected)
    for one in found:
        assert np.exp(one.log_probability) == pytest.approx(expected[tuple(one.symbols.tolist())], rel=1e-12)
        assert one.score == one.log_probability
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_a_narrow_beam_is_the_search_in_dictionaries(size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        scores = 2 * rng.standard_normal((25, 1, 5))
        found = prefix_beam_search(scores, beam_size=size, n_best=size)[0]
        expected = narrow_search(scores[:, 0], size)
        assert [tuple(one.symbols.tolist()) for one in found] == [string for string, _ in expected]
        np.testing.assert_allclose([one.score for one in found], [score for _, score in expected], rtol=1e-10)


def test_each_sequence_is_decoded_up_to_its_length():
    rng = np.random.default_rng(0)
    scores, lengths = rng.standard_normal((9, 4, 4)), np.array([9, 0, 4, 1])
    together = prefix_beam_search(scores, lengths, n_best=3)
    paths = best_path(scores, lengths)
    for b, length in enumerate(lengths):
        alone = prefix_beam_search(scores[:length, b : b + 1], n_best=3)[0]
        assert [one.score for one in together[b]] == [one.score for one in alone]
        assert all((one.symbols == other.symbols).all() for one, other in zip(together[b], alone, strict=True))
        assert paths[b].tolist() == best_path(scores[:length, b : b + 1])[0].tolist()
    assert together[1][0].symbols.tolist() == [] and together[1][0].score == 0.0


def test_the_best_path_is_the_most_probable_of_all_paths():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.standard_normal((5, 1, 4))
        paths = [pair for paths in every_string(scores[:, 0]).values() for pair in paths]
        assert tuple(best_path(scores)[0].tolist()) == spoken(max(paths)[1], 3)


def test_equal_scores_are_decided_by_the_order_of_prefixes():
    found = prefix_beam_search(np.zeros((1, 1, 5)), beam_size=5, n_best=5)[0]
    assert [one.symbols.tolist() for one in found] == [[], [0], [1], [2], [3]]


def test_impossible_symbols_are_never_found():
    scores = np.full((4, 1, 3), -np.inf)
    scores[[0, 1, 2, 3], 0, [1, 2, 1, 1]] = 0.0
    (found,) = prefix_beam_search(scores, n_best=5)[0]
    assert found.symbols.tolist() == [1, 1] and found.score == 0.0


RULES = {
    "symbols": symbol_bonus(3, -0.7),
    "word bonus": word_bonus(3, 2, 0.9),
    "words": words_alone([[0], [0, 1], [1, 1]], 3, separator=2),
    "one word": words_alone([[0], [0, 1, 2], [2, 2]], 3),
    "welcome anywhere": welcome({(0, 1): 2.0, (1,): 0.5, (1, 1, 0): 3.0}, 3),
    "welcome words": welcome({(0, 1): 2.0, (1,): 0.5, (1, 1, 0): 3.0}, 3, separator=2),
    "unwelcome": welcome({(0, 1): -2.0}, 3),
}


def occurrences(string, word):
    return sum(string[i : i + len(word)] == word for i in range(len(string) - len(word) + 1))


def words_of(string):
    return [word for word in "".join(map(str, string)).split("2") if word]


WEIGHTS = {  # the same, said in another way
    "symbols": lambda string: -0.7 * len(string),
    "word bonus": lambda string: 0.9 * len(words_of(string)),
    "words": lambda string: (
        0.0 if not string or set("".join(map(str, string)).split("2")) <= {"0", "01", "11"} else -np.inf
    ),
    "one word": lambda string: 0.0 if string in [(), (0,), (0, 1, 2), (2, 2)] else -np.inf,
    "welcome anywhere": lambda string: sum(
        boost * occurrences(string, word) for word, boost in {(0, 1): 2.0, (1,): 0.5, (1, 1, 0): 3.0}.items()
    ),
    "welcome words": lambda string: sum({"01": 2.0, "1": 0.5, "110": 3.0}.get(word, 0.0) for word in words_of(string)),
    "unwelcome": lambda string: -2.0 * occurrences(string, (0, 1)),
}


@pytest.mark.parametrize("name", RULES)
def test_automata_weigh_strings_as_their_rules_say(name):
    for length in range(6):
        for string in itertools.product(range(3), repeat=length):
            assert RULES[name].weigh(string) == pytest.approx(WEIGHTS[name](string), abs=1e-12), string


@pytest.mark.parametrize("name", RULES)
def test_a_wide_beam_with_an_automaton_is_exact(name):
    scores = np.random.default_rng(3).standard_normal((5, 1, 4))
    expected = {}
    for string, paths in every_string(scores[:, 0]).items():
        weight = WEIGHTS[name](string)
        if weight > -np.inf:
            expected[string] = np.log(sum(p for p, _ in paths)) + weight
    found = prefix_beam_search(scores, beam_size=2000, n_best=2000, automata=[RULES[name]])[0]
    assert {tuple(one.symbols.tolist()) for one in found} == set(expected)
    for one in found:
        assert one.score == pytest.approx(expected[tuple(one.symbols.tolist())], abs=1e-10)


def test_several_automata_add_up():
    scores = np.random.default_rng(4).standard_normal((6, 1, 4))
    chosen = [RULES["words"], RULES["symbols"], RULES["welcome words"]]
    for one in prefix_beam_search(scores, beam_size=3000, n_best=50, automata=chosen)[0]:
        weight = sum(rule.weigh(one.symbols.tolist()) for rule in chosen)
        assert one.score == pytest.approx(one.log_probability + weight, abs=1e-10)


def test_where_no_word_ends_the_last_whole_words_are_found():
    scores = np.full((4, 1, 4), -20.0)
    scores[[0, 1, 2, 3], 0, [0, 2, 1, 1]] = 0.0  # 0, separator, 1 1 merged: a beginning of (1, 0) alone
    found = prefix_beam_search(scores, beam_size=1, automata=[words_alone([[0], [1, 0]], 3, separator=2)])[0]
    assert found[0].symbols.tolist() == [0]


class AlwaysAfter:
    """Rates symbol s after symbol r, 3 standing for the begin and the end."""

    def __init__(self, table):
        self.table = table

    def weights(self, beam):
        return self.table[np.where(beam.symbols < 0, 3, beam.symbols), :3]

    def ends(self, beam):
        return self.table[np.where(beam.symbols < 0, 3, beam.symbols), 3]


def test_a_rater_adds_what_it_says_of_each_prefix():
    rng = np.random.default_rng(5)
    scores, table = rng.standard_normal((5, 2, 4)), rng.standard_normal((4, 4))
    found = prefix_beam_search(scores, beam_size=2000, n_best=2000, raters=[AlwaysAfter(table)] * 2)
    for b in range(2):
        expected = {
            string: np.log(sum(p for p, _ in paths)) + sum(table[r, s] for r, s in itertools.pairwise((3, *string, 3)))
            for string, paths in every_string(scores[:, b]).items()
        }
        assert len(found[b]) == len(expected)
        for one in found[b]:
            assert one.score == pytest.approx(expected[tuple(one.symbols.tolist())], abs=1e-10)


def test_the_alignment_is_the_most_probable_path_of_its_string():
    rng = np.random.default_rng(6)
    for T, K in [(5, 2), (6, 3), (1, 1)]:
        scores = 2 * rng.standard_normal((T, K + 1))
        y = log_probabilities(scores)
        for string, paths in every_string(scores).items():
            spans, log_p = align(scores, string)
            p, path = max(paths)
            assert np.exp(log_p) == pytest.approx(p, rel=1e-12)
            assert [span.symbol for span in spans] == list(string)
            for span in spans:
                assert (np.array(path)[span.start : span.end] == span.symbol).all()
                assert span.probability == pytest.approx(np.exp(y[span.start : span.end, span.symbol].max()))
            assert sum(span.end - span.start for span in spans) == sum(k != K for k in path)


def test_nothing_is_aligned_with_nothing():
    assert align(np.zeros((3, 4)), []) == ([], pytest.approx(-3 * np.log(4)))
    assert align(np.zeros((0, 4)), []) == ([], 0.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"2 symbols need 3 steps .*got 2"):
        align(np.zeros((2, 3)), [1, 1])
    with pytest.raises(ValueError, match="symbols from 0 to 1, got 0 to 2"):
        align(np.zeros((5, 3)), [0, 2])
    with pytest.raises(ValueError, match=r"expected scores \(T, B, K \+ 1\)"):
        best_path(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="lengths: expected 2 whole numbers from 0 to 3"):
        prefix_beam_search(np.zeros((3, 2, 4)), [3, 4])
    with pytest.raises(ValueError, match="an automaton for 3 symbols"):
        prefix_beam_search(np.zeros((3, 2, 4)), automata=[symbol_bonus(4, 1.0)])
    with pytest.raises(ValueError, match="an automaton for 2 symbols"):
        prefix_beam_search(np.zeros((3, 2, 3)), automata=[Automaton(np.full((1, 2), 1), np.zeros((1, 2)), np.zeros(1))])
    with pytest.raises(ValueError, match="beam_size"):
        prefix_beam_search(np.zeros((3, 2, 4)), beam_size=0)


def test_words_of_large_lists_keep_to_the_list():
    rng = np.random.default_rng(7)
    words = [rng.integers(0, 5, rng.integers(1, 5)).tolist() for _ in range(40)]
    known = {tuple(word) for word in words}
    for one in prefix_beam_search(rng.standard_normal((30, 3, 7)), automata=[words_alone(words, 6, separator=5)]):
        found = "".join(map(str, one[0].symbols)).split("5")
        assert {tuple(map(int, word)) for word in found} <= known
