"""A text's symbols as numbers: which there are, how often, and back."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from rnncore.data.readers import DataError
from rnncore.data.texts import lines_of, raw_text, spaced_words

__all__ = ["END", "START", "UNKNOWN", "Encoded", "SymbolTable"]

UNKNOWN, START, END = "<unknown>", "<start>", "<end>"

_AT_ONCE = 1 << 19  # symbols of a mapped file that are counted at a time
_MOST_NUMBERS = 1 << 24


class Encoded(NamedTuple):
    """A text as numbers: `ids`, or what `lookup` makes ids of, so that a mapped file need not be read."""

    ids: np.ndarray
    lookup: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, end: int) -> np.ndarray:
        """Return the ids of some symbols, int64."""
        found = self.ids[start:end]
        return found.astype(np.int64) if self.lookup is None else self.lookup[found]


class SymbolTable:
    """The symbols of a training text.

    Parameters
    ----------
    unit : "char", "byte", "word" or "id"
    min_count : int
        Symbols rarer than this are unknown.
    vocabulary_size : int, optional
        How many symbols there are at most, unknown, start and end included: the most frequent ones. Of ids: how many.
    lowercase : bool
        Read capitals as small letters.
    sentences : bool
        Whether texts are sentences, each with a start and an end.
    by_frequency : bool
        Number the symbols by falling frequency, as some heads need them; else characters and bytes by their codes.

    Attributes
    ----------
    symbols : list
        What each number stands for: str, or int for bytes and ids.
    counts : (V,) int64 array
        How often each occurred.
    unknown, start, end : int or None
        Numbers of these symbols.

    Examples
    --------
    >>> table = SymbolTable("char").fit("abracadabra")
    >>> table.symbols, table.encode("cab").part(0, 3).tolist(), table.decode([3, 0])
    (['a', 'b', 'c', 'd', 'r'], [2, 0, 1], 'da')
    """

    def __init__(
        self,
        unit: str,
        min_count: int = 1,
        vocabulary_size: int | None = None,
        lowercase: bool = False,
        sentences: bool = False,
        by_frequency: bool = False,
    ) -> None:
        self.unit = unit
        self.min_count = min_count
        self.vocabulary_size = vocabulary_size
        self.lowercase = lowercase
        self.sentences = sentences
        self.by_frequency = by_frequency or unit == "word"
        self.symbols: list[Any] = []
        self.counts = np.zeros(0, dtype=np.int64)

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(self, text: Any) -> SymbolTable:
        """Collect and count a text's symbols.

        Raises
        ------
        DataError, TypeError
            For an empty text, or what is none.
        """
        counts = self._counted(text)
        if not counts:
            raise DataError(f"expected a text to learn from, got one without any {_NAMES[self.unit]}")
        if self.unit == "id":
            found = [number for number in counts if number != END]
            size = self.vocabulary_size or max(found) + 1
            if min(found) < 0 or size <= max(found):
                raise DataError(f"expected ids from 0 to {size - 1}, got {min(found)} to {max(found)}")
            if size > _MOST_NUMBERS:
                raise DataError(f"expected at most {_MOST_NUMBERS:,} ids (vocabulary_size), got {size:,}")
            kept = list(range(size))
        else:
            kept = self._chosen(counts)
        specials = [START, END] if self.sentences else []
        if self.unit == "word" or (self.unit != "id" and len(kept) < len(counts) - (END in counts)):
            specials = [UNKNOWN, *specials]
        n_sentences = counts.get(END, 0) if self.sentences else 0
        left = sum(counts.values()) - sum(counts.get(symbol, 0) for symbol in kept) - n_sentences
        known = {UNKNOWN: left, START: n_sentences, END: n_sentences}
        if self.unit == "id":  # ids keep their numbers, so what is special comes last
            return self._take([*kept, *specials], [counts.get(i, 0) for i in kept] + [known[s] for s in specials])
        return self._take([*specials, *kept], [known[s] for s in specials] + [counts[symbol] for symbol in kept])

    def _chosen(self, counts: dict[Any, int]) -> list[Any]:
        """Choose the symbols that will be known, in order."""
        special = (self.unit == "word") + 2 * self.sentences
        special_ones = (UNKNOWN, START, END) if self.sentences else (UNKNOWN,)
        every = [pair for pair in counts.items() if pair[0] not in special_ones]
        found = [pair for pair in every if pair[1] >= self.min_count]
        if not found:
            raise DataError(f"min_count={self.min_count} leaves no {_NAMES[self.unit]}: all are rarer than that")
        special += self.unit != "word" and len(found) < len(every)  # what is left out is unknown
        most = self.vocabulary_size or len(found) + special
        cut = len(found) > most - special
        if self.by_frequency or cut:
            found.sort(key=lambda pair: (-pair[1], pair[0]))
        if cut:
            special += self.unit != "word" and len(found) == len(every)
            if most <= special:
                raise DataError(f"vocabulary_size={most} leaves no room for symbols beside {special} special ones")
            found = found[: most - special]
        kept = [symbol for symbol, _ in found]
        return kept if self.by_frequency else sorted(kept)

    def _take(self, symbols: list[Any], counts: Any) -> SymbolTable:
        self.symbols = symbols
        self.counts = np.array(counts, dtype=np.int64)
        special = {symbol: i for i, symbol in enumerate(symbols) if symbol in (UNKNOWN, START, END)}
        self.unknown, self.start, self.end = (special.get(name) for name in (UNKNOWN, START, END))
        if not self.sentences:
            self.start = self.end = None
        self._ids = {symbol: i for i, symbol in enumerate(symbols) if i not in (self.unknown, self.start, self.end)}
        self._lookup = None if self.unit in ("word", "id") else self._codes()
        return self

    def _codes(self) -> np.ndarray:
        """Return ids by code; -1 where there is none."""
        codes = {ord(symbol) if self.unit == "char" else symbol: i for symbol, i in self._ids.items()}
        size = 256 if self.unit == "byte" else max(codes, default=0) + 2
        table = np.full(size, -1 if self.unknown is None else self.unknown, dtype=np.int64)
        table[list(codes)] = list(codes.values())
        return table

    def _counted(self, text: Any) -> dict[Any, int]:
        """Count what occurs, and sentences as their ends."""
        if self.sentences:
            counts: Counter[Any] = Counter()
            for sentence in self._sentences(text):
                counts.update(sentence)
                counts[END] += 1
            return dict(counts)
        raw = self._raw(text)
        if self.unit == "word":
            return dict(Counter(raw))
        codes = _code_points(raw) if self.unit == "char" else raw
        total = np.zeros(0, dtype=np.int64)
        for start in range(0, len(codes), _AT_ONCE):
            part = codes[start : start + _AT_ONCE]
            if self.unit == "id" and (
                int(part.min()) < 0 or int(part.max()) >= _MOST_NUMBERS
            ):  # before they are counted
                raise DataError(f"expected ids from 0 to {_MOST_NUMBERS - 1:,}, got {part.min()} to {part.max()}")
            found = np.bincount(part)
            if len(found) > len(total):
                found[: len(total)] += total
                total = found
            else:
                total[: len(found)] += found
        seen = np.flatnonzero(total)
        names = map(chr, seen.tolist()) if self.unit == "char" else seen.tolist()
        return dict(zip(names, total[seen].tolist(), strict=True))

    # -- to numbers and back ------------------------------------------------------------------------------------------

    def _raw(self, text: Any) -> Any:
        """Return a whole text: str, array, or list of words with line ends among them."""
        raw = raw_text(text, self.unit)
        if self.unit == "char":
            return raw.lower() if self.lowercase else raw
        if self.unit == "word":
            lines = ([word.lower() for word in line] for line in raw) if self.lowercase else raw
            return [word for number, line in enumerate(lines) for word in (["\n", *line] if number else line)]
        return raw

    def _sentences(self, text: Any) -> Iterator[Any]:
        for line in lines_of(text, self.unit):
            raw = raw_text([line] if self.unit == "word" else line, self.unit)
            if self.unit == "word":
                raw = [word.lower() for word in raw[0]] if self.lowercase else raw[0]
            elif self.unit == "char":
                raw = raw.lower() if self.lowercase else raw
            else:
                raw = raw.tolist()
            if len(raw):
                yield raw

    def encode(self, text: Any) -> Encoded:
        """Return a text as numbers.

        Raises
        ------
        DataError
            For symbols that the training text had not, where there is no unknown one.
        """
        if self.sentences:
            parts = self.encode_sentences(text)
            return Encoded(np.concatenate(parts) if parts else np.zeros(0, np.int32))
        return self._encoded(self._raw(text))

    def _encoded(self, raw: Any) -> Encoded:
        if self.unit == "word":
            return Encoded(np.array([self._id_of(word) for word in raw], dtype=np.int32))
        codes = _code_points(raw) if self.unit == "char" else np.asanyarray(raw)
        if self.unit == "id":
            for start in range(0, len(codes), _AT_ONCE):
                part = codes[start : start + _AT_ONCE]
                n = len(self._ids)
                if int(part.min()) < 0 or int(part.max()) >= n:
                    raise DataError(f"expected ids from 0 to {n - 1}, got {part.min()} to {part.max()}")
            return Encoded(codes)
        assert self._lookup is not None
        lookup = self._lookup
        if self.unit == "byte":
            for start in range(0, len(codes), _AT_ONCE):
                found = lookup[codes[start : start + _AT_ONCE]]
                if found.size and found.min() < 0:
                    raise self._unseen(int(codes[start + int(found.argmin())]))
            return Encoded(codes, lookup)
        ids = lookup[np.minimum(codes, len(lookup) - 1)]
        if ids.size and ids.min() < 0:
            raise self._unseen(chr(int(codes[int(ids.argmin())])))
        return Encoded(ids.astype(np.min_scalar_type(len(self.symbols))))

    def encode_sentences(self, text: Any) -> list[np.ndarray]:
        """Return each sentence as numbers, from its start to its end."""
        found = []
        for sentence in self._sentences(text):
            raw = bytes(sentence) if self.unit == "byte" else sentence
            ids = self._encoded(np.frombuffer(raw, dtype=np.uint8) if self.unit == "byte" else raw)
            found.append(np.array([self.start, *ids.part(0, len(ids)), self.end], dtype=np.int32))
        return found

    def _id_of(self, symbol: Any) -> int:
        found: int | None = self._ids.get(symbol, self.unknown)
        if found is None:
            raise self._unseen(symbol)
        return found

    def _unseen(self, symbol: Any) -> DataError:
        return DataError(
            f"{_NAMES[self.unit]} {symbol!r} is not among the {len(self.symbols)} of the training text, and none "
            "stands for unknown ones: leave it out, or train with min_count=2 or a vocabulary_size"
        )

    def decode(self, ids: Sequence[int] | np.ndarray) -> Any:
        """Return the text of some numbers: str, or a list of ids; ends of sentences are line ends."""
        return self.joined(map(self.text_of, np.asarray(ids).tolist()))

    def joined(self, symbols: Iterable[Any]) -> Any:
        """Put what `text_of` returned together: str, or a list of ids."""
        return list(symbols) if self.unit == "id" else "".join(self.pieces(symbols))

    def pieces(self, symbols: Iterable[Any], before: str = "") -> Iterator[str]:
        """Yield text as it becomes known what it is: words with their blanks, bytes when a character is whole."""
        if self.unit == "word":
            yield from spaced_words(symbols, before)
        elif self.unit == "byte":
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            yield from map(decoder.decode, symbols)
            yield decoder.decode(b"", final=True)
        elif self.unit == "id":
            yield from spaced_words(map(str, symbols), before)
        else:
            yield from symbols

    def text_of(self, number: int) -> Any:
        """Return what one number stands for: str, bytes (one) or int."""
        if self.unit == "id":
            return number
        if number == self.end:
            return b"\n" if self.unit == "byte" else "\n"
        symbol = self.symbols[number]
        if self.unit == "byte":
            return symbol.encode() if isinstance(symbol, str) else bytes([symbol])
        return symbol

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def frequencies(self) -> np.ndarray:
        """The share that each symbol has of the training text: all that is known of a text's first one."""
        return self.counts / max(int(self.counts.sum()), 1)

    # -- model files --------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Describe what was learned."""
        return {"symbols": self.symbols, "counts": self.counts.tolist()}

    def from_json(self, data: dict[str, Any]) -> SymbolTable:
        """Take over what `to_json` described."""
        symbols, counts = data["symbols"], data["counts"]
        if not isinstance(symbols, list) or not symbols or len(symbols) != len(counts):
            raise ValueError("expected as many counts as symbols")
        special = (UNKNOWN, START, END)
        for symbol in symbols:
            ok = isinstance(symbol, str) if self.unit in ("char", "word") else type(symbol) is int or symbol in special
            if not ok or (self.unit == "char" and symbol not in special and len(symbol) != 1):
                raise ValueError(f"expected symbols of unit {self.unit}, got {symbol!r}")
            if self.unit == "byte" and symbol not in special and not 0 <= symbol < 256:
                raise ValueError(f"expected bytes, got {symbol!r}")
        known = {name for name in special if name in symbols}
        if (self.sentences and not {START, END} <= known) or (self.unit == "word" and UNKNOWN not in known):
            raise ValueError(f"expected the symbols {', '.join(special)}, got {', '.join(sorted(known)) or 'none'}")
        if self.unit == "id" and symbols[: len(symbols) - len(known)] != list(range(len(symbols) - len(known))):
            raise ValueError("expected ids in order, from 0 on")
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) >= 2**63:
            raise ValueError("expected counts as whole numbers from 0 on")
        if len(set(symbols)) != len(symbols):
            raise ValueError("expected symbols that differ")
        return self._take(symbols, counts)


_NAMES = {"char": "character", "byte": "byte", "word": "word", "id": "id"}


def _code_points(text: Iterable[str] | str) -> np.ndarray:
    whole = text if isinstance(text, str) else "".join(chain(text))
    return np.frombuffer(whole.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
