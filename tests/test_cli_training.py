"""`rnncore train`, its files: configuration, presets, columns, checkpoints, pictures, tables."""

import gzip
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.cli import main
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests
from rnncore.io.checkpoints import read_checkpoint
from rnncore.io.files import read_model, write_model
from rnncore.plots import plot_report

QUICK = ["--set", "hidden_size=8", "--set", "max_epochs=2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentences, tags = news_requests(60)
    write("data.txt", sentences, tags)
    return tmp_path


def write(path, sentences, tags, form="{word}\t{tag}\n"):
    with open(path, "w") as file:
        for words, labels in zip(sentences, tags, strict=True):
            for word, tag in zip(words, labels, strict=True):
                file.write(form.format(word=word, tag=tag))
            file.write("\n")


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("rnncore") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err
    return out


# -- configuration --------------------------------------------------------------------------------------------------


def test_configuration_file(here):
    (here / "c.toml").write_text(
        'data = "data.txt"\nseed = 3\ntest_fraction = 0.5\nquiet = true\nreport = "r.json"\nout = "m"\n'
        "[settings]\nhidden_size = 8\nmax_epochs = 2\nclass_weight = {O = 0.5}\n"
    )
    assert main(["train", "--config", "c.toml"]) == 0
    report = json.loads((here / "r.json").read_text())
    assert (report["n_train"], report["n_test"], report["data"]) == (30, 30, "data.txt")
    settings = report["settings"]
    assert (settings["hidden_size"], settings["random_state"]) == (8, 3)
    assert settings["class_weight"]["items"] == [["O", 0.5]]
    assert main(["train", "--config", "c.toml", "--out", "m2", "--seed", "4", "--set", "hidden_size=6"]) == 0
    settings = json.loads((here / "r.json").read_text())["settings"]
    assert (settings["hidden_size"], settings["random_state"], settings["max_epochs"]) == (6, 4, 2)


def test_options_of_optimizer_schedule_and_cell(here):
    (here / "c.toml").write_text(
        "[settings]\ncell = 'gru'\nhidden_size = 8\nmax_epochs = 2\n"
        "[settings.optimizer]\nbeta1 = 0.8\n[settings.schedule]\nname = 'cosine'\nwarmup = 5\n"
        "[settings.cell_options]\nreset = 'before'\n"
    )
    sets = ["cell=gru", "hidden_size=8", "max_epochs=2", "optimizer=adam", "optimizer.beta1=0.8", "schedule=cosine"]
    sets += ["schedule.warmup=5", "cell_options.reset=before"]
    as_sets = [word for one in sets for word in ("--set", one)]
    common = ["train", "data.txt", "--quiet", "--force", "--report", "r.json"]
    weights = {}
    for name, arguments in {
        "file": ["--config", "c.toml"],
        "sets": as_sets,
        "other beta": ["--config", "c.toml", "--set", "optimizer.beta1=0.9"],
        "other warmup": [*as_sets, "--set", "schedule.warmup=50"],
        "other reset": [*as_sets, "--set", "cell_options.reset=after"],
        "by default": ["--set", "schedule.warmup=5", *QUICK],
    }.items():
        assert main([*common, *arguments]) == 0, name
        weights[name] = read_model("tag.safetensors")[1]["head.W_hy"].tobytes()
    assert weights["file"] == weights["sets"] and len(set(weights.values())) == 5
    settings = json.loads((here / "r.json").read_text())["settings"]
    assert settings["schedule"]["items"] == [["name", "linear"], ["warmup", 5]]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.beta3=1", ["adam has no option 'beta3'", "beta1"]),
        ("schedule.speed=1", ["linear has no option 'speed'", "warmup"]),
        ("cell_options.reset=before", ["cell_options of elman"]),
        ("hidden_size.big=1", ["hidden_size has no options", "cell_options"]),
        ("optimizer.=1", ["optimizer has no options"]),
        ("zzz.a=1", ["no parameter 'zzz'"]),
    ],
)
def test_options_that_are_not_there(here, capsys, setting, words):
    refused(capsys, ["train", "data.txt", "--quiet", "--set", setting], *words)


