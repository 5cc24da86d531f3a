"""Bad input: always an error that says what was wrong, never a crash, never a network left broken.

The estimator's files and the command line have their own tests of this kind; here are the array level's, and at the end
what the command does with files that are not what they should be.
"""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import twins

import rnncore as rc
from rnncore.cli import main

T, B, D, H, K = 5, 3, 4, 6, 7
ERRORS = (ValueError, TypeError, RuntimeError)


def refused(function, *arguments, **options):
    """The call must raise one of the plain errors, with a message one can act on."""
    with pytest.raises(ERRORS) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert len(message) >= 20, message
    assert "buffer" not in message.lower(), f"raised by a memoryview, not by a check: {message}"
    return message


@pytest.fixture(params=["float32", "float64"])
def layer(request):
    return rc.Recurrent("elman", input_size=D, hidden_size=H, dtype=request.param, random_state=1)


@pytest.fixture
def x():
    return np.random.default_rng(61).standard_normal((T, B, D)).astype(np.float32)


@pytest.fixture(autouse=True)
def still_right(request):
    """After every refusal the same object still computes what it computed before."""
    if "layer" not in request.fixturenames:
        yield
        return
    layer, good = request.getfixturevalue("layer"), np.random.default_rng(62).standard_normal((T, B, D))
    before = layer.forward(good, training=False)[0]
    yield
    np.testing.assert_array_equal(layer.forward(good, training=False)[0], before)


# ------------------------------------------------------------------------------------------------------- construction

BAD_SIZES = [0, -1, 2.5, "4", None, float("nan"), 2**62, True]


@pytest.mark.parametrize("size", BAD_SIZES)
@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
def test_sizes(name, size):
    with pytest.raises((*ERRORS, MemoryError)) as caught:
        rc.Recurrent("elman", **({"input_size": D, "hidden_size": H} | {name: size}))
    assert len(str(caught.value)) >= 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell": "elmann"}, "elman"),
        ({"cell": ""}, "elman"),
        ({"cell": None}, "elman"),
        ({"cell": 3}, "elman"),
        ({"activation": "swish"}, "tanh"),
        ({"activation": 7}, "tanh"),
        ({"merge": "product", "bidirectional": True}, "concat"),
        ({"dtype": "float16"}, "float32"),
        ({"dtype": "complex128"}, "float32"),
        ({"dtype": "int64"}, "float32"),
        ({"dtype": "no type"}, "float32"),
        ({"random_state": "seed"}, "random_state"),
        ({"random_state": -1}, "random_state"),
        ({"n_threads": 0}, "thread"),
        ({"n_threads": -3}, "thread"),
        ({"n_threads": 1.5}, "thread"),
        ({"reverse": True, "bidirectional": True}, "reverse"),
        ({"leaky_slope": "steep"}, "leaky_slope"),
        ({"leaky_slope": float("nan")}, "leaky_slope"),
        ({"clip_at": -1.0}, "clip_at"),
        ({"clip_at": float("nan")}, "clip_at"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
    ids=str,
)
def test_options(options, named):
    """The message names the option or what may stand there."""
    message = refused(rc.Recurrent, **({"cell": "elman", "input_size": D, "hidden_size": H} | options))
    assert named in message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        *(({"proj_size": size}, "proj_size") for size in (0, -3, 1.5, "wide", True)),
        ({"layer_norm": "yes"}, "layer_norm"),
        ({"variant": "1998"}, "1997"),
        ({"variant": "1997", "layer_norm": True}, "layer_norm"),
        ({"variant": "1997", "proj_size": 2}, "proj_size"),
        ({"variant": "FGR", "layer_norm": True}, "layer_norm"),
    ],
    ids=str,
)
def test_options_of_the_lstm(options, named):
    assert named in refused(rc.Recurrent, "lstm", D, H, **options)


def test_a_thousand_threads_are_only_a_wish(x):
    few, many = (rc.Recurrent("elman", input_size=D, hidden_size=H, n_threads=n) for n in (1, 1000))
    twins.assert_same_bits(few.forward(x)[0], many.forward(x)[0])


