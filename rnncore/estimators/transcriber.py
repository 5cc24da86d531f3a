"""Transcriber: sounds or sequences of feature vectors in, strings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks
from rnncore.data.audio import HOP
from rnncore.data.encoders import sequence_lengths
from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.tokens import select
from rnncore.estimators._decoding import Decoder
from rnncore.estimators._examples import Nouns, pieces, with_steps
from rnncore.estimators._frames import FramePipeline, Steps, check_sound
from rnncore.estimators._settings import check_flag
from rnncore.estimators._strings import StringTask, scores_of
from rnncore.estimators.sequences import SequenceEstimator, named
from rnncore.nn.ctc_decoding import Found, Span, align, log_probabilities
from rnncore.optim.arguments import check_count

__all__ = ["Transcriber"]


@dataclass(eq=False, repr=False)
class Transcriber(SequenceEstimator):
    """Write down what is said in sounds or sequences of feature vectors, learned from strings that nobody aligned.

    Recurrent layers with a connectionist temporal classification (`rnncore.CTC`; Graves, Fernández, Gomez and
    Schmidhuber 2006). Features are scaled to mean 0 and standard deviation 1.

    Parameters
    ----------
    sample_rate : float or None
        Sequences are sounds, (N,) arrays of so many samples a second, of which the layers see log-mel energies. None:
        they are features, (T, D) arrays.
    sound : dict, optional
        Further options of `rnncore.audio.log_mel` for sounds, such as {"n_mels": 32}.
    stack : int
        How many steps of the input the layers see at once, side by side.
    every : int
        They see one of so many steps, with those that `stack` adds from there on: fewer steps take less time. A string
        of L labels, R of which are the same as the one before, needs L + R of the steps that are left.
    separator : str, int or None
        The label between words, for options of `predict` that are about words.

    Attributes
    ----------
    classes_ : list
        The labels, sorted.

    Examples
    --------
    >>> import rnncore as rc
    >>> sounds, strings = rc.datasets.dialled(60, keys="123")
    >>> transcriber = Transcriber(sample_rate=rc.datasets.TONES_RATE, hidden_size=16, max_epochs=15, stack=2, every=2)
    >>> transcriber.fit(sounds[:50], strings[:50]).score(sounds[50:], strings[50:]) > 0.9
    True
    """

    sample_rate: float | None = None
    sound: Mapping[str, Any] | None = None
    stack: int = 1
    every: int = 1
    separator: Any = " "

    cell: str = "gru"
    hidden_size: int = 96
    num_layers: int = 2
    learning_rate: float = 0.004
    dropout: float = 0.3
    recurrent_dropout: float = 0.0

    _nouns: ClassVar[Nouns] = Nouns("sequence", "string", "step")
    _data_names: ClassVar[dict[str, str]] = {"strings": "y"}

    @staticmethod
    def _make_pipeline(settings: Any) -> FramePipeline:
        return FramePipeline(
            settings.stack, settings.every, _checks.precision(settings.dtype)[0].name, _sound_of(settings)
        )

    @staticmethod
    def _make_task(settings: Any) -> StringTask:
        return StringTask(Steps(_sound_of(settings), settings.every))

    def _check_settings(self) -> None:
        super()._check_settings()
        check_sound(self.sample_rate, self.sound)
        for name in ("stack", "every"):
            check_count(name, getattr(self, name), 1)
        if not isinstance(self.separator, str | int | None):
            raise TypeError(f"separator: expected a label or None, got {self.separator!r}")
        if self.embedding_size is not None:
            raise ValueError("embedding_size is not for strings from feature vectors: leave it out")

    @property
    def _pipeline(self) -> FramePipeline:
        pipeline = self.specification_.pipeline
        assert isinstance(pipeline, FramePipeline)
        return pipeline

    @property
    def _task(self) -> StringTask:
        task = self.specification_.task
        assert isinstance(task, StringTask)
        return task

    @property
    def classes_(self) -> list[Any]:
        """The labels, sorted."""
        self._check_fitted()
        return list(self._task.classes)

    @property
    def step_seconds_(self) -> float | None:
        """Seconds from one step of a sound's features to the next; None where sequences are features."""
        self._check_fitted()
        settings = self.specification_.settings
        return None if settings.sample_rate is None else float((settings.sound or {}).get("hop", HOP))

    # -- applying -----------------------------------------------------------------------------------------------------

    @named
    def predict(
        self,
        X: Any,
        beam_size: int | None = None,
        language_model: Any = None,
        lm_weight: float = 0.5,
        label_bonus: float = 0.0,
        word_bonus: float = 0.0,
        words: Any = None,
        hot_words: Any = None,
        hot_boost: float = 5.0,
        time_stamps: bool = False,
    ) -> Any:
        """Return what is said in sequences: a list of str, or of lists of labels.

        Without options it is read off the most probable path, the best label at every step. With any of them, prefixes
        are searched with a beam, which sums over all paths of a string; weights, in nats, add to log-probabilities.

        Parameters
        ----------
        X : list of (T, D) arrays, or (S, T, D) array; of sounds (N,) arrays
        beam_size : int, optional
            How many prefixes are followed at a time; 16 where another option needs a beam.
        language_model : LanguageModel, optional
            Judges what is written. Its symbols are the labels (unit="char", or "word" where labels are words), or words
            between separators (unit="word"), which then count when they are complete.
        lm_weight : float
            What its log-probabilities are multiplied by.
        label_bonus, word_bonus : float
            Added for every label, for every word: a language model alone prefers short strings.
        words : list, optional
            All words that there are; nothing else is written. Without a separator among the labels a string is one
            word.
        hot_words : list, or dict of word to boost, optional
            Words to expect: each adds `hot_boost` whenever it occurs, between separators, or anywhere if the labels
            have none. Below 0: words not to expect.
        time_stamps : bool
            Also return when labels are spoken, as `alignment` of these strings would.

        Returns
        -------
        list, or (list, list of lists of Span)
            Where a sequence has no steps, its string is empty.

        Raises
        ------
        DataError, ValueError, TypeError
            For sequences or options that cannot be used.
        """
        check_flag("time_stamps", time_stamps)
        decoder = self._decoder(
            beam_size, language_model, lm_weight, label_bonus, word_bonus, words, hot_words, hot_boost
        )
        best: list[np.ndarray] = []
        stamps: list[list[Span]] = []
        for data, kept, given in self._in_pieces(X):
            found = [np.zeros(0, dtype=np.int64)] * len(given)
            spans: list[list[Span]] = [[] for _ in given]
            for scores, rows in scores_of(self.network_, data, self._pipeline.collate):
                lengths = data.lengths[rows]
                for b, symbols in enumerate(decoder.strings(scores, lengths)):
                    number = int(kept[rows[b]])
                    found[number] = symbols
                    if time_stamps:
                        spans[number] = self._spans(scores[: lengths[b], b], symbols, given[number])
            best.extend(found)
            stamps.extend(spans)
        strings = self._task.named(best)
        return (strings, stamps) if time_stamps else strings

    @named
    def predict_n_best(
        self,
        X: Any,
        n: int = 5,
        beam_size: int | None = None,
        language_model: Any = None,
        lm_weight: float = 0.5,
        label_bonus: float = 0.0,
        word_bonus: float = 0.0,
        words: Any = None,
        hot_words: Any = None,
        hot_boost: float = 5.0,
    ) -> list[list[tuple[Any, float]]]:
        """Return the `n` best strings of each sequence, the best first, each with its score, in nats.

        The score is a string's log-probability, as far as the beam has followed its paths, and what options add. They
        are those of `predict`. There may be fewer strings than `n`.

        Examples
        --------
        >>> import rnncore as rc
        >>> sounds, strings = rc.datasets.dialled(30, keys="12")
        >>> X = [rc.audio.log_mel(sound, rc.datasets.TONES_RATE, n_mels=8) for sound in sounds]
        >>> transcriber = rc.Transcriber(hidden_size=8, max_epochs=2, every=4, stack=4).fit(X, strings)
        >>> (best, score), *others = transcriber.predict_n_best(X[:1], n=3)[0]
        >>> len(others), all(score >= other for _, other in others)
        (2, True)
        """
        check_count("n", n, 1)
        decoder = self._decoder(
            beam_size, language_model, lm_weight, label_bonus, word_bonus, words, hot_words, hot_boost, n
        )
        found: list[list[tuple[Any, float]]] = []
        for data, kept, given in self._in_pieces(X):
            nothing = [Found(np.zeros(0, dtype=np.int64), 0.0, 0.0)]
            best = [nothing] * len(given)
            for scores, rows in scores_of(self.network_, data, self._pipeline.collate):
                for row, its in zip(rows.tolist(), decoder.found(scores, data.lengths[rows]), strict=True):
                    best[int(kept[row])] = its
            for its in best:
                strings = self._task.named([one.symbols for one in its])
                found.append([(string, one.score) for string, one in zip(strings, its, strict=True)])
        return found

    def predict_log_proba(self, X: Any) -> list[np.ndarray]:
        """Return the logarithms of the probabilities of labels (in the order of `classes_`) and of the blank.

        They are of the steps that the layers see: (⌈T / every⌉, K + 1) float64 for each sequence.
        """
        found: list[np.ndarray] = []
        for data, kept, given in self._in_pieces(X):
            some = [np.zeros((0, len(self._task.classes) + 1))] * len(given)
            for scores, rows in scores_of(self.network_, data, self._pipeline.collate):
                for b, row in enumerate(rows.tolist()):
                    some[int(kept[row])] = log_probabilities(scores[: data.lengths[row], b])
            found.extend(some)
        return found

    def alignment(self, x: Any, string: Any = None) -> list[Span]:
        """Return when each label of a string is spoken in one sequence, by the most probable path that speaks it.

        Parameters
        ----------
        x : (T, D) array, or sound (N,)
        string : str or list of labels, optional
            None: what `predict` finds.

        Returns
        -------
        list of Span
            Labels, each with the steps of the features it is spoken in, `start` to `end` (not included), and its
            largest probability there. Of a sound a step is `hop` seconds.

        Raises
        ------
        DataError
            For labels that are not known, and a string that does not fit into the steps.

        Examples
        --------
        >>> import rnncore as rc
        >>> sounds, strings = rc.datasets.dialled(60, keys="123")
        >>> X = [rc.audio.log_mel(sound, rc.datasets.TONES_RATE, n_mels=20) for sound in sounds]
        >>> transcriber = rc.Transcriber(hidden_size=16, max_epochs=10, stack=2, every=2).fit(X, strings)
        >>> spans = transcriber.alignment(X[0], strings[0])
        >>> "".join(span.symbol for span in spans) == strings[0]
        True
        """
        if string is None:
            return self.predict([x], time_stamps=True)[1][0]
        self._check_fitted()
        symbols = self._task.encode([string])[0]
        symbols = symbols[symbols >= 0]
        scores = np.zeros((0, len(self._task.classes) + 1))
        for data, _, _ in self._in_pieces([x]):
            for found, _ in scores_of(self.network_, data, self._pipeline.collate):
                scores = found[:, 0]
        try:
            return self._spans(scores, symbols, int(self._pipeline.steps.of_features(np.array([len(x)]))[0]))
        except ValueError as problem:
            raise DataError(f"{string!r} cannot be said in this sequence: {problem}") from None

    def features(self, X: Any) -> list[np.ndarray]:
        """Return the features of sequences as they are before they are scaled: of sounds their log-mel energies."""
        self._check_fitted()
        return list(self._pipeline.features(sequences_of(X, "sequences")))

    # -- in the middle ------------------------------------------------------------------------------------------------

    def _decoder(self, *options: Any) -> Decoder:
        self._check_fitted()
        task = self._task
        return Decoder(task.classes, task.text, self.specification_.settings.separator, *options)

    def _in_pieces(self, X: Any) -> Iterator[tuple[Sequences, np.ndarray, list[int]]]:
        """Yield some sequences at a time: those with steps encoded, which they are, and how many steps each has."""
        self._check_fitted()
        sequences = sequences_of(X, "sequences")
        for some in pieces(sequences):
            part = sequences[some]
            kept = with_steps(part)
            rows = np.arange(len(part)) if kept is None else kept
            if len(part):
                steps = self._pipeline.steps.of_features(sequence_lengths(part, "sequences"))
                yield self._encoded(part if kept is None else select(part, rows)), rows, steps.tolist()

    def _spans(self, scores: np.ndarray, symbols: np.ndarray, steps: int) -> list[Span]:
        """Return the spans of a string in steps of the input."""
        every, classes = self._pipeline.every, self._task.classes
        return [
            Span(classes[span.symbol], span.start * every, min(span.end * every, steps), span.probability)
            for span in align(scores, symbols)[0]
        ]


def _sound_of(settings: Any) -> dict[str, Any] | None:
    """Return the options of `log_mel`, or None where sequences are features."""
    if settings.sample_rate is None:
        if settings.sound is not None:
            raise ValueError("sound is for sounds: give their sample_rate, too, or leave it out")
        return None
    return {"sample_rate": settings.sample_rate, **(settings.sound or {})}
