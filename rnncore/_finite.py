"""What is said when a loss or a gradient is not finite, and the search for where that began.

The search costs several passes over the batch, on a copy of the network: it is made after the failure alone.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from rnncore import _checks

__all__ = ["NonFiniteError", "check_arrays", "explain", "find_in_arrays", "first"]

ADVICE = "try a lower learning rate or clip_norm (1.0, say), or look for such numbers in the input"


class NonFiniteError(FloatingPointError):
    """A loss or gradient is NaN or infinite, or a step would be; weights, slots and counters are as they were before.

    Attributes
    ----------
    what : str
        What is not finite: an input ("x", "targets", ...), a parameter, outputs of a layer, the loss, or a gradient.
    sequence, step : int or None
        The first bad place in the batch, where there is one.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> net = rc.Network(rc.Recurrent("elman", 2, 4), head=rc.Softmax(2))
    >>> x = np.zeros((5, 3, 2), dtype="float32")
    >>> x[4, 1, 0] = np.nan
    >>> try:
    ...     net.train_step(x, np.zeros((5, 3), int), rc.SGD())
    ... except rc.NonFiniteError as problem:
    ...     print(problem.what, problem.sequence, problem.step)
    x 1 4
    """

    def __init__(self, message: str, what: str = "", sequence: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.what, self.sequence, self.step = what, sequence, step


def first(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the first place, in the array's own order, of a number that is not finite; None if there is none."""
    if array.dtype.kind != "f" or not array.size:
        return None
    bad = ~np.isfinite(array)
    return tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape)) if bad.any() else None


def problem(
    what: str, value: float, sequence: int | None = None, step: int | None = None, where: str = ""
) -> NonFiniteError:
    """Return the error that names what is not finite."""
    found = "NaN" if math.isnan(value) else "infinity"
    if sequence is not None:
        where = f"sequence {sequence}" + ("" if step is None else f", step {step}") + (f", {where}" if where else "")
    place = f" ({where})" if where else ""
    return NonFiniteError(
        f"expected a finite loss and a finite gradient, got {found} in {what}{place}; nothing was changed: {ADVICE}",
        what,
        sequence,
        step,
    )


def too_large(what: str) -> NonFiniteError:
    """Return the error for a finite gradient whose step would not be finite."""
    return NonFiniteError(
        f"expected a step that stays finite, got one that overflows: {what} times the learning rate, or its square, is "
        f"beyond the largest number; nothing was changed: {ADVICE}",
        what,
    )