@pytest.mark.parametrize("sizes", [(0,), (-2,), ("many",), (2.5,), (None,)])
def test_heads(sizes):
    for head in rc.HEADS.values():
        refused(head, *sizes)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": [1, 2]},
        {"class_weight": [1, 2, -3]},
        {"class_weight": [1, 2, np.nan]},
        {"class_weight": "heavy"},
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.5},
        {"label_smoothing": np.nan},
        {"label_smoothing": "some"},
    ],
    ids=str,
)
def test_softmax_options(options):
    refused(rc.Softmax, 3, **options)


def test_networks(layer):
    softmax = rc.Softmax(K)
    refused(rc.Network, layer, head=softmax, readout="first")
    refused(rc.Network, layer, head=softmax, readout=None)
    refused(rc.Network, layer, head="softmax of 3")
    refused(rc.Network, layer, head=None)
    refused(rc.Network, [], head=softmax)
    refused(rc.Network, "elman", head=softmax)
    refused(rc.Network, [layer, layer], head=softmax)
    misfit = rc.Recurrent("elman", input_size=H + 1, hidden_size=3, dtype=layer.theta.dtype.name)
    assert str(H) in refused(rc.Network, [layer, misfit], head=softmax)
    refused(rc.Network, layer, head=softmax, embedding=rc.Embedding(9, D + 1))
    refused(rc.Network, layer, head=softmax, embedding="words")
    for sizes in ((0, 3), (3, 0), (-1, 3), (2.5, 3), ("a", 3)):
        refused(rc.Embedding, *sizes)


def test_layers_of_different_precision():
    one = rc.Recurrent("elman", input_size=D, hidden_size=H, dtype="float32")
    two = rc.Recurrent("elman", input_size=H, hidden_size=3, dtype="float64")
    assert "dtype" in refused(rc.Network, [one, two], head=rc.Softmax(K))


# -------------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((T, B, D + 1)),
        np.zeros((T, B, D - 1)),
        np.zeros((T, B, 0)),
        np.zeros((T, B)),
        np.zeros((T, D)),
        np.zeros(T),
        np.zeros((T, B, D, 1)),
        np.zeros((0, B, D)),
        np.zeros((T, 0, D)),
        np.float64(1.0),
        np.zeros((T, B, D), complex),
        np.zeros((T, B, D), object),
        np.full((T, B, D), "word"),
        np.zeros((T, B, D), "M8[s]"),
        np.zeros((T, B, D), [("a", float)]),
        np.zeros((T, B), bool),
        [[[1.0] * D] * B, [[1.0] * D]],  # ragged
        [["the", "cat"]],
        None,
        "words",
        {"x": 1},
        object(),
    ],
    ids=lambda bad: f"{type(bad).__name__}{np.shape(bad) if isinstance(bad, np.ndarray) else ''}",
)
def test_x(layer, bad):
    refused(layer.forward, bad)
    refused(layer.forward, bad, training=False)


@pytest.mark.parametrize("bad", [-1, D, 10**9, -(10**18), np.iinfo(np.int64).max, np.iinfo(np.int64).min])
@pytest.mark.parametrize("where", [(0, 0), (T - 1, B - 1)])
def test_ids_out_of_range(layer, bad, where):
    ids = np.zeros((T, B), np.int64)
    ids[where] = bad
    assert f"between 0 and {D - 1}" in refused(layer.forward, ids)
    refused(layer.forward, ids, lengths=[T] * B)


@pytest.mark.parametrize("bad", [np.uint64(2**63), np.uint64(2**64 - 1), np.uint32(2**32 - 1), np.uint32(2**31)])
def test_unsigned_ids_do_not_wrap_around(layer, bad):
    refused(layer.forward, np.full((T, B), bad))


@pytest.mark.parametrize("bad", [-2, D, 10**12])
def test_bags_out_of_range(layer, bad):
    bags = np.full((T, B, 3), -1)
    bags[T - 1, B - 1, 2] = bad
    refused(layer.forward, bags)


