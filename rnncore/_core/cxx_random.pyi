from typing import Any

import numpy as np

class LibcxxShuffle:
    def shuffle(self, items: np.ndarray) -> None: ...

class LibstdcxxShuffle:
    def shuffle(self, items: np.ndarray) -> None: ...

class OpenCVRandom:
    state: int
    def uniform(self, low: float, high: float, shape: Any) -> np.ndarray: ...
