"""`bench growth`: reading, training and tagging ever more sentences: time and memory must grow in proportion."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from bench import processes, report

SIZES, QUICK_SIZES, LARGE_SIZES = (10_000, 100_000), (2_000, 20_000), (10_000, 100_000, 1_000_000)

_WORK = """
import json, resource, sys, time
from rnncore import SequenceTagger
from rnncore.data.readers import read_packed
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
SequenceTagger(max_epochs=1).fit([["a"]], [["O"]])
before, start = peak(), time.process_time()
sentences, tags = read_packed(sys.argv[1])
read = time.process_time()
tagger = SequenceTagger(max_epochs=1, n_threads=1).fit(sentences, tags)
fitted = time.process_time()
tagger.predict(sentences)
print(json.dumps({"sentences": len(sentences), "read": read - start, "fit": fitted - read,
                  "tag": time.process_time() - fitted, "megabytes": peak() - before}))
"""


def run(options: argparse.Namespace) -> dict[str, Any]:
    sizes = QUICK_SIZES if options.quick else LARGE_SIZES if options.large else SIZES
    rows = [_measure(size) for size in sizes]
    columns = [("sentences", ",d"), *((name, ".3g") for name in ("read, s", "one epoch, s", "tag, s", "peak MB"))]
    report.table("growth · one thread", columns, [[row[key] for key in row] for row in rows])
    first, last = rows[0], rows[-1]
    more = last["sentences"] / first["sentences"]
    for name in ("read", "fit", "tag", "megabytes"):
        report.at_most(f"{name}: growth over that of the sentences", last[name] / first[name] / more, 1.3)
    return {"rows": rows}


def _measure(size: int) -> dict[str, Any]:
    from rnncore.datasets import iter_news_requests

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentences.txt"
        with path.open("w", encoding="utf-8") as file:
            for words, labels in islice(iter_news_requests(), size):
                file.writelines(f"{word}\t{label}\n" for word, label in zip(words, labels, strict=True))
                file.write("\n")
        env = {**os.environ, **processes.environment(1)}
        done = subprocess.run(
            [sys.executable, "-c", _WORK, str(path)], capture_output=True, text=True, env=env, check=True
        )
    return json.loads(done.stdout)
