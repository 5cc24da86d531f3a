"""What the replica reads and writes: config.txt, XML weight files, ordinary model files, the command."""

import json
import warnings

import numpy as np
import pytest

import rnncore as rc
from rnncore.cli import main
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests
from rnncore.io.files import ModelFileError, read_model, write_model
from rnncore.replica import Config, ConfigWarning, HiddenLayer, Replica, default_config, load_xml, read_config
from rnncore.replica.pipeline import Geometry

SHIPPED = """/*
*	Config File, with a / in its comment
*/
IS_GRADIENT_CHECKING = false;
USE_LOG = false;
NON_LINEARITY = NL_RELU;
BATCH_SIZE = 50;
TRAINING_EPOCHS = 30; // as shipped
ITER_PER_EPO = 100;
LRATE_W = 3e-3;
LRATE_B = 1e-3;
NGRAM = 5;
TRAINING_PERCENT = 0.80;

$
LAYER = HIDDEN;
NUM_HIDDEN_NEURONS = 512;
WEIGHT_DECAY = 1e-6;
DROPOUT_RATE = 1.0;
&

$
LAYER = SOFTMAX;
NUM_CLASSES = 0;
WEIGHT_DECAY = 1e-6;
&
"""
SMALL = Config(epochs=2, iterations=10, batch_size=8, hidden=(HiddenLayer(11), HiddenLayer(6)))


@pytest.fixture
def config_file(tmp_path):
    def write(text):
        path = tmp_path / "config.txt"
        path.write_text(text)
        return str(path)

    return write


def read_quietly(path, version="1.0"):
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        return read_config(path, version), [str(note.message) for note in notes]


def test_the_shipped_file_is_read_and_keys_without_effect_are_named(config_file):
    config, notes = read_quietly(config_file(SHIPPED))
    assert config == default_config("1.1")
    without_effect = ["LRATE_B", "NON_LINEARITY", "NUM_CLASSES", "USE_LOG"]
    assert sorted(note.split(": ")[1].split()[0] for note in notes) == without_effect
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfigWarning)
        with pytest.raises(ConfigWarning, match="USE_LOG has no effect"):
            read_config(config_file(SHIPPED))


def test_a_warning_says_what_happens_instead(config_file):
    _, notes = read_quietly(config_file(SHIPPED.replace("NL_RELU", "NL_TANH")))
    assert any("the hidden layers are ReLU whatever it says" in note for note in notes)


