"""Raw sequences to what a network reads: a pipeline learns from training data, encodes, collates, augments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.data.encoders import FeatureEncoder, Vocabulary, sequence_lengths
from rnncore.data.features import DictFeatures, WordFeatures, encoder_for, encoder_from_json
from rnncore.data.letters import LetterEncoder
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.vectors import word_vectors
from rnncore.nn.inputs import Letters, Segment
from rnncore.nn.network import Embedding

__all__ = ["Pipeline", "TokenPipeline"]

Corrupt = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_WORDS_AT_ONCE = 65536  # in word dropout
_BESIDE_LETTERS = 64  # numbers of a word's vector beside its letters', without an embedding_size


class Pipeline(ABC):
    """Base of pipelines. Once it is fitted, its attributes say what the network is to read.

    `input_size` numbers at each step, of the `segments` side by side, or of one `embedding`, or as they are; `skip`
    features past the layers.
    """

    input_size: int
    embedding: Embedding | None = None
    segments: dict[str, Segment] | None = None
    skip: int = 0

    @abstractmethod
    def fit(self, sequences: Any) -> None:
        """Learn from the training data."""

    @abstractmethod
    def encode(self, sequences: Any) -> Sequences:
        """Lay the sequences end to end as numbers, without targets."""

    def collate(self, x: np.ndarray, values: np.ndarray | None = None) -> Any:
        """Turn a batch (T, B, ...) of what `encode` made into what the network takes."""
        return x

    def augment(self, data: Sequences) -> Corrupt | None:
        """Return what changes an epoch's inputs while training, ``corrupt(x, rng)``, or None."""
        return None

    def begin(self, network: Any) -> None:  # noqa: B027
        """Give a new network the first weights that the pipeline knows better than chance."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Describe what was learned for a model file."""

    @abstractmethod
    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""


