"""`rnncore zoo`: every demonstration runs, shows what it promises, and draws it."""

import json

import pytest

from rnncore.cli import main
from rnncore.zoo import DEMONSTRATIONS


def test_lists_all(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(DEMONSTRATIONS)
    assert all(line.endswith(text) for line, (_, text) in zip(lines, DEMONSTRATIONS.values(), strict=True))


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_runs_and_draws(name, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    report, picture = tmp_path / "report.json", tmp_path / "picture.png"
    assert main(["zoo", name, "--report", str(report), "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(report.read_text(encoding="utf-8"))
    assert figures.pop("name") == name and figures
    assert all(f"{figure}: " in printed for figure in figures)
    assert picture.stat().st_size > 10_000
    assert main(["zoo", name, "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(figures) < len(printed.splitlines())


def test_what_is_not_there(capsys):
    assert main(["zoo", "dodo"]) == 2
    assert "the zoo has no 'dodo'; it has hopfield" in capsys.readouterr().err
    assert main(["zoo", "--plot", "all.png"]) == 2
    assert "belong to one network" in capsys.readouterr().err
    assert main(["zoo", "bam", "--plot", "bam.gif"]) == 2
    assert "expected a file name that ends in" in capsys.readouterr().err
