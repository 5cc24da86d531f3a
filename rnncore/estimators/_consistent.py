"""Labels that fit one another: the most probable sequence among those that are allowed."""

from __future__ import annotations

import numpy as np

from rnncore.nn.heads import Constraints

__all__ = ["most_probable", "seen_rule"]


def seen_rule(ids: np.ndarray, lengths: np.ndarray, n_labels: int) -> Constraints:
    """Return as a rule what some sequences of labels do: which begin, follow one another, and end.

    Examples
    --------
    >>> rule = seen_rule(np.array([0, 1, 1]), np.array([3]), 2)
    >>> rule.transitions.astype(int).tolist(), rule.start.tolist()
    ([[0, 1], [0, 1]], [True, False])
    """
    ends = np.cumsum(lengths)
    first, last = ids[ends - lengths], ids[ends - 1]
    follows = np.ones(len(ids), dtype=bool)
    follows[ends - lengths] = False
    at = np.flatnonzero(follows)
    transitions = np.zeros((n_labels, n_labels), dtype=bool)
    transitions[ids[at - 1], ids[at]] = True
    start, end = np.zeros(n_labels, dtype=bool), np.zeros(n_labels, dtype=bool)
    start[first] = end[last] = True
    return Constraints(transitions, start, end)


def most_probable(logs: np.ndarray, lengths: np.ndarray, rule: Constraints) -> np.ndarray:
    """Return the labels of each sequence with the largest sum of `logs` among those that the rule allows, (N,).

    Where the best label of every step breaks no rule, that is the answer; where no sequence is allowed, too.

    Parameters
    ----------
    logs : (N, K) array
    lengths : (S,) int array, with the sum N, none of them 0
    rule : Constraints

    Examples
    --------
    >>> rule = Constraints([[True, False], [True, True]])
    >>> most_probable(np.log([[0.9, 0.1], [0.4, 0.6]]), np.array([2]), rule).tolist()
    [0, 0]
    """
    best: np.ndarray = logs.argmax(axis=1)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    wrong = ~rule.transitions[np.roll(best, 1), best]
    wrong[starts] = ~rule.start[best[starts]]
    wrong[ends - 1] |= ~rule.end[best[ends - 1]]
    possible = rule.possible_lengths(int(lengths.max(initial=1)))
    for s in np.flatnonzero(np.logical_or.reduceat(wrong, starts)).tolist() if len(best) else ():
        if possible[lengths[s] - 1]:
            best[starts[s] : ends[s]] = _viterbi(logs[starts[s] : ends[s]], rule)
    return best


def _viterbi(logs: np.ndarray, rule: Constraints) -> np.ndarray:
    steps = np.where(rule.transitions, 0.0, -np.inf)
    score = np.where(rule.start, logs[0], -np.inf)
    before = np.zeros(logs.shape, dtype=np.int64)
    for t in range(1, len(logs)):
        reached = score[:, None] + steps
        before[t] = reached.argmax(axis=0)
        score = reached.max(axis=0) + logs[t]
    path = np.empty(len(logs), dtype=np.int64)
    path[-1] = np.where(rule.end, score, -np.inf).argmax()
    for t in range(len(logs) - 1, 0, -1):
        path[t - 1] = before[t, path[t]]
    return path