class TokenPipeline(Pipeline):
    """Sequences of words, symbols, dicts of features, or feature vectors.

    Parameters
    ----------
    min_count, lowercase, fold_digits
        Of the `Vocabulary`.
    window, word_pairs, affixes, shapes
        Of `WordFeatures`.
    skip : False, True or "only"
        Whether features have weights past the layers too, or these alone.
    embedding_size : int or None
    embeddings : None, path, (words, vectors), dict or KeyedVectors
        See `rnncore.data.vectors.word_vectors`.
    word_dropout : float
        How likely a word that occurs once is read as unknown while training.
    letters : int
        Units, in each direction, of a recurrent network over each word's letters; 0: none.
    dtype : str
        Of feature vectors.

    Examples
    --------
    >>> pipeline = TokenPipeline(lowercase=False)
    >>> pipeline.fit([["A", "a"], ["a"]])
    >>> pipeline.encode([["a", "b", "A"]]).x.tolist(), pipeline.input_size
    ([1, 0, 2], 3)
    """

    def __init__(
        self,
        min_count: int = 1,
        lowercase: bool = True,
        fold_digits: bool = True,
        window: int = 0,
        word_pairs: bool = False,
        affixes: int = 0,
        shapes: bool = False,
        skip: bool | str = False,
        embedding_size: int | None = None,
        embeddings: Any = None,
        word_dropout: float = 0.0,
        letters: int = 0,
        dtype: Any = "float32",
    ) -> None:
        self._words: dict[str, Any] = {"min_count": min_count, "lowercase": lowercase, "fold_digits": fold_digits}
        self._templates: dict[str, Any] = {
            "window": window,
            "word_pairs": word_pairs,
            "affixes": affixes,
            "shapes": shapes,
        }
        self._skip = skip
        self._embedding_size = embedding_size
        self._embeddings = embeddings
        self._vectors: tuple[list[str], np.ndarray] | None = None
        self._vector_size: int | None = None
        self._letters = letters
        self._spelling = LetterEncoder()
        self.word_dropout = word_dropout
        self.dtype = _checks.precision(dtype)[0].name
        self.encoder: Any = None

    def fit(self, sequences: Any) -> None:
        """Choose an encoder by the data and collect words or features."""
        self.encoder = encoder_for(sequences, Vocabulary(**self._words), **self._templates)
        if self._embeddings is not None:
            self._vectors = self._read_vectors()
        self._embeddings = None  # read once, not kept
        self.encoder.fit(sequences)
        if self._letters:
            if not isinstance(self.encoder, Vocabulary | WordFeatures):
                raise DataError("letters are of words: leave them out (letters=0) where tokens are no words")
            self._spelling.fit(sequences)
        self._lay_out()

    def _read_vectors(self) -> tuple[list[str], np.ndarray]:
        """Read the pretrained vectors and let the vocabulary know their words."""
        vocabulary = getattr(self.encoder, "vocabulary", self.encoder)
        if not isinstance(vocabulary, Vocabulary):
            raise ValueError("embeddings are for sentences of words; leave them out")
        words, vectors = word_vectors(self._embeddings)
        if self._embedding_size not in (None, vectors.shape[1]):
            raise ValueError(
                f"embedding_size={self._embedding_size}, but the vectors of embeddings have {vectors.shape[1]} "
                "numbers; leave one of them out"
            )
        vocabulary.also = words
        self._vector_size = vectors.shape[1]
        return words, vectors

    def _lay_out(self) -> None:
        """Settle what the network is to read."""
        encoder = self.encoder
        self._n_numbers = encoder.n_numbers if isinstance(encoder, DictFeatures) else 0
        self.embedding = None
        if isinstance(encoder, FeatureEncoder):
            self.input_size = n_features = encoder.n_features
        else:
            n_features = encoder.n_symbols + self._n_numbers
            words_alone = isinstance(encoder, WordFeatures) and self._skip == "only"
            self.input_size = encoder.vocabulary.n_symbols if words_alone else encoder.n_symbols
            size = self._vector_size or self._embedding_size
            if self._letters:
                words = Embedding(self.input_size, size or _BESIDE_LETTERS)
                letters = Letters(self._spelling.n_symbols, self._letters)
                self.segments = {"words": words, "letters": letters}
                self.input_size = words.width + letters.width
            elif size is not None:
                self.embedding = Embedding(self.input_size, size)
                self.input_size = size
        self.skip = n_features if self._skip else self._n_numbers

    def begin(self, network: Any) -> None:
        """Put the pretrained vectors into the embedding."""
        if self._vectors is None:
            return
        words, vectors = self._vectors
        vocabulary: Any = getattr(self.encoder, "vocabulary", self.encoder)
        ids = vocabulary.encode([words])
        _, first = np.unique(ids, return_index=True)  # of words alike but for case and digits, the first
        table = "inputs.words.E" if self.segments else "embedding.E"
        network.params[table][ids[first]] = vectors[first]
        self._vectors = None

    def encode(self, sequences: Any) -> Sequences:
        """Return ids, bags of ids (with factors, where features are numbers) or feature vectors."""
        lengths = sequence_lengths(sequences)
        if self._n_numbers:
            x, values = self.encoder.encode_with_values(sequences)
        else:
            x, values = self.encoder.encode(sequences), None
        if x.dtype.kind != "i":
            with np.errstate(over="ignore"):
                x = x.astype(self.dtype, copy=False)
            if not np.isfinite(x).all():
                raise DataError(f"features are too large for {self.dtype}: scale them, or set dtype='float64'")
        if self._letters:
            x = np.column_stack([x, self._spelling.encode(sequences)])
        return Sequences(x, None, lengths, values)

    def collate(self, x: np.ndarray, values: np.ndarray | None = None) -> Any:
        """Return what the layers read and, where there are weights past them, what these are for."""
        encoder = self.encoder
        if self._letters:
            words = x[..., : -self._spelling.longest]
            one = words.shape[-1] == 1 or (self._skip == "only")
            parts = {"words": words[..., 0] if one else words, "letters": x[..., -self._spelling.longest :]}
            return (parts, words) if self._skip else parts
        if values is not None:
            read = np.where(x < encoder.n_symbols, x, -1)  # the layers read bags, in which there are no numbers
            return (read, x, values) if self._skip else (read, np.maximum(x - encoder.n_symbols, -1), values)
        if not self._skip:
            return x
        if isinstance(encoder, FeatureEncoder):
            return x, np.broadcast_to(np.arange(encoder.n_features), x.shape), x
        if x.ndim == 2:
            return x, x[:, :, None]
        return (x[:, :, 0] if self._skip == "only" and isinstance(encoder, WordFeatures) else x), x

    def augment(self, data: Sequences) -> Corrupt | None:
        """Return what reads some words as unknown ones: `word_dropout` of those that occur once, less of others.

        So it does with every other feature, each for itself.
        """
        ids, p = data.x, self.word_dropout
        if isinstance(self.encoder, FeatureEncoder) or not p:
            return None
        if self._letters:  # words that are not known are still spelled
            ids = ids[:, : -self._spelling.longest]
        n_columns = ids.shape[1:]
        unknown_of = self.encoder.unknown_of
        counts = np.maximum(np.bincount(ids[ids >= 0], minlength=len(unknown_of)), 1)
        rate = np.append(p / (p + (1.0 - p) * counts), 0.0).astype(np.float32)  # the last is that of -1

        def corrupt(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            changed = x.copy()
            for start in range(0, len(x), _WORDS_AT_ONCE):  # little memory beside the data's
                part = changed[start : start + _WORDS_AT_ONCE]
                part = part[:, : n_columns[0]] if n_columns else part
                hit = rng.random(part.shape, dtype=np.float32) < rate[part]
                part[hit] = unknown_of[part[hit]]
            return changed

        return corrupt

    def knows(self, sequences: Any) -> np.ndarray | None:
        """Tell of all tokens whether the training data had them; None where tokens are no words."""
        known: np.ndarray | None = self.encoder.knows(sequences)
        return known

    @property
    def one_by_one(self) -> bool:
        """Whether a token's numbers depend on it alone."""
        return not (isinstance(self.encoder, WordFeatures) and (self.encoder.window or self.encoder.word_pairs))

    @property
    def inputs(self) -> str | dict[str, str]:
        """What the network's x is, as ``Network.to_onnx`` names it."""
        if self.segments:
            words_alone = isinstance(self.encoder, Vocabulary) or self._skip == "only"
            return {"words": "ids" if words_alone else "bags"}
        if isinstance(self.encoder, FeatureEncoder):
            return "numbers"
        words_alone = isinstance(self.encoder, Vocabulary) or self._skip == "only"
        return "ids" if words_alone and not isinstance(self.encoder, DictFeatures) else "bags"

    def to_json(self) -> dict[str, Any]:
        """Describe the encoder."""
        about: dict[str, Any] = {"encoder": self.encoder.to_json(), "vector_size": self._vector_size}
        return about | {"spelling": self._spelling.to_json()} if self._letters else about

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self.encoder = encoder_from_json(header["encoder"])
        self._vector_size = header.get("vector_size")
        if self._letters:
            self._spelling = LetterEncoder.from_json(header["spelling"])
        self._embeddings = None
        self._lay_out()
