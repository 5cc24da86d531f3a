"""`fit` over several processes: every estimator learns the same bits for any number of them."""

import numpy as np
import pytest
from processes import run_together

import rnncore as rc
from rnncore.data.readers import DataError
from rnncore.train.agreement import ProcessError

SENTENCES, TAGS = rc.datasets.news_requests(60)
TEXT = "to be or not to be, that is the question: " * 30
WAVES = [np.sin(np.arange(12 + n % 5) * (0.3 + n % 2))[:, None] for n in range(24)]
ANIMALS = ["cat", "dog", "cow"] * 8
SAID = ["a cat says meow", "a dog barks", "cows moo"] * 8


def tagger(**options):
    return rc.SequenceTagger(hidden_size=8, max_epochs=2, early_stopping=True, embedding_size=6).fit(
        SENTENCES, TAGS, **options
    )


def answers(**options):
    labels = ["short" if len(one) < 8 else "long" for one in SENTENCES]
    made = rc.SequenceTagger(hidden_size=8, max_epochs=2, sentence_labels=True)
    return made.fit(SENTENCES, TAGS, labels, **options)


def classifier(**options):
    kinds = [n % 2 for n in range(24)]
    return rc.SequenceClassifier(hidden_size=8, max_epochs=2).fit(
        WAVES, kinds, sample_weight=np.arange(24.0), **options
    )


def regressor(**options):
    return rc.SequenceRegressor(hidden_size=8, max_epochs=2).fit(WAVES, [one.sum() for one in WAVES], **options)


def forecaster(**options):
    made = rc.Forecaster(hidden_size=8, max_epochs=2, window=12, horizon=3, output="quantiles", calibration=0.2)
    return made.fit(np.sin(np.arange(90) / 5), **options)


def language_model(**options):
    return rc.LanguageModel(hidden_size=12, batch_size=8, seq_length=10, max_epochs=2, validation="tail").fit(
        TEXT, **options
    )


def transcriber(**options):
    strings = ["ab" if n % 2 else "ba" for n in range(24)]
    return rc.Transcriber(hidden_size=8, max_epochs=2).fit(WAVES, strings, **options)


def captions(**options):
    return rc.CaptionModel(hidden_size=8, max_epochs=2).fit(ANIMALS, SAID, **options)


def rewriting(**options):
    return rc.SequenceToSequence(hidden_size=8, max_epochs=2).fit(ANIMALS, SAID, **options)


EVERY = [tagger, answers, classifier, regressor, forecaster, language_model, transcriber, captions, rewriting]


def bits(model):
    calibrated = getattr(model, "calibration_", None)
    losses = [record["loss"] for record in model.history_]
    return model.network_.theta.tobytes(), losses, None if calibrated is None else repr(vars(calibrated))


@pytest.mark.parametrize("fit", EVERY)
def test_fit_has_the_bits_of_one_process_with_as_many_shards(fit):
    wanted = bits(fit(shards=4))
    for one in run_together(2, lambda comm: bits(fit(comm=comm, shards=4))):
        assert one == wanted


def test_what_is_drawn_is_drawn_by_process_0():
    def work(comm):
        made = rc.SequenceTagger(hidden_size=8, max_epochs=1, early_stopping=True, random_state=None)
        return made.fit(SENTENCES, TAGS, comm=comm).network_.theta.tobytes()

    found = run_together(2, work)
    assert found[0] == found[1] and isinstance(found[0], bytes)


def test_a_fit_goes_on_with_the_shards_of_its_checkpoint(tmp_path):
    class StopAtOnceError(Exception):
        everywhere = True  # it is raised in both

    class Stop(rc.Callback):
        def on_batch_end(self, trainer, record):
            if record["epoch"] == 2 and record["batch"] == 3:
                raise StopAtOnceError

    def made(*callbacks):
        return rc.SequenceTagger(hidden_size=8, max_epochs=3, random_state=5, callbacks=callbacks)

    kept = {"checkpoint": tmp_path / "kept", "checkpoint_every": 0.0}
    cut = run_together(2, lambda comm: made(Stop()).fit(SENTENCES, TAGS, comm=comm, shards=4, **kept))
    assert all(isinstance(one, StopAtOnceError) for one in cut)
    wanted = bits(made().fit(SENTENCES, TAGS, shards=4))
    saved = (tmp_path / "kept").read_bytes()
    for size in (4, 1):
        (tmp_path / "kept").write_bytes(saved)
        found = run_together(size, lambda comm: made().fit(SENTENCES, TAGS, comm=comm, resume=tmp_path / "kept"))
        assert all(bits(one) == wanted for one in found)
    (tmp_path / "kept").write_bytes(saved)
    assert bits(made().fit(SENTENCES, TAGS, resume=tmp_path / "kept")) == wanted
    (tmp_path / "kept").write_bytes(saved)
    with pytest.raises(DataError, match="other settings: shards"):
        made().fit(SENTENCES, TAGS, shards=8, resume=tmp_path / "kept")


def test_data_that_one_process_cannot_use_end_all():
    def work(comm):
        made = rc.SequenceTagger(hidden_size=8, max_epochs=1)
        made.fit(SENTENCES[:-1] if comm.rank else SENTENCES, TAGS, comm=comm)

    first, second = run_together(2, work)
    assert isinstance(first, ProcessError) and "process 1 of 2 failed: expected as many" in str(first)
    assert isinstance(second, DataError)


def test_data_that_nobody_can_use_are_one_error():
    found = run_together(2, lambda comm: rc.SequenceTagger().fit(SENTENCES[:-1], TAGS, comm=comm))
    assert all(isinstance(one, DataError) for one in found)
