"""Texts in whatever form they come: strings, bytes, words, numbers, files, lists of them."""

from __future__ import annotations

import functools
import gzip
import io
import os
import re
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rnncore.data.readers import DataError

__all__ = [
    "UNITS",
    "joined_words",
    "lines_of",
    "raw_text",
    "read_once",
    "read_text",
    "spaced_words",
    "text_of_bytes",
    "words_of",
]

#: what a language model's symbols are
UNITS = ("char", "byte", "word", "id")

_JOINER = "\u200d"  # of several signs to one, such as emoji
_CLOSES, _OPENS = frozenset(".,;:!?)]}%…’”"), frozenset("([{“‘")


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file, plain or gzip, UTF-8; a byte-order mark is left out, line ends become one kind.

    Raises
    ------
    DataError
        If it cannot be read or is not UTF-8.
    """
    return _decoded(_read(path), os.fspath(path))


def _decoded(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}, line {line}: not UTF-8 (byte {data[error.start]:#04x}); convert the file, or read it as it is "
            "with unit='byte'"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: str | os.PathLike[str]) -> bytes:
    name = os.fspath(path)
    try:
        with open(path, "rb") as stream:
            return _unpacked(stream.read())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: the gzip data are damaged or cut off ({error})") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def text_of_bytes(data: bytes, unit: str, name: str) -> Any:
    """Return what a file of such content would be read as; for standard input and pipes.

    Raises
    ------
    DataError
        If it is no text, or no numbers.
    """
    try:
        data = _unpacked(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: the gzip data are damaged or cut off ({error})") from None
    if unit == "id":
        return _numbers_of(io.BytesIO(data), name)
    return data if unit == "byte" else _decoded(data, name)


def read_once(text: Any, unit: str) -> Any:
    """Return a text that can be gone through several times: what a pipe, an open file or a generator yields is kept."""
    if isinstance(text, str) and "\n" not in text and len(text) < 256 and os.path.isfile(text):
        warnings.warn(
            f"the text {text!r} is a file's name: to read the file, give pathlib.Path({text!r})", stacklevel=3
        )
    if isinstance(text, os.PathLike) and os.path.exists(text) and not os.path.isfile(text) and not os.path.isdir(text):
        return text_of_bytes(_read(text), unit, os.fspath(text))
    if hasattr(text, "read"):
        found = text.read()
        return text_of_bytes(found, unit, "the open file") if isinstance(found, bytes) else found
    return list(text) if isinstance(text, Iterator) else text


def raw_text(text: Any, unit: str) -> Any:
    """Return a text in the form its unit is counted in.

    Parameters
    ----------
    text : str, bytes, path, array of ints, or list of them
        A path (not a str) names a file: UTF-8 text, bytes, or numbers in NumPy's form, ``.npy``. Files of bytes and
        numbers are mapped into memory, not read.
    unit : "char", "byte", "word" or "id"

    Returns
    -------
    str for "char"; (N,) uint8 array for "byte"; (N,) int array for "id"; list of lines, lists of words, for "word"

    Raises
    ------
    DataError, TypeError
        For what is no text in this unit.
    """
    if unit == "word":
        return [words_of(line) if isinstance(line, str) else _checked_words(line) for line in lines_of(text, unit)]
    several = isinstance(text, list | tuple) and len(text) > 0
    if several and (isinstance(text[0], str | bytes) or not np.isscalar(text[0])):
        return _laid_together([raw_text(part, unit) for part in text], unit)
    if unit == "char":
        return _characters(text)
    return _bytes(text) if unit == "byte" else _numbers(text)


def _checked_words(line: Any) -> list[str]:
    words = list(line)
    wrong = next((word for word in words if not isinstance(word, str)), None)
    if wrong is not None or isinstance(line, bytes):
        raise TypeError(f"expected words as str, got {line!r}"[:200])
    return words


def _laid_together(parts: list[Any], unit: str) -> Any:
    """Put documents one after another, with a line's end between those of text."""
    if unit == "char":
        return "\n".join(parts)
    if unit == "id":
        return np.concatenate(parts)
    between = np.array([10], dtype=np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, between)][:-1])


def _characters(text: Any) -> str:
    if isinstance(text, os.PathLike):
        return read_text(text)
    if isinstance(text, np.ndarray) and text.ndim == 0:
        text = text.item()
    if not isinstance(text, str):
        hint = ": decode it, or set unit='byte'" if isinstance(text, bytes | bytearray) else ""
        raise TypeError(f"expected a text as a str or the path of a file, got {type(text).__name__}{hint}")
    return text


