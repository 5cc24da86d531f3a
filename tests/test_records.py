"""A cell is said once: the record in C is what Python reads, and gives the parameters that version 0.1 had."""

import json
from pathlib import Path

import numpy as np
import pytest
import reference as ref

import rnncore as rc
from rnncore._core.kernels import cell_names, cell_record
from rnncore.nn.records import record

RECORDED = json.loads((Path(__file__).parent / "layouts_0_1.json").read_text(encoding="utf-8"))


def layer_of(case):
    sizes = case["input_size"], case["hidden_size"]
    return rc.Recurrent(case["cell"], *sizes, num_layers=2, bidirectional=True, merge="sum", **case["options"])


@pytest.mark.parametrize(
    "case", RECORDED, ids=lambda case: "-".join(map(str, [case["cell"], *case["options"].values(), case["input_size"]]))
)
def test_parameters_are_those_of_version_0_1(case):
    """Names, shapes and order in theta of every cell under every option: model files of that version load."""
    layer = layer_of(case)
    wanted = {
        f"layers.{n}.{way}.{name}": tuple(shape)
        for n, which in enumerate(("first", "second"))
        for way in ("fwd", "bwd")
        for name, shape in case[which]
    }
    assert list(layer.layout.shapes.items()) == list(wanted.items())
    assert layer.state_widths == case["states"]
    starts = np.cumsum([0, *(int(np.prod(shape)) for shape in wanted.values())])[:-1]
    assert list(layer.layout.starts.values()) == starts.tolist()


def test_no_cell_of_version_0_1_is_left_out():
    assert {case["cell"] for case in RECORDED} == set(rc.CELLS) - {"indrnn", "leaky", "ctrnn", "second_order"}


@pytest.mark.parametrize("name", cell_names())
def test_a_record_does_not_contradict_itself(name):
    """Every parameter has a shape and a use; blocks, parts and sources are there; what is part of one has its rows."""
    found, raw = record(name), cell_record(name)
    assert next(iter(found.shapes)) == "W_xh"
    used = {"W_xh", "b_h"} | {m.parameter for m in found.matrices} | {vector for vector, _ in found.vectors if vector}
    assert used == set(found.shapes) and found.optional <= used
    for matrix in found.matrices:
        assert all(0 <= block < len(raw["blocks"]) + raw["staged"] for block in matrix.blocks)
        assert matrix.meets in (*found.states, *raw["inner"])
        own = [m for m in found.matrices if m.parameter == matrix.parameter]
        assert len({(m.meets_output, m.to_output) for m in own}) == 1
        taken = sorted(g for m in own for g in range(m.gate, m.gate + m.gates))
        assert taken == list(range(len(taken)))  # the gates of a parameter, each in one matrix
    for parameter in {vector for vector, _ in found.vectors if vector}:
        parts = [part for vector, part in found.vectors if vector == parameter]
        assert parts == list(range(len(parts)))
    # zoneout goes around two states at most, and a cell sees all of them as it writes them, or none
    assert found.zoned in ((), tuple(found.states)) and len(found.zoned) <= 2


def test_gates_have_names():
    assert record("lstm").gates == {"i": 0, "f": 1, "g": 2, "o": 3}
    assert record("lstm_norm").gates == {"i": 8, "f": 9, "g": 10, "o": 11}
    assert record("mut1").gates["n"] == 3


def test_a_parameter_that_nothing_uses_is_named(monkeypatch):
    raw = cell_record("gru")
    monkeypatch.setattr(
        "rnncore.nn.records.cell_record", lambda name: raw | {"parameters": [*raw["parameters"], ("V", False)]}
    )
    with pytest.raises(ValueError, match="a parameter V that its kernels do not use"):
        record("gru with a V")


def test_an_unknown_record_is_named():
    with pytest.raises(ValueError, match="there is no kernel 'lstn'"):
        cell_record("lstn")


# ------------------------------------------------------------------------------- a cell without a matrix, and its bound


def test_a_cell_without_a_matrix_has_none():
    assert record("indrnn").matrices == ()
    assert list(rc.Recurrent("indrnn", 2, 3).params) == [f"layers.0.fwd.{name}" for name in ("W_xh", "u", "b_h")]