def check_arrays(named: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Raise for the first array that is not finite.

    Raises
    ------
    NonFiniteError
        With the array's name after `prefix` as `what`.
    """
    for name, array in named.items():
        at = first(array)
        if at is not None:
            raise problem(prefix + name, float(array[at]), where=f"at {list(at)}" if at else "")


def find_in_arrays(net: Any) -> NonFiniteError | None:
    """Look through the parameters of whatever an optimizer trains, then through the gradient it goes by."""
    try:
        check_arrays(getattr(net, "params", {"theta": net.theta}))
        check_arrays(_gradients(net), "the gradient of ")
    except NonFiniteError as error:
        return error
    return None


def largest_gradient(net: Any) -> str:
    """Name the parameter that has the largest number in its gradient."""
    grads = _gradients(net)
    return max((name for name in grads if grads[name].size), key=lambda name: float(np.abs(grads[name]).max()))


def _gradients(net: Any) -> dict[str, np.ndarray]:
    """Return the gradient of each parameter that is not frozen."""
    grads: Mapping[str, np.ndarray] = getattr(net, "grads", {"theta": net.grad})
    frozen = getattr(net, "frozen", ())
    return {name: grad for name, grad in grads.items() if name not in frozen}


def explain(
    net: Any, batch: Any, targets: Any, sample_weight: Any, loss: float, known: NonFiniteError
) -> NonFiniteError:
    """Look for what made a loss or its gradient not finite: in the batch, the parameters, the outputs, the loss.

    What is `known` stands where nothing before it is found.

    Parameters
    ----------
    net : Network
        As it was when the loss was taken: its `dropout_step` too. It is not changed.
    batch : rnncore.nn.network.Batch
        What the loss was taken of, time first.
    targets, sample_weight
        As given to ``loss_and_grad``, time first.
    loss : float
    """
    found = _in_batch(net, batch, targets)
    if found is not None:
        return found
    try:
        check_arrays(net.params)
    except NonFiniteError as error:
        return error
    if net.head is None or net.inputs is not None or net.head.name == "custom":
        bad = [f"the loss of {name}" for name, value in net.losses.items() if not math.isfinite(value)]
        return known if math.isfinite(loss) else problem((bad or ["the loss"])[0], loss)
    twin = copy.deepcopy(net)
    twin.__dict__["batch_first"] = False
    with np.errstate(all="ignore"):
        found = _in_outputs(twin, batch)
        if found is None and not math.isfinite(loss):
            found = _in_loss(twin, batch, targets, sample_weight, loss)
    return found or known


def _in_batch(net: Any, batch: Any, targets: Any) -> NonFiniteError | None:
    """Look through what may hold such numbers; weights and the targets of compiled losses have been checked."""
    for name, array in _given(net, batch, targets):
        if array is None:
            continue
        by_step = array.ndim > 1 and array.shape[:2] == (batch.steps, batch.sequences)
        if by_step and batch.sizes is not None:  # past a sequence's end anything may stand
            array = array.copy()
            array[np.arange(batch.steps)[:, None] >= batch.sizes] = 0
        at = first(array.swapaxes(0, 1) if by_step else array)
        if at is None:
            continue
        value = float(array[(at[1], at[0], *at[2:])] if by_step else array[at])
        if by_step or array.shape[:1] == (batch.sequences,):
            return problem(name, value, at[0], at[1] if by_step else None)
        return problem(name, value, where=f"at {list(at)}" if at else "")
    for array in batch.states or ():  # (layers, B, H)
        at = first(array)
        if at is not None:
            return problem("state", float(array[at]), at[1])
    return None


def _given(net: Any, batch: Any, targets: Any) -> Iterator[tuple[str, np.ndarray | None]]:
    """Yield the names and arrays of a batch."""
    if isinstance(batch.x, Mapping):
        named = isinstance(net.inputs, Mapping)
        for name, array in batch.x.items():
            array = array[-1] if isinstance(array, tuple) else array  # of features the values, which may be None
            yield (f"x[{name!r}]" if named else f"x[{name}]"), array
    else:
        yield "x", batch.x
    yield "the values of x", batch.values
    for output in net.outputs:
        if output.head.name == "custom":
            given = targets.get(output.name) if output.name else targets
            with contextlib.suppress(ValueError):  # it may be anything
                yield (f"targets[{output.name!r}]" if output.name else "targets"), _checks.array(given, "targets")
    yield "feedback", batch.feedback


def _in_outputs(net: Any, batch: Any) -> NonFiniteError | None:
    """Run layer by layer, without dropout."""
    x, states = batch.x, net.join_state(batch.states) if batch.states else None
    if net.embedding is not None:
        bags = x if x.ndim == 3 else x[..., None]
        x = np.where(bags[..., None] >= 0, net.params["embedding.E"][bags], 0).sum(axis=2)
    for n, layer in enumerate(net.layers):
        state = states if net.single or states is None else states[n]
        feedback = batch.feedback if n == len(net.layers) - 1 else None
        x, _ = layer.forward(x, state, lengths=batch.sizes, training=False, feedback=feedback)
        at = first(x.swapaxes(0, 1))
        if at is not None:
            return problem(f"the outputs of layer {n}", float(x[at[1], at[0], at[2]]), at[0], at[1])
    return None


def _in_loss(net: Any, batch: Any, targets: Any, sample_weight: Any, loss: float) -> NonFiniteError:
    """Halve the batch, in time and then in sequences, until the loss of all before is finite.

    Every sequence keeps its number and its steps, and with them its dropout.
    """
    steps, sequences = batch.steps, batch.sequences
    lengths = np.full(sequences, steps) if batch.sizes is None else batch.sizes
    targets = _checks.array(targets, "targets")
    weights = None if sample_weight is None else _checks.array(sample_weight, "sample_weight")
    dropout_step, by_step = net.dropout_step, net.outputs[0].targets_by_step

    def fails(count: int, until: int) -> bool:
        def cut(array: np.ndarray | None, by_step: bool = True) -> np.ndarray | None:
            return None if array is None else array[:, :count] if by_step else array[:count]

        net.dropout_step = dropout_step
        x = cut(batch.x)
        found = net.loss_and_grad(
            x if batch.ids is None else (x, cut(batch.ids), cut(batch.values)),
            cut(targets, by_step),
            np.minimum(lengths, until)[:count],
            None if batch.states is None else net.join_state([array[:, :count] for array in batch.states]),
            sample_weight=cut(weights, weights is not None and weights.ndim == 2),
            feedback=cut(batch.feedback),
        )
        return not math.isfinite(found)

    step = _least(lambda until: fails(sequences, until), steps) if by_step else steps
    sequence = _least(lambda count: fails(count, step), sequences) - 1
    return problem("the loss", loss, sequence, step - 1 if by_step else None)


def _least(holds: Callable[[int], bool], most: int) -> int:
    """Return the least number of 1..most that `holds`, which all greater ones do, and `most` does."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
