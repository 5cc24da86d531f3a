"""Processes that train together, as threads of one: each with a communicator of its own."""

import threading

import numpy as np


class Together:
    """What the threads share."""

    def __init__(self, size):
        self.size, self.barrier, self.places = size, threading.Barrier(size, timeout=300), [None] * size


class OneOf:
    def __init__(self, together, rank):
        self._together, self.rank, self.size = together, rank, together.size

    def _all(self, given):
        shared = self._together
        shared.places[self.rank] = given
        shared.barrier.wait()
        found = list(shared.places)
        shared.barrier.wait()
        return found

    def allgather(self, mine, all_of):
        for row, given in zip(all_of, self._all(np.array(mine)), strict=True):
            row[...] = given

    def alltoall(self, to_each, from_each):
        for row, given in zip(from_each, self._all(np.array(to_each)), strict=True):
            row[...] = given[self.rank]

    def bcast(self, array):
        array[...] = self._all(np.array(array))[0]


def run_together(size, work):
    """Return what `work(comm)` gives in each of so many threads; an exception in its place."""
    together, found = Together(size), [None] * size

    def run(rank):
        try:
            found[rank] = work(OneOf(together, rank))
        except BaseException as problem:
            found[rank] = problem

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return found
