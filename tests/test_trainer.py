"""`rc.Trainer`: any network on any source of batches, its callbacks, its checkpoints, its signals."""

import csv
import signal
import sys

import numpy as np
import pytest

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.io.checkpoints import read_checkpoint
from rnncore.train.batches import Batch, SequenceBatches, in_parts
from rnncore.train.trainer import DivergenceWarning

D, H, K = 3, 5, 4


def network(head=None, readout="every", **options):
    layer = rc.Recurrent("gru", D, H, random_state=1, **options)
    return rc.Network(layer, head=head or rc.Softmax(K), readout=readout)


def sequences(n=23, seed=0, per_step=True):
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((length, D)).astype("f4") for length in rng.integers(1, 9, n)]
    y = [rng.integers(0, K, len(part)) for part in x] if per_step else rng.integers(0, K, n)
    return rc.Sequences.of(x, y)


def batches(n=7, seed=0, lengths=True):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        steps, rows = rng.integers(2, 7), 5
        batch = (rng.standard_normal((steps, rows, D)).astype("f4"), rng.integers(0, K, (steps, rows)))
        made.append((*batch, rng.integers(1, steps + 1, rows)) if lengths else batch)
    return made


def yielded(epoch):
    yield from batches(5, seed=epoch)


# -- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 23, 40])
def test_batches_gathered_together_are_those_gathered_alone(monkeypatch, per_step, batch_size):
    data, weights = sequences(per_step=per_step), np.linspace(0, 1, 23)
    found = []
    for at_once in (1, 50, 10**6):
        monkeypatch.setattr("rnncore.train.batches._GATHERED", at_once)
        source = SequenceBatches(data, batch_size, weights)
        found.append(list(source.epoch(1, np.random.default_rng(3), skip=1 if batch_size < 23 else 0)))
    for alone, *others in zip(*found, strict=True):
        longest = alone.lengths.max()
        for batch in others:
            assert (batch.size, batch.n_steps) == (alone.size, alone.n_steps)
            assert (len(batch.x), len(batch.targets)) == (longest, longest if per_step else len(batch.rows))
            for one, other in zip(batch[:5], alone[:5], strict=True):
                np.testing.assert_array_equal(one, other)
        for b, row in enumerate(alone.rows):
            start, length = data.starts[row], data.lengths[row]
            np.testing.assert_array_equal(alone.x[:length, b], data.x[start : start + length])


def test_a_list_of_batches_is_the_loop_one_would_write():
    given = batches()
    ours, theirs, adam = network(dropout=0.2), network(dropout=0.2), rc.Adam(0.01)
    trainer = rc.Trainer(ours, rc.Adam(0.01), given, max_epochs=3).run()
    losses = [[theirs.train_step(x, y, adam, lengths=lengths) for x, y, lengths in given] for _ in range(3)]
    assert ours.theta.tobytes() == theirs.theta.tobytes()
    words = [int(lengths.sum()) for _, _, lengths in given]
    wanted = [np.average(row, weights=words) for row in losses]
    np.testing.assert_allclose([record["loss"] for record in trainer.history], wanted, rtol=1e-12)
    assert trainer.stopped is None and trainer.n_steps == sum(words) and trainer.n_done == 3 * sum(words)


def test_batches_with_sample_weights_and_without_lengths():
    given = [(*batch, None, np.arange(5.0)) for batch in batches(lengths=False)]
    ours, theirs, adam = network(), network(), rc.Adam(0.01)
    rc.Trainer(ours, rc.Adam(0.01), given, max_epochs=2).run()
    for _ in range(2):
        for x, y, _, weights in given:
            theirs.train_step(x, y, adam, sample_weight=weights)
    assert ours.theta.tobytes() == theirs.theta.tobytes()


def test_shuffled_batches_come_in_another_order_every_epoch():
    given = batches()
    seen = []
    net = network()
    done = net.train_step
    net.train_step = lambda x, *rest, **more: (
        seen.append(next(i for i, b in enumerate(given) if b[0] is x)) or done(x, *rest, **more)
    )
    rc.Trainer(net, rc.SGD(0.1), given, max_epochs=2, shuffle=True).run()
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7)) and seen[:7] != seen[7:]


