"""CONTRIBUTING's example of a new cell works: its blocks, in a copy of the sources, are built and pass the checks."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnncore

ROOT = Path(__file__).parents[1]
STEP = re.compile(
    r"^   (?P<where>New file|In) `(?P<file>[^`]+)`(?:, (?P<side>after|before) `(?P<line>[^`]+)`)?:\n\n"
    r"(?P<block>   ```.*?^   ```$)",
    re.DOTALL | re.MULTILINE,
)


def steps() -> list[re.Match]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return list(STEP.finditer(text.split("## How to add a cell")[1]))


def apply(step: re.Match, root: Path) -> None:
    """Put a block where its sentence says."""
    code = "".join(line + "\n" for line in unindented(step["block"]).splitlines()[1:-1])
    path = root / step["file"]
    if step["where"] == "New file":
        assert not path.exists()
        path.write_text(code, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    at = lines.index(step["line"] + "\n") + (step["side"] == "after")
    path.write_text("".join([*lines[:at], code, *lines[at:]]), encoding="utf-8")


def unindented(block: str) -> str:
    """Without the list's indentation; that of the code itself stays."""
    return "\n".join(line[3:] for line in block.splitlines())


def compiler() -> bool:
    command = os.environ.get("CC", "cc").split()
    return all(shutil.which(word) for word in command[:1]) and importlib.util.find_spec("Cython") is not None


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="only in a checkout")
def test_every_block_of_the_example_has_its_place():
    """Otherwise the test below would leave one out and pass by other means."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## How to add a cell")[1]
    assert len(steps()) == text.count("```") // 2 == 8


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="only in a checkout")
@pytest.mark.skipif(sys.platform == "win32" or not compiler(), reason="needs a C compiler and Cython")
def test_a_cell_is_added_as_described(tmp_path):
    """A cell lives in the module of kernels alone: only that is built, in plain C; the others are those in use here."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src_pyx", tmp_path / "src_pyx")
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    installed = Path(rnncore.__file__).parent
    shutil.copytree(installed, tmp_path / "rnncore", ignore=shutil.ignore_patterns("__pycache__", "kernels.*.so"))
    for step in steps():
        apply(step, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RNNCORE_")}
    environment |= {"RNNCORE_PORTABLE": "1", "RNNCORE_MODULES": "kernels", "RNNCORE_GEMM": "native"}
    environment |= {"PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    run("setup.py", "build_ext", "--inplace")
    where = run("-c", "import rnncore; print(rnncore.__file__); print(rnncore.Recurrent('ugrnn', 2, 3).theta.size)")
    assert where.split() == [str(tmp_path / "rnncore" / "__init__.py"), str((2 + 3 + 1) * 6)]
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_gradients.py", "-k", "ugrnn or cover")
    passed = re.search(r"(\d+) passed", printed)
    assert passed and int(passed[1]) > 10 and "skipped" not in printed
