"""PyTorch's own cases of its recurrent modules, with ours in their place: what passes there passes here."""

import copy
import io

import pytest
from peers import peer

torch = peer("torch")
peer("expecttest")  # PyTorch's test cases need it

from torch.testing._internal.common_modules import module_db  # noqa: E402

import rnncore.torch as rt  # noqa: E402

INFOS = {
    info.module_cls.__name__: info
    for info in module_db
    if info.module_cls in (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)
}
every_kind = pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@pytest.fixture(autouse=True)
def always_ours(monkeypatch):
    """The cases are tiny: PyTorch would be faster and be asked."""
    monkeypatch.setattr(rt.GRU, "_too_little", lambda *rest: False, raising=True)
    for kind in (rt.RNN, rt.LSTM):
        monkeypatch.setattr(kind, "_too_little", lambda *rest: False)


def cases(name, dtype, training, requires_grad=False):
    """For each case the modules, ours and PyTorch's with the same weights, and what goes in."""
    info = INFOS[name]
    found = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training)
    assert len(found) >= 16
    for case in found:
        arguments = case.constructor_input
        theirs = info.module_cls(*arguments.args, **arguments.kwargs).to(dtype).train(training)
        ours = getattr(rt, name)(*arguments.args, **arguments.kwargs).to(dtype).train(training)
        ours.load_state_dict(theirs.state_dict())
        yield ours, theirs, case.forward_input.args, case.forward_input.kwargs


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, (tuple, list)) else []


def scattered(value):
    """The same numbers, not one after the other in memory."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(scattered, value))
    wide = torch.empty((*value.shape, 2), dtype=value.dtype)
    wide[..., 0] = value.detach()
    return wide[..., 0].requires_grad_(value.requires_grad)


@every_kind
@every_dtype
@both_modes
def test_outputs_and_gradients(name, dtype, training):
    for ours, theirs, args, kwargs in cases(name, dtype, training, requires_grad=True):
        results = []
        for module in (ours, theirs):
            own = copy.deepcopy(args)
            outputs = tensors_in(module(*own, **kwargs))
            sum((output * output).sum() for output in outputs).backward()
            inputs = [tensor.grad for tensor in tensors_in(own)]
            results.append([*outputs, *inputs, *(parameter.grad for parameter in module.parameters())])
        for number, (found, wanted) in enumerate(zip(*results, strict=True)):
            scale = 1.0 if number < len(outputs) else max(1.0, float(wanted.abs().max()))  # of sums of large numbers
            torch.testing.assert_close(found / scale, wanted / scale, rtol=1e-5, atol=1e-5)
        assert repr(ours) == repr(theirs)


@every_kind
def test_inputs_not_in_order(name):
    for ours, _, args, kwargs in cases(name, torch.float64, True, requires_grad=True):
        wanted = tensors_in(ours(*args, **kwargs))
        for found, expected in zip(tensors_in(ours(*scattered(args), **kwargs)), wanted, strict=True):
            torch.testing.assert_close(found, expected)


@every_kind
def test_kept_and_copied(name):
    for ours, _, args, kwargs in cases(name, torch.float32, False):
        wanted = tensors_in(ours(*args, **kwargs))
        file = io.BytesIO()
        torch.save(ours, file)
        file.seek(0)
        for again in (torch.load(file, weights_only=False), copy.deepcopy(ours)):
            assert type(again) is type(ours)
            for found, expected in zip(tensors_in(again(*args, **kwargs)), wanted, strict=True):
                assert torch.equal(found, expected)


@every_kind
def test_made_with_a_device_and_a_type(name):
    info = INFOS[name]
    for case in info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=False, training=True):
        arguments = case.constructor_input
        made = getattr(rt, name)(*arguments.args, **arguments.kwargs, device="meta", dtype=torch.float64)
        assert all(p.device.type == "meta" and p.dtype == torch.float64 for p in made.parameters())
        made = getattr(rt, name)(*arguments.args, **arguments.kwargs, device="cpu", dtype=torch.float64)
        assert all(p.device.type == "cpu" and p.dtype == torch.float64 for p in made.parameters())


@every_kind
@pytest.mark.filterwarnings("ignore:rnncore.torch leaves")
@pytest.mark.parametrize("check", ["gradcheck", "gradgradcheck"])
def test_gradients_of_first_and_second_order(name, check):
    """Every eighth of the cases, for finite differences take long."""
    checked = getattr(torch.autograd, check)
    for number, (ours, _, args, kwargs) in enumerate(cases(name, torch.float64, True, requires_grad=True)):
        if number % 8 in (0, 1):
            tensors = tensors_in(args)

            def run(*given, module=ours, args=args, kwargs=kwargs):
                parts = iter(given)
                x = next(parts)
                state = tuple(parts)
                if not state:
                    return tuple(tensors_in(module(x, **kwargs)))
                return tuple(tensors_in(module(x, state if len(state) > 1 else state[0], **kwargs)))

            assert checked(run, tensors)
