"""Sounds or feature vectors, scaled and perhaps several steps put together: what a Transcriber's network reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rnncore import _checks
from rnncore.data.audio import log_mel, n_steps
from rnncore.data.encoders import FeatureEncoder, sequence_lengths
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._pipeline import Pipeline

__all__ = ["FramePipeline", "Steps", "check_sound"]

_MOST_SOUNDS = 1000  # that features are scaled by


class Steps(NamedTuple):
    """How long sequences become: as features, where they are sounds, and with one of `every` steps left.

    Examples
    --------
    >>> steps = Steps({"sample_rate": 8000}, every=3)
    >>> steps.of_features(np.array([4000])).tolist(), steps.left(np.array([4000])).tolist()
    ([48], [16])
    """

    sound: Mapping[str, Any] | None = None
    every: int = 1

    def of_features(self, lengths: np.ndarray) -> np.ndarray:
        """Return the steps of sequences of these lengths as features."""
        return lengths if self.sound is None else n_steps(lengths, **self.sound)

    def left(self, lengths: np.ndarray) -> np.ndarray:
        """Return how many of them the network reads."""
        return -(-self.of_features(lengths) // self.every)


def check_sound(sample_rate: Any, sound: Any) -> None:
    """Raise unless `log_mel` takes these; `sound` may be None, and so may both."""
    known = [name for name in inspect.signature(log_mel).parameters if name not in ("samples", "sample_rate")]
    if sound is not None and (not isinstance(sound, Mapping) or set(sound) - set(known)):
        raise ValueError(f"sound: expected None or a dict of some of {', '.join(known)}; got {sound!r}")
    if sample_rate is not None:
        log_mel(np.zeros(1), sample_rate, **(sound or {}))


class FramePipeline(Pipeline):
    """Sequences of feature vectors (T, D), scaled to mean 0 and standard deviation 1 over all steps of a training.

    Of sounds (N,), the features are their log-mel energies; a thousand of them are enough to scale by.

    Step i of what the network reads are the `stack` steps of the input from i·every on, side by side; past the end the
    last one is repeated. So there are ⌈T / every⌉.

    Parameters
    ----------
    stack, every : int
    dtype : str
    sound : dict, optional
        Options of `rnncore.audio.log_mel`, where sequences are sounds.

    Examples
    --------
    >>> pipeline = FramePipeline(stack=2, every=2)
    >>> pipeline.fit([np.array([[0.0], [2.0], [4.0]])])
    >>> pipeline.encode([np.array([[2.0], [2.0], [2.0]])]).x.tolist(), pipeline.input_size
    ([[0.0, 0.0], [0.0, 0.0]], 2)
    """

    def __init__(
        self, stack: int = 1, every: int = 1, dtype: Any = "float32", sound: Mapping[str, Any] | None = None
    ) -> None:
        self.stack, self.every, self.dtype = stack, every, _checks.precision(dtype)[0].name
        self.steps = Steps(sound, every)
        self._features = FeatureEncoder()
        self._mean = self._factor = np.zeros(0)

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """Numbers at each step."""
        return self.stack * self._features.n_features

    def fit(self, sequences: Any) -> None:
        """Learn how many features there are, and how large."""
        if self.steps.sound is not None:
            sequences = sequences[:: -(-len(sequences) // _MOST_SOUNDS)]
        sequences = self.features(sequences)
        shape = np.shape(sequences[0])
        if len(shape) != 2 or not shape[1]:
            sounds = ": for sounds, say how many samples a second has, sample_rate" if len(shape) == 1 else ""
            raise DataError(f"sequence 0: expected a (T, D) array of features, got shape {shape}{sounds}")
        flat = self._features.fit(sequences).encode(sequences)
        with np.errstate(over="ignore", invalid="ignore"):
            self._mean, spread = flat.mean(axis=0), flat.std(axis=0)
        if not np.isfinite(spread).all():
            raise DataError("features are too large to be scaled: divide them by something first")
        self._factor = 1 / np.where(spread > 0, spread, 1.0)

    def encode(self, sequences: Any) -> Sequences:
        """Scale the features and put steps together."""
        given = self.steps.of_features(sequence_lengths(sequences, "sequences"))
        lengths = self.steps.left(sequence_lengths(sequences, "sequences"))
        scaled = (self._features.encode(self.features(sequences)) - self._mean) * self._factor
        with np.errstate(over="ignore"):
            flat = scaled.astype(self.dtype)
        if not np.isfinite(flat).all():
            raise DataError(f"features are too large for {np.dtype(self.dtype).name} beside those of the training data")
        if self.stack == self.every == 1:
            return Sequences(flat, None, lengths)
        ends = np.cumsum(given)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        first = np.repeat(ends - given, lengths) + self.every * within
        places = np.minimum(first[:, None] + np.arange(self.stack), np.repeat(ends - 1, lengths)[:, None])
        return Sequences(flat[places].reshape(len(places), self.input_size), None, lengths)

    def features(self, sequences: Any) -> Any:
        """Return features as they are, of sounds their log-mel energies."""
        sound = self.steps.sound
        if sound is None:
            return sequences
        found = []
        for number, sequence in enumerate(sequences):
            try:
                found.append(log_mel(sequence, **sound))
            except DataError as problem:
                raise DataError(f"sequence {number}: {problem}") from None
        return found

    def to_json(self) -> dict[str, Any]:
        """Describe what was learned."""
        scale = {"mean": self._mean.tolist(), "factor": self._factor.tolist()}
        return {"encoder": self._features.to_json(), "scale": scale}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self._features = FeatureEncoder.from_json(header["encoder"])
        scale = header["scale"]
        self._mean, self._factor = (np.array(scale[name], dtype=np.float64) for name in ("mean", "factor"))
        if not self._mean.shape == self._factor.shape == (self._features.n_features,):
            raise ValueError(f"expected {self._features.n_features} numbers to scale features by")
