"""Raw oneDNN and libxsmm, one thread, fp32: GFLOP/s of forward + backward with dX and weight reordering.

Measured once in C++ on both kinds of machine that this project has seen (oneDNN 2.6.3, libxsmm 1.17 header-only build),
6·G·H·(D+H)·rows / time. They cannot run beside the bench (no Python package exposes them), so each is compared as a
share of the peak that was measured with it, on a machine of the same maker.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from bench.shapes import STEP, Shape

Pairs = list[tuple[float | None, float | None]]


class Machine(NamedTuple):
    """GFLOP/s of one core: its fp32 peak, and cell -> one (oneDNN, libxsmm) pair per row of shapes.STEP."""

    name: str
    peak: float
    gflops: dict[str, Pairs]


# None: libxsmm's GRU computes a wrong dW_h and does not count; on Intel libxsmm was not measured
AMD = Machine(
    "AMD Zen 5 server, AVX-512",
    255.0,
    {
        "elman": [(34, 53), (125, 175), (208, 201), (196, 216), (208, 203), (224, 209), (227, 220), (227, 188)],
        "lstm": [(57, 46), (164, 175), (177, 122), (206, 193), (194, 212), (216, 186), (230, 200), (237, 169)],
        "gru": [(n, None) for n in (41, 151, 179, 208, 213, 220, 233, 208)],
    },
)
INTEL = Machine(
    "Intel server with AMX, AVX-512",
    240.0,
    {
        "elman": [(n, None) for n in (32, 96, 140, 138, 151, 161, 162, 162)],
        "lstm": [(n, None) for n in (46, 123, 132, 148, 149, 162, 157, 158)],
        "gru": [(n, None) for n in (37, 111, 138, 143, 150, 143, 157, 161)],
    },
)


@functools.cache
def machine() -> Machine:
    """The measured machine that is nearest to this one: of its processor's maker."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return INTEL if "GenuineIntel" in file.read(1000) else AMD
    except OSError:
        return AMD


def raw_gflops(cell: str, shape: Shape) -> tuple[float | None, float | None]:
    """(oneDNN, libxsmm) in GFLOP/s; None where there is no figure."""
    figures = machine().gflops
    return figures[cell][STEP.index(shape)] if cell in figures and shape in STEP else (None, None)


# Words right of 2199 on the author's split, and seconds on one core: the original program, built and run again.
ORIGINAL_WORDS_RIGHT, ORIGINAL_SECONDS = 2092, 1063.0
