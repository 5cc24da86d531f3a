"""Networks on trees: Boolean expressions deeper than those learned, and trees in vectors (long; `pytest -m paper`)."""

from __future__ import annotations

import numpy as np
import pytest
from paper import SEEDS, for_each_seed, solved_by

import rnncore as rc
from rnncore.models.trees import CELLS

pytestmark = pytest.mark.paper

LEARNED, TESTED = 4000, 2000


@pytest.mark.parametrize("cell", CELLS)
def test_values_of_boolean_expressions(cell, tell):
    """Learn expressions of depth 1 to 4; others of such depths, and of depth 6, that were not among them."""

    def attempt(seed):
        trees, values = rc.datasets.boolean_expressions(LEARNED, 4, random_state=seed)
        options = {"learning_rate": 0.002} if cell == "tensor" else {}
        classifier = rc.TreeClassifier(cell, hidden_size=16, max_epochs=20, random_state=seed, n_threads=1, **options)
        classifier.fit(trees, values)
        known, scores = set(trees), []
        for least, most in ((1, 4), (6, 6)):
            new, worth = rc.datasets.boolean_expressions(TESTED, most, least, random_state=1000 + seed)
            unseen = [n for n, tree in enumerate(new) if tree not in known]
            assert len(unseen) > 500
            scores.append(classifier.score([new[n] for n in unseen], [worth[n] for n in unseen]))
        return scores

    results = for_each_seed(tell, attempt, cell=cell)
    solved_by([shallow >= 0.99 and deep >= 0.95 for shallow, deep in results], len(SEEDS))


def test_raam_unfolds_fifteen_trees(tell):
    """Phrases of five symbols in ten numbers each: leaves within 0.2 of what they are, and each tree whole again."""
    numbers = {symbol: n for n, symbol in enumerate("DANVP")}

    def numbered(tree):
        return tuple(map(numbered, tree)) if isinstance(tree, tuple) else numbers[tree]

    def attempt(seed):
        made = rc.datasets.phrases(15, random_state=seed)
        trees = rc.Trees.of(made, labelled=False).numbered(numbers)
        raam, optimizer = rc.models.RAAM(np.eye(5, 10), random_state=seed, n_threads=1), rc.Adam(0.01)
        leaves = trees.counts == 0
        wanted = raam.codes[np.asarray(trees.labels)[leaves]]
        wrong, steps = 1.0, 0
        while wrong > 0.1 and steps < 20_000:
            for _ in range(100):
                raam.train_step(trees, optimizer)
            steps += 100
            wrong = float(np.abs(raam.reconstruct(trees)[leaves] - wanted).max())
        whole = sum(one == numbered(tree) for one, tree in zip(raam.decode(raam.encode(trees)), made, strict=True))
        return steps, round(wrong, 3), whole

    results = for_each_seed(tell, attempt)
    solved_by([wrong < 0.2 and whole == 15 for _, wrong, whole in results], len(SEEDS))
