import numpy as np

from rnncore._core.memory import Saved
from rnncore._core.plan import Plan
from rnncore._core.schedule import Schedule
from rnncore._core.weights import Weights
from rnncore.nn.touched import TouchedRows

class Workspace:
    shows_gates: bool
    @property
    def plan(self) -> Plan: ...
    @property
    def weights(self) -> Weights: ...
    def __init__(self, plan: Plan, weights: Weights | None = None) -> None: ...
    def forward(
        self,
        theta: np.ndarray,
        schedule: Schedule,
        x: np.ndarray,
        state: list[np.ndarray] | None,
        saved: Saved | None,
        threads: int,
        seed: int,
        drop_step: int,
        feedback: np.ndarray | None = None,
        want_y: bool = False,
        out: np.ndarray | None = None,
        share_y: bool = True,
    ) -> np.ndarray: ...
    def final_states(self) -> list[np.ndarray]: ...
    def release(self) -> None: ...
    def backward(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        saved: Saved,
        dy: np.ndarray | None,
        dstate: list[np.ndarray] | None,
        accumulate: bool,
        want_dx: bool = False,
        consume: bool = True,
        touched: TouchedRows | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray | None, list[np.ndarray] | None]: ...
    def clear_symbols(self, touched: TouchedRows, accumulate: bool) -> None: ...
    def sizes(self) -> tuple[int, int]: ...
