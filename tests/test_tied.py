"""Heads that project by the network's embedding."""

import numpy as np
import peers
import pytest
import twins

import rnncore as rc

V, E, T, B = 11, 6, 7, 5
LENGTHS = np.array([7, 3, 7, 1, 5])


def network(dtype="float64", head=None, symbols=V, pooling="every", **options):
    options = {"hidden_size": E, **options}
    layer = rc.Recurrent("gru", E, dtype=dtype, **options)
    return rc.Network(
        layer, head=head or rc.Softmax(symbols, tied=True), embedding=rc.Embedding(symbols, E), pooling=pooling
    )


def batch(symbols=V, pooling="every", seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, symbols, (T, B)), rng.integers(-1, symbols, (T, B) if pooling == "every" else B)


def untied(net, symbols=V):
    """The same function, the table written out twice."""
    options = {"hidden_size": net.layers[0].hidden_size, "bidirectional": net.layers[0].bidirectional}
    layer = rc.Recurrent("gru", E, dtype=net.dtype, **options)
    twin = rc.Network(layer, head=rc.Softmax(symbols), embedding=rc.Embedding(symbols, E), pooling=net.pooling)
    for name, values in net.params.items():
        twin.params[name] = values
    twin.params["head.W_hy"] = net.params["embedding.E"].T
    return twin


SHAPES = [{}, {"hidden_size": 3, "bidirectional": True}]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize("pooling", ["every", "mean"])
def test_it_is_the_network_whose_projection_is_the_table(options, lengths, pooling):
    net = network(pooling=pooling, **options)
    twin = untied(net)
    x, targets = batch(pooling=pooling)
    assert "head.W_hy" not in net.params and net.params["head.b_y"].shape == (V,)
    assert np.allclose(net.predict(x, lengths), twin.predict(x, lengths), rtol=1e-12)
    for accumulate in (False, True):  # the second adds to the first
        loss = net.loss_and_grad(x, targets, lengths, accumulate=accumulate)
        assert loss == pytest.approx(twin.loss_and_grad(x, targets, lengths, accumulate=accumulate), rel=1e-12)
        assert net.loss(x, targets, lengths) == loss
        for name in net.params:
            wanted = twin.grads[name]
            if name == "embedding.E":
                wanted = wanted + twin.grads["head.W_hy"].T
            assert np.allclose(net.grads[name], wanted, rtol=1e-9, atol=1e-15), (name, accumulate)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_row_of_the_table_is_updated(momentum):
    """Also those of symbols that were not read, in the steps after many others, too."""
    net, twin = network(), network()
    twin.theta[:] = net.theta
    optimizer = rc.Momentum(0.1, momentum=momentum) if momentum else rc.SGD(0.1)
    velocity = np.zeros_like(twin.theta)
    for seed in range(3):
        x, targets = batch(seed=seed)
        net.train_step(x % 3, targets, optimizer)
        twin.loss_and_grad(x % 3, targets)
        velocity = momentum * velocity + twin.grad
        twin.theta[:] -= 0.1 * velocity
        assert net.grads["embedding.E"].all(axis=1).all()
    assert np.allclose(net.theta, twin.theta, rtol=1e-9, atol=1e-12)


def test_the_loss_outside_adds_to_the_table_too():
    net = network()
    x, targets = batch()
    net.loss_and_grad(x, targets, LENGTHS)
    wanted = net.grad.copy()
    net.grad[...] = np.nan
    scores, _ = net.forward(x, LENGTHS)
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    counted = (targets >= 0) & (np.arange(T)[:, None] < LENGTHS)
    dscores = np.where(counted[..., None], p - np.eye(V)[targets], 0) / counted.sum()
    net.backward(dscores)
    assert np.allclose(net.grad, wanted, rtol=1e-9, atol=1e-15)


