"""Pretrained word vectors: files of word2vec and GloVe, arrays, and what gensim holds."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.data.readers import DataError, iter_lines

__all__ = ["read_vectors", "word_vectors"]


def read_vectors(path: str | os.PathLike[str]) -> tuple[list[str], np.ndarray]:
    r"""Read words and their vectors.

    Parameters
    ----------
    path : str or path
        Lines of ``word number number ...``, plain or gzip, UTF-8.

    Returns
    -------
    words : list of str
    vectors : (len(words), size) float32

    Raises
    ------
    DataError
        If the file cannot be read, or a line has other than `size` finite numbers; the message has its number.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "two.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("2 3\nnews 0.1 0.2 0.3\ntop 1 2 3\n")
    >>> words, vectors = read_vectors(path)
    >>> words, vectors.shape
    (['news', 'top'], (2, 3))
    """
    name = os.fspath(path)
    words: list[str] = []
    numbers = array("f")
    size = None
    for number, line in iter_lines(path):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \t\r\n")
        except UnicodeDecodeError:
            raise DataError(f"{name}, line {number}: not UTF-8 text{_BINARY}") from None
        fields = text.split(" ")
        if not text or (number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields)):
            continue
        size = size or len(fields) - 1
        fields = text.rsplit(" ", size)  # some words hold blanks
        if len(fields) != size + 1 or size < 1:
            raise DataError(f"{name}, line {number}: expected a word and {max(size, 1)} numbers")
        try:
            numbers.extend(map(float, fields[1:]))
        except (ValueError, OverflowError):
            raise DataError(f"{name}, line {number}: expected a word and {size} numbers") from None
        words.append(fields[0])
    if not words or size is None:
        raise DataError(f"{name} holds no word vectors: expected lines of 'word number number ...'")
    vectors = np.frombuffer(numbers, dtype=np.float32).reshape(len(words), size)
    return _checked(words, vectors, name)


def word_vectors(source: Any) -> tuple[list[str], np.ndarray]:
    """Take words and their vectors from whatever holds them.

    Parameters
    ----------
    source : path, (words, vectors), mapping, or KeyedVectors
        A file that `read_vectors` reads, or one of word2vec's binary form, which gensim reads where it is installed; a
        list of words and an array (W, E); a mapping of words to arrays (E,); or what gensim has in memory, with its
        ``index_to_key`` and ``vectors``.

    Returns
    -------
    words : list of str
    vectors : (len(words), size) float32

    Raises
    ------
    DataError
        If it is none of these, or holds numbers that are not finite.

    Examples
    --------
    >>> word_vectors({"top": [1, 2], "news": [3, 4]})
    (['top', 'news'], array([[1., 2.],
           [3., 4.]], dtype=float32))
    """
    if isinstance(source, str | os.PathLike):
        return _read_binary(source) if _is_binary(source) else read_vectors(source)
    source = getattr(source, "wv", source)  # gensim's models, not their vectors
    if hasattr(source, "index_to_key") and hasattr(source, "vectors"):
        words, rows = source.index_to_key, source.vectors
    elif isinstance(source, Mapping):
        words, rows = source.keys(), [*source.values()]
    elif isinstance(source, tuple | list) and len(source) == 2:
        words, rows = source
    else:
        raise DataError(
            "embeddings: expected a file's name, (words, vectors), a dict of word to vector or gensim's KeyedVectors, "
            f"got {type(source).__name__}"
        )
    try:
        words = [str(word) for word in words]
        with np.errstate(over="ignore"):
            vectors = np.array(rows, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"embeddings: expected vectors of one size ({error})") from None
    if vectors.ndim != 2 or len(vectors) != len(words) or not vectors.size:
        raise DataError(f"embeddings: expected vectors of shape ({len(words)}, size), got {vectors.shape}")
    return _checked(words, vectors, "embeddings")


_BINARY = "; word2vec's binary form takes gensim and a name that ends in .bin"


def _is_binary(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith((".bin", ".bin.gz"))


def _read_binary(path: str | os.PathLike[str]) -> tuple[list[str], np.ndarray]:
    name = os.fspath(path)
    try:
        from gensim.models import KeyedVectors
    except ImportError:
        raise DataError(f"{name}: word vectors in word2vec's binary form need gensim: pip install gensim") from None
    try:
        found = KeyedVectors.load_word2vec_format(name, binary=True, unicode_errors="replace")
    except (ValueError, EOFError, OSError, UnicodeError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read as word2vec's binary form ({error})") from None
    return word_vectors(found)


def _checked(words: list[str], vectors: np.ndarray, name: str) -> tuple[list[str], np.ndarray]:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(f"{name}: the vector of {words[int(np.argmin(finite))]!r} is not finite")
    return words, vectors