def test_a_callable_is_asked_for_every_epoch():
    asked = []

    def data(epoch):
        asked.append(epoch)
        return batches(2, seed=epoch)

    ours, theirs, adam = network(), network(), rc.Adam(0.01)
    rc.Trainer(ours, rc.Adam(0.01), data, max_epochs=3).run()
    for epoch in (1, 2, 3):
        for x, y, lengths in batches(2, seed=epoch):
            theirs.train_step(x, y, adam, lengths=lengths)
    assert asked == [1, 2, 3] and ours.theta.tobytes() == theirs.theta.tobytes()


@pytest.mark.parametrize("readout", ["every", "last"])
def test_sequences_are_learned(readout):
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((length, D)) for length in rng.integers(1, 9, 60)]
    y = [(part[:, 0] > 0).astype(int) for part in x]
    data = rc.Sequences.of(x, y if readout == "every" else np.array([part[-1] for part in y]))
    assert data.per_step == (readout == "every")
    trainer = rc.Trainer(network(rc.Softmax(2), readout), rc.Adam(0.02), data, max_epochs=25, batch_size=8).run()
    assert trainer.history[-1]["loss"] < 0.2 < trainer.history[0]["loss"]


def test_numbers_as_targets():
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((length, D)) for length in rng.integers(1, 9, 30)]
    data = rc.Sequences.of(x, [part[:, :2] for part in x])
    assert data.y.shape == (len(data.x), 2)
    trainer = rc.Trainer(network(rc.SquaredError(2)), rc.Adam(0.02), data, batch_size=4).run()
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"] / 2
    some = data.select(np.array([3, 1]))
    np.testing.assert_array_equal(some.y, np.concatenate([x[3][:, :2], x[1][:, :2]]))


def test_a_carried_state():
    chunks = batches(6, lengths=False)
    ours, theirs, adam = network(), network(), rc.Adam(0.01)
    rc.Trainer(ours, rc.Adam(0.01), chunks, max_epochs=2, carry=True).run()
    for _ in range(2):
        state = None
        for x, y in chunks:
            theirs.train_step(x, y, adam, state=state)
            state = theirs.state
    assert ours.theta.tobytes() == theirs.theta.tobytes()


def test_whatever_has_the_methods_of_a_network_is_trained():
    class Least:
        """What the documentation asks for, and nothing more."""

        def __init__(self, net):
            self.theta, self.grad, self.dropout_step = net.theta, net.grad, 0
            self.batch_weight, self.batch_shape = net.batch_weight, net.batch_shape
            self.train_step = lambda *given, **more: net.train_step(*given, **more)

    for data in (batches(), sequences()):
        ours, theirs = network(), network()
        first = rc.Trainer(Least(ours), rc.Adam(0.01), data, max_epochs=2).run()
        second = rc.Trainer(theirs, rc.Adam(0.01), data, max_epochs=2).run()
        assert ours.theta.tobytes() == theirs.theta.tobytes()
        assert [record["loss"] for record in first.history] == [record["loss"] for record in second.history]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (iter(batches()), {}, "used up after one epoch"),
        (3, {}, "got int"),
        ([], {}, "at least one batch"),
        (lambda epoch: [], {}, "at least one batch"),
        ([np.zeros((2, 2, D))], {}, "batch 0: expected"),
        ([(np.zeros((2, 2, D)),)], {}, "got 1 parts"),
        (batches(), {"weights": np.ones(7)}, "weights goes with data as Sequences"),
        (batches(), {"parts": 2, "max_rows": 3}, "leave one of them out"),
        (batches(), {"parts": 2, "carry": True}, "cannot be dealt to parts"),
        (batches(), {"parts": 0}, "parts: expected at least 1"),
        (batches(), {"max_epochs": 0}, "max_epochs"),
        (batches(), {"callbacks": [3]}, "callbacks: expected a list"),
        (batches(), {"callbacks": [rc.Callback]}, "callbacks: expected a list"),
        (batches(), {"validation": batches(), "validate": dict}, "exclude each other"),
        (rc.Sequences.of([np.zeros((2, D))]), {}, "with targets"),
    ],
)
def test_what_cannot_be_trained(data, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rc.Trainer(network(), rc.SGD(0.1), data, **options).run()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([], None, "at least one sequence"),
        ([np.zeros((0, 2))], None, "at least one step"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], None, "alike but for their lengths"),
        ([np.zeros((2, 2))], [[0, 1], [1, 0]], "targets for 1 sequences, got 2"),
        ([np.zeros((2, 2)), np.zeros((3, 2))], [[0, 1], [1, 0]], "sequence 1 has 3 steps but 2 targets"),
    ],
)
def test_sequences_that_do_not_fit(x, y, message):
    with pytest.raises(DataError, match=message):
        rc.Sequences.of(x, y)


