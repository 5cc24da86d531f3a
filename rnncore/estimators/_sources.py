"""What a caption is about: vectors, classes, or sequences of vectors, scaled."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.data.encoders import FeatureEncoder, LabelEncoder, is_token
from rnncore.data.inputs import values_of
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._pipeline import Pipeline

__all__ = ["SourcePipeline", "sources_of"]

_KINDS = {"vectors": "vectors (N, V)", "classes": "classes", "sequences": "sequences of vectors (T, D)"}


def sources_of(given: Any) -> list[Any]:
    """Return what captions are about as a list of sequences: vectors and classes as sequences of one step.

    Raises
    ------
    DataError
        If it is neither an array (N, V) or (N, T, D), nor a list of vectors, of sequences of vectors, or of classes.

    Examples
    --------
    >>> sources_of(["cat", "dog"]), [part.shape for part in sources_of(np.zeros((2, 3)))]
    ([['cat'], ['dog']], [(1, 3), (1, 3)])
    """
    if hasattr(given, "columns") and hasattr(given, "to_numpy") and len(given.columns) > 1:
        given = given.to_numpy()
    elif isinstance(given, str | bytes):
        raise DataError(f"vectors: expected an array (N, V), or a list of one source for each sentence, got {given!r}")
    found = list(given) if isinstance(given, np.ndarray) and given.ndim > 1 else values_of(given, "vectors")
    if found and is_token(found[0]):
        wrong = next((i for i, one in enumerate(found) if not is_token(one)), None)
        if wrong is not None:
            raise DataError(
                f"vectors[{wrong}]: expected a class (str or int) as the first one is, got {found[wrong]!r}"
            )
        return [[one] for one in found]
    return [_array(one, number) for number, one in enumerate(found)]


def _array(one: Any, number: int) -> np.ndarray:
    try:
        array = np.asarray(one)
        if array.dtype.kind not in "fiub":
            array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"vectors[{number}]: expected numbers, got {type(one).__name__}") from None
    if array.ndim not in (1, 2):
        raise DataError(
            f"vectors[{number}]: expected a vector (V,), a sequence of vectors (T, D) or a class, got an array "
            f"of shape {array.shape}"
        )
    return array if array.ndim == 2 else array[None]


class SourcePipeline(Pipeline):
    """Vectors scaled to mean 0 and standard deviation 1 in each of their numbers; classes as one 1 among zeros.

    Parameters
    ----------
    dtype : str

    Attributes
    ----------
    kind : "vectors", "classes" or "sequences"
    input_size : int
        Numbers of a vector; of classes how many there are.

    Examples
    --------
    >>> pipeline = SourcePipeline()
    >>> pipeline.fit(sources_of(np.array([[0.0, 5.0], [2.0, 5.0]])))
    >>> pipeline.encode(sources_of(np.array([[2.0, 5.0]]))).x.tolist(), pipeline.kind
    ([[1.0, 0.0]], 'vectors')
    """

    def __init__(self, dtype: Any = "float32") -> None:
        self.dtype = _checks.precision(dtype)[0].name
        self.kind = ""
        self.classes = LabelEncoder()
        self.features = FeatureEncoder()
        self._mean = self._factor = np.zeros(0)

    @property
    def one_vector(self) -> bool:
        """Whether each source is one vector."""
        return self.kind != "sequences"

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """Numbers of a vector."""
        return len(self.classes.classes) if self.kind == "classes" else self.features.n_features

    def fit(self, sequences: Any) -> None:
        """Learn of what kind the sources are, and how large their numbers."""
        self.kind = _kind_of(sequences)
        if self.kind == "classes":
            self.classes.fit(sequences)
            return
        self.features.n_features = sequences[0].shape[1]
        if not self.input_size:
            raise DataError("vectors[0]: expected at least one number, got none")
        rows = self._rows(sequences)
        with np.errstate(over="ignore", invalid="ignore"):
            self._mean, spread = rows.mean(axis=0), rows.std(axis=0)
        if not np.isfinite(spread).all():
            raise DataError("the vectors' numbers are too large to be scaled: divide them by something first")
        self._factor = 1 / np.where(spread > 0, spread, 1.0)

    def encode(self, sequences: Any) -> Sequences:
        """Return the vectors of all sources, scaled."""
        kind = _kind_of(sequences, self.kind)
        if kind != self.kind:
            raise DataError(f"expected {_KINDS[self.kind]} as in training, got {_KINDS[kind]}")
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        if self.kind == "classes":
            ids = self.classes.encode(sequences, -1)
            if len(ids) and ids.min() < 0:
                row = int(ids.argmin())
                raise DataError(
                    f"vectors[{row}]: {sequences[row][0]!r} is not one of the {self.input_size} classes of the "
                    f"training data"
                )
            x = np.zeros((len(ids), self.input_size), dtype=self.dtype)
            x[np.arange(len(ids)), ids] = 1.0
            return Sequences(x, None, lengths)
        with np.errstate(over="ignore"):
            x = ((self._rows(sequences) - self._mean) * self._factor).astype(self.dtype)
        if not np.isfinite(x).all():
            row = int(np.searchsorted(np.cumsum(lengths), np.argwhere(~np.isfinite(x))[0, 0], side="right"))
            raise DataError(f"vectors[{row}]: its numbers are too large beside those of the training data")
        return Sequences(x, None, lengths)

    def collate(self, x: np.ndarray, values: np.ndarray | None = None) -> Any:
        """Return vectors (B, V), or sequences of them (T, B, D)."""
        return x[0] if self.one_vector else x

    def _rows(self, sequences: Any) -> np.ndarray:
        """Return all vectors (N, V) float64; one of another width, or that is no number, is named."""
        for number, one in enumerate(sequences):
            if one.shape[1] != self.input_size:
                raise DataError(f"vectors[{number}]: expected {self.input_size} numbers, got {one.shape[1]}")
        rows = np.concatenate([np.zeros((0, self.input_size)), *sequences])
        if not np.isfinite(rows).all():
            bad = int(np.argwhere(~np.isfinite(rows))[0, 0])
            number = int(np.searchsorted(np.cumsum([len(one) for one in sequences]), bad, side="right"))
            raise DataError(f"vectors[{number}] holds NaN or infinite values; replace them first")
        return rows

    def to_json(self) -> dict[str, Any]:
        """Describe what was learned."""
        if self.kind == "classes":
            return {"source": self.kind, "source_classes": self.classes.classes}
        scale = {"mean": self._mean.tolist(), "factor": self._factor.tolist()}
        return {"source": self.kind, "vector_size": self.input_size, "scale": scale}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self.kind = header["source"]
        if self.kind not in _KINDS:
            raise ValueError(f"expected a source of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.kind == "classes":
            self.classes = LabelEncoder(header["source_classes"])
            return
        self.features.n_features = int(header["vector_size"])
        scale = header["scale"]
        self._mean, self._factor = (np.array(scale[name], dtype=np.float64) for name in ("mean", "factor"))
        if not self._mean.shape == self._factor.shape == (self.input_size,):
            raise ValueError(f"expected {self.input_size} numbers to scale vectors by")


def _kind_of(sequences: Any, usual: str = "vectors") -> str:
    """Return what the sources are; `usual` where sequences of one step each, or none, might be either."""
    if not len(sequences):
        return usual
    if not isinstance(sequences[0], np.ndarray):
        return "classes"
    if all(len(one) == 1 for one in sequences):
        return "vectors" if usual == "classes" else usual
    return "sequences"
