"""Trainings over several processes: the same bits for any number of them, and nobody waits for one who failed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_together

import rnncore as rc
from rnncore._core.ranges import add_in, copy_in, copy_out, dealt, length
from rnncore.estimators import sequences
from rnncore.train.agreement import Agreement, ProcessError
from rnncore.train.communicators import communicator
from rnncore.train.partial import Gradients, tree_sum
from rnncore.train.trainer import DivergenceWarning

RNG = np.random.default_rng(0)
SENTENCES = [RNG.integers(0, 50, RNG.integers(2, 9)) for _ in range(53)]
IDS = RNG.integers(0, 9, 1500)


def together(size, work):
    found = run_together(size, work)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def embedded(**options):
    return rc.Network(rc.Recurrent("gru", 8, 12, **options), rc.Softmax(3), embedding=rc.Embedding(50, 8))


def of_sentences(comm, shards=8, size=10, network=None, **options):
    net = network() if network else embedded(dropout=0.2)
    data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
    optimizer = rc.Adam(0.01, clip_norm=0.5, weight_decay=0.01)
    trainer = rc.Trainer(net, optimizer, data, max_epochs=2, batch_size=size, comm=comm, shards=shards, **options)
    trainer.run()
    return net.theta.copy(), [record["loss"] for record in trainer.history]


def of_a_stream(comm, shards=8):
    net = rc.Network(rc.Recurrent("lstm", 9, 12, num_layers=2), rc.Softmax(9))
    trainer = rc.Trainer(net, rc.RMSprop(0.01), rc.Stream(IDS, 13, 10), max_epochs=2, comm=comm, shards=shards)
    trainer.run()
    return net.theta.copy(), [record["loss"] for record in trainer.history]


def same(found, wanted):
    for theta, losses in found:
        assert np.array_equal(theta, wanted[0]) and losses == wanted[1]


@pytest.mark.parametrize("work", [of_sentences, of_a_stream])
def test_the_bits_are_those_of_one_process_with_as_many_shards(work):
    wanted = work(None)
    for size in (1, 2, 4, 8):
        same(together(size, work), wanted)


@pytest.mark.parametrize("size", [3, 1])
def test_more_shards_than_sequences_leave_some_empty(size):
    def work(comm):
        return of_sentences(comm, size=size)

    same(together(4, work), work(None))


def test_shards_are_the_whole_batch_but_for_rounding():
    def whole(shards):
        net = embedded(dtype="float64")
        data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
        rc.Trainer(net, rc.SGD(0.5), data, max_epochs=3, batch_size=10, shards=shards).run()
        return net.theta

    for shards in (1, 2, 8):
        assert np.allclose(whole(shards), whole(None), rtol=1e-10, atol=1e-12)


def test_several_heads_weights_and_sums_by_sequence():
    def heads(comm):
        net = rc.Network(
            rc.Recurrent("gru", 50, 6),
            heads={"a": rc.Softmax(3), "b": rc.SquaredError(2, pooling="mean")},
        )
        rng = np.random.default_rng(0)
        batches = []
        for _ in range(4):
            targets = {"a": rng.integers(0, 3, (5, 7)), "b": rng.standard_normal((7, 2))}
            batches.append((rng.integers(0, 50, (5, 7)), targets, rng.integers(1, 6, 7), rng.random(7)))
        rc.Trainer(net, rc.SGD(0.1), batches, max_epochs=2, comm=comm, shards=4).run()
        return net.theta.copy(), []

    def by_sequence(comm):
        return of_sentences(comm, 4, reduction="sequence")

    for work in (heads, by_sequence):
        same(together(2, work), work(None))


def test_random_states_and_weights_come_from_process_0():
    def work(comm):
        net = embedded(random_state=comm.rank, dropout=0.3)
        net.dropout_seed = comm.rank
        data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
        rc.Trainer(net, rc.SGD(0.1), data, max_epochs=1, random_state=None, comm=comm).run()
        return net.theta.copy(), []

    found = together(2, work)
    same(found, found[0])


def test_validation_stops_everywhere_at_the_same_epoch():
    def work(comm):
        calls = []

        def validate():
            calls.append(1)
            return {"val_score": float(RNG.random()), "val_loss": 0.0}  # other numbers in each process

        net = embedded()
        data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
        trainer = rc.Trainer(
            net, rc.SGD(0.1), data, max_epochs=30, validate=validate, n_iter_no_change=2, comm=comm
        ).run()
        assert bool(calls) == (comm.rank == 0)
        return net.theta.copy(), [record["val_score"] for record in trainer.history]

    found = together(2, work)
    same(found, found[0])


def test_a_callback_in_one_process_stops_all():
    def work(comm):
        stop = [lambda record: record["epoch"] == 2 and comm.rank == 1]
        net = embedded()
        data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
        trainer = rc.Trainer(net, rc.SGD(0.1), data, max_epochs=5, callbacks=stop, comm=comm).run()
        return len(trainer.history), trainer.stopped

    assert together(2, work) == [(2, "callback")] * 2


@pytest.mark.parametrize("to", [1, 2, 4])
def test_a_training_goes_on_with_another_number_of_processes(tmp_path, to):
    wanted = of_a_stream(None, 4)

    class CutOffError(Exception):
        everywhere = True

    def first(comm):
        net = rc.Network(rc.Recurrent("lstm", 9, 12, num_layers=2), rc.Softmax(9))

        def cut(record):
            if record["epoch"] == 1 and record["batch"] == 5:
                raise CutOffError

        class Cut(rc.Callback):
            def on_batch_end(self, trainer, record):
                cut(record)

        rc.Trainer(
            net,
            rc.RMSprop(0.01),
            rc.Stream(IDS, 13, 10),
            max_epochs=2,
            comm=comm,
            shards=4,
            callbacks=[Cut()],
            checkpoint=tmp_path / "c",
            checkpoint_every=0,
        ).run()

    assert all(isinstance(one, CutOffError) for one in run_together(2, first))

    def second(comm):
        net = rc.Network(rc.Recurrent("lstm", 9, 12, num_layers=2), rc.Softmax(9))
        trainer = rc.Trainer(
            net, rc.RMSprop(0.01), rc.Stream(IDS, 13, 10), max_epochs=2, comm=comm, shards=4, resume=tmp_path / "c"
        )
        assert trainer._at.batch == 4  # what process 0 kept before the fifth
        trainer.run()
        return net.theta.copy(), [record["loss"] for record in trainer.history]

    same(together(to, second), wanted)


def test_one_who_fails_is_heard_by_all():
    def work(comm):
        net = embedded()
        batches = [(np.zeros((3, 8), int), np.zeros((3, 8), int))] * 3
        trainer = rc.Trainer(net, rc.SGD(0.1), batches, max_epochs=1, comm=comm)
        if comm.rank == 1:
            trainer.network.loss_and_grad = None  # what comes is of no importance
        trainer.run()

    first, second = run_together(2, work)
    assert isinstance(first, ProcessError) and "process 1 of 2 failed" in str(first)
    assert isinstance(second, TypeError)


def test_numbers_that_are_not_finite_end_all_and_keep_what_was_learned():
    def work(comm):
        net = rc.Network(rc.Recurrent("elman", 3, 4), rc.SquaredError(1))
        good = np.ones((4, 6, 3), np.float32), np.ones((4, 6, 1), np.float32)
        bad = good[0].copy()
        bad[2, 3] = np.nan
        batches = [good, (bad, good[1]), good]
        trainer = rc.Trainer(net, rc.SGD(0.1), batches, max_epochs=2, comm=comm).run()
        return trainer.stopped, bool(np.isfinite(net.theta).all()), net.theta.tobytes()

    with pytest.warns(DivergenceWarning):
        found = together(2, work)
    assert found[0] == found[1] and found[0][:2] == ("diverged", True)


def test_other_data_in_one_process_is_refused():
    def work(comm):
        batches = [(np.full((3, 8), comm.rank), np.zeros((3, 8), int))]
        rc.Trainer(embedded(), rc.SGD(0.1), batches, max_epochs=1, comm=comm).run()

    first, second = run_together(2, work)
    assert isinstance(first, ProcessError) and isinstance(second, ValueError)
    assert "other data" in str(second)


def test_what_does_not_go_together_is_refused():
    batches = [(np.zeros((3, 8), int), np.zeros((3, 8), int))]
    for options, message in (
        ({"shards": 6}, "power of two"),
        ({"shards": 0}, "shards"),
        ({"shards": 2, "parts": 2}, "leave parts"),
        ({"comm": 3}, "expected comm as"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            rc.Trainer(embedded(), rc.SGD(0.1), batches, **options)
    found = run_together(3, lambda comm: rc.Trainer(embedded(), rc.SGD(0.1), batches, comm=comm, shards=4))
    assert all("multiple of the 3 processes" in str(one) for one in found)
    assert communicator(None).size == 1


@settings(deadline=None, max_examples=50)
@given(count=st.sampled_from([1, 2, 4, 8, 16]), processes=st.sampled_from([1, 2, 4]), seed=st.integers(0, 2**32))
def test_a_tree_of_trees_is_the_tree(count, processes, seed):
    if processes > count:
        return
    parts = np.random.default_rng(seed).standard_normal((count, 5)).astype("f4")
    each = count // processes
    parted = np.array([tree_sum(parts[n * each : (n + 1) * each].copy()) for n in range(processes)])
    assert np.allclose(tree_sum(parted), parts.astype(float).sum(axis=0), atol=1e-4)
    assert np.array_equal(tree_sum(parts), parted[0])


def test_gradients_are_added_as_the_arrays_are():
    net = embedded()
    found = Gradients(net)
    net.loss_and_grad(np.array([[3, 7], [7, 7]]), np.zeros((2, 2), int))
    left, wanted = found.take(), np.array(net._grad)
    net.loss_and_grad(np.array([[4, 9], [1, 7]]), np.zeros((2, 2), int))
    wanted += net._grad
    found.add(left)
    assert np.array_equal(net._grad, wanted)
    assert net._touched.of(net.layout.starts["embedding.E"]).tolist() == [1, 3, 4, 7, 9]


def test_gradients_are_cleared():
    net = embedded()
    net.loss_and_grad(np.array([[3, 7], [7, 7]]), np.zeros((2, 2), int))
    found = Gradients(net)
    found.clear()
    assert not net._grad.any() and not len(found.rows()[0])


@settings(deadline=None, max_examples=50)
@given(owners=st.sampled_from([1, 2, 4, 8]), each=st.sampled_from([1, 2]), seed=st.integers(0, 2**32))
def test_ranges_are_dealt_whole(owners, each, seed):
    each = min(each, owners)
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(999, 20, replace=False))
    given = np.stack([cuts[::2], np.diff(cuts)[::2], rng.integers(0, 4, 10)], axis=1)
    parts = dealt(given, 4, owners, each)
    flat, back = rng.standard_normal(1000).astype("f4"), np.zeros(1000, "f4")
    for number, part in enumerate(parts):
        values = np.empty(length(part), "f4")
        copy_out(flat, part, values)
        copy_in(back, part, values)
        for start, count, rule in part.tolist():
            places = np.arange(start, start + count)
            assert ((places >> 4) % owners // each == number).all() and count
            assert any(a <= start and start + count <= a + n and rule == r for a, n, r in given.tolist())
    inside = np.zeros(1000, bool)
    for start, count, _ in given.tolist():
        inside[start : start + count] = True
    assert np.array_equal(back, np.where(inside, flat, 0)) and length(given) == sum(map(length, parts))
    add_in(back, given, flat[inside])
    assert np.array_equal(back, np.where(inside, 2 * flat, 0))


def ill(where, value=np.nan):
    """Return what makes a trainer whose gradient is not finite in one process, in a batch's loss that is."""

    def work(comm):
        net = embedded()
        data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
        adam = rc.Adam(0.01, clip_norm=where)
        trainer = rc.Trainer(net, adam, data, max_epochs=1, batch_size=10, comm=comm, shards=4)
        learn = net.loss_and_grad

        def spoilt(*arguments, **options):
            loss = learn(*arguments, **options)
            if (comm is None or comm.rank == 1) and adam.steps == 2:
                net._grad[-1] = value
            return loss

        net.loss_and_grad = spoilt
        trainer.run()
        return trainer.stopped, net.theta.tobytes(), adam.steps

    return work


