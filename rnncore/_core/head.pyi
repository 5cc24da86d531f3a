import numpy as np

from rnncore._core.stack import Stack

class Head:
    def __init__(
        self,
        itemsize: int,
        loss: int,
        readout: int,
        widths: list[int],
        outputs: int,
        W_hy: int,
        b_y: int,
        class_weight: np.ndarray | None,
        label_smoothing: float,
    ) -> None: ...
    def bind(self, theta: np.ndarray, grad: np.ndarray) -> None: ...
    def loss(self, stack: Stack, targets: np.ndarray, accumulate: bool) -> float: ...
    def predict(self, stack: Stack) -> np.ndarray: ...
    def sizes(self) -> tuple[int, int]: ...
