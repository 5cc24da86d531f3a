"""The net of safety: one object goes through random calls, and each call equals a fresh object's, to the bit.

A fresh object is built anew for each call and brought to what the rules say matters: parameters, gradient, dropout's
counters, states passed on. What else an earlier call left behind must decide nothing. A sequence depends on its seed
alone; `python tests/calls.py --calls 100000 --seed 1` runs many without pytest, for sanitizers, and prints the sequence
that fails (`--only SEED` runs it again, `--trace` names its calls).
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import pickle
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import reference as ref

import rnncore as rc
from rnncore._core import kernels
from rnncore.nn.attention import SCORES

try:
    import torch

    import rnncore.torch as rt
    from rnncore.torch.workspaces import POOL
except ImportError:
    torch = None

ERRORS = (ValueError, TypeError, RuntimeError)
PRECISIONS = ("float32", "float64", "mixed_bfloat16")
ONE_THREAD = kernels.config()["gemm"] != "blas"  # BLAS has other bits where threads share the rows in another way


class DiffersError(AssertionError):
    """A call's result is not a fresh object's."""


def same(got, wanted, what: str) -> None:
    """Compare results, nested as they are; NaN equals NaN, 0 does not equal -0."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        if set(got) != set(wanted):
            raise DiffersError(f"{what}: of {', '.join(got)}, not {', '.join(wanted)}")
        for name, other in wanted.items():
            same(got[name], other, f"{what}[{name}]")
        return
    if isinstance(wanted, (tuple, list)) and got is not None:
        if type(got) is not type(wanted) or len(got) != len(wanted):
            raise DiffersError(
                f"{what}: {type(got).__name__} of {len(got)}, not {type(wanted).__name__} of {len(wanted)}"
            )
        for n, (one, other) in enumerate(zip(got, wanted, strict=True)):
            same(one, other, f"{what}[{n}]")
        return
    if wanted is None or got is None:
        if got is not wanted:
            raise DiffersError(f"{what}: {type(got).__name__}, not {type(wanted).__name__}")
        return
    one, other = np.ascontiguousarray(got), np.ascontiguousarray(wanted)
    if one.shape != other.shape or one.dtype != other.dtype:
        raise DiffersError(f"{what}: {one.dtype} {one.shape}, not {other.dtype} {other.shape}")
    if one.tobytes() == other.tobytes():
        return
    bits = np.dtype(f"u{one.dtype.itemsize}")
    unequal = (one.view(bits) if one.ndim else one.reshape(1).view(bits)) != (
        other.view(bits) if other.ndim else other.reshape(1).view(bits)
    )
    if one.dtype.kind == "f":
        unequal &= ~(np.isnan(one) & np.isnan(other)).reshape(unequal.shape)
    if unequal.any():
        raise DiffersError(
            f"{what}: {unequal.sum()} of {unequal.size} numbers differ, the first at {np.argwhere(unequal)[0]}"
        )


def pick(rng, *choices):
    return choices[rng.integers(len(choices))]


def arrays_of(dtype: str) -> str:
    """What the arrays of an object of such a precision are."""
    return "float32" if dtype == "mixed_bfloat16" else dtype


def size(rng, most: int) -> int:
    """Mostly small and odd, sometimes whole vectors."""
    return int(rng.integers(1, most + 1)) if rng.random() < 0.75 else pick(rng, 8, 16)


def attempt(function: Callable, *arguments, **options) -> None:
    """A call that must be refused."""
    try:
        function(*arguments, **options)
    except ERRORS:
        return
    raise DiffersError(f"{getattr(function, '__name__', function)} accepted what it should have refused")


def at(array, t: int):
    """One step of an array, or of each of a tuple: of features' ids and values."""
    return tuple(part[t] for part in array) if isinstance(array, tuple) else array[t]


def outcome(function: Callable, *arguments, **options):
    """What a call returns, or what it says is not finite."""
    try:
        return function(*arguments, **options)
    except rc.NonFiniteError as problem:
        return problem.what


# ---------------------------------------------------------------------------------------------------------- the objects


def layer_options(rng, inputs: int | None = None, **given) -> dict:
    """Options of a random layer."""
    member = pick(rng, *ref.FAMILY)
    cell, own = ref.FAMILY[member]
    hidden = 4 + size(rng, 5) if own else size(rng, 9)
    options = {"cell": cell, "input_size": inputs or size(rng, 9), "hidden_size": hidden, **own}
    options["activation"] = pick(rng, *rc.CELLS[cell].activations)
    options |= {"num_layers": pick(rng, 1, 1, 2, 3), "dtype": pick(rng, *PRECISIONS)}
    way = pick(rng, "fwd", "fwd", "reverse", "concat", "sum")
    options |= {"reverse": way == "reverse", "bidirectional": way in ("concat", "sum")}
    options["merge"] = way if way in ("concat", "sum") else "concat"
    for name in ("dropout", "recurrent_dropout", "input_dropout", "output_dropout"):
        options[name] = pick(rng, 0.0, 0.0, 0.3)
    options["recurrent_dropout_mode"] = pick(rng, "sequence", "step")
    options["truncate"] = pick(rng, None, None, None, 1, 2, 4)
    kind = rc.CELLS[cell]
    zoned = len(kind.record(kind.plan(options["activation"], kind.settle(own, options["activation"]))).zoned)
    options["zoneout"] = pick(rng, 0.0, 0.0, 0.2, *([[0.2, 0.5], [0.0, 0.3]] if zoned > 1 else [])) if zoned else 0.0
    options["random_state"] = int(rng.integers(1000))
    return options | given