@pytest.mark.parametrize(("clip", "value"), [(None, np.nan), (1.0, np.nan), (None, 3e38)])
def test_a_gradient_that_is_not_finite_in_one_process_ends_all(clip, value):
    with pytest.warns(DivergenceWarning):
        found = together(2, ill(clip, value))
    assert found[0] == found[1] and found[0][0] == "diverged" and found[0][2] == 2


@pytest.mark.parametrize("name", [name for name in rc.OPTIMIZERS if rc.OPTIMIZERS[name].of_shards])
@pytest.mark.parametrize("lazy", [True, False])
def test_every_optimizer_shares_its_steps(name, lazy):
    def work(comm):
        net = embedded()
        data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
        groups = {"embedding.*": {"learning_rate": 0.001}}
        optimizer = rc.OPTIMIZERS[name](0.01, clip_norm=0.1, clip_value=0.05, lazy=lazy, groups=groups)
        rc.Trainer(net, optimizer, data, max_epochs=1, batch_size=20, comm=comm, shards=4).run()
        return net.theta.copy(), [slot.tobytes() for slot in optimizer.slots.values()]

    wanted = work(None)
    for size in (2, 4):
        same(together(size, work), wanted)


def test_what_cannot_share_a_step_says_so():
    batches = [(np.zeros((3, 8), int), np.zeros((3, 8), int))]
    with pytest.raises(ValueError, match="SDLM cannot make a step on a part"):
        rc.Trainer(embedded(), rc.SDLM(), batches, shards=2)


