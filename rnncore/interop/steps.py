"""One step of each cell in ONNX's operators: for those that ONNX has no operator of its own for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnncore.interop.graph import Graph, Value
from rnncore.nn.recurrent import Recurrent

__all__ = ["STEPS"]

Unit = Mapping[str, np.ndarray]
Step = Callable[[Graph, Recurrent, Unit, Mapping[str, Any], list[Value], Any], list[Value]]


def _sigmoid(g: Graph, value: Value) -> Value:
    return g.op("Sigmoid", value)


def _tanh(g: Graph, value: Value) -> Value:
    return g.op("Tanh", value)


def _activation(g: Graph, name: str, parameter: float, a: Value) -> Value:
    if name == "identity":
        return a
    if name == "leaky_relu":
        return g.op("LeakyRelu", a, alpha=float(parameter))
    if name == "clipped_relu":
        return g.op("Clip", a, np.float32(0), np.float32(parameter))
    if name == "binary":  # without chance: the more probable of both
        return g.cast(g.op("Greater", a, np.float32(0)), "FLOAT")
    return g.op({"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu"}[name], a)


def _columns(matrix: np.ndarray, hidden: int) -> Sequence[np.ndarray]:
    return np.split(matrix, matrix.shape[1] // hidden, axis=1)


def _normal(g: Graph, value: Value) -> Value:
    """Layer normalisation without gain and shift."""
    centred = value - g.op("ReduceMean", value, axes=[-1])
    variance = g.op("ReduceMean", centred * centred, axes=[-1])
    return g.op("Div", centred, g.op("Sqrt", variance + np.float32(1e-5)))


def elman(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """H' = f(x·W_xh + h·W_hh + b_h)."""
    (h,) = states
    return [_activation(g, layer.activation, layer.plan.parameter, x.by(g, "W_xh") + p["b_h"] + h @ p["W_hh"])]


