"""A network's heads in their places: what each sees, its parameters, and its part of the loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks
from rnncore._core.heads import Head as HeadKernel
from rnncore.nn.custom import CustomHead
from rnncore.nn.heads import CRF, LOSSES, POOLINGS, AdaptiveSoftmax, Head, pooling_shapes
from rnncore.nn.layout import Layout


class Output(NamedTuple):
    """A head in its place.

    Parameters
    ----------
    name : str
        Its key in dicts of targets and results; empty for a network's only head.
    head : Head
    pooling : str
    factor : float
        How much its loss counts.
    features : int
        N, sparse features with direct weights to its scores.
    """

    name: str
    head: Head
    pooling: str
    factor: float
    features: int

    @property
    def prefix(self) -> str:
        """What its parameters' names begin with."""
        return f"heads.{self.name}." if self.name else "head."

    @property
    def by_step(self) -> bool:
        """Whether it has scores at every step."""
        return self.pooling == "every"

    @property
    def targets_by_step(self) -> bool:
        """Whether it has a target at every step."""
        return self.pooling == "every" and not self.head.own_length

    def shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameters: full name -> shape."""
        own = self.head.shapes(inputs) | pooling_shapes(self.pooling, inputs)
        if self.features:
            own["W_skip"] = (self.features, self.head.outputs)
        return {self.prefix + name: shape for name, shape in own.items()}

    def initialise(self, params: Mapping[str, np.ndarray], inputs: int, rng: np.random.Generator) -> None:
        """Draw first values; direct weights of sparse features stay zero."""
        bound = 1 / np.sqrt(inputs)
        for name in (*self.head.shapes(1), *pooling_shapes(self.pooling, inputs)):
            array = params[self.prefix + name]
            if name.startswith("tails."):
                bound = 1 / np.sqrt(len(array))
            if name not in self.head.starts_at_zero:
                array[...] = rng.uniform(-bound, bound, array.shape)

    def temper(self, params: Mapping[str, np.ndarray], temperature: float) -> None:
        """Divide the scores by a temperature, by dividing all that they are linear in."""
        if self.head.name not in ("softmax", "crf") or not self.head.project or getattr(self.head, "tied", False):
            raise ValueError(
                f"a temperature needs a softmax or CRF head with a projection of its own, got {self.head!r}"
            )
        for name in (*self.head.shapes(1), *(["W_skip"] if self.features else [])):
            params[self.prefix + name] /= temperature

    def kernel(self, layout: Layout, dtype: np.dtype, widths: list[int], mixed: bool = False) -> HeadKernel:
        """Return what computes it."""
        starts = layout.starts
        tied = getattr(self.head, "tied", False)
        at = {name: starts.get(self.prefix + name, -1) for name in ("W_hy", "b_y", "W_skip")}
        sampled = self.head.name == "sampled"
        if tied or sampled:
            at["W_hy"] = starts["embedding.E" if tied else f"{self.prefix}W_yh"]
        chain = None
        if isinstance(self.head, CRF):
            places = (starts[self.prefix + name] for name in ("transitions", "start", "end"))
            rule = self.head.constraints
            chain = (*places, None if rule is None else rule.flags())
        attention = None
        if self.pooling == "attention":
            names = [f"{self.prefix}attention.{name}" for name in ("W", "b", "v")]
            attention = (layout.shapes[names[1]][0], *(starts[name] for name in names))
        scored, tails = self.head.outputs, None
        if isinstance(self.head, AdaptiveSoftmax):
            scored = self.head.scored
            clusters = [
                (*cluster, starts[f"{self.prefix}tails.{i}.P"], starts[f"{self.prefix}tails.{i}.W"])
                for i, cluster in enumerate(self.head.clusters(sum(widths)))
            ]
            tails = (self.head.outputs, clusters)
        return HeadKernel(
            dtype.itemsize,
            self.head.kernel,
            POOLINGS.index(self.pooling),
            widths,
            scored,
            at["W_hy"],
            at["b_y"],
            self.head.weights(dtype),
            self.head.smoothing,
            chain,  # type: ignore[arg-type]
            (self.features, at["W_skip"]) if self.features else None,
            attention,  # type: ignore[arg-type]
            tails,
            tied or sampled,
            sampled,
            mixed,
        )

    def shape(self, steps: int, sequences: int) -> tuple[int, ...]:
        """Return the shape of its targets, without the numbers of an output."""
        return (steps, sequences) if self.by_step else (sequences,)


def outputs_of(
    head: Head | None,
    heads: Mapping[str, Head] | None,
    pooling: str,
    loss_weights: Mapping[str, float] | None,
    features: int,
) -> tuple[Output, ...]:
    """Return a network's heads in their places."""
    if (head is None) == (heads is None):
        raise ValueError("a network needs head=…, one head, or heads={name: head, …}")
    if heads is not None and (not isinstance(heads, Mapping) or not heads):
        raise ValueError(f"heads must be a dict of names and heads, got {heads!r}")
    given: Mapping[str, Any] = {"": head} if heads is None else heads
    if loss_weights is not None and (not isinstance(loss_weights, Mapping) or set(loss_weights) - set(given)):
        raise ValueError(f"loss_weights must be a dict of {', '.join(given) or 'nothing'}; got {loss_weights!r}")
    weights = loss_weights or {}
    made = []
    for name, one in given.items():
        check_head(one)
        if heads is not None and (not isinstance(name, str) or not name or "." in name):
            raise ValueError(f"names of heads must be words without a dot, got {name!r}")
        own = one.pooling or pooling
        by_step = own == "every"
        if one.of_sequences and not by_step:
            raise ValueError(f"a {one.name.upper()} head needs pooling='every', got {own!r}")
        if one.name in ("adaptive", "sampled") and features and by_step:
            raise ValueError(f"sparse features (skip) add to scores of all classes: take Softmax, not {one.name}")
        factor = weights.get(name, 1.0)
        if isinstance(factor, bool) or not isinstance(factor, int | float | np.number) or not 0 <= factor < 1e30:
            raise ValueError(f"loss_weights must be numbers from 0 up, got {factor!r} for {name!r}")
        made.append(Output(name, one, own, float(factor), features if by_step else 0))
    if features and not any(output.features for output in made):
        raise ValueError("sparse features (skip) need pooling='every', for one head at least")
    return tuple(made)


