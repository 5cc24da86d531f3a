"""Series with covariates as a forecaster sees them: scaled, differenced, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnncore.data.readers import DataError

__all__ = ["History", "Scaler", "histories_of", "one_series", "window_moments"]

_LEAST_OF_WINDOW = 0.01  # of a series' own deviation: what a window that hardly moves is taken to move


@dataclass(frozen=True)
class History:
    """One series until now.

    Attributes
    ----------
    y : (T, C) float64
    known : (T, D) float64
        Covariates that are known ahead, of the same times; D may be 0.
    past : (T, P) float64
        Covariates that are known when y is.
    """

    y: np.ndarray
    known: np.ndarray
    past: np.ndarray

    def tail(self, n: int) -> History:
        """Return the last steps."""
        return History(*(part[-n:] if n else part[:0] for part in (self.y, self.known, self.past)))

    def followed_by(self, other: History) -> History:
        """Return this one and what came then."""
        return History(*(np.concatenate(pair) for pair in zip(_parts(self), _parts(other), strict=True)))


def _parts(history: History) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return history.y, history.known, history.past


def one_series(y: Any) -> bool:
    """Tell one series from several: an array, a frame or a list of numbers is one; a list of arrays, a dict are more.

    Examples
    --------
    >>> one_series(np.zeros((5, 2))), one_series([1.0, 2.0]), one_series([np.zeros(3)])
    (True, True, False)
    """
    if isinstance(y, Mapping):
        return False
    if isinstance(y, np.ndarray) or hasattr(y, "to_numpy"):
        return True
    return not (isinstance(y, list | tuple) and len(y) and (hasattr(y[0], "__len__") or hasattr(y[0], "to_numpy")))


def histories_of(y: Any, X: Any, past: Any) -> dict[Any, History]:
    """Return every series by its name; the only one is called None.

    Raises
    ------
    DataError
        For covariates of other series or lengths, and numbers that are missing, by series and step.
    """
    if one_series(y):
        return {None: _history(y, X, past, "")}
    names = list(y) if isinstance(y, Mapping) else list(range(len(y)))
    if not names:
        raise DataError("expected at least one series, got none")
    parts = []
    for name, given in (("X", X), ("past", past)):
        if given is None:
            parts.append(dict.fromkeys(names))
        elif isinstance(given, Mapping) != isinstance(y, Mapping) or len(given) != len(names) or one_series(given):
            raise DataError(f"{name} must hold covariates of each of the {len(names)} series, as y does")
        else:
            parts.append({key: given[key] for key in names})
    return {key: _history(y[key], parts[0][key], parts[1][key], f" of series {key!r}") for key in names}


def _history(y: Any, X: Any, past: Any, of: str) -> History:
    table = matrix(y, f"y{of}")
    if not len(table):
        raise DataError(f"y{of} is empty")
    found = [table]
    for name, given in (("X", X), ("past", past)):
        part = np.empty((len(table), 0)) if given is None else matrix(given, f"{name}{of}")
        if len(part) != len(table):
            raise DataError(f"{name}{of} must have a row for each of the {len(table)} steps of y, got {len(part)}")
        if _told_by_times(y) and _told_by_times(given) and not y.index.equals(given.index):
            raise DataError(f"{name}{of} must have the times of y: their indices differ")
        found.append(part)
    return History(*found)


def _told_by_times(given: Any) -> bool:
    """Tell pandas' objects with an index of their own from those whose rows are numbered."""
    index = getattr(given, "index", None)
    return hasattr(index, "is_monotonic_increasing") and type(index).__name__ != "RangeIndex"


def matrix(given: Any, name: str) -> np.ndarray:
    """Return numbers (T, C)."""
    if _told_by_times(given):
        if not given.index.is_unique:
            raise DataError(f"{name}: the time {given.index[given.index.duplicated()][0]} is there twice")
        if not given.index.is_monotonic_increasing:
            raise DataError(f"{name}: its times go back: sort it by its index")
    if hasattr(given, "to_numpy"):
        given = given.to_numpy()
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise DataError(f"{name} must be numbers: {problem}") from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2:
        raise DataError(f"{name} must be (T,) or (T, C) numbers, got shape {found.shape}")
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if bad.size:
        raise DataError(f"{name}, step {int(bad[0])}: expected finite numbers, got {found[bad[0]]}; fill gaps first")
    return found


