"""The one door for input errors: kernels get only what has passed here.

Every message says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np

from rnncore._core.rows import all_within

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
MIXED = "mixed_bfloat16"
INT32 = np.dtype(np.int32)  # NumPy has one object for it; to compare objects is ten times faster than types
_ARE_BAGS = "whole numbers of three dimensions are read as bags of ids; for numbers pass floats, x.astype('float32')"
_BAGS = f"x has the shape of numbers, {{shape}}, but {_ARE_BAGS}; for bags, a column of -1 (none) at their end tells so"
LARGEST_WEIGHT = 1e30  # of classes and sequences: sums of them are still numbers in single precision


def dtype(value: Any) -> np.dtype:
    """Return float32 or float64 as a dtype."""
    try:
        found = np.dtype(value)
    except TypeError:
        found = np.dtype(object)
    if found not in FLOATS:
        for_whom = ": mixed precision is for Recurrent, Attention, Network and what is trained with them"
        beside = for_whom if isinstance(value, str) and value == MIXED else ""
        raise ValueError(f"dtype must be 'float32' or 'float64', got {value!r}{beside}")
    return found


def precision(value: Any) -> tuple[np.dtype, bool]:
    """Return the dtype of arrays, and whether products are to round their operands to bfloat16."""
    if isinstance(value, str) and value == MIXED:
        return FLOATS[0], True
    try:
        return dtype(value), False
    except ValueError:
        raise ValueError(f"dtype must be 'float32', 'float64' or {MIXED!r}, got {value!r}") from None


def whole(value: Any, name: str, least: int = 1, most: int = 2**31 - 1) -> int:
    """Return a whole number between `least` and `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value!r}")
    return int(value)


def is_number(value: Any) -> bool:
    """Tell whether this is a real number, True and False apart."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def rate(value: Any, name: str) -> float:
    """Return a dropout rate in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:  # type: ignore[operator]
        raise ValueError(f"{name} is the fraction of numbers set to zero: expected 0 <= {name} < 1, got {value!r}")
    return float(value)


def flag(value: Any, name: str) -> bool:
    """Return True or False, in whatever form; arrays and lists are neither."""
    if isinstance(value, (np.ndarray, Sequence, Mapping)):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def one_of(value: Any, choices: Sequence[str], name: str) -> str:
    """Return one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def array(value: Any, name: str) -> np.ndarray:
    """Return an array of numbers; ragged lists, objects and numbers that NumPy does not know are refused.

    Arrays of other libraries are read where they lie, by NumPy's protocols or DLPack.
    """
    if _is_masked(value):
        return _unmasked(value, name)
    try:
        by_dlpack = hasattr(value, "__dlpack__") and not hasattr(value, "__array__")
        found = np.from_dlpack(value) if by_dlpack else np.asarray(value)
    except ValueError:
        found = np.asarray(None)
    except (TypeError, RuntimeError, BufferError) as error:  # tensors of other libraries refuse in words of their own
        raise ValueError(f"{name} must be an array of numbers; NumPy cannot read it: {error}") from None
    kind = found.dtype.kind
    if kind in "fiub":
        return found
    if kind == "O" and type(value) is not np.ndarray and np.ndim(found) == 0:
        raise ValueError(
            f"{name} must be a rectangular array of numbers, got {type(value).__name__} that is not: "
            "pad ragged sequences to one length and give their true lengths as lengths="
        )
    what = f"objects ({type(found.flat[0]).__name__} first)" if kind == "O" and found.size else str(found.dtype)
    raise ValueError(
        f"{name} must be an array of numbers that NumPy computes with, got one of {what}: "
        f"convert it first, as with {name}.astype('float32')"
    )


def _is_masked(value: Any) -> bool:
    """Tell whether this is a masked array.

    Without importing their module: who has one has imported it, and a fork in the midst of an import would leave its
    lock to the child.
    """
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(value, getattr(masked, "MaskedArray", ()))


def _unmasked(value: np.ma.MaskedArray, name: str) -> np.ndarray:
    """Return the numbers of a masked array of which nothing is masked."""
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} is a masked array, and a mask has no meaning here: fill it, as with {name}.filled(0), and say "
            "what does not count by lengths= (steps after a sequence's end) or targets of -1"
        )
    return array(value.data, name)


def _int64(found: np.ndarray) -> np.ndarray:
    """Return whole numbers as C-contiguous int64. Those beyond its range stay beyond any other: they do not wrap."""
    if found.dtype == np.uint64:
        found = np.minimum(found, np.uint64(2**63 - 1))
    return np.ascontiguousarray(found, dtype=np.int64)


def _widened(value: Any) -> Any:
    """Return int32 arrays, which data are kept in, as int64, and anything else as it is."""
    return value.astype(np.int64) if type(value) is np.ndarray and value.dtype is INT32 else value


@contextmanager
def pickled(made: object) -> Iterator[None]:
    """Say in one way what is wrong with the state of a pickle, whichever check finds it."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        kind = type(made).__name__
        raise ValueError(
            f"this is not the pickle of a {kind}, or it is damaged ({error}): pickle the {kind} again"
        ) from error


def flat(value: Any, name: str, like: np.ndarray) -> np.ndarray:
    """Return a flat array with the shape and precision of another."""
    if not isinstance(value, np.ndarray) or value.shape != like.shape or value.dtype != like.dtype:
        came = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} must be an array of {like.dtype} {like.shape}, got {came}")
    return value


def _contiguous(value: Any, name: str, precision: np.dtype) -> np.ndarray:
    """Return an array of numbers of that precision, C-contiguous; the value itself where it is one already."""
    if type(value) is np.ndarray and value.dtype == precision and value.flags.c_contiguous:
        return value
    return np.ascontiguousarray(array(value, name), dtype=precision)


def dense(x: Any, width: int, precision: np.dtype) -> np.ndarray:
    """Return x (T, B, D) of the net's precision, C-contiguous; the array itself where it is that already."""
    found = _contiguous(x, "x", precision)
    if found.ndim != 3 or found.shape[2] != width:
        raise ValueError(f"x must have shape (T, B, {width}): steps, sequences, inputs; got {found.shape}")
    if found.size == 0:
        raise ValueError(f"x must hold at least one step of one sequence, got shape {found.shape}")
    return found


def time_steps(times: np.ndarray, sizes: np.ndarray | None) -> None:
    """Refuse times (T, B) that pass from step to step unless those within the sequences are above 0."""
    good = times > 0
    if sizes is not None:
        good |= np.arange(len(times))[:, None] >= sizes
    if not good.all():
        t, b = np.argwhere(~good)[0]
        raise ValueError(
            f"time steps, the last column of x, must be above 0: got {times[t, b]:g} at step {t} of sequence {b}; join "
            "samples of one time"
        )


def sequences(value: Any, name: str, width: int, precision: np.dtype) -> np.ndarray:
    """Return numbers (T, B, width) of any name, C-contiguous and of the net's precision."""
    found = _contiguous(value, name, precision)
    if found.ndim != 3 or found.shape[2] != width:
        raise ValueError(f"{name} must have shape (T, B, {width}): steps, sequences, numbers; got {found.shape}")
    if found.size == 0:
        raise ValueError(f"{name} is empty: it must hold at least one step of one sequence, got shape {found.shape}")
    return found


def output_gradient(dy: Any, shape: tuple[int, ...], precision: np.dtype) -> np.ndarray:
    """Return dy of the net's precision, C-contiguous; the array itself where it is that already."""
    found = _contiguous(dy, "dy", precision)
    if found.shape != shape:
        raise ValueError(f"dy must have the shape of the outputs, {shape}; got {found.shape}")
    return found


def out(value: Any, shape: tuple[int, ...], precision: np.dtype, source: np.ndarray) -> np.ndarray:
    """Return an array that results can be written to."""
    fits = isinstance(value, np.ndarray) and not _is_masked(value)
    fits = fits and value.shape == shape and value.dtype == precision
    if not (fits and value.flags.c_contiguous and value.flags.writeable and value.flags.aligned):
        came = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"out must be a writeable, C-contiguous array of {precision} {shape}, got {came}")
    if np.may_share_memory(value, source):
        raise ValueError("out must not share memory with what is read: give an array of its own")
    return value


def ids(x: np.ndarray, symbols: int, lengths: np.ndarray | None) -> np.ndarray:
    """Return ids (T, B) or bags of ids (T, B, F) as C-contiguous int64, in range where they count."""
    x = _widened(x)
    if x.ndim == 2 and all_within(x, 0, symbols - 1):
        return x
    if x.ndim not in (2, 3):
        raise ValueError(f"ids must have shape (T, B), or (T, B, F) for bags of ids; got {x.shape}")
    if x.size == 0:
        raise ValueError(f"x must hold at least one step of one sequence, got shape {x.shape}")
    found = _int64(x)
    if found.ndim == 3 and found.shape[2] == symbols > 1 and found.min() >= 0:
        warnings.warn(_BAGS.format(shape=found.shape), UserWarning, stacklevel=_callers_level())
    if found is x and lengths is not None:
        found = found.copy() if _outside(found, symbols) else found
    if _outside(found, symbols):
        if lengths is not None:  # what lies beyond a sequence's end does not count
            beyond = np.arange(found.shape[0])[:, None] >= lengths[None, :]
            found[beyond] = 0
        if _outside(found, symbols):
            low, high = found.min(), found.max()
            least = "0" if found.ndim == 2 else "-1 (none)"
            hint = "" if found.ndim == 2 else f"; {_ARE_BAGS}"
            raise ValueError(f"ids must lie between {least} and {symbols - 1}, got values from {low} to {high}{hint}")
    return found


def _callers_level() -> int:
    """Return how many frames up the code is that called rnncore."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rnncore."):
        level, frame = level + 1, frame.f_back
    return level


def _outside(found: np.ndarray, symbols: int) -> bool:
    return found.min() < (0 if found.ndim == 2 else -1) or found.max() >= symbols


SMALLER = ("bfloat16", "int8")  # what float32 weights can be kept as


def weight_dtype(value: Any, dtype: np.dtype) -> str:
    """Return how weights of this dtype are to be kept; None: as they are."""
    name = dtype.name if value is None else str(value)
    smaller = SMALLER if dtype == np.float32 else ()
    if name not in (dtype.name, *smaller):
        others = "".join(f", {each!r}" for each in smaller) or " (only float32 weights can be kept in fewer bits)"
        raise ValueError(f"weight_dtype must be None, {dtype.name!r}{others}; got {value!r}")
    return name


def lengths(value: Any, steps: int, sequences: int, name: str = "lengths") -> np.ndarray | None:
    """Return lengths (B,) in 1..T as int64, or None."""
    if value is None:
        return None
    if all_within(value, 1, steps) and value.shape == (sequences,):
        return value
    found = array(value, name)
    if found.ndim != 1 or found.shape[0] != sequences or found.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be {sequences} whole numbers, one per sequence; got shape {found.shape}, {found.dtype}"
        )
    if not found.size:
        raise ValueError(f"{name} are of no sequence: a batch must hold at least one")
    if found.min() < 1 or found.max() > steps:
        count = f"{'S' if name == 'memory_lengths' else 'T'} = {steps}"
        raise ValueError(
            f"{name} must lie between 1 and {count}, got values from {found.min()} to {found.max()}: "
            "leave empty sequences out"
        )
    return np.ascontiguousarray(found, dtype=np.int64)


def sample_weight(value: Any, steps: int, sequences: int) -> np.ndarray:
    """Return weights of sequences (B,), or of their steps (T, B), as float64."""
    found = array(value, "sample_weight")
    if found.shape not in ((sequences,), (steps, sequences)) or found.dtype.kind not in "fiub":
        raise ValueError(
            f"sample_weight must be {sequences} numbers, one per sequence, or an array {(steps, sequences)}, one per "
            f"step; got shape {found.shape}, {found.dtype}"
        )
    found = np.ascontiguousarray(found, dtype=np.float64)
    if not (found >= 0).all() or found.max() > LARGEST_WEIGHT:
        raise ValueError(
            f"sample_weight must be numbers from 0 to {LARGEST_WEIGHT:g}, got {found.min()} to {found.max()}"
        )
    return found


def counted(found: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Return what lies within the sequences of an array (T, B, ...), as one row per step of a sequence."""
    if lengths is None or found.ndim < 2 or found.shape[1] != len(lengths):
        return found
    return found[np.arange(found.shape[0])[:, None] < lengths[None, :]]


def targets(value: Any, shape: tuple[int, ...], classes: int, lengths: np.ndarray | None) -> np.ndarray:
    """Return class targets of the given shape as int64, in -1..K-1 where they count."""
    value = _widened(value)
    if all_within(value, -1, classes - 1, lengths if len(shape) == 2 else None) and value.shape == shape:
        return value
    found = array(value, "targets")
    if found.shape != shape:
        raise ValueError(f"targets must have shape {shape}, one class per output; got {found.shape}")
    if found.dtype.kind not in "iub":
        raise ValueError(f"targets must be whole numbers (classes), got {found.dtype}")
    found = _int64(found)
    within = counted(found, lengths) if len(shape) == 2 else found
    if within.min() < -1 or within.max() >= classes:
        raise ValueError(
            f"targets must lie between 0 and {classes - 1}, or be -1 to be ignored; "
            f"got values from {within.min()} to {within.max()}"
        )
    return found


def own_length_targets(value: Any, sequences: int, symbols: int) -> tuple[np.ndarray, np.ndarray]:
    """Return targets of their own length (B, L) as int64, -1 behind their ends, and how long each is."""
    found = array(value, "targets")
    if found.ndim != 2 or found.shape[0] != sequences or (found.dtype.kind not in "iu" and found.size):
        raise ValueError(
            f"targets must be whole numbers of shape ({sequences}, L), one row for each sequence with -1 behind its "
            f"end; got shape {found.shape}, {found.dtype}"
        )
    found = _int64(found) if found.size else np.zeros(found.shape, dtype=np.int64)
    there = found >= 0
    counts = there.sum(axis=1)
    if found.size and not (found.min() >= -1 and found.max() < symbols):
        b = int(np.flatnonzero(((found < -1) | (found >= symbols)).any(axis=1))[0])
        raise ValueError(
            f"targets must lie between 0 and {symbols - 1}, with -1 behind their ends; sequence {b} has values from "
            f"{found[b].min()} to {found[b].max()}"
        )
    gap = (there[:, 1:] & ~there[:, :-1]).any(axis=1)
    if gap.any():
        b = int(gap.argmax())
        raise ValueError(f"targets of sequence {b} go on after -1, which may only stand behind the end: {found[b]}")
    return found, counts


def ended(value: Any, lengths: Any) -> np.ndarray:
    """Return targets of their own length (B, L) with -1 behind the ends that lengths (B,) in 0..L say."""
    found, sizes = array(value, "targets"), array(lengths, "target_lengths")
    if found.ndim != 2:
        raise ValueError(f"targets must have shape (B, L) to go with target_lengths; got {found.shape}")
    if sizes.shape != found.shape[:1] or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"target_lengths must be {len(found)} whole numbers, one per sequence; got shape {sizes.shape}, "
            f"{sizes.dtype}"
        )
    longest = found.shape[1]
    wrong = np.flatnonzero((sizes < 0) | (sizes > longest))
    if wrong.size:
        b = int(wrong[0])
        raise ValueError(f"target_lengths must lie between 0 and L = {longest}; that of sequence {b} is {sizes[b]}")
    inside = np.arange(longest) < sizes[:, None]
    if found.dtype.kind in "iu" and (inside & (found < 0)).any():
        b = int((inside & (found < 0)).any(axis=1).argmax())
        raise ValueError(f"targets of sequence {b} have a number below 0 before their end, {sizes[b]}: {found[b]}")
    return np.where(inside, found, -1)


def values(value: Any, shape: tuple[int, ...], precision: np.dtype) -> np.ndarray:
    """Return numeric targets of the given shape and precision."""
    found = array(value, "targets")
    if found.shape != shape:
        raise ValueError(f"targets must have shape {shape}; got {found.shape}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, dtype=precision)


def finite_values(
    value: Any, shape: tuple[int, ...], precision: np.dtype, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Return numeric targets (T, B, K) or (B, K) as `values`, finite where they count."""
    found = values(value, shape, precision)
    if not np.isfinite(found).all():
        counts: Any = True
        if lengths is not None and found.ndim == 3:
            counts = (np.arange(shape[0])[:, None] < lengths)[:, :, None]
        bad = np.argwhere(~np.isfinite(found) & counts)
        if len(bad):
            where = f"step {bad[0][0]} of sequence {bad[0][1]}" if found.ndim == 3 else f"sequence {bad[0][0]}"
            raise ValueError(f"targets must be finite numbers where they count, got {found[tuple(bad[0])]} at {where}")
    return found


def probabilities(value: Any, shape: tuple[int, ...], precision: np.dtype, lengths: np.ndarray | None) -> np.ndarray:
    """Return targets (T, B, K) or (B, K) that are probabilities, as `finite_values`."""
    found = finite_values(value, shape, precision, lengths)
    if lengths is not None and found.ndim == 3:
        beyond = np.arange(shape[0])[:, None] >= lengths
        if beyond.any() and not np.isfinite(found[beyond]).all():
            found = np.where(beyond[:, :, None], found.dtype.type(0), found)
    counts = counted(found, lengths) if found.ndim == 3 else found
    if counts.min() < 0 or counts.max() > LARGEST_WEIGHT:
        raise ValueError(
            f"targets that are probabilities must not be negative; got values from {counts.min()} to {counts.max()}"
        )
    return found


def zoneout(value: Any, cell: str, names: Sequence[str]) -> tuple[float, float]:
    """Return zoneout's rates for the first two states."""
    rates = [value] if np.isscalar(value) or value is None else list(value)
    if not 0 < len(rates) <= max(len(names), 1) or (not names and rates != [0.0]):
        what = f"one rate, or one for each of {', '.join(names)}" if names else "0: this cell has no zoneout"
        raise ValueError(f"zoneout of {cell} must be {what}; got {value!r}")
    first, second = [rate(r, "zoneout") for r in [*rates, 0.0, 0.0][:2]]
    return first, second


def feedback(value: Any, shape: tuple[int, ...], precision: np.dtype) -> np.ndarray:
    """Return what is given instead of the outputs, shaped like them."""
    found = array(value, "feedback")
    if found.shape != shape:
        raise ValueError(
            f"feedback stands in for the last layer's outputs and must have their shape, {shape}; got {found.shape}"
        )
    return np.ascontiguousarray(found, dtype=precision)


def states(value: Any, widths: Mapping[str, int], shape: tuple[int, int], precision: np.dtype) -> list[np.ndarray]:
    """Return a state tuple's arrays (layers·directions, B, width), checked."""
    given = value if isinstance(value, (tuple, list)) else None
    if given is None or len(given) != len(widths):
        came = f"a tuple of {len(given)}" if given is not None else type(value).__name__
        raise ValueError(f"a state is a tuple of arrays ({', '.join(widths)}), got {came}")
    arrays = []
    for (name, width), part in zip(widths.items(), given, strict=True):
        found = np.ascontiguousarray(array(part, f"state {name}"), dtype=precision)
        if found.shape != (*shape, width):
            expected = (*shape, width)
            raise ValueError(f"state {name} must have shape {expected}: layers·directions, B, H; got {found.shape}")
        arrays.append(found)
    return arrays


def skip_input(x: Any, features: int) -> tuple[Any, Any, Any]:
    """Split what a network with sparse features takes: (x, ids), or (x, ids, values)."""
    if not features:
        if isinstance(x, tuple):
            raise ValueError(
                "x is a tuple, but this network has no sparse features: pass x alone, or build it with skip=N"
            )
        return x, None, None
    if not isinstance(x, tuple) or len(x) not in (2, 3):
        raise ValueError(
            f"this network has {features} sparse features: x must be a tuple (x, ids) or (x, ids, values), ids and "
            f"values of shape (T, B, F); got {type(x).__name__}"
        )
    return x if len(x) == 3 else (*x, None)


def skip_features(
    ids_: Any, values_: Any, features: int, shape: tuple[int, int], lengths: np.ndarray | None, precision: np.dtype
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return ids of sparse features (T, B, F) as int64, and their values of the net's precision, or None for ones."""
    found = array(ids_, "feature ids")
    if found.dtype.kind not in "iu" or found.ndim != 3 or found.shape[:2] != shape:
        raise ValueError(
            f"ids of sparse features must be whole numbers of shape {(*shape, 'F')}, -1 for none; "
            f"got {found.dtype} {found.shape}"
        )
    if found.size:
        found = ids(found, features, lengths)
    if values_ is None:
        return _int64(found), None
    numbers = array(values_, "feature values")
    if numbers.shape != found.shape:
        raise ValueError(
            f"values of sparse features must have the shape of their ids, {found.shape}; got {numbers.shape}"
        )
    return _int64(found), np.ascontiguousarray(numbers, dtype=precision)
