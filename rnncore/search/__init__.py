"""Search without gradients, over the parameters of any network or any vector of numbers: `minimize`."""

from __future__ import annotations

from rnncore.search._minimize import METHODS, SearchResult, minimize

__all__ = ["METHODS", "SearchResult", "minimize"]
