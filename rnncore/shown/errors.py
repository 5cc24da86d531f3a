"""A table of the words that a tagger got wrong, with what stands around them."""

from __future__ import annotations

import html
import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, overload

from rnncore.io.files import write_atomically
from rnncore.shown.text import aligned, shortened, token_text, visible

__all__ = ["Error", "ErrorTable", "wrong_words"]

_SHOWN = 20  # in a prompt
_SHOWN_IN_A_PAGE = 60
_SIDE = 24  # columns of a word, and of what stands on each side of it
_LABEL = 24
_COLUMNS = ("place", "sure", "expected", "", "predicted", "known")
_FRAMES = ("pandas", "polars")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Error(NamedTuple):
    """A word that got a wrong label.

    Parameters
    ----------
    sentence, position : int
        Where it stands, both counted from 0.
    before, word, after : str
        The word, and what stands around it.
    expected, predicted : label
    probability, expected_probability : float
        How probable both labels are by the model; 0 for one that it does not know.
    known : bool or None
        Whether the training data had the word; None where tokens are no words.

    Examples
    --------
    >>> Error(0, 1, "top", "news", "from kenya", "O", "B-X", 0.75, 0.25, True).predicted
    'B-X'
    """

    sentence: int
    position: int
    before: str
    word: str
    after: str
    expected: Any
    predicted: Any
    probability: float
    expected_probability: float
    known: bool | None


