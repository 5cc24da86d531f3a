"""Texts from a network that predicts the next symbol: one after another, or the most probable of many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.data.symbols import SymbolTable
from rnncore.data.texts import raw_text, read_text
from rnncore.estimators._choice import Choice

__all__ = ["Writer"]

_PRIMED_AT_ONCE = 4096


class Writer:
    """A network and what its numbers stand for.

    Parameters
    ----------
    network : Network
    table : SymbolTable
    """

    def __init__(self, network: Any, table: SymbolTable) -> None:
        self.network = network
        self.table = table

    def begun(self, prime: Any, n_rows: int = 1) -> tuple[Any, np.ndarray]:
        """Return a session that has read `prime`, and the probabilities of what comes next."""
        session, p = self.network.session(n_rows), self.table.frequencies
        ids = self._read(prime)
        for start in range(0, len(ids), _PRIMED_AT_ONCE):
            some = ids[start : start + _PRIMED_AT_ONCE, None]
            p = session.run(np.repeat(some, n_rows, axis=1))[-1, 0]
        return session, p

    def _read(self, prime: Any) -> np.ndarray:
        """Return the numbers of what came before: of sentences those of the last, which is not over."""
        table = self.table
        if prime is None:
            prime = ""
        if not isinstance(prime, str | bytes | bytearray | list | tuple | np.ndarray | os.PathLike):
            raise TypeError(f"expected a text to go on from (a prime), got {type(prime).__name__}")
        if isinstance(prime, os.PathLike):
            prime = raw_text(prime, table.unit) if table.unit != "word" else read_text(prime)
        if table.sentences:
            if isinstance(prime, str):
                prime = prime.rpartition("\n")[2]
            elif isinstance(prime, bytes):
                prime = prime.rpartition(b"\n")[2]
            found = table.encode_sentences([prime]) if len(prime) else []
            return (found[0][:-1] if found else np.array([table.start])).astype(np.int64)
        if not len(prime):
            return np.zeros(0, dtype=np.int64)
        encoded = table.encode(prime)
        return encoded.part(0, len(encoded))

    def read(self, text: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each symbol's number of a text with the probabilities that were there before it was read."""
        table, session = self.table, self.network.session()
        p = table.frequencies
        given = np.zeros(1, dtype=np.int64)
        parts = table.encode_sentences(text) if table.sentences else [self._read(text)]
        for ids in parts:
            session.reset()
            for n, number in enumerate(ids.tolist()):
                if n or not table.sentences:  # a start is given, not expected
                    yield number, p
                given[0] = number
                p = session.step(given)[0]

    def never(self, allow_unknown: bool) -> list[int]:
        """Return the symbols that are not written."""
        unknown = None if allow_unknown else self.table.unknown
        return [number for number in (unknown, self.table.start) if number is not None]

    def write(
        self, prime: Any, choice: Choice, rng: np.random.Generator, length: int | None, stop: Any
    ) -> Iterator[Any]:
        """Return an iterator of symbols; what cannot be read raises now, not with the first of them."""
        session, p = self.begun(prime)
        return self._written(session, p, choice, rng, length, stop)

    def _written(
        self, session: Any, p: np.ndarray, choice: Choice, rng: np.random.Generator, length: int | None, stop: Any
    ) -> Iterator[Any]:
        table, ended = self.table, _Stop(stop, self.table)
        given, n = np.zeros(1, dtype=np.int64), 0
        while length is None or n < length:
            if n:
                p = session.step(given)[0]
            number = choice(p, rng)
            symbol = table.text_of(number)
            yield symbol
            n += 1
            if ended(symbol):
                return
            given[0] = number
            if table.start is not None and number == table.end:
                session.reset()
                given[0] = table.start

    def search(
        self, prime: Any, length: int, beam_size: int, n_best: int, never: list[int]
    ) -> list[tuple[list[int], float]]:
        """Return the most probable texts that `beam_size` unfinished ones at a time lead to: numbers, log p."""
        n_symbols, end = len(self.table), self.table.end
        session, p = self.begun(prime, beam_size)
        scores = np.log(np.maximum(p, 1e-300, dtype=np.float64))[None]
        beams: list[tuple[list[int], float]] = [([], 0.0)]
        finished: list[tuple[list[int], float]] = []
        for n in range(length):
            scores[:, never] = -np.inf
            total = np.array([score for _, score in beams])[:, None] + scores
            following: list[tuple[list[int], float]] = []
            rows: list[int] = []
            for place in np.argsort(-total, axis=None, kind="stable")[: 2 * beam_size].tolist():
                row, number = divmod(place, n_symbols)
                if not np.isfinite(total[row, number]):
                    continue
                made = ([*beams[row][0], number], float(total[row, number]))
                if number == end:
                    finished.append(made)
                elif len(following) < beam_size:
                    following.append(made)
                    rows.append(row)
            beams = following
            if not beams or n + 1 == length or self._settled(finished, beams[0][1], n_best):
                break
            spare = beam_size - len(beams)  # rows of the session that nothing is in
            session.state = _of_rows(session.state, rows + [rows[0]] * spare)
            given = np.array([ids[-1] for ids, _ in beams] + [beams[0][0][-1]] * spare)
            scores = np.log(np.maximum(session.step(given)[: len(beams)], 1e-300, dtype=np.float64))
        return sorted([*finished, *beams], key=lambda pair: -pair[1])[:n_best]

    @staticmethod
    def _settled(finished: list[tuple[list[int], float]], best_open: float, n_best: int) -> bool:
        """Whether no unfinished text can come among the best any more: more symbols are never more probable."""
        scores = sorted((score for _, score in finished), reverse=True)
        return len(scores) >= n_best and scores[n_best - 1] >= best_open


class _Stop:
    """Tells when a text has been written."""

    def __init__(self, stop: Any, table: SymbolTable) -> None:
        self._stop = stop.encode() if isinstance(stop, str) and table.unit == "byte" else stop
        self._whole = table.unit in ("word", "id")
        self._tail: Any = None if stop is None or self._whole else self._stop[:0]

    def __call__(self, symbol: Any) -> bool:
        if self._stop is None:
            return False
        if self._whole:
            return bool(symbol == self._stop)
        self._tail = (self._tail + symbol)[-len(self._stop) :]
        return bool(self._tail == self._stop)


def _of_rows(state: Any, rows: list[int]) -> Any:
    """Take the states of some rows, of a layer's tuple of arrays or a list of them."""
    if isinstance(state, list):
        return [_of_rows(part, rows) for part in state]
    return tuple(part[:, rows] for part in state)
