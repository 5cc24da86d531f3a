"""rnncore.torch's modules do what torch.nn's do: values, gradients, shapes, errors, and everything around a module."""

import contextlib
import copy
import gc
import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings

import pytest
from peers import peer

torch = peer("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence  # noqa: E402

import rnncore as rc  # noqa: E402
import rnncore.torch as rt  # noqa: E402
from rnncore.torch import autograd, notices, workspaces  # noqa: E402

NAMES = ("RNN", "LSTM", "GRU")
D, H, B, T = 3, 5, 4, 6


@pytest.fixture(autouse=True)
def double_precision():
    before = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture
def notice(monkeypatch):
    """Forget the warnings that earlier tests caused."""
    monkeypatch.setattr(notices, "_given", set())


def pair(name, *args, **options):
    """PyTorch's module and ours with the same parameters."""
    theirs = getattr(nn, name)(*(args or (D, H)), **options)
    ours = getattr(rt, name)(*(args or (D, H)), **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def state_of(module, sequences=B, dims=3):
    units = module.num_layers * (2 if module.bidirectional else 1)
    shape = (units, sequences, module.hidden_size) if dims == 3 else (units, module.hidden_size)
    parts = [torch.randn(shape) for _ in range(2 if module.mode == "LSTM" else 1)]
    return tuple(parts) if len(parts) == 2 else parts[0]


def tensors_in(thing):
    if isinstance(thing, PackedSequence):
        return [thing.data]
    return [thing] if isinstance(thing, torch.Tensor) else [t for part in thing for t in tensors_in(part)]


def leaves(thing):
    """A copy of an input or state whose tensors want gradients."""
    if thing is None:
        return None
    if isinstance(thing, PackedSequence):
        return thing._replace(data=thing.data.clone().requires_grad_())
    if isinstance(thing, tuple):
        return tuple(leaves(part) for part in thing)
    return thing.clone().requires_grad_()


def weighted(outputs):
    """A loss to which every number of every output contributes differently."""
    generator = torch.Generator().manual_seed(1)
    parts = tensors_in(outputs)
    return sum((part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum() for part in parts)


def results(module, x, hx=None):
    """All values and all gradients."""
    x, hx = leaves(x), leaves(hx)
    outputs = module(x) if hx is None else module(x, hx)
    inputs = tensors_in(x) + ([] if hx is None else tensors_in(hx)) + list(module.parameters())
    return outputs, tensors_in(outputs), torch.autograd.grad(weighted(outputs), inputs)


def assert_same(theirs, ours, x, hx=None, tolerance=1e-12):
    outputs, values, gradients = results(theirs, x, hx)
    our_outputs, our_values, our_gradients = results(ours, x, hx)
    for a, b in zip([*values, *gradients], [*our_values, *our_gradients], strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)
    if isinstance(x, PackedSequence):
        assert torch.equal(outputs[0].batch_sizes, our_outputs[0].batch_sizes)
        for name in ("sorted_indices", "unsorted_indices"):
            expected, found = getattr(outputs[0], name), getattr(our_outputs[0], name)
            assert (expected is None and found is None) or torch.equal(expected, found)


# -------------------------------------------------------------- values and gradients

OPTIONS = [
    {"num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": first}
    for layers, both, bias, first in itertools.product((1, 3), (False, True), (True, False), (False, True))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(int(v)) for v in o.values()))
@pytest.mark.parametrize("name", NAMES)
def test_same_numbers(name, options, passes):
    theirs, ours = pair(name, **options)
    x = torch.randn(B, T, D) if options["batch_first"] else torch.randn(T, B, D)
    assert_same(theirs, ours, x)
    assert_same(theirs, ours, x, state_of(ours))
    assert len(passes) == 2


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
@pytest.mark.parametrize("name", NAMES)
def test_packed_sequences(name, options, passes):
    theirs, ours = pair(name, **options)
    for lengths in ([6, 5, 5, 2, 1], [4, 4, 4, 4]):
        x = pack_sequence([torch.randn(n, D) for n in lengths])
        assert_same(theirs, ours, x)
        assert_same(theirs, ours, x, state_of(ours, len(lengths)))
    x = pack_sequence([torch.randn(n, D) for n in (2, 6, 1, 5)], enforce_sorted=False)
    assert_same(theirs, ours, x)
    assert_same(theirs, ours, x, state_of(ours, 4))
    assert len(passes) == 6


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
@pytest.mark.parametrize("name", NAMES)
def test_small_cases_of_the_documentation(name, options):
    theirs, ours = pair(name, **options)
    one = torch.randn(1, T, D) if options else torch.randn(T, 1, D)
    step = torch.randn(B, 1, D) if options else torch.randn(1, B, D)
    assert_same(theirs, ours, one, state_of(ours, 1))  # a batch of one
    assert_same(theirs, ours, step, state_of(ours))  # one step
    assert_same(theirs, ours, torch.randn(T, D))  # no batch at all; batch_first does not count then
    assert_same(theirs, ours, torch.randn(T, D), state_of(ours, dims=2))
    assert_same(theirs, ours, torch.randn(1, D))
    assert_same(theirs, ours, pack_sequence([torch.randn(1, D)]))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False}])
def test_projection(options, passes):
    theirs, ours = pair("LSTM", proj_size=2, **options)
    units = len(ours.all_weights)
    x = torch.randn(B, T, D) if options else torch.randn(T, B, D)
    assert_same(theirs, ours, x)
    assert_same(theirs, ours, x, (torch.randn(units, B, 2), torch.randn(units, B, H)))
    packed = pack_sequence([torch.randn(n, D) for n in (3, 6)], enforce_sorted=False)
    assert_same(theirs, ours, packed, (torch.randn(units, 2, 2), torch.randn(units, 2, H)))
    assert len(passes) == 3


def test_relu(passes):
    theirs, ours = pair("RNN", D, H, 2, "relu")
    assert ours.nonlinearity == "relu"
    assert_same(theirs, ours, torch.randn(T, B, D), state_of(ours))
    assert len(passes) == 1


