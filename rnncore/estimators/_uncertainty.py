"""How sure estimators of labels are: probabilities of labels and labellings, the n best of them, a temperature."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.tokens import select
from rnncore.estimators._examples import Examples, with_steps
from rnncore.estimators._task import LabelTask
from rnncore.estimators.sequences import SequenceEstimator, named
from rnncore.optim.arguments import check_count
from rnncore.train.n_best import n_best
from rnncore.train.predictions import probabilities_of
from rnncore.train.temperature import HOTTEST, best_temperature, temper

__all__ = ["Uncertainty"]

_MOST = 10_000  # label sequences to a sentence, as ``Network.decode`` has them


class Uncertainty(SequenceEstimator):
    """What estimators whose task is a `LabelTask` say about their doubts.

    Its subclasses are `rnncore.SequenceTagger`'s kin: one label for every step, or one for each sequence.

    Attributes
    ----------
    temperature_ : float
        What the last `calibrate` divided the scores by; not kept in model files, which have the weights divided.
    """

    temperature_: float

    @named
    def predict_n_best(self, X: Any, n: int = 5) -> list[list[tuple[Any, float]]]:
        """Return the n most probable predictions for each sequence, with their probabilities, the best first.

        The first is what `predict` says. Where each step has a label, these are the labels of the whole sequence: with
        head="crf" those of the most probable paths; with "softmax", where each step's label is independent of the
        others, the largest products. There may be fewer than n, as constraints and short sequences have it.

        Parameters
        ----------
        X : list of sequences
        n : int
            At most 10 000.

        Returns
        -------
        list of lists of (labels, probability)
            ``[([], 1.0)]`` for an empty sequence.

        Examples
        --------
        >>> import rnncore as rc
        >>> tagger = rc.SequenceTagger(max_epochs=5).fit(*rc.datasets.news_requests(100))
        >>> (best, p), (second, q) = tagger.predict_n_best([["top", "news"]], n=2)[0]
        >>> best == tagger.predict([["top", "news"]])[0], p >= q
        (True, True)
        """
        check_count("n", n, 1)
        if n > _MOST:
            raise ValueError(f"n: expected at most {_MOST}, got {n}")
        data, numbers, n_sequences = self._data_with_steps(X)
        found: list[list[tuple[Any, float]]] = [[([], 1.0)] for _ in range(n_sequences)]
        task = self._label_task
        if data is None:
            return found
        for rows, paths, logs in n_best(self.network_, data, int(n), self.specification_.pipeline.collate):
            lengths = data.lengths[rows].tolist() if task.per_step else [1] * len(rows)
            probabilities = np.exp(logs)
            for column, (number, length) in enumerate(zip(numbers[rows].tolist(), lengths, strict=True)):
                there = int((paths[:, 0, column] >= 0).sum())
                labellings = [task.labels.decode(path) for path in paths[:there, :length, column]]
                said = labellings if task.per_step else [labels[0] for labels in labellings]
                found[number] = list(zip(said, probabilities[:there, column].tolist(), strict=True))
        return found

    @named
    def confidence(self, X: Any) -> np.ndarray:
        """Return how probable the prediction for each sequence is as a whole, (S,); 1 for an empty one.

        Examples
        --------
        >>> import rnncore as rc
        >>> tagger = rc.SequenceTagger(max_epochs=5).fit(*rc.datasets.news_requests(100))
        >>> tagger.confidence([["top", "news"], []]).shape
        (2,)
        """
        data, numbers, n_sequences = self._data_with_steps(X)
        found = np.ones(n_sequences)
        if data is not None:
            for rows, _, logs in n_best(self.network_, data, 1, self.specification_.pipeline.collate):
                found[numbers[rows]] = np.exp(logs[0])
        return found

    @named
    def label_probabilities(self, X: Any, y: Any) -> Any:
        """Return the probability of each label in `y`, by itself: a (T,) array for each sequence, or (S,).

        Those of `predict_proba` at the places of `y`, without all the others in memory. A label that was not in the
        training data has probability 0. Labels of training data with a small one are worth a second look.

        Examples
        --------
        >>> import rnncore as rc
        >>> sentences, tags = rc.datasets.news_requests(100)
        >>> tagger = rc.SequenceTagger(max_epochs=5).fit(sentences, tags)
        >>> [p.shape for p in tagger.label_probabilities(sentences[:2], tags[:2])] == [(len(s),) for s in sentences[:2]]
        True
        """
        self._check_fitted()
        task = self._label_task
        sequences, targets, _ = Examples.of(X, y, self._nouns, task.per_step)
        lengths = np.array([len(sequence) for sequence in sequences])
        data, numbers, _ = self._data_with_steps(sequences)
        if data is None:
            return [np.empty(0, dtype=self.network_.theta.dtype) for _ in sequences]
        classes = task.encode(targets, unseen=-1)
        if not task.per_step:
            classes = classes[numbers]
        found = probabilities_of(self.network_, data, classes, self.specification_.pipeline.collate)
        return np.split(found, np.cumsum(lengths)[:-1]) if task.per_step else found

    @named
    def calibrate(self, X: Any, y: Any) -> Self:
        """Fit one temperature to data that were not trained on, so that probabilities are as often right as they say.

        All scores are divided by `temperature_`, which is chosen so that the labels in `y` are as probable as can be,
        each by itself (Guo et al. 2017). Predictions stay; `predict_proba`, `confidence` and the probabilities of
        `predict_n_best` change together. It is the head's weights that are divided: model files and ONNX need nothing
        new, and training that goes on (`partial_fit`, ``warm_start``) goes on from those weights.

        Parameters
        ----------
        X, y : as for `fit`
            Labels that were not in the training data do not count.

        Returns
        -------
        self
            With `temperature_`, what this call divided by: above 1 where the probabilities were too sure.

        Raises
        ------
        DataError
            If the data cannot be used, or have none of the labels.

        Examples
        --------
        >>> import rnncore as rc
        >>> sentences, tags = rc.datasets.news_requests(300)
        >>> tagger = rc.SequenceTagger(max_epochs=10).fit(sentences[:200], tags[:200])
        >>> before = tagger.predict(sentences[200:])
        >>> tagger.calibrate(sentences[200:], tags[200:]).predict(sentences[200:]) == before
        True
        """
        self._check_fitted()
        held_out = Examples.of(X, y, self._nouns, self._label_task.per_step).with_steps(self._nouns)
        data = self._encoded(held_out.sequences, held_out.targets, unseen=-1)
        if not np.any(np.asarray(data.y) >= 0):
            raise DataError("calibrate: none of the labels was in the training data")
        temperature = best_temperature(self.network_, data, self.specification_.pipeline.collate)
        if temperature < 1.001 / HOTTEST:
            warnings.warn(
                "calibrate: the surer the better, for these data have no errors to learn from; their number may be too "
                "small, or they may have been trained on",
                UserWarning,
                stacklevel=3,
            )
        temper(self.network_, temperature)
        self.temperature_ = temperature
        return self

    def _begin(self, *learned: Any) -> None:
        super()._begin(*learned)
        self.__dict__.pop("temperature_", None)

    @property
    def _label_task(self) -> LabelTask:
        self._check_fitted()
        task = self.specification_.task
        if not isinstance(task, LabelTask):
            raise ValueError(
                "how sure a tagger is can be asked of one answer alone, and this one gives several: their "
                "probabilities are those of predict_proba and predict_sentences_proba"
            )
        return task

    def _data_with_steps(self, X: Any) -> tuple[Sequences | None, np.ndarray, int]:
        """Return the sequences with steps as numbers (None if there are none), which ones they are, and of how many."""
        task, sequences = self._label_task, self._sequences(X)
        kept = with_steps(sequences)
        numbers = np.arange(len(sequences)) if kept is None else kept
        if kept is not None and not task.per_step:
            raise DataError(f"an empty {self._nouns.sequence} has nothing to predict from: leave it out")
        if not len(numbers):
            return None, numbers, len(sequences)
        return self._encoded(sequences if kept is None else select(sequences, kept)), numbers, len(sequences)
