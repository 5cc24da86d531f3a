"""The command with --task transcribe: train, evaluate, predict, info, and the files it reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import rnncore as rc
from rnncore.cli import main
from rnncore.data.readers import DataError
from rnncore.data.recordings import read_recordings

QUICK = ["--set", "hidden_size=12", "--set", "num_layers=1", "--set", "max_epochs=12", "--quiet"]


@pytest.fixture(scope="module")
def sample():
    return rc.datasets.dialled(60, shortest=1, longest=4, keys="147", noise=0.05)


@pytest.fixture
def folder(tmp_path, monkeypatch, sample):
    """Recordings as .wav files with a list, as arrays of samples, and as features."""
    monkeypatch.chdir(tmp_path)
    sounds, strings = sample
    whole = [(sound * 20000).astype(np.int16) for sound in sounds]
    Path("wavs").mkdir()
    for number, sound in enumerate(whole):
        wavfile.write(f"wavs/{number:02}.wav", 8000, sound)
    lines = [f"wavs/{number:02}.wav\t{string}\n" for number, string in enumerate(strings)]
    Path("list.tsv").write_text("".join(lines))
    starts = np.cumsum([0, *map(len, whole)])
    np.savez("sounds.npz", samples=np.concatenate(whole), sample_rate=8000, starts=starts, strings=strings)
    features = [rc.audio.log_mel(sound, 8000) for sound in whole]
    starts = np.cumsum([0, *map(len, features)])[:-1]
    np.savez("features.npz", features=np.concatenate(features), starts=starts, strings=strings)
    return tmp_path


def train(*arguments):
    return main(["train", *map(str, arguments), "--task", "transcribe", *QUICK])


def refused(capsys, arguments, *words):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("rnncore") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def test_all_forms_of_recordings_train_the_same_model(folder, sample, capsys):
    assert train("list.tsv", "--out", "a.safetensors", "--report", "a.json") == 0
    assert train("sounds.npz", "--out", "b.safetensors", "--report", "b.json") == 0
    options = ["--set", "stack=3", "--set", "every=3"]
    assert train("features.npz", "--out", "c.safetensors", "--report", "c.json", *options) == 0
    models = [rc.load(f"{name}.safetensors") for name in "abc"]
    reports = [json.loads(Path(f"{name}.json").read_text()) for name in "abc"]
    for model, report in zip(models, reports, strict=True):
        np.testing.assert_allclose(model.network_.theta, models[0].network_.theta, rtol=1e-3, atol=1e-4)
        assert report["task"] == "transcribe" and report["n_train"] == 48 and report["n_test"] == 12
        assert report["label_error_rate"] == report["evaluation"]["label_error_rate"] < 0.3
    assert models[0].sample_rate == models[1].sample_rate == 8000 and models[2].sample_rate is None
    assert capsys.readouterr().out == ""


def test_evaluate_and_predict_tell_what_the_model_does(folder, sample, capsys):
    _, strings = sample
    assert train("list.tsv", "--test-fraction", "0") == 0
    model = rc.load("transcribe.safetensors")
    given = [wavfile.read(f"wavs/{number:02}.wav")[1] for number in range(60)]
    found = model.predict(given)
    assert main(["evaluate", "transcribe.safetensors", "list.tsv", "--report", "r.json"]) == 0
    out, report = capsys.readouterr().out, json.loads(Path("r.json").read_text())
    assert report["label_error_rate"] == pytest.approx(rc.metrics.error_rate(strings, found)) and "label error" in out
    assert main(["predict", "transcribe.safetensors", "wavs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{number:02}.wav\t{string}" for number, string in enumerate(found)]
    assert main(["predict", "transcribe.safetensors", "wavs/03.wav", "--n-best", "2", "--out", "two.txt"]) == 0
    best = model.predict_n_best(given[3:4], 2)[0]
    assert Path("two.txt").read_text() == "".join(f"03.wav\t{string}\t{score:.4f}\n" for string, score in best)
    assert main(["predict", "transcribe.safetensors", "sounds.npz", "--time-stamps"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert "".join(row[3] for row in rows if row[0] == "5") == found[5]
    assert float(rows[0][1]) == pytest.approx(0.01 * model.alignment(given[0])[0].start)


def test_words_and_a_language_model_take_part(folder, sample, capsys):
    _, strings = sample
    assert train("sounds.npz") == 0
    Path("words.txt").write_text("14\n7\n")
    assert main(["predict", "transcribe.safetensors", "sounds.npz", "--words", "words.txt"]) == 0
    assert {line.split("\t")[1] for line in capsys.readouterr().out.splitlines()} <= {"14", "7", ""}
    Path("text.txt").write_text("\n".join(strings))
    judge = ["--set", "hidden_size=6", "--set", "max_epochs=1", "--set", "sentences=true", "--quiet"]
    assert main(["train", "text.txt", "--task", "lm", *judge]) == 0
    options = ["--language-model", "lm.safetensors", "--lm-weight", "0.8", "--beam-size", "4"]
    assert main(["predict", "transcribe.safetensors", "sounds.npz", *options]) == 0
    model, sounds = rc.load("transcribe.safetensors"), read_recordings("sounds.npz").sequences
    expected = model.predict(sounds, beam_size=4, language_model=rc.load("lm.safetensors"), lm_weight=0.8)
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == expected
    assert main(["evaluate", "transcribe.safetensors", "sounds.npz", "--quiet", *options]) == 0
    refused(capsys, ["predict", "transcribe.safetensors", "wavs", "--lm-weight", "2"], "--language-model")
    refused(
        capsys,
        ["predict", "transcribe.safetensors", "wavs", "--language-model", "transcribe.safetensors"],
        "expected a model of --task lm",
    )
    refused(capsys, ["predict", "lm.safetensors", "text.txt", "--words", "words.txt"], "which tags nothing")


def test_without_data_there_is_a_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = [*QUICK[:4], "--set", "max_epochs=1"]
    assert main(["train", "--task", "transcribe", *few, "--report", "r.json"]) == 0
    out = capsys.readouterr().out
    assert "a sample of dialled numbers: 320 sounds to train on, 80 to test on" in out and "label error rate" in out
    assert main(["info", "transcribe.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "labels (10): 0 1 2 3 4 5 6 7 8 9" in out and "sample_rate = 8000" in out


def test_options_of_sounds_can_be_set(folder, capsys):
    assert train("sounds.npz", "--set", "sound.n_mels=12", "--set", "stack=1", "--set", "max_epochs=1") == 0
    model = rc.load("transcribe.safetensors")
    assert model.sound == {"n_mels": 12} and model.stack == 1 and model.every == 3
    assert model.features([np.zeros(4000)])[0].shape[1] == 12


def test_a_part_to_watch_stops_early(folder):
    assert train("sounds.npz", "--valid", "list.tsv", "--test", "sounds.npz", "--report", "r.json") == 0
    report = json.loads(Path("r.json").read_text())
    assert report["n_train"] == report["n_test"] == 60 and "val_label_error_rate" in report["history"][0]


def test_what_cannot_be_used_is_refused(folder, capsys):
    assert train("sounds.npz") == 0
    model = "transcribe.safetensors"
    refused(capsys, ["predict", model, "features.npz"], "this model hears sounds of 8000 Hz, got features")
    refused(capsys, ["predict", model, "wavs", "--sentences"], "--sentences", "taggers")
    refused(capsys, ["predict", model], "reads .npz and .wav files")
    refused(capsys, ["predict", model, "wavs", "--n-best", "2", "--time-stamps"], "exclude each other")
    refused(capsys, ["evaluate", model, "sounds.npz", "--strict"], "--strict", "taggers")
    force = ["--force", "--task", "transcribe", *QUICK]
    refused(capsys, ["train", "sounds.npz", "--test", "features.npz", *force], "expected sounds of 8000 Hz")
    refused(capsys, ["train", "sounds.npz", "--column", "1,2", *force], "--column goes with --task tag")
    wavfile.write("wavs/07.wav", 16000, np.zeros(4000, np.int16))
    refused(capsys, ["train", "list.tsv", *force], "wavs/07.wav: 16000 samples a second, but wavs/00.wav has 8000")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"samples": np.zeros(9), "starts": [0]}, "sample_rate is not there, only samples, starts"),
        ({"starts": [0]}, "features or samples is not there, only starts"),
        ({"features": np.zeros((9, 2)), "starts": [0]}, "strings is not there"),
        ({"features": np.zeros(9), "starts": [0], "strings": ["a"]}, r"features must be \(N, D\), got \(9,\)"),
        ({"features": np.zeros((9, 2)), "starts": [0, 5, 3], "strings": ["a"] * 3}, "starts must be whole numbers"),
        ({"features": np.zeros((9, 2)), "starts": [0, 5], "strings": ["a"] * 3}, "strings must be 2 texts"),
        ({"features": np.zeros((9, 2)), "starts": [0, 5], "strings": [1, 2]}, "strings must be 2 texts"),
    ],
)
def test_arrays_that_are_no_recordings(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_recordings(str(tmp_path / "a.npz"))


def test_files_that_are_no_recordings(tmp_path):
    (tmp_path / "a.npz").write_text("no arrays")
    with pytest.raises(DataError, match=r"a\.npz: expected arrays in NumPy's \.npz form"):
        read_recordings(str(tmp_path / "a.npz"))
    (tmp_path / "list.tsv").write_text("one.wav said\n")
    with pytest.raises(DataError, match=r"list\.tsv, line 1: expected a \.wav file's name, a tab"):
        read_recordings(str(tmp_path / "list.tsv"))
    (tmp_path / "empty.tsv").write_text("\n")
    with pytest.raises(DataError, match="there are no names"):
        read_recordings(str(tmp_path / "empty.tsv"))
    (tmp_path / "sounds").mkdir()
    with pytest.raises(DataError, match=r"there is no \.wav file in this folder"):
        read_recordings(str(tmp_path / "sounds"), strings=False)
    with pytest.raises(OSError):
        read_recordings(str(tmp_path / "nowhere.tsv"))


def test_starts_may_name_the_end_or_not(tmp_path):
    features = np.arange(8.0).reshape(4, 2)
    for starts in ([0, 1, 4], [0, 1]):
        np.savez(tmp_path / "a.npz", features=features, starts=starts, strings=["x", "y"])
        for strings in (True, False):
            found = read_recordings(str(tmp_path / "a.npz"), strings)
            assert [part.tolist() for part in found.sequences] == [features[:1].tolist(), features[1:].tolist()]