class Calls:
    """An object, and the calls that can be made to it; `log` names those that were."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.log: list[str] = []
        self.kept: list[tuple[np.ndarray, np.ndarray]] = []
        self.threads: int | None = None
        self.draw()
        self.used = self.build()

    def run(self, count: int) -> None:
        """Make so many random calls."""
        names = [name for name in dir(self) if name.startswith("call_")]
        weights = np.array([getattr(self, name).__func__.__dict__.get("weight", 1.0) for name in names])
        for _ in range(count):
            name = names[self.rng.choice(len(names), p=weights / weights.sum())]
            self.log.append(name.removeprefix("call_"))
            getattr(self, name)()
            for array, copied in self.kept:
                same(array, copied, "an array returned earlier")

    def keep(self, *results) -> None:
        """Returned arrays are the caller's: look at them again after later calls."""
        for result in results:
            if isinstance(result, np.ndarray):
                self.kept.append((result, result.copy()))
        self.kept = self.kept[-6:]

    def sizes(self) -> tuple[int, int]:
        """T and B, now and then enough for several threads."""
        if self.rng.random() < 0.02:
            return 40, 30
        return int(self.rng.integers(1, 8)), int(self.rng.integers(1, 7))

    def lengths(self, T: int, B: int):
        if self.rng.random() < 0.5:
            return None
        return self.rng.integers(1, T + 1, B)

    def numbers(self, *shape) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def x(self, kind: str, T: int, B: int, width: int) -> np.ndarray:
        """Input of a kind; numbers in another precision or memory order are fine, too."""
        if kind == "dense":
            x = self.numbers(T, B, width)
            if self.rng.random() < 0.05:
                x[self.rng.integers(T), self.rng.integers(B)] = np.nan
            return pick(self.rng, x, x, x, np.asfortranarray(x), x.astype("f4"), x.astype("f8"))
        if kind == "ids":
            return self.rng.integers(0, width, (T, B))
        return self.rng.integers(-1, width, (T, B, pick(self.rng, 1, 2, 3, 0) or 2))

    def state_of(self, layer, B: int, given: bool):
        if not given:
            return None
        units = layer.num_layers * len(layer.directions)
        return tuple(self.numbers(units, B, width) for width in layer.state_widths.values())

    def call_set_threads(self):
        self.threads = self.used.n_threads = pick(self.rng, 1, 2, 3, None)
        attempt(setattr, self.used, "n_threads", pick(self.rng, 0, -1, 1.5, "x"))

    def call_set_dropout(self):
        self.used.dropout_seed = int(self.rng.integers(5))
        self.used.dropout_step = int(self.rng.integers(5))

    def call_change_theta(self):
        self.used.theta[...] += 0.1 * self.numbers(self.used.theta.size)

    def call_fixed(self):
        name = pick(self.rng, "dtype", "layout", "params", "grads")
        try:
            setattr(self.used, name, None)
        except AttributeError:
            return
        raise DiffersError(f"{name} could be set")

    def fresh(self):
        """A new object at the same parameters."""
        made = self.build()
        made.theta[...] = self.used.theta
        made.grad[...] = self.used._grad  # reading `grad` has a meaning of its own
        made.dropout_seed, made.dropout_step = self.used.dropout_seed, self.used.dropout_step
        made.n_threads = 1 if ONE_THREAD else self.threads
        return made

    def replaced(self):
        """The object, pickled or copied, for going on with the copy."""
        return pick(self.rng, lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy)(self.used)


def often(weight: float):
    def mark(function):
        function.weight = weight
        return function

    return mark


class LayerCalls(Calls):
    """Calls to a Recurrent."""

    def draw(self) -> None:
        self.options = layer_options(self.rng)
        self.dtype = arrays_of(self.options["dtype"])
        self.pending = None  # a fresh layer after the same training pass, and the shape of its outputs

    def build(self):
        return rc.Recurrent(**self.options)

    @often(5)
    def call_forward(self):
        rng, used, fresh = self.rng, self.used, self.fresh()
        T, B = self.sizes()
        lengths, training = self.lengths(T, B), rng.random() < 0.7
        x = self.x(pick(rng, "dense", "dense", "ids", "bags"), T, B, used.input_size)
        options = {"lengths": lengths, "training": training, "state": self.state_of(used, B, rng.random() < 0.3)}
        if used.feeds_back and rng.random() < 0.5:
            options["feedback"] = self.numbers(T, B, used.output_size)
        y, state = used.forward(x, **options)
        same((y, state), fresh.forward(x, **options), "forward")
        same(used.dropout_step, fresh.dropout_step, "dropout_step")
        if training:  # a call without training leaves a pending backward alone
            self.pending = (fresh, y.shape, x)
        self.keep(y, *state)

    @often(4)
    def call_backward(self):
        if self.pending is None:
            return
        (fresh, shape, _), self.pending = self.pending, None
        dy = self.numbers(*shape)
        dstate = self.state_of(self.used, shape[1], self.rng.random() < 0.3)
        if self.rng.random() < 0.3:
            attempt(self.used.backward, self.numbers(*shape, 1), dstate)
        fresh.theta[...], fresh.grad[...] = self.used.theta, self.used._grad  # backward reads what is there now
        got = self.used.backward(dy, dstate)
        same(got, fresh.backward(dy, dstate), "backward")
        same(self.used._grad, fresh._grad, "grad")
        self.keep(got[0], *(got[1] or ()))
        attempt(self.used.backward, dy)

    def call_step(self):
        if self.used.bidirectional or self.used.reverse:
            attempt(self.used.step, self.numbers(2, self.used.input_size))
            return
        B = int(self.rng.integers(1, 5))
        x, state = self.x(pick(self.rng, "dense", "ids"), 1, B, self.used.input_size)[0], None
        fresh = self.fresh()
        for _ in range(2):
            got = self.used.step(x, state)
            same(got, fresh.step(x, state), "step")
            state = got[1]
        self.pending = None
        self.keep(*got)

    def call_activations(self):
        """They disturb nothing: neither what is pending, nor the counters."""
        T, B = self.sizes()
        x, options = self.x(pick(self.rng, "dense", "ids"), T, B, self.used.input_size), {"lengths": self.lengths(T, B)}
        step = self.used.dropout_step
        got, wanted = self.used.activations(x, **options), self.fresh().activations(x, **options)
        same([*got.values()], [*wanted.values()], "activations")
        same(self.used.dropout_step, step, "dropout_step after activations")
        self.keep(*got.values())

    def call_refused(self):
        used, rng = self.used, self.rng
        T, B, D = 3, 2, used.input_size
        x = self.numbers(T, B, D)
        before = used._grad.copy()
        wrong = pick(
            rng,
            ((x,), {"lengths": [T + 1, 1]}),
            ((x,), {"lengths": [1]}),
            ((self.numbers(T, B, D + 1),), {}),
            ((np.full((T, B), D),), {}),
            ((x,), {"state": (x,) * 7}),
            ((x[:0],), {}),
            ((x,), {"feedback": self.numbers(T, B + 1, used.output_size)}),
        )
        attempt(used.forward, *wrong[0], **wrong[1])
        same(used._grad, before, "grad after a refused call")

    def call_write_grad(self):
        used, rng = self.used, self.rng
        way = rng.integers(4)
        if way == 0:
            used.grad += self.numbers(used.grad.size)
        elif way == 1:
            name = pick(rng, *used.grads)
            used.grads[name][...] = self.numbers(*used.grads[name].shape)
        elif way == 2:
            used.grad = self.numbers(used.grad.size)
        else:
            used.zero_grad()

    def call_replace(self):
        self.used, self.pending = self.replaced(), None


class Visits:
    """What an optimizer needs to know of a network, with the rows to visit as the rules have them."""

    def __init__(self, net, ranges) -> None:
        self.theta, self.grad, self.ranges = net.theta.copy(), net._grad.copy(), ranges
        self.net, self.layout = net, net.layout

    def update_ranges(self, lazy: bool, groups=None) -> np.ndarray:
        ranges = self.ranges.copy()
        if groups is not None:
            starts = np.array(list(self.layout.starts.values()))
            for row in ranges:
                row[2] += 2 * groups[list(self.layout.starts)[np.searchsorted(starts, row[0], side="right") - 1]]
        return ranges

    def keep_bounds(self) -> None:
        twin = copy.deepcopy(self.net)
        twin.theta[...] = self.theta
        twin.keep_bounds()
        self.theta[...] = twin.theta


