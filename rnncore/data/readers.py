"""Reading tagged sentences from files: one word per line, a blank line between sentences.

A line is ``word TAB label``, or blanks in place of the tab; of more columns, as CoNLL's files have, two are chosen.
Line ends may be CRLF, the text may start with a byte-order mark and be compressed with gzip. Every complaint names the
file and the line.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import sys
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from rnncore.data.tokens import TokenLists

__all__ = [
    "DataError",
    "iter_rows",
    "iter_tagged",
    "no_sentences",
    "opened",
    "read_packed",
    "read_tagged",
    "read_words",
]

Row = list[str]
_LINES_KEPT = 200_000
_NEW = (-1, -1)
_BLANKS = " \t\r\n\v\f"


class DataError(ValueError):
    """Data that cannot be used; the message says where, what was expected and what came."""


def read_tagged(
    path: str | os.PathLike[str], columns: tuple[int, int] | None = None
) -> tuple[list[list[str]], list[list[str]]]:
    r"""Read sentences and their tags.

    Parameters
    ----------
    path : str or path
        A file of ``word TAB label`` lines (or blanks), plain or gzip, UTF-8; ``-`` is standard input.
    columns : (int, int), optional
        Where word and label stand in lines of any number of fields, counted from 0, or from the end with -1. CoNLL's
        ``-DOCSTART-`` lines and ``# name = value`` comments are then passed over. Without: two fields, word and label.

    Returns
    -------
    (sentences, tags) : lists of lists of str

    Raises
    ------
    DataError
        If the file cannot be read, is not UTF-8, has a line of other than two fields or holds no sentence.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "two.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("news\tB-NEWSTYPE\nplease O\n\nhello O\n")
    >>> read_tagged(path)
    ([['news', 'please'], ['hello']], [['B-NEWSTYPE', 'O'], ['O']])
    """
    sentences, tags = [], []
    once: dict[str, str] = {}  # a word that comes a thousand times is kept once
    for words, labels in iter_tagged(path, columns):
        sentences.append([once.setdefault(word, word) for word in words])
        tags.append([once.setdefault(label, label) for label in labels])
    if not sentences:
        raise DataError(no_sentences(path))
    return sentences, tags


def iter_tagged(
    path: str | os.PathLike[str], columns: tuple[int, int] | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (words, labels) of sentence after sentence, without holding the file in memory; as `read_tagged`."""
    word, label = columns or (0, 1)
    for rows in iter_rows(path, 2 if columns is None else None, columns):
        yield [row[word] for row in rows], [row[label] for row in rows]


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
    form = _Form(_name(path), n_fields, columns)
    sentence: list[Row] = []
    for number, line in _lines(path):
        fields = form.read(line, number)
        if fields:
            sentence.append(fields)
        elif fields is not None and sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def read_packed(path: str | os.PathLike[str], columns: tuple[int, int] | None = None) -> tuple[TokenLists, TokenLists]:
    """Read sentences and their tags as `read_tagged`, in a third of the memory and a quarter of the time.

    Raises
    ------
    DataError
        As `read_tagged`.
    """
    word, label = columns or (0, 1)
    form = _Form(_name(path), 2 if columns is None else None, columns)
    words: dict[str, int] = {}
    labels: dict[str, int] = {}
    seen: dict[bytes, tuple[int, int] | None] = {}  # lines come again and again: each is taken apart once; None: blank
    word_ids, label_ids, ends = array("i"), array("i"), array("q", [0])
    for number, line in _lines(path):
        pair = seen.get(line, _NEW)
        if pair is _NEW:
            fields = form.read(line, number)
            if fields is None:
                continue
            pair = None
            if fields:
                pair = words.setdefault(fields[word], len(words)), labels.setdefault(fields[label], len(labels))
            if number > 1 and len(seen) < _LINES_KEPT:  # the first may bear a mark of its own
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
    return (
        TokenLists(list(words), np.frombuffer(word_ids, dtype=np.intc).astype(np.int32, copy=False), lengths),
        TokenLists(list(labels), np.frombuffer(label_ids, dtype=np.intc).astype(np.int32, copy=False), lengths),
    )


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yield number and line, counted from 1, and complain in one line where the file cannot be read on."""
    name, number = _name(path), 0
    with opened(path) as stream:
        try:
            for line in stream:
                number += 1
                yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{name}, after line {number}: the gzip data are damaged or cut off ({error})") from None
        except OSError as error:
            raise DataError(f"{name}, after line {number}: cannot be read ({error.strerror or error})") from None


class _Form:
    """What the lines of a file must be."""

    def __init__(self, name: str, n_fields: int | None, columns: tuple[int, ...] | None) -> None:
        self.name = name
        self.n_fields = n_fields
        self.columns = columns
        self.least = max((column + 1 if column >= 0 else -column for column in columns or ()), default=1)

    def read(self, line: bytes, number: int) -> Row | None:
        """Return the fields of a line, none for a blank one; None for a comment."""
        name = self.name
        fields = _fields(line, number, name)
        if not fields:
            return fields
        if self.columns and _is_comment(fields):
            return None
        if len(fields) != (self.n_fields or len(fields)) or "" in fields:
            raise DataError(_wrong_fields(fields, name, number, self.n_fields))
        if len(fields) < self.least:
            wanted = ", ".join(str(column + 1 if column >= 0 else column) for column in self.columns or ())
            raise DataError(f"{name}, line {number}: there is no column {wanted}; {_shown(fields)}")
        return fields


def _fields(line: bytes, number: int, name: str) -> Row:
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        text = line.decode("utf-8").strip(_BLANKS)
    except UnicodeDecodeError as error:
        hint = "; UTF-16? save it as UTF-8" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise DataError(
            f"{name}, line {number}: not UTF-8 text (byte 0x{line[error.start]:02x} at column {error.start + 1}){hint}"
        ) from None
    if "\0" in text:
        raise DataError(f"{name}, line {number}: a zero byte; expected text, not a binary file")
    if "\t" in text:
        return [field.strip(_BLANKS) for field in text.split("\t")]
    return [field for field in text.split(" ") if field]


def no_sentences(path: str | os.PathLike[str]) -> str:
    """Say that a file has nothing in it."""
    return f"{_name(path)} holds no sentences: expected lines of 'word TAB label'"


def _wrong_fields(fields: Row, name: str, number: int, n_fields: int | None) -> str:
    expected = "a word and its label, 'word TAB label'" if n_fields == 2 else "a word first"
    if "" in fields:
        return f"{name}, line {number}: an empty field; expected {expected}, {_shown(fields)}"
    return f"{name}, line {number}: expected {expected}, {_shown(fields)}"


def _shown(fields: Row) -> str:
    text = " ".join(fields)
    text = text if len(text) <= 40 else text[:40] + "…"
    return f"got {'1 field' if len(fields) == 1 else f'{len(fields)} fields'}: {text!r}"


def _is_comment(fields: Row) -> bool:
    """Tell CoNLL's lines that are no words: document starts, and comments such as ``# sent_id = 3``."""
    first = fields[0]
    return first == "-DOCSTART-" or (first.startswith("# ") and " = " in first) or fields[0::2][:2] == ["#", "="]


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
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