def test_relu_is_the_activation_of_an_indrnn_unless_another_is_asked_for():
    assert rc.Recurrent("indrnn", 2, 3).activation == "relu"
    assert rc.Recurrent("indrnn", 2, 3, activation="tanh").activation == "tanh"
    assert rc.Recurrent("elman", 2, 3).activation == "tanh"


@pytest.mark.parametrize("bound", [0, -1.0, np.inf, np.nan, "2", True])
def test_a_bound_must_be_a_positive_number(bound):
    with pytest.raises(ValueError, match="bound"):
        rc.Recurrent("indrnn", 2, 3, bound=bound)


def test_u_starts_between_zero_and_its_bound():
    u = rc.Recurrent("indrnn", 2, 500, bound=0.5).params["layers.0.fwd.u"]
    assert 0 <= u.min() < 0.01 and 0.49 < u.max() <= 0.5
    u = rc.Recurrent("indrnn", 2, 500).params["layers.0.fwd.u"]
    assert u.min() >= 0 and 0.99 < u.max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_u_at_its_bound_still_has_its_gradient(dtype):
    """Otherwise what an update has put back to the bound would stay there for ever."""
    layer = rc.Recurrent("indrnn", 2, 3, bound=0.7, activation="tanh", dtype=dtype)
    rng = np.random.default_rng(0)
    layer.params["layers.0.fwd.u"][...] = [0.7, -0.7, 5]
    x = rng.standard_normal((6, 2, 2)).astype(dtype)
    y, _ = layer.forward(x)
    layer.backward(np.ones_like(y))
    du = layer.grads["layers.0.fwd.u"]
    assert du[0] != 0 and du[1] != 0 and du[2] == 0


@pytest.mark.parametrize("optimizer", [rc.SGD(learning_rate=1.0), rc.Adam(learning_rate=0.5)], ids=["sgd", "adam"])
def test_an_update_keeps_u_within_its_bound(optimizer):
    """Whatever the step, and only u: in a network, where parameters live in its theta."""
    layer = rc.Recurrent("indrnn", 2, 8, num_layers=2, activation="tanh", bound=0.9, random_state=3)
    net = rc.Network(layer, head=rc.SquaredError(1))
    rng = np.random.default_rng(1)
    x, targets = rng.standard_normal((12, 4, 2)).astype("float32"), 5 * np.ones((12, 4, 1), "float32")
    largest = 0.0
    for _ in range(5):
        net.train_step(x, targets, optimizer)
        largest = max(largest, *(np.abs(net.params[f"layers.{n}.fwd.u"]).max() for n in range(2)))
    assert largest == np.float32(0.9)  # reached, never passed
    assert max(np.abs(net.params[f"layers.{n}.fwd.W_xh"]).max() for n in range(2)) > 0.9


def test_what_is_out_of_bounds_counts_as_at_the_bound():
    """Whoever wrote it: the recurrence never grows faster."""
    net = ref.Stack(2, 3, cell="indrnn", activation="relu", cell_options=(("bound", 0.5),))
    layer = rc.Recurrent(**net.options(), dtype="float64")
    x = np.random.default_rng(2).standard_normal((5, 2, 2))
    layer.params["layers.0.fwd.u"][...] = [0.5, -0.5, 0.25]
    within = layer.forward(x)[0].copy()
    layer.params["layers.0.fwd.u"][...] = [7, -1e30, 0.25]
    np.testing.assert_array_equal(layer.forward(x)[0], within)


def test_a_filter_keeps_u_within_its_bound_too():
    layer = rc.Recurrent("indrnn", 2, 4, activation="tanh", bound=0.2, dtype="float64", random_state=1)
    net = rc.Network(layer, head=rc.SquaredError(1))
    x = np.random.default_rng(4).standard_normal((30, 2))
    rc.EKF(net, window=10).run(x, np.cumsum(x, axis=0)[:, :1])  # memory would help
    assert np.abs(net.params["layers.0.fwd.u"]).max() == 0.2  # reached, never passed