def test_several_heads_may_be_tied():
    heads = {"next": rc.Softmax(V, tied=True), "same": rc.Softmax(V, tied=True), "kind": rc.Softmax(2)}
    net = rc.Network(rc.Recurrent("gru", E, E, dtype="float64"), heads=heads, embedding=rc.Embedding(V, E))
    x, targets = batch()
    for given in ({"next": targets, "same": x, "kind": x % 2}, {"kind": x % 2}, {"same": x}):
        net.loss_and_grad(x, given, LENGTHS)
        found = net.grad.copy()
        for i in range(0, net.theta.size, 7):
            loss, was = {}, net.theta[i]
            for step in (-1e-5, 1e-5):
                net.theta[i] = was + step
                loss[step] = net.loss(x, given, LENGTHS)
            net.theta[i] = was
            assert found[i] == pytest.approx((loss[1e-5] - loss[-1e-5]) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_and_blocks_change_no_bit(dtype):
    """More rows than one block has room for, and more symbols than are summed at a time."""
    symbols = 9000
    net = network(dtype, symbols=symbols)
    rng = np.random.default_rng(0)
    x, targets = rng.integers(0, symbols, (20, 15)), rng.integers(0, symbols, (20, 15))
    found = []
    for threads in (1, 2, 3):
        net.n_threads = threads
        found.append((net.loss_and_grad(x, targets), net.grad.copy()))
    assert net.memory()["tape_and_scratch"] < x.size * symbols * net.dtype.itemsize
    for loss, grad in found[1:]:
        assert loss == twins.same_loss(found[0][0])
        twins.assert_same_bits(grad, found[0][1])
    twin = untied(net, symbols)
    twin.loss_and_grad(x, targets)
    both = twin.grads["embedding.E"] + twin.grads["head.W_hy"].T
    assert np.allclose(net.grads["embedding.E"], both, rtol=1e-4, atol=1e-7)
    assert np.allclose(net.grads["head.b_y"], twin.grads["head.b_y"], rtol=1e-4, atol=1e-7)


def test_torch_agrees():
    torch = peers.peer("torch")
    net = network()
    x, targets = batch()
    targets = np.maximum(targets, 0)
    table = torch.tensor(net.params["embedding.E"].copy(), requires_grad=True)
    twin = rc.Network(net.layers[0].copy(), head=rc.SquaredError(E, project=False))
    read = net.params["embedding.E"][x]
    z, _ = twin.forward(read)
    z = torch.tensor(z, requires_grad=True)
    scores = z @ table.T + torch.from_numpy(net.params["head.b_y"].copy())
    loss = torch.nn.functional.cross_entropy(scores.reshape(-1, V), torch.from_numpy(targets.reshape(-1)))
    loss.backward()
    dread, _ = twin.backward(z.grad.numpy())
    wanted = table.grad.numpy().copy()
    np.add.at(wanted, x, dread)
    assert net.loss_and_grad(x, targets) == pytest.approx(loss.item(), rel=1e-12)
    assert np.allclose(net.grads["embedding.E"], wanted, rtol=1e-9, atol=1e-14)


def test_it_learns_saves_copies_and_streams(tmp_path):
    net = network("float32")
    x, targets = batch()
    adam = rc.Adam(0.05)
    losses = [net.train_step(x, targets, adam) for _ in range(150)]
    assert losses[-1] < 0.5 * losses[0]
    net.freeze("embedding.*")
    net.save(tmp_path / "net.safetensors")
    for twin in (rc.load(tmp_path / "net.safetensors"), net.copy()):
        assert twin.head.tied and twin.frozen == net.frozen
        twins.assert_same_bits(twin.predict(x), net.predict(x))
    before = net.params["embedding.E"].copy()
    net.train_step(x, targets, adam)
    assert np.array_equal(before, net.params["embedding.E"])
    session = net.session(B)
    twins.assert_same_bits(np.stack([session.step(x_t) for x_t in x]), net.predict(x))


def test_onnx_has_the_same_probabilities(tmp_path):
    onnxruntime = peers.peer("onnxruntime")
    peers.peer("onnx")
    net = network("float32")
    x, _ = batch()
    net.to_onnx(tmp_path / "net.onnx", inputs="ids")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    (found,) = session.run(["probabilities"], {"x": x, "lengths": np.full(B, T, dtype=np.int64)})
    assert np.allclose(found, net.predict(x), rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_is_said():
    layer = {"cell": "gru", "input_size": E, "hidden_size": E}
    with pytest.raises(ValueError, match="give embedding="):
        rc.Network(rc.Recurrent(**layer), head=rc.Softmax(V, tied=True))
    with pytest.raises(ValueError, match="symbols and numbers, got 12 and 6"):
        rc.Network(rc.Recurrent(**layer), head=rc.Softmax(V, tied=True), embedding=rc.Embedding(V + 1, E))
    with pytest.raises(ValueError, match="proj_size"):
        rc.Network(rc.Recurrent("lstm", E, 9), head=rc.Softmax(V, tied=True), embedding=rc.Embedding(V, E))
    fine = rc.Recurrent("lstm", E, 9, proj_size=E)
    rc.Network(fine, head=rc.Softmax(V, tied=True), embedding=rc.Embedding(V, E))
    with pytest.raises(ValueError, match="project must be True"):
        rc.Softmax(V, tied=True, project=False)
    with pytest.raises(ValueError, match="tied"):
        rc.Softmax(V, tied="yes")
    elman = rc.Network(rc.Recurrent("elman", E, E), head=rc.Softmax(V, tied=True), embedding=rc.Embedding(V, E))
    elman.loss_and_grad(*batch())
    with pytest.raises(ValueError, match="tied"):
        elman.curvature()
