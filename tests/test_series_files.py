"""Files of sequences, and the command line that learns from them: classes, numbers."""

import json

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.cli import main
from rnncore.data.readers import DataError
from rnncore.data.series_files import read_series
from rnncore.plots import plot_report

PARTS = [np.array([[1.0, 5.0], [2.0, np.nan]]), np.array([[3.0, 7.0]])]


def same(series, parts=PARTS) -> bool:
    return len(series) == len(parts) and all(
        np.array_equal(found, want, equal_nan=True) for found, want in zip(series, parts, strict=True)
    )


def test_ts(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text("# x\n@problemName x\n@classLabel true a b\n@data\n1,2:5,?:a\n3:7:b\n")
    series, y = read_series(str(path))
    assert same(series) and y == ["a", "b"]
    path.write_text("@data\n1,2:5,6:0.5\n3:7:2\n")
    assert read_series(str(path))[1] == [0.5, 2.0]
    path.write_text("@classLabel false\n@data\n1,2:5,6\n3:7\n")
    assert read_series(str(path), targets=False)[1] is None
    with pytest.raises(DataError, match="expected a target"):
        read_series(str(path))
    path.write_text("@data\n1,2:5:a\n")
    with pytest.raises(DataError, match="line 2"):
        read_series(str(path))
    path.write_text("@data\n")
    with pytest.raises(DataError, match="after @data"):
        read_series(str(path))


def test_npz_and_json_lines(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4))
    series, y = read_series(str(tmp_path / "a.npz"))
    assert same(series, [*x]) and y == [0, 1, 2, 3]
    np.savez(tmp_path / "b.npz", x=np.concatenate(PARTS), starts=[0, 2], y=["a", "b"])
    series, y = read_series(str(tmp_path / "b.npz"))
    assert same(series) and y == ["a", "b"]
    np.savez(tmp_path / "c.npz", z=x)
    with pytest.raises(DataError, match="an array x"):
        read_series(str(tmp_path / "c.npz"))
    (tmp_path / "d.npz").write_text("nothing")
    with pytest.raises(DataError, match="npz"):
        read_series(str(tmp_path / "d.npz"))
    lines = ['{"x": [[1, 5], [2, 6]], "y": "a", "times": [0, 2]}', '{"x": [[3, 7]], "y": "b", "times": [5]}']
    (tmp_path / "e.jsonl").write_text("\n".join(lines))
    series, y = read_series(str(tmp_path / "e.jsonl"))
    assert y == ["a", "b"] and series.times.tolist() == [0, 2, 5]
    (tmp_path / "e.jsonl").write_text(lines[0] + '\n{"y": 3}')
    with pytest.raises(DataError, match="line 2"):
        read_series(str(tmp_path / "e.jsonl"))


