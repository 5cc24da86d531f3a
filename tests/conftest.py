"""Shared by all tests: the data that is not ours, and how hypothesis behaves."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell starts what runs in the background with Ctrl-C ignored, nohup with SIGHUP: our children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_logreport(report):
    """Note what is skipped in the folder $RNNCORE_SKIPPED, a list for each file of tests: .ci/run has peers for it."""
    folder = os.environ.get("RNNCORE_SKIPPED")
    if folder and report.skipped and not hasattr(report, "wasxfail"):
        with open(Path(folder, Path(report.nodeid.partition("::")[0]).stem), "a") as file:
            file.write(report.nodeid + "\n")


pytest_collectreport = pytest_runtest_logreport  # whole files

# Few examples, always the same ones: the suite runs on every change, on small machines.
settings.register_profile("suite", max_examples=15, deadline=None, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(scope="session")
def data():
    """A function from a file's name to its path in the folder $RNNCORE_DATA; the test is skipped without the file."""
    folder = os.environ.get("RNNCORE_DATA", "")

    def find(name: str) -> Path:
        path = Path(folder) / name
        if folder and path.is_file():
            return path
        message = f"{name} is not in the folder $RNNCORE_DATA ({folder or 'not set'}); the README says where to get it"
        if os.environ.get("RNNCORE_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)

    return find


@pytest.fixture
def tell(request):
    """A function that prints a task's figures (`-s` shows them) and keeps them (for `--junit-xml`)."""

    def tell(**figures: object) -> None:
        print()
        for name, figure in figures.items():
            print(f"{name}: {figure}")
            request.node.user_properties.append((name, figure))

    return tell


@pytest.fixture
def passes(monkeypatch):
    """Passes of rnncore.torch's modules that ran here, not in PyTorch's own code."""
    from rnncore.torch import autograd, modules

    made = []

    def run(*arguments):
        made.append(arguments)
        return autograd.run(*arguments)

    monkeypatch.setattr(modules, "run", run)
    return made
