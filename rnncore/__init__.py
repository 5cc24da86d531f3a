"""rnncore trains recurrent neural networks on CPUs.

Names are imported on first use, so a program that wants the array-level kernels alone pays for NumPy only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "CELLS": "nn.cells",
    "Cell": "nn.cells",
    "Recurrent": "nn.recurrent",
    "Network": "nn.network",
    "Attention": "nn.attention",
    "EncoderDecoder": "nn.encoder_decoder",
    "Embedding": "nn.inputs",
    "Features": "nn.inputs",
    "Numbers": "nn.inputs",
    "SequenceVector": "nn.inputs",
    "Letters": "nn.inputs",
    "HEADS": "nn.heads",
    "Softmax": "nn.heads",
    "SquaredError": "nn.heads",
    "SigmoidCrossEntropy": "nn.heads",
    "CRF": "nn.heads",
    "CTC": "nn.heads",
    "AdaptiveSoftmax": "nn.heads",
    "SampledSoftmax": "nn.heads",
    "CustomHead": "nn.custom",
    "OPTIMIZERS": "optim.optimizers",
    "SGD": "optim.optimizers",
    "Momentum": "optim.optimizers",
    "Nesterov": "optim.optimizers",
    "Adagrad": "optim.optimizers",
    "RMSprop": "optim.optimizers",
    "Adadelta": "optim.optimizers",
    "Adam": "optim.optimizers",
    "AdamW": "optim.optimizers",
    "SDLM": "optim.optimizers",
    "NonFiniteError": "_finite",
    "EKF": "online.kalman",
    "RTRL": "online.rtrl",
    "gradcheck": "nn.diagnostics",
    "state_jacobian_norms": "nn.diagnostics",
    "set_num_threads": "_threads",
    "get_num_threads": "_threads",
    "show_config": "_config",
    "get_include": "_include",
    "Reservoir": "models.reservoir",
    "Trainer": "train.trainer",
    "Callback": "train.callbacks",
    "Sequences": "data.sequences",
    "Series": "data.series",
    "Stream": "train.streams",
    "Trees": "data.trees",
    "CaptionModel": "estimators",
    "ESNClassifier": "estimators",
    "ESNRegressor": "estimators",
    "Ensemble": "estimators",
    "Forecaster": "estimators",
    "LanguageModel": "estimators",
    "SequenceTagger": "estimators",
    "SequenceClassifier": "estimators",
    "SequenceRegressor": "estimators",
    "SequenceToSequence": "estimators",
    "Transcriber": "estimators",
    "TreeClassifier": "estimators",
    "distil": "estimators",
    "load": "io.files",
    "to_torch": "interop",
    "from_torch": "interop",
    "to_keras": "interop",
    "from_keras": "interop",
    "to_onnx": "interop",
    "from_onnx": "interop",
}
_MODULES = ("audio", "callbacks", "control", "ctc", "datasets", "heads", "models", "replica", "schedules", "search")

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
    from rnncore import audio as audio
    from rnncore import callbacks as callbacks
    from rnncore import control as control
    from rnncore import datasets as datasets
    from rnncore import heads as heads
    from rnncore import models as models
    from rnncore import replica as replica
    from rnncore import schedules as schedules
    from rnncore import search as search
    from rnncore._config import show_config as show_config
    from rnncore._finite import NonFiniteError as NonFiniteError
    from rnncore._include import get_include as get_include
    from rnncore._threads import get_num_threads as get_num_threads
    from rnncore._threads import set_num_threads as set_num_threads
    from rnncore.data.sequences import Sequences as Sequences
    from rnncore.data.series import Series as Series
    from rnncore.data.trees import Trees as Trees
    from rnncore.estimators import CaptionModel as CaptionModel
    from rnncore.estimators import Ensemble as Ensemble
    from rnncore.estimators import ESNClassifier as ESNClassifier
    from rnncore.estimators import ESNRegressor as ESNRegressor
    from rnncore.estimators import Forecaster as Forecaster
    from rnncore.estimators import SequenceClassifier as SequenceClassifier
    from rnncore.estimators import SequenceRegressor as SequenceRegressor
    from rnncore.estimators import SequenceTagger as SequenceTagger
    from rnncore.estimators import SequenceToSequence as SequenceToSequence
    from rnncore.estimators import Transcriber as Transcriber
    from rnncore.estimators import TreeClassifier as TreeClassifier
    from rnncore.estimators import distil as distil
    from rnncore.interop import from_keras as from_keras
    from rnncore.interop import from_onnx as from_onnx
    from rnncore.interop import from_torch as from_torch
    from rnncore.interop import to_keras as to_keras
    from rnncore.interop import to_onnx as to_onnx
    from rnncore.interop import to_torch as to_torch
    from rnncore.io.files import load as load
    from rnncore.models.reservoir import Reservoir as Reservoir
    from rnncore.nn.attention import Attention as Attention
    from rnncore.nn.cells import CELLS as CELLS
    from rnncore.nn.cells import Cell as Cell
    from rnncore.nn.custom import CustomHead as CustomHead
    from rnncore.nn.diagnostics import gradcheck as gradcheck
    from rnncore.nn.diagnostics import state_jacobian_norms as state_jacobian_norms
    from rnncore.nn.encoder_decoder import EncoderDecoder as EncoderDecoder
    from rnncore.nn.heads import CRF as CRF
    from rnncore.nn.heads import CTC as CTC
    from rnncore.nn.heads import HEADS as HEADS
    from rnncore.nn.heads import AdaptiveSoftmax as AdaptiveSoftmax
    from rnncore.nn.heads import SampledSoftmax as SampledSoftmax
    from rnncore.nn.heads import SigmoidCrossEntropy as SigmoidCrossEntropy
    from rnncore.nn.heads import Softmax as Softmax
    from rnncore.nn.heads import SquaredError as SquaredError
    from rnncore.nn.inputs import Embedding as Embedding
    from rnncore.nn.inputs import Features as Features
    from rnncore.nn.inputs import Letters as Letters
    from rnncore.nn.inputs import Numbers as Numbers
    from rnncore.nn.inputs import SequenceVector as SequenceVector
    from rnncore.nn.network import Network as Network
    from rnncore.nn.recurrent import Recurrent as Recurrent
    from rnncore.online.kalman import EKF as EKF
    from rnncore.online.rtrl import RTRL as RTRL
    from rnncore.optim.optimizers import OPTIMIZERS as OPTIMIZERS
    from rnncore.optim.optimizers import SDLM as SDLM
    from rnncore.optim.optimizers import SGD as SGD
    from rnncore.optim.optimizers import Adadelta as Adadelta
    from rnncore.optim.optimizers import Adagrad as Adagrad
    from rnncore.optim.optimizers import Adam as Adam
    from rnncore.optim.optimizers import AdamW as AdamW
    from rnncore.optim.optimizers import Momentum as Momentum
    from rnncore.optim.optimizers import Nesterov as Nesterov
    from rnncore.optim.optimizers import RMSprop as RMSprop
    from rnncore.train.callbacks import Callback as Callback
    from rnncore.train.trainer import Trainer as Trainer
