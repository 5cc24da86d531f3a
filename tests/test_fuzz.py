"""Damaged, odd and hostile input: it is used, or refused in one line; nothing crashes, hangs or shows a traceback.

Every test mutates good examples, from a fixed seed, for a second or two. ``RNNCORE_FUZZ=100000`` sets how many inputs
instead, without a limit of time.
"""

import argparse
import copy
import gzip
import io
import json
import os
import random
import struct
import sys
import time

import numpy as np
import pytest

from rnncore.cli import main
from rnncore.cli.config import _OPTIONS, read_config, read_settings
from rnncore.cli.tasks import task_of
from rnncore.data.readers import DataError, read_packed, read_tagged, read_words
from rnncore.data.vectors import read_vectors
from rnncore.datasets import news_requests
from rnncore.estimators.language import LanguageModel
from rnncore.estimators.tagger import SequenceTagger
from rnncore.io.files import ModelFileError, load, read_model, write_model

INPUTS = int(os.environ.get("RNNCORE_FUZZ", "0"))
SECONDS = 1.5
SPICE = [
    b"\0",
    b"\t",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x1f\x8b",
    b" ",
    b"\xc3",
    b"=",
    b'"',
    b"[",
    b"{",
    b"#",
]
SPICE += [b"-1", b"1e999", b"99999999999999999999", b"nan", b"true", b"''", b"\xe2\x80\xa8", b"x" * 300, b"[" * 2000]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def rounds(least=30):
    """Yield a random generator per input, until enough were tried or the time is up."""
    end = time.monotonic() + SECONDS
    for n in range(INPUTS or 10**9):
        if not INPUTS and n >= least and time.monotonic() > end:
            return
        yield random.Random(n)


