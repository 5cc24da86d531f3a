"""Beam search: the most probable outputs of what writes symbol by symbol until it writes an end.

An output y of n symbols has log p(y) = Σ_t log p(y_t | y_<t) + log p(end | y) and the score

    log p(y) / ((5 + n) / 6)^length_penalty

(Wu et al. 2016): 0 leaves the log-probability as it is, larger penalties favour longer outputs. At each step the next
symbols of the beam's B beginnings are ranked by log-probability. Of the first 2·B, those that end and are among the
first B are finished; the first B others go on. A sequence is done when nothing that goes on can get a better score
than those already found, however many these are: where the end is always among the first B, but hardly probable, B poor
outputs are soon finished. With B = 1 it is done at the first end: that takes the most probable symbol at each step.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from rnncore import _checks
from rnncore.optim.arguments import check_count, check_number

__all__ = ["Decoding", "Hypothesis", "beam_search", "length_factor"]


class Decoding(Protocol):
    """What writes side by side: row number s·beams + b is beam b of sequence s."""

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read the symbol (rows,) that each row wrote last; return the log-probabilities of the next, (rows, K + 1)."""

    def select(self, rows: np.ndarray) -> None:
        """Go on with these rows, in this order: some may come several times, others not at all."""


class Hypothesis(NamedTuple):
    """An output that beam search found."""

    symbols: np.ndarray
    score: float
    log_probability: float


def length_factor(n_symbols: Any, length_penalty: float) -> Any:
    """Return what log-probabilities of outputs of so many symbols are divided by.

    Examples
    --------
    >>> length_factor(1, 0.6), length_factor(7, 1.0)
    (1.0, 2.0)
    """
    return ((5.0 + n_symbols) / 6.0) ** length_penalty


def beam_search(
    decoding: Decoding,
    n_sequences: int,
    beam_size: int,
    end: int,
    max_length: int | np.ndarray,
    length_penalty: float = 0.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """Search the outputs with the best scores, of all sequences side by side.

    Parameters
    ----------
    decoding : Decoding
        At its beginning, with ``n_sequences * beam_size`` rows. Sequences that are done leave it.
    n_sequences, beam_size : int
    end : int
        The symbol that ends an output; also what is read before the first one.
    max_length : int or (n_sequences,) int array
        An output of so many symbols ends there.
    length_penalty : float
    n_best : int
        How many outputs of each sequence, at most `beam_size`.

    Returns
    -------
    list of lists of Hypothesis
        For each sequence the best first; fewer than `n_best` where there are no more. Of equal scores the one found
        first comes first: the shorter, then the one of the better beginning, then the lower symbol.

    Raises
    ------
    ValueError
        For settings that make no sense, and log-probabilities that are not numbers.

    Examples
    --------
    One symbol, written once more with probability 0.6:

    >>> import numpy as np
    >>> class Coin:
    ...     def step(self, ids):
    ...         return np.log(np.tile([0.6, 0.4], (len(ids), 1)))
    ...     def select(self, rows):
    ...         pass
    >>> ((found,),) = beam_search(Coin(), 1, 2, end=1, max_length=3)
    >>> found.symbols.tolist(), round(float(np.exp(found.log_probability)), 6)
    ([], 0.4)
    >>> beam_search(Coin(), 1, 1, end=1, max_length=3)[0][0].symbols.tolist()
    [0, 0, 0]
    """
    check_count("n_sequences", n_sequences, 0)
    check_count("beam_size", beam_size, 1)
    check_count("n_best", n_best, 1)
    check_number("length_penalty", length_penalty, "[0, inf)", 0.6)
    if n_best > beam_size:
        raise ValueError(f"n_best={n_best} outputs need as wide a beam, got beam_size={beam_size}")
    longest = _longest(max_length, n_sequences)
    finished: list[list[Hypothesis]] = [[] for _ in range(n_sequences)]
    good_enough = np.full(n_sequences, -np.inf)  # the worst score that is among a sequence's n_best
    active = np.arange(n_sequences)
    alive = np.full((n_sequences, beam_size), -np.inf)  # log-probabilities; all beams are alike in the beginning
    alive[:, 0] = 0.0
    written = np.zeros((n_sequences, beam_size, 0), dtype=np.int64)
    ids = np.full(n_sequences * beam_size, end)
    n_written = 0
    while len(active):
        logs = np.asarray(decoding.step(ids))
        if np.isnan(logs).any():
            raise ValueError("log-probabilities are NaN: the weights of the network that writes are not finite")
        candidates = alive[:, :, None] + logs.reshape(len(active), beam_size, -1)
        full = longest[active] == n_written
        candidates[full, :, :end] = candidates[full, :, end + 1 :] = -np.inf
        n_symbols = candidates.shape[2]
        scores, places = _best(candidates.reshape(len(active), -1), min(2 * beam_size, beam_size * n_symbols))
        beams, symbols = np.divmod(places, n_symbols)
        ended = symbols == end

        factor = float(length_factor(n_written, length_penalty))
        for row, rank in np.argwhere(ended[:, :beam_size] & (scores[:, :beam_size] > -np.inf)).tolist():
            log_probability = float(scores[row, rank])
            found = finished[active[row]]
            found.append(Hypothesis(written[row, beams[row, rank]].copy(), log_probability / factor, log_probability))
            if len(found) >= n_best:
                good_enough[active[row]] = sorted([one.score for one in found], reverse=True)[n_best - 1]

        going_on = np.argsort(ended, axis=1, kind="stable")[:, :beam_size]
        scores = np.where(ended, -np.inf, scores)
        alive, beams, symbols = (np.take_along_axis(part, going_on, axis=1) for part in (scores, beams, symbols))
        best_possible = alive[:, 0] / length_factor(longest[active], length_penalty)
        goes_on = best_possible > good_enough[active]
        if beam_size == 1:
            goes_on &= good_enough[active] == -np.inf
        stay = np.flatnonzero(goes_on)

        alive, beams, symbols, active = alive[stay], beams[stay], symbols[stay], active[stay]
        before = np.take_along_axis(written[stay], beams[:, :, None], axis=1)
        written = np.concatenate([before, symbols[:, :, None]], axis=2)
        decoding.select((stay[:, None] * beam_size + beams).ravel())
        ids = symbols.ravel()
        n_written += 1
    return [sorted(found, key=lambda one: -one.score)[:n_best] for found in finished]


def _longest(max_length: Any, n_sequences: int) -> np.ndarray:
    """Return the largest length of each sequence's output."""
    if np.ndim(max_length) == 0:
        check_count("max_length", max_length, 0)
        return np.full(n_sequences, int(max_length))
    found = _checks.array(max_length, "max_length")
    if found.shape != (n_sequences,) or found.dtype.kind not in "iu" or found.min(initial=0) < 0:
        raise ValueError(
            f"max_length: expected a whole number, or one of at least 0 for each of {n_sequences} sequences, got "
            f"{found.dtype} of shape {found.shape}"
        )
    return found.astype(np.int64)


def _best(candidates: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the n largest numbers of each row, falling, and their places; of equal ones the lower place first."""
    width = candidates.shape[1]
    least = np.partition(candidates, width - n, axis=1)[:, width - n]
    rows, places = np.nonzero(candidates >= least[:, None])  # n of each row, and more where numbers are equal
    order = np.lexsort((places, -candidates[rows, places], rows))
    counts = np.bincount(rows, minlength=len(candidates))
    first = np.cumsum(counts) - counts
    chosen = order[first[:, None] + np.arange(n)]
    places = places[chosen]
    return np.take_along_axis(candidates, places, axis=1), places
