from collections.abc import Sequence

import numpy as np

from rnncore._core.schedule import Schedule

class Turing:
    def __init__(
        self,
        itemsize: int,
        inputs: int,
        outputs: int,
        hidden: int,
        locations: int,
        width: int,
        reads: int,
        writes: int,
        shifts: int,
        lstm: bool,
        places: Sequence[int],
    ) -> None: ...
    def forward(
        self,
        theta: np.ndarray,
        x: np.ndarray,
        schedule: Schedule,
        memory: np.ndarray,
        weights: np.ndarray,
        reads: np.ndarray,
        threads: int,
        backward: bool,
    ) -> np.ndarray: ...
    def backward(self, grad: np.ndarray, dy: np.ndarray, accumulate: bool) -> tuple[np.ndarray, np.ndarray]: ...
    def traces(self) -> tuple[np.ndarray, np.ndarray]: ...
