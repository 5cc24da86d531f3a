"""The reference's networks as PyTorch modules, in float64. Import after `peer("torch")`."""

from collections.abc import Iterator

import reference as ref
import torch


def names(net: ref.Stack) -> Iterator[tuple[str, str]]:
    """Our prefix and PyTorch's suffix of every layer and direction."""
    for layer in range(net.num_layers):
        for way, ending in zip(net.directions, ("", "_reverse"), strict=False):
            yield f"layers.{layer}.{way}.", f"_l{layer}{ending}"


def rnn_twin(net: ref.Stack, params: ref.Arrays) -> torch.nn.RNNBase:
    """PyTorch has two biases; ours is the first, the second is zero but for the GRU's b_hn."""
    sizes = (net.input_size, net.hidden_size, net.num_layers)
    kind = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[net.cell]
    options = {"nonlinearity": net.activation} if net.cell == "elman" else {}
    options |= {"proj_size": net.width} if net.option("proj_size") else {}
    twin = kind(*sizes, bidirectional=net.direction == "concat", **options).double()
    with torch.no_grad():
        for ours, theirs in names(net):
            getattr(twin, "weight_ih" + theirs).copy_(torch.tensor(params[ours + "W_xh"].T))
            getattr(twin, "weight_hh" + theirs).copy_(torch.tensor(params[ours + "W_hh"].T))
            getattr(twin, "bias_ih" + theirs).copy_(torch.tensor(params[ours + "b_h"]))
            second = getattr(twin, "bias_hh" + theirs)
            second.zero_()
            if net.option("proj_size"):
                getattr(twin, "weight_hr" + theirs).copy_(torch.tensor(params[ours + "W_hr"].T))
            if net.cell == "gru":
                second[2 * net.hidden_size :] = torch.tensor(params[ours + "b_hn"])
    return twin


def rnn_gradients(twin: torch.nn.RNNBase, net: ref.Stack) -> ref.Arrays:
    grads = {}
    for ours, theirs in names(net):
        grads[ours + "W_xh"] = getattr(twin, "weight_ih" + theirs).grad.numpy().T
        grads[ours + "W_hh"] = getattr(twin, "weight_hh" + theirs).grad.numpy().T
        grads[ours + "b_h"] = getattr(twin, "bias_ih" + theirs).grad.numpy()
        if net.option("proj_size"):
            grads[ours + "W_hr"] = getattr(twin, "weight_hr" + theirs).grad.numpy().T
        if net.cell == "gru":
            grads[ours + "b_hn"] = getattr(twin, "bias_hh" + theirs).grad.numpy()[2 * net.hidden_size :]
    return grads


def run(twin: torch.nn.RNNBase, x: torch.Tensor, state: tuple[torch.Tensor, ...] | None, lengths: list[int] | None):
    """Padded outputs and final states, packed on the way where lengths are given."""
    if state is not None and not isinstance(twin, torch.nn.LSTM):
        (state,) = state
    if lengths is None:
        y, final = twin(x, state)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, final = twin(packed, state)
        y = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=len(x))[0]
    return y, final if isinstance(final, tuple) else (final,)
