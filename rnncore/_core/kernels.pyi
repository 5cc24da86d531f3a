from typing import TypedDict

import numpy as np

class _Config(TypedDict):
    isa: str
    isa_available: list[str]
    gemm: str
    threads: str

MAX_THREADS: int

def levels() -> list[str]: ...
def config() -> _Config: ...
def vector_length(itemsize: int) -> int: ...
def apply(name: str, x: np.ndarray) -> np.ndarray: ...
def peak(dtype: str, seconds: float = 0.2, n_threads: int = 1) -> float: ...
