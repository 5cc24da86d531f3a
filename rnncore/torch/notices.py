"""What is left to PyTorch's own code is said, but only once."""

from __future__ import annotations

import warnings

_given: set[str] = set()


def notice(what: str) -> None:
    """Warn that PyTorch's own code does this."""
    if what not in _given:
        _given.add(what)
        warnings.warn(f"rnncore.torch leaves {what} to PyTorch's own code", UserWarning, stacklevel=2)
