from typing import Any

import numpy as np

class Windows:
    x: np.ndarray
    targets: np.ndarray
    order: np.ndarray
    def __init__(self, x: Any, targets: Any, words: int, both: bool) -> None: ...
    def __len__(self) -> int: ...
