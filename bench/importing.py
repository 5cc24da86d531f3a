"""`bench import`: what `import rnncore` adds to NumPy and SciPy's BLAS, and Python's share of a training step."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from bench import processes, report, shapes
from bench.timing import interleaved

_TIMED = """
import time
start = time.perf_counter()
import numpy, scipy.linalg.cython_blas
bound = time.perf_counter()
import rnncore as rc
imported = time.perf_counter()
rc.Recurrent, rc.Network, rc.Softmax, rc.OPTIMIZERS["sgd"]
named = time.perf_counter()
print(bound - start, imported - bound, named - bound)
"""


def run(options: argparse.Namespace) -> dict[str, Any]:
    from bench import ours

    repetitions = 5 if options.quick else 15
    processes.run_python(_TIMED)  # byte code and file cache
    samples = [list(map(float, processes.run_python(_TIMED).split())) for _ in range(repetitions)]
    base, imported, named = (statistics.median(column) * 1e3 for column in zip(*samples, strict=True))
    lines: list[list[report.Cell]] = [
        ["import numpy, scipy.linalg.cython_blas", base],
        ["import rnncore, after it", imported],
        ["same, and Recurrent, Network, Softmax, SGD named", named],
    ]
    report.table(f"import · median of {repetitions} fresh processes", [("", ""), ("ms", ".1f")], lines)
    report.at_most("import beyond NumPy and SciPy's BLAS, ms", named, 30.0, ".1f")

    minimal = ours.Step(options.cell[0], shapes.Shape(1, 1, 1, 1), options.dtype[0], 2, 0.1, 1)
    timing = interleaved({"step": minimal.call}, 1.0)["step"]
    micro = timing.median * 1e6
    estimator = _estimator_step(repetitions)
    report.table(
        "Python's share of a training step",
        [("", ""), ("µs", ".1f")],
        [["train_step at (1, 1, 1, 1)", micro], ["a minibatch of one word in SequenceTagger.fit", estimator]],
    )
    report.at_most("µs of a step with nothing to compute", micro, 15.0, ".1f")
    report.at_most("µs of an estimator's step with nothing to compute", estimator, 30.0, ".1f")
    imports = {"base": base, "rnncore": imported, "named": named}
    return {"import_ms": imports, "step_us": micro, "estimator_us": estimator, "samples": samples}


def _estimator_step(repetitions: int) -> float:
    """Microseconds of a minibatch of one word, of which the trainer gathers, trains on and counts thousands."""
    import rnncore as rc

    n = 4000
    words, tags = [[str(i % 2)] for i in range(n)], [["AB"[i % 2]] for i in range(n)]
    tagger = rc.SequenceTagger(
        hidden_size=1,
        bidirectional=False,
        head="softmax",
        optimizer="sgd",
        clip_norm=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        word_dropout=0.0,
        batch_size=1,
        max_epochs=repetitions,
        n_threads=1,
    ).fit(words, tags)
    return statistics.median(record["seconds"] for record in tagger.history_) / n * 1e6
