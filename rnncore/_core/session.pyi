from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore._core.heads import Head
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule

def same_bytes(a: np.ndarray, b: np.ndarray) -> bool: ...

class Stepper:
    @property
    def batch_size(self) -> int: ...
    def __init__(
        self,
        dense: Workspace | None,
        symbols: Workspace | None,
        heads: dict[str, Head],
        state: list[np.ndarray] | None,
        batch_size: int,
        inputs: int,
        width: int,
        itemsize: int,
        threads: int,
        plain: bool,
    ) -> None: ...
    def step(self, x_t: Any, out: Any = None) -> Any: ...
    def _run(
        self,
        dense: bool,
        x: np.ndarray,
        schedule: Schedule,
        results: Callable[[Workspace], Any] | None = None,
        out: np.ndarray | None = None,
    ) -> Any: ...
    def _get_state(self) -> list[np.ndarray]: ...
    def _set_state(self, arrays: list[np.ndarray]) -> None: ...
    def _reset(self, rows: Any) -> None: ...
    def _move_to(self, dense: Workspace | None, symbols: Workspace | None, heads: dict[str, Head]) -> None: ...
