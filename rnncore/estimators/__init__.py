"""Estimators after scikit-learn's conventions: encode, build, train, decode, save."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Ensemble": "ensemble",
    "Forecaster": "forecaster",
    "LanguageModel": "language",
    "SequenceTagger": "tagger",
    "SequenceClassifier": "series",
    "SequenceRegressor": "series",
    "distil": "distilling",
}

__all__ = [
    "Ensemble",
    "Forecaster",
    "LanguageModel",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceTagger",
    "distil",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
