import numpy as np

class Reservoir:
    def __init__(
        self,
        units: int,
        starts: np.ndarray | None,
        columns: np.ndarray | None,
        values: np.ndarray,
        activation: int,
        leak: float,
    ) -> None: ...
    def run(self, starts: np.ndarray, first: np.ndarray, drive: np.ndarray, threads: int) -> np.ndarray: ...
    def listen(
        self,
        state: np.ndarray,
        y: np.ndarray,
        given: np.ndarray,
        V: np.ndarray,
        A: np.ndarray,
        B: np.ndarray | None,
        C: np.ndarray | None,
        offset: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]: ...
