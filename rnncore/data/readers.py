"""Reading tagged sentences from files: one word per line, a blank line between sentences.

A line is ``word TAB label``, or blanks in place of the tab; of more columns, as CoNLL's files have, two are chosen.
What is no word is passed over: comments, document starts, and CoNLL-U's ranges (``1-2``) and empty nodes (``1.1``).

Lines may end in LF, CRLF or CR, byte-order marks are passed over wherever they are, text is brought into Unicode's
composed form (NFC), and files may be compressed with gzip. Every complaint names the file and the line.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import sys
import unicodedata
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from rnncore.data.tokens import TokenLists

__all__ = [
    "Columns",
    "DataError",
    "check_number_of_labels",
    "each_column",
    "in_columns",
    "iter_labels",
    "iter_lines",
    "iter_rows",
    "iter_tagged",
    "iter_text",
    "no_sentences",
    "read_labels",
    "read_packed",
    "read_tagged",
    "read_words",
    "split_line",
]

Row = list[str]
Columns = tuple[int, int | Mapping[str, int]]  # of word and label, or of several labels by name
_LINES_KEPT = 200_000
_NEW = (-1, -1)
_BLANKS = " \t\r\n\v\f"
_CHUNK = 2**16
_LONGEST = 2**20  # bytes in a line: no word is as long, and a small gzip file may hold a line of gigabytes
_FIRST_NUMBER = re.compile(r"[01](?:-\d+|\.\d+)?")  # the first field of a file that counts its words
_NO_WORD = re.compile(r"\d+(?:-\d+|\.\d+)")  # CoNLL-U: of several words together, of a word that is not there
_COMMENT = re.compile(r"#\s*(?:new(?:doc|par)(?:\s+id\b.*)?$|(?:begin|end) document\b|[^\s=]+\s*=)")


class DataError(ValueError):
    """Data that cannot be used; the message says where, what was expected and what came."""


def read_tagged(path: str | os.PathLike[str], columns: Columns | None = None) -> tuple[list[list[str]], Any]:
    r"""Read sentences and their tags.

    Parameters
    ----------
    path : str or path
        A file of ``word TAB label`` lines (or blanks), plain or gzip, UTF-8; ``-`` is standard input.
    columns : (int, int) or (int, dict of str to int), optional
        Where word and label stand in lines of more fields, all of as many; counted from 0, or from the end with -1.
        Without: two fields, word and label. A dict: several labels by name.

    Returns
    -------
    (sentences, tags) : lists of lists of str
        Of several labels `tags` is a dict of such lists.

    Raises
    ------
    DataError
        If the file cannot be read, is not UTF-8, holds no sentence, or has a line of another number of fields.

    Notes
    -----
    Passed over are ``-DOCSTART-`` lines, comments (``# name = value``, ``#name=value``, ``# newpar``, ``#begin
    document``), and in files that count their words, as CoNLL-U, all lines that begin with ``#`` and the numbers
    ``1-2`` and ``1.1``. Other lines that begin with ``#`` are words.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "two.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("news\tB-NEWSTYPE\nplease O\n\nhello O\n")
    >>> read_tagged(path)
    ([['news', 'please'], ['hello']], [['B-NEWSTYPE', 'O'], ['O']])
    """
    sentences: list[list[str]] = []
    tags: list[Any] = []
    once: dict[str, str] = {}  # a word that comes a thousand times is kept once

    def kept(column: list[str]) -> list[str]:
        return [once.setdefault(text, text) for text in column]

    for words, labels in iter_tagged(path, columns):
        sentences.append(kept(words))
        tags.append(each_column(kept, labels))
    if not sentences:
        raise DataError(no_sentences(path))
    return sentences, in_columns(tags)


def iter_tagged(path: str | os.PathLike[str], columns: Columns | None = None) -> Iterator[tuple[list[str], Any]]:
    """Yield (words, labels) of sentence after sentence, without holding the file in memory; as `read_tagged`."""
    word, label = columns or (0, 1)
    for rows in iter_rows(path, 2 if columns is None else None, columns and _places(columns)):
        yield [row[word] for row in rows], each_column(lambda place: [row[place] for row in rows], label)  # noqa: B023


def _places(columns: Columns) -> tuple[int, ...]:
    word, label = columns
    return (word, *(label.values() if isinstance(label, Mapping) else (label,)))


def each_column(change: Callable[[Any], Any], labels: Any) -> Any:
    """Apply a function to labels, or to each of several columns of them."""
    return {name: change(one) for name, one in labels.items()} if isinstance(labels, Mapping) else change(labels)


def in_columns(tags: list[Any]) -> Any:
    """Return the tags of sentences as one list; of several columns a dict of such.

    Examples
    --------
    >>> in_columns([{"upos": ["NOUN"], "xpos": ["NN"]}, {"upos": ["VERB"], "xpos": ["VB"]}])
    {'upos': [['NOUN'], ['VERB']], 'xpos': [['NN'], ['VB']]}
    """
    if not tags or not isinstance(tags[0], dict):
        return tags
    return {name: [labels[name] for labels in tags] for name in tags[0]}


def read_labels(path: str | os.PathLike[str], n_sentences: int, data: str | os.PathLike[str]) -> list[str]:
    """Read the labels of sentences, one a line.

    Parameters
    ----------
    path : str or path
        Plain or gzip, UTF-8; ``-`` is standard input.
    n_sentences : int
        How many there must be.
    data : str or path
        The file of the sentences, for messages.

    Raises
    ------
    DataError
        If the file cannot be read, has an empty line, or not as many lines as there are sentences.
    """
    labels = [*iter_labels(path)]
    check_number_of_labels(labels, path, n_sentences, data)
    return labels


def iter_labels(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the label on each line, which may be of several words; a DataError where there is none."""
    for number, line in iter_lines(path):
        label = " ".join(part for part in split_line(line, number, _name(path)) if part)
        if not label:
            raise DataError(f"{_name(path)}, line {number}: an empty line; expected the label of a sentence")
        yield label


