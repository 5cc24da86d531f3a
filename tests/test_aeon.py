"""aeon's own checks of its adapters, and that they say what rnncore's estimators say."""

import numpy as np
import pytest
from peers import peer

import rnncore as rc

QUICK = {"hidden_size": 8, "max_epochs": 3, "n_threads": 1}


@pytest.fixture(scope="module")
def aeon():
    peer("aeon")
    import rnncore.aeon

    return rnncore.aeon


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["RNNClassifier", "RNNRegressor"])
def test_aeons_checks(aeon, name):
    """All of them, with all settings of `_get_test_params`; none is left out."""
    checks = peer("aeon.testing.estimator_checking")
    found = checks.check_estimator(getattr(aeon, name))
    assert len(found) > 40 and {check: said for check, said in found.items() if said != "PASSED"} == {}


def test_collections_of_unequal_lengths_with_gaps(aeon):
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.normal(0.5 * (k % 2), 1, (2, rng.integers(6, 15))), axis=1) for k in range(24)]
    for walk in walks:
        walk[1, 3] = np.nan
    y = np.array(["up" if k % 2 else "level" for k in range(24)])
    model = aeon.RNNClassifier(**QUICK).fit(walks, y)
    turned = [walk.T for walk in walks]
    wanted = rc.SequenceClassifier(**QUICK, missing="mask").fit(turned, y)
    assert np.array_equal(model.predict_proba(walks), wanted.predict_proba(turned))
    assert np.array_equal(model.predict(walks), wanted.predict(turned))
    found = aeon.RNNRegressor(**QUICK).fit(walks, np.arange(24.0)).predict(walks)
    ours = rc.SequenceRegressor(**QUICK, missing="mask").fit(turned, np.arange(24.0))
    assert np.array_equal(found, ours.predict(turned))


def test_in_their_pipelines_and_searches(aeon):
    from aeon.pipeline import make_pipeline
    from aeon.transformations.collection.unequal_length import Padder
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(1)
    walks = [rng.normal(size=(2, rng.integers(6, 15))) for k in range(20)]
    y = np.arange(20) % 2
    pipeline = make_pipeline(Padder(), aeon.RNNClassifier(**QUICK))
    assert set(pipeline.fit(walks, y).predict(walks)) <= {0, 1}
    X = rng.normal(size=(20, 2, 5))
    search = GridSearchCV(aeon.RNNClassifier(**QUICK), {"hidden_size": [4, 6]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_.model_.hidden_size == search.best_params_["hidden_size"]


def test_settings(aeon):
    model = aeon.RNNRegressor(hidden_size=5)
    settings = model.get_params()
    assert settings["hidden_size"] == 5 and settings["pooling"] == rc.SequenceRegressor().pooling
    assert {"missing", "per_step", "lowercase"}.isdisjoint(settings)
    with pytest.raises(TypeError, match="colour"):
        aeon.RNNRegressor(colour="red")