class NetworkCalls(Calls):
    """Calls to a Network, its optimizers, and its layers."""

    def draw(self) -> None:
        rng = self.rng
        self.embedding = rc.Embedding(size(rng, 12), size(rng, 5)) if rng.random() < 0.4 else None
        first = layer_options(rng, self.embedding.size if self.embedding else None)
        self.specs = [first]
        if rng.random() < 0.25:
            shared = {"dtype": first["dtype"], "truncate": first["truncate"]}
            self.specs.append(layer_options(rng, rc.Recurrent(**first).output_size, **shared))
        self.single = len(self.specs) == 1 and rng.random() < 0.8
        self.dtype = arrays_of(first["dtype"])
        self.width = rc.Recurrent(**self.specs[-1]).output_size
        self.readout = pick(rng, "every", "every", "last", "mean", "max")
        self.K = size(rng, 5)
        project = self.width < self.K or rng.random() < 0.8
        weights = pick(rng, None, tuple(rng.random(self.K) + 0.1))
        name = pick(rng, *rc.HEADS)
        if name == "softmax":
            self.head = rc.Softmax(self.K, class_weight=weights, label_smoothing=pick(rng, 0.0, 0.1), project=project)
        elif name == "crf":
            self.readout, rule = "every", None
            if self.K > 1 and rng.random() < 0.5:
                allowed = np.ones((self.K, self.K), bool)
                allowed[1, 0] = False
                rule = rc.heads.Constraints(allowed)
            self.head = rc.CRF(self.K, constraints=rule, class_weight=weights, project=project)
        elif name in ("adaptive", "sampled"):
            options = {"cutoffs": range(1, self.K, 2)} if name == "adaptive" else {}
            self.head = rc.HEADS[name](self.K, **options)
        elif name == "ctc":
            self.readout, self.head = "every", rc.CTC(self.K, project=self.width <= self.K or project)
            self.K = self.head.outputs
        else:
            self.head = rc.HEADS[name](self.K, project=project)
        plain = self.readout == "every" and name not in ("adaptive", "sampled")
        self.features = size(rng, 9) if plain and rng.random() < 0.3 else 0
        self.optimizers: dict[str, rc.optimizers.Optimizer] = {}
        tables = ["embedding.E"]
        if not self.embedding:
            tables = [f"layers.0.{way}.W_xh" for way in rc.Recurrent(**first).directions]
        self.tables = tables
        self.frozen: set[str] = set()
        self.drawn = {"head.W_yh": set(range(self.K))} if name == "sampled" else {}  # as many as there are
        self.rows: dict[str, set | None] = dict.fromkeys([*tables, *["head.W_skip"] * bool(self.features), *self.drawn])

    def build(self):
        layers = [rc.Recurrent(**options) for options in self.specs]
        net = rc.Network(layers[0] if self.single else layers, self.head, self.readout, self.embedding, self.features)
        net.freeze(*self.frozen)
        return net

    # ------------------------------------------------------------ batches

    def batch(self, dense_only: bool = False):
        """(x, ...), options, and the rows it touches: per table a set, or None for any."""
        rng, net = self.rng, self.used
        T, B = self.sizes()
        lengths = self.lengths(T, B)
        inside = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
        kind = pick(rng, "ids", "bags") if self.embedding else pick(rng, "dense", "ids", "bags")
        symbols = self.embedding.symbols if self.embedding else net.layers[0].input_size
        x = self.x(kind, T, B, symbols)
        met = None if kind == "dense" else set(x[inside].ravel().tolist()) - {-1}
        touched = dict.fromkeys(self.tables, met) | self.drawn
        options = {"lengths": lengths}
        if self.features:
            F = int(rng.integers(0, 4))
            ids = rng.integers(-1, self.features, (T, B, F))
            touched["head.W_skip"] = set(ids[inside].ravel().tolist()) - {-1}
            x = (x, ids) if rng.random() < 0.5 else (x, ids, self.numbers(T, B, F))
        forward = not any(layer.bidirectional or layer.reverse for layer in net.layers)
        if forward and rng.random() < 0.3:
            states = [self.state_of(layer, B, True) for layer in net.layers]
            options["state"] = states[0] if self.single else states
        return x, options, touched, (T, B)

    def targets(self, T: int, B: int):
        rng, shape = self.rng, (T, B) if self.readout == "every" else (B,)
        if self.head.name == "squared":
            return self.numbers(*shape, self.K)
        if self.head.name == "sigmoid":
            return rng.random((*shape, self.K))
        if self.head.name == "ctc":
            return rng.integers(-1, self.head.symbols, (B, int(rng.integers(0, 2))))  # as many as fit into one step
        if self.head.name == "crf" and self.head.constraints is not None:
            return np.broadcast_to(rng.integers(0, self.K, B), (T, B)).copy()
        return rng.integers(-1, self.K, shape)

    def more(self, T: int, B: int) -> dict:
        """Further options of loss_and_grad."""
        rng, top, options = self.rng, self.used.layers[-1], {}
        if rng.random() < 0.2:
            options["sample_weight"] = rng.random(B)
        if top.feeds_back and rng.random() < 0.5:
            options["feedback"] = self.numbers(T, B, self.width)
        return options

    def state(self, net):
        try:
            return net.state
        except RuntimeError:
            return None

    # ------------------------------------------------------------ which rows may have a gradient

    def note(self, touched, accumulate: bool = False) -> None:
        for name, new in touched.items():
            before = self.rows[name]
            if not accumulate:
                self.rows[name] = new
            else:
                self.rows[name] = None if before is None or new is None else before | new

    def note_all(self) -> None:
        self.rows = dict.fromkeys(self.rows)

    def expected_ranges(self, lazy: bool) -> np.ndarray:
        """What the rules say an optimizer must visit, as sorted ranges of one number each."""
        net = self.used
        rows = []
        for name, start in net.layout.starts.items():
            if name in self.frozen:
                continue
            shape = net.layout.shapes[name]
            touched = self.rows.get(name) if lazy else None
            width = int(np.prod(shape[1:], dtype=int))
            for row in range(shape[0]) if touched is None else sorted(touched):
                rows.append((start + row * width, width, len(shape) > 1))
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def check_visits(self, lazy: bool) -> None:
        """The network tells the optimizer just these numbers; a lazy one may leave out no gradient."""
        net = self.used
        found, wanted = np.zeros(net.theta.size, int), np.zeros(net.theta.size, int)
        for mask, ranges in ((found, net.update_ranges(lazy)), (wanted, self.expected_ranges(lazy))):
            for start, length, decays in ranges:
                mask[start : start + length] += 1 + 2 * decays
        same(found, wanted, "update_ranges")
        for name in self.frozen:
            found[net.layout.starts[name] :][: net.params[name].size] = 1
        if (net._grad[found == 0] != 0).any():
            raise DiffersError("a number with a gradient is not visited")

    def optimizer(self):
        name, lazy = pick(self.rng, *sorted(set(rc.OPTIMIZERS) - {"sdlm"})), self.rng.random() < 0.6
        decay = pick(self.rng, 0.0, 0.01)
        groups = {"layers.0.*": {"learning_rate": 1e-4}, "*.W_*": {"weight_decay": 0.1}}
        groups = pick(self.rng, None, None, None, groups)
        return self.optimizers.setdefault(
            f"{name} {lazy} {decay} {groups}", rc.OPTIMIZERS[name](1e-3, weight_decay=decay, lazy=lazy, groups=groups)
        )

    def twin_of(self, opt):
        twin = opt.fresh()
        twin.load_state_dict(opt.state_dict())
        return twin

    # ------------------------------------------------------------ calls

    @often(5)
    def call_loss_and_grad(self):
        x, options, touched, (T, B) = self.batch()
        options |= self.more(T, B) | {"accumulate": self.rng.random() < 0.3}
        targets, fresh = self.targets(T, B), self.fresh()
        got = self.used.loss_and_grad(x, targets, **options)
        same(got, fresh.loss_and_grad(x, targets, **options), "loss")
        same(self.used._grad, fresh._grad, "grad")
        same(self.state(self.used), self.state(fresh), "state")
        same(self.used.dropout_step, fresh.dropout_step, "dropout_step")
        self.note(touched, options["accumulate"])
        self.check_visits(True)

    @often(5)
    def call_train_step(self):
        x, options, touched, (T, B) = self.batch()
        options |= self.more(T, B)
        targets, fresh, opt = self.targets(T, B), self.fresh(), self.optimizer()
        twin = self.twin_of(opt)
        before = self.used.theta.copy()
        got, wanted = (
            outcome(net.train_step, x, targets, with_, **options) for net, with_ in ((self.used, opt), (fresh, twin))
        )
        if isinstance(wanted, str):  # not finite: nothing was changed
            if got != wanted:
                raise DiffersError(f"train_step: {got!r}, not {wanted!r}")
            same(self.used.theta, before, "theta after a step that was refused")
            self.used.zero_grad()
            self.rows = {name: set() for name in self.rows}
            return
        same(got, wanted, "train_step")
        same(self.used._grad, fresh._grad, "grad")
        same(self.used.theta, fresh.theta, "theta")
        self.note(touched)

    @often(2)
    def call_optimizer_step(self):
        opt = self.optimizer()
        twin = self.twin_of(opt)
        self.check_visits(opt.lazy)
        stand_in = Visits(self.used, self.expected_ranges(opt.lazy))
        got, wanted = outcome(opt.step, self.used), outcome(twin.step, stand_in)
        if (got is None) != (wanted is None):
            raise DiffersError(f"optimizer.step: {got!r}, not {wanted!r}")
        same(self.used.theta, stand_in.theta, f"theta after {opt}")
        same(self.used._grad, stand_in.grad, "grad")
        if wanted is not None:  # not finite: nothing was changed
            self.used.zero_grad()
            self.rows = {name: set() for name in self.rows}

    @often(3)
    def call_predict(self):
        x, options, _, (T, B) = self.batch()
        options |= {name: value for name, value in self.more(T, B).items() if name == "feedback"}
        fresh, before, state = self.fresh(), self.used._grad.copy(), self.state(self.used)
        got, after = self.used.predict(x, **options, return_state=True)
        wanted, wanted_after = fresh.predict(x, **options, return_state=True)
        same(got, wanted, "predict")
        same(after, wanted_after, "state after predict")
        same(self.state(self.used), state, "state of the training call before")
        same(self.used._grad, before, "grad after predict")
        out = np.full_like(got, np.nan)
        same(self.used.predict(x, **options, out=out), wanted, "predict into out")
        self.keep(got)
        self.check_visits(True)

    def call_session(self):
        """A stream on packed weights: runs are predictions, and so are steps."""
        x, options, _, (T, B) = self.batch()
        session, fresh = self.used.session(B), self.fresh()
        wanted, after = fresh.predict(x, **options, return_state=True)
        if "state" in options:
            session.state = options["state"]
        same(session.run(x, options["lengths"]), wanted, "session.run")
        if any(layer.bidirectional or layer.reverse for layer in self.used.layers):
            attempt(session.step, x[0])
            return
        same(session.state, after, "session.state")
        session.reset()
        state = None
        for t in range(min(T, 3) if self.readout in ("every", "last") else 1):
            one = tuple(part[t : t + 1] for part in x) if self.features else x[t : t + 1]
            wanted, state = fresh.predict(one, state=state, return_state=True)
            x_t = tuple(part[t] for part in x) if self.features else x[t]
            same(session.step(x_t), wanted[0] if self.readout == "every" else wanted, "session.step")
        same(session.state, state, "session.state after steps")

    def call_activations(self):
        x, options, _, _ = self.batch()
        state, before = self.state(self.used), self.used._grad.copy()
        got, wanted = (net.activations(x, **options) for net in (self.used, self.fresh()))
        same([*got.values()], [*wanted.values()], "activations")
        same((self.state(self.used), self.used._grad), (state, before), "state and grad after activations")
        self.keep(*got.values())

    def call_decode(self):
        x, options, _, _ = self.batch()
        top = pick(self.rng, 1, 3) if self.head.name == "crf" else 1
        if self.head.name in ("squared", "sigmoid", "ctc"):
            attempt(self.used.decode, x, **options)
            return
        got = self.used.decode(x, top=top, **options)
        same(got, self.fresh().decode(x, top=top, **options), "decode")
        self.keep(*got)

    def call_carry_on(self):
        """A chunk, and the next one from its state."""
        if any(layer.bidirectional or layer.reverse for layer in self.used.layers) or self.features:
            return
        kind = "ids" if self.embedding else "dense"
        symbols = self.embedding.symbols if self.embedding else self.used.layers[0].input_size
        T, B = self.sizes()
        fresh = self.fresh()
        one, two = self.x(kind, T, B, symbols), self.x(kind, T, B, symbols)
        targets = self.targets(T, B)
        (_, state), (_, twin) = (net.predict(one, return_state=True) for net in (self.used, fresh))
        same(
            self.used.loss_and_grad(two, targets, state=state),
            fresh.loss_and_grad(two, targets, state=twin),
            "carried loss",
        )
        same(self.used._grad, fresh._grad, "grad")
        met = None if kind == "dense" else set(two.ravel().tolist())
        self.note(dict.fromkeys(self.tables, met) | self.drawn)

    @often(2)
    def call_write_grad(self):
        used, rng = self.used, self.rng
        layer = pick(rng, *used.layers)
        way = rng.integers(6)
        if way == 0:
            used.grad += self.numbers(used.grad.size)
        elif way == 1:
            views = pick(rng, used, layer).grads
            name = pick(rng, *views)
            views[name][...] = self.numbers(*views[name].shape)
        elif way == 2:
            used.grad = self.numbers(used.theta.size)
        elif way == 3:
            layer.grad[...] += 1
        elif way == 4:
            assert used.grad.shape == used.theta.shape  # read, and nothing more
        else:
            used.zero_grad()
            self.rows = {name: set() for name in self.rows}
            return
        self.note_all()

    def call_layer_alone(self):
        """A layer of the network by itself adds to the network's gradient."""
        n = int(self.rng.integers(len(self.specs)))
        fresh = self.fresh()
        one, other = self.used.layers[n], fresh.layers[n]
        one.dropout_step = other.dropout_step = int(self.rng.integers(9))
        one.dropout_seed = other.dropout_seed = 3
        T, B = self.sizes()
        lengths, x = self.lengths(T, B), self.x(pick(self.rng, "dense", "ids"), T, B, one.input_size)
        same(one.forward(x, lengths=lengths), other.forward(x, lengths=lengths), "layer's forward")
        dy = self.numbers(T, B, one.output_size)
        same(one.backward(dy), other.backward(dy), "layer's backward")
        same(self.used._grad, fresh._grad, "grad")
        self.note_all()

    @often(2)
    def call_refused(self):
        """Refused calls change nothing: not the gradient, nor the state, nor which rows are visited."""
        used = self.used
        x, options, _, (T, B) = self.batch()
        targets = self.targets(T, B)
        before, state, step = used._grad.copy(), self.state(used), used.dropout_step
        bad = {
            "targets": ((x, targets[:, None]), {}),
            "lengths": ((x, targets), {"lengths": np.full(B, T + 1)}),
            "lengths of no sequence": ((x, targets), {"lengths": np.zeros(0, int)}),
            "state": ((x, targets), {"state": 3}),
            "weights": ((x, targets), {"sample_weight": -np.ones(B)}),
            "x": ((None, targets), {}),
        }
        arguments, wrong = bad[pick(self.rng, *bad)]
        attempt(used.loss_and_grad, *arguments, **(options | wrong))
        attempt(used.predict, x, lengths=np.zeros(B, int))
        same(used._grad, before, "grad after a refused call")
        same(self.state(used), state, "state after a refused call")
        same(used.dropout_step, step, "dropout_step after a refused call")
        self.check_visits(True)

    def call_freeze(self):
        """Some parameters, by the network or by one of its layers."""
        name = pick(self.rng, *self.used.layout.shapes)
        chosen = {own for own in self.used.layout.shapes if own.endswith(name.rpartition(".")[2])}
        getattr(self.used, pick(self.rng, "freeze", "unfreeze", "unfreeze"))("*" + name.rpartition(".")[2])
        self.frozen = set(self.used.frozen)
        if self.frozen & chosen not in (set(), chosen):
            raise DiffersError(f"{self.frozen} are frozen: of {chosen} all or none should be")
        attempt(self.used.freeze, "nothing.*")

    def call_memory(self):
        if not all(value >= 0 for value in self.used.memory().values()):
            raise DiffersError("memory() is negative")

    def call_replace(self):
        self.used = self.replaced()
        for name, opt in self.optimizers.items():
            self.optimizers[name] = pick(self.rng, self.twin_of(opt), pickle.loads(pickle.dumps(opt)))


