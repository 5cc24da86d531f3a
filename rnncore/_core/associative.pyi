import numpy as np

UPDATES: dict[str, int]

def recall(
    couplings: np.ndarray,
    states: np.ndarray,
    thresholds: np.ndarray,
    seeds: np.ndarray,
    *,
    update: str,
    scale: float,
    tie: float,
    beta: float,
    shuffled: bool,
    most_sweeps: int,
    record: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
def fields(couplings: np.ndarray, states: np.ndarray, threads: int) -> np.ndarray: ...
