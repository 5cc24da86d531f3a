"""Processes that train together: what is asked of whatever connects them, and adapters to what does.

Three exchanges of bytes are enough. ``comm=`` takes an mpi4py communicator, ``torch.distributed`` (its module, or a
process group of gloo's), or any object with these names.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["Communicator", "communicator"]


@runtime_checkable
class Communicator(Protocol):
    """What a training over several processes needs; arrays are contiguous, of bytes.

    Attributes
    ----------
    rank, size : int
        This process's number, from 0 on, and how many there are.
    """

    rank: int
    size: int

    def allgather(self, mine: np.ndarray, all_of: np.ndarray) -> None:
        """Fill `all_of` (size, n) with what each process gives as `mine` (n,)."""

    def alltoall(self, to_each: np.ndarray, from_each: np.ndarray) -> None:
        """Fill row r of `from_each` (size, n) with row `rank` of what process r gives as `to_each` (size, n)."""

    def bcast(self, array: np.ndarray) -> None:
        """Make `array` (n,) what it is in process 0."""


class OfMPI:
    """An mpi4py communicator."""

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()

    def allgather(self, mine: np.ndarray, all_of: np.ndarray) -> None:
        """See `Communicator`."""
        self.comm.Allgather(mine, all_of)

    def alltoall(self, to_each: np.ndarray, from_each: np.ndarray) -> None:
        """See `Communicator`."""
        self.comm.Alltoall(to_each, from_each)

    def bcast(self, array: np.ndarray) -> None:
        """See `Communicator`."""
        self.comm.Bcast(array, 0)

    def abort(self) -> None:
        """End all processes: this one cannot go on, and the others would wait for it."""
        self.comm.Abort(1)


class OfTorch:
    """A process group of torch.distributed, over CPUs (gloo)."""

    def __init__(self, group: Any = None) -> None:
        import torch
        import torch.distributed as dist

        self._torch, self._dist, self._group = torch, dist, group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def allgather(self, mine: np.ndarray, all_of: np.ndarray) -> None:
        """See `Communicator`."""
        tensor = self._torch.from_numpy
        self._dist.all_gather([tensor(row) for row in all_of], tensor(mine), group=self._group)

    def alltoall(self, to_each: np.ndarray, from_each: np.ndarray) -> None:
        """See `Communicator`."""
        tensor = self._torch.from_numpy
        self._dist.all_to_all_single(tensor(from_each), tensor(to_each), group=self._group)

    def bcast(self, array: np.ndarray) -> None:
        """See `Communicator`."""
        first = 0 if self._group is None else self._dist.get_global_rank(self._group, 0)
        self._dist.broadcast(self._torch.from_numpy(array), first, group=self._group)


class Alone:
    """One process by itself, with as many shards as a training asks for."""

    rank, size = 0, 1

    def allgather(self, mine: np.ndarray, all_of: np.ndarray) -> None:
        """See `Communicator`."""
        all_of[0] = mine

    def alltoall(self, to_each: np.ndarray, from_each: np.ndarray) -> None:
        """See `Communicator`."""
        from_each[...] = to_each

    def bcast(self, array: np.ndarray) -> None:
        """See `Communicator`."""


def communicator(comm: Any) -> Communicator:
    """Return what trains together as a `Communicator`.

    Parameters
    ----------
    comm : None, mpi4py communicator, torch.distributed or one of its groups, or Communicator
        None: this process alone.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> communicator(None).size
    1
    """
    if comm is None:
        return Alone()
    if hasattr(comm, "Get_rank") and hasattr(comm, "Alltoall"):
        return OfMPI(comm)
    if getattr(comm, "__name__", "") == "torch.distributed":
        return OfTorch()
    if type(comm).__module__.startswith("torch.") and hasattr(comm, "size"):
        return OfTorch(comm)
    if isinstance(comm, Communicator):
        return comm
    raise TypeError(
        "expected comm as an mpi4py communicator, torch.distributed or a process group of it, or an object with rank, "
        f"size, allgather, alltoall and bcast; got {type(comm).__name__}"
    )


def end_all(comm: Communicator) -> None:
    """Print the exception at hand and end every process, where that can be done; else the others wait in vain."""
    abort = getattr(comm, "abort", None)
    if abort is None or comm.size == 1:
        return
    print(f"rnncore: process {comm.rank} of {comm.size} cannot go on, and ends the others:", file=sys.stderr)
    traceback.print_exc()
    sys.stderr.flush()
    sys.stdout.flush()
    abort()
    os._exit(1)
