"""Docstrings of estimators: what all have in common is written once, and read by ``rnncore train --settings``."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["described_settings", "with_common"]

_TITLE = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


def with_common(doc: str, common: str) -> str:
    r"""Add the parameters and attributes of a base class's docstring to a subclass's own, which win.

    Examples
    --------
    >>> title = "Parameters\n----------\n"
    >>> text = with_common(f"Own.\n\n{title}a : int\n", f"Base.\n\n{title}a : str\nb : str\n")
    >>> [line for line in text.splitlines() if ":" in line]
    ['a : int', 'b : str']
    """
    own, others = _sections(inspect.cleandoc(doc)), _sections(inspect.cleandoc(common))
    for title in ("Attributes", "Parameters"):
        if title not in others:
            continue
        if title not in own:
            own = {**{name: own[name] for name in list(own)[:1]}, title: "", **own}
        taken = {name for names, _ in _entries(own[title]) for name in names}
        kept = [text for names, text in _entries(others[title]) if not taken & set(names)]
        own[title] = "\n".join([part for part in (own[title].rstrip("\n"), *kept) if part])
    parts = [f"{title}\n{'-' * len(title)}\n{body}" if title else body for title, body in own.items()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def described_settings(estimator: type) -> list[tuple[str, Any, str]]:
    """Return name, default and first sentence of each parameter, in the order of the signature.

    Examples
    --------
    >>> import rnncore as rc
    >>> next(row for row in described_settings(rc.SequenceTagger) if row[0] == "batch_size")[:2]
    ('batch_size', None)
    """
    sentences: dict[str, str] = {}
    for names, text in _entries(_sections(inspect.getdoc(estimator) or "").get("Parameters", "")):
        head, *lines = text.splitlines()
        body = " ".join(line.strip() for line in lines) or head.partition(" : ")[2]
        sentences |= dict.fromkeys(names, _first_sentence(body))
    signature = inspect.signature(estimator)
    return [(name, part.default, sentences.get(name, "")) for name, part in signature.parameters.items()]


def _first_sentence(text: str) -> str:
    """Cut after the first full stop that ends a sentence: one at the end, or before a capital letter."""
    return re.split(r"(?<=[.])\s+(?=[A-Z\"])", text, maxsplit=1)[0]


def _sections(doc: str) -> dict[str, str]:
    """Divide a docstring by its titles; what comes before the first has none."""
    before, *rest = _TITLE.split(doc)
    return {"": before} | dict(zip(rest[::2], rest[1::2], strict=True))


def _entries(section: str) -> list[tuple[list[str], str]]:
    """Divide a section by its unindented lines: the names there, and the text with that line."""
    found = [part for part in re.split(r"^(?=\S)", section, flags=re.MULTILINE) if part.strip()]
    return [(re.split(r",\s*", part.splitlines()[0].partition(" : ")[0].strip()), part.rstrip()) for part in found]
