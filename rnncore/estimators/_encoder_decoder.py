"""Base of the estimators that read something and write another sequence, of a length of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from rnncore.data.readers import DataError
from rnncore.estimators._examples import Examples
from rnncore.estimators._pipeline import Pipeline
from rnncore.estimators._rewriting import Rewriting
from rnncore.estimators.base import Specification, recurrent_layers
from rnncore.estimators.sequences import SequenceEstimator, named
from rnncore.metrics import edit_distances
from rnncore.nn.attention import SCORES
from rnncore.nn.encoder_decoder import CONDITIONINGS, EncoderDecoder
from rnncore.optim.arguments import check_choice, check_count, check_number

__all__ = ["EncoderDecoderEstimator"]

_UPDATES = 1500  # of a training, where no setting says how many


@dataclass(eq=False, repr=False)
class EncoderDecoderEstimator(SequenceEstimator):
    """Base of the estimators that read something and write another sequence, of a length of its own.

    A subclass is a dataclass whose fields are its own parameters; its task is a `Rewriting`.

    Parameters
    ----------
    attention : {"general", "dot", "scaled_dot"} or None
        How well the decoder's state goes with a step of the source, see `rnncore.Attention`. None: the decoder knows
        no more than the encoder's last state.
    conditioning : {"state", "input", "both"} or None
        What the encoder's last state is to the decoder, see `rnncore.EncoderDecoder`.
    label_smoothing : float
        Share of each target that all symbols have alike.
    hidden_size : int
        Units of the decoder's layers, and of the encoder's in each direction.
    batch_size : int or None
        Pairs in a minibatch. None: 64, and less for few pairs.
    max_epochs : int or None
        Passes over the training data. None: so many that there are about 1500 minibatches, at least 5.
    bidirectional : bool
        Whether the encoder reads from both ends.
    """

    attention: str | None = "general"
    conditioning: str | None = "state"
    label_smoothing: float = 0.0

    cell: str = "gru"
    hidden_size: int = 128
    embedding_size: int | None = 64
    learning_rate: float = 0.004
    clip_norm: float | None = 1.0
    dropout: float = 0.1
    recurrent_dropout: float = 0.0

    @staticmethod
    def _build_network(of: Specification) -> Any:
        settings, pipeline = of.settings, of.pipeline
        conditioning = settings.conditioning
        reads: dict[str, Any]
        if getattr(pipeline, "one_vector", False):  # nothing to look back at
            encoder, states, conditioning = None, pipeline.input_size, conditioning or "state"
            reads = {"vector_size": pipeline.input_size}
        else:
            encoder = recurrent_layers(of, bidirectional=settings.bidirectional)
            states = len(encoder.directions) * sum(encoder.state_widths.values())
            reads = {"embedding": pipeline.embedding, "attention": settings.attention}
        beside = states if conditioning in ("input", "both") else 0
        size = settings.embedding_size or settings.hidden_size
        decoder = recurrent_layers(of, size + beside, random_state=of.seed + 1)
        return EncoderDecoder(
            encoder,
            decoder,
            len(of.task.classes),
            conditioning=conditioning,
            label_smoothing=settings.label_smoothing,
            random_state=of.seed,
            **reads,
        )

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("attention", self.attention, (None, *SCORES))
        check_choice("conditioning", self.conditioning, (None, *CONDITIONINGS))
        check_number("label_smoothing", self.label_smoothing, "[0, 1)", 0.1)

    def _batch_size(self, n_sequences: int) -> int:
        return self.batch_size or min(max(n_sequences // 50, 2), 64)

    def _epochs(self, n_sequences: int) -> int:
        return max(5, round(_UPDATES / -(-n_sequences // self._batch_size(n_sequences))))

    def _learned(self, settings: Self, train: Examples, classes: Any = None) -> tuple[Pipeline, Rewriting]:
        pipeline, task = self._make_pipeline(settings), self._make_task(settings)
        assert isinstance(task, Rewriting)
        pipeline.fit(train.sequences)
        task.fit(train.targets, classes)
        return pipeline, task

    @property
    def _task(self) -> Rewriting:
        self._check_fitted()
        task = self.specification_.task
        assert isinstance(task, Rewriting)
        return task

    @property
    def symbols_(self) -> list[Any]:
        """What targets are made of."""
        return list(self._task.classes)

    # -- applying -----------------------------------------------------------------------------------------------------

    @named
    def predict(
        self, X: Any, beam_size: int = 1, length_penalty: float = 0.0, max_length: int | None = None
    ) -> list[Any]:
        """Return what the network writes for each source: strings, or lists where targets were lists.

        Parameters
        ----------
        X : list of sources
        beam_size : int
            1 writes the most probable symbol at each step; more look at so many beginnings side by side.
        length_penalty : float
            Larger ones favour longer outputs, see ``EncoderDecoder.decode``.
        max_length : int, optional
            Where an output ends if it does not end itself. Without, twice the longest target of the training, or twice
            the source, and ten more.
        """
        search = self._search(beam_size, length_penalty, max_length)
        task, data = self._task, self._data_of(X)
        return task.predict(self.network_, data, self.specification_.pipeline.collate, **search) if data else []

    def _search(self, beam_size: int, length_penalty: float, max_length: int | None) -> dict[str, Any]:
        check_count("beam_size", beam_size, 1)
        check_number("length_penalty", length_penalty, "[0, inf)", 0.6)
        if max_length is not None:
            check_count("max_length", max_length, 1)
        return {"beam_size": beam_size, "length_penalty": length_penalty, "max_length": max_length}

    def _data_of(self, X: Any) -> Any:
        sources = self._sequences(X)
        empty = next((n for n, one in enumerate(sources) if not len(one)), None)
        if empty is not None:
            raise DataError(f"{self._nouns.sequence} {empty} is empty: there is nothing to predict from")
        return self._encoded(sources) if len(sources) else None

    @named
    def predict_n_best(
        self,
        X: Any,
        n: int = 5,
        beam_size: int | None = None,
        length_penalty: float = 0.0,
        max_length: int | None = None,
    ) -> list[list[tuple[Any, float]]]:
        """Return the n outputs that a beam finds best for each source, with their log-probabilities, the best first.

        Parameters
        ----------
        X : list of sources
        n : int
        beam_size : int, optional
            Without, n, and at least 5.
        length_penalty, max_length
            As for `predict`; with a penalty, what comes beside an output is its score.

        Returns
        -------
        list of lists of (output, score)
        """
        check_count("n", n, 1)
        size = max(n, 5) if beam_size is None else beam_size
        search = self._search(size, length_penalty, max_length)
        if size < n:
            raise ValueError(f"beam_size: expected at least n={n}, got {size}")
        task, data = self._task, self._data_of(X)
        if data is None:
            return []
        collate = self.specification_.pipeline.collate
        outputs, scores = task.write(self.network_, data, collate, **search, n_best=n)
        if n == 1:
            return [[(task.joined(one), float(score))] for one, score in zip(outputs, scores, strict=True)]
        return [
            [(task.joined(one), float(score)) for one, score in zip(several, theirs, strict=True)]
            for several, theirs in zip(outputs, scores, strict=True)
        ]

    @named
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of sources that become exactly their targets, each with its weight."""
        return super().score(X, y, sample_weight)

    @named
    def evaluate(self, X: Any, y: Any, beam_size: int = 1, length_penalty: float = 0.0) -> dict[str, Any]:
        """Measure what is written, and how probable what should be written is.

        Returns
        -------
        dict
            ``exact``, the share of outputs that are the target; ``error_rate``, how many symbols must be put in, left
            out or changed for each that there should be; ``nats`` per symbol of the targets, ends counted (None where
            all have symbols never seen); ``n``, how many targets.
        """
        search = self._search(beam_size, length_penalty, None)
        task, collate = self._task, self.specification_.pipeline.collate
        given = task.examples(X, y, self._nouns).with_steps(self._nouns)
        data = self._encoded(given.sequences, given.targets, unseen=-1)
        found = [one.tolist() for one in task.write(self.network_, data, collate, **search)[0]]
        true = [row[row >= 0].tolist() for row in data.y]
        edits, symbols = edit_distances(true, found), sum(map(len, true))
        return {
            "exact": float((edits == 0).mean()),
            "error_rate": float(edits.sum() / symbols) if symbols else None,
            "nats": task.nats(self.network_, data, collate),
            "n": len(data),
        }

    @named
    def error_rate(self, X: Any, y: Any, beam_size: int = 1, length_penalty: float = 0.0) -> float:
        """Return the edits that make targets of what is written, as a share of their symbols: the label error rate."""
        found: float = self.evaluate(X, y, beam_size, length_penalty)["error_rate"]
        return found

    def attention_weights(self, source: Any, target: Any = None) -> tuple[np.ndarray, list[Any], list[Any]]:
        """Return where the network looked in a source while it wrote, or while it read a given target.

        Parameters
        ----------
        source
            One source.
        target : optional
            One target; without, what is predicted.

        Returns
        -------
        weights : array (L + 1, S)
            Of each written symbol, and of the end, shares of the source's steps whose sum is 1.
        source, target : lists
            The symbols that the columns and rows belong to, or numbers of steps; the target's last is "end".

        See Also
        --------
        rnncore.plots.plot_attention : as a picture.
        """
        task, data = self._task, self._data_of([source])
        collate = self.specification_.pipeline.collate
        if target is None:
            numbers = task.write(self.network_, data, collate)[0][0][None, :]
        else:
            numbers = task.encode(task.examples([source], [target], self._nouns).targets)
        read = self._sequences([source])[0]
        network: Any = self.network_
        weights = network.attention_weights(collate(data.x[:, None].astype(_read_as(data.x))), numbers)[0]
        names = list(range(len(read))) if isinstance(read, np.ndarray) and read.ndim > 1 else list(read)
        written = task.labels.decode(numbers[0][numbers[0] >= 0])
        return weights[: len(written) + 1], names, [*written, "end"]


def _read_as(x: np.ndarray) -> Any:
    return np.int64 if x.dtype.kind in "iu" else x.dtype