@pytest.mark.parametrize("name", NAMES)
def test_single_precision(name, passes):
    theirs, ours = pair(name, 37, 45, num_layers=2, dtype=torch.float32)
    x = torch.randn(T, B, 37, dtype=torch.float32)
    assert_same(theirs, ours, x, tolerance=2e-5)
    assert ours(x)[0].dtype == torch.float32 and len(passes) == 2


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_gradients(name, notice):
    ours = getattr(rt, name)(2, 3, num_layers=2, bidirectional=True)
    x, hx = torch.randn(3, 2, 2, requires_grad=True), leaves(state_of(ours, 2))
    packed = pack_sequence([torch.randn(n, 2) for n in (1, 3)], enforce_sorted=False)
    names, values = zip(*ours.named_parameters(), strict=True)

    def padded_pass(x, *rest):
        states, weights = rest[: len(tensors_in(hx))], dict(zip(names, rest[len(tensors_in(hx)) :], strict=True))
        state = states if len(states) == 2 else states[0]
        return tuple(tensors_in(torch.func.functional_call(ours, weights, (x, state))))

    def packed_pass(data, *weights):
        x = packed._replace(data=data)
        return tuple(tensors_in(torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x,))))

    everything = (x, *tensors_in(hx), *values)
    assert torch.autograd.gradcheck(padded_pass, everything)
    assert torch.autograd.gradcheck(packed_pass, (packed.data.requires_grad_(), *values))
    with pytest.warns(UserWarning, match="gradients of gradients"):
        assert torch.autograd.gradgradcheck(padded_pass, everything, fast_mode=True)
    assert torch.autograd.gradgradcheck(packed_pass, (packed.data, *values), fast_mode=True)


@pytest.mark.filterwarnings("ignore:rnncore.torch leaves")
def test_gradient_penalty_through_an_input_that_depends_on_the_weights():
    """Paths from the input to a parameter are the graph's, not the module's: they count once."""
    totals = []
    for module in pair("GRU", 15, H):
        x = module.weight_hh_l0.t()[:, None] * torch.ones(5, 2, 15)
        loss = module(x)[0].pow(2).sum()
        (slope,) = torch.autograd.grad(loss, module.weight_hh_l0, create_graph=True)
        slope.pow(2).sum().backward()
        totals.append([slope.detach(), module.weight_hh_l0.grad])
    torch.testing.assert_close(totals[1], totals[0], rtol=1e-11, atol=1e-11)


