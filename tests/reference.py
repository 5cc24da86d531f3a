"""Recurrent networks once more, written as plainly as possible: what the engine has to agree with.

Plain NumPy in float64, one sequence and one time step at a time. A new cell needs one `step` here (see `elman`) and
its entry in `CELLS`; time, directions, depth, ragged lengths, readouts, heads and losses are shared.

Everything also runs on complex numbers, which gives derivatives without subtraction (`derivative`): move one input by
1e-30·i and read the answer off the imaginary part. It also makes "treat this as a constant" one word: `np.real`.
`test_reference.py` holds all of this against PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

Arrays = dict[str, np.ndarray]

# ----------------------------------------------------------------------------------------------------- activations


def relu(z):
    return np.where(np.real(z) > 0, z, 0)


def leaky_relu(z, slope=0.01):
    return np.where(np.real(z) > 0, z, slope * z)


def clipped_relu(z, top=6.0):
    return np.where(np.real(z) < top, relu(z), top)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def identity(z):
    return z


ACTIVATIONS: dict[str, Callable] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "clipped_relu": clipped_relu,
    "identity": identity,
}

# ----------------------------------------------------------------------------------------------------------- cells
# A step takes one time step's input x (N, D) of N sequences, the state before it (a tuple of (N, H) arrays, the output
# first) and the mask of the recurrent dropout, and returns the state after it. `net` has the activation and the cell's
# options.


def split(z, parts):
    """The numbers of each row in so many parts: one per gate."""
    return np.split(z, parts, axis=-1)


def elman(net, p, x, state, mask):
    """h' = f(x·W_xh + (mask*h)·W_hh + b_h)"""
    (h,) = state
    return (net.f(x @ p["W_xh"] + (mask * h) @ p["W_hh"] + p["b_h"]),)


def normal(z):
    """Layer normalisation; no abs: derivatives by complex step go through it."""
    z = z - z.mean(axis=-1, keepdims=True)
    return z / np.sqrt((z * z).mean(axis=-1, keepdims=True) + 1e-5)


def lstm(net, p, x, state, mask):
    """c' = f*c + i*g, h' = o*tanh(c'), with the options of `rc.CELLS["lstm"]`"""
    (h, c, *gates), variant = state, net.option("variant")
    original, norm = variant == "1997", net.option("layer_norm")
    from_x, from_h = x @ p["W_xh"], (mask * h) @ p["W_hh"]
    if norm:
        from_x, from_h = p["gain_x"] * normal(from_x), p["gain_h"] * normal(from_h)
    i, *f, g, o = split(from_x + from_h + p["b_h"], 3 if original else 4)
    for gate, name in zip(gates, ("W_gi", "W_gf", "W_go"), strict=False):
        to_i, to_f, to_o = split(gate @ p[name], 3)
        i, f[0], o = i + to_i, f[0] + to_f, o + to_o
    i = 1 if variant == "NIG" else sigmoid(i + p["w_ci"] * c if "w_ci" in p else i)
    f = 1 if original or variant == "NFG" else sigmoid(f[0] + p["w_cf"] * c if "w_cf" in p else f[0])
    g = 4 * sigmoid(g) - 2 if original else g if variant == "NIAF" else np.tanh(g)
    c = (1 - i if variant == "CIFG" else f) * c + i * g
    o = 1 if variant == "NOG" else sigmoid(o + p["w_co"] * c if "w_co" in p else o)
    squashed = p["gain_c"] * normal(c) + p["shift_c"] if norm else c
    if variant != "NOAF":
        squashed = 2 * sigmoid(squashed) - 1 if original else np.tanh(squashed)
    h = o * squashed
    return h @ p["W_hr"] if "W_hr" in p else h, c, *((i, f, o) if gates else ())


def gru(net, p, x, state, mask):
    """h' = (1-z)*n + z*h, n = tanh(x·W_n + b_n + r*((mask*h)·U_n + b_hn)), or with r before the product"""
    (h,) = state
    r, z, n = split(x @ p["W_xh"] + p["b_h"], 3)
    U_r, U_z, U_n = split(p["W_hh"], 3)
    h_in = mask * h
    r, z = sigmoid(r + h_in @ U_r), sigmoid(z + h_in @ U_z)
    before = net.option("reset") == "before"
    n = np.tanh(n + ((r * h_in) @ U_n if before else r * (h_in @ U_n + p["b_hn"])))
    return ((1 - z) * n + z * h,)


