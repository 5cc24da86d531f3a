"""The reference's networks as the engine's, and what several test files ask of them."""

import numpy as np
import pytest
import reference as ref

import rnncore as rc
from rnncore._config import config

BAG = 8  # the most symbols in a bag


def fill(made, params) -> None:
    """Write the reference's numbers into a layer or network; the names must be the same ones."""
    assert set(made.params) == set(params)
    for name, array in params.items():
        assert made.params[name].shape == array.shape, name
        made.params[name][...] = array


def layer(net: ref.Stack, params=None, dtype="float64", **options):
    made = rc.Recurrent(**net.options(), dtype=dtype, **options)
    if params is not None:
        fill(made, params)
    return made


def network(net: ref.Stack, head: ref.Head, readout="every", params=None, symbols=None, dtype="float64", **options):
    """`symbols`: the number of rows of an embedding table in front of the layer."""
    table = rc.Embedding(symbols, net.input_size) if symbols else None
    inner = layer(net, dtype=dtype, **options)
    made = rc.Network(inner, head=head.make(rc), readout=readout, embedding=table)
    if params is not None:
        fill(made, params)
    return made


def random_params(net: ref.Stack, head: ref.Head, rng, symbols=None) -> ref.Arrays:
    params = net.random_params(rng) | head.random_params(rng, net.output_size)
    if symbols:
        params["embedding.E"] = 0.5 * rng.standard_normal((symbols, net.input_size))
    return params


def random_input(rng, kind: str, T: int, B: int, size: int) -> np.ndarray:
    """`kind`: "dense" (T, B, size), "ids" (T, B) or "bags" (T, B, BAG) of symbols below `size`, some bags empty."""
    if kind == "dense":
        return rng.standard_normal((T, B, size))
    if kind == "ids":
        return rng.integers(0, size, (T, B))
    symbols = rng.integers(0, size, (T, B, BAG))
    return np.where(np.arange(BAG) < rng.integers(0, 4, (T, B, 1)), symbols, -1)


def random_lengths(rng, T: int, B: int) -> np.ndarray:
    """Between 1 and T, one of them T and, where there is a second one, one of them 1."""
    lengths = rng.integers(1, T + 1, B)
    lengths[rng.permutation(B)[:2]] = [T, 1][:B]
    return lengths


def random_state(rng, net: ref.Stack, B: int) -> tuple[np.ndarray, ...]:
    return tuple(0.5 * rng.standard_normal(shape) for shape in net.state_shapes(B))


def named_state(rng, net: ref.Stack, B: int) -> ref.Arrays:
    """The same, with names to stand among parameters."""
    return {f"state {i}": s for i, s in enumerate(random_state(rng, net, B))}


def weighted_sum(net: ref.Stack, x, dy, dfinal, lengths=None, masks=None, feedback=None):
    """What `backward(dy, dfinal)` is the gradient of, as a function of parameters, `named_state` and "x"."""

    def of(arrays):
        state = tuple(array for name, array in arrays.items() if name.startswith("state")) or None
        y, final = ref.forward(net, arrays, arrays.get("x", x), state, lengths, masks, feedback)
        return (y * dy).sum() + sum((s * w).sum() for s, w in zip(final, dfinal, strict=True))

    return of


