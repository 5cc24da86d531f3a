"""The command with --task lm: train, generate, evaluate, and their pictures."""

import io
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.cli import main
from rnncore.datasets import python_source

TEXT = "anna sees otto.\notto sees anna.\nanna and otto see.\n" * 8
QUICK = ["--set", "hidden_size=12", "--set", "max_epochs=3", "--set", "seq_length=10"]


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return "text.txt"


def train(*arguments):
    return main(["train", *map(str, arguments), "--task", "lm", *QUICK])


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("rnncore") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def test_train_reports_what_was_learned(text, capsys):
    assert train(text, "--report", "r.json", "--test-fraction", "0.2") == 0
    report = json.loads(Path("r.json").read_text())
    model = rc.load("lm.safetensors")
    n_test = round(0.2 * len(TEXT))
    kept, apart = TEXT[:-n_test], TEXT[-n_test:]
    assert report["task"] == "lm" and report["n_symbols"] == len(set(TEXT)) and report["n_test"] == n_test - 1
    assert report["test_nats"] == pytest.approx(-model.score(apart))
    assert report["valid_nats"] == report["history"][-1]["val_loss"] and report["train_nats"] > 0
    assert report["symbols_per_second"] > 0 and report["fit_seconds"] > 0 and len(report["history"]) == 3
    fitted = rc.LanguageModel(hidden_size=12, max_epochs=3, seq_length=10, validation="tail", random_state=0).fit(kept)
    np.testing.assert_array_equal(fitted.network_.theta, model.network_.theta)
    out = capsys.readouterr().out
    assert "nats per character" in out and "writes" in out


def test_generate_writes_what_the_model_does(text, capsys):
    assert train(text, "--quiet") == 0
    assert capsys.readouterr().out == ""
    model = rc.load("lm.safetensors")
    options = ["--length", "40", "--prime", "anna", "--seed", "3", "--temperature", "0.5", "--top-k", "4"]
    expected = "anna" + model.generate(40, "anna", 0.5, 4, random_state=3)
    assert main(["generate", "lm.safetensors", *options]) == 0
    assert capsys.readouterr().out == expected + "\n"
    assert main(["generate", "lm.safetensors", *options, "--out", "out.txt"]) == 0
    assert Path("out.txt").read_text() == expected and capsys.readouterr().out == ""
    assert main(["generate", "lm.safetensors", "--length", "500", "--seed", "0", "--stop", "o"]) == 0
    assert capsys.readouterr().out.endswith("o\n")


@pytest.mark.parametrize("unit", ["word", "byte", "id"])
def test_every_unit_trains_and_writes(text, unit, capsys):
    prime = "anna"
    if unit == "id":
        np.save("ids.npy", np.arange(200) % 7)
        text, prime = "ids.npy", "3 4"
    assert train(text, "--set", f"unit={unit}", "--quiet") == 0
    assert main(["generate", "lm.safetensors", "--length", "5", "--prime", prime, "--seed", "1"]) == 0
    out = capsys.readouterr().out
    model = rc.load("lm.safetensors")
    if unit == "id":
        assert out.split() == ["3", "4", *map(str, model.generate(5, [3, 4], random_state=1))]
    elif unit == "byte":
        assert out == prime + model.generate(5, prime, random_state=1) + "\n"
    else:
        assert out.startswith("anna ") or out.startswith("anna.") or out.startswith("anna\n")


def test_sentences_and_presets(text, capsys):
    assert train(text, "--preset", "wildml", "--quiet") == 0
    model = rc.load("lm.safetensors")
    assert model.sentences and model.unit == "word" and model.cell == "elman"
    assert main(["info", "lm.safetensors"]) == 0
    assert "symbols: 9, <unknown>, <start>, <end> among them" in capsys.readouterr().out


