"""Exact sentences about pictures of shapes, learned combinations and new ones; figures in docs/captions.md."""

import pytest

import rnncore as rc
from rnncore.datasets import picture_features, shapes

pytestmark = pytest.mark.paper


def test_exact_sentences_about_seen_and_new_combinations():
    pictures, sentences = shapes(12000, "seen")
    settings = {"hidden_size": 96, "embedding_size": 4, "label_smoothing": 0.2, "batch_size": 32, "max_epochs": 16}
    model = rc.CaptionModel(**settings).fit(picture_features(pictures), sentences)
    for combinations, bar in (("seen", 0.99), ("pairs", 0.95), ("objects", 0.95)):
        pictures, sentences = shapes(4000, combinations, random_state=1000)
        assert model.score(picture_features(pictures), sentences) >= bar, combinations