def test_the_reader_is_tolerant_where_the_original_was_fragile(config_file):
    text = SHIPPED.replace("\n", "\r\n").replace("BATCH_SIZE = 50;", "BATCH_SIZE = 20").replace("0.80;", ".5;;")
    config, _ = read_quietly(config_file(text))
    assert (config.batch_size, config.training_fraction) == (20, 0.5)
    config, notes = read_quietly(config_file("TRAINING_EPOCH = 3;"))
    assert config == default_config("1.0")
    assert any("TRAINING_EPOCH is no key of the original: ignored; did you mean TRAINING_EPOCHS?" in n for n in notes)
    assert any("TRAINING_EPOCHS is missing: 50 is used" in note for note in notes)
    config, notes = read_quietly(config_file(SHIPPED + "NGRAM = 7;"))
    assert config.ngram == 5
    assert any("NGRAM is given twice: the first counts" in note for note in notes)
    two = SHIPPED.replace(
        "$\nLAYER = SOFTMAX", "$ LAYER=HIDDEN; NUM_HIDDEN_NEURONS=64; WEIGHT_DECAY=0; &\n$\nLAYER = SOFTMAX"
    )
    config, notes = read_quietly(config_file(two))
    assert config.hidden == (HiddenLayer(), HiddenLayer(64, 0.0))
    assert any("DROPOUT_RATE in hidden layer 1 is missing: 1.0 is used" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("BATCH_SIZE = 50", "BATCH_SIZE = many"),
            "line 7: BATCH_SIZE must be a whole number of at least 1, got 'many'",
        ),
        (("BATCH_SIZE = 50", "BATCH_SIZE = 0"), "at least 1, got '0'"),
        (("BATCH_SIZE = 50", "BATCH_SIZE 50"), "line 7: expected KEY = VALUE"),
        (("LRATE_W = 3e-3", "LRATE_W = nan"), "LRATE_W must be a number of at least 0"),
        (("TRAINING_PERCENT = 0.80", "TRAINING_PERCENT = 80"), "a share, from 0 to 1, got '80'"),
        (("CHECKING = false", "CHECKING = maybe"), "true or false, got 'maybe'"),
        (("DROPOUT_RATE = 1.0", "DROPOUT_RATE = 0"), "the probability of keeping a unit"),
        (("LAYER = HIDDEN", "LAYER = HIDEN"), "line 16: a layer block needs LAYER = HIDDEN; or LAYER = SOFTMAX;"),
        (("LAYER = HIDDEN", "LAYER = SOFTMAX"), "no HIDDEN layer"),
        (("LAYER = SOFTMAX", "LAYER = HIDDEN"), "expected one SOFTMAX layer, got 0"),
        (("&\n\n$", "\n\n$"), "has no & at its end"),
        (("\n*/", "\n"), "line 1: this comment is never closed"),
    ],
)
def test_malformed_files_give_one_clear_error(config_file, change, message):
    with pytest.raises(DataError) as error:
        read_quietly(config_file(SHIPPED.replace(*change)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_no_replica_can_be_is_refused(config_file, tmp_path):
    (tmp_path / "config.txt").write_bytes(b"BATCH_SIZE = \xff;")
    with pytest.raises(DataError, match=r"config.txt: not a text file; expected the original's config.txt"):
        read_config(tmp_path / "config.txt")
    for options, message in (
        ({"accumulators": "none"}, "accumulators must be one of .*, got 'none'"),
        ({"split": "even"}, "split must be one of .*, got 'even'"),
        ({"version": "3.0"}, "version must be one of .*, got '3.0'"),
    ):
        with pytest.raises(ValueError, match=message):
            Replica(**{"config": SMALL, **options})
    with pytest.raises(ValueError, match="ngram must be at least 1, got 0"):
        Geometry("1.0", 0)
    replica = Replica("1.0", SMALL).fit(*news_requests(60))
    assert replica.predict([]) == [] and replica.predict([[], []]) == [[], []]
    with pytest.raises(DataError, match="unknown label 'new'; known: "):
        replica.geometry.targets([["new"]], {label: n for n, label in enumerate(replica.alphabet_.labels)})


def test_a_forged_tagger_is_refused(tmp_path):
    tagger = Replica("1.0", SMALL).fit(*news_requests(60)).to_tagger()
    tagger.save(tmp_path / "m")
    for change, message in (
        (lambda header, arrays: header["settings"].update(hidden=[10**6]), "sizes of the layers do not go with the"),
        (lambda header, arrays: arrays.pop(next(iter(arrays))), "the weights do not go with the sizes of the layers"),
    ):
        header, arrays = read_model(tmp_path / "m")
        change(header, arrays)
        write_model(tmp_path / "forged", header["kind"], header, arrays)
        with pytest.raises(ModelFileError, match=message):
            rc.load(tmp_path / "forged")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_xml_brings_the_same_weights_back(version, tmp_path):
    sentences, tags = news_requests(80)
    sentences[0][0] = 'a"<b&\\'  # nothing that XML or quotes could spoil
    replica = Replica(version, SMALL).fit(sentences, tags)
    path = tmp_path / "weights.xml"
    replica.save_xml(path)
    labels = replica.alphabet_.labels
    again = load_xml(path, labels=labels[1:], config=SMALL)
    assert again.version == version
    assert again.alphabet_ == replica.alphabet_
    assert all(np.array_equal(again.weights()[name], array) for name, array in replica.weights().items())
    assert again.predict(sentences) == replica.predict(sentences)
    numbered = load_xml(path, config=SMALL).predict(sentences[:3])
    assert [[labels[int(n)] for n in line] for line in numbered] == replica.predict(sentences[:3])
    with pytest.raises(DataError, match=f"expected {len(labels) - 1} labels, got 2"):
        load_xml(path, labels=["A", "B"])


def test_files_as_opencv_writes_them_are_read(tmp_path):
    path = tmp_path / "opencv.xml"

    def matrix(name, rows, columns, data):
        kind = f'{name} type_id="opencv-matrix"'
        return f"<{kind}><rows>{rows}</rows><cols>{columns}</cols><dt>d</dt><data>\n{data}</data></{name}>\n"

    text = '<?xml version="1.0"?>\n<opencv_storage>\n'
    text += matrix("smr_W", 2, 1, "1. -2.5e-01") + matrix("hlayer0_W", 1, 1, " .5")
    text += matrix("hlayer0_U", 1, 4, "1. 2.\n 3. 4.")
    text += (
        '<re_resolmap>\n  news "top &amp; \\"more\\"" ___UNDEFINED___\n  ___PADDING___</re_resolmap>\n</opencv_storage>'
    )
    path.write_text(text)
    replica = load_xml(path, labels=["O"])
    assert replica.alphabet_.words == ["news", 'top & "more"', "___UNDEFINED___", "___PADDING___"]
    np.testing.assert_array_equal(replica.weights()["smr_W"], [[1], [-0.25]])
    for broken, message in [
        (text[:-40], "not an XML file, or damaged"),
        (text.replace("<dt>d</dt>", "<dt>u</dt>", 1), "expected a matrix of numbers .dt d., got dt 'u'"),
        (text.replace('top &amp; \\"more\\""', "top &amp; more"), "a word's closing quote is missing"),
        (text.replace(matrix("smr_W", 2, 1, "1. -2.5e-01"), matrix("smr_W", 1, 2, "1. 2.")), "smr_W: expected"),
        (text.replace("hlayer0_U", "hlayer0_X"), "hlayer0_U is missing"),
        (text.replace("<rows>2", "<rows>3"), "smr_W: 3 x 1 numbers are announced, 2 are there"),
        (text.replace("-2.5e-01", "x"), "smr_W: not an opencv-matrix of numbers"),
        (text.replace("___PADDING___", "end"), "the word list must end with"),
        (text.replace("<cols>4", "<cols>2").replace(" 3. 4.", ""), "hlayer0_U: expected"),
        ("<html/>", "expected OpenCV's <opencv_storage>"),
    ]:
        path.write_text(broken)
        with pytest.raises(DataError, match=message):
            load_xml(path)
    with pytest.raises(DataError, match="No such file"):
        load_xml(tmp_path / "none.xml")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_a_replica_becomes_an_ordinary_tagger(version, keep, tmp_path):
    sentences, tags = news_requests(80)
    config = Config(**{**vars(SMALL), "ngram": 4, "hidden": (HiddenLayer(11, keep=keep), HiddenLayer(6, keep=keep))})
    replica = Replica(version, config).fit(sentences, tags)
    tagger = replica.to_tagger()
    assert tagger.predict(sentences) == replica.predict(sentences)
    assert tagger.predict_proba([["top", "news"], []])[0].shape == (2, len(tagger.classes_))
    right, total = tagger.count_correct(sentences, tags)
    assert tagger.score(sentences, tags) == right / total
    tagger.save(tmp_path / "model.safetensors")
    again = rc.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.network_.theta, tagger.network_.theta)
    assert again.predict(sentences) == tagger.predict(sentences)
    words = tmp_path / "words.txt"
    words.write_text("".join(f"{w}\t{t}\n" for w, t in zip(sentences[0], tags[0], strict=True)))
    for command in ("evaluate", "predict", "info"):
        files = [] if command == "info" else [str(words)]
        assert main([command, str(tmp_path / "model.safetensors"), *files]) == 0


# ---------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def data_file(tmp_path):
    sentences, tags = news_requests(100)
    blocks = ["".join(f"{w}\t{t}\n" for w, t in zip(*pair, strict=True)) for pair in zip(sentences, tags, strict=True)]
    path = tmp_path / "data.txt"
    path.write_text("\n".join(blocks))
    return str(path)


QUICK = SHIPPED.replace("= 512", "= 16").replace("ITER_PER_EPO = 100", "ITER_PER_EPO = 15").replace("= 30;", "= 2;")


def test_the_command_reports_what_it_did(data_file, config_file, tmp_path, capsys):
    report, out = tmp_path / "report.json", tmp_path / "weights.xml"
    command = ["replica", data_file, "--config", config_file(QUICK), "--version", "1.1", "--threads", "1"]
    assert main([*command, "--report", str(report), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "NON_LINEARITY has no effect" in told.err
    assert "31 iterations" in told.out
    found = json.loads(report.read_text())
    assert found["task"] == "replica"
    assert (found["n_train"], found["n_test"]) == (80, 20)
    assert {"fit_seconds", "history", "settings", "version", "train_accuracy", "train_total"} <= set(found)
    assert found["test_accuracy"] == found["test_correct"] / found["test_total"]
    assert len(found["history"]) == 2
    assert [len(found["costs"][f"J{i}"]) for i in (1, 2, 3, 4)] == [31] * 4
    assert load_xml(out).version == "1.1"


def test_the_command_prints_the_originals_lines_or_nothing(data_file, config_file, capsys):
    path = config_file(QUICK)
    assert main(["replica", data_file, "--config", path, "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch: 1, iter: 0, J1 = 2.")
    assert ", J2 = " in lines[0] and ", Cost = 2." in lines[0]
    assert sum(line.startswith("## test result. ") for line in lines) == 4
    assert main(["replica", data_file, "--config", path, "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.out == told.err == ""


def test_an_interrupt_keeps_what_was_learned(data_file, config_file, tmp_path, capsys, monkeypatch):
    report, out = tmp_path / "report.json", tmp_path / "weights.xml"
    command = ["replica", data_file, "--config", config_file(QUICK), "--quiet", "--report", str(report)]

    def stop(talk, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rnncore.cli.replica._Talk.epoch", stop)
        assert main([*command, "--out", str(out)]) == 130
        said = capsys.readouterr().err.splitlines()[-1]
        found = json.loads(report.read_text())
        n = len(found["costs"]["J1"])
        assert said == f"rnncore replica: interrupted after {n} iterations; saved what was learned in {out}"
        assert 0 < n < 31 and load_xml(out).version == "1.0"
        assert main(command) == 130
        assert capsys.readouterr().err.splitlines()[-1] == f"rnncore replica: interrupted after {n} iterations"
    monkeypatch.setattr("rnncore.replica.Replica.fit", lambda *given: stop(None, None))
    report.unlink()
    assert main(command) == 130
    assert capsys.readouterr().err.endswith("rnncore replica: interrupted\n") and not report.exists()


def test_odd_runs_still_report(data_file, config_file, tmp_path):
    report = tmp_path / "report.json"
    no_test = QUICK.replace("PERCENT = 0.80", "PERCENT = 1")
    assert main(["replica", data_file, "--config", config_file(no_test), "--report", str(report)]) == 0
    found = json.loads(report.read_text())
    assert (found["n_test"], found["test_total"], found["test_accuracy"]) == (0, 0, None)
    diverging = QUICK.replace("LRATE_W = 3e-3", "LRATE_W = 1e300")
    assert main(["replica", data_file, "--config", config_file(diverging), "--report", str(report)]) == 0
    assert "NaN" not in report.read_text()
    assert json.loads(report.read_text())["costs"]["J4"][-1] is None


def test_gradient_checking_is_a_mode_with_a_verdict(data_file, config_file, capsys):
    path = config_file(QUICK.replace("CHECKING = false", "CHECKING = true"))
    assert main(["replica", data_file, "--config", path]) == 0
    assert "gradient check passed" in capsys.readouterr().out
    assert main(["replica", data_file, "--config", path, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_bad_files_end_in_one_line_and_status_2(data_file, config_file, tmp_path, capsys):
    bad = tmp_path / "bad.txt"
    bad.write_text("one two three\n")
    for arguments in (
        [str(tmp_path / "none.txt")],
        [str(bad)],
        [data_file, "--config", config_file("BATCH_SIZE = x;")],
        [data_file, "--config", str(tmp_path / "none.txt")],
        [data_file, "--config", config_file(QUICK.replace("BATCH_SIZE = 50", "BATCH_SIZE = 99999"))],
        [data_file, "--out", str(tmp_path / "no" / "weights.xml")],
        [data_file, "--version", "2.0"],
    ):
        assert main(["replica", *arguments, "--quiet"]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert len(told.err.strip().splitlines()) == 1, told.err
        assert "Traceback" not in told.err
