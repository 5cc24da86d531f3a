from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore._core.cxx_random import OpenCVRandom
from rnncore._core.replica_rows import Windows

class Engine:
    def __init__(
        self,
        words: int,
        hidden: Sequence[int],
        classes: int,
        T: int,
        directions: int,
        keep: Sequence[float],
        decay: Sequence[float],
        softmax_decay: float,
        samples: int,
        shared_accumulators: bool,
        threads: int,
        share_prefixes: bool = True,
    ) -> None: ...
    def set(self, name: str, layer: int, direction: int, values: Any) -> None: ...
    def get(self, name: str, layer: int, direction: int, what: str = "theta") -> np.ndarray: ...
    def clear_accumulators(self) -> None: ...
    def cost(self, windows: Windows, batch: np.ndarray, random: OpenCVRandom) -> tuple[float, float, float, float]: ...
    def iterate(
        self, windows: Windows, batch: np.ndarray, random: OpenCVRandom, a: float, b: float, rate: float, mu: float
    ) -> tuple[float, float, float, float]: ...
    def predict(self, windows: Windows) -> np.ndarray: ...
