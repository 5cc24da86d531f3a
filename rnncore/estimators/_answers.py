"""What a tagger does with several answers: labels of sentences beside the tags, and tags of several columns."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.tokens import select
from rnncore.estimators._examples import Targets, pieces, spread, with_steps
from rnncore.estimators._joint import SENTENCE, TAGS, JointTask, described, targets_of
from rnncore.estimators._settings import check_flag
from rnncore.estimators._tally import AnswersTally
from rnncore.estimators._uncertainty import Uncertainty
from rnncore.estimators.base import over_processes
from rnncore.estimators.sequences import Method, named
from rnncore.io.checkpoints import Checkpoints
from rnncore.train.predictions import decode_surely

__all__ = ["AnswersEstimator"]


def third_is_labels(method: Method) -> Method:
    """Let the third argument be labels of sentences where there are such, and else what it was before there were."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        check_flag("sentence_labels", self.sentence_labels)
        if len(args) > 2 and not self.sentence_labels:
            lists = isinstance(args[2], list | tuple) and method.__name__ != "partial_fit"
            if lists and all(isinstance(one, str) for one in args[2]):
                raise DataError(_NO_LABELS)
            args = (*args[:2], None, *args[2:])
        return method(self, *args, **options)

    return call  # type: ignore[return-value]


_NO_LABELS = "labels of sentences are for a tagger made with sentence_labels=True: set it, or leave them out"

_NOT_FITTED_WITH = "this tagger was fitted without labels of sentences: set sentence_labels=True, and fit"