def check_number_of_labels(
    labels: list[str], path: str | os.PathLike[str], n_sentences: int, data: str | os.PathLike[str]
) -> None:
    """Raise a DataError unless there is a label for each sentence."""
    if len(labels) != n_sentences:
        raise DataError(
            f"{_name(path)}: expected a line for each of the {n_sentences:,} sentences of {_name(data)}, in their "
            f"order; got {len(labels):,}"
        )


def read_words(path: str | os.PathLike[str]) -> list[list[Row]]:
    """Read sentences to be tagged: the word is the first field of a line, further fields are kept.

    Raises
    ------
    DataError
        If the file cannot be read or is not UTF-8.
    """
    return list(iter_rows(path))


def iter_rows(
    path: str | os.PathLike[str], n_fields: int | None = None, columns: tuple[int, ...] | None = None
) -> Iterator[list[Row]]:
    """Yield sentence after sentence as lists of the fields of their lines, without holding the file in memory.

    Parameters
    ----------
    path : str or path
        Plain or gzip, UTF-8; ``-`` is standard input.
    n_fields : int, optional
        How many fields each line must have (any number from 1 without).
    columns : tuple of int, optional
        Fields that each line must have, see `read_tagged`.

    Raises
    ------
    DataError
        As `read_tagged`, with the line's number.
    """
    sentence: list[Row] = []
    for _, fields in iter_text(path, n_fields, columns):
        if fields:
            sentence.append(fields)
        elif fields is not None and sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def iter_text(
    path: str | os.PathLike[str],
    n_fields: int | None = None,
    columns: tuple[int, ...] | None = None,
    whole: bool = True,
) -> Iterator[tuple[bytes, Row | None]]:
    """Yield each line as it stands, and its fields: none for a blank one, None for what is no word.

    Parameters
    ----------
    path, n_fields, columns
        As `iter_rows` takes them.
    whole : bool
        Whether a field that is empty is an error; without, only one of `columns` (or the first) is.

    Raises
    ------
    DataError
        As `read_tagged`, with the line's number.
    """
    form = _Form(_name(path), n_fields, columns, whole)
    for number, line in form.settled(iter_lines(path)):
        yield line, form.read(line, number)


def read_packed(path: str | os.PathLike[str], columns: Columns | None = None) -> tuple[TokenLists, Any]:
    """Read sentences and their tags as `read_tagged`, in a third of the memory and a quarter of the time.

    Raises
    ------
    DataError
        As `read_tagged`.
    """
    word, label = columns or (0, 1)
    form = _Form(_name(path), 2 if columns is None else None, columns and _places(columns))
    lines = form.settled(iter_lines(path))
    words: dict[str, int] = {}
    labels: dict[Any, int] = {}  # of several columns their labels together
    several = label if isinstance(label, Mapping) else None
    places = _places((word, label))[1:]
    seen: dict[bytes, tuple[int, int] | None] = {}  # lines come again and again: each is taken apart once; None: blank
    word_ids, label_ids, ends = array("i"), array("i"), array("q", [0])
    for number, line in lines:
        pair = seen.get(line, _NEW)
        if pair is _NEW:
            fields = form.read(line, number)
            if fields is None:
                continue
            pair = None
            if fields:
                own: Any = tuple(fields[place] for place in places) if several else fields[places[0]]
                pair = words.setdefault(fields[word], len(words)), labels.setdefault(own, len(labels))
            if len(seen) < _LINES_KEPT:
                seen[line] = pair
        if pair:
            word_ids.append(pair[0])
            label_ids.append(pair[1])
        elif len(word_ids) > ends[-1]:
            ends.append(len(word_ids))
    if len(word_ids) > ends[-1]:
        ends.append(len(word_ids))
    if not word_ids:
        raise DataError(no_sentences(path))
    lengths = np.diff(np.frombuffer(ends, dtype=np.int64))
    sentences = TokenLists(list(words), np.frombuffer(word_ids, dtype=np.intc).astype(np.int32, copy=False), lengths)
    tags = TokenLists(list(labels), np.frombuffer(label_ids, dtype=np.intc).astype(np.int32, copy=False), lengths)
    if several is None:
        return sentences, tags
    return sentences, {name: _one_of(tags, number) for number, name in enumerate(several)}


