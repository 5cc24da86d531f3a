"""Hopfield's network of two-valued units."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from rnncore import _checks, _threads
from rnncore._core import associative
from rnncore.models._memory import VALUES, Memory, as_patterns, check_couplings, off
from rnncore.models._rules import RULES, add_hebb, add_storkey, project
from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["Hopfield", "Recall"]

_ENDINGS = ("none", "fixed point", "two states in turn")
_MOST_PATTERNS = {np.dtype(np.float32): 2**24, np.dtype(np.float64): 2**53}


@dataclass(frozen=True)
class Recall:
    """How a network came from one state to another.

    Attributes
    ----------
    start, state : (N,) arrays
    flips : (n,) array
        The units that changed, one after another.
    energies : (n + 1,) array
        Before, and after each change.
    sweeps : int
    ending : {"fixed point", "two states in turn", "none"}
    """

    start: np.ndarray
    state: np.ndarray
    flips: np.ndarray
    energies: np.ndarray
    sweeps: int
    ending: str

    def after(self, changes: int) -> np.ndarray:
        """Return the state after so many changes."""
        changed = np.bincount(self.flips[:changes], minlength=len(self.start)) % 2 == 1
        return (
            np.where(changed, self.start.min(initial=0) + 1 - self.start, self.start) if changed.any() else self.start
        )


class Hopfield(Memory):
    """Hopfield's network: recalls patterns of which it is shown a part, or damaged ones (Hopfield 1982).

    Units are +1 or -1. With the couplings W that the patterns leave, and thresholds θ,

        h_i = Σ_j W_ij·s_j - θ_i        s_i becomes sign(h_i), and stays where h_i = 0
        E = -½·sᵀ·W·s + θᵀ·s            never rises while one unit changes after another

    The network needs ``N²`` numbers for W, in fitting the patterns once more in its precision and a block of at most
    16 MiB beside them, in recalling 13 bytes per unit and thread: 10,000 units in float32 are 400 MB.

    Parameters
    ----------
    rule : {"hebb", "projection", "storkey"}
        Hebb's holds about 0.138·N random patterns, some bits wrong, or N/(2·ln N) exactly; Storkey's N/√(2·ln N)
        (Storkey 1997); projection as many as are linearly independent, with basins that shrink (Personnaz et al. 1985;
        without its diagonal, Kanter and Sompolinsky 1987).
    update : {"asynchronous", "synchronous", "stochastic"}
        One unit after another until nothing changes; all at once, which may end in two states in turn; one after
        another, on with probability 1/(1 + exp(-2·beta·h)) (Glauber 1963), for `max_sweeps` sweeps.
    values : {"bipolar", "binary"}
        Whether patterns are of -1 and 1 or of 0 and 1. Energies and thresholds are those of -1 and 1 in any case.
    thresholds : None, float or (N,) array
        θ. None: zeros.
    order : {"random", "cyclic"}
        How one unit after another is chosen: in a new order in each sweep, or by number.
    beta : float
        Inverse temperature of stochastic updates.
    max_sweeps : int
        A sweep is N updates.
    dtype : {"float32", "float64"}
        Of W. Fields are summed in double precision. Hebb's couplings are exact in both.
    random_state : int, RandomState or None
        Of orders and stochastic updates.
    n_threads : int or None
        Patterns are shared among threads; results are the same for any number.

    Attributes
    ----------
    couplings_ : (N, N) array
        W divided by `scale_`.
    scale_ : float
        1/N for Hebb's rule, whose sums are kept as whole numbers; else 1.
    n_patterns_, n_features_in_ : int
        How many patterns were learned; N.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> patterns = np.random.default_rng(0).choice([-1, 1], (10, 200))
    >>> damaged = patterns.copy()
    >>> damaged[:, :30] = 1
    >>> memory = rc.models.Hopfield().fit(patterns)
    >>> bool((memory.predict(damaged) == patterns).all())
    True
    >>> bool((memory.energy(patterns) < memory.energy(damaged)).all())
    True
    """

    _arrays: ClassVar[tuple[str, ...]] = ("couplings_",)
    _numbers: ClassVar[tuple[str, ...]] = ("n_features_in_", "n_patterns_", "scale_", "tie_")

    couplings_: np.ndarray
    scale_: float
    tie_: float  # fields so small are zero but for rounding
    n_patterns_: int

    def __init__(
        self,
        rule: str = "hebb",
        update: str = "asynchronous",
        *,
        values: str = "bipolar",
        thresholds: Any = None,
        order: str = "random",
        beta: float = 4.0,
        max_sweeps: int = 100,
        dtype: Any = "float32",
        random_state: Any = 0,
        n_threads: int | None = None,
    ) -> None:
        self.rule = rule
        self.update = update
        self.values = values
        self.thresholds = thresholds
        self.order = order
        self.beta = beta
        self.max_sweeps = max_sweeps
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads

    @classmethod
    def of_weights(cls, weights: Any, **parameters: Any) -> Self:
        """Make a network of couplings that are known already.

        Parameters
        ----------
        weights : (N, N) array
            Symmetric, with zeros on the diagonal.
        **parameters
            As the constructor takes them.

        Examples
        --------
        >>> import rnncore as rc
        >>> pair = rc.models.Hopfield.of_weights([[0, -1], [-1, 0]], order="cyclic")
        >>> pair.predict([[1, 1]]).tolist()
        [[-1, 1]]
        """
        made = cls(**parameters)
        made._check_settings()
        made.couplings_ = check_couplings(weights, _checks.dtype(made.dtype), zero_diagonal=True)
        made.n_features_in_, made.n_patterns_, made.scale_, made.tie_ = len(made.couplings_), 0, 1.0, 0.0
        return made

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(self, patterns: Any, y: Any = None) -> Self:
        """Learn patterns.

        Parameters
        ----------
        patterns : (P, N) array
        y : ignored

        Raises
        ------
        ValueError
            For patterns of other values, or settings that cannot be used.
        """
        self._check_settings()
        found = as_patterns(patterns, "patterns", self.values)
        self._begin(found.shape[1])
        self._learn(found)
        return self

    def partial_fit(self, patterns: Any, y: Any = None) -> Self:
        """Learn further patterns; Hebb's and Storkey's rules can."""
        self._check_settings()
        if self.rule == "projection":
            raise ValueError("rule='projection' looks at all patterns at once: call fit with all of them")
        fitted = self.__sklearn_is_fitted__()
        found = as_patterns(patterns, "patterns", self.values, self.n_features_in_ if fitted else None)
        if not fitted:
            self._begin(found.shape[1])
        elif self.scale_ != (1 / self.n_features_in_ if self.rule == "hebb" else 1.0):
            raise ValueError(f"this network was fitted by another rule than {self.rule!r}: call fit with all patterns")
        self._learn(found)
        return self

    def _begin(self, units: int) -> None:
        self.couplings_ = np.zeros((units, units), dtype=_checks.dtype(self.dtype))
        self.n_features_in_, self.n_patterns_, self.tie_ = units, 0, 0.0
        self.scale_ = 1 / units if self.rule == "hebb" else 1.0

    def _learn(self, patterns: np.ndarray) -> None:
        W = self.couplings_
        if self.rule == "hebb":
            if self.n_patterns_ + len(patterns) > _MOST_PATTERNS[W.dtype]:
                raise ValueError(f"{W.dtype} counts up to {_MOST_PATTERNS[W.dtype]:,} patterns: take dtype='float64'")
            add_hebb(W, patterns, first=not self.n_patterns_)
        else:
            if self.rule == "storkey":
                add_storkey(W, patterns, _threads.resolve(_threads.check(self.n_threads)))
                largest = float(max(W.max(), -W.min()))
            else:
                project(W, patterns)
                largest = 1.0  # on the diagonal that is left out
            self.tie_ = float(len(W) * np.finfo(W.dtype).eps * largest)
        self.n_patterns_ += len(patterns)

    # -- recalling ----------------------------------------------------------------------------------------------------

    def predict(self, patterns: Any) -> np.ndarray:
        """Let the network run from patterns; return where it ends, (B, N) of the patterns' kind of values, int8.

        Each pattern has a generator of its own. One after another, they all begin with the same seed: where a pattern
        ends is the same in any batch. Stochastic ones are seeded by row: the same pattern in many rows is many draws.
        """
        states, _, _, endings, _ = self._run(patterns, "patterns")
        if self.update == "asynchronous" and not endings.all():
            warnings.warn(
                f"{np.count_nonzero(endings == 0)} patterns still changed after max_sweeps={self.max_sweeps}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self._shown(states)

    def recall(self, pattern: Any) -> Recall:
        """Let the network run from one pattern (N,), and tell how it went.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> memory = rc.models.Hopfield().fit(np.array([[1, 1, 1, -1, -1, -1]]))
        >>> found = memory.recall([1, 1, -1, -1, -1, -1])
        >>> found.state.tolist(), found.flips.tolist(), found.ending
        ([1, 1, 1, -1, -1, -1], [2], 'fixed point')
        >>> bool(np.all(np.diff(found.energies) < 0))
        True
        """
        start = np.asarray(pattern)[None]
        states, _, sweeps, endings, flips = self._run(start, "pattern", record=True)
        return Recall(
            start[0].astype(np.int8),
            self._shown(states)[0],
            flips,
            self._energies_along(start, flips),
            int(sweeps[0]),
            _ENDINGS[endings[0]],
        )

    def energy(self, states: Any) -> np.ndarray:
        """Return E of states (B, N), (B,)."""
        self._check_fitted()
        s = as_patterns(states, "states", self.values, self.n_features_in_)
        f = associative.fields(self.couplings_, s, _threads.resolve(_threads.check(self.n_threads)))
        found: np.ndarray = np.einsum("bn,bn->b", s, self._thresholds() - 0.5 * self.scale_ * f)
        return found

    @property
    def weights_(self) -> np.ndarray:
        """W, a new array."""
        self._check_fitted()
        found: np.ndarray = self.couplings_ * self.couplings_.dtype.type(self.scale_)
        return found

    def _run(self, patterns: Any, name: str, record: bool = False) -> tuple[np.ndarray, ...]:
        self._check_fitted()
        self._check_settings()
        states = as_patterns(patterns, name, self.values, self.n_features_in_)
        random = check_random_state(self.random_state)
        seeds = random.randint(2**64, size=len(states) if self.update == "stochastic" else 1, dtype=np.uint64)
        energies, sweeps, endings, flips = associative.recall(
            self.couplings_,
            states,
            self._thresholds(),
            np.resize(seeds, len(states)),
            update=self.update,
            scale=self.scale_,
            tie=self.tie_,
            beta=self.beta,
            shuffled=self.order == "random",
            most_sweeps=self.max_sweeps,
            record=record,
            threads=_threads.resolve(_threads.check(self.n_threads)),
        )
        return states, energies, sweeps, endings, flips

    def _energies_along(self, start: np.ndarray, flips: np.ndarray) -> np.ndarray:
        """Return the energies before and after changes of single units."""
        s = as_patterns(start, "pattern", self.values)
        f, thresholds = associative.fields(self.couplings_, s, 1)[0], self._thresholds()
        found, s = [self.energy(start)[0]], s[0].astype(np.float64)
        for unit in flips:
            found.append(found[-1] + 2 * s[unit] * (self.scale_ * f[unit] - thresholds[unit]))
            s[unit] = -s[unit]
            f += 2 * s[unit] * self.couplings_[unit]
        return np.array(found)

    def _thresholds(self) -> np.ndarray:
        units = self.n_features_in_
        if self.thresholds is None:
            return np.zeros(units)
        found = np.asarray(_checks.array(self.thresholds, "thresholds"), dtype=np.float64)
        if found.shape not in ((), (units,)) or not np.isfinite(found).all():
            raise ValueError(f"thresholds must be a finite number or {units} of them, got shape {found.shape}")
        return np.full(units, found) if found.ndim == 0 else np.ascontiguousarray(found)

    def _shown(self, states: np.ndarray) -> np.ndarray:
        if off(self.values) == 0:
            np.maximum(states, 0, out=states)
        return states

    def _check_settings(self) -> None:
        check_choice("rule", self.rule, RULES)
        check_choice("update", self.update, tuple(associative.UPDATES))
        check_choice("values", self.values, VALUES)
        check_choice("order", self.order, ("random", "cyclic"))
        check_number("beta", self.beta, "[0, 1e9]", 4.0)
        check_count("max_sweeps", self.max_sweeps, 1)
        _checks.dtype(self.dtype)

    def _check_restored(self) -> None:
        units, W = self.n_features_in_, self.couplings_
        if W.shape != (units, units) or W.dtype not in _checks.FLOATS or not np.isfinite(W).all():
            raise ValueError(f"expected couplings_ as finite numbers ({units}, {units}), got {W.dtype} {W.shape}")
        for name in ("n_patterns_", "scale_", "tie_"):
            check_number(name, getattr(self, name), "[0, inf)", 1.0)
