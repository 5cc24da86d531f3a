import numpy as np

class Dense:
    def __init__(
        self, itemsize: int, inputs: int, outputs: int, W: int, b: int, squash: bool, mixed: bool = False
    ) -> None: ...
    def hold(self, theta: np.ndarray, storage: str = "float32") -> None: ...
    def forward(self, theta: np.ndarray, x: np.ndarray, threads: int) -> np.ndarray: ...
    def backward(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        dy: np.ndarray,
        threads: int,
        accumulate: bool,
    ) -> np.ndarray: ...
