"""Weights kept in fewer bits: sessions, predictions and model files, held against plain NumPy on rounded numbers."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnncore as rc
from rnncore._core import kernels
from rnncore.io.files import ModelFileError
from rnncore.io.small_weights import restore, shrink

KINDS = ("bfloat16", "int8")
#: largest relative error of outputs: bfloat16 rounds by 2^-9, int8 by 1/254 of the largest number of a row or column
ERRORS = {"bfloat16": 0.008, "int8": 0.03}


def bfloat16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def int8(x, axis):
    """Whole numbers and their scale."""
    most = np.abs(x).max(axis=axis, keepdims=True)
    factor = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 0)
    return np.rint(x * factor), most / np.float32(127)


def product(kind, x, W, depth=1024):
    """What a product of rows x and a matrix W is, depth by pieces; exact sums."""
    if kind == "bfloat16":
        return bfloat16(x).astype(float) @ bfloat16(W).astype(float)
    whole, scale = int8(W, 0)
    total = np.zeros((len(x), W.shape[1]))
    for at in range(0, len(W), depth):
        numbers, row_scale = int8(x[:, at : at + depth], 1)
        total += numbers @ whole[at : at + depth] * (row_scale.astype(float) * scale)
    return total


@pytest.mark.kernels
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 70), D=st.integers(1, 70), H=st.integers(1, 70), deep=st.booleans(), seed=st.integers(0, 2**32)
)
def test_a_step_from_zero_is_the_product_of_rounded_numbers(kind, rows, D, H, deep, seed):
    """One step of an Elman network without activation is x·W_xh + b."""
    rng = np.random.default_rng(seed)
    D += 1100 * deep
    layer = rc.Recurrent("elman", D, H, activation="identity")
    for view in layer.params.values():
        view[...] = rng.standard_normal(view.shape)
    x = (rng.standard_normal((1, rows, D)) * 10.0 ** rng.integers(-3, 3, (1, rows, 1))).astype(np.float32)
    session = layer.session(rows, kind)
    found = session.run(x)[0]
    W, b = layer.params["layers.0.fwd.W_xh"], layer.params["layers.0.fwd.b_h"]
    wanted = product(kind, x[0], W) + b
    # float32 sums of up to D terms; a number halfway between two whole ones may go either way, for int8
    size = np.abs(x[0]) @ np.abs(W) + np.abs(b)
    slack = D**0.5 * 2.0**-22 + (0 if kind == "bfloat16" else 2e-3)
    assert (np.abs(found - wanted) <= slack * size + 1e-30).all()


@pytest.mark.kernels
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", sorted(set(rc.CELLS)))
def test_every_cell_is_near_its_float32_self_and_steps_are_runs(kind, cell):
    rng = np.random.default_rng(0)
    for H in (7, 32):
        layer = rc.Recurrent(cell, H, H)
        x = rng.standard_normal((6, 5, H)).astype(np.float32)
        whole, _ = layer.forward(x, training=False)
        session, alone = layer.session(5, kind), layer.session(1, kind)
        found = session.run(x)
        steps = np.stack([alone.step(np.ascontiguousarray(x_t[2:3])) for x_t in x])
        assert np.array_equal(steps[:, 0], found[:, 2])
        assert not np.array_equal(found, whole)
        assert np.linalg.norm(found - whole) <= 2 * ERRORS[kind] * np.linalg.norm(whole)


@pytest.mark.kernels
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_do_not_depend_on_threads_or_on_the_other_rows(kind):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 64, 33)).astype(np.float32)
    found = []
    for threads in (1, 2, 3):
        layer = rc.Recurrent("lstm", 33, 70, num_layers=2, n_threads=threads)
        found.append(layer.session(64, kind).run(x))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    few = layer.session(3, kind).run(np.ascontiguousarray(x[:, 10:13]))
    assert np.array_equal(few, found[0][:, 10:13])


@pytest.mark.kernels
def test_extensions_and_levels_agree():
    """Whole numbers are summed exactly: int8 differs between levels by what float32 does around the sums."""
    code = (
        "import numpy as np, rnncore as rc\n"
        "x = np.random.default_rng(0).standard_normal((7, 40, 50)).astype('float32')\n"
        "layer = rc.Recurrent('gru', 50, 70)\n"
        "for kind in ('bfloat16', 'int8'): np.save(f'{kind}.npy', layer.session(40, kind).run(x))\n"
    )
    levels = kernels.levels()
    names = [*levels, *("+".join(("v4", *kernels.extensions("v4")[:n])) for n in range(1, 3) if "v4" in levels)]
    root = os.path.dirname(os.path.dirname(os.path.abspath(rc.__file__)))
    found = {}
    for name in dict.fromkeys(names):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"RNNCORE_ISA": name, "PYTHONPATH": root, "RNNCORE_GEMM": "native"}
            subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env=environment)
            found[name] = [np.load(os.path.join(folder, f"{kind}.npy")) for kind in KINDS]
    first = next(iter(found.values()))
    for name, both in found.items():
        for kind, one, other in zip(KINDS, both, first, strict=True):
            allowed = 1e-3 if kind == "int8" else 2e-3  # a state that rounds the other way, and what follows from it
            assert np.abs(one - other).max() < allowed, (name, kind)


def test_isa_refuses_extensions_that_are_not_there():
    run = subprocess.run(
        [sys.executable, "-c", "from rnncore._core import kernels"],
        env=os.environ | {"RNNCORE_ISA": f"{kernels.levels()[-1]}+vnni"},
        capture_output=True,
        text=True,
    )
    assert run.returncode and "not vnni" in run.stderr


@pytest.mark.kernels
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_stay_seen(bad):
    layer = rc.Recurrent("elman", 20, 8, activation="identity")
    x = np.ones((1, 2, 20), np.float32)
    x[0, 1, 17] = bad
    for kind in KINDS:
        found = layer.session(2, kind).run(x)[0]
        assert np.isfinite(found[0]).all() and not np.isfinite(found[1]).any(), kind
    layer.params["layers.0.fwd.W_xh"][3, 2] = bad
    for kind in KINDS:
        found = layer.session(2, kind).run(np.ones((1, 2, 20), np.float32))[0]
        assert np.isfinite(np.delete(found, 2, axis=1)).all() and not np.isfinite(found[:, 2]).any(), kind


def network(**options):
    return rc.Network(rc.Recurrent("lstm", 12, 24, **options), rc.Softmax(40))


def test_a_networks_session_and_predictions_are_the_same_and_near():
    x = np.random.default_rng(0).standard_normal((8, 3, 12)).astype(np.float32)
    net = network()
    whole = net.predict(x)
    for kind in KINDS:
        session = net.session(3, kind)
        found = session.run(x)
        net.weight_dtype = kind
        assert np.array_equal(net.predict(x), found)
        assert np.array_equal(net.session(3).run(x), found)
        assert 0 < np.abs(found - whole).max() < 0.02
        net.weight_dtype = None
    assert np.array_equal(net.predict(x), whole)


def test_predictions_follow_the_parameters_and_training_does_not_see_the_setting():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3, 12)).astype(np.float32), rng.integers(0, 40, (8, 3))
    plain, kept = network(), network()
    kept.weight_dtype = "int8"
    sgd = [rc.SGD(0.5), rc.SGD(0.5)]
    for _ in range(3):
        before = kept.predict(x)
        losses = [net.train_step(x, y, one) for net, one in zip((plain, kept), sgd, strict=True)]
        assert losses[0] == losses[1]
        assert not np.array_equal(kept.predict(x), before)
    assert np.array_equal(plain.theta, kept.theta)
    assert np.array_equal(kept.predict(x), plain.session(3, "int8").run(x))


def test_sessions_of_each_kind_share_their_weights_and_refresh():
    layer = rc.Recurrent("gru", 5, 6)
    one, two, other = layer.session(1, "int8"), layer.session(2, "int8"), layer.session(1)
    assert one._snapshot is two._snapshot is not other._snapshot
    x = np.ones((1, 5), np.float32)
    before = one.step(x)
    one.reset()
    layer.theta[...] *= 2
    assert np.array_equal(one.step(x), before)
    one.reset()
    one.refresh()
    assert np.array_equal(one.step(x), layer.session(1, "int8").step(x)) and not np.array_equal(one.step(x), before)


def test_what_cannot_be_kept_smaller_says_so():
    with pytest.raises(ValueError, match="only float32 weights"):
        rc.Recurrent("gru", 3, 4, dtype="float64").session(1, "int8")
    with pytest.raises(ValueError, match="'bfloat16', 'int8'; got 'int4'"):
        rc.Recurrent("gru", 3, 4).session(1, "int4")
    with pytest.raises(ValueError, match="weight_dtype must be"):
        network().weight_dtype = "float16"
    with pytest.raises(ValueError, match="weight_dtype must be"):
        rc.SequenceTagger(weight_dtype="half").fit([["a"]], [["b"]])


def test_a_tied_or_adaptive_head_and_letters_are_kept_smaller_too():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 300, (7, 2))
    for head in (rc.Softmax(300, tied=True), rc.AdaptiveSoftmax(300, cutoffs=[50, 120])):
        net = rc.Network(rc.Recurrent("lstm", 16, 16), head, embedding=rc.Embedding(300, 16))
        whole = net.log_likelihood(ids, ids)
        for kind in KINDS:
            net.weight_dtype = kind
            found = net.log_likelihood(ids, ids)
            assert 0 < np.abs(found - whole).max() < 0.1, (head, kind)
            net.weight_dtype = None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_smaller_and_predicts_as_its_sessions_did(tmp_path, kind):
    net = rc.Network(rc.Recurrent("lstm", 64, 128), rc.Softmax(50))
    x = np.random.default_rng(0).standard_normal((5, 2, 64)).astype(np.float32)
    net.save(tmp_path / "whole")
    net.save(tmp_path / "small", weight_dtype=kind)
    share = (tmp_path / "small").stat().st_size / (tmp_path / "whole").stat().st_size
    assert share < {"bfloat16": 0.52, "int8": 0.29}[kind]
    found = rc.load(tmp_path / "small")
    assert found.dtype == np.float32
    wanted = net.session(2, kind).run(x)
    assert np.allclose(found.session(2, kind).run(x), wanted, atol=0 if kind == "bfloat16" else 1e-5)
    assert np.allclose(found.predict(x), net.predict(x), atol=0.02)


def test_shrinking_is_rounding():
    rng = np.random.default_rng(0)
    arrays = {"W": rng.standard_normal((30, 20)).astype("f4"), "b": np.ones(3, "f4"), "d": np.ones((2, 2))}
    arrays["W"][:, 3] = 0
    back = restore(shrink(arrays, "bfloat16"), "bfloat16")
    assert np.array_equal(back["W"], bfloat16(arrays["W"]))
    small = shrink(arrays, "int8")
    back = restore(small, "int8")
    assert set(back) == set(arrays) and small["W"].dtype == np.int8
    assert (np.abs(back["W"] - arrays["W"]) <= small["W:scale"] * 0.501).all()
    again = shrink(back, "int8")
    assert np.array_equal(again["W"], small["W"]) and np.array_equal(back["b"], arrays["b"])
    with pytest.raises(ValueError, match="not finite"):
        shrink({"W": np.full((2, 2), np.inf, "f4")}, "int8")


def test_a_file_whose_weights_do_not_fit_together_is_refused(tmp_path):
    from rnncore.io.files import write_model

    net = network()
    arrays = {name: np.array(view) for name, view in net.params.items()}
    for bad in ({"weight_dtype": "int4"}, {"weight_dtype": "int8"}):
        kept = {name: array.astype(np.int8) for name, array in arrays.items()}
        write_model(tmp_path / "bad", "Network", net._to_model()[1] | bad, kept)
        with pytest.raises(ModelFileError):
            rc.load(tmp_path / "bad")


def test_estimators_predict_by_one_argument(tmp_path):
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((rng.integers(5, 12), 4)) for _ in range(60)]
    y = [int(one.mean() > 0) for one in X]
    model = rc.SequenceClassifier(max_epochs=4, weight_dtype="int8").fit(X, y)
    plain = rc.SequenceClassifier(max_epochs=4).fit(X, y)
    assert np.array_equal(model.network_.theta, plain.network_.theta)
    found, whole = model.predict_proba(X), plain.predict_proba(X)
    assert 0 < np.abs(found - whole).max() < 0.05
    assert np.array_equal(plain.set_params(weight_dtype="int8").predict_proba(X), found)
    model.save(tmp_path / "m", weight_dtype="int8")
    assert np.allclose(
        rc.load(tmp_path / "m").predict_proba(X), found, atol=1e-3
    )  # a head of two directions has two scales
    assert np.array_equal(model.set_params(weight_dtype=None).predict_proba(X), whole)


def test_a_language_model_writes_from_smaller_weights(tmp_path):
    model = rc.LanguageModel(max_epochs=1, hidden_size=16, weight_dtype="int8").fit("the cat sat on the mat. " * 60)
    assert len(model.generate(20, random_state=0)) == 20
    whole = model.set_params(weight_dtype=None).score("the cat sat")
    assert model.set_params(weight_dtype="int8").score("the cat sat") == pytest.approx(whole, rel=0.02)


def test_what_rewrites_sequences_uses_them_too():
    pairs = [("abc", "cba"), ("ab", "ba"), ("bca", "acb")] * 5
    model = rc.SequenceToSequence(max_epochs=3, hidden_size=16).fit(*zip(*pairs, strict=True))
    whole = model.predict(["abc"])
    found = model.set_params(weight_dtype="bfloat16").predict(["abc"])
    assert len(found) == len(whole) == 1
    assert model.network_.decoder.weight_dtype == model.network_.encoder.weight_dtype == "bfloat16"
