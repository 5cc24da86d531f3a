"""Named views on one flat array: all parameters of a net lie in one vector, and so do all gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from types import MappingProxyType

import numpy as np

from rnncore.nn.attributes import fixed
from rnncore.nn.touched import TouchedRows

_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Refuse to make larger flat arrays: for sizes that come from a file."""
    before = _most.set(numbers)
    try:
        yield
    finally:
        _most.reset(before)


def aligned_zeros(size: int, dtype: np.dtype) -> np.ndarray:
    """Return a zeroed 1-D array that begins at a multiple of 64 bytes."""
    most = _most.get()
    if most is not None and size > most:
        raise ValueError(f"the sizes ask for {size} weights, and there are {most}")
    memory = np.zeros(size * dtype.itemsize + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size * dtype.itemsize].view(dtype)


@fixed("shapes", "starts", "size")
class Layout:
    """Ordered names and shapes, one after another in a flat array, without gaps.

    Parameters
    ----------
    shapes : mapping of str to tuple of int

    Examples
    --------
    >>> layout = Layout({"W": (2, 3), "b": (3,)})
    >>> layout.size, layout.starts["b"]
    (9, 6)
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        starts, size = {}, 0
        for name, shape in shapes.items():
            starts[name] = size
            size += prod(shape)
        self.shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(dict(shapes))
        self.starts: Mapping[str, int] = MappingProxyType(starts)
        self.size = size

    def views(self, flat: np.ndarray) -> Views:
        """Return the named views of a flat array of ``size`` numbers."""
        return Views(
            {
                name: flat[start : start + prod(self.shapes[name])].reshape(self.shapes[name])
                for name, start in self.starts.items()
            }
        )


class Views(Mapping[str, np.ndarray]):
    """Read-only mapping of names to views; assigning writes through, and checks the shape."""

    def __init__(self, views: dict[str, np.ndarray]) -> None:
        self._views = views

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        view = self._views[name]
        if np.shape(value) != view.shape:
            raise ValueError(f"{name} has shape {view.shape}, got an array of shape {np.shape(value)}")
        view[...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return "\n".join(f"{name} {view.shape}" for name, view in self._views.items())


class FlatArrays:
    """What layers and networks have: ``theta`` and ``grad``, flat arrays whose place in memory never changes.

    Whoever reads ``grad`` or ``grads`` may write to them: any row counts as touched, until gradients are overwritten.
    """

    _theta: np.ndarray
    _grad: np.ndarray
    _params: Views
    _grads: Views
    _touched: TouchedRows

    @property
    def theta(self) -> np.ndarray:
        """All parameters, flat (P,). Assigning writes into the same array."""
        return self._theta

    @theta.setter
    def theta(self, value: np.ndarray) -> None:
        _assign(self._theta, value, "theta")

    @property
    def grad(self) -> np.ndarray:
        """All gradients, flat (P,). Assigning writes into the same array."""
        self._touched.mark_all()
        return self._grad

    @grad.setter
    def grad(self, value: np.ndarray) -> None:
        self._touched.mark_all()
        _assign(self._grad, value, "grad")

    @property
    def params(self) -> Views:
        """Named views of the parameters."""
        return self._params

    @property
    def grads(self) -> Views:
        """Named views of the gradients."""
        self._touched.mark_all()
        return self._grads


def _assign(target: np.ndarray, value: np.ndarray, name: str) -> None:
    if value is target:  # what += does
        return
    if np.shape(value) != target.shape:
        raise ValueError(f"{name} has shape {target.shape}, got an array of shape {np.shape(value)}")
    target[...] = value
