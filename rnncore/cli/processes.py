"""``mpiexec -n 8 rnncore train …``: the processes that a launcher of MPI started, and who of them speaks.

MPI is looked for in the environment alone: without a launcher mpi4py is never imported. Launchers also start trainings
that have nothing to do with each other (``srun``, an array of jobs): ``RNNCORE_ALONE=1`` says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from rnncore import _threads
from rnncore.data.readers import DataError
from rnncore.train.agreement import Agreement

__all__ = ["Processes", "is_first"]

_RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")  # MPICH and its kin, Slurm, Open MPI
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


def _alone() -> bool:
    """Tell whether what a launcher has started beside this process is no part of its training."""
    return os.environ.get("RNNCORE_ALONE", "0") not in ("", "0")


def _number(names: tuple[str, ...]) -> int | None:
    """Return the first of these variables that is there as a number."""
    found = next((os.environ[name] for name in names if name in os.environ), "")
    return int(found) if found.isdecimal() else None


def is_first() -> bool:
    """Tell whether this process is the one that speaks: number 0, or the only one."""
    return _alone() or not _number(_RANKS)


class Processes:
    """The processes of one ``rnncore train``.

    Parameters
    ----------
    shards : int or None
        As `rnncore.Trainer` takes it.

    Raises
    ------
    DataError
        If a launcher started several processes that MPI cannot connect.
    """

    def __init__(self, shards: int | None) -> None:
        wanted = _number(_SIZES)
        started = (wanted is not None and wanted > 1) or (wanted is None and _number(_RANKS) is not None)
        self.comm = _world(wanted) if started and not _alone() else None
        self.size = 1 if self.comm is None else self.comm.Get_size()
        self.is_first = self.comm is None or self.comm.Get_rank() == 0
        self.agreement = Agreement(self.comm, shards)
        self.options: dict[str, Any] = {"comm": self.comm, "shards": shards}

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do what can fail in one process, and end it in all of them then."""
        with self.agreement.heard():
            yield
        self.agreement.agree()

    def share_cores(self) -> int:
        """Divide the processors among processes that may run on the same ones; return how many threads each has."""
        if self.comm is not None and not os.environ.get("RNNCORE_NUM_THREADS"):
            mine = os.uname().nodename, sorted(_threads.processors())
            alike = self.comm.allgather(mine).count(mine)
            _threads.set_num_threads(min(_threads.get_num_threads(), max(1, len(mine[1]) // alike)))
        return _threads.get_num_threads()


def _world(wanted: int | None) -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the latter where there is no library of MPI
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"a launcher of MPI started this, and mpi4py cannot be imported ({reason}): pip install rnncore[mpi], or "
            "RNNCORE_ALONE=1 where each process is a training by itself"
        ) from None
    world = MPI.COMM_WORLD
    if wanted is not None and world.Get_size() != wanted:
        raise DataError(
            f"{wanted} processes were started, and mpi4py sees {world.Get_size()}: its library is not of this mpiexec "
            f"({MPI.Get_library_version().partition(chr(10))[0].strip()})"
        )
    return world
