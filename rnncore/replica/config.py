"""The original's ``config.txt``: what it sets, what the program ignores, and the settings of its best-known runs."""

from __future__ import annotations

import difflib
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from rnncore.data.readers import DataError

__all__ = ["VERSIONS", "Config", "ConfigWarning", "HiddenLayer", "default_config", "read_config"]

VERSIONS = ("1.0", "1.1")


class ConfigWarning(UserWarning):
    """Something in a configuration file has no effect, or was filled in."""


@dataclass(frozen=True)
class HiddenLayer:
    """One HIDDEN block.

    Parameters
    ----------
    neurons : int
        NUM_HIDDEN_NEURONS.
    weight_decay : float
        WEIGHT_DECAY of the layer's U and W.
    keep : float
        DROPOUT_RATE: the probability of *keeping* a unit; 1 means no dropout.
    """

    neurons: int = 512
    weight_decay: float = 1e-6
    keep: float = 1.0


@dataclass(frozen=True)
class Config:
    """What the original can be told.

    Parameters
    ----------
    epochs, iterations : int
        TRAINING_EPOCHS and ITER_PER_EPO. The first epoch has one iteration more, as the original's has.
    batch_size : int
        BATCH_SIZE, windows per iteration.
    learning_rate : float
        LRATE_W, of all matrices.
    ngram : int
        NGRAM, words in a window.
    training_fraction : float
        TRAINING_PERCENT, the share of sentences to train on.
    hidden : tuple of HiddenLayer
    softmax_decay : float
        WEIGHT_DECAY of the SOFTMAX block.
    gradient_checking : bool
        IS_GRADIENT_CHECKING.
    """

    epochs: int = 50
    iterations: int = 100
    batch_size: int = 50
    learning_rate: float = 3e-3
    ngram: int = 3
    training_fraction: float = 0.8
    hidden: tuple[HiddenLayer, ...] = field(default=(HiddenLayer(),))
    softmax_decay: float = 1e-6
    gradient_checking: bool = False

    def to_json(self) -> dict[str, Any]:
        """Describe the settings in JSON's types."""
        plain = dict(vars(self))
        plain["hidden"] = [dict(vars(layer)) for layer in self.hidden]
        return plain


def default_config(version: str = "1.0") -> Config:
    """Return the settings of the run a version is known by.

    Parameters
    ----------
    version : {"1.0", "1.1"}
        "1.0": the published run, 50 epochs without dropout and windows of 3 words. "1.1": the file it came with,
        30 epochs and windows of 5 words.

    Examples
    --------
    >>> default_config("1.0").epochs, default_config("1.1").ngram
    (50, 5)
    """
    if version not in VERSIONS:
        raise ValueError(f"version must be one of {', '.join(VERSIONS)}, got {version!r}")
    return Config() if version == "1.0" else Config(epochs=30, ngram=5)


