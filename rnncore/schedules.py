"""Learning-rate schedules: the public door to `rnncore.optim.schedules`."""

from rnncore.optim.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    HalveOnPlateau,
    Linear,
    Schedule,
    Step,
)

__all__ = ["SCHEDULES", "Constant", "Cosine", "Exponential", "HalveOnPlateau", "Linear", "Schedule", "Step"]
