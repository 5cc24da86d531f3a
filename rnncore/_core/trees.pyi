from typing import Any

import numpy as np

KINDS: dict[str, int]

class TreeKernel:
    def __init__(
        self,
        itemsize: int,
        hidden: int,
        positions: int,
        kind: str,
        activation: int,
        starts: tuple[int, int, int, int],
    ) -> None: ...
    def forward(self, theta: np.ndarray, levels: Any, threads: int, training: bool) -> np.ndarray: ...
    def backward(self, theta: np.ndarray, grad: np.ndarray, dh: np.ndarray, threads: int) -> None: ...

def softmax(scores: np.ndarray) -> np.ndarray: ...
def softmax_loss(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]: ...
