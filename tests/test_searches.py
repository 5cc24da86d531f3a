"""scikit-learn's searches over processes: no more threads than processors, and models that travel as their weights."""

import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from peers import peer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

import rnncore as rc
from rnncore import _threads

PAGE = Path(__file__).parents[1] / "docs" / "processes.md"
SENTENCES, TAGS = rc.datasets.news_requests(60)


@pytest.mark.parametrize("kind", [GridSearchCV, RandomizedSearchCV])
def test_a_search_with_two_workers_finds_what_one_finds(kind):
    def found(n_jobs):
        more = {"n_iter": 2, "random_state": 0} if kind is RandomizedSearchCV else {}
        model = rc.SequenceTagger(hidden_size=8, max_epochs=1)
        return kind(model, {"learning_rate": [0.001, 0.02]}, cv=2, n_jobs=n_jobs, **more).fit(SENTENCES, TAGS)

    one, two = found(1), found(2)
    assert one.best_params_ == two.best_params_
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(one.best_estimator_.network_.theta, two.best_estimator_.network_.theta)


@pytest.mark.skipif("RNNCORE_NUM_THREADS" in os.environ or "OMP_NUM_THREADS" in os.environ, reason="they say how many")
def test_workers_share_the_processors():
    counts = Parallel(n_jobs=2)(delayed(rc.get_num_threads)() for _ in range(4))
    assert set(counts) == {max(1, len(_threads.processors()) // 2)}


@pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")
@pytest.mark.skipif("RNNCORE_NUM_THREADS" in os.environ or "OMP_NUM_THREADS" in os.environ, reason="they say how many")
@pytest.mark.parametrize("package", ["distributed", "ray"])
def test_a_cluster_of_workers_of_one_thread_finds_what_one_process_finds(package, monkeypatch):
    peer(package)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a file in the user's folder
    blocks = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    code = next(block for block in blocks if re.search(f"^(from|import) {package}", block, re.MULTILINE))

    def threads(model, sentences, tags):
        return rc.get_num_threads()

    scoring = {"accuracy": rc.SequenceTagger.score, "threads": threads}
    names = {"scoring": scoring}
    assert "n_jobs=-1" in code
    exec(code.replace("n_jobs=-1", "n_jobs=-1, scoring=scoring, refit='accuracy'"), names)
    many = names["search"]
    one = GridSearchCV(names["tagger"], many.param_grid, cv=2, scoring=scoring, refit="accuracy")
    one.fit(names["sentences"], names["tags"])
    assert set(many.cv_results_["mean_test_threads"]) == {1}
    assert one.best_params_ == many.best_params_
    np.testing.assert_array_equal(one.cv_results_["mean_test_accuracy"], many.cv_results_["mean_test_accuracy"])
    np.testing.assert_array_equal(one.best_estimator_.network_.theta, many.best_estimator_.network_.theta)
    if package == "ray":
        sys.modules["ray"].shutdown()


def test_a_model_is_pickled_as_its_weights():
    model = rc.SequenceTagger(hidden_size=64, max_epochs=1).fit(SENTENCES, TAGS)
    assert len(pickle.dumps(model)) < 1.2 * model.network_.theta.nbytes + 100_000


def test_optuna_ends_a_training_that_does_not_look_well():
    optuna = peer("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        def report(record):
            trial.report(record["val_score"], record["epoch"])
            return trial.should_prune()

        model = rc.SequenceTagger(
            hidden_size=8,
            max_epochs=4,
            early_stopping=True,
            learning_rate=trial.suggest_float("learning_rate", 1e-6, 0.03, log=True),
            callbacks=[report],
        ).fit(SENTENCES, TAGS)
        if model.stopped_ == "callback":
            raise optuna.TrialPruned
        return max(record["val_score"] for record in model.history_)

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(1))
    study.optimize(objective, n_trials=6)
    states = {trial.state for trial in study.trials}
    assert states == {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED}
