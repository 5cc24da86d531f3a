"""What the estimators share: settings, the network's construction, the training call, model files and pickles."""

from __future__ import annotations

import copy
import dataclasses
import os
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from rnncore.data.sequences import Sequences
from rnncore.io import files
from rnncore.io.checkpoints import Checkpoints
from rnncore.optim.optimizers import OPTIMIZERS, Optimizer
from rnncore.optim.schedules import SCHEDULES, Schedule, check_count, check_number
from rnncore.train.callbacks import as_callbacks
from rnncore.train.trainer import Trainer

__all__ = ["SequenceEstimator", "check_flag", "setting_from_json", "setting_to_json"]

_NOT_OF_THE_RESULT = ("callbacks", "n_threads", "verbose")  # settings that may differ where a training goes on
_BY_STEPS = ("linear", "cosine")  # schedules that must know how many steps there will be
_BY_EPOCHS = ("constant", "exponential", "halve_on_plateau")


class SequenceEstimator(BaseEstimator):
    """Base of the estimators; a subclass holds its parameters and says how its network is built.

    It needs the attributes `optimizer`, `learning_rate`, `schedule`, `batch_size`, `max_epochs`, `clip_norm`,
    `weight_decay`, `early_stopping`, `validation_fraction`, `n_iter_no_change`, `callbacks` and `verbose`, the methods
    `_build_network`, `_learned_to_json` and `_learned_from_json`, and `_unit`, the name of one time step.
    """

    _unit = "step"

    embeddings: Any
    network_: Any
    history_: list[dict[str, Any]]
    n_epochs_: int
    stopped_: str | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a model file; `rnncore.load` reads it back.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as it was.
        """
        files.save(self, path)

    # -- settings ---------------------------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        for name in ("hidden_size", "num_layers", "n_iter_no_change"):
            check_count(name, getattr(self, name), 1)
        for name in ("batch_size", "max_epochs"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1)
        for name in ("dropout", "input_dropout", "recurrent_dropout"):
            check_number(name, getattr(self, name), "[0, 1)", 0.5)
        for name in ("bidirectional", "early_stopping", "warm_start"):
            check_flag(name, getattr(self, name))
        if not isinstance(self.verbose, bool | np.bool_):
            check_number("verbose", self.verbose, "[0, inf)", 1)
        as_callbacks(self.callbacks)
        check_number("learning_rate", self.learning_rate, "[0, inf)", 0.003)
        check_number("validation_fraction", self.validation_fraction, "(0, 1)", 0.1)

    def _batch_size(self, n_sequences: int) -> int:
        """Return the setting, or what gives about 50 minibatches: few updates hurt more than small batches."""
        return self.batch_size or min(max(n_sequences // 50, 2), 32)

    def _make_optimizer(self, n_steps: int, schedule: str | Schedule | None) -> Optimizer:
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer.fresh()  # its settings, but no memory of an earlier training
        if not isinstance(self.optimizer, str) or self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        return OPTIMIZERS[self.optimizer](
            self.learning_rate,
            clip_norm=self.clip_norm,
            weight_decay=self.weight_decay,
            schedule=_make_schedule(schedule, n_steps),
        )

    def _train(
        self,
        data: Sequences,
        optimizer: Optimizer,
        max_epochs: int,
        checkpoints: Checkpoints | None = None,
        **options: Any,
    ) -> Trainer:
        """Train `network_` and take note of it in the fitted attributes; Ctrl-C is raised after that."""
        if checkpoints is not None:
            settings = self._settings_to_json()
            checkpoints.settings = {name: value for name, value in settings.items() if name not in _NOT_OF_THE_RESULT}
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
            unit=self._unit,
            checkpoint=checkpoints,
            **options,
        )
        try:
            trainer.run()
        finally:  # a signal, or a callback that raises
            self.history_ = [*self.history_, *trainer.history]
            self.n_epochs_ = len(self.history_)
            self.stopped_ = trainer.stopped
        return trainer

    # -- state: model files and pickles -------------------------------------------------------------------------------

    def _build_network(self) -> Any:
        """Make `network_` from the settings and what was learned of the data."""
        raise NotImplementedError

    def _learned_to_json(self) -> dict[str, Any]:
        """Describe what was learned beside the weights."""
        raise NotImplementedError

    def _learned_from_json(self, header: dict[str, Any]) -> None:
        """Take over what `_learned_to_json` described."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")

    def _settings_to_json(self) -> dict[str, Any]:
        settings = {name: setting_to_json(value) for name, value in self.get_params(deep=False).items()}
        if "embeddings" in settings and not isinstance(self.embeddings, str | os.PathLike):
            settings["embeddings"] = None  # their numbers are among the weights
        return settings

    def _to_model(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        self._check_fitted()
        settings = self._settings_to_json()
        header = {
            "settings": settings,
            "history": self.history_,
            "stopped": self.stopped_,
            **self._learned_to_json(),
        }
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
        estimator._learned_from_json(header)
        estimator.history_ = list(header["history"])
        estimator.n_epochs_ = len(estimator.history_)
        estimator.stopped_ = header["stopped"]
        estimator.network_ = estimator._build_network()
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
            self.network_ = self._build_network()
            _copy_weights(arrays, self.network_)


def check_flag(name: str, value: Any) -> None:
    """Raise a TypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def _copy_weights(arrays: dict[str, np.ndarray], network: Any) -> None:
    params = network.params
    if set(arrays) != set(params):
        raise ValueError(f"expected the weights {', '.join(sorted(params))}; got {', '.join(sorted(arrays))}")
    for name, target in params.items():
        array = arrays[name]
        if array.shape != target.shape or array.dtype != target.dtype:
            raise ValueError(f"expected {name} as {target.dtype} {target.shape}, got {array.dtype} {array.shape}")
        target[...] = array


def _make_schedule(schedule: str | Schedule | None, n_steps: int) -> Any:
    if not isinstance(schedule, str):
        return copy.deepcopy(schedule)
    options = {"steps": max(n_steps, 1)} if schedule in _BY_STEPS else {"unit": "epoch"}
    if schedule in _BY_STEPS + _BY_EPOCHS:
        return cast(Any, SCHEDULES[schedule])(**options)
    raise ValueError(
        f"schedule: expected None, one of {', '.join(_BY_STEPS + _BY_EPOCHS)}, or an object of rnncore.schedules, "
        f"got {schedule!r}"
    )


def setting_to_json(value: Any) -> Any:
    """Optimizers and schedules become their fields; what only means something to the running program becomes None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Optimizer | Schedule):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return {"@": type(value).__name__, **{name: setting_to_json(field) for name, field in fields.items()}}
    if isinstance(value, dict):
        return {"@": "dict", "items": [[setting_to_json(key), setting_to_json(item)] for key, item in value.items()]}
    if isinstance(value, np.ndarray | list | tuple):
        return [setting_to_json(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return value if isinstance(value, str | int | float | None) else None


def setting_from_json(value: Any) -> Any:
    """Read back what `setting_to_json` made."""
    if isinstance(value, list):
        return [setting_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value["@"]
    if kind == "dict":
        return {key: setting_from_json(item) for key, item in value["items"]}
    classes = {made.__name__: made for made in (*OPTIMIZERS.values(), *SCHEDULES.values())}
    if kind not in classes:
        raise ValueError(f"unknown kind of setting {kind!r}")
    return classes[kind](**{name: setting_from_json(item) for name, item in value.items() if name != "@"})
