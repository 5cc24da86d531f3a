import numpy as np

from rnncore._core.memory import Saved
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore.nn.touched import TouchedRows

class Head:
    def __init__(
        self,
        itemsize: int,
        loss: int,
        pooling: int,
        widths: list[int],
        outputs: int,
        W_hy: int,
        b_y: int,
        class_weight: np.ndarray | None,
        label_smoothing: float,
        chain: tuple[int, int, int, np.ndarray | None] | None = None,
        skip: tuple[int, int] | None = None,
        attention: tuple[int, int, int, int] | None = None,
        tails: tuple[int, list[tuple[int, int, int, int, int]]] | None = None,
        tied: bool = False,
        sampled: bool = False,
        mixed: bool = False,
    ) -> None: ...
    def hold(self, theta: np.ndarray, shared: Head | None = None, storage: str = "float32") -> None: ...
    def carry(self, sequences: int, before: Head | None = None) -> None: ...
    def forget(self, rows: np.ndarray | None) -> None: ...
    def take_samples(self, ids: np.ndarray, logs: np.ndarray) -> None: ...
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
        divisor: float | None = None,
        factor: float = 1,
        first: bool = True,
        last: bool = True,
        want_dx: bool = False,
    ) -> float: ...
    def loss(
        self,
        ws: Workspace,
        theta: np.ndarray,
        targets: np.ndarray,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        factor: float = 1,
    ) -> float: ...
    def log_likelihood(
        self,
        ws: Workspace,
        theta: np.ndarray,
        targets: np.ndarray,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
    ) -> np.ndarray: ...
    def weight(self, schedule: Schedule, targets: np.ndarray) -> float: ...
    def forward(
        self,
        ws: Workspace,
        theta: np.ndarray,
        training: bool,
        skip_ids: np.ndarray | None = None,
        skip_values: np.ndarray | None = None,
    ) -> np.ndarray: ...
    def backward(
        self,
        ws: Workspace,
        saved: Saved,
        theta: np.ndarray,
        grad: np.ndarray,
        touched: TouchedRows,
        dscores: np.ndarray,
        accumulate: bool,
        first: bool,
        want_dx: bool,
    ) -> None: ...
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