def test_losses_of_some_outputs_only():
    for pick in (lambda y, h, c: y, lambda y, h, c: h, lambda y, h, c: c[1:], lambda y, h, c: y[-1, 0, 2]):
        gradients = []
        for module in pair("LSTM", num_layers=2):
            y, (h, c) = module(torch.linspace(-1, 1, T * B * D).reshape(T, B, D))
            gradients.append(torch.autograd.grad(pick(y, h, c).sum(), list(module.parameters()), allow_unused=True))
        for expected, found in zip(*gradients, strict=True):  # where PyTorch has none, ours are zero
            expected = torch.zeros_like(found) if expected is None else expected
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_rows_are_left_to_torch_without_a_word(name, passes):
    theirs, ours = pair(name, D, 64, batch_first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for few, enough in (([3, 1], [2, 2]), ([1], [2])):  # one step; one row
            assert_same(theirs, ours, torch.randn(*few, D))
            assert not passes
            assert_same(theirs, ours, torch.randn(*enough, D))
            assert passes.pop()
        with torch.no_grad():
            for rows, here in ((3, 0), (4, 1)):
                x = pack_sequence([torch.randn(rows - 1, D), torch.randn(1, D)])
                torch.testing.assert_close(ours(x)[0].data, theirs(x)[0].data, rtol=1e-12, atol=1e-12)
                assert len(passes) == here


# -------------------------------------------------------------- graphs


@pytest.mark.parametrize("name", NAMES)
def test_several_passes_before_their_backward_passes(name):
    """A module shared within a graph, as an encoder of two sentences is; the graphs are taken back in another order."""
    xs = [torch.randn(T, n, D) for n in (1, 5, 3)]
    found = []
    for module in pair(name, num_layers=2):
        outputs = [module(x)[0] for x in xs]
        gradients = [torch.autograd.grad(weighted(outputs[n]), list(module.parameters())) for n in (1, 2, 0)]
        chained = module(module(xs[0])[0][..., :D])[0]
        gradients.append(torch.autograd.grad(weighted(chained), list(module.parameters())))
        found.append(sum(gradients, ()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_second_backward_pass(name):
    x = torch.randn(T, B, D, requires_grad=True)
    module = getattr(rt, name)(D, H, num_layers=2, dropout=0.4)
    loss = weighted(module(x))
    inputs = [x, *module.parameters()]
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    module(torch.randn(T, B, D))  # another pass in between takes the workspace
    second = torch.autograd.grad(loss, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))  # with the same dropout masks
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, inputs)


def test_workspaces_are_used_again(monkeypatch):
    """None is kept until a backward pass."""
    pool = workspaces.Pool()
    monkeypatch.setattr("rnncore.torch.autograd.POOL", pool)
    module, x = rt.GRU(D, H), torch.randn(T, B, D)
    kept = [module(x)[0] for _ in range(3)]
    with torch.no_grad():
        module(x)
    for y in kept:
        y.sum().backward()
    assert len(pool._idle) == 1
    pool._idle.append(workspaces.Workspace(pool._idle[0].net))
    monkeypatch.setattr(workspaces, "IDLE_BYTES", 0)
    module(x)
    assert len(pool._idle) == 1


def test_weights_are_loaded_once_where_backward_comes_next(monkeypatch):
    monkeypatch.setattr("rnncore.torch.autograd.POOL", workspaces.Pool())
    loads = []
    load = workspaces.Unit.load
    monkeypatch.setattr(workspaces.Unit, "load", lambda *all_: loads.append(1) or load(*all_))
    one, two, x = rt.GRU(D, H), rt.GRU(D, H), torch.randn(T, B, D)
    alone = [torch.autograd.grad(m(x)[0].sum(), list(m.parameters())) for m in (one, two)]
    assert len(loads) == 2
    outputs = [one(x)[0].sum(), two(x)[0].sum()]  # the second pass loads its weights over the first one's
    for module, loss, expected in zip((one, two), outputs, alone, strict=True):
        found = torch.autograd.grad(loss, list(module.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert len(loads) == 6
    y = one(x)[0]
    one.weight_hh_l0.data.zero_()  # no version counts it: the backward pass is still that of the forward pass
    assert all(
        torch.equal(a, b) for a, b in zip(torch.autograd.grad(y.sum(), list(one.parameters())), alone[0], strict=True)
    )


def test_a_pass_that_fails_leaves_a_workspace_that_works(monkeypatch):
    pool = workspaces.Pool()
    monkeypatch.setattr("rnncore.torch.autograd.POOL", pool)
    module, x = rt.LSTM(D, H), torch.randn(T, B, D)
    expected = torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))
    with monkeypatch.context() as patch:
        patch.setattr(workspaces.Workspace, "forward", lambda *all_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            module(x)
    assert [workspace.loaded for workspace in pool._idle] == [None]
    found = torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_asked_for(name):
    x, module = torch.randn(T, B, D), getattr(rt, name)(D, H)
    with torch.no_grad():
        expected = module(x)
        assert not any(tensor.requires_grad for tensor in tensors_in(expected))
    with torch.inference_mode():
        assert torch.equal(module(x)[0], expected[0])
    module.requires_grad_(False)
    assert not module(x)[0].requires_grad
    y, _ = module(x.requires_grad_())  # frozen weights
    y.sum().backward()
    assert x.grad is not None and all(p.grad is None for p in module.parameters())
    module.weight_hh_l0.requires_grad_(True)
    module(x.detach())[0].sum().backward()
    assert module.weight_hh_l0.grad is not None and module.weight_ih_l0.grad is None


def test_a_state_alone_may_want_a_gradient(passes):
    x, h, found = torch.randn(T, B, D), torch.randn(1, B, H), []
    for module in pair("LSTM"):
        module.requires_grad_(False)
        c = torch.ones(1, B, H, requires_grad=True)
        weighted(module(x, (h, c))).backward()
        found.append(c.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
    assert len(passes) == 1


def test_changed_weights_are_noticed():
    module, x = rt.GRU(D, H), torch.randn(T, B, D)
    y, _ = module(x)
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    module.weight_hh_l0.data.zero_()  # does not count as a change, but is one
    module.weight_ih_l0.data.zero_()
    module.bias_ih_l0.data.zero_()
    module.bias_hh_l0.data.zero_()
    assert not module(x)[0].any()


def test_no_two_gradients_share_memory():
    module = rt.LSTM(D, H, num_layers=2, bidirectional=True)
    x = torch.randn(T, B, D, requires_grad=True)
    module(x)[0].sum().backward()
    places = [p.grad.untyped_storage().data_ptr() for p in (x, *module.parameters())]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("sizes", [(D, H), (1, H), (D, 1), (1, 1)])
def test_later_passes_leave_gradients_alone(sizes):
    """Also where a matrix is one row, whose transpose looks the same."""
    module, x = rt.RNN(*sizes), torch.randn(T, B, sizes[0])
    first = torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))
    before = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(2 * module(x)[0].sum(), list(module.parameters()))
    for a, b, c in zip(first, before, second, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(c, 2 * a)


def test_a_workspace_made_in_inference_mode_serves_training(monkeypatch):
    monkeypatch.setattr("rnncore.torch.autograd.POOL", workspaces.Pool())
    module, x = rt.LSTM(D, H), torch.randn(T, B, D)
    with torch.inference_mode():
        y = module(x)[0]
    trained = module(x)[0]
    trained.sum().backward()
    assert torch.equal(trained, y)


# -------------------------------------------------------------- saved tensors


def cases():
    """Modules and inputs, with all that makes a difference to what is saved."""
    yield rt.RNN(D, H, num_layers=2), (torch.randn(T, B, D),)
    yield rt.RNN(D, 16, nonlinearity="relu"), (torch.randn(T, B, D),)
    yield rt.LSTM(D, 16, num_layers=2, dropout=0.3, bidirectional=True), (torch.randn(T, B, D),)
    yield rt.LSTM(D, H, proj_size=2, batch_first=True), (torch.randn(B, T, D),)
    yield rt.GRU(D, H, num_layers=2), (torch.randn(T, B, D), torch.randn(2, B, H))
    yield rt.GRU(D, H), (pack_sequence([torch.randn(n, D) for n in (2, 6, 1)], enforce_sorted=False),)
    yield rt.GRU(8, 16, dtype=torch.float32), (torch.randn(T, B, 8, dtype=torch.float32),)


def gradients(module, arguments, hooks=None, times=1):
    """Gradients of everything, of the last of some backward passes; under hooks that see what is saved."""
    torch.manual_seed(1)
    arguments = leaves(arguments)
    with torch.autograd.graph.saved_tensors_hooks(*hooks) if hooks else contextlib.nullcontext():
        loss = weighted(module(*arguments))
    wanted = [*tensors_in(arguments), *module.parameters()]
    found = [torch.autograd.grad(loss, wanted, retain_graph=n < times - 1) for n in range(times)]
    assert all(torch.equal(a, b) for again in found[1:] for a, b in zip(found[0], again, strict=True))
    return found[-1]


def to_bytes(tensor):
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()


def from_bytes(data):
    return torch.load(io.BytesIO(data))


def elsewhere(tensor):
    """A copy at an odd address, and whose rows do not follow one another."""
    if tensor.dtype == torch.uint8:
        return torch.cat([torch.zeros(3, dtype=torch.uint8), tensor])[3:]
    return torch.stack([tensor, tensor], -1)[..., 0]


MOVES = {
    "kept as they are": (lambda t: t, lambda t: t),
    "cloned": (torch.clone, lambda t: t),
    "on disk": (to_bytes, from_bytes),
    "at odd addresses": (elsewhere, lambda t: t),
    "moved twice": (elsewhere, elsewhere),
    "as arrays": (lambda t: t.detach().numpy().copy(), torch.from_numpy),
}


@pytest.mark.parametrize("move", MOVES)
def test_saved_tensors_may_be_moved(move):
    for module, arguments in cases():
        for times in (1, 3):
            expected = gradients(module, arguments, times=times)
            found = gradients(module, arguments, MOVES[move], times)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_saved_tensors_on_the_cpu():
    module, x = rt.LSTM(D, H), torch.randn(T, B, D)
    expected = gradients(module, (x,))
    with torch.autograd.graph.save_on_cpu():
        found = gradients(module, (x,))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_hooks_see_all_that_backward_needs():
    """Besides what they have seen the context keeps no numbers."""
    for module, arguments in cases():
        seen = []
        gradients(module, arguments, (lambda t, seen=seen: seen.append(t) or t, lambda t: t))
        (memory,) = (tensor for tensor in seen if tensor.dtype == torch.uint8)
        rows, units = len(tensors_in(arguments)[0].flatten(0, -2)), len(module.all_weights)
        per_unit = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 5, "GRU": 4}[module.mode]  # the gates, and the LSTM's c
        assert memory.nbytes >= rows * units * per_unit * module.hidden_size * arguments_size(arguments)
    y = module(*arguments)[0]
    context = y.grad_fn
    assert not any(isinstance(value, torch.Tensor) for value in vars(context).values())
    assert context.layout.size() == 0 and context.layout.x in (None, ...) and context.layout.y is None


def arguments_size(arguments):
    return tensors_in(arguments)[0].element_size()


def test_memory_that_a_hook_shares_between_passes():
    """Equal tensors are one tensor for these hooks, so one pass may not write over what another will read."""
    seen = {}

    def pack(tensor):
        same = b"" if tensor.dtype == torch.uint8 else tensor.detach().numpy().tobytes()  # the passes are the same
        return seen.setdefault((tensor.shape, tensor.dtype, same), tensor)

    module, x = rt.LSTM(D, 16), torch.randn(T, B, D)
    expected = gradients(module, (x,))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        losses = [weighted(module(x)) for _ in range(2)]
    memories = {t.data_ptr() for loss in losses for t in lstm_node(loss).saved_tensors if t.dtype == torch.uint8}
    assert len(memories) == 1
    for loss in losses:
        found = torch.autograd.grad(loss, list(module.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(found, expected[1:], strict=True))


def lstm_node(loss):
    """The node of the graph that is ours."""
    nodes = [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and "Recurrence" in node.name():
            return node
        nodes += [] if node is None else [n for n, _ in node.next_functions]
    raise AssertionError("there is none")


@pytest.mark.parametrize("name", NAMES)
def test_saved_memory_is_written_over_only_where_the_graph_is_not_kept(name):
    module = getattr(rt, name)(D, 16)
    y = module(torch.randn(T, B, D))[0]
    memory = y.grad_fn.saved_tensors[-1]
    before = memory.clone()
    first = torch.autograd.grad(y.sum(), list(module.parameters()), retain_graph=True)
    assert torch.equal(memory, before)
    second = torch.autograd.grad(y.sum(), list(module.parameters()))
    assert torch.equal(memory, before) == (name == "RNN")  # which has no gates to write over
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_may_be_changed_in_place(name):
    """Dropout, ReLU and masks in place are common; torch.nn's modules allow it, but for one kind of LSTM."""
    found = []
    for module in pair(name, D, 16):
        y, _ = module(torch.linspace(-1, 1, T * B * D).reshape(T, B, D))
        loss = nn.functional.relu_(y).square().sum()
        found.append(torch.autograd.grad(loss, list(module.parameters())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_outputs_have_no_memory_in_common():
    module = rt.RNN(D, 16)
    y, h = module(torch.randn(T, B, D))
    last = h.clone()
    with torch.no_grad():
        y.zero_()
    assert torch.equal(h, last)


# -------------------------------------------------------------- checkpointing


def selective(context, operator, *args, **kwargs):
    from torch.utils.checkpoint import CheckpointPolicy

    return CheckpointPolicy.MUST_SAVE if "cat" in str(operator) else CheckpointPolicy.PREFER_RECOMPUTE


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing(name, passes):
    from torch.utils.checkpoint import checkpoint, checkpoint_sequential

    module = getattr(rt, name)(D, H, num_layers=2, dropout=0.3)
    x = torch.randn(T, B, D, requires_grad=True)
    inputs, found = [x, *module.parameters()], []

    def flat(x):
        return tuple(tensors_in(module(x)))  # reentrant checkpointing overlooks tensors in tuples in tuples

    for call in (
        flat,
        lambda x: checkpoint(flat, x, use_reentrant=False),
        lambda x: checkpoint(flat, x, use_reentrant=True),
        lambda x: checkpoint(lambda x: checkpoint(flat, x, use_reentrant=False), x, use_reentrant=False),
        lambda x: checkpoint_sequential([flat], 1, x, use_reentrant=False),
    ):
        for inner in inputs:
            inner.grad = None
        torch.manual_seed(1)
        weighted(call(x)).backward()
        found.append([inner.grad for inner in inputs])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert len(passes) >= 8  # those that are computed again, too


@pytest.mark.filterwarnings("ignore:rnncore.torch leaves")
@pytest.mark.parametrize("name", NAMES)
def test_selective_checkpointing(name):
    """It watches PyTorch's operators, and so it gets PyTorch's."""
    from functools import partial

    from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

    x, found = torch.randn(T, B, D), []
    for module in pair(name):
        contexts = partial(create_selective_checkpoint_contexts, selective)
        y = checkpoint(module, x, use_reentrant=False, context_fn=contexts)
        found.append(torch.autograd.grad(weighted(y), list(module.parameters())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def peak_bytes(call):
    """The most memory that a call holds: PyTorch's, as its profiler counts it, and NumPy's, which is the engine's."""
    from torch.profiler import ProfilerActivity, profile

    gc.collect()
    tracemalloc.start()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            call()
            ours = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return ours + max(itertools.accumulate(changes))


def test_checkpointing_saves_memory(monkeypatch):
    from torch.utils.checkpoint import checkpoint

    layers = 12
    modules = [rt.LSTM(64, 64, dtype=torch.float32) for _ in range(layers)]
    gradient_bytes = sum(p.nbytes for module in modules for p in module.parameters())
    x = torch.randn(50, 16, 64, dtype=torch.float32, requires_grad=True)
    saved = 50 * 16 * 64 * 4 * 7  # of a layer: four gates, c, h, and the outputs

    def through(keep):
        monkeypatch.setattr("rnncore.torch.autograd.POOL", workspaces.Pool())
        y = x
        for module in modules:
            module.zero_grad()
            y = module(y)[0] if keep else checkpoint(lambda y, m=module: m(y)[0], y, use_reentrant=False)
        y.sum().backward()

    through(True)  # whatever is allocated once and for all
    kept, dropped = peak_bytes(lambda: through(True)), peak_bytes(lambda: through(False))
    assert kept > layers * saved
    # One layer at a time: what it saved, as much again for its backward pass; beside the outputs of all layers.
    assert dropped < layers * saved / 7 + 3 * saved + 2 * gradient_bytes
    assert dropped < kept / 2


def test_odd_tensors():
    """Expanded, sliced and transposed inputs and gradients have strides of their own."""
    theirs, ours = pair("GRU")
    wide = torch.randn(B, 2 * D, T)
    inputs = [
        torch.randn(1, 1, D).expand(T, B, D),
        wide.permute(2, 0, 1)[..., ::2],
        torch.imag(torch.randn(T, B, D) + 0j),
    ]
    inputs.append(torch.imag(torch.randn(T, B, D, dtype=torch.complex128).conj()))  # with its negative bit set
    for x in inputs:
        losses = [module(x)[0].sum() for module in (theirs, ours)]  # its gradient is one number, expanded
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=1e-12)
        (a,) = torch.autograd.grad(losses[0], theirs.weight_hh_l0)
        (b,) = torch.autograd.grad(losses[1], ours.weight_hh_l0)
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)


# -------------------------------------------------------------- errors

BAD = {
    "four dimensions": lambda m: m(torch.randn(2, T, B, D)),
    "one dimension": lambda m: m(torch.randn(D)),
    "other width": lambda m: m(torch.randn(T, B, D + 1)),
    "no steps": lambda m: m(torch.randn(0, B, D)),
    "no sequences": lambda m: m(torch.randn(T, 0, D)),
    "other precision": lambda m: m(torch.randn(T, B, D, dtype=torch.float32)),
    "integers": lambda m: m(torch.ones(T, B, D, dtype=torch.int64)),
    "an array": lambda m: m([[1.0]]),
    "state of another batch": lambda m: m(torch.randn(T, B, D), state_of(m, B + 1)),
    "state of another dimension": lambda m: m(torch.randn(T, B, D), state_of(m, dims=2)),
    "batched state": lambda m: m(torch.randn(T, D), state_of(m)),
    "state of another precision": lambda m: m(torch.randn(T, B, D), narrow(state_of(m))),
    "state of another kind": lambda m: m(torch.randn(T, B, D), (torch.zeros(1, B, H),) * 3),
    "one state for two": lambda m: m(torch.randn(T, B, D), torch.zeros(1, B, H)),
    "packed, other width": lambda m: m(pack_sequence([torch.randn(T, D + 1)])),
    "packed, state of another batch": lambda m: m(pack_sequence([torch.randn(T, D)]), state_of(m, 2)),
    "packed, growing": lambda m: m(PackedSequence(torch.randn(6, D), torch.tensor([1, 2, 3]))),
    "packed, too many rows": lambda m: m(PackedSequence(torch.randn(9, D), torch.tensor([3, 2]))),
    "packed, too few rows": lambda m: m(PackedSequence(torch.randn(3, D), torch.tensor([3, 2]))),
}


def narrow(state):
    return tuple(part.float() for part in state) if isinstance(state, tuple) else state.float()


def outcome(call, module):
    try:
        return [tuple(tensor.shape) for tensor in tensors_in(call(module))]
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_same_errors(name, bad):
    theirs, ours = pair(name)
    expected, found = outcome(BAD[bad], theirs), outcome(BAD[bad], ours)
    assert found == expected


def test_constructors_are_the_same():
    assert repr(rt.GRU(3, 5, num_layers=2, bias=False, batch_first=True, bidirectional=True)) == (
        "GRU(3, 5, num_layers=2, bias=False, batch_first=True, bidirectional=True)"
    )
    for name in NAMES:
        assert issubclass(getattr(rt, name), getattr(nn, name))
        with pytest.raises(ValueError, match="hidden_size"):
            getattr(rt, name)(3, 0)
    with pytest.raises(ValueError, match="nonlinearity"):
        rt.RNN(3, 5, nonlinearity="sine")
    with pytest.raises(ValueError, match="proj_size"):
        rt.GRU(3, 5, proj_size=2)


# -------------------------------------------------------------- around a module


@pytest.mark.parametrize("name", NAMES)
def test_training_is_the_same(name, passes):
    losses = []
    for module in pair(name, num_layers=2, bidirectional=True, batch_first=True):
        torch.manual_seed(2)
        readout = nn.Linear(2 * H, 2)
        parameters = [*module.parameters(), *readout.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        x, lengths = torch.randn(B, T, D), torch.tensor([3, 6, 1, 4])
        run = []
        for _ in range(6):
            optimizer.zero_grad()
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            loss = readout(module(packed)[0].data).pow(2).mean()
            loss.backward()
            run.append(loss.item())
            run.append(float(nn.utils.clip_grad_norm_(parameters, 0.01)))
            optimizer.step()
        losses.append(run)
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)
    assert len(passes) == 6


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_no_bit(name):
    module = getattr(rt, name)(60, 70, bidirectional=True, dtype=torch.float32)
    x = torch.randn(40, 30, 60, dtype=torch.float32)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y, _ = module(x)
        found.append([y, *torch.autograd.grad(y.sum(), list(module.parameters()))])
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_threads_are_torch_s(passes):
    module = rt.GRU(D, H)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        module(torch.randn(T, B, D))
        assert passes[-1][0].threads == threads


def test_python_threads_may_share_a_module():
    module, xs = rt.LSTM(D, 40, num_layers=2), [torch.randn(20, n, D) for n in (1, 2, 3, 4)]

    def job(n):
        gradients = torch.autograd.grad(weighted(module(xs[n])), list(module.parameters()))
        found[n].append(gradients)

    found = {n: [] for n in range(4)}
    for n in range(4):
        job(n)
    threads = [threading.Thread(target=job, args=(n,)) for n in range(4) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for several in found.values():
        assert len(several) == 6
        assert all(torch.equal(a, b) for others in several[1:] for a, b in zip(several[0], others, strict=True))


def in_threads(*jobs):
    """Run all at once; what one of them raises is raised."""
    errors = []

    def guarded(job):
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_forward_passes_in_several_threads():
    module = rt.LSTM(D, 40, num_layers=2, bidirectional=True)
    xs = [torch.randn(20, n, D) for n in (3, 4, 5, 6)]
    with torch.no_grad():
        expected = [module(x)[0] for x in xs]

    def job(n):
        with torch.no_grad():
            for _ in range(10):
                assert torch.equal(module(xs[n])[0], expected[n])

    in_threads(*(lambda n=n: job(n) for n in range(4)))


def test_two_threads_train_two_modules():
    def trained(n):
        torch.manual_seed(n)  # both threads draw from one generator, but not while they train
        module, x = starts[n]
        module = copy.deepcopy(module)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
        for _ in range(8):
            optimizer.zero_grad()
            module(x)[0].square().sum().backward()
            optimizer.step()
        return [p.detach().clone() for p in module.parameters()]

    starts = [(rt.GRU(D, 40), torch.randn(20, 4, D)) for _ in range(2)]
    expected = [trained(n) for n in range(2)]
    found = {}
    in_threads(*(lambda n=n: found.__setitem__(n, trained(n)) for n in range(2)))
    for n in range(2):
        assert all(torch.equal(a, b) for a, b in zip(found[n], expected[n], strict=True))


def test_threads_take_one_graph_back_at_once():
    module = rt.LSTM(D, 40, num_layers=2, dropout=0.3)
    loss = weighted(module(torch.randn(20, 4, D)))
    expected = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)

    def job():
        for _ in range(5):
            found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    in_threads(job, job, job)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_trains():
    """Also where another thread was just asking for a workspace."""
    module, x = rt.GRU(D, 40), torch.randn(20, 4, D)
    expected = torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))
    with workspaces.POOL._lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                found = torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))
                code = 0 if all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)) else 2
            finally:
                os._exit(code)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("name", NAMES)
