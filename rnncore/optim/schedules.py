"""Learning-rate schedules: what a learning rate is multiplied by, as training goes on.

A schedule is a small picklable record with one method, ``factor(step)``. Steps count from 0: the first step is taken
with ``factor(0)``. With ``unit="epoch"`` the optimizer counts its epochs instead (`Optimizer.end_epoch`). `warmup`
raises the factor in equal parts over that many steps first; the schedule itself starts after them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["SCHEDULES", "Constant", "Cosine", "Exponential", "HalveOnPlateau", "Linear", "Schedule", "Step"]


@dataclass(frozen=True)
class Schedule(ABC):
    """Base of all schedules.

    Parameters
    ----------
    warmup
        Steps of linear warm-up: the factor of step i of them is (i + 1) / (warmup + 1) of the schedule's first.
    unit
        What the schedule counts, "step" or "epoch".

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> schedule = SCHEDULES["linear"](steps=4, warmup=1)
    >>> schedule.factor(0), schedule.factor(1)
    (0.5, 1.0)
    """

    warmup: int = field(default=0, kw_only=True)
    unit: str = field(default="step", kw_only=True)

    def __post_init__(self) -> None:
        check_count("warmup", self.warmup, 0)
        check_choice("unit", self.unit, ("step", "epoch"))

    def factor(self, step: int) -> float:
        """Return what the learning rate of `step` (0, 1, ...) is multiplied by."""
        if step < self.warmup:
            return self._factor(0) * (step + 1) / (self.warmup + 1)
        return self._factor(step - self.warmup)

    __call__ = factor

    @abstractmethod
    def _factor(self, step: int) -> float:
        """Return the factor without warm-up."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the schedule has learned, as plain numbers (nothing, for most schedules)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if state:
            raise ValueError(f"expected no state for {type(self).__name__}, got {sorted(state)}")


@dataclass(frozen=True)
class Constant(Schedule):
    """Always 1; with `warmup`, a warm-up and nothing else.

    Examples
    --------
    >>> [Constant(warmup=3).factor(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def _factor(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """Times `gamma` after every `every` steps.

    Examples
    --------
    >>> [Step(every=2, gamma=0.5).factor(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int
    gamma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("every", self.every, 1)
        check_number("gamma", self.gamma, "(0, 1]", 0.5)

    def _factor(self, step: int) -> float:
        return float(self.gamma ** (step // self.every))


@dataclass(frozen=True)
class Linear(Schedule):
    """In a straight line from 1 to `final` over `steps` steps, then constant.

    Examples
    --------
    >>> [Linear(steps=4).factor(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps, 1)
        check_number("final", self.final, "[0, inf)", 0.0)

    def _factor(self, step: int) -> float:
        return 1.0 + (self.final - 1.0) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to `final` over `steps` steps, then constant (Loshchilov & Hutter 2017).

    With `cycles` it falls so often, each time in an equal part of the steps, and starts anew at 1 (warm restarts).

    Examples
    --------
    >>> [round(Cosine(steps=4).factor(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    >>> [Cosine(steps=4, cycles=2).factor(step) for step in range(6)]
    [1.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """

    steps: int
    final: float = 0.0
    cycles: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("steps", self.steps, 1)
        check_number("final", self.final, "[0, 1]", 0.0)
        check_count("cycles", self.cycles, 1)

    @property
    def period(self) -> int:
        """Steps of a cycle; the last one may be shorter."""
        return -(-self.steps // self.cycles)

    def _factor(self, step: int) -> float:
        done = step % self.period / self.period if step < self.steps else 1.0
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times `gamma` at every step after the first `start`.

    char-rnn's "0.97 per epoch from the tenth on" is ``Exponential(0.97, start=9, unit="epoch")``.

    Examples
    --------
    >>> [Exponential(gamma=0.5, start=1).factor(step) for step in range(4)]
    [1.0, 1.0, 0.5, 0.25]
    """

    gamma: float = 0.97
    start: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma, "(0, 1]", 0.97)
        check_count("start", self.start, 0)

    def _factor(self, step: int) -> float:
        return float(self.gamma ** max(step - self.start, 0))


@dataclass(frozen=True)
class HalveOnPlateau(Schedule):
    """Times `gamma` (a half) when the observed loss stops falling.

    Hand every loss to `observe`, or to the optimizer's `end_epoch`. One schedule serves one training.

    Parameters
    ----------
    patience
        How many losses in a row may fail to improve before the factor falls.
    gamma
        What the factor is multiplied by then.
    threshold
        An improvement is a fall by more than this.
    smallest
        The factor never falls below this.
    against
        "best": compare with the best loss so far; "last": with the one before, the "halve on rise" of classic recipes.

    Examples
    --------
    >>> schedule = HalveOnPlateau()
    >>> for loss in (3.0, 2.0, 2.5):
    ...     schedule.observe(loss)
    >>> schedule.factor(0)
    0.5
    """

    patience: int = 0
    gamma: float = 0.5
    threshold: float = 0.0
    smallest: float = 0.0
    against: str = "best"
    _seen: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("patience", self.patience, 0)
        check_number("gamma", self.gamma, "(0, 1)", 0.5)
        check_number("threshold", self.threshold, "[0, inf)", 1e-4)
        check_number("smallest", self.smallest, "[0, 1]", 0.01)
        check_choice("against", self.against, ("best", "last"))
        self._seen.update(factor=1.0, loss=math.inf, bad=0)

    def observe(self, loss: float) -> None:
        """Take notice of a loss; NaN counts as no improvement."""
        seen = self._seen
        improved = loss < seen["loss"] - self.threshold
        if improved or (self.against == "last" and not math.isnan(loss)):
            seen["loss"] = float(loss)
        seen["bad"] = 0 if improved else seen["bad"] + 1
        if seen["bad"] > self.patience:
            seen["factor"], seen["bad"] = max(seen["factor"] * self.gamma, self.smallest), 0

    def _factor(self, step: int) -> float:
        return float(self._seen["factor"])

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, the failures in a row and, once there is one, the loss to compare with."""
        return {name: value for name, value in self._seen.items() if value != math.inf}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if not {"factor", "bad"} <= set(state) <= set(self._seen):
            raise ValueError(f"expected the state of a HalveOnPlateau, {sorted(self._seen)}, got {sorted(state)}")
        check_number("factor", state["factor"], "[0, 1]", 1.0)
        check_count("bad", state["bad"], 0)
        if math.isnan(loss := state.get("loss", math.inf)):
            raise ValueError("expected the loss of a HalveOnPlateau's state as a number, got NaN")
        self._seen.update({**state, "loss": float(loss)})


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "linear": Linear,
    "cosine": Cosine,
    "exponential": Exponential,
    "halve_on_plateau": HalveOnPlateau,
}
