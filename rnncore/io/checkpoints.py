"""Checkpoints: trainings that were cut off go on with the same bits, as if they never had been.

A checkpoint is a file like a model file (see `rnncore.io.files`), written whole or not at all. It holds the weights,
the optimizer's slots, the states of the random generators, where in which epoch training stood, and the settings; not
the data, of which it keeps a checksum only.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.io.files import ModelFileError, clear_unfinished, read_model, write_model
from rnncore.optim.arguments import check_number

__all__ = ["Checkpoints", "fingerprint", "forget", "open_checkpoints", "plain", "read_checkpoint"]

KIND = "Checkpoint"


@dataclass
class Checkpoints:
    """Where checkpoints of one training go, and which of them it starts from.

    Parameters
    ----------
    path : str or path
        Each checkpoint takes the place of the last.
    every : float
        Seconds between two of them.
    resume : (header, arrays), optional
        What `read_checkpoint` returned: training goes on from there.
    command : dict, optional
        What else to keep: the command line's options.

    Attributes
    ----------
    estimator, settings, data
        What is trained, with which settings, and the data's fingerprint; filled in by the estimator.
    start
        State of the random generator before anything was drawn; filled in by the estimator.
    """

    path: str | os.PathLike[str]
    every: float = 60.0
    resume: tuple[dict[str, Any], dict[str, np.ndarray]] | None = None
    command: dict[str, Any] | None = None
    estimator: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    data: int = 0
    start: Any = None

    def begin(self, rng: np.random.Generator) -> None:
        """Let `rng` start as it did when the training began, so that everything drawn from it is the same."""
        if self.resume is not None:
            try:
                rng.bit_generator.state = self.resume[0]["start"]
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ModelFileError(f"{self._name}: its parts do not fit together ({error})") from error
        self.start = plain(rng.bit_generator.state)

    @property
    def shards(self) -> int | None:
        """How many shards the training that goes on had, if any."""
        settings = {} if self.resume is None else self.resume[0].get("settings")
        found = settings.get("shards") if isinstance(settings, dict) else None
        return found if isinstance(found, int) else None

    def restore(self, trainer: Any) -> None:
        """Put `trainer` where the checkpoint stands; nothing without one.

        Raises
        ------
        DataError
            If the checkpoint is of another training.
        ModelFileError
            If it makes no sense.
        """
        if self.resume is None:
            return
        header, arrays = self.resume
        its = header.get("settings")
        if header.get("estimator") != self.estimator or not isinstance(its, dict):
            raise DataError(f"{self._name}: a checkpoint of something else, {header.get('estimator')!r}")
        own = json.loads(json.dumps(self.settings))
        other = [name for name in own if name not in its or its[name] != own[name]]
        if other:
            raise DataError(f"{self._name}: a checkpoint of a training with other settings: {', '.join(other)}")
        if header.get("data") != self.data:
            raise DataError(f"{self._name}: a checkpoint of a training on other data")
        try:
            trainer.restore(header["trainer"], arrays)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ModelFileError(f"{self._name}: its parts do not fit together ({error})") from error

    def write(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a checkpoint in the place of the last one."""
        header = {
            "estimator": self.estimator,
            "settings": self.settings,
            "data": self.data,
            "start": self.start,
            "command": self.command,
            "trainer": state,
        }
        write_model(self.path, KIND, header, arrays)

    @property
    def _name(self) -> str:
        return os.fspath(self.path)


def open_checkpoints(
    checkpoint: str | os.PathLike[str] | Checkpoints | None, every: float, resume: str | os.PathLike[str] | None
) -> Checkpoints | None:
    """Make what a training needs from the arguments of an estimator's ``fit``."""
    if isinstance(checkpoint, Checkpoints):
        return checkpoint
    path = checkpoint if checkpoint is not None else resume
    if path is None:
        return None
    check_number("checkpoint_every", every, "[0, inf]", 60.0)
    _check_place(path)
    return Checkpoints(path, every, None if resume is None else read_checkpoint(resume))


def _check_place(path: str | os.PathLike[str]) -> None:
    """Find out before the training whether a checkpoint can be written there."""
    name, folder = os.fspath(path), os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise DataError(f"{name} is a folder; expected the name of a file for checkpoints")
    if not os.path.isdir(folder):
        raise DataError(f"{name}: there is no folder {folder} for checkpoints")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{name}: no permission to write checkpoints in {folder}")


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a checkpoint.

    Raises
    ------
    OSError, ModelFileError
        If there is none, it is damaged, or it is another file.
    """
    header, arrays = read_model(path)
    if header["kind"] != KIND:
        raise ModelFileError(f"{os.fspath(path)}: a model file, not a checkpoint of a training that was cut off")
    return header, arrays


def forget(path: str | os.PathLike[str]) -> None:
    """Remove a checkpoint that is not needed any more, and what a killed process left of the next one."""
    clear_unfinished(path)
    with contextlib.suppress(OSError):
        os.unlink(path)


def fingerprint(arrays: Iterable[np.ndarray | None]) -> int:
    """Compute the checksum by which data are recognised.

    Examples
    --------
    >>> fingerprint([np.arange(3)]) == fingerprint([np.arange(3)]) != fingerprint([np.arange(4)])
    True
    """
    crc = 0
    for array in arrays:
        if array is not None:
            array = np.ascontiguousarray(array)
            crc = zlib.crc32(f"{array.dtype.str} {array.shape}".encode(), crc)
            crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return crc


def plain(value: Any) -> Any:
    """Turn NumPy's scalars and arrays, as the states of some generators hold, into what JSON can hold.

    Examples
    --------
    >>> plain({"key": np.arange(2), "position": np.int64(3)})
    {'key': [0, 1], 'position': 3}
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