@pytest.mark.parametrize("bad", [-1, 9, 10**9])
@pytest.mark.parametrize("bag", [False, True])
def test_embedded_ids_out_of_range(bad, bag):
    net = rc.Network(
        rc.Recurrent("elman", input_size=D, hidden_size=H), head=rc.Softmax(K), embedding=rc.Embedding(9, D)
    )
    ids = np.full((T, B, 2) if bag else (T, B), bad if not bag or bad != -1 else -2)
    targets = np.zeros((T, B), int)
    refused(net.predict, ids)
    refused(net.loss_and_grad, ids, targets)
    refused(net.predict, np.zeros((T, B, D), np.float32))


@pytest.mark.parametrize(
    "bad",
    [
        [T] * (B - 1),
        [T] * (B + 1),
        [T, T, 0],
        [T, T, -1],
        [T, T, T + 1],
        [T, T, 10**9],
        [T, T, -(10**18)],
        [T, T, 2.5],
        [T, T, np.nan],
        [T, T, "5"],
        [[T, T, T]],
        [],
        T,
        "all",
        {"a": 1},
    ],
    ids=str,
)
def test_lengths(layer, x, bad):
    assert "length" in refused(layer.forward, x, lengths=bad)


@pytest.mark.parametrize(
    "bad",
    [
        (np.zeros((1, B, H + 1)),),
        (np.zeros((1, B + 1, H)),),
        (np.zeros((2, B, H)),),
        (np.zeros((B, H)),),
        (np.zeros(H),),
        (),
        (np.zeros((1, B, H)), np.zeros((1, B, H))),
        (None,),
        ("state",),
        (np.zeros((1, B, H), complex),),
        5,
        "state",
    ],
    ids=lambda bad: str([np.shape(s) for s in bad]) if isinstance(bad, tuple) else str(bad),
)
def test_states(layer, x, bad):
    assert "state" in refused(layer.forward, x, state=bad)
    layer.forward(x)
    assert "state" in refused(layer.backward, np.zeros((T, B, H)), dstate=bad)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((T, B, H + 1)),
        np.zeros((T, B + 1, H)),
        np.zeros((T + 1, B, H)),
        np.zeros((T, B)),
        np.zeros(()),
        np.zeros((T, B, H), complex),
        np.full((T, B, H), "x"),
        None,
        "dy",
    ],
    ids=lambda bad: str(np.shape(bad)),
)
def test_dy(layer, x, bad):
    layer.forward(x)
    refused(layer.backward, bad)


def test_a_refused_backward_adds_nothing(layer, x):
    layer.zero_grad()
    layer.forward(x)
    assert "dy must have the shape of the outputs" in refused(layer.backward, np.zeros((T, B, H + 1)))
    assert not layer.grad.any()


def test_backward_twice(layer, x):
    layer.forward(x)
    layer.backward(np.ones((T, B, H)))
    assert "forward" in refused(layer.backward, np.ones((T, B, H)))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((B, D + 1)), np.zeros((B,)), np.zeros((1, B, D)), np.full(B, D), np.full(B, -1), None, "x"],
    ids=str,
)
def test_step(layer, bad):
    refused(layer.step, bad, None)


def test_step_with_a_wrong_state(layer, x):
    refused(layer.step, x[0], (np.zeros((1, B + 1, H)),))
    refused(layer.step, x[0], 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_numbers(layer, x, bad):
    """An error, or results that show it; other sequences are untouched."""
    clean, _ = layer.forward(x, training=False)
    x[2, 1, 3] = bad
    try:
        y, _ = layer.forward(x, training=False)
    except ValueError:
        return
    np.testing.assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])
    np.testing.assert_array_equal(y[:2], clean[:2])
    if np.isnan(bad):
        assert np.isnan(y[2:, 1]).all()


def test_too_large_for_single_precision(layer):
    """1e300 is no float32: an error, or infinity; no warning turned into a crash."""
    y = None
    try:
        y, _ = layer.forward(np.full((T, B, D), 1e300), training=False)
    except ERRORS:
        return
    assert y.shape == (T, B, H)


# ------------------------------------------------------------------------------------------------ losses and targets


