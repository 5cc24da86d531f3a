"""The registry of cells: what distinguishes one recurrent architecture from another.

A cell is a kernel with its record (src_pyx/kernels/cells/), what stands here, and a few lines of NumPy in
tests/reference.py. The record has names and sizes (`rnncore.nn.records`); this module adds what the compiled core
cannot know: options and how they choose a record, activations, initial values, bounds, the source. Directions, depth,
ragged batches, dropout, threads, heads and files know nothing of cells but that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks
from rnncore.nn.records import Record, record

#: activation name -> (its number in the kernels, name of the option that parametrises it, default)
ACTIVATIONS: Mapping[str, tuple[int, str | None, float]] = {
    "tanh": (0, None, 0.0),
    "sigmoid": (1, None, 0.0),
    "relu": (2, None, 0.0),
    "leaky_relu": (3, "leaky_slope", 0.01),
    "clipped_relu": (4, "clip_at", 6.0),
    "identity": (5, None, 0.0),
    "binary": (6, None, 0.0),
}


DETERMINISTIC = tuple(name for name in ACTIVATIONS if name != "binary")


class Plan(NamedTuple):
    """What a cell's options mean to its kernel.

    Attributes
    ----------
    kernel : str
        The name of its record in the table of kernels (src_pyx/kernels/cells/table.h).
    flags : int
        Variants, as the kernel numbers them.
    activation, parameter
        The activation's number, and its slope or limit.
    factor, share : float
        The cell's own numbers, such as a decay.
    optional : tuple of str
        Which of the record's optional parameters are there.
    stages : int
        How many a step of a staged kernel goes through.
    timed : bool
        The last column of its input is the length of each step: above 0.
    """

    kernel: str
    flags: int = 0
    activation: int = 0
    parameter: float = 0.0
    factor: float = 0.0
    optional: tuple[str, ...] = ()
    share: float = 0.0
    stages: int = 1
    timed: bool = False


@dataclass(frozen=True)
class Cell:
    """One recurrent architecture.

    Attributes
    ----------
    name : str
        Also that of its record, where no option chooses another.
    activations : tuple of str
        The names that ``activation=`` accepts; the first is the default.
    options : mapping of str to default
        What else can be chosen.
    source : str
        Where the equations come from.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.CELLS["lstm"].activations, rc.CELLS["gru"].options
    (('tanh',), {'reset': 'after'})
    """

    name: str
    activations: tuple[str, ...] = ("tanh",)
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def feeds_back(self) -> bool:
        """A step sees the outputs before it, which ``feedback=`` may give."""
        return record(self.name).feeds_back

    def settle(self, given: Mapping[str, Any], activation: str) -> dict[str, Any]:
        """Return all options, those given over the defaults; unknown names are refused."""
        known = dict(self.options)
        option = ACTIVATIONS[activation][1]
        if option:
            known[option] = ACTIVATIONS[activation][2]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(
                f"{self.name} with {activation} does not know {', '.join(unknown)}; "
                f"options it knows: {', '.join(sorted(known)) or 'none'}"
            )
        return known | dict(given)

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        number, option, _ = ACTIVATIONS[activation]
        parameter = _number(options[option], option) if option else 0.0
        return Plan(self.name, activation=number, parameter=parameter)

    def record(self, plan: Plan, inputs: int | None = None, hidden: int | None = None) -> Record:
        """Return the record of its kernel, for an input of a certain width where that decides."""
        return record(plan.kernel)

    def output_width(self, hidden: int, options: Mapping[str, Any]) -> int:
        """Return how many numbers a step puts out."""
        return hidden

    def state_widths(self, hidden: int, options: Mapping[str, Any], plan: Plan) -> dict[str, int]:
        """Return what a step hands to the next: name -> how many numbers. The first is the output."""
        sizes = {"H": hidden, "output": self.output_width(hidden, options)}
        return {name: sizes[symbol] for name, symbol in self.record(plan).states.items()}

    def shapes(self, inputs: int, hidden: int, options: Mapping[str, Any], plan: Plan) -> dict[str, tuple[int, ...]]:
        """Return the parameters of one layer in one direction: name -> shape."""
        sizes = {"D": inputs, "H": hidden, "output": self.output_width(hidden, options)}
        sizes["matrix"] = self.matrix_size(hidden, options)
        return self.record(plan, inputs, hidden).parameters(sizes, plan.optional)

    def matrix_size(self, hidden: int, options: Mapping[str, Any]) -> int:
        """Return how many numbers the input makes of itself where they are a matrix of its step."""
        return 0

    def bounds(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Return which parameters stay within ± what: an optimizer's step ends by putting them back."""
        return {}

    def initialise(
        self, params: Mapping[str, np.ndarray], hidden: int, options: Mapping[str, Any], rng: np.random.Generator
    ) -> None:
        """Draw initial parameters in place: uniform in ±1/sqrt(H), the common choice for recurrent layers."""
        bound = 1 / np.sqrt(hidden)
        for array in params.values():
            array[...] = rng.uniform(-bound, bound, array.shape)


