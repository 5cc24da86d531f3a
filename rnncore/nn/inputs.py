"""What a network reads: segments side by side, each with its own kind of numbers, joined into one row per step."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from rnncore import _checks
from rnncore._core.memory import Saved
from rnncore._core.schedule import Schedule
from rnncore._core.tables import gather, scatter, values_gradient
from rnncore.nn.access import Access
from rnncore.nn.layout import Layout
from rnncore.nn.order import time_first
from rnncore.nn.recurrent import SYMBOLS, Recurrent
from rnncore.nn.touched import TouchedRows


class Segment(ABC):
    """What all segments have: a width, parameters, and a form that their arrays must have."""

    by_step: ClassVar[bool] = True  # their arrays begin with (T, B)

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in a row."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters: name -> shape."""
        return {}

    @abstractmethod
    def check(self, x: np.ndarray, lengths: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """Return a batch of this segment, ready for the kernels."""


@dataclass(frozen=True)
class Table(Segment):
    """What has a vector for each of so many symbols or features: its gradient has few rows."""

    symbols: int
    size: int

    def __post_init__(self) -> None:
        _checks.whole(self.symbols, "symbols")
        _checks.whole(self.size, "size")

    @property
    def width(self) -> int:
        """E."""
        return self.size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters: name -> shape."""
        return {"E": (self.symbols, self.size)}

    def initialise(self, table: np.ndarray, rng: np.random.Generator) -> None:
        """Draw first vectors, of length 1 in the mean."""
        table[...] = rng.normal(0, 1 / np.sqrt(self.size), table.shape)


class Embedding(Table):
    """A table of vectors, one per symbol, between ids and the first layer.

    Parameters
    ----------
    symbols : int
        V, the number of symbols.
    size : int
        E, the width of a vector.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.Embedding(1000, 64).size
    64
    """

    def check(self, x: np.ndarray, lengths: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """Return ids (T, B), or bags of ids (T, B, F) with -1 for none, as int64."""
        if x.dtype.kind not in "iu":
            raise ValueError(f"an embedding reads ids (whole numbers), got an array of {x.dtype}")
        return _checks.ids(x, self.symbols, lengths)


class Features(Table):
    """Sparse features, any number of them at each step, each with a value: Σ_f value_f·E[id_f].

    Of many thousand features few are there at a step, such as a word's form, its endings, its neighbours. What they
    would be as numbers, a row of mostly zeros times a matrix, is never built. Arrays are ids (T, B, F), -1 for none, or
    a tuple (ids, values) of two such arrays; values are ones without.

    Parameters
    ----------
    symbols : int
        N, the number of different features.
    size : int
        E, the width of a vector.

    Examples
    --------
    >>> import numpy as np, rnncore as rc
    >>> inputs = {"word": rc.Embedding(9, 4), "form": rc.Features(5000, 8)}
    >>> net = rc.Network(rc.Recurrent("gru", 12, 5), head=rc.Softmax(3), inputs=inputs)
    >>> ids, values = np.full((6, 2, 3), -1), np.ones((6, 2, 3))
    >>> ids[0, 0] = 17, 4711, 3
    >>> net.predict({"word": np.zeros((6, 2), int), "form": (ids, values)}).shape
    (6, 2, 3)
    """

    def check(
        self, x: np.ndarray, lengths: np.ndarray | None, dtype: np.dtype, values: np.ndarray | None = None
    ) -> Any:
        """Return ids (T, B, F) as int64, and their values of the network's precision, or None for ones."""
        return _checks.skip_features(x, values, self.symbols, x.shape[:2], lengths, dtype)


@dataclass(frozen=True)
class Numbers(Segment):
    """Numbers at every step, as they are: arrays (T, B, size).

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.Numbers(3).width
    3
    """

    size: int

    def __post_init__(self) -> None:
        _checks.whole(self.size, "size")

    @property
    def width(self) -> int:
        """Numbers at a step."""
        return self.size

    def check(self, x: np.ndarray, lengths: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """Return numbers (T, B, size) of the network's precision."""
        return _checks.dense(x, self.size, dtype)


@dataclass(frozen=True)
class SequenceVector(Segment):
    """A vector that holds for a whole sequence, seen at each of its steps: arrays (B, size).

    Examples
    --------
    A picture's features beside the words of its caption:

    >>> import numpy as np, rnncore as rc
    >>> inputs = {"word": rc.Embedding(9, 4), "picture": rc.SequenceVector(3)}
    >>> net = rc.Network(rc.Recurrent("gru", 7, 5), head=rc.Softmax(9), inputs=inputs)
    >>> net.predict({"word": np.zeros((6, 2), int), "picture": np.ones((2, 3))}).shape
    (6, 2, 9)
    """

    size: int
    by_step: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _checks.whole(self.size, "size")

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.size

    def check(self, x: np.ndarray, lengths: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """Return vectors (B, size) of the network's precision."""
        if x.ndim != 2 or x.shape[1] != self.size or x.dtype.kind not in "fiub":
            raise ValueError(
                f"vectors of whole sequences must be numbers (B, {self.size}), got {x.dtype} of shape {x.shape}"
            )
        return np.ascontiguousarray(x, dtype=dtype)


@dataclass(frozen=True)
class Letters(Segment):
    """A recurrent network over the letters of each word: its last outputs in each direction are the word's vector.

    Arrays are ids of letters (T, B, L), -1 after a word's last letter. A word that has no letters gets zeros. Each
    different word of a batch is read once.

    Parameters
    ----------
    symbols : int
        Number of different letters.
    hidden_size : int
        H of the layer over the letters.
    cell : str
        A name in `rnncore.CELLS`.
    bidirectional : bool
        Read from both ends: the vector has 2·H numbers.
    options : dict, optional
        Further arguments of that layer, see `rnncore.Recurrent`.

    References
    ----------
    Ling et al. 2015, Finding function in form; Lample et al. 2016, Neural architectures for named entity recognition.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.Letters(30, hidden_size=12).width
    24
    """

    symbols: int
    hidden_size: int
    cell: str = "lstm"
    bidirectional: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layer("float32", 0)

    def layer(self, dtype: Any, random_state: int) -> Recurrent:
        """Return a new layer over letters."""
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be a dict of a layer's arguments, got {self.options!r}")
        given = dict(self.options)
        taken = {"cell", "input_size", "hidden_size", "bidirectional", "dtype", "random_state", "batch_first"} & set(
            given
        )
        if taken:
            raise ValueError(f"options must leave out {', '.join(sorted(taken))}: these are said elsewhere")
        if given.get("merge", "concat") != "concat" or given.get("num_layers", 1) != 1:
            raise ValueError("letters are read by one layer whose directions stand side by side: leave options out")
        return Recurrent(
            self.cell,
            self.symbols,
            self.hidden_size,
            bidirectional=self.bidirectional,
            dtype=dtype,
            random_state=random_state,
            **given,
        )

    @property
    def width(self) -> int:
        """Numbers of a word's vector."""
        return self.layer("float32", 0).output_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters: name -> shape."""
        found = self.layer("float32", 0).layout.shapes
        return {name.removeprefix("layers.0."): shape for name, shape in found.items()}

    def check(self, x: np.ndarray, lengths: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """Return letters (T, B, L) as int64."""
        if x.dtype.kind not in "iu" or x.ndim != 3:
            raise ValueError(f"letters must be whole numbers (T, B, L), -1 for none; got {x.dtype} of shape {x.shape}")
        found = _checks.ids(x, self.symbols, lengths)
        if ((found[..., 1:] >= 0) & (found[..., :-1] < 0)).any():
            raise ValueError("letters must stand at the front of their rows: got -1 before a letter")
        return found


class Reader:
    """A network's segments on its parameters: from the caller's arrays to packed rows, and back.

    Parameters
    ----------
    segments : mapping of str to Segment
    named : bool
        Whether callers pass a dict; else a tuple in this order.
    """

    def __init__(self, segments: Mapping[str, Segment], named: bool) -> None:
        self.segments = dict(segments)
        self.named = named
        if not any(segment.by_step for segment in self.segments.values()):
            raise ValueError("inputs need a segment with steps, not vectors of whole sequences alone")
        self.columns: dict[str, slice] = {}
        self.width = 0
        for name, segment in self.segments.items():  # once: the letters' parts come from building their layer
            start, self.width = self.width, self.width + segment.width
            self.columns[name] = slice(start, self.width)
        #: all parameters: name -> shape
        self.shapes: dict[str, tuple[int, ...]] = {
            f"inputs.{name}.{own}": shape
            for name, segment in self.segments.items()
            for own, shape in segment.shapes().items()
        }
        self.layers: dict[str, Recurrent] = {}
        self._params: dict[str, np.ndarray] = {}
        self._grads: dict[str, np.ndarray] = {}
        self._starts: dict[str, int] = {}

    def tables(self, starts: Mapping[str, int]) -> dict[str, int]:
        """Return the parameters whose rows belong to symbols or features, and where they begin in theta."""
        names = [f"inputs.{name}.E" for name, part in self.segments.items() if isinstance(part, Table)]
        return {name: starts[name] for name in names}

    def initialise(self, params: Mapping[str, np.ndarray], rng: np.random.Generator) -> None:
        """Draw first values."""
        for name, segment in self.segments.items():
            if isinstance(segment, Table):
                segment.initialise(params[f"inputs.{name}.E"], rng)
            elif isinstance(segment, Letters):
                layer = segment.layer("float64", int(rng.integers(2**31)))
                for own, values in layer.params.items():
                    params[parameter_of(name, own)][...] = values

    def bind(
        self,
        params: Mapping[str, np.ndarray],
        grads: Mapping[str, np.ndarray],
        starts: Mapping[str, int],
        flat: tuple[np.ndarray, np.ndarray],
        seed: int,
        precision: str,
    ) -> None:
        """Take named views of a network's parameters and gradients, and the flat arrays they lie in."""
        self._params, self._grads, self._starts = dict(params), dict(grads), dict(starts)
        self._dtype, self._precision = flat[0].dtype, precision
        self._saved: dict[str, Saved] = {}
        self.layers = {}
        for name, segment in self.segments.items():
            if isinstance(segment, Letters):
                layer = segment.layer(precision, seed)
                first = starts[parameter_of(name, next(iter(layer.layout.shapes)))]
                where = slice(first, first + layer.layout.size)
                layer.move_to(flat[0][where], flat[1][where], TouchedRows(), Access())
                self.layers[name] = layer
                self._saved[name] = Saved()

    def held(self, theta: np.ndarray, layout: Layout, storage: str = "float32") -> Reader:
        """Return a reader like this one on parameters that will not change: the letters' weights are packed once."""
        twin = copy.copy(self)
        twin.bind(layout.views(theta), {}, layout.starts, (theta, np.empty_like(theta)), 0, self._precision)
        for layer in twin.layers.values():
            layer.hold(SYMBOLS, storage)
        return twin

    def check(self, x: Any, lengths: Any, dtype: np.dtype) -> tuple[dict[str, Any], int, int, Any]:
        """Return the segments' arrays, of features a pair of ids and values or None; T, B, and the lengths."""
        given = self._by_name(x)
        values = self._take_values(given)
        arrays = {name: _checks.array(value, f"inputs[{name!r}]") for name, value in given.items()}
        shapes = {
            name: array.shape[:2] for name, array in arrays.items() if self.segments[name].by_step and array.ndim >= 2
        }
        if not shapes or len(set(shapes.values())) > 1:
            raise ValueError(f"inputs must have the same steps and sequences (T, B), got {shapes or 'no such array'}")
        steps, sequences = next(iter(shapes.values()))
        sizes = None if lengths is None else _checks.lengths(lengths, steps, sequences)
        found: dict[str, Any] = {}
        for name, segment in self.segments.items():
            try:
                if isinstance(segment, Features):
                    found[name] = segment.check(arrays[name], sizes, dtype, values.get(name))
                else:
                    found[name] = segment.check(arrays[name], sizes, dtype)
            except ValueError as problem:
                raise ValueError(f"inputs[{name!r}]: {problem}") from None
            have = arrays[name].shape[0] if not segment.by_step else sequences
            if have != sequences or (segment.by_step and name not in shapes):
                raise ValueError(f"inputs[{name!r}] must be of {sequences} sequences, got shape {arrays[name].shape}")
        return found, steps, sequences, sizes

    def _by_name(self, x: Any) -> dict[str, Any]:
        names = list(self.segments)
        if self.named and isinstance(x, Mapping):
            if set(x) != set(names):
                raise ValueError(f"x must have the inputs {', '.join(names)}; got {', '.join(map(str, x))}")
            return {name: x[name] for name in names}
        if isinstance(x, tuple | list) and len(x) == len(names):
            return dict(zip(names, x, strict=True))
        form = "a dict" if self.named else "a tuple"
        raise ValueError(f"x must be {form} of {len(names)} arrays, {', '.join(names)}; got {type(x).__name__}")

    def _take_values(self, given: dict[str, Any]) -> dict[str, Any]:
        """Leave the ids alone of features that came with values; return these."""
        values = {}
        for name, part in given.items():
            if isinstance(self.segments[name], Features) and isinstance(part, tuple):
                if len(part) != 2:
                    raise ValueError(
                        f"inputs[{name!r}] must be ids or a tuple (ids, values), got a tuple of {len(part)}"
                    )
                given[name], values[name] = part
        return values

    def forward(
        self, arrays: Mapping[str, Any], schedule: Schedule, training: bool, options: tuple[int, int, int]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return packed rows (rows, D), and what `backward` needs. options: threads, and dropout's seed and step."""
        at = schedule.flat()
        rows = np.empty((schedule.rows, self.width), dtype=self._dtype)
        kept: dict[str, Any] = {"schedule": schedule, "at": at}
        for name, segment in self.segments.items():
            array, columns = arrays[name], self.columns[name]
            if not segment.by_step:
                rows[:, columns] = array[at % schedule.sequences]
                continue
            array, values = array if isinstance(segment, Features) else (array, None)
            packed = array.reshape(schedule.steps * schedule.sequences, -1)[at]
            if isinstance(segment, Table):
                if values is not None:
                    values = kept[f"values of {name}"] = values.reshape(schedule.steps * schedule.sequences, -1)[at]
                gather(self._params[f"inputs.{name}.E"], packed, rows, columns.start, values)
            elif isinstance(segment, Letters):
                vectors, packed = self._read_letters(name, packed, training, options)
                gather(vectors, packed, rows, columns.start)
            else:
                rows[:, columns] = packed
            kept[name] = packed
        return rows, kept

    def _read_letters(
        self, name: str, words: np.ndarray, training: bool, options: tuple[int, int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one vector for each different word, and each row's word (rows, 1), -1 where it has no letters."""
        layer = self.layers[name]
        first, kind = distinct_rows(words)
        sizes = (words[first] >= 0).sum(axis=1)
        some = np.flatnonzero(sizes)
        number = np.full(len(first), -1)
        number[some] = np.arange(len(some))
        if not len(some):
            return np.zeros((1, layer.output_size), dtype=layer.dtype), number[kind][:, None]
        letters = np.ascontiguousarray(np.maximum(words[first[some], : sizes.max()], 0).T)
        space = layer._workspace(SYMBOLS)
        saved = self._saved[name] if training else None
        lengths = Schedule(len(letters), len(some), sizes[some])
        space.forward(layer._theta, lengths, letters, None, saved, *options, None, False)
        last = space.final_states()[0]
        layer._idle[SYMBOLS].append(space)
        return np.ascontiguousarray(np.concatenate(list(last), axis=1)), number[kind][:, None]

    def backward(
        self, drows: np.ndarray, kept: Mapping[str, Any], touched: TouchedRows, accumulate: bool, threads: int
    ) -> Any:
        """From the rows' gradient to the parameters'; return that of each segment's numbers or values, None for ids."""
        schedule, at = kept["schedule"], kept["at"]
        found: dict[str, np.ndarray | None] = {}
        for name, segment in self.segments.items():
            columns = self.columns[name]
            found[name] = None
            if isinstance(segment, Table):
                table, ids, values = f"inputs.{name}.E", kept[name], kept.get(f"values of {name}")
                _clear(self._grads[table], self._starts[table], ids, touched, accumulate)
                scatter(drows, columns.start, ids, self._grads[table], threads, values)
                if values is not None:
                    dvalues = np.empty_like(values)
                    values_gradient(drows, columns.start, ids, self._params[table], dvalues)
                    found[name] = _by_step(dvalues, at, schedule)
            elif isinstance(segment, Letters):
                self._letters_back(name, drows, columns.start, kept[name], accumulate, threads)
            elif segment.by_step:
                found[name] = _by_step(drows[:, columns], at, schedule)
            else:
                dv = np.zeros((schedule.sequences, segment.width), dtype=drows.dtype)
                scatter(drows, columns.start, (at % schedule.sequences)[:, None], dv, threads)
                found[name] = dv
        return found if self.named else tuple(found.values())

    def _letters_back(
        self, name: str, drows: np.ndarray, column: int, kinds: np.ndarray, accumulate: bool, threads: int
    ) -> None:
        layer, saved = self.layers[name], self._saved[name]
        if not accumulate:
            layer._grad[...] = 0
        if kinds.max() < 0:
            return
        dvectors = np.zeros((int(kinds.max()) + 1, layer.output_size), dtype=drows.dtype)
        scatter(drows, column, kinds, dvectors, threads)
        units = len(layer.directions)
        shape = (units, len(dvectors))
        dstate = [np.zeros((*shape, width), dtype=drows.dtype) for width in layer.state_widths.values()]
        dstate[0][...] = dvectors.reshape(len(dvectors), units, -1).swapaxes(0, 1)
        dy = np.zeros((saved.schedule.steps, len(dvectors), layer.output_size), dtype=drows.dtype)
        space = layer._workspace(SYMBOLS)
        space.backward(layer._theta, layer._grad, saved, dy, dstate, True)
        layer._idle[SYMBOLS].append(space)

    def keep_bounds(self) -> None:
        """Put bounded parameters back within their bounds, but what is frozen."""
        for layer in self.layers.values():
            layer.keep_bounds()

    def with_vectors(self, x: Any, kept: Mapping[str, np.ndarray]) -> Any:
        """Return a batch in which the vectors of whole sequences that were left out are those kept."""
        if self.named and isinstance(x, Mapping):
            return {**kept} | {name: array for name, array in x.items() if array is not None or name not in kept}
        if isinstance(x, tuple | list) and len(x) == len(self.segments):
            return tuple(kept.get(name) if one is None else one for one, name in zip(x, self.segments, strict=True))
        return x

    def each(self, x: Any, change: Callable[[Any, bool], Any]) -> Any:
        """Return a batch with every segment's array changed: ``change(array, by_step)``. What does not fit stays."""

        def changed(array: Any, by_step: bool) -> Any:
            if isinstance(array, tuple):  # ids and values
                return tuple(change(part, by_step) for part in array)
            return change(array, by_step)

        if self.named and isinstance(x, Mapping):
            by_step = {name: part.by_step for name, part in self.segments.items()}
            return {name: changed(array, by_step.get(name, True)) for name, array in x.items()}
        if isinstance(x, tuple | list) and len(x) == len(self.segments):
            return tuple(changed(array, part.by_step) for array, part in zip(x, self.segments.values(), strict=True))
        return x

    def first_by_step(self, x: Any) -> Any:
        """Return the array of the first segment that has steps."""
        arrays = self._by_name(x)
        self._take_values(arrays)
        return next(arrays[name] for name, part in self.segments.items() if part.by_step)

    def time_first(self, x: Any) -> Any:
        """Return a batch (B, T, ...) as (T, B, ...), or the other way round; vectors of sequences stay."""
        return self.each(x, lambda array, by_step: time_first(array, "x") if by_step else array)


def _by_step(rows: np.ndarray, at: np.ndarray, schedule: Schedule) -> np.ndarray:
    """Return packed rows as the caller's array (T, B, width), zero past the ends."""
    found = np.zeros((schedule.steps * schedule.sequences, rows.shape[1]), dtype=rows.dtype)
    found[at] = rows
    return found.reshape(schedule.steps, schedule.sequences, rows.shape[1])


def parameter_of(segment: str, own: str) -> str:
    """Return the network's name of a parameter of the layer that reads a segment's letters.

    Examples
    --------
    >>> parameter_of("letters", "layers.0.fwd.W_xh")
    'inputs.letters.fwd.W_xh'
    """
    return f"inputs.{segment}.{own.removeprefix('layers.0.')}"


def _clear(grad: np.ndarray, start: int, ids: np.ndarray, touched: TouchedRows, accumulate: bool) -> None:
    """Zero the rows of a table's gradient that are not written anew, and note those that are: this batch's."""
    rows = np.unique(ids)
    rows = rows[rows >= 0]
    if accumulate:
        touched.add(start, rows)
        return
    before = touched.replace(start, rows)
    grad[slice(None) if before is None else before] = 0


def distinct_rows(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of rows that differ from one another, and which of these each row is like.

    Examples
    --------
    >>> first, kind = distinct_rows(np.array([[3, 1], [2, 2], [3, 1]]))
    >>> first[kind].tolist()
    [0, 1, 0]
    """
    if len(ids) == 1:  # a step of one stream
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    keys = ((ids + 2).astype(np.uint64) * _factors(ids.shape[1])).sum(axis=1, dtype=np.uint64)
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    if not np.array_equal(ids[first[kind]], ids):  # two kinds with one key
        _, first, kind = np.unique(ids, axis=0, return_index=True, return_inverse=True)
    return first, kind.reshape(-1)


@lru_cache(maxsize=16)
def _factors(count: int) -> np.ndarray:
    """Return odd numbers that rows of so many ids are told apart by."""
    return np.random.default_rng(0).integers(1, 2**63, count, dtype=np.uint64) | np.uint64(1)


def reader_of(inputs: Mapping[str, Segment] | Sequence[Segment] | None) -> Reader | None:
    """Return the reader of what a network was given as its inputs."""
    if inputs is None:
        return None
    named = isinstance(inputs, Mapping)
    found = dict(inputs) if isinstance(inputs, Mapping) else {str(n): part for n, part in enumerate(inputs)}
    for name, part in found.items():
        if not isinstance(part, Segment):
            raise ValueError(
                f"inputs must be parts such as rnncore.Embedding, Features, Numbers, SequenceVector or Letters; "
                f"got {part!r} for {name!r}"
            )
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"names of inputs must be words without a dot, got {name!r}")
    if not found:
        raise ValueError("inputs must hold at least one segment")
    return Reader(found, named)
