"""What one worker runs under: its threads and dtype, how long, and who takes part."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from bench import peers
from bench.timing import Timing

CROWDED = 0.05  # of a core: from here on medians move


@dataclass(frozen=True)
class Setting:
    threads: int
    dtype: str
    quick: bool
    best: bool  # compare fastest rounds, not medians
    ours: bool  # False: --peers-only
    torch: ModuleType | None = None
    jax: ModuleType | None = None
    onnxruntime: ModuleType | None = None
    openvino: ModuleType | None = None

    @classmethod
    def of(cls, options: argparse.Namespace, *wanted: str) -> Setting:
        """Setting of a worker, with the wanted peers that are installed."""
        threads = max(options.threads)
        modules = {name: peers.load(name, threads) for name in wanted}
        setting = cls(threads, options.dtype[0], options.quick, options.best, not options.peers_only, **modules)
        if not setting.ours and not any(modules.values()):
            raise SystemExit("bench: nothing to time: --peers-only, and no peer of this bench is installed")
        return setting

    def budget(self, seconds: float) -> float:
        """Seconds for one row."""
        return seconds / 5 if self.quick else seconds

    def seconds(self, timing: Timing) -> float:
        """What stands for a contestant's time."""
        return timing.fastest if self.best else timing.median

    def crowded(self, timings: Mapping[str, Timing]) -> bool:
        """Whether other processes took cores from these timings."""
        return any(timing.others > CROWDED * self.threads for timing in timings.values())

    def cells(self, names: list[str]) -> Iterator[str]:
        """Cells that everyone asked for can do; the others are named and left out."""
        from bench import ours
        from bench.shapes import GATES

        for name in names:
            if name not in GATES:
                raise SystemExit(f"bench: --cell: expected one of {', '.join(GATES)}, got {name!r}")
            if not self.ours or ours.has_cell(name):
                yield name

    def title(self, bench: str, cell: str) -> str:
        many, which = "s" if self.threads > 1 else "", " · fastest rounds" if self.best else ""
        return f"{bench} · {cell} · {self.dtype} · {self.threads} thread{many}{which}"