class AnswersEstimator(Uncertainty):
    """Base of what tags: all that knows of several answers."""

    sentence_labels: bool

    # -- learning -----------------------------------------------------------------------------------------------------

    @named
    @third_is_labels
    @over_processes
    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        sentence_labels: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
        *,
        comm: Any = None,
        shards: int | None = None,
    ) -> Self:
        """Learn from sentences and their tags.

        Parameters
        ----------
        X : list of sequences
            Lists of str, int or dict, or (T, D) arrays; in a list, an array, a Series, a frame's column or a generator.
            Dicts hold features as sklearn-crfsuite takes them, numbers and arrays of numbers among them, see
            `rnncore.data.features.DictFeatures`. What `rnncore.data.readers.read_packed` reads from a file takes least
            memory.
        y : list of lists, or dict of str to such
            A tag for every step. A dict holds several columns of tags, {"upos": …, "xpos": …}, which one network learns
            together; all that is predicted then comes as such a dict.
        sentence_labels : list, optional
            With ``sentence_labels=True`` one label for each sentence. Without, there is no such argument by position:
            the third is then `sample_weight`.
        sample_weight : (S,) array, optional
            Factor of each sequence's loss, relative to the mean over all steps: a sequence of weight 2 counts as much
            as if it were there twice, one of weight 0 as if it were not there.
        validation_data : (X, y), or (X, y, sentence_labels), optional
            Watched instead of a part of `X`, and switches early stopping on. Of several answers, the mean of all
            accuracies is what counts.
        checkpoint : path, optional
            File to keep the state of the training in, every `checkpoint_every` seconds and after a signal.
        resume : path, optional
            A checkpoint to go on from, with the same data and settings. The result has the same bits as if training had
            never stopped. Further checkpoints take its place, unless `checkpoint` names another file.
        comm, shards : optional
            Processes that train together, and the parts that each minibatch is dealt to, as `rnncore.Trainer` takes
            them: `fit` is called in all of them, with the same data.

        Returns
        -------
        self

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used; a sentence that has a label but no words is among it.
        KeyboardInterrupt, SystemExit
            After Ctrl-C, and after SIGTERM or SIGHUP; the estimator is then fitted with what was learned until then.

        Examples
        --------
        >>> import rnncore as rc
        >>> sentences, tags = [["play", "jazz"], ["rain", "today"]] * 9, [["O", "B-MUSIC"], ["O", "B-TIME"]] * 9
        >>> tagger = rc.SequenceTagger(sentence_labels=True).fit(sentences, tags, ["music", "weather"] * 9)
        >>> tagger.predict([["play", "jazz"]]), tagger.predict_sentences([["play", "jazz"]]).tolist()
        ([['O', 'B-MUSIC']], ['music'])
        """
        self._check_settings()
        if validation_data is not None:
            validation_data = self._apart(validation_data)
        targets = self._targets(y, sentence_labels, self.warm_start and hasattr(self, "network_"))
        return super().fit(
            *(X, targets, sample_weight, validation_data, checkpoint, checkpoint_every, resume),
            comm=comm,
            shards=shards,
        )

    @named
    @third_is_labels
    @over_processes
    def partial_fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        sentence_labels: Any = None,
        classes: Any = None,
        sample_weight: Any = None,
        sentence_classes: Any = None,
        *,
        comm: Any = None,
        shards: int | None = None,
    ) -> Self:
        """Learn one epoch more, with a constant learning rate.

        The first call without a `fit` before it takes vocabulary and labels from its data (`classes`: all tags there
        will be, for several columns a dict; `sentence_classes`: all labels of sentences); words that come later are
        unknown. Weights are relative to the mean of one call. The third argument by position is `classes` without
        ``sentence_labels=True``. `comm` and `shards` are those of `fit`.

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used.
        """
        self._check_settings()
        targets = self._targets(y, sentence_labels, hasattr(self, "network_"))
        if isinstance(targets, Targets):
            named_classes = dict(classes or {}) if targets.columns is not None else {TAGS: classes}
            classes = named_classes | {SENTENCE: sentence_classes}
        return super().partial_fit(X, targets, classes, sample_weight, comm=comm, shards=shards)

    def _targets(self, y: Any, sentence_labels: Any, goes_on: bool = False) -> Any:
        """Return all that is to be learned: `y` itself where it is one list of tags.

        A training that goes on with what was fitted must be of the same answers.
        """
        if self.sentence_labels and sentence_labels is None:
            raise DataError("sentence_labels=True: expected a label for each sentence after sentences and tags")
        if sentence_labels is not None and not self.sentence_labels:
            raise DataError(_NO_LABELS)
        one = not isinstance(y, Mapping) and sentence_labels is None
        targets = y if one else targets_of(y, sentence_labels)
        if goes_on:
            joint = self._joint
            its = None if joint is None else joint.columns
            given = targets.columns if isinstance(targets, Targets) else None
            if {*(its or ())} != {*(given or ())}:
                raise DataError(f"expected the tags as {described(its)}, as they were fitted; got {described(given)}")
            if self.sentence_labels != (joint is not None and joint.labels_sentences):
                raise ValueError("what was fitted goes on with the same answers: set sentence_labels as it was")
        return targets

    def _apart(self, data: Any) -> tuple[Any, Any]:
        """Return sentences, and everything that is to be learned of them."""
        wanted = ("sentences", "tags", "labels of sentences")[: 3 if self.sentence_labels else 2]
        if not isinstance(data, tuple | list) or len(data) != len(wanted):
            got = f"{len(data)} parts" if isinstance(data, tuple | list) else type(data).__name__
            raise DataError(f"validation_data: expected ({', '.join(wanted)}), got {got}")
        return data[0], self._targets(data[1], data[2] if self.sentence_labels else None)

    # -- applying -----------------------------------------------------------------------------------------------------

    @property
    def _joint(self) -> JointTask | None:
        """The task, if it has several answers."""
        self._check_fitted()
        task = self.specification_.task
        return task if isinstance(task, JointTask) else None

    def _check_labelling(self) -> JointTask:
        joint = self._joint
        if joint is None or not joint.labels_sentences:
            raise ValueError(_NOT_FITTED_WITH)
        return joint

    def _of_columns(self, found: Any) -> Any:
        """Return the tags' part of what was found: a dict if they were fitted in columns."""
        return found if self._joint is None else self._joint.of_columns(found)

    @property
    def sentence_classes_(self) -> np.ndarray:
        """The labels of sentences, sorted."""
        joint = self._joint
        if joint is None or not joint.labels_sentences:
            raise AttributeError(_NOT_FITTED_WITH)
        return np.array(joint.parts[SENTENCE].classes)

    @named
    def predict(self, X: Any) -> Any:
        """Return the tags: lists like `X`; for several columns a dict of these."""
        if self._joint is None:
            return super().predict(X)
        return self._of_columns(self.predict_answers(X))

    @named
    def predict_answers(self, X: Any) -> dict[str, Any]:
        """Return everything there is to predict in one go, by name.

        Returns
        -------
        dict
            Lists of tags for each column, or under "tags" where they have no name; labels of sentences, an array, under
            "sentence".

        Examples
        --------
        >>> from rnncore.datasets import news_requests
        >>> import rnncore as rc
        >>> sentences, tags = news_requests(50)
        >>> columns = {"slots": tags, "lengths": [[len(word) for word in words] for words in sentences]}
        >>> tagger = rc.SequenceTagger(max_epochs=3).fit(sentences, columns)
        >>> sorted(tagger.predict_answers([["top", "news"]]))
        ['lengths', 'slots']
        """
        joint = self._joint
        if joint is None:
            return {TAGS: super().predict(X)}
        data, kept, n = self._words_of(X)
        return self._in_places(joint.answers(self.network_, data, self.specification_.pipeline.collate), kept, n)

    def _predict_surely(self, X: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what `predict_answers` does, and how probable each label is by itself: an array (N,) for all words.

        That of "sentence" is of sentences with words alone.
        """
        data, kept, n = self._words_of(X)
        task: Any = self.specification_.task
        numbers, sure = decode_surely(self.network_, data, self.specification_.pipeline.collate)
        if self._joint is None:
            numbers, sure, parts = {TAGS: numbers[""]}, {TAGS: sure[""]}, {TAGS: task}
        else:
            parts = task.parts
        answers = {name: parts[name].named(one, data.lengths) for name, one in numbers.items()}
        return self._in_places(answers, kept, n), sure

    def _words_of(self, X: Any) -> tuple[Sequences, np.ndarray | None, int]:
        """Return the sentences that have words as numbers; which ones they are, None for all; and of how many."""
        sentences = self._sequences(X)
        kept = with_steps(sentences)
        return self._encoded(sentences if kept is None else select(sentences, kept)), kept, len(sentences)

    def _in_places(self, found: dict[str, Any], kept: np.ndarray | None, n: int) -> dict[str, Any]:
        """Put the answers for the sentences `kept` where they belong, and for others what is known without words."""
        every = {name: one if name == SENTENCE else spread(one, kept, list, n) for name, one in found.items()}
        joint = self._joint
        if joint is not None and joint.labels_sentences and kept is not None:
            labels = self.sentence_classes_[np.full(n, joint.shares.argmax())]
            labels[kept] = found[SENTENCE]
            every[SENTENCE] = labels
        return every

    @named
    def predict_sentences(self, X: Any) -> np.ndarray:
        """Return a label for each sentence, (S,); for an empty one that which most sentences of the training data had.

        Raises
        ------
        ValueError
            If the tagger was fitted without labels of sentences.
        """
        self._check_labelling()
        labels: np.ndarray = self.predict_answers(X)[SENTENCE]
        return labels

    @named
    def predict_sentences_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of each sentence's label, (S, L), columns in the order of `sentence_classes_`.

        Those of an empty sentence are the shares of the labels in the training data.

        Raises
        ------
        ValueError
            If the tagger was fitted without labels of sentences.
        """
        joint = self._check_labelling()
        data, kept, n = self._words_of(X)
        found: np.ndarray = joint.probabilities(self.network_, data, self.specification_.pipeline.collate)[SENTENCE]
        if kept is None:
            return found
        every = np.tile(joint.shares.astype(found.dtype), (n, 1))
        every[kept] = found
        return every

    @named
    @third_is_labels
    def evaluate(self, X: Any, y: Any, sentence_labels: Any = None, strict: bool | str = False) -> dict[str, Any]:
        """Measure the predictions against `y` and, if they are given, labels of sentences.

        Parameters
        ----------
        X, y
            Sentences and tags, as `fit` takes them; what has no words does not count.
        sentence_labels : list, optional
            With ``sentence_labels=True``; without, there is no such argument by position.
        strict : bool or str
            As `rnncore.metrics.entity_scores` takes it.

        Returns
        -------
        dict
            As `rnncore.metrics.evaluation`, confidence and calibration among it. With labels of sentences these are
            measured under "sentence", and "whole" counts sentences of which everything is right. For several columns
            of tags a dict of such dicts by name, and "sentence".
        """
        self._check_fitted()
        if sentence_labels is not None:
            self._check_labelling()
        joint = self._joint
        task = joint or self.specification_.task
        targets = y if joint is None else targets_of(y, sentence_labels)
        data = task.examples(X, targets, self._nouns).with_steps(self._nouns)
        true = {TAGS: data.targets} if joint is None else data.targets
        tally = AnswersTally(strict)
        for some in pieces(data.sequences):
            own = {name: [*one[some]] if name == SENTENCE else [*map(list, one[some])] for name, one in true.items()}
            sentences = data.sequences[some]
            predicted, sure = self._predict_surely(sentences)
            tally.add(own, predicted, self.knows(sentences), sure)
        found = tally.result()
        if joint is not None and joint.columns is not None:
            return found
        return found.pop(TAGS) | found

    @named
    def calibrate(self, X: Any, y: Any, sentence_labels: Any = None) -> Self:
        """Fit one temperature to data that were not trained on, so that probabilities are as often right as they say.

        All scores are divided by `temperature_`, which is chosen so that the labels in `y` are as probable as can be,
        each by itself (Guo et al. 2017). Predictions stay; `predict_proba`, `confidence` and the probabilities of
        `predict_n_best` change together. It is the head's weights that are divided: model files and ONNX need nothing
        new, and training that goes on (`partial_fit`, ``warm_start``) goes on from those weights.

        Of several answers each has a head and a temperature of its own: every column of tags, and the labels of
        sentences where they are given. Without them their probabilities stay as they are.

        Parameters
        ----------
        X, y : as for `fit`
            Labels that were not in the training data do not count.
        sentence_labels : list, optional
            Those of a tagger with ``sentence_labels=True``.

        Returns
        -------
        self
            With `temperature_`, what this call divided by: above 1 where the probabilities were too sure. Of several
            answers a dict by name, with "tags" where they have none, and "sentence".

        Raises
        ------
        DataError
            If the data cannot be used, or have none of the labels.
        ValueError
            For labels of sentences, if the tagger was fitted without.

        Examples
        --------
        >>> import rnncore as rc
        >>> sentences, tags = rc.datasets.news_requests(300)
        >>> tagger = rc.SequenceTagger(max_epochs=10).fit(sentences[:200], tags[:200])
        >>> before = tagger.predict(sentences[200:])
        >>> tagger.calibrate(sentences[200:], tags[200:]).predict(sentences[200:]) == before
        True
        """
        if sentence_labels is not None:
            self._check_labelling()
        return super().calibrate(X, y if self._joint is None else targets_of(y, sentence_labels))
