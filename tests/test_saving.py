"""Layers and networks in model files, and their tables: what is written comes back, forged files are refused."""

import json
import os
import random
import struct

import numpy as np
import pytest
import reference as ref
import twins
from covering import covering_cases
from test_fuzz import ODD, one_line, parts_of, rounds

import rnncore as rc
from rnncore.cli import main
from rnncore.io.files import ModelFileError, read_model, write_model

RULE = rc.heads.bio_constraints(["B", "I", "O"])
HEADS = [
    rc.Softmax(3, class_weight=[1, 2, 0.5], label_smoothing=0.1),
    rc.CRF(3, constraints=RULE, class_weight=np.array([1.0, 2.0, 3.0])),
    rc.SquaredError(2, project=False),
    rc.SigmoidCrossEntropy(np.int64(2)),
]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.parametrize("name", ref.FAMILY)
def test_a_layer_comes_back(name, tmp_path):
    rng = np.random.default_rng(90)
    net = ref.member(name, 3, 6, num_layers=2, direction="concat", truncate=3)
    options = {"dropout": 0.2, "recurrent_dropout": np.float32(0.1), "random_state": np.int64(4)}
    layer = twins.layer(net, net.random_params(rng), dtype=rng.choice(["float32", "float64"]), **options)
    layer.freeze("*.W_xh")
    layer.dropout_seed, layer.dropout_step = 8, 9
    layer.save(tmp_path / "m")
    twin = rc.load(tmp_path / "m")
    assert type(twin) is rc.Recurrent and twin.params.keys() == layer.params.keys()
    for same in ("frozen", "dropout_seed", "dropout_step", "dropout", "recurrent_dropout", "truncate", "dtype", "plan"):
        assert getattr(twin, same) == getattr(layer, same)
    np.testing.assert_array_equal(twin.theta, layer.theta)
    x = rng.standard_normal((4, 2, 3))
    (y, state), (y_twin, state_twin) = layer.forward(x), twin.forward(x)  # with the same dropout
    for one, other in zip((y, *state), (y_twin, *state_twin), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(layer.backward(y + 1)[0], twin.backward(y + 1)[0])


CASES = {
    "head": HEADS,
    "embedding": [None, rc.Embedding(7, 3)],
    "readout": ["every", "last", "mean", "max"],
    "skip": [0, 5],
    "layers": ["one", "a list of one", "two"],
}


@pytest.mark.parametrize("case", covering_cases(CASES, lambda case: True))
def test_a_network_comes_back(case, tmp_path):
    readout = "every" if case["head"].name == "crf" or case["skip"] else case["readout"]
    one = rc.Recurrent("lstm", 3, 4, zoneout=(0.1, 0.2), proj_size=3)
    layers = {"one": one, "a list of one": [one], "two": [one, rc.Recurrent("jordan", 3, 5, outputs=4, decay=0.5)]}
    net = rc.Network(layers[case["layers"]], case["head"], readout, case["embedding"], case["skip"])
    net.freeze("layers.0.*")
    net.dropout_step = 5
    net.save(tmp_path / "m")
    twin = rc.load(tmp_path / "m")
    assert repr(twin) == repr(net) and twin.head == net.head and twin.single == net.single
    assert (twin.frozen, twin.dropout_step, twin.skip) == (net.frozen, 5, net.skip)
    np.testing.assert_array_equal(twin.theta, net.theta)
    rng = np.random.default_rng(91)
    x = rng.integers(0, 7, (4, 2)) if case["embedding"] else rng.standard_normal((4, 2, 3))
    x = (x, rng.integers(-1, 5, (4, 2, 3))) if case["skip"] else x
    np.testing.assert_array_equal(twin.predict(x), net.predict(x))
    net.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


def test_a_subclass_is_saved_as_what_it_is_built_on(tmp_path):
    class Mine(rc.Recurrent):
        pass

    Mine("elman", 2, 3).save(tmp_path / "m")
    assert type(rc.load(tmp_path / "m")) is rc.Recurrent


def test_a_layer_of_a_network_is_saved_alone(tmp_path):
    net = rc.Network([rc.Recurrent("gru", 2, 3), rc.Recurrent("lstm", 3, 4)], head=rc.Softmax(2))
    net.layers[1].save(tmp_path / "m")
    np.testing.assert_array_equal(rc.load(tmp_path / "m").theta, net.layers[1].theta)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    layer = rc.Recurrent("gru", 2, 3)
    layer.save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    layer.theta[...] = 0
    with pytest.raises(OSError, match="No space left"):
        layer.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def models(folder):
    """A layer's and a network's file: kind, path."""
    rc.Recurrent("lstm", 3, 4, num_layers=2, peepholes=True, zoneout=0.1).save(folder / "layer")
    layers = [rc.Recurrent("gru", 3, 4), rc.Recurrent("indrnn", 4, 5, bound=1.0)]
    rc.Network(layers, HEADS[1], embedding=rc.Embedding(7, 3), skip=2).save(folder / "net")
    return (("Recurrent", folder / "layer"), ("Network", folder / "net"))


def test_forged_headers_are_refused_or_make_a_sound_model(tmp_path):
    """Any part of the header replaced or taken out, the checksum right: no crash, no hang, no memory asked for."""
    for kind, path in models(tmp_path):
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["rnncore"])
        arrays = {name: array.copy() for name, array in read_model(path)[1].items()}
        own = "layer" if kind == "Recurrent" else "network"
        places = [at for at in parts_of(header) if at and at[0] == own]
        accepted = 0
        for draw in rounds(len(places)):
            changed = json.loads(json.dumps(header))
            changed.pop("checksum")
            at = draw.choice(places)
            target = changed
            for key in at[:-1]:
                target = target[key]
            if draw.random() < 0.2 and isinstance(target, dict):
                del target[at[-1]]
            else:
                target[at[-1]] = draw.choice([*ODD, 10**9, 2**62, "lstm", "float64", "last"])
            write_model(tmp_path / "m", kind, changed, arrays)
            try:
                made = rc.load(tmp_path / "m")
            except ModelFileError as error:
                one_line(error)
                continue
            accepted += 1
            assert len(made.params) == len(arrays)
            x = np.zeros((2, 1, 3)) if kind == "Recurrent" else (np.zeros((2, 1), int), np.zeros((2, 1, 1), int))
            made.activations(x)
        assert accepted