def network(head=None, readout="every", dtype="float64", **options):
    inner = rc.Recurrent("elman", input_size=D, hidden_size=H, dtype=dtype, random_state=1, **options)
    return rc.Network(inner, head=head or rc.Softmax(K), readout=readout)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((T, B + 1), int),
        np.zeros((T + 1, B), int),
        np.zeros((B, T), int),
        np.zeros(B, int),
        np.zeros((T, B, K)),
        np.zeros((T, B), float),
        np.full((T, B), K),
        np.full((T, B), -2),
        np.full((T, B), 10**12),
        np.full((T, B), np.nan),
        np.full((T, B), "NN"),
        None,
        "targets",
        [[0] * B] * (T - 1) + [[0]],
    ],
    ids=lambda bad: f"{type(bad).__name__}{np.shape(bad) if isinstance(bad, np.ndarray) else ''}",
)
def test_classes(x, bad):
    net = network()
    assert "target" in refused(net.loss_and_grad, x, bad)
    refused(net.train_step, x, bad, rc.SGD(learning_rate=0.1))


def test_classes_of_whole_sequences(x):
    for readout in ("last", "mean", "max"):
        net = network(readout=readout)
        refused(net.loss_and_grad, x, np.zeros((T, B), int))
        refused(net.loss_and_grad, x, np.zeros(B + 1, int))
        refused(net.loss_and_grad, x, np.full(B, K))


@pytest.mark.parametrize("head", [rc.SquaredError, rc.SigmoidCrossEntropy])
def test_values(x, head):
    net = network(head(K))
    for bad in (
        np.zeros((T, B)),
        np.zeros((T, B, K + 1)),
        np.zeros((B, K)),
        np.zeros((T, B, K), complex),
        None,
        "values",
    ):
        assert "target" in refused(net.loss_and_grad, x, bad)


@pytest.mark.parametrize("bad", [-0.5, 1.5])
def test_probabilities_outside_0_and_1(x, bad):
    net = network(rc.SigmoidCrossEntropy(K))
    assert "target" in refused(net.loss_and_grad, x, np.full((T, B, K), bad))


def test_a_refused_step_changes_no_weight(x):
    net = network()
    before = net.theta.copy()
    refused(net.train_step, x, np.full((T, B), K), rc.SGD(learning_rate=0.1))
    refused(net.train_step, x[:, :, :2], np.zeros((T, B), int), rc.SGD(learning_rate=0.1))
    with pytest.raises((AttributeError, *ERRORS)):
        net.train_step(x, np.zeros((T, B), int), "sgd please")
    np.testing.assert_array_equal(net.theta, before)
    assert np.isfinite(net.train_step(x, np.zeros((T, B), int), rc.SGD(learning_rate=0.1)))


def test_network_states(x):
    net = network()
    for bad in ((np.zeros((1, B, H + 1)),), (), 7, "state", [(np.zeros((1, B + 1, H)),)]):
        refused(net.predict, x, state=bad)
        refused(net.loss_and_grad, x, np.zeros((T, B), int), state=bad)


def test_a_carried_state_of_another_batch(x):
    net = network()
    net.predict(x)
    refused(net.predict, x[:, :2], state=net.state)


@pytest.mark.parametrize("name", ["theta", "grad"])
def test_flat_arrays_keep_their_shape(layer, name):
    """Replacing the flat array is refused, or copies into it: views must never come loose."""
    wrong = np.zeros(layer.theta.size + 1, layer.theta.dtype)
    with pytest.raises((AttributeError, *ERRORS)):
        setattr(layer, name, wrong)
    assert np.shares_memory(layer.params["layers.0.fwd.W_xh"], layer.theta)
    assert np.shares_memory(layer.grads["layers.0.fwd.W_xh"], layer.grad)


def test_named_views_cannot_be_replaced_silently(layer):
    """`params[name] = array` would leave the network computing with the old numbers."""
    name = "layers.0.fwd.b_h"
    before = layer.theta.copy()
    try:
        layer.params[name] = np.full(H, 9.0)
    except (TypeError, *ERRORS):
        return
    assert (layer.params[name] == 9.0).all()
    assert np.shares_memory(layer.params[name], layer.theta)
    layer.theta[:] = before


def test_gradcheck(x):
    refused(rc.gradcheck, network(), x, np.zeros((T, B + 1), int))


# ------------------------------------------------------------------------------------------------------------ processes


