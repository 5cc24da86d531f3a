"""One head of a network of several, as if it were the only one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["OneHead", "one_head"]


class OneHead:
    """A head of a network, which is asked for nothing else.

    Parameters
    ----------
    network : rnncore.Network
    name : str

    Examples
    --------
    >>> import rnncore as rc
    >>> heads = {"tags": rc.CRF(3), "sentence": rc.Softmax(2, pooling="mean")}
    >>> tags = OneHead(rc.Network(rc.Recurrent("gru", 4, 8), heads=heads), "tags")
    >>> tags.predict(np.zeros((5, 2, 4), "float32")).shape
    (5, 2, 3)
    """

    def __init__(self, network: Any, name: str) -> None:
        self.network, self.name = network, name
        self.outputs = tuple(output for output in network.outputs if output.name == name)

    @property
    def theta(self) -> np.ndarray:
        """All parameters of the network."""
        found: np.ndarray = self.network.theta
        return found

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        """The same by name."""
        found: Mapping[str, np.ndarray] = self.network.params
        return found

    @property
    def _access(self) -> Any:
        return self.network._access

    def predict(self, x: Any, **options: Any) -> np.ndarray:
        """Return the head's probabilities, see `rnncore.Network.predict`."""
        found: np.ndarray = self.network.predict(x, **options, heads=[self.name])[self.name]
        return found

    def decode(self, x: Any, **options: Any) -> tuple[np.ndarray, ...]:
        """Return the head's labels and their scores, see `rnncore.Network.decode`."""
        found: tuple[np.ndarray, ...] = self.network.decode(x, **options, heads=[self.name])[self.name]
        return found

    def copy(self) -> OneHead:
        """Return the head of a copy of the network."""
        return OneHead(self.network.copy(), self.name)


def one_head(network: Any, name: str) -> Any:
    """Return one head of a network by its name, as if it were the only one; the network where it is."""
    return network if network.head is not None else OneHead(network, name)