def test_copies(name):
    module, x = getattr(rt, name)(D, H, num_layers=2), torch.randn(T, B, D)
    module(x)[0].sum().backward()
    y = module(x)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)):
        assert type(twin) is type(module) and torch.equal(twin(x)[0], y)
        with torch.no_grad():
            twin.weight_hh_l0.zero_()
    assert torch.equal(module(x)[0], y)
    theirs = getattr(nn, name)(D, H, num_layers=2)
    theirs.load_state_dict(module.state_dict())
    torch.testing.assert_close(theirs(x)[0], y, rtol=1e-12, atol=1e-12)


def test_other_precision(passes):
    module, x = rt.GRU(D, H, dtype=torch.float32), torch.randn(T, B, D)
    y = module(x.float())[0]
    module.double()
    torch.testing.assert_close(module(x)[0].float(), y, rtol=1e-5, atol=1e-5)
    assert [what.net.dtype for what, *_ in passes] == [torch.float32, torch.float64]


def test_weights_that_are_computed(passes):
    """Normalised, tied and replaced weights are read afresh for each pass."""
    x = torch.randn(T, B, 15)
    found = []
    for module in pair("GRU", 15, H):
        torch.manual_seed(1)
        parametrizations.weight_norm(module, "weight_hh_l0")
        module.weight_ih_l0 = nn.Parameter(torch.randn(15, 15))
        module.bias_hh_l0 = module.bias_ih_l0
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        run = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = weighted(module(x))
            loss.backward()
            run += [loss, *(p.grad for p in module.parameters())]
            optimizer.step()
        found.append(run)
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-11)
    assert len(passes) == 3


