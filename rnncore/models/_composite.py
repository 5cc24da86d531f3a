"""Models of several recurrent layers, and parameters of their own, on one flat array: what optimizers and files see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from rnncore import _threads
from rnncore._finite import NonFiniteError
from rnncore.nn import saving
from rnncore.nn.access import Access
from rnncore.nn.layout import FlatArrays, Layout, aligned_zeros
from rnncore.nn.patterns import Freezable
from rnncore.nn.ranges import UpdateRanges
from rnncore.nn.recurrent import Recurrent
from rnncore.nn.touched import TouchedRows

__all__ = ["Composite"]


class Composite(FlatArrays, Freezable, saving.Savable):
    """Base of models that are made of layers of one direction and one level.

    Parameters of part P are ``P.W_xh`` and so on; ``n_threads`` reaches all layers.
    """

    _settings: dict[str, Any]  # the constructor's arguments, as a model file holds them
    _n_threads: int | None = None

    def _join(self, layers: Mapping[str, Recurrent], own: Mapping[str, tuple[int, ...]], dtype: np.dtype) -> None:
        """Let the layers' parameters, and some of the model's own, lie in one array."""
        shapes: dict[str, tuple[int, ...]] = {}
        for part, layer in layers.items():
            shapes |= {name.replace("layers.0.fwd", part): shape for name, shape in layer.layout.shapes.items()}
        self.dtype = dtype
        self.layout = Layout(shapes | dict(own))
        self._theta, self._grad = (aligned_zeros(self.layout.size, dtype) for _ in range(2))
        self._params, self._grads = self.layout.views(self._theta), self.layout.views(self._grad)
        self._touched, self._frozen = TouchedRows(), frozenset()
        self._ranges = UpdateRanges(self.layout)
        self._layers = tuple(layers.values())
        start = 0
        for layer in self._layers:
            place = slice(start, start + layer.layout.size)
            self._theta[place] = layer.theta
            layer.move_to(self._theta[place], self._grad[place], TouchedRows(), Access())
            start = place.stop

    @property
    def n_threads(self) -> int | None:
        """Threads; None: the general setting. Results do not depend on it."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._n_threads = _threads.check(value)
        for layer in self._layers:
            layer.n_threads = self._n_threads

    def zero_grad(self) -> None:
        """Set all gradients to zero; passes backward add to them."""
        self._grad[...] = 0

    def update_ranges(self, lazy: bool, groups: Mapping[str, int] | None = None) -> np.ndarray:
        """Return which parts of theta an optimizer must visit: rows (start, length, rule) of int64, sorted."""
        return self._ranges.of(None, [self._frozen], lambda: self._frozen, groups)

    def keep_bounds(self) -> None:
        """Put parameters that a cell bounds back within their bounds; an optimizer's step ends with this."""
        for layer in self._layers:
            layer.keep_bounds()

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the loss is {loss}: try a lower learning rate, or look for such numbers in the input", "loss"
            )
        return loss

    def _to_model(self) -> tuple[str, dict[str, Any]]:
        own = {name: saving.plain(value) for name, value in self._settings.items()}
        return type(self).__name__, {"settings": own, "frozen": list(self.frozen)}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        made = saving.read(lambda own: cls(**own), header["settings"], arrays)
        made.freeze(*header["frozen"])
        return made