@dataclass(frozen=True)
class Scaler:
    """What turns a series into numbers that a network learns from, and back.

    Attributes
    ----------
    log : bool
        Logarithms first.
    lags : tuple of int
        Then differences to so many steps before, one after another.
    mean, deviation : (C,)
        Of what is left.
    """

    log: bool
    lags: tuple[int, ...]
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, log: bool, lags: tuple[int, ...], scale: bool, name: str = "") -> Scaler:
        """Learn from a series."""
        width = y.shape[1]
        made = cls(log, lags, np.zeros(width), np.ones(width))
        left = made.differences(y, name)
        if not scale or not len(left):
            return made
        spread = left.std(axis=0)
        size = np.maximum(np.abs(left.mean(axis=0)), 1e-300)
        return replace(made, mean=left.mean(axis=0), deviation=np.where(spread > 1e-12 * size, spread, 1.0))

    @property
    def lost(self) -> int:
        """Steps at the start that have no difference."""
        return sum(self.lags)

    def _logs(self, y: np.ndarray, name: str = "") -> np.ndarray:
        if not self.log:
            return y
        if not (y > 0).all():
            at = int(np.flatnonzero((y <= 0).any(axis=1))[0])
            raise DataError(f"log=True needs numbers above 0; y{name}, step {at}: got {y[at]}")
        return np.log(y)

    def differences(self, y: np.ndarray, name: str = "") -> np.ndarray:
        """Return logarithms and differences, not scaled: `lost` fewer."""
        found = self._logs(y, name)
        for lag in self.lags:
            found = found[lag:] - found[:-lag] if len(found) > lag else found[:0]
        return found

    def apply(self, y: np.ndarray, name: str = "") -> np.ndarray:
        """Return what the network sees: `lost` steps fewer."""
        return (self.differences(y, name) - self.mean) / self.deviation

    def undo(self, z: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return numbers from forecasts (..., H, C) of what the network sees, for those that went `before`, (n, C)."""
        found = z * self.deviation + self.mean
        levels = [self._logs(before)]
        for lag in self.lags:
            levels.append(levels[-1][lag:] - levels[-1][:-lag])
        for lag, level in zip(reversed(self.lags), reversed(levels[:-1]), strict=True):
            start = np.broadcast_to(level[-lag:], (*found.shape[:-2], lag, found.shape[-1]))
            joined = np.concatenate([start, found], axis=-2)
            for step in range(found.shape[-2]):
                joined[..., lag + step, :] += joined[..., step, :]
            found = joined[..., lag:, :]
        return np.exp(found) if self.log else found

    def of_window(self, y: np.ndarray, window: int) -> Scaler:
        """Return the scaler of a series' last steps by themselves, so many of what is left of `y`."""
        z = self.apply(y)[-window:]
        if not len(z):
            return self
        mean, deviation = window_moments(z, np.array([len(z)]))
        return replace(self, mean=self.mean + self.deviation * mean[0], deviation=self.deviation * deviation[0])

    def to_json(self) -> dict[str, Any]:
        """Describe it."""
        return {
            "log": self.log,
            "lags": list(self.lags),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }

    @classmethod
    def from_json(cls, own: Mapping[str, Any]) -> Scaler:
        """Rebuild it."""
        lags: Sequence[int] = own["lags"]
        return cls(bool(own["log"]), tuple(map(int, lags)), np.array(own["mean"]), np.array(own["deviation"]))


def window_moments(z: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation, (S, C) each, of S windows that lie one after another in scaled numbers (N, C).

    Examples
    --------
    >>> mean, deviation = window_moments(np.array([[1.0], [3.0], [7.0], [7.0]]), np.array([2, 2]))
    >>> mean.ravel().tolist(), deviation.ravel().tolist()
    ([2.0, 7.0], [1.0, 0.01])
    """
    starts, counts = np.cumsum(lengths) - lengths, lengths[:, None]
    mean = np.add.reduceat(z, starts, dtype=np.float64) / counts
    off = z - np.repeat(mean, lengths, axis=0)
    return mean, np.maximum(np.sqrt(np.add.reduceat(off * off, starts) / counts), _LEAST_OF_WINDOW)
