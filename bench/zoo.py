"""`bench zoo`: networks that are no cells, beside what a user would have instead; a module for each part."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

PARTS = {
    "memories": "bench.zoo_memories",
    "reservoirs": "bench.zoo_reservoirs",
    "trees": "bench.zoo_trees",
    "clocks": "bench.zoo_clocks",
    "tapes": "bench.zoo_tapes",
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        raise SystemExit(f"bench: --part: no {unknown[0]}, only {', '.join(PARTS)}")
    return {name: importlib.import_module(PARTS[name]).run(options) for name in options.part or PARTS}
