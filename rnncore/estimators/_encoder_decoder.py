"""Base of the estimators that read something and write a text of a length of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.estimators._examples import with_steps
from rnncore.estimators._settings import check_flag
from rnncore.estimators._written import WRITTEN_UNITS, Search, WrittenTask
from rnncore.estimators.base import Specification, recurrent_layers
from rnncore.estimators.sequences import SequenceEstimator, named
from rnncore.nn.attention import SCORES
from rnncore.nn.encoder_decoder import CONDITIONINGS, EncoderDecoder
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["EncoderDecoderEstimator"]


@dataclass(eq=False, repr=False)
class EncoderDecoderEstimator(SequenceEstimator):
    """Base of the estimators that read something and write a text of a length of its own.

    A subclass is a dataclass whose fields are its own parameters, and overrides `_make_pipeline`, whose ``one_vector``
    says whether there is an encoder.

    Parameters
    ----------
    hidden_size : int
        Units of the decoder, the layers that write.
    encoder_size : int or None
        Units of the layers that read, in each direction. None: `hidden_size`, or half of it in each of two directions.
    bidirectional : bool
        Whether sequences are read from both ends.
    embedding_size : int or None
        Size of the vectors of symbols. None: `hidden_size`.
    attention : {"general", "dot", "scaled_dot"} or None
        How each step of the writing looks at all steps that were read (Luong, Pham and Manning 2015), see
        `rnncore.Attention`; where a vector is all that was read there is nothing to look at.
    conditioning : {"state", "input", "both"} or None
        What the vector, or the final state of what was read, is to the layers that write: makes their first state, or
        stands beside each symbol, or both. None: nothing, which leaves the attention alone.
    label_smoothing : float
        Share of each symbol's probability that training gives to all alike.
    min_count : int
        Symbols rarer than this in the training data are read as an unknown one, which is never written.
    lowercase : bool
        Read capitals of what is to be written as small letters.
    beam_size : int
        How many texts are followed side by side in predictions; 1 takes the most probable symbol at each step.
    length_penalty : float
        Texts are ranked by their log-probability over ((5 + symbols)/6)^length_penalty (Wu et al. 2016).
    """

    min_count: int = 1
    lowercase: bool = False
    encoder_size: int | None = None
    attention: str | None = "general"
    conditioning: str | None = "state"
    label_smoothing: float = 0.0
    beam_size: int = 1
    length_penalty: float = 0.0

    cell: str = "gru"
    hidden_size: int = 128
    embedding_size: int | None = 32
    learning_rate: float = 0.005
    clip_norm: float | None = 1.0
    dropout: float = 0.1
    recurrent_dropout: float = 0.0

    @staticmethod
    def _build_network(of: Specification) -> EncoderDecoder:  # type: ignore[override]
        """Make an encoder and decoder of the settings and of what pipeline and task have learned of the data."""
        settings, pipeline = of.settings, of.pipeline
        conditioning, beside = settings.conditioning, 0
        encoder: Recurrent | None = None
        reads: dict[str, Any] = {"vector_size": pipeline.input_size, "conditioning": conditioning or "state"}
        if pipeline.one_vector:  # type: ignore[attr-defined]
            width = pipeline.input_size
        else:
            ways = 2 if settings.bidirectional else 1
            size = settings.encoder_size or -(-settings.hidden_size // ways)
            encoder = recurrent_layers(of, hidden_size=size, bidirectional=settings.bidirectional)
            width = ways * sum(encoder.state_widths.values())
            reads = {"embedding": pipeline.embedding, "inputs": pipeline.segments, "attention": settings.attention}
            reads["conditioning"] = conditioning
        if conditioning in ("input", "both"):
            beside = width
        embedding = settings.embedding_size or settings.hidden_size
        decoder = recurrent_layers(of, input_size=embedding + beside)
        return EncoderDecoder(
            encoder, decoder, of.task.n_symbols, label_smoothing=settings.label_smoothing, random_state=of.seed, **reads
        )

    @classmethod
    def _sizes(cls, estimator: Any, header: dict[str, Any]) -> dict[str, int]:
        sizes = super()._sizes(estimator, header) | {"symbols": len(header["symbols"])}
        return sizes | {"encoder_size": (estimator.encoder_size or 0) if header.get("source") == "sequences" else 0}

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("attention", self.attention, (None, *SCORES))
        check_choice("conditioning", self.conditioning, (None, *CONDITIONINGS))
        if self.attention is None and self.conditioning is None:
            raise ValueError(
                "attention=None and conditioning=None leave the decoder without anything of what was read: set one of "
                "them"
            )
        if self.encoder_size is not None:
            check_count("encoder_size", self.encoder_size, 1)
        check_count("min_count", self.min_count, 1)
        check_flag("lowercase", self.lowercase)
        check_number("label_smoothing", self.label_smoothing, "[0, 1)", 0.1)
        self._search()
        unit = getattr(self, "unit", None)
        if unit is not None:
            check_choice("unit", unit, WRITTEN_UNITS)

    def _search(
        self, beam_size: Any = None, length_penalty: Any = None, max_length: Any = None, n_best: int = 1
    ) -> Search:
        """Return how to search: as the settings say, where nobody says otherwise."""
        check_count("beam_size", self.beam_size, 1)
        beam_size = max(self.beam_size, n_best) if beam_size is None else beam_size
        length_penalty = self.length_penalty if length_penalty is None else length_penalty
        check_count("beam_size", beam_size, 1)
        check_number("length_penalty", length_penalty, "[0, inf)", 0.6)
        check_count("n_best", n_best, 1)
        if max_length is not None:
            check_count("max_length", max_length, 0)
        if n_best > beam_size:
            raise ValueError(f"n_best={n_best} texts need as wide a beam, got beam_size={beam_size}")
        return Search(int(beam_size), float(length_penalty), max_length, int(n_best))

    # -- applying -----------------------------------------------------------------------------------------------------

    @property
    def _written(self) -> WrittenTask:
        self._check_fitted()
        task = self.specification_.task
        assert isinstance(task, WrittenTask)
        return task

    @property
    def symbols_(self) -> list[Any]:
        """The symbols that can be written, by falling frequency in the training data."""
        return list(self._written.table.symbols)

    @named
    def predict(
        self,
        X: Any,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
    ) -> Any:
        """Write the best text for each source.

        Parameters
        ----------
        X : list or array
            Sources as for `fit`.
        beam_size, length_penalty : optional
            Instead of the settings.
        max_length : int, optional
            How many symbols a text may have. None: half as many again as the longest in training, and ten more.

        Returns
        -------
        list of str, or of lists of symbols
        """
        how = self._search(beam_size, length_penalty, max_length)
        data = self._to_read(X)
        return self._written.predict(self.network_, data, self.specification_.pipeline.collate, how)

    @named
    def predict_n_best(
        self,
        X: Any,
        n_best: int = 5,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
    ) -> list[list[tuple[Any, float]]]:
        """Return the best texts for each source, the best first, each with its log-probability.

        Parameters
        ----------
        X : list or array
        n_best : int
            How many; fewer where there are no more.
        beam_size : int, optional
            None: the setting, or `n_best` where that is more.
        length_penalty, max_length : optional
            As for `predict`.

        Returns
        -------
        list of lists of (text, log-probability)
        """
        how = self._search(beam_size, length_penalty, max_length, n_best)
        found = self._written.search(self.network_, self._to_read(X), self.specification_.pipeline.collate, how)
        decode = self._written.table.decode
        return [[(decode(one.symbols.tolist()), one.log_probability) for one in several] for several in found]

    def _to_read(self, X: Any) -> Sequences:
        sequences = self._sequences(X)
        kept = with_steps(sequences)
        if kept is not None:
            bad = int(np.setdiff1d(np.arange(len(sequences)), kept)[0])
            raise DataError(f"{self._nouns.sequence} {bad} is empty: there is nothing to write about")
        return self._encoded(sequences)

    def _judged_data(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Sequences, np.ndarray | None]:
        data = self._written.examples(X, y, self._nouns).weighed(sample_weight, self._nouns)
        return self._encoded(data.sequences, data.targets, unseen=-1), data.weights

    @named
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of texts that are exactly right, each with its source's weight."""
        data, weights = self._judged_data(X, y, sample_weight)
        return self._written.score(self.network_, data, self.specification_.pipeline.collate, weights, self._search())

    @named
    def evaluate(
        self, X: Any, y: Any, beam_size: int | None = None, length_penalty: float | None = None
    ) -> dict[str, Any]:
        """Measure what is written, and how probable what should be written is.

        Returns
        -------
        dict
            ``exact``, the share of texts that are right; ``error_rate``, how many symbols must be put in, left out or
            changed for each that there should be; ``nats`` per symbol of the texts that should be written, ends counted
            (None where all have symbols never seen); ``n``, how many texts.
        """
        how = self._search(beam_size, length_penalty)
        data, _ = self._judged_data(X, y)
        collate = self.specification_.pipeline.collate
        edits, symbols = self._written.judged(self.network_, data, collate, how)
        losses, counts = self._written.nats(self.network_, data, collate)
        return {
            "exact": float((edits == 0).mean()),
            "error_rate": float(edits.sum() / max(int(symbols.sum()), 1)),
            "nats": float(losses.sum() / counts.sum()) if counts.any() else None,
            "n": len(data),
        }

    @named
    def error_rate(self, X: Any, y: Any) -> float:
        """Return how many symbols must be put in, left out or changed for each that there should be."""
        return float(self.evaluate(X, y)["error_rate"])

    @named
    def attention_weights(self, X: Any, y: Any = None) -> list[np.ndarray]:
        """Return where each symbol of the texts looked, (L + 1, T) for each source: the last row is the end's.

        Parameters
        ----------
        X : list or array
        y : list, optional
            What is written. None: what `predict` gives.

        Raises
        ------
        ValueError
            Without attention.
        """
        self._check_fitted()
        network: Any = self.network_
        if network.decoder.attention is None:
            raise ValueError("there is no attention to show: fit sequences, with attention='general'")
        data, _ = self._judged_data(X, self.predict(X) if y is None else y)
        found: list[np.ndarray] = [np.zeros((0, 0))] * len(data)
        for batch, rows in self._written._batches(data, self.specification_.pipeline.collate, 1):
            weights = network.attention_weights(batch, data.y[rows], data.lengths[rows])
            for n, row in enumerate(rows.tolist()):
                found[row] = weights[n, : (data.y[row] >= 0).sum() + 1, : data.lengths[row]].copy()
        return found