def _one_of(together: TokenLists, number: int) -> TokenLists:
    """Return one column of tokens that are tuples."""
    tokens: dict[str, int] = {}
    ids = np.array([tokens.setdefault(one[number], len(tokens)) for one in together.tokens], dtype=np.int32)
    return TokenLists(list(tokens), ids[together.ids], together.lengths)


def iter_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yield number and line, counted from 1 and with its end, and complain in one line where it cannot be read on."""
    name, number, rest = _name(path), 0, b""
    with _opened(path) as stream:
        try:
            while chunk := stream.read1(_CHUNK):  # type: ignore[attr-defined]
                data = rest + chunk
                if b"\r\r\n" in data:  # what copying CRLF as text twice makes
                    data = re.sub(rb"\r+\n", b"\r\n", data)
                end = data.rfind(b"\n") + 1 or data.rstrip(b"\r").rfind(b"\r") + 1
                rest = data[end:]
                for line in data[:end].splitlines(keepends=True):
                    number += 1
                    yield number, line
                if len(rest) > _LONGEST:
                    raise DataError(
                        f"{name}, line {number + 1}: more than {_LONGEST:,} bytes in one line; expected a word per line"
                    )
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{name}, after line {number}: the gzip data are damaged or cut off ({error})") from None
        except OSError as error:
            raise DataError(f"{name}, after line {number}: cannot be read ({error.strerror or error})") from None
    for line in rest.splitlines(keepends=True):
        number += 1
        yield number, line


def iter_text_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank, without its end.

    Raises
    ------
    DataError
        Where a line is not UTF-8.
    """
    for number, line in iter_lines(path):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise DataError(f"{_name(path)}, line {number}: expected UTF-8") from None
        if text.strip():
            yield number, text


