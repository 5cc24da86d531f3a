"""What networks on trees share: parameters on flat arrays, kernels for callers, copies, pickles and model files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from rnncore import _checks, _threads
from rnncore._core.trees import TreeKernel
from rnncore.data.trees import Trees
from rnncore.nn import saving
from rnncore.nn.access import Access
from rnncore.nn.attributes import RunSettings
from rnncore.nn.cells import ACTIVATIONS
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.recurrent import adopt, users_attributes
from rnncore.nn.touched import TouchedRows

__all__ = ["Recursive"]


class Recursive(FlatArrays, Freezable, saving.Savable, RunSettings):
    """Base: a kernel that makes vectors of nodes, on parameters of which ``labels``, ``W``, ``b`` are its own.

    A subclass names its constructor's arguments, calls `_begin`, and fills in first parameters.
    """

    _options: ClassVar[tuple[str, ...]]  # the constructor's arguments but dtype and n_threads
    dtype: np.dtype
    layout: Layout

    def _begin(
        self, shapes: Mapping[str, tuple[int, ...]], kind: str, hidden: int, positions: int, activation: str, last: str
    ) -> None:
        """Make the arrays; last: the kernel's fourth parameter, or "" for none."""
        self._kind = (kind, hidden, positions, ACTIVATIONS[activation][0], last)
        self._frozen: frozenset[str] = frozenset()
        self._dropout_step = self._dropout_seed = 0
        self.layout = Layout(shapes)
        self._theta, self._grad = (aligned_zeros(self.layout.size, self.dtype) for _ in range(2))
        self._params, self._grads = self.layout.views(self._theta), self.layout.views(self._grad)
        self._touched, self._access = TouchedRows(), Access()
        self._ranges = UpdateRanges(self.layout)
        self._idle: list[Any] = []  # kernels that no call runs in
        self._training: Any = None

    def _kernel(self) -> TreeKernel:
        kind, hidden, positions, activation, last = self._kind
        starts = self.layout.starts
        places = (starts["labels"], starts["W"], starts["b"], starts.get(last, 0))
        return TreeKernel(self.dtype.itemsize, hidden, positions, kind, activation, places)

    def _checked(self, trees: Any, symbols: int, most: int | None) -> Trees:
        """Return trees whose labels are numbers of symbols, none for inner nodes alone, and children not too many."""
        if not isinstance(trees, Trees):
            raise ValueError(f"expected rnncore.Trees, as rnncore.Trees.of(…) makes them, got {type(trees).__name__}")
        labels = trees.labels
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
            first = next((label for label in labels if label is not None), None)
            raise ValueError(
                f"expected trees whose labels are numbers below {symbols}, got {first!r}: trees.numbered({{label: "
                "number, …}) puts numbers in place of labels"
            )
        wrong = (labels < np.where(trees.counts > 0, -1, 0)) | (labels >= symbols)
        if wrong.any():
            node = int(np.argmax(wrong))
            kind = "an inner node, -1 for none" if trees.counts[node] else "a leaf"
            raise ValueError(f"labels must lie between 0 and {symbols - 1}, got {labels[node]} at {kind}")
        if most is not None and trees.max_children > most:
            node = int(np.argmax(trees.counts > most))
            tree = int(np.searchsorted(trees.starts, node, side="right")) - 1
            raise ValueError(
                f"tree {tree} has a node with {trees.counts[node]} children, and there are matrices for {most}: make "
                f"the network with {trees.counts.max()}"
            )
        return trees

    def _workers(self) -> int:
        return _threads.resolve(self.n_threads)

    def _vectors(self, trees: Trees) -> np.ndarray:
        """Return vectors of nodes (N, H); any number of threads may call at once."""
        with self._access.reading:
            try:
                kernel = self._idle.pop()
            except IndexError:
                kernel = self._kernel()
            found = kernel.forward(self._theta, trees.levels, self._workers(), False)
            self._idle.append(kernel)
        return found

    def _forward(self, trees: Trees) -> np.ndarray:
        """Return vectors of nodes, and keep what `_backward` needs; for who trains alone."""
        kernel = self._training = self._training or self._kernel()
        return kernel.forward(self._theta, trees.levels, self._workers(), True)

    def _backward(self, dh: np.ndarray) -> None:
        self._training.backward(self._theta, self._grad, np.ascontiguousarray(dh), self._workers())

    # -- what optimizers, copies and files want -----------------------------------------------------------------------

    def update_ranges(self, lazy: bool, groups: Any = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit: all but what is frozen (``Network.update_ranges``)."""
        return self._ranges.of(None, [self._frozen], lambda: self._frozen, groups)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self._grad[...] = 0

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._options}

    def copy(self, dtype: Any = None) -> Self:
        """Return a network of the same options and parameters, in another precision if asked."""
        precision = self.dtype if dtype is None else _checks.dtype(dtype)
        make: Any = type(self)
        twin: Self = make(**self._arguments(), dtype=precision, n_threads=self.n_threads)
        twin.theta[...] = self._theta
        twin._frozen = self._frozen
        return twin

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        own = {name: saving.plain(value) for name, value in self._arguments().items()}
        return type(self).__name__, {"network": own | {"dtype": self.dtype.name}, "frozen": [*self.frozen]}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        make: Any = cls

        def build(own: Mapping[str, Any]) -> Any:
            if set(own) != {*cls._options, "dtype"}:
                raise ValueError(f"expected {', '.join([*cls._options, 'dtype'])}; got {', '.join(own)}")
            made = make(**own)
            made.unfreeze("*")
            made.freeze(*header["frozen"])
            return made

        found: Self = saving.read(build, header["network"], arrays)
        return found

    def __getstate__(self) -> dict[str, Any]:
        own = self._arguments() | {"dtype": self.dtype.name, "n_threads": self.n_threads, "frozen": self.frozen}
        return users_attributes(self) | own | {"theta": self._theta, "grad": self._grad}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _checks.pickled(self):  # through the constructor, so that no unchecked number gets to the kernels
            made = type(self)(**{name: state[name] for name in (*self._options, "dtype", "n_threads")})
            for array, name in ((made._theta, "theta"), (made._grad, "grad")):
                array[...] = _checks.flat(state[name], name, array)
            made._frozen = frozenset(state["frozen"])
            adopt(self, made, state)
