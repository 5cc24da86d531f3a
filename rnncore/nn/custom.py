"""A head whose loss is a user's own, in Python."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks
from rnncore.nn.heads import Head

_FIXED = frozenset({"outputs", "project", "pooling"})


class CustomHead(Head):
    """A projection with a loss of your own: write a class on it with ``loss_and_grad``.

    Parameters
    ----------
    outputs, project, pooling
        As of any head, see `rnncore.heads.Head`. Give what else the loss needs to a constructor of your own.

    Examples
    --------
    Huber's loss, which outliers among the targets do little to:

    >>> import numpy as np, rnncore as rc
    >>> class Huber(rc.CustomHead):
    ...     def loss_and_grad(self, scores, targets, lengths):
    ...         real = np.ones(scores.shape[:2], bool)
    ...         if lengths is not None:
    ...             real = np.arange(len(scores))[:, None] < lengths
    ...         error = np.where(real[..., None], scores - targets, 0)
    ...         small = abs(error) < 1
    ...         loss = np.where(small, error**2 / 2, abs(error) - 0.5).sum() / real.sum()
    ...         return loss, np.where(small, error, np.sign(error)) / real.sum()
    >>> net = rc.Network(rc.Recurrent("elman", 2, 8), head=Huber(1))
    >>> x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype("float32")
    >>> optimizer = rc.Adam(0.05)
    >>> losses = [net.train_step(x, x[..., :1], optimizer) for _ in range(50)]
    >>> losses[-1] < 0.1 * losses[0]
    True
    """

    name: ClassVar[str] = "custom"
    kernel: ClassVar[int] = 4

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(f"{name} of a {type(self).__name__} is fixed when it is built: build a new one")
        object.__setattr__(self, name, value)

    def loss_and_grad(self, scores: np.ndarray, targets: Any, lengths: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Return the mean loss of a batch and its gradient by the scores.

        With a fourth parameter ``sample_weight`` it is given that, too.

        Parameters
        ----------
        scores : array (T, B, K), or (B, K) where the outputs are pooled
            A copy; zero past a sequence's end.
        targets
            What ``loss_and_grad`` or ``train_step`` of the network was given.
        lengths : int64 array (B,) or None
            None: all sequences have T steps.

        Returns
        -------
        loss : float
        gradient : array of the scores' shape
            What lies past a sequence's end does not count.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method loss_and_grad(self, scores, targets, lengths)")

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Return what ``Network.predict`` gives for scores, of the same shape: here the scores."""
        return scores

    def weight(self, scores_shape: tuple[int, ...], targets: Any, lengths: np.ndarray | None) -> float:
        """Return what the sum of a batch's losses is divided by to give the mean: here the number of outputs."""
        if len(scores_shape) == 2:
            return float(scores_shape[0])
        return float(scores_shape[0] * scores_shape[1] if lengths is None else lengths.sum())

    def check_targets(
        self, targets: Any, shape: tuple[int, ...], lengths: np.ndarray | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return the targets as they are: what they may be is the head's own affair."""
        found: np.ndarray = targets
        return found


def weight_of(head: CustomHead, shape: tuple[int, ...], targets: Any, lengths: Any) -> float:
    """Ask a user's head what the losses of outputs (T, B) or (B,) are divided by."""
    sizes = None if lengths is None else _checks.array(lengths, "lengths")
    return float(head.weight((*shape, head.outputs), targets, sizes))


def called(
    head: CustomHead, scores: np.ndarray, targets: Any, lengths: np.ndarray | None, weights: np.ndarray | None
) -> tuple[float, np.ndarray]:
    """Call a user's loss and return what came of it, checked."""
    shape, dtype = scores.shape, scores.dtype
    arguments: list[Any] = [scores, targets, lengths]
    if weights is not None:
        if "sample_weight" not in inspect.signature(head.loss_and_grad).parameters:
            raise ValueError(
                f"sample_weight was given, and {type(head).__name__}.loss_and_grad has no parameter of that name"
            )
        arguments.append(weights)
    found = head.loss_and_grad(*arguments)
    wanted = f"{type(head).__name__}.loss_and_grad must return the loss and its gradient, an array {shape}"
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"{wanted}; got {type(found).__name__}")
    try:
        loss, gradient = float(found[0]), np.asarray(found[1])
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{wanted}; got {problem}") from None
    if gradient.shape != shape or gradient.dtype.kind not in "fiub":
        raise ValueError(f"{wanted}; got {gradient.dtype} of shape {gradient.shape}")
    return loss, np.ascontiguousarray(gradient, dtype=dtype)


def predicted(head: CustomHead, scores: np.ndarray, lengths: np.ndarray | None, out: np.ndarray | None) -> np.ndarray:
    """Call a user's predict and return what came of it, checked; zero past a sequence's end, as of any head."""
    found = np.asarray(head.predict(scores))
    if found.shape != scores.shape:
        raise ValueError(f"{type(head).__name__}.predict must return an array {scores.shape}, got {found.shape}")
    found = np.ascontiguousarray(found, dtype=scores.dtype)
    if lengths is not None and found.ndim == 3:
        found = np.where((np.arange(len(found))[:, None] < lengths)[..., None], found, found.dtype.type(0))
    if out is None:
        return found
    out[...] = found
    return out