class ErrorTable(Sequence[Error]):
    """A list of `Error`, which prints as a table.

    Parameters
    ----------
    errors : iterable of Error
    n_words : int, optional
        Of how many words these are the wrong ones.

    Examples
    --------
    >>> error = Error(0, 1, "top", "news", "from kenya", "O", "B-X", 0.75, 0.25, True)
    >>> print(ErrorTable([error], n_words=4))
    1 of 4 words wrong
    place   sure  expected         predicted  known  context
      0:1  0.750  O         0.250  B-X        yes    top [news] from kenya
    """

    def __init__(self, errors: Iterable[Error], n_words: int | None = None) -> None:
        self._errors = list(errors)
        self.n_words = n_words

    def __len__(self) -> int:
        return len(self._errors)

    @overload
    def __getitem__(self, index: int) -> Error: ...

    @overload
    def __getitem__(self, index: slice) -> ErrorTable: ...

    def __getitem__(self, index: Any) -> Any:
        found = self._errors[index]
        return ErrorTable(found) if isinstance(index, slice) else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorTable) and self._errors == other._errors

    __hash__ = None  # type: ignore[assignment]

    def by_confidence(self) -> ErrorTable:
        """Return them sorted, those that the model was surest of first."""
        order = sorted(self._errors, key=lambda error: (-error.probability, error.sentence, error.position))
        return ErrorTable(order, self.n_words)

    def by_place(self) -> ErrorTable:
        """Return them sorted as they stand in the data."""
        return ErrorTable(sorted(self._errors, key=lambda error: (error.sentence, error.position)), self.n_words)

    def counts(self) -> list[tuple[Any, Any, int]]:
        """List (expected, predicted, how often), the most frequent first.

        Examples
        --------
        >>> error = Error(0, 1, "top", "news", "from kenya", "O", "B-X", 0.75, 0.25, True)
        >>> ErrorTable([error, error._replace(position=2)]).counts()
        [('O', 'B-X', 2)]
        """
        pairs = Counter((error.expected, error.predicted) for error in self._errors)
        return sorted(((*pair, n) for pair, n in pairs.items()), key=lambda row: (-row[2], str(row[0]), str(row[1])))

    # -- to be read ---------------------------------------------------------------------------------------------------

    def to_text(self, most: int | None = None) -> str:
        """Return a table of aligned columns, of the first so many errors."""
        shown = self._errors[:most]
        lines = [self._title()]
        if shown:
            lines += aligned([(*_COLUMNS, "context"), *map(_text_cells, shown)], "rr r   ")
        if len(shown) < len(self):
            lines.append(f"… and {len(self) - len(shown):,} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return self.to_text(_SHOWN)

    def _title(self) -> str:
        whole = "" if self.n_words is None else f" of {self.n_words:,}"
        return f"{len(self):,}{whole} {'word' if (self.n_words or len(self)) == 1 else 'words'} wrong"

    def _repr_html_(self) -> str:
        """Show it in a notebook: the wrong word in bold, underlined, on a ground that suits light and dark pages."""
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        head += '<th style="text-align:left">context</th>'
        rows = "".join(f"<tr>{_html_cells(error)}</tr>" for error in self._errors[:_SHOWN_IN_A_PAGE])
        more = len(self) - _SHOWN_IN_A_PAGE
        end = f"<p>… and {more:,} more</p>" if more > 0 else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<div><p>{self._title()}</p>{table}{end}</div>"

    # -- to be worked with --------------------------------------------------------------------------------------------

    def to_frame(self, library: str | None = None) -> Any:
        """Return a frame with a column for each field of `Error`.

        Parameters
        ----------
        library : "pandas" or "polars", optional
            None: the one that is imported already, else the one that is installed; pandas before polars.

        Raises
        ------
        ImportError
            If it is not installed.
        """
        if library not in (None, *_FRAMES):
            raise ValueError(f"library: expected None, 'pandas' or 'polars', got {library!r}")
        wanted = [library] if library else sorted(_FRAMES, key=lambda name: sys.modules.get(name) is None)
        columns = {name: [error[i] for error in self._errors] for i, name in enumerate(Error._fields)}
        for name in wanted:
            try:
                return importlib.import_module(name).DataFrame(columns)
            except ImportError:
                continue
        raise ImportError(f"to_frame needs {' or '.join(wanted)}: pip install {wanted[0]}")

    def to_csv(
        self, path: str | os.PathLike[str] | None = None, separator: str = ",", for_spreadsheet: bool = False
    ) -> str:
        r"""Return the whole table as lines of quoted fields, and write it to a file if there is a path.

        Parameters
        ----------
        path : str or path, optional
            An existing file is replaced in one step.
        separator : str
            ``"\t"`` for TSV.
        for_spreadsheet : bool
            Put an apostrophe before what a spreadsheet would take for a formula, such as a word that begins with "=".

        Examples
        --------
        >>> error = Error(0, 1, "top", "news", ", he said", "O", "B-X", 0.75, 0.25, True)
        >>> print(ErrorTable([error]).to_csv().splitlines()[1])
        0,1,top,news,", he said",O,B-X,0.75,0.25,True
        """
        if len(separator) != 1 or separator in '"\r\n':
            raise ValueError(f"separator: expected one character such as ',', got {separator!r}")
        lines = [separator.join(Error._fields)]
        for error in self._errors:
            cells = ["" if value is None else f"{value:.6g}" if type(value) is float else str(value) for value in error]
            if for_spreadsheet:
                texts = {Error._fields.index(name) for name in ("before", "word", "after", "expected", "predicted")}
                cells = [f"'{c}" if i in texts and c.startswith(_FORMULA) else c for i, c in enumerate(cells)]
            lines.append(separator.join(_quoted(cell, separator) for cell in cells))
        return _written("\n".join([*lines, ""]), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the whole table as a list of objects, and write it to a file if there is a path."""
        rows = [{name: _plain(value) for name, value in error._asdict().items()} for error in self._errors]
        return _written(json.dumps(rows, indent=1) + "\n", path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it whole to a file: .json and .csv as they say, any other as TSV."""
        kind = os.path.splitext(os.fspath(path))[1].lower()
        if kind == ".json":
            self.to_json(path)
        else:
            self.to_csv(path, "," if kind == ".csv" else "\t")


def wrong_words(
    tagger: Any,
    sentences: Sequence[Any],
    true: Sequence[Any],
    predicted: Sequence[Any],
    first: int,
    context: int = 4,
    column: str | None = None,
) -> list[Error]:
    """List what a tagger got wrong in some sentences, the first of which has the number `first`.

    `column`: of which of its several columns of tags.
    """
    wrong = [i for i, (own, other) in enumerate(zip(true, predicted, strict=True)) if list(own) != list(other)]
    if not wrong:
        return []
    some = [sentences[i] for i in wrong]
    own, other = [true[i] for i in wrong], [predicted[i] for i in wrong]
    if column is None:
        sure, due = (tagger.label_probabilities(some, labels) for labels in (other, own))
    else:
        sure, due = (tagger.label_probabilities(some, {column: labels})[column] for labels in (other, own))
    known = tagger.knows(some)
    found, start = [], 0
    for row, number in enumerate(wrong):
        words = [*map(token_text, some[row])]
        for t, (expected, label) in enumerate(zip(own[row], other[row], strict=True)):
            if expected != label:
                before, after = " ".join(words[max(0, t - context) : t]), " ".join(words[t + 1 : t + 1 + context])
                knows = None if known is None else bool(known[start + t])
                values = float(sure[row][t]), float(due[row][t]), knows
                found.append(Error(first + number, t, before, words[t], after, expected, label, *values))
        start += len(words)
    return found


def _known(error: Error) -> str:
    return {True: "yes", False: "no", None: ""}[error.known]


def _text_cells(error: Error) -> tuple[str, ...]:
    before, word, after = visible(error.before), visible(error.word), visible(error.after)
    context = f"{shortened(before, _SIDE, front=True)} [{shortened(word, _SIDE)}] {shortened(after, _SIDE)}".strip()
    labels = [shortened(visible(str(label)), _LABEL) for label in (error.expected, error.predicted)]
    return (
        f"{error.sentence}:{error.position}",
        f"{error.probability:.3f}",
        labels[0],
        f"{error.expected_probability:.3f}",
        labels[1],
        _known(error),
        context,
    )


_MARKED = "background:rgba(230,70,70,.3);font-weight:bold;text-decoration:underline wavy"


def _html_cells(error: Error) -> str:
    plain = (
        f"{error.sentence}:{error.position}",
        f"{error.probability:.3f}",
        visible(str(error.expected)),
        f"{error.expected_probability:.3f}",
        visible(str(error.predicted)),
        _known(error),
    )
    before, word, after = (html.escape(visible(part)) for part in (error.before, error.word, error.after))
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in plain)
    return f'{cells}<td dir="auto" style="text-align:left">{before} <b style="{_MARKED}">{word}</b> {after}</td>'


def _quoted(text: str, separator: str) -> str:
    """Quote a field where it must be; Python's own writer leaves a lone carriage return as it is, and a line ends."""
    return '"' + text.replace('"', '""') + '"' if {separator, '"', "\r", "\n"} & set(text) else text


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    return text
