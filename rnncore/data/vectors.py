"""Pretrained word vectors, in the text form of word2vec (with a first line "words size") or GloVe (without)."""

from __future__ import annotations

import os
import zlib
from array import array

import numpy as np

from rnncore.data.readers import DataError, opened

__all__ = ["read_vectors"]


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
    number = 0
    with opened(path) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \t\r\n")
                except UnicodeDecodeError:
                    raise DataError(f"{name}, line {number}: not UTF-8 text") from None
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
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{name}, after line {number}: cannot be read ({error})") from None
    if not words or size is None:
        raise DataError(f"{name} holds no word vectors: expected lines of 'word number number ...'")
    vectors = np.frombuffer(numbers, dtype=np.float32).reshape(len(words), size)
    if not np.isfinite(vectors).all():
        bad = words[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise DataError(f"{name}: the vector of {bad!r} is not finite")
    return words, vectors
