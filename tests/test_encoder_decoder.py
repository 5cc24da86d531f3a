"""Networks that read one sequence and write another: gradients, PyTorch, writing step by step, files, bad input."""

import copy
import pickle

import numpy as np
import pytest
from peers import peer

import rnncore as rc
from rnncore._core import kernels
from rnncore.nn.decoder import written

native = pytest.mark.skipif(kernels.config()["gemm"] == "blas", reason="BLAS promises a tolerance, not bits")

SYMBOLS, LENGTHS = 5, np.array([3, 6, 1, 4])


def some_targets(rng, sequences=4, longest=4, symbols=SYMBOLS):
    """The first one empty, the second one full."""
    counts = rng.integers(0, longest + 1, sequences)
    counts[:2] = 0, longest
    targets = rng.integers(0, symbols, (sequences, longest))
    targets[np.arange(longest) >= counts[:, None]] = -1
    return targets


def some_net(cell="gru", attention="general", conditioning="state", layers=1, both_ways=True, dtype="float64", **more):
    ways = 1 + both_ways
    encoder = rc.Recurrent(cell, 4, 3, num_layers=layers, bidirectional=both_ways, dtype=dtype, random_state=1)
    vector = ways * sum(encoder.state_widths.values()) if conditioning in ("input", "both") else 0
    decoder = rc.Recurrent(cell, 3 + vector, 3 * ways, num_layers=layers, dtype=dtype, random_state=2)
    return rc.EncoderDecoder(
        encoder,
        decoder,
        SYMBOLS,
        embedding=rc.Embedding(7, 4),
        attention=attention,
        conditioning=conditioning,
        **more,
    )


def vector_net(conditioning, cell="gru", dtype="float64"):
    beside = 0 if conditioning == "state" else 2
    decoder = rc.Recurrent(cell, 3 + beside, 6, dtype=dtype)
    return rc.EncoderDecoder(None, decoder, SYMBOLS, vector_size=2, conditioning=conditioning)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x(rng):
    return rng.integers(0, 7, (6, 4))


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
@pytest.mark.parametrize("attention", [None, "general", "dot", "scaled_dot"])
@pytest.mark.parametrize("conditioning", ["state", "input", "both", None])
def test_gradients_of_every_conditioning_and_attention(cell, attention, conditioning, rng, x):
    if attention is None and conditioning is None:
        with pytest.raises(ValueError, match="told nothing of the source"):
            some_net(cell, attention, conditioning)
        return
    for layers, both_ways in ((1, True), (2, False)):
        net = some_net(cell, attention, conditioning, layers, both_ways)
        errors = rc.gradcheck(net, x, some_targets(rng), LENGTHS, samples=4)
        assert max(errors.values()) < 2e-5, errors


