"""Questions about whole numbers, beside NumPy's answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rnncore as rc
from rnncore._core.rows import all_within, merged
from rnncore.data.sequences import take_rows

LARGEST, SMALLEST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
BOUNDS = st.sampled_from([SMALLEST, -1, 0, 1, 7, LARGEST])
ARRAYS = hnp.arrays(
    np.int64, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5), elements=st.integers(-3, 9) | BOUNDS
)


@given(ARRAYS, BOUNDS, BOUNDS)
def test_all_within(array, low, high):
    assert all_within(array, low, high) == bool(array.size and ((array >= low) & (array <= high)).all())


@given(hnp.arrays(np.int64, (4, 3), elements=st.integers(-2, 3)), st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_what_lies_past_an_end_may_be_any(array, lengths):
    counts = np.arange(4)[:, None] < np.array(lengths)
    assert all_within(array, 0, 2, np.array(lengths)) == bool(((array >= 0) & (array <= 2))[counts].all())


@pytest.mark.parametrize(
    "other",
    [
        [1, 2],
        None,
        np.ones(2),
        np.ones(2, np.int32),
        np.ones(2, ">i8"),
        np.ones((4, 4), np.int64).T[::2],
        np.ones(2, np.uint64),
        np.ma.masked_array([1, 2], mask=[0, 1]),
        np.frombuffer(b"\0" * 17, np.uint8)[1:].view(np.int64),
    ],
    ids=lambda other: type(other).__name__,
)
def test_anything_else_wants_a_closer_look(other):
    assert not all_within(other, 0, 9)
    assert other is None or not all_within(np.ones((3, 2), np.int64), 0, 9, other)


def test_lengths_of_another_batch():
    assert not all_within(np.ones((3, 2), np.int64), 0, 9, np.ones(3, np.int64))
    assert not all_within(np.ones(3, np.int64), 0, 9, np.ones(3, np.int64))


def test_merged():
    whole = np.array([[0, 5, 0], [30, 2, 1], [60, 4, 0]])
    tables = [(5, 5, 1, np.array([], np.int64)), (10, 2, 1, np.array([0, 4, 9])), (40, 4, 3, np.array([1, 2]))]
    assert merged(whole, tables).tolist() == [
        *([0, 5, 0], [10, 2, 1], [18, 2, 1], [28, 2, 1], [30, 2, 1]),
        *([44, 4, 3], [48, 4, 3], [60, 4, 0]),
    ]


@pytest.mark.parametrize("count", [1, 32, 33, 500])
@pytest.mark.parametrize("symbols", [3, 64, 65, 1000])
def test_the_rows_a_batch_touches(count, symbols):
    """Few numbers are sorted, many are marked; either way the ranges are those of np.unique."""
    rng = np.random.default_rng(count)
    net = rc.Network(rc.Recurrent("elman", symbols, 2), head=rc.Softmax(2))
    bags = rng.integers(-1, symbols, (count, 1, 1))
    net.loss_and_grad(bags, np.zeros((count, 1), int))
    start, width = net.layout.starts["layers.0.fwd.W_xh"], 2
    ranges = net.update_ranges(lazy=True)
    named = ranges[(ranges[:, 0] >= start) & (ranges[:, 0] < start + symbols * width)]
    assert ((named[:, 0] - start) // width).tolist() == np.unique(bags[bags >= 0]).tolist()
    assert (np.diff(ranges[:, 0]) > 0).all()


@given(
    hnp.arrays(np.int32, hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=5)),
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5), elements=st.integers(0, 7)),
)
def test_take_rows(array, places):
    found, wanted = take_rows(array, places), array.take(places, axis=0, mode="clip")
    assert found.dtype == np.int64 and np.array_equal(found, wanted)
    assert np.array_equal(take_rows(array[::-1], places), array[::-1].take(places, axis=0, mode="clip"))
    assert take_rows(array.astype(np.float32), places).dtype == np.float32
