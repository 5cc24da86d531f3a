"""Every example in a docstring runs and prints what it says; every public name explains itself."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from peers import peer

import rnncore as rc

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(rc.__path__, "rnncore.")
    if module.name != "rnncore.__main__" and not module.name.startswith("rnncore._core")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = name.split(".")[1]
    if package in ("torch", "sktime", "aeon", "darts"):  # an adapter is called as what it is for
        peer(package)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert not failed, f"{failed} examples in {name} failed: see the captured output"


@pytest.mark.parametrize("name", [name for name in rc.__all__ if callable(getattr(rc, name))])
def test_public_names_explain_themselves(name):
    thing = getattr(rc, name)
    assert inspect.getdoc(thing), f"rnncore.{name} has no docstring"
    methods = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else []
    silent = [method for method, code in methods if not method.startswith("_") and not inspect.getdoc(code)]
    assert not silent, f"rnncore.{name}: no docstring at {', '.join(silent)}"
    assert ">>> " in inspect.getdoc(thing), f"rnncore.{name} has no example, and the README says that it has"


@pytest.mark.parametrize("module", ["heads", "schedules", "metrics", "datasets"])
def test_public_modules_have_examples(module):
    found = importlib.import_module(f"rnncore.{module}")
    names = [name for name in found.__all__ if callable(getattr(found, name))]
    assert names and [name for name in names if ">>> " not in (inspect.getdoc(getattr(found, name)) or "")] == []