def test_checkpoints_may_be_process_0s_affair(tmp_path):
    def work(comm):
        net = rc.Network(rc.Recurrent("lstm", 9, 12, num_layers=2), rc.Softmax(9))
        options = {"checkpoint": tmp_path / "c", "checkpoint_every": 0} if comm.rank == 0 else {}
        rc.Trainer(net, rc.RMSprop(0.01), rc.Stream(IDS, 13, 10), max_epochs=1, comm=comm, shards=4, **options).run()

    together(2, work)
    assert (tmp_path / "c").exists()


def test_frozen_parts_stay_where_they_are():
    def frozen(**options):
        net = embedded(**options)
        net.freeze("embedding.*")
        return net

    def work(comm):
        return of_sentences(comm, network=frozen)

    wanted = work(None)
    same(together(4, work), wanted)
    start = frozen().layout.starts["embedding.E"]
    assert np.array_equal(wanted[0][start : start + 400], frozen().theta[start : start + 400])


@pytest.mark.parametrize("kind", ["tagger", "classifier", "language model"])
def test_a_model_learns_on_over_processes(kind):
    sentences, tags = rc.datasets.news_requests(40)

    def work(comm):
        few = {"hidden_size": 6, "random_state": 3 if comm is None or comm.rank == 0 else None}
        if kind == "tagger":
            model, calls = rc.SequenceTagger(**few), [(sentences[::2], tags[::2]), (sentences[1::2], tags[1::2])]
        elif kind == "classifier":
            labels = [one[0] for one in tags]
            model, calls = rc.SequenceClassifier(**few), [(sentences, labels), (sentences[::-1], labels[::-1])]
        else:
            model, calls = rc.LanguageModel(batch_size=4, **few), [("to be or not to be " * 40,), ("be to " * 90,)]
        for number, call in enumerate(calls):
            options = {"classes": sorted({tag for one in tags for tag in one})} if kind == "tagger" else {}
            if kind == "classifier":
                options["classes"] = sorted(set(labels))
            model.partial_fit(*call, comm=comm, shards=4, **({} if number else options))
        return model.network_.theta.copy(), [record["loss"] for record in model.history_]

    wanted = work(None)
    same(together(2, work), wanted)
    assert len(wanted[1]) == 2


