"""PyTorch's recurrent modules, computed by rnncore: ``import rnncore.torch as rt`` and ``rt.GRU`` for ``nn.GRU``.

The classes are sub-classes of torch.nn's: the same constructor, parameters, ``state_dict`` and results. What rnncore
does not cover is left to PyTorch's own code, and said once by a warning.
"""

from __future__ import annotations

try:
    from rnncore.torch.modules import GRU, LSTM, RNN, to_plain
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("rnncore.torch needs PyTorch, 2.4 or newer: pip install torch") from error

__all__ = ["GRU", "LSTM", "RNN", "to_plain"]
