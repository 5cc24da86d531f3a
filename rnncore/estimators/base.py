"""What all estimators are: parameters, a pipeline and a task, trained; model files and pickles.

A subclass names its own parameters and makes a pipeline and a task of them. What was fitted is kept in a
`Specification`, which parameters that are set later do not reach.
"""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from rnncore.data.inputs import sequences_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.tokens import select
from rnncore.estimators import _scorers
from rnncore.estimators._documentation import with_common
from rnncore.estimators._examples import Examples, Nouns, with_steps
from rnncore.estimators._pipeline import Pipeline
from rnncore.estimators._settings import (
    NOT_OF_THE_RESULT,
    Settings,
    check_common,
    check_flag,
    make_optimizer,
    setting_from_json,
    setting_to_json,
)
from rnncore.estimators._task import Task
from rnncore.io import files
from rnncore.io.checkpoints import Checkpoints, open_checkpoints
from rnncore.nn.cells import ACTIVATIONS, CELLS
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.arguments import check_choice
from rnncore.optim.optimizers import Optimizer
from rnncore.optim.schedules import Schedule
from rnncore.train.batches import generator
from rnncore.train.trainer import Trainer

__all__ = ["SequenceEstimator", "Specification", "check_flag", "setting_from_json", "setting_to_json"]

_WORTH_SHARING = 64 * 256 * 256  # multiply-adds of one step's recurrent product

_scorers.register()

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


@dataclass(frozen=True)
class Specification:
    """What an estimator was fitted with: enough to build its network again."""

    estimator: type[SequenceEstimator]
    settings: Settings
    pipeline: Pipeline
    task: Task
    seed: int

    def network(self) -> Network:
        """Build the network, with first weights."""
        return self.estimator._build_network(self)

    def to_json(self) -> dict[str, Any]:
        """Describe it for a model file."""
        learned = self.pipeline.to_json() | self.task.to_json()
        return {"settings": self.settings.to_json(), "seed": self.seed, **learned}


