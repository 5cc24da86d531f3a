"""A training that is cut off and goes on ends with the same bits as one that never stopped."""

import os

import numpy as np
import pytest

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.datasets import news_requests
from rnncore.estimators.tagger import SequenceTagger
from rnncore.io.checkpoints import forget, read_checkpoint
from rnncore.io.files import ModelFileError, write_model
from rnncore.optim.optimizers import Adam
from rnncore.optim.schedules import HalveOnPlateau
from rnncore.train.trainer import CheckpointWarning


class CutOffError(Exception):
    pass


@pytest.fixture(scope="module")
def sample():
    return news_requests(80)


def cut_off(make, sample, path, when, **options):
    """Train with a checkpoint after every minibatch, until the `when`-th."""
    from rnncore.io.checkpoints import Checkpoints

    class Some(Checkpoints):
        n = 0

        def write(self, state, arrays):
            super().write(state, arrays)
            self.n += 1
            if self.n == when:
                raise CutOffError

    with pytest.raises(CutOffError):
        make().fit(*sample, checkpoint=Some(path, 0.0), **options)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"early_stopping": True, "n_iter_no_change": 2, "max_epochs": 6},
        {"optimizer": "sgd", "schedule": "cosine", "learning_rate": 0.1},
        {"optimizer": Adam(0.02, clip_norm=1.0, schedule=HalveOnPlateau())},
        {"random_state": None},
        {"random_state": "mt19937"},
        {"num_layers": 2, "embedding_size": 5, "recurrent_dropout": 0.0, "dtype": "float64"},
        {"cell": "lstm", "schedule": None},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_same_bits(sample, tmp_path, settings):
    settings = {"hidden_size": 6, "max_epochs": 3, **settings}
    path = tmp_path / "checkpoint"

    def make():
        seed = settings.get("random_state", 0)
        if seed == "mt19937":
            seed = np.random.Generator(np.random.MT19937(3))
        return SequenceTagger(**{**settings, "random_state": seed})

    cut_off(make, sample, path, 1)  # for the state before everything, where the seed is None
    whole = make().fit(*sample, resume=path)
    for when in (1, 25, 40, 41, 60, 97):
        if settings.get("random_state", 0) is None:
            cut_off_from(path, tmp_path / "later", sample, make, when)
        else:
            cut_off(make, sample, tmp_path / "later", when)
        again = make().fit(*sample, resume=tmp_path / "later")
        assert again.network_.theta.tobytes() == whole.network_.theta.tobytes(), when
        assert [r["loss"] for r in again.history_] == [r["loss"] for r in whole.history_]
        assert again.stopped_ == whole.stopped_
        again.partial_fit(*sample)


def cut_off_from(start, path, sample, make, when):
    """Go on from the checkpoint `start`, and leave off at the `when`-th after it."""
    from rnncore.io.checkpoints import Checkpoints

    class Some(Checkpoints):
        n = 0

        def write(self, state, arrays):
            super().write(state, arrays)
            self.n += 1
            if self.n == when:
                raise CutOffError

    with pytest.raises(CutOffError):
        make().fit(*sample, checkpoint=Some(path, 0.0, read_checkpoint(start)))


def test_sample_weights_go_on(sample, tmp_path):
    weights = np.linspace(0, 3, 80)

    def make():
        return SequenceTagger(hidden_size=6, max_epochs=2)

    whole = make().fit(*sample, sample_weight=weights)
    cut_off(make, sample, tmp_path / "c", 50, sample_weight=weights)
    again = make().fit(*sample, sample_weight=weights, resume=tmp_path / "c")
    assert again.network_.theta.tobytes() == whole.network_.theta.tobytes()
    with pytest.raises(DataError, match="other data"):
        make().fit(*sample, resume=tmp_path / "c")


