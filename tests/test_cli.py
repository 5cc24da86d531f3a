"""The command line: what it prints, what it leaves, and one clear line for everything that goes wrong."""

import contextlib
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import rnncore as rc
from rnncore._config import config
from rnncore.cli import main
from rnncore.datasets import news_requests

QUICK = ["--set", "hidden_size=8", "--set", "max_epochs=2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tagged(here):
    sentences, tags = news_requests(60)
    text = "\n".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(*pair, strict=True))
        for pair in zip(sentences, tags, strict=True)
    )
    (here / "data.txt").write_text(text)
    return here / "data.txt"


@pytest.fixture
def model(tagged):
    assert main(["train", "data.txt", "--quiet", *QUICK]) == 0
    return "tag.safetensors"


def one_line(capsys, *words):
    out, err = capsys.readouterr()
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert err.startswith("rnncore")
    for word in words:
        assert word in err, err
    return out


def test_train_without_a_file(here, capsys):
    assert main(["train", "--report", "report.json", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert "sample" in out and "800 sentences" in out and "accuracy" in out and "tag.safetensors" in out
    assert "loss" in err
    report = json.loads((here / "report.json").read_text())
    assert report["task"] == "tag" and (report["n_train"], report["n_test"]) == (800, 200)
    assert len(report["history"]) == 2 and report["fit_seconds"] > 0 and report["version"]
    assert report["settings"]["hidden_size"] == 8
    for part in ("train", "test"):
        assert report[f"{part}_accuracy"] == report[f"{part}_correct"] / report[f"{part}_total"]
    assert report["train_total"] + report["test_total"] == sum(map(len, news_requests()[0]))


def test_train_and_use(tagged, capsys):
    assert main(["train", "data.txt", "--test", "data.txt", "--out", "m", "--quiet", "--report", "r.json", *QUICK]) == 0
    assert capsys.readouterr() == ("", "")
    report = json.loads((tagged.parent / "r.json").read_text())
    assert report["test_correct"] == report["train_correct"]
    assert main(["evaluate", "m", "data.txt", "--report", "e.json"]) == 0
    assert f"{report['test_correct']:,} of" in capsys.readouterr().out
    assert json.loads((tagged.parent / "e.json").read_text())["test_accuracy"] == report["test_accuracy"]
    assert main(["info", "m"]) == 0
    assert "hidden_size = 8" in capsys.readouterr().out


def test_same_seed_same_file(tagged, model):
    first = (tagged.parent / model).read_bytes()
    assert main(["train", "data.txt", "--quiet", "--out", "second", *QUICK]) == 0
    assert main(["train", "data.txt", "--quiet", "--out", "third", "--seed", "1", *QUICK]) == 0
    weights = [(tagged.parent / name).read_bytes()[-4000:] for name in ("second", "third")]
    assert first[-4000:] == weights[0] != weights[1]


def piped(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_predict(tagged, model, capsys, monkeypatch):
    text = "top\nnews\tx\ty\n\nhéllo B-X\n"
    (tagged.parent / "words").write_text(text, encoding="utf-8")
    assert main(["predict", model, "words"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"top\t\S+\nnews\tx\ty\t\S+\n\nhéllo B-X \S+\n", out)
    piped(monkeypatch, text)
    assert main(["predict", model, "--out", "tagged"]) == 0
    assert capsys.readouterr().out == "" and (tagged.parent / "tagged").read_text(encoding="utf-8") == out


def test_predict_gives_every_line_back(tagged, model, capsys):
    """Comments, ranges, blank lines, line ends, marks: but for the labels behind the words nothing changes."""
    lines = ["\ufeff# newdoc id = x", "1-2\tdon't\t_", "1\tdo\t_", "2\tn't\t", "2.1\tyou\t_", "", "", "#", "1\t#\t_"]
    content = "\r\n".join(lines).encode()
    (tagged.parent / "words").write_bytes(content)
    assert main(["predict", model, "words", "--column", "2", "--out", "out"]) == 0
    given, got = content.split(b"\r\n"), (tagged.parent / "out").read_bytes().removesuffix(b"\n").split(b"\r\n")
    words = [2, 3, 8]
    assert [line for n, line in enumerate(got) if n not in words] == [
        line for n, line in enumerate(given) if n not in words
    ]
    for n in words:
        assert re.fullmatch(re.escape(given[n].rstrip(b"\t")) + rb"\t[\w-]+", got[n])
    assert main(["evaluate", model, "out", "--column", "2,-1"]) == 2  # the tab of line 4 was filled
    one_line(capsys, "line 4", "expected 4 fields as in line 3, got 3")
    (tagged.parent / "words").write_bytes(content.replace(b"n't\t", b"n't\t_"))
    assert main(["predict", model, "words", "--column", "2", "--out", "out"]) == 0
    assert main(["evaluate", model, "out", "--column", "2,-1"]) == 0
    assert "3 of 3 words right" in capsys.readouterr().out


def test_predict_labels_what_it_read(tagged, model, capsys):
    """The labels of a column file are those of its words, comments between them or not."""
    from rnncore import load

    words = ["top", "news", "from", "kenya"]
    (tagged.parent / "words").write_text("# a = 1\n" + "# b = 2\n".join(f"x {word} O\n" for word in words))
    assert main(["predict", model, "words", "--column", "2"]) == 0
    found = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert found == load(model).predict([words])[0]


def test_sentences_piped_in(tagged, model, capsys, monkeypatch):
    """As typed in, each line is a sentence, where the first one is; nothing is left out in silence."""
    piped(monkeypatch, "top news from kenya\n\nhello\n")
    assert main(["predict", model]) == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.split("\n")] == ["top", "news", "from", "kenya", "", "hello", "", ""]
    assert "a sentence on every line" in err
    piped(monkeypatch, "top news from kenya\n\nhello\n")
    assert main(["predict", model, "--sentences"]) == 0
    assert capsys.readouterr() == (out, "")
    piped(monkeypatch, "hello\ntop news from kenya\n")
    assert main(["predict", model]) == 2
    one_line(capsys, "standard input, line 2", "--sentences", "--column 1")
    piped(monkeypatch, "top news from kenya\n")
    assert main(["predict", model, "--column", "1"]) == 0
    assert re.fullmatch(r"top news from kenya \S+\n", capsys.readouterr().out)

    piped(monkeypatch, "\n\ntop news from kenya\n")  # the first line with words decides
    assert main(["predict", model]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.split()[::2]][:2] == ["top", "news"]
    piped(monkeypatch, "\n\n")
    assert main(["predict", model]) == 0
    assert capsys.readouterr() == ("\n\n", "")


def test_output_that_is_no_file(tagged, model, capsys):
    """As in a notebook: whoever calls `main` may have put anything in the place of standard output."""

    class Cell:
        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    assert main(["predict", model, "data.txt"]) == 0
    wanted, cell = capsys.readouterr().out, Cell()
    with contextlib.redirect_stdout(cell):
        assert main(["predict", model, "data.txt"]) == 0
    assert cell.text == wanted


def test_nothing_to_evaluate(tagged, model, capsys):
    (tagged.parent / "empty").write_text("\n\n")
    assert main(["evaluate", model, "empty"]) == 2
    one_line(capsys, "empty", "no sentences")


def test_conllu_wants_its_columns(tagged, model, capsys):
    (tagged.parent / "u").write_text("# newdoc id = x\n" + "\t".join("1abcdefghi") + "\n")
    for arguments in (["train", "u", "--out", "new"], ["evaluate", model, "u"], ["predict", model, "u"]):
        assert main(arguments) == 2
        one_line(capsys, "line 2", "10 fields", "--column WORD,LABEL", "2,4")


def test_reads_gzip(tagged, model):
    (tagged.parent / "data.gz").write_bytes(gzip.compress(tagged.read_bytes()))
    assert main(["evaluate", model, "data.gz"]) == 0


def test_a_blas_without_a_name(monkeypatch):
    monkeypatch.setattr("scipy.show_config", lambda mode: {})
    assert config()["BLAS"].startswith("unknown, through SciPy ")


def test_config(capsys):
    assert main(["config"]) == 0
    assert capsys.readouterr().out.strip()


def test_version_and_help(capsys):
    for arguments in (["--version"], ["--help"], ["train", "--help"], ["predict", "--help"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip()


def test_settings_are_read(tagged):
    settings = [
        "hidden_size=6",
        "bidirectional=false",
        "embedding_size=none",
        "schedule=cosine",
        "class_weight={'O': 0.5}",
    ]
    arguments = [word for setting in settings for word in ("--set", setting)]
    assert (
        main(
            [
                "train",
                "data.txt",
                "--quiet",
                "--report",
                "r.json",
                "--threads",
                "1",
                "--set",
                "max-epochs=1",
                *arguments,
            ]
        )
        == 0
    )
    used = json.loads((tagged.parent / "r.json").read_text())["settings"]
    assert (used["hidden_size"], used["bidirectional"], used["embedding_size"]) == (6, False, None)
    assert (used["schedule"], used["n_threads"], used["max_epochs"]) == ("cosine", 1, 1)
    assert used["class_weight"]["items"] == [["O", 0.5]]


def test_test_fraction_zero_trains_on_everything(tagged):
    assert main(["train", "data.txt", "--quiet", "--test-fraction", "0", "--report", "r.json", *QUICK]) == 0
    report = json.loads((tagged.parent / "r.json").read_text())
    assert report["n_train"] == 60 and report["n_test"] == 0 and report["test_accuracy"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["dance"], ["dance"]),
        (["train", "--task", "nope"], ["nope"]),
        (["train", "data.txt", "more"], ["more"]),
        (["train", "data.txt", "--test", "data.txt", "--test-fraction", "0.1"], ["not allowed with"]),
        (["train", "data.txt", "--test-fraction", "1"], ["from 0 to less than 1"]),
        (["train", "data.txt", "--test-fraction", "nan"], ["from 0 to less than 1"]),
        (["train", "data.txt", "--test-fraction", "half"], ["from 0 to less than 1", "half"]),
        (["train", "data.txt", "--seed", "-1"], ["from 0 on"]),
        (["train", "data.txt", "--threads", "0"], ["from 1 on"]),
        (["train", "missing.txt"], ["missing.txt", "no such file"]),
        (["train", "."], ["is a folder"]),
        (["train", "data.txt", "--test", "missing.txt"], ["missing.txt"]),
        (["train", "data.txt", "--out", "."], ["is a folder"]),
        (["train", "data.txt", "--out", "no/where"], ["no folder"]),
        (["train", "data.txt", "--report", "no/where"], ["no folder"]),
        (["train", "data.txt", "--set", "hidden_size"], ["KEY=VALUE"]),
        (["train", "data.txt", "--set", "hiden_size=8"], ["hiden_size", "hidden_size"]),
        (["train", "data.txt", "--set", "zzz=8"], ["zzz", "known:"]),
        (["train", "data.txt", "--set", "hidden_size=-3"], ["hidden_size"]),
        (["train", "data.txt", "--set", "hidden_size=((((("], ["hidden_size"]),
        (["train", "data.txt", "--set", "head=hmm"], ["expected 'softmax' or 'crf'"]),
        (["train", "data.txt", "--set", "cell=tree"], ["tree"]),
        (["train", "bad.txt"], ["bad.txt, line 2", "word TAB label"]),
        (["train", "empty.txt"], ["no sentences"]),
        (["train", "one.txt"], ["one sentence"]),
        (["evaluate", "missing", "data.txt"], ["missing", "No such file"]),
        (["evaluate", ".", "data.txt"], ["directory"]),
        (["evaluate", "data.txt", "data.txt"], ["not a model file"]),
        (["predict", "data.txt"], ["not a model file"]),
        (["info", "empty.txt"], ["not a model file"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_one_clear_line(tagged, capsys, arguments, words):
    (tagged.parent / "bad.txt").write_text("a O\nb\n")
    (tagged.parent / "empty.txt").write_text("")
    (tagged.parent / "one.txt").write_text("a O\n")
    before = sorted(os.listdir())
    assert main(arguments) == 2
    one_line(capsys, *words)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_model_that_no_command_applies(tagged, capsys, command):
    rc.models.Hopfield().fit(np.sign(np.random.default_rng(0).standard_normal((2, 30)))).save("memory.safetensors")
    assert main([command, "memory.safetensors", "data.txt"]) == 2
    one_line(capsys, "Hopfield", "rnncore.load")


def test_does_not_overwrite(tagged, model, capsys):
    before = (tagged.parent / model).read_bytes()
    assert main(["train", "data.txt", "--quiet", *QUICK]) == 2
    one_line(capsys, "exists already", "--force")
    assert (tagged.parent / model).read_bytes() == before
    assert main(["train", "data.txt", "--quiet", "--force", "--seed", "3", *QUICK]) == 0
    assert (tagged.parent / model).read_bytes() != before


def test_a_full_disk_leaves_the_old_file(tagged, model, capsys, monkeypatch):
    before = (tagged.parent / model).read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["train", "data.txt", "--quiet", "--force", *QUICK]) == 2
    one_line(capsys, "No space left")
    assert (tagged.parent / model).read_bytes() == before


def test_divergence_is_said(tagged, capsys):
    assert (
        main(["train", "data.txt", "--quiet", *QUICK, "--set", "learning_rate=1e38", "--set", "activation=relu"]) == 2
    )
    one_line(capsys, "warning", "epoch 1", "learning_rate")
    assert os.path.exists("tag.safetensors")


def test_internal_errors_have_no_traceback(capsys, monkeypatch):
    def broken(options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("rnncore.cli.show.run_config", broken)
    assert main(["config"]) == 1
    one_line(capsys, "internal error", "ZeroDivisionError")

    monkeypatch.setenv("RNNCORE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["config"])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "rnncore config: interrupted\n"),
        (MemoryError(), 2, "rnncore config: not enough memory; try a smaller model or batch\n"),
        (BrokenPipeError(), 0, ""),  # the reader has seen enough
        (OSError(28, "No space left on device"), 2, "rnncore config: standard output: No space left on device\n"),
    ],
)
@pytest.mark.parametrize("last", [False, True], ids=["while it runs", "in the last flush"])
def test_how_a_command_may_end(capsys, monkeypatch, error, status, said, last):
    class Output(io.StringIO):
        def flush(self):
            raise error

    def fail(options):
        raise error

    if last and not isinstance(error, OSError):
        pytest.skip("only output fails there")
    monkeypatch.setattr(sys, "stdout", Output() if last else io.StringIO())
    monkeypatch.setattr("rnncore.cli.show.run_config", (lambda options: None) if last else fail)
    assert main(["config"]) == status
    assert capsys.readouterr().err == said
    print("what is left goes nowhere", flush=True)


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "rnncore", *arguments], capture_output=True, text=True, timeout=300, **options
    )


def test_as_a_process(tagged):
    done = run("train", "data.txt", *QUICK)
    assert done.returncode == 0 and "saved" in done.stdout
    done = run("train", "data.txt")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == ""
    done = run("predict", "tag.safetensors", input="news\nplease\n")
    assert done.returncode == 0 and done.stdout.count("\n") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_interrupt_saves_what_was_learned(tagged):
    training = subprocess.Popen(
        [sys.executable, "-m", "rnncore", "train", "data.txt", "--set", "max_epochs=1000000", "--set", "hidden_size=8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        seen = training.stderr.read(200)  # the progress bar: training is under way
        time.sleep(0.2)
        training.send_signal(signal.SIGINT)
        _, rest = training.communicate(timeout=300)
    finally:
        training.kill()
    assert training.returncode == 130, seen + rest
    assert "interrupted after" in rest and "Traceback" not in rest
    assert main(["evaluate", "tag.safetensors", "data.txt"]) == 0


def test_sentences_typed_in(tagged, model, capsys, monkeypatch):
    class Typed(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Typed("top  news\nhello\n\nmore\n"))
    assert main(["predict", model]) == 0
    out, err = capsys.readouterr()
    lines = out.split("\n")
    assert [line.split("\t")[0] for line in lines] == ["top", "news", "", "hello", "", ""]
    assert "one on a line" in err
    monkeypatch.setattr(sys, "stdin", Typed("top news\n"))
    assert main(["predict", model, "--column", "1"]) == 0


def test_predict_does_not_wait_for_the_end(tagged, model):
    """Nor does it hold what came before: what goes in without an end comes out."""
    arguments = [sys.executable, "-m", "rnncore", "predict", model]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as predicting:
        predicting.stdin.write("top\nnews\n\n" * 1100)
        predicting.stdin.flush()
        first = [predicting.stdout.readline() for _ in range(1000)]
        predicting.stdin.close()
        rest = predicting.stdout.read()
    assert first[0].startswith("top\t") and rest.count("\n") == 2300


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ there")
def test_a_reader_that_leaves_early(tagged, model):
    command = f"{sys.executable} -m rnncore predict {model} data.txt | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
