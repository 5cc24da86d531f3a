"""Base of the estimators that learn from sequences and their targets."""

from __future__ import annotations

import copy
import functools
import os
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.tokens import select
from rnncore.estimators import _scorers
from rnncore.estimators._examples import Examples, Nouns, Targets, with_steps
from rnncore.estimators._pipeline import Pipeline
from rnncore.estimators._settings import check_flag, make_optimizer
from rnncore.estimators._task import SequenceTask
from rnncore.estimators.base import Estimator, Specification, over_processes, recurrent_layers
from rnncore.io.checkpoints import Checkpoints, open_checkpoints
from rnncore.nn.network import Network
from rnncore.optim.optimizers import Optimizer

__all__ = ["SequenceEstimator", "named"]

_scorers.register()

# Sequences in a minibatch that nobody set: where it is not dealt, and where it is and there are enough minibatches.
_LARGEST, _LARGEST_DEALT, _ENOUGH = 32, 128, 780

Method = TypeVar("Method", bound=Callable[..., Any])


def named(method: Method) -> Method:
    """Let a method take its data by the names that the class has for them, `X` and `y` meaning the same."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        for name, usual in self._data_names.items():
            if name in options:
                if usual in options:
                    raise TypeError(f"{method.__name__}() got both {name} and {usual}, which mean the same")
                options[usual] = options.pop(name)
        return method(self, *args, **options)

    return call  # type: ignore[return-value]


@dataclass(eq=False, repr=False)
class SequenceEstimator(Estimator):
    """Base of the estimators that learn from sequences and their targets.

    A subclass is a dataclass whose fields are its own parameters, and overrides `_make_pipeline` and `_make_task`.

    Parameters
    ----------
    bidirectional : bool
        Whether the layers read sequences from both ends.
    batch_size : int or None
        Sequences in a minibatch. None: 2 to 32, so that there are about 50 minibatches, as small data need; where they
        are dealt to several `shards` up to 128, as long as there are 780: a process wants more than a few of them.
    max_epochs : int or None
        Passes over the training data. None: 20 for up to 1000 sequences, fewer for more, at least 5: twice as many
        sequences need not twice the time.
    """

    bidirectional: bool = True

    _nouns: ClassVar[Nouns] = Nouns()
    _data_names: ClassVar[dict[str, str]] = {}  # other names of X and y

    @staticmethod
    def _build_network(of: Specification) -> Network:
        """Make a network of the settings and of what pipeline and task have learned of the data."""
        pipeline, task = of.pipeline, of.task
        layers = recurrent_layers(of, bidirectional=of.settings.bidirectional)
        reads: dict[str, Any] = {"embedding": pipeline.embedding, "skip": pipeline.skip, "inputs": pipeline.segments}
        return Network(layers, **reads, **task.outputs())

    @classmethod
    def _sizes(cls, estimator: Any, header: dict[str, Any]) -> dict[str, int]:
        sizes = super()._sizes(estimator, header) | {"vector_size": header.get("vector_size") or 0}
        constrained = getattr(estimator, "constraints", None)
        answers = header.get("answers")
        described = [header] if answers is None else list(answers.values())
        counts = [len(one.get("classes", ())) ** (2 if constrained else 1) for one in described]
        return sizes | {"classes": max(counts, default=0)}

    def _check_settings(self) -> None:
        super()._check_settings()
        check_flag("bidirectional", self.bidirectional)

    # -- learning -----------------------------------------------------------------------------------------------------

    @named
    @over_processes
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
        *,
        comm: Any = None,
        shards: int | None = None,
    ) -> Self:
        """Learn from sequences and their targets.

        Parameters
        ----------
        X : list of sequences
            Lists of str, int or dict, or (T, D) arrays; in a list, an array, a Series, a frame's column or a generator.
            Dicts hold features as sklearn-crfsuite takes them, numbers and arrays of numbers among them, see
            `rnncore.data.features.DictFeatures`. What `rnncore.data.readers.read_packed` reads from a file takes least
            memory.
        y : list
            The targets: a list for each sequence with one for every step, or one for each sequence.
        sample_weight : (S,) array, optional
            Factor of each sequence's loss, relative to the mean over all steps: a sequence of weight 2 counts as much
            as if it were there twice, one of weight 0 as if it were not there.
        validation_data : (X, y), optional
            Watched instead of a part of `X`, and switches early stopping on.
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
            For data or settings that cannot be used.
        KeyboardInterrupt, SystemExit
            After Ctrl-C, and after SIGTERM or SIGHUP; the estimator is then fitted with what was learned until then.
        """
        self._check_settings()
        warm = self.warm_start and hasattr(self, "network_")
        task = self.specification_.task if warm else self._task_for(self, y, X)
        train = task.examples(X, y, self._nouns).weighed(sample_weight, self._nouns, task.check)
        rng = self._processes.generator(self.random_state)
        checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        if checkpoints is not None:
            checkpoints.begin(rng)
        watched = None
        if validation_data is not None:
            apart_x, apart_y = validation_data
            watched = task.examples(apart_x, apart_y, self._nouns).with_steps(self._nouns)
        elif self.early_stopping:
            rest, apart = self._set_aside(len(train.sequences), rng)
            watched, train = train.select(apart), train.select(rest)
        n = len(train.sequences)
        max_epochs = self.max_epochs or self._epochs(n)
        settings = self._settled(train, warm)
        self._processes.go_on(None if checkpoints is None else checkpoints.shards)
        optimizer = make_optimizer(settings, max_epochs * -(-n // self._batch_size(n)), self.schedule)
        with self._as_before_unless(optimizer):
            if not warm:
                self._begin(*self._learned(settings, train), rng, settings)
            self._learn(train, rng, optimizer, max_epochs, watched, checkpoints)
        return self

    @named
    @over_processes
    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        comm: Any = None,
        shards: int | None = None,
    ) -> Self:
        """Learn one epoch more, with a constant learning rate.

        The first call without a `fit` before it takes vocabulary and labels from its data (`classes`: all labels there
        will be); words that come later are unknown. Weights are relative to the mean of one call. `comm` and `shards`
        are those of `fit`.

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used.
        """
        self._check_settings()
        warm = self.warm_start and hasattr(self, "network_")
        task = self.specification_.task if warm else self._task_for(self, y, X)
        train = task.examples(X, y, self._nouns).weighed(sample_weight, self._nouns, task.check)
        rng = self._processes.generator(self.__dict__.get("_partial_rng") or self.random_state)
        settings = self._settled(train, hasattr(self, "network_"))
        optimizer = self.__dict__.get("_partial_optimizer") or make_optimizer(settings, 1, None)
        with self._as_before_unless(optimizer):
            if not hasattr(self, "network_"):
                self._begin(*self._learned(settings, train, classes), rng, settings)
            self._partial_rng, self._partial_optimizer = rng, optimizer
            self._learn(train, rng, optimizer, 1, None, None)
        return self

    @classmethod
    def _task_for(cls, settings: Any, targets: Any, sequences: Any) -> Any:
        """Make an unfitted task for such targets of such sequences."""
        return cls._task_of(settings, _columns(targets))

    def _settled(self, train: Examples, fitted: bool) -> Self:
        """Return this estimator, or a copy whose settings that were left to the data are made; fitted: as they were."""
        if all(getattr(self, name) is not None for name in self._by_data):
            return self
        if fitted:
            before = self.specification_.settings
            made = {name: getattr(before, name) for name in self._by_data if getattr(self, name) is None}
        else:
            made = self._chosen(train)
        settled = copy.copy(self)
        settled.__dict__.update(made)
        return settled

    def _chosen(self, train: Examples) -> dict[str, Any]:
        """Return a value for each setting that is left to the data."""
        return {}

    def _learned(self, settings: Self, train: Examples, classes: Any = None) -> tuple[Pipeline, SequenceTask]:
        """Return a pipeline and a task that know the data."""
        pipeline, task = self._make_pipeline(settings), self._task_for(settings, train.targets, train.sequences)
        pipeline.fit(train.sequences)
        task.fit(train.targets, classes)
        return pipeline, task

    @staticmethod
    @abstractmethod
    def _make_task(settings: Any) -> SequenceTask:
        """Make an unfitted task."""

    def _batch_size(self, n_sequences: int) -> int:
        """Return the setting, or what gives about 50 minibatches: few updates hurt more than small batches."""
        most = _LARGEST
        if self.batch_size is None and self._processes.count > 1:
            most = min(max(_LARGEST, n_sequences // _ENOUGH), _LARGEST_DEALT)
        return self.batch_size or min(max(n_sequences // 50, 2), most)

    def _epochs(self, n_sequences: int) -> int:
        """Return how often to pass over the training data where no setting says so."""
        return min(20, max(5, round(20 * (1000 / n_sequences) ** 0.5)))

    def _set_aside(self, n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Draw which sequences to train on and which to validate on."""
        if n < 2:
            raise DataError(
                f"early_stopping needs at least 2 {self._nouns.sequence}s, one of them to validate on, got 1"
            )
        order = rng.permutation(n).tolist()
        n_apart = min(max(1, round(self.validation_fraction * n)), n - 1)
        return order[n_apart:], order[:n_apart]

    def _learn(
        self,
        train: Examples,
        rng: np.random.Generator,
        optimizer: Optimizer,
        max_epochs: int,
        watched: Examples | None,
        checkpoints: Checkpoints | None,
    ) -> None:
        """Train `network_` and take note of it in the fitted attributes."""
        pipeline, task = self.specification_.pipeline, self.specification_.task
        data = self._encoded(train.sequences, train.targets)
        weights = train.weights
        if weights is not None:
            counts = task.counts(data)
            weights = weights / (float((weights * counts).sum()) / (float(counts.sum()) or 1.0) or 1.0)
        validate = None
        if watched is not None:
            seen = self._encoded(watched.sequences, watched.targets, unseen=-1)
            validate = functools.partial(task.validate, self.network_, seen, pipeline.collate)
        self._train(
            optimizer,
            data,
            checkpoints,
            None if watched is None else seen.arrays,
            batch_size=self._batch_size(len(data)),
            max_epochs=max_epochs,
            n_iter_no_change=self.n_iter_no_change,
            unit=self._nouns.step,
            random_state=rng,
            weights=weights,
            arrange=pipeline.collate,
            corrupt=pipeline.augment(data),
            validate=validate,
        )

    # -- applying -----------------------------------------------------------------------------------------------------

    @named
    def predict(self, X: Any) -> Any:
        """Return predictions: lists like `X` where there is one for every step, else one for each sequence."""
        sequences = self._sequences(X)
        task, collate = self.specification_.task, self.specification_.pipeline.collate
        kept = with_steps(sequences)
        if kept is None:
            return task.predict(self.network_, self._encoded(sequences), collate)
        if not task.per_step:
            bad = int(np.setdiff1d(np.arange(len(sequences)), kept)[0])
            raise DataError(f"{self._nouns.sequence} {bad} is empty: there is nothing to predict from")
        found = task.predict(self.network_, self._encoded(select(sequences, kept)), collate)
        every = type(found)([] for _ in range(len(sequences)))
        for number, labels in zip(kept.tolist(), found, strict=True):
            every[number] = labels
        return every

    @named
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return how good the predictions are: of labels the share that is right, each with its sequence's weight."""
        self._check_fitted()
        task = self.specification_.task
        data = task.examples(X, y, self._nouns).weighed(sample_weight, self._nouns)
        encoded = self._encoded(data.sequences, data.targets, unseen=-1)
        return task.score(self.network_, encoded, self.specification_.pipeline.collate, data.weights)

    def _sequences(self, X: Any) -> Any:
        self._check_fitted()
        return sequences_of(X, f"{self._nouns.sequence}s")

    def _encoded(self, sequences: Any, targets: Any = None, unseen: int | None = None) -> Sequences:
        data = self.specification_.pipeline.encode(sequences)
        if targets is not None:
            task = self.specification_.task
            data.y, data.per_step = task.encode(targets, unseen), task.per_step
        return data

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = tags.input_tags.dict = True
        tags.target_tags.required = True
        return tags


def _columns(targets: Any) -> tuple[str, ...] | None:
    return targets.columns if isinstance(targets, Targets) else None