def _bytes(text: Any) -> np.ndarray:
    if isinstance(text, os.PathLike):
        try:
            with open(text, "rb") as stream:
                packed = stream.read(2) == b"\x1f\x8b"
            if not packed and os.path.getsize(text):
                return np.memmap(text, dtype=np.uint8, mode="r")
        except OSError as error:
            raise DataError(f"{os.fspath(text)}: cannot be read ({error.strerror or error})") from None
        text = _read(text)
    if isinstance(text, str):
        text = text.encode("utf-8", errors="surrogateescape")
    if isinstance(text, bytes | bytearray | memoryview):
        return np.frombuffer(text, dtype=np.uint8)
    if isinstance(text, np.ndarray) and text.dtype == np.uint8 and text.ndim == 1:
        return text
    raise TypeError(f"expected bytes, a str or the path of a file, got {type(text).__name__}")


def _numbers(text: Any) -> np.ndarray:
    if isinstance(text, os.PathLike):
        name = os.fspath(text)
        text = _numbers_of(text, name)
    if isinstance(text, str | bytes):
        raise TypeError(f"expected an array (N,) of whole numbers for unit='id', got {type(text).__name__}")
    array = text if isinstance(text, np.ndarray) else np.asarray(text)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"expected an array (N,) of whole numbers for unit='id', got {array.dtype} {array.shape}")
    return array


def _numbers_of(source: Any, name: str) -> np.ndarray:
    """Read an array, mapped if it is a file's."""
    try:
        found = np.load(source, mmap_mode=None if isinstance(source, io.BytesIO) else "r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError):
        found = None
    if not isinstance(found, np.ndarray):
        raise DataError(f"{name}: expected whole numbers in NumPy's form, .npy, as numpy.save writes them")
    return found


def lines_of(text: Any, unit: str) -> Sequence[Any]:
    r"""Return a text's sentences: its lines but blank ones, or the parts of a list.

    Examples
    --------
    >>> lines_of("Anna\n\nOtto\n", "char"), lines_of([[1, 2], [3]], "id")
    (['Anna', 'Otto'], [[1, 2], [3]])
    """
    if isinstance(text, os.PathLike):
        name = os.fspath(text)
        text = _numbers_of(text, name) if unit == "id" else _read(text) if unit == "byte" else read_text(text)
    if isinstance(text, bytes | bytearray):
        text = bytes(text).decode("utf-8", errors="surrogateescape")
    if isinstance(text, str):
        return [line for line in text.split("\n") if line.strip()] if unit != "word" else text.split("\n")
    if isinstance(text, Iterable) and not isinstance(text, dict | set | frozenset) and not hasattr(text, "columns"):
        found = [read_text(part) if isinstance(part, os.PathLike) and unit == "word" else part for part in text]
        fits = (str, bytes, os.PathLike, Iterable)
        wrong = next((i for i, part in enumerate(found) if not isinstance(part, fits)), None)
        if wrong is not None:
            raise TypeError(f"expected a text, or a list of sentences; part {wrong} of the list is {found[wrong]!r}")
        return found
    raise TypeError(f"expected a text, or a list of sentences, got {type(text).__name__}")


def words_of(line: str) -> list[str]:
    """Divide a line into words and signs.

    Examples
    --------
    >>> words_of("To be, or not to be: that's the <unk>")
    ['To', 'be', ',', 'or', 'not', 'to', 'be', ':', "that's", 'the', '<unk>']
    """
    return _word_pattern().findall(line)


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """Make the pattern of words and signs; marks over, under or round a letter or sign belong to it."""
    codes = (*range(0x300, 0x20000), *range(0x1F3FB, 0x1F400), *range(0xE0100, 0xE01F0))
    marks = "".join(c for c in map(chr, codes) if unicodedata.category(c) in ("Mn", "Mc", "Me") or c >= "\U0001f3fb")
    letter, mark = rf"[\w{marks}{_JOINER}]", rf"[{marks}]"
    sign = rf"[^\w\s]{mark}*"
    return re.compile(rf"<\w+>|{letter}+(?:['’.-]{letter}+)*|{sign}(?:{_JOINER}{sign})*")


def joined_words(words: Iterable[str]) -> str:
    r"""Put words together as they are written: blanks between them, but not before signs that close.

    Examples
    --------
    >>> joined_words(["To", "be", ",", "or", "(", "not", ")", "?", "\n", "No", "."])
    'To be, or (not)?\nNo.'
    """
    return "".join(spaced_words(words))


def spaced_words(words: Iterable[str], last: str = "") -> Iterator[str]:
    """Yield words with the blanks that belong before them; `last` is what stands before the first."""
    for word in words:
        near = not last or last[-1] == "\n" or last[-1] in _OPENS or word == "\n" or word in _CLOSES
        yield word if near else f" {word}"
        last = word
