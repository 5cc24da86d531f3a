"""Settings of an estimator as those of an adapter, which another package takes for an estimator of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

__all__ = ["PANEL_SETTINGS", "made_of", "taking_settings"]

#: what is settled where a package hands over whole sequences of numbers, one target each; of tokens there are none
PANEL_SETTINGS: dict[str, Any] = {
    "per_step": False,
    "missing": "mask",
    "warm_start": False,
    "min_count": 1,
    "lowercase": False,
    "word_dropout": 0.0,
}


def taking_settings(estimator: type, base: type, settled: Collection[str], **more: Any) -> Callable[..., None]:
    """Return an `__init__` that stores an estimator's settings under their names, all but those that are settled.

    Packages read the names off its signature. `more`: names and defaults of what goes on to the base's `__init__`.

    Examples
    --------
    >>> from rnncore.estimators.series import SequenceRegressor
    >>> class Adapter:
    ...     __init__ = taking_settings(SequenceRegressor, object, PANEL_SETTINGS)
    >>> Adapter(hidden_size=20).hidden_size, "per_step" in inspect.signature(Adapter).parameters
    (20, False)
    >>> made_of(SequenceRegressor, Adapter(hidden_size=20), PANEL_SETTINGS).per_step
    False
    """
    given = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(estimator).parameters.items()
        if name not in settled
    ]
    given += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in more.items()]
    signature = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *given])

    def __init__(self: Any, /, *values: Any, **settings: Any) -> None:  # noqa: N807
        bound = signature.bind(self, *values, **settings)  # refuses what is none
        bound.apply_defaults()
        for one in given:
            setattr(self, one.name, bound.arguments[one.name])
        base.__init__(self, **{name: bound.arguments[name] for name in more})  # type: ignore[misc]

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def made_of(estimator: type, adapter: Any, settled: dict[str, Any]) -> Any:
    """Make the estimator of an adapter's settings and what is settled."""
    names = inspect.signature(estimator).parameters
    return estimator(**{name: settled[name] if name in settled else getattr(adapter, name) for name in names})
