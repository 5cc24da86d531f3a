import numpy as np

class Chain:
    def __init__(
        self, outputs: int, transitions: int, start: int, end: int, allowed: np.ndarray | None
    ) -> None: ...
    def sizes(self) -> tuple[int, int]: ...
