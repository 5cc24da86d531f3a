"""What goes on inside: every state and gate of a batch, by name, over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore import _threads
from rnncore._core.activations import read

if TYPE_CHECKING:
    from rnncore.nn.network import Network
    from rnncore.nn.recurrent import Recurrent


def of_layer(layer: Recurrent, x: Any, lengths: Any, state: Any, feedback: Any) -> dict[str, np.ndarray]:
    """Run layers over a batch without dropout, and return what their units did."""
    kind, array, sizes = layer.check_input(x, lengths)
    steps, sequences = array.shape[:2]
    arrays = None if state is None else layer.check_state(state, sequences)
    given = layer.check_feedback(feedback, steps, sequences)
    with layer._access.reading:
        space = layer._workspace(kind)
        schedule, threads = layer._schedule_of(steps, sequences, sizes), _threads.resolve(layer.n_threads)
        space.shows_gates = True
        space.forward(layer._theta, schedule, array, arrays, None, threads, 0, 0, given)
        found = read(space)
        space.shows_gates = False
        layer._idle[kind].append(space)
    return found


def of_network(net: Network, x: Any, lengths: Any, state: Any, feedback: Any) -> dict[str, np.ndarray]:
    """Run a network's layers over a batch without dropout, and return what their units did."""
    batch = net._check(x, lengths, state, feedback)
    with net._access.reading:
        space = net._space(batch.kind)
        space.layers.shows_gates = True
        net._run(space, batch, None)
        found = read(space.layers)
        space.layers.shows_gates = False
        if space.attention is not None:
            found["attention.weights"] = space.attention.weights(net.dtype)
        net._idle[batch.kind].append(space)
    return found


class ShowsActivations(ABC):
    """What layers and networks have."""

    def activations(
        self, x: Any, lengths: Any = None, state: Any = None, feedback: Any = None
    ) -> dict[str, np.ndarray]:
        """Return every state and gate over time, without dropout; any number of threads may call at once.

        Parameters
        ----------
        x, lengths, state, feedback
            As for ``forward`` of a layer, ``predict`` of a network.

        Returns
        -------
        dict of str to array (T, B, width)
            ``layers.0.fwd.h``, ``layers.0.fwd.c``: a layer's states after each step, as the next step sees them (the
            step before, for the reverse direction, ``bwd``), by the names of ``state_widths``.
            ``layers.0.fwd.gates.i``: a gate, or what else a step computes, as the equations on top of the cell's kernel
            file name it. ``attention.weights`` (T, B, S), S = T: of a network with attention, how much each step looks
            at each step of its sequence. Zero after a sequence's end. The arrays are the caller's.

        Raises
        ------
        ValueError
            For arrays that do not fit.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> layer = rc.Recurrent("lstm", 3, 5)
        >>> x = np.ones((4, 2, 3), dtype="float32")
        >>> found = layer.activations(x, lengths=[4, 2])
        >>> " ".join(name.removeprefix("layers.0.fwd.") for name in found)
        'h c gates.i gates.f gates.g gates.o'
        >>> y, _ = layer.forward(x, lengths=[4, 2], training=False)
        >>> bool(np.array_equal(found["layers.0.fwd.h"], y)), found["layers.0.fwd.gates.f"].shape
        (True, (4, 2, 5))
        """
        return self._activations(x, lengths, state, feedback)

    @abstractmethod
    def _activations(self, x: Any, lengths: Any, state: Any, feedback: Any) -> dict[str, np.ndarray]:
        """Return what `activations` returns."""
