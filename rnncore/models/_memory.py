"""What all associative memories share: model files, checks of patterns and of matrices that are given."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from rnncore import _checks
from rnncore.io import files
from rnncore.optim.arguments import check_choice

__all__ = ["VALUES", "Memory", "as_patterns", "check_couplings", "off"]

VALUES = ("bipolar", "binary")
_SAID = {"bipolar": "-1 or 1", "binary": "0 or 1"}


class Memory(BaseEstimator):  # type: ignore[misc]
    """Base of the memories: fitted attributes are arrays and numbers, and a model file holds them by name."""

    _arrays: ClassVar[tuple[str, ...]] = ()  # fitted attributes that are arrays
    _numbers: ClassVar[tuple[str, ...]] = ("n_features_in_",)

    n_features_in_: int

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")

    def _check_settings(self) -> None:
        """Raise for parameters that cannot be used."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted memory to a model file; `rnncore.load` reads it back.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.
        """
        files.save(self, path)

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        self._check_fitted()
        header = {
            "settings": {name: _plain(value) for name, value in self.get_params(deep=False).items()},
            "fitted": {name: getattr(self, name) for name in self._numbers},
        }
        return header, {name: getattr(self, name) for name in self._arrays}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        made = cls(**header["settings"])
        made._check_settings()
        if set(header["fitted"]) != set(cls._numbers) or set(arrays) != set(cls._arrays):
            raise ValueError(f"expected {', '.join([*cls._numbers, *cls._arrays])}")
        made.__dict__.update(header["fitted"], **arrays)
        made._check_restored()
        return made

    def _check_restored(self) -> None:
        """Raise where the parts of a model file do not fit one another."""


def _plain(value: Any) -> Any:
    """Return a setting as JSON holds it; generators of random numbers are not kept."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, type | np.dtype):
        return np.dtype(value).name
    return value if value is None or isinstance(value, bool | int | float | str | list | tuple | dict) else None


def as_patterns(value: Any, name: str, values: str, width: int | None = None) -> np.ndarray:
    """Return patterns (B, N) as a new C-contiguous int8 array of -1 and 1.

    Examples
    --------
    >>> as_patterns([[0, 1, 1]], "patterns", "binary").tolist()
    [[-1, 1, 1]]
    """
    check_choice("values", values, VALUES)
    found = _checks.array(value, name)
    if found.ndim != 2 or not found.size:
        hint = "; a single one is x[None]" if found.ndim == 1 else ""
        raise ValueError(f"{name} must be an array (number of patterns, units){hint}; got shape {found.shape}")
    if width is not None and found.shape[1] != width:
        raise ValueError(f"{name} must have {width} units each, as those that were learned; got {found.shape[1]}")
    low = 0 if values == "binary" else -1
    on = found == 1
    right = (found == low) | on
    if not right.all():
        row, column = np.argwhere(~right)[0]
        other = {"bipolar": "binary", "binary": "bipolar"}[values]
        hint = f"; patterns of {_SAID[other]} want values={other!r}" if found[row, column] in (0, -1) else ""
        raise ValueError(
            f"{name} must be {_SAID[values]}, got {found[row, column]} at unit {column} of pattern {row}{hint}"
        )
    made: np.ndarray = 2 * on.astype(np.int8, order="C") - np.int8(1)
    return made


def off(values: str) -> int:
    """Return what stands for a unit that is not on."""
    return 0 if values == "binary" else -1


def check_couplings(value: Any, dtype: np.dtype, *, zero_diagonal: bool) -> np.ndarray:
    """Return a symmetric matrix of finite numbers, copied to a precision."""
    found = _checks.array(value, "weights")
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        raise ValueError(f"weights must be a square matrix, got shape {found.shape}")
    made = np.array(found, dtype=dtype, order="C")
    if not np.isfinite(made).all():
        raise ValueError("weights must be finite numbers")
    if not np.array_equal(made, made.T):
        i, j = np.argwhere(made != made.T)[0]
        raise ValueError(
            f"weights must be symmetric, so that the energy cannot rise; those between units {i} and {j} are "
            f"{made[i, j]:g} and {made[j, i]:g}"
        )
    if zero_diagonal and made.diagonal().any():
        raise ValueError("weights must have zeros on their diagonal: no unit looks at itself")
    return made
