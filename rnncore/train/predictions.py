"""A network run over whole data, sequences of similar lengths together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnncore.data.sequences import Sequences, take_rows
from rnncore.train.batches import arranged

__all__ = [
    *("STEPS_AT_ONCE", "batches_to_predict", "decode", "decode_all", "decode_surely", "predict", "predict_all"),
    *("predict_sequences", "probabilities_of"),
]

STEPS_AT_ONCE = 8192


def predict(network: Any, data: Sequences, n_outputs: int, arrange: Callable[..., Any] | None = None) -> np.ndarray:
    """Run the network over all sequences; return its outputs at every step, (N, n_outputs), in the order of `data`."""
    outputs = np.empty((len(data.x), n_outputs), dtype=network.theta.dtype)
    for batch, at, rows, real in batches_to_predict(data, arrange):
        outputs[at[real]] = network.predict(batch, lengths=data.lengths[rows])[real]
    return outputs


def predict_sequences(
    network: Any, data: Sequences, n_outputs: int, arrange: Callable[..., Any] | None = None
) -> np.ndarray:
    """Run the network over all sequences; return its one output for each, (S, n_outputs)."""
    outputs = np.empty((len(data), n_outputs), dtype=network.theta.dtype)
    for batch, _, rows, _ in batches_to_predict(data, arrange):
        outputs[rows] = network.predict(batch, lengths=data.lengths[rows])
    return outputs


def decode(network: Any, data: Sequences, arrange: Callable[..., Any] | None = None) -> np.ndarray:
    """Return the most probable label of every step, (N,), in the order of `data`: a CRF's fit one another."""
    labels = np.empty(len(data.x), dtype=np.int64)
    for batch, at, rows, real in batches_to_predict(data, arrange):
        labels[at[real]] = network.decode(batch, lengths=data.lengths[rows])[0][real]
    return labels


def predict_all(network: Any, data: Sequences, arrange: Callable[..., Any] | None = None) -> dict[str, np.ndarray]:
    """Run a network of several heads; return each one's outputs by name, (N, K) or, with pooling, (S, K)."""
    found = {
        part.name: np.empty((_n_outputs(part, data), part.head.outputs), dtype=network.theta.dtype)
        for part in network.outputs
    }
    for batch, at, rows, real in batches_to_predict(data, arrange):
        _put(network, found, network.predict(batch, lengths=data.lengths[rows]), at, rows, real)
    return found


def decode_all(network: Any, data: Sequences, arrange: Callable[..., Any] | None = None) -> dict[str, np.ndarray]:
    """Run a network of several heads; return each one's most probable labels by name, (N,) or, with pooling, (S,)."""
    found = {part.name: np.empty(_n_outputs(part, data), dtype=np.int64) for part in network.outputs}
    for batch, at, rows, real in batches_to_predict(data, arrange):
        decoded = network.decode(batch, lengths=data.lengths[rows])
        _put(network, found, {name: paths for name, (paths, _) in decoded.items()}, at, rows, real)
    return found


def decode_surely(
    network: Any, data: Sequences, arrange: Callable[..., Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return each head's most probable labels as `decode_all` does, and how probable each is by itself.

    The layers run once. The name of a network's only head is empty.
    """
    labels = {part.name: np.empty(_n_outputs(part, data), dtype=np.int64) for part in network.outputs}
    sure = {name: np.empty(len(one), dtype=network.theta.dtype) for name, one in labels.items()}
    for batch, at, rows, real in batches_to_predict(data, arrange):
        found = network.decode(batch, lengths=data.lengths[rows], probabilities=True)
        found = {"": found} if network.head is not None else found
        best = {name: paths for name, (paths, _, _) in found.items()}
        _put(network, labels, best, at, rows, real)
        of_best = {name: _those_of(p, best[name]) for name, (_, _, p) in found.items()}
        _put(network, sure, of_best, at, rows, real)
    return labels, sure


def _those_of(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the probability of one class in each place; 0 where it is -1."""
    found: np.ndarray = np.take_along_axis(probabilities, np.maximum(classes, 0)[..., None], axis=-1)[..., 0]
    found[classes < 0] = 0.0
    return found


def _n_outputs(part: Any, data: Sequences) -> int:
    return len(data.x) if part.by_step else len(data)


def _put(
    network: Any, found: dict[str, np.ndarray], made: Any, at: np.ndarray, rows: np.ndarray, real: np.ndarray
) -> None:
    """Put what a batch gave in its places."""
    for part in network.outputs:
        if part.by_step:
            found[part.name][at[real]] = made[part.name][real]
        else:
            found[part.name][rows] = made[part.name]


def probabilities_of(
    network: Any, data: Sequences, classes: np.ndarray, arrange: Callable[..., Any] | None = None
) -> np.ndarray:
    """Return the probability of one class at every step, (N,), or of each sequence, (S,); 0 where the class is -1."""
    by_step = network.outputs[0].by_step
    found = np.empty(len(classes), dtype=network.theta.dtype)
    for batch, at, rows, real in batches_to_predict(data, arrange):
        places = at if by_step else rows
        one = _those_of(network.predict(batch, lengths=data.lengths[rows]), np.asarray(classes[places]))
        found[places[real] if by_step else places] = one[real] if by_step else one
    return found


def batches_to_predict(
    data: Sequences, arrange: Callable[..., Any] | None = None, steps: int = STEPS_AT_ONCE
) -> Iterator[tuple[Any, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield sequences of similar lengths, with about so many steps at a time.

    Yields
    ------
    batch, places, rows, real
        What the network takes, (T, B); where in `data` its steps are; which sequences; which steps are not past an end.
    """
    order = np.argsort(-data.lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(data.lengths[order[start]])
        rows = order[start : start + max(1, steps // longest)]
        start += len(rows)
        at = data.positions(rows)
        batch = arranged(take_rows(data.x, at), data.values_at(at), arrange)
        yield batch, at, rows, np.arange(longest)[:, None] < data.lengths[rows]
