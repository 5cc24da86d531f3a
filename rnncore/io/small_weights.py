"""Weights of model files in fewer bits.

    bfloat16   the upper half of each float32 number, rounded to nearest, ties to even
    int8       whole numbers from -127 to 127 and a scale, max|w|/127, for each column; of a table for each row

Matrices and tables of float32 are kept so, vectors stay. A session with the same ``weight_dtype`` multiplies by the
same numbers before and after a file (of int8 where it does not take a matrix in parts, each with its own scales).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["restore", "shrink"]

Arrays = dict[str, np.ndarray]
SCALE = ":scale"


def shrink(arrays: Arrays, weight_dtype: str) -> Arrays:
    """Return the arrays in fewer bits, those of int8 with their scales beside them.

    Examples
    --------
    >>> import numpy as np
    >>> small = shrink({"W": np.array([[1, 0.5], [-0.25, 0]], dtype="float32")}, "int8")
    >>> small["W"].tolist(), (small["W:scale"] * 127).tolist()
    ([[127, 127], [-32, 0]], [[1.0, 0.5]])
    >>> (restore(small, "int8")["W"] * 1000).round().tolist()
    [[1000.0, 500.0], [-252.0, 0.0]]
    """
    found: Arrays = {}
    for name, array in arrays.items():
        if array.dtype != np.float32 or array.ndim < 2:
            found[name] = array
        elif weight_dtype == "bfloat16":
            found[name] = _bfloat16(array)
        else:
            found[name], found[name + SCALE] = _int8(array, 1 if name.endswith(".E") else 0)
    return found


def restore(arrays: Arrays, weight_dtype: Any) -> Arrays:
    """Return what `shrink` was given, as exactly as the bits tell; raises a ValueError for what it does not return."""
    if weight_dtype not in ("bfloat16", "int8"):
        raise ValueError(f"weights kept as {weight_dtype!r}")
    found: Arrays = {}
    for name, array in arrays.items():
        if name.endswith(SCALE):
            continue
        if array.dtype == np.uint16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif array.dtype == np.int8:
            array = array * arrays[name + SCALE]
        found[name] = array
    return found


def _bfloat16(array: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), bits >> 16 | 0x40, rounded).astype(np.uint16)


def _int8(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    most = np.abs(array).max(axis=axis, keepdims=True, initial=0.0)
    if not np.isfinite(most).all():
        raise ValueError('weights that are not finite cannot be kept as "int8"')
    factor = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 0)
    return np.rint(array * factor).astype(np.int8), most / np.float32(127)
