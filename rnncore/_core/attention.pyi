import numpy as np

from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule

class Attention:
    def __init__(
        self,
        itemsize: int,
        widths: tuple[int, int, int],
        W: int,
        W_c: int,
        factor: float,
        causal: bool,
        mixed: bool = False,
    ) -> None: ...
    def forward(
        self,
        theta: np.ndarray,
        schedule: Schedule,
        q: np.ndarray,
        memory_schedule: Schedule | None,
        m: np.ndarray | None,
        threads: int,
        training: bool,
        out: np.ndarray | None = None,
    ) -> np.ndarray: ...
    def backward(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        dout: np.ndarray,
        accumulate: bool,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]: ...
    def weights(self, dtype: np.dtype) -> np.ndarray: ...
    def attend(
        self,
        ws: Workspace,
        theta: np.ndarray,
        training: bool,
        memory_schedule: Schedule | None = None,
        m: np.ndarray | None = None,
    ) -> None: ...
    def attend_back(self, ws: Workspace, theta: np.ndarray, grad: np.ndarray, accumulate: bool) -> None: ...
    def memory_gradient(self, dtype: np.dtype) -> np.ndarray: ...
    def sizes(self) -> tuple[int, int]: ...
