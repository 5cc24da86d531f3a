"""Sequences of numbers to what a network reads: scaled, gaps marked, what is no number embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.series import Series
from rnncore.estimators._pipeline import Corrupt, Pipeline
from rnncore.nn.inputs import Embedding, Numbers, Segment

__all__ = ["MISSING", "SCALES", "SeriesPipeline"]

SCALES = ("standard", "none")
MISSING = ("error", "mask")

_AT_ONCE = 1 << 16  # steps, of up to 64 numbers


@dataclass
class Encoded(Sequences):
    """What a `SeriesPipeline` makes of sequences, and the numbers that it was made of."""

    table: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))


def _slices(table: np.ndarray) -> Iterator[slice]:
    """Yield parts that take little memory beside the whole."""
    size = _AT_ONCE * 64 // max(table.shape[1], 64) or 1
    return (slice(start, start + size) for start in range(0, len(table), size))


class SeriesPipeline(Pipeline):
    """Numbers at every step.

    Parameters
    ----------
    scale : "standard" or "none"
        Subtract each column's mean over all training steps, and divide by its standard deviation.
    missing : "error" or "mask"
        What NaN is: an error; or a number that is not there, read as the column's mean, beside a column that says so
        and one that says how long ago there was one.
    noise : float
        Standard deviation of what is added to scaled numbers while training.
    embedding_size : int or None
        Numbers for each column of kinds; None: as many as half the kinds, at most 16.
    dtype : str

    Examples
    --------
    >>> from rnncore.data.series import series_of
    >>> pipeline = SeriesPipeline()
    >>> series = series_of([np.array([1.0, 3.0]), np.array([2.0])])
    >>> pipeline.fit(series)
    >>> pipeline.encode(series).x.round(2).tolist(), pipeline.input_size
    ([[-1.2200000286102295], [1.2200000286102295], [0.0]], 1)
    """

    def __init__(
        self,
        scale: str = "standard",
        missing: str = "error",
        noise: float = 0.0,
        embedding_size: int | None = None,
        dtype: Any = "float32",
    ) -> None:
        self._scale = scale
        self._missing = missing
        self._noise = noise
        self._embedding_size = embedding_size
        self.dtype = _checks.precision(dtype)[0]
        self.names: list[str] = []
        self.mean = self.deviation = np.empty(0)
        self.gappy: list[int] = []  # columns in which something was missing
        self.tick: float | None = None  # mean time between steps; None: no times were given
        self.gap = 1.0  # mean time between what is there, where something is missing
        self.kind_names: list[str] = []
        self.kinds: list[list[Any]] = []
        self.steps: int | None = None  # of the training data, where they were an array (S, T)

    def fit(self, sequences: Series) -> None:
        """Learn means and deviations, which columns have gaps, and which kinds there are."""
        self.names = list(map(str, sequences.names))
        self.steps = sequences.steps
        self._check_numbers(sequences)
        table = sequences.table
        self.gappy = [column for column in range(table.shape[1]) if np.isnan(table[:, column]).any()]
        self.mean, self.deviation = _moments(table)
        if self._scale == "none":
            self.mean, self.deviation = np.zeros_like(self.mean), np.ones_like(self.deviation)
        if sequences.times is not None:
            between = _since(np.ones(len(table), dtype=bool), sequences)
            self.tick = float(between[between > 0].mean()) if (between > 0).any() else 1.0
        self.kind_names = list(map(str, sequences.kind_names))
        self.kinds = []
        for column in range(len(self.kind_names)):
            assert sequences.kinds is not None
            found = {str(kind) for kind in sequences.kinds[:, column].tolist() if kind is not None}
            self.kinds.append(sorted(found))
        self._lay_out()

    def _check_numbers(self, series: Series) -> None:
        """Refuse numbers that are none, by sequence and step."""
        table = series.table
        for some in _slices(table):
            part = table[some]
            bad = ~np.isfinite(part) if self._missing == "error" else np.isinf(part)
            if bad.any():
                row, column = np.unravel_index(int(bad.argmax()), bad.shape)
                value = "NaN" if np.isnan(part[row, column]) else "infinity (inf)"
                where = series.place(some.start + int(row)) + (
                    f", column {series.names[column]}" if table.shape[1] > 1 else ""
                )
                hint = "; missing='mask' takes it for a number that is not there" if value == "NaN" else ""
                raise DataError(f"{where}: expected a finite number, got {value}{hint}")

    def _lay_out(self) -> None:
        numbers = len(self.mean) + 2 * len(self.gappy) + (self.tick is not None)
        self.segments = None
        self.input_size = numbers
        if self.kinds:
            segments: dict[str, Segment] = {"numbers": Numbers(numbers)} if numbers else {}
            for name, kinds in zip(self.kind_names, self.kinds, strict=True):
                size = self._embedding_size or min(16, (len(kinds) + 2) // 2)
                segments["of " + name.replace(".", " ")] = Embedding(len(kinds) + 1, size)
            self.segments = segments
            self.input_size = sum(part.width for part in segments.values())
        self._numbers = numbers

    def encode(self, sequences: Series) -> Sequences:
        """Lay numbers, what is known of gaps, and the kinds' ids side by side, in the network's precision."""
        self._check_alike(sequences)
        self._check_numbers(sequences)
        table = sequences.table
        width = table.shape[1]
        x = np.empty((len(table), self._numbers + len(self.kinds)), dtype=self.dtype)
        for some in _slices(table):
            x[some, :width] = self._scaled(table[some])
        missing = np.isnan(table[:, self.gappy])
        for place in range(len(self.gappy)):
            at = width + 2 * place
            x[:, at] = missing[:, place]
            since = _since(~missing[:, place], sequences) / (self.tick or 1.0)
            x[:, at + 1] = np.log1p(since)
        if self.tick is not None:
            between = _since(np.ones(len(table), dtype=bool), sequences)
            x[:, self._numbers - 1] = np.log1p(between / self.tick)
        for place, kinds in enumerate(self.kinds):
            ids = {kind: number for number, kind in enumerate(kinds, start=1)}
            assert sequences.kinds is not None
            x[:, self._numbers + place] = [ids.get(str(kind), 0) for kind in sequences.kinds[:, place].tolist()]
        if not all(np.isfinite(x[some]).all() for some in _slices(x)):
            raise DataError(f"scaled numbers are too large for {self.dtype}: set dtype='float64'")
        return Encoded(x, None, sequences.lengths, table=table)

    def _scaled(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers less their columns' means, in deviations; 0 where one is missing."""
        with np.errstate(over="ignore"):
            found: np.ndarray = ((numbers - self.mean) / self.deviation).astype(self.dtype)
        _without_nan(found)
        return found

    def _check_alike(self, series: Series) -> None:
        """Refuse other columns than those of the training data."""
        width = len(self.mean)
        if series.table.shape[1] != width:
            raise DataError(
                f"sequences have {series.table.shape[1]} numbers a step, and those of the training data {width}"
            )
        if list(map(str, series.kind_names)) != self.kind_names:
            raise DataError(
                f"expected the columns {', '.join(self.kind_names) or '(none)'} beside numbers, as in the training "
                f"data; got {', '.join(map(str, series.kind_names)) or '(none)'}"
            )
        if (series.times is None) != (self.tick is None):
            had = "no times" if self.tick is None else "times of all steps"
            raise DataError(f"the training data had {had}: so must these")

    def collate(self, x: np.ndarray, values: np.ndarray | None = None) -> Any:
        """Return numbers, or these and ids by segment."""
        if self.segments is None:
            return x
        parts = {"numbers": np.ascontiguousarray(x[..., : self._numbers])} if self._numbers else {}
        names = [name for name in self.segments if name != "numbers"]
        return parts | {name: x[..., self._numbers + n].astype(np.int64) for n, name in enumerate(names)}

    def augment(self, data: Sequences) -> Corrupt | None:
        """Return what adds noise to an epoch's numbers."""
        if not self._noise:
            return None
        assert isinstance(data, Encoded)
        width, noise, table = len(self.mean), self._noise, data.table

        def corrupt(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            """Write scaled numbers and noise over the last epoch's: a copy would be as large as the data."""
            for some in _slices(table):
                part = x[some, :width]
                part[:] = self._scaled(table[some])
                drawn: Any = rng.standard_normal(part.shape, dtype=x.dtype.type)
                part += drawn * x.dtype.type(noise)
            return x

        return corrupt

    @property
    def inputs(self) -> str | dict[str, str]:
        """What the network's x is, as ``Network.to_onnx`` names it."""
        return "numbers" if self.segments is None else {name: "ids" for name in self.segments if name != "numbers"}

    def to_json(self) -> dict[str, Any]:
        """Describe what was learned."""
        return {
            "series": {
                "names": self.names,
                "mean": self.mean.tolist(),
                "deviation": self.deviation.tolist(),
                "gappy": self.gappy,
                "tick": self.tick,
                "steps": self.steps,
                "kind_names": self.kind_names,
                "kinds": self.kinds,
            }
        }

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        own = header["series"]
        self.names, self.kind_names, self.kinds = own["names"], own["kind_names"], own["kinds"]
        self.mean, self.deviation = (np.array(own[name], dtype=np.float64) for name in ("mean", "deviation"))
        self.gappy, self.tick = [int(column) for column in own["gappy"]], own["tick"]
        self.steps = own["steps"]
        self._lay_out()


def _moments(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's mean and standard deviation over what is there, with little memory; 1 for constants."""
    width = table.shape[1]
    count, total = np.zeros(width), np.zeros(width)
    for some in _slices(table):
        part = table[some].astype(np.float64)
        count += len(part) - _without_nan(part)
        total += part.sum(axis=0)
    mean = total / np.maximum(count, 1)
    square = np.zeros(width)
    for some in _slices(table):
        part = table[some] - mean
        _without_nan(part)
        square += (part**2).sum(axis=0)
    deviation = np.sqrt(square / np.maximum(count, 1))
    size = np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    return mean, np.where(deviation > 1e-12 * size, deviation, 1.0)


def _without_nan(table: np.ndarray) -> np.ndarray | int:
    """Put 0 where there is NaN; return how often, by column."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(table.sum()):  # faster than to look at each
            return 0
    missing = np.isnan(table)
    table[missing] = 0
    found: np.ndarray = missing.sum(axis=0)
    return found


def _since(there: np.ndarray, series: Series) -> np.ndarray:
    """Return how long before each step something was there: in steps or, where there are times, in time; 0 if never."""
    lengths = series.lengths
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = np.arange(len(there))
    last = np.maximum.accumulate(np.where(there, at, -1))
    before = np.concatenate([[-1], last[:-1]])
    known = before >= starts
    stamps = at.astype(np.float64) if series.times is None else series.times
    return np.where(known, stamps - stamps[np.maximum(before, 0)], 0.0)
