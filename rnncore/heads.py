"""Heads, losses and constraints: the public door to `rnncore.nn.heads`."""

from rnncore.nn.custom import CustomHead
from rnncore.nn.heads import (
    CRF,
    CTC,
    HEADS,
    POOLINGS,
    AdaptiveSoftmax,
    Constraints,
    Head,
    SampledSoftmax,
    SigmoidCrossEntropy,
    Softmax,
    SquaredError,
    bio_constraints,
)

__all__ = [
    "CRF",
    "CTC",
    "HEADS",
    "POOLINGS",
    "AdaptiveSoftmax",
    "Constraints",
    "CustomHead",
    "Head",
    "SampledSoftmax",
    "SigmoidCrossEntropy",
    "Softmax",
    "SquaredError",
    "bio_constraints",
]