def test_after_an_interrupt(sample, tmp_path):
    import signal

    def interrupt(record):
        if record["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)

    tagger = SequenceTagger(hidden_size=6, max_epochs=4, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        tagger.fit(*sample, checkpoint=tmp_path / "c", checkpoint_every=1e9)
    again = SequenceTagger(hidden_size=6, max_epochs=4).fit(*sample, resume=tmp_path / "c")
    whole = SequenceTagger(hidden_size=6, max_epochs=4).fit(*sample)
    assert again.network_.theta.tobytes() == whole.network_.theta.tobytes()


def test_no_checkpoint_before_its_time(sample, tmp_path):
    SequenceTagger(hidden_size=4, max_epochs=1).fit(*sample, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_place_that_cannot_be_written_is_known_before_the_training(tmp_path):
    batch = (np.ones((3, 2, 4), dtype="f4"), np.zeros((3, 2), int))
    net = rc.Network(rc.Recurrent("elman", 4, 3), head=rc.Softmax(2))
    for path, word in ((tmp_path, "is a folder"), (tmp_path / "no" / "c", "no folder")):
        with pytest.raises(DataError, match=word):
            rc.Trainer(net, rc.SGD(0.1), [batch], checkpoint=path)
        with pytest.raises(DataError, match=word):
            rc.SequenceTagger(max_epochs=1).fit([["a"]], [["b"]], checkpoint=path)


def test_training_survives_a_full_disk(sample, tmp_path, monkeypatch):
    """The checkpoint that was there stays, one warning says so, and the model has the same bits."""
    make = lambda: SequenceTagger(hidden_size=6, max_epochs=2)  # noqa: E731
    cut_off(make, sample, tmp_path / "c", 5)
    before = (tmp_path / "c").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.warns(CheckpointWarning, match="c: No space left on device; training goes on") as caught:
            tagger = make().fit(*sample, checkpoint=tmp_path / "c", checkpoint_every=0.0)
    assert len(caught) == 1 and (tmp_path / "c").read_bytes() == before and os.listdir(tmp_path) == ["c"]
    again = make().fit(*sample, resume=tmp_path / "c")
    assert again.network_.theta.tobytes() == tagger.network_.theta.tobytes()


def test_only_the_same_training_goes_on(sample, tmp_path):
    path = tmp_path / "c"
    cut_off(lambda: SequenceTagger(hidden_size=6), sample, path, 30)
    with pytest.raises(DataError, match="other settings: hidden_size"):
        SequenceTagger(hidden_size=7).fit(*sample, resume=path)
    with pytest.raises(DataError, match="other data"):
        SequenceTagger(hidden_size=6).fit(*news_requests(80, 1), resume=path)
    SequenceTagger(hidden_size=6, n_threads=2, callbacks=[lambda record: True]).fit(*sample, resume=path)
    with pytest.raises(FileNotFoundError):
        SequenceTagger(hidden_size=6).fit(*sample, resume=tmp_path / "missing")
    with pytest.raises(ValueError, match="checkpoint_every"):
        SequenceTagger(hidden_size=6).fit(*sample, checkpoint=path, checkpoint_every=-1)


def test_other_files_are_refused(sample, tmp_path):
    SequenceTagger(hidden_size=4, max_epochs=1).fit(*sample).save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        lambda header, arrays: header.pop("trainer"),
        lambda header, arrays: header.pop("start"),
        lambda header, arrays: header.update(start={"state": 3}),
        lambda header, arrays: header["trainer"].update(position={"epoch": 1}),
        lambda header, arrays: header["trainer"]["position"].update(rng=None),
        lambda header, arrays: header["trainer"].update(optimizer={}),
        lambda header, arrays: header["trainer"].update(history=None),
        lambda header, arrays: header["trainer"].update(best=[1, 2]),
        lambda header, arrays: header["trainer"]["position"].update(epoch=-(10**9)),
        lambda header, arrays: header["trainer"]["position"].update(epoch=0),
        lambda header, arrays: header["trainer"]["position"].update(epoch=10**9),
        lambda header, arrays: header["trainer"]["position"].update(epoch=2.5),
        lambda header, arrays: header["trainer"]["position"].update(batch=-1),
        lambda header, arrays: header["trainer"]["position"].update(batch=10**9),
        lambda header, arrays: header["trainer"]["position"].update(done=-1),
        lambda header, arrays: header["trainer"]["position"].update(seconds=-1.0),
        lambda header, arrays: header["trainer"]["position"].update(seconds="1"),
        lambda header, arrays: header["trainer"]["position"].update(total=float("nan")),
        lambda header, arrays: header["trainer"].update(dropout_step=-1),
        lambda header, arrays: header["trainer"].update(history=[{"epoch": 1, "loss": 1.0}] * 3),
        lambda header, arrays: (
            header["trainer"].update(history=[{}]),
            header["trainer"]["position"].update(epoch=2),
        ),
        lambda header, arrays: header["trainer"].update(best=[[0.5, 0.5], -3]),
        lambda header, arrays: header["trainer"]["optimizer"].update(steps=-1),
        lambda header, arrays: header["trainer"]["optimizer"].update(epochs=-1),
        lambda header, arrays: arrays.pop("theta"),
        lambda header, arrays: arrays.update(theta=arrays["theta"][:-1].copy()),
        lambda header, arrays: arrays.pop("optimizer.mean"),
    ],
)
def test_parts_that_do_not_fit(sample, tmp_path, change):
    path = tmp_path / "c"
    cut_off(lambda: SequenceTagger(hidden_size=6), sample, path, 30)
    header, arrays = read_checkpoint(path)
    change(header, arrays)
    write_model(path, "Checkpoint", header, arrays)
    with pytest.raises(ModelFileError, match="do not fit together") as caught:
        SequenceTagger(hidden_size=6).fit(*sample, resume=path)
    assert "\n" not in str(caught.value)


def test_forgetting(tmp_path):
    for name in ("c", ".c.0123abcd.tmp", ".other.0123abcd.tmp"):
        (tmp_path / name).write_bytes(b"")
    forget(tmp_path / "c")
    forget(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == [".other.0123abcd.tmp"]