def mut(net, p, x, state, mask):
    """MUT1, MUT2 and MUT3; x itself, where W_xh has a gate less than the cell, needs as many numbers as h."""
    (h,), H, kind = state, net.hidden_size, net.cell
    h_in, U = mask * h, split(p["W_hh"], p["W_hh"].shape[1] // H)
    by_x = split(x @ p["W_xh"], p["W_xh"].shape[1] // H)
    if len(by_x) == 2:
        by_x.insert(2 if kind == "mut1" else 0, x)
    b = split(p["b_h"], len(p["b_h"]) // H)
    r, z, n = (a + b[i] if i < len(b) else a for i, a in enumerate(by_x))
    r = sigmoid(r + h_in @ U[0])
    z = sigmoid(z if kind == "mut1" else z + (h_in if kind == "mut2" else np.tanh(h_in)) @ U[1])
    n = np.tanh((np.tanh(n) + p["b_hn"] if kind == "mut1" else n) + (r * h_in) @ U[-1])
    return (n * z + h * (1 - z),)


def mgu(net, p, x, state, mask):
    """h' = f*n + (1-f)*h with n = tanh(x·W_n + b_n + (f*(mask*h))·U_n): one gate forgets and resets"""
    (h,) = state
    f, n = split(x @ p["W_xh"] + p["b_h"], 2)
    U_f, U_n = split(p["W_hh"], 2)
    f = sigmoid(f + (mask * h) @ U_f)
    return (f * np.tanh(n + (f * mask * h) @ U_n) + (1 - f) * h,)


def leaky(net, p, x, state, mask):
    """h' = (1-α)h + α·f(x·W_xh + b_h + (mask*h)·W_hh)"""
    (h,), leak = state, net.option("leak") or 0.5
    return ((1 - leak) * h + leak * net.f(x @ p["W_xh"] + p["b_h"] + (mask * h) @ p["W_hh"]),)


def ctrnn(net, p, x, state, mask):
    """y' by Euler's or Runge and Kutta's method from τ dy/dt = -y + (mask*f(y))·W_hh + x·W_xh + b_h, h' = f(y')"""
    h, y = state
    dt = np.real(x[:, -1:]) if net.option("irregular") else net.option("time_step", 1.0)
    n, share, taught = net.option("substeps", 1), net.option("teacher"), net.option("taught")
    rate, total = dt / n * np.exp(-p["rho"]), x @ p["W_xh"] + p["b_h"]

    def slope(y):
        seen = net.f(y)
        if share is not None:  # h is what was given instead, or f(y)
            mixed = seen + share * (h - seen)
            seen = np.concatenate([mixed[:, :taught], seen[:, taught:]], axis=1) if taught else mixed
        return (mask * seen) @ p["W_hh"] + total - y

    for _ in range(n):
        k = slope(y)
        if net.option("solver") == "rk4":
            second = slope(y + rate / 2 * k)
            third = slope(y + rate / 2 * second)
            k = (k + 2 * second + 2 * third + slope(y + rate * third)) / 6
        y = y + rate * k
    return net.f(y), y


def indrnn(net, p, x, state, mask):
    """h' = f(x·W_xh + b_h + u*mask*h), with u as if what is beyond ±bound were at it"""
    (h,), u, bound = state, p["u"], net.option("bound")
    if bound is not None:
        u = np.where(abs(np.real(u)) > bound, bound * np.sign(np.real(u)), u)
    return (net.f(x @ p["W_xh"] + p["b_h"] + u * mask * h),)


def second_order(net, p, x, state, mask):
    """h_i = f(Σ_jk W_jki·(mask*h)_j·x_k + b_i), perhaps with a 1 beside h and x; the first units are not fed back"""
    h, accept = mask * state[0], net.option("accept_units", 0)
    h, x, rows = h[:, accept:], np.asarray(x), [p["W_xh"]]
    if net.option("augmented"):
        h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        rows.append(p["b_h"][None])
    W = np.concatenate(rows).reshape(x.shape[1], h.shape[1], net.hidden_size)
    a = np.einsum("nj,nk,kji->ni", h, x, W)
    return (net.f(a if net.option("augmented") else a + p["b_h"]),)


def jordan(net, p, x, state, mask):
    """s' = μ*s + y, h' = f(x·W_xh + (mask*s')·W_yh + b_h), y' = g(h'·W_hy + b_y), and perhaps h·W_hh inside f"""
    y, s, *h = state
    s = net.option("decay", 0.0) * s + y
    if not net.option("through_outputs", True):
        s = np.real(s)
    a = x @ p["W_xh"] + (mask * s) @ p["W_yh"] + p["b_h"]
    new = net.f(a + h[0] @ p["W_hh"] if h else a)
    y = ACTIVATIONS[net.option("output_activation", "identity")](new @ p["W_hy"] + p["b_y"])
    return y, s, *([new] if h else [])


Shapes = dict[str, tuple[int, ...]]


def gated(count: int) -> Callable[[Stack, int], Shapes]:
    """The parameters of a cell that has so many gates, and nothing else."""

    def shapes(net: Stack, inputs: int) -> Shapes:
        GH = count * net.hidden_size
        return {"W_xh": (inputs, GH), "W_hh": (net.width, GH), "b_h": (GH,)}

    return shapes


def lstm_shapes(net: Stack, inputs: int) -> Shapes:
    H, variant = net.hidden_size, net.option("variant")
    shapes = gated(3 if variant == "1997" else 4)(net, inputs)
    if net.option("proj_size"):
        shapes["W_hr"] = (H, net.width)
    if variant == "FGR":
        shapes |= dict.fromkeys(["W_gi", "W_gf", "W_go"], (H, 3 * H))
    if net.option("peepholes"):
        shapes |= dict.fromkeys(["w_ci", "w_co"] if variant == "1997" else ["w_ci", "w_cf", "w_co"], (H,))
    if net.option("layer_norm"):
        shapes |= {"gain_x": (4 * H,), "gain_h": (4 * H,), "gain_c": (H,), "shift_c": (H,)}
    return shapes


def lstm_widths(net: Stack) -> tuple[int, ...]:
    H = net.hidden_size
    return (net.option("proj_size") or H, H, *((H, H, H) if net.option("variant") == "FGR" else ()))


def gru_shapes(net: Stack, inputs: int) -> Shapes:
    own = {} if net.option("reset") == "before" else {"b_hn": (net.hidden_size,)}
    return gated(3)(net, inputs) | own


def mut_shapes(net: Stack, inputs: int) -> Shapes:
    """Where x has H numbers, MUT1 and MUT2 use it as it is: W_xh has one gate less (and MUT1's b_h with it)."""
    H, direct = net.hidden_size, inputs == net.hidden_size and net.cell != "mut3"
    shapes = {"W_xh": (inputs, (3 - direct) * H), "W_hh": (H, (2 if net.cell == "mut1" else 3) * H)}
    if net.cell == "mut1":
        return shapes | {"b_h": ((3 - direct) * H,), "b_hn": (H,)}
    return shapes | {"b_h": (3 * H,)}


def ctrnn_shapes(net: Stack, inputs: int) -> Shapes:
    return gated(1)(net, inputs) | {"rho": (net.hidden_size,)}


def indrnn_shapes(net: Stack, inputs: int) -> Shapes:
    H = net.hidden_size
    return {"W_xh": (inputs, H), "u": (H,), "b_h": (H,)}


def second_order_shapes(net: Stack, inputs: int) -> Shapes:
    augmented = bool(net.option("augmented"))
    GH = (net.hidden_size - net.option("accept_units", 0) + augmented) * net.hidden_size
    return {"W_xh": (inputs, GH), "b_h": (GH if augmented else net.hidden_size,)}


def jordan_shapes(net: Stack, inputs: int) -> Shapes:
    H, K = net.hidden_size, net.width
    hidden = {"W_hh": (H, H)} if net.option("hidden_feedback") else {}
    return {"W_xh": (inputs, H), **hidden, "W_yh": (K, H), "b_h": (H,), "W_hy": (H, K), "b_y": (K,)}


def jordan_widths(net: Stack) -> tuple[int, ...]:
    K = net.option("outputs", net.hidden_size)
    return (K, K, net.hidden_size) if net.option("hidden_feedback") else (K, K)


def alike(count: int) -> Callable[[Stack], tuple[int, ...]]:
    """So many states, all of H numbers."""
    return lambda net: (net.hidden_size,) * count


@dataclass(frozen=True)
class Cell:
    step: Callable
    shapes: Callable[[Stack, int], Shapes]
    state_widths: Callable[[Stack], tuple[int, ...]]  # the output's first
    dropped: int = 0  # the state that recurrent dropout is for
    calm: float = 1.0  # what random weights are scaled by: large products of pairs make chaos of rounding


CELLS = {
    "elman": Cell(elman, gated(1), alike(1)),
    "lstm": Cell(lstm, lstm_shapes, lstm_widths),
    "gru": Cell(gru, gru_shapes, alike(1)),
    "mut1": Cell(mut, mut_shapes, alike(1)),
    "mut2": Cell(mut, mut_shapes, alike(1)),
    "mut3": Cell(mut, mut_shapes, alike(1)),
    "mgu": Cell(mgu, gated(2), alike(1)),
    "indrnn": Cell(indrnn, indrnn_shapes, alike(1)),
    "leaky": Cell(leaky, gated(1), alike(1)),
    "ctrnn": Cell(ctrnn, ctrnn_shapes, alike(2)),
    "second_order": Cell(second_order, second_order_shapes, alike(1), calm=0.25),
    "jordan": Cell(jordan, jordan_shapes, jordan_widths, dropped=1),
}

#: every cell, and every option that changes its equations: what the tests go through
FAMILY: dict[str, tuple[str, dict]] = {
    "elman": ("elman", {}),
    "lstm": ("lstm", {}),
    "lstm with peepholes": ("lstm", {"peepholes": True}),
    "lstm with projection": ("lstm", {"proj_size": 4}),
    "lstm FGR with peepholes": ("lstm", {"variant": "FGR", "peepholes": True}),
    "lstm with layer norm": ("lstm", {"layer_norm": True}),
    "lstm with all": ("lstm", {"layer_norm": True, "proj_size": 4, "peepholes": True}),
    "lstm 1997": ("lstm", {"variant": "1997"}),
    "gru": ("gru", {}),
    "gru, reset before": ("gru", {"reset": "before"}),
    "mut1": ("mut1", {}),
    "mut2": ("mut2", {}),
    "mut3": ("mut3", {}),
    "mgu": ("mgu", {}),
    "indrnn": ("indrnn", {}),
    "indrnn with a bound": ("indrnn", {"bound": 0.6}),
    "leaky": ("leaky", {}),
    "leaky, slow": ("leaky", {"leak": 0.1}),
    "ctrnn": ("ctrnn", {"time_step": 0.5}),
    "ctrnn in sub-steps": ("ctrnn", {"substeps": 3}),
    "ctrnn, rk4": ("ctrnn", {"solver": "rk4"}),
    "ctrnn, rk4 in sub-steps": ("ctrnn", {"solver": "rk4", "substeps": 2, "time_step": 0.7}),
    "second_order": ("second_order", {}),
    "second_order, cascaded": ("second_order", {"augmented": True, "accept_units": 1}),
    "jordan": ("jordan", {"outputs": 4}),
    "jordan, decaying": ("jordan", {"outputs": 2, "decay": 0.7, "output_activation": "sigmoid"}),
    "jordan, s as given": ("jordan", {"decay": 0.5, "output_activation": "tanh", "through_outputs": False}),
    "jordan and elman": ("jordan", {"outputs": 5, "decay": 0.3, "hidden_feedback": True}),
}


def member(name: str, *sizes, **options) -> Stack:
    """A stack of one of the family."""
    cell, own = FAMILY[name]
    return Stack(*sizes, cell=cell, cell_options=tuple(own.items()), **options)


# ------------------------------------------------------------------------------------------- depth, directions and time


@dataclass(frozen=True)
class Stack:
    """One `rc.Recurrent`: sizes and combinators, no numbers."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    direction: str = "fwd"  # "fwd", "reverse", or both: "concat", "sum"
    activation: str = "tanh"
    cell: str = "elman"
    truncate: int | None = None
    cell_options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        own = [str(value) for name, value in self.cell_options]
        names = [self.cell, self.activation] if self.cell == "elman" else [self.cell]
        sizes = f"{self.input_size}-{self.hidden_size}x{self.num_layers}"
        return " ".join([*names, *own, sizes, self.direction, *([f"h={self.truncate}"] if self.truncate else [])])

    def option(self, name: str, default=None):
        return dict(self.cell_options).get(name, default)

    def f(self, z):
        """The activation; an option of its own is its second argument."""
        own = [value for name, value in self.cell_options if name in ("leaky_slope", "clip_at")]
        return ACTIVATIONS[self.activation](z, *own)

    @property
    def exact(self) -> bool:
        """Whether the gradient is that of the outputs: nothing that depends on parameters counts as given."""
        return self.truncate is None and self.option("through_outputs", True)

    @property
    def directions(self) -> tuple[str, ...]:
        return {"fwd": ("fwd",), "reverse": ("bwd",)}.get(self.direction, ("fwd", "bwd"))

    @property
    def state_widths(self) -> tuple[int, ...]:
        return CELLS[self.cell].state_widths(self)

    @property
    def width(self) -> int:
        """Of one direction's output."""
        return self.state_widths[0]

    @property
    def mask_width(self) -> int:
        """Of recurrent dropout's masks."""
        return self.state_widths[CELLS[self.cell].dropped]

    @property
    def output_size(self) -> int:
        return self.width * (2 if self.direction == "concat" else 1)

    @property
    def units(self) -> int:
        return self.num_layers * len(self.directions)

    def state_shapes(self, B: int) -> list[tuple[int, int, int]]:
        return [(self.units, B, width) for width in self.state_widths]

    def options(self) -> dict:
        """The same network in the words of `rc.Recurrent`."""
        words: dict = {"cell": self.cell, "input_size": self.input_size, "hidden_size": self.hidden_size}
        words |= {"num_layers": self.num_layers, "activation": self.activation, "truncate": self.truncate}
        if self.direction == "reverse":
            words["reverse"] = True
        elif self.direction != "fwd":
            words |= {"bidirectional": True, "merge": self.direction}
        return words | dict(self.cell_options)

    def random_params(self, rng: np.random.Generator, scale: float = 0.5) -> Arrays:
        params, inputs = {}, self.input_size
        scale *= CELLS[self.cell].calm
        for layer in range(self.num_layers):
            shapes = CELLS[self.cell].shapes(self, inputs)
            for way in self.directions:
                for name, shape in shapes.items():
                    params[f"layers.{layer}.{way}.{name}"] = scale * rng.standard_normal(shape)
            inputs = self.output_size
        return params


def as_dense(x: np.ndarray, size: int) -> np.ndarray:
    """Ids (T, B) become one-hot rows, bags of ids (T, B, F) sums of one-hot rows (-1: none); dense x stays."""
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.integer):
        return x
    rows = np.vstack([np.eye(size), np.zeros(size)])  # the last row is what -1 finds
    return rows[x] if x.ndim == 2 else rows[x].sum(axis=2)


def walk(net, p, xs, start, masks, earlier=None, zones=(), feedback=None):
    """The states of sequences of one length, the initial one first: a list of tuples of (N, width); xs (T, N, D).

    `zones`: for each of the first states, the share of the new one at each step; zoneout keeps the rest of the old one.
    `earlier`: states whose derivatives stand for those of the states handed from step to step (see `forward`).
    `feedback`: what the next step sees instead of each output.
    """
    states = [start]
    for t, (x, mask) in enumerate(zip(xs, masks, strict=True)):
        before = states[-1]
        if earlier is not None:
            before = tuple(np.real(s) + 1j * np.imag(e) for s, e in zip(before, earlier[t], strict=True))
        if feedback is not None and t > 0:
            before = (feedback[t - 1], *before[1:])
        after = list(CELLS[net.cell].step(net, p, x, before, mask))
        for s, share in enumerate(zones):
            after[s] = before[s] + share[t] * (after[s] - before[s])
        states.append(tuple(after))
    return states


def forward(net: Stack, params: Mapping, x, state=None, lengths=None, masks: Mapping | None = None, feedback=None):
    """Outputs (T, B, F), zero after a sequence's end, and final states, each (layers·directions, B, width).

    `masks`: what dropout multiplies with, any of "input" (T, B, D), "output" (T, B, F), ("between", layer) (T, B, F)
    and ("recurrent", layer·directions + direction) (T, B, width of the state), and the shares of new states that
    zoneout leaves, ("zone", layer·directions + direction): one (T, B, width) for each state it acts on. `feedback`
    (T, B, F): what the last layer sees of the step before in place of its own outputs.

    With `truncate=h` the numbers are the same ones, but a derivative passes from one step to the next at most h - 1
    times on its way to an output. That takes h runs: in the first one the states handed on are constants, in each later
    one they have the derivatives of the run before.
    """
    dtype = np.result_type(np.asarray(x), *params.values(), *(state or ()), float)
    if net.truncate is None:
        return one_run(net, params, x, state, lengths, masks, dtype, None, feedback)[:2]
    earlier = None
    for _ in range(net.truncate):
        y, final, earlier = one_run(net, params, x, state, lengths, masks, complex, earlier or {}, feedback)
    if dtype.kind != "c":
        y, final = np.real(y), tuple(np.real(s) for s in final)
    return y, final


def one_run(net: Stack, params: Mapping, x, state, lengths, masks, dtype, earlier, feedback=None):
    masks = masks or {}
    x = as_dense(x, net.input_size) * masks.get("input", 1.0)
    T, B = x.shape[:2]
    lengths = [T] * B if lengths is None else lengths
    start = [np.zeros(shape) for shape in net.state_shapes(B)] if state is None else state
    final = tuple(np.zeros(shape, dtype) for shape in net.state_shapes(B))
    history = {}
    for layer in range(net.num_layers):
        outputs = []
        for way in net.directions:
            k = layer * len(net.directions) + net.directions.index(way)
            p = {name: params[f"layers.{layer}.{way}.{name}"] for name in own_names(params, layer, way)}
            mask = masks.get(("recurrent", k), np.ones((T, B, net.mask_width)))
            y = np.zeros((T, B, net.width), dtype)
            for length in sorted(set(lengths)):
                those = np.flatnonzero(np.asarray(lengths) == length)
                at = np.ix_(np.arange(length)[:: -1 if way == "bwd" else 1], those)
                begin = tuple(s[k, those] for s in start)
                constant = [tuple(np.zeros(part.shape) for part in begin)] * length
                ghosts = None if earlier is None else earlier.get((k, length), constant)
                zones = [share[at] for share in masks.get(("zone", k), ())]
                given = None
                if feedback is not None and layer == net.num_layers - 1:
                    first = net.directions.index(way) * net.width if net.direction == "concat" else 0
                    given = feedback[at][..., first : first + net.width]
                states = walk(net, p, x[at], begin, mask[at], ghosts, zones, given)
                history[k, length] = states
                y[at] = [s[0] for s in states[1:]]
                for whole, mine in zip(final, states[-1], strict=True):
                    whole[k, those] = mine
            outputs.append(y)
        x = sum(outputs) if net.direction == "sum" else np.concatenate(outputs, axis=2)
        if layer < net.num_layers - 1:
            x = x * masks.get(("between", layer), 1.0)
    return x * masks.get("output", 1.0), final, history


def own_names(params: Mapping, layer: int, way: str) -> list[str]:
    at = f"layers.{layer}.{way}."
    return [name.removeprefix(at) for name in params if name.startswith(at)]


# ------------------------------------------------------------------------------------------------ readouts and heads


def read_out(net: Stack, readout: str, y, final, lengths, output_mask=None) -> np.ndarray:
    """What the head sees: (T, B, F) for "every", else (B, F).

    "last" is each direction's own final state: a forward layer's at the sequence's end, a reverse one's at its first
    step; dropout of outputs falls on it as on the output of that step.
    """
    if readout == "every":
        return y
    if readout == "last":
        H, parts = net.width, []
        for d, way in enumerate(net.directions):
            part = final[0][d - len(net.directions)]
            if output_mask is not None:
                steps = [0] * len(lengths) if way == "bwd" else [n - 1 for n in lengths]
                units = slice(d * H, d * H + H) if net.direction == "concat" else slice(None)
                part = part * output_mask[steps, range(len(lengths)), units]
            parts.append(part)
        return sum(parts) if net.direction == "sum" else np.concatenate(parts, axis=1)
    valid = [y[:n, b] for b, n in enumerate(lengths)]
    if readout == "mean":
        return np.array([rows.mean(axis=0) for rows in valid])
    winners = [np.real(rows).argmax(axis=0) for rows in valid]
    return np.array([rows[w, np.arange(len(w))] for rows, w in zip(valid, winners, strict=True)])


@dataclass(frozen=True)
class Head:
    """A projection to K numbers (or the first K outputs) and a loss, with the options that the head has."""

    kind: str  # "softmax", "squared", "sigmoid", "crf"
    K: int
    options: dict = field(default_factory=dict)  # class_weight, label_smoothing, constraints
    project: bool = True

    def make(self, rc):
        name = {"softmax": "Softmax", "squared": "SquaredError", "sigmoid": "SigmoidCrossEntropy", "crf": "CRF"}[
            self.kind
        ]
        return getattr(rc, name)(self.K, **self.options, project=self.project)

    def random_params(self, rng: np.random.Generator, inputs: int, scale: float = 0.5) -> Arrays:
        params = {}
        if self.project:
            params["head.W_hy"] = scale * rng.standard_normal((inputs, self.K))
            params["head.b_y"] = scale * rng.standard_normal(self.K)
        if self.kind == "crf":
            shapes = {"transitions": (self.K, self.K), "start": self.K, "end": self.K}
            params |= {f"head.{name}": scale * rng.standard_normal(shape) for name, shape in shapes.items()}
        return params

    def random_targets(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if self.kind in ("softmax", "crf"):
            return rng.integers(0, self.K, shape)
        return rng.random((*shape, self.K)) if self.kind == "sigmoid" else rng.standard_normal((*shape, self.K))


def log_softmax(z):
    z = z - np.real(z).max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def softmax_loss(z, targets, class_weight=None, label_smoothing=0.0):
    """Mean over the targets that are not -1, each one counted with its class's weight; z (N, K), targets (N,)."""
    K = z.shape[1]
    weight = np.ones(K) if class_weight is None else np.asarray(class_weight)
    loss, total = 0.0, 0.0
    for row, target in zip(log_softmax(z), targets, strict=True):
        if target == -1:
            continue
        wanted = (1 - label_smoothing) * np.eye(K)[target] + label_smoothing / K
        loss = loss - (wanted * weight * row).sum()
        total += weight[target]
    return loss / total


def squared_loss(z, targets):
    return ((z - targets) ** 2).sum() / len(z)


def sigmoid_loss(z, targets):
    """-t·log(σ(z)) - (1-t)·log(1-σ(z)), summed over K, mean over tokens."""
    big = np.where(np.real(z) > 0, z, 0)
    return (big - z * targets + np.log(np.exp(-big) + np.exp(z - big))).sum() / len(z)


@dataclass(frozen=True)
class Chain:
    """A linear-chain CRF's scores between labels, -inf where `constraints` forbid; complex where an input is."""

    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, params: Mapping, constraints=None) -> Chain:
        parts = [params[f"head.{name}"] for name in ("transitions", "start", "end")]
        if constraints is not None:
            flags = constraints.transitions, constraints.start, constraints.end
            parts = [np.where(allowed, part, -np.inf) for allowed, part in zip(flags, parts, strict=True)]
        return cls(*parts)

    def log_total(self, s: np.ndarray, known=None):
        """log Σ e^score over the label sequences that agree with `known` (-1: any), one step at a time; s (T, K)."""
        if known is not None:
            any_of = (np.asarray(known)[:, None] == -1) | (np.asarray(known)[:, None] == np.arange(s.shape[1]))
            s = np.where(any_of, s, -np.inf)
        alpha = self.start + s[0]
        for row in s[1:]:
            alpha = log_sum(alpha[:, None] + self.transitions) + row
        return log_sum(alpha + self.end)

    def score(self, s: np.ndarray, labels) -> float:
        steps = sum(self.transitions[i, j] for i, j in pairwise(labels))
        return self.start[labels[0]] + s[range(len(labels)), labels].sum() + steps + self.end[labels[-1]]


def log_sum(z):
    """log Σ e^z over the first axis."""
    top = np.real(z).max(axis=0)
    top = np.where(top > -np.inf, top, 0)
    with np.errstate(divide="ignore"):
        return top + np.log(np.exp(z - top).sum(axis=0))


def crf_loss(s, targets, lengths, params, constraints=None, class_weight=None, sample_weight=None):
    """-log P(known targets) per known target; s (T, B, K), targets (T, B) with -1 for unknown ones.

    Each sequence counts by the mean weight of its known targets, and by its own.
    """
    chain, total, count = Chain.of(params, constraints), 0.0, 0.0
    of_class = np.ones(s.shape[2]) if class_weight is None else np.asarray(class_weight)
    for b, n in enumerate(lengths):
        known = targets[:n, b]
        weights = of_class[known[known != -1]]
        share = (weights.mean() if len(weights) else 1) * (1 if sample_weight is None else sample_weight[b])
        total = total + share * (chain.log_total(s[:n, b]) - chain.log_total(s[:n, b], known))
        count += weights.sum()
    return total / count


LOSSES: dict[str, Callable] = {"softmax": softmax_loss, "squared": squared_loss, "sigmoid": sigmoid_loss}


def embed(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Rows of the table for ids (T, B), sums of rows for bags (T, B, F)."""
    return as_dense(x, len(table)) @ table


def scores(net: Stack, readout: str, params: Mapping, x, lengths=None, state=None, masks=None, feedback=None):
    """The head's projection before its link function, and the final states.

    x is (x, ids) or (x, ids, values) where sparse features go straight to the scores.
    """
    x, *sparse = x if isinstance(x, tuple) else (x,)
    T, B = np.shape(x)[:2]
    lengths = [T] * B if lengths is None else lengths
    if "embedding.E" in params:
        x = embed(x, params["embedding.E"])
    y, final = forward(net, params, x, state, lengths, masks, feedback)
    seen = read_out(net, readout, y, final, lengths, (masks or {}).get("output"))
    z = seen @ params["head.W_hy"] + params["head.b_y"] if "head.W_hy" in params else seen
    if sparse:
        table = params["head.W_skip"]
        rows = np.concatenate([table, np.zeros((1, table.shape[1]))])[sparse[0]]  # -1: the last row
        z = z[..., : table.shape[1]] + (rows if len(sparse) == 1 else rows * np.asarray(sparse[1])[..., None]).sum(
            axis=2
        )
    return z, final


def loss(
    net: Stack,
    head: Head,
    readout: str,
    params: Mapping,
    x,
    targets,
    lengths=None,
    state=None,
    masks=None,
    feedback=None,
):
    """The network's loss, a number (complex where an input is)."""
    z, _ = scores(net, readout, params, x, lengths, state, masks, feedback)
    z = z[..., : head.K]
    if readout == "every":  # only what lies within a sequence counts
        T, B = z.shape[:2]
        lengths = [T] * B if lengths is None else lengths
        if head.kind == "crf":
            return crf_loss(z, np.asarray(targets), lengths, params, **head.options)
        valid = np.arange(T)[:, None] < np.asarray(lengths)
        z, targets = z[valid], np.asarray(targets)[valid]
    return LOSSES[head.kind](z, targets, **head.options)


def link(kind: str, z):
    """From scores to what `predict` returns."""
    return {"softmax": lambda: np.exp(log_softmax(z)), "sigmoid": lambda: sigmoid(z), "squared": lambda: z}[kind]()


# ------------------------------------------------------------------------------------------------------ derivatives


def derivative(f: Callable[[Arrays], complex], arrays: Mapping[str, np.ndarray]) -> Arrays:
    """df/da for every number of every array, by complex step: good to the last digits, no step size to choose."""
    tiny = 1e-30
    result = {}
    for name, array in arrays.items():
        result[name] = np.zeros(array.shape)
        for i in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[i] += 1j * tiny
            result[name][i] = np.imag(f({**arrays, name: moved})) / tiny
    return result


def gradient_error(f: Callable[[Arrays], complex], arrays: Mapping[str, np.ndarray], found: Arrays) -> dict[str, float]:
    """How far each array of `found` is from f's gradient, relative to its size: along random ways, by complex step.

    Every number counts in every direction, so a wrong one is seen as surely as by `derivative`, with fewer calls.
    """
    rng, tiny, errors = np.random.default_rng(0), 1e-30, {}
    for name, array in arrays.items():
        errors[name] = 0.0
        for way in rng.choice([-1.0, 1.0], (2, *array.shape)) * rng.uniform(1, 2, (2, *array.shape)):
            wanted = np.imag(f({**arrays, name: array + 1j * tiny * way})) / tiny
            parts = found[name] * way
            size = np.abs(parts).max(initial=0.0)
            errors[name] = max(errors[name], abs(parts.sum() - wanted) / (size if size > 1e-12 else 1.0))
    return errors


def central_differences(f: Callable[[], float], array: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """df/da for every number of an array that f reads, by moving it in place; for functions that know only reals."""
    result = np.zeros(array.shape)
    for i in np.ndindex(array.shape):
        before = array[i]
        array[i] = before + step
        above = f()
        array[i] = before - step
        below = f()
        array[i] = before
        result[i] = (above - below) / (2 * step)
    return result


def relative_error(got: np.ndarray, wanted: np.ndarray, floor: float = 0.0) -> float:
    """Largest difference, in units of the largest wanted number, or of `floor` where that is larger."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"shape {got.shape}, wanted {wanted.shape}"
    scale = np.abs(wanted).max(initial=0.0)
    return float(np.abs(got - wanted).max(initial=0.0) / (max(scale, floor) if scale > 1e-12 else 1.0))