def test_forged_arrays_are_refused(tmp_path):
    draw = random.Random(0)
    for kind, path in models(tmp_path):
        header, arrays = read_model(path)
        for name in arrays:
            for wrong in (None, arrays[name][..., :-1], arrays[name].astype("f8"), arrays[name].astype("i4")):
                changed = {other: array for other, array in arrays.items() if other != name}
                if wrong is not None:
                    changed[name] = np.array(wrong)
                write_model(tmp_path / "m", kind, dict(header), changed)
                with pytest.raises(ModelFileError, match=r"its parts do not fit together \((expected|the sizes ask)"):
                    rc.load(tmp_path / "m")
        write_model(tmp_path / "m", kind, dict(header), arrays | {f"more{draw.random()}": np.zeros(3, "f4")})
        with pytest.raises(ModelFileError, match="expected the weights"):
            rc.load(tmp_path / "m")


def test_arguments_that_contradict_one_another_are_refused(tmp_path):
    (_, layer), (_, net) = models(tmp_path)
    header, arrays = read_model(layer)
    header["layer"]["cell_options"]["hidden_size"] = 4
    write_model(tmp_path / "m", "Recurrent", header, arrays)
    with pytest.raises(ModelFileError, match="cell_options hold hidden_size"):
        rc.load(tmp_path / "m")
    header, arrays = read_model(net)
    header["network"]["single"] = True
    write_model(tmp_path / "m", "Network", header, arrays)
    with pytest.raises(ModelFileError, match="2 layers are not a single one"):
        rc.load(tmp_path / "m")


def test_sizes_are_checked_before_memory_is_asked_for(tmp_path, monkeypatch):
    (_, path), _ = models(tmp_path)
    header, arrays = read_model(path)
    header["layer"]["hidden_size"] = 20_000
    write_model(tmp_path / "m", "Recurrent", header, arrays)
    zeros, largest = np.zeros, []

    def watched(shape, *rest, **options):
        largest.append(int(np.prod(shape)))
        return zeros(shape, *rest, **options)

    monkeypatch.setattr(np, "zeros", watched)
    with pytest.raises(ModelFileError, match="the sizes ask for"):
        rc.load(tmp_path / "m")
    assert max(largest, default=0) < 1_000_000
    assert rc.Recurrent("elman", 10, 300).theta.size  # nothing of that is left for others


def test_what_json_cannot_hold_is_refused(tmp_path):
    class Odd(float):
        pass

    with pytest.raises(ValueError, match="cannot hold the option"):
        layer = rc.Recurrent("lstm", 2, 3)
        layer.__dict__["cell_options"] = {"forget_bias": object()}
        layer.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    rc.Recurrent("indrnn", 2, 3, bound=Odd(0.5)).save(tmp_path / "m")


def test_the_command_line_says_that_a_network_is_no_estimator(tmp_path, capsys):
    for _, path in models(tmp_path):
        (tmp_path / "data").write_text("a\tb\n")
        for command in ("evaluate", "predict"):
            assert main([command, str(path), str(tmp_path / "data")]) == 2
            assert "without words and labels; expected an estimator" in capsys.readouterr().err
        assert main(["info", str(path)]) == 0
        assert "layers.0.fwd.W_xh" in capsys.readouterr().out


def test_tables_add_up():
    layer = rc.Recurrent("lstm", 3, 4, num_layers=2, bidirectional=True, merge="sum", dtype="float64")
    net = rc.Network([layer, rc.Recurrent("elman", 4, 1000, reverse=True, dtype="float64")], head=rc.CRF(5), skip=6)
    net.freeze("*.b_h")
    lines = [line.split() for line in net.summary().splitlines()]
    assert [line[0] for line in lines] == ["part", "layers.0", "layers.1", "layers.2", "head", "total"]
    sizes = [int(line[-2].replace(",", "")) for line in lines[1:]]
    assert sum(sizes[:-1]) == sizes[-1] == net.theta.size
    assert [int(line[-1].replace(",", "")) for line in lines[1:]] == [8 * size for size in sizes]
    assert lines[-1][1:3] == [f"{sum(net.params[name].size for name in net.frozen):,}", "frozen"]
    assert "lstm, both ways, summed  (T, B, 4)" in layer.summary() and "elman, backward" in net.summary()
    pooled = rc.Network(rc.Recurrent("gru", 2, 3), head=rc.Softmax(7), readout="mean")
    assert "softmax, mean of the steps  (B, 7)" in pooled.summary()
