import numpy as np

from rnncore._core.stack import Stack
from rnncore._touched import TouchedRows

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
        chain: tuple[int, int, int, np.ndarray | None] | None = None,
        skip: tuple[int, int] | None = None,
    ) -> None: ...
    def bind(self, theta: np.ndarray, grad: np.ndarray, touched: TouchedRows) -> None: ...
    def loss(
        self,
        stack: Stack,
        targets: np.ndarray,
        accumulate: bool,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> float: ...
    def predict(
        self, stack: Stack, skip_ids: np.ndarray | None = None, skip_values: np.ndarray | None = None
    ) -> np.ndarray: ...
    def decode(
        self, stack: Stack, top: int, skip_ids: np.ndarray | None = None, skip_values: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def sizes(self) -> tuple[int, int]: ...
