"""Kosko's bidirectional associative memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from rnncore.models._memory import VALUES, Memory, as_patterns, off
from rnncore.optim.arguments import check_choice

__all__ = ["BAM", "PairRecall"]


@dataclass(frozen=True)
class PairRecall:
    """How two layers came to rest.

    Attributes
    ----------
    a, b : (B, n) and (B, p) arrays
    energies : (S, B) array
        After each turn of both layers, the first ones apart; a pair that has come to rest keeps its own.
    """

    a: np.ndarray
    b: np.ndarray
    energies: np.ndarray


class BAM(Memory):
    """Bidirectional associative memory: two layers that recall one another's patterns (Kosko 1988).

    Of pairs x_k, y_k (written with -1 and 1) M = Σ x_kᵀ·y_k is kept. Each layer in turn becomes

        b = sign(a·M)      a = sign(b·Mᵀ)      (with values="binary" 1 where positive, else 0); where 0, it stays

    until neither changes: whatever M is, E = -a·M·bᵀ falls until then. A layer that nothing is known of starts with all
    units off. About min(n, p)/(2·log2 min(n, p)) random pairs are recalled well.

    Parameters
    ----------
    values : {"bipolar", "binary"}
        Whether patterns and states are of -1 and 1 or of 0 and 1.

    Attributes
    ----------
    weights_ : (n, p) array
        M, whole numbers in double precision.
    n_pairs_ : int
    n_features_in_ : int
        n.

    Examples
    --------
    >>> import rnncore as rc
    >>> A = [[1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 0, 0]]
    >>> B = [[1, 1, 0, 0], [1, 0, 1, 0]]
    >>> memory = rc.models.BAM(values="binary").fit(A, B)
    >>> memory.predict(A).tolist() == B and memory.predict_source(B).tolist() == A
    True
    >>> memory.energy(A, B).tolist()
    [-6.0, -6.0]
    """

    _arrays: ClassVar[tuple[str, ...]] = ("weights_",)
    _numbers: ClassVar[tuple[str, ...]] = ("n_features_in_", "n_pairs_")

    weights_: np.ndarray
    n_pairs_: int

    def __init__(self, values: str = "bipolar") -> None:
        self.values = values

    def fit(self, A: Any, B: Any) -> Self:
        """Learn pairs of rows of A (K, n) and B (K, p)."""
        for name in ("weights_", "n_pairs_", "n_features_in_"):
            self.__dict__.pop(name, None)
        return self.partial_fit(A, B)

    def partial_fit(self, A: Any, B: Any) -> Self:
        """Learn further pairs."""
        known = self.weights_.shape if self.__sklearn_is_fitted__() else (None, None)
        a, b = as_patterns(A, "A", self.values, known[0]), as_patterns(B, "B", self.values, known[1])
        if len(a) != len(b):
            raise ValueError(f"A and B must be pairs of rows: {len(a)} rows and {len(b)}")
        M = a.T.astype(np.float64) @ b.astype(np.float64)  # sums of whole numbers: exact in any order
        self.weights_ = self.weights_ + M if known[0] else M
        self.n_pairs_ = (self.n_pairs_ if known[0] else 0) + len(a)
        self.n_features_in_ = a.shape[1]
        return self

    def predict(self, A: Any) -> np.ndarray:
        """Return what rows of A (K, n) recall in the other layer, (K, p) int8."""
        return self.recall(a=A).b

    def predict_source(self, B: Any) -> np.ndarray:
        """Return what rows of B (K, p) recall in the first layer, (K, n) int8."""
        return self.recall(b=B).a

    def recall(self, a: Any = None, b: Any = None) -> PairRecall:
        """Let both layers run from what is given; the other layer's turn comes first.

        Parameters
        ----------
        a : (K, n) array, optional
        b : (K, p) array, optional
            At least one of them. With both, the second layer's turn comes first.
        """
        self._check_fitted()
        n, p = self.weights_.shape
        if a is None and b is None:
            raise ValueError("recall needs a pattern of a layer: give a, b or both")
        one = None if a is None else self._state(a, "a", n)
        other = None if b is None else self._state(b, "b", p)
        if one is not None and other is not None and len(one) != len(other):
            raise ValueError(f"a and b must be pairs of rows: {len(one)} rows and {len(other)}")
        rows = len(one) if one is not None else len(other)  # type: ignore[arg-type]
        at = {
            "a": np.full((rows, n), float(off(self.values))) if one is None else one,
            "b": np.full((rows, p), float(off(self.values))) if other is None else other,
        }
        turns = ("b", "a") if one is not None else ("a", "b")
        for turn in turns:
            self._take_turn(at, turn)
        energies, moving = [self._energies(at["a"], at["b"])], True
        while moving:
            moving = False
            for turn in turns:
                moving |= self._take_turn(at, turn)
            energies.append(self._energies(at["a"], at["b"]))
        return PairRecall(at["a"].astype(np.int8), at["b"].astype(np.int8), np.array(energies))

    def energy(self, A: Any, B: Any) -> np.ndarray:
        """Return E of pairs of states, (K,)."""
        self._check_fitted()
        n, p = self.weights_.shape
        a, b = self._state(A, "A", n), self._state(B, "B", p)
        if len(a) != len(b):
            raise ValueError(f"A and B must be pairs of rows: {len(a)} rows and {len(b)}")
        return self._energies(a, b)

    def _take_turn(self, at: dict[str, np.ndarray], turn: str) -> bool:
        """Let a layer answer the other; tell whether it changed."""
        heard = at["a"] @ self.weights_ if turn == "b" else at["b"] @ self.weights_.T
        new = np.where(heard > 0, 1.0, np.where(heard < 0, float(off(self.values)), at[turn]))
        changed = not np.array_equal(new, at[turn])
        at[turn] = new
        return changed

    def _energies(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found: np.ndarray = -np.einsum("kn,kn->k", a @ self.weights_, b)
        return found

    def _state(self, value: Any, name: str, width: int) -> np.ndarray:
        found = as_patterns(value, name, self.values, width)
        return np.where(found == 1, 1.0, float(off(self.values)))

    def _check_settings(self) -> None:
        check_choice("values", self.values, VALUES)

    def _check_restored(self) -> None:
        M = self.weights_
        if M.ndim != 2 or M.dtype != np.float64 or M.shape[0] != self.n_features_in_ or not np.isfinite(M).all():
            raise ValueError(f"expected weights_ of {self.n_features_in_} units, got {M.dtype} {M.shape}")
