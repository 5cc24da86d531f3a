"""The compiled core takes rows that are packed already, as PyTorch's PackedSequence has them, without copying them."""

import numpy as np
import pytest

import rnncore as rc
from rnncore._core.memory import Saved
from rnncore._core.run import Workspace
from rnncore._core.schedule import Schedule
from rnncore.nn.recurrent import DENSE

pytestmark = pytest.mark.kernels

LENGTHS = np.array([5, 4, 4, 2, 1])  # longest first, as packed rows are
REACHED = np.arange(5)[:, None] < LENGTHS  # (T, B)


@pytest.mark.parametrize("cell", rc.CELLS)
@pytest.mark.parametrize("lengths", [LENGTHS, None], ids=["ragged", "full"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}], ids=["one", "stacked"])
@pytest.mark.parametrize("hidden", [7, 16])  # 16: rows need no padding, and the outputs' gradient is read in place
def test_packed_rows_are_the_padded_batch(cell, lengths, options, hidden):
    rng = np.random.default_rng(0)
    layer = rc.Recurrent(cell, 3, hidden, dtype="float64", n_threads=1, **options)
    reached = np.ones_like(REACHED) if lengths is None else REACHED
    x, dy = rng.standard_normal((5, 5, 3)), rng.standard_normal((5, 5, layer.output_size))
    layer.zero_grad()
    y, state = layer.forward(x, lengths=lengths)
    dx, _ = layer.backward(dy)
    expected = [y[reached], dx[reached], layer.grad.copy(), *(part.copy() for part in state)]

    layer.zero_grad()
    space, saved = Workspace(layer.kernel_plan(DENSE)), Saved()
    rows = space.forward(layer.theta, Schedule(5, 5, lengths), x[reached], None, saved, 1, 0, 0, want_y=True).copy()
    state = space.final_states()
    drows, _ = space.backward(layer.theta, layer.grad, saved, dy[reached], None, True, True)
    found = [rows, drows, layer.grad, *state]
    assert rows.shape == (reached.sum(), layer.output_size)
    for a, b in zip(found, expected, strict=True):  # a gradient read in place joins its sum at another point
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
