"""Files of sequences with what is said in them: arrays in one .npz, or sounds in a folder or named in a list."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from rnncore.data.audio import read_wav
from rnncore.data.readers import DataError

__all__ = ["Recordings", "read_recordings"]


class Recordings(NamedTuple):
    """Sequences, what is said in them, their names, and samples of a second: None where they are features."""

    sequences: list[np.ndarray]
    strings: list[str] | None
    names: list[str]
    sample_rate: int | None

    def select(self, rows: Any) -> Recordings:
        """Return some of them."""
        strings = None if self.strings is None else [self.strings[i] for i in rows]
        return Recordings([self.sequences[i] for i in rows], strings, [self.names[i] for i in rows], self.sample_rate)


def read_recordings(path: str, strings: bool = True) -> Recordings:
    r"""Read sequences and, if asked for, what is said in them.

    Parameters
    ----------
    path : str
        An ``.npz`` file of arrays: `samples` (N,) with `sample_rate`, or `features` (N, D), either with `starts` (S,)
        or (S + 1,), where each sequence begins; and `strings` (S,). Or a list: lines of the name of a .wav file,
        relative to the list's folder, a tab and what is said. Without strings, also a folder or a .wav file.

    Raises
    ------
    DataError, OSError
        For files that are not like that.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "two.npz")
    >>> np.savez(path, features=np.zeros((5, 3)), starts=[0, 2], strings=["ab", "c"])
    >>> found = read_recordings(path)
    >>> [part.shape for part in found.sequences], found.strings, found.names
    ([(2, 3), (3, 3)], ['ab', 'c'], ['0', '1'])
    """
    if path.endswith(".npz"):
        return _of_arrays(path, strings)
    if not strings and os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(".wav"))
        if not names:
            raise DataError(f"{path}: there is no .wav file in this folder")
        return _of_sounds(path, names, None)
    if not strings and path.lower().endswith(".wav"):
        return _of_sounds(os.path.dirname(path), [os.path.basename(path)], None)
    return _of_list(path, strings)


def _of_arrays(path: str, wanted: bool) -> Recordings:
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: expected arrays in NumPy's .npz form ({error})") from None
    kind = next((name for name in ("features", "samples") if name in arrays), "features or samples")
    needed = [kind, "starts", *(["sample_rate"] if kind == "samples" else []), *(["strings"] if wanted else [])]
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: expected features and starts, or samples, starts and sample_rate"
            f"{', and strings' if wanted else ''}; {missing[0]} is not there, only {', '.join(arrays) or 'nothing'}"
        )
    flat, starts = arrays[kind], arrays["starts"]
    if flat.ndim != (2 if kind == "features" else 1):
        raise DataError(f"{path}: {kind} must be {'(N, D)' if kind == 'features' else '(N,)'}, got {flat.shape}")
    strings = None if not wanted else arrays["strings"]
    begins = starts[:-1] if len(starts) and starts[-1] == len(flat) and len(starts) > 1 else starts
    if strings is not None and len(strings) == len(starts):
        begins = starts
    if starts.ndim != 1 or starts.dtype.kind not in "iu" or (np.diff(starts, prepend=0, append=len(flat)) < 0).any():
        raise DataError(f"{path}: starts must be whole numbers from 0 to {len(flat)} that never fall")
    if strings is not None and (strings.dtype.kind != "U" or strings.shape != begins.shape):
        raise DataError(
            f"{path}: strings must be {len(begins)} texts, one for each sequence, got {strings.dtype} {strings.shape}"
        )
    ends = [*starts[1:].tolist(), len(flat)]
    sequences = [flat[start:end] for start, end in zip(begins.tolist(), ends, strict=False)]
    names = [str(number) for number in range(len(sequences))]
    texts = None if strings is None else [str(string) for string in strings]
    return Recordings(sequences, texts, names, int(arrays["sample_rate"]) if kind == "samples" else None)


def _of_list(path: str, wanted: bool) -> Recordings:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\r\n") for line in file]
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected lines of a .wav file's name, a tab and what is said") from None
    names, strings = [], []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        name, tab, string = line.partition("\t")
        if wanted and not tab:
            raise DataError(f"{path}, line {number}: expected a .wav file's name, a tab and what is said, got {line!r}")
        names.append(name)
        strings.append(string)
    if not names:
        raise DataError(f"{path}: there are no names of .wav files")
    return _of_sounds(os.path.dirname(path), names, strings if wanted else None)


def _of_sounds(folder: str, names: list[str], strings: list[str] | None) -> Recordings:
    sounds, rate = [], None
    for name in names:
        sound, own = read_wav(os.path.join(folder, name))
        if rate not in (None, own):
            raise DataError(f"{name}: {own} samples a second, but {names[0]} has {rate}: bring all to one rate first")
        rate = own
        sounds.append(sound)
    return Recordings(sounds, strings, names, rate)
