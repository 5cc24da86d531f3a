import numpy as np

from rnncore._core.run import Workspace

def read(space: Workspace) -> dict[str, np.ndarray]: ...
