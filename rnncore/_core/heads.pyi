import numpy as np

from rnncore._core.memory import Saved
from rnncore._core.run import Workspace
from rnncore.nn.touched import TouchedRows

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
    def hold(self, theta: np.ndarray, shared: Head | None = None) -> None: ...
    def loss_and_grad(
        self,
        ws: Workspace,
        saved: Saved,
        theta: np.ndarray,
        grad: np.ndarray,
        touched: TouchedRows,
        targets: np.ndarray,
        accumulate: bool,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> float: ...
    def predict(
        self,
        ws: Workspace,
        theta: np.ndarray,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray: ...
    def decode(
        self,
        ws: Workspace,
        theta: np.ndarray,
        top: int,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def sizes(self) -> tuple[int, int]: ...
