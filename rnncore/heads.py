"""Heads, losses and constraints: the public door to `rnncore.nn.heads`."""

from rnncore.nn.heads import (
    CRF,
    HEADS,
    READOUTS,
    Constraints,
    Head,
    SigmoidCrossEntropy,
    Softmax,
    SquaredError,
    bio_constraints,
)

__all__ = [
    "CRF",
    "HEADS",
    "READOUTS",
    "Constraints",
    "Head",
    "SigmoidCrossEntropy",
    "Softmax",
    "SquaredError",
    "bio_constraints",
]
