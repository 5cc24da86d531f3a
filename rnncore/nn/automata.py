"""Rules about strings of symbols, as automata: which words there are, which are more welcome, what length is worth.

An automaton goes from state to state with each symbol; a step has a weight or is forbidden, and so has the end.
Decoding adds the weights to log-probabilities (`rnncore.nn.ctc_decoding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Automaton", "symbol_bonus", "welcome", "word_bonus", "words_alone"]

Word = Sequence[int]


class Automaton(NamedTuple):
    """States and what symbols do in them; the first is the start.

    Attributes
    ----------
    next : (states, K) int32
        The state after a symbol; -1: it is forbidden.
    weight : (states, K) float64
    final : (states,) float64
        What the end adds; -inf: a string may not end here.
    """

    next: np.ndarray
    weight: np.ndarray
    final: np.ndarray

    def weigh(self, string: Word) -> float:
        """Return the weight of a whole string; -inf if it is forbidden.

        Examples
        --------
        >>> symbol_bonus(3, 0.5).weigh([0, 2])
        1.0
        """
        state, total = 0, 0.0
        for symbol in string:
            total += float(self.weight[state, symbol])
            state = int(self.next[state, symbol])
            if state < 0:
                return -np.inf
        return total + float(self.final[state])


def symbol_bonus(n_symbols: int, bonus: float) -> Automaton:
    """Add a bonus for every symbol: above 0, longer strings are found."""
    return Automaton(np.zeros((1, n_symbols), np.int32), np.full((1, n_symbols), float(bonus)), np.zeros(1))


def word_bonus(n_symbols: int, separator: int, bonus: float) -> Automaton:
    """Add a bonus for every word, as it begins.

    Examples
    --------
    >>> word_bonus(3, 2, 1.0).weigh([0, 1, 2, 0])
    2.0
    """
    following = np.ones((2, n_symbols), np.int32)
    following[:, separator] = 0
    weight = np.zeros((2, n_symbols))
    weight[0] = bonus
    weight[0, separator] = 0.0
    return Automaton(following, weight, np.zeros(2))


def words_alone(words: Sequence[Word], n_symbols: int, separator: int | None = None) -> Automaton:
    """Allow only strings of these words, one separator between two; without a separator only one word.

    The empty string is allowed, too.

    Examples
    --------
    >>> rule = words_alone([[0, 1], [1]], n_symbols=3, separator=2)
    >>> rule.weigh([0, 1, 2, 1]), rule.weigh([0, 2, 1]), rule.weigh([1, 2])
    (0.0, -inf, -inf)
    """
    tree, ends = _tree(words)
    final = np.full(len(tree) + 1, -np.inf)
    final[[0, *ends]] = 0.0
    following = np.full((len(tree) + 1, n_symbols), -1, dtype=np.int32)
    for node, children in enumerate(tree):
        following[node, list(children)] = list(children.values())
    again = len(tree)  # a word must follow
    following[again] = following[0]
    if separator is not None:
        following[list(ends), separator] = again
    return Automaton(following, np.zeros(following.shape), final)


def welcome(words: Mapping[tuple[int, ...], float], n_symbols: int, separator: int | None = None) -> Automaton:
    """Add a boost, in nats, each time one of these words occurs: between separators, or anywhere if there are none.

    Beginnings get their share at once, so that a beam does not lose them, and give it back if nothing comes of it.

    Examples
    --------
    >>> rule = welcome({(0, 1): 3.0}, n_symbols=3, separator=2)
    >>> rule.weigh([0, 1, 2, 0, 0, 2, 0, 1]), rule.weigh([0, 1, 0])
    (6.0, 0.0)
    >>> welcome({(0, 1): 3.0, (1,): 1.0}, n_symbols=2).weigh([0, 1, 1])
    5.0
    """
    tree, ends = _tree(list(words))
    boost = dict.fromkeys(range(len(tree)), 0.0) | {node: words[word] for node, word in ends.items()}
    hope = [0.0] * len(tree)  # what a beginning is credited with
    for word, value in words.items():
        node = 0
        for depth, symbol in enumerate(word[:-1], start=1):
            node = tree[node][symbol]
            hope[node] = max(hope[node], value * depth / len(word))
    if separator is None:
        return _anywhere(tree, boost, hope, n_symbols)
    other = len(tree)  # in a word that is none of these
    n = len(tree) + 1
    following, weight, final = np.full((n, n_symbols), other, np.int32), np.zeros((n, n_symbols)), np.zeros(n)
    credit = [max(hope[node], boost[node]) for node in range(len(tree))] + [0.0]
    for node in range(n):
        weight[node] = -credit[node]
        for symbol, child in tree[node].items() if node < other else ():
            following[node, symbol] = child
            weight[node, symbol] = credit[child] - credit[node]
        following[node, separator] = 0
        final[node] = weight[node, separator] = (boost[node] if node < other else 0.0) - credit[node]
    return Automaton(following, weight, final)


def _anywhere(tree: list[dict[int, int]], boost: dict[int, float], hope: list[float], n_symbols: int) -> Automaton:
    """Make the automaton of Aho and Corasick (1975): a state is the longest beginning that the string ends with."""
    following, weight = np.zeros((len(tree), n_symbols), np.int32), np.zeros((len(tree), n_symbols))
    shorter = [0] * len(tree)  # the longest other beginning that a state's string ends with
    gained = [0.0] * len(tree)  # boosts of all words that end there
    for node in _by_depth(tree):
        if node:
            gained[node] = boost[node] + gained[shorter[node]]
            following[node] = following[shorter[node]]
        for symbol, child in tree[node].items():
            shorter[child] = int(following[node, symbol]) if node else 0
            following[node, symbol] = child
    credit = np.array(hope)
    weight = np.array(gained)[following] + credit[following] - credit[:, None]
    return Automaton(following, weight, -credit)


def _tree(words: Sequence[Word]) -> tuple[list[dict[int, int]], dict[int, tuple[int, ...]]]:
    """Return the children of each node by symbol, and the words that end at nodes."""
    tree: list[dict[int, int]] = [{}]
    ends = {}
    for word in words:
        node = 0
        for symbol in word:
            if symbol not in tree[node]:
                tree[node][symbol] = len(tree)
                tree.append({})
            node = tree[node][symbol]
        ends[node] = tuple(word)
    return tree, ends


def _by_depth(tree: list[dict[int, int]]) -> Iterator[int]:
    level = [0]
    while level:
        yield from level
        level = [child for node in level for child in tree[node].values()]
