"""How well texts are predicted: by one language model, or by several together."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.symbols import Encoded, SymbolTable
from rnncore.estimators._text import TextPipeline

__all__ = ["JudgesTexts"]

_COUNTED_AT_ONCE = 1 << 20


class JudgesTexts:
    """The part of a `LanguageModel` that says how probable a text is."""

    @property
    @abstractmethod
    def _pipeline(self) -> TextPipeline:
        """That of a fitted model."""

    @abstractmethod
    def _log_likelihood(self, found: Encoded | Sequences) -> float:
        """Return the mean over symbols, in nats."""

    @property
    def _table(self) -> SymbolTable:
        return self._pipeline.table

    @property
    def symbols_(self) -> list[Any]:
        """The symbols, in the order of the network's outputs."""
        return list(self._table.symbols)

    def _encoded(self, text: Any) -> Encoded | Sequences:
        table = self._table
        if table.sentences:
            return self._pipeline.encode(text)
        found = table.encode(text)
        if len(found) < 2:
            raise DataError(f"expected a text of at least 2 symbols, one to read and one to predict, got {len(found)}")
        return found

    def score(self, text: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of a symbol given those before it, in nats.

        A stream is read from its first symbol on, which is not predicted, without any context; of sentences the ends
        count as symbols. Symbols read as unknown count by what the unknown one is predicted with.

        Raises
        ------
        DataError, TypeError
            For a text without a symbol to predict, or with symbols that the model cannot read.
        """
        return self._log_likelihood(self._encoded(text))

    def evaluate(self, text: Any) -> dict[str, Any]:
        """Measure how well a text is predicted.

        Returns
        -------
        dict
            nats, and bits, of a symbol; perplexity; n_symbols that were predicted, and how many of them were unknown.
        """
        found = self._encoded(text)
        nats = -self._log_likelihood(found)
        unknown = self._table.unknown
        if isinstance(found, Encoded):
            n, n_unknown = len(found) - 1, 0
            for start in range(1, n + 1, _COUNTED_AT_ONCE) if unknown is not None else ():
                n_unknown += int((found.part(start, start + _COUNTED_AT_ONCE) == unknown).sum())
        else:
            n, n_unknown = len(found.x), 0 if unknown is None else int(np.sum(found.y == unknown))
        found_in = {"nats": nats, "bits": nats / math.log(2), "perplexity": math.exp(nats)}
        return found_in | {"n_symbols": n, "n_unknown": n_unknown}

    def perplexity(self, text: Any) -> float:
        """Return exp(-score): among how many equally likely symbols the model chooses, so to say."""
        return math.exp(-self.score(text))
