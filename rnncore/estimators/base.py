"""What all estimators are: parameters, a pipeline and a task, trained; model files and pickles.

A subclass names its own parameters and makes a pipeline and a task of them. What was fitted is kept in a
`Specification`, which parameters that are set later do not reach.
"""

from __future__ import annotations

import contextlib
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from rnncore.estimators._documentation import with_common
from rnncore.estimators._pipeline import Pipeline
from rnncore.estimators._settings import (
    NOT_OF_THE_RESULT,
    Settings,
    check_common,
    check_flag,
    setting_from_json,
    setting_to_json,
)
from rnncore.estimators._task import Task
from rnncore.io import files
from rnncore.io.checkpoints import Checkpoints, fingerprint
from rnncore.nn.cells import ACTIVATIONS, CELLS
from rnncore.nn.network import Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.arguments import check_choice
from rnncore.optim.optimizers import Optimizer
from rnncore.optim.schedules import Schedule
from rnncore.train.agreement import Agreement
from rnncore.train.trainer import Trainer

__all__ = [
    "Estimator",
    "Specification",
    "check_flag",
    "over_processes",
    "recurrent_layers",
    "setting_from_json",
    "setting_to_json",
]

Method = TypeVar("Method", bound=Callable[..., Any])

_WORTH_SHARING = 64 * 256 * 256  # multiply-adds of a step's recurrent product; less is for one thread


@dataclass(frozen=True)
class Specification:
    """What an estimator was fitted with: enough to build its network again."""

    estimator: type[Estimator]
    settings: Settings
    pipeline: Pipeline
    task: Any
    seed: int
    chosen: tuple[str, ...] = ()  # settings that were left to the data

    def network(self) -> Network:
        """Build the network, with first weights."""
        return self.estimator._build_network(self)

    def to_json(self) -> dict[str, Any]:
        """Describe it for a model file."""
        learned = self.pipeline.to_json() | self.task.to_json()
        chosen = {"chosen": list(self.chosen)} if self.chosen else {}
        return {"settings": self.settings.to_json(), "seed": self.seed, **chosen, **learned}


