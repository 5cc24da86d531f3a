"""Estimators after scikit-learn's conventions: encode, build, train, decode, save."""

from __future__ import annotations

from rnncore.estimators.language import LanguageModel
from rnncore.estimators.tagger import SequenceTagger

__all__ = ["LanguageModel", "SequenceTagger"]
