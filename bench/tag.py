"""`bench tag`: SequenceTagger's defaults and presets on news requests, SNIPS and EWT, beside CRFsuite."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

PARTS = ("news", "snips", "ewt")


def run(options: argparse.Namespace) -> dict[str, Any]:
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        raise SystemExit(f"bench: --part: no {unknown[0]}, only {', '.join(PARTS)}")
    (threads,) = options.threads
    given = options.part or (PARTS[:1] if options.data else PARTS)
    return {name: importlib.import_module(f"bench.tag_{name}").run(options, threads) for name in given}