def test_functional_call(passes):
    x, weights = torch.randn(T, B, D), {n: torch.zeros_like(p) for n, p in rt.GRU(D, H).named_parameters()}
    module = rt.GRU(D, H)
    y, _ = torch.func.functional_call(module, weights, (x,))
    assert not y.any() and module(x)[0].any() and len(passes) == 2


# -------------------------------------------------------------- dropout


def test_dropout_is_drawn_from_torch_s_generator(passes):
    module, x = rt.GRU(D, 50, num_layers=2, dropout=0.5), torch.randn(T, B, D)

    def draw(seed):
        torch.manual_seed(seed)
        return module(x)[0]

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    torch.manual_seed(1)
    assert not torch.equal(module(x)[0], module(x)[0])
    with torch.no_grad():
        masked = draw(1)
    assert torch.equal(masked, draw(1).detach())  # with a tape or without
    module.eval()
    assert torch.equal(draw(1), draw(2))
    plain = nn.GRU(D, 50, num_layers=2)
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(draw(1), plain(x)[0], rtol=1e-12, atol=1e-12)
    assert len(passes) == 11


def test_dropout_keeps_the_mean():
    """The second layer sees numbers that are zero with probability p, and else 1/(1 - p) times as large."""
    module = rt.RNN(D, 400, num_layers=2, nonlinearity="relu", dropout=0.3)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        module.bias_ih_l0.fill_(1.0)  # the first layer's outputs are all one
        module.weight_ih_l1.copy_(torch.eye(400))  # the second shows them
        y, _ = module(torch.zeros(30, 20, D))
    kept = y != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.7))
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.005)  # 240 000 numbers: five standard deviations


