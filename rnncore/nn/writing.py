"""What a network that writes says: of given targets, and by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.nn.beam import beam_search
from rnncore.nn.decoder import written
from rnncore.nn.decoding import Decoding


class Writes:
    """What an `EncoderDecoder` can be asked; any number of threads may ask at once."""

    def log_probabilities(
        self: Any, x: Any, targets: Any, lengths: Any = None, target_lengths: Any = None
    ) -> np.ndarray:
        """Return the log-probability of each symbol of given targets, and of the end, each after the right ones.

        Any number of threads may call at once.

        Returns
        -------
        float64 array (B, L + 1)
            Zero behind the end; the sum of a row is that of the whole target. L is the longest target's.
        """
        given = written(targets, target_lengths, self._sequences(x), self.symbols)
        with self._access.reading:
            _, known = self._read(x, lengths, False)
            return np.ascontiguousarray(self.decoder.judge(given, known).T)

    def loss(self: Any, x: Any, targets: Any, lengths: Any = None, target_lengths: Any = None) -> float:
        """Return the mean loss without training, smoothing and dropout: nats per symbol, the end counted."""
        found = self.log_probabilities(x, targets, lengths, target_lengths)
        return float(-found.sum() / self.batch_weight(targets, None, target_lengths))

    def attention_weights(
        self: Any, x: Any, targets: Any, lengths: Any = None, target_lengths: Any = None
    ) -> np.ndarray:
        """Return how much each step of the writing looks at each step of the source.

        Returns
        -------
        array (B, L + 1, S)
            Of each symbol, and of the end, weights of the source's steps whose sum is 1; zero past either end.

        Raises
        ------
        ValueError
            For a network without attention.
        """
        if self.decoder.attention is None:
            raise ValueError("this network has no attention: build it with attention='general'")
        given = written(targets, target_lengths, self._sequences(x), self.symbols)
        with self._access.reading:
            _, known = self._read(x, lengths, False)
            return np.ascontiguousarray(self.decoder.look(given, known).swapaxes(0, 1))

    def decoding(self: Any, x: Any, lengths: Any = None, beams: int = 1) -> Decoding:
        """Return a decoder that has read these sources and is about to write, ``beams`` rows side by side for each.

        Returns
        -------
        Decoding
            With ``step(ids)`` and ``select(rows)``, as `rnncore.nn.beam.beam_search` wants it.
        """
        beams = _checks.whole(beams, "beams")
        sequences = self._sequences(x)
        with self._access.reading:
            _, known = self._read(x, lengths, False)
            return Decoding(self.decoder, known, sequences, beams)

    def decode(
        self: Any,
        x: Any,
        lengths: Any = None,
        beam_size: int = 1,
        length_penalty: float = 0.0,
        max_length: Any = None,
        n_best: int = 1,
    ) -> tuple[list[Any], Any]:
        """Write: the most probable symbol at each step, or with a beam the outputs with the best scores.

        Parameters
        ----------
        x, lengths
            As for ``loss_and_grad``.
        beam_size : int
            Outputs that are looked at side by side; 1 takes the most probable symbol at each step.
        length_penalty : float
            Scores are log-probabilities divided by ((5 + symbols)/6)^length_penalty (Wu et al. 2016).
        max_length : int, or (B,) int array, optional
            Where an output ends if it does not end itself. Without, twice the source's steps and ten more; 100 of
            vectors.
        n_best : int
            How many outputs of each sequence, the best first; at most ``beam_size``.

        Returns
        -------
        outputs : list of B int64 arrays; for ``n_best`` > 1 of lists of them
            Symbols without the end.
        scores : float64 array (B,); for ``n_best`` > 1 a list of arrays
            Scores of the outputs.
        """
        steps, sequences = self.batch_shape(x)
        if max_length is None:
            sizes = np.full(sequences, steps) if lengths is None else _checks.lengths(lengths, steps, sequences)
            max_length = 100 if self.encoder is None else 2 * np.asarray(sizes) + 10
        decoding = self.decoding(x, lengths, beam_size)
        found = beam_search(decoding, sequences, beam_size, self.symbols, max_length, length_penalty, n_best)
        if n_best == 1:
            return [one[0].symbols for one in found], np.array([one[0].score for one in found])
        symbols = [[each.symbols for each in one] for one in found]
        return symbols, [np.array([each.score for each in one]) for one in found]