@dataclass(eq=False, repr=False)
class SequenceEstimator(BaseEstimator, ABC):
    """Base of the estimators.

    A subclass is a dataclass whose fields are its own parameters, and overrides `_make_pipeline` and `_make_task`.

    Parameters
    ----------
    cell : str
        A name in ``rnncore.CELLS``.
    hidden_size, num_layers, bidirectional
        The recurrent layers, as `rnncore.Recurrent` takes them.
    activation : str or None
        None: "clipped_relu" for an Elman network, which learns better than with tanh and cannot run away on long
        sequences as with relu; the cell's own for others (tanh, or relu for indrnn).
    cell_options : dict, optional
        Options of the cell, such as {"reset": "before"} of a GRU, and ``zoneout``, as `rnncore.Recurrent` takes them.
    embedding_size : int or None
        Size of the vectors of symbols that the layers read. None: symbols go straight into the first layer, whose input
        weights are then their vectors.
    optimizer : str, dict or Optimizer
        A name in ``rnncore.OPTIMIZERS``, made with learning_rate, schedule, clip_norm and weight_decay; a dict of its
        "name" and more options, {"name": "adam", "beta1": 0.8}; or an object, taken with its own.
    learning_rate, clip_norm, weight_decay
        As the optimizers take them.
    schedule : str, dict, Schedule or None
        How the learning rate changes: "linear" or "cosine" (down to 0 over the whole training), "exponential",
        "halve_on_plateau", None (constant); a dict of the "name" and options, {"name": "cosine", "warmup": 100}; or an
        object of `rnncore.schedules`.
    batch_size : int or None
        Sequences in a minibatch. None: 2 to 32, so that there are about 50 minibatches, as small data need.
    max_epochs : int or None
        Passes over the training data. None: 20 for up to 1000 sequences, fewer for more, at least 5: twice as many
        sequences need not twice the time.
    dropout : float
        Share of outputs dropped between the layers and before the head.
    input_dropout, recurrent_dropout : float
        Share dropped of the first layer's inputs (vectors or features), and of the recurrent state.
    class_weight : None, "balanced" or dict
        Weight of each label in the loss (1 where a dict has none); "balanced" is inverse to its frequency.
    early_stopping : bool
        Set a `validation_fraction` of the sequences aside, stop after `n_iter_no_change` epochs without a better score
        on them, and keep the best epoch's weights.
    validation_fraction, n_iter_no_change
        See `early_stopping`.
    random_state : int, None, Generator or RandomState
        Draws the first weights, the order of the sequences and everything dropped. The same integer gives the same
        bits, for any number of threads.
    n_threads : int or None
        None: as many as `rnncore.get_num_threads` says, but one for small networks.
    dtype : "float32" or "float64"
        Precision of the weights and of all that is computed with them.
    verbose : int
        1 shows a bar with loss, steps per second and time left.
    callbacks : sequence of Callback or callable, optional
        A `rnncore.Callback`, or what is called after every epoch with its record (a dict, see `history_`); one that
        returns true ends training.
    warm_start : bool
        Whether `fit` goes on from the last weights, with the vocabulary and labels of the first fit.

    Attributes
    ----------
    history_ : list of dict
        For every epoch: epoch, loss, seconds; with early stopping val_loss and val_score too.
    n_epochs_ : int
    stopped_ : str or None
        Why training ended before `max_epochs`: "early", "callback", "interrupted", "diverged".
    network_ : rnncore.Network
    specification_ : Specification
        What was fitted with: parameters that are set later do not change it.
    """

    cell: str = "elman"
    hidden_size: int = 32
    num_layers: int = 1
    bidirectional: bool = True
    activation: str | None = None
    cell_options: dict[str, Any] | None = None
    embedding_size: int | None = None
    optimizer: str | Mapping[str, Any] | Optimizer = "adam"
    learning_rate: float = 0.02
    schedule: str | Mapping[str, Any] | Schedule | None = "linear"
    batch_size: int | None = None
    max_epochs: int | None = None
    clip_norm: float | None = 5.0
    dropout: float = 0.5
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.2
    weight_decay: float = 0.0
    class_weight: str | Mapping[Any, float] | None = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    random_state: Any = 0
    n_threads: int | None = None
    dtype: Any = "float32"
    verbose: int = 0
    callbacks: Sequence[Any] | None = None
    warm_start: bool = False

    specification_: Specification = field(init=False)
    network_: Network = field(init=False)
    history_: list[dict[str, Any]] = field(init=False)
    n_epochs_: int = field(init=False)
    stopped_: str | None = field(init=False)

    _nouns: ClassVar[Nouns] = Nouns()
    _data_names: ClassVar[dict[str, str]] = {}  # other names of X and y

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__doc__ = with_common(cls.__doc__ or "", SequenceEstimator.__doc__ or "")

    # -- what a subclass says -----------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def _make_pipeline(settings: Any) -> Pipeline:
        """Make an unfitted pipeline."""

    @staticmethod
    @abstractmethod
    def _make_task(settings: Any) -> Task:
        """Make an unfitted task."""

    @staticmethod
    def _build_network(of: Specification) -> Network:
        """Make a network of the settings and of what pipeline and task have learned of the data."""
        settings, pipeline = of.settings, of.pipeline
        layer = Recurrent(
            settings.cell,
            pipeline.input_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            bidirectional=settings.bidirectional,
            activation=settings.activation or ("clipped_relu" if settings.cell == "elman" else None),
            dropout=settings.dropout,
            output_dropout=settings.dropout,
            input_dropout=settings.input_dropout,
            recurrent_dropout=settings.recurrent_dropout,
            dtype=settings.dtype,
            random_state=of.seed,
            n_threads=_threads(settings),
            **_cell_options(settings),
        )
        return Network(layer, of.task.head(), of.task.readout, pipeline.embedding, pipeline.skip)

    def _check_settings(self) -> None:
        check_common(self)
        check_choice("cell", self.cell, [*CELLS])
        check_choice("activation", self.activation, (None, *ACTIVATIONS))
        if not (self.class_weight is None or isinstance(self.class_weight, str | Mapping)):
            raise ValueError(
                f"class_weight: expected None, 'balanced' or a dict of label to weight, got {self.class_weight!r}"
            )

    # -- learning -----------------------------------------------------------------------------------------------------

    @named
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
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
        train = self._examples(X, y, sample_weight, warm)
        rng = generator(self.random_state)
        checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        if checkpoints is not None:
            checkpoints.begin(rng)
        watched = None
        if validation_data is not None:
            apart_x, apart_y = validation_data
            watched = Examples.of(apart_x, apart_y, self._nouns, self._per_step).with_steps(self._nouns)
        elif self.early_stopping:
            rest, apart = self._set_aside(len(train.sequences), rng)
            watched, train = train.select(apart), train.select(rest)
        n = len(train.sequences)
        max_epochs = self.max_epochs or min(20, max(5, round(20 * (1000 / n) ** 0.5)))
        optimizer = make_optimizer(self, max_epochs * -(-n // self._batch_size(n)), self.schedule)
        if not warm:
            self._prepare(train, None, rng)
        self._learn(train, rng, optimizer, max_epochs, watched, checkpoints)
        return self

    @named
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn one epoch more, with a constant learning rate.

        The first call without a `fit` before it takes vocabulary and labels from its data (`classes`: all labels there
        will be); words that come later are unknown. Weights are relative to the mean of one call.

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used.
        """
        self._check_settings()
        train = self._examples(X, y, sample_weight, self.warm_start and hasattr(self, "network_"))
        rng: np.random.Generator = self.__dict__.get("_partial_rng") or generator(self.random_state)
        if not hasattr(self, "network_"):
            self._prepare(train, classes, rng)
        if not hasattr(self, "_partial_optimizer"):
            self._partial_optimizer = make_optimizer(self, 1, None)
        self._partial_rng = rng
        self._learn(train, rng, self._partial_optimizer, 1, None, None)
        return self

    @property
    def _per_step(self) -> bool:
        return self._make_task(self).per_step

    def _examples(self, X: Any, y: Any, sample_weight: Any, warm: bool) -> Examples:
        task = self.specification_.task if warm else self._make_task(self)
        return Examples.of(X, y, self._nouns, task.per_step).weighed(sample_weight, self._nouns, task.check)

    def _batch_size(self, n_sequences: int) -> int:
        """Return the setting, or what gives about 50 minibatches: few updates hurt more than small batches."""
        return self.batch_size or min(max(n_sequences // 50, 2), 32)

    def _set_aside(self, n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Draw which sequences to train on and which to validate on."""
        if n < 2:
            raise DataError(
                f"early_stopping needs at least 2 {self._nouns.sequence}s, one of them to validate on, got 1"
            )
        order = rng.permutation(n).tolist()
        n_apart = min(max(1, round(self.validation_fraction * n)), n - 1)
        return order[n_apart:], order[:n_apart]

    def _prepare(self, train: Examples, classes: Any, rng: np.random.Generator) -> None:
        """Let pipeline and task learn from the data, and make the network."""
        pipeline, task, settings = self._make_pipeline(self), self._make_task(self), Settings.of(self)
        pipeline.fit(train.sequences)
        task.fit(train.targets, classes)
        made = Specification(type(self), settings, pipeline, task, int(rng.integers(2**31)))
        network = made.network()
        pipeline.begin(network)
        self.specification_, self.network_ = made, network
        self.history_, self.n_epochs_, self.stopped_ = [], 0, None
        for name in ("_partial_optimizer", "_partial_rng"):
            self.__dict__.pop(name, None)

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
        if checkpoints is not None:
            settings = Settings.of(self).to_json()
            checkpoints.settings = {name: value for name, value in settings.items() if name not in NOT_OF_THE_RESULT}
            checkpoints.estimator = type(self).__name__
        trainer = Trainer(
            self.network_,
            optimizer,
            data,
            batch_size=self._batch_size(len(data)),
            max_epochs=max_epochs,
            n_iter_no_change=self.n_iter_no_change,
            callbacks=self.callbacks,
            progress=bool(self.verbose),
            unit=self._nouns.step,
            random_state=rng,
            weights=weights,
            arrange=pipeline.collate,
            corrupt=pipeline.augment(data),
            validate=validate,
            checkpoint=checkpoints,
        )
        try:
            trainer.run()
        finally:  # a signal, or a callback that raises
            self.history_ = [*self.history_, *trainer.history]
            self.n_epochs_ = len(self.history_)
            self.stopped_ = trainer.stopped

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
        data = Examples.of(X, y, self._nouns, task.per_step).weighed(sample_weight, self._nouns)
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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = tags.input_tags.dict = True
        tags.target_tags.required = True
        return tags

    # -- state: model files and pickles -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a model file; `rnncore.load` reads it back, with the settings of its `fit`.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.
        """
        files.save(self, path)

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        self._check_fitted()
        header = {"history": self.history_, "stopped": self.stopped_, **self.specification_.to_json()}
        return header, {name: np.array(array) for name, array in self.network_.params.items()}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> SequenceEstimator:
        settings = {name: setting_from_json(value) for name, value in header["settings"].items()}
        unknown = sorted(set(settings) - set(cls._get_param_names()))
        if unknown:
            raise ValueError(f"unknown settings {', '.join(unknown)}")
        estimator = cls(**settings)
        estimator._check_settings()
        n_weights = sum(array.size for array in arrays.values())
        sizes = {"hidden_size": estimator.hidden_size**2 * estimator.num_layers}
        sizes |= {"embedding_size": settings.get("embedding_size") or 0, "vector_size": header.get("vector_size") or 0}
        sizes["classes"] = len(header.get("classes", ())) ** (2 if settings.get("constraints") else 1)
        for name, size in sizes.items():  # before memory is asked for
            if size > n_weights:
                raise ValueError(f"{name} does not go with {n_weights} weights")
        pipeline, task = cls._make_pipeline(estimator), cls._make_task(estimator)
        pipeline.from_json(header)
        task.from_json(header)
        made = Specification(cls, Settings.of(estimator), pipeline, task, int(header["seed"]))
        estimator.specification_ = made
        estimator.history_ = list(header["history"])
        estimator.n_epochs_ = len(estimator.history_)
        estimator.stopped_ = header["stopped"]
        estimator.network_ = made.network()
        _copy_weights(arrays, estimator.network_)
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "network_" in state:
            state["network_"] = {name: np.array(array) for name, array in self.network_.params.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = state.get("network_")
        super().__setstate__(state)
        if arrays is not None:
            self.network_ = self.specification_.network()
            _copy_weights(arrays, self.network_)


def _threads(settings: Any) -> int | None:
    """Return the setting, or one thread where a time step is too small to be worth sharing (the bits are equal)."""
    work = settings.hidden_size**2 * (settings.batch_size or 32)
    return 1 if settings.n_threads is None and work < _WORTH_SHARING else settings.n_threads


def _cell_options(settings: Any) -> dict[str, Any]:
    given = settings.cell_options
    if given is None:
        return {}
    known = {"zoneout", *CELLS[settings.cell].options} if settings.cell in CELLS else set()
    known |= {option for _, option, _ in ACTIVATIONS.values() if option}
    options = given if isinstance(given, Mapping) else None
    if options is None or set(options) - known:
        raise ValueError(
            f"cell_options of {settings.cell} must be a dict of some of {', '.join(sorted(known))}, got {given!r}"
        )
    return dict(options)


def _copy_weights(arrays: dict[str, np.ndarray], network: Any) -> None:
    params = network.params
    if set(arrays) != set(params):
        raise ValueError(f"expected the weights {', '.join(sorted(params))}; got {', '.join(sorted(arrays))}")
    for name, target in params.items():
        array = arrays[name]
        if array.shape != target.shape or array.dtype != target.dtype:
            raise ValueError(f"expected {name} as {target.dtype} {target.shape}, got {array.dtype} {array.shape}")
        target[...] = array
