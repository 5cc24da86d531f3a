"""Two questions: is the gradient right, and does it survive the way back?  Answers in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent


def gradcheck(
    net: Network,
    x: Any,
    targets: Any,
    lengths: Any = None,
    state: Any = None,
    step: float = 1e-5,
    samples: int | None = None,
    random_state: int = 0,
    feedback: Any = None,
) -> dict[str, float]:
    """Compare a network's gradient with central differences, in float64.

    Parameters
    ----------
    net : Network
        Checked on a float64 copy; it is not changed. Dropout masks are held fixed.
    x, targets, lengths, state
        As for ``Network.loss_and_grad``.
    step : float
        ε of (L(θ+ε) - L(θ-ε)) / 2ε.
    samples : int, optional
        Check only this many randomly chosen numbers of each parameter.
    random_state : int
        Seed of the choice.
    feedback
        As for ``Network.loss_and_grad``.

    Returns
    -------
    dict of str to float
        Per parameter, the largest |analytic - numeric| / max(|analytic| + |numeric|, 1e-4 of the largest gradient).
        Differences mean nothing at the kink of a ReLU.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.Softmax(2))
    >>> x = np.random.default_rng(0).normal(size=(5, 2, 3))
    >>> max(rc.gradcheck(net, x, np.zeros((5, 2), int)).values()) < 1e-6
    True
    """
    twin = net.copy("float64")
    if not isinstance(x, tuple) and np.asarray(x).dtype.kind == "f":
        x = np.asarray(x, dtype=np.float64)
    start = twin.dropout_step

    def loss() -> float:
        twin.dropout_step = start
        return twin.loss_and_grad(x, targets, lengths, state, feedback=feedback)

    loss()
    analytic = twin.grad.copy()
    scale = np.abs(analytic).max()
    rng = np.random.default_rng(random_state)
    worst = {}
    for name, view in twin.params.items():
        first, size = twin.layout.starts[name], view.size
        chosen = np.arange(size) if samples is None or samples >= size else rng.choice(size, samples, replace=False)
        errors = [0.0]
        for i in first + chosen:
            kept = twin.theta[i]
            twin.theta[i] = kept + step
            above = loss()
            twin.theta[i] = kept - step
            below = loss()
            twin.theta[i] = kept
            numeric = (above - below) / (2 * step)
            floor = max(abs(analytic[i]) + abs(numeric), 1e-4 * scale, 1e-12)
            errors.append(abs(analytic[i] - numeric) / floor)
        worst[name] = float(max(errors))
    return worst


def state_jacobian_norms(layer: Recurrent, x: Any, state: Any = None) -> np.ndarray:
    """How much of a change of the state at each step is left at the end: the spectral norm of dh_T/dh_t.

    Norms that shrink with T - t are the vanishing gradient, norms that grow the exploding one (Hochreiter 1991;
    Pascanu, Mikolov, Bengio 2013). For an Elman layer: ||dh_T/dh_t|| <= (σ_max(W_hh)·max|f'|)^(T-t). A cell of several
    states, such as h and c of an LSTM, is taken with all of them side by side. Dropout and zoneout are left out.

    Parameters
    ----------
    layer : Recurrent
        One layer, running forward in time.
    x : array (T, B, D), or ids (T, B)
    state : tuple of arrays (1, B, width), optional

    Returns
    -------
    array (T, B)
        Entry t for dh_T/dh_t; the last row is 1.

    Raises
    ------
    ValueError
        For more than one layer or a reverse direction.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> layer = rc.Recurrent("elman", 2, 8)
    >>> norms = rc.state_jacobian_norms(layer, np.zeros((20, 1, 2), dtype="float32"))
    >>> norms.shape, bool(norms[0, 0] < norms[-1, 0])
    ((20, 1), True)
    """
    if layer.num_layers > 1 or layer.bidirectional or layer.reverse:
        raise ValueError("state_jacobian_norms needs one layer that runs forward in time")
    options = {"truncate": None, "recurrent_dropout": 0.0, "input_dropout": 0.0, "output_dropout": 0.0, "zoneout": 0.0}
    from rnncore.nn.recurrent import cell_options

    twin = Recurrent(**{**cell_options(layer), **options}, dtype="float64")
    twin.theta[...] = layer.theta
    x = np.asarray(x)
    x = x.astype(np.float64) if x.dtype.kind == "f" else x
    steps, sequences = x.shape[:2]
    widths = list(twin.state_widths.values())
    size = sum(widths)
    if state is None:
        state = tuple(np.zeros((1, sequences, width)) for width in widths)
    one_each = np.tile(np.eye(size), (sequences, 1))[None]
    wanted = tuple(np.split(one_each, np.cumsum(widths)[:-1], axis=2))
    nothing = np.zeros((1, sequences * size, twin.output_size))
    jacobians = []  # of each step, (B, S, S): row i is ds_i/ds_prev
    for t in range(steps):
        # every sequence S times, so that one backward pass gives all rows
        copies = tuple(np.repeat(np.asarray(part, dtype=np.float64), size, axis=1) for part in state)
        _, after = twin.forward(np.repeat(x[t : t + 1], size, axis=1), copies)
        _, dstate = twin.backward(nothing, wanted)
        assert dstate is not None
        jacobians.append(np.concatenate(dstate, axis=2)[0].reshape(sequences, size, size))
        state = tuple(part[:, ::size] for part in after)
    norms = np.ones((steps, sequences))
    product = np.broadcast_to(np.eye(size), (sequences, size, size))
    for t in range(steps - 2, -1, -1):
        product = product @ jacobians[t + 1]
        norms[t] = np.linalg.norm(product, ord=2, axis=(1, 2))
    return norms
