"""What readers of numbers share: arrays of .npz files, rows of tables, and fields that may be empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from rnncore.data.readers import DataError

__all__ = ["GAPS", "field_value", "is_number", "read_arrays", "rows_of"]

GAPS = ("", "?", "NaN", "nan", "NA")  # what stands where a number is missing


def field_value(text: str) -> float:
    """Return the number that a field holds, NaN where there is none; a ValueError for what is neither."""
    return np.nan if text.strip() in GAPS else float(text)


def is_number(text: str) -> bool:
    """Tell whether a field holds a number, or says that one is missing."""
    try:
        field_value(text)
    except ValueError:
        return False
    return True


def rows_of(path: str, lines: Sequence[tuple[int, str]]) -> list[list[str]]:
    """Divide a table's lines, with numbers, at tabs in ``.tsv`` or where the first has them alone, else at commas."""
    tabs = path.endswith(".tsv") or ("\t" in lines[0][1] and "," not in lines[0][1])
    return list(csv.reader(io.StringIO("\n".join(text for _, text in lines)), delimiter="\t" if tabs else ","))


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` file.

    Raises
    ------
    DataError
        If it cannot be read, or holds Python's objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError):
        raise DataError(f"{path}: expected arrays in NumPy's form, .npz, without objects") from None
