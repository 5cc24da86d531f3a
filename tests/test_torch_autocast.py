"""rnncore.torch's modules under torch.autocast to bfloat16: the engine's mixed precision, PyTorch's dtypes."""

import itertools
import warnings

import pytest
from peers import peer

torch = peer("torch")

from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import rnncore as rc  # noqa: E402
import rnncore.torch as rt  # noqa: E402

FLOAT, HALF = torch.float32, torch.bfloat16
D, H, B, T = 24, 32, 5, 6
KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": 16})]
CLOSE = 0.03  # of the norm: both round to bfloat16, at different places


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def in_bfloat16(enabled=True):
    return torch.autocast("cpu", HALF, enabled=enabled)


def pair(kind, **options):
    """PyTorch's module and ours with the same parameters; skips where PyTorch has no bfloat16."""
    theirs, ours = getattr(torch.nn, kind)(D, H, **options), getattr(rt, kind)(D, H, **options)
    if theirs.mode == "RNN_RELU":
        keep_from_zero(theirs)
    ours.load_state_dict(theirs.state_dict())
    try:
        with in_bfloat16(), torch.no_grad():
            theirs(torch.zeros(2, 1, D))
    except RuntimeError as error:
        pytest.skip(f"PyTorch's own module cannot do it on this processor: {error}")
    return theirs, ours


@torch.no_grad()
def keep_from_zero(module):
    """Let units be clearly on or off: the derivative of one near zero hangs on the last bit of bfloat16."""
    for name, parameter in module.named_parameters():
        if name.startswith("bias_ih"):
            parameter[::2], parameter[1::2] = 3, -3
        elif name.startswith("weight"):
            parameter *= 0.3


def tensors_in(thing):
    if isinstance(thing, PackedSequence):
        return [thing.data]
    return [thing] if isinstance(thing, torch.Tensor) else [t for part in thing for t in tensors_in(part)]


def state_of(module, dtypes):
    units, widths = module.num_layers * (2 if module.bidirectional else 1), [module.proj_size or H, H]
    parts = [torch.randn(units, B, width).to(dtype) for width, dtype in zip(widths, dtypes, strict=False)]
    return tuple(parts) if module.mode == "LSTM" else parts[0]


def results(module, x, hx):
    """Values, and gradients of a loss to which every number contributes differently."""
    given = [x, *([] if hx is None else tensors_in(hx))]
    given = [tensor.clone().requires_grad_() for tensor in given]
    states = None if hx is None else given[1] if len(given) == 2 else tuple(given[1:])
    packed = module.packed if hasattr(module, "packed") else None
    with in_bfloat16():
        values = tensors_in(module(packed._replace(data=given[0]) if packed else given[0], states))
    generator = torch.Generator().manual_seed(1)
    loss = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in values)
    return [*values, *torch.autograd.grad(loss, [*given, *module.parameters()])]


def assert_alike(theirs, ours, x, hx=None):
    for a, b in zip(results(theirs, x, hx), results(ours, x, hx), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = a.detach().float(), b.detach().float()
        assert float((a - b).norm() / a.norm()) <= CLOSE


@pytest.mark.parametrize("lengths", [(), (4, 6, 2, 6, 1), (3, 3, 3, 3, 3)], ids=["padded", "packed", "all as long"])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_dtypes_and_numbers_are_torch_s(kind, options, lengths, passes):
    theirs, ours = pair(kind, num_layers=2, bidirectional=True, **options)
    x = torch.randn(T, B, D)
    if lengths:
        sequences = pack_sequence([x[:n, b] for b, n in enumerate(lengths)], enforce_sorted=False)
        theirs.packed = ours.packed = sequences
        x = sequences.data
    states = [None, (FLOAT, FLOAT), (HALF, HALF)] + [(FLOAT, HALF), (HALF, FLOAT)] * (kind == "LSTM")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="rnncore.torch")
        for dtype, state in itertools.product((FLOAT, HALF), states):
            assert_alike(theirs, ours, x.to(dtype), None if state is None else state_of(ours, state))
            assert passes.pop()


@pytest.mark.parametrize("options", [{"batch_first": True}, {"bias": False}, {"num_layers": 3}], ids=str)
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_shapes_are_torch_s(kind, options, passes):
    theirs, ours = pair(kind, **options)
    assert_alike(theirs, ours, torch.randn(T, B, D))
    assert_alike(theirs, ours, torch.randn(T, D))
    assert len(passes) == 2


