"""Heads: a dense projection of the outputs and a loss, in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks

READOUTS = ("every", "last", "mean", "max")


@dataclass(frozen=True)
class Head:
    """What all heads have: K outputs, s = z·W_hy + b_y, and a loss on s.

    Parameters
    ----------
    outputs : int
        K: classes, or numbers per output.
    """

    outputs: int
    name: ClassVar[str] = ""
    kernel: ClassVar[int] = 0  # its number among the compiled losses

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", _checks.whole(self.outputs, "outputs"))

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters: name -> shape."""
        return {"W_hy": (inputs, self.outputs), "b_y": (self.outputs,)}

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return targets for outputs of the given shape, (T, B) or (B,), ready for the kernels."""
        return _checks.values(targets, (*shape, self.outputs), dtype)

    def weights(self, dtype: np.dtype) -> np.ndarray | None:
        """Return class weights as an array of the net's precision, or None."""
        return None

    @property
    def smoothing(self) -> float:
        """Label smoothing."""
        return 0.0


@dataclass(frozen=True)
class Softmax(Head):
    """Softmax cross-entropy, in nats per counted target.

    L = -Σ_k q_k w_k log p_k with p = softmax(s) and q = (1-ε)·onehot(target) + ε/K; the mean is over counted targets,
    weighted by the targets' class weights.

    Parameters
    ----------
    outputs : int
        K, the number of classes.
    class_weight : sequence of K floats, optional
        w: how much each class counts, at least 0.
    label_smoothing : float
        ε in [0, 1).

    Raises
    ------
    ValueError
        For weights of the wrong number or sign, or a smoothing outside [0, 1).

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.Softmax(3, label_smoothing=0.1).outputs
    3
    """

    class_weight: Sequence[float] | None = None
    label_smoothing: float = 0.0
    name: ClassVar[str] = "softmax"
    kernel: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.rate(self.label_smoothing, "label_smoothing")
        if self.class_weight is not None:
            weights = _checks.array(self.class_weight, "class_weight").astype(float)
            if weights.shape != (self.outputs,) or not np.isfinite(weights).all() or weights.min() < 0:
                raise ValueError(
                    f"class_weight must be {self.outputs} finite numbers of at least 0, one per class; "
                    f"got {self.class_weight!r}"
                )
            object.__setattr__(self, "class_weight", tuple(weights.tolist()))

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return classes of the given shape as int64; -1 is ignored."""
        return _checks.targets(targets, shape, self.outputs, lengths)

    def weights(self, dtype: np.dtype) -> np.ndarray | None:
        """Return the class weights as an array of the net's precision, or None."""
        return None if self.class_weight is None else np.array(self.class_weight, dtype=dtype)

    @property
    def smoothing(self) -> float:
        """Label smoothing."""
        return float(self.label_smoothing)


@dataclass(frozen=True)
class SquaredError(Head):
    """Squared error: mean over outputs of Σ_k (s_k - t_k)²; predictions are the values s.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.SquaredError(2).name
    'squared'
    """

    name: ClassVar[str] = "squared"
    kernel: ClassVar[int] = 1


@dataclass(frozen=True)
class SigmoidCrossEntropy(Head):
    """Sigmoid cross-entropy for K yes/no targets in [0, 1]: mean over outputs of the sum over k, in nats.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.SigmoidCrossEntropy(2).name
    'sigmoid'
    """

    name: ClassVar[str] = "sigmoid"
    kernel: ClassVar[int] = 2

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return targets in [0, 1], of the given shape and K."""
        found = super().check_targets(targets, shape, lengths, dtype)
        if found.min() < 0 or found.max() > 1:
            raise ValueError(
                f"targets of a sigmoid head must lie in [0, 1], got values from {found.min()} to {found.max()}"
            )
        return found


#: every head by name
HEADS: Mapping[str, type[Head]] = {head.name: head for head in (Softmax, SquaredError, SigmoidCrossEntropy)}
