"""Optimizers: hyper-parameters, slots, and one fused pass over the flat arrays per step.

A step reads ``net.theta`` and ``net.grad``, clips the gradient by value and then by global norm, adds weight decay and
applies the rule, all in one pass of compiled code. The gradient is read once before that, for its norm or to see that
it is finite: NaN and infinity never reach the weights. It is not changed itself. The formulas are PyTorch's where
PyTorch has the rule; they stand in ``kernels/updates.h``.

**Lazy updates.** A batch of symbol ids touches few rows of a table. With ``lazy=True``, the default, rows without a
gradient are not visited at all. That is the very same result for `SGD` and `Adagrad` without weight decay. Elsewhere
lazy differs from dense: weight decay acts on a row only when it is touched; the velocity of `Momentum`, `Nesterov` and
`RMSprop` and the first moment of `Adam` do not carry an untouched row on; and moments (`RMSprop`, `Adadelta`, `Adam`)
do not die away between two touches of a row. Where ids are not involved every row is visited and nothing differs: of an
embedding that a head is tied to, all rows have a gradient. (Of a layer by itself every row is visited, too: what
``backward`` adds to may have a gradient anywhere.)

**Groups.** ``groups={"embedding.*": {"learning_rate": 1e-4, "weight_decay": 0}}`` gives parameters whose names fit a
pattern settings of their own. The first pattern that fits wins; parameters that fit none keep the optimizer's.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from rnncore import _threads
from rnncore._core.updates import Updater, joined
from rnncore._finite import NonFiniteError, check_arrays, find_in_arrays, largest_gradient, too_large
from rnncore.nn.layout import FlatArrays
from rnncore.nn.patterns import matching
from rnncore.optim.arguments import check_choice, check_number

if TYPE_CHECKING:  # it is imported where there is one
    from rnncore.optim.schedules import Schedule

__all__ = [
    "OPTIMIZERS",
    "SDLM",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
]

_FOR_ALL = ("clip_norm", "clip_value", "schedule", "lazy", "groups")  # settings that no group can have of its own

Scalars = tuple[float, float, float, float, float, float, float]  # rate, decay, keep, a, b, c, eps


_How = tuple[Scalars, float | None, float | None, int, list[Scalars] | None]  # clipping, threads, groups


class Trainable(Protocol):
    """What an optimizer asks of a network."""

    @property
    def theta(self) -> np.ndarray:
        """The flat parameters."""

    @property
    def grad(self) -> np.ndarray:
        """Their gradient."""

    def update_ranges(self, lazy: bool) -> np.ndarray:
        """Return the parts of the arrays to visit: int64 (n, 3), rows of start, length and whether weights decay.

        They are sorted by start and do not overlap. For groups there are two more things to have: a second argument,
        the group of each parameter by name or None, whose number then counts twice in the third column; and a
        `layout` that knows the names.
        """


class Shared(Protocol):
    """What an optimizer asks of processes that make a step together, each on its part (`rnncore.train.slices`)."""

    def of_shards(self, ranges: np.ndarray) -> list[np.ndarray]:
        """Return the ranges of each of this process's shards."""

    def own(self, ranges: np.ndarray) -> np.ndarray:
        """Return the ranges of this process."""

    def gathered(self, found: np.ndarray) -> np.ndarray:
        """Return what all processes have found of their shards."""

    def agree(self, problem: BaseException | None) -> None:
        """Raise everywhere what some process met."""

    def send(self, array: np.ndarray, ranges: np.ndarray) -> None:
        """Give all processes what each has made of its part of an array."""


class _Memory:
    """What an optimizer remembers between steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.epochs = 0
        self.norm: float | None = None
        self.slots: dict[str, np.ndarray] | None = None
        self.owner: Callable[[], object] | None = None  # the network of the first step; None: not yet known
        self.updater: Updater | None = None
        self.members: dict[str, int] | None = None  # which group each of its parameters is in

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "owner": None, "updater": None, "members": None}


def _aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """Return zeros that begin at a cache line."""
    memory = np.zeros(size * dtype.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size * dtype.itemsize].view(dtype)


def _arrays(net: Trainable) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters and gradient, the latter only to be read: no further row of it counts as touched."""
    return (net._theta, net._grad) if isinstance(net, FlatArrays) else (net.theta, net.grad)