class DropoutProbe:
    """Reads off the factors the engine's dropout multiplies with, by linear networks of the same sizes and seeds.

    Masks depend on counters and not on numbers, so a network whose outputs show its masks has those of any other one.
    One kind of dropout at a time, dense input, at most two layers.
    """

    def __init__(self, net: ref.Stack, T: int, B: int, lengths=None, *, step: int = 7, **options):
        self.net, self.shape, self.lengths, self.step = net, (T, B), lengths, step
        self.options = options
        linear = ref.Stack(net.input_size, net.width, net.num_layers, net.direction, "identity")
        self.layer = layer(linear, **{name: value for name, value in options.items() if name != "zoneout"})
        self.ways = len(net.directions)
        self.layer.theta[:] = 0

    def masks(self) -> dict:
        """In the words of `ref.forward`."""
        D, F, top = self.net.input_size, self.net.output_size, self.net.num_layers - 1
        if self.options.get("input_dropout"):
            for above in range(1, top + 1):
                self.layer.params[f"layers.{above}.{self.net.directions[0]}.W_xh"][0, 0] = 1
            return {"input": self.inputs_of(0, D, np.ones((*self.shape, D)))}
        if self.options.get("output_dropout"):
            self.emit_ones(top)
            return {"output": self.outputs()}
        if self.options.get("dropout"):
            self.emit_ones(0)
            return {("between", 0): self.inputs_of(1, F)}
        if self.options.get("recurrent_dropout"):
            return {("recurrent", k): self.recurrent(k) for k in range(self.net.units)}
        if self.options.get("zoneout"):
            return {("zone", k): self.zones(k) for k in range(self.net.units)}
        return {}

    def outputs(self, x=None) -> np.ndarray:
        x = np.zeros((*self.shape, self.net.input_size)) if x is None else x
        self.layer.dropout_step = self.step
        return self.layer.forward(x, lengths=self.lengths, training=True)[0]

    def emit_ones(self, at: int) -> None:
        for way in self.net.directions:
            self.layer.params[f"layers.{at}.{way}.b_h"][:] = 0.5 if self.net.direction == "sum" else 1

    def inputs_of(self, at: int, size: int, x=None) -> np.ndarray:
        """What reaches a layer, each input wired in turn to its first unit."""
        seen = np.zeros((*self.shape, size))
        weight = self.layer.params[f"layers.{at}.{self.net.directions[0]}.W_xh"]
        for j in range(size):
            weight[:] = 0
            weight[j, 0] = 1
            seen[:, :, j] = self.outputs(x)[:, :, 0]
        weight[:] = 0
        return seen

    def recurrent(self, k: int) -> np.ndarray:
        """From h' = 1 + mask*h with h = 1 at the start.

        The engine numbers all states of a network one after another, and draws masks by that number: the top layer of
        so deep a stack has the mask of any unit of any cell.
        """
        net, (T, B), H = self.net, self.shape, self.net.mask_width
        way = net.directions[k % self.ways]
        number = k * len(net.state_widths)
        linear = ref.Stack(1, H, number + 1, "reverse" if way == "bwd" else "fwd", "identity")
        probe = layer(linear, **self.options)
        probe.theta[:] = 0
        at = f"layers.{number}.{way}."
        probe.params[at + "b_h"][...] = 1
        probe.params[at + "W_hh"][...] = np.eye(H)
        probe.dropout_step = self.step
        ones = (np.ones((number + 1, B, H)),)
        y, _ = probe.forward(np.zeros((T, B, 1)), state=ones, lengths=self.lengths, training=True)
        mask = np.ones_like(y)
        for b in range(B):
            times = list(range(T if self.lengths is None else self.lengths[b]))
            before = np.ones(H)
            for t in times[::-1] if way == "bwd" else times:
                mask[t, b], before = (y[t, b] - 1) / before, y[t, b]
        return mask

    def zones(self, k: int) -> list[np.ndarray]:
        """From h' = h + 1: a unit that zoneout leaves alone has counted one step more. Masks have a state's number."""
        net, (T, B) = self.net, self.shape
        way = net.directions[k % self.ways]
        shares = []
        for s, rate in enumerate(np.atleast_1d(self.options["zoneout"])):
            number, H = k * len(net.state_widths) + s, net.state_widths[s]
            linear = ref.Stack(1, H, number + 1, "reverse" if way == "bwd" else "fwd", "identity")
            probe = layer(linear, zoneout=float(rate))
            probe.theta[:] = 0
            at = f"layers.{number}.{way}."
            probe.params[at + "b_h"][...] = 1
            probe.params[at + "W_hh"][...] = np.eye(H)
            probe.dropout_step = self.step
            y, _ = probe.forward(np.zeros((T, B, 1)), lengths=self.lengths, training=True)
            share = np.ones_like(y)
            for b in range(B):
                times = list(range(T if self.lengths is None else self.lengths[b]))[:: -1 if way == "bwd" else 1]
                share[times, b] = np.diff(y[times, b], axis=0, prepend=0)
            shares.append(share)
        return shares


def native_products() -> bool:
    """Whether the engine's own kernels multiply: they promise bits, a BLAS promises a tolerance."""
    return config()["products"].startswith("native")


def same_loss(loss: float):
    """What equals the very same loss, or nearly the same where a BLAS multiplies."""
    return loss if native_products() else pytest.approx(loss, rel=1e-5)


def assert_same_bits(one, other) -> None:
    """Equal bits, or nearly equal numbers where a BLAS multiplies."""
    if one is None or native_products():
        np.testing.assert_array_equal(one, other)
    else:
        eps = np.finfo(np.asarray(one).dtype).eps
        assert ref.relative_error(one, other) < 1e3 * eps