def read_config(path: str | os.PathLike[str], version: str = "1.0") -> Config:
    r"""Read a ``config.txt`` of the original.

    Where the original was fragile this reader is not: comments may hold slashes and run to a line's end after ``//``, a
    ``;`` may be missing, a key that is not there keeps the version's own value (with a warning).

    Parameters
    ----------
    path : str or path
    version : {"1.0", "1.1"}
        Whose values stand in for missing keys.

    Raises
    ------
    DataError
        If the file cannot be read or a value is malformed; the message names file, line and key.

    Warns
    -----
    ConfigWarning
        For each key that has no effect, is missing, unknown or given twice.

    Examples
    --------
    >>> import os, tempfile, warnings
    >>> path = os.path.join(tempfile.mkdtemp(), "config.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("TRAINING_EPOCHS = 7; /* the rest as it was */")
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     read_config(path).epochs
    7
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{name}: not a text file; expected the original's config.txt") from None
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or error}") from None
    return _Reader(name, default_config(version)).read(text)


def _number(kind: type, low: float, high: float, expected: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or not math.isfinite(value):
            raise ValueError(expected)
        return value

    return read


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


_COUNT = _number(int, 1, 10**9, "a whole number of at least 1")
_RATE = _number(float, 0, math.inf, "a number of at least 0")

# key of the file: (field of Config or HiddenLayer, reader of its value)
_GENERAL: dict[str, tuple[str, Callable[[str], Any]]] = {
    "IS_GRADIENT_CHECKING": ("gradient_checking", _flag),
    "BATCH_SIZE": ("batch_size", _COUNT),
    "TRAINING_EPOCHS": ("epochs", _COUNT),
    "ITER_PER_EPO": ("iterations", _COUNT),
    "LRATE_W": ("learning_rate", _RATE),
    "NGRAM": ("ngram", _COUNT),
    "TRAINING_PERCENT": ("training_fraction", _number(float, 0, 1, "a share, from 0 to 1")),
}
_HIDDEN: dict[str, tuple[str, Callable[[str], Any]]] = {
    "NUM_HIDDEN_NEURONS": ("neurons", _COUNT),
    "WEIGHT_DECAY": ("weight_decay", _RATE),
    "DROPOUT_RATE": ("keep", _number(float, 1e-9, math.inf, "the probability of keeping a unit, above 0")),
}
_SOFTMAX: dict[str, tuple[str, Callable[[str], Any]]] = {"WEIGHT_DECAY": ("softmax_decay", _RATE)}

# keys without effect in the original: what it does, and so the replica
_WITHOUT_EFFECT = {
    "USE_LOG": "it writes no log; here --report writes what happened to a file",
    "NON_LINEARITY": "the hidden layers are ReLU whatever it says",
    "LRATE_B": "there are no biases to learn",
    "NUM_CLASSES": "the number of classes is that of the labels in the data, and one for padding",
}


@dataclass(frozen=True)
class _Entry:
    key: str
    value: str
    line: int


class _Reader:
    """Turns the text into a `Config`, block by block."""

    def __init__(self, name: str, default: Config) -> None:
        self.name = name
        self.default = default

    def read(self, text: str) -> Config:
        text = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
        text = re.sub(r"//[^\n]*|\r", "", text)
        if "/*" in text:
            raise DataError(f"{self.name}, line {_line(text, text.index('/*'))}: this comment is never closed with */")
        layers = list(self._blocks(text))
        general = re.sub(r"\$[^&]*&", lambda found: "\n" * found[0].count("\n"), text)
        found = self._values(list(self._entries(general)), _GENERAL, ("USE_LOG", "NON_LINEARITY", "LRATE_B"), "")
        hidden, softmax_decay = self._layers(layers)
        return replace(self.default, **found, hidden=hidden, softmax_decay=softmax_decay)

    def _blocks(self, text: str) -> Iterator[list[_Entry]]:
        """Yield the entries of each layer block, the text from $ to &."""
        end = 0
        while (start := text.find("$", end)) >= 0:
            end = text.find("&", start)
            if end < 0 or text.find("$", start + 1, end) >= 0:
                raise DataError(
                    f"{self.name}, line {_line(text, start)}: this layer block, begun by $, has no & at its end"
                )
            yield list(self._entries(text[start + 1 : end], _line(text, start)))

    def _entries(self, text: str, first_line: int = 1) -> Iterator[_Entry]:
        """Yield ``KEY = VALUE`` pairs; a value ends at ``;`` or at the end of its line."""
        for number, line in enumerate(text.split("\n"), start=first_line):
            for part in filter(None, (part.strip() for part in line.split(";"))):
                key, equals, value = (piece.strip() for piece in part.partition("="))
                if not equals or not key or not value or "=" in value:
                    raise DataError(f"{self.name}, line {number}: expected KEY = VALUE;, got {_short(part)!r}")
                yield _Entry(key, value, number)

    def _layers(self, blocks: list[list[_Entry]]) -> tuple[tuple[HiddenLayer, ...], float]:
        hidden: list[HiddenLayer] = []
        softmax: list[float] = []
        for block in blocks:
            kinds = [entry for entry in block if entry.key == "LAYER"]
            if not kinds or kinds[0].value not in ("HIDDEN", "SOFTMAX"):
                where = f"{self.name}, line {(kinds or block or [_Entry('', '', 0)])[0].line}"
                got = f"got {kinds[0].value!r}" if kinds else "it has no LAYER"
                raise DataError(f"{where}: a layer block needs LAYER = HIDDEN; or LAYER = SOFTMAX;, {got}")
            rest = [entry for entry in block if entry.key != "LAYER"]
            if kinds[0].value == "HIDDEN":
                values = self._values(rest, _HIDDEN, (), f" in hidden layer {len(hidden)}", HiddenLayer())
                hidden.append(HiddenLayer(**values))
            else:
                values = self._values(rest, _SOFTMAX, ("NUM_CLASSES",), " in the softmax layer")
                softmax.append(values.get("softmax_decay", self.default.softmax_decay))
        if not blocks:
            self._warn("it has no layer blocks ($ … &): one hidden layer of 512 and the softmax layer are assumed")
            return self.default.hidden, self.default.softmax_decay
        if not hidden:
            raise DataError(f"{self.name}: it has no HIDDEN layer; the network needs at least one")
        if len(softmax) != 1:
            raise DataError(f"{self.name}: expected one SOFTMAX layer, got {len(softmax)}")
        return tuple(hidden), softmax[0]

    def _values(
        self,
        entries: list[_Entry],
        known: dict[str, tuple[str, Callable[[str], Any]]],
        without_effect: tuple[str, ...],
        where: str,
        default: Any = None,
    ) -> dict[str, Any]:
        """Return the fields that the entries set, warning of all that is odd."""
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for entry in entries:
            if entry.key in seen:
                self._warn(f"{entry.key}{where} is given twice: the first counts")
            elif entry.key in without_effect:
                self._warn(f"{entry.key} has no effect, as in the original: {_WITHOUT_EFFECT[entry.key]}")
            elif entry.key not in known:
                close = difflib.get_close_matches(entry.key, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self._warn(f"{entry.key}{where} is no key of the original: ignored{hint}")
            else:
                attribute, reader = known[entry.key]
                try:
                    values[attribute] = reader(entry.value)
                except ValueError as error:
                    place = f"{self.name}, line {entry.line}"
                    raise DataError(f"{place}: {entry.key} must be {error}, got {_short(entry.value)!r}") from None
            seen.add(entry.key)
        for key, (attribute, _) in known.items():
            if key not in seen:
                value = getattr(default or self.default, attribute)
                self._warn(f"{key}{where} is missing: {value} is used")
        return values

    def _warn(self, message: str) -> None:
        warnings.warn(f"{self.name}: {message}", ConfigWarning, stacklevel=2)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
