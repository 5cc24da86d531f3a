import numpy as np

class HeldMemory:
    def __init__(self, keys: np.ndarray, memory: np.ndarray, steps: np.ndarray, factor: float) -> None: ...
    def attend(
        self, q: np.ndarray, owner: np.ndarray, threads: int, want_weights: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]: ...
