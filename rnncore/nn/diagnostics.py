"""Two questions: is the gradient right, and does it survive the way back?  Answers in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.nn import order
from rnncore.nn.attention import Attention
from rnncore.nn.encoder_decoder import EncoderDecoder
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent, cell_options


def gradcheck(
    net: Network | EncoderDecoder | Recurrent | Attention,
    x: Any,
    targets: Any = None,
    lengths: Any = None,
    state: Any = None,
    step: float = 1e-5,
    samples: int | None = None,
    random_state: int = 0,
    feedback: Any = None,
    dy: Any = None,
    memory: Any = None,
    memory_lengths: Any = None,
) -> dict[str, float]:
    """Compare the gradient of a network, a bare layer or attention with central differences, in float64.

    Parameters
    ----------
    net : Network, EncoderDecoder, Recurrent or Attention
        Checked on a float64 copy; it is not changed. Dropout masks are held fixed.
    x, targets, lengths, state
        As for ``Network.loss_and_grad``. A layer has no targets; an attention's queries are x.
    step : float
        ε of (L(θ+ε) - L(θ-ε)) / 2ε.
    samples : int, optional
        Check only this many randomly chosen numbers of each parameter.
    random_state : int
        Seed of the choice, and of `dy`.
    feedback
        As for ``Network.loss_and_grad``.
    dy : array (T, B, F), optional
        For a layer or attention: its loss is the sum of dy times the outputs. Random numbers without.
    memory, memory_lengths
        As for ``Attention.forward``.

    Returns
    -------
    dict of str to float
        Per parameter, the largest |analytic - numeric| / max(|analytic| + |numeric|, 1e-4 of the largest gradient). Of
        a layer also for ``x``, where it is numbers, and for each given state, as ``state.h``; of an attention for ``x``
        and ``memory``. Differences mean nothing at the kink of a ReLU.

    Raises
    ------
    ValueError
        For targets of a layer, dy of a network, and arrays that do not fit.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 3, 4), head=rc.Softmax(2))
    >>> x = np.random.default_rng(0).normal(size=(5, 2, 3))
    >>> max(rc.gradcheck(net, x, np.zeros((5, 2), int)).values()) < 1e-6
    True
    >>> sorted(rc.gradcheck(rc.Recurrent("elman", 3, 4), x))
    ['layers.0.fwd.W_hh', 'layers.0.fwd.W_xh', 'layers.0.fwd.b_h', 'x']
    """
    if not isinstance(net, (Network, EncoderDecoder, Recurrent, Attention)):
        raise ValueError(
            f"gradcheck needs a Network, an EncoderDecoder, a Recurrent layer or an Attention, got {type(net).__name__}"
        )
    if not isinstance(net, Attention) and (memory is not None or memory_lengths is not None):
        raise ValueError(f"a {type(net).__name__} has no memory: leave out memory and memory_lengths")
    twin: Any = net.copy("float64")
    if not isinstance(x, tuple | dict):
        x = _checks.array(x, "x")
        is_ids = x.dtype.kind in "iu" and not isinstance(net, Attention)
        x = x if is_ids else np.array(x, dtype=np.float64, order="C")  # our own: it is moved
    rng = np.random.default_rng(random_state)
    if not isinstance(net, (Network, EncoderDecoder)) and targets is not None:
        raise ValueError("a layer has no targets: give the gradient of its outputs as dy=, or nothing")
    if isinstance(net, Attention):
        if state is not None or feedback is not None:
            raise ValueError("attention has neither state nor feedback: leave them out")
        if memory is not None:
            memory = np.array(_checks.array(memory, "memory"), dtype=np.float64, order="C")
        loss, checked = _of_attention(twin, x, memory, lengths, memory_lengths, dy, rng)
    elif isinstance(net, Recurrent):
        loss, checked = _of_layer(twin, x, lengths, state, feedback, dy, rng)
    else:
        if dy is not None:
            raise ValueError("a network has its own loss: leave out dy")
        if isinstance(net, EncoderDecoder) and (state is not None or feedback is not None):
            raise ValueError("an EncoderDecoder makes its own state: leave out state and feedback")
        loss, checked = _of_network(twin, x, targets, lengths, state, feedback)
    scale = max(float(np.abs(gradient).max(initial=0)) for _, _, gradient in checked)
    return {name: _worst(loss, moved, own, scale, step, samples, rng) for name, moved, own in checked}


Checked = list[tuple[str, np.ndarray, np.ndarray]]  # what is moved: its name, its numbers, their gradient


def _of_network(
    net: Network | EncoderDecoder, x: Any, targets: Any, lengths: Any, state: Any, feedback: Any
) -> tuple[Any, Checked]:
    """Return a network's loss as a function of its parameters, and these."""
    start = net.dropout_step

    def loss() -> float:
        net.dropout_step = start
        if isinstance(net, EncoderDecoder):
            return net.loss_and_grad(x, targets, lengths)
        return net.loss_and_grad(x, targets, lengths, state, feedback=feedback)

    loss()
    return loss, _parameters(net)


