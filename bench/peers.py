"""Which peers are here: a missing one leaves its column empty, never an error."""

from __future__ import annotations

import importlib
from types import ModuleType


def load(name: str, threads: int) -> ModuleType | None:
    """Module `bench.peers_NAME` with its threads set, or None (and a note) when the peer is not installed."""
    try:
        module = importlib.import_module(f"bench.peers_{name}")
    except ImportError as error:
        print(f"note: {name} is left out ({error})")
        return None
    if hasattr(module, "set_threads"):
        module.set_threads(threads)
    return module
