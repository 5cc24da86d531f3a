"""The type stubs of the compiled modules say what is really there: the same names, the same parameters."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import rnncore._core

STUBS = sorted(Path(rnncore._core.__file__).parent.glob("*.pyi"))


def parameters(function: ast.FunctionDef) -> list[str]:
    a = function.args
    return [arg.arg for arg in (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg) if arg is not None]


def is_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "property" for d in function.decorator_list)


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.stem)
def test_stub_and_module_agree(stub):
    module = importlib.import_module(f"rnncore._core.{stub.stem}")
    described = ast.parse(stub.read_text(encoding="utf-8")).body
    for node in described:
        if isinstance(node, ast.AnnAssign):
            assert hasattr(module, node.target.id)
        elif isinstance(node, ast.FunctionDef):
            assert parameters(node) == list(inspect.signature(getattr(module, node.name)).parameters)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            compare_class(node, getattr(module, node.name))
    names = {node.name for node in described if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    mine = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    }
    assert mine <= names, f"{stub.name} does not describe {', '.join(sorted(mine - names))}"


def compare_class(node: ast.ClassDef, made: type) -> None:
    described = set()
    for part in node.body:
        if isinstance(part, ast.FunctionDef):
            described.add(part.name)
            if part.name != "__init__" and not is_property(part):  # __init__ is hidden in a compiled __new__
                assert parameters(part) == list(inspect.signature(getattr(made, part.name)).parameters), part.name
        elif isinstance(part, ast.AnnAssign):
            described.add(part.target.id)
    missing = {name for name in vars(made) if not name.startswith("_")} - described
    assert not missing, f"{node.name}: the stub does not describe {', '.join(sorted(missing))}"
    extra = described - set(vars(made)) - {"__init__"}
    assert not extra, f"{node.name}: the stub describes {', '.join(sorted(extra))}, which is not there"
