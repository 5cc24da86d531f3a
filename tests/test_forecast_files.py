"""Files of series to forecast, and the command line that learns from them."""

import json

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.cli import main
from rnncore.data.forecast_files import read_told
from rnncore.data.readers import DataError

QUICK = ["--set", "max_epochs=2", "--set", "hidden_size=4", "--set", "window=8", "--quiet"]


def refused(path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_told(str(path))


def test_tables(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("month,passengers,known_fair,past_rain\n2020-01,5,0,1.5\n2020-02,6,1,2.5\n2020-03,,1,\n")
    told = read_told(str(path))
    assert told.y[None].tolist() == [[5.0], [6.0]] and told.columns == ["passengers"]
    assert told.known[None].tolist() == [[0.0], [1.0], [1.0]] and told.past[None].tolist() == [[1.5], [2.5]]
    assert told.times[None] == ["2020-01", "2020-02", "2020-03"] and told.ahead(None) == 1
    path = tmp_path / "b.tsv"
    path.write_text("sequence\ttime\tu\tv\nnorth\t1\t1\t2\nsouth\t1\t7\t8\nnorth\t2\t3\t4\n")
    told = read_told(str(path))
    assert told.y["north"].tolist() == [[1, 2], [3, 4]] and told.y["south"].tolist() == [[7, 8]]
    assert told.ahead("north") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,y\n1,5\n1,6\n", "line 3: the time '1' is there twice, first in line 2"),
        ("time,y\n2,5\n1,6\n", "line 3: the time '1' is not after '2'"),
        ("day,y\n2020-01-31,5\n2020-01-30,6\n", "line 3: .* is not after"),
        ("sequence,time,y\na,1,5\nb,1,5\na,1,6\n", "line 4: the time '1' of sequence 'a' is there twice"),
        ("time,y\n1,5\n2\n", "line 3: expected 2 fields, got 1"),
        ("time,y\n1,five\n", "line 2: expected a number, got 'five'"),
        ("y,y\n1,2\n", "same name"),
        ("1,2\n3,4\n", "names of the columns"),
        ("time,known\n1,2\n", "a column of numbers to forecast"),
        ("time,y\n1,\n", "nothing has come yet"),
        ("time,y\n", "a header and a step a line"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    refused(tmp_path / "a.csv", text, message)


def test_arrays_and_json_lines(tmp_path):
    y = np.arange(10.0)
    np.savez(tmp_path / "a.npz", y=y, known=np.arange(12.0))
    told = read_told(str(tmp_path / "a.npz"))
    assert np.array_equal(told.y[None][:, 0], y) and told.ahead(None) == 2
    np.savez(tmp_path / "b.npz", y=y, starts=[0, 4])
    assert [len(part) for part in read_told(str(tmp_path / "b.npz")).y.values()] == [4, 6]
    np.savez(tmp_path / "c.npz", x=y)
    with pytest.raises(DataError, match="an array y"):
        read_told(str(tmp_path / "c.npz"))
    np.savez(tmp_path / "d.npz", y=y, known=np.arange(9.0))
    with pytest.raises(DataError, match="known has 9 steps, and y 10"):
        read_told(str(tmp_path / "d.npz"))
    path = tmp_path / "e.jsonl"
    path.write_text('{"name": "n", "y": [1, 2], "known": [[1], [2], [3]]}\n\n{"name": "s", "y": [4], "known": [[1]]}\n')
    told = read_told(str(path))
    assert list(told.y) == ["n", "s"] and told.ahead("n") == 1 and told.ahead("s") == 0
    refused(path, '{"y": [1]}\n{"x": [1]}\n', "line 2: expected")
    refused(path, '{"name": "a", "y": [1]}\n{"name": "a", "y": [1]}\n', "line 2: the series 'a' is there twice")
    refused(path, '{"y": ["one"]}\n', "line 1, y: expected numbers")


@pytest.fixture
def table(tmp_path):
    """Sales that follow what is announced, with two steps to come."""
    rows = [f"2020-{1 + n // 28:02}-{1 + n % 28:02},{5 + 2 * (n % 3)},{n % 3}" for n in range(90)]
    rows += ["2020-04-07,,0", "2020-04-08,,2"]
    path = tmp_path / "sales.csv"
    path.write_text("\n".join(["day,sold,known_offer", *rows]) + "\n")
    return path


def test_train_evaluate_predict(table, tmp_path, capsys):
    peer("matplotlib")
    model, report, picture = (str(tmp_path / name) for name in ("m.safetensors", "r.json", "p.png"))
    train = ["train", str(table), "--task", "forecast", "--out", model, "--report", report, "--plot", picture]
    options = ["--set", "output=normal", "--set", "horizon=4", "--set", "window=12", "--set", "hidden_size=8"]
    assert main([*train, *options, "--set", "max_epochs=40"]) == 0
    printed = capsys.readouterr().out
    assert "1 series, 72 steps to train on, 18 to test on" in printed and "if all stayed as it is" in printed
    with open(report) as file:
        found = json.load(file)
    assert found["test_absolute_error"] < 0.5 < found["test_unchanged_absolute_error"]
    assert found["test_forecasts"] == 15 and 0 <= found["test_covered"] <= 1 and found["n_test"] == 18
    assert len(found["forecast"]["said"]) == len(found["forecast"]["low"]) == 4
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["evaluate", model, str(table), "--report", report]) == 0
    assert "forecasts of 4 steps" in capsys.readouterr().out
    assert main(["predict", model, str(table), "--confidence"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["2020-04-07", "2020-04-08"]  # the steps that the file tells of
    said = np.array([[float(number) for number in line[1:]] for line in lines])
    np.testing.assert_allclose(said[:, 0], [5, 9], atol=1)
    assert (said[:, 1] < said[:, 0]).all() and (said[:, 0] < said[:, 2]).all()
    loaded = rc.load(model)
    told = read_told(str(table))
    again = loaded.predict(2, told.known[None][90:], after=(told.y[None], told.known[None][:90]))
    np.testing.assert_allclose(again[:, 0], said[:, 0], rtol=1e-4)
    assert main(["info", model]) == 0
    assert "series: 1; numbers a step: 1, known ahead 1, past 0" in capsys.readouterr().out


def test_several_series_and_a_test_file(tmp_path, capsys):
    def lines(first: int, last: int) -> str:
        rows = [
            f"{name},{n},{np.sin(n / 3) + place:.4f}" for place, name in enumerate("ab") for n in range(first, last)
        ]
        return "\n".join(["sequence,time,y", *rows]) + "\n"

    (tmp_path / "a.csv").write_text(lines(0, 40))
    (tmp_path / "b.csv").write_text(lines(40, 50))
    model, report = str(tmp_path / "m"), str(tmp_path / "r.json")
    train = ["train", str(tmp_path / "a.csv"), "--task", "forecast", "--test", str(tmp_path / "b.csv"), "--out", model]
    assert main([*train, "--report", report, *QUICK]) == 0
    with open(report) as file:
        assert json.load(file)["test_forecasts"] == 20
    assert main(["predict", model, str(tmp_path / "a.csv")]) == 0
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == [["a", "40"], ["b", "40"]]
    (tmp_path / "b.csv").write_text("time,y\n40,1\n")
    assert main([*train, "--force", *QUICK]) == 2
    assert "the same series, 'a', 'b'" in capsys.readouterr().err


def test_resumed(tmp_path):
    data = tmp_path / "a.csv"
    data.write_text("\n".join(["y", *(f"{np.sin(n / 3):.5f}" for n in range(80))]) + "\n")
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    train = ["train", str(data), "--task", "forecast", "--set", "output=quantiles", *QUICK]
    assert main([*train, "--out", whole]) == 0
    y = read_told(str(data)).y[None][:64]
    options = {"output": "quantiles", "hidden_size": 4, "window": 8, "max_epochs": 2, "random_state": 0}

    def stop(record):
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        rc.Forecaster(**options, callbacks=[stop]).fit(y, checkpoint=cut, checkpoint_every=0)
    resumed = rc.Forecaster(**options).fit(y, resume=cut)
    wanted = rc.load(whole)
    assert np.array_equal(resumed.network_.theta, wanted.network_.theta)
    assert np.array_equal(resumed.predict(3, quantiles=[0.1, 0.9]), wanted.predict(3, quantiles=[0.1, 0.9]))


def test_what_the_command_refuses(table, tmp_path, capsys):
    model = str(tmp_path / "m")
    train = ["train", str(table), "--task", "forecast", "--out", model]
    assert main([*train, "--valid", str(table), *QUICK]) == 2
    assert "early_stopping" in capsys.readouterr().err
    assert main([*train, *QUICK, "--set", "horizon=30"]) == 2
    assert "no series goes on for the 30 steps" in capsys.readouterr().err
    assert main([*train, "--force", *QUICK]) == 0
    assert main(["predict", model, str(table), "--confidence"]) == 2
    assert "output=normal" in capsys.readouterr().err
    assert main(["predict", model, str(table), "--n-best", "2"]) == 2
    (tmp_path / "gap.csv").write_text("y\n1\n\n2\n,\n".replace(",", "NaN") + "3\n")
    assert main(["train", str(tmp_path / "gap.csv"), "--task", "forecast", "--out", model, "--force", *QUICK]) == 2
    assert "step 2" in capsys.readouterr().err


def test_a_sample_is_there(tmp_path):
    assert main(["train", "--task", "forecast", "--out", str(tmp_path / "m"), *QUICK]) == 0
