"""Several networks that predict the next symbol, seen as one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.data.sequences import Sequences
from rnncore.data.symbols import Encoded
from rnncore.estimators._choice import NOT_FINITE
from rnncore.estimators._combining import combined, log_floor
from rnncore.estimators._text import batches_of

__all__ = ["JointNetwork"]


class JointNetwork:
    """Networks whose probabilities are combined at every step, each with a state of its own.

    Parameters
    ----------
    networks : list of Network
    numbers : list of (K,) int64 arrays
        What number each of them has for symbol 0, 1, …
    how : "mean" or "product"
    """

    def __init__(self, networks: list[Any], numbers: list[np.ndarray], how: str) -> None:
        self.networks = networks
        self.numbers = numbers
        self.how = how
        self.weights = np.full(len(networks), 1 / len(networks))

    def session(self, batch_size: int = 1) -> JointSession:
        """Return a stream: each symbol that is read gives the probabilities of the next."""
        return JointSession(self, [network.session(batch_size) for network in self.networks])

    def probabilities_of_members(self, data: Encoded | Sequences) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, part by part of a text, each network's probabilities (M, N, K) and which symbols came, (N,)."""
        streams = isinstance(data, Encoded)
        states: list[Any] = [None] * len(self.networks)
        for batch in batches_of(data, len(self.numbers[0]) * len(self.networks)).epoch(1, np.random.default_rng(0), 0):
            shape = batch.targets.shape
            inside = np.arange(shape[0])[:, None] < (shape[0] if batch.lengths is None else batch.lengths)
            found = []
            for m, (network, numbers) in enumerate(zip(self.networks, self.numbers, strict=True)):
                p, states[m] = network.predict(numbers[batch.x], batch.lengths, states[m], return_state=True)
                found.append(p[np.broadcast_to(inside, shape)][:, numbers])
                states[m] = states[m] if streams else None
            yield np.stack(found), batch.targets[np.broadcast_to(inside, shape)]

    def mean_log_likelihood(self, data: Encoded | Sequences) -> float:
        """Return the mean over symbols, in nats."""
        total, n = 0.0, 0
        for members, right in self.probabilities_of_members(data):
            if self.how == "mean":  # the others' probabilities are of no use
                members = np.take_along_axis(members, right[None, :, None], axis=2)
                right = np.zeros_like(right)
            p = combined(members, self.weights, self.how)
            total += float(log_floor(np.take_along_axis(p, right[:, None], axis=1)).sum())
            n += len(right)
        found = total / n
        if not math.isfinite(found):
            raise ValueError(NOT_FINITE)
        return found


class JointSession:
    """A session of each network; together they are used like one."""

    def __init__(self, of: JointNetwork, sessions: list[Any]) -> None:
        self._of = of
        self._sessions = sessions

    def run(self, x: np.ndarray) -> np.ndarray:
        """Read symbols (T, B); return the probabilities of what follows each of them, (T, B, K)."""
        return self._combined(
            session.run(numbers[x])[:, :, numbers]
            for session, numbers in zip(self._sessions, self._of.numbers, strict=True)
        )

    def step(self, x: np.ndarray) -> np.ndarray:
        """Read a symbol of each row, (B,); return the probabilities of the next, (B, K)."""
        return self._combined(
            session.step(numbers[x])[:, numbers]
            for session, numbers in zip(self._sessions, self._of.numbers, strict=True)
        )

    def _combined(self, members: Iterator[np.ndarray]) -> np.ndarray:
        return combined(members, self._of.weights, self._of.how)

    def reset(self) -> None:
        """Begin anew."""
        for session in self._sessions:
            session.reset()

    @property
    def state(self) -> list[Any]:
        """That of each network."""
        return [session.state for session in self._sessions]

    @state.setter
    def state(self, states: list[Any]) -> None:
        for session, state in zip(self._sessions, states, strict=True):
            session.state = state
