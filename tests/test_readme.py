"""What the README shows works: its Python runs from top to bottom, its commands and links are there."""

import re
from pathlib import Path

import pytest
from peers import peer

import rnncore as rc
from rnncore.cli import main

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


PYTHON = {f"README.md, Python block {number}": block for number, block in enumerate(blocks("python"), start=1)}


def run(names: dict, name: str) -> None:
    exec(compile(PYTHON[name], name, "exec"), names)


def test_python(tmp_path, monkeypatch):
    """One after the other, for some go on with what others made; those of PyTorch have a test of their own."""
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    for name, block in PYTHON.items():
        if "rnncore.torch" not in block:
            run(names, name)
    assert "tagger" in names and "layer" in names


def test_python_of_pytorch(tmp_path, monkeypatch):
    peer("torch")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for name in (name for name, block in PYTHON.items() if "rnncore.torch" in block):
        run(names, name)
    assert "rnn" in names


def test_commands_exist(capsys):
    """Every `rnncore COMMAND --option` in the text is one the program knows."""
    shown = re.findall(r"rnncore (?!-)(\w+)((?:[^\n`#|&]*))", "\n".join(blocks("(?:sh|bash|console)")))
    assert {command for command, _ in shown} >= {"train"}
    for command, rest in shown:
        assert main([command, "--help"]) == 0
        printed = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in printed, f"rnncore {command} has no option {option}"


def test_table_of_cells():
    """The table names every cell of the registry, and no other."""
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", TEXT.split("| cell |")[1].split("\n\n")[0], re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(rc.CELLS)


@pytest.mark.skipif(not (README.parent / "setup.py").exists(), reason="only in a checkout")
def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", TEXT):
        assert (README.parent / target).exists(), f"README.md links to {target}, which is not there"
