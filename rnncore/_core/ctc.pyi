import numpy as np

from rnncore._core.schedule import Schedule

def losses_of_scores(
    schedule: Schedule, scores: np.ndarray, targets: np.ndarray, gradient: np.ndarray | None, threads: int
) -> np.ndarray: ...

class Alignments:
    def sizes(self) -> tuple[int, int]: ...