class PartsCalls(Calls):
    """Calls to a Network of several heads, that reads segments."""

    def draw(self) -> None:
        rng = self.rng
        self.segments = {
            "word": rc.Embedding(size(rng, 9), size(rng, 4)),
            "numbers": rc.Numbers(size(rng, 4)),
            "vector": rc.SequenceVector(size(rng, 3)),
            "letters": rc.Letters(5, size(rng, 4), pick(rng, "elman", "lstm", "gru"), bidirectional=rng.random() < 0.5),
            "features": rc.Features(size(rng, 9), size(rng, 4)),
        }
        names = [name for name in self.segments if rng.random() < 0.6]
        if not set(names) - {"vector"}:
            names.append("word")
        self.inputs = {name: self.segments[name] for name in names}
        width = sum(part.width for part in self.inputs.values())
        self.options = layer_options(rng, width)
        self.dtype = arrays_of(self.options["dtype"])
        K = size(rng, 4)
        heads = {
            "slots": rc.CRF(K, class_weight=pick(rng, None, tuple(rng.random(K) + 0.1))),
            "each": rc.SquaredError(K),
            "intent": rc.Softmax(K, pooling="attention"),
            "last": rc.Softmax(K, pooling="last"),
            "mean": rc.SigmoidCrossEntropy(K, pooling="mean"),
            "max": rc.SquaredError(K, pooling="max"),
        }
        self.heads = {name: heads[name] for name in rng.permutation(list(heads))[: rng.integers(1, 5)].tolist()}
        self.attention = None
        if rng.random() < 0.5:
            self.attention = {"score": pick(rng, *SCORES), "causal": rng.random() < 0.4}
            self.attention["output_size"] = pick(rng, None, K + size(rng, 5))
        self.K, self.skip = K, size(rng, 5) if {"slots", "each"} & set(self.heads) and rng.random() < 0.4 else 0
        self.optimizers: dict[str, rc.optimizers.Optimizer] = {}
        self.stream = None  # a session, and one of a network that is used for nothing else

    def build(self):
        layer, attention = rc.Recurrent(**self.options), None
        if self.attention is not None:
            attention = rc.Attention(layer.output_size, dtype=layer.dtype_policy, random_state=1, **self.attention)
        parts = {"heads": self.heads, "inputs": self.inputs, "skip": self.skip, "attention": attention}
        return rc.Network(layer, **parts)

    def batch(self, sequences: int | None = None):
        rng, (T, B) = self.rng, self.sizes()
        B = sequences or B
        letters = rng.integers(0, 5, (T, B, 3))
        letters[np.arange(3) >= rng.integers(0, 4, (T, B, 1))] = -1
        made = {
            "word": self.x(pick(rng, "ids", "bags"), T, B, self.segments["word"].symbols),
            "numbers": self.numbers(T, B, self.segments["numbers"].size),
            "vector": self.numbers(B, self.segments["vector"].size),
            "letters": letters,
            "features": rng.integers(-1, self.segments["features"].symbols, (T, B, pick(rng, 1, 2, 5))),
        }
        if rng.random() < 0.5:
            made["features"] = made["features"], self.numbers(*made["features"].shape)
        x = {name: made[name] for name in self.inputs}
        if self.skip:
            x = (x, rng.integers(-1, self.skip, (T, B, 2)))
        state = self.state_of(self.used.layers[0], B, rng.random() < 0.3)
        ways = self.used.layers[0]
        options = {"lengths": self.lengths(T, B), "state": None if ways.bidirectional or ways.reverse else state}
        return x, options, (T, B)

    def targets(self, T: int, B: int) -> dict:
        rng, K = self.rng, self.K
        made = {
            "slots": rng.integers(0, K, (T, B)),
            "each": self.numbers(T, B, K),
            "intent": rng.integers(-1, K, B),
            "last": rng.integers(0, K, B),
            "mean": rng.random((B, K)),
            "max": self.numbers(B, K),
        }
        kept = [name for name in self.heads if rng.random() < 0.8] or list(self.heads)
        return {name: made[name] for name in kept}

    @often(4)
    def call_loss(self):
        x, options, (T, B) = self.batch()
        options["accumulate"] = self.rng.random() < 0.3
        if self.rng.random() < 0.3:
            options["sample_weight"] = self.rng.random(B)
        targets, fresh = self.targets(T, B), self.fresh()
        same(self.used.loss_and_grad(x, targets, **options), fresh.loss_and_grad(x, targets, **options), "loss")
        same(self.used.losses, fresh.losses, "losses")
        same(self.used._grad, fresh._grad, "grad")

    @often(4)
    def call_train_step(self):
        x, options, (T, B) = self.batch()
        name = pick(self.rng, "sgd", "adam")
        opt = self.optimizers.setdefault(name, rc.OPTIMIZERS[name](0.05, clip_norm=pick(self.rng, None, 1.0)))
        twin, targets, fresh = NetworkCalls.twin_of(self, opt), self.targets(T, B), self.fresh()
        got, wanted = (
            outcome(net.train_step, x, targets, one, **options) for net, one in ((self.used, opt), (fresh, twin))
        )
        same(got, wanted, "train_step")
        same(self.used.theta, fresh.theta, "theta")
        same(self.used._grad, fresh._grad, "grad")

    @often(3)
    def call_predict(self):
        x, options, _ = self.batch()
        before = self.used._grad.copy()
        got, after = self.used.predict(x, **options, return_state=True)
        same((got, after), self.fresh().predict(x, **options, return_state=True), "predict")
        same(self.used._grad, before, "grad after predict")
        self.keep(*got.values(), *after)

    @often(3)
    def call_forward_backward(self):
        x, options, _ = self.batch()
        fresh = self.fresh()
        got, wanted = self.used.forward(x, **options), fresh.forward(x, **options)
        same(got, wanted, "forward")
        if self.rng.random() < 0.3:
            self.used.predict(x, **options)
        if self.rng.random() < 0.2:
            attempt(self.used.backward, {"none": 1})
        if self.rng.random() < 0.8:
            kept = {name: scores for name, scores in got[0].items() if self.rng.random() < 0.7} or got[0]
            more = {"accumulate": self.rng.random() < 0.3}
            same(self.used.backward(kept, **more), fresh.backward(kept, **more), "backward")
            same(self.used._grad, fresh._grad, "grad")
            attempt(self.used.backward, got[0])

    @often(3)
    def call_session(self):
        """A stream beside all other calls: it keeps its weights, its state, and what was pooled."""
        rng = self.rng
        if self.attention is not None:
            attempt(self.used.session)
            return
        if self.stream is None or rng.random() < 0.2:
            B = int(rng.integers(1, 5))
            self.stream = self.used.session(B), self.fresh().session(B)
            x, options, _ = self.batch(B)
            wanted = self.fresh().predict(x, lengths=options["lengths"])
            same(self.stream[0].run(x, options["lengths"]), wanted, "a session's first run")
            self.stream[1].run(x, options["lengths"])
        both, steps = self.stream, not (self.used.layers[0].bidirectional or self.used.layers[0].reverse)
        x, options, (T, B) = self.batch(both[0].batch_size)
        way = pick(rng, "run", "run", "steps", "steps", "reset", "refresh", "state")
        if way == "run":
            got, wanted = (session.run(x, options["lengths"]) for session in both)
            same(got, wanted, "session.run")
            self.keep(*got.values())
        elif way == "steps":
            whole, features = x if self.skip else (x, None)
            for t in range(min(T, 3)):
                x_t = {name: array if name == "vector" else at(array, t) for name, array in whole.items()}
                if t and rng.random() < 0.5:
                    x_t.pop("vector", None)
                x_t = (x_t, features[t]) if self.skip else x_t
                if steps:
                    same(both[0].step(x_t), both[1].step(x_t), "session.step")
                else:
                    attempt(both[0].step, x_t)
        elif way == "reset":
            rows = pick(rng, None, rng.random(B) < 0.5)
            for session in both:
                session.reset(rows)
        elif way == "refresh":
            both[1]._owner.theta[...] = both[0]._owner.theta
            for session in both:
                session.refresh()
        elif steps:
            for session in both:
                session.state = options["state"]
        if steps:
            same(both[0].state, both[1].state, "session.state")

    def call_activations(self):
        """They disturb nothing, and hold the weights of attention."""
        x, options, _ = self.batch()
        got = self.used.activations(x, **options)
        same(got, self.fresh().activations(x, **options), "activations")
        same("attention.weights" in got, self.attention is not None, "weights of attention")

    def call_refused(self):
        x, options, (T, B) = self.batch()
        before = self.used._grad.copy()
        attempt(self.used.loss_and_grad, x, {}, **options)
        attempt(self.used.loss_and_grad, x, {name: np.zeros((T, B, 99)) for name in self.heads}, **options)
        attempt(self.used.loss_and_grad, x, self.targets(T, B), **(options | {"lengths": np.full(B, T + 1)}))
        attempt(self.used.predict, None)
        same(self.used._grad, before, "grad after a refused call")

    def call_write_grad(self):
        if self.rng.random() < 0.5:
            self.used.grad += self.numbers(self.used.theta.size)
        else:
            self.used.zero_grad()

    def call_replace(self):
        self.used = self.replaced()
        self.optimizers = {name: NetworkCalls.twin_of(self, opt) for name, opt in self.optimizers.items()}


