"""`bench classify --part large`: 10⁵ sequences of 100 steps: a fit's memory beside the data's, Python's share of time.

The array is the caller's. What a fit may take beside it is 1.3 times as much (the scaled copy that it learns from, in
the network's precision), and the engine's own: weights, optimizer, what a minibatch's backward pass needs. One epoch is
run; the shares are those of as many as the defaults make.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from bench import processes, report

SEQUENCES, STEPS, WIDTH = 100_000, 100, 4
ALLOWED, SHARE = 1.3, 0.05
MIB = 2.0**20

_COLUMNS = ("data MiB", "fit takes MiB", "engine MiB", "s an epoch", "s Python's", "s before")

_WORK = """
import json, resource, sys, time
import numpy as np, rnncore as rc
n, steps, width = map(int, sys.argv[1:])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def fit(X, y, **options):
    start = time.perf_counter()
    model = rc.SequenceClassifier(max_epochs=1, batch_size=32, n_threads=1, **options).fit(X, y)
    return model, time.perf_counter() - start
rng = np.random.default_rng(0)
y = np.arange(n) % 2
fit(rng.standard_normal((64, steps, width), dtype="float32"), y[:64])
some = min(n, 20_000)
idle, _ = fit(np.zeros((some, 1, 1), dtype="float32"), y[:some], hidden_size=1, bidirectional=False)
X = rng.standard_normal((n, steps, width), dtype="float32")
X += np.float32(0.1) * y[:, None, None].astype("float32")
before = peak()
model, seconds = fit(X, y)
grown = peak() - before
engine = sum(count for name, count in model.network_.memory().items() if name != "total")
engine += 2 * model.network_.theta.nbytes
inside = sum(record["seconds"] for record in model.history_)
python = idle.history_[0]["seconds"] / some * n
print(json.dumps({"data": X.nbytes, "grown": grown, "engine": engine, "seconds": seconds,
                  "inside": inside, "outside": seconds - inside, "python": python, "epochs": model._epochs(n)}))
"""


def run(options: argparse.Namespace) -> dict[str, Any]:
    n = SEQUENCES // 10 if options.quick else SEQUENCES
    env = {**os.environ, **processes.environment(1)}
    command = [sys.executable, "-c", _WORK, *map(str, (n, STEPS, WIDTH))]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    row: dict[str, float] = json.loads(done.stdout)
    epochs = row["epochs"]
    share = (row["outside"] + epochs * row["python"]) / (row["outside"] + epochs * row["inside"])
    report.table(
        f"large · {n:,} sequences of {STEPS} steps of {WIDTH} numbers · one thread",
        [*((name, ".1f") for name in _COLUMNS)],
        [
            [
                *(row[name] / MIB for name in ("data", "grown", "engine")),
                *(row[name] for name in ("inside", "python", "outside")),
            ]
        ],
    )
    beside = (row["grown"] - row["engine"]) / row["data"]
    report.at_most("memory of a fit less the engine's, in times the data", beside, ALLOWED)
    print("  Python's: as many minibatches with nothing to compute; before: all there is outside of epochs")
    report.at_most(f"Python's share of {epochs} epochs and what comes before", share, SHARE, ".1%")
    return row | {"share": share, "beside": beside}
