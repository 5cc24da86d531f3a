"""Weights from and to PyTorch, Keras and ONNX: their programs compute the same numbers with them."""

import functools
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore.interop import Operator

D, H, B, T = 3, 5, 4, 6
ELMAN = [("elman", {}), ("elman", {"activation": "relu"})]
GATED = [("lstm", {}), ("gru", {})]
DEEP = [{}, {"num_layers": 2, "bidirectional": True}]
BEFORE = ("gru", {"reset": "before"})
PROJECTED = ("lstm", {"proj_size": 2})


def random_layer(cell, dtype="float64", **options):
    layer = rc.Recurrent(cell, D, H, dtype=dtype, **options)
    layer.theta[...] = np.random.default_rng(0).standard_normal(layer.theta.shape) / 2
    return layer


def random_input(dtype="float64"):
    return np.random.default_rng(1).standard_normal((T, B, D)).astype(dtype)


def assert_same_layer(found, expected):
    """The same function of the input, all options included; what another bias would do is in one of ours."""
    assert repr(found) == repr(expected) and found.plan == expected.plan
    assert set(found.params) == set(expected.params)
    for name, array in expected.params.items():
        np.testing.assert_array_equal(found.params[name], array, err_msg=name)


# ---------------------------------------------------------------------------------------------------- PyTorch

torch_cells = pytest.mark.parametrize("cell, options", [*ELMAN, *GATED, PROJECTED])


def torch_module(cell, options, **more):
    torch = peer("torch")
    kind = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    own = {"nonlinearity" if name == "activation" else name: value for name, value in options.items()}
    torch.manual_seed(0)
    return kind(D, H, dtype=torch.float64, **own, **more)


def torch_results(module, x):
    import torch

    with torch.no_grad():
        y, state = module(torch.from_numpy(x))
    return [part.numpy() for part in (y, *(state if isinstance(state, tuple) else (state,)))]