class AttentionCalls(Calls):
    """Calls to an Attention by itself."""

    def draw(self) -> None:
        rng = self.rng
        score, H = pick(rng, *SCORES), size(rng, 9)
        self.options = {"size": H, "score": score, "causal": rng.random() < 0.4, "output_size": size(rng, 9)}
        self.options["memory_size"] = size(rng, 9) if score == "general" and rng.random() < 0.5 else None
        self.options["dtype"] = pick(rng, *PRECISIONS)
        self.dtype = arrays_of(self.options["dtype"])
        self.pending = None  # a fresh one after the same training pass, and the shape of its outputs

    def build(self):
        return rc.Attention(**self.options)

    def fresh(self):
        made = self.build()
        made.theta[...], made.grad[...] = self.used.theta, self.used._grad
        made.n_threads = 1 if ONE_THREAD else self.threads
        return made

    call_set_dropout = Calls.call_set_threads

    def arrays(self):
        rng, (T, B) = self.rng, self.sizes()
        given = {"queries": self.x("dense", T, B, self.used.size), "lengths": self.lengths(T, B)}
        if self.used.memory_size != self.used.size or rng.random() < 0.5:
            S = int(rng.integers(1, 9))
            given |= {"memory": self.x("dense", S, B, self.used.memory_size), "memory_lengths": self.lengths(S, B)}
        return given

    @often(5)
    def call_forward(self):
        given, fresh, training = self.arrays(), self.fresh(), self.rng.random() < 0.7
        h = self.used.forward(**given, training=training)
        same(h, fresh.forward(**given, training=training), "forward")
        if training:
            self.pending = (fresh, h.shape)
        self.keep(h)

    @often(4)
    def call_backward(self):
        if self.pending is None:
            return
        (fresh, shape), self.pending = self.pending, None
        dh = self.numbers(*shape)
        if self.rng.random() < 0.3:
            attempt(self.used.backward, self.numbers(*shape, 1))
        fresh.theta[...], fresh.grad[...] = self.used.theta, self.used._grad
        got = self.used.backward(dh)
        same(got, fresh.backward(dh), "backward")
        same(self.used._grad, fresh._grad, "grad")
        self.keep(*got)
        attempt(self.used.backward, dh)

    def call_weights(self):
        given = self.arrays()
        weights = self.used.weights(**given)
        same(weights, self.fresh().weights(**given), "weights")
        self.keep(weights)

    def call_refused(self):
        given, before = self.arrays(), self.used._grad.copy()
        B = given["queries"].shape[1]
        wrong = pick(
            self.rng,
            {"queries": given["queries"][:0]},
            {"memory": np.empty((0, B, self.used.memory_size))},
            {"lengths": np.zeros(B, int)},
            {"memory": self.numbers(3, B + 1, self.used.memory_size)},
            {"memory": self.numbers(3, B, self.used.memory_size), "memory_lengths": np.full(B, 4)},
        )
        attempt(self.used.forward, **(given | wrong))
        same(self.used._grad, before, "grad after a refused call")

    def call_write_grad(self):
        self.used.grad += self.numbers(self.used.theta.size)

    def call_replace(self):
        self.used, self.pending = self.replaced(), None