def mutated(draw, content):
    """Cut, repeat, swap, overwrite and insert a few times."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at, to = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        what = draw.randrange(6)
        if what == 0 and data:
            data[min(at, len(data) - 1)] = draw.randrange(256)
        elif what == 1:
            data[at:at] = draw.choice(SPICE)
        elif what == 2:
            del data[at : at + draw.choice((1, 3, to - at))]
        elif what == 3:
            data[at:at] = data[at : min(to, at + 200)]
        elif what == 4:
            del data[to:]
        else:
            data[at:to] = draw.choice(SPICE)
    return bytes(data)


def one_line(error):
    assert "\n" not in str(error) and len(str(error)) < 2000, error


TAGGED = "top\tB-N\nnews\tI-N\n\ncafé O\n".encode()
FILES = [
    TAGGED,
    TAGGED.replace(b"\n", b"\r\n"),
    b"\xef\xbb\xbf" + TAGGED,
    gzip.compress(TAGGED * 5),
    b"-DOCSTART- -X- O\n\n# id = 1\n1 EU NNP B-ORG\n2 rejects VBZ O\n",
    b"2 3\nnews 0.1 0.2 0.3\ntop 1 2 3\n",
    b"",
]


def test_data_files(tmp_path):
    path = tmp_path / "data"
    for draw in rounds(300):
        path.write_bytes(mutated(draw, draw.choice(FILES)))
        column = draw.choice([None, (1, -1), (0, 3), (-2, 5)])
        found = []
        for read, *rest in ((read_tagged, column), (read_packed, column), (read_words,), (read_vectors,)):
            try:
                result = read(path, *rest)
            except DataError as error:
                one_line(error)
                result = str(error)
            found.append(result if isinstance(result, str) else tuple(map(list, result)))
        assert found[0] == found[1]  # what comes out of them is the same


CONFIG = b"""
data = "x.txt"
seed = 3
test_fraction = 0.5
column = "1,4"
[settings]
hidden_size = 8
learning_rate = 0.01
bidirectional = false
class_weight = {O = 0.5}
optimizer = "sgd"
"""


def test_configuration_files(tmp_path):
    path = tmp_path / "c.toml"
    known = SequenceTagger().get_params(deep=False)
    for draw in rounds(300):
        path.write_bytes(mutated(draw, CONFIG))
        options = argparse.Namespace(config=str(path), **dict.fromkeys(_OPTIONS), set=[])
        try:
            settings = read_settings(options, read_config(options), known, task_of("tag"))
            SequenceTagger(**settings)._check_settings()
        except (ValueError, TypeError, OSError) as error:
            assert "\n" not in str(error)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "model"
    tagger = SequenceTagger(hidden_size=3, max_epochs=1, window=1, word_pairs=True, affixes=1, skip="only")
    tagger.fit(*news_requests(6)).save(path)
    return path


@pytest.mark.parametrize("kind", ["model", "language_model"])
def test_model_files(request, kind, tmp_path):
    content, path = request.getfixturevalue(kind).read_bytes(), tmp_path / "m"
    for draw in rounds(100):
        changed = mutated(draw, content)
        path.write_bytes(changed)
        if changed != content:
            with pytest.raises((ModelFileError, OSError)) as caught:
                load(path)
            one_line(caught.value)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "lm"
    LanguageModel(hidden_size=3, max_epochs=1, sentences=True, min_count=2).fit("ab\nabc\nba\n").save(path)
    return path


@pytest.mark.parametrize("name", ["symbols", "counts", "settings", "seed", "history"])
def test_language_models_headers(language_model, tmp_path, name):
    """A header that was changed is refused, or the model works."""
    kind = load(language_model)
    for value in ODD:
        header, arrays = kind._to_model()
        for changed in ({**header, name: value}, _changed_inside(header, name, value)):
            try:
                write_model(tmp_path / "m", "LanguageModel", changed, arrays)
                loaded = load(tmp_path / "m")
            except (ModelFileError, TypeError, ValueError) as error:
                one_line(error)
            else:
                loaded.generate(5, random_state=0)


def _changed_inside(header, name, value):
    found = copy.deepcopy(header)
    if isinstance(found[name], list) and found[name]:
        found[name][0] = value
    elif isinstance(found[name], dict):
        found[name]["hidden_size"] = value
    return found


DICTS = [{"w": "news", "n": 2.5, "t": True}, {"w": "top", "v": np.array([1.0, -2.0]), "k": {"a": "b"}, "l": ["p"]}]


def test_dicts_of_features():
    """Any value at any place: it is a feature, or refused by its name; what is learned from it predicts."""
    values = [*ODD, 1e31, -1e300, 10**400, np.float32(3), np.array([0.0, 7.0]), np.array(["a"]), b"x", object(), 1j]
    for draw in rounds(20):
        sentences = [[dict(draw.choice(DICTS)) for _ in range(draw.randrange(1, 4))] for _ in range(3)]
        draw.choice(sentences[0])[draw.choice(["w", "n", "v", "k", "zz", 3, ""])] = draw.choice(values)
        try:
            tagger = SequenceTagger(hidden_size=2, max_epochs=1, skip=draw.choice([False, True]))
            tagger.fit(sentences, [["O"] * len(sentence) for sentence in sentences])
            tagger.predict([[{"n": draw.choice(values), "w": draw.choice(values)}]])
        except DataError as error:
            one_line(error)


def parts_of(value, at=()):
    """Yield the paths to everything in a JSON document."""
    yield at
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from parts_of(item, (*at, key))


ODD = [
    None,
    True,
    False,
    0,
    -1,
    3,
    10**6,
    10**30,
    0.5,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    [1],
    {},
    {"@": "dict"},
    [[]] * 3,
]


@pytest.fixture(scope="module")
def model_of_dicts(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "model"
    SequenceTagger(hidden_size=3, max_epochs=1, constraints="auto").fit([DICTS], [["O", "B-X"]]).save(path)
    return path


@pytest.mark.parametrize(("kind", "token"), [("model", "news"), ("model_of_dicts", {"w": "news", "n": 3.5, "v:0": 2})])
def test_model_headers_with_a_right_checksum(kind, token, request, tmp_path):
    """The same with what a forger would do: any part of the header replaced, the checksum computed anew."""
    content = request.getfixturevalue(kind).read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["rnncore"])
    arrays = {name: array.copy() for name, array in read_model(request.getfixturevalue(kind))[1].items()}
    places = [at for at in parts_of(header) if at and at[0] not in ("checksum", "format", "kind", "version")]
    places = [at for at in places if len(at) < 4 or at[2] != "tokens"] + [("settings",)] * 20
    for draw in rounds(50):
        changed = json.loads(json.dumps(header))
        changed.pop("checksum", None)
        at = draw.choice(places)
        target = changed
        for key in at[:-1]:
            target = target[key]
        if draw.random() < 0.2 and isinstance(target, dict):
            del target[at[-1]]
        else:
            target[at[-1]] = draw.choice(ODD)
        write_model(tmp_path / "m", "SequenceTagger", changed, arrays)
        try:
            tagger = load(tmp_path / "m")
        except ModelFileError as error:
            one_line(error)
        else:
            assert tagger.predict([[token, token]])
        assert main(["info", str(tmp_path / "m")]) in (0, 2)


WORDS = [
    *("train", "evaluate", "predict", "info", "config", "generate", "dance", "data.txt", "model", "missing", ".", "-"),
    *(
        "--test",
        "--test-fraction",
        "0.5",
        "1.5",
        "--out",
        "out.st",
        "no/where",
        "--force",
        "--report",
        "r.json",
        "--set",
    ),
    *(
        "hidden_size=2",
        "max_epochs=1",
        "skip=only",
        "head=softmax",
        "zzz=1",
        "=",
        "hidden_size",
        "dropout=nan",
        "--task",
    ),
    *("window=-1", "optimizer=adam", "embeddings=data.txt", "class_weight={'O':1}", "--seed", "3", "-1", "--threads"),
    *("1", "0", "--quiet", "--column", "1,2", "2,1", "--config", "c.toml", "--preset", "fast", "--resume", "--plot"),
    *("--checkpoint", "--checkpoint-every", "p.svg", "--help", "--version", "tag", "lm", "-h", "--", "--set=", "é", ""),
    *("--errors", "e.tsv", "e.json", "--confidence", "--n-best", "2", "1001"),
]


def test_arguments(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_bytes(TAGGED * 3)
    (tmp_path / "model").write_bytes(model.read_bytes())
    (tmp_path / "c.toml").write_bytes(b"[settings]\nmax_epochs = 1\nhidden_size = 2\n")
    quick = ["--set", "max_epochs=1", "--set", "hidden_size=2"]
    for draw in rounds():
        command = draw.choice(["train", "train", "evaluate", "predict", "info", ""])
        rest = draw.choices(WORDS, k=draw.randrange(7))
        start = {"train": ["train", "data.txt", *quick], "": []}.get(command, [command, "model"])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"news\n")))
        try:
            status = main([*start, *rest])
        except BaseException as error:
            raise AssertionError(f"{start + rest}: {error!r}") from error
        err = capsys.readouterr().err
        assert status in (0, 2), (start + rest, err)
        assert "Traceback" not in err and "internal error" not in err, (start + rest, err)
        if status:
            assert err.strip() and "usage" not in err, (start + rest, err)
        for name in ("tag.safetensors", "out.st"):
            (tmp_path / name).unlink(missing_ok=True)
