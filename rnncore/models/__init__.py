"""Networks that are no cells, named after what they are; reservoirs are `rc.Reservoir`.

Networks whose parts run at rates of their own, on trees, or beside a memory are parts on one flat array. An associative
memory is an estimator: `fit` takes the patterns that it shall know, `predict` patterns that it shall complete.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Automaton": "automaton",
    "BAM": "bam",
    "Clockwork": "clockwork",
    "ContinuousHopfield": "continuous_hopfield",
    "ContinuousStack": "stack",
    "HistoryCompressor": "compressor",
    "Hopfield": "hopfield",
    "MTRNN": "mtrnn",
    "ModernHopfield": "modern_hopfield",
    "NeuralTuringMachine": "turing",
    "PushdownAutomaton": "pushdown",
    "PushdownNetwork": "pushdown",
    "RAAM": "raam",
    "StringRecognizer": "recognizer",
    "TreeNetwork": "trees",
    "all_strings": "pushdown",
    "extract_automaton": "extraction",
    "simulate": "dynamics",
}

__all__ = [
    "BAM",
    "MTRNN",
    "RAAM",
    "Automaton",
    "Clockwork",
    "ContinuousHopfield",
    "ContinuousStack",
    "HistoryCompressor",
    "Hopfield",
    "ModernHopfield",
    "NeuralTuringMachine",
    "PushdownAutomaton",
    "PushdownNetwork",
    "StringRecognizer",
    "TreeNetwork",
    "all_strings",
    "extract_automaton",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from rnncore.models.automaton import Automaton as Automaton
    from rnncore.models.bam import BAM as BAM
    from rnncore.models.clockwork import Clockwork as Clockwork
    from rnncore.models.compressor import HistoryCompressor as HistoryCompressor
    from rnncore.models.continuous_hopfield import ContinuousHopfield as ContinuousHopfield
    from rnncore.models.dynamics import simulate as simulate
    from rnncore.models.extraction import extract_automaton as extract_automaton
    from rnncore.models.hopfield import Hopfield as Hopfield
    from rnncore.models.modern_hopfield import ModernHopfield as ModernHopfield
    from rnncore.models.mtrnn import MTRNN as MTRNN
    from rnncore.models.pushdown import PushdownAutomaton as PushdownAutomaton
    from rnncore.models.pushdown import PushdownNetwork as PushdownNetwork
    from rnncore.models.pushdown import all_strings as all_strings
    from rnncore.models.raam import RAAM as RAAM
    from rnncore.models.recognizer import StringRecognizer as StringRecognizer
    from rnncore.models.stack import ContinuousStack as ContinuousStack
    from rnncore.models.trees import TreeNetwork as TreeNetwork
    from rnncore.models.turing import NeuralTuringMachine as NeuralTuringMachine
