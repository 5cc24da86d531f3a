"""Arguments that several commands take, and how their values are read."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from typing import Any

from rnncore.data.readers import Columns, DataError
from rnncore.io.files import is_device

__all__ = ["add_beam_size", "add_column", "add_quiet", "check_target", "column_pair", "number"]

_COLUMN = re.compile(r"(?:([^=,.]+)=)?(-?[1-9]\d{0,5})")


def number(kind: type, low: float, high: float, expected: str) -> Callable[[str], Any]:
    """Return an argument's reader that accepts what lies in low <= value < high."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
            if low <= value < high:
                return value
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return read


def column_pair(text: str) -> Columns:
    """Read ``WORD,LABEL``, columns counted from 1 or from the end with -1, and count them from 0.

    Labels with names, ``WORD,NAME=LABEL,NAME=LABEL``, come as a dict.

    Examples
    --------
    >>> column_pair("2,-1"), column_pair("3"), column_pair("2,upos=4,xpos=5")
    ((1, -1), (2, -1), (1, {'upos': 3, 'xpos': 4}))
    """
    found = [_COLUMN.fullmatch(part) for part in text.replace(" ", "").split(",")]
    columns = [(match[1], _from_zero(int(match[2]))) for match in found if match]
    names = [name for name, _ in columns[1:] if name]
    all_named = len({*names}) == len(columns) - 1
    if None in found or columns[0][0] or not (all_named or len(columns) == 2 - len(names)):
        raise argparse.ArgumentTypeError(
            "expected the columns of word and label, such as 1,4 or 2,-1 (the last), or of several labels, each with a "
            f"name of its own, such as 2,upos=4,xpos=5; got {text!r}"
        )
    (_, word), *labels = columns
    if names:
        return word, {str(name): place for name, place in labels}
    return word, labels[0][1] if labels else -1


def _from_zero(place: int) -> int:
    return place - 1 if place > 0 else place


def add_column(parser: argparse.ArgumentParser) -> None:
    """Add ``--column``."""
    parser.add_argument(
        "--column",
        type=column_pair,
        metavar="WORD,LABEL",
        help="columns of word and label in lines of many fields, as CoNLL's: from 1 on, -1 is the last; of several "
        "labels that are learned together with their names, 2,upos=4,xpos=5",
    )


def add_beam_size(parser: argparse.ArgumentParser) -> None:
    """Add ``--beam-size``."""
    parser.add_argument(
        "--beam-size",
        type=number(int, 1, 1001, "a whole number from 1 to 1000"),
        metavar="N",
        help="of a model that translates, transcribes or writes captions: how many beginnings to look at side by side "
        "(default: 1, or 16 where other options to transcribe need them)",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument("--quiet", action="store_true", default=None, help="print nothing but errors")


def check_target(path: str, force: bool) -> None:
    """Find out before the work, not after it, that a file cannot be written."""
    if is_device(path):
        return
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder; expected the name of a file to write")
    if os.path.exists(path) and not force:
        raise DataError(f"{path} exists already; replace it with --force, or choose another name with --out")
    if not os.path.isdir(folder):
        raise DataError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: no permission to write in {folder}")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise DataError(f"{path}: the file is read-only")
