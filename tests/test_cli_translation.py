"""The command with --task translate: train, evaluate, predict, info."""

import io
import json
import sys
from pathlib import Path

import pytest
from peers import peer

import rnncore as rc
from rnncore.cli import main
from rnncore.datasets import reversing

QUICK = ["--task", "translate", "--set", "hidden_size=16", "--set", "max_epochs=4", "--set", "embedding_size=8"]
SOURCES, TARGETS = reversing(300, length=4, symbols=5)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"{source}\t{target}\n" for source, target in zip(SOURCES, TARGETS, strict=True)]
    Path("pairs.tsv").write_text("".join([*lines[:5], "\n", *lines[5:]]))
    return "pairs.tsv"


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("rnncore") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def test_train_reports_what_is_written_without_a_fault(pairs, capsys):
    assert main(["train", pairs, *QUICK, "--report", "r.json", "--valid", pairs]) == 0
    report, model = json.loads(Path("r.json").read_text()), rc.load("translate.safetensors")
    assert (report["task"], report["n_train"], report["n_test"], report["n_symbols"]) == ("translate", 240, 60, 5)
    assert report["test_total"] == 60 and report["test_correct"] == round(60 * report["test_accuracy"])
    assert 0 < report["label_error_rate"] < 1 and len(report["wrong"]) == 60 - report["test_correct"]
    for source, target, found in report["wrong"]:
        assert target == source[::-1] != found == model.predict([source])[0]
    assert "val_score" in report["history"][-1] and report["fit_seconds"] > 0
    out = capsys.readouterr().out
    assert "240 pairs to train on, 300 to watch, 60 to test on" in out and "label error rate" in out


def test_without_data_dates_are_generated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["train", *QUICK[:-4], "--set", "max_epochs=1", "--set", "batch_size=512", "--test-fraction", "0.01"]) == 0
    )
    assert "generated dates: 3,960 pairs to train on, 40 to test on" in capsys.readouterr().out


def test_evaluate_and_predict_say_what_the_model_does(pairs, capsys, monkeypatch):
    assert main(["train", pairs, *QUICK, "--quiet", "--test-fraction", "0"]) == 0
    assert capsys.readouterr().out == ""
    model = rc.load("translate.safetensors")
    assert main(["evaluate", "translate.safetensors", pairs, "--report", "e.json", "--beam-size", "3"]) == 0
    report = json.loads(Path("e.json").read_text())
    right = [found == target for found, target in zip(model.predict(SOURCES, beam_size=3), TARGETS, strict=True)]
    assert report["test_accuracy"] == pytest.approx(sum(right) / 300) and report["n_test"] == 300
    assert report["label_error_rate"] == pytest.approx(model.error_rate(SOURCES, TARGETS, beam_size=3))
    assert "targets/s" in capsys.readouterr().out
    assert main(["predict", "translate.safetensors", pairs, "--out", "out.txt"]) == 0
    wanted = model.predict(SOURCES)
    assert Path("out.txt").read_text().split("\n") == [*wanted[:5], "", *wanted[5:], ""]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfabc\r\n\nba")))
    assert main(["predict", "translate.safetensors", "--n-best", "2"]) == 0
    first, blank, second = capsys.readouterr().out.splitlines()
    (best, p), (next_best, q) = model.predict_n_best(["abc"], n=2)[0]
    assert first == f"{best}\t{p:.4f}\t{next_best}\t{q:.4f}" and blank == ""
    assert second.split("\t")[0] == model.predict(["ba"], beam_size=5)[0]


def test_info_tells_the_symbols(pairs, capsys):
    assert main(["train", pairs, *QUICK, "--quiet"]) == 0
    assert main(["info", "translate.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "SequenceToSequence" in out and "symbols of targets (5): a b c d e" in out and "symbols of sources: 5" in out


def test_a_picture_of_the_training(pairs):
    peer("matplotlib")
    assert main(["train", pairs, *QUICK, "--quiet", "--plot", "p.svg"]) == 0
    assert Path("p.svg").read_text().startswith("<?xml")


def test_bad_input_ends_in_one_line(pairs, capsys):
    Path("bad.tsv").write_text("ab\tba\nab\n")
    refused(capsys, ["train", "bad.tsv", *QUICK], "bad.tsv, line 2", "got 1 field")
    Path("empty.tsv").write_text("\n")
    refused(capsys, ["train", "empty.tsv", *QUICK], "holds no pairs")
    Path("latin.tsv").write_bytes(b"ab\t\xe9\n")
    refused(capsys, ["train", "latin.tsv", *QUICK], "line 1: expected UTF-8")
    refused(capsys, ["train", pairs, *QUICK, "--column", "1,2"], "--column goes with --task tag")
    assert main(["train", pairs, *QUICK, "--quiet"]) == 0
    refused(capsys, ["predict", "translate.safetensors", pairs, "--confidence"], "--confidence is for taggers")
    refused(capsys, ["evaluate", "translate.safetensors", pairs, "--strict"], "--strict is for taggers")
    rc.SequenceTagger(max_epochs=1).fit([["a"]], [["X"]]).save("tag.safetensors")
    refused(
        capsys, ["predict", "tag.safetensors", pairs, "--beam-size", "2"], "--beam-size is for models that translate"
    )
