"""The command with --task caption: train, evaluate, predict, info."""

import json
from pathlib import Path

import numpy as np
import pytest

import rnncore as rc
from rnncore.cli import main
from rnncore.cli.captions import read_captions, read_sources

QUICK = ["--task", "caption", "--set", "hidden_size=16", "--set", "max_epochs=6", "--set", "embedding_size=8"]
SENTENCES = ["a cat, a dog", "one bird", "fish"]


def data(n=120, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    return np.eye(3)[kind].round(3) + rng.normal(0, 0.1, (n, 3)).round(3), [SENTENCES[k] for k in kind]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, sentences = data()
    np.savez("data.npz", vectors=x, sentences=sentences)
    lines = ["\t".join(map(str, row)) + f"\t{text}\n" for row, text in zip(x.tolist(), sentences, strict=True)]
    Path("data.tsv").write_text("\ufeff" + "".join([*lines[:7], "\n", *lines[7:]]), encoding="utf-8")
    lines = [",".join(map(str, row)) + f',"{text}"\n' for row, text in zip(x.tolist(), sentences, strict=True)]
    Path("data.csv").write_text("".join(lines))
    return x, sentences


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("rnncore") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def test_all_kinds_of_files_say_the_same(files):
    x, sentences = files
    for name in ("data.npz", "data.tsv", "data.csv"):
        vectors, read = read_captions(name)
        np.testing.assert_array_equal(vectors, x)
        assert read == sentences
    Path("numbers.csv").write_text("1,2\n3,4\n")
    vectors, read = read_sources("numbers.csv")
    assert vectors.tolist() == [[1, 2], [3, 4]] and read is None
    Path("classes.tsv").write_text("cat\tit meows\ndog\tit barks\n")
    assert read_captions("classes.tsv") == (["cat", "dog"], ["it meows", "it barks"])
    Path("classes.tsv").write_text("cat\ndog\n")
    assert read_sources("classes.tsv") == (["cat", "dog"], None)
    np.savez("signals.npz", vectors=np.zeros((2, 4, 3)), sentences=["a", "b"])
    assert read_captions("signals.npz")[0].shape == (2, 4, 3)


def test_train_evaluate_and_predict(files, capsys):
    x, sentences = files
    assert main(["train", "data.npz", *QUICK, "--report", "r.json", "--valid", "data.csv"]) == 0
    report, model = json.loads(Path("r.json").read_text()), rc.load("caption.safetensors")
    assert (report["task"], report["n_train"], report["n_test"], report["n_symbols"]) == ("caption", 96, 24, 7)
    assert report["test_total"] == 24 and report["test_correct"] == round(24 * report["test_accuracy"])
    assert "val_score" in report["history"][-1] and report["fit_seconds"] > 0
    out = capsys.readouterr().out
    assert "96 sentences to train on, 120 to watch, 24 to test on" in out and "7 words to write" in out

    wrong = [*sentences[:-1], "a fish"]
    np.savez("test.npz", vectors=x, sentences=wrong)
    assert main(["evaluate", "caption.safetensors", "test.npz", "--report", "e.json", "--beam-size", "3"]) == 0
    report, found = json.loads(Path("e.json").read_text()), model.predict(x, beam_size=3)
    assert report["test_accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(wrong, found, strict=True)]))
    assert report["label_error_rate"] == pytest.approx(model.error_rate(x, wrong, beam_size=3))
    assert report["wrong"][-1] == ["vector 119", "a fish", found[-1]]
    assert "label error rate" in capsys.readouterr().out

    assert main(["predict", "caption.safetensors", "data.tsv", "--out", "out.txt"]) == 0
    assert Path("out.txt").read_text().splitlines() == model.predict(x)
    assert main(["predict", "caption.safetensors", "data.npz", "--n-best", "2"]) == 0
    (best, p), (other, q) = model.predict_n_best(x[:1], 2)[0]
    assert capsys.readouterr().out.splitlines()[0] == f"{best}\t{p:.4f}\t{other}\t{q:.4f}"
    assert main(["info", "caption.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "CaptionModel" in out and "vectors: 3 numbers each" in out and "symbols of sentences (7): , a bird" in out


def test_without_data_pictures_are_generated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnncore.cli.captions._SAMPLE", 50)
    assert main(["train", *QUICK, "--set", "max_epochs=1"]) == 0
    assert "generated pictures of shapes: 40 sentences to train on, 10 to test on" in capsys.readouterr().out


def test_bad_input_ends_in_one_line(files, capsys):
    for name, text, *words in (
        ("a.tsv", "1\t2\tone\n1\ttwo\n", "line 2: expected 2 numbers as before, got 1"),
        ("b.tsv", "1\t2\tone\n1\tx\ttwo\n", "line 2: expected numbers before the sentence, got 'x'"),
        ("c.tsv", "1\t2\tone\ncat\ttwo\n", "line 2: this line is of another kind"),
        ("d.tsv", "1\t2\tone\n1\t2\n", "line 2: this line is of another kind"),
        ("e.tsv", "\n", "holds nothing"),
        ("f.tsv", "1\t2\n", "expected sentences, too"),
        ("g.tsv", "nan\t2\tone\n1\t2\ttwo\n1\t2\tthree\n", "holds NaN"),
    ):
        Path(name).write_text(text)
        refused(capsys, ["train", name, *QUICK, "--test-fraction", "0"], *words)
    Path("latin.tsv").write_bytes(b"1\t\xe9\n")
    refused(capsys, ["train", "latin.tsv", *QUICK], "line 1: expected UTF-8")
    Path("no.npz").write_text("no")
    refused(capsys, ["train", "no.npz", *QUICK], "no.npz: expected arrays in NumPy's form")
    refused(capsys, ["train", "none.npz", *QUICK], "none.npz: cannot be read")
    np.savez("no.npz", x=np.zeros(3))
    refused(capsys, ["train", "no.npz", *QUICK], "expected an array vectors")
    np.savez("no.npz", vectors=np.zeros((3, 2)), sentences=["a"])
    refused(capsys, ["train", "no.npz", *QUICK], "expected 3 sentences")
    refused(capsys, ["train", "data.tsv", *QUICK, "--column", "1,2"], "--column goes with --task tag")
    assert main(["train", "data.tsv", *QUICK, "--quiet"]) == 0
    refused(capsys, ["predict", "caption.safetensors", "data.tsv", "--confidence"], "--confidence is for taggers")
    refused(capsys, ["predict", "caption.safetensors", "classes.tsv"], "classes.tsv")
    refused(capsys, ["evaluate", "caption.safetensors", "data.tsv", "--strict"], "--strict is for taggers")