def test_dropout_gradient():
    module, x = rt.LSTM(2, 3, num_layers=3, dropout=0.4), torch.randn(4, 2, 2, requires_grad=True)

    def fixed(x, *weights):
        torch.manual_seed(7)
        return module(x)[0]

    assert torch.autograd.gradcheck(fixed, (x, *module.parameters()))


def test_versions_that_do_not_say_whether_a_graph_is_kept(monkeypatch):
    """Never write over saved memory then."""
    monkeypatch.setattr(autograd, "_autograd", object())
    y = rt.LSTM(D, 16)(torch.randn(T, B, D))[0]
    memory = y.grad_fn.saved_tensors[-1]
    before = memory.clone()
    y.sum().backward()
    assert not y.grad_fn.ours_alone and torch.equal(memory, before)


def test_gradients_of_gradients_do_not_go_through_dropout():
    y, _ = rt.GRU(D, H, num_layers=2, dropout=0.5)(torch.randn(T, B, D, requires_grad=True))
    with pytest.raises(RuntimeError, match="dropout=0"):
        y.sum().backward(create_graph=True)


# -------------------------------------------------------------- autocast to bfloat16

# The longest path goes through 2 layers and 6 steps, and back: 24 products, each of two operands that are off by 2^-9
# at most. Errors of either sign add up as their squares do: sqrt(48)·2^-9 is 0.014, of which three times is allowed.
MIXED = 3 * 48**0.5 * 2**-9


def autocast(module):
    """The module, called under autocast to bfloat16; skips the test where PyTorch itself cannot do that."""

    def call(*args):
        try:
            with torch.autocast("cpu", torch.bfloat16):
                return module(*args)
        except RuntimeError as error:
            if type(module) not in (nn.RNN, nn.LSTM, nn.GRU):
                raise
            pytest.skip(f"PyTorch's own module cannot do it on this processor: {error}")

    call.parameters = module.parameters
    return call


