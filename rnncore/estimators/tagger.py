"""SequenceTagger: one label for every step of a sequence."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.data.encoders import FeatureEncoder, LabelEncoder, Sequences, Vocabulary, sequence_lengths
from rnncore.data.features import DictFeatures, WordFeatures, encoder_for, encoder_from_json
from rnncore.data.readers import DataError
from rnncore.data.tokens import TokenLists, select
from rnncore.data.vectors import word_vectors
from rnncore.estimators.base import SequenceEstimator, check_flag
from rnncore.io.checkpoints import Checkpoints, open_checkpoints
from rnncore.metrics import Tally
from rnncore.nn.cells import ACTIVATIONS, CELLS
from rnncore.nn.heads import CRF, Head, Softmax, bio_constraints
from rnncore.nn.network import Embedding, Network
from rnncore.nn.recurrent import Recurrent
from rnncore.optim.optimizers import Optimizer
from rnncore.optim.schedules import Schedule, check_choice, check_count, check_number
from rnncore.train.trainer import batches_to_predict, decode, generator, predict

__all__ = ["SequenceTagger"]

_SENTENCES_AT_ONCE = 4096  # in an evaluation
_WORDS_AT_ONCE = 65536  # in word dropout
_WORTH_SHARING = 64 * 256 * 256  # multiply-adds of one step's recurrent product


class SequenceTagger(SequenceEstimator):
    """Tag sequences with a recurrent network: words of sentences, symbols, or feature vectors.

    Parameters
    ----------
    cell : str
        A name in ``rnncore.CELLS``.
    hidden_size, num_layers, bidirectional
        The recurrent layers, as `rnncore.Recurrent` takes them.
    activation : str or None
        None: "clipped_relu" for an Elman network, which tags better than with tanh and cannot run away on long
        sentences as with relu; the cell's own for others (tanh, or relu for indrnn).
    cell_options : dict, optional
        Options of the cell, such as {"reset": "before"} of a GRU, and ``zoneout``, as `rnncore.Recurrent` takes them.
    head : None, "crf" or "softmax"
        "crf": all labels of a sentence as one, with scores for one label following another; `predict` then gives the
        most probable sequence, `predict_proba` each label's marginal probability. "softmax": each step's label for
        itself given the network's state. None: "crf", but "softmax" with a `class_weight`, which then holds for each
        word by itself.
    constraints : None, "auto", "bio" or "iobes"
        Chunk labels that a "crf" never gives: see `rnncore.heads.bio_constraints`. The training data must keep to them.
    embedding_size : int or None
        Size of the word vectors that the layers read. None: words go straight into the first layer, whose input weights
        are then their vectors.
    embeddings : path, (words, vectors), dict or KeyedVectors, optional
        Pretrained word vectors to start from: a file in the text form of word2vec or GloVe or (with gensim) word2vec's
        binary form, ``.bin``; words and an array (W, E); a dict of word to vector; or gensim's. All their words become
        known ones, and `embedding_size` is their size.
    window : int
        How many words to each side are features of a word too. The recurrent layers see them anyway; here they count by
        their exact place.
    word_pairs : bool
        Whether a word together with the one before, and the one after, are features.
    affixes : int
        Prefixes and suffixes of 1 to so many letters as features.
    shapes : bool
        A word's form (capitals, digits, other signs) as a feature.
    skip : False, True or "only"
        Direct weights from the word and these features (or the features in dicts or arrays) to the scores of the
        labels, past the recurrent layers, as a maximum-entropy model has them. True: beside the way through the layers;
        "only": the layers read words alone. Numbers in dicts have such weights always, and no other ones.
    optimizer : str or Optimizer
        A name in ``rnncore.OPTIMIZERS``, made with the four parameters below, or an object, taken with its own.
    learning_rate, clip_norm, weight_decay
        As the optimizers take them.
    schedule : str, Schedule or None
        How the learning rate changes: "linear" or "cosine" (down to 0 over the whole training), "exponential",
        "halve_on_plateau", None (constant), or an object of `rnncore.schedules`.
    batch_size : int or None
        Sentences in a minibatch. None: 2 to 32, so that there are about 50 minibatches, as small data need.
    max_epochs : int or None
        Passes over the training data. None: 20 for up to 1000 sentences, fewer for more, at least 5: twice as many
        sentences need not twice the time.
    dropout : float
        Share of outputs dropped between the layers and before the head.
    input_dropout, recurrent_dropout : float
        Share dropped of the first layer's inputs (word vectors or features), and of the recurrent state.
    word_dropout : float
        How likely a word that occurs once in the training data is read as an unknown one, each time anew; more frequent
        words accordingly less. This is how the unknown word's vector is learned.
    min_count : int
        Words rarer than this in the training data are never known.
    lowercase, fold_digits : bool
        Whether case and digits of words make no difference.
    class_weight : None, "balanced" or dict
        Weight of each label in the loss (1 where a dict has none); "balanced" is inverse to its frequency. With
        head="crf", a sentence counts as a whole, by the mean weight of its labels (see `rnncore.CRF`).
    early_stopping : bool
        Set a `validation_fraction` of the sentences aside, stop after `n_iter_no_change` epochs without a better
        accuracy on them, and keep the best epoch's weights.
    validation_fraction, n_iter_no_change
        See `early_stopping`.
    random_state : int, None, Generator or RandomState
        Draws the first weights, the order of the sentences and everything dropped. The same integer gives the same
        bits, for any number of threads.
    n_threads : int or None
        None: as many as `rnncore.get_num_threads` says, but one for small networks.
    dtype : "float32" or "float64"
    verbose : int
        1 shows a bar with loss, words per second and time left.
    callbacks : sequence of callables, optional
        Each is called after every epoch with its record (a dict, see `history_`); one that returns true ends training.
    warm_start : bool
        Whether `fit` goes on from the last weights, with the vocabulary and labels of the first fit.

    Attributes
    ----------
    classes_ : (K,) array
        The labels, sorted.
    history_ : list of dict
        For every epoch: epoch, loss (mean over words), seconds; with early stopping val_loss and val_score too.
    n_epochs_ : int
    stopped_ : str or None
        Why training ended before `max_epochs`: "early", "callback", "interrupted", "diverged".
    network_ : rnncore.Network
    encoder_ : Vocabulary or FeatureEncoder

    Notes
    -----
    The defaults were chosen by the mean accuracy over twenty random 80/20 and six 20/80 splits of the file of the
    original program, and over samples of `rnncore.datasets.news_requests` with 200, 800 and 2400 training sentences;
    they lie where neighbouring values make no difference (a layer of 64 with a learning rate of 0.015 is right for one
    word in 3000 more, in twice the time), and clipped_relu where wide layers and long sentences still train.

    Examples
    --------
    >>> from rnncore.datasets import news_requests
    >>> sentences, tags = news_requests(200)
    >>> tagger = SequenceTagger(max_epochs=10).fit(sentences, tags)
    >>> len(tagger.predict([["top", "news", "from", "kenya"]])[0])
    4
    """

    _unit = "word"

    def __init__(
        self,
        cell: str = "elman",
        hidden_size: int = 32,
        num_layers: int = 1,
        bidirectional: bool = True,
        activation: str | None = None,
        cell_options: dict[str, Any] | None = None,
        head: str | None = None,
        constraints: str | None = None,
        embedding_size: int | None = None,
        embeddings: Any = None,
        window: int = 0,
        word_pairs: bool = False,
        affixes: int = 0,
        shapes: bool = False,
        skip: bool | str = False,
        optimizer: str | Optimizer = "adam",
        learning_rate: float = 0.02,
        schedule: str | Schedule | None = "linear",
        batch_size: int | None = None,
        max_epochs: int | None = None,
        clip_norm: float | None = 5.0,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.2,
        word_dropout: float = 0.3,
        weight_decay: float = 0.0,
        min_count: int = 1,
        lowercase: bool = True,
        fold_digits: bool = True,
        class_weight: str | dict[Any, float] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        random_state: Any = 0,
        n_threads: int | None = None,
        dtype: str = "float32",
        verbose: int = 0,
        callbacks: Sequence[Callable[[dict[str, Any]], Any]] | None = None,
        warm_start: bool = False,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.activation = activation
        self.cell_options = cell_options
        self.head = head
        self.constraints = constraints
        self.embedding_size = embedding_size
        self.embeddings = embeddings
        self.window = window
        self.word_pairs = word_pairs
        self.affixes = affixes
        self.shapes = shapes
        self.skip = skip
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.clip_norm = clip_norm
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.recurrent_dropout = recurrent_dropout
        self.word_dropout = word_dropout
        self.weight_decay = weight_decay
        self.min_count = min_count
        self.lowercase = lowercase
        self.fold_digits = fold_digits
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.n_threads = n_threads
        self.dtype = dtype
        self.verbose = verbose
        self.callbacks = callbacks
        self.warm_start = warm_start

    def fit(
        self,
        sentences: Any,
        tags: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None,
    ) -> SequenceTagger:
        """Learn from tagged sentences.

        Parameters
        ----------
        sentences : list of lists of str, int or dict, or list of (T, D) arrays
            Dicts hold features as sklearn-crfsuite takes them, numbers and arrays of numbers among them, see
            `rnncore.data.features.DictFeatures`. What `rnncore.data.readers.read_packed` reads from a file takes least
            memory.
        tags : list of lists of str or int
            A label for every step.
        sample_weight : (S,) array, optional
            Factor of each sentence's loss, relative to the mean over all words: a sentence of weight 2 counts as much
            as if it were there twice, one of weight 0 as if it were not there.
        validation_data : (sentences, tags), optional
            Watched instead of a part of `sentences`, and switches early stopping on.
        checkpoint : path, optional
            File to keep the state of the training in, every `checkpoint_every` seconds and after Ctrl-C.
        resume : path, optional
            A checkpoint to go on from, with the same data and settings. The result has the same bits as if training had
            never stopped. Further checkpoints take its place, unless `checkpoint` names another file.

        Returns
        -------
        SequenceTagger
            Itself.

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used.
        KeyboardInterrupt
            After Ctrl-C; the tagger is then fitted with what was learned until then.
        """
        self._check_settings()
        sentences, tags, weights = _weighted(*_checked(sentences, tags), sample_weight, self._check_tags)
        rng = generator(self.random_state)
        checkpoints = open_checkpoints(checkpoint, checkpoint_every, resume)
        if checkpoints is not None:
            checkpoints.begin(rng)
        if validation_data is not None:
            validation_data = _with_words(*_checked(*validation_data))
        elif self.early_stopping:
            rest, apart = self._set_aside(len(sentences), rng)
            validation_data = (select(sentences, apart), select(tags, apart))
            sentences, tags = select(sentences, rest), select(tags, rest)
            weights = None if weights is None else weights[rest]
        max_epochs = self.max_epochs or min(20, max(5, round(20 * (1000 / len(sentences)) ** 0.5)))
        n_steps = max_epochs * -(-len(sentences) // self._batch_size(len(sentences)))
        optimizer = self._make_optimizer(n_steps, self.schedule)
        if not (self.warm_start and hasattr(self, "network_")):
            self._prepare(sentences, tags, rng)
        self._learn(sentences, tags, rng, optimizer, max_epochs, validation_data, weights, checkpoints)
        return self

    def partial_fit(self, sentences: Any, tags: Any, classes: Any = None, sample_weight: Any = None) -> SequenceTagger:
        """Learn one epoch more, with a constant learning rate.

        The first call without a `fit` before it takes vocabulary and labels from its data (`classes`: all labels there
        will be); words that come later are unknown. Weights are relative to the mean of one call.

        Raises
        ------
        DataError, ValueError, TypeError
            For data or settings that cannot be used.
        """
        self._check_settings()
        sentences, tags, weights = _weighted(*_checked(sentences, tags), sample_weight, self._check_tags)
        rng: np.random.Generator = self.__dict__.get("_partial_rng") or generator(self.random_state)
        if not hasattr(self, "network_"):
            self._prepare(sentences, [*tags, list(classes)] if classes is not None else tags, rng)
        if not hasattr(self, "_partial_optimizer"):
            self._partial_optimizer = self._make_optimizer(1, None)
        self._partial_rng = rng
        self._learn(sentences, tags, rng, self._partial_optimizer, 1, None, weights)
        return self

    def predict(self, sentences: Any) -> list[list[Any]]:
        """Return the most probable label of every step, as lists like `sentences`, empty ones for empty ones."""
        self._check_fitted()
        if (kept := _worded(sentences)) is not None:
            labels_of = dict(zip(kept.tolist(), self.predict(select(sentences, kept)), strict=True))
            return [labels_of.get(number, []) for number in range(len(sentences))]
        data = self._encoded(sentences)
        labels = self._labels.decode(decode(self.network_, data, self._arrange))
        ends = np.cumsum(data.lengths).tolist()
        return [labels[end - length : end] for end, length in zip(ends, data.lengths.tolist(), strict=True)]

    def predict_proba(self, sentences: Any) -> list[np.ndarray]:
        """Return a (T, K) array of probabilities for each sentence, columns in the order of `classes_`."""
        self._check_fitted()
        if (kept := _worded(sentences)) is not None:
            found = dict(zip(kept.tolist(), self.predict_proba(select(sentences, kept)), strict=True))
            nothing = np.empty((0, len(self.classes_)), dtype=self.network_.theta.dtype)
            return [found[number] if number in found else nothing.copy() for number in range(len(sentences))]
        probabilities, lengths = self._probabilities(sentences)
        return np.split(probabilities, np.cumsum(lengths)[:-1]) if len(lengths) else []

    def stream(self) -> Callable[[Any], Any]:
        """Return a function that takes one sentence's words one by one, as they come, and returns each one's label.

        It needs a tagger that reads forward and labels every word for itself: ``bidirectional=False``,
        ``head="softmax"``, and no features of neighbours.

        Raises
        ------
        ValueError
            For another tagger.

        Examples
        --------
        >>> from rnncore.datasets import news_requests
        >>> tagger = SequenceTagger(bidirectional=False, head="softmax", max_epochs=3).fit(*news_requests(50))
        >>> label_of = tagger.stream()
        >>> [label_of(word) for word in ["top", "news"]] == tagger.predict([["top", "news"]])[0]
        True
        """
        self._check_fitted()
        if self.bidirectional or self._head != "softmax" or isinstance(self.encoder_, WordFeatures):
            raise ValueError(
                "words can only be tagged as they come by a tagger with bidirectional=False, head='softmax' and "
                "no window, word_pairs, affixes or shapes"
            )
        session = self.network_.session()

        def label_of(token: Any) -> Any:
            ((x, _, _, _),) = batches_to_predict(self._encoded([[token]]), self._arrange)
            probabilities = session.run(x)
            return self._labels.classes[int(probabilities.argmax())]

        return label_of

    def score(self, sentences: Any, tags: Any, sample_weight: Any = None) -> float:
        """Return the share of steps tagged right, each as much as its sentence's weight."""
        sentences, tags, weights = _weighted(*_checked(sentences, tags), sample_weight)
        right, lengths = self._right(sentences, tags)
        return float(np.average(right, weights=None if weights is None else np.repeat(weights, lengths)))

    def count_correct(self, sentences: Any, tags: Any) -> tuple[int, int]:
        """Return how many steps are tagged right, and how many there are; labels never seen count as wrong."""
        right, _ = self._right(*_with_words(*_checked(sentences, tags)))
        return int(right.sum()), len(right)

    def _right(self, sentences: Any, tags: Any) -> tuple[np.ndarray, np.ndarray]:
        """Tell of all steps whether they are tagged right; also return the lengths."""
        self._check_fitted()
        data = self._encoded(sentences, tags, unknown=-1)
        return decode(self.network_, data, self._arrange) == data.y, data.lengths

    def evaluate(self, sentences: Any, tags: Any, strict: bool | str = False) -> dict[str, Any]:
        """Measure the predictions against `tags`; see `rnncore.metrics.evaluation` for `strict` and what comes back."""
        sentences, tags = _with_words(*_checked(sentences, tags))
        tally = Tally(strict)
        for start in range(0, len(sentences), _SENTENCES_AT_ONCE):
            some = slice(start, start + _SENTENCES_AT_ONCE)
            tally.add(
                [list(labels) for labels in tags[some]], self.predict(sentences[some]), self.knows(sentences[some])
            )
        return tally.result()

    def knows(self, sentences: Any) -> np.ndarray | None:
        """Tell of all words of all sentences whether the training data had them; None where tokens are no words."""
        self._check_fitted()
        known: np.ndarray | None = self.encoder_.knows(sentences)
        return known

    # -- the parts of fit -------------------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice("cell", self.cell, [*CELLS])
        check_choice("activation", self.activation, (None, *ACTIVATIONS))
        if self.head is not None:
            check_choice("head", self.head, ("softmax", "crf"))
        check_choice("constraints", self.constraints, (None, "auto", "bio", "iobes"))
        if not (self.class_weight is None or isinstance(self.class_weight, str | Mapping)):
            raise ValueError(
                f"class_weight: expected None, 'balanced' or a dict of label to weight, got {self.class_weight!r}"
            )
        if self._head == "softmax" and self.constraints is not None:
            raise ValueError("constraints do not go with head='softmax': leave them out, or set head='crf'")
        if self.embedding_size is not None:
            check_count("embedding_size", self.embedding_size, 1)
        check_number("word_dropout", self.word_dropout, "[0, 1]", 0.3)
        check_count("min_count", self.min_count, 1)
        check_count("window", self.window, 0)
        check_count("affixes", self.affixes, 0)
        if max(self.window, self.affixes) > 50:
            raise ValueError(f"window and affixes: expected at most 50, got {self.window} and {self.affixes}")
        check_choice("skip", self.skip, (False, True, "only"))
        for name in ("word_pairs", "shapes"):
            check_flag(name, getattr(self, name))
        check_flag("lowercase", self.lowercase)
        check_flag("fold_digits", self.fold_digits)

    def _check_tags(self, sentences: Any, tags: Any, counted: np.ndarray) -> None:
        """Find tags that break the constraints, while it is known which sentence they are of."""
        if self.constraints is None:
            return
        known = self._labels if self.warm_start and hasattr(self, "network_") else LabelEncoder().fit(tags)
        rule = bio_constraints(known.classes, self.constraints)
        ids, lengths = known.encode(tags, -1), sequence_lengths(tags, "tags")
        ends = np.cumsum(lengths)
        first, last = (ends - lengths)[lengths > 0], ends[lengths > 0] - 1
        follows = rule.transitions[np.roll(ids, 1), ids]
        wrong = ~follows
        wrong[first] = ~rule.start[ids[first]]
        wrong[last] |= ~rule.end[ids[last]]
        wrong &= np.repeat(counted, lengths)
        if not wrong.any():
            return
        at = int(np.argmax(wrong))
        number = int(np.searchsorted(ends, at, side="right"))
        word = at - int(ends[number] - lengths[number])
        label, before = tags[number][word], tags[number][word - 1] if word else None
        if word and not follows[at]:
            what = f"cannot follow {before!r}"
        else:
            what = "cannot begin a sentence" if not word and not rule.start[ids[at]] else "cannot end a sentence"
        raise DataError(
            f"sentence {number}, word {word} ({sentences[number][word]!r}): label {label!r} {what} by "
            f"constraints={self.constraints!r}; mend the data, or leave the constraints out"
        )

    def _set_aside(self, n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Draw which sentences to train on and which to validate on."""
        if n < 2:
            raise DataError("early_stopping needs at least 2 sentences, one of them to validate on, got 1")
        order = rng.permutation(n).tolist()
        n_apart = min(max(1, round(self.validation_fraction * n)), n - 1)
        return order[n_apart:], order[:n_apart]

    def _prepare(self, sentences: Any, tags: Any, rng: np.random.Generator) -> None:
        """Take vocabulary and labels from the data and make the network."""
        self.encoder_ = encoder_for(
            sentences,
            Vocabulary(self.min_count, self.lowercase, self.fold_digits),
            window=self.window,
            word_pairs=self.word_pairs,
            affixes=self.affixes,
            shapes=self.shapes,
        )
        self._vector_size: int | None = None
        vectors = None if self.embeddings is None else self._read_vectors()
        self.encoder_.fit(sentences)
        self._take_labels(LabelEncoder().fit(tags))
        self._seed = int(rng.integers(2**31))
        self._weights = self._class_weights(tags)
        self.history_, self.n_epochs_, self.stopped_ = [], 0, None
        self.network_ = self._build_network()
        if vectors is not None:
            self._start_from(*vectors)
        for name in ("_partial_optimizer", "_partial_rng"):
            self.__dict__.pop(name, None)

    def _take_labels(self, labels: LabelEncoder) -> None:
        self._labels = labels
        self.classes_ = np.array(labels.classes)

    def _class_weights(self, tags: Any) -> list[float] | None:
        classes = self._labels.classes
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, dict):
            unknown = set(self.class_weight) - set(classes)
            if unknown:
                raise ValueError(f"class_weight: no label {sorted(map(str, unknown))[0]!r} in the training data")
            return [float(self.class_weight.get(label, 1.0)) for label in classes]
        if self.class_weight == "balanced":
            counts = np.bincount(self._labels.encode(tags), minlength=len(classes))
            return (counts.sum() / (len(classes) * counts)).tolist()
        raise ValueError(
            f"class_weight: expected None, 'balanced' or a dict of label to weight, got {self.class_weight!r}"
        )

    def _build_network(self) -> Any:
        encoder = self.encoder_
        embedding = None
        if isinstance(encoder, FeatureEncoder):
            input_size = n_features = encoder.n_features
        else:
            n_features = encoder.n_symbols + self._n_numbers
            words_alone = isinstance(encoder, WordFeatures) and self.skip == "only"
            input_size = encoder.vocabulary.n_symbols if words_alone else encoder.n_symbols
            if self._embedding_size is not None:
                embedding = Embedding(input_size, self._embedding_size)
                input_size = self._embedding_size
        layer = Recurrent(
            self.cell,
            input_size,
            self.hidden_size,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            activation=self.activation or ("clipped_relu" if self.cell == "elman" else None),
            dropout=self.dropout,
            output_dropout=self.dropout,
            input_dropout=self.input_dropout,
            recurrent_dropout=self.recurrent_dropout,
            dtype=self.dtype,
            random_state=self._seed,
            n_threads=self._threads(),
            **self._cell_options(),
        )
        skip = n_features if self.skip else self._n_numbers
        return Network(layer, head=self._make_head(), embedding=embedding, skip=skip)

    def _cell_options(self) -> dict[str, Any]:
        if self.cell_options is None:
            return {}
        known = {"zoneout", *CELLS[self.cell].options} if self.cell in CELLS else set()
        known |= {option for _, option, _ in ACTIVATIONS.values() if option}
        options = self.cell_options if isinstance(self.cell_options, Mapping) else None
        if options is None or set(options) - known:
            raise ValueError(
                f"cell_options of {self.cell} must be a dict of some of {', '.join(sorted(known))}, "
                f"got {self.cell_options!r}"
            )
        return dict(options)

    @property
    def _head(self) -> str:
        return self.head or ("crf" if self.class_weight is None else "softmax")

    def _make_head(self) -> Head:
        labels = self._labels.classes
        if self._head == "softmax":
            return Softmax(len(labels), class_weight=self._weights)
        constraints = None if self.constraints is None else bio_constraints(labels, self.constraints)
        return CRF(len(labels), constraints, self._weights)

    @property
    def _embedding_size(self) -> int | None:
        return self._vector_size or self.embedding_size

    def _read_vectors(self) -> tuple[list[str], np.ndarray]:
        """Read the pretrained vectors and let the vocabulary know their words."""
        vocabulary = getattr(self.encoder_, "vocabulary", self.encoder_)
        if not isinstance(vocabulary, Vocabulary):
            raise ValueError("embeddings are for sentences of words; leave them out")
        words, vectors = word_vectors(self.embeddings)
        if self.embedding_size not in (None, vectors.shape[1]):
            raise ValueError(
                f"embedding_size={self.embedding_size}, but the vectors of embeddings have {vectors.shape[1]} numbers; "
                "leave one of them out"
            )
        vocabulary.also = words
        self._vector_size = vectors.shape[1]
        return words, vectors

    def _start_from(self, words: list[str], vectors: np.ndarray) -> None:
        vocabulary: Any = getattr(self.encoder_, "vocabulary", self.encoder_)
        ids = vocabulary.encode([words])
        _, first = np.unique(ids, return_index=True)  # of words alike but for case and digits, the first
        self.network_.params["embedding.E"][ids[first]] = vectors[first]

    @property
    def _n_numbers(self) -> int:
        """How many features in dicts are numbers."""
        return self.encoder_.n_numbers if isinstance(self.encoder_, DictFeatures) else 0

    def _arrange(self, x: np.ndarray, values: np.ndarray | None = None) -> Any:
        """Turn a batch of what the encoder made into what the network takes."""
        encoder = self.encoder_
        if values is not None:
            read = np.where(x < encoder.n_symbols, x, -1)  # the layers read bags, in which there are no numbers
            return (read, x, values) if self.skip else (read, np.maximum(x - encoder.n_symbols, -1), values)
        if not self.skip:
            return x
        if isinstance(encoder, FeatureEncoder):
            return x, np.broadcast_to(np.arange(encoder.n_features), x.shape), x
        if x.ndim == 2:
            return x, x[:, :, None]
        return (x[:, :, 0] if self.skip == "only" and isinstance(encoder, WordFeatures) else x), x

    def _threads(self) -> int | None:
        """Return the setting, or one thread where a time step is too small to be worth sharing (the bits are equal)."""
        work = self.hidden_size**2 * (self.batch_size or 32)
        return 1 if self.n_threads is None and work < _WORTH_SHARING else self.n_threads

    def _learn(
        self,
        sentences: Any,
        tags: Any,
        rng: np.random.Generator,
        optimizer: Optimizer,
        max_epochs: int,
        validation: Any,
        weights: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        data = self._encoded(sentences, tags)
        if weights is not None:
            weights = weights / self._mean_weight(weights, data)
        self._train(
            data,
            optimizer,
            max_epochs,
            checkpoints,
            random_state=rng,
            weights=weights,
            arrange=self._arrange,
            corrupt=self._word_dropout(data.x),
            validate=None if validation is None else self._validation(*validation),
        )

    def _encoded(self, sentences: Any, tags: Any = None, unknown: int | None = None) -> Sequences:
        lengths = sequence_lengths(sentences)
        if self._n_numbers:
            x, values = self.encoder_.encode_with_values(sentences)
        else:
            x, values = self.encoder_.encode(sentences), None
        y = None if tags is None else self._labels.encode(tags, unknown)
        if x.dtype.kind != "i":
            with np.errstate(over="ignore"):
                x = x.astype(self.dtype, copy=False)
            if not np.isfinite(x).all():
                raise DataError(f"features are too large for {self.dtype}: scale them, or set dtype='float64'")
        return Sequences(x, y, lengths, values)

    def _mean_weight(self, weights: np.ndarray, data: Sequences) -> float:
        """Return the mean over all words of their sentences' weights, as much as their labels count."""
        counts = data.lengths
        if self._weights is not None and data.y is not None:
            counts = np.add.reduceat(np.array(self._weights)[data.y], data.starts)
        total = float(counts.sum())
        return float((weights * counts).sum()) / total if total else 1.0

    def _word_dropout(self, ids: np.ndarray) -> Callable[[np.ndarray, np.random.Generator], np.ndarray] | None:
        """Return what reads some words as unknown ones: `word_dropout` of those that occur once, less of others.

        So it does with every other feature, each for itself.
        """
        if isinstance(self.encoder_, FeatureEncoder) or not self.word_dropout:
            return None
        counts = np.maximum(np.bincount(ids[ids >= 0], minlength=len(self.encoder_.unknown_of)), 1)
        p = self.word_dropout
        rate = np.append(p / (p + (1.0 - p) * counts), 0.0).astype(np.float32)  # the last is that of -1
        unknown_of = self.encoder_.unknown_of

        def corrupt(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            changed = x.copy()
            for start in range(0, len(x), _WORDS_AT_ONCE):  # little memory beside the data's
                part = changed[start : start + _WORDS_AT_ONCE]
                hit = rng.random(part.shape, dtype=np.float32) < rate[part]
                part[hit] = unknown_of[part[hit]]
            return changed

        return corrupt

    def _validation(self, sentences: Any, tags: Any) -> Callable[[], dict[str, float]]:
        data = self._encoded(sentences, tags, unknown=-1)
        known = np.flatnonzero(data.y != -1)  # a label not in the training part is wrong whatever is predicted

        def validate() -> dict[str, float]:
            probabilities = predict(self.network_, data, len(self.classes_), self._arrange)
            right = probabilities[known, data.y[known]].astype(np.float64)  # type: ignore[index]
            loss = -np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean() if len(known) else 0.0
            best = (
                probabilities.argmax(axis=1) if self._head == "softmax" else decode(self.network_, data, self._arrange)
            )
            return {"val_loss": float(loss), "val_score": float((best == data.y).mean())}

        return validate

    def _probabilities(self, sentences: Any) -> tuple[np.ndarray, np.ndarray]:
        self._check_fitted()
        data = self._encoded(sentences)
        return predict(self.network_, data, len(self.classes_), self._arrange), data.lengths

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as one ONNX model, see ``Network.to_onnx``.

        Its x is what `encoder_` makes of the sentences: ids (T, B) of words, bags of ids (T, B, N) of dicts or words
        with features, or feature vectors. Labels and encoder are in the metadata, JSON under ``rnncore``; ``scores``
        and ``labels`` count the labels in the order of ``classes_``.

        Raises
        ------
        ValueError, ImportError
            As ``Network.to_onnx``.
        """
        self._check_fitted()
        encoder = self.encoder_
        inputs = "numbers"
        if not isinstance(encoder, FeatureEncoder):
            words_alone = isinstance(encoder, Vocabulary) or self.skip == "only"
            inputs = "ids" if words_alone and not isinstance(encoder, DictFeatures) else "bags"
        about = {"classes": self._labels.classes, "encoder": encoder.to_json(), "inputs": inputs}
        self.network_.to_onnx(path, inputs, about)

    # -- model files ------------------------------------------------------------------------------------------------

    def _learned_to_json(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder_.to_json(),
            "classes": self._labels.classes,
            "class_weights": self._weights,
            "seed": self._seed,
            "vector_size": self._vector_size,
        }

    def _learned_from_json(self, header: dict[str, Any]) -> None:
        self.encoder_ = encoder_from_json(header["encoder"])
        self._take_labels(LabelEncoder(header["classes"]))
        self._weights = header["class_weights"]
        self._seed = int(header["seed"])
        self._vector_size = header.get("vector_size")


def _weighted(
    sentences: Any, tags: Any, sample_weight: Any, check: Callable[[Any, Any, np.ndarray], None] | None = None
) -> tuple[Any, Any, np.ndarray | None]:
    """Check the weights and leave out sentences that have none; None where all count alike.

    `check` is told which sentences count, while they still have their numbers.
    """
    n = len(sentences)
    if sample_weight is None:
        if check is not None:
            check(sentences, tags, np.ones(n, dtype=bool))
        return *_with_words(sentences, tags, warn=check is not None), None
    weights = _checks.array(sample_weight, "sample_weight").astype(np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight: expected {n} numbers, one for each sentence, got shape {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise ValueError("sample_weight: expected finite numbers of at least 0, not all of them 0")
    if not 1e-100 < weights.max() < 1e100:  # only how they compare counts; their sums must be numbers
        weights = weights / weights.max()
    if check is not None:
        check(sentences, tags, weights > 0)
    kept = _worded(sentences)
    if kept is not None:
        sentences, tags = _with_words(sentences, tags, warn=check is not None)
        weights = weights[kept]
        if not weights.any():
            raise ValueError("sample_weight: only sentences without words have a weight above 0")
    counted = np.flatnonzero(weights)
    if len(counted) < len(weights):
        sentences, tags, weights = select(sentences, counted), select(tags, counted), weights[counted]
    return sentences, tags, None if (weights == weights[0]).all() else weights


def _worded(sentences: Any) -> np.ndarray | None:
    """Return which sentences have words, or None where all have."""
    lengths = sequence_lengths(sentences)
    return None if lengths.all() else np.flatnonzero(lengths)


def _with_words(sentences: Any, tags: Any, warn: bool = False) -> tuple[Any, Any]:
    """Leave out sentences without words."""
    kept = _worded(sentences)
    if kept is None:
        return sentences, tags
    if not len(kept):
        raise DataError("there are no words: all sentences are empty")
    if warn:
        n = len(sentences) - len(kept)
        first = int(np.flatnonzero(sequence_lengths(sentences) == 0)[0])
        warnings.warn(f"{n} empty sentences were left out, the first of them number {first}", UserWarning, stacklevel=4)
    return select(sentences, kept), select(tags, kept)


def _checked(sentences: Any, tags: Any) -> tuple[Any, Any]:
    """Check that there are as many tags as words."""
    sentences, tags = (
        list(part) if hasattr(part, "__len__") and not isinstance(part, str | TokenLists) else part
        for part in (sentences, tags)
    )
    lengths, tag_lengths = sequence_lengths(sentences), sequence_lengths(tags, "tags")
    if not len(lengths):
        raise DataError("there are no sentences: expected at least one")
    if len(lengths) != len(tag_lengths):
        raise DataError(f"expected as many lists of tags as sentences, got {len(lengths)} and {len(tag_lengths)}")
    if (lengths != tag_lengths).any():
        bad = int(np.argmax(lengths != tag_lengths))
        raise DataError(f"sentence {bad} has {lengths[bad]} words but {tag_lengths[bad]} tags")
    return sentences, tags
