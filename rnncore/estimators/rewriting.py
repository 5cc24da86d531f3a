"""SequenceToSequence: sequences rewritten as others, of a length of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rnncore.data.readers import DataError
from rnncore.estimators._encoder_decoder import EncoderDecoderEstimator
from rnncore.estimators._examples import Nouns
from rnncore.estimators._pipeline import Pipeline, TokenPipeline
from rnncore.estimators._rewriting import UNITS, Rewriting, units_of
from rnncore.estimators.base import Specification
from rnncore.optim.arguments import check_choice, check_count

__all__ = ["SequenceToSequence"]


@dataclass(eq=False, repr=False)
class SequenceToSequence(EncoderDecoderEstimator):
    """Learn to write a sequence for each sequence that is read: translate, correct, normalise, sort.

    An encoder reads the source, a decoder writes symbol by symbol and looks back at what was read
    (`rnncore.EncoderDecoder`). Sources and targets are strings, of characters or words, or lists of tokens; sources may
    be arrays of numbers (T, D), too.

    Parameters
    ----------
    source_unit, target_unit : {"char", "word"}
        What strings are divided into; written words are joined by blanks.
    min_count : int
        Symbols of sources rarer than this are read as unknown.
    embedding_size : int or None
        Size of the vectors of symbols, read and written. None: a source's symbols go straight into the first layer,
        those that the decoder reads have vectors of hidden_size.

    Attributes
    ----------
    symbols_ : list
        What targets are made of.

    Examples
    --------
    >>> import rnncore as rc
    >>> sources, targets = rc.datasets.reversing(2000, length=6, symbols=8)
    >>> model = rc.SequenceToSequence(hidden_size=48, max_epochs=25).fit(sources, targets)
    >>> model.predict(["abcd", "gfa"])
    ['dcba', 'afg']
    """

    source_unit: str = "char"
    target_unit: str = "char"
    min_count: int = 1

    _nouns: ClassVar[Nouns] = Nouns("source", "target", "symbol")
    _data_names: ClassVar[dict[str, str]] = {"sources": "X", "targets": "y"}

    # -- what the base asks for ---------------------------------------------------------------------------------------

    @staticmethod
    def _make_pipeline(settings: Any) -> Pipeline:
        return TokenPipeline(
            min_count=settings.min_count,
            lowercase=False,
            fold_digits=False,
            embedding_size=settings.embedding_size,
            dtype=settings.dtype,
        )

    @staticmethod
    def _make_task(settings: Any) -> Rewriting:
        return Rewriting(settings.source_unit, settings.target_unit, settings.label_smoothing)

    @staticmethod
    def _build_network(of: Specification) -> Any:
        if of.pipeline.skip:
            raise DataError("sources: expected symbols or arrays of numbers, got dicts of features")
        return EncoderDecoderEstimator._build_network(of)

    def _check_settings(self) -> None:
        super()._check_settings()
        for name in ("source_unit", "target_unit"):
            check_choice(name, getattr(self, name), UNITS)
        check_count("min_count", self.min_count, 1)

    def _sequences(self, X: Any) -> Any:
        return units_of(X, self._task.source_unit, f"{self._nouns.sequence}s")