def _of_layer(
    layer: Recurrent, x: Any, lengths: Any, state: Any, feedback: Any, dy: Any, rng: np.random.Generator
) -> tuple[Any, Checked]:
    """Return Σ dy·y as a function of parameters, dense x and given states, and these."""
    start, dense = layer.dropout_step, x.dtype.kind == "f"
    if state is not None:
        state = tuple(
            np.array(part)
            for part in layer.check_state(state, x.shape[0 if layer.batch_first else 1] if x.ndim > 1 else 0)
        )

    def outputs() -> np.ndarray:
        layer.dropout_step = start
        return layer.forward(x, state, lengths, feedback=feedback)[0]

    shape = outputs().shape
    dy = rng.standard_normal(shape) if dy is None else _checks.output_gradient(dy, shape, layer.dtype)
    layer.zero_grad()
    dx, dstate = layer.backward(dy)
    checked = _parameters(layer)
    if dense:
        checked.append(("x", x, np.asarray(dx)))
    if state is not None and dstate is not None:
        names = [f"state.{name}" for name in layer.state_widths]
        checked += zip(names, state, dstate, strict=True)
    return lambda: float((dy * outputs()).sum()), checked


def _of_attention(
    attention: Attention, x: Any, memory: Any, lengths: Any, memory_lengths: Any, dy: Any, rng: np.random.Generator
) -> tuple[Any, Checked]:
    """Return Σ dy·h as a function of parameters, queries and memory, and these."""

    def outputs() -> np.ndarray:
        return attention.forward(x, memory, lengths, memory_lengths)

    shape = outputs().shape
    dy = rng.standard_normal(shape) if dy is None else _checks.output_gradient(dy, shape, attention.dtype)
    attention.zero_grad()
    dx, dmemory = attention.backward(dy)
    checked = [*_parameters(attention), ("x", x, dx)]
    if dmemory is not None:
        checked.append(("memory", memory, dmemory))
    return lambda: float((dy * outputs()).sum()), checked


def _parameters(twin: Any) -> Checked:
    return [(name, view, twin.grads[name].copy()) for name, view in twin.params.items()]


def _worst(
    loss: Callable[[], float],
    moved: np.ndarray,
    analytic: np.ndarray,
    scale: float,
    step: float,
    samples: int | None,
    rng: np.random.Generator,
) -> float:
    """Return the largest relative error of a gradient; `moved` is moved in place."""
    errors = [0.0]
    for i in _chosen(moved.size, samples, rng):
        at = np.unravel_index(i, moved.shape)
        kept = moved[at]
        moved[at] = kept + step
        above = loss()
        moved[at] = kept - step
        below = loss()
        moved[at] = kept
        numeric = (above - below) / (2 * step)
        floor = max(abs(analytic[at]) + abs(numeric), 1e-4 * scale, 1e-12)
        errors.append(abs(analytic[at] - numeric) / floor)
    return float(max(errors))


def _chosen(size: int, samples: int | None, rng: np.random.Generator) -> Iterator[int]:
    yield from range(size) if samples is None or samples >= size else rng.choice(size, samples, replace=False)


def state_jacobian_norms(layer: Recurrent | Network, x: Any, state: Any = None) -> np.ndarray:
    """How much of a change of the state at each step is left at the end: the spectral norm of dh_T/dh_t.

    Norms that shrink with T - t are the vanishing gradient, norms that grow the exploding one (Hochreiter 1991;
    Pascanu, Mikolov, Bengio 2013). For an Elman layer: ||dh_T/dh_t|| <= (σ_max(W_hh)·max|f'|)^(T-t). A cell of several
    states, such as h and c of an LSTM, is taken with all of them side by side. Dropout and zoneout are left out.

    Parameters
    ----------
    layer : Recurrent or Network
        One layer, running forward in time, or a network of one.
    x : array (T, B, D), or ids (T, B)
    state : tuple of arrays (1, B, width), optional

    Returns
    -------
    array (T, B), or (B, T) of a layer with ``batch_first``
        Entry t for dh_T/dh_t; the last row is 1.

    Raises
    ------
    ValueError
        For more than one layer or a reverse direction, and arrays that do not fit.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> layer = rc.Recurrent("elman", 2, 8)
    >>> norms = rc.state_jacobian_norms(layer, np.zeros((20, 1, 2), dtype="float32"))
    >>> norms.shape, bool(norms[0, 0] < norms[-1, 0])
    ((20, 1), True)
    """
    if isinstance(layer, Network):
        layer, x = _only_layer(layer, x)
    if layer.num_layers > 1 or layer.bidirectional or layer.reverse:
        raise ValueError("state_jacobian_norms needs one layer that runs forward in time")
    if layer.batch_first:
        x = order.time_first(x, "x")
    options = {
        "batch_first": False,
        "truncate": None,
        "recurrent_dropout": 0.0,
        "input_dropout": 0.0,
        "output_dropout": 0.0,
        "zoneout": 0.0,
    }
    twin = Recurrent(**{**cell_options(layer), **options}, dtype="float64")
    twin.theta[...] = layer.theta
    _, x, _ = twin.check_input(x, None)
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
    return order.batch_first(norms) if layer.batch_first else norms


def _only_layer(net: Network, x: Any) -> tuple[Recurrent, Any]:
    """Return the one layer of a network, and what comes to it."""
    if len(net.layers) > 1:
        raise ValueError("state_jacobian_norms needs one layer that runs forward in time: give one of net.layers")
    x, _, _ = _checks.skip_input(order.time_first(x, "x") if net.batch_first else x, net.skip)
    if net.embedding is None:
        return net.layers[0], x
    _, ids, _ = net._check_input(x, None)
    bags = ids if ids.ndim == 3 else ids[..., None]
    rows = np.where(bags[..., None] >= 0, net.params["embedding.E"][bags], 0)
    return net.layers[0], rows.sum(axis=2)