def lstm(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """C' = f⊙c + i⊙g, h' = o⊙tanh(c'), with all its options."""
    h, c, *gates = states
    H, variant, norm = layer.hidden_size, options["variant"], options["layer_norm"]
    original = variant == "1997"
    from_x, from_h = x.by(g, "W_xh"), h @ p["W_hh"]
    if norm:
        from_x, from_h = _normal(g, from_x) * p["gain_x"], _normal(g, from_h) * p["gain_h"]
    i, *f, n, o = g.split(from_x + from_h + p["b_h"], 3 if original else 4, H)
    for gate, name in zip(gates, ("W_gi", "W_gf", "W_go"), strict=False):
        to_i, to_f, to_o = g.split(gate @ p[name], 3, H)
        i, f[0], o = i + to_i, f[0] + to_f, o + to_o

    def looking(gate: Value, name: str, at: Value) -> Value:
        return _sigmoid(g, gate + at * p[name] if name in p else gate)

    one = np.float32(1)
    i = g.value(one) if variant == "NIG" else looking(i, "w_ci", c)
    forget = g.value(one) if original or variant == "NFG" else looking(f[0], "w_cf", c)
    new = _sigmoid(g, n) * np.float32(4) - np.float32(2) if original else n if variant == "NIAF" else _tanh(g, n)
    c = (one - i if variant == "CIFG" else forget) * c + i * new
    o = g.value(one) if variant == "NOG" else looking(o, "w_co", c)
    squashed = _normal(g, c) * p["gain_c"] + p["shift_c"] if norm else c
    if variant != "NOAF":
        squashed = _sigmoid(g, squashed) * np.float32(2) - one if original else _tanh(g, squashed)
    h = o * squashed
    return [h @ p["W_hr"] if "W_hr" in p else h, c, *((i, forget, o) if gates else ())]


def gru(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """H' = (1-z)⊙n + z⊙h, the reset gate after the product or before it."""
    (h,) = states
    r, z, n = g.split(x.by(g, "W_xh") + p["b_h"], 3, layer.hidden_size)
    U_r, U_z, U_n = _columns(p["W_hh"], layer.hidden_size)
    r, z = _sigmoid(g, r + h @ U_r), _sigmoid(g, z + h @ U_z)
    n = _tanh(g, n + ((r * h) @ U_n if options["reset"] == "before" else r * (h @ U_n + p["b_hn"])))
    return [(np.float32(1) - z) * n + z * h]


def mgu(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """H' = f⊙n + (1-f)⊙h."""
    (h,) = states
    f, n = g.split(x.by(g, "W_xh") + p["b_h"], 2, layer.hidden_size)
    U_f, U_n = _columns(p["W_hh"], layer.hidden_size)
    f = _sigmoid(g, f + h @ U_f)
    return [f * _tanh(g, n + (f * h) @ U_n) + (np.float32(1) - f) * h]


def leaky(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """H' = (1-α)·h + α·f(x·W_xh + h·W_hh + b_h)."""
    (h,) = states
    leak = options["leak"]
    new = _activation(g, layer.activation, layer.plan.parameter, x.by(g, "W_xh") + p["b_h"] + h @ p["W_hh"])
    return [h * np.float32(1 - leak) + new * np.float32(leak)]


def ctrnn(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """Y' by the solver from τ·dy/dt = -y + f(y)·W_hh + x·W_xh + b_h, h' = f(y')."""
    if layer.plan.timed:
        raise ValueError("irregular steps cannot be written: a model of ONNX takes x as it is multiplied")
    y, total = states[1], x.by(g, "W_xh") + p["b_h"]
    rate = np.asarray(options["time_step"] / options["substeps"] * np.exp(-p["rho"]), dtype=np.float32)

    def f(y: Value) -> Value:
        return _activation(g, layer.activation, layer.plan.parameter, y)

    def slope(y: Value) -> Value:
        return f(y) @ p["W_hh"] + total - y

    for _ in range(options["substeps"]):
        k = slope(y)
        if options["solver"] == "euler":
            y = y + k * rate
            continue
        weighted = k
        for node, weight in ((rate / 2, 2), (rate / 2, 2), (rate, 1)):
            k = slope(y + k * node)
            weighted = weighted + k * np.float32(weight)
        y = y + weighted * (rate / 6)
    return [f(y), y]


def indrnn(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """H' = f(x·W_xh + u⊙h + b_h), u within its bound."""
    (h,) = states
    bound = options["bound"]
    u = p["u"] if bound is None else np.clip(p["u"], -bound, bound).astype(np.float32)
    return [_activation(g, layer.activation, layer.plan.parameter, x.by(g, "W_xh") + p["b_h"] + h * u)]


def second_order(
    g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any
) -> list[Value]:
    """H' = f(h·M + c), where [M; c] = x·W_xh + b_h, or M = x·W_xh and c = b_h."""
    (h,), H, accept = states, layer.hidden_size, options["accept_units"]
    fed, M = H - accept, x.by(g, "W_xh")
    c: Any = p["b_h"]
    if accept:
        h = g.ops("Split", [h, [accept, fed]], 2, axis=-1)[1]
    if options["augmented"]:
        M, c = g.ops("Split", [M + c, [fed * H, H]], 2, axis=-1)
    product = g.op("Unsqueeze", h, [1]) @ g.op("Reshape", M, [-1, fed, H])
    return [_activation(g, layer.activation, layer.plan.parameter, g.op("Squeeze", product, [1]) + c)]


def mut(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """MUT1, MUT2 and MUT3; where W_xh has a gate less than the cell, x itself stands in for it."""
    (h,) = states
    H, kind, U = layer.hidden_size, layer.cell.name, _columns(p["W_hh"], layer.hidden_size)
    by_x: list[Value] = list(g.split(x.by(g, "W_xh"), p["W_xh"].shape[1] // H, H))
    if len(by_x) == 2:
        by_x.insert(2 if kind == "mut1" else 0, x.itself(g))
    b = np.split(p["b_h"], len(p["b_h"]) // H)
    r, z, n = (a + b[k] if k < len(b) else a for k, a in enumerate(by_x))
    r = _sigmoid(g, r + h @ U[0])
    z = _sigmoid(g, z if kind == "mut1" else z + (h if kind == "mut2" else _tanh(g, h)) @ U[1])
    n = _tanh(g, (_tanh(g, n) + p["b_hn"] if kind == "mut1" else n) + (r * h) @ U[-1])
    return [n * z + h * (np.float32(1) - z)]


def jordan(g: Graph, layer: Recurrent, p: Unit, options: Mapping[str, Any], states: list[Value], x: Any) -> list[Value]:
    """S' = μ·s + y, h' = f(x·W_xh + s'·W_yh + b_h), y' = g(h'·W_hy + b_y), and perhaps h·W_hh inside f."""
    y, s, *h = states
    s = s * np.float32(options["decay"]) + y
    a = x.by(g, "W_xh") + p["b_h"] + s @ p["W_yh"]
    new = _activation(g, layer.activation, layer.plan.parameter, a + h[0] @ p["W_hh"] if h else a)
    return [_activation(g, options["output_activation"], 0.0, new @ p["W_hy"] + p["b_y"]), s, *([new] if h else [])]


STEPS: Mapping[str, Step] = {
    **{"elman": elman, "lstm": lstm, "gru": gru, "mgu": mgu, "jordan": jordan, "indrnn": indrnn, "leaky": leaky},
    "ctrnn": ctrnn,
    "second_order": second_order,
    **dict.fromkeys(("mut1", "mut2", "mut3"), mut),
}