@pytest.mark.parametrize("name, options", [*((name, {}) for name in NAMES), ("LSTM", {"proj_size": 8})])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("form", ["padded", "packed", "alone"])
def test_autocast(passes, name, options, both, form):
    """Outputs and gradients have PyTorch's dtypes and, to bfloat16's accuracy, PyTorch's values."""
    theirs, ours = pair(name, 8, 16, num_layers=2, bidirectional=both, dtype=torch.float32, **options)
    for dtype, state in itertools.product((torch.float32, torch.bfloat16), (None, torch.float32, torch.bfloat16)):
        x = torch.randn(T, 8, dtype=dtype) if form == "alone" else torch.randn(T, B, 8, dtype=dtype)
        if form == "packed":
            x = pack_padded_sequence(x, [2, 6, 4, 1], enforce_sorted=False)
        hx = None
        if state:
            shape = (4 if both else 2,) if form == "alone" else (4 if both else 2, B)
            widths = (options.get("proj_size", 16), 16)[: 2 if name == "LSTM" else 1]
            hx = tuple(torch.randn(*shape, width).to(state) for width in widths)
            hx = hx if name == "LSTM" else hx[0]
        _, values, gradients = results(autocast(theirs), x, hx)
        _, our_values, our_gradients = results(autocast(ours), x, hx)
        for a, b in zip([*values, *gradients], [*our_values, *our_gradients], strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            assert (a.double() - b.double()).norm() <= MIXED * a.double().norm()
    assert len(passes) == 6  # here, all of them


def test_autocast_rounds_operands_of_products_alone():
    """The same as a layer in mixed precision, to the bit; neither outputs nor gates are rounded."""
    ours = rt.GRU(8, 16, dtype=torch.float32)
    x = torch.randn(T, B, 8, dtype=torch.float32)
    y, _ = autocast(ours)(x)
    plain, _ = ours(x)
    assert y.dtype == torch.float32 and not torch.equal(y, plain) and not torch.equal(y, y.bfloat16().float())
    own, _ = rc.from_torch(ours).copy("mixed_bfloat16").forward(x.numpy())
    assert torch.equal(y, torch.from_numpy(own))


def test_autocast_ends_where_it_is_disabled():
    ours = rt.LSTM(D, 16, dtype=torch.float32)
    x = torch.randn(T, B, D, dtype=torch.float32)
    plain, _ = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = ours(x)
        with torch.autocast("cpu", enabled=False):
            again, _ = ours(x)
    assert mixed.dtype == torch.bfloat16 and torch.equal(plain, again)


def test_autocast_leaves_float64_alone():
    theirs, ours = pair("LSTM")
    assert_same(autocast(theirs), autocast(ours), torch.randn(T, B, D))


def test_autocast_with_gradients_of_gradients(notice):
    """These are PyTorch's own, in float32: near what one pass back gives."""
    ours = rt.GRU(8, 16, dtype=torch.float32)
    x = torch.randn(T, B, 8, dtype=torch.float32, requires_grad=True)
    y, _ = autocast(ours)(x)
    (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    with pytest.warns(UserWarning, match="gradients of gradients"):
        (second,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert (first - second).norm() <= MIXED * second.norm()
    second.pow(2).sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in ours.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_autocast_gives_the_same_bits_with_any_number_of_threads(name):
    ours = getattr(rt, name)(8, 16, dtype=torch.float32)
    x = torch.randn(T, 9, 8, dtype=torch.float32)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        _, values, gradients = results(autocast(ours), x)
        found.append([*values, *gradients])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


# -------------------------------------------------------------- what is left to PyTorch


def left_to_torch(module, call, match, passes):
    """The call warns the first time, not the second, and PyTorch's own code does it."""
    with pytest.warns(UserWarning, match=match):
        result = call(module)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="rnncore.torch")
        call(module)
    assert not passes
    return result


def test_other_dtypes(notice, passes):
    module = rt.GRU(D, H, dtype=torch.bfloat16)
    x = torch.randn(T, B, D, dtype=torch.bfloat16)
    y, _ = left_to_torch(module, lambda m: m(x), "bfloat16", passes)
    assert y.dtype == torch.bfloat16


def test_other_devices(notice, passes):
    module = rt.LSTM(D, H, device="meta")
    y, _ = left_to_torch(module, lambda m: m(torch.empty(T, B, D, device="meta")), "meta", passes)
    assert y.shape == (T, B, H)


def test_autocast_to_float16(notice, passes):
    def call(module):
        with torch.autocast("cpu", dtype=torch.float16):
            return module(torch.randn(T, B, D, dtype=torch.float32))

    try:
        call(nn.GRU(D, H, dtype=torch.float32))
    except RuntimeError as error:
        pytest.skip(f"PyTorch's own module cannot do it on this processor: {error}")
    left_to_torch(rt.GRU(D, H, dtype=torch.float32), call, "autocast to torch.float16", passes)


def test_a_pytorch_without_its_inner_functions(monkeypatch):
    """Another version may lack what tells whether a graph is kept: then it is taken to be."""
    monkeypatch.setattr("rnncore.torch.autograd._autograd", object())
    assert_same(*pair("LSTM"), torch.randn(T, B, D, requires_grad=True))
    ours = pair("GRU")[1]
    y, _ = ours(torch.randn(T, B, D))
    first, second = (torch.autograd.grad(y.sum(), ours.weight_hh_l0, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_saved_memory_is_aligned(monkeypatch):
    monkeypatch.setattr("rnncore.torch.workspaces.LINE", 2**20)  # which no tensor is by chance
    memory = workspaces.SavedMemory()
    found = memory(1000)
    assert found.shape == (1000,) and found.ctypes.data % 2**20 == 0
    found[:] = 7
    assert (memory.take() == 7).all()


def test_packed_sequences_that_are_not(notice):
    """Numbers that do not fit one another are left to PyTorch, whose error it is."""
    theirs, ours = pair("GRU")
    data = torch.randn(5, D)
    for sizes in (torch.tensor([3, 2], dtype=torch.int32), torch.tensor([[3, 2]]), torch.tensor([], dtype=torch.int64)):
        said = []
        for module in (theirs, ours):
            with pytest.raises((RuntimeError, ValueError, IndexError, TypeError)) as caught:
                module(PackedSequence(data, sizes))
            said.append((caught.type, str(caught.value)))
        assert said[0] == said[1]


def test_all_dropped(notice, passes):
    theirs, ours = pair("GRU", num_layers=2, dropout=1.0)
    x = torch.randn(T, B, D)
    y, _ = left_to_torch(ours, lambda m: m(x), "dropout=1", passes)
    assert torch.equal(y, theirs(x)[0])


def test_transforms(notice, passes):
    theirs, ours = pair("RNN")
    x = torch.randn(T, B, D)

    def slopes(module):
        return torch.func.grad(lambda x: module(x)[0].sum())(x)

    torch.testing.assert_close(left_to_torch(ours, slopes, "torch.func", passes), slopes(theirs))


def test_forward_mode(notice, passes):
    from torch.autograd import forward_ad

    theirs, ours = pair("RNN")
    x, dx = torch.randn(T, B, D), torch.randn(T, B, D)

    def tangent(module):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(module(forward_ad.make_dual(x, dx))[0]).tangent

    torch.testing.assert_close(left_to_torch(ours, tangent, "forward-mode", passes), tangent(theirs))


@pytest.mark.parametrize("name", NAMES)
def test_batched_gradients(name, notice):
    module = getattr(rt, name)(2, 3, num_layers=2, bidirectional=True)
    x, hx = torch.randn(3, 2, 2, requires_grad=True), leaves(state_of(module, 2))
    jacobian, hessian = torch.autograd.functional.jacobian, torch.autograd.functional.hessian

    def outputs(x):
        return tuple(tensors_in(module(x, hx)))

    def loss(x):
        return weighted(module(x, hx))

    expected = jacobian(outputs, x)
    with pytest.warns(UserWarning, match="batched gradients"):
        found = jacobian(outputs, x, vectorize=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="rnncore.torch leaves batched")
        jacobian(outputs, x, vectorize=True)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
        expected = hessian(loss, x)
        torch.testing.assert_close(hessian(loss, x, vectorize=True), expected, rtol=1e-11, atol=1e-11)
    y = module(x, hx)[0]
    inputs, several = [x, *tensors_in(hx), *module.parameters()], torch.randn(4, *y.shape)
    found = torch.autograd.grad(y, inputs, several, is_grads_batched=True, retain_graph=True)
    for n in range(4):
        expected = torch.autograd.grad(y, inputs, several[n], retain_graph=True)
        torch.testing.assert_close([part[n] for part in found], list(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:rnncore.torch leaves")
def test_batched_gradients_of_packed_sequences():
    module = rt.GRU(D, H)
    packed = leaves(pack_sequence([torch.randn(n, D) for n in (1, 3)], enforce_sorted=False))
    y = module(packed)[0].data
    several = torch.randn(3, *y.shape)
    found = torch.autograd.grad(y, packed.data, several, is_grads_batched=True, retain_graph=True)[0]
    for n in range(3):
        (expected,) = torch.autograd.grad(y, packed.data, several[n], retain_graph=True)
        torch.testing.assert_close(found[n], expected, rtol=1e-11, atol=1e-11)


def test_batched_gradients_do_not_go_through_dropout():
    y, _ = rt.GRU(D, H, num_layers=2, dropout=0.5)(torch.randn(T, B, D, requires_grad=True))
    with pytest.raises(RuntimeError, match=r"batched gradients.*dropout=0"):
        torch.autograd.grad(y, y.grad_fn.saved_tensors[0], torch.randn(2, *y.shape), is_grads_batched=True)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:rnncore.torch leaves nested")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nested_tensors(name, layout, notice, passes):
    """PyTorch's own modules know what to say of them."""
    parts = [torch.randn(n, D) for n in (3, 5)]
    for options in ({}, {"batch_first": True}):
        theirs, ours = pair(name, **options)
        found = [outcome(lambda m: m(torch.nested.nested_tensor(parts, layout=layout)), m) for m in (theirs, ours)]
        assert found[0] == found[1]
    assert not passes and any("nested tensors" in message for message in notices._given)


def test_modes_and_sub_classes(notice, passes):
    from torch.utils.flop_counter import FlopCounterMode

    class Own(torch.Tensor):
        pass

    def counted(module):
        with FlopCounterMode(display=False) as counter:
            module(torch.randn(T, B, D))
        return counter.get_total_flops()

    assert left_to_torch(rt.GRU(D, H), counted, "dispatch modes", passes) > 0
    x = torch.randn(T, B, D).as_subclass(Own)
    y, _ = left_to_torch(rt.GRU(D, H), lambda m: m(x), "sub-classes", passes)
    assert type(y) is Own


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", NAMES)
def test_recorders_see_torch_s_module(name, passes):
    module, x = getattr(rt, name)(D, H), torch.randn(T, B, D)
    y = module(x)[0]
    traced = torch.jit.trace(module, (x,), check_trace=False)
    scripted = torch.jit.script(nn.Sequential(copy.deepcopy(module)))
    exported = torch.export.export(copy.deepcopy(module), (x,)).module()
    for recorded in (traced, scripted, exported):
        torch.testing.assert_close(recorded(x)[0], y, rtol=1e-12, atol=1e-12)
    assert len(passes) == 1


class Model(nn.Module):
    """An encoder and a decoder with a layer between, as models are written."""

    def __init__(self, modules, name):
        super().__init__()
        kind = getattr(modules, name)
        self.first, self.second = kind(D, H, batch_first=True), kind(H, H, batch_first=True)
        self.out = nn.Linear(H, 2)

    def forward(self, x):
        y, state = self.first(x)
        return self.out(self.second(torch.relu(y), state)[0])


def two_models(name):
    ours, theirs = Model(rt, name).float(), Model(nn, name).float()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", NAMES)
def test_fx_records_a_call(name, passes):
    """As of torch.nn's modules: one node for each call, which runs here."""
    ours, theirs = two_models(name)
    x = torch.randn(B, T, D, dtype=torch.float32)
    traced, wanted = torch.fx.symbolic_trace(ours), torch.fx.symbolic_trace(theirs)
    described = [
        [(node.op, str(node.target), len(node.args)) for node in part.graph.nodes] for part in (traced, wanted)
    ]
    assert described[0] == described[1] and ("call_module", "second", 2) in described[0]
    torch.testing.assert_close(traced(x), wanted(x))
    assert isinstance(traced.first, rt.__dict__[name]) and len(passes) == 2
    for kind in (getattr(nn, name), getattr(rt, name)):  # neither can be taken apart by itself
        with pytest.raises((torch.fx.proxy.TraceError, TypeError, RuntimeError)):
            torch.fx.symbolic_trace(kind(D, H))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_quantization(name, monkeypatch):
    """It says why it leaves the modules as they are; those that `to_plain` gives are quantized as torch.nn's are."""
    from rnncore.torch import notices

    monkeypatch.setattr(notices, "_given", set())
    ours, theirs = two_models(name)
    quantize = torch.ao.quantization.quantize_dynamic
    with pytest.warns(UserWarning, match=r"rnncore\.torch\.to_plain"):
        kept = quantize(ours)
    assert type(kept.first) is getattr(rt, name)
    x = torch.randn(B, T, D, dtype=torch.float32)
    plain = rt.to_plain(ours)
    assert type(plain.first) is getattr(nn, name) and type(ours.first) is getattr(rt, name)
    found, wanted = quantize(plain), quantize(theirs)
    assert type(found.first) is type(wanted.first) is not getattr(nn, name)
    torch.testing.assert_close(found(x), wanted(x))
    assert type(rt.to_plain(ours.first)) is getattr(nn, name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_onnx_export(name, tmp_path):
    peer("onnx")
    ours, _ = two_models(name)
    x = torch.randn(B, T, D, dtype=torch.float32)
    torch.onnx.export(ours, (x,), str(tmp_path / "m.onnx"), dynamo=False)
    session = peer("onnxruntime").InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), ours(x).detach(), rtol=1e-4, atol=1e-5)


def test_compiling(passes):
    module = nn.Sequential(rt.GRU(D, H))
    compiled = torch.compile(module, backend="eager")
    x = torch.randn(T, B, D)
    torch.testing.assert_close(compiled(x)[0], module(x)[0], rtol=1e-12, atol=1e-12)
    compiled(x)[0].sum().backward()
    assert module[0].weight_hh_l0.grad is not None


def run_python(code):
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)


def test_importing_rnncore_leaves_torch_alone():
    code = "import sys, rnncore as rc; rc.Recurrent('gru', 2, 3), rc.SequenceTagger; print('torch' in sys.modules)"
    assert run_python(code).stdout.strip() == "False"


def test_without_torch():
    assert "pip install torch" in run_python("import sys; sys.modules['torch'] = None; import rnncore.torch").stderr
