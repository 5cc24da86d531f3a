"""What is left to PyTorch's own code is said, but only once."""

from __future__ import annotations

import warnings

_given: set[str] = set()


def notice(what: str) -> None:
    """Warn that PyTorch's own code does this."""
    say_once(f"rnncore.torch leaves {what} to PyTorch's own code")


def say_once(message: str) -> None:
    """Warn, the first time that there is this to say."""
    if message not in _given:
        _given.add(message)
        warnings.warn(message, UserWarning, stacklevel=3)