# -- validation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["softmax", "squared", "sigmoid", "last"])
def test_validation_is_the_loss_without_dropout(kind):
    rng = np.random.default_rng(1)
    heads = {"squared": rc.SquaredError(2), "sigmoid": rc.SigmoidCrossEntropy(2)}
    shapes = {"squared": (6, 5, 2), "sigmoid": (6, 5, 2), "softmax": (6, 5), "last": (5,)}
    readout = "last" if kind == "last" else "every"
    x, lengths = rng.standard_normal((6, 5, D)).astype("f4"), np.array([6, 3, 1, 5, 2])
    targets = rng.integers(0, 2, shapes[kind])
    if kind == "softmax":
        targets[2, 0] = -1
    if kind in heads:  # past an end anything may stand
        targets = targets.astype(float)
        targets[4, 1] = np.nan
    batch = (x, targets, lengths)
    net, still = (network(heads.get(kind), readout, output_dropout=rate, recurrent_dropout=rate) for rate in (0.5, 0.0))
    with np.errstate(all="raise"):
        trainer = rc.Trainer(net, rc.SGD(0.0), [batch], max_epochs=1, validation=[batch]).run()
    wanted = still.loss_and_grad(x, targets, lengths)
    assert trainer.history[0]["val_loss"] == pytest.approx(wanted, rel=1e-5)
    assert trainer.history[0]["loss"] != pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("by_step", [False, True])
def test_validation_counts_sample_weights(batch_first, by_step):
    """A weight of 2 is the sequence, or the step, twice; nothing counts past an end, and -1 not at all."""
    x, y, lengths = batches(1)[0]
    y[0, 1] = -1
    counts = np.random.default_rng(3).integers(0, 3, y.shape if by_step else y.shape[1:]).astype(float)
    net = network()
    inside = (np.arange(len(x))[:, None] < lengths) & (y >= 0)
    p = np.take_along_axis(net.predict(x, lengths), np.maximum(y, 0)[..., None], axis=2)[..., 0]
    wanted = np.average(-np.log(p[inside]), weights=np.broadcast_to(counts, y.shape)[inside])
    turned = rc.Network(net.layers[0], head=net.head, batch_first=batch_first)
    turned.theta[:] = net.theta
    given = (x, y, lengths, counts)
    if batch_first:
        given = (x.swapaxes(0, 1), y.T, lengths, counts.T)
    trainer = rc.Trainer(turned, rc.SGD(0.0), [given], max_epochs=1, validation=[given]).run()
    assert trainer.history[0]["val_loss"] == pytest.approx(wanted, rel=1e-6)


def test_validation_of_a_loss_of_ones_own_needs_a_function():
    class Own(rc.CustomHead):
        def loss_and_grad(self, scores, targets, lengths):
            return 0.0, np.zeros_like(scores)

    with pytest.raises(ValueError, match="not custom: give a function that measures as validate="):
        rc.Trainer(network(Own(K)), rc.SGD(0.1), batches(), validation=batches())


def test_early_stopping_is_the_callback():
    data, other = sequences(), sequences(seed=5)
    options = {"max_epochs": 60, "batch_size": 4}
    one, two = network(), network()
    first = rc.Trainer(one, rc.Adam(0.05), data, validation=other, n_iter_no_change=3, **options).run()
    stopper = rc.callbacks.EarlyStopping(3)
    options |= {"validation": other, "n_iter_no_change": None, "callbacks": [stopper]}
    second = rc.Trainer(two, rc.Adam(0.05), data, **options).run()
    assert first.stopped == second.stopped == "early" and len(first.history) == len(second.history) < 60
    assert one.theta.tobytes() == two.theta.tobytes()
    losses = [record["val_loss"] for record in first.history]
    assert stopper.best_epoch == np.argmin(losses) + 1 == len(losses) - 3
    best = rc.Trainer(one, rc.SGD(0.0), data, max_epochs=1, validation=other).run()
    assert best.history[0]["val_loss"] == pytest.approx(min(losses))


def test_early_stopping_by_something_that_is_not_there():
    stopper = rc.callbacks.EarlyStopping(3, monitor="f1")
    with pytest.raises(KeyError, match=r"f1.*it has loss"):
        rc.Trainer(network(), rc.SGD(0.1), batches(), callbacks=[stopper]).run()
    with pytest.raises(ValueError, match="mode"):
        rc.callbacks.EarlyStopping(mode="most")


