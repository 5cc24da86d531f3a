"""What one call leaves behind decides nothing in the next."""

import numpy as np
import pytest

import rnncore as rc

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_full_batch_after_a_ragged_one_is_dropped_out(dtype):
    """The places of both batches' arrays may coincide; that says nothing about dropout."""
    x = np.random.default_rng(1).standard_normal((40, 6, 3)).astype(dtype)
    lengths = np.full(6, 40)
    lengths[2] = 1
    used, fresh = (rc.Recurrent("elman", 3, 8, input_dropout=0.3, dtype=dtype) for _ in range(2))
    used.forward(x, lengths=lengths)
    used.dropout_step = 0
    np.testing.assert_array_equal(used.forward(x)[0], fresh.forward(x)[0])
    np.testing.assert_array_equal(used.backward(np.ones((40, 6, 8)))[0], fresh.backward(np.ones((40, 6, 8)))[0])
    np.testing.assert_array_equal(used.grad, fresh.grad)
