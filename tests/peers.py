"""The libraries that rnncore is compared with: a test that needs one is skipped without it."""

import importlib
import os
from types import ModuleType

import pytest


def peer(name: str) -> ModuleType:
    """Import a module, or skip the test; with RNNCORE_REQUIRE_PEERS=1, as in CI, a missing one fails it."""
    if os.environ.get("RNNCORE_REQUIRE_PEERS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)
