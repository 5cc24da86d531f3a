"""How sure estimators of labels are: probabilities of labels and labellings, the n best of them, a temperature."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.tokens import select
from rnncore.estimators._examples import level_of_caller, with_steps
from rnncore.estimators._task import LabelTask
from rnncore.estimators.sequences import SequenceEstimator, named
from rnncore.optim.arguments import check_count
from rnncore.train.n_best import n_best
from rnncore.train.one_head import one_head
from rnncore.train.predictions import probabilities_of
from rnncore.train.temperature import HOTTEST, best_temperature, temper

__all__ = ["Uncertainty"]

_MOST = 10_000  # label sequences to a sentence, as ``Network.decode`` has them


class Uncertainty(SequenceEstimator):
    """What estimators of labels say about their doubts.

    Its subclasses are `rnncore.SequenceTagger`'s kin: a label for every step, in one column or several, or one for each
    sequence.

    Attributes
    ----------
    temperature_ : float, or dict of str to float
        What the last `calibrate` divided the scores by, of several answers by name; not kept in model files, which have
        the weights divided.
    """

    temperature_: float | dict[str, float]

    @named
    def predict_n_best(self, X: Any, n: int = 5) -> Any:
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
            ``[([], 1.0)]`` for an empty sequence. For several columns of tags a dict of such lists.

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
        collate = self.specification_.pipeline.collate

        def of_one(task: LabelTask, network: Any) -> list[list[tuple[Any, float]]]:
            found: list[list[tuple[Any, float]]] = [[([], 1.0)] for _ in range(n_sequences)]
            if data is None:
                return found
            for rows, paths, logs in n_best(network, data, int(n), collate):
                lengths = data.lengths[rows].tolist() if task.per_step else [1] * len(rows)
                probabilities = np.exp(logs)
                for column, (number, length) in enumerate(zip(numbers[rows].tolist(), lengths, strict=True)):
                    there = int((paths[:, 0, column] >= 0).sum())
                    labellings = [task.labels.decode(path) for path in paths[:there, :length, column]]
                    said = labellings if task.per_step else [labels[0] for labels in labellings]
                    found[number] = list(zip(said, probabilities[:there, column].tolist(), strict=True))
            return found

        return self._of_each(of_one)

    @named
    def confidence(self, X: Any) -> Any:
        """Return how probable the prediction for each sequence is as a whole, (S,); 1 for an empty one.

        That of a tagger is its labelling's; for several columns of tags a dict with one array for each.

        Examples
        --------
        >>> import rnncore as rc
        >>> tagger = rc.SequenceTagger(max_epochs=5).fit(*rc.datasets.news_requests(100))
        >>> tagger.confidence([["top", "news"], []]).shape
        (2,)
        """
        data, numbers, n_sequences = self._data_with_steps(X)
        collate = self.specification_.pipeline.collate

        def of_one(_: LabelTask, network: Any) -> np.ndarray:
            found = np.ones(n_sequences)
            if data is not None:
                for rows, _paths, logs in n_best(network, data, 1, collate):
                    found[numbers[rows]] = np.exp(logs[0])
            return found

        return self._of_each(of_one)

    @named
    def label_probabilities(self, X: Any, y: Any) -> Any:
        """Return the probability of each label in `y`, by itself: a (T,) array for each sequence, or (S,).

        Those of `predict_proba` at the places of `y`, without all the others in memory. A label that was not in the
        training data has probability 0. Labels of training data with a small one are worth a second look.

        For several columns of tags `y` is a dict of all or some of them, and what is returned is a dict of the same.

        Examples
        --------
        >>> import rnncore as rc
        >>> sentences, tags = rc.datasets.news_requests(100)
        >>> tagger = rc.SequenceTagger(max_epochs=5).fit(sentences, tags)
        >>> [p.shape for p in tagger.label_probabilities(sentences[:2], tags[:2])] == [(len(s),) for s in sentences[:2]]
        True
        """
        self._check_fitted()
        task: Any = self.specification_.task
        one_answer = isinstance(task, LabelTask)
        examples = task.examples(X, y, self._nouns) if one_answer else task.examples(X, y, self._nouns, every=False)
        targets = _by_name(examples.targets)
        lengths = np.array([len(sequence) for sequence in examples.sequences])
        data, numbers, _ = self._data_with_steps(examples.sequences)

        def of_one(part: LabelTask, network: Any, labels: Any) -> Any:
            if data is None:
                return [np.empty(0, dtype=network.theta.dtype) for _ in lengths]
            classes = part.encode(labels, unseen=-1)
            if not part.per_step:
                classes = classes[numbers]
            found = probabilities_of(network, data, classes, self.specification_.pipeline.collate)
            return np.split(found, np.cumsum(lengths)[:-1]) if part.per_step else found

        return self._of_each(of_one, targets)

    @named
    def calibrate(self, X: Any, y: Any) -> Self:
        """Fit one temperature for each answer to data that were not trained on, and divide the scores by it.

        As `rnncore.SequenceTagger.calibrate`.
        """
        self._check_fitted()
        task: Any = self.specification_.task
        held_out = task.examples(X, y, self._nouns).with_steps(self._nouns)
        data = self._encoded(held_out.sequences, held_out.targets, unseen=-1)
        per_step, targets = _by_name(data.per_step), _by_name(data.y)
        found = {}
        for name, own in targets.items():
            if not np.any(np.asarray(own) >= 0):
                of = f" of {name}" if name else ""
                raise DataError(f"calibrate: none of the labels{of} was in the training data")
            its = replace(data, y=own, per_step=per_step[name])
            found[name] = best_temperature(one_head(self.network_, name), its, self.specification_.pipeline.collate)
        if min(found.values()) < 1.001 / HOTTEST:
            warnings.warn(
                "calibrate: the surer the better, for these data have no errors to learn from; their number may be too "
                "small, or they may have been trained on",
                UserWarning,
                stacklevel=level_of_caller(),
            )
        for name, temperature in found.items():
            temper(one_head(self.network_, name), temperature)
        self.temperature_ = found[""] if isinstance(task, LabelTask) else found
        return self

    def _begin(self, *learned: Any) -> None:
        super()._begin(*learned)
        self.__dict__.pop("temperature_", None)

    def _of_each(self, ask: Callable[..., Any], targets: dict[str, Any] | None = None) -> Any:
        """Ask the head of each column of labels, or of those that have targets; return a dict if they have names."""
        task: Any = self.specification_.task
        names = task.labelled if targets is None else targets
        more = dict.fromkeys(names, ()) if targets is None else {name: (one,) for name, one in targets.items()}
        found = {name: ask(task.labelled[name], one_head(self.network_, name), *more[name]) for name in names}
        return task.of_columns(found)

    def _data_with_steps(self, X: Any) -> tuple[Sequences | None, np.ndarray, int]:
        """Return the sequences with steps as numbers (None if there are none), which ones they are, and of how many."""
        sequences = self._sequences(X)
        kept = with_steps(sequences)
        numbers = np.arange(len(sequences)) if kept is None else kept
        if kept is not None and self.specification_.task.per_step is False:
            raise DataError(f"an empty {self._nouns.sequence} has nothing to predict from: leave it out")
        if not len(numbers):
            return None, numbers, len(sequences)
        return self._encoded(sequences if kept is None else select(sequences, kept)), numbers, len(sequences)


def _by_name(found: Any) -> dict[str, Any]:
    """Return what there is for each answer; without a name, what there is for the only one."""
    return found if isinstance(found, dict) else {"": found}
