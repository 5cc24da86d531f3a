"""SequenceClassifier and SequenceRegressor: what a sequence is, or how much, or what each of its steps is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import ClassifierTags, RegressorTags

from rnncore.data.readers import DataError
from rnncore.data.series import Series
from rnncore.estimators._examples import Examples, Nouns, Targets, with_steps
from rnncore.estimators._pipeline import Corrupt, Pipeline, TokenPipeline
from rnncore.estimators._series_columns import ColumnsTask
from rnncore.estimators._series_pipeline import MISSING, SCALES, SeriesPipeline
from rnncore.estimators._series_tasks import (
    FlagTask,
    NumberTask,
    SeriesLabelTask,
    are_flags,
    inputs_of,
    lies_by_step,
    plain,
)
from rnncore.estimators._settings import check_class_weight, check_flag
from rnncore.estimators._task import SequenceTask
from rnncore.estimators.presets import CLASSIFIERS, settings_of
from rnncore.estimators.sequences import SequenceEstimator, named
from rnncore.nn.heads import POOLINGS
from rnncore.optim.arguments import check_choice, check_number

__all__ = ["SequenceClassifier", "SequenceRegressor"]


class _EitherPipeline(Pipeline):
    """Of numbers or of tokens: told by the training data."""

    def __init__(self, settings: Any) -> None:
        own, words = settings, {"min_count": settings.min_count, "lowercase": settings.lowercase}
        self._numbers = SeriesPipeline(own.scale, own.missing, own.noise, own.embedding_size, own.dtype)
        self._tokens = TokenPipeline(
            **words,
            fold_digits=False,
            embedding_size=own.embedding_size,
            word_dropout=own.word_dropout,
            dtype=own.dtype,
        )
        self.of: Any = self._numbers

    def fit(self, sequences: Any) -> None:
        self.of = self._numbers if isinstance(sequences, Series) else self._tokens
        self.of.fit(sequences)
        self._take()

    def _take(self) -> None:
        self.input_size, self.embedding = self.of.input_size, self.of.embedding
        self.segments, self.skip = self.of.segments, self.of.skip

    def encode(self, sequences: Any) -> Any:
        if isinstance(sequences, Series) != (self.of is self._numbers):
            kinds = ("tokens", "numbers") if self.of is self._tokens else ("numbers", "tokens")
            raise DataError(f"the training data were sequences of {kinds[0]}, and these are of {kinds[1]}")
        return self.of.encode(sequences)

    def collate(self, x: np.ndarray, values: np.ndarray | None = None) -> Any:
        return self.of.collate(x, values)

    def augment(self, data: Any) -> Corrupt | None:
        return self.of.augment(data)

    def begin(self, network: Any) -> None:
        self.of.begin(network)

    @property
    def inputs(self) -> Any:
        return self.of.inputs

    def to_json(self) -> dict[str, Any]:
        return self.of.to_json()

    def from_json(self, header: dict[str, Any]) -> None:
        self.of = self._numbers if "series" in header else self._tokens
        self.of.from_json(header)
        self._take()


@dataclass(eq=False, repr=False)
class SeriesEstimator(SequenceEstimator):
    """Base of what learns from whole sequences, of numbers or of tokens.

    Parameters
    ----------
    pooling : {"last", "mean", "max", "attention"}
        What is made of all steps' outputs where a sequence has one target.
    per_step : bool or None
        Whether targets are for every step. None: as they lie, see `fit`.
    scale : {"standard", "none"}
        Subtract each column's mean, and divide by its standard deviation, those of the training data.
    missing : {"error", "mask"}
        What NaN is: an error; or a number that is not there, for which two columns are added: whether it is missing,
        and how long ago there was one.
    noise : float
        Standard deviation of what is added to scaled numbers while training.
    min_count, lowercase
        Of tokens: rarer ones are not known; case makes no difference.
    word_dropout : float
        How likely a token that occurs once is read as unknown while training.
    """

    cell: str = "gru"
    hidden_size: int = 64
    learning_rate: float = 0.01
    schedule: Any = "cosine"
    dropout: float = 0.3
    recurrent_dropout: float = 0.0
    pooling: str = "last"
    per_step: bool | None = None
    scale: str = "standard"
    missing: str = "error"
    noise: float = 0.0
    min_count: int = 1
    lowercase: bool = False
    word_dropout: float = 0.0

    _nouns: ClassVar[Nouns] = Nouns()

    @staticmethod
    def _make_pipeline(settings: Any) -> Pipeline:
        return _EitherPipeline(settings)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("pooling", self.pooling, [name for name in POOLINGS if name != "every"])
        check_choice("scale", self.scale, SCALES)
        check_choice("missing", self.missing, MISSING)
        check_number("noise", self.noise, "[0, inf)", 0.1)
        if self.per_step not in (None, True, False):
            raise TypeError(f"per_step: expected True, False or None, got {self.per_step!r}")

    def _epochs(self, n_sequences: int) -> int:
        return min(60, max(10, round(60 * (500 / n_sequences) ** 0.5)))

    def _sequences(self, X: Any) -> Any:
        self._check_fitted()
        return inputs_of(X, "X")

    @property
    def _reads(self) -> Any:
        pipeline: Any = self.specification_.pipeline
        return pipeline.of

    def _encoded(self, sequences: Any, targets: Any = None, unseen: int | None = None) -> Any:
        steps = getattr(sequences, "steps", None) if getattr(sequences, "is_array", False) else None
        trained = getattr(self._reads, "steps", None)
        if steps and trained and steps != trained:
            raise DataError(
                f"X has {steps} features, but {type(self).__name__} is expecting {trained} features as input: rows of "
                "an array (S, T) are as long as those of the training data; give others as lists, or as (S, T, 1)"
            )
        data = super()._encoded(sequences, targets, unseen)
        if isinstance(data.y, dict):
            data.per_step = dict.fromkeys(data.y, data.per_step)
        return data

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as one ONNX model, see ``Network.to_onnx``.

        Its x is (T, B, D): numbers less their ``mean``, divided by their ``deviation``, and what is known of gaps and
        times; columns that are no numbers are inputs of their own, ids. All of it is in the metadata, JSON under
        ``rnncore``; so are ``classes``, of several columns ``answers`` by the names of their outputs, and ``mean`` and
        ``deviation`` of numbers that are predicted: what comes out times the deviation, plus the mean.

        Raises
        ------
        ValueError, ImportError
            As ``Network.to_onnx``.
        """
        self._check_fitted()
        reads = self._reads
        about = reads.to_json() | self.specification_.task.to_json()
        self.network_.to_onnx(path, reads.inputs, about | {"inputs": reads.inputs})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = True
        tags.input_tags.dict = False
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags

    @property
    def n_features_in_(self) -> int:
        """Numbers a step; of an array (S, T), which has one a step, T."""
        of = self._reads if hasattr(self, "specification_") else None
        if not isinstance(of, SeriesPipeline):
            raise AttributeError("n_features_in_: nothing was fitted, or tokens")
        return of.steps or len(of.mean)