@dataclass(eq=False, repr=False)
class Estimator(BaseEstimator, ABC):
    """Base of the estimators.

    A subclass is a dataclass whose fields are its own parameters, and overrides `_make_pipeline` and `_make_task`.

    Parameters
    ----------
    cell : str
        A name in ``rnncore.CELLS``.
    hidden_size : int
        Units of a recurrent layer in each direction.
    num_layers : int
        How many recurrent layers there are, one on top of another.
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
    learning_rate : float
        As the optimizers take it.
    clip_norm, weight_decay
        As the optimizers take them.
    schedule : str, dict, Schedule or None
        How the learning rate changes: "linear" or "cosine" (down to 0 over the whole training), "exponential",
        "halve_on_plateau", None (constant); a dict of the "name" and options, {"name": "cosine", "warmup": 100}; or an
        object of `rnncore.schedules`.
    dropout : float
        Share of outputs dropped between the layers and before the head.
    input_dropout : float
        Share dropped of the first layer's inputs (vectors or features).
    recurrent_dropout : float
        Share dropped of the recurrent state.
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
    dtype : "float32", "float64" or "mixed_bfloat16"
        Precision of the weights and of all that is computed with them. Mixed: float32, but products round what they
        multiply to bfloat16, which is faster where the processor has instructions for it.
    weight_dtype : "bfloat16", "int8" or None
        How predictions keep float32 weights, if not as they are: in half or a quarter of the bits, and the faster
        where weights are many. It may be set at any time (``set_params``); training does not look at it.
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
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    random_state: Any = 0
    n_threads: int | None = None
    dtype: Any = "float32"
    weight_dtype: str | None = None
    verbose: int = 0
    callbacks: Sequence[Any] | None = None
    warm_start: bool = False

    _by_data: ClassVar[tuple[str, ...]] = ()  # settings that may be None: chosen by the training data

    specification_: Specification = field(init=False)
    network_: Network = field(init=False)
    history_: list[dict[str, Any]] = field(init=False)
    n_epochs_: int = field(init=False)
    stopped_: str | None = field(init=False)
    _processes: Agreement = field(init=False)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        base = next(one for one in cls.__mro__[1:] if issubclass(one, Estimator))
        cls.__doc__ = with_common(cls.__doc__ or "", base.__doc__ or "")

    # -- what a subclass says -----------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def _make_pipeline(settings: Any) -> Pipeline:
        """Make an unfitted pipeline."""

    @staticmethod
    @abstractmethod
    def _make_task(settings: Any) -> Task:
        """Make an unfitted task."""

    @classmethod
    def _task_of(cls, settings: Any, columns: tuple[str, ...] | None) -> Any:
        """Make an unfitted task; `columns`: names of several targets of every step, where there are such."""
        return cls._make_task(settings)

    @classmethod
    def _task_from(cls, settings: Any, header: dict[str, Any]) -> Any:
        """Make an unfitted task for the targets that a model file tells of."""
        columns = header.get("columns")
        return cls._task_of(settings, columns and tuple(columns))

    @staticmethod
    @abstractmethod
    def _build_network(of: Specification) -> Network:
        """Make a network of the settings and of what pipeline and task have learned of the data."""

    @classmethod
    def _sizes(cls, estimator: Any, header: dict[str, Any]) -> dict[str, int]:
        """Return how many weights parts of a model take at least: a file that has fewer asks for no memory."""
        sizes = {"hidden_size": estimator.hidden_size**2 * estimator.num_layers}
        return sizes | {"embedding_size": estimator.embedding_size or 0}

    def _check_settings(self) -> None:
        check_common(self)
        check_choice("cell", self.cell, [*CELLS])
        check_choice("activation", self.activation, (None, *ACTIVATIONS))

    # -- learning -----------------------------------------------------------------------------------------------------

    def _begin(self, pipeline: Pipeline, task: Task, rng: np.random.Generator, settings: Any = None) -> None:
        """Make the network of a pipeline and a task that have learned from the data; settings: this estimator's."""
        chosen = tuple(name for name in self._by_data if getattr(self, name) is None)
        final = Settings.of(settings or self)
        made = Specification(type(self), final, pipeline, task, int(rng.integers(2**31)), chosen)
        network = made.network()
        pipeline.begin(network)
        self.specification_, self.network_ = made, network
        self.history_, self.n_epochs_, self.stopped_ = [], 0, None
        for name in ("_partial_optimizer", "_partial_rng"):
            self.__dict__.pop(name, None)

    def _train(
        self, optimizer: Optimizer, data: Any, checkpoints: Checkpoints | None, watched: Any = None, **options: Any
    ) -> None:
        """Train `network_` and take note of it in the fitted attributes; options as `Trainer` takes them.

        `watched` are arrays that validation looks at: a checkpoint goes on with the same ones only.
        """
        self.network_.weight_dtype = None  # what validates a training looks at the weights as they are
        together = self.__dict__.get("_processes") or Agreement()
        settings = Settings.of(self).to_json()
        settings = {name: value for name, value in settings.items() if name not in NOT_OF_THE_RESULT}
        if together.comm.size > 1:
            together.same({name: value for name, value in settings.items() if name != "random_state"})
        if checkpoints is not None:
            checkpoints.settings = settings
            if watched is not None:
                checkpoints.settings["validation data"] = fingerprint(watched)
            checkpoints.estimator = type(self).__name__
        trainer = Trainer(
            self.network_,
            optimizer,
            data,
            comm=together.given,
            shards=together.shards,
            callbacks=self.callbacks,
            progress=bool(self.verbose),
            checkpoint=checkpoints,
            **options,
        )
        together.shards = trainer.shards
        try:
            trainer.run()
        finally:  # a signal, or a callback that raises
            self.history_ = [*self.history_, *trainer.history]
            self.n_epochs_ = len(self.history_)
            self.stopped_ = trainer.stopped

    @contextlib.contextmanager
    def _as_before_unless(self, optimizer: Optimizer) -> Iterator[None]:
        """Let a training that fails before its first step leave what was there."""
        before = dict(self.__dict__)
        try:
            yield
        except Exception:
            if not optimizer.steps:
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")
        if self.network_.weight_dtype != self.weight_dtype:
            self.network_.weight_dtype = self.weight_dtype

    # -- state: model files and pickles -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], weight_dtype: str | None = None) -> None:
        """Write the fitted estimator to a model file; `rnncore.load` reads it back, with the settings of its `fit`.

        With a `weight_dtype` of "bfloat16" or "int8" float32 matrices are kept in half or a quarter of the bits.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.
        """
        files.save(self, path, weight_dtype)

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        self._check_fitted()
        header = {"history": self.history_, "stopped": self.stopped_, **self.specification_.to_json()}
        return header, {name: np.array(array) for name, array in self.network_.params.items()}

    @classmethod
    def _from_model(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        settings = {name: setting_from_json(value) for name, value in header["settings"].items()}
        unknown = sorted(set(settings) - set(cls._get_param_names()))
        if unknown:
            raise ValueError(f"unknown settings {', '.join(unknown)}")
        settings["callbacks"] = None  # some files have a list of what they were: none of them was kept
        missing = [name for name in cls._by_data if settings.get(name) is None]
        if missing:
            raise ValueError(f"a fitted model's settings must say {', '.join(missing)}")
        estimator = cls(**settings)
        estimator._check_settings()
        n_weights = sum(array.size for array in arrays.values())
        for name, size in cls._sizes(estimator, header).items():  # before memory is asked for
            if size > n_weights:
                raise ValueError(f"{name} does not go with {n_weights} weights")
        pipeline, task = cls._make_pipeline(estimator), cls._task_from(estimator, header)
        pipeline.from_json(header)
        task.from_json(header)
        chosen = tuple(name for name in cls._by_data if name in header.get("chosen", ()))
        made = Specification(cls, Settings.of(estimator), pipeline, task, int(header["seed"]), chosen)
        estimator.__dict__.update(dict.fromkeys(chosen))
        estimator.specification_ = made
        estimator.history_ = list(header["history"])
        estimator.n_epochs_ = len(estimator.history_)
        estimator.stopped_ = header["stopped"]
        estimator.network_ = made.network()
        _copy_weights(arrays, estimator.network_)
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_processes", None)
        if "network_" in state:
            state["network_"] = {name: np.array(array) for name, array in self.network_.params.items()}
            state["_dropout_step"] = self.network_.dropout_step
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays, dropout_step = state.get("network_"), state.pop("_dropout_step", 0)
        super().__setstate__(state)
        if arrays is not None:
            self.network_ = self.specification_.network()
            self.network_.dropout_step = dropout_step
            _copy_weights(arrays, self.network_)


def over_processes(fit: Method) -> Method:
    """Let a `fit` with the arguments `comm` and `shards` draw what process 0 draws, and train with the others.

    What fails in one of them before training begins ends it in all. Meanwhile `_processes` is who they are.
    """

    @functools.wraps(fit)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        processes = Agreement(options.get("comm"), options.get("shards"))
        try:
            with processes.heard():
                self._processes = processes
                return fit(self, *args, **options)
        finally:
            self.__dict__.pop("_processes", None)

    return call  # type: ignore[return-value]


def recurrent_layers(of: Specification, input_size: int | None = None, **options: Any) -> Recurrent:
    """Make the recurrent layers that the settings describe, which read what the pipeline gives; options beside them."""
    settings = of.settings
    usual = {
        "num_layers": settings.num_layers,
        "activation": settings.activation or ("clipped_relu" if settings.cell == "elman" else None),
        "dropout": settings.dropout,
        "output_dropout": settings.dropout,
        "input_dropout": settings.input_dropout,
        "recurrent_dropout": settings.recurrent_dropout,
        "dtype": settings.dtype,
        "random_state": of.seed,
        "n_threads": settings.n_threads,
    }
    sizes = (settings.cell, input_size or of.pipeline.input_size, settings.hidden_size)
    made = Recurrent(*sizes, **(usual | _cell_options(settings) | options))
    if settings.n_threads is None:  # the bits are equal
        recurrent = sum(array.size for name, array in made.params.items() if ".fwd.W_hh" in name) // made.num_layers
        made.n_threads = None if recurrent * (settings.batch_size or 32) >= _WORTH_SHARING else 1
    return made


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
