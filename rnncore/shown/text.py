"""Words of any kind as text that a terminal or a page can show."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["aligned", "percent", "shortened", "token_text", "visible"]

_WORDS = ("word", "token", "form", "text", "word.lower()", "lower", "w")  # what dicts of features often call the word
_LONGEST = 40  # of a token that is no word
_JOINERS = "\u200c\u200d"  # parts of words in many scripts, without a width


def token_text(token: Any) -> str:
    """Return what stands for a token: a word itself, the word among a dict of features, the first of many numbers.

    Examples
    --------
    >>> token_text("news"), token_text({"bias": 1.0, "word": "news"}), token_text({"len": 4, "upper": False})
    ('news', 'news', 'len=4 upper=False')
    >>> token_text(np.array([0.5, -1.25, 3.0, 4.0]))
    '[0.5 -1.25 3 … 4 numbers]'
    """
    if isinstance(token, Mapping):
        named = next((token[name] for name in _WORDS if isinstance(token.get(name), str)), None)
        return named if named is not None else shortened(" ".join(f"{k}={v}" for k, v in token.items()), _LONGEST)
    if isinstance(token, np.ndarray | list | tuple):
        numbers = np.ravel(token).tolist()
        first = " ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in numbers[:3])
        return f"[{first} … {len(numbers)} numbers]" if len(numbers) > 3 else f"[{first}]"
    return str(token)


def visible(text: str) -> str:
    r"""Write what cannot be seen, or would move the cursor, as Python's escapes.

    Examples
    --------
    >>> print(visible("a\tb\x1b[1m"))
    a\tb\x1b[1m
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else repr(c)[1:-1] for c in text)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or c in _JOINERS else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def aligned(rows: Sequence[Sequence[str]], right: str) -> list[str]:
    """Return a table's lines; `right` has an r for each column that is aligned to the right.

    Examples
    --------
    >>> aligned([["ab", "10"], ["日本", "7"], ["c", "100"]], " r")
    ['ab     10', '日本    7', 'c     100']
    """
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        blanks = [" " * (width - _width(text)) for text, width in zip(row, widths, strict=True)]
        cells = [b + t if side == "r" else t + b for t, b, side in zip(row, blanks, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def shortened(text: str, most: int, front: bool = False) -> str:
    """Cut a text at its end, or at its front, to so many columns.

    Examples
    --------
    >>> shortened("abcdef", 4), shortened("abcdef", 4, front=True)
    ('abc…', '…def')
    """
    if _width(text) <= most:
        return text
    room, n = most - 1, 0
    for letter in reversed(text) if front else text:
        room -= _width(letter)
        if room < 0:
            break
        n += 1
    if not front:
        return f"{text[:n]}…"
    while n and not _width(text[-n]):  # a mark without its letter
        n -= 1
    return f"…{text[len(text) - n :]}"


def percent(p: float) -> str:
    """Write a probability so that neither certainty nor impossibility is claimed that is none.

    Examples
    --------
    >>> [percent(p) for p in (1.0, 0.9999, 0.5, 0.0001)]
    ['100%', '>99%', '50%', '<1%']
    """
    rounded = f"{p:.0%}"
    if rounded == "100%" and p < 1:
        return ">99%"
    return "<1%" if rounded == "0%" and p > 0 else rounded