def test_dtypes_without_onednn(passes):
    theirs, ours = pair("LSTM")
    assert_alike(theirs, ours, torch.randn(T, B, D))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of flags' own
        with torch.backends.mkldnn.flags(enabled=False):
            assert_alike(theirs, ours, torch.randn(T, B, D))
    assert len(passes) == 2


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_numbers_are_those_of_mixed_precision(kind, options):
    """Up to the rounding of outputs: float32 in both where PyTorch returns that, rounded where it does not."""
    _, ours = pair(kind, num_layers=2, **options)
    layer = rc.from_torch(ours, dtype="mixed_bfloat16")
    assert layer.mixed
    x = torch.randn(T, B, D, requires_grad=True)
    y, final = layer.forward(x.detach().numpy())
    with in_bfloat16():
        our_y, our_final = ours(x)
    for a, b in zip([y, *final], tensors_in((our_y, our_final)), strict=True):
        assert torch.equal(torch.tensor(a).to(b.dtype), b)
    dy = torch.randn(our_y.shape).to(our_y.dtype)
    dx, _ = layer.backward(dy.float().numpy())
    found = torch.autograd.grad(our_y, [x, *ours.parameters()], dy)
    assert torch.equal(torch.tensor(dx), found[0])
    units = {name: torch.tensor(g) for name, g in layer.grads.items()}
    for (name, _), gradient in zip(ours.named_parameters(), found[1:], strict=True):
        for part, own in (("weight_ih", "W_xh"), ("weight_hh", "W_hh")):
            if name.startswith(part):
                assert torch.equal(units[f"layers.{name[-1]}.fwd.{own}"].t(), gradient)


def test_nested_contexts(passes):
    """Autocast switched off inside is float32 again, and what is outside has no part in it."""
    _, ours = pair("GRU")
    x = torch.randn(T, B, D)
    plain, _ = ours(x)
    with in_bfloat16():
        first, _ = ours(x)
        with in_bfloat16(False):
            inner, _ = ours(x)
        second, _ = ours(x)
    assert torch.equal(plain, inner) and torch.equal(first, second) and not torch.equal(plain, first)
    assert [what.net.mixed for what, *_ in passes] == [False, True, False, True]


def test_backward_passes_inside_of_autocast_are_the_same():
    _, ours = pair("LSTM")
    x = torch.randn(T, B, D)
    gradients = []
    for inside in (False, True):
        with in_bfloat16():
            y, _ = ours(x)
        with in_bfloat16(inside):
            gradients.append(torch.autograd.grad(y.float().sum(), list(ours.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_graph_that_is_kept_goes_back_twice_alike(kind):
    """What a forward pass saved in 16 bits is still there after the first time."""
    _, ours = pair(kind)
    x = torch.randn(T, B, D, requires_grad=True)
    with in_bfloat16():
        y = ours(x)[0].float().sum()
    first = torch.autograd.grad(y, [x, *ours.parameters()], retain_graph=True)
    second = torch.autograd.grad(y, [x, *ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_checkpointing_and_inference(passes):
    _, ours = pair("LSTM")
    x = torch.randn(T, B, D, requires_grad=True)
    with in_bfloat16():
        plain = ours(x)[0]
        recomputed = checkpoint(lambda x: ours(x)[0], x, use_reentrant=False)
        with torch.inference_mode():
            inferred = ours(x)[0]
    assert torch.equal(plain, recomputed) and torch.equal(plain, inferred)
    a, b = (torch.autograd.grad(y.float().sum(), [x, *ours.parameters()]) for y in (plain, recomputed))
    assert all(torch.equal(one, two) for one, two in zip(a, b, strict=True))
    assert all(what.net.mixed for what, *_ in passes)


@pytest.mark.filterwarnings("ignore:rnncore.torch leaves")
def test_gradients_of_gradients_are_those_of_float32():
    _, ours = pair("GRU")
    x = torch.randn(T, B, D, requires_grad=True)
    slopes = []
    for enabled in (False, True):
        with in_bfloat16(enabled):
            y, _ = ours(x)
            (dx,) = torch.autograd.grad(y.float().sum(), x, create_graph=True)
        slopes.append(torch.autograd.grad(dx.square().sum(), ours.weight_hh_l0)[0])
    assert torch.equal(*slopes)
