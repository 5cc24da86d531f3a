"""All states and gates by name, against the reference's states and the cells' equations."""

import threading

import numpy as np
import pytest
import reference as ref
import twins

import rnncore as rc

T, B = 6, 3
LENGTHS = [4, 6, 1]
MEMBERS = [*ref.FAMILY, *(f"lstm {variant}" for variant in ("NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR"))]


def member(name, *sizes, **options):
    if name in ref.FAMILY:
        return ref.member(name, *sizes, **options)
    return ref.Stack(*sizes, cell="lstm", cell_options=(("variant", name[5:]), ("peepholes", True)), **options)


def gates_of(net, p, x, before, after):
    """What a step computes on its way from the states before to those after, by name, from the equations."""
    H, s = net.hidden_size, ref.sigmoid
    if net.cell in ("elman", "indrnn", "ctrnn", "second_order"):
        return {}
    if net.cell == "leaky":
        return {"f": net.f(x @ p["W_xh"] + p["b_h"] + before[0] @ p["W_hh"])}
    if net.cell == "jordan":
        pre = x @ p["W_xh"] + after[1] @ p["W_yh"] + p["b_h"] + (before[2] @ p["W_hh"] if len(before) > 2 else 0)
        return {"h": net.f(pre)}
    if net.cell == "lstm":
        return lstm_gates(net, p, x, before, after)
    h, U = before[0], ref.split(p["W_hh"], p["W_hh"].shape[1] // H)
    if net.cell.startswith("mut"):
        return mut_gates(net, p, x, h, U)
    a = ref.split(x @ p["W_xh"] + p["b_h"], len(p["b_h"]) // H)
    if net.cell == "mgu":
        f = s(a[0] + h @ U[0])
        return {"f": f, "n": np.tanh(a[1] + (f * h) @ U[1])}
    r, z = s(a[0] + h @ U[0]), s(a[1] + h @ U[1])
    if net.option("reset") == "before":
        return {"r": r, "z": z, "n": np.tanh(a[2] + (r * h) @ U[2])}
    q = h @ U[2] + p["b_hn"]
    return {"r": r, "z": z, "n": np.tanh(a[2] + r * q), "q": q}


def mut_gates(net, p, x, h, U):
    H, s = net.hidden_size, ref.sigmoid
    by_x = list(ref.split(x @ p["W_xh"], p["W_xh"].shape[1] // H))
    if len(by_x) == 2:
        by_x.insert(2 if net.cell == "mut1" else 0, x)
    b = [*ref.split(p["b_h"], len(p["b_h"]) // H), 0]
    r = s(by_x[0] + b[0] + h @ U[0])
    z = s(by_x[1] + b[1] + {"mut1": 0, "mut2": h @ U[1], "mut3": np.tanh(h) @ U[1]}[net.cell])
    if net.cell == "mut1":
        squashed = np.tanh(by_x[2] + b[2])
        return {"r": r, "z": z, "x": squashed, "n": np.tanh(squashed + p["b_hn"] + (r * h) @ U[-1])}
    return {"r": r, "z": z, "n": np.tanh(by_x[2] + b[2] + (r * h) @ U[-1])}


def lstm_gates(net, p, x, before, after):
    s, variant, one = ref.sigmoid, net.option("variant"), np.ones(net.hidden_size)
    h, c, c_new = before[0], before[1], after[1]
    from_x, from_h = x @ p["W_xh"], h @ p["W_hh"]
    if net.option("layer_norm"):
        from_x, from_h = p["gain_x"] * ref.normal(from_x), p["gain_h"] * ref.normal(from_h)
    sums = ref.split(from_x + from_h + p["b_h"], 3 if variant == "1997" else 4)
    names = "igo" if variant == "1997" else "ifgo"
    a = dict(zip(names, sums, strict=True))
    for gate, name in zip(before[2:], ("W_gi", "W_gf", "W_go"), strict=False):
        for to, part in zip("ifo", ref.split(gate @ p[name], 3), strict=True):
            a[to] = a[to] + part
    for gate, seen in (("i", c), ("f", c), ("o", c_new)):
        if f"w_c{gate}" in p:
            a[gate] = a[gate] + p[f"w_c{gate}"] * seen
    found = {"i": one if variant == "NIG" else s(a["i"])}
    if "f" in a:
        found["f"] = one if variant == "NFG" else 1 - found["i"] if variant == "CIFG" else s(a["f"])
    squash = {"1997": lambda v: 4 * s(v) - 2, "NIAF": ref.identity}.get(variant, np.tanh)
    return found | {"g": squash(a["g"]), "o": one if variant == "NOG" else s(a["o"])}


def expected(net, params, x, state, lengths):
    """Name -> (T, B, width), from the reference's states and the equations."""
    _, _, history = ref.one_run(net, params, x, state, lengths, None, float, None)
    names = list(rc.Recurrent(**net.options()).state_widths)
    found, below = {}, ref.as_dense(x, net.input_size)
    for layer in range(net.num_layers):
        outputs = []
        for d, way in enumerate(net.directions):
            prefix, k = f"layers.{layer}.{way}.", layer * len(net.directions) + d
            p = {name.removeprefix(prefix): array for name, array in params.items() if name.startswith(prefix)}
            for length in sorted(set(lengths)):
                those = np.flatnonzero(np.asarray(lengths) == length)
                times, states = range(length)[:: -1 if way == "bwd" else 1], history[k, length]
                for t, before, after in zip(times, states, states[1:], strict=False):
                    own = dict(zip(names, after, strict=True))
                    gates = gates_of(net, p, below[t, those], before, after)
                    for name, values in (own | {f"gates.{name}": v for name, v in gates.items()}).items():
                        shape = (T, len(lengths), values.shape[-1])
                        found.setdefault(prefix + name, np.zeros(shape))[t, those] = values
            outputs.append(found[prefix + names[0]])
        below = sum(outputs) if net.direction == "sum" else np.concatenate(outputs, axis=2)
    return found


@pytest.mark.kernels
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("kind", ["dense", "ids"])
def test_are_the_reference_s(name, kind):
    """Every cell and variant, in both directions, two layers deep, over ragged batches, from states."""
    rng = np.random.default_rng(80)
    direction = "sum" if kind == "ids" else "concat"
    net = member(name, 5, 5, 2, direction, "tanh")
    params = net.random_params(rng)
    x, state = twins.random_input(rng, kind, T, B, 5), twins.random_state(rng, net, B)
    layer = twins.layer(net, params, recurrent_dropout=0.5, dropout=0.5, output_dropout=0.5)  # none of it acts
    wanted = expected(net, params, x, state, LENGTHS)
    found = layer.activations(x, lengths=LENGTHS, state=state)
    assert set(found) == set(wanted)
    for key, array in wanted.items():
        np.testing.assert_allclose(found[key], array, rtol=1e-9, atol=1e-12, err_msg=key)
    for key, array in twins.layer(net, params, dtype="float32").activations(x, lengths=LENGTHS, state=state).items():
        assert array.dtype == np.float32 and array.flags.owndata
        np.testing.assert_allclose(array, wanted[key], rtol=1e-3, atol=1e-4, err_msg=key)


def test_a_network_s_are_its_layers():
    rng = np.random.default_rng(81)
    layers = [rc.Recurrent("gru", 4, 5, num_layers=2), rc.Recurrent("lstm", 5, 3)]
    net = rc.Network(layers, head=rc.CRF(2), embedding=rc.Embedding(9, 4), skip=3)
    ids, features = rng.integers(0, 9, (T, B)), rng.integers(0, 3, (T, B, 2))
    found = net.activations((ids, features), lengths=LENGTHS)
    first = layers[0].activations(net.params["embedding.E"][ids], lengths=LENGTHS)
    second = layers[1].activations(found["layers.1.fwd.h"], lengths=LENGTHS)
    wanted = first | {name.replace("layers.0", "layers.2"): array for name, array in second.items()}
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_under_zoneout_states_are_what_the_next_step_sees(cell):
    layer = rc.Recurrent(cell, 3, 4, zoneout=0.3)
    x = np.random.default_rng(82).standard_normal((T, B, 3)).astype("float32")
    y, state = layer.forward(x, training=False)
    found = layer.activations(x)
    np.testing.assert_array_equal(found["layers.0.fwd.h"], y)
    for name, last in zip(layer.state_widths, state, strict=True):
        np.testing.assert_array_equal(found[f"layers.0.fwd.{name}"][-1], last[0])


def test_disturb_nothing_and_may_be_read_by_many_threads_at_once():
    layer = rc.Recurrent("lstm", 3, 4, dropout=0.5, num_layers=2)
    rng = np.random.default_rng(83)
    x, others = rng.standard_normal((T, B, 3)).astype("float32"), rng.standard_normal((9, T, 7, 3)).astype("float32")
    twin = layer.copy()
    twin.forward(x)
    y, _ = layer.forward(x)
    wanted = [layer.activations(other, lengths=[2] * 7) for other in others]
    failed = []

    def look(n):
        for _ in range(20):
            found = layer.activations(others[n], lengths=[2] * 7)
            failed.extend(name for name in found if not np.array_equal(found[name], wanted[n][name]))

    threads = [threading.Thread(target=look, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (layer.dropout_step, twin.dropout_step) == (1, 1)
    np.testing.assert_array_equal(layer.backward(np.ones_like(y))[0], twin.backward(np.ones_like(y))[0])
    np.testing.assert_array_equal(layer.grad, twin.grad)


def test_feedback_is_what_a_jordan_cell_sees():
    layer = rc.Recurrent("jordan", 2, 3, outputs=2)
    rng = np.random.default_rng(84)
    x, given = rng.standard_normal((T, B, 2)), rng.standard_normal((T, B, 2))
    found = layer.activations(x, feedback=given)
    np.testing.assert_allclose(found["layers.0.fwd.s"][1:], given[:-1].astype("float32"), rtol=1e-6)
    assert not np.array_equal(layer.activations(x)["layers.0.fwd.s"], found["layers.0.fwd.s"])


def test_what_does_not_fit_is_refused():
    layer = rc.Recurrent("gru", 3, 4)
    with pytest.raises(ValueError, match=r"x must have shape \(T, B, 3\)"):
        layer.activations(np.ones((2, 2, 4)))
    with pytest.raises(ValueError, match="feedback is for cells that see their own outputs"):
        layer.activations(np.ones((2, 2, 3)), feedback=np.ones((2, 2, 4)))
    net = rc.Network(layer, head=rc.Softmax(2))
    with pytest.raises(ValueError, match="lengths must lie between 1 and T = 2"):
        net.activations(np.ones((2, 2, 3)), lengths=[3, 1])
