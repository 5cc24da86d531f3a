"""In which precision an object keeps its numbers, and in which it multiplies them."""

from __future__ import annotations

import numpy as np

from rnncore import _checks

__all__ = ["HasPrecision"]


class HasPrecision:
    """What has a ``dtype``, of all its arrays, and may be ``mixed``: then products round their operands to bfloat16."""

    dtype: np.dtype
    mixed: bool

    @property
    def compute_dtype(self) -> str:
        """What products are made of: "float32", "float64" or, in mixed precision, "bfloat16"."""
        return "bfloat16" if self.mixed else self.dtype.name

    @property
    def dtype_policy(self) -> str:
        """The ``dtype`` that builds such an object: "float32", "float64" or "mixed_bfloat16"."""
        return _checks.MIXED if self.mixed else self.dtype.name
