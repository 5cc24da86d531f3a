"""Strings from the scores of a connectionist temporal classification, and when each symbol was spoken.

Scores are (T, B, K + 1), the blank last: their softmax over the last axis are the probabilities. (So logarithms of
probabilities are scores, too.) Sequences have `lengths`; strings are arrays of numbers 0..K-1.

Sources: Graves, Fernández, Gomez and Schmidhuber 2006 (best path); Graves 2012, section 7.5 and Hannun, Maas, Jurafsky
and Ng 2014 (prefix search).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rnncore._core.prefix_beam import PrefixBeam, best_alignment
from rnncore.nn.automata import Automaton
from rnncore.optim.arguments import check_count

__all__ = ["Found", "Prefixes", "Rater", "Span", "align", "best_path", "log_probabilities", "prefix_beam_search"]


class Found(NamedTuple):
    """A string that was found.

    Attributes
    ----------
    symbols : (L,) int64
    score : float
        What it is ranked by: the log-probability and what automata and the rater add.
    log_probability : float
        Of all paths in the beam that speak it, in nats.
    """

    symbols: np.ndarray
    score: float
    log_probability: float


class Span(NamedTuple):
    """When a symbol is spoken: in the steps `start` to `end` (not included).

    `probability` is the largest that it has in one of them.
    """

    symbol: Any
    start: int
    end: int
    probability: float


class Prefixes(NamedTuple):
    """A beam: the numbers of its prefixes, of those one symbol shorter, and their last symbols (-1: there is none)."""

    numbers: np.ndarray
    parents: np.ndarray
    symbols: np.ndarray


class Rater(Protocol):
    """What gives prefixes weights as they get longer, such as a language model. Made anew for each sequence."""

    def weights(self, beam: Prefixes) -> np.ndarray:
        """Return the weights that one symbol more adds to prefixes, (rows, K); -inf: it is forbidden."""

    def ends(self, beam: Prefixes) -> np.ndarray:
        """Return the weights that the end adds, (rows,)."""


def log_probabilities(scores: Any) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis, float64.

    Examples
    --------
    >>> log_probabilities([[0.0, 0.0]]).round(4).tolist()
    [[-0.6931, -0.6931]]
    """
    scores = np.asarray(scores, dtype=np.float64)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def best_path(scores: Any, lengths: Any = None) -> list[np.ndarray]:
    """Return the string of each sequence's most probable path: repeats merged, blanks left out.

    Parameters
    ----------
    scores : (T, B, K + 1) array
    lengths : (B,) ints, optional

    Returns
    -------
    list of B arrays (L,) int64

    Examples
    --------
    >>> scores = np.eye(3)[[0, 0, 2, 0, 1, 1]][:, None]
    >>> best_path(scores)[0].tolist()
    [0, 0, 1]
    """
    scores, ends = _checked(scores, lengths)
    paths, blank = scores.argmax(axis=2), scores.shape[2] - 1
    new = np.ones(paths.shape, dtype=bool)
    new[1:] = paths[1:] != paths[:-1]
    new &= (paths != blank) & (np.arange(len(paths))[:, None] < ends)
    return [paths[new[:, b], b] for b in range(paths.shape[1])]


def prefix_beam_search(
    scores: Any,
    lengths: Any = None,
    beam_size: int = 16,
    n_best: int = 1,
    automata: Sequence[Automaton] = (),
    raters: Sequence[Rater] | None = None,
) -> list[list[Found]]:
    """Return the strings with the largest probabilities, summed over all paths that speak them.

    A beam as wide as there are prefixes finds the most probable ones exactly; a narrower one follows, step by step, the
    prefixes that are most probable until then. Equal scores: see `rnncore._core.prefix_beam`.

    Parameters
    ----------
    scores : (T, B, K + 1) array
    lengths : (B,) ints, optional
    beam_size : int
        Prefixes that are followed at a time.
    n_best : int
        How many strings to return, if so many are in the beam.
    automata : sequence of Automaton
        Rules that add weights to log-probabilities or forbid strings, see `rnncore.nn.automata`. Where no prefix of the
        beam may end at the last step, the best are cut back to where they may.
    raters : list of B Rater, optional
        What else rates prefixes, one for each sequence.

    Returns
    -------
    list of B lists of Found, the best first

    Examples
    --------
    >>> p = np.array([[0.4, 0.6], [0.4, 0.6]])  # "-" alone has 0.36, "a" 0.16 + 2·0.24
    >>> best = prefix_beam_search(np.log(p)[:, None], n_best=2)[0]
    >>> [(found.symbols.tolist(), round(float(np.exp(found.score)), 2)) for found in best]
    [([0], 0.64), ([], 0.36)]
    """
    scores, ends = _checked(scores, lengths)
    check_count("beam_size", beam_size, 1)
    check_count("n_best", n_best, 1)
    n_symbols = scores.shape[2] - 1
    rules = [_checked_rule(rule, n_symbols) for rule in automata]
    found = []
    for b, end in enumerate(ends.tolist()):
        beam = PrefixBeam(n_symbols, beam_size, rules)
        y = np.ascontiguousarray(log_probabilities(scores[:end, b]))
        last: np.ndarray | float = 0.0
        if raters is None:
            beam.run(y)
        else:
            rater = raters[b]
            for row in y:
                beam.step(row, np.ascontiguousarray(rater.weights(Prefixes(*beam.prefixes())), dtype=np.float64))
            last = rater.ends(Prefixes(*beam.prefixes()))
        found.append(_ranked(beam, last, n_best))
    return found


