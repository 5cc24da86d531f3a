"""LanguageModel: what comes next in a text, and texts that go on by themselves."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.symbols import Encoded, SymbolTable
from rnncore.data.texts import UNITS
from rnncore.estimators._choice import Choice
from rnncore.estimators._initial import check_initial
from rnncore.estimators._settings import check_flag, make_optimizer
from rnncore.estimators._text import NextSymbol, TextPipeline
from rnncore.estimators._writing import Writer
from rnncore.estimators.base import Estimator, Specification, recurrent_layers
from rnncore.estimators.presets import LANGUAGE_MODELS, settings_of
from rnncore.io.checkpoints import Checkpoints, open_checkpoints
from rnncore.nn.network import Network
from rnncore.optim.arguments import check_choice, check_count
from rnncore.optim.optimizers import Optimizer
from rnncore.train.batches import generator
from rnncore.train.streams import Stream

__all__ = ["LanguageModel"]

_FEW = 50  # chunks that an epoch has at least, if it can: few updates hurt more than small batches
_ROWS = 25
_SYMBOLS_OF_A_TRAINING = 10_000_000
_COUNTED_AT_ONCE = 1 << 20


class Corpus(NamedTuple):
    """What is trained on and, if there is anything, what is watched."""

    train: Any  # Stream or Sequences
    watched: Any
    batch_size: int
    n_batches: int
    n_symbols: int


@dataclass(eq=False, repr=False)
class LanguageModel(Estimator):
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
    softmax : {"exact", "adaptive"}
        "adaptive": rare symbols stand in clusters that are seldom visited (`rnncore.AdaptiveSoftmax`), which saves most
        of the time with many symbols. They are then numbered by falling frequency; ids must be so already.
    cutoffs : sequence of int, optional
        Where the clusters of an adaptive softmax begin. None: at a tenth of the symbols, and at two fifths.
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
        return NextSymbol(settings.softmax, settings.cutoffs, settings.tied)

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
        check_choice("softmax", self.softmax, ("exact", "adaptive"))
        if self.cutoffs is not None and self.softmax != "adaptive":
            raise ValueError("cutoffs go with softmax='adaptive': leave them out")
        if self.tied and (self.embedding_size is None or self.softmax != "exact"):
            raise ValueError("tied goes with an embedding_size and softmax='exact': set these, or leave tied out")
        check_choice("reduction", self.reduction, ("mean", "sequence"))
        check_count("seq_length", self.seq_length, 1)
        check_count("min_count", self.min_count, 1)
        for name, least in (("vocabulary_size", 1), ("truncate", 1)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least)
        for name in ("sentences", "lowercase", "tied"):
            check_flag(name, getattr(self, name))
        check_initial(self.initial)
        if isinstance(self.frozen, str) or not all(isinstance(name, str) for name in self.frozen):
            raise TypeError(f"frozen: expected a list of patterns of names, got {self.frozen!r}")

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        text: Any,
        y: Any = None,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
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
        rng = generator(self.random_state)
        checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        if checkpoints is not None:
            checkpoints.begin(rng)
        warm = self.warm_start and hasattr(self, "network_")
        pipeline, task = self._parts if warm else self._learned(text)
        corpus = self._corpus(pipeline, text, validation_data, rng)
        most = max(4, min(20, round(_SYMBOLS_OF_A_TRAINING / corpus.n_symbols)))
        max_epochs = self.max_epochs or most
        optimizer = make_optimizer(self, max_epochs * corpus.n_batches, self.schedule)
        if not warm:
            self._begin(pipeline, task, rng)
        stopping = self.early_stopping or validation_data is not None
        self._learn(corpus, rng, optimizer, max_epochs, checkpoints, stopping)
        return self

    def partial_fit(self, text: Any, y: Any = None) -> Self:
        """Learn one epoch more, with a constant learning rate; the first call settles the symbols.

        Raises
        ------
        DataError, ValueError, TypeError
            For a text or settings that cannot be used.
        """
        self._check_settings()
        rng: np.random.Generator = self.__dict__.get("_partial_rng") or generator(self.random_state)
        new = not hasattr(self, "network_")
        pipeline, task = self._learned(text) if new else self._parts
        corpus = self._corpus(pipeline, text, None, rng, part_off=False)
        if new:
            self._begin(pipeline, task, rng)
        if not hasattr(self, "_partial_optimizer"):
            self._partial_optimizer = make_optimizer(self, 1, None)
        self._partial_rng = rng
        self._learn(corpus, rng, self._partial_optimizer, 1, None, False)
        return self

    @property
    def _parts(self) -> tuple[TextPipeline, NextSymbol]:
        pipeline, task = self.specification_.pipeline, self.specification_.task
        assert isinstance(pipeline, TextPipeline) and isinstance(task, NextSymbol)
        return pipeline, task

    @property
    def _table(self) -> SymbolTable:
        self._check_fitted()
        return self._parts[0].table

    def _learned(self, text: Any) -> tuple[TextPipeline, NextSymbol]:
        """Return a pipeline and a task that know the text's symbols."""
        pipeline, task = self._make_pipeline(self), self._make_task(self)
        pipeline.fit(text)
        task.fit(pipeline.table.symbols)
        return pipeline, task

    def _corpus(
        self, pipeline: TextPipeline, text: Any, apart: Any, rng: np.random.Generator, part_off: bool = True
    ) -> Corpus:
        """Lay out what is trained on and what is watched."""
        watching = part_off and apart is None
        how = (self.validation or ("tail" if self.early_stopping else None)) if watching else None
        if pipeline.table.sentences:
            return self._of_sentences(pipeline, text, apart, how, rng)
        return self._of_stream(pipeline.table, text, apart, how)

    def _of_sentences(
        self, pipeline: TextPipeline, text: Any, apart: Any, how: str | None, rng: np.random.Generator
    ) -> Corpus:
        data: Any = pipeline.encode(text)
        watched = None if apart is None else pipeline.encode(apart)
        if how is not None:
            n = len(data)
            if n < 2:
                raise DataError("expected at least 2 sentences, one of them to validate on, got 1")
            order = np.arange(n) if how == "tail" else rng.permutation(n)
            n_apart = min(max(1, round(self.validation_fraction * n)), n - 1)
            data, watched = data.select(order[: n - n_apart]), data.select(order[n - n_apart :])
        size = self.batch_size or min(max(len(data) // 50, 1), 32)
        return Corpus(data, watched, size, -(-len(data) // size), len(data.x))

    def _of_stream(self, table: SymbolTable, text: Any, apart: Any, how: str | None) -> Corpus:
        ids, lookup = table.encode(text)
        n, steps = len(ids), self.seq_length
        if n < 2:
            raise DataError(f"expected a text of at least 2 symbols, one to read and one to predict, got {n}")
        rows = self.batch_size or _ROWS
        if self.batch_size is None:
            rows = max(1, min(rows, n // (_FEW * steps)))
        watched = None
        if how == "interleaved":
            steps = min(steps, max(n // 2, 1))
            train, watched = Stream.interleaved(
                ids, max(1, min(rows, n // (2 * steps))), steps, self.validation_fraction, lookup=lookup
            )
        else:
            n_apart = 0
            if how == "tail":
                n_apart = max(2, round(self.validation_fraction * n))
                if n - n_apart < 2:
                    raise DataError(f"a text of {n} symbols is too short to set a part of it aside to validate on")
            train = Stream(ids[: n - n_apart], rows, steps, lookup=lookup)
            if n_apart:
                watched = Stream(ids[n - n_apart :], rows, steps, lookup=lookup)
            elif apart is not None:
                given = table.encode(apart)
                if len(given) < 2:
                    raise DataError(f"validation_data: expected at least 2 symbols, got {len(given)}")
                watched = Stream(given.ids, rows, steps, lookup=given.lookup)
        return Corpus(train, watched, train.rows, train.n_batches or 0, train.n_steps or 1)

    def _learn(
        self,
        corpus: Corpus,
        rng: np.random.Generator,
        optimizer: Optimizer,
        max_epochs: int,
        checkpoints: Checkpoints | None,
        stopping: bool,
    ) -> None:
        self.n_train_symbols_ = corpus.n_symbols
        self._train(
            optimizer,
            corpus.train,
            checkpoints,
            batch_size=corpus.batch_size,
            max_epochs=max_epochs,
            n_iter_no_change=self.n_iter_no_change if stopping else None,
            unit=self.unit,
            random_state=rng,
            validation=corpus.watched,
            reduction=self.reduction,
        )

    # -- judging ------------------------------------------------------------------------------------------------------

    @property
    def symbols_(self) -> list[Any]:
        """The symbols, in the order of the network's outputs."""
        return list(self._table.symbols)

    def _encoded(self, text: Any) -> Encoded | Sequences:
        table = self._table
        if table.sentences:
            return self._parts[0].encode(text)
        found = table.encode(text)
        if len(found) < 2:
            raise DataError(f"expected a text of at least 2 symbols, one to read and one to predict, got {len(found)}")
        return found

    def score(self, text: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of a symbol given those before it, in nats.

        A stream is read from its first symbol on, which is not predicted, without any context; of sentences the ends
        count as symbols. Symbols read as unknown count by what the unknown one is predicted with.

        Raises
        ------
        DataError, TypeError
            For a text without a symbol to predict, or with symbols that the model cannot read.
        """
        self._check_fitted()
        return self._parts[1].log_likelihood(self.network_, self._encoded(text))

    def evaluate(self, text: Any) -> dict[str, Any]:
        """Measure how well a text is predicted.

        Returns
        -------
        dict
            nats, and bits, of a symbol; perplexity; n_symbols that were predicted, and how many of them were unknown.
        """
        found = self._encoded(text)
        nats = -self._parts[1].log_likelihood(self.network_, found)
        unknown = self._table.unknown
        if isinstance(found, Encoded):
            n, n_unknown = len(found) - 1, 0
            for start in range(1, n + 1, _COUNTED_AT_ONCE) if unknown is not None else ():
                n_unknown += int((found.part(start, start + _COUNTED_AT_ONCE) == unknown).sum())
        else:
            n, n_unknown = len(found.x), 0 if unknown is None else int(np.sum(found.y == unknown))
        found_in = {"nats": nats, "bits": nats / math.log(2), "perplexity": math.exp(nats)}
        return found_in | {"n_symbols": n, "n_unknown": n_unknown}

    def perplexity(self, text: Any) -> float:
        """Return exp(-score): among how many equally likely symbols the model chooses, so to say."""
        return math.exp(-self.score(text))

    # -- writing ------------------------------------------------------------------------------------------------------

    def iter_generate(
        self,
        length: int | None = None,
        prime: Any = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        random_state: Any = None,
        stop: Any = None,
        allow_unknown: bool = False,
    ) -> Iterator[Any]:
        """Write symbol by symbol, for as long as somebody reads: arguments as for `generate`.

        Yields
        ------
        str, bytes (of one byte) or int
            Each symbol as soon as it is chosen.

        Examples
        --------
        >>> import rnncore as rc
        >>> model = rc.LanguageModel(hidden_size=16, max_epochs=30).fit("abc" * 200)
        >>> letters = model.iter_generate(prime="a", temperature=0)
        >>> next(letters), next(letters)
        ('b', 'c')
        """
        writer = self._writer()
        choice = Choice(temperature, top_k, top_p, writer.never(allow_unknown))
        if length is not None:
            check_count("length", length, 0)
        if stop is not None and (not isinstance(stop, str | bytes | int) or stop in ("", b"")):
            raise TypeError(f"stop: expected a text that is not empty, got {stop!r}")
        return writer.write(prime, choice, generator(random_state), length, stop)

    def _writer(self) -> Writer:
        return Writer(self.network_, self._table)

    def generate(
        self,
        length: int,
        prime: Any = "",
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        random_state: Any = None,
        stop: Any = None,
        allow_unknown: bool = False,
    ) -> Any:
        """Write: go on after `prime`, each symbol drawn from what the model predicts.

        Takes time in proportion to the length; the same bits for any number of threads, before and after saving.

        Parameters
        ----------
        length : int
            How many symbols; of sentences their ends count, as line ends.
        prime : text
            What comes before, not part of the result. Without one, the first symbol is drawn by how frequent each is,
            or a sentence begins.
        temperature : float
            Below 1 bolder towards the probable, above 1 more at random; 0: always the most probable.
        top_k : int, optional
            Choose among the k most probable only.
        top_p : float, optional
            Choose among the most probable that make up this much together.
        random_state : int, None, Generator or RandomState
            The same integer gives the same text.
        stop : str, optional
            Where this has been written, it ends; of words: where this word has.
        allow_unknown : bool
            Whether the unknown symbol may be written.

        Returns
        -------
        str; a list of ints with unit="id"

        Raises
        ------
        DataError, TypeError, ValueError
            For a prime with symbols that the model cannot read, or settings out of range.
        """
        check_count("length", length, 0)
        found = list(self.iter_generate(length, prime, temperature, top_k, top_p, random_state, stop, allow_unknown))
        return self._table.joined(found)

    def pieces(self, symbols: Iterator[Any], prime: Any = "") -> Iterator[str]:
        """Yield the text of what `iter_generate` yields, the prime before it: words with the blanks between them.

        Examples
        --------
        >>> import rnncore as rc
        >>> model = rc.LanguageModel(unit="word", hidden_size=16, max_epochs=30).fit("to be or not " * 50)
        >>> "".join(model.pieces(model.iter_generate(3, "to", temperature=0), "to"))
        'to be or not'
        """
        text = " ".join(map(str, prime)) if isinstance(prime, list | tuple | np.ndarray) else prime
        text = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
        if text:
            yield text
        yield from self._table.pieces(symbols, text)

    def next_symbols(self, prime: Any = "", k: int = 5) -> list[tuple[Any, float]]:
        """Return the k most probable symbols after `prime`, each with its probability.

        Examples
        --------
        >>> import rnncore as rc
        >>> model = rc.LanguageModel(hidden_size=16, max_epochs=30).fit("abc" * 200)
        >>> [symbol for symbol, p in model.next_symbols("ca", 1) if p > 0.5]
        ['b']
        """
        check_count("k", k, 1)
        _, p = self._writer().begun(prime)
        order = np.argsort(-p, kind="stable")[:k]
        return [(self._table.text_of(i), float(p[i])) for i in order.tolist()]

    def expectations(self, text: Any, k: int = 5) -> list[tuple[Any, list[tuple[Any, float]]]]:
        """Return each symbol of a text with the k symbols that were expected in its place, and their probabilities.

        The first is expected by how frequent symbols are. Texts are read as `next_symbols` reads a prime.

        Examples
        --------
        >>> import rnncore as rc
        >>> model = rc.LanguageModel(hidden_size=16, max_epochs=30).fit("abc" * 200)
        >>> [(symbol, expected[0][0]) for symbol, expected in model.expectations("abcb", 1)[1:]]
        [('b', 'b'), ('c', 'c'), ('b', 'a')]
        """
        check_count("k", k, 1)
        text_of = self._table.text_of
        return [
            (text_of(number), [(text_of(i), float(p[i])) for i in np.argsort(-p, kind="stable")[:k].tolist()])
            for number, p in self._writer().read(text)
        ]

    def beam_search(
        self, length: int, prime: Any = "", beam_size: int = 8, n_best: int = 1, allow_unknown: bool = False
    ) -> list[tuple[Any, float]]:
        """Search for the most probable texts of `length` symbols after `prime`; sentences may end before.

        Parameters
        ----------
        length : int
        prime : text
        beam_size : int
            How many texts are followed at a time.
        n_best : int
            How many to return, at most `beam_size`.
        allow_unknown : bool
            Whether the unknown symbol may be written.

        Returns
        -------
        list of (text, log-probability), the most probable first
        """
        for name, value, least in (("length", length, 0), ("beam_size", beam_size, 1), ("n_best", n_best, 1)):
            check_count(name, value, least)
        if n_best > beam_size:
            raise ValueError(f"n_best: expected at most beam_size={beam_size}, got {n_best}")
        writer = self._writer()
        found = writer.search(prime, length, beam_size, n_best, writer.never(allow_unknown))
        return [(self._table.joined(map(self._table.text_of, ids)), score) for ids, score in found]

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as one ONNX model, see ``Network.to_onnx``; the symbols are in its metadata."""
        self._check_fitted()
        self.network_.to_onnx(path, "ids", {"unit": self._table.unit, **self._table.to_json()})
