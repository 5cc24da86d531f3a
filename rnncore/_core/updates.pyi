from typing import Any

RULES: dict[str, int]

class Updater:
    theta: Any
    grad: Any
    size: int
    def __init__(self, rule: str, theta: Any, grad: Any, *slots: Any) -> None: ...
    @property
    def worth_threads(self) -> bool: ...
    def step(
        self,
        ranges: Any,
        rate: float,
        decay: float,
        keep: float,
        a: float,
        b: float,
        c: float,
        eps: float,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        n_threads: int = 1,
        groups: Any = None,
        measured: tuple[float, float, float] | None = None,
    ) -> float | None: ...
    def measure(
        self,
        ranges: Any,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        n_threads: int = 1,
        exact: bool = False,
    ) -> tuple[float, float, float]: ...

def joined(measured: Any) -> tuple[float, float, float]: ...
