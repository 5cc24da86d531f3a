"""What a language model writes: texts that go on, or the most probable of them, and what it expects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnncore.data.symbols import SymbolTable
from rnncore.estimators._choice import Choice
from rnncore.estimators._writing import Writer
from rnncore.optim.arguments import check_count
from rnncore.train.batches import generator

__all__ = ["WritesTexts"]

_STOPS: dict[str, tuple[Any, str]] = {
    "char": (str, "a str that is not empty"),
    "byte": (str | bytes, "a str or bytes, not empty"),
    "id": (int | np.integer, "a whole number"),
}


class WritesTexts:
    """The part of a `LanguageModel` that writes; any number of threads may let it."""

    network_: Any

    @property
    @abstractmethod
    def _table(self) -> SymbolTable:
        """The symbols of a fitted model."""

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
        if stop is not None:
            kinds, expected = _STOPS.get(self._table.unit, _STOPS["char"])
            if isinstance(stop, bool) or not isinstance(stop, kinds) or stop in ("", b""):
                raise TypeError(f"stop: expected {expected}, got {stop!r}")
        return writer.write(prime, choice, generator(random_state), length, stop)

    def _writer(self) -> Writer:
        table = self._table  # tells what is not fitted
        return Writer(self.network_, table)

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
        str; bytes where `prime` are bytes; a list of ints with unit="id"

        Raises
        ------
        DataError, TypeError, ValueError
            For a prime with symbols that the model cannot read, or settings out of range.
        """
        check_count("length", length, 0)
        found = list(self.iter_generate(length, prime, temperature, top_k, top_p, random_state, stop, allow_unknown))
        if isinstance(prime, bytes) and self._table.unit == "byte":
            return b"".join(found)
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
