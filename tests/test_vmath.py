"""The core's own exp, tanh and sigmoid: units in the last place, monotony and symmetry, and every special argument."""

import numpy as np
import pytest

from rnncore._core import kernels

pytestmark = pytest.mark.kernels

NAMES = ["exp", "tanh", "sigmoid"]
WIDER = {np.float32: np.float64, np.float64: np.longdouble}  # the reference's precision
ULPS = {"exp": 1.5, "tanh": 3.0, "sigmoid": 3.0}  # the largest seen: 1.06, 2.3, 2.5
REFERENCES = {"exp": np.exp, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}

each_name = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", WIDER, ids=lambda dtype: dtype.__name__)


def neighbours(centres: np.ndarray, reach: int) -> np.ndarray:
    """The `reach` numbers of the same precision on either side of each positive centre."""
    integer = np.int32 if centres.dtype == np.float32 else np.int64
    bits = centres.view(integer)[:, None] + np.arange(-reach, reach + 1, dtype=integer)
    return bits.ravel().view(centres.dtype)


def arguments(dtype: type) -> np.ndarray:
    """Rising finite arguments: even and logarithmic spreads, and runs of neighbours where the formulas change."""
    rng = np.random.default_rng(7)
    info = np.finfo(dtype)
    far = 110 if dtype == np.float32 else 760  # beyond the last subnormal result and the last finite one
    linear = [rng.uniform(-limit, limit, 200_000).astype(dtype) for limit in (0.5, 2, 20, far)]
    powers = rng.uniform(info.minexp - info.nmant, info.maxexp, 200_000)
    sizes = np.concatenate([np.exp2(powers), np.exp2(rng.uniform(-30, 5, 200_000))]).astype(dtype)
    halves = (np.arange(far * 1.4427) + 0.5) * np.log(2)  # where rounding to a multiple of ln 2 goes to the next one
    scale = np.ldexp(1.0, -np.arange(0, 60, 4))
    turns = np.concatenate([halves, halves / 2, scale, [0.39, 9.01, 17.33, 19.06, 36.74, 40, far]]).astype(dtype)
    smallest = np.arange(1, 400).astype(dtype) * info.smallest_subnormal
    positive = np.concatenate([sizes, neighbours(turns, 100), smallest, [info.tiny, info.max]]).astype(dtype)
    zero = np.zeros(1, dtype)
    return np.unique(np.concatenate([*linear, positive, -positive, zero]))


def ulps(got: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of the reference, in got's precision."""
    info = np.finfo(got.dtype)
    exponent = np.maximum(np.frexp(reference)[1] - 1, info.minexp)
    unit = np.ldexp(np.ones_like(reference), exponent - info.nmant)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(got.astype(reference.dtype) - reference) / unit
        return np.where(got == reference.astype(got.dtype), 0, distance)


@each_dtype
@each_name
def test_error_is_a_few_ulps_everywhere(name, dtype):
    x, wide = arguments(dtype), WIDER[dtype]
    with np.errstate(over="ignore", under="ignore"):
        error = ulps(kernels.apply(name, x), REFERENCES[name](x.astype(wide)))
    own = 0 if np.finfo(wide).eps < np.finfo(dtype).eps else 1  # a long double may be a double
    worst = int(np.argmax(error))
    assert error[worst] <= ULPS[name] + own, f"{name}({x[worst]!r}) is off by {error[worst]} ulp"


@each_dtype
@each_name
def test_never_falls_where_the_argument_rises(name, dtype):
    x = arguments(dtype)
    y = kernels.apply(name, x)
    falls = np.flatnonzero(~(y[1:] >= y[:-1]))
    assert not falls.size, f"{name} falls from {y[falls[0]]!r} to {y[falls[0] + 1]!r} at {x[falls[0] + 1]!r}"


@each_dtype
def test_tanh_is_odd_to_the_bit(dtype):
    x = arguments(dtype)
    positive, negative = kernels.apply("tanh", np.abs(x)), kernels.apply("tanh", -np.abs(x))
    assert np.array_equal(positive, -negative)
    assert np.all(~np.signbit(positive)) and np.all(np.signbit(negative))


@each_dtype
@each_name
def test_nan_gives_nan_and_disturbs_no_neighbour(name, dtype):
    x = np.linspace(-3, 3, 67, dtype=dtype)
    expected = kernels.apply(name, x)
    for place in (0, 5, 33, 66):
        holed = x.copy()
        holed[place] = np.nan if place % 2 else -np.nan
        y = kernels.apply(name, holed)
        assert np.isnan(y[place])
        assert np.array_equal(np.delete(y, place), np.delete(expected, place))


@each_dtype
@pytest.mark.parametrize("size", [None, 1e3, 1e9, 1e30], ids=["largest", "1e3", "1e9", "1e30"])
def test_saturates_exactly(dtype, size):
    large = np.array([np.inf, np.finfo(dtype).max if size is None else size], dtype)
    for name, above, below in [("exp", np.inf, 0.0), ("tanh", 1.0, -1.0), ("sigmoid", 1.0, 0.0)]:
        assert np.array_equal(kernels.apply(name, large), np.full(2, above, dtype))
        y = kernels.apply(name, -large)
        assert np.array_equal(y, np.full(2, below, dtype))
        assert np.array_equal(np.signbit(y), np.full(2, below < 0))  # 0, never -0


@each_dtype
def test_zeros_and_tiny_arguments(dtype):
    info = np.finfo(dtype)
    tiny = np.array([0, info.smallest_subnormal, 12345 * info.smallest_subnormal, info.tiny, 1e-20], dtype)
    x = np.concatenate([tiny, -tiny])
    y = kernels.apply("tanh", x)
    assert np.array_equal(y, x) and np.array_equal(np.signbit(y), np.signbit(x))
    assert np.all(kernels.apply("exp", x) == 1)
    assert np.all(kernels.apply("sigmoid", x) == 0.5)


@each_dtype
def test_subnormal_results_are_kept(dtype):
    """Below the smallest normal number every unit still counts: nothing is flushed to zero."""
    low, last = (-103.9, -87.4) if dtype == np.float32 else (-745.1, -708.5)
    x = np.linspace(low, last, 20_000).astype(dtype)
    for name in ("exp", "sigmoid"):
        y = kernels.apply(name, x)
        assert np.all(y > 0) and np.all(y < np.finfo(dtype).tiny)
        assert np.max(ulps(y, REFERENCES[name](x.astype(WIDER[dtype])))) <= ULPS[name]


@each_dtype
@each_name
def test_any_length_gives_the_same_bits(name, dtype):
    """A number's result does not depend on its place in a vector or on what stands beside it."""
    x = np.random.default_rng(1).normal(0, 3, 70).astype(dtype)
    whole = kernels.apply(name, x)
    for n in range(71):
        y = kernels.apply(name, x[:n].copy())
        assert y.dtype == dtype and y.shape == (n,)
        assert np.array_equal(y, whole[:n])
        assert np.array_equal(kernels.apply(name, x[n:].copy()), whole[n:])