def test_a_file_to_watch(here, capsys):
    write("valid.txt", *news_requests(20, 1))
    arguments = ["train", "data.txt", "--test-fraction", "0", "--valid", "valid.txt", "--report", "r.json", *QUICK]
    assert main(arguments) == 0
    assert "20 to watch" in capsys.readouterr().out
    report = json.loads((here / "r.json").read_text())
    assert report["n_train"] == 60 and report["valid"] == "valid.txt"
    assert all({"val_loss", "val_score"} <= record.keys() for record in report["history"])
    refused(capsys, ["train", "data.txt", "--force", "--valid", "none.txt"], "none.txt")


def test_settings_are_listed(capsys):
    assert main(["train", "--settings"]) == 0
    out = capsys.readouterr().out
    assert "hidden_size = None\n    Units of a" in out and "recurrent_dropout = 0.2\n    Share dropped" in out
    assert out.count(" = ") >= 36 and all(len(line) <= 120 for line in out.splitlines())


def test_presets(here):
    arguments = ["train", "data.txt", "--quiet", "--report", "r.json"]
    assert main([*arguments, "--preset", "fast", "--set", "max_epochs=1"]) == 0
    settings = json.loads((here / "r.json").read_text())["settings"]
    assert (settings["effort"], settings["max_epochs"]) == ("low", 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("hidden_size = 8", ["hidden_size", "belongs under [settings]"]),
        ("tset = 'x'", ["no option tset", "did you mean test"]),
        ("zzz = 1", ["no option zzz", "known: data"]),
        ("seed = 'x'", ["seed must be a whole number, got 'x'"]),
        ("seed = true", ["seed must be a whole number, got True"]),
        ("seed = -1", ["seed must be a whole number from 0 on"]),
        ("test_fraction = 1.5", ["test_fraction must be a number from 0 to less than 1"]),
        ("quiet = 1", ["quiet must be true or false"]),
        ("task = 'sing'", ["task must be one of tag"]),
        ("preset = 'x'", ["preset must be one of default"]),
        ("column = 'x'", ["column: expected the columns of word and label"]),
        ("settings = 3", ["settings must be a table"]),
        ("[settings]\nhiden_size = 8", ["[settings] hiden_size", "did you mean hidden_size"]),
        ("[settings]\nhidden_size = 'many'", ["hidden_size"]),
        ("[settings]\nhidden_size = 2024-01-01", ["hidden_size"]),
        ("a = \nb = 1", ["not TOML", "line 1"]),
        ("\ud800", ["not UTF-8"]),
        ("a = " + "[" * 5000, ["not TOML"]),
    ],
)
def test_bad_configuration(here, capsys, content, words):
    (here / "c.toml").write_bytes(content.encode("utf-8", "surrogatepass"))
    refused(
        capsys,
        ["train", "data.txt", "--config", "c.toml"],
        "c.toml" if "many" not in content and "2024" not in content else "",
        *words,
    )


def test_missing_configuration(here, capsys):
    refused(capsys, ["train", "data.txt", "--config", "none.toml"], "none.toml", "No such file")
    refused(capsys, ["train", "data.txt", "--config", "."], ".")


# -- columns --------------------------------------------------------------------------------------------------------


