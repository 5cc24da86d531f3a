"""What is written symbol by symbol: words, characters or any symbols as numbers and back, and how good it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnncore.data.encoders import is_token
from rnncore.data.readers import DataError
from rnncore.data.sequences import Sequences
from rnncore.data.symbols import UNKNOWN
from rnncore.data.texts import joined_words, words_of
from rnncore.estimators._task import Collate, LabelLists, SequenceTask
from rnncore.metrics import edit_distances
from rnncore.nn.beam import Hypothesis, beam_search
from rnncore.nn.heads import Head, Softmax
from rnncore.train.predictions import STEPS_AT_ONCE, batches_to_predict

__all__ = ["Search", "WrittenSymbols", "WrittenTask"]

#: what is written one after another
WRITTEN_UNITS = ("word", "char", "symbol")


class Search(NamedTuple):
    """How outputs are searched."""

    beam_size: int = 1
    length_penalty: float = 0.0
    max_length: int | None = None
    n_best: int = 1


class WrittenSymbols:
    """The symbols of what is written: those of a str, or lists of symbols as they are.

    Parameters
    ----------
    unit : "word", "char" or "symbol"
        Of a str its words and signs, or its characters; or lists of str or int.
    min_count : int
        Rarer symbols are read as an unknown one, which is never written.
    lowercase : bool
    noun : str
        What messages call one text.

    Attributes
    ----------
    symbols : list
        By falling frequency.
    unknown : int or None
        The number of the unknown one, where `min_count` left some out.

    Examples
    --------
    >>> table = WrittenSymbols("word").fit(["a dog, a cat", "a dog"])
    >>> table.symbols, table.encode(["a cat"])[0].tolist(), table.decode([0, 1, 2])
    (['a', 'dog', ',', 'cat'], [0, 3], 'a dog,')
    """

    def __init__(self, unit: str = "word", min_count: int = 1, lowercase: bool = False, noun: str = "target") -> None:
        self.unit, self.min_count, self.lowercase, self.noun = unit, min_count, lowercase, noun
        self._take([])

    def _take(self, symbols: list[Any]) -> WrittenSymbols:
        self.symbols = symbols
        self._ids = {symbol: number for number, symbol in enumerate(symbols)}
        self.unknown = self._ids.pop(UNKNOWN, None)
        return self

    def __len__(self) -> int:
        return len(self.symbols)

    def split(self, given: Any, number: int) -> list[Any]:
        """Return the symbols of text number `number`."""
        if self.unit == "symbol":
            found = given.tolist() if isinstance(given, np.ndarray) else given
            if not isinstance(found, list | tuple) or not all(map(is_token, found)):
                raise DataError(f"{self.noun} {number}: expected a list of symbols (str or int), got {given!r:.80}")
            return list(found)
        if not isinstance(given, str):
            raise DataError(f"{self.noun} {number}: expected a str, got {type(given).__name__}")
        given = given.lower() if self.lowercase else given
        return words_of(given) if self.unit == "word" else list(given)

    def fit(self, texts: Iterable[Any], also: Iterable[Any] = ()) -> WrittenSymbols:
        """Collect the symbols; of `also` all are known, however rare."""
        counts = Counter(symbol for number, text in enumerate(texts) for symbol in self.split(text, number))
        kept = {symbol: count for symbol, count in counts.items() if count >= self.min_count}
        kept |= {symbol: counts[symbol] for number, text in enumerate(also) for symbol in self.split(text, number)}
        if not kept:
            why = f"min_count={self.min_count} leaves no symbol" if counts else f"all {self.noun}s are empty"
            raise DataError(f"{why}: there is nothing to learn to write")
        if len({isinstance(symbol, str) for symbol in kept}) > 1:
            raise DataError("symbols must be all str or all int, got both")
        order = sorted(kept, key=lambda symbol: (-kept[symbol], symbol))
        return self._take([*order, *([UNKNOWN] if len(kept) < len(counts.keys() | kept.keys()) else [])])

    def encode(self, texts: Iterable[Any], unseen: int | None = None) -> list[np.ndarray]:
        """Return each text's numbers; `unseen` stands for symbols that are not known, where there is no unknown one.

        Raises
        ------
        DataError
            For such a symbol without `unseen`, naming the text.
        """
        other = unseen if self.unknown is None else self.unknown
        found = []
        for number, text in enumerate(texts):
            symbols = self.split(text, number)
            ids = [self._ids.get(symbol, other) for symbol in symbols]
            if None in ids:
                raise DataError(
                    f"{self.noun} {number}: {symbols[ids.index(None)]!r} is not among the {len(self)} symbols of the "
                    "training data"
                )
            found.append(np.array(ids, dtype=np.int64))
        return found

    def decode(self, ids: Iterable[int]) -> Any:
        """Return what some numbers stand for: a str, or a list of symbols."""
        symbols = [self.symbols[number] for number in ids]
        if self.unit == "symbol":
            return symbols
        return joined_words(symbols) if self.unit == "word" else "".join(symbols)

    def to_json(self) -> dict[str, Any]:
        """Describe the symbols."""
        return {"symbols": self.symbols}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        symbols = header["symbols"]
        if not isinstance(symbols, list) or not symbols or not all(map(is_token, symbols)):
            raise ValueError("expected symbols as a list of str or int, not empty")
        if len(set(symbols)) != len(symbols):
            raise ValueError("expected symbols that differ")
        self._take(symbols)


class WrittenTask(SequenceTask):
    """To write a text for each sequence, with a network that has ``decoding`` and ``log_probabilities``.

    Examples
    --------
    >>> task = WrittenTask(unit="char")
    >>> task.fit(["aab", "b"])
    >>> task.encode(["ba", "a"]).tolist(), task.head().outputs
    ([[1, 0], [0, -1]], 3)
    """

    per_step = False

    def __init__(self, unit: str = "word", min_count: int = 1, lowercase: bool = False, noun: str = "target") -> None:
        self.table = WrittenSymbols(unit, min_count, lowercase, noun)
        self.longest = 0  # symbols of the longest training target

    @property
    def n_symbols(self) -> int:
        """K; number K is the end."""
        return len(self.table)

    def check(self, sequences: Any, targets: Any, counted: np.ndarray) -> None:
        """Refuse targets that are empty or cannot be read."""
        for number, target in enumerate(targets):
            if counted[number] and not self.table.split(target, number):
                raise DataError(
                    f"{self.table.noun} {number} is empty: there is nothing to learn to write; leave it out"
                )

    def fit(self, targets: Any, classes: Any = None) -> None:
        """Collect the symbols; `classes` are texts whose symbols are to be known, too."""
        self.table.fit(targets, () if classes is None else classes)
        self.longest = max(map(len, self.table.encode(targets)))

    def encode(self, targets: Any, unseen: int | None = None) -> np.ndarray:
        """Return the symbols' numbers (S, L), -1 behind the ends; K stands for those never seen, if `unseen` allows."""
        ids = self.table.encode(targets, None if unseen is None else len(self.table))
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        found = np.full((len(ids), lengths.max(initial=0)), -1, dtype=np.int64)
        found[np.arange(found.shape[1]) < lengths[:, None]] = np.concatenate([np.zeros(0, dtype=np.int64), *ids])
        return found

    def counts(self, data: Sequences) -> np.ndarray:
        """Return how much each sequence's loss counts: its symbols and the end."""
        found: np.ndarray = (data.y >= 0).sum(axis=1) + 1
        return found

    def head(self) -> Head:
        """Make a head of all symbols and the end."""
        return Softmax(len(self.table) + 1)

    def search(self, network: Any, data: Sequences, collate: Collate, how: Search) -> list[list[Hypothesis]]:
        """Return the best outputs for each sequence."""
        found: list[list[Hypothesis]] = [[] for _ in range(len(data))]
        for batch, rows in self._batches(data, collate, how.beam_size):
            longest = how.max_length
            limits = self._limits(data.lengths[rows]) if longest is None else longest
            decoding = network.decoding(batch, data.lengths[rows], how.beam_size)
            if self.table.unknown is not None:
                decoding = _Without(decoding, self.table.unknown)
            made = beam_search(
                decoding, len(rows), how.beam_size, len(self.table), limits, how.length_penalty, how.n_best
            )
            for row, hypotheses in zip(rows.tolist(), made, strict=True):
                found[row] = hypotheses
        return found

    def _batches(self, data: Sequences, collate: Collate, beams: int) -> Iterator[tuple[Any, np.ndarray]]:
        at_once = STEPS_AT_ONCE // (beams * max(1, 1 + self.longest // 16))
        for batch, _, rows, _ in batches_to_predict(data, collate, max(1, at_once)):
            yield batch, rows

    def _limits(self, lengths: np.ndarray) -> np.ndarray:
        """Return how long outputs may be: half as long again as the longest target that was learned, and ten more."""
        return np.full(len(lengths), self.longest + self.longest // 2 + 10)

    def texts(self, found: Iterable[np.ndarray]) -> Any:
        """Return what outputs say: a list of str, or of lists."""
        texts = (self.table.decode(symbols.tolist()) for symbols in found)
        return LabelLists(texts) if self.table.unit == "symbol" else list(texts)

    def predict(self, network: Any, data: Sequences, collate: Collate, how: Search = Search()) -> Any:  # noqa: B008
        """Return the best output for each sequence."""
        return self.texts(_best(self.search(network, data, collate, how)))

    def judged(
        self,
        network: Any,
        data: Sequences,
        collate: Collate,
        how: Search = Search(),  # noqa: B008
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how many edits turn each output into its target, and how many symbols that has."""
        wanted = [row[row >= 0].tolist() for row in data.y]
        found = [symbols.tolist() for symbols in _best(self.search(network, data, collate, how))]
        return edit_distances(wanted, found), np.array([len(one) for one in wanted], dtype=np.int64)

    def nats(self, network: Any, data: Sequences, collate: Collate) -> tuple[np.ndarray, np.ndarray]:
        """Return -log p of each target, and its symbols with the end; both are 0 where it has symbols never seen."""
        losses, counts = np.zeros(len(data)), self.counts(data)
        counts[(data.y >= len(self.table)).any(axis=1)] = 0
        (known,) = np.nonzero(counts)
        for batch, rows in self._batches(data.select(known), collate, 1):
            found = network.log_probabilities(batch, data.y[known[rows]], data.lengths[known[rows]])
            losses[known[rows]] = -found.sum(axis=1)
        return losses, counts

    def score(
        self,
        network: Any,
        data: Sequences,
        collate: Collate,
        weights: np.ndarray | None,
        how: Search = Search(),  # noqa: B008
    ) -> float:
        """Return the share of outputs that are the target, symbol by symbol, each with its sequence's weight."""
        edits, _ = self.judged(network, data, collate, how)
        return float(np.average(edits == 0, weights=weights))

    def validate(self, network: Any, data: Sequences, collate: Collate) -> dict[str, float]:
        """Measure the share of exact outputs, and the loss of the targets."""
        losses, counts = self.nats(network, data, collate)
        loss = float(losses.sum() / max(int(counts.sum()), 1))
        return {"val_loss": loss, "val_score": self.score(network, data, collate, None)}

    def to_json(self) -> dict[str, Any]:
        """Describe the symbols."""
        return self.table.to_json() | {"longest": self.longest}

    def from_json(self, header: dict[str, Any]) -> None:
        """Take over what `to_json` described."""
        self.table.from_json(header)
        self.longest = int(header["longest"])


class _Without:
    """A decoding that never writes one symbol."""

    def __init__(self, decoding: Any, symbol: int) -> None:
        self._decoding, self._symbol = decoding, symbol

    def step(self, ids: np.ndarray) -> np.ndarray:
        logs: np.ndarray = self._decoding.step(ids)
        logs[:, self._symbol] = -np.inf
        return logs

    def select(self, rows: np.ndarray) -> None:
        self._decoding.select(rows)


def _best(found: Sequence[list[Hypothesis]]) -> list[np.ndarray]:
    return [one[0].symbols for one in found]
