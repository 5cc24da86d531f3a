"""The loss of a network on data that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rnncore.nn.custom import CustomHead, weight_of
from rnncore.nn.scoring import LIKELY
from rnncore.train.batches import Batch, GivenBatches, SequenceBatches
from rnncore.train.streams import Stream

__all__ = ["Validation", "batch_weight", "validation_of"]


def batch_weight(network: Any, targets: Any, lengths: Any, x: Any) -> float:
    """Return what a batch's loss was divided by, which is how much it counts in the mean of several."""
    head = getattr(network, "head", None)
    if isinstance(head, CustomHead):  # its targets may be anything
        return weight_of(head, network.outputs[0].shape(*network.batch_shape(x)), targets, lengths)
    if not isinstance(targets, dict):
        return float(network.batch_weight(targets, lengths))
    steps, sequences = network.batch_shape(x)  # of several heads, each loss is a mean of its own
    return float(steps * sequences if lengths is None else np.sum(lengths))


def _of_classes(p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).tiny
    if targets.ndim == p.ndim:  # probabilities
        return -(targets * np.log(np.maximum(p.astype(np.float64), tiny))).sum(axis=-1)
    right = np.take_along_axis(p, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return -np.log(np.maximum(right.astype(np.float64), tiny))


def _of_flags(p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).tiny
    p = p.astype(np.float64)
    return -(targets * np.log(np.maximum(p, tiny)) + (1 - targets) * np.log(np.maximum(1 - p, tiny))).sum(axis=-1)


def _of_numbers(found: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return ((found.astype(np.float64) - targets) ** 2).sum(axis=-1)


_LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "softmax": _of_classes,
    "adaptive": _of_classes,
    "sampled": _of_classes,
    "crf": _of_classes,
    "sigmoid": _of_flags,
    "squared": _of_numbers,
}


def validation_of(network: Any, batches: Any, carry: bool) -> Callable[[], dict[str, float]]:
    """Return what measures a network on batches that it does not learn from."""
    if hasattr(network, "log_probabilities"):  # an EncoderDecoder
        return partial(written_loss, network, batches)
    return Validation(network, batches, carry)


def written_loss(network: Any, batches: SequenceBatches | GivenBatches | Stream) -> dict[str, float]:
    """Measure a network that writes: its mean loss in nats per symbol, the end counted."""
    total = counted = 0.0
    for batch in batches.epoch(1, np.random.default_rng(0), 0):
        found = network.log_probabilities(batch.x, batch.targets, batch.lengths)
        symbols = (np.asarray(batch.targets) >= 0).sum(axis=1) + 1
        weights = np.ones(len(found)) if batch.sample_weight is None else np.asarray(batch.sample_weight)
        total -= float((found.sum(axis=1) * weights).sum())
        counted += float((symbols * weights).sum())
    loss = total / (counted or 1.0)
    return {"val_loss": loss, "val_score": -loss}


class Validation:
    """Measures ``val_loss``, the mean loss of what ``predict`` gives, and ``val_score``, its negative.

    Of softmax heads alone the probabilities of the targets are asked for, not those of all classes. Of a CRF it is that
    of the marginal probabilities; class weights and smoothing do not count, sample weights do.

    Parameters
    ----------
    network : Network
    batches : SequenceBatches, GivenBatches or Stream
    carry : bool
        Whether a batch goes on with the state of the one before.
    """

    def __init__(self, network: Any, batches: SequenceBatches | GivenBatches | Stream, carry: bool) -> None:
        self.likely = all(head.name in LIKELY for head in network.heads.values())
        for head in network.heads.values():
            if head.name not in _LOSSES and not self.likely:
                raise ValueError(
                    f"validation measures {', '.join(_LOSSES)} heads, not {head.name}: give a function that "
                    "measures as validate="
                )
        self.network = network
        self.batches = batches
        self.carry = carry

    def __call__(self) -> dict[str, float]:
        """Measure the network as it is now."""
        several = self.network.head is None
        outputs = self.network.outputs
        total, counted = np.zeros(len(outputs)), np.zeros(len(outputs))
        state = None
        for batch in self.batches.epoch(1, np.random.default_rng(0), 0):
            if self.likely:
                arguments = (batch.x, batch.targets, batch.lengths, state)
                found, state = self.network.log_likelihood(*arguments, return_state=True)
            else:
                found, state = self.network.predict(batch.x, batch.lengths, state, return_state=True)
            state = state if self.carry else None
            for n, part in enumerate(outputs):
                targets = batch.targets.get(part.name) if several else batch.targets
                if targets is not None:
                    predicted = found[part.name] if several else found
                    losses, weights = self._losses(part.head.name, predicted, np.asarray(targets), batch)
                    total[n] += float((losses * weights).sum())
                    counted[n] += float(weights.sum())
        means = total / np.where(counted > 0, counted, 1.0)
        loss = float(sum(part.factor * mean for part, mean in zip(outputs, means, strict=True)))
        record = {"val_loss": loss, "val_score": -loss}
        if several:
            record |= {f"val_loss_{part.name}": float(mean) for part, mean in zip(outputs, means, strict=True)}
        return record

    def _losses(self, head: str, found: np.ndarray, targets: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss at every place, and how much it counts."""
        losses = -found if self.likely else _LOSSES[head](found, targets)
        weights = np.ones(losses.shape)
        of_classes = _LOSSES.get(head) is _of_classes
        if of_classes and targets.ndim > losses.ndim:  # probabilities
            weights = targets.sum(axis=-1, dtype=np.float64)
            losses = losses / np.where(weights > 0, weights, 1.0)
        elif of_classes:
            weights[targets == -1] = 0
        if self.network.batch_first and losses.ndim == 2:
            losses, weights = losses.T, weights.T
        if losses.ndim == 2 and batch.lengths is not None:
            weights[np.arange(len(losses))[:, None] >= np.asarray(batch.lengths)] = 0
            losses = np.where(weights, losses, 0)  # past an end anything may stand
        if batch.sample_weight is None:
            return losses, weights
        given = np.asarray(batch.sample_weight)
        return losses, weights * (given.T if self.network.batch_first and given.ndim == 2 else given)