class EncoderDecoderCalls(Calls):
    """Calls to a network that reads and writes."""

    def draw(self) -> None:
        rng = self.rng
        dtype = pick(rng, *PRECISIONS)
        self.dtype, self.optimizers, self.stream = arrays_of(dtype), {}, None
        self.K, self.kind = size(rng, 7), pick(rng, "ids", "embedded", "dense", "vector")
        self.reads = layer_options(rng, size(rng, 6), dtype=dtype)
        attention = None if self.kind == "vector" else pick(rng, None, "general", "dot", "scaled_dot")
        conditioning = pick(rng, "state", "input", "both", None if attention else "state")
        encoder = rc.Recurrent(**self.reads)
        width = 3 if self.kind == "vector" else len(encoder.directions) * sum(encoder.state_widths.values())
        beside = width if conditioning in ("input", "both") else 0
        self.writes = layer_options(rng, size(rng, 5) + beside, dtype=dtype)
        self.writes |= {"bidirectional": False, "reverse": False, "merge": "concat"}
        if attention in ("dot", "scaled_dot") and rc.Recurrent(**self.writes).output_size != encoder.output_size:
            attention = "general"
        self.options = {"symbols": self.K, "attention": attention, "conditioning": conditioning}
        if self.kind == "vector":
            self.options["vector_size"] = 3
        if self.kind == "embedded":
            self.options["embedding"] = rc.Embedding(9, self.reads["input_size"])

    def build(self):
        encoder = None if self.kind == "vector" else rc.Recurrent(**self.reads)
        return rc.EncoderDecoder(encoder, rc.Recurrent(**self.writes), **self.options)

    def batch(self):
        T, B = self.sizes()
        if self.kind == "vector":
            return (self.numbers(B, 3),), {}, B
        width = 9 if self.kind == "embedded" else self.used.encoder.layers[0].input_size
        x = self.x("dense" if self.kind == "dense" else "ids", T, B, width)
        return (x,), {"lengths": self.lengths(T, B)}, B

    def targets(self, B: int):
        L = int(self.rng.integers(0, 6))
        found, counts = self.rng.integers(0, self.K, (B, L)), self.rng.integers(0, L + 1, B)
        if self.rng.random() < 0.3:
            return {"targets": found, "target_lengths": counts}
        found[np.arange(L) >= counts[:, None]] = -1
        return {"targets": found}

    @often(4)
    def call_loss(self):
        x, options, B = self.batch()
        options |= self.targets(B) | {"accumulate": self.rng.random() < 0.3}
        if self.rng.random() < 0.3:
            options["sample_weight"] = self.rng.random(B)
        fresh = self.fresh()
        same(self.used.loss_and_grad(*x, **options), fresh.loss_and_grad(*x, **options), "loss")
        same(self.used._grad, fresh._grad, "grad")

    @often(4)
    def call_train_step(self):
        x, options, B = self.batch()
        name = pick(self.rng, "sgd", "adam")
        opt = self.optimizers.setdefault(name, rc.OPTIMIZERS[name](0.05, clip_norm=pick(self.rng, None, 1.0)))
        twin, fresh = NetworkCalls.twin_of(self, opt), self.fresh()
        options |= self.targets(B)
        targets = options.pop("targets")
        got, wanted = (
            outcome(net.train_step, *x, targets, one, **options) for net, one in ((self.used, opt), (fresh, twin))
        )
        same(got, wanted, "train_step")
        same(self.used.theta, fresh.theta, "theta")
        same(self.used._grad, fresh._grad, "grad")

    @often(3)
    def call_say(self):
        x, options, B = self.batch()
        before = self.used._grad.copy()
        given = options | self.targets(B)
        names = ["log_probabilities", "attention_weights"] if self.options["attention"] else ["log_probabilities"]
        for name in names:
            found = getattr(self.used, name)(*x, **given)
            same(found, getattr(self.fresh(), name)(*x, **given), name)
            self.keep(found)
        same(self.used._grad, before, "grad")

    @often(3)
    def call_write(self):
        """Step by step, beside all other calls; on a source that is a number everywhere."""
        x, options, B = self.batch()
        x = tuple(np.nan_to_num(one) for one in x)
        beams = int(self.rng.integers(1, 4))
        both = [net.decoding(*x, **options, beams=beams) for net in (self.used, self.fresh())]
        ids = np.full(B * beams, self.K)
        for _ in range(3):
            found = both[0].step(ids)
            same(found, both[1].step(ids), "step")
            self.keep(found)
            rows = self.rng.integers(0, len(ids), self.rng.integers(1, len(ids) + 1))
            ids = self.rng.integers(0, self.K + 1, len(rows))
            for decoding in both:
                decoding.select(rows)
        if self.rng.random() < 0.3:
            more = {"beam_size": beams, "max_length": 4, "length_penalty": pick(self.rng, 0.0, 0.7)}
            got, wanted = (net.decode(*x, **options, **more) for net in (self.used, self.fresh()))
            same(got, wanted, "decode")

    def call_refused(self):
        x, options, B = self.batch()
        before = self.used._grad.copy()
        attempt(self.used.loss_and_grad, *x, np.full((B, 2), self.K), **options)
        attempt(self.used.loss_and_grad, *x, np.zeros((B + 1, 2), int), **options)
        attempt(self.used.train_step, *x, None, rc.SGD(), **options)
        attempt(self.used.decode, None)
        same(self.used._grad, before, "grad after a refused call")

    def call_write_grad(self):
        if self.rng.random() < 0.5:
            self.used.grad += self.numbers(self.used.theta.size)
        else:
            self.used.zero_grad()

    def call_replace(self):
        self.used = self.replaced()
        self.optimizers = {name: NetworkCalls.twin_of(self, opt) for name, opt in self.optimizers.items()}


