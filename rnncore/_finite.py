"""What is said when a loss or a gradient is not finite, and the search for where that began.

The search costs several passes over the batch, on a copy of the network: it is made after the failure alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
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


def explain(net: Any, batch: Mapping[str, Any], loss: float, known: NonFiniteError) -> NonFiniteError:
    """Look for what made a loss or its gradient not finite: in the batch, the parameters, the outputs, the loss.

    What is `known` stands where nothing before it is found.

    Parameters
    ----------
    net : Network
        As it was when the loss was taken: its `dropout_step` too. It is not changed.
    batch : mapping
        The arguments of ``loss_and_grad``: x, targets, lengths, state, sample_weight, feedback.
    loss : float
    """
    plain = net.head is not None and net.inputs is None and net.head.name != "custom"
    batch = {name: _readable(given) for name, given in batch.items()}
    found = _in_batch(net, batch) if plain else _in_parts(net, batch)
    if found is None:
        try:
            check_arrays(net.params)
        except NonFiniteError as error:
            return error
        if not plain:
            bad = [f"the loss of {name}" for name, value in net.losses.items() if not math.isfinite(value)]
            return known if math.isfinite(loss) else problem((bad or ["the loss"])[0], loss)
        twin = copy.deepcopy(net)
        twin.__dict__["batch_first"] = False  # the batch is time first
        with np.errstate(all="ignore"):
            found = _in_outputs(twin, batch) or (None if math.isfinite(loss) else _in_loss(twin, batch, loss))
    if found or math.isfinite(loss):
        return found or known
    return problem("the loss", loss)


def _in_parts(net: Any, batch: Mapping[str, Any]) -> NonFiniteError | None:
    """Look through what a network of several parts was given, array by array."""
    for what in ("x", "targets", "feedback", "sample_weight"):
        given = batch[what]
        if isinstance(given, Mapping):
            named = {f"{what}[{name!r}]": part for name, part in given.items()}
        elif isinstance(given, (tuple, list)):
            named = {f"{what}[{n}]": part for n, part in enumerate(given)}
        else:
            named = {what: given}
        for name, part in named.items():
            part = part[-1] if isinstance(part, tuple) and part else part  # of features with values, these
            try:
                array = np.asarray(part)
            except ValueError:  # of a custom head: whatever it takes
                continue
            at = first(array) if array.dtype.kind == "f" else None
            if at is not None:
                by_step = array.ndim > 2
                return problem(name, float(array[at]), at[1] if by_step else at[0], at[0] if by_step else None)
    return None if batch["state"] is None else _in_state(_arrays(batch["state"]))


def _readable(given: Any) -> Any:
    """Arrays of other libraries as NumPy's; the batch has been checked."""
    if isinstance(given, Mapping):
        return {name: _readable(part) for name, part in given.items()}
    if isinstance(given, (tuple, list)):
        return type(given)(_readable(part) for part in given)
    return _checks.array(given, "the batch") if hasattr(given, "__dlpack__") else given


def _in_batch(net: Any, batch: Mapping[str, Any]) -> NonFiniteError | None:
    parts: list[tuple[str, Any]] = [("x", batch["x"])]
    if isinstance(batch["x"], tuple):
        parts = list(zip(("x", "the ids of x", "the values of x"), batch["x"], strict=False))
    parts += [("targets", batch["targets"]), ("feedback", batch["feedback"])]
    for what, given in parts:
        array = None if given is None else np.asarray(given)
        if array is None or array.dtype.kind != "f":
            continue
        by_step = what != "targets" or net.readout == "every"
        if by_step and batch["lengths"] is not None:
            array = array.copy()
            array[np.arange(len(array))[:, None] >= np.asarray(batch["lengths"])] = 0
        at = first(array.swapaxes(0, 1) if by_step else array)
        if at is not None:
            value = float(array[(at[1], at[0], *at[2:])] if by_step else array[at])
            return problem(what, value, at[0], at[1] if by_step else None)
    if batch["sample_weight"] is not None:
        weights = np.asarray(batch["sample_weight"], np.float64)
        at = first(weights)
        if at is not None:
            return problem("sample_weight", float(weights[at]), at[0])
    return None if batch["state"] is None else _in_state(_arrays(batch["state"]))


def _in_state(arrays: Iterable[np.ndarray]) -> NonFiniteError | None:
    for array in arrays:  # (layers, B, H)
        at = first(array)
        if at is not None:
            return problem("state", float(array[at]), at[1])
    return None


def _arrays(nested: Any) -> Iterable[np.ndarray]:
    if isinstance(nested, (list, tuple)):
        for part in nested:
            yield from _arrays(part)
    elif nested is not None:
        yield np.asarray(nested)


def _in_outputs(net: Any, batch: Mapping[str, Any]) -> NonFiniteError | None:
    """Run layer by layer, without dropout."""
    x = batch["x"][0] if isinstance(batch["x"], tuple) else batch["x"]
    if net.embedding is not None:
        ids = np.asarray(x)
        x = np.where(ids[..., None] >= 0, net.params["embedding.E"][ids], 0)
        x = x.sum(axis=2) if ids.ndim == 3 else x
    states: list[Any] = [None] * len(net.layers)
    if batch["state"] is not None:
        states = [batch["state"]] if net.single else list(batch["state"])
    for n, layer in enumerate(net.layers):
        feedback = batch["feedback"] if n == len(net.layers) - 1 else None
        x, _ = layer.forward(x, states[n], lengths=batch["lengths"], training=False, feedback=feedback)
        at = first(x.swapaxes(0, 1))
        if at is not None:
            return problem(f"the outputs of layer {n}", float(x[at[1], at[0], at[2]]), at[0], at[1])
    return None


def _in_loss(net: Any, batch: Mapping[str, Any], loss: float) -> NonFiniteError | None:
    """Halve the batch, in time and then in sequences, until the loss of all before is finite.

    Every sequence keeps its number and its steps, and with them its dropout.
    """
    x = batch["x"][0] if isinstance(batch["x"], tuple) else batch["x"]
    steps, sequences = np.asarray(x).shape[:2]
    lengths = np.full(sequences, steps) if batch["lengths"] is None else np.asarray(batch["lengths"])
    dropout_step, by_step = net.dropout_step, net.readout == "every"

    def fails(count: int, until: int) -> bool:
        net.dropout_step = dropout_step
        part = dict(batch, lengths=np.minimum(lengths, until)[:count])
        part["x"] = tuple(a[:, :count] for a in batch["x"]) if isinstance(batch["x"], tuple) else x[:, :count]
        targets = np.asarray(batch["targets"])
        part["targets"] = targets[:, :count] if by_step else targets[:count]
        if batch["feedback"] is not None:
            part["feedback"] = batch["feedback"][:, :count]
        if batch["sample_weight"] is not None:
            weights = np.asarray(batch["sample_weight"])
            part["sample_weight"] = weights[:, :count] if weights.ndim == 2 else weights[:count]
        if batch["state"] is not None:
            part["state"] = _first_sequences(batch["state"], count)
        return not math.isfinite(net.loss_and_grad(**part))

    x = np.asarray(x)
    if not fails(sequences, steps):
        return None
    step = _least(lambda until: fails(sequences, until), steps) if by_step else steps
    sequence = _least(lambda count: fails(count, step), sequences) - 1
    return problem("the loss", loss, sequence, step - 1 if by_step else None)


def _first_sequences(nested: Any, count: int) -> Any:
    if isinstance(nested, (list, tuple)):
        return type(nested)(_first_sequences(part, count) for part in nested)
    return None if nested is None else np.asarray(nested)[:, :count]


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
