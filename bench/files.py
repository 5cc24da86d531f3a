"""Where the data lie: a file named on the command line, else one of that name in $RNNCORE_DATA."""

from __future__ import annotations

import os
from pathlib import Path


def data_file(path: str | None, name: str) -> Path:
    """File at `path`, or without one the file `name` in $RNNCORE_DATA."""
    if path:
        return Path(path)
    folder = os.environ.get("RNNCORE_DATA")
    if not folder:
        raise SystemExit(f"bench: name the data file, or set RNNCORE_DATA to the folder of {name}")
    return Path(folder) / name
