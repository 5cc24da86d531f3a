"""The Python standard library's own source text: something to learn to write from, on every machine."""

from __future__ import annotations

import os

__all__ = ["python_source"]


def python_source(n_characters: int = 400_000) -> str:
    """Return the source of the standard library's modules, in alphabetical order, cut to whole lines.

    Parameters
    ----------
    n_characters : int
        How much at most.

    Returns
    -------
    str
        Other versions of Python have another text.

    Raises
    ------
    FileNotFoundError
        Where Python comes without its source.

    Examples
    --------
    >>> text = python_source(5000)
    >>> 4000 < len(text) <= 5000 and "import" in text
    True
    """
    folder = os.path.dirname(os.__file__)
    found, left = [], n_characters
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if not name.endswith(".py") or left <= 0:
            continue
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            part = file.read(left)
        found.append(part)
        left -= len(part)
    text = "".join(found)
    if not text:
        raise FileNotFoundError(f"{folder}: this Python comes without the source of its library; give a text instead")
    return text[: text.rfind("\n") + 1]
