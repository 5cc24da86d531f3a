"""Raw oneDNN and libxsmm, one thread, fp32: GFLOP/s of forward + backward with dX and weight reordering.

Measured once in C++ on the project's own kind of machine (AMD Zen 5 server core with AVX-512; oneDNN 2.6.3, libxsmm
1.17 header-only build), 6·G·H·(D+H)·rows / time. They cannot run beside the bench (no Python package exposes them), so
each is compared as a share of the peak that was measured with it.
"""

from __future__ import annotations

from bench.shapes import STEP, Shape

PEAK = 255.0  # GFLOP/s of that core, fp32

# cell -> one (oneDNN, libxsmm) pair per row of shapes.STEP; None: its GRU computes a wrong dW_h and does not count
_GFLOPS: dict[str, list[tuple[float, float | None]]] = {
    "elman": [(34, 53), (125, 175), (208, 201), (196, 216), (208, 203), (224, 209), (227, 220), (227, 188)],
    "lstm": [(57, 46), (164, 175), (177, 122), (206, 193), (194, 212), (216, 186), (230, 200), (237, 169)],
    "gru": [(41, None), (151, None), (179, None), (208, None), (213, None), (220, None), (233, None), (208, None)],
}


def raw_gflops(cell: str, shape: Shape) -> tuple[float | None, float | None]:
    """(oneDNN, libxsmm) in GFLOP/s; None where there is no figure."""
    if cell not in _GFLOPS or shape not in STEP:
        return None, None
    return _GFLOPS[cell][STEP.index(shape)]


# Words right of 2199 on the author's split, and seconds on one core: the original program, built and run again.
ORIGINAL_WORDS_RIGHT, ORIGINAL_SECONDS = 2092, 1063.0
