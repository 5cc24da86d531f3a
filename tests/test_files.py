"""Model files: what is written comes back, what is damaged is refused in one line."""

import builtins
import errno
import json
import os
import re
import stat
import struct
import sys

import numpy as np
import pytest

from rnncore.io.files import (
    FORMAT_VERSION,
    ModelFileError,
    load,
    read_header,
    read_model,
    save,
    write_atomically,
    write_model,
)

ARRAYS = {"a.W": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5, -0.0])}
HEADER = {"settings": {"size": 3, "text": "ä\ud800\n", "rate": 0.1}, "classes": ["O", "B"]}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    write_model(path, "Toy", HEADER, ARRAYS)
    return path


def tampered(path, change):
    """Rewrite the JSON of rnncore in the file's header with what `change` makes of it."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    outer = json.loads(content[8 : 8 + size])
    inner = json.loads(outer["__metadata__"]["rnncore"])
    outer["__metadata__"]["rnncore"] = change(inner)
    head = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + content[8 + size :])


def refused(path, *words):
    with pytest.raises(ModelFileError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 400
    for word in words:
        assert word in message


def test_what_is_written_comes_back(model):
    header, arrays = read_model(model)
    assert header["kind"] == "Toy" and header["format"] == 1  # what an older rnncore reads, too
    assert {key: header[key] for key in HEADER} == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].tobytes() == array.tobytes()
    assert read_header(model)["arrays"] == {"a.W": [2, 3], "b": [2]}


def test_other_tools_can_read_it(model):
    numpy_io = pytest.importorskip("safetensors.numpy")
    assert numpy_io.load_file(model)["a.W"].tolist() == ARRAYS["a.W"].tolist()


def test_same_model_same_bytes(model, tmp_path):
    write_model(tmp_path / "again", "Toy", HEADER, ARRAYS)
    assert (tmp_path / "again").read_bytes() == model.read_bytes()


def test_cut_off_at_any_byte(model):
    content = model.read_bytes()
    for size in range(len(content)):
        model.write_bytes(content[:size])
        refused(model)
    model.write_bytes(content + b"x")
    refused(model)


def test_any_byte_changed(model):
    content = model.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 + position % 255
        model.write_bytes(bytes(damaged))
        refused(model)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"word\tO\n" * 50, b"\x80\x04\x95" + b"c" * 40, b"\xff" * 100],
    ids=["", "0", "txt", "pickle", "ff"],
)
def test_other_files(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    refused(tmp_path / "other")


def test_a_safetensors_file_of_someone_else(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, tmp_path / "theirs")
    refused(tmp_path / "theirs", "not one that rnncore wrote")


def test_newer_format(model):
    tampered(model, lambda header: json.dumps({**header, "format": FORMAT_VERSION + 1, "version": "9.1"}))
    refused(model, "newer rnncore (9.1", "upgrade")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: "",
        lambda header: "[]",
        lambda header: "{",
        lambda header: "[" * 100_000,
        lambda header: json.dumps({**header, "format": "x"}),
        lambda header: json.dumps({**header, "format": 0}),
        lambda header: json.dumps({**header, "kind": None}),
        lambda header: json.dumps({**header, "kind": "os.system"}),
        lambda header: json.dumps({**header, "classes": ["O", "X"]}),
        lambda header: json.dumps({key: value for key, value in header.items() if key != "checksum"}),
    ],
)
def test_tampered_header(model, change):
    tampered(model, change)
    refused(model)


def test_unknown_kind(model):
    refused(model, "unknown kind Toy")


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    with pytest.raises((IsADirectoryError, PermissionError)):
        load(tmp_path)


def test_writing_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chmod(path, 0o640)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_writing_through_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_odd_targets(tmp_path):
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path, b"x")
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"x")


def test_read_only_files_stay(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    asked = os.access
    monkeypatch.setattr(os, "access", lambda name, mode: mode != os.W_OK and asked(name, mode))  # may write everywhere
    with pytest.raises(PermissionError, match="read-only"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_devices_are_written_to_and_not_replaced(tmp_path):
    with pytest.raises(OSError, match="No space") as caught:
        write_atomically("/dev/full", b"x" * 100)
    assert caught.value.filename == "/dev/full" and stat.S_ISCHR(os.stat("/dev/full").st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", (piece for piece in (b"a", b"bc")))
    assert os.read(reader, 9) == b"abc" and os.listdir(tmp_path) == ["pipe"]
    os.close(reader)


def test_what_killed_saves_left_is_cleared(tmp_path):
    """By the next save of the same file; what another process still writes, and other files', stays."""
    left = tmp_path / ".file.0123abcd.tmp"
    others = [tmp_path / ".file2.0123abcd.tmp", tmp_path / ".file.x.tmp", tmp_path / "file.tmp"]
    for name in (left, *others):
        name.write_bytes(b"half")

    def pieces():
        ours = [name for name in os.listdir(tmp_path) if re.fullmatch(r"\.file\.[0-9a-f]{8}\.tmp", name)]
        assert len(ours) == 1 and not left.exists()
        write_atomically(tmp_path / "file", b"another's")  # while this one is being written
        assert ours[0] in os.listdir(tmp_path)
        yield b"ours"

    write_atomically(tmp_path / "file", pieces())
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "file", *others])


def test_a_folder_closed_to_us_is_told_by_the_file_asked_for(tmp_path, monkeypatch):
    """Not by a temporary file's name, nor by where a link leads."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    opened = os.open

    def closed(path, flags, *rest):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", path)
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", closed)
    for name in ("new", "link"):
        with pytest.raises(OSError, match="Read-only") as caught:
            write_atomically(tmp_path / name, b"x")
        assert caught.value.filename == str(tmp_path / name)


def test_pieces_that_fail_leave_nothing(tmp_path):
    def pieces():
        yield b"x"
        raise ValueError("line 7 is no good")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ValueError, match="line 7"):
        write_atomically(tmp_path / "file", pieces())
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_nothing_in_a_file_is_executed(model, monkeypatch):
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, lambda *args: pytest.fail("code from a file"))
    monkeypatch.setitem(sys.modules, "pickle", None)
    read_model(model)


def test_only_fitted_estimators_are_saved(tmp_path):
    from sklearn.exceptions import NotFittedError

    from rnncore.estimators.tagger import SequenceTagger

    with pytest.raises(NotFittedError):
        save(SequenceTagger(), tmp_path / "model")
    assert not os.listdir(tmp_path)