def _number(value: Any, name: str, least: float = 0.0, most: float = np.inf) -> float:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else np.nan
    if not (np.isfinite(number) and least <= number <= most):
        bounds = f"of at least {least:g}" if most == np.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be a finite number {bounds}, got {value!r}")
    return number


def _choice(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    if isinstance(value, np.ndarray) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
    return value


class Elman(Cell):
    """The simple recurrent network, h = f(x·W_xh + h_prev·W_hh + b_h), with any activation f.

    ``binary`` makes stochastic units: 1 with probability σ(a), else 0, drawn anew at each step in training, the more
    probable of both otherwise. Gradients pass as if the probability itself had been handed on (straight through).
    """

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        plan = super().plan(activation, options)
        return plan._replace(kernel="elman_binary") if activation == "binary" else plan


class LSTM(Cell):
    """Long short-term memory; gates i, f, g, o.

    Options:

    - ``forget_bias`` (1): what the forget gate's bias starts from.
    - ``peepholes``: w_ci, w_cf, w_co, from the cell to the gates.
    - ``variant``, one of those of Greff et al. 2017: NIG, NFG, NOG (no input, forget, output gate: it is 1), NIAF, NOAF
      (no input, output activation function), CIFG (coupled: f = 1 - i), FGR (full gate recurrence: W_gi, W_gf, W_go
      (H, 3H) take the step before's gates i, f, o, which become states, to i, f, o). The parameters of a gate that a
      variant leaves out stay where they are, without gradient. Or "1997", the original of Hochreiter and Schmidhuber:
      no forget gate (W_xh is (D, 3H), in the order i, g, o), g = 4σ(·) - 2 and h = o·(2σ(c) - 1). Its gradient is the
      full one through time, not the truncated one of the paper.
    - ``proj_size`` (Sak et al. 2014): h = (o·tanh(c))·W_hr, so many numbers wide.
    - ``layer_norm`` (Ba, Kiros and Hinton 2016, supplement, equations 20-22): the gates' sums are
      gain_x·N(x·W_xh) + gain_h·N(h·W_hh) + b_h, with mean and variance over all 4H, and h = o·tanh(gain_c·N(c) +
      shift_c). 1e-5 is added to the variances.
    """

    FLAGS: Mapping[str | None, int] = {
        **{None: 0, "NIG": 1, "NFG": 2, "NOG": 4, "NIAF": 8, "NOAF": 16, "CIFG": 32},
        **{"1997": 2 | 64, "FGR": 128},
    }
    UNDEFINED = (("1997", "layer_norm"), ("1997", "proj_size"), ("FGR", "layer_norm"))
    EPSILON = 1e-5  # under layer normalisation's roots

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        _number(options["forget_bias"], "forget_bias", least=-100.0)
        variant = _choice(options["variant"], tuple(self.FLAGS), "variant")
        peepholes = _choice(options["peepholes"], (False, True), "peepholes")
        norm = _choice(options["layer_norm"], (False, True), "layer_norm")
        projected = options["proj_size"] is not None
        if projected:
            _checks.whole(options["proj_size"], "proj_size (None: no projection)")
        for name, chosen in (("layer_norm", norm), ("proj_size", projected)):
            if chosen and (variant, name) in self.UNDEFINED:
                raise ValueError(f"variant {variant} has no {name}: leave out one of them")
        chosen = (("W_hr",) if projected else ()) + (("w_ci", "w_cf", "w_co") if peepholes else ())
        if norm:
            return Plan("lstm_norm", self.FLAGS[variant], factor=self.EPSILON, optional=chosen)
        special = {"1997": "lstm_1997", "FGR": "lstm_fgr"}.get(variant)
        return Plan(special or ("lstm_projected" if projected else "lstm"), self.FLAGS[variant], optional=chosen)

    def output_width(self, hidden: int, options: Mapping[str, Any]) -> int:
        """Return how many numbers a step puts out."""
        return options["proj_size"] or hidden

    def initialise(
        self, params: Mapping[str, np.ndarray], hidden: int, options: Mapping[str, Any], rng: np.random.Generator
    ) -> None:
        """Draw initial parameters; the forget gate's bias is set, so that memory lasts from the start."""
        super().initialise(params, hidden, options, rng)
        if options["variant"] != "1997":
            params["b_h"][hidden : 2 * hidden] = options["forget_bias"]
        for name in ("gain_x", "gain_h", "gain_c") if options["layer_norm"] else ():
            params[name][...] = 1
        if options["layer_norm"]:
            params["shift_c"][...] = 0


class GRU(Cell):
    """Gated recurrent unit; gates r, z, n, with h = (1-z)·n + z·h_prev.

    Option ``reset``: "after", the reset gate acts on the product h·U_n + b_hn, which has a bias of its own (PyTorch and
    cuDNN); "before", on h, so that n = tanh(x·W_n + b_n + (r·h)·U_n) (Cho et al. 2014, Chung et al. 2014). Cho et al.
    write z for our z, Chung et al. for our 1-z: exchange the sign of z's weights to go from one to the other.
    """

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        if _choice(options["reset"], ("after", "before"), "reset") == "before":
            return Plan("gru_before")
        return Plan("gru")


class MUT(Cell):
    """One of the three cells that Jozefowicz et al. found by mutation and selection; gates r, z, n.

    In MUT1 and MUT2 one term is x itself: x must have H numbers then. Where it has not, a learned projection of x to H
    numbers stands in, as one more gate of W_xh (the paper's networks have an embedding of that size in front).
    """

    DIRECT = ("mut1", "mut2")  # those that take x itself

    def record(self, plan: Plan, inputs: int | None = None, hidden: int | None = None) -> Record:
        """Return the record of its kernel, for an input of a certain width where that decides."""
        direct = self.name in self.DIRECT and inputs is not None and inputs == hidden
        return record(f"{plan.kernel}_direct" if direct else plan.kernel)


class MGU(Cell):
    """Minimal gated unit; gates f, n, with h = f·n + (1-f)·h_prev."""


class IndRNN(Cell):
    """Independently recurrent network, h = f(x·W_xh + u⊙h_prev + b_h): each unit sees, of the past, itself alone.

    Option ``bound``: a number that |u| stays below. The paper takes 2^(1/T) for relu and sequences of T steps, so that
    nothing grows to more than twice its size; None, the default, leaves u alone. The kernel reads u as if what is out
    of bounds were at them, so that there it has no gradient; and the step of an optimizer ends by putting u back. u
    starts uniformly between 0 and the bound (1 without one), W_xh and b_h as in other cells. Recurrent dropout acts on
    h as u meets it.
    """

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        bound = options["bound"]
        if bound is not None and not _number(bound, "bound (None: none)") > 0:
            raise ValueError(f"bound must be more than 0, or None: no bound; got {bound!r}")
        return super().plan(activation, options)._replace(factor=np.inf if bound is None else float(bound))

    def bounds(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Return which parameters stay within ± what: an optimizer's step ends by putting them back."""
        return {} if options["bound"] is None else {"u": float(options["bound"])}

    def initialise(
        self, params: Mapping[str, np.ndarray], hidden: int, options: Mapping[str, Any], rng: np.random.Generator
    ) -> None:
        """Draw initial parameters: memories of all lengths."""
        super().initialise(params, hidden, options, rng)
        params["u"][...] = rng.uniform(0, options["bound"] or 1, hidden)


class Leaky(Cell):
    """Leaky integrator units, h = (1-α)·h_prev + α·f(x·W_xh + h_prev·W_hh + b_h): what a reservoir is made of.

    Option ``leak``: α, above 0 and at most 1; 1 is an Elman network.
    """

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        leak = _number(options["leak"], "leak", most=1.0)
        if leak == 0:
            raise ValueError(f"leak must be above 0, at which nothing is heard; got {options['leak']!r}")
        return super().plan(activation, options)._replace(factor=leak)


class CTRNN(Cell):
    """Continuous-time network, h = f(y) with τ·dy/dt = -y + h·W_hh + x·W_xh + b_h, integrated between samples.

    States (h, y), of which a step reads y alone; τ = exp(ρ), and ρ (rho) is a parameter like others.

    Options:

    - ``tau`` (1): the time constants to begin with, one number or one for each unit.
    - ``time_step`` (1): how much time passes from step to step, in the units of τ.
    - ``irregular`` (False): the last column of x says how much time passes in each step of each sequence, instead of
      ``time_step``. Its row of W_xh starts at zero. No gradient passes through the times. For one layer of dense input.
    - ``solver``: "euler", or "rk4", the Runge-Kutta method of order 4, four products a step.
    - ``substeps`` (1): into how many equal ones the solver divides each step; x is the same in all.
    - ``teacher`` (1) and ``taught`` (None: all units): with ``feedback=``, this share of what the first units, so many,
      are seen to put out is what was given; the rest is their own. For Euler's method without sub-steps.
    """

    SOLVERS: Mapping[str, int] = {"euler": 1, "rk4": 4}  # stages

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        self._tau(options)
        step, solver = options["time_step"], _choice(options["solver"], tuple(self.SOLVERS), "solver")
        if not _number(step, "time_step") > 0:
            raise ValueError(f"time_step must be above 0, the time that passes from step to step; got {step!r}")
        stages = self.SOLVERS[solver] * _checks.whole(options["substeps"], "substeps", most=1000)
        taught = options["taught"]
        units = (1 << 24) if taught is None else _checks.whole(taught, "taught (None: all units)", most=1 << 24)
        return (
            super()
            .plan(activation, options)
            ._replace(
                kernel="ctrnn" if stages == 1 else "ctrnn_staged",
                flags=(solver == "rk4") | units << 1,
                factor=float(step),
                share=_number(options["teacher"], "teacher", most=1.0),
                stages=stages,
                timed=_choice(options["irregular"], (False, True), "irregular"),
            )
        )

    def _tau(self, options: Mapping[str, Any]) -> np.ndarray:
        """Return the time constants to begin with."""
        given = options["tau"]
        tau = np.asarray(given if isinstance(given, (Real, list, tuple, np.ndarray)) else np.nan)
        if tau.dtype.kind not in "iuf" or tau.ndim > 1 or not (np.isfinite(tau) & (tau > 0)).all():
            raise ValueError(f"tau must be a number above 0, or one for each unit; got {given!r}")
        return tau.astype(float)

    def initialise(
        self, params: Mapping[str, np.ndarray], hidden: int, options: Mapping[str, Any], rng: np.random.Generator
    ) -> None:
        """Draw initial parameters; ρ follows from tau, and what times weigh is 0."""
        super().initialise(params, hidden, options, rng)
        tau = self._tau(options)
        if tau.ndim and len(tau) != hidden:
            raise ValueError(f"tau must be one number, or one for each of {hidden} units; got {len(tau)}")
        params["rho"][...] = np.log(tau)
        if options["irregular"]:
            params["W_xh"][-1] = 0


class SecondOrder(Cell):
    """Second-order network, h_i = f(Σ_jk W_jki·h_prev_j·x_k + b_i): each symbol has a matrix of its own.

    W_jki is ``W_xh[k, j·H + i]``. Started from a state of zeros it hears nothing of its first step: begin with another,
    such as (1, 0, ..., 0), by ``state=``, or let a symbol stand in front of every sequence. A step keeps H² numbers for
    each sequence, for the way back: it is meant for some tens of units.

    Options: ``augmented`` (False: with a 1 beside h_prev and x, so that first-order terms are among the products: W_xh
    is (D, (H + 1)·H), and b_h as wide), and ``accept_units`` (0: so many units, the first ones, are seen by no unit).
    With ``augmented=True, accept_units=1`` it is the sequential cascaded network of Pollack 1991, whose context net
    h_prev sets the weights of a function net of x.
    """

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        accept = _checks.whole(options["accept_units"], "accept_units", 0)
        augmented = _choice(options["augmented"], (False, True), "augmented")
        kernel = "second_order_augmented" if augmented else "second_order"
        return super().plan(activation, options)._replace(kernel=kernel, flags=accept)

    def matrix_size(self, hidden: int, options: Mapping[str, Any]) -> int:
        """Return how many numbers the input makes of itself where they are a matrix of its step."""
        fed = hidden - options["accept_units"]
        if fed < 1:
            raise ValueError(f"accept_units must leave a unit that is fed back: {options['accept_units']} of {hidden}")
        return int(fed + options["augmented"]) * hidden


class Jordan(Cell):
    """Jordan network: a step sees the outputs before it, as a decaying sum of them.

    s = μ·s_prev + y_prev, h = f(x·W_xh + s·W_yh + b_h), y = g(h·W_hy + b_y). The outputs y are those of the layer, K
    numbers. States (y, s): the latest output, and the state units as the latest step saw them.

    Options: ``outputs`` (K; hidden_size if left out), ``decay`` (μ, from 0 to 1; 0, so that s is the output before),
    ``output_activation`` (g: identity, sigmoid, tanh or relu), ``through_outputs`` (False: no gradient passes through
    s, which counts as given, as in Jordan's own training), and ``hidden_feedback`` (h also sees h_prev·W_hh, as in an
    Elman network; h is then the third state). Recurrent dropout is for s as h sees it.
    """

    GIVEN = 8  # the flag for through_outputs=False; the lower bits are g

    def plan(self, activation: str, options: Mapping[str, Any]) -> Plan:
        """Return what the settled options mean to the kernel."""
        simple = super().plan(activation, options)
        decay = _number(options["decay"], "decay", most=1.0)
        outputs = tuple(name for name in DETERMINISTIC if ACTIVATIONS[name][1] is None)
        flags = ACTIVATIONS[_choice(options["output_activation"], outputs, "output_activation")][0]
        if not _choice(options["through_outputs"], (True, False), "through_outputs"):
            flags |= self.GIVEN
        hidden = _choice(options["hidden_feedback"], (False, True), "hidden_feedback")
        return simple._replace(kernel="jordan_elman" if hidden else "jordan", flags=flags, factor=decay)

    def output_width(self, hidden: int, options: Mapping[str, Any]) -> int:
        """Return how many numbers a step puts out."""
        outputs = options["outputs"]
        return hidden if outputs is None else _checks.whole(outputs, "outputs")


#: every cell by name
CELLS: Mapping[str, Cell] = {
    cell.name: cell
    for cell in (
        Elman(
            "elman",
            activations=tuple(ACTIVATIONS),
            source="Elman 1990, Cognitive Science 14:179",
        ),
        LSTM(
            "lstm",
            options={
                **{"forget_bias": 1.0, "peepholes": False, "variant": None},
                **{"proj_size": None, "layer_norm": False},
            },
            source="Hochreiter and Schmidhuber 1997; Gers et al. 2000; Greff et al. 2017",
        ),
        GRU(
            "gru",
            options={"reset": "after"},
            source="Cho et al. 2014; Chung et al. 2014",
        ),
        MUT("mut1", source="Jozefowicz, Zaremba and Sutskever 2015"),
        MUT("mut2", source="Jozefowicz, Zaremba and Sutskever 2015"),
        MUT("mut3", source="Jozefowicz, Zaremba and Sutskever 2015"),
        MGU("mgu", source="Zhou, Wu, Zhang and Zhou 2016"),
        IndRNN(
            "indrnn",
            activations=("relu", *(name for name in DETERMINISTIC if name != "relu")),
            options={"bound": None},
            source="Li, Li, Cook, Zhu and Gao 2018",
        ),
        Leaky(
            "leaky",
            activations=DETERMINISTIC,
            options={"leak": 0.5},
            source="Jaeger, Lukoševičius, Popovici and Siewert 2007, Neural Networks 20:335",
        ),
        CTRNN(
            "ctrnn",
            activations=DETERMINISTIC,
            options={
                **{"tau": 1.0, "time_step": 1.0, "irregular": False, "solver": "euler", "substeps": 1},
                **{"teacher": 1.0, "taught": None},
            },
            source="Pearlmutter 1989, Neural Computation 1:263; Beer 1995, Adaptive Behavior 3:469",
        ),
        SecondOrder(
            "second_order",
            activations=("sigmoid", *(name for name in DETERMINISTIC if name != "sigmoid")),
            options={"augmented": False, "accept_units": 0},
            source="Giles et al. 1992, Neural Computation 4:393; Pollack 1991, Machine Learning 7:227",
        ),
        Jordan(
            "jordan",
            activations=DETERMINISTIC,
            options={
                "outputs": None,
                "decay": 0.0,
                "output_activation": "identity",
                "through_outputs": True,
                "hidden_feedback": False,
            },
            source="Jordan 1986, ICS report 8604",
        ),
    )
}
