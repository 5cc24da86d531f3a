"""`bench ctc`: connectionist temporal classification, its loss alone and from recordings to digits, beside PyTorch."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

PARTS = ("loss", "digits")


def run(options: argparse.Namespace) -> dict[str, Any]:
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        raise SystemExit(f"bench: --part: no {unknown[0]}, only {', '.join(PARTS)}")
    return {name: importlib.import_module(f"bench.ctc_{name}").run(options) for name in options.part or PARTS}