def test_odd_settings_in_the_environment():
    """A level or product that does not exist: an error that lists what there is, at import or at first use."""
    code = """
        import numpy as np, rnncore as rc
        rc.Recurrent("elman", input_size=2, hidden_size=2).forward(np.zeros((2, 2, 2), np.float32))
    """
    for name in ("RNNCORE_ISA", "RNNCORE_GEMM"):
        result = subprocess.run(
            [sys.executable, "-P", "-c", textwrap.dedent(code)],
            env={**os.environ, name: "abacus"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 1, result.stderr
        assert name in result.stderr.strip().splitlines()[-1]
        assert "abacus" in result.stderr.strip().splitlines()[-1]


@pytest.fixture
def refused_by_command(capsys):
    """Run `rnncore` with arguments that must end in exit status 2 and one clear line, no traceback."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert len(said.strip().splitlines()[-1]) >= 20, said

    return run


CONTENTS = {
    "empty": b"",
    "blank lines only": b"\n\n \n\t\n",
    "a word without a label": b"show O\nme\n\n",
    "not text": bytes(range(256)),
    "zeros": b"\0" * 1000,
    "UTF-16": "show\tO\nme\tO\n\n".encode("utf-16"),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_training_files(tmp_path, content, refused_by_command):
    path = tmp_path / "data.txt"
    path.write_bytes(CONTENTS[content])
    refused_by_command("train", path, "--out", tmp_path / "model.safetensors", "--quiet")
    assert sorted(tmp_path.iterdir()) == [path]


def test_paths_that_are_no_files(tmp_path, refused_by_command):
    out = tmp_path / "model.safetensors"
    good = tmp_path / "good.txt"
    good.write_text("show O\nnews B\n\n" * 20)
    refused_by_command("train", tmp_path, "--out", out)
    refused_by_command("train", tmp_path / "nothing.txt", "--out", out)
    refused_by_command("train", good, "--test", tmp_path, "--out", out)
    refused_by_command("train", good, "--out", tmp_path)
    refused_by_command("train", good, "--out", tmp_path / "no" / "folder" / "model.safetensors")
    refused_by_command("train", good, "--out", out, "--threads", "0")
    refused_by_command("train", good, "--out", out, "--test-fraction", "2")
    assert not out.exists()


@pytest.mark.parametrize("content", ["empty", "not text", "zeros"])
def test_model_files(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENTS[content])
    with pytest.raises(ERRORS) as caught:
        rc.load(path)
    assert "model.safetensors" in str(caught.value)
    with pytest.raises((*ERRORS, OSError)):
        rc.load(tmp_path)


def test_empty_sentences():
    tagger = rc.SequenceTagger(max_epochs=1)
    for sentences, tags in (([], []), ([[]], [[]]), ([["a"], []], [["X"], []]), ([["a"]], [["X", "Y"]]), ([["a"]], [])):
        refused(tagger.fit, sentences, tags)
    tagger.fit([["a", "b"], ["b"]] * 10, [["X", "Y"], ["Y"]] * 10)
    try:
        predicted = tagger.predict([["a"], []])
    except ValueError:
        return
    assert [len(tags) for tags in predicted] == [1, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_full_disk(tmp_path):
    """A write that fails half-way: an error, the model saved before untouched, nothing left lying about."""
    code = f"""
        import os, resource, signal, sys
        import rnncore as rc
        tagger = rc.SequenceTagger(max_epochs=1, hidden_size=64)
        tagger.fit([["a", "b"], ["b"]] * 10, [["X", "Y"], ["Y"]] * 10)
        path = os.path.join({str(tmp_path)!r}, "model.safetensors")
        tagger.save(path)
        before = open(path, "rb").read()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            tagger.save(path)
        except Exception as problem:
            message = str(problem)
        else:
            sys.exit("no error")
        assert open(path, "rb").read() == before
        assert os.listdir({str(tmp_path)!r}) == ["model.safetensors"], os.listdir({str(tmp_path)!r})
        assert "model.safetensors" in message, message
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_references_are_not_leaked_by_errors(x):
    """An error path that keeps its arrays would fill the memory of a service."""
    net = network()
    count = sys.getrefcount(x)
    for _ in range(100):
        with pytest.raises(ERRORS):
            net.loss_and_grad(x, np.zeros((T, B + 1), int))
    assert abs(sys.getrefcount(x) - count) < 5
