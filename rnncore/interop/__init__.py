"""Weights from and to PyTorch, Keras and ONNX. None of them is needed for it: arrays go in, arrays come out."""

from __future__ import annotations

from rnncore.interop.keras import from_keras, to_keras
from rnncore.interop.onnx import Operator, from_onnx, to_onnx
from rnncore.interop.pytorch import from_torch, to_torch

__all__ = ["Operator", "from_keras", "from_onnx", "from_torch", "to_keras", "to_onnx", "to_torch"]