def test_an_optimizer_that_has_made_other_steps_is_refused():
    def work(comm):
        sentences, tags = rc.datasets.news_requests(20)
        tagger = rc.SequenceTagger(hidden_size=4, random_state=0).fit(sentences, tags)
        if comm.rank:
            tagger.partial_fit(sentences, tags)
        tagger.partial_fit(sentences, tags, comm=comm)

    first, second = run_together(2, work)
    assert isinstance(first, ProcessError) and "other steps of the optimizer" in str(second)


def trainer(comm, network=None, adam=None, **options):
    net = network or embedded(dropout=0.2)
    data = rc.Sequences.of(SENTENCES, [one % 3 for one in SENTENCES])
    options = {"max_epochs": 1, "batch_size": 10, "comm": comm} | options
    return rc.Trainer(net, adam or rc.Adam(0.01), data, **options)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("batch_size", lambda: {"batch_size": 20}),
        ("reduction", lambda: {"reduction": "sequence"}),
        ("max_epochs", lambda: {"max_epochs": 3}),
        ("shards", lambda: {"shards": 4}),
        ("network", lambda: {"network": embedded(dropout=0.3)}),
        ("optimizer", lambda: {"adam": rc.Adam(0.01, beta1=0.8)}),
        ("early_stopping and validation", lambda: {"validate": lambda: {"val_score": 0.0}}),
    ],
)
def test_other_settings_in_one_process_are_refused(name, other):
    first, second = run_together(2, lambda comm: trainer(comm, **(other() if comm.rank else {})).run())
    assert isinstance(first, ProcessError) and isinstance(second, ValueError)
    assert f"other {name} than process 0" in str(second)


