"""Five networks together on SNIPS (`-m paper`): better than the best of them; docs/decisions.md has the figures."""

import pytest

import rnncore as rc
from rnncore.data.readers import read_packed

pytestmark = pytest.mark.paper

GRU = {"cell": "gru", "hidden_size": 128, "affixes": 4, "shapes": True, "window": 1, "learning_rate": 0.005}
REGULARISED = {"max_epochs": 15, "input_dropout": 0.5, "word_dropout": 0.5, "recurrent_dropout": 0.3}


def chunk_f1(tagger, X, y):
    return tagger.evaluate(X, y)["averages"]["entities"]["micro"]["f1"]


def together(parts):
    return [[*map(list, part)] for part in ([*parts[0][n], *parts[1][n]] for n in range(2))]


def test_five_networks_are_better_than_the_best_of_them(data, tell):
    train, valid, test = (read_packed(str(data(f"snips_{name}.tsv"))) for name in ("train", "valid", "test"))
    ensemble = rc.Ensemble.of_seeds(rc.SequenceTagger(**GRU, **REGULARISED), 5).fit(*train)
    found = chunk_f1(ensemble, *test)
    alone = [chunk_f1(member, *test) for member in ensemble.estimators_]
    apart = together([valid, test])  # the more chunks, the less chance
    both, each = chunk_f1(ensemble, *apart), [chunk_f1(member, *apart) for member in ensemble.estimators_]
    tell(test_f1=found, of_members=alone, validation_and_test_f1=both, of_members_there=each)
    assert found > 0.95 and both > max(each)