# -- callbacks --------------------------------------------------------------------------------------------------------


class Recorder(rc.Callback):
    def __init__(self):
        self.seen = []

    def on_train_begin(self, trainer):
        self.seen.append("train")

    def on_epoch_begin(self, trainer):
        self.seen.append(f"epoch {trainer.epoch}")

    def on_batch_end(self, trainer, record):
        assert record["steps"] > 0 and np.isfinite([record["loss"], record["mean_loss"]]).all()
        self.seen.append((record["epoch"], record["batch"]))

    def on_epoch_end(self, trainer, record):
        assert trainer.history[-1] is record
        self.seen.append(f"end of {record['epoch']}")

    def on_train_end(self, trainer):
        self.seen.append("end")


def test_callbacks_are_called_in_order():
    recorder, plain = Recorder(), []
    rc.Trainer(network(), rc.SGD(0.1), batches(2), max_epochs=2, callbacks=[recorder, plain.append]).run()
    wanted = ["train", "epoch 1", (1, 1), (1, 2), "end of 1", "epoch 2", (2, 1), (2, 2), "end of 2", "end"]
    assert recorder.seen == wanted and [record["epoch"] for record in plain] == [1, 2]


def test_stopping_within_an_epoch():
    class Stop(Recorder):
        def on_batch_end(self, trainer, record):
            super().on_batch_end(trainer, record)
            if record["batch"] == 3:
                trainer.stop()

    stop = Stop()
    trainer = rc.Trainer(network(), rc.SGD(0.1), batches(), callbacks=[stop]).run()
    assert trainer.stopped == "callback" and trainer.history == []
    assert stop.seen == ["train", "epoch 1", (1, 1), (1, 2), (1, 3), "end"]


def test_a_callback_that_returns_something_true_stops():
    class Stop(rc.Callback):
        def on_epoch_end(self, trainer, record):
            return record["epoch"] == 2

    for stop in (Stop(), lambda record: record["epoch"] == 2):
        trainer = rc.Trainer(network(), rc.SGD(0.1), batches(), callbacks=[stop]).run()
        assert trainer.stopped == "callback" and len(trainer.history) == 2


def test_on_train_end_comes_after_an_error_too():
    class Fails(Recorder):
        def on_epoch_end(self, trainer, record):
            raise RuntimeError("enough")

    fails = Fails()
    with pytest.raises(RuntimeError, match="enough"):
        rc.Trainer(network(), rc.SGD(0.1), batches(1), callbacks=[fails]).run()
    assert fails.seen[-1] == "end"


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    logger = rc.callbacks.CSVLogger(path)
    trainer = rc.Trainer(
        network(), rc.Adam(0.01), sequences(), max_epochs=3, validation=sequences(seed=1), callbacks=[logger]
    ).run()
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "seconds", "val_loss", "val_score"]
    assert [float(row["val_loss"]) for row in rows] == [record["val_loss"] for record in trainer.history]


def test_the_bar_tells_steps_and_loss(capfd):
    rc.Trainer(network(), rc.Adam(0.01), batches(), max_epochs=2, progress=True, unit="frame").run()
    rc.Trainer(network(), rc.Adam(0.01), yielded, max_epochs=2, progress=True).run()
    out, err = capfd.readouterr()
    assert out == "" and "loss" in err and "frames/s" in err and "steps/s" in err


def test_a_bar_that_ends_before_it_has_a_loss(capfd):
    """Stopped in the first epoch it tells no loss of an epoch; never begun, nothing at all."""
    rc.callbacks.ProgressBar().on_train_end(None)
    assert capfd.readouterr().err == ""

    class Stop(rc.Callback):
        def on_batch_end(self, trainer, record):
            trainer.stop()

    trainer = rc.Trainer(network(), rc.SGD(0.1), batches(1), callbacks=[Stop()], progress=True).run()
    assert trainer.history == [] and "training" in capfd.readouterr().err


# -- checkpoints ------------------------------------------------------------------------------------------------------


class CutOffError(Exception):
    pass


class CutOff(rc.Callback):
    """Leave training after so many minibatches."""

    def __init__(self, after):
        self.left = after

    def on_batch_end(self, trainer, record):
        self.left -= 1
        if self.left < 0:
            raise CutOffError