def align(scores: Any, symbols: Any) -> tuple[list[Span], float]:
    """Find when each symbol of a string is spoken, by the most probable path that speaks it (Viterbi's algorithm).

    Parameters
    ----------
    scores : (T, K + 1) array
        Of one sequence.
    symbols : (L,) ints

    Returns
    -------
    spans : list of Span
        In steps. Of equally probable paths the one that is ahead at the end, and went on latest.
    log_probability : float
        Of that path.

    Raises
    ------
    ValueError
        If the string does not fit into so many steps: one for each symbol, one between two that are equal.

    Examples
    --------
    >>> spans, _ = align(5 * np.eye(3)[[2, 0, 0, 2, 1]], [0, 1])
    >>> [(span.symbol, span.start, span.end) for span in spans]
    [(0, 1, 3), (1, 4, 5)]
    """
    y = np.ascontiguousarray(log_probabilities(scores))
    ids = np.asarray(symbols)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if y.ndim != 2 or ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"expected scores (T, K + 1) and whole numbers (L,), got shapes {y.shape} and {ids.shape}")
    if ids.size and not (ids.min() >= 0 and ids.max() < y.shape[1] - 1):
        raise ValueError(f"expected symbols from 0 to {y.shape[1] - 2}, got {ids.min()} to {ids.max()}")
    needed = len(ids) + int((ids[1:] == ids[:-1]).sum())
    if needed > len(y):
        raise ValueError(f"{len(ids)} symbols need {needed} steps (one more between two that are equal), got {len(y)}")
    path, log_p = best_alignment(y, np.ascontiguousarray(ids, dtype=np.int64))
    spans = []
    for number, symbol in enumerate(ids.tolist()):
        at = np.flatnonzero(path == number)
        start, end = int(at[0]), int(at[-1]) + 1
        spans.append(Span(symbol, start, end, float(np.exp(y[start:end, symbol].max()))))
    return spans, float(log_p)


def _checked(scores: Any, lengths: Any) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores)
    if scores.ndim != 3 or scores.shape[2] < 2 or scores.dtype.kind not in "fiu":
        raise ValueError(f"expected scores (T, B, K + 1), got {scores.dtype} {scores.shape}")
    steps, n = scores.shape[:2]
    if lengths is None:
        return scores, np.full(n, steps)
    ends = np.asarray(lengths)
    if ends.shape != (n,) or ends.dtype.kind not in "iu" or (n and not (ends.min() >= 0 and ends.max() <= steps)):
        raise ValueError(f"lengths: expected {n} whole numbers from 0 to {steps}, got {lengths!r}")
    return scores, ends


def _checked_rule(rule: Automaton, n_symbols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    following = np.ascontiguousarray(rule.next, dtype=np.int32)
    weight, final = (np.ascontiguousarray(part, dtype=np.float64) for part in (rule.weight, rule.final))
    shape = (len(final), n_symbols)
    if following.shape != shape or weight.shape != shape or following.max(initial=-1) >= len(final):
        raise ValueError(f"an automaton for {n_symbols} symbols has tables {shape}, got {following.shape}")
    return following, weight, final


def _ranked(beam: PrefixBeam, last: np.ndarray | float, n_best: int) -> list[Found]:
    log_p, weights = beam.found()
    score = log_p + weights + last
    whole = not (score > -np.inf).any()
    if whole:  # none may end here
        score = log_p
    order = np.argsort(-score, kind="stable")
    found: dict[tuple[int, ...], Found] = {}
    for row in order.tolist():
        if len(found) == n_best or not score[row] > -np.inf:
            break
        symbols = beam.string(row, whole)
        found.setdefault(tuple(symbols.tolist()), Found(symbols, float(score[row]), float(log_p[row])))
    return list(found.values())
