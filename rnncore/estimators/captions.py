"""CaptionModel: sentences about vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnncore.data.inputs import values_of
from rnncore.data.readers import DataError
from rnncore.data.texts import joined_words, words_of
from rnncore.estimators._encoder_decoder import EncoderDecoderEstimator
from rnncore.estimators._examples import Examples, Nouns
from rnncore.estimators._rewriting import UNITS, Rewriting, Text
from rnncore.estimators._settings import check_flag
from rnncore.estimators._sources import SourcePipeline, sources_of
from rnncore.optim.arguments import check_choice

__all__ = ["CaptionModel"]


class _Captions(Rewriting):
    """A sentence about each vector, class or sequence of vectors."""

    def __init__(self, unit: str, label_smoothing: float, lowercase: bool) -> None:
        super().__init__(target_unit=unit, label_smoothing=label_smoothing)
        self.lowercase = lowercase

    def examples(self, sequences: Any, targets: Any, nouns: Nouns) -> Examples:
        """Check that there are as many sentences as sources, and divide them."""
        sources, sentences = sources_of(sequences), values_of(targets, f"{nouns.target}s")
        if not sources:
            raise DataError(f"there are no {nouns.sequence}s: expected at least one")
        if len(sources) != len(sentences):
            raise DataError(
                f"expected as many {nouns.target}s as {nouns.sequence}s, got {len(sentences)} and {len(sources)}"
            )
        return Examples(sources, [self._divided(one, number) for number, one in enumerate(sentences)])

    def _divided(self, sentence: Any, number: int) -> Text:
        if not isinstance(sentence, str):
            raise DataError(f"sentence {number}: expected a str, got {type(sentence).__name__}")
        text = sentence.lower() if self.lowercase else sentence
        if not text.strip():
            raise DataError(f"sentence {number} is empty: leave it out, or say something")
        return Text(words_of(text) if self.target_unit == "word" else text)

    def joined(self, numbers: np.ndarray) -> str:
        """Return written numbers as a sentence."""
        symbols = self.labels.decode(numbers)
        return joined_words(symbols) if self.target_unit == "word" else "".join(symbols)


@dataclass(eq=False, repr=False)
class CaptionModel(EncoderDecoderEstimator):
    """Write sentences about vectors: an image's features, a class, or a sequence of vectors.

    Sources are an array (N, V) or a list of vectors; a list of classes, str or int; an array (N, T, D) or a list of
    arrays (T, D), sequences that layers of their own read, and that each word looks back at. Vectors are scaled to mean
    0 and standard deviation 1 in each of their numbers. Data may also be called `vectors` and `sentences`.

    Parameters
    ----------
    unit : {"word", "char"}
        What is written one after another: words and signs, or characters.
    lowercase : bool
        Read capitals in sentences as small letters.
    conditioning : {"state", "input", "both"} or None
        What the vector is to the layers that write: makes their first state, or stands beside each word, or both. Of a
        sequence the final state of the layers that read it is this vector; None: only looked back at.

    Attributes
    ----------
    symbols_ : list of str
        The words or characters that can be written.

    Examples
    --------
    >>> import rnncore as rc
    >>> animals = ["cat", "dog", "cow"]
    >>> sentences = ["a cat says meow", "a dog barks", "cows moo"]
    >>> model = rc.CaptionModel(hidden_size=16, max_epochs=60).fit(animals * 10, sentences * 10)
    >>> model.predict(["dog", "cow"])
    ['a dog barks', 'cows moo']
    >>> model.predict_n_best(["cat"], 2)[0][0][0]
    'a cat says meow'
    """

    unit: str = "word"
    lowercase: bool = False

    embedding_size: int | None = 32

    _nouns: ClassVar[Nouns] = Nouns("vector", "sentence", "vector")
    _data_names: ClassVar[dict[str, str]] = {"vectors": "X", "sentences": "y"}

    @staticmethod
    def _make_pipeline(settings: Any) -> SourcePipeline:
        return SourcePipeline(settings.dtype)

    @staticmethod
    def _make_task(settings: Any) -> _Captions:
        return _Captions(settings.unit, settings.label_smoothing, settings.lowercase)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("unit", self.unit, UNITS)
        check_flag("lowercase", self.lowercase)

    def _sequences(self, X: Any) -> Any:
        self._check_fitted()
        return sources_of(X)
