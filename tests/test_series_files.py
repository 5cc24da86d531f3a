"""Files of sequences, and the command line that learns from them: classes, numbers."""

import json

import numpy as np
import pytest

from rnncore.cli import main
from rnncore.data.readers import DataError
from rnncore.data.series_files import read_series

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
    train = ["train", str(data), "--task", task, "--out", model, "--report", str(report), *quick]
    assert main(train) == 0
    found = json.loads(report.read_text())
    assert found["task"] == task and found["n_test"] == 24 and found["n_train"] == 96
    assert found["test_accuracy"] > 0.6 if task == "classify" else found["test_r2"] > 0.6
    assert main(["evaluate", model, str(data), "--report", str(report)]) == 0
    assert "test" in capsys.readouterr().out
    assert main(["predict", model, str(new)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert main(["info", model]) == 0
    capsys.readouterr()
    confident = main(["predict", model, str(new), "--confidence", "--out", str(tmp_path / "out.txt")])
    if task == "classify":
        assert confident == 0
        assert set(lines) <= {"up", "level"}
        assert all(0.5 <= float(line.split("\t")[1]) <= 1 for line in (tmp_path / "out.txt").read_text().splitlines())
    else:
        assert confident == 2 and "numbers" in capsys.readouterr().err
        assert all(np.isfinite(float(line)) for line in lines)
    assert main(["predict", model, str(new), "--beam-size", "3"]) == 2


def test_samples_are_learned(tmp_path):
    report = tmp_path / "report.json"
    quick = ["--set", "max_epochs=3", "--set", "hidden_size=16", "--quiet", "--report", str(report)]
    assert main(["train", "--task", "classify", "--out", str(tmp_path / "a"), *quick]) == 0
    assert json.loads(report.read_text())["test_accuracy"] > 0.6
    assert main(["train", "--task", "regress", "--out", str(tmp_path / "b"), *quick]) == 0
    assert json.loads(report.read_text())["test_error"] < 1
