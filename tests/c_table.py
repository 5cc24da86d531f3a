"""rnncore.h as ctypes sees it: the table's functions, with the types that the header gives them."""

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np

import rnncore as rc

HEADER = (Path(rc.get_include()) / "rnncore.h").read_text(encoding="utf-8")
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
WITH_GIL = {
    *re.findall(r"^ */\* \[GIL\](?:(?!\*/).)*\*/\s*[\w \*]+\(\*(\w+)\)", HEADER, re.DOTALL | re.MULTILINE),
    *re.findall(r"\(\*(\w+)\)[^;]*; /\* \[GIL\]", HEADER),
}

TYPES = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "void": None}


class Batch(ctypes.Structure):
    _fields_ = (
        ("steps", ctypes.c_int64),
        ("sequences", ctypes.c_int64),
        ("lengths", ctypes.c_void_p),
        ("packed", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("per_row", ctypes.c_int64),
        ("x", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
    )


class Gradients(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("dy", "dfinal", "grad", "dx", "dstate"))


def type_of(text: str) -> Any:
    text = re.sub(r"\bconst\b", "", text).strip()
    if text.startswith("struct _object"):
        return ctypes.py_object
    for name, structure in (("rnncore_batch", Batch), ("rnncore_gradients", Gradients)):
        if text.startswith(name):
            return ctypes.POINTER(structure)
    if "*" in text:
        return ctypes.c_char_p if text.replace(" ", "") == "char*" else ctypes.c_void_p
    return TYPES[text.split()[0]]


def functions() -> dict[str, Any]:
    """The table's functions in their order: name to ctypes' type."""
    found = {}
    body = CODE.split("struct rnncore_api {")[1].split("} rnncore_api;")[0]
    for result, name, arguments in re.findall(r"([\w \*]+?)\(\*(\w+)\)\(([^;]*)\);", body):
        types = [] if arguments.strip() == "void" else [type_of(a) for a in arguments.split(",")]
        make = ctypes.PYFUNCTYPE if name in WITH_GIL else ctypes.CFUNCTYPE
        found[name] = make(type_of(result), *types)
    return found


FUNCTIONS = functions()
STATUS = {name: int(value) for name, value in re.findall(r"RNNCORE_(\w+) = (-?\d+)", CODE)}
NAMES = {number: name for name, number in STATUS.items()}


def enumerated(first: str) -> dict[str, int]:
    body = next(b for b in re.findall(r"enum \{([^}]*)\}", CODE) if b.split(",")[0].strip() == first)
    return {name: number for number, name in enumerate(re.findall(r"RNNCORE_(\w+)", body))}


INPUT, START, SIZE = enumerated("RNNCORE_DENSE"), enumerated("RNNCORE_FROM_ZERO"), enumerated("RNNCORE_ITEMSIZE")


class Table(ctypes.Structure):
    _fields_ = (("version", ctypes.c_int), ("size", ctypes.c_size_t), *FUNCTIONS.items())


def fetch() -> Table:
    from rnncore._core import api

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return Table.from_address(pointer(api._C_API, b"rnncore._core.api._C_API"))


TABLE = fetch()


def at(array: np.ndarray | None) -> int | None:
    """The address of an array's numbers."""
    return None if array is None else array.ctypes.data


def pointers(arrays: Any) -> Any:
    """An array of the arrays' addresses that keeps them alive, or None."""
    if arrays is None:
        return None
    made = (ctypes.c_void_p * len(arrays))(*(at(a) for a in arrays))
    made.arrays = arrays
    return made


def batch(x: np.ndarray, lengths: np.ndarray | None = None, state: Any = None, **more: Any) -> Batch:
    """A batch of x (T, B, ...); the arrays must outlive it."""
    ids = x.dtype.kind == "i"
    made = Batch(steps=x.shape[0], sequences=x.shape[1], lengths=at(lengths), x=at(x))
    made.per_row = x.shape[2] if ids and x.ndim == 3 else 0
    made.kept = pointers(state)
    made.state = None if state is None else ctypes.addressof(made.kept)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def checked(status: int) -> None:
    assert status == 0, f"{NAMES[status]}: {TABLE.message(status).decode()}"