def _counter(value: Any, name: str) -> int:
    """Return a state's counter; one below 0 would divide by zero later, or go on for ever."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**62:
        raise ValueError(f"expected {name} of an optimizer's state as a whole number of at least 0, got {value!r}")
    return int(value)


def _reference(net: object) -> Callable[[], object]:
    """Return a callable that gives `net` as long as it lives."""
    try:
        return weakref.ref(net)
    except TypeError:
        return lambda: net


@dataclass(frozen=True, eq=False)
class Optimizer(ABC):
    """Base of all optimizers.

    Hyper-parameters are frozen. Slots (moments) are made at the first step, and belong to the network of that step.

    Parameters
    ----------
    learning_rate
        Step size, before the schedule.
    clip_norm
        Upper bound of the norm of the whole gradient; a longer one is scaled down to it. None: no bound.
    clip_value
        Upper bound of the absolute value of each number of the gradient; acts before `clip_norm`. None: no bound.
    weight_decay
        Times the weight, added to the clipped gradient (L2); `AdamW` alone decouples it. Biases and peepholes are
        exempt.
    schedule
        A `rnncore.schedules.Schedule`, or any callable from the number of steps done to a factor of the learning rate.
    lazy
        Leave out rows of tables that the batch did not touch (see the module's text).
    groups
        Patterns of parameters' names, ``*`` for anything, with the settings that differ there: `learning_rate`,
        `weight_decay`, or another number of the rule. Clipping and the schedule are for all; biases never decay.

    Raises
    ------
    TypeError, ValueError
        If a parameter is no number, out of range, or NaN.
    """

    learning_rate: float = 0.01
    clip_norm: float | None = None
    clip_value: float | None = None
    weight_decay: float = 0.0
    schedule: Schedule | Callable[[int], float] | None = None
    lazy: bool = field(default=True, kw_only=True)
    groups: Mapping[str, Mapping[str, float]] | None = field(default=None, kw_only=True)
    of_shards: ClassVar[bool] = True  # whether a step may be shared, see `step`
    _grouped: tuple[Optimizer, ...] = field(init=False, repr=False, default=())  # the groups' settings
    _memory: _Memory = field(init=False, repr=False, default_factory=_Memory)

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, "[0, inf)", 0.01)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, "(0, inf]", 5.0)
        if self.clip_value is not None:
            check_number("clip_value", self.clip_value, "(0, inf]", 5.0)
        check_number("weight_decay", self.weight_decay, "[0, inf)", 1e-4)
        if self.schedule is not None and not callable(self.schedule):
            raise TypeError(
                f"schedule: expected a schedule, a callable from step to factor, or None, got {self.schedule!r}; "
                f"try schedule=rnncore.schedules.Cosine(steps=1000)"
            )
        if self.groups is not None:
            object.__setattr__(self, "_grouped", self._settle_groups())

    def _settle_groups(self) -> tuple[Optimizer, ...]:
        """Return an optimizer with each group's settings, checked."""
        if not isinstance(self.groups, Mapping) or not all(isinstance(own, Mapping) for own in self.groups.values()):
            raise TypeError(
                "groups: expected patterns of names with settings, such as {'embedding.*': {'learning_rate': 1e-4}}, "
                f"got {self.groups!r}"
            )
        known = [one.name for one in fields(self) if one.init and one.name not in _FOR_ALL]
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.init and one.name != "groups"}
        settled = []
        for pattern, own in self.groups.items():
            unknown = [str(name) for name in own if name not in known]
            if unknown:
                raise ValueError(
                    f"groups: expected settings among {', '.join(known)} for {pattern!r}, got {', '.join(unknown)}"
                )
            member = type(self)(**(plain | dict(own)))
            if member._rule() != self._rule():
                raise ValueError(f"groups: {dict(own)} for {pattern!r} makes another rule, with other slots")
            settled.append(member)
        return tuple(settled)

    def _members(self, net: Any) -> dict[str, int] | None:
        """Return which group each parameter of `net` is in, 0 for none; None where there are no groups."""
        if self.groups is None:
            return None
        layout = getattr(net, "layout", None)
        if layout is None:
            raise ValueError(f"groups need a network or layer, whose parameters have names; got {type(net).__name__}")
        members = dict.fromkeys(layout.shapes, 0)
        for number, pattern in enumerate(self.groups, 1):
            for name in matching(pattern, layout.shapes, "groups"):
                members[name] = members[name] or number
        return members

    @abstractmethod
    def _rule(self) -> tuple[str, tuple[str, ...]]:
        """Return the name of the compiled rule and the names of its slots."""

    @abstractmethod
    def _scalars(self, rate: float, t: int) -> Scalars:
        """Return the scalars of step `t` = 1, 2, ... as the compiled rule wants them."""

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return self._memory.steps

    @property
    def epochs(self) -> int:
        """How many times `end_epoch` was called."""
        return self._memory.epochs

    @property
    def grad_norm(self) -> float | None:
        """Norm of the last step's gradient before `clip_norm` acted on it; None without `clip_norm`."""
        return self._memory.norm

    @property
    def rate(self) -> float:
        """Learning rate of the next step: `learning_rate` times the schedule's factor."""
        return self.learning_rate * self._factor()

    def _factor(self) -> float:
        """Return the schedule's factor for the next step."""
        if self.schedule is None:
            return 1.0
        by_epoch = getattr(self.schedule, "unit", "step") == "epoch"
        factor = self.schedule(self._memory.epochs if by_epoch else self._memory.steps)
        if not 0.0 <= factor < math.inf:
            raise ValueError(f"expected the schedule's factor in [0, inf), got {factor!r}; look at {self.schedule!r}")
        return factor

    @property
    def slots(self) -> dict[str, np.ndarray]:
        """What a step writes beside ``theta``, by name, not copied; nothing before the first step."""
        return dict(self._memory.slots or {})

    def step(self, net: Trainable, shared: Shared | None = None) -> None:
        """Update ``net.theta`` from ``net.grad`` once.

        Parameters
        ----------
        net
            A `Network`, a layer, or any object with flat float32 or float64 arrays `theta` and `grad` and a method
            `update_ranges(lazy)`. Where it has a method `keep_bounds()`, the step ends with it.
        shared
            Processes that make the step together: each on the part whose gradient it has.

        Raises
        ------
        ValueError
            If the optimizer's slots belong to another network, or a pattern of `groups` fits none of its parameters.
        NonFiniteError
            If the gradient holds NaN or infinity, clipped or not, or the step would. A `FloatingPointError` that names
            the parameter; weights, slots and counters are as they were.
        """
        memory = self._memory
        before = memory.slots, memory.owner
        try:
            theta, grad = _arrays(net)
        except AttributeError:
            raise ValueError(
                f"expected a network or layer, with theta, grad and update_ranges, got {type(net).__name__}"
            ) from None
        updater = memory.updater
        if (
            updater is None
            or updater.theta is not theta
            or updater.grad is not grad
            or memory.owner is None
            or memory.owner() is not net
        ):
            updater = self._bind(net, theta, grad)
        threads = _threads.resolve(getattr(net, "n_threads", None)) if updater.worth_threads else 1
        factor, t = self._factor(), memory.steps + 1
        scalars = self._scalars(self.learning_rate * factor, t)
        groups: list[Scalars] | None = None
        if memory.members is None:
            ranges = net.update_ranges(self.lazy)
        else:
            ranges = net.update_ranges(self.lazy, memory.members)  # type: ignore[call-arg]
            groups = [own._scalars(own.learning_rate * factor, t) for own in self._grouped]
        how: _How = scalars, self.clip_value, self.clip_norm, threads, groups
        try:
            if shared is None:
                memory.norm = updater.step(ranges, *scalars, *how[1:])
            else:
                memory.norm = _step_of_part(shared, updater, ranges, how)
        except ArithmeticError as problem:
            if before[0] is None:  # the slots were made for this step
                memory.slots, memory.owner, memory.updater = None, before[1], None
            found = too_large(largest_gradient(net)) if isinstance(problem, OverflowError) else find_in_arrays(net)
            if shared is not None:  # not every process sees what is not finite
                shared.agree(found)
            assert found is not None
            raise found from None
        if shared is not None:
            shared.send(theta, ranges)
        keep_bounds = getattr(net, "keep_bounds", None)
        if keep_bounds is not None:
            keep_bounds()
        memory.steps += 1

    def end_epoch(self, loss: float | None = None) -> None:
        """Count an epoch, for schedules that go by epochs, and show its loss to a schedule that wants to see it.

        Raises
        ------
        ValueError
            If the schedule observes losses and none is given.
        """
        observe = getattr(self.schedule, "observe", None)
        if observe is not None:
            if loss is None:
                raise ValueError(f"expected the epoch's loss, which {self.schedule!r} goes by, got None")
            observe(loss)
        self._memory.epochs += 1

    def fresh(self) -> Self:
        """Return an optimizer with the same settings that remembers nothing, nor does its schedule."""
        known = self._known_schedule()
        return replace(self, schedule=self.schedule if known is None else replace(known))

    def _known_schedule(self) -> Schedule | None:
        """Return the schedule, if it is one of ours: what other callables remember is their own affair."""
        if self.schedule is None:
            return None
        from rnncore.optim.schedules import Schedule

        return self.schedule if isinstance(self.schedule, Schedule) else None

    def reset(self) -> None:
        """Forget slots, counters and network; the hyper-parameters, and the schedule's own state, stay."""
        object.__setattr__(self, "_memory", _Memory())

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the slots, the counters and the schedule's state, by name: all that a checkpoint needs."""
        memory = self._memory
        state: dict[str, Any] = {"steps": memory.steps, "epochs": memory.epochs}
        if (known := self._known_schedule()) is not None:
            state |= {f"schedule.{name}": value for name, value in known.state_dict().items()}
        return state | {name: slot.copy() for name, slot in (memory.slots or {}).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; training goes on with the same bits.

        The next step may be for any network of the slots' size and dtype.

        Raises
        ------
        ValueError
            If `state` is not that of an optimizer of this kind.
        """
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise ValueError(f"expected what state_dict returned, a dict of names, got {type(state).__name__}")
        _, names = self._rule()
        prefix = "schedule."
        of_schedule = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
        found = {name for name in state if not name.startswith(prefix)} - {"steps", "epochs"}
        if found not in (set(names), set()) or not {"steps", "epochs"} <= set(state):
            raise ValueError(
                f"expected the state of {type(self).__name__}: steps, epochs, {', '.join(names)}; got "
                f"{', '.join(sorted(state))}. Load it into an optimizer of the kind that saved it"
            )
        slots = {name: np.asarray(state[name]) for name in names if name in found}
        if len({(slot.shape, slot.dtype) for slot in slots.values()}) > 1 or any(
            slot.ndim != 1 or slot.dtype not in (np.float32, np.float64) for slot in slots.values()
        ):
            kinds = {name: f"{slot.dtype} {slot.shape}" for name, slot in slots.items()}
            raise ValueError(f"expected slots as flat arrays of one size, all float32 or all float64, got {kinds}")
        if (known := self._known_schedule()) is not None:
            known.load_state_dict(of_schedule)
        memory = _Memory()
        memory.steps, memory.epochs = (_counter(state[name], name) for name in ("steps", "epochs"))
        if slots or not names:
            memory.slots = {name: _aligned(slot.size, slot.dtype) for name, slot in slots.items()}
            for name, slot in memory.slots.items():
                slot[:] = slots[name]
        object.__setattr__(self, "_memory", memory)

    def _bind(self, net: Trainable, theta: np.ndarray, grad: np.ndarray) -> Updater:
        """Tie the slots, made here if there are none, to the arrays of `net`."""
        memory = self._memory
        rule, names = self._rule()
        kind = type(self).__name__
        if not all(isinstance(part, np.ndarray) for part in (theta, grad)) or not hasattr(net, "update_ranges"):
            raise ValueError(f"expected a network with arrays theta, grad and update_ranges, got {type(net).__name__}")
        if theta.ndim != 1 or theta.dtype not in (np.float32, np.float64):
            raise ValueError(f"expected theta as a flat float32 or float64 array, got {theta.dtype} {theta.shape}")
        if grad.shape != theta.shape or grad.dtype != theta.dtype:
            raise ValueError(
                f"expected grad like theta, {theta.dtype} {theta.shape}, got {grad.dtype} {grad.shape}; "
                f"convert one of them"
            )
        slots = memory.slots
        if slots is None or not names:
            slots = {name: _aligned(theta.size, theta.dtype) for name in names}
        elif memory.owner is not None and memory.owner() is not net:
            raise ValueError(
                f"expected the network this {kind} has trained before, got another one: its slots belong to that "
                f"network. Make one optimizer per network, or call reset() to start anew"
            )
        for name, slot in slots.items():
            if slot.shape != theta.shape or slot.dtype != theta.dtype:
                raise ValueError(
                    f"expected a network of {slot.size} {slot.dtype} parameters, the size of this {kind}'s {name}, "
                    f"got {theta.size} {theta.dtype}. Make one optimizer per network, or call reset() to start anew"
                )
        memory.members = self._members(net)
        memory.updater = Updater(rule, theta, grad, *slots.values())
        memory.slots, memory.owner = slots, _reference(net)
        return memory.updater


def _step_of_part(shared: Shared, updater: Updater, ranges: np.ndarray, how: _How) -> float | None:
    """Make a step on this process's part, by the norm of the whole gradient; return that."""
    scalars, clip_value, clip_norm, threads, groups = how
    own = shared.own(ranges)

    def measured(exact: bool) -> tuple[float, float, float]:
        parts = shared.of_shards(ranges)
        found = [updater.measure(part, clip_value, clip_norm, threads, exact) for part in parts]
        return joined(shared.gathered(np.array(found)))

    def step(known: tuple[float, float, float]) -> float | None:
        return updater.step(own, *scalars, clip_value, clip_norm, threads, groups, known)

    try:
        return step(measured(exact=False))
    except OverflowError:  # or only nearly so: all processes look closer
        return step(measured(exact=True))


@dataclass(frozen=True, eq=False)
class SGD(Optimizer):
    """Plain gradient descent: p -= rate g. It has no slots, so one may serve several networks.

    Examples
    --------
    >>> SGD(0.1, clip_norm=5.0).rate
    0.1
    """

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "sgd", ()

    def _scalars(self, rate: float, t: int) -> Scalars:
        return rate, self.weight_decay, 1.0, 0.0, 0.0, 0.0, 0.0


@dataclass(frozen=True, eq=False)
class Momentum(Optimizer):
    """Gradient descent with a velocity: v = momentum v + g, p -= rate v (Polyak 1964, in PyTorch's form).

    Examples
    --------
    >>> Momentum(0.1, momentum=0.95)
    Momentum(learning_rate=0.1, ...)
    """

    momentum: float = field(default=0.9, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("momentum", self.momentum, "[0, 1)", 0.9)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "momentum", ("velocity",)

    def _scalars(self, rate: float, t: int) -> Scalars:
        return rate, self.weight_decay, 1.0, self.momentum, 0.0, 0.0, 0.0


@dataclass(frozen=True, eq=False)
class Nesterov(Momentum):
    """Momentum that looks ahead: v = momentum v + g, p -= rate (g + momentum v) (Nesterov 1983, in PyTorch's form).

    Examples
    --------
    >>> Nesterov(0.1).momentum
    0.9
    """

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "nesterov", ("velocity",)


@dataclass(frozen=True, eq=False)
class Adagrad(Optimizer):
    """Duchi, Hazan & Singer 2011: s += g², p -= rate g / (√s + eps).

    That is PyTorch's form; min-char-rnn divides by √(s + 1e-8) instead, which differs where gradients are tiny.

    Examples
    --------
    >>> Adagrad(0.1, clip_norm=1.0).clip_norm
    1.0
    """

    eps: float = field(default=1e-10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("eps", self.eps, "(0, inf)", 1e-10)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adagrad", ("sum_of_squares",)

    def _scalars(self, rate: float, t: int) -> Scalars:
        return rate, self.weight_decay, 1.0, 0.0, 0.0, 0.0, self.eps


@dataclass(frozen=True, eq=False)
class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient.

    form="torch": s = rho s + (1-rho) g², d = g / (√s + eps), p -= rate d; with momentum v = momentum v + d, p -= rate v
    (Hinton's lecture 6e, 2012, in PyTorch's form).

    form="graves": n = rho n + (1-rho) g², m = rho m + (1-rho) g, v = momentum v - rate g / √(n - m² + eps), p += v
    (Graves 2013, arXiv 1308.0850, equations 38-41).

    Parameters
    ----------
    learning_rate, rho, eps, momentum
        None stands for the form's own default: 0.01, 0.99, 1e-8 and 0, or Graves' 1e-4, 0.95, 1e-4 and 0.9.

    Examples
    --------
    >>> RMSprop(form="graves").rho
    0.95
    """

    learning_rate: float = None  # type: ignore[assignment]  # always a number once constructed, as the next ones
    form: str = field(default="torch", kw_only=True)
    rho: float = field(default=None, kw_only=True)  # type: ignore[assignment]
    eps: float = field(default=None, kw_only=True)  # type: ignore[assignment]
    momentum: float = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        defaults = {
            "torch": {"learning_rate": 0.01, "rho": 0.99, "eps": 1e-8, "momentum": 0.0},
            "graves": {"learning_rate": 1e-4, "rho": 0.95, "eps": 1e-4, "momentum": 0.9},
        }
        check_choice("form", self.form, ("torch", "graves"))
        for name, value in defaults[self.form].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()
        check_number("rho", self.rho, "[0, 1)", 0.95)
        check_number("eps", self.eps, "(0, inf)", 1e-8)
        check_number("momentum", self.momentum, "[0, 1)", 0.9)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        if self.form == "graves":
            return "rmsprop_graves", ("mean_square", "mean", "velocity")
        if self.momentum:
            return "rmsprop_momentum", ("mean_square", "velocity")
        return "rmsprop", ("mean_square",)

    def _scalars(self, rate: float, t: int) -> Scalars:
        return rate, self.weight_decay, 1.0, self.rho, self.momentum, 0.0, self.eps


@dataclass(frozen=True, eq=False)
class Adadelta(Optimizer):
    """Zeiler 2012: s = rho s + (1-rho) g², d = g √(u + eps) / √(s + eps), u = rho u + (1-rho) d², p -= rate d.

    Examples
    --------
    >>> Adadelta().learning_rate
    1.0
    """

    learning_rate: float = 1.0
    rho: float = field(default=0.9, kw_only=True)
    eps: float = field(default=1e-6, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("rho", self.rho, "[0, 1)", 0.9)
        check_number("eps", self.eps, "(0, inf)", 1e-6)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adadelta", ("mean_square", "mean_square_step")

    def _scalars(self, rate: float, t: int) -> Scalars:
        return rate, self.weight_decay, 1.0, self.rho, 0.0, 0.0, self.eps


@dataclass(frozen=True, eq=False)
class Adam(Optimizer):
    """Kingma & Ba 2015, with bias correction.

    m = beta1 m + (1-beta1) g, v = beta2 v + (1-beta2) g²; with m̂ = m / (1-beta1^t) and v̂ = v / (1-beta2^t),
    p -= rate m̂ / (√v̂ + eps). t counts the steps of the whole network, in lazy updates too.

    Examples
    --------
    >>> Adam(1e-3, clip_norm=5.0, beta2=0.99).beta2
    0.99
    """

    learning_rate: float = 1e-3
    beta1: float = field(default=0.9, kw_only=True)
    beta2: float = field(default=0.999, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta1", self.beta1, "[0, 1)", 0.9)
        check_number("beta2", self.beta2, "[0, 1)", 0.999)
        check_number("eps", self.eps, "(0, inf)", 1e-8)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adam", ("mean", "mean_square")

    def _scalars(self, rate: float, t: int) -> Scalars:
        corrected = rate / (1.0 - self.beta1**t)
        root = 1.0 / math.sqrt(1.0 - self.beta2**t)
        return corrected, self.weight_decay, 1.0, self.beta1, self.beta2, root, self.eps


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: p -= rate weight_decay p beside Adam's own step (Loshchilov & Hutter 2019).

    Examples
    --------
    >>> AdamW(1e-3, weight_decay=0.01).weight_decay
    0.01
    """

    weight_decay: float = 0.01

    def _scalars(self, rate: float, t: int) -> Scalars:
        corrected, decay, _, *rest = super()._scalars(rate, t)
        a, b, c, eps = rest
        return corrected, 0.0, 1.0 - rate * decay, a, b, c, eps


@dataclass(frozen=True, eq=False)
class SDLM(Optimizer):
    """Stochastic diagonal Levenberg-Marquardt with momentum: each weight's rate is divided by its own mean curvature.

    D = memory D + (1-memory) κ, v = momentum v + (1-momentum) rate g / (D + damping), p -= v. For the first `settling`
    steps memory and momentum are 0.5. κ is the batch's diagonal curvature, by a recursion that Elman networks without
    dropout have (`rnncore.optim.curvature`); weight decay is added to g, times p, and to κ. After LeCun, Bottou, Orr &
    Müller 1998, in the form of the program that rnncore began with.

    Parameters
    ----------
    memory
        Share of the mean curvature that a step keeps.
    momentum
        Share of the velocity that a step keeps.
    damping
        Added to the mean curvature: no weight's rate exceeds learning_rate / damping.
    settling
        How many steps have the short memories.

    Raises
    ------
    ValueError
        By `step`, for a network without curvature recursion.

    Examples
    --------
    >>> SDLM().learning_rate
    0.003
    """

    learning_rate: float = 3e-3
    memory: float = field(default=0.9, kw_only=True)
    momentum: float = field(default=0.95, kw_only=True)
    damping: float = field(default=1e-2, kw_only=True)
    settling: int = field(default=31, kw_only=True)
    of_shards: ClassVar[bool] = False  # curvature is that of a whole batch

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("memory", self.memory, "[0, 1)", 0.9)
        check_number("momentum", self.momentum, "[0, 1)", 0.95)
        check_number("damping", self.damping, "(0, inf)", 1e-2)
        check_number("settling", self.settling, "[0, inf)", 31)

    def step(self, net: Trainable, shared: Shared | None = None) -> None:
        """Update ``net.theta`` from ``net.grad`` and the curvature of the batch it came from; see `Optimizer.step`."""
        take = getattr(net, "curvature", None)
        if take is None:
            raise ValueError(f"sdlm needs a Network, which knows its curvature; got {type(net).__name__}")
        curvature = take()
        if not np.isfinite(curvature).all():
            found = find_in_arrays(net)
            if found is not None:
                raise found
            layout = getattr(net, "layout", None)
            check_arrays(layout.views(curvature) if layout else {"theta": curvature}, "the curvature of ")
        before = self._memory.slots, self._memory.owner
        if self._memory.slots is None or self._memory.owner is None or self._memory.owner() is not net:
            self._bind(net, *_arrays(net))
        slots = self._memory.slots
        assert slots is not None
        last = slots["curvature"].copy()
        slots["curvature"][:] = curvature
        try:
            super().step(net, shared)
        except NonFiniteError:
            slots["curvature"][:] = last
            if before[0] is None:
                self._memory.slots, self._memory.owner, self._memory.updater = None, before[1], None
            raise

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "sdlm", ("mean_curvature", "velocity", "curvature")

    def _scalars(self, rate: float, t: int) -> Scalars:
        memory, momentum = (0.5, 0.5) if t <= self.settling else (self.memory, self.momentum)
        return rate, self.weight_decay, 1.0, memory, momentum, 0.0, self.damping


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
    "sdlm": SDLM,
}
