from typing import Any

import numpy as np

from rnncore._core.heads import Head
from rnncore._core.run import Workspace

def same_bytes(a: np.ndarray, b: np.ndarray) -> bool: ...

class Stepper:
    @property
    def batch_size(self) -> int: ...
    def __init__(
        self,
        dense: Workspace | None,
        symbols: Workspace | None,
        head: Head | None,
        state: list[np.ndarray] | None,
        batch_size: int,
        inputs: int,
        width: int,
        itemsize: int,
        threads: int,
    ) -> None: ...
    def step(self, x_t: Any, out: np.ndarray | None = None) -> np.ndarray: ...
    def _run(
        self,
        dense: bool,
        x: np.ndarray,
        lengths: np.ndarray | None,
        out: np.ndarray | None,
        ids: np.ndarray | None = None,
        values: np.ndarray | None = None,
    ) -> np.ndarray: ...
    def _get_state(self) -> list[np.ndarray]: ...
    def _set_state(self, arrays: list[np.ndarray]) -> None: ...
    def _reset(self, rows: Any) -> None: ...
    def _move_to(self, dense: Workspace | None, symbols: Workspace | None, head: Head | None) -> None: ...
