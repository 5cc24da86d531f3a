import numpy as np

def scores_of(
    theta: np.ndarray, first: np.ndarray, symbols: np.ndarray, starts: np.ndarray, epsilon: float, threads: int
) -> np.ndarray: ...
def traces_of(
    theta: np.ndarray, first: np.ndarray, symbols: np.ndarray, starts: np.ndarray, epsilon: float, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
def learn_from(
    theta: np.ndarray,
    first: np.ndarray,
    symbols: np.ndarray,
    starts: np.ndarray,
    legal: np.ndarray,
    weight: np.ndarray,
    epsilon: float,
    exact: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]: ...
