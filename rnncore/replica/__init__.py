"""The program that rnncore began with, repeated to the last test word: ``recurrent-net-version-1`` of 2015.

Where that program has a bug, so has this package, and nothing outside it. What it does, in short:

- 1000 tagged sentences are shuffled and split; windows of `NGRAM` words are cut, 1-of-N coded (here: ids).
- Version 1.0 reads a window from left to right with ReLU layers and tags its last word; version 1.1 reads in both
  directions and tags all words, of which the middle one counts.
- Each iteration takes 50 windows and updates every weight by its gradient over a running average of its diagonal
  curvature; that average and the velocity share one buffer, by accident (``accumulators="aliased"``).

>>> from rnncore import replica
>>> replica.default_config("1.0").hidden
(HiddenLayer(neurons=512, weight_decay=1e-06, keep=1.0),)

The same counts at every run and number of threads. Version 1.0 has the program's costs to the last printed digit in
all 5001 iterations, and its counts after all 50 epochs. So has version 1.1 on the author's split (10 epochs). On
libstdc++'s split its last epoch is chaotic, because one buffer serves both directions: from iteration 2582 on, rounding
shows in the sixth digit, and after epoch 30 up to 2 of 8933 and 2 of 2167 windows fall otherwise than in the program
(8273 and 1898 for its 8275 and 1899). A learning rate changed by one unit in its last place moves as many: 8273 and
1897 upwards, 8274 and 1899 downwards; AVX2 ends at 8275 and 1897. The 29 epochs before are equal in all of these.

What was undefined there is defined here: with ``NGRAM = 1`` there is no step before, so W moves by its weight decay
alone; an even NGRAM in version 1.1 gives each sentence one window more, whose middle word is padding (as there).
"""

from __future__ import annotations

from rnncore.replica.config import Config, ConfigWarning, HiddenLayer, default_config, read_config
from rnncore.replica.gradients import check_gradients
from rnncore.replica.model import Replica
from rnncore.replica.tagger import WindowTagger

__all__ = [
    "Config",
    "ConfigWarning",
    "HiddenLayer",
    "Replica",
    "WindowTagger",
    "check_gradients",
    "default_config",
    "load_xml",
    "read_config",
]

load_xml = Replica.load_xml
