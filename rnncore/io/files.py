"""Model files: weights as `.safetensors`, everything else as JSON under one key of its metadata. No pickle.

A file is written to a temporary neighbour, flushed to the disk and renamed, so a crash or a full disk leaves the old
file as it was. It is checked on reading: format, version, checksum, names, shapes; anything else than a sound model
ends in one `ModelFileError` that says what is wrong.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from rnncore import _checks
from rnncore.io.small_weights import restore, shrink

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FORMAT_VERSION",
    "KINDS",
    "ModelFileError",
    "class_of",
    "clear_unfinished",
    "is_device",
    "load",
    "load_estimator",
    "read_header",
    "read_model",
    "save",
    "write_atomically",
    "write_model",
]

FORMAT_VERSION = 2  # with weights in fewer bits; 1: all others
_KEY = "rnncore"  # one metadata key: several would come out in random order

# kind in the file: the module with the class of that name
KINDS = {
    "SequenceTagger": "rnncore.estimators.tagger",
    "Forecaster": "rnncore.estimators.forecaster",
    "SequenceClassifier": "rnncore.estimators.series",
    "SequenceRegressor": "rnncore.estimators.series",
    "LanguageModel": "rnncore.estimators.language",
    "Transcriber": "rnncore.estimators.transcriber",
    "CaptionModel": "rnncore.estimators.captions",
    "SequenceToSequence": "rnncore.estimators.rewriting",
    "ESNClassifier": "rnncore.estimators.esn",
    "ESNRegressor": "rnncore.estimators.esn",
    "Ensemble": "rnncore.estimators.ensemble",
    "WindowTagger": "rnncore.replica.tagger",
    "Recurrent": "rnncore.nn.recurrent",
    "Network": "rnncore.nn.network",
    "Attention": "rnncore.nn.attention",
    "EncoderDecoder": "rnncore.nn.encoder_decoder",
    "Hopfield": "rnncore.models.hopfield",
    "ContinuousHopfield": "rnncore.models.continuous_hopfield",
    "ModernHopfield": "rnncore.models.modern_hopfield",
    "BAM": "rnncore.models.bam",
    "TreeNetwork": "rnncore.models.trees",
    "RAAM": "rnncore.models.raam",
    "TreeClassifier": "rnncore.estimators.trees",
    "Clockwork": "rnncore.models.clockwork",
    "MTRNN": "rnncore.models.mtrnn",
    "StringRecognizer": "rnncore.models.recognizer",
    "HistoryCompressor": "rnncore.models.compressor",
    "NeuralTuringMachine": "rnncore.models.turing",
    "PushdownNetwork": "rnncore.models.pushdown",
}


class ModelFileError(ValueError):
    """A file that is not a sound model file; the message says why."""


def save(estimator: Any, path: str | os.PathLike[str], weight_dtype: str | None = None) -> None:
    """Write a fitted estimator to a model file.

    Parameters
    ----------
    estimator : fitted estimator
    path : str or path
        By custom it ends in ``.safetensors``. An existing file is replaced in one step.
    weight_dtype : {"bfloat16", "int8"}, optional
        Keep float32 matrices in half or a quarter of the bits.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as it was.
    """
    header, arrays = estimator._to_model()
    write_model(path, type(estimator).__name__, header, arrays, weight_dtype)


def load(path: str | os.PathLike[str]) -> Any:
    """Read an estimator, network or layer back that was saved: same settings, same predictions bit for bit.

    Raises
    ------
    OSError
        If the file cannot be read.
    ModelFileError
        If it is not a model file, is damaged or was written by a newer rnncore.

    Examples
    --------
    >>> import os, tempfile, rnncore as rc
    >>> tagger = rc.SequenceTagger(max_epochs=1).fit([["top", "news"]], [["O", "B-N"]])
    >>> path = os.path.join(tempfile.mkdtemp(), "tagger.safetensors")
    >>> tagger.save(path)
    >>> rc.load(path).predict([["top"]]) == tagger.predict([["top"]])
    True
    """
    header, arrays = read_model(path)
    kind = header["kind"]
    if kind not in KINDS:
        raise ModelFileError(
            f"{_name(path)}: holds a model of unknown kind {_shorten(kind)}, which a newer rnncore may know"
        )
    try:
        return class_of(kind)._from_model(header, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise ModelFileError(f"{_name(path)}: its parts do not fit together ({_shorten(what)})") from error


def class_of(kind: str) -> Any:
    """Return the class of a kind of model; raises a KeyError for one that is not known."""
    return getattr(import_module(KINDS[kind]), kind)


def load_estimator(path: str | os.PathLike[str]) -> Any:
    """Read an estimator, as `load` does; a layer or network, which knows no words and labels, is refused."""
    found = load(path)
    if hasattr(found, "theta"):
        raise ModelFileError(
            f"{_name(path)}: holds a {type(found).__name__} alone, without words and labels; expected an estimator"
        )
    return found


def write_model(
    path: str | os.PathLike[str],
    kind: str,
    header: dict[str, Any],
    arrays: dict[str, np.ndarray],
    weight_dtype: str | None = None,
) -> None:
    """Write `arrays`, kept as `weight_dtype`, and `header` (anything JSON can hold) to `path` atomically."""
    from safetensors.numpy import save as serialize

    import rnncore

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    version = 1  # what an older rnncore can read, it shall
    if weight_dtype is not None and _checks.weight_dtype(weight_dtype, np.dtype("float32")) != "float32":
        version, header = FORMAT_VERSION, {**header, "weight_dtype": weight_dtype}
        arrays = shrink(arrays, weight_dtype)
    header = {"format": version, "kind": kind, "version": getattr(rnncore, "__version__", "0"), **header}
    header["checksum"] = _checksum(header, arrays)
    text = json.dumps(header)
    write_atomically(path, serialize(arrays, metadata={_KEY: text}))


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read and check a model file; return its header and its arrays.

    Raises
    ------
    OSError, ModelFileError
        As `load`.
    """
    from safetensors import SafetensorError, safe_open

    name = _name(path)
    with open(path, "rb"):  # the usual errors for a file that is missing, a folder or closed to us
        pass
    try:
        with safe_open(os.fspath(path), framework="np") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ModelFileError(f"{name}: a safetensors file, but not one that rnncore wrote")
            header = _parse(metadata[_KEY], name)
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{name}: not a model file, or cut off or damaged ({_shorten(str(error))})") from None
    expected = header.pop("checksum", None)
    if expected != _checksum(header, arrays):
        raise ModelFileError(f"{name}: damaged or altered since it was written (the checksum is wrong)")
    if "weight_dtype" in header:
        try:
            arrays = restore(arrays, header["weight_dtype"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{name}: its weights do not fit together ({_shorten(str(error))})") from None
    return header, arrays


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a model file; return what it says of itself, and its arrays' names and shapes as ``"arrays"``."""
    header, arrays = read_model(path)
    header["arrays"] = {name: list(array.shape) for name, array in arrays.items()}
    return header


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name}: its header is damaged ({_shorten(str(error))})") from None
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise ModelFileError(f"{name}: its header is damaged (no kind of model in it)")
    version = header.get("format")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{name}: its header is damaged (format {_shorten(repr(version))})")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{name}: written by a newer rnncore ({_shorten(str(header.get('version')))}, format {version}); "
            f"this one reads formats up to {FORMAT_VERSION}: upgrade with pip install -U rnncore"
        )
    return header