@torch_cells
@pytest.mark.parametrize("deep", DEEP, ids=["one", "deep"])
def test_to_torch(cell, options, deep):
    module, layer, x = torch_module(cell, options, **deep), random_layer(cell, **options, **deep), random_input()
    import torch

    module.load_state_dict({name: torch.from_numpy(array) for name, array in rc.to_torch(layer).items()})
    y, state = layer.forward(x)
    for found, expected in zip([y, *state], torch_results(module, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@torch_cells
@pytest.mark.parametrize("deep", DEEP, ids=["one", "deep"])
@pytest.mark.parametrize("bias", [True, False])
def test_from_torch(cell, options, deep, bias):
    module, x = torch_module(cell, options, bias=bias, **deep), random_input()
    expected = torch_results(module, x)
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    activation = options.get("activation")
    for source in (module, dict(module.named_parameters()), arrays):
        layer = rc.from_torch(source, activation=activation)
        y, state = layer.forward(x)
        for found, wanted in zip([y, *state], expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell, options", [*ELMAN, *GATED, PROJECTED])
@pytest.mark.parametrize("deep", DEEP, ids=["one", "deep"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_through_torch_and_back(cell, options, deep, dtype):
    layer = random_layer(cell, dtype, **options, **deep)
    weights = rc.to_torch(layer, prefix="encoder.") | {"decoder.weight": np.ones(3)}
    back = rc.from_torch(weights, prefix="encoder.", activation=options.get("activation"))
    assert_same_layer(back, layer)
    back.theta[...] = 0  # copies, not views
    assert weights["encoder.weight_ih_l0"].any() and layer.theta.any()


def test_options_of_from_torch():
    weights = rc.to_torch(random_layer("lstm", num_layers=2))
    layer = rc.from_torch(weights, dropout=0.25, n_threads=1, dtype="float32")
    assert (layer.dropout, layer.n_threads, layer.dtype) == (0.25, 1, np.float32)
    module = torch_module("elman", {"activation": "relu"}, num_layers=2, dropout=0.5)
    layer = rc.from_torch(module)
    assert (layer.activation, layer.dropout) == ("relu", 0.5)
    assert rc.from_torch(module, activation="tanh", dropout=0.0).dropout == 0


TORCH_BAD = {
    "no_names": (lambda w: w.clear(), "no weight_ih_l0; it has nothing"),
    "below_a_prefix": (lambda w: prefixed(w), "give prefix='rnn.'"),
    "missing": (lambda w: w.pop("weight_hh_l1_reverse"), "no weight_hh_l1_reverse"),
    "missing_bias": (lambda w: w.pop("bias_hh_l0"), "no bias_hh_l0"),
    "missing_layer": (lambda w: [w.pop(n) for n in list(w) if "_l0" in n and n != "weight_ih_l0"], "weight_hh_l0"),
    "a_bias_too_many": (lambda w: [w.pop("bias_ih_l0")], "belongs to no layer|no bias_ih_l0"),
    "wrong_rows": (lambda w: w.update(weight_ih_l1=np.ones((16, 10))), r"weight_ih_l1 must have shape \(20, any\)"),
    "wrong_width": (lambda w: w.update(weight_ih_l1=np.ones((20, 9))), r"W_xh .* must have shape \(10, 20\)"),
    "wrong_gates": (lambda w: w.update(weight_ih_l0=np.ones((10, 3))), "1 .RNN., 3 .GRU. or 4 .LSTM."),
    "wrong_dimensions": (lambda w: w.update(bias_hh_l0=np.ones((20, 1))), r"bias_hh_l0 must have shape \(20\)"),
    "integers": (lambda w: w.update(bias_hh_l0=np.ones(20, int)), "floating-point"),
    "words": (lambda w: w.update(bias_hh_l0=np.array(["a"] * 20)), "floating-point"),
    "ragged": (lambda w: w.update(bias_hh_l0=[[1.0], [2.0, 3.0]]), "bias_hh_l0 must be an array of numbers"),
}


def prefixed(weights):
    renamed = {f"rnn.{name}": array for name, array in weights.items()}
    weights.clear()
    weights.update(renamed)


@pytest.mark.parametrize("bad", TORCH_BAD)
def test_bad_state_dicts(bad):
    weights = rc.to_torch(random_layer("lstm", num_layers=2, bidirectional=True))
    spoil, message = TORCH_BAD[bad]
    spoil(weights)
    with pytest.raises(ValueError, match=message):
        rc.from_torch(weights)


@pytest.mark.parametrize(
    ("torch", "error"),
    [
        ("raise ModuleNotFoundError(name='torch')", "ImportError: rnncore.torch needs PyTorch, 2.4 or newer: pip inst"),
        ("import a_part_of_pytorch", "ModuleNotFoundError: No module named 'a_part_of_pytorch'"),
    ],
    ids=["missing", "broken"],
)
def test_modules_without_pytorch_say_so(tmp_path, torch, error):
    (tmp_path / "torch.py").write_text(torch)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import rnncore.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(error)


def test_public_names_are_listed():
    assert dir(rc) == sorted(rc.__all__) and {"Network", "SequenceTagger"} <= set(
        dir(rc)
    )  # before they are loaded, too


def test_what_is_no_state_dict():
    with pytest.raises(TypeError, match="mapping"):
        rc.from_torch([np.ones(3)])
    with pytest.raises(TypeError, match=r"rnncore\.Recurrent"):
        rc.to_torch(rc.Network(rc.Recurrent("elman", 2, 3), head=rc.Softmax(2)))


# ------------------------------------------------------------------------------------------------------ Keras


@pytest.fixture(scope="module")
def keras():
    peer("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return peer("keras")


def keras_layers(keras, cell, options, num_layers=1, bidirectional=False, **more):
    kind = {"elman": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    own = {name: value for name, value in options.items() if name != "reset"}
    if cell == "gru":
        own["reset_after"] = options.get("reset", "after") == "after"
    made = []
    for n in range(num_layers):
        layer = kind(H, return_sequences=True, dtype="float64", **own, **more)
        made.append(keras.layers.Bidirectional(layer, dtype="float64") if bidirectional else layer)
        made[-1].build((B, T, 2 * H if n and bidirectional else H if n else D))
    return made


def keras_outputs(layers, x):
    y = np.ascontiguousarray(x.swapaxes(0, 1))
    for layer in layers:
        y = layer(y)
    return y.detach().cpu().numpy().swapaxes(0, 1)


def keras_tolerance(cell, options):
    """Where a layer multiplies by keras.ops.matmul, that on top of PyTorch rounds to float32."""
    return 1e-5 if cell == "elman" or options.get("reset") == "before" else 1e-12


keras_cells = pytest.mark.parametrize("cell, options", [*ELMAN, *GATED, BEFORE])


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@keras_cells
@pytest.mark.parametrize("deep", DEEP, ids=["one", "deep"])
def test_to_keras(keras, cell, options, deep):
    layers, ours, x = keras_layers(keras, cell, options, **deep), random_layer(cell, **options, **deep), random_input()
    for layer, arrays in zip(layers, rc.to_keras(ours), strict=True):
        layer.set_weights(arrays)
    np.testing.assert_allclose(
        ours.forward(x)[0], keras_outputs(layers, x), rtol=0, atol=keras_tolerance(cell, options)
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@keras_cells
@pytest.mark.parametrize("deep", DEEP, ids=["one", "deep"])
@pytest.mark.parametrize("bias", [True, False])
def test_from_keras(keras, cell, options, deep, bias):
    layers, x, rng = keras_layers(keras, cell, options, use_bias=bias, **deep), random_input(), np.random.default_rng(2)
    for layer in layers:
        layer.set_weights([rng.standard_normal(array.shape) / 2 for array in layer.get_weights()])
    weights = [layer.get_weights() for layer in layers]
    if not deep:
        (weights,) = weights
    known = {"activation": options["activation"]} if "activation" in options else {}
    if options.get("reset") == "before" and not bias:
        known["reset_after"] = False
    y, _ = rc.from_keras(weights, **known).forward(x)
    np.testing.assert_allclose(y, keras_outputs(layers, x), rtol=0, atol=keras_tolerance(cell, options))


@keras_cells
@pytest.mark.parametrize("deep", [*DEEP, {"num_layers": 2, "bidirectional": True, "merge": "sum"}])
def test_through_keras_and_back(cell, options, deep):
    layer = random_layer(cell, **options, **deep)
    more = {"merge": deep["merge"]} if "merge" in deep else {}
    assert_same_layer(rc.from_keras(rc.to_keras(layer), activation=layer.activation, **more), layer)


def test_keras_gate_orders():
    """Keras's GRU has z, r, h and keeps the old state where z is one; its LSTM has i, f, c, o."""
    layer = random_layer("gru")
    kernel, _, bias = rc.to_keras(layer)[0]
    r, z, n = np.split(layer.params["layers.0.fwd.W_xh"], 3, axis=1)
    np.testing.assert_array_equal(kernel, np.hstack([z, r, n]))
    np.testing.assert_array_equal(bias[1], np.append(np.zeros(2 * H), layer.params["layers.0.fwd.b_hn"]))
    layer = random_layer("lstm")
    np.testing.assert_array_equal(rc.to_keras(layer)[0][0], layer.params["layers.0.fwd.W_xh"])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda lists: [], "get_weights"),
        (lambda lists: [lists[0][:1]], "got 1 arrays"),
        (lambda lists: [lists[0], lists[1][:4]], "got 6, 4 arrays"),
        (lambda lists: [[*lists[0][:2], np.ones(3), *lists[0][3:]]], r"bias of layer 0 must have shape \(15\)"),
        (lambda lists: [[np.ones((3, 10)), *lists[0][1:]]], r"kernel of layer 0 must have shape \(any, 15\)"),
        (lambda lists: [lists[0], [np.ones((9, 15)), *lists[1][1:]]], r"W_xh .* must have shape \(10, 15\)"),
        (lambda lists: [lists[0], [np.ones((10, 5)), np.ones((5, 5)), np.ones(5)] * 2], "layer 1 is elman"),
        (lambda lists: [lists[0], [np.ones((10, 15)), np.ones((5, 15)), np.ones(15)] * 2], "both"),
    ],
)
def test_bad_keras_weights(spoil, message):
    lists = rc.to_keras(random_layer("gru", num_layers=2, bidirectional=True))
    with pytest.raises(ValueError, match=message):
        rc.from_keras(spoil(lists))


def test_keras_reset_after_must_fit():
    with pytest.raises(ValueError, match="reset_after=True; reset_after=False was given"):
        rc.from_keras(rc.to_keras(random_layer("gru")), reset_after=False)


# ------------------------------------------------------------------------------------------------------- ONNX

LSTMS = [("lstm", {"peepholes": True}), ("lstm", {"variant": "CIFG"})]
RNNS = [("elman", {"activation": name}) for name in ("sigmoid", "identity")]
RNNS.append(("elman", {"activation": "leaky_relu", "leaky_slope": 0.2}))
onnx_cells = pytest.mark.parametrize("cell, options", [*ELMAN, *RNNS, *GATED, *LSTMS, BEFORE])
DIRECTIONS = [{}, {"reverse": True}, {"bidirectional": True}]


def run_onnx(operator, x):
    """One operator run by onnxruntime: outputs (T, B, directions·H) and final states."""
    onnx, runtime = peer("onnx"), peer("onnxruntime")
    names = ["X", "W", "R", "B"]
    if "P" in operator.inputs:
        names += ["", "", "", "P"]  # without lengths and initial states
    outputs = ["Y", "Y_h", "Y_c"][: 3 if operator.op_type == "LSTM" else 2]
    node = onnx.helper.make_node(operator.op_type, names, outputs, **operator.attributes)
    values = [onnx.numpy_helper.from_array(array, name) for name, array in operator.inputs.items()]
    described = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("X", *outputs)]
    graph = onnx.helper.make_graph([node], "layer", described[:1], described[1:], values)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *states = session.run(None, {"X": x})
    return np.concatenate(list(y.swapaxes(0, 1)), axis=-1), states


@onnx_cells
@pytest.mark.parametrize("direction", DIRECTIONS, ids=["forward", "reverse", "both"])
def test_to_onnx(cell, options, direction):
    layer, x = random_layer(cell, "float32", **options, **direction), random_input("float32")
    (operator,) = rc.to_onnx(layer)
    expected, states = run_onnx(operator, x)
    y, state = layer.forward(x)
    for found, wanted in zip([y, *state], [expected, *states], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@onnx_cells
def test_deep_layers_to_onnx(cell, options):
    layer, x = random_layer(cell, "float32", num_layers=3, bidirectional=True, **options), random_input("float32")
    y = x
    for operator in rc.to_onnx(layer):
        y, _ = run_onnx(operator, y)
    np.testing.assert_allclose(layer.forward(x)[0], y, rtol=2e-5, atol=2e-5)


@onnx_cells
@pytest.mark.parametrize(
    "direction", [*DIRECTIONS, {"num_layers": 2, "bidirectional": True}], ids=lambda d: "-".join(d)
)
def test_through_onnx_and_back(cell, options, direction):
    layer = random_layer(cell, **options, **direction)
    back = rc.from_onnx(rc.to_onnx(layer))
    assert back.reverse == layer.reverse
    assert_same_layer(back, layer)


@pytest.mark.parametrize(
    "op_type, attributes",
    [
        ("RNN", {}),
        ("LSTM", {}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {}),
    ],
)
def test_two_biases_from_onnx(op_type, attributes):
    """Both of ONNX's biases count, and may be left out."""
    rng, rows = np.random.default_rng(3), {"RNN": 1, "LSTM": 4, "GRU": 3}[op_type] * H
    inputs = {"W": (2, rows, D), "R": (2, rows, H), "B": (2, 2 * rows)}
    arrays = {name: rng.standard_normal(shape).astype("f4") / 2 for name, shape in inputs.items()}
    attributes = attributes | {"direction": "bidirectional", "hidden_size": H}
    x = random_input("float32")
    for zeroed in (False, True):
        if zeroed:
            arrays["B"][...] = 0
        expected, _ = run_onnx(Operator(op_type, attributes, arrays), x)
        given = {name: array for name, array in arrays.items() if not zeroed or name != "B"}
        y, _ = rc.from_onnx((op_type, attributes, given)).forward(x)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_onnx_gate_orders():
    """The LSTM's gates are i, o, f, c, its peepholes i, o, f; the GRU's are z, r, h."""
    layer = random_layer("lstm", peepholes=True)
    i, f, g, o = np.split(layer.params["layers.0.fwd.W_xh"].T, 4)
    inputs = rc.to_onnx(layer)[0].inputs
    np.testing.assert_array_equal(inputs["W"][0], np.vstack([i, o, f, g]))
    peepholes = [layer.params[f"layers.0.fwd.w_c{gate}"] for gate in "iof"]
    np.testing.assert_array_equal(inputs["P"][0], np.concatenate(peepholes))


def test_attributes_as_onnx_hands_them_out():
    ((op_type, attributes, inputs),) = rc.to_onnx(random_layer("elman", activation="relu", reverse=True))
    attributes = dict(attributes) | {"activations": [b"Relu"], "direction": b"reverse"}
    layer = rc.from_onnx((op_type, attributes, inputs))
    assert (layer.activation, layer.reverse) == ("relu", True)


@pytest.mark.parametrize(
    "cell, attributes, inputs, message",
    [
        ("lstm", {}, {"W": None}, "needs its input W"),
        ("lstm", {}, {"W": np.ones((1, 19, 3))}, r"W must have shape \(1, 20, any\)"),
        ("lstm", {}, {"R": np.ones((2, 20, 5))}, r"R must have shape \(1, 20, 5\)"),
        ("lstm", {"hidden_size": 4}, {}, r"R must have shape \(1, 16, 4\)"),
        ("lstm", {}, {"B": np.ones((1, 20))}, r"B must have shape \(1, 40\)"),
        ("lstm", {}, {"P": np.ones((1, 20))}, r"P must have shape \(1, 15\)"),
        ("lstm", {"clip": 3.0}, {}, "clip=3.0"),
        ("lstm", {"direction": "sideways"}, {}, "forward, reverse, bidirectional"),
        ("lstm", {"activations": ["Sigmoid", "Relu", "Tanh"]}, {}, "Sigmoid, Tanh, Tanh"),
        ("lstm", {}, {"initial_h": np.ones((1, 2, 5), "f4")}, "cannot keep the input initial_h .* state="),
        ("lstm", {}, {"initial_c": np.full((1, 2, 5), np.nan)}, "cannot keep the input initial_c"),
        ("gru", {}, {"sequence_lens": np.array([3, 2], "i4")}, "cannot keep the input sequence_lens .* lengths="),
        ("elman", {}, {"Q": np.ones(3)}, "cannot keep the input Q of RNN: leave it out, it would be lost"),
        ("elman", {"activations": ["Softsign"]}, {}, "one of Tanh"),
        ("elman", {"activations": ["Affine"], "activation_alpha": [2.0]}, {}, "identity"),
    ],
)
def test_bad_operators(cell, attributes, inputs, message):
    ((op_type, own, arrays),) = rc.to_onnx(random_layer(cell))
    with pytest.raises(ValueError, match=message):
        rc.from_onnx((op_type, own | attributes, arrays | inputs))


def test_inputs_that_say_nothing():
    """States of zeros are what a layer begins with, and X is what it is given."""
    ((op_type, attributes, arrays),) = rc.to_onnx(random_layer("lstm"))
    silent = {"X": np.ones((2, 3, D), "f4"), "initial_h": np.zeros((1, 3, H), "f4"), "initial_c": None, "P": None}
    layer = rc.from_onnx((op_type, attributes, {**arrays, **silent}))
    assert layer.theta.tobytes() == rc.from_onnx((op_type, attributes, arrays)).theta.tobytes()


@functools.cache
def node_cases():
    """ONNX's own test cases of its recurrent operators: (operator, attributes, inputs, outputs) by name."""
    loader = peer("onnx.backend.test.loader")
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cases of other operators
        cases = loader.load_model_tests(kind="node")
    for case in cases:
        node = case.model.graph.node[0]
        if node.op_type in ("RNN", "LSTM", "GRU") and len(case.model.graph.node) == 1:
            attributes = {a.name: peer("onnx").helper.get_attribute_value(a) for a in node.attribute}
            ((given, expected),) = case.data_sets
            inputs = dict(zip(filter(None, node.input), given, strict=True))
            outputs = dict(zip(filter(None, node.output), expected, strict=True))
            found[case.name] = node.op_type, attributes, inputs, outputs
    return found


KINDS = {"RNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru"}
ALIKE = ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional")
NODES = [f"test_{kind}_{case}" for kind in KINDS.values() for case in ALIKE]
NODES += ["test_rnn_seq_length", "test_gru_seq_length", "test_lstm_with_peepholes"]


def outputs_of(layer, given, op_type):
    """What ONNX's operator puts out, by our layer."""
    x = given["X"]
    y, state = layer.forward(x, lengths=given.get("sequence_lens"))
    steps = y.reshape(*y.shape[:2], -1, layer.hidden_size).swapaxes(1, 2)
    return {"Y": steps, **dict(zip(("Y_h", "Y_c"), state, strict=False))}


@pytest.mark.parametrize("name", NODES)
def test_onnx_node_cases(name):
    """Read from the node, our layer gives what ONNX expects; written again, so does the node."""
    op_type, attributes, given, expected = node_cases()[name]
    batch_first = attributes.pop("layout", 0)
    if batch_first:  # (B, T, D), (B, T, directions, H), (B, directions, H)
        given = {**given, "X": given["X"].swapaxes(0, 1)}
        turned = {"Y": (1, 2, 0, 3), "Y_h": (1, 0, 2)}
        expected = {output: array.transpose(turned[output]) for output, array in expected.items()}
    weights = {key: array for key, array in given.items() if key not in ("X", "sequence_lens")}
    layer = rc.from_onnx((op_type, attributes, weights))
    found = outputs_of(layer, given, op_type)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-5, atol=1e-6)
    (operator,) = rc.to_onnx(layer)
    y, states = run_onnx(operator, given["X"])
    written = {"Y": y.reshape(*y.shape[:2], -1, layer.hidden_size).swapaxes(1, 2)}
    written |= dict(zip(("Y_h", "Y_c"), states, strict=False))
    for output, array in expected.items():
        np.testing.assert_allclose(written[output], array, rtol=1e-5, atol=1e-6)


def test_all_onnx_node_cases_are_here():
    assert set(NODES) == set(node_cases())


def test_what_is_handed_out_is_a_copy():
    """Also where a matrix of one row or column is its own transpose."""
    for cell, options in (*ELMAN, *GATED, ("lstm", {"proj_size": 1}), ("lstm", {"peepholes": True}), BEFORE):
        for inputs, hidden in ((1, 1), (1, 3), (3, 1)):
            layer = rc.Recurrent(cell, inputs, hidden, num_layers=2, bidirectional=True, **options)
            for write in (rc.to_torch, rc.to_keras, rc.to_onnx):
                try:
                    given = write(layer)
                except ValueError:
                    continue
                for array in every_array(given):
                    assert not np.shares_memory(array, layer.theta), (write, cell, options)


def every_array(given):
    """All arrays in what a writer returns: dicts, lists and operators of them."""
    if isinstance(given, np.ndarray):
        return [given]
    if isinstance(given, Operator):
        given = given.inputs
    parts = given.values() if isinstance(given, dict) else given
    return [array for part in parts for array in every_array(part)]


def test_bad_lists_of_operators():
    (lstm,), (gru,) = (rc.to_onnx(random_layer(cell)) for cell in ("lstm", "gru"))
    for wrong in ([], None, 3, {"W": lstm}, ["GRU"], [("GRU", [], {})]):
        with pytest.raises(ValueError, match="at least one"):
            rc.from_onnx(wrong)
    with pytest.raises(ValueError, match="inputs given: W, 1"):
        rc.from_onnx(("GRU", {"hidden_size": 5}, {"W": 3, "R": None, 1: 2}))
    with pytest.raises(ValueError, match="number 1 is gru"):
        rc.from_onnx([lstm, gru])
    with pytest.raises(ValueError, match="RNN, LSTM, GRU"):
        rc.from_onnx(("Conv", {}, {}))


# ------------------------------------------------------------------------------------- what the others do not have


@pytest.mark.parametrize(
    "write, cell, options, message",
    [
        (rc.to_torch, "elman", {"activation": "sigmoid"}, "PyTorch has elman with tanh, relu, not with sigmoid"),
        (rc.to_torch, "lstm", {"peepholes": True}, "peepholes=True"),
        (rc.to_torch, "lstm", {"variant": "NIG"}, "variant='NIG'"),
        (rc.to_torch, "gru", {"bidirectional": True, "merge": "sum"}, 'merge="sum"'),
        (rc.to_torch, "gru", {"reverse": True}, "reverse=True"),
        (rc.to_torch, "gru", {"reset": "before"}, "reset='before'"),
        (rc.to_keras, "elman", {"activation": "clipped_relu"}, "Keras has elman with"),
        (rc.to_keras, "lstm", {"peepholes": True}, "peepholes=True"),
        (rc.to_keras, "gru", {"reverse": True}, "reverse=True"),
        (rc.to_onnx, "elman", {"activation": "clipped_relu"}, "ONNX has elman with"),
        (rc.to_onnx, "lstm", {"variant": "NOG"}, "variant='NOG'"),
        (rc.to_keras, "lstm", {"layer_norm": True}, "layer_norm=True"),
        (rc.to_onnx, "lstm", {"proj_size": 2}, "proj_size=2"),
    ],
)
def test_settings_without_counterpart(write, cell, options, message):
    with pytest.raises(ValueError, match=message):
        write(random_layer(cell, **options))


@pytest.mark.parametrize("cell", [name for name in rc.CELLS if name not in ("elman", "lstm", "gru")])
@pytest.mark.parametrize("write", [rc.to_torch, rc.to_keras, rc.to_onnx])
def test_cells_without_counterpart(write, cell):
    with pytest.raises(ValueError, match=f"elman, lstm, gru, not {cell}"):
        write(rc.Recurrent(cell, D, H))


@pytest.mark.parametrize("write", [rc.to_torch, rc.to_keras, rc.to_onnx])
def test_zoneout_has_no_counterpart(write):
    with pytest.raises(ValueError, match=r"zoneout=0\.1"):
        write(random_layer("lstm", zoneout=0.1))


def test_none_of_them_is_needed():
    code = """
import sys, rnncore as rc
layer = rc.Recurrent("lstm", 2, 3)
rc.from_torch(rc.to_torch(layer)), rc.from_keras(rc.to_keras(layer)), rc.from_onnx(rc.to_onnx(layer))
print(sorted({"torch", "keras", "onnx"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