class _Form:
    """What the lines of a file must be."""

    def __init__(self, name: str, n_fields: int | None, columns: tuple[int, ...] | None, whole: bool = True) -> None:
        self.name = name
        self.columns = columns
        self.whole = whole
        self.least = max((column + 1 if column >= 0 else -column for column in columns or ()), default=1)
        self.n_fields = n_fields
        self.first: int | None = None  # of lines of as many fields as the first, its number
        self.numbered = False  # whether the first field counts the words of a sentence

    def settled(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Return the lines again after having looked at the first that holds a word for sure."""
        lines, seen, likely = iter(lines), [], None
        for number, line in lines:
            seen.append((number, line))
            fields = split_line(line, number, self.name)
            if fields and fields[0] != "-DOCSTART-":
                if not fields[0].startswith("#") and not self._may_be_no_word(fields):
                    likely = fields, number
                    break
                if likely is None and (b"\t" in line or not _COMMENT.match(" ".join(fields))):
                    likely = fields, number
        if likely:
            self._settle(*likely)
        return chain(seen, lines)

    def _may_be_no_word(self, fields: Row) -> bool:
        beside = self.columns is not None and self.columns[0] % len(fields) != 0
        return beside and _NO_WORD.fullmatch(fields[0]) is not None

    def _settle(self, fields: Row, number: int) -> None:
        starts = _FIRST_NUMBER.fullmatch(fields[0]) is not None
        if self.columns is None:
            if starts and len(fields) == 10:
                raise DataError(f"{self.name}, line {number}: {_shown(fields)}, as CoNLL-U has them; {_CHOOSE}")
            return
        self.numbered = starts and self.columns[0] % len(fields) != 0
        if len(fields) >= self.least and self.n_fields is None:
            self.n_fields, self.first = len(fields), number

    def read(self, line: bytes, number: int) -> Row | None:
        """Return the fields of a line, none for a blank one; None for what is no word."""
        name = self.name
        fields = split_line(line, number, name)
        if not fields:
            return fields
        if self._is_no_word(fields, b"\t" in line):
            return None
        if self.n_fields == 2 and len(fields) == 3 and not fields[2]:  # a tab at the end of the line
            del fields[2]
        if len(fields) < self.least and not self.first:
            wanted = ", ".join(str(column + 1 if column >= 0 else column) for column in self.columns or ())
            raise DataError(f"{name}, line {number}: there is no column {wanted}; {_shown(fields)}")
        needed = fields if self.whole else [fields[column] for column in self.columns or (0,)]
        if len(fields) != (self.n_fields or len(fields)) or "" in needed:
            raise DataError(self._wrong_fields(fields, number))
        return fields

    def _is_no_word(self, fields: Row, tabs: bool) -> bool:
        """Tell document starts, comments, and what CoNLL-U numbers that is no word."""
        first = fields[0]
        if first == "-DOCSTART-":
            return True
        if self.numbered:
            return first.startswith("#") or _NO_WORD.fullmatch(first) is not None
        if not first.startswith("#"):
            return False
        if len(fields) != self.n_fields:
            return _COMMENT.match(" ".join(fields)) is not None
        return not tabs and (
            fields in (["#", "newdoc"], ["#", "newpar"], ["#end", "document"])
            or fields[:2] == ["#begin", "document"]
            or (first == "#" and fields[2:3] == ["="])
        )

    def _wrong_fields(self, fields: Row, number: int) -> str:
        where = f"{self.name}, line {number}:"
        if self.first:
            expected = f"{self.n_fields} fields as in line {self.first}"
        else:
            expected = "a word and its label, 'word TAB label'" if self.n_fields == 2 else "a word first"
        if "" in fields:
            return f"{where} an empty field; expected {expected}, {_shown(fields)}"
        hint = f"; {_CHOOSE}" if self.n_fields == 2 and len(fields) > 2 and not self.first else ""
        return f"{where} expected {expected}, {_shown(fields)}{hint}"


_CHOOSE = "choose word and label with --column WORD,LABEL (columns= in Python), such as 2,4 for CoNLL-U"


def split_line(line: bytes, number: int, name: str) -> Row:
    """Return the fields of a line, divided by tabs where it has some and by blanks else; none of a blank line."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "; UTF-16? save it as UTF-8" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise DataError(
            f"{name}, line {number}: not UTF-8 text (byte 0x{line[error.start]:02x} at column {error.start + 1}){hint}"
        ) from None
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.replace("\ufeff", ""))
    if "\0" in text:
        raise DataError(f"{name}, line {number}: a zero byte; expected text, not a binary file")
    if "\t" in text:
        fields = [field.strip(_BLANKS) for field in text.split("\t")]
        return fields if any(fields) else []
    return [field for field in text.strip(_BLANKS).split(" ") if field]


def no_sentences(path: str | os.PathLike[str]) -> str:
    """Say that a file has nothing in it."""
    return f"{_name(path)} holds no sentences: expected lines of 'word TAB label'"


def _shown(fields: Row) -> str:
    text = " ".join(fields)
    text = text if len(text) <= 40 else text[:40] + "…"
    return f"got {'1 field' if len(fields) == 1 else f'{len(fields)} fields'}: {text!r}"


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file or standard input, plain or gzip, and complain in one line if that cannot be."""
    if os.fspath(path) == "-":
        yield _unzipped(sys.stdin.buffer)
        return
    try:
        raw = open(path, "rb")  # noqa: SIM115 (errors of opening apart from those of reading)
    except OSError as error:
        raise DataError(_cannot_open(path, error)) from None
    except ValueError as error:  # a zero byte in the name
        raise DataError(f"{_name(path)!r}: {error}") from None
    with raw:
        yield _unzipped(raw)


def _unzipped(raw: BinaryIO) -> BinaryIO:
    """Look at the first two bytes, not at the name: gzip or plain."""
    buffered = raw if hasattr(raw, "peek") else io.BufferedReader(raw)  # type: ignore[type-var]
    return gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == b"\x1f\x8b" else buffered  # type: ignore


def _cannot_open(path: str | os.PathLike[str], error: OSError) -> str:
    name = _name(path)
    if error.errno == errno.EISDIR or os.path.isdir(path):
        return f"{name} is a folder; expected a file"
    if error.errno == errno.ENOENT:
        return f"{name}: no such file"
    return f"{name}: cannot be read ({error.strerror or error})"


def _name(path: str | os.PathLike[str]) -> str:
    return "standard input" if os.fspath(path) == "-" else os.fspath(path)
