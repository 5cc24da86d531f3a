"""What an estimator's parameters become: checked, JSON, optimizers, and the frozen record of what was fitted."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.optim.arguments import check_count, check_number
from rnncore.optim.optimizers import OPTIMIZERS, Optimizer
from rnncore.optim.schedules import SCHEDULES, Schedule
from rnncore.train.callbacks import as_callbacks

__all__ = [
    "Settings",
    "check_class_weight",
    "check_common",
    "check_flag",
    "make_optimizer",
    "setting_from_json",
    "setting_to_json",
]

NOT_OF_THE_RESULT = (
    "callbacks",
    "n_threads",
    "verbose",
    "weight_dtype",
)  # settings that may differ where a training goes on
_BY_STEPS = ("linear", "cosine")  # schedules that must know how many steps there will be
_BY_EPOCHS = ("constant", "exponential", "halve_on_plateau")


class Settings:
    """The parameters of an estimator at one moment: read like attributes, and nothing changes them later.

    Examples
    --------
    >>> import rnncore as rc
    >>> tagger = rc.SequenceTagger(hidden_size=8)
    >>> settings = Settings.of(tagger)
    >>> tagger.set_params(hidden_size=16).hidden_size, settings.hidden_size
    (16, 8)
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__["_json"] = copy.deepcopy(dict(values))
        self.__dict__["_values"] = {name: setting_from_json(value) for name, value in self._json.items()}

    @classmethod
    def of(cls, estimator: Any) -> Settings:
        """Take an estimator's parameters of now; of pretrained vectors no more than the path of their file."""
        found = {name: setting_to_json(value) for name, value in estimator.get_params(deep=False).items()}
        if "embeddings" in found and not isinstance(estimator.embeddings, str | os.PathLike):
            found["embeddings"] = None  # their numbers are among the weights
        if "callbacks" in found:
            found["callbacks"] = None  # they mean something to the running program alone
        if "dtype" in found and found["dtype"] is None:  # a type such as numpy.float32
            found["dtype"] = np.dtype(estimator.dtype).name
        return cls(found)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"there is no setting {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"what was fitted is fixed: {name} cannot be set")

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self.to_json(),)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return copy.deepcopy(self.__dict__["_json"])


def check_common(settings: Any) -> None:
    """Check the parameters that all estimators have.

    Raises
    ------
    TypeError, ValueError
        For one that cannot be used.
    """
    open_ = [name for name in settings._by_data if getattr(settings, name) is None]
    for name in ("hidden_size", "num_layers", "n_iter_no_change"):
        if name not in open_:
            check_count(name, getattr(settings, name), 1)
    for name in ("batch_size", "max_epochs", "embedding_size"):
        if getattr(settings, name) is not None:
            check_count(name, getattr(settings, name), 1)
    for name in ("dropout", "input_dropout", "recurrent_dropout"):
        if name not in open_:
            check_number(name, getattr(settings, name), "[0, 1)", 0.5)
    for name in ("early_stopping", "warm_start"):
        check_flag(name, getattr(settings, name))
    if not isinstance(settings.verbose, bool | np.bool_):
        check_number("verbose", settings.verbose, "[0, inf)", 1)
    as_callbacks(settings.callbacks)
    if "learning_rate" not in open_:
        check_number("learning_rate", settings.learning_rate, "[0, inf)", 0.003)
    check_number("validation_fraction", settings.validation_fraction, "(0, 1)", 0.1)
    if settings.weight_dtype is not None:
        _checks.weight_dtype(settings.weight_dtype, _checks.precision(settings.dtype)[0])


def check_class_weight(value: Any) -> None:
    """Raise a ValueError unless weights of classes are None, a word or a dict; the task knows which words."""
    if not (value is None or isinstance(value, str | Mapping)):
        raise ValueError(f"class_weight: expected None, 'balanced' or a dict of label to weight, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Raise a TypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def make_optimizer(settings: Any, n_steps: int, schedule: Any) -> Optimizer:
    """Make the optimizer of a training of so many steps; an object's settings count, not what it remembers."""
    if isinstance(settings.optimizer, Optimizer):
        return settings.optimizer.fresh()
    name, options = _named_options(settings.optimizer)
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {settings.optimizer!r}")
    usual = {
        "learning_rate": settings.learning_rate,
        "clip_norm": settings.clip_norm,
        "weight_decay": settings.weight_decay,
        "schedule": _make_schedule(schedule, n_steps),
    }
    return _made("optimizer", name, OPTIMIZERS[name], usual | options)


def _make_schedule(schedule: Any, n_steps: int) -> Any:
    if not isinstance(schedule, str | Mapping):
        return copy.deepcopy(schedule)
    name, options = _named_options(schedule)
    usual = {"steps": max(n_steps, 1)} if name in _BY_STEPS else {"unit": "epoch"}
    if name in _BY_STEPS + _BY_EPOCHS or (name in SCHEDULES and options):
        return _made("schedule", name, SCHEDULES[name], usual | options)
    raise ValueError(
        f"schedule: expected None, one of {', '.join(_BY_STEPS + _BY_EPOCHS)}, or an object of rnncore.schedules, "
        f"got {schedule!r}"
    )


def _named_options(given: Any) -> tuple[str, dict[str, Any]]:
    """Divide a name, or a dict of "name" and options, into both; anything else has the name "", which nothing has."""
    if isinstance(given, Mapping):
        options = dict(given)
        name = options.pop("name", "")
        return (name if isinstance(name, str) else ""), options
    return (given if isinstance(given, str) else ""), {}


def _made(setting: str, name: str, kind: Any, options: dict[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{setting}: {name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return kind(**options)


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
