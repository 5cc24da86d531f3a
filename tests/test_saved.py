"""Saved memory: backward only reads it unless told to consume it, wherever it lies, whatever was in it before."""

import numpy as np
import pytest
import reference

import rnncore as rc
from rnncore._core.memory import Saved
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore.nn.recurrent import DENSE

pytestmark = pytest.mark.kernels

T, B = 5, 4
SETTINGS = {
    "plain": {},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
    "summed": {"bidirectional": True, "merge": "sum"},
    "dropped": {"num_layers": 2, "dropout": 0.3, "input_dropout": 0.2, "output_dropout": 0.1},
    "masked": {"recurrent_dropout": 0.3},
    "masked by step": {"recurrent_dropout": 0.3, "recurrent_dropout_mode": "step"},
    "zoneout": {"zoneout": 0.3},
    "truncated": {"truncate": 2},
}


def settings_of(cell):
    """The settings that a cell can have."""
    for name, options in SETTINGS.items():
        kind, own = reference.FAMILY[cell]
        try:
            yield name, rc.Recurrent(kind, 3, 5, random_state=1, dtype="float64", **own, **options)
        except ValueError as error:  # which cells have no zoneout is tested elsewhere
            assert "zoneout" in str(error)
    yield "x itself", rc.Recurrent(kind, 5, 5, random_state=1, **own)  # in single precision
    yield "whole vectors", rc.Recurrent(kind, 3, 16, random_state=1, **own)


def test_every_cell_is_here():
    assert {cell for cell, _ in reference.FAMILY.values()} == set(rc.CELLS)


def filled(byte):
    """Make what allocates memory that is full of something, aligned."""

    def allocate(size):
        room = np.full(size + 64, byte, np.uint8)
        start = -room.ctypes.data % 64
        return room[start : start + size]

    return allocate


class Case:
    """A forward pass of a layer, and backward passes from it."""

    def __init__(self, layer, ragged, has_state):
        rng = np.random.default_rng(2)
        units = layer.num_layers * len(layer.directions)
        lengths = np.array([2, 5, 1, 4]) if ragged else None
        self.layer, self.schedule = layer, Schedule(T, B, lengths)
        self.x = rng.standard_normal((T, B, layer.input_size)).astype(layer.dtype)
        self.dy = rng.standard_normal((T, B, layer.output_size)).astype(layer.dtype)
        shapes = [(units, B, width) for width in layer.state_widths.values()]
        self.state = [rng.standard_normal(shape).astype(layer.dtype) for shape in shapes] if has_state else None
        self.dstate = [rng.standard_normal(shape).astype(layer.dtype) for shape in shapes]
        self.space = Workspace(layer.kernel_plan(DENSE))

    def forward(self, saved, share_y=True):
        options = (saved, 1, 7, 3, None, True, None, share_y)
        return self.space.forward(self.layer.theta, self.schedule, self.x, self.state, *options)

    def backward(self, saved, consume):
        grad = np.zeros_like(self.layer.theta)
        gradients = (self.layer.theta, grad, saved, self.dy, self.dstate, False, True, consume)
        dx, dstate = self.space.backward(*gradients)
        return [grad, dx, *(dstate or [])]


@pytest.mark.parametrize("cell", reference.FAMILY)
def test_backward_only_reads_saved_memory(cell):
    for name, layer in settings_of(cell):
        for ragged, has_state in ((False, False), (True, True), (False, True)):
            case, made = Case(layer, ragged, has_state), []

            def allocate(size, made=made):
                made.append(filled(0xFF)(size))  # NaN, where nothing is written before it is read
                return made[-1]

            saved = Saved(allocate)
            y = case.forward(saved)
            (memory,) = made
            before, outputs = memory.copy(), y.copy()
            x, y_read = saved.x, saved.y
            saved.detach()
            found = []
            for place in (memory, memory, filled(0)(memory.size + 1)[1:]):  # the last one is not aligned
                place[...] = before
                found.append(case.backward(saved.attached(place, x, y_read), False))
                assert np.array_equal(place, before) and np.array_equal(y, outputs), name
            found.append(case.backward(saved.attached(memory, x, y_read), True))
            usual = Saved()
            case.forward(usual)
            found.append(case.backward(usual, True))
            for gradients in found[1:]:
                for a, b in zip(found[0], gradients, strict=True):
                    assert np.isfinite(a).all() and np.array_equal(a, b), name


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_outputs_that_are_not_shared_may_be_written_to(cell):
    case, found = Case(rc.Recurrent(cell, 3, 16, random_state=1), False, False), []
    for share_y in (True, False):
        saved = Saved()
        y = case.forward(saved, share_y)
        assert (saved.y is y) == share_y
        found.append([y.copy()])
        if not share_y:
            y.fill(np.nan)
        found[-1] += case.backward(saved, False)
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_detached_memory_is_let_go():
    case, made = Case(rc.Recurrent("lstm", 3, 5), True, False), Saved()
    case.forward(made)
    held = made.size()
    made.detach()
    assert held > 0 and made.size() == 0
    with pytest.raises(MemoryError, match="were asked for"):
        case.forward(Saved(lambda size: np.empty(size // 2, np.uint8)))


@pytest.mark.parametrize("cell", reference.FAMILY)
def test_backward_reads_the_parameters_as_they_are(cell):
    """Whoever changed them since forward, and whatever ran in between: nothing packed earlier is read."""
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((T, B, 3)), None
    for _, layer in settings_of(cell):
        if layer.input_size != 3:
            continue
        x = x.astype(layer.dtype)
        grads = []
        for between in (False, True):
            layer.dropout_step = 0
            y, _ = layer.forward(x)
            dy = rng.standard_normal(y.shape).astype(layer.dtype) if not between else dy
            before = layer.theta.copy()
            layer.theta[...] *= 1.5
            if between:
                layer.forward(x, training=False)
            layer.zero_grad()
            layer.backward(dy)
            grads.append(layer.grad.copy())
            layer.theta[...] = before
        np.testing.assert_array_equal(grads[0], grads[1])
