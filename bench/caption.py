"""`bench caption`: a training step of a network that writes about vectors, beside the same network in PyTorch.

Its bar is what one layer reaches beside PyTorch's at the nearest shape of `bench step`, in the same run.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from bench import agreement, shapes, translate
from bench.setting import Setting


class Size(NamedTuple):
    """Vectors and their numbers, symbols of the sentences, vectors of symbols, units; symbols there are."""

    B: int
    V: int
    L: int
    E: int
    H: int
    K: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))


#: and the shape of `bench step` that is nearest
SIZES = [
    (Size(16, 64, 20, 64, 64, 32), shapes.STEP[1]),
    (Size(50, 256, 30, 128, 128, 64), shapes.STEP[3]),
    (Size(64, 256, 30, 128, 256, 64), shapes.STEP[4]),
    (Size(128, 512, 32, 512, 512, 1000), shapes.STEP[6]),
]


def network(cell: str, size: Size, dtype: str, threads: int | None) -> Any:
    import rnncore as rc

    decoder = rc.Recurrent(cell, size.E, size.H, dtype=dtype, activation="tanh" if cell == "elman" else None)
    net = rc.EncoderDecoder(None, decoder, size.K, vector_size=size.V)
    net.n_threads = threads
    return net


def _contestants(setting: Setting, cell: str, size: Size) -> list[agreement.Contestant]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((size.B, size.V)).astype(setting.dtype)
    net = network(cell, size, setting.dtype, setting.threads)
    return translate.contestants(setting, net, cell, vectors, rng.integers(0, size.K, (size.B, size.L)))


def run(options: argparse.Namespace) -> dict[str, Any]:
    return translate.compare(options, "caption", "B, V, L, E, H, K", SIZES, _contestants)
