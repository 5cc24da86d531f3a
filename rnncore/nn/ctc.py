"""The loss of connectionist temporal classification on scores of any origin."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.ctc import losses_of_scores
from rnncore._core.schedule import Schedule
from rnncore.nn.heads import CTC


def loss_and_grad(
    scores: Any,
    targets: Any,
    lengths: Any = None,
    target_lengths: Any = None,
    gradient: bool = True,
    n_threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return each sequence's loss, and its gradient, for scores that no network of this library made.

    As the head `rnncore.CTC`: -log of the target's probability, summed over all its alignments with the steps (Graves,
    Fernández, Gomez and Schmidhuber 2006). Recursions are in double precision, and exact however far apart scores lie.

    Parameters
    ----------
    scores : array (T, B, K + 1) of float32 or float64
        Before softmax, the blank's the last. Probabilities' logarithms do as well: then the gradient is that of scores
        whose softmax they are.
    targets : array (B, L) of ints from 0 to K - 1
        -1 behind each one's end.
    lengths : array (B,) of ints, optional
        Steps of each sequence, in 1..T.
    target_lengths : array (B,) of ints, optional
        Symbols of each target, in 0..L; without, all before the first -1.
    gradient : bool
        Whether the gradient is wanted.
    n_threads : int, optional
        Threads; None: the general setting. Results do not depend on it.

    Returns
    -------
    losses : float64 array (B,)
        In nats.
    dscores : array (T, B, K + 1), or None
        Gradient of the sum of the losses, zero past a sequence's end.

    Raises
    ------
    ValueError
        For arrays that do not fit, and targets too long for their sequences, by number.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> losses, dscores = rc.ctc.loss_and_grad(np.zeros((2, 1, 3)), [[0]])
    >>> round(float(np.exp(-losses[0])) * 9), dscores.shape  # 0 0, 0 -, - 0: three of nine paths
    (3, (2, 1, 3))
    """
    given = _checks.array(scores, "scores")
    if given.ndim != 3 or 0 in given.shape[:2] or given.shape[2] < 2:
        raise ValueError(f"scores must be (T, B, K + 1), one symbol and the blank at least; got shape {given.shape}")
    dtype = np.dtype(np.float32 if given.dtype == np.float32 else np.float64)
    given = np.ascontiguousarray(given, dtype=dtype)
    steps, sequences, outputs = given.shape
    sizes = _checks.lengths(lengths, steps, sequences)
    if target_lengths is not None:
        targets = _checks.ended(targets, target_lengths)
    wanted = CTC(outputs - 1).check_targets(targets, (steps, sequences), sizes, dtype)
    dscores = np.zeros_like(given) if gradient else None
    schedule = Schedule(steps, sequences, sizes)
    losses = losses_of_scores(schedule, given, wanted, dscores, _threads.resolve(n_threads))
    return losses, dscores