@dataclass(eq=False, repr=False)
class SequenceClassifier(SeriesEstimator):
    """Say what sequences are: one label for each, or one for every step.

    Targets are labels (str, int): one for each sequence, or a list of them for each, as long as it. K at once are an
    array (S, K), or one (T, K) for each sequence: answers of yes and no where all are 0 and 1, with a probability each;
    else labels, K columns of them with classes of their own, which one network learns together.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
        Weight of each label in the loss (1 where a dict has none); "balanced" is inverse to its frequency. Of several
        columns a sequence's weight is the product of theirs.

    Attributes
    ----------
    classes_ : (K,) array
        The labels, sorted; of several columns a list of such arrays.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> rng = np.random.default_rng(0)
    >>> X = [np.cumsum(rng.normal(0.3 * (n % 2), 1, size=rng.integers(20, 40))) for n in range(200)]
    >>> model = rc.SequenceClassifier(max_epochs=10).fit(X, ["up" if n % 2 else "level" for n in range(200)])
    >>> model.classes_.tolist(), model.predict_proba(X[:3]).shape
    (['level', 'up'], (3, 2))
    """

    class_weight: str | Mapping[Any, float] | None = None
    noise: float = 0.3

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Make a classifier by purpose: "default", "accurate", or "polyphony", for several answers at every step.

        See `rnncore.estimators.presets` for what each is.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.SequenceClassifier.preset("polyphony", max_epochs=50).hidden_size
        200
        """
        return cls(**settings_of(CLASSIFIERS, name) | changes)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_class_weight(self.class_weight)

    @classmethod
    def _task_for(cls, settings: Any, targets: Any, sequences: Any) -> SequenceTask:
        if isinstance(targets, Targets):
            by_step = bool(len(targets["0"])) and isinstance(targets["0"][0], list)
            return cls._columns(settings, by_step, len(targets))
        targets = plain(targets)
        by_step = lies_by_step(targets, sequences) if settings.per_step is None else settings.per_step
        parts = targets if by_step else [targets]
        width = np.shape(parts[0])[1] if len(parts) and np.ndim(parts[0]) == 2 else 1
        if width == 1:
            return cls._labels(settings, by_step)
        return cls._flags(settings, by_step) if are_flags(parts) else cls._columns(settings, by_step, width)

    @staticmethod
    def _labels(settings: Any, by_step: bool) -> SeriesLabelTask:
        readout = "every" if by_step else settings.pooling
        return SeriesLabelTask(class_weight=settings.class_weight, per_step=by_step, readout=readout)

    @classmethod
    def _columns(cls, settings: Any, by_step: bool, width: int) -> SequenceTask:
        if isinstance(settings.class_weight, Mapping):
            raise ValueError("class_weight: a dict is for one label; of several expected 'balanced' or None")
        return ColumnsTask(lambda: cls._labels(settings, by_step), width)

    @staticmethod
    def _flags(settings: Any, by_step: bool) -> SequenceTask:
        if settings.class_weight is not None:
            raise ValueError("class_weight is for labels, not for answers of yes and no: leave it out")
        return FlagTask(by_step, settings.pooling)

    @classmethod
    def _task_from(cls, settings: Any, header: dict[str, Any]) -> SequenceTask:
        by_step = bool(header["per_step"])
        if header["targets"] == "columns":
            return cls._columns(settings, by_step, len(header["answers"]))
        return cls._flags(settings, by_step) if header["targets"] == "flags" else cls._labels(settings, by_step)

    def _learn(self, train: Examples, *others: Any) -> None:
        task = self.specification_.task
        super()._learn(task.weighed(train) if isinstance(task, SeriesLabelTask | ColumnsTask) else train, *others)

    @staticmethod
    def _make_task(settings: Any) -> SequenceTask:
        raise NotImplementedError("a classifier's task is made for its targets")

    def _learned(self, settings: Self, train: Examples, classes: Any = None) -> Any:
        pipeline, task = super()._learned(settings, train, classes)
        if isinstance(task, SeriesLabelTask) and len(task.classes) < 2:
            raise DataError(f"a classifier needs more than one class: all targets are {task.classes[0]!r}; got 1 class")
        return pipeline, task

    @property
    def classes_(self) -> Any:
        """The labels, sorted; of several columns a list."""
        self._check_fitted()
        task = self.specification_.task
        if isinstance(task, ColumnsTask):
            return [np.array(classes) for classes in task.classes]
        if not isinstance(task, SeriesLabelTask):
            raise AttributeError("classes_: the targets were answers of yes and no, not labels")
        return np.array(task.classes)

    @named
    def predict_proba(self, X: Any) -> Any:
        """Return how likely each label is: (S, K), or a list of (T, K) arrays; columns in the order of `classes_`.

        Of several columns of labels a list, with that of each.
        """
        sequences = self._sequences(X)
        task, collate = self.specification_.task, self.specification_.pipeline.collate
        if with_steps(sequences) is not None:
            raise DataError("an empty sequence has nothing to predict from: leave it out")
        data = self._encoded(sequences)
        found = task.probabilities(self.network_, data, collate)
        by_step = isinstance(task, SeriesLabelTask) and task.per_step
        return np.split(found, np.cumsum(data.lengths)[:-1]) if by_step else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier"
        tags.classifier_tags = ClassifierTags(multi_class=True, multi_label=True)
        tags.target_tags.multi_output = True
        return tags


@dataclass(eq=False, repr=False)
class SequenceRegressor(SeriesEstimator):
    """Say how much: numbers for each sequence, or for every step.

    Parameters
    ----------
    scale_targets : bool
        Subtract the training targets' mean and divide by their standard deviation, inside.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 12), 2)) for _ in range(300)]
    >>> y = np.array([part[:, 0].mean() for part in X])
    >>> model = rc.SequenceRegressor(max_epochs=20, dropout=0.0).fit(X[:250], y[:250])
    >>> model.score(X[250:], y[250:]) > 0.8
    True
    """

    scale_targets: bool = True

    @classmethod
    def _task_for(cls, settings: Any, targets: Any, sequences: Any) -> SequenceTask:
        targets = plain(targets)
        by_step = lies_by_step(targets, sequences) if settings.per_step is None else settings.per_step
        return NumberTask(by_step, settings.pooling, settings.scale_targets)

    @classmethod
    def _task_from(cls, settings: Any, header: dict[str, Any]) -> SequenceTask:
        return NumberTask(bool(header["per_step"]), settings.pooling, settings.scale_targets)

    @staticmethod
    def _make_task(settings: Any) -> SequenceTask:
        raise NotImplementedError("a regressor's task is made for its targets")

    def _check_settings(self) -> None:
        super()._check_settings()
        check_flag("scale_targets", self.scale_targets)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor"
        tags.regressor_tags = RegressorTags()
        tags.target_tags.multi_output = True
        return tags