def test_evaluate(text, capsys, monkeypatch):
    assert train(text, "--quiet", "--set", "unit=word", "--set", "min_count=10") == 0
    assert main(["evaluate", "lm.safetensors", text, "--report", "e.json"]) == 0
    out, report = capsys.readouterr().out, json.loads(Path("e.json").read_text())
    expected = rc.load("lm.safetensors").evaluate(TEXT)
    assert report["evaluation"] == pytest.approx(expected) and report["test_nats"] == pytest.approx(expected["nats"])
    assert f"{expected['nats']:.4f} nats" in out and "unknown" in out and expected["n_unknown"] > 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(TEXT))
    assert main(["evaluate", "lm.safetensors", "-", "--quiet", "--report", "stdin.json"]) == 0
    assert json.loads(Path("stdin.json").read_text())["test_nats"] == report["test_nats"]


def test_validation_files(text, tmp_path):
    (tmp_path / "valid.txt").write_text(TEXT[:60])
    assert train(text, "--quiet", "--valid", "valid.txt", "--report", "r.json") == 0
    report = json.loads(Path("r.json").read_text())
    assert report["valid_nats"] == min(record["val_loss"] for record in report["history"])


def test_a_training_that_was_cut_off_goes_on(text, monkeypatch, capsys):
    from rnncore.train.trainer import Trainer

    assert train(text, "--quiet", "--out", "whole.safetensors") == 0
    original, seen = Trainer._step, []

    def interrupted(self, batch):
        seen.append(batch)
        if len(seen) == 40:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    assert train(text, "--quiet", "--checkpoint-every", "0") == 130
    assert "--resume lm.safetensors.checkpoint" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "_step", original)
    assert main(["train", "--resume", "lm.safetensors.checkpoint", "--quiet"]) == 0
    whole, resumed = (rc.load(name) for name in ("whole.safetensors", "lm.safetensors"))
    np.testing.assert_array_equal(whole.network_.theta, resumed.network_.theta)


def test_without_a_text_it_learns_from_pythons_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnncore.cli.language.python_source", lambda: python_source(3000))
    assert train("--quiet") == 0
    assert rc.load("lm.safetensors").history_[-1]["loss"] < 4


def test_rare_characters_of_the_test_part_are_known(text, tmp_path, capsys):
    (tmp_path / "rare.txt").write_text(TEXT + "Zürich\n")
    assert train("rare.txt", "--quiet", "--test-fraction", "0.1", "--report", "r.json") == 0
    assert json.loads(Path("r.json").read_text())["test_nats"] > 0
    refused(capsys, ["train", text, "--task", "lm", "--test", "rare.txt", "--out", "other"], "'Z'")
    assert not Path("other").exists()


def test_the_seed_goes_before_the_presets(text):
    for seed in (5, 6):
        assert train(text, "--quiet", "--preset", "char-rnn", "--seed", seed, "--force", "--report", "r.json") == 0
        assert rc.load("lm.safetensors").random_state == seed == json.loads(Path("r.json").read_text())["seed"]
    assert train(text, "--quiet", "--preset", "char-rnn", "--force") == 0
    assert rc.load("lm.safetensors").random_state == 123


@pytest.mark.parametrize("settings", ["sentences=true", "unit=id", "unit=byte", "unit=word"])
def test_pictures_of_every_kind_of_model(text, settings):
    peer("matplotlib")
    if settings == "unit=id":
        np.save("ids.npy", np.arange(200) % 7)
        text = "ids.npy"
    elif settings == "unit=byte":
        Path("text.txt").write_bytes(b"\xff\xe9\x80" * 99)
    assert train(text, "--quiet", "--set", settings) == 0
    assert main(["generate", "lm.safetensors", "--length", "60", "--seed", "0", "--plot", "p.png", "--out", "t"]) == 0
    if settings == "unit=byte":
        assert set(Path("t").read_bytes()) <= set(b"\xff\xe9\x80")


