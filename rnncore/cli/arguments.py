"""Arguments that several commands take, and how their values are read."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from typing import Any

from rnncore.data.readers import DataError
from rnncore.io.files import is_device

__all__ = ["add_column", "add_quiet", "check_target", "column_pair", "number"]

_COLUMN = re.compile(r"(-?[1-9]\d{0,5})(?:,(-?[1-9]\d{0,5}))?")


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


def column_pair(text: str) -> tuple[int, int]:
    """Read ``WORD,LABEL``, columns counted from 1 or from the end with -1, and count them from 0.

    Examples
    --------
    >>> column_pair("2,-1"), column_pair("3")
    ((1, -1), (2, -1))
    """
    match = _COLUMN.fullmatch(text.replace(" ", ""))
    if not match:
        raise argparse.ArgumentTypeError(
            f"expected the columns of word and label, such as 1,4 or 2,-1 (the last), got {text!r}"
        )
    word, label = (int(part) if part else -1 for part in match.groups())
    return (word - 1 if word > 0 else word), (label - 1 if label > 0 else label)


def add_column(parser: argparse.ArgumentParser) -> None:
    """Add ``--column``."""
    parser.add_argument(
        "--column",
        type=column_pair,
        metavar="WORD,LABEL",
        help="columns of word and label in lines of many fields, as CoNLL's: from 1 on, -1 is the last",
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