def test_tables(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2,3,up\n4,5,,down\n")
    series, y = read_series(str(path))
    assert [part.ravel().tolist() for part in series] == [[1, 2, 3], [4, 5]] and y == ["up", "down"]
    path.write_text("label,t0,t1\nup,1,2\ndown,3,4\n")
    series, y = read_series(str(path))
    assert [part.ravel().tolist() for part in series] == [[1, 2], [3, 4]] and y == ["up", "down"]
    path.write_text("1,2\n3,4\n")
    assert read_series(str(path))[1] == [2, 4]
    series, y = read_series(str(path), targets=False)
    assert y is None and series[0].ravel().tolist() == [1, 2]
    path = tmp_path / "long.tsv"
    path.write_text("sequence\ttime\ta\tb\ttarget\nn\t2\t2\t6\tx\nn\t1\t1\t5\tx\nm\t9\t3\t7\ty\n")
    series, y = read_series(str(path))
    assert same(series, [np.array([[1.0, 5], [2, 6]]), np.array([[3.0, 7]])])
    assert y == ["x", "y"] and series.names == ["a", "b"] and series.times.tolist() == [1, 2, 9]
    path.write_text("sequence\ta\ttarget\nn\t2\tx\nn\t1\ty\n")
    with pytest.raises(DataError, match=r"line 3.*another target"):
        read_series(str(path))
    path.write_text("sequence\ta\ttarget\nn\tq\tx\n")
    with pytest.raises(DataError, match="line 2: expected numbers"):
        read_series(str(path))


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_command_line(tmp_path, capsys, task):
    rng = np.random.default_rng(0)
    rows = [rng.normal(0.7 * (n % 2), 1, 8).cumsum() for n in range(120)]
    targets = ["up" if n % 2 else "level" for n in range(120)] if task == "classify" else [row.mean() for row in rows]
    data, new = tmp_path / "data.csv", tmp_path / "new.csv"
    data.write_text(
        "".join(",".join(map(repr, row.tolist())) + f",{y}\n" for row, y in zip(rows, targets, strict=True))
    )
    new.write_text("".join(",".join(map(repr, row.tolist())) + "\n" for row in rows[:5]))
    model, report = str(tmp_path / "model.safetensors"), tmp_path / "report.json"
    quick = ["--set", "max_epochs=15", "--set", "hidden_size=8", "--quiet"]
    peer("matplotlib")
    picture = tmp_path / "picture.png"
    train = [
        "train",
        str(data),
        "--task",
        task,
        "--out",
        model,
        "--report",
        str(report),
        "--plot",
        str(picture),
        *quick,
    ]
    assert main(train) == 0
    assert picture.stat().st_size > 5000
    found = json.loads(report.read_text())
    assert found["task"] == task and found["n_test"] == 24 and found["n_train"] == 96
    assert found["test_accuracy"] > 0.6 if task == "classify" else found["test_r2"] > 0.6
    assert main(["evaluate", model, str(data), "--report", str(report)]) == 0
    assert "test" in capsys.readouterr().out
    assert main(["predict", model, str(new)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert main(["info", model]) == 0
    told = capsys.readouterr().out
    assert "labels (2): level up" in told if task == "classify" else "numbers: 1 for each sequence" in told
    assert "reads at every step: 1 numbers" in told
    confident = main(["predict", model, str(new), "--confidence", "--out", str(tmp_path / "out.txt")])
    if task == "classify":
        assert confident == 0
        assert set(lines) <= {"up", "level"}
        assert all(0.5 <= float(line.split("\t")[1]) <= 1 for line in (tmp_path / "out.txt").read_text().splitlines())
    else:
        assert confident == 2 and "numbers" in capsys.readouterr().err
        assert all(np.isfinite(float(line)) for line in lines)
    assert main(["predict", model, str(new), "--beam-size", "3"]) == 2


def test_info_of_several_answers(tmp_path, capsys):
    X = np.random.default_rng(0).normal(size=(12, 4, 2))
    path = str(tmp_path / "m.safetensors")
    quick = {"max_epochs": 1, "hidden_size": 4}
    rc.SequenceClassifier(**quick).fit(X, np.array([["a", "x"], ["b", "y"]] * 6)).save(path)
    assert main(["info", path]) == 0
    assert "labels of 0 (2): a b\nlabels of 1 (2): x y" in capsys.readouterr().out
    (tmp_path / "data.csv").write_text("1,2,a\n3,4,b\n")
    for command in ("evaluate", "predict"):
        assert main([command, path, str(tmp_path / "data.csv")]) == 2
        assert "this model gives several" in capsys.readouterr().err
    series = rc.Series.of(np.where(np.arange(8).reshape(1, 4, 2) == 3, np.nan, X), times=[np.arange(4.0)] * 12)
    rc.SequenceClassifier(missing="mask", **quick).fit(series, [np.ones((4, 3), int)] * 12).save(path)
    assert main(["info", path]) == 0
    told = capsys.readouterr().out
    assert "reads at every step: 2 numbers, 1 with gaps, and the time between steps" in told
    assert "answers of yes and no: 3 for each step" in told


def drawn(report, path, monkeypatch):
    """The axes of a report's picture."""
    figures = []
    kind = peer("matplotlib.figure").Figure
    save = kind.savefig
    monkeypatch.setattr(
        kind, "savefig", lambda figure, *rest, **more: (figures.append(figure), save(figure, *rest, **more))
    )
    plot_report(report, path)
    assert path.stat().st_size > 0
    return figures[0].axes


def test_pictures(tmp_path, monkeypatch):
    history = [{"epoch": n, "loss": 1 / n} for n in (1, 2, 3)]
    confusion = {"a": {"a": 3, "b": 1}, "b": {"b": 2}, "c": {"a": 4}}
    report = {"task": "classify", "history": history, "confusion": confusion, "test_accuracy": 0.5}
    curve, matrix = drawn(report, tmp_path / "a.png", monkeypatch)
    assert curve.get_ylabel() == "loss, nats"
    assert [text.get_text() for text in matrix.get_yticklabels()] == ["a", "b", "c"]
    shades = matrix.images[0].get_array()
    np.testing.assert_allclose(shades, [[0.75, 0.25, 0], [0, 1, 0], [1, 0, 0]])
    assert [text.get_text() for text in matrix.texts] == ["3", "1", "2", "4"]
    many = {f"{n:03}": {f"{n:03}": 5, f"{(n + 1) % 150:03}": n} for n in range(150)}
    _, matrix = drawn(report | {"confusion": many}, tmp_path / "a.svg", monkeypatch)
    assert matrix.images[0].get_array().shape == (100, 100) and "of 150" in matrix.get_title()
    assert matrix.get_yticklabels()[0].get_text() == "050"
    report = {"task": "regress", "history": history, "test_pairs": [[1.0, 1.5], [2.0, 1.0]], "test_r2": 0.1}
    curve, pairs = drawn(report, tmp_path / "b.png", monkeypatch)
    assert curve.get_ylabel() == "loss"
    line, points = pairs.lines
    assert line.get_xydata().tolist() == [[1, 1], [2, 2]] and points.get_xydata().tolist() == [[1, 1.5], [2, 1]]


def test_samples_are_learned(tmp_path):
    report = tmp_path / "report.json"
    quick = ["--set", "max_epochs=3", "--set", "hidden_size=16", "--quiet", "--report", str(report)]
    assert main(["train", "--task", "classify", "--out", str(tmp_path / "a"), *quick]) == 0
    assert json.loads(report.read_text())["test_accuracy"] > 0.6
    assert main(["train", "--task", "regress", "--out", str(tmp_path / "b"), *quick]) == 0
    assert json.loads(report.read_text())["test_error"] < 1