class ModuleCalls(Calls):
    """Calls to a module of rnncore.torch; a fresh one works in memory of its own, too."""

    def draw(self) -> None:
        rng = self.rng
        self.kind = pick(rng, "RNN", "LSTM", "GRU")
        self.options = {"input_size": size(rng, 7), "hidden_size": 1 + size(rng, 8), "num_layers": pick(rng, 1, 2, 3)}
        self.options |= {"bias": rng.random() < 0.8, "batch_first": rng.random() < 0.3}
        self.options |= {"bidirectional": rng.random() < 0.4, "dropout": pick(rng, 0.0, 0.3)}
        self.options["dtype"] = pick(rng, torch.float32, torch.float64)
        if self.options["num_layers"] == 1:
            self.options["dropout"] = 0.0
        if self.kind == "RNN":
            self.options["nonlinearity"] = pick(rng, "tanh", "relu")
        if self.kind == "LSTM" and rng.random() < 0.3:
            self.options["proj_size"] = 1
        self.dtype = str(self.options["dtype"]).removeprefix("torch.")
        self.waiting: list = []  # pairs of graphs whose backward passes are to come

    def build(self):
        return getattr(rt, self.kind)(**self.options)

    def tensor(self, *shape, grad: bool = False):
        return torch.from_numpy(self.numbers(*shape)).requires_grad_(grad)

    def fresh(self):
        made = self.build()
        made.load_state_dict(self.used.state_dict())
        made.train(self.used.training)
        return made

    def alone(self, function, *arguments, **options):
        """A call in memory that no other call has used."""
        kept, POOL._idle = POOL._idle, []
        try:
            return function(*arguments, **options)
        finally:
            POOL._idle = kept

    def arguments(self):
        rng, options = self.rng, self.options
        T, B = self.sizes()
        T += 1
        grad = rng.random() < 0.5
        x = self.tensor(*((B, T) if options["batch_first"] else (T, B)), options["input_size"], grad=grad)
        units = options["num_layers"] * (2 if options["bidirectional"] else 1)
        hx = None
        if rng.random() < 0.4:
            first = self.tensor(units, B, options.get("proj_size") or options["hidden_size"], grad=grad)
            hx = (first, self.tensor(units, B, options["hidden_size"], grad=grad)) if self.kind == "LSTM" else first
        if rng.random() < 0.4:
            lengths = torch.from_numpy(rng.integers(1, T + 1, B))
            x = torch.nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=options["batch_first"], enforce_sorted=False
            )
        return x, hx

    @staticmethod
    def flat(outputs):
        y, final = outputs
        y = y.data if isinstance(y, torch.nn.utils.rnn.PackedSequence) else y
        return [y, *(final if isinstance(final, tuple) else (final,))]

    def compare(self, got, wanted, what: str) -> None:
        same([part.detach().numpy() for part in got], [part.detach().numpy() for part in wanted], what)

    @often(5)
    def call_forward(self):
        x, hx = self.arguments()
        fresh, seed = self.fresh(), int(self.rng.integers(1000))
        graph = self.rng.random() < 0.7
        with torch.set_grad_enabled(graph):
            torch.manual_seed(seed)
            got = self.flat(self.used(x, hx))
            torch.manual_seed(seed)
            wanted = self.flat(self.alone(fresh, x, hx))
        self.compare(got, wanted, "forward")
        if graph:
            self.waiting.append((got, wanted, fresh))
            self.waiting = self.waiting[-4:]

    @often(4)
    def call_backward(self):
        if not self.waiting:
            return
        got, wanted, fresh = self.waiting.pop(int(self.rng.integers(len(self.waiting))))
        which = [0] if self.rng.random() < 0.6 else list(range(len(got)))
        douts = [self.tensor(*got[n].shape) for n in which]
        gradients = []
        for outputs, module, run in ((got, self.used, lambda f, *a, **k: f(*a, **k)), (wanted, fresh, self.alone)):
            chosen = [outputs[n] for n in which]
            gradients.append(run(torch.autograd.grad, chosen, list(module.parameters()), douts, allow_unused=True))
        self.compare(*gradients, "backward")

    def call_change_theta(self):
        self.waiting.clear()
        with torch.no_grad():
            for parameter in self.used.parameters():
                parameter += 0.1 * self.tensor(*parameter.shape)

    def call_mode(self):
        self.used.train(self.rng.random() < 0.6)

    def call_refused(self):
        attempt(self.used, self.tensor(3, 2, self.options["input_size"] + 1))

    def call_replace(self):
        self.used = pick(self.rng, lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy)(self.used)
        self.waiting.clear()

    call_set_threads = call_set_dropout = call_fixed = call_mode


