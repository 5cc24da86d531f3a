"""Estimators after scikit-learn's conventions: encode, build, train, decode, save."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "CaptionModel": "captions",
    "ESNClassifier": "esn",
    "ESNRegressor": "esn",
    "Ensemble": "ensemble",
    "Forecaster": "forecaster",
    "LanguageModel": "language",
    "SequenceClassifier": "series",
    "SequenceRegressor": "series",
    "SequenceTagger": "tagger",
    "SequenceToSequence": "rewriting",
    "Transcriber": "transcriber",
    "TreeClassifier": "trees",
    "distil": "distilling",
}

__all__ = [
    "CaptionModel",
    "ESNClassifier",
    "ESNRegressor",
    "Ensemble",
    "Forecaster",
    "LanguageModel",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceTagger",
    "SequenceToSequence",
    "Transcriber",
    "TreeClassifier",
    "distil",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