def check_head(head: Any) -> None:
    """Refuse what is no head, and heads whose loss the kernels do not know."""
    if not isinstance(head, Head):
        raise ValueError(f"head must be a head such as rnncore.Softmax(K), got {head!r}")
    if type(head) not in LOSSES and not isinstance(head, CustomHead):
        known = ", ".join(loss.__name__ for loss in LOSSES)
        raise ValueError(
            f"head must be one of the compiled losses, {known}; got {type(head).__name__}, a class of its own "
            "whose loss the kernels do not know: use one of those, or write it on rnncore.CustomHead"
        )


def renewed(head: Head) -> Head:
    """Return a head like one that came out of a pickle, checked as a new one is."""
    if isinstance(head, CustomHead):
        found = copy.copy(head)
        Head(found.outputs, project=found.project, pooling=found.pooling)
        return found
    check_head(head)
    return replace(head)


def in_order(outputs: tuple[Output, ...]) -> list[int]:
    """Return the order in which gradients are added: last steps' at the end, which may part a sum's directions."""
    return sorted(range(len(outputs)), key=lambda n: outputs[n].pooling == "last")


def by_name(outputs: tuple[Output, ...], given: Any, what: str) -> list[Any]:
    """Return what a caller gives for each head: itself for a network's only head, else a dict's; None: not given."""
    if not outputs[0].name:
        return [given]
    names = [output.name for output in outputs]
    if not isinstance(given, Mapping) or set(given) - set(names) or all(value is None for value in given.values()):
        form = type(given).__name__ if not isinstance(given, Mapping) else ", ".join(map(str, given)) or "nothing"
        raise ValueError(f"{what} must be a dict of {', '.join(names)}, or of some of these; got {form}")
    return [given.get(name) for name in names]


def ended(outputs: tuple[Output, ...], targets: Any, lengths: Any) -> Any:
    """Return targets with -1 behind the ends that ``target_lengths`` say, of heads whose targets have their own."""
    if not any(output.head.own_length for output in outputs):
        raise ValueError(
            "target_lengths go with targets of a length of their own, which no head here has: leave them out"
        )
    if not outputs[0].name:
        return _checks.ended(targets, lengths)
    given = by_name(outputs, targets, "targets")
    sizes = by_name(outputs, lengths, "target_lengths") if isinstance(lengths, Mapping) else [lengths] * len(outputs)
    return {
        output.name: _checks.ended(one, size) if output.head.own_length and size is not None else one
        for output, one, size in zip(outputs, given, sizes, strict=True)
        if one is not None
    }


def joined(outputs: Sequence[Output], found: list[Any]) -> Any:
    """Return what there is of each head: itself for a network's only head, else a dict."""
    if not outputs[0].name:
        return found[0]
    return {output.name: one for output, one in zip(outputs, found, strict=True)}


def asked(outputs: tuple[Output, ...], names: Any) -> Sequence[int]:
    """Return which heads a caller names; None: all."""
    if names is None:
        return range(len(outputs))
    known = [output.name or "head" for output in outputs]
    if not isinstance(names, list | tuple) or not names or any(name not in known for name in names):
        raise ValueError(f"heads must be a list of some of {', '.join(known)}; got {names!r}")
    return [n for n, name in enumerate(known) if name in names]


def check_divisor(outputs: tuple[Output, ...], divisor: Any) -> list[float | None]:
    """Return what each head's sum of losses is divided by, or None: by its own weight."""
    found = by_name(outputs, divisor, "divisor")
    for value in found:
        if value is not None and not (_checks.is_number(value) and 0 < value < np.inf):
            raise ValueError(f"divisor must be a number above 0, got {value!r}")
    return [None if value is None else float(value) for value in found]
