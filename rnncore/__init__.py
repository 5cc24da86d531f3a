"""rnncore trains recurrent neural networks on CPUs.

Names are imported on first use, so a program that wants the array-level kernels alone pays for NumPy only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "CELLS": "cells",
    "Cell": "cells",
    "Recurrent": "recurrent",
    "Network": "network",
    "Embedding": "network",
    "HEADS": "heads",
    "Softmax": "heads",
    "SquaredError": "heads",
    "SigmoidCrossEntropy": "heads",
    "CRF": "heads",
    "OPTIMIZERS": "optimizers",
    "SGD": "optimizers",
    "Momentum": "optimizers",
    "Nesterov": "optimizers",
    "Adagrad": "optimizers",
    "RMSprop": "optimizers",
    "Adadelta": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "SDLM": "optimizers",
    "EKF": "kalman",
    "RTRL": "rtrl",
    "gradcheck": "diagnostics",
    "state_jacobian_norms": "diagnostics",
    "set_num_threads": "_threads",
    "get_num_threads": "_threads",
    "show_config": "_config",
    "SequenceTagger": "estimators",
    "load": "files",
    "to_torch": "interchange",
    "from_torch": "interchange",
    "to_keras": "interchange",
    "from_keras": "interchange",
    "to_onnx": "interchange",
    "from_onnx": "interchange",
}
_MODULES = ("datasets", "heads", "replica", "schedules")

__all__ = [*sorted(_HOME), *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"rnncore.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"rnncore.{name}")
    else:
        raise AttributeError(f"module 'rnncore' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from rnncore import datasets as datasets
    from rnncore import heads as heads
    from rnncore import replica as replica
    from rnncore import schedules as schedules
    from rnncore._config import show_config as show_config
    from rnncore._threads import get_num_threads as get_num_threads
    from rnncore._threads import set_num_threads as set_num_threads
    from rnncore.cells import CELLS as CELLS
    from rnncore.cells import Cell as Cell
    from rnncore.diagnostics import gradcheck as gradcheck
    from rnncore.diagnostics import state_jacobian_norms as state_jacobian_norms
    from rnncore.estimators import SequenceTagger as SequenceTagger
    from rnncore.files import load as load
    from rnncore.heads import CRF as CRF
    from rnncore.heads import HEADS as HEADS
    from rnncore.heads import SigmoidCrossEntropy as SigmoidCrossEntropy
    from rnncore.heads import Softmax as Softmax
    from rnncore.heads import SquaredError as SquaredError
    from rnncore.interchange import from_keras as from_keras
    from rnncore.interchange import from_onnx as from_onnx
    from rnncore.interchange import from_torch as from_torch
    from rnncore.interchange import to_keras as to_keras
    from rnncore.interchange import to_onnx as to_onnx
    from rnncore.interchange import to_torch as to_torch
    from rnncore.kalman import EKF as EKF
    from rnncore.network import Embedding as Embedding
    from rnncore.network import Network as Network
    from rnncore.optimizers import OPTIMIZERS as OPTIMIZERS
    from rnncore.optimizers import SDLM as SDLM
    from rnncore.optimizers import SGD as SGD
    from rnncore.optimizers import Adadelta as Adadelta
    from rnncore.optimizers import Adagrad as Adagrad
    from rnncore.optimizers import Adam as Adam
    from rnncore.optimizers import AdamW as AdamW
    from rnncore.optimizers import Momentum as Momentum
    from rnncore.optimizers import Nesterov as Nesterov
    from rnncore.optimizers import RMSprop as RMSprop
    from rnncore.recurrent import Recurrent as Recurrent
    from rnncore.rtrl import RTRL as RTRL
