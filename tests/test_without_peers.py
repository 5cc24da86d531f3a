"""Adapters to other packages: none is imported with rnncore, and one that is missing is said in a line."""

import subprocess
import sys

import pytest

MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("{package}", "pandas"):  # what comes with it is not there either
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import rnncore.{package}
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("package", "install"), [("torch", "torch"), ("sktime", "sktime"), ("aeon", "aeon"), ("darts", "u8darts")]
)
def test_a_missing_package_is_said(package, install):
    found = run(MISSING.format(package=package))
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: rnncore.{package} needs") and last.endswith(f"pip install {install}")


def test_none_is_imported_with_rnncore():
    packages = "'torch', 'sktime', 'aeon', 'darts'"
    code = f"import sys, rnncore as rc; rc.Forecaster, rc.SequenceClassifier; print({{*sys.modules}} & {{{packages}}})"
    assert run(code).stdout.strip() == "set()"
