"""What ``rnncore train`` can learn: for each task what it reads, how it trains, and what it has to say."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from rnncore.estimators.presets import Preset

__all__ = ["TASKS", "Data", "Task", "task_of"]

#: name -> module and class
TASKS = {
    "tag": ("rnncore.cli.tagging", "Tagging"),
    "lm": ("rnncore.cli.language", "Language"),
    "classify": ("rnncore.cli.series", "Classifying"),
    "regress": ("rnncore.cli.series", "Regressing"),
    "forecast": ("rnncore.cli.forecasting", "Forecasting"),
    "transcribe": ("rnncore.cli.transcribing", "Transcribing"),
    "caption": ("rnncore.cli.captions", "Captions"),
    "translate": ("rnncore.cli.translation", "Translation"),
}


class Data(NamedTuple):
    """What a training reads, and what to call it."""

    train: Any
    valid: Any
    test: Any
    described: str


class Task(ABC):
    """What is to be learned."""

    presets: Mapping[str, Preset]
    defaults: Mapping[str, Any] = {}  # settings, where neither preset nor user says otherwise

    @abstractmethod
    def estimator(self) -> type:
        """Return the estimator's class (its import takes most of a second)."""

    @abstractmethod
    def read(self, options: argparse.Namespace, settings: dict[str, Any]) -> Data:
        """Read the files; settings as they will be."""

    @abstractmethod
    def fit(self, model: Any, data: Data, **options: Any) -> None:
        """Train; options are of `fit`: where checkpoints go, and which processes train together."""

    @abstractmethod
    def report(self, model: Any, data: Data, seconds: float) -> dict[str, Any]:
        """Return this task's figures."""

    @abstractmethod
    def show(self, say: Any, model: Any, report: dict[str, Any]) -> None:
        """Tell people what came out."""


def task_of(name: str) -> Task:
    """Return a task by its name."""
    module, kind = TASKS[name]
    made: Task = getattr(import_module(module), kind)()
    return made
