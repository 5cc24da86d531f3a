"""LanguageModel: what comes next in a text, and texts that go on by themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from rnncore.data.sequences import Sequences
from rnncore.data.symbols import Encoded
from rnncore.data.texts import UNITS, read_once
from rnncore.estimators._corpus import Corpus, corpus_of
from rnncore.estimators._initial import check_initial
from rnncore.estimators._judges import JudgesTexts
from rnncore.estimators._settings import check_flag, make_optimizer
from rnncore.estimators._text import NextSymbol, TextPipeline
from rnncore.estimators._writes import WritesTexts
from rnncore.estimators.base import Estimator, Specification, over_processes, recurrent_layers
from rnncore.estimators.presets import LANGUAGE_MODELS, settings_of
from rnncore.io.checkpoints import Checkpoints, open_checkpoints
from rnncore.nn.network import Network
from rnncore.optim.arguments import check_choice, check_count
from rnncore.optim.optimizers import Optimizer

__all__ = ["LanguageModel"]

_SYMBOLS_OF_A_TRAINING = 10_000_000


@dataclass(eq=False, repr=False)
class LanguageModel(JudgesTexts, WritesTexts, Estimator):
    """Learn what comes next in a text; then write, complete and judge texts.

    Texts are a str, bytes, a ``pathlib.Path`` of a file, a list of sentences or, with unit="id", an array of numbers.

    Parameters
    ----------
    unit : {"char", "byte", "word", "id"}
        What a symbol is: a character (Unicode), a byte (any file), a word or sign (a new line is one, too), or a number
        in an array. Files of bytes and of numbers (``.npy``) are mapped into memory, so that they may be larger.
    sentences : bool
        False: the text is one stream, cut into `batch_size` rows that are read side by side in chunks of `seq_length`
        symbols; the state is carried from chunk to chunk. True: every line (or part of a list) stands for itself, from
        its start to its end, which are symbols, too.
    seq_length : int
        How many steps back errors are propagated in a stream.
    batch_size : int or None
        Rows of a stream, or sentences in a minibatch. None: 25, fewer for short texts. A text that is too short for so
        many rows gets fewer.
    max_epochs : int or None
        Passes over the training text. None: about ten million symbols, at least 4 and at most 20 passes.
    min_count, vocabulary_size
        Symbols rarer than `min_count`, and all but the `vocabulary_size` most frequent ones (unknown, start and end
        among these), are read as unknown. Of ids: how many there are.
    lowercase : bool
        Read capitals as small letters.
    validation : None, "tail" or "interleaved"
        What is set apart of the text to measure ``val_loss`` on after each epoch, a `validation_fraction` of it: its
        end; or, as char-rnn does, the last chunks of every row (of sentences: some at random). Figures of the two do
        not compare. None: nothing, but "tail" with `early_stopping`.
    softmax : {"exact", "adaptive", "sampled"}
        "adaptive": rare symbols stand in clusters that are seldom visited (`rnncore.AdaptiveSoftmax`), which saves most
        of the time with many symbols. They are then numbered by falling frequency; ids must be so already.
        "sampled": training estimates the loss by `samples` symbols that are drawn (`rnncore.SampledSoftmax`); all else
        is exact.
    cutoffs : sequence of int, optional
        Where the clusters of an adaptive softmax begin. None: at a tenth of the symbols, and at two fifths.
    samples : int
        How many symbols a sampled softmax draws for a minibatch.
    tied : bool
        Let the vectors of symbols be the weights of their scores, too (Press and Wolf 2017): fewer weights. Needs an
        `embedding_size` that is the width of the layers' outputs.
    reduction : {"mean", "sequence"}
        What is minimised: the mean loss of a symbol, or the sum over time, as a mean over rows. The latter's gradients
        are larger by as much as chunks are long, which matters to `clip_norm` and SGD.
    truncate : int or None
        How many steps back errors go within a chunk or sentence, the current one included. None: all.
    initial : None, "fan_in" or dict
        First weights: None: as the layers have them; {"uniform": 0.08} or {"normal": 0.01}: of that range or standard
        deviation; "fan_in": uniform in ±1/√(number of inputs), biases 0.
    frozen : sequence of str
        Patterns of parameters' names that keep their first values, such as "*.b_h".

    Attributes
    ----------
    symbols_ : list
        The symbols, in the order of the network's outputs.
    n_train_symbols_ : int
        How many symbols an epoch of the latest training predicts.

    See Also
    --------
    LanguageModel.preset : char-rnn, min-char-rnn, wildml, best.

    Examples
    --------
    >>> import rnncore as rc
    >>> model = rc.LanguageModel(hidden_size=32, max_epochs=30).fit("to be or not to be, " * 40)
    >>> model.generate(15, prime="to be or n", temperature=0)
    'ot to be, to be'
    >>> model.next_symbols("to b", 1)[0][0]
    'e'
    >>> model.perplexity("to be or not to be") < 2
    True
    """

    unit: str = "char"
    sentences: bool = False
    seq_length: int = 50
    min_count: int = 1
    vocabulary_size: int | None = None
    lowercase: bool = False
    softmax: str = "exact"
    cutoffs: Any = None
    samples: int = 512
    tied: bool = False
    validation: str | None = None
    reduction: str = "mean"
    truncate: int | None = None
    initial: Any = None
    frozen: Any = ()

    cell: str = "gru"
    hidden_size: int = 240
    optimizer: Any = "adam"
    learning_rate: float = 0.01
    clip_norm: float | None = 1.0
    dropout: float = 0.2
    recurrent_dropout: float = 0.0
    validation_fraction: float = 0.05
    n_iter_no_change: int = 3

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Make a model with the settings of a source: "char-rnn", "min-char-rnn", "wildml", or "best", ours.

        See `rnncore.estimators.presets` for what each is and where it comes from.

        Examples
        --------
        >>> import rnncore as rc
        >>> rc.LanguageModel.preset("char-rnn", max_epochs=3).batch_size
        50
        """
        return cls(**settings_of(LANGUAGE_MODELS, name) | changes)

    # -- what the base asks for ---------------------------------------------------------------------------------------

    @staticmethod
    def _make_pipeline(settings: Any) -> TextPipeline:
        return TextPipeline(
            settings.embedding_size,
            settings.initial,
            unit=settings.unit,
            min_count=settings.min_count,
            vocabulary_size=settings.vocabulary_size,
            lowercase=settings.lowercase,
            sentences=settings.sentences,
            by_frequency=settings.softmax != "exact",
        )

    @staticmethod
    def _make_task(settings: Any) -> NextSymbol:
        return NextSymbol(settings.softmax, settings.cutoffs, settings.samples, settings.tied)

    @staticmethod
    def _build_network(of: Specification) -> Network:
        network = Network(
            recurrent_layers(of, truncate=of.settings.truncate), of.task.head(), embedding=of.pipeline.embedding
        )
        if of.settings.frozen:
            network.freeze(*of.settings.frozen)
        return network

    @classmethod
    def _sizes(cls, estimator: Any, header: dict[str, Any]) -> dict[str, int]:
        return super()._sizes(estimator, header) | {"symbols": len(header["symbols"])}

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("unit", self.unit, UNITS)
        check_choice("validation", self.validation, (None, "tail", "interleaved"))
        check_choice("softmax", self.softmax, ("exact", "adaptive", "sampled"))
        if self.cutoffs is not None and self.softmax != "adaptive":
            raise ValueError("cutoffs go with softmax='adaptive': leave them out")
        if self.tied and (self.embedding_size is None or self.softmax != "exact"):
            raise ValueError("tied goes with an embedding_size and softmax='exact': set these, or leave tied out")
        check_choice("reduction", self.reduction, ("mean", "sequence"))
        check_count("seq_length", self.seq_length, 1)
        check_count("min_count", self.min_count, 1)
        check_count("samples", self.samples, 1)
        for name, least in (("vocabulary_size", 1), ("truncate", 1)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least)
        for name in ("sentences", "lowercase", "tied"):
            check_flag(name, getattr(self, name))
        check_initial(self.initial)
        several = isinstance(self.frozen, list | tuple | set | frozenset)
        if not several or not all(isinstance(name, str) for name in self.frozen):
            raise TypeError(f"frozen: expected a list of patterns of names, got {self.frozen!r}")

    # -- learning -----------------------------------------------------------------------------------------------------

    @over_processes
    def fit(
        self,
        text: Any,
        y: Any = None,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
        vocabulary: Any = None,
        *,
        comm: Any = None,
        shards: int | None = None,
    ) -> Self:
        """Learn from a text.

        Parameters
        ----------
        text : str, bytes, path, array, or list of sentences
        y : ignored
        validation_data : text, optional
            Watched instead of a part of `text`, and switches early stopping on.
        checkpoint : path, optional
            File to keep the state of the training in, every `checkpoint_every` seconds and after a signal.
        resume : path, optional
            A checkpoint to go on from, with the same text and settings. The result has the same bits as if training had
            never stopped. Further checkpoints take its place, unless `checkpoint` names another file.
        vocabulary : text, optional
            Whose symbols are to be known, if more than those of `text`.
        comm, shards : optional
            Processes that train together, and the parts that each minibatch is dealt to, as `rnncore.Trainer` takes
            them: `fit` is called in all of them, with the same data.

        Returns
        -------
        self

        Raises
        ------
        DataError, ValueError, TypeError
            For a text or settings that cannot be used.
        KeyboardInterrupt, SystemExit
            After Ctrl-C, and after SIGTERM or SIGHUP; the model is then fitted with what was learned until then.
        """
        self._check_settings()
        text, validation_data = read_once(text, self.unit), read_once(validation_data, self.unit)
        rng = self._processes.generator(self.random_state)
        checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        if checkpoints is not None:
            checkpoints.begin(rng)
        warm = self.warm_start and hasattr(self, "network_")
        pipeline, task = self._parts if warm else self._learned(text if vocabulary is None else vocabulary)
        corpus = corpus_of(self, pipeline, text, validation_data, rng)
        most = max(4, min(20, round(_SYMBOLS_OF_A_TRAINING / corpus.n_symbols)))
        max_epochs = self.max_epochs or most
        optimizer = make_optimizer(self, max_epochs * corpus.n_batches, self.schedule)
        stopping = self.early_stopping or validation_data is not None
        with self._as_before_unless(optimizer):
            if not warm:
                self._begin(pipeline, task, rng)
            self._learn(corpus, rng, optimizer, max_epochs, checkpoints, stopping)
        return self

    @over_processes
    def partial_fit(self, text: Any, y: Any = None, *, comm: Any = None, shards: int | None = None) -> Self:
        """Learn one epoch more, with a constant learning rate; the first call settles the symbols.

        `comm` and `shards` are those of `fit`.

        Raises
        ------
        DataError, ValueError, TypeError
            For a text or settings that cannot be used.
        """
        self._check_settings()
        text = read_once(text, self.unit)
        rng = self._processes.generator(self.__dict__.get("_partial_rng") or self.random_state)
        new = not hasattr(self, "network_")
        pipeline, task = self._learned(text) if new else self._parts
        corpus = corpus_of(self, pipeline, text, None, rng, part_off=False)
        optimizer = self.__dict__.get("_partial_optimizer") or make_optimizer(self, 1, None)
        with self._as_before_unless(optimizer):
            if new:
                self._begin(pipeline, task, rng)
            self._partial_rng, self._partial_optimizer = rng, optimizer
            self._learn(corpus, rng, optimizer, 1, None, False)
        return self

    @property
    def _parts(self) -> tuple[TextPipeline, NextSymbol]:
        pipeline, task = self.specification_.pipeline, self.specification_.task
        assert isinstance(pipeline, TextPipeline) and isinstance(task, NextSymbol)
        return pipeline, task

    def _learned(self, text: Any) -> tuple[TextPipeline, NextSymbol]:
        """Return a pipeline and a task that know the text's symbols."""
        pipeline, task = self._make_pipeline(self), self._make_task(self)
        pipeline.fit(text)
        task.fit(pipeline.table.symbols)
        return pipeline, task

    def _learn(
        self,
        corpus: Corpus,
        rng: np.random.Generator,
        optimizer: Optimizer,
        max_epochs: int,
        checkpoints: Checkpoints | None,
        stopping: bool,
    ) -> None:
        apart = corpus.watched
        self.n_train_symbols_ = corpus.n_symbols
        self._train(
            optimizer,
            corpus.train,
            checkpoints,
            None if apart is None else getattr(corpus.watched, "content", None) or [apart.x, apart.y, apart.lengths],
            batch_size=corpus.batch_size,
            max_epochs=max_epochs,
            n_iter_no_change=self.n_iter_no_change if stopping else None,
            unit=self.unit,
            random_state=rng,
            validation=corpus.watched,
            reduction=self.reduction,
        )

    def reads(self, text: Any, other: Any) -> None:
        """Raise a DataError unless a model that learns from `text` can read `other`."""
        self._check_settings()
        table = self._learned(text)[0].table
        table.encode(other)

    # -- judging ------------------------------------------------------------------------------------------------------

    @property
    def _pipeline(self) -> TextPipeline:
        self._check_fitted()
        return self._parts[0]

    def _log_likelihood(self, found: Encoded | Sequences) -> float:
        return self._parts[1].log_likelihood(self.network_, found)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as one ONNX model, see ``Network.to_onnx``; the symbols are in its metadata."""
        self._check_fitted()
        self.network_.to_onnx(path, "ids", {"unit": self._table.unit, **self._table.to_json()})