def test_other_settings_of_an_estimator_are_refused():
    sentences, tags = rc.datasets.news_requests(20)

    def work(comm):
        rc.SequenceTagger(hidden_size=4, word_dropout=0.1 * (1 + comm.rank)).fit(sentences, tags, comm=comm)

    first, second = run_together(2, work)
    assert isinstance(first, ProcessError) and "other word_dropout than process 0" in str(second)


def test_what_fails_before_training_is_heard_by_all(tmp_path):
    for options in ({"shards": 3}, {"resume": tmp_path / "nothing"}):
        first, second = run_together(2, lambda comm: trainer(comm, **(options if comm.rank else {})).run())  # noqa: B023
        assert isinstance(first, ProcessError) and "process 1 of 2 failed" in str(first)
        assert isinstance(second, ValueError | OSError)


def test_validation_that_fails_is_heard_by_all():
    def validate():
        raise RuntimeError("no numbers")

    first, second = run_together(2, lambda comm: trainer(comm, validate=validate).run())
    assert isinstance(first, RuntimeError) and str(second) == "process 0 of 2 failed: no numbers"


def test_minibatches_that_are_dealt_grow_with_the_data():
    model = rc.SequenceTagger()
    for shards, wanted in ((None, [2, 20, 32, 32, 32]), (2, [2, 20, 32, 64, 128])):
        model._processes = Agreement(None, shards)
        assert [model._batch_size(n) for n in (9, 1000, 20_000, 50_000, 1_000_000)] == wanted
    assert rc.SequenceTagger(batch_size=7)._batch_size(50_000) == 7


def test_a_training_that_goes_on_has_the_minibatches_it_had(tmp_path, monkeypatch):
    sentences, tags = rc.datasets.news_requests(60)
    monkeypatch.setattr(sequences, "_ENOUGH", 1)  # minibatches of 60 // 50 sentences at least, of 60 at most
    monkeypatch.setattr(sequences, "_LARGEST", 1)
    monkeypatch.setattr(sequences, "_LARGEST_DEALT", 2)

    def fitted(epochs, **options):
        stop = [lambda record: record["epoch"] == epochs]
        tagger = rc.SequenceTagger(hidden_size=4, random_state=0, callbacks=stop)
        return tagger.fit(sentences, tags, **options).network_.theta.copy()

    wanted = fitted(9, shards=2)

    class CutError(Exception):
        pass

    def cut(record):
        if record["epoch"] == 2:
            raise CutError

    tagger = rc.SequenceTagger(hidden_size=4, random_state=0, callbacks=[cut])
    with pytest.raises(CutError):
        tagger.fit(sentences, tags, shards=2, checkpoint=tmp_path / "c", checkpoint_every=0)
    assert np.array_equal(fitted(9, resume=tmp_path / "c"), wanted)
