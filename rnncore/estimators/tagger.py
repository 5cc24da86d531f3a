"""SequenceTagger: one label for every step of a sequence."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnncore.estimators._answers import AnswersEstimator
from rnncore.estimators._defaults import BY_DATA, PASSES, chosen
from rnncore.estimators._examples import Examples, Nouns, Targets, spread
from rnncore.estimators._inspection import Inspection
from rnncore.estimators._joint import SENTENCE, JointTask, each
from rnncore.estimators._look import look_at
from rnncore.estimators._pipeline import TokenPipeline
from rnncore.estimators._settings import check_class_weight, check_flag
from rnncore.estimators._task import LabelTask, SequenceTask
from rnncore.estimators.sequences import named
from rnncore.optim.arguments import check_choice, check_count, check_number
from rnncore.train.predictions import batches_to_predict

__all__ = ["SequenceTagger"]

_OF_THE_PIPELINE = (
    *("min_count", "lowercase", "fold_digits", "window", "word_pairs", "affixes", "shapes", "skip"),
    *("embedding_size", "embeddings", "word_dropout", "letters", "dtype"),
)


@dataclass(eq=False, repr=False)
class SequenceTagger(AnswersEstimator, Inspection):
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
    hidden_size : int or None
        Units of a recurrent layer in each direction. None, like None for `learning_rate`, `window`, `affixes`,
        `shapes`, `dropout`, `input_dropout` and `word_dropout`: chosen by what the training data look like, see
        `chosen_` and docs/tagging.md.
    learning_rate : float or None
        As the optimizers take it.
    dropout : float or None
        Share of outputs dropped between the layers and before the head.
    input_dropout : float or None
        Share dropped of the first layer's inputs (vectors or features).
    effort : "low", "usual" or "high"
        How much time good answers are worth: what is left to the data is chosen accordingly, `max_epochs` too.
    window : int or None
        How many words to each side are features of a word too. The recurrent layers see them anyway; here they count by
        their exact place.
    word_pairs : bool
        Whether a word together with the one before, and the one after, are features.
    affixes : int or None
        Prefixes and suffixes of 1 to so many letters as features.
    shapes : bool or None
        A word's form (capitals, digits, other signs) as a feature.
    skip : False, True or "only"
        Direct weights from the word and these features (or the features in dicts or arrays) to the scores of the
        labels, past the recurrent layers, as a maximum-entropy model has them. True: beside the way through the layers;
        "only": the layers read words alone. Numbers in dicts have such weights always, and no other ones.
    word_dropout : float or None
        How likely a word that occurs once in the training data is read as an unknown one, each time anew; more frequent
        words accordingly less. This is how the unknown word's vector is learned.
    letters : int
        Units, in each direction, of a recurrent network that reads each word's letters, trained with the rest; its last
        outputs stand beside the word's vector of `embedding_size` numbers (64 without). 0: none.
    min_count : int
        Words rarer than this in the training data are never known.
    lowercase, fold_digits : bool
        Whether case and digits of words make no difference.
    class_weight : None, "balanced" or dict
        Weight of each label in the loss (1 where a dict has none); "balanced" is inverse to its frequency. With
        head="crf", a sentence counts as a whole, by the mean weight of its labels (see `rnncore.CRF`). For several
        columns of tags also a dict of column to one of these.
    sentence_labels : bool
        Whether each sentence has a label, too, such as what its speaker wants: `fit` then takes these after the tags,
        and `predict_sentences` gives them.
    sentence_weight : float
        How much the loss of the sentences' labels, a mean over sentences, counts beside that of the tags, a mean over
        words: at 1 a label weighs as much as all tags of its sentence together, and takes from their accuracy.

    Attributes
    ----------
    classes_ : (K,) array, or dict of str to such
        The labels, sorted; for several columns of tags a dict.
    sentence_classes_ : (L,) array
        The labels of sentences, sorted.
    encoder_ : Vocabulary, WordFeatures, DictFeatures or FeatureEncoder
    chosen_ : dict
        The settings that were left to the data, and what they became.

    Notes
    -----
    What is left to the data, with the usual `effort`: words that are not new, or whose spelling tells nothing, are read
    by themselves, by 64 units (32 where labels of chunks meet few new words); else spelling (affixes of up to 4
    letters, shapes) and neighbours (a window of 1, where both directions are read) are features, and units are 64, or
    96 for chunks in many words or of many labels, or 32 in few. Tokens that are no words get 32 units. Learning rate
    and dropout follow. docs/tagging.md has the rules, and what they were measured on: never on test parts.

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
    hidden_size: int | None = None  # type: ignore[assignment]
    learning_rate: float | None = None  # type: ignore[assignment]
    window: int | None = None
    word_pairs: bool = False
    affixes: int | None = None
    shapes: bool | None = None
    skip: bool | str = False
    dropout: float | None = None  # type: ignore[assignment]
    input_dropout: float | None = None  # type: ignore[assignment]
    word_dropout: float | None = None
    letters: int = 0
    min_count: int = 1
    lowercase: bool = True
    fold_digits: bool = True
    effort: str = "usual"
    sentence_labels: bool = False
    sentence_weight: float = 0.3
    class_weight: str | Mapping[Any, float] | None = None

    _by_data: ClassVar[tuple[str, ...]] = BY_DATA
    _nouns: ClassVar[Nouns] = Nouns("sentence", "tag", "word")
    _data_names: ClassVar[dict[str, str]] = {"sentences": "X", "tags": "y"}

    @staticmethod
    def _make_pipeline(settings: Any) -> TokenPipeline:
        return TokenPipeline(**{name: getattr(settings, name) for name in _OF_THE_PIPELINE})

    def _epochs(self, n_sequences: int) -> int:
        return round(super()._epochs(n_sequences) * PASSES[self.effort])

    def _chosen(self, train: Examples) -> dict[str, Any]:
        tags = train.targets
        if isinstance(tags, Targets):  # of several columns the first
            tags = tags[next(iter(tags))]
        return chosen(self, look_at(train.sequences, tags))

    @staticmethod
    def _make_task(settings: Any) -> LabelTask:
        return LabelTask(_head(settings), settings.constraints, settings.class_weight)

    @classmethod
    def _task_of(cls, settings: Any, columns: tuple[str, ...] | None) -> SequenceTask:
        if columns is None and not settings.sentence_labels:
            return cls._make_task(settings)

        def make(name: str | None) -> LabelTask:
            weight = settings.class_weight
            if name is not None and isinstance(weight, Mapping):
                weight = weight.get(name)
            return LabelTask(_head(settings), settings.constraints, weight)

        return JointTask(make, columns, settings.sentence_weight if settings.sentence_labels else None)

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.head is not None:
            check_choice("head", self.head, ("softmax", "crf"))
        check_choice("constraints", self.constraints, (None, "auto", "bio", "iobes"))
        if _head(self) == "softmax" and self.constraints is not None:
            raise ValueError("constraints do not go with head='softmax': leave them out, or set head='crf'")
        check_class_weight(self.class_weight)
        check_choice("effort", self.effort, tuple(PASSES))
        if self.word_dropout is not None:
            check_number("word_dropout", self.word_dropout, "[0, 1]", 0.3)
        check_count("min_count", self.min_count, 1)
        check_count("letters", self.letters, 0)
        for name in ("window", "affixes"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 0)
        if max(self.window or 0, self.affixes or 0) > 50:
            raise ValueError(f"window and affixes: expected at most 50, got {self.window} and {self.affixes}")
        check_choice("skip", self.skip, (False, True, "only"))
        for name in ("word_pairs", "lowercase", "fold_digits", "sentence_labels"):
            check_flag(name, getattr(self, name))
        if self.shapes is not None:
            check_flag("shapes", self.shapes)
        check_number("sentence_weight", self.sentence_weight, "(0, inf)", 0.3)

    @property
    def chosen_(self) -> dict[str, Any]:
        """Settings that were left to the data, and what they became."""
        self._check_fitted()
        made = self.specification_
        return {name: getattr(made.settings, name) for name in made.chosen}

    @property
    def _task(self) -> LabelTask:
        task = self.specification_.task
        if not isinstance(task, LabelTask):
            raise ValueError(
                "this needs a tagger of one answer, not of labels of sentences or several columns of tags beside it: "
                "fit one of tags alone"
            )
        return task

    @property
    def _pipeline(self) -> TokenPipeline:
        pipeline = self.specification_.pipeline
        assert isinstance(pipeline, TokenPipeline)
        return pipeline

    @property
    def classes_(self) -> Any:
        """The labels, sorted; for several columns of tags a dict."""
        joint = self._joint
        return each(np.array, self._task.classes if joint is None else joint.tag_classes)

    @property
    def encoder_(self) -> Any:
        """What turns words or features into numbers."""
        return self._pipeline.encoder

    @named
    def predict_proba(self, X: Any) -> Any:
        """Return a (T, K) array of probabilities for each sentence, columns in the order of `classes_`.

        For several columns of tags a dict of such lists.
        """
        data, kept, n = self._words_of(X)
        task: Any = self._joint or self._task
        ends = np.cumsum(data.lengths)[:-1]

        def in_lists(found: np.ndarray) -> list[np.ndarray]:
            lists = np.split(found, ends) if len(data) else []
            return spread(lists, kept, lambda: np.empty((0, found.shape[1]), dtype=found.dtype), n)

        return each(in_lists, self._of_columns(task.probabilities(self.network_, data, self._pipeline.collate)))

    def stream(self) -> Callable[[Any], Any]:
        """Return a function that takes one sentence's words one by one, as they come, and returns each one's label.

        For several columns of tags it returns a dict. Labels of sentences are for `predict_sentences`.

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
        joint, pipeline = self._joint, self._pipeline
        parts = [self._task] if joint is None else [joint.parts[name] for name in joint.tagged]
        one_by_one = pipeline.one_by_one and all(part.kind == "softmax" for part in parts)
        if self.specification_.settings.bidirectional or not one_by_one:
            raise ValueError(
                "words can only be tagged as they come by a tagger with bidirectional=False, head='softmax' and "
                "no window or word_pairs"
            )
        session = self.network_.session()

        def label_of(token: Any) -> Any:
            ((x, _, _, _),) = batches_to_predict(self._encoded([[token]]), pipeline.collate)
            found = session.run(x)
            return self._task.classes[int(found.argmax())] if joint is None else joint.of_step(found)

        return label_of

    @named
    def count_correct(self, X: Any, y: Any) -> Any:
        """Return how many steps are tagged right, and how many there are; labels never seen count as wrong.

        For several columns of tags a dict of such pairs.
        """
        self._check_fitted()
        task: Any = self._joint or self._task
        data = task.examples(X, y, self._nouns).with_steps(self._nouns)
        encoded = self._encoded(data.sequences, data.targets, unseen=-1)
        right = self._of_columns(task.right(self.network_, encoded, self._pipeline.collate))
        return each(lambda its: (int(its.sum()), len(its)), right)

    @named
    def knows(self, X: Any) -> np.ndarray | None:
        """Tell of all words of all sentences whether the training data had them; None where tokens are no words."""
        return self._pipeline.knows(self._sequences(X))

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as one ONNX model, see ``Network.to_onnx``.

        Its x is what `encoder_` makes of the sentences: ids (T, B) of words, bags of ids (T, B, N) of dicts or words
        with features, or feature vectors; with `letters` it has ``words`` and ``letters`` (T, B, L). Labels and encoder
        are in the metadata, JSON under ``rnncore``; ``scores`` and ``labels`` count the labels in the order of
        ``classes_``. Of several answers each has its own name: ``tags`` (or those of the columns) and ``sentence`` are
        probabilities, ``NAME.scores`` and, of a CRF, ``NAME.labels`` the rest.

        Raises
        ------
        ValueError, ImportError
            As ``Network.to_onnx``.
        """
        self._check_fitted()
        inputs, joint = self._pipeline.inputs, self._joint
        about = {"classes": self._task.classes if joint is None else joint.tag_classes}
        if joint is not None and joint.labels_sentences:
            about["sentence_classes"] = joint.parts[SENTENCE].classes
        learned = self._pipeline.to_json()
        about |= {"inputs": inputs} | {name: learned[name] for name in ("encoder", "spelling") if name in learned}
        self.network_.to_onnx(path, inputs, about)


def _head(settings: Any) -> str:
    head: str | None = settings.head
    return head or ("crf" if settings.class_weight is None else "softmax")