@pytest.mark.parametrize("conditioning", ["state", "input", "both"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients_from_a_vector(conditioning, cell, rng):
    net = vector_net(conditioning, cell)
    errors = rc.gradcheck(net, rng.standard_normal((4, 2)), some_targets(rng))
    assert max(errors.values()) < 2e-5, errors


def test_gradients_of_stacks_of_different_layers_over_segments_and_numbers(rng):
    encoder = [rc.Recurrent("lstm", 5, 4, bidirectional=True, merge="sum", dtype="float64", dropout=0.0)]
    encoder.append(rc.Recurrent("gru", 4, 3, reverse=True, output_dropout=0.3, dtype="float64"))
    decoder = [
        rc.Recurrent("elman", 4, 5, dtype="float64"),
        rc.Recurrent("lstm", 5, 3, input_dropout=0.2, dtype="float64"),
    ]
    inputs = {"word": rc.Embedding(6, 3), "shape": rc.Numbers(2)}
    attention = rc.Attention(3, memory_size=3, output_size=7, dtype="float64")
    net = rc.EncoderDecoder(encoder, decoder, SYMBOLS, inputs=inputs, attention=attention, label_smoothing=0.1)
    source = {"word": rng.integers(0, 6, (6, 4)), "shape": rng.standard_normal((6, 4, 2))}
    errors = rc.gradcheck(net, source, some_targets(rng), LENGTHS, samples=6)
    assert max(errors.values()) < 2e-5, errors


def test_parts_of_a_batch_give_the_gradient_of_the_whole(rng, x):
    net, targets = some_net("lstm", conditioning="both"), some_targets(rng)
    whole = net.loss_and_grad(x, targets, LENGTHS)
    wanted = net.grad.copy()
    total = net.batch_weight(targets)
    assert total == (targets >= 0).sum() + 4
    loss = 0.0
    for some in (slice(0, 3), slice(3, 4)):
        part, own = net.part_of_batch(x, targets, int(LENGTHS[some].max()), some)
        loss += net.loss_and_grad(part, own, LENGTHS[some], accumulate=some.start > 0, divisor=total)
    assert np.isclose(loss, whole)
    np.testing.assert_allclose(net.grad, wanted, atol=1e-14)


def test_weights_of_sequences_count_their_losses(rng, x):
    net, targets = some_net(), some_targets(rng)
    total = net.batch_weight(targets)
    each = -net.log_probabilities(x, targets, LENGTHS).sum(axis=1)
    weights = np.array([0.5, 2.0, 0.0, 1.0])
    assert np.isclose(net.loss_and_grad(x, targets, LENGTHS, sample_weight=weights), (weights * each).sum() / total)
    assert np.isclose(net.loss(x, targets, LENGTHS), each.sum() / total)


# ------------------------------------------------------------------ PyTorch


def torch_module(torch, layer):
    kind = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[layer.cell.name]
    module = kind(layer.input_size, layer.hidden_size, bidirectional=layer.bidirectional).double()
    module.load_state_dict({name: torch.from_numpy(array) for name, array in rc.to_torch(layer).items()})
    return module


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("conditioning", ["state", "both"])
def test_loss_and_gradients_are_those_of_pytorch(cell, conditioning, rng, x):
    torch = peer("torch")
    net, targets = some_net(cell, conditioning=conditioning), some_targets(rng)
    loss = net.loss_and_grad(x, targets, LENGTHS)
    p = {name: torch.tensor(view, requires_grad=True) for name, view in net.params.items()}
    encoder, decoder = (torch_module(torch, half.layers[0]) for half in (net.encoder, net.decoder))
    pack = torch.nn.utils.rnn.pack_padded_sequence
    unpack = torch.nn.utils.rnn.pad_packed_sequence
    given = written(targets, None, 4, SYMBOLS)
    rows = p["encoder.embedding.E"][torch.tensor(x)]
    memory, final = encoder(pack(rows, torch.tensor(LENGTHS), enforce_sorted=False))
    memory, _ = unpack(memory)
    final = final if isinstance(final, tuple) else (final,)
    vector = torch.cat([direction for part in final for direction in part], dim=1)
    state = torch.tanh(vector @ p["bridge.W"] + p["bridge.b"])
    states = tuple(part[None].contiguous() for part in state.split(6, dim=1))
    table = p["decoder.embedding.E" if conditioning == "state" else "decoder.inputs.symbol.E"]
    read = table[torch.tensor(given.read)]
    if conditioning == "both":
        read = torch.cat([read, vector.expand(len(read), *vector.shape)], dim=2)
    outputs, _ = decoder(read, states if cell == "lstm" else states[0])
    scores = torch.einsum("tbh,hm,sbm->bts", outputs, p["decoder.attention.W"], memory)
    inside = torch.arange(6)[None, :] < torch.tensor(LENGTHS)[:, None]
    weights = scores.masked_fill(~inside[:, None], -torch.inf).softmax(dim=2)
    context = torch.einsum("bts,sbm->tbm", weights, memory)
    seen = torch.tanh(torch.cat([context, outputs], dim=2) @ p["decoder.attention.W_c"])
    logits = seen @ p["decoder.head.W_hy"] + p["decoder.head.b_y"]
    wanted = torch.nn.functional.cross_entropy(
        logits.reshape(-1, SYMBOLS + 1), torch.tensor(given.write).reshape(-1), ignore_index=-1
    )
    wanted.backward()
    assert abs(loss - wanted.item()) < 1e-12
    for name in p:
        if ".layers." not in name:
            np.testing.assert_allclose(net.grads[name], p[name].grad, rtol=1e-10, atol=1e-12, err_msg=name)
    for half, module in ((net.encoder, encoder), (net.decoder, decoder)):
        gradient = half.layers[0].copy()
        gradient.theta[...] = half.layers[0].grad
        for name, array in rc.to_torch(gradient).items():
            if "bias_hh" not in name:  # PyTorch's second bias, which is ours for one gate of the GRU alone
                theirs = getattr(module, name).grad
                np.testing.assert_allclose(array, theirs, rtol=1e-10, atol=1e-12, err_msg=name)
    found = net.attention_weights(x, targets, LENGTHS)
    np.testing.assert_allclose(found[1], weights[1].detach(), atol=1e-12)


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "elman", "jordan", "indrnn"])
@pytest.mark.parametrize(
    ("attention", "conditioning"), [("general", "state"), ("scaled_dot", "both"), ("dot", None), (None, "input")]
)
def test_step_by_step_is_what_teacher_forcing_says(dtype, cell, attention, conditioning, rng, x):
    net = some_net(cell, attention, conditioning, layers=1 if cell == "jordan" else 2, dtype=dtype)
    targets = some_targets(rng)
    wanted = net.log_probabilities(x, targets, LENGTHS)
    given = written(targets, None, 4, SYMBOLS)
    decoding = net.decoding(x, LENGTHS, beams=2)
    rows = np.arange(8)
    for t in range(len(given.read)):
        found = decoding.step(given.read[t][rows // 2])
        there = (given.lengths > t)[rows // 2]
        right = found[np.arange(8), np.maximum(given.write[t], 0)[rows // 2]]
        tolerance = 1e-12 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(right[there], wanted[rows // 2, t][there], atol=tolerance)
        assert np.allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)
        turn = rng.permutation(8)
        decoding.select(turn)
        rows = rows[turn]
        assert (decoding.owner == rows // 2).all()


@pytest.mark.parametrize("conditioning", ["state", "input", "both"])
def test_a_vector_is_written_about_step_by_step(conditioning, rng):
    net, vectors, targets = vector_net(conditioning, "lstm"), rng.standard_normal((4, 2)), some_targets(rng)
    wanted = net.log_probabilities(vectors, targets)
    given = written(targets, None, 4, SYMBOLS)
    decoding = net.decoding(vectors)
    for t in range(len(given.read)):
        found = decoding.step(given.read[t])
        there = np.flatnonzero(given.lengths > t)
        np.testing.assert_allclose(found[there, given.write[t, there]], wanted[there, t], atol=1e-12)


def test_narrowed_rows_go_on_as_they_would_have(rng, x):
    net = some_net("lstm")
    whole, narrowed = net.decoding(x, LENGTHS), net.decoding(x, LENGTHS)
    begin = np.full(4, SYMBOLS)
    assert np.array_equal(whole.step(begin), narrowed.step(begin))
    narrowed.select(np.array([3, 1]))
    np.testing.assert_allclose(narrowed.step(np.array([1, 2])), whole.step(np.array([0, 2, 0, 1]))[[3, 1]], atol=1e-13)


def test_outputs_are_the_most_probable_and_scores_are_theirs(rng, x):
    net = some_net()
    net.theta += rng.standard_normal(net.theta.size)
    greedy, scores = net.decode(x, LENGTHS, max_length=4)
    padded = np.full((4, 4), -1)
    for row, symbols in zip(padded, greedy, strict=True):
        row[: len(symbols)] = symbols
    each = net.log_probabilities(x, padded, LENGTHS)
    ended = np.array([len(symbols) < 4 for symbols in greedy])
    np.testing.assert_allclose(each.sum(axis=1)[ended], scores[ended], atol=1e-12)
    wide, better = net.decode(x, LENGTHS, beam_size=6, max_length=4)
    assert (better >= scores - 1e-12).all()
    several, theirs = net.decode(x, LENGTHS, beam_size=6, max_length=4, n_best=3)
    for first, score, all_, their in zip(wide, better, several, theirs, strict=True):
        assert np.array_equal(first, all_[0]) and score == their[0] and list(their) == sorted(their, reverse=True)


@native
@pytest.mark.parametrize("attention", [None, "general"])
def test_bits_do_not_depend_on_threads(attention, rng):
    encoder = rc.Recurrent("lstm", 12, 40, bidirectional=True)
    net = rc.EncoderDecoder(encoder, rc.Recurrent("lstm", 16, 64), 30, attention=attention)
    x, lengths = rng.standard_normal((25, 32, 12)).astype("float32"), rng.integers(1, 26, 32)
    targets = some_targets(rng, 32, 20, 30)
    results = []
    for threads in (1, 2, 3):
        net.n_threads = threads
        loss = net.loss_and_grad(x, targets, lengths)
        outputs, scores = net.decode(x, lengths, beam_size=4, max_length=20)
        results.append((loss, net.grad.copy(), scores, np.concatenate(outputs)))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_dropout_differs_between_the_halves_and_repeats_with_its_step(rng, x):
    encoder = rc.Recurrent("gru", 4, 6, output_dropout=0.5)
    decoder = rc.Recurrent("gru", 4, 6, output_dropout=0.5)
    net = rc.EncoderDecoder(encoder, decoder, SYMBOLS, embedding=rc.Embedding(7, 4), attention="dot")
    targets = some_targets(rng)
    first, second = net.loss_and_grad(x, targets), net.loss_and_grad(x, targets)
    net.dropout_step = 0
    assert first == net.loss_and_grad(x, targets) != second
    assert net.encoder.dropout_step == net.decoder.dropout_step == 1
    net.dropout_seed = 7
    assert net.encoder.dropout_seed == 7 != net.decoder.dropout_seed


# ------------------------------------------------------------------ training


def test_it_learns_to_reverse(rng):
    encoder, decoder = rc.Recurrent("gru", 8, 16, bidirectional=True), rc.Recurrent("gru", 8, 24)
    net = rc.EncoderDecoder(encoder, decoder, symbols=6, embedding=rc.Embedding(6, 8), attention="general")

    def some():
        x, lengths = rng.integers(0, 6, (8, 32)), rng.integers(1, 9, 32)
        targets = np.full((32, 8), -1)
        for n, length in enumerate(lengths):
            targets[n, :length] = x[:length, n][::-1]
        return x, targets, lengths

    net_data = [some() for _ in range(40)]
    trainer = rc.Trainer(net, rc.Adam(0.01, clip_norm=1.0), net_data, max_epochs=10).run()
    assert trainer.history[-1]["loss"] < 0.1
    x, targets, lengths = some()
    found, _ = net.decode(x, lengths)
    right = [np.array_equal(one, row[row >= 0]) for one, row in zip(found, targets, strict=True)]
    assert np.mean(right) > 0.9


def test_the_trainer_validates_goes_on_and_deals_batches_to_parts(rng, x, tmp_path):
    data = [((x + n) % 7, some_targets(rng), LENGTHS) for n in range(6)]

    def trained(**options):
        net = some_net("lstm")
        return rc.Trainer(net, rc.Adam(0.02), data, max_epochs=3, **options).run()

    whole = trained(validation=data[:3], shuffle=True)
    losses = [whole.network.loss(*batch) for batch in data[:3]]
    counts = [whole.network.batch_weight(batch[1]) for batch in data[:3]]
    assert whole.history[-1]["val_loss"] == pytest.approx(np.average(losses, weights=counts))
    assert whole.history[-1]["val_loss"] < whole.history[0]["val_loss"]

    class Stops(rc.Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                raise SystemExit(9)

    with pytest.raises(SystemExit):
        trained(shuffle=True, callbacks=[Stops()], checkpoint=tmp_path / "c", checkpoint_every=0)
    plain, again = trained(shuffle=True), trained(shuffle=True, resume=tmp_path / "c")
    assert np.array_equal(plain.network.theta, again.network.theta)
    np.testing.assert_allclose(trained(shuffle=True, parts=2).network.theta, plain.network.theta, atol=1e-9)


def test_lazy_updates_visit_what_a_batch_touched(rng, x):
    net = some_net("gru", conditioning="both")
    before = net.theta.copy()
    targets = np.where(some_targets(rng) >= 0, 2, -1)
    net.train_step(np.zeros_like(x), targets, rc.SGD(0.1), LENGTHS)
    net.train_step(np.zeros_like(x), targets, rc.SGD(0.1), LENGTHS)
    change = net.layout.views(net.theta - before)
    assert change["encoder.embedding.E"][0].all() and not change["encoder.embedding.E"][1:].any()
    moved = np.flatnonzero(change["decoder.inputs.symbol.E"].any(axis=1))
    assert moved.tolist() == [2, SYMBOLS]
    assert change["bridge.W"].any() and change["bridge.b"].all()


def test_lazy_and_whole_updates_are_the_same(rng, x):
    nets = [some_net("lstm"), some_net("lstm")]
    for net, read in zip(nets, (False, True), strict=True):
        adam = rc.Adam(0.05, groups={"encoder.*": {"learning_rate": 0.01}})
        for n in range(4):
            if read:
                assert net.grad.size  # whoever reads it may write: all rows are visited
            net.train_step((x + n) % 7, some_targets(np.random.default_rng(n)), adam, LENGTHS)
    assert np.allclose(nets[0].theta, nets[1].theta, atol=1e-12)


def test_what_is_frozen_stays(rng, x):
    net = some_net()
    net.freeze("encoder.*", "bridge.W", "decoder.head.b_y")
    assert "encoder.embedding.E" in net.frozen and "bridge.b" not in net.frozen
    before = net.params["bridge.W"].copy(), net.params["encoder.layers.0.fwd.W_hh"].copy()
    for _ in range(3):
        net.train_step(x, some_targets(rng), rc.Adam(0.1), LENGTHS)
    assert np.array_equal(before[0], net.params["bridge.W"])
    assert np.array_equal(before[1], net.params["encoder.layers.0.fwd.W_hh"])
    assert net.encoder.frozen == tuple(net.encoder.params)


def test_a_loss_that_is_not_finite_changes_nothing_and_is_named(rng):
    net = rc.EncoderDecoder(rc.Recurrent("gru", 2, 4), rc.Recurrent("gru", 3, 4), SYMBOLS)
    x, targets = rng.standard_normal((6, 4, 2)), some_targets(rng)
    x[2, 3, 1] = np.nan
    before = net.theta.copy()
    with pytest.raises(rc.NonFiniteError, match=r"NaN in x \(sequence 3, step 2\)"):
        net.train_step(x, targets, rc.SGD(0.1))
    assert np.array_equal(before, net.theta) and net.dropout_step == 0
    net.params["bridge.b"][0] = np.inf
    x[2, 3, 1] = 0
    net.params["decoder.head.b_y"][0] = np.nan
    with pytest.raises(rc.NonFiniteError, match=r"decoder\.head\.b_y|bridge\.b"):
        net.train_step(x, targets, rc.SGD(0.1))


# ------------------------------------------------------------------ files, copies


@pytest.mark.parametrize("make", [some_net, lambda: some_net("lstm", None, "both", 2), lambda: vector_net("both")])
def test_copies_pickles_and_files_are_the_same_network(make, rng, tmp_path):
    net = make()
    x, targets = rng.integers(0, 7, (6, 4)), some_targets(rng)
    source = (x, targets, LENGTHS) if net.encoder is not None else (rng.standard_normal((4, 2)), targets)
    adam = rc.Adam(0.05)
    net.train_step(*source[:2], adam, *source[2:])
    net.freeze("*.W_hh")
    net.dropout_seed = 5
    net.save(tmp_path / "net.safetensors")
    wanted = net.log_probabilities(*source)
    twins = [rc.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net), copy.copy(net)]
    for twin in (*twins, net.copy()):
        assert np.array_equal(twin.log_probabilities(*source), wanted)
        assert twin.frozen == net.frozen and (twin.dropout_seed, twin.dropout_step) == (5, 1)
        assert repr(twin) == repr(net) and twin.summary() == net.summary()
    own = net.train_step(*source[:2], adam.fresh(), *source[2:])
    for twin in twins[1:]:
        assert twin.train_step(*source[:2], adam.fresh(), *source[2:]) == own
        assert np.array_equal(twin.theta, net.theta)
    small = net.copy("float32")
    assert small.dtype == "float32" and np.allclose(
        small.log_probabilities(*source), net.log_probabilities(*source), atol=1e-4
    )


def test_a_damaged_file_is_refused(tmp_path):
    from rnncore.nn.saving import encoder_decoder_from_json, encoder_decoder_to_json

    own = encoder_decoder_to_json(some_net())
    with pytest.raises(ValueError, match="expected"):
        encoder_decoder_from_json({name: value for name, value in own.items() if name != "attention"})
    with pytest.raises(ValueError, match="a single one a list of one"):
        encoder_decoder_from_json(own | {"encoder": own["encoder"] * 2})


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("targets", "target_lengths", "message"),
    [
        ([[0, 1], [2, 9], [1, -1], [0, 0]], None, r"between 0 and 4.*sequence 1 has values from 2 to 9"),
        ([[0, 1], [2, 3], [-1, 1], [0, 0]], None, "targets of sequence 2 go on after -1"),
        ([[0, 1]], None, r"shape \(4, L\)"),
        ([[0.5, 1]] * 4, None, "whole numbers"),
        ([[0, 1]] * 4, [1, 2, 3, 0], "that of sequence 2 is 3"),
        ([[0, 1], [2, -1], [0, 0], [0, 0]], [1, 2, 1, 1], "targets of sequence 1 have a number below 0"),
    ],
)
def test_targets_that_are_unsound_are_named_by_their_sequence(targets, target_lengths, message, x):
    net = some_net()
    for call in (net.loss_and_grad, net.log_probabilities, net.attention_weights):
        with pytest.raises(ValueError, match=message):
            call(x, targets, LENGTHS, target_lengths)


def test_empty_targets_and_lengths_say_the_same_as_padding(rng, x):
    net, targets = some_net(), some_targets(rng)
    counts = (targets >= 0).sum(axis=1)
    filled = np.where(targets < 0, 3, targets)
    assert net.loss_and_grad(x, targets, LENGTHS) == net.loss_and_grad(x, filled, LENGTHS, target_lengths=counts)
    nothing = np.zeros((4, 0), int)
    assert np.isclose(net.loss_and_grad(x, nothing, LENGTHS), net.loss(x, np.full((4, 3), -1), LENGTHS))
    assert net.log_probabilities(x, nothing, LENGTHS).shape == (4, 1)


def test_parts_that_do_not_fit_are_refused():
    gru = rc.Recurrent
    cases = [
        ({"encoder": None, "decoder": gru("gru", 3, 4)}, "give vector_size"),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4), "vector_size": 3}, "leave it out"),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4, bidirectional=True)}, "writes forward in time"),
        ({"encoder": gru("gru", 3, 4), "decoder": []}, "decoder must be"),
        ({"encoder": [], "decoder": gru("gru", 3, 4)}, "encoder must be"),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4, dtype="float64")}, "same dtype"),
        (
            {"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4), "conditioning": "both"},
            "must be greater than that",
        ),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4), "embedding_size": 5}, "input_size=5, got 3"),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4), "conditioning": "all"}, "conditioning must be"),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 6), "attention": "dot"}, "score='dot' needs a memory"),
        ({"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 6), "attention": rc.Attention(6)}, "memory_size=4"),
        (
            {"encoder": gru("gru", 3, 4), "decoder": gru("gru", 3, 4), "attention": rc.Attention(4, causal=True)},
            "causal",
        ),
        (
            {"encoder": None, "vector_size": 2, "decoder": gru("gru", 3, 4), "attention": "dot"},
            "attention needs an encoder's outputs",
        ),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            rc.EncoderDecoder(symbols=5, **given)


def test_sources_that_do_not_fit_are_refused(rng, x):
    net, targets = some_net(), some_targets(rng)
    with pytest.raises(ValueError, match="ids must lie between 0 and 6"):
        net.loss_and_grad(x + 5, targets)
    with pytest.raises(ValueError, match="lengths must lie between 1 and T = 6"):
        net.loss_and_grad(x, targets, [0, 1, 1, 1])
    with pytest.raises(ValueError, match="reads ids"):
        net.decode(np.ones((6, 4, 4)))
    with pytest.raises(ValueError, match=r"one for each sequence; got shape"):
        net.loss_and_grad(x, targets, sample_weight=np.ones((5, 4)))
    with pytest.raises(ValueError, match="no attention"):
        some_net(attention=None).attention_weights(x, targets)
    drawn = vector_net("state")
    with pytest.raises(ValueError, match=r"numbers \(B, 2\); got float64 of shape \(4, 3\)"):
        drawn.decode(np.ones((4, 3)))
    with pytest.raises(ValueError, match="leave lengths out"):
        drawn.loss_and_grad(np.ones((4, 2)), targets, LENGTHS)
    with pytest.raises(AttributeError, match="fixed when it is built"):
        net.symbols = 3


def test_a_network_in_training_lets_nobody_in(rng, x):
    net, targets = some_net(), some_targets(rng)
    with net._access.training:
        for call in (net.loss_and_grad, net.log_probabilities):
            with pytest.raises(RuntimeError, match="another Python thread"):
                call(x, targets)
