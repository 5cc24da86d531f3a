"""SequenceTagger: one label for every step of a sequence."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnncore.estimators._examples import Examples, Nouns, with_steps
from rnncore.estimators._inspection import SENTENCES_AT_ONCE, Inspection
from rnncore.estimators._pipeline import TokenPipeline
from rnncore.estimators._settings import check_flag
from rnncore.estimators._task import LabelTask
from rnncore.estimators.sequences import named
from rnncore.metrics import Tally
from rnncore.optim.arguments import check_choice, check_count, check_number
from rnncore.train.predictions import batches_to_predict

__all__ = ["SequenceTagger"]

_OF_THE_PIPELINE = (
    *("min_count", "lowercase", "fold_digits", "window", "word_pairs", "affixes", "shapes", "skip"),
    *("embedding_size", "embeddings", "word_dropout", "dtype"),
)


@dataclass(eq=False, repr=False)
class SequenceTagger(Inspection):
    """Tag sequences with a recurrent network: words of sentences, symbols, or feature vectors.

    Data may also be called `sentences` and `tags`: ``fit(sentences=…, tags=…)`` is ``fit(X=…, y=…)``.

    Parameters
    ----------
    head : None, "crf" or "softmax"
        "crf": all labels of a sentence as one, with scores for one label following another; `predict` then gives the
        most probable sequence, `predict_proba` each label's marginal probability. "softmax": each step's label for
        itself given the network's state. None: "crf", but "softmax" with a `class_weight`, which then holds for each
        word by itself.
    constraints : None, "auto", "bio" or "iobes"
        Chunk labels that a "crf" never gives: see `rnncore.heads.bio_constraints`. The training data must keep to them.
    embeddings : path, (words, vectors), dict or KeyedVectors, optional
        Pretrained word vectors to start from: a file in the text form of word2vec or GloVe or (with gensim) word2vec's
        binary form, ``.bin``; words and an array (W, E); a dict of word to vector; or gensim's. All their words become
        known ones, and `embedding_size` is their size.
    window : int
        How many words to each side are features of a word too. The recurrent layers see them anyway; here they count by
        their exact place.
    word_pairs : bool
        Whether a word together with the one before, and the one after, are features.
    affixes : int
        Prefixes and suffixes of 1 to so many letters as features.
    shapes : bool
        A word's form (capitals, digits, other signs) as a feature.
    skip : False, True or "only"
        Direct weights from the word and these features (or the features in dicts or arrays) to the scores of the
        labels, past the recurrent layers, as a maximum-entropy model has them. True: beside the way through the layers;
        "only": the layers read words alone. Numbers in dicts have such weights always, and no other ones.
    word_dropout : float
        How likely a word that occurs once in the training data is read as an unknown one, each time anew; more frequent
        words accordingly less. This is how the unknown word's vector is learned.
    min_count : int
        Words rarer than this in the training data are never known.
    lowercase, fold_digits : bool
        Whether case and digits of words make no difference.
    class_weight : None, "balanced" or dict
        Weight of each label in the loss (1 where a dict has none); "balanced" is inverse to its frequency. With
        head="crf", a sentence counts as a whole, by the mean weight of its labels (see `rnncore.CRF`).

    Attributes
    ----------
    classes_ : (K,) array
        The labels, sorted.
    encoder_ : Vocabulary, WordFeatures, DictFeatures or FeatureEncoder

    Notes
    -----
    The defaults were chosen by the mean accuracy over twenty random 80/20 and six 20/80 splits of the file of the
    original program, and over samples of `rnncore.datasets.news_requests` with 200, 800 and 2400 training sentences;
    they lie where neighbouring values make no difference (a layer of 64 with a learning rate of 0.015 is right for one
    word in 3000 more, in twice the time), and clipped_relu where wide layers and long sentences still train.

    Examples
    --------
    >>> from rnncore.datasets import news_requests
    >>> sentences, tags = news_requests(200)
    >>> tagger = SequenceTagger(max_epochs=10).fit(sentences, tags)
    >>> len(tagger.predict([["top", "news", "from", "kenya"]])[0])
    4
    """

    head: str | None = None
    constraints: str | None = None
    embeddings: Any = None
    window: int = 0
    word_pairs: bool = False
    affixes: int = 0
    shapes: bool = False
    skip: bool | str = False
    word_dropout: float = 0.3
    min_count: int = 1
    lowercase: bool = True
    fold_digits: bool = True

    _nouns: ClassVar[Nouns] = Nouns("sentence", "tag", "word")
    _data_names: ClassVar[dict[str, str]] = {"sentences": "X", "tags": "y"}

    @staticmethod
    def _make_pipeline(settings: Any) -> TokenPipeline:
        return TokenPipeline(**{name: getattr(settings, name) for name in _OF_THE_PIPELINE})

    @staticmethod
    def _make_task(settings: Any) -> LabelTask:
        return LabelTask(_head(settings), settings.constraints, settings.class_weight)

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.head is not None:
            check_choice("head", self.head, ("softmax", "crf"))
        check_choice("constraints", self.constraints, (None, "auto", "bio", "iobes"))
        if _head(self) == "softmax" and self.constraints is not None:
            raise ValueError("constraints do not go with head='softmax': leave them out, or set head='crf'")
        check_number("word_dropout", self.word_dropout, "[0, 1]", 0.3)
        check_count("min_count", self.min_count, 1)
        for name in ("window", "affixes"):
            check_count(name, getattr(self, name), 0)
        if max(self.window, self.affixes) > 50:
            raise ValueError(f"window and affixes: expected at most 50, got {self.window} and {self.affixes}")
        check_choice("skip", self.skip, (False, True, "only"))
        for name in ("word_pairs", "shapes", "lowercase", "fold_digits"):
            check_flag(name, getattr(self, name))

    @property
    def _task(self) -> LabelTask:
        task = self.specification_.task
        assert isinstance(task, LabelTask)
        return task

    @property
    def _pipeline(self) -> TokenPipeline:
        pipeline = self.specification_.pipeline
        assert isinstance(pipeline, TokenPipeline)
        return pipeline

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted."""
        return np.array(self._task.classes)

    @property
    def encoder_(self) -> Any:
        """What turns words or features into numbers."""
        return self._pipeline.encoder

    @named
    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Return a (T, K) array of probabilities for each sentence, columns in the order of `classes_`."""
        sentences = self._sequences(X)
        kept = with_steps(sentences)
        if kept is not None:
            every = [np.empty((0, len(self.classes_)), dtype=self.network_.theta.dtype) for _ in range(len(sentences))]
            some = [sentences[i] for i in kept]
            for number, found in zip(kept.tolist(), self.predict_proba(some), strict=True):
                every[number] = found
            return every
        data = self._encoded(sentences)
        probabilities = self._task.probabilities(self.network_, data, self._pipeline.collate)
        return np.split(probabilities, np.cumsum(data.lengths)[:-1]) if len(data) else []

    def stream(self) -> Callable[[Any], Any]:
        """Return a function that takes one sentence's words one by one, as they come, and returns each one's label.

        It needs a tagger that was fitted to read forward and label every word for itself: ``bidirectional=False``,
        ``head="softmax"``, and no features of neighbours.

        Raises
        ------
        ValueError
            For another tagger.

        Examples
        --------
        >>> from rnncore.datasets import news_requests
        >>> tagger = SequenceTagger(bidirectional=False, head="softmax", max_epochs=3).fit(*news_requests(50))
        >>> label_of = tagger.stream()
        >>> [label_of(word) for word in ["top", "news"]] == tagger.predict([["top", "news"]])[0]
        True
        """
        self._check_fitted()
        pipeline, task = self._pipeline, self._task
        if self.specification_.settings.bidirectional or task.kind != "softmax" or not pipeline.one_by_one:
            raise ValueError(
                "words can only be tagged as they come by a tagger with bidirectional=False, head='softmax' and "
                "no window, word_pairs, affixes or shapes"
            )
        session = self.network_.session()

        def label_of(token: Any) -> Any:
            ((x, _, _, _),) = batches_to_predict(self._encoded([[token]]), pipeline.collate)
            return task.classes[int(session.run(x).argmax())]

        return label_of

    @named
    def count_correct(self, X: Any, y: Any) -> tuple[int, int]:
        """Return how many steps are tagged right, and how many there are; labels never seen count as wrong."""
        self._check_fitted()
        data = Examples.of(X, y, self._nouns, per_step=True).with_steps(self._nouns)
        encoded = self._encoded(data.sequences, data.targets, unseen=-1)
        right = self._task.right(self.network_, encoded, self._pipeline.collate)
        return int(right.sum()), len(right)

    @named
    def evaluate(self, X: Any, y: Any, strict: bool | str = False) -> dict[str, Any]:
        """Measure the predictions, and how far to trust their probabilities, against `y`.

        See `rnncore.metrics.evaluation` for `strict` and what comes back.
        """
        sentences, tags, _ = Examples.of(X, y, self._nouns, per_step=True).with_steps(self._nouns)
        tally = Tally(strict)
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            some = slice(start, start + SENTENCES_AT_ONCE)
            predicted = self.predict(sentences[some])
            sure = np.concatenate(self.label_probabilities(sentences[some], predicted))
            tally.add([list(labels) for labels in tags[some]], predicted, self.knows(sentences[some]), sure)
        return tally.result()

    @named
    def knows(self, X: Any) -> np.ndarray | None:
        """Tell of all words of all sentences whether the training data had them; None where tokens are no words."""
        return self._pipeline.knows(self._sequences(X))

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as one ONNX model, see ``Network.to_onnx``.

        Its x is what `encoder_` makes of the sentences: ids (T, B) of words, bags of ids (T, B, N) of dicts or words
        with features, or feature vectors. Labels and encoder are in the metadata, JSON under ``rnncore``; ``scores``
        and ``labels`` count the labels in the order of ``classes_``.

        Raises
        ------
        ValueError, ImportError
            As ``Network.to_onnx``.
        """
        self._check_fitted()
        inputs = self._pipeline.inputs
        about = {"classes": self._task.classes, "encoder": self.encoder_.to_json(), "inputs": inputs}
        self.network_.to_onnx(path, inputs, about)


def _head(settings: Any) -> str:
    head: str | None = settings.head
    return head or ("crf" if settings.class_weight is None else "softmax")