def cut_off_and_resumed(make, path, after):
    """What `make` makes, a network and its trainer, which goes on from where another one was cut off."""
    _, cut = make(CutOff(after), checkpoint=path)
    with pytest.raises(CutOffError):
        cut.run()
    again, resumed = make(resume=path)
    resumed.run()
    return again, resumed


class Slower(rc.Callback):
    """A callback whose memory changes what is learned."""

    def __init__(self):
        self.factor, self.sums = 1.0, np.zeros(2)

    def on_batch_end(self, trainer, record):
        self.factor *= 0.99
        self.sums += record["loss"]
        trainer.network.theta *= 1 - 1e-3 * self.factor * self.sums[0]

    def state_dict(self):
        return {"factor": self.factor, "sums": self.sums}

    def load_state_dict(self, state):
        self.factor, self.sums = state["factor"], state["sums"].copy()


CASES = {
    "sequences": lambda: (sequences(), {"batch_size": 4}),
    "validated": lambda: (sequences(), {"batch_size": 4, "validation": sequences(seed=3), "n_iter_no_change": 2}),
    "weighted": lambda: (sequences(), {"batch_size": 4, "weights": np.linspace(0, 2, 23)}),
    "batches": lambda: (batches(), {}),
    "shuffled": lambda: (batches(), {"shuffle": True}),
    "callable": lambda: (yielded, {}),
    "carried": lambda: (batches(lengths=False), {"carry": True}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("remembering", [False, True])
def test_resumed_is_uninterrupted(tmp_path, case, remembering):
    path = tmp_path / "c"

    def make(*more, **options):
        data, own = CASES[case]()
        callbacks = [Slower()] if remembering else []
        net = network(dropout=0.2, output_dropout=0.3)
        schedule = rc.schedules.Cosine(20)
        options |= own | {"max_epochs": 4, "callbacks": [*callbacks, *more]}
        return net, rc.Trainer(net, rc.Adam(0.03, schedule=schedule), data, checkpoint_every=0.0, **options)

    whole, trainer = make()
    trainer.run()
    counted = len(trainer.history) * len(list(trainer._source.epoch(1, np.random.default_rng(0), 0)))
    assert counted > 12
    for after in filter(lambda n: n < counted, (1, 4, 5, 6, 7, 12, 13, 18)):
        again, resumed = cut_off_and_resumed(make, path, after)
        assert again.theta.tobytes() == whole.theta.tobytes(), after
        assert [r["loss"] for r in resumed.history] == [r["loss"] for r in trainer.history]
        assert resumed.stopped == trainer.stopped


def test_only_the_same_training_goes_on(tmp_path):
    path = tmp_path / "c"
    with pytest.raises(CutOffError):
        rc.Trainer(
            network(), rc.Adam(0.01), batches(), checkpoint=path, checkpoint_every=0.0, callbacks=[CutOff(9)]
        ).run()
    header, _ = read_checkpoint(path)
    assert header["trainer"]["position"]["epoch"] == 2
    for net, optimizer, data, message in (
        (network(dropout=0.1), rc.Adam(0.01), batches(), "other settings: network"),
        (network(), rc.Adam(0.02), batches(), "other settings: optimizer"),
        (network(), rc.Adam(0.01), batches(seed=1), "other data"),
    ):
        with pytest.raises(DataError, match=message):
            rc.Trainer(net, optimizer, data, resume=path)

    def sparse(ids):
        net = rc.Network(rc.Recurrent("gru", D, H, random_state=1), head=rc.Softmax(K), skip=9)
        given = [((x, np.full((*y.shape, 1), ids)), y, lengths) for x, y, lengths in batches()]
        return net, rc.Adam(0.01), given

    rc.Trainer(*sparse(3), max_epochs=1, checkpoint=tmp_path / "s", checkpoint_every=0.0).run()
    with pytest.raises(DataError, match="other data"):  # features beside x are looked at, too
        rc.Trainer(*sparse(4), resume=tmp_path / "s")
    longer = rc.Trainer(network(), rc.Adam(0.01), batches(), max_epochs=12, resume=path).run()
    whole = rc.Trainer(network(), rc.Adam(0.01), batches(), max_epochs=12).run()
    assert longer.network.theta.tobytes() == whole.network.theta.tobytes()


def test_what_is_logged_and_remembered_goes_on(tmp_path):
    """A resumed CSV file has the epochs before; early stopping that has seen none yet begins anew."""
    path, log = tmp_path / "c", tmp_path / "log.csv"

    def make(*callbacks, **options):
        own = [rc.callbacks.CSVLogger(log), rc.callbacks.EarlyStopping(3, monitor="loss", mode="min"), *callbacks]
        options |= {"checkpoint_every": 0.0, "max_epochs": 3, "callbacks": own}
        return rc.Trainer(network(), rc.Adam(0.01), batches(), **options)

    whole = make().run()
    for after in (2, 9):
        with pytest.raises(CutOffError):
            make(CutOff(after), checkpoint=path).run()
        again = make(resume=path).run()
        assert again.network.theta.tobytes() == whole.network.theta.tobytes()
        with open(log, newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        assert losses == [record["loss"] for record in whole.history]


def test_a_carried_state_of_several_layers_is_resumed(tmp_path):
    chunks, path = batches(6, lengths=False), tmp_path / "c"

    def make(*callbacks, **options):
        layers = [rc.Recurrent("lstm", D, H, random_state=1), rc.Recurrent("gru", H, H, random_state=2)]
        options |= {"max_epochs": 2, "carry": True, "checkpoint_every": 0.0, "callbacks": callbacks}
        return rc.Trainer(rc.Network(layers, head=rc.Softmax(K)), rc.Adam(0.01), chunks, **options)

    whole = make().run()
    with pytest.raises(CutOffError):
        make(CutOff(8), checkpoint=path).run()
    assert make(resume=path).run().network.theta.tobytes() == whole.network.theta.tobytes()


def test_where_no_training_stood_is_refused():
    trainer = rc.Trainer(network(), rc.Adam(0.01), sequences(), max_epochs=2, validation=sequences(seed=1)).run()
    header, arrays = trainer.state()
    twin = rc.Trainer(network(), rc.Adam(0.01), sequences(), max_epochs=2, validation=sequences(seed=1))
    for epoch in (0, 3):
        forged = header | {"best": [header["best"][0], epoch]}
        with pytest.raises(ValueError, match=f"the best epoch among the first 2, got {epoch}"):
            twin.restore(forged, arrays)
    position = {name: value for name, value in header["position"].items() if name != "steps"}
    twin.restore(header | {"position": position | {"done": 5}}, arrays)  # of version 0.1, which counted words alone
    assert twin.n_done == 2 * twin.n_steps + 5 and twin.network.theta.tobytes() == trainer.network.theta.tobytes()


# -- signals ----------------------------------------------------------------------------------------------------------

SIGNALS = [("SIGINT", None), ("SIGTERM", 143), *([("SIGHUP", 129)] if hasattr(signal, "SIGHUP") else [])]


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
@pytest.mark.parametrize(("name", "status"), SIGNALS)
def test_a_signal_waits_for_the_minibatch(tmp_path, name, status):
    number, path = getattr(signal, name), tmp_path / "c"
    before = signal.getsignal(number)

    class Send(rc.Callback):
        def on_batch_end(self, trainer, record):
            if (record["epoch"], record["batch"]) == (2, 3):
                signal.raise_signal(number)

    def make(*callbacks, **options):
        return rc.Trainer(network(), rc.Adam(0.01), batches(), max_epochs=3, callbacks=list(callbacks), **options)

    trainer = make(Send(), checkpoint=path)
    with pytest.raises(SystemExit if status else KeyboardInterrupt) as caught:
        trainer.run()
    assert not status or caught.value.code == status
    assert trainer.stopped == "interrupted" and len(trainer.history) == 1 and signal.getsignal(number) is before
    part, adam = network(), rc.Adam(0.01)
    for x, y, lengths in batches() + batches()[:3]:
        part.train_step(x, y, adam, lengths=lengths)
    assert trainer.network.theta.tobytes() == part.theta.tobytes()
    assert make(resume=path).run().network.theta.tobytes() == make().run().network.theta.tobytes()


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ignored_and_handled_signals_stay_so():
    """As with nohup, or in a program that has a handler of its own."""
    seen = []
    old = [signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: seen.append(1))]
    try:

        class Send(rc.Callback):
            def on_batch_end(self, trainer, record):
                signal.raise_signal(signal.SIGHUP)
                signal.raise_signal(signal.SIGTERM)

        trainer = rc.Trainer(network(), rc.SGD(0.1), batches(2), max_epochs=1, callbacks=[Send()]).run()
    finally:
        signal.signal(signal.SIGHUP, old[0])
        signal.signal(signal.SIGTERM, old[1])
    assert trainer.stopped is None and seen == [1, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_a_second_signal_does_not_wait():
    class Send(rc.Callback):
        def on_batch_end(self, trainer, record):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("it went on")

    with pytest.raises(SystemExit) as caught:
        rc.Trainer(network(), rc.SGD(0.1), batches(2), callbacks=[Send()]).run()
    assert caught.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# -- parts ------------------------------------------------------------------------------------------------------------


def test_parts_of_a_batch():
    every = rc.Network(rc.Recurrent("elman", 1, 2), head=rc.Softmax(24), skip=9)
    pooled = rc.Network(rc.Recurrent("elman", 1, 2), head=rc.Softmax(24), pooling="last")
    x, y = np.arange(24).reshape(4, 6, 1), np.arange(24).reshape(4, 6)
    batch = Batch((x, x[..., None]), y, np.array([1, 2, 2, 4, 3, 1]), np.arange(6.0), np.arange(6), 13, 13)
    dealt = in_parts(batch, None, 9, every)
    assert [part.rows.tolist() for part in dealt] == [[0, 1], [2, 3], [4, 5]]
    for part, longest in zip(dealt, (2, 4, 3), strict=True):
        np.testing.assert_array_equal(part.targets, y[:longest, part.rows])
        assert part.x[0].shape == (longest, 2, 1) and part.x[1].shape == (longest, 2, 1, 1)
        assert part.lengths.tolist() == batch.lengths[part.rows].tolist()
        assert part.sample_weight.tolist() == part.rows.tolist()
    assert [len(part.rows) for part in in_parts(batch, 4, None, every)] == [2, 2, 2]
    assert [len(part.rows) for part in in_parts(batch, None, 1, every)] == [1] * 6
    assert in_parts(batch, None, 24, every)[0] is batch
    by_step = np.arange(24.0).reshape(4, 6)
    for part, longest in zip(in_parts(batch._replace(sample_weight=by_step), None, 9, every), (2, 4, 3), strict=True):
        np.testing.assert_array_equal(part.sample_weight, by_step[:longest, part.rows])
    last = in_parts(batch._replace(x=x, targets=np.arange(6)), 2, None, pooled)
    assert [part.targets.tolist() for part in last] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("readout", ["every", "last"])
@pytest.mark.parametrize("head", [rc.Softmax(K), rc.Softmax(K, class_weight=[1, 2, 0.5, 3]), rc.SquaredError(2)])
@pytest.mark.parametrize("options", [{"parts": 3}, {"max_rows": 7}, {"max_rows": 30}])
def test_one_batch_in_several_parts_is_one_step(readout, head, options):
    rng = np.random.default_rng(2)
    x, lengths, weights = rng.standard_normal((6, 5, D)), np.array([6, 3, 1, 5, 2]), np.linspace(0.5, 2, 5)
    shape = (6, 5) if readout == "every" else (5,)
    targets = rng.standard_normal((*shape, 2)) if head.name == "squared" else rng.integers(0, K, shape)
    given = [(x, targets, lengths, weights)]
    whole, dealt = (network(head, readout, dtype="float64") for _ in range(2))
    first = rc.Trainer(whole, rc.Adam(0.05), given, max_epochs=4).run()
    second = rc.Trainer(dealt, rc.Adam(0.05), given, max_epochs=4, **options).run()
    np.testing.assert_allclose(dealt.theta, whole.theta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        [record["loss"] for record in second.history], [record["loss"] for record in first.history], rtol=1e-10
    )
    assert second.optimizer.steps == 4


def test_parts_whose_loss_is_not_finite_change_nothing():
    x, targets = np.zeros((3, 4, D)), np.zeros((3, 4, 2))
    targets[1, 3] = 1e200
    net = network(rc.SquaredError(2), dtype="float64", dropout=0.3)
    before, step, adam = net.theta.copy(), net.dropout_step, rc.Adam(0.01)
    with pytest.warns(DivergenceWarning, match="batch 1 of 1: the loss;"):
        trainer = rc.Trainer(net, adam, [(x, targets)], max_epochs=1, parts=2).run()
    assert trainer.stopped == "diverged" and net.dropout_step == step and adam.steps == 0
    np.testing.assert_array_equal(net.theta, before)


class Thaw(rc.Callback):
    """Lets a layer learn from the third epoch on."""

    def on_epoch_begin(self, trainer):
        if trainer.epoch == 3:
            trainer.network.unfreeze("layers.0.*")


def test_what_is_frozen_goes_on_frozen(tmp_path):
    path = tmp_path / "c"

    def make(*callbacks, **options):
        net = network()
        net.freeze("layers.0.*", "head.b_y")
        options |= {"max_epochs": 4, "callbacks": [Thaw(), *callbacks]}
        return net, rc.Trainer(net, rc.Adam(0.03), batches(3), checkpoint_every=0.0, **options)

    whole, trainer = make()
    trainer.run()
    assert whole.frozen == ("head.b_y",)
    for after in (2, 5, 8, 10):
        again, _ = cut_off_and_resumed(make, path, after)
        assert again.theta.tobytes() == whole.theta.tobytes(), after
        assert again.frozen == whole.frozen


# -- several heads, several segments ----------------------------------------------------------------------------------


def several(batch_first=False):
    inputs = {"word": rc.Embedding(9, 4), "letters": rc.Letters(5, 3, "gru"), "vector": rc.SequenceVector(2)}
    layer = rc.Recurrent("lstm", 12, H, bidirectional=True, dropout=0.2, output_dropout=0.2, random_state=1)
    heads = {
        "slots": rc.CRF(K),
        "intent": rc.Softmax(3, pooling="attention"),
        "value": rc.SquaredError(1, pooling="last"),
    }
    weights = {"intent": 0.5}
    return rc.Network(layer, heads=heads, inputs=inputs, loss_weights=weights, batch_first=batch_first)


def batches_of_several(count=5, batch_first=False):
    rng, made = np.random.default_rng(4), []
    for n in range(count):
        T, B = int(rng.integers(2, 6)), 4
        letters = rng.integers(0, 5, (T, B, 3))
        letters[..., 2] = -1
        x = {"word": rng.integers(0, 9, (T, B)), "letters": letters, "vector": rng.standard_normal((B, 2))}
        y = {"slots": x["word"] % K, "intent": x["word"][0] % 3, "value": rng.standard_normal((B, 1))}
        if n == 1:
            del y["intent"]
        if batch_first:
            x = {name: part.swapaxes(0, 1) if name != "vector" else part for name, part in x.items()}
            y["slots"] = y["slots"].T
        made.append((x, y, np.array([T, 1, T, max(1, T - 1)])))
    return made


def test_two_heads_resumed_are_uninterrupted(tmp_path):
    path = tmp_path / "c"

    def make(*callbacks, **options):
        net = several()
        options |= {"max_epochs": 3, "callbacks": callbacks, "validation": batches_of_several(2)}
        return net, rc.Trainer(net, rc.Adam(0.03), batches_of_several(), checkpoint_every=0.0, **options)

    whole, trainer = make()
    trainer.run()
    assert {"val_loss", "val_loss_slots", "val_loss_intent", "val_loss_value"} <= set(trainer.history[-1])
    for after in (1, 5, 8, 14):
        again, resumed = cut_off_and_resumed(make, path, after)
        assert again.theta.tobytes() == whole.theta.tobytes(), after
        assert resumed.history[-1]["val_loss"] == trainer.history[-1]["val_loss"]


@pytest.mark.parametrize("batch_first", [False, True])
def test_two_heads_in_several_parts_are_one_step(batch_first):
    thetas = []
    for options in ({}, {"parts": 2}, {"max_rows": 7}):
        net = several(batch_first)
        net = rc.Network(
            rc.Recurrent("lstm", 12, H, bidirectional=True, dtype="float64", random_state=1), **net._parts()
        )
        rc.Trainer(net, rc.SGD(0.1), batches_of_several(5, batch_first), max_epochs=2, shuffle=False, **options).run()
        thetas.append(net.theta.copy())
    np.testing.assert_allclose(thetas[1], thetas[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(thetas[2], thetas[0], rtol=1e-9, atol=1e-12)


def test_a_batch_with_nothing_counted_is_a_step_of_nothing():
    net = network(rc.Softmax(K))
    before = net.theta.copy()
    x, y = np.zeros((3, 4, D), "float32"), np.full((3, 4), -1)
    rc.Trainer(net, rc.SGD(0.1), [(x, y)], max_epochs=1, parts=2).run()
    np.testing.assert_array_equal(net.theta, before)