KINDS: tuple[type[Calls], ...] = (
    *(LayerCalls, NetworkCalls, NetworkCalls, PartsCalls, AttentionCalls, EncoderDecoderCalls),
    *((ModuleCalls,) if torch else ()),
)
CALLS = 14  # in a sequence


def run_sequence(seed: int, trace: bool = False) -> int:
    """Build an object and make random calls to it; returns how many. The same seed makes the same calls."""
    calls = KINDS[seed % len(KINDS)](seed)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            calls.run(CALLS)
    except Exception as error:
        what = getattr(calls, "options", getattr(calls, "specs", None))
        parts = [f"seed {seed}: {type(calls).__name__} of {what}"]
        if isinstance(calls, NetworkCalls):
            parts.append(f"{calls.head}, {calls.readout}, {calls.embedding}, skip={calls.features}, {calls.single}")
        parts.append(f"after {', '.join(calls.log)}")
        raise DiffersError(f"{error}\n" + "\n".join(parts)) from error
    if trace:
        print(seed, type(calls).__name__, *calls.log)
    return len(calls.log)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random calls to one object, each compared with a fresh object's.")
    parser.add_argument("--calls", type=int, default=10_000, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence; the next has the next number")
    parser.add_argument("--only", type=int, help="run the sequence of this seed alone")
    parser.add_argument("--trace", action="store_true", help="name the calls")
    parser.add_argument("--keep-going", action="store_true", help="go on after a sequence that fails")
    given = parser.parse_args()
    faulthandler.enable()
    done, failed, seed, begin = 0, [], given.seed if given.only is None else given.only, time.perf_counter()
    while done < given.calls:
        if given.trace:
            print(f"seed {seed}", flush=True)
        try:
            done += run_sequence(seed, given.trace)
        except DiffersError as error:
            print(f"--- failed after {done} calls: python tests/calls.py --only {seed}\n{error}", flush=True)
            failed.append(seed)
            done += CALLS
            if not given.keep_going:
                break
        seed += 1
        if given.only is not None:
            break
    core = kernels.config()
    print(f"{done} calls, seeds {given.seed} to {seed - 1}, {core['isa']}, {core['gemm']}, "
          f"{time.perf_counter() - begin:.0f} s: {f'failed {failed}' if failed else 'all equal'}")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
