"""`bench lm DATA`: language models beside well-known programs, transcribed, and beside PyTorch and JAX."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from bench import files, text
from bench.setting import Setting

PARTS = ("charrnn", "minchar", "wildml", "words", "generate", "tail")


def run(options: argparse.Namespace) -> dict[str, Any]:
    unknown = [name for name in options.part if name not in PARTS]
    if unknown or options.dtype != ["float32"]:
        wrong = f"--part: no {unknown[0]}, only {', '.join(PARTS)}" if unknown else "lm compares float32: no --dtype"
        raise SystemExit(f"bench: {wrong}")
    setting = Setting.of(options, "torch", "jax")
    given = text.read(files.data_file(options.data, "tinyshakespeare.txt"))
    return {name: importlib.import_module(f"bench.lm_{name}").measure(setting, given) for name in options.part or PARTS}
