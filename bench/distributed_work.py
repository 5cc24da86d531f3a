"""One of the processes that `bench distributed` starts: trains for some steps, and tells how long they took."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from mpi4py import MPI

import rnncore as rc
from bench.files import data_file
from rnncore.train.communicators import OfMPI

SKIPPED = 3  # steps that are not counted
STEPS = {"lm": 8, "tag": 600, "tag256": 120}


class Timed(OfMPI):
    """Takes note of how long exchanges take, waiting included, and how much is sent."""

    seconds = 0.0
    sent = 0

    def _timed(self, call: Any, *arrays: np.ndarray) -> None:
        began = time.perf_counter()
        call(*arrays)
        self.seconds += time.perf_counter() - began
        self.sent += arrays[0].nbytes

    def allgather(self, mine: np.ndarray, all_of: np.ndarray) -> None:
        self._timed(super().allgather, mine, all_of)

    def alltoall(self, to_each: np.ndarray, from_each: np.ndarray) -> None:
        self._timed(super().alltoall, to_each, from_each)


class Clock(rc.Callback):
    def __init__(self, comm: Timed, steps: int) -> None:
        self.comm, self.steps, self.done, self.symbols = comm, steps, 0, 0

    def on_batch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        self.done += 1
        if self.done == SKIPPED:
            self.began, self.comm.seconds, self.comm.sent = time.perf_counter(), 0.0, 0
        elif self.done > SKIPPED:
            self.symbols += record["steps"]
        if self.done == SKIPPED + self.steps:
            self.seconds = time.perf_counter() - self.began
            self.exchange, self.sent = self.comm.seconds, self.comm.sent
            trainer.stop()


def main(part: str, shards: int) -> None:
    comm = Timed(MPI.COMM_WORLD)
    clock = Clock(comm, STEPS[part])
    together = {"comm": comm, "shards": shards} if shards else {}
    if part == "lm":
        options = {"hidden_size": 512, "max_epochs": 1, "validation": None, "callbacks": [clock]}
        rc.LanguageModel.preset("char-rnn", **options).fit(data_file(None, "tinyshakespeare.txt"), **together)
    else:
        sentences, tags = rc.datasets.news_requests(2000)
        times = 100_000 // len(sentences)
        model = rc.SequenceTagger(max_epochs=1, batch_size=256 if part == "tag256" else None, callbacks=[clock])
        model.fit(sentences * times, tags * times, **together)
    if comm.rank == 0:
        print(
            json.dumps(
                {
                    "symbols_per_second": clock.symbols / clock.seconds,
                    "step": clock.seconds / STEPS[part],
                    "exchange": clock.exchange / STEPS[part],
                    "bytes": clock.sent / STEPS[part],
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