def test_columns(here, capsys):
    sentences, tags = news_requests(60)
    write("conll.txt", sentences, tags, "7 {word} NN x {tag}\n")
    text = "-DOCSTART- -X- O\n\n# sent_id = 1\n" + (here / "conll.txt").read_text()
    (here / "conll.txt").write_text(text)
    for column in ("2,-1", "2,5", "2", "-4,-1"):
        assert main(["train", "conll.txt", "--quiet", "--force", f"--column={column}", *QUICK]) == 0
    assert main(["train", "data.txt", "--quiet", "--out", "plain", *QUICK]) == 0
    assert read_model("plain")[1]["head.W_hy"].tobytes() == read_model("tag.safetensors")[1]["head.W_hy"].tobytes()
    assert main(["evaluate", "plain", "conll.txt", "--column", "2,5"]) == 0
    shown = [*capsys.readouterr().out.splitlines()]
    assert main(["evaluate", "plain", "data.txt"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == shown[:-1]  # but for the speed
    assert main(["predict", "plain", "conll.txt", "--column", "2", "--out", "tagged.txt"]) == 0
    lines = (here / "tagged.txt").read_text().splitlines()
    assert lines[:3] == ["-DOCSTART- -X- O", "", "# sent_id = 1"]
    assert lines[3].split(" ")[:5] == ["7", sentences[0][0], "NN", "x", tags[0][0]] and len(lines[3].split(" ")) == 6
    refused(
        capsys,
        ["train", "conll.txt", "--force", "--column", "2,9"],
        "conll.txt, line 4: there is no column 2, 9",
        "5 fields",
    )
    refused(capsys, ["predict", "plain", "conll.txt", "--column=-6"], "line 4: there is no column -6")
    for column in ("0,1", "a", "1,2,3", "", "1;2", "-", "9999999,1"):
        refused(capsys, ["train", "conll.txt", "--force", f"--column={column}"], "columns of word and label")


# -- tables and reports ---------------------------------------------------------------------------------------------


def test_evaluation_is_shown_and_reported(here, capsys):
    assert main(["train", "data.txt", "--report", "r.json", *QUICK]) == 0
    out = capsys.readouterr().out
    for word in ("known words", "unknown words", "precision", "KEYWORDS", "together", "most often mistaken"):
        assert word in out
    report = json.loads((here / "r.json").read_text())
    evaluation = report["evaluation"]
    assert evaluation["known"]["total"] + evaluation["unknown"]["total"] == report["test_total"]
    assert evaluation["entities"]["all"]["there"] > 0 and evaluation["labels"]["O"]["there"] > 0
    assert main(["evaluate", "tag.safetensors", "data.txt", "--report", "e.json"]) == 0
    out = capsys.readouterr().out
    assert "words/s" in out and "F1" in out
    assert set(json.loads((here / "e.json").read_text())["evaluation"]) == set(evaluation)
    assert main(["evaluate", "tag.safetensors", "data.txt", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_labels_that_are_no_chunks(here, capsys):
    sentences, tags = news_requests(60)
    write("pos.txt", sentences, [[f"L{len(tag)}" for tag in labels] for labels in tags])
    assert main(["train", "pos.txt", "--report", "r.json", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "labels " in out and "L10" in out
    assert json.loads((here / "r.json").read_text())["evaluation"]["entities"] is None


def test_a_table_of_many_labels_leaves_the_rarest_out(here, capsys):
    write("many.txt", [[f"w{n}" for n in range(42)], ["w7"] * 2], [[f"L{n:02}" for n in range(42)], ["L07"] * 2])
    arguments = ["train", "many.txt", "--test", "many.txt", "--report", "r.json", *QUICK]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if re.match(r" *L\d\d ", line)]
    assert len(rows) == 40 and "L07" in rows[0] and "(2 rarer ones not shown; --report has all)" in out
    assert len(json.loads((here / "r.json").read_text())["evaluation"]["labels"]) >= 42


# -- checkpoints ----------------------------------------------------------------------------------------------------

TRAIN = ["data.txt", "--quiet", "--test-fraction", "0.3", "--set", "hidden_size=8", "--set", "max_epochs=300"]
OFTEN = ["--checkpoint-every", "0"]


def start(*arguments):
    return subprocess.Popen([sys.executable, "-m", "rnncore", "train", *arguments], stderr=subprocess.PIPE, text=True)


def wait_for(path, process):
    for _ in range(20_000):
        if os.path.exists(path) or process.poll() is not None:
            return
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_at_any_moment(here, monkeypatch):
    """Killed again and again while it writes checkpoints without a pause, it ends with the same bits."""
    checkpoint = "cut.checkpoint"
    assert main(["train", *TRAIN, "--out", "whole"]) == 0
    draw = random.Random(0)
    killed = 0
    arguments = [*TRAIN, "--out", "cut", *OFTEN]
    for _ in range(4):
        process = start(*arguments)
        wait_for(checkpoint, process)
        time.sleep(draw.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
        killed += process.returncode == -signal.SIGKILL
        if os.path.exists(checkpoint):  # always sound: it is written whole or not at all
            read_model(checkpoint)
            arguments = ["--resume", checkpoint, "--quiet", *OFTEN]
    assert killed >= 3
    assert main(["train", "--resume", checkpoint, "--quiet", "--report", "r.json"]) == 0
    (_, cut), (_, whole) = read_model("cut"), read_model("whole")
    assert cut.keys() == whole.keys()
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)
    assert len(json.loads((here / "r.json").read_text())["history"]) == 300
    assert sorted(os.listdir()) == ["cut", "data.txt", "r.json", "whole"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_disk_that_fills_up(here):
    """Files that cannot grow: first the checkpoints, then the model; with room again, the training goes on."""
    assert main(["train", *TRAIN, "--out", "whole"]) == 0
    process = start(*TRAIN, "--out", "cut", *OFTEN)
    wait_for("cut.checkpoint", process)
    process.kill()
    process.communicate(timeout=300)
    half_written = {name for name in os.listdir() if name.endswith(".tmp")}  # of the moment it was killed in
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "from rnncore.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "train", "--resume", "cut.checkpoint", "--quiet", *OFTEN],
        capture_output=True,
        text=True,
        timeout=300,
        env={name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}  # it writes, too
        | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert "cut.checkpoint: File too large; training goes on without a new checkpoint" in warning
    assert error == "rnncore train: cut: File too large; when that is mended, go on with --resume cut.checkpoint"
    assert sorted(set(os.listdir()) - half_written) == ["cut.checkpoint", "data.txt", "whole"]
    assert main(["train", "--resume", "cut.checkpoint", "--quiet"]) == 0
    (_, cut), (_, whole) = read_model("cut"), read_model("whole")
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_and_read_only_targets(here, capsys, monkeypatch):
    assert main(["train", "data.txt", "--quiet", *QUICK]) == 0
    refused(capsys, ["predict", "tag.safetensors", "data.txt", "--out", "/dev/full"], "/dev/full: No space left")
    refused(capsys, ["evaluate", "tag.safetensors", "data.txt", "--quiet", "--report", "/dev/full"], "No space left")
    assert main(["predict", "tag.safetensors", "data.txt", "--out", "/dev/null"]) == 0
    assert not os.path.isfile("/dev/null")
    before, asked = (here / "tag.safetensors").read_bytes(), os.access
    monkeypatch.setattr(os, "access", lambda name, mode: mode != os.W_OK and asked(name, mode))
    refused(capsys, ["train", "data.txt", "--force", *QUICK], "no permission to write in")
    monkeypatch.setattr(os, "access", lambda name, mode: asked(name, mode) and not os.path.isfile(name))
    refused(capsys, ["train", "data.txt", "--force", *QUICK], "tag.safetensors: the file is read-only")
    assert (here / "tag.safetensors").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_interrupted_and_resumed(here, capsys, name, status):
    process = start(*TRAIN, *OFTEN)
    wait_for("tag.safetensors.checkpoint", process)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=300)
    assert process.returncode == status and "go on with --resume tag.safetensors.checkpoint" in err
    refused(capsys, ["train", *TRAIN, "--out", "tag.safetensors"], "exists already")
    os.unlink("tag.safetensors")
    refused(capsys, ["train", *TRAIN], "tag.safetensors.checkpoint is there", "--resume", "--force")
    assert main(["train", "--resume", "tag.safetensors.checkpoint"]) == 0
    assert "resumed" in capsys.readouterr().out
    assert not os.path.exists("tag.safetensors.checkpoint")


def test_interrupted_before_there_is_anything_to_save(here, capsys, monkeypatch):
    def stop(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(rc.SequenceTagger, "fit", stop)
    assert main(["train", "data.txt", "--quiet"]) == 130
    assert capsys.readouterr() == ("", "rnncore train: interrupted\n") and os.listdir() == ["data.txt"]


def test_what_resume_refuses(here, capsys):
    assert main(["train", "data.txt", "--quiet", *QUICK]) == 0
    refused(capsys, ["train", "--resume", "missing"], "missing", "No such file")
    refused(capsys, ["train", "--resume", "tag.safetensors"], "not a checkpoint")
    refused(capsys, ["train", "--resume", "data.txt"], "not a model file")
    refused(capsys, ["train", "--resume", "x", "--seed", "3"], "leave out --seed")
    refused(capsys, ["train", "--resume", "x", *QUICK], "leave out --set")
    refused(capsys, ["train", "--resume", "x", "--valid", "data.txt"], "leave out --valid")
    refused(capsys, ["train", "data.txt", "--checkpoint-every", "-1"], "seconds from 0 on")
    refused(capsys, ["train", "data.txt", "--force", "--checkpoint", "no/where"], "no folder")
    (here / "c.toml").write_text('test = "data.txt"\ntest_fraction = 0.5\n')
    refused(capsys, ["train", "data.txt", "--force", "--config", "c.toml"], "test and test_fraction exclude each other")


def test_checkpoints_of_something_else_are_refused(here, capsys):
    """Of `rc.Trainer`, of another estimator, and one whose training is missing."""
    x, y = np.zeros((3, 2, 2), "float32"), np.zeros((3, 2), int)
    net = rc.Network(rc.Recurrent("elman", 2, 3), head=rc.Softmax(2))
    rc.Trainer(net, rc.SGD(0.1), [(x, y)], max_epochs=1, checkpoint="own", checkpoint_every=0.0).run()
    refused(capsys, ["train", "--resume", "own"], "not of rnncore train", "fit(resume=...)")
    with pytest.raises(DataError, match="a checkpoint of something else, 'Trainer'"):
        rc.SequenceTagger().fit([["a"]], [["b"]], resume="own")
    process = start(*TRAIN, "--out", "cut", *OFTEN)
    wait_for("cut.checkpoint", process)
    process.kill()
    process.communicate(timeout=300)
    header, arrays = read_checkpoint("cut.checkpoint")
    del header["trainer"]["position"]
    write_model("cut.checkpoint", "Checkpoint", header, arrays)
    refused(capsys, ["train", "--resume", "cut.checkpoint", "--quiet"], "cut.checkpoint", "do not fit together")


# -- pictures -------------------------------------------------------------------------------------------------------


def test_plots(here):
    peer("matplotlib")
    assert main(["train", "data.txt", "--quiet", "--plot", "c.png", *QUICK, "--set", "early_stopping=true"]) == 0
    assert (here / "c.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["train", "data.txt", "--quiet", "--force", "--test-fraction", "0", "--plot", "c.svg", *QUICK]) == 0
    assert b"<svg" in (here / "c.svg").read_bytes()


def report_of(n_labels, validated=True):
    from rnncore.metrics import evaluation

    labels = [f"B-LABEL-{i}" for i in range(n_labels)]
    history = [{"epoch": n, "loss": 2.0 * 0.8**n, "seconds": 1.0} for n in range(1, 21)]
    for record in history if validated else ():
        record |= {"val_loss": 1.0 / record["epoch"], "val_score": 0.9 - abs(record["epoch"] - 13) / 100}
    return {
        "history": history,
        "settings": {"cell": "elman", "hidden_size": 32, "num_layers": 2, "bidirectional": True},
        "evaluation": evaluation([labels], [[*labels[1:], labels[0]]]),
        "test_accuracy": 0.25,
    }


def drawn(report, path, monkeypatch):
    """The figure, as it was drawn."""
    figures = []
    figure_class = peer("matplotlib.figure").Figure
    save = figure_class.savefig

    def seen(figure, *rest, **more):
        figures.append(figure)
        save(figure, *rest, **more)

    monkeypatch.setattr(figure_class, "savefig", seen)
    plot_report(report, path)
    return figures[0]


@pytest.mark.parametrize("n_labels", [1, 5, 100, 300])
def test_what_a_plot_shows(here, monkeypatch, n_labels):
    """Model and scores on top, the best epoch, ticks one can read, legends beside the lines and bars, every label."""
    peer("matplotlib")
    figure = drawn(report_of(n_labels), "c.png", monkeypatch)
    title = figure._suptitle.get_text()
    assert "2 x elman 32, both directions" in title and "accuracy 0.2500" in title and "F1" in title
    curve, errors = (axes for axes in figure.axes if axes.get_legend())
    assert "best epoch, 13" in [text.get_text() for text in curve.get_legend().get_texts()]
    canvas = peer("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    low, high = curve.get_ylim()
    places = zip(curve.get_yticklabels(), curve.get_yticks(), strict=True)
    ticks = [tick.get_text() for tick, at in places if low <= at <= high]
    assert len(ticks) >= 3 and all(float(tick) > 0 and "10^" not in tick for tick in ticks)
    for axes in (curve, errors):
        assert not axes.get_legend().get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))
    boxes = [label.get_window_extent(renderer) for label in errors.get_yticklabels()]
    assert len(boxes) == min(n_labels, 100)
    assert all(one.y1 <= other.y0 + 0.5 for one, other in itertools.pairwise(boxes))


def test_a_plot_without_a_test(here, monkeypatch):
    peer("matplotlib")
    report = report_of(3, validated=False) | {"evaluation": None, "test_accuracy": None}
    figure = drawn(report, "c.svg", monkeypatch)
    assert figure._suptitle.get_text() == "2 x elman 32, both directions"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["loss, training"]


def test_plots_that_cannot_be(here, capsys, monkeypatch):
    refused(capsys, ["train", "data.txt", "--plot", "c.exe"], "ends in .png, .svg, .pdf")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(capsys, ["train", "data.txt", "--plot", "c.png"], "pip install 'rnncore[plot]'")


# -- what predict takes ---------------------------------------------------------------------------------------------


def test_predict_reads_every_form(here, capsys, monkeypatch):
    assert main(["train", "data.txt", "--quiet", *QUICK]) == 0
    plain = b"top\tx\nnews\n\nfrom\nkenya\n"
    forms = [plain, plain.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + plain, gzip.compress(plain)]
    outputs = set()
    for form in forms:
        (here / "words").write_bytes(form)
        assert main(["predict", "tag.safetensors", "words"]) == 0
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(form)))
        assert main(["predict", "tag.safetensors", "-"]) == 0
        out = capsys.readouterr().out
        assert out == out[: len(out) // 2] * 2
        outputs.add(out.replace("\r\n", "\n").removeprefix("\ufeff")[: len(out) // 2])
    assert all(out.startswith("top\tx\t") for out in outputs)


# -- output that cannot be written ----------------------------------------------------------------------------------


EVERY_COMMAND = [
    ["--version"], ["--help"], ["config"], ["info", "tag.safetensors"], ["train", "data.txt", "--force", *QUICK],
    ["evaluate", "tag.safetensors", "data.txt"], ["predict", "tag.safetensors", "data.txt"],
    ["replica", "data.txt", "--config", "config.txt"],
]  # fmt: skip


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("how", [">&-", "> /dev/full"])
@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=lambda arguments: arguments[0])
def test_output_closed_or_full(here, arguments, how):
    """One line and a code, no traceback, whatever the command."""
    if arguments[0] == "replica":
        (here / "config.txt").write_text("TRAINING_EPOCHS = 1\nITER_PER_EPO = 1\n")
    elif "tag.safetensors" in arguments:
        assert main(["train", "data.txt", "--quiet", *QUICK]) == 0
    command = " ".join([sys.executable, "-m", "rnncore", *arguments])
    done = subprocess.run(f"{command} {how}", shell=True, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stderr.split("\r")[-1].splitlines() if "rnncore" in line and "warning" not in line]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1 and "standard output" in lines[0], done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_what_needs_no_output_goes_on_without(here):
    for arguments in (
        ["train", "data.txt", "--quiet", *QUICK],
        ["predict", "tag.safetensors", "data.txt", "--out", "o"],
    ):
        command = " ".join([sys.executable, "-m", "rnncore", *arguments])
        assert subprocess.run(f"{command} >&- 2>&-", shell=True, timeout=300).returncode == 0
    assert (here / "o").exists()