def _checksum(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> int:
    """CRC-32 of everything in the file: against damage, not against forgery (nothing in a file is ever executed)."""
    text = json.dumps(header, sort_keys=True)
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return crc


def write_atomically(path: str | os.PathLike[str], data: bytes | Iterable[bytes]) -> None:
    """Write a file whole or not at all: to a temporary neighbour, flushed to the disk, renamed.

    What is no ordinary file, such as a pipe or /dev/stdout, is written to directly.

    Parameters
    ----------
    path : str or path
        Through a link, the file it names.
    data : bytes, or an iterable of pieces

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as it was.
    """
    pieces = [data] if isinstance(data, bytes) else data
    if is_device(path):
        with _named(path), open(path, "wb") as file:
            file.writelines(pieces)
        return
    asked, path = os.fspath(path), os.path.realpath(os.fspath(path))
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"{asked} is a folder; expected the name of a file")
    if os.path.exists(path) and not os.access(path, os.W_OK):  # renaming would not mind
        raise PermissionError(errno.EACCES, "the file is read-only", asked)
    clear_unfinished(path)
    temporary = os.path.join(folder, f".{os.path.basename(path)[:100]}.{secrets.token_hex(4)}.tmp")
    with _named(asked):
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with _named(asked):
            with os.fdopen(handle, "wb") as file:
                _lock(file.fileno())
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                os.chmod(temporary, os.stat(path).st_mode & 0o7777)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def clear_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of `path` when they were writing it; what another still writes stays."""
    folder, name = os.path.split(os.path.realpath(os.fspath(path)))
    for left in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name[:100])}.????????.tmp")):
        with contextlib.suppress(OSError):
            handle = os.open(left, os.O_RDWR)
            try:
                _lock(handle)  # fails where its writer lives
                os.unlink(left)
            finally:
                os.close(handle)
            if os.path.exists(left):  # where open files cannot be removed
                os.unlink(left)


def _lock(handle: int) -> None:
    """Lock a file for as long as it is open in this process, where the system can."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors name the file: a full disk does not by itself, and a temporary file's name helps nobody."""
    try:
        yield
    except OSError as problem:
        problem.filename = os.fspath(path)
        raise


def is_device(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path names something that there is and that a new file must not take the place of."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    handed_over = os.fspath(path).startswith(("/dev/", "/proc/"))  # /dev/stdout may be an ordinary file
    return not stat.S_ISDIR(mode) and (handed_over or not stat.S_ISREG(mode))


def _sync_folder(folder: str) -> None:
    """Make the renaming itself last; not every system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _name(path: str | os.PathLike[str]) -> str:
    return os.fspath(path)


def _shorten(text: str, limit: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
