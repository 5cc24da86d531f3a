"""Settings under a name, each with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rnncore.optim.arguments import check_choice

__all__ = ["CLASSIFIERS", "FORECASTERS", "LANGUAGE_MODELS", "TAGGERS", "Preset", "settings_of"]


@dataclass(frozen=True)
class Preset:
    """Settings of an estimator, and what they are good for."""

    purpose: str
    settings: dict[str, Any] = field(default_factory=dict)


def settings_of(presets: Mapping[str, Preset], name: str) -> dict[str, Any]:
    """Return a copy of the settings; a ValueError names those that there are."""
    check_choice("preset", name, list(presets))
    return dict(presets[name].settings)


#: What they reach on several kinds of data is told in docs/tagging.md.
TAGGERS = {
    "default": Preset("what the defaults are: size and features by the data, 13,000 sentences in seconds"),
    "fast": Preset("a third of the time, a few errors more", {"effort": "low"}),
    "accurate": Preset(
        "five times the time, an error in ten less", {"effort": "high", "cell": "gru", "recurrent_dropout": 0.3}
    ),
    "streaming": Preset("reads forward only, for words as they come", {"bidirectional": False, "head": "softmax"}),
}

#: What they reach is told in docs/series.md.
CLASSIFIERS = {
    "default": Preset("what the defaults are"),
    "accurate": Preset("two layers, three times the time: for long sequences of few numbers", {"num_layers": 2}),
    # Settings chosen on the validation pieces of the JSB chorales.
    "polyphony": Preset(
        "several at once at every step, from the steps until then, such as the keys of a piano",
        {
            "cell": "lstm",
            "hidden_size": 200,
            "bidirectional": False,
            "scale": "none",
            "noise": 0.0,
            "dropout": 0.5,
            "recurrent_dropout": 0.5,
            "clip_norm": 1.0,
            "batch_size": 8,
            "max_epochs": 100,
        },
    ),
}

#: Chosen by forecasts within the training parts of the series that docs/series.md tells of.
FORECASTERS = {
    "default": Preset("what the defaults are: for what follows rules, with little noise"),
    "seasonal": Preset(
        "some years of monthly numbers that grow: a small network of the change since the year before",
        {
            "log": True,
            "difference": 12,
            "window": 36,
            "stride": 1,
            "cell": "gru",
            "hidden_size": 16,
            "weight_decay": 0.1,
            "batch_size": 32,
            "max_epochs": 20,
        },
    ),
    "noisy": Preset(
        "what is mostly noise, and swings more or less: all steps at once, each window in its own scale",
        {
            "scale": "window",
            "strategy": "direct",
            "cell": "gru",
            "dropout": 0.2,
            "weight_decay": 0.1,
            "max_epochs": 40,
        },
    ),
}

#: Of the sources' programs. Where these carry the state from one pass over the text to the next, ours begins anew.
LANGUAGE_MODELS = {
    "default": Preset("what the defaults are"),
    # Karpathy 2015, github.com/karpathy/char-rnn, train.lua: its options' defaults, its loader's split, its update. It
    # has two biases where our layers have one, the sum of both: hence twice the rate.
    "char-rnn": Preset(
        "Karpathy's char-rnn as it comes: two LSTM layers of 128, RMSprop, 50 rows of 50 characters",
        {
            "unit": "byte",
            "cell": "lstm",
            "hidden_size": 128,
            "num_layers": 2,
            "batch_size": 50,
            "seq_length": 50,
            "max_epochs": 50,
            "optimizer": {
                "name": "rmsprop",
                "rho": 0.95,
                "eps": 1e-8,
                "clip_value": 5.0,
                "lazy": False,
                "groups": {"*.b_h": {"learning_rate": 4e-3}},
            },
            "clip_norm": None,
            "learning_rate": 2e-3,
            "schedule": {"name": "exponential", "gamma": 0.97, "start": 9},
            "dropout": 0.0,
            "reduction": "sequence",
            "initial": {"uniform": 0.08},
            "validation": "interleaved",
            "validation_fraction": 0.05,
            "random_state": 123,
        },
    ),
    # Karpathy 2015, gist d4dee566867f8291f086: one row, chunks of 25, Adagrad; it never ends, here 20 passes do.
    "min-char-rnn": Preset(
        "Karpathy's hundred lines of NumPy: an Elman network of 100 with tanh, Adagrad, one row of 25 characters",
        {
            "unit": "char",
            "cell": "elman",
            "activation": "tanh",
            "hidden_size": 100,
            "batch_size": 1,
            "seq_length": 25,
            "max_epochs": 20,
            "optimizer": {"name": "adagrad", "eps": 1e-8, "clip_value": 5.0},
            "clip_norm": None,
            "learning_rate": 0.1,
            "schedule": None,
            "dropout": 0.0,
            "reduction": "sequence",
            "initial": {"normal": 0.01},
        },
    ),
    # Britz 2015, github.com/dennybritz/rnn-tutorial-rnnlm: no biases, errors at most five steps back, one sentence at
    # a time; the rate is halved where an epoch's loss rises.
    "wildml": Preset(
        "WildML's tutorial: words of sentences, 8000 of them, an Elman network of 100 with tanh, plain SGD",
        {
            "unit": "word",
            "sentences": True,
            "lowercase": True,
            "vocabulary_size": 8000,
            "cell": "elman",
            "activation": "tanh",
            "hidden_size": 100,
            "batch_size": 1,
            "max_epochs": 100,
            "optimizer": "sgd",
            "clip_norm": None,
            "learning_rate": 0.005,
            "schedule": "halve_on_plateau",
            "dropout": 0.0,
            "reduction": "sequence",
            "truncate": 5,
            "initial": "fan_in",
            "frozen": ("*.b_h", "head.b_y"),
        },
    ),
    # Settings chosen on char-rnn's own split of tiny-shakespeare, which it is compared by.
    "best": Preset(
        "ours: in less time than char-rnn, with no more weights, clearly better",
        {
            "unit": "char",
            "cell": "gru",
            "hidden_size": 240,
            "batch_size": 50,
            "seq_length": 50,
            "max_epochs": 12,
            "optimizer": {"name": "adam", "beta2": 0.99},
            "learning_rate": 0.01,
            "schedule": {"name": "linear", "warmup": 100},
            "clip_norm": 1.0,
            "dropout": 0.1,
            "validation": "interleaved",
            "validation_fraction": 0.05,
        },
    ),
}