def test_standard_input_and_pipes_are_read_as_files(text, tmp_path, monkeypatch):
    assert train(text, "--quiet") == 0
    given = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert main(["evaluate", "lm.safetensors", "-", "--quiet", "--report", "e.json"]) == 0
    nats = json.loads(Path("e.json").read_text())["test_nats"]
    assert nats == pytest.approx(-rc.load("lm.safetensors").score(TEXT))
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
        writer = threading.Thread(target=lambda: Path("pipe").write_text(TEXT))
        writer.start()
        assert train("pipe", "--quiet", "--out", "piped") == 0
        writer.join()
        np.testing.assert_array_equal(rc.load("piped").network_.theta, rc.load("lm.safetensors").network_.theta)


def test_settings_are_listed(capsys):
    assert main(["train", "--task", "lm", "--settings"]) == 0
    out = capsys.readouterr().out
    assert "seq_length = 50" in out and "unit = 'char'" in out and "bidirectional" not in out


def test_pictures(text, tmp_path):
    peer("matplotlib")
    assert train(text, "--quiet", "--plot", "curve.png") == 0
    model = rc.load("lm.safetensors")
    assert main(["generate", "lm.safetensors", "--length", "90", "--plot", "next.svg", "--out", "t"]) == 0
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "next.svg").read_bytes()
    found = model.expectations("anna $", 3) if "$" in model.symbols_ else model.expectations("anna", 3)
    assert [symbol for symbol, _ in found][:4] == list("anna") and len(found[1][1]) == 3
    assert found[1][1] == model.next_symbols("a", 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "none.txt", "--task", "lm"], ["none.txt", "cannot be read"]),
        (["train", "text.txt", "--task", "lm", "--preset", "fast"], ["--preset", "char-rnn", "'fast'"]),
        (["train", "text.txt", "--preset", "char-rnn"], ["--preset", "'char-rnn'"]),
        (["train", "text.txt", "--task", "lm", "--column", "1,2"], ["--column"]),
        (["train", "text.txt", "--task", "lm", "--set", "bidirectional=true"], ["bidirectional"]),
        (["train", "text.txt", "--task", "lm", "--set", "unit=letter"], ["unit", "'letter'"]),
        (["train", "empty.txt", "--task", "lm"], ["expected a text"]),
        (["train", "text.txt", "--task", "lm", "--test-fraction", "0.0001"], ["too short"]),
        (["generate", "none.safetensors"], ["none.safetensors"]),
        (["generate", "text.txt"], ["text.txt"]),
        (["generate", "tagger.safetensors"], ["SequenceTagger", "--task lm"]),
        (["generate", "lm.safetensors", "--prime", "ZZZ"], ["'Z'"]),
        (["train", "empty.txt", "--task", "lm", "--set", "unit=id"], ["empty.txt", ".npy"]),
        (["train", "text.txt", "--task", "lm", "--set", "unit=xx", "--test-fraction", "0.1"], ["unit", "'xx'"]),
        (["generate", "lm.safetensors", "--temperature", "-1"], ["temperature"]),
        (["generate", "lm.safetensors", "--plot", "x.jpg"], ["x.jpg"]),
        (["generate", "lm.safetensors", "--out", "no/where"], ["no"]),
        (["predict", "lm.safetensors", "text.txt"], ["LanguageModel", "generate"]),
        (["evaluate", "lm.safetensors", "text.txt", "--strict"], ["--strict"]),
        (["evaluate", "lm.safetensors", "empty.txt"], ["at least 2 symbols"]),
    ],
)
def test_one_clear_line(text, tmp_path, capsys, arguments, words):
    (tmp_path / "empty.txt").write_text("")
    if "lm.safetensors" in arguments:
        rc.LanguageModel(hidden_size=4, max_epochs=1).fit(TEXT).save("lm.safetensors")
    if "tagger.safetensors" in arguments:
        rc.SequenceTagger(hidden_size=4, max_epochs=1).fit([["a"]], [["b"]]).save("tagger.safetensors")
    refused(capsys, arguments, *words)
