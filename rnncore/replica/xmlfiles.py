"""Weight files of the original: OpenCV's FileStorage XML, ``opencv-matrix`` nodes and a list of words.

Version 1.0 has the keys ``smr_W``, ``hlayer0_W``, ``hlayer0_U`` and so on, version 1.1 the same with ``_l`` and ``_r``;
``re_resolmap`` is the word list. Numbers are written so that they read back to the same bits.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

import numpy as np

from rnncore.data.readers import DataError
from rnncore.io.files import write_atomically
from rnncore.replica.pipeline import PADDING, UNDEFINED

__all__ = ["read_xml", "write_xml"]

_WORDS = "re_resolmap"
_A_LINE = 4  # numbers


def write_xml(path: str | os.PathLike[str], weights: Mapping[str, np.ndarray], words: Sequence[str]) -> None:
    """Write matrices, the softmax layer's first as the original does, and the word list."""
    names = sorted(weights, key=lambda name: not name.startswith("smr"))
    parts = ['<?xml version="1.0"?>\n<opencv_storage>\n']
    parts += [_matrix_text(name, weights[name]) for name in names]
    parts.append(f"<{_WORDS}>\n")
    parts += [f'  "{escape(_escaped(word))}"\n' for word in words]
    parts.append(f"</{_WORDS}>\n</opencv_storage>\n")
    write_atomically(path, "".join(parts).encode())


def read_xml(path: str | os.PathLike[str]) -> tuple[str, dict[str, np.ndarray], list[str]]:
    """Read a weight file: its version, its matrices by name, its words.

    Raises
    ------
    DataError
        If the file cannot be read, or parts are missing, malformed or of sizes that do not fit together.
    """
    name = os.fspath(path)
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{name}: not an XML file, or damaged ({error})") from None
    if root.tag != "opencv_storage":
        raise DataError(f"{name}: expected OpenCV's <opencv_storage>, got <{root.tag}>")
    nodes = {node.tag: node for node in root}
    version = "1.0" if "smr_W" in nodes else "1.1"
    suffixes = ("",) if version == "1.0" else ("_l", "_r")
    layers = 0
    while f"hlayer{layers}_W{suffixes[0]}" in nodes:
        layers += 1
    wanted = [f"smr_W{suffix}" for suffix in suffixes]
    wanted += [f"hlayer{i}_{letter}{suffix}" for i in range(max(layers, 1)) for suffix in suffixes for letter in "WU"]
    missing = [key for key in [*wanted, _WORDS] if key not in nodes]
    if missing:
        raise DataError(f"{name}: {', '.join(missing)} is missing; expected a weight file of version 1.0 or 1.1")
    weights = {key: _matrix(nodes[key], f"{name}, {key}") for key in wanted}
    words = _words(nodes[_WORDS], f"{name}, {_WORDS}")
    _check_sizes(name, weights, len(words), suffixes, layers)
    return version, weights, words


def _matrix_text(name: str, matrix: np.ndarray) -> str:
    rows, columns = matrix.shape
    numbers = [repr(number) for number in matrix.ravel().tolist()]
    lines = [" ".join(numbers[i : i + _A_LINE]) for i in range(0, len(numbers), _A_LINE)]
    data = "\n    ".join(lines)
    return (
        f'<{name} type_id="opencv-matrix">\n  <rows>{rows}</rows>\n  <cols>{columns}</cols>\n  <dt>d</dt>\n'
        f"  <data>\n    {data}</data></{name}>\n"
    )


def _matrix(node: ElementTree.Element, where: str) -> np.ndarray:
    try:
        rows, columns = int(node.findtext("rows", "")), int(node.findtext("cols", ""))
        # OpenCV writes whole numbers as "1." and not-a-numbers as ".Nan", ".Inf"
        text = node.findtext("data", "").replace(".Nan", "nan").replace(".Inf", "inf")
        numbers = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{where}: not an opencv-matrix of numbers ({str(error)[:80]})") from None
    if node.findtext("dt", "d").strip() not in ("d", "f"):
        raise DataError(f"{where}: expected a matrix of numbers (dt d), got dt {node.findtext('dt')!r}")
    if rows < 1 or columns < 1 or numbers.size != rows * columns:
        raise DataError(f"{where}: {rows} x {columns} numbers are announced, {numbers.size} are there")
    return numbers.reshape(rows, columns)


def _check_sizes(name: str, weights: dict[str, np.ndarray], words: int, suffixes: tuple[str, ...], layers: int) -> None:
    classes = weights[f"smr_W{suffixes[0]}"].shape[0]
    for suffix in suffixes:
        inputs = words
        for layer in range(layers):
            size = weights[f"hlayer{layer}_W{suffixes[0]}"].shape[0]
            for key, shape in (
                (f"hlayer{layer}_U{suffix}", (size, inputs)),
                (f"hlayer{layer}_W{suffix}", (size, size)),
            ):
                if weights[key].shape != shape:
                    raise DataError(f"{name}, {key}: expected {shape}, got {weights[key].shape}")
            inputs = size
        if weights[f"smr_W{suffix}"].shape != (classes, inputs):
            raise DataError(
                f"{name}, smr_W{suffix}: expected {(classes, inputs)}, got {weights[f'smr_W{suffix}'].shape}"
            )


def _words(node: ElementTree.Element, where: str) -> list[str]:
    """Words of a list: each quoted, or bare where OpenCV found no need for quotes."""
    words, text, place = [], node.text or "", 0
    while place < len(text):
        if text[place].isspace():
            place += 1
        elif text[place] == '"':
            word, place = _quoted(text, place + 1, where)
            words.append(word)
        else:
            end = place
            while end < len(text) and not text[end].isspace():
                end += 1
            words.append(text[place:end])
            place = end
    if words[-2:] != [UNDEFINED, PADDING]:
        raise DataError(f"{where}: the word list must end with {UNDEFINED} and {PADDING}, got {words[-2:]}")
    return words


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str, place: int, where: str) -> tuple[str, int]:
    word: list[str] = []
    while place < len(text):
        if text[place] == '"':
            return "".join(word), place + 1
        if text[place] == "\\":
            place += 1
        word.append(text[place : place + 1])
        place += 1
    raise DataError(f"{where}: a word's closing quote is missing")
