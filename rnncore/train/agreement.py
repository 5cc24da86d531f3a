"""What processes that train together tell each other beside gradients: how they are, and what process 0 drew."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from rnncore._finite import NonFiniteError
from rnncore.io.checkpoints import plain
from rnncore.train.batches import generator
from rnncore.train.communicators import Communicator, communicator

__all__ = ["Agreement", "ProcessError", "as_bytes", "heard_everywhere"]

Method = TypeVar("Method", bound=Callable[..., Any])

FAILED, NOT_FINITE = 1, 2  # what a process says of itself; other bits are the training's
MESSAGE = 400  # bytes of what a process says of its failure


class ProcessError(RuntimeError):
    """Another process of the same training failed; the message is its."""


class Agreement:
    """Processes that train together; all of them do the same things in the same order.

    An exception that all of them know of has an attribute ``everywhere``: nobody waits for whom it ended.

    Parameters
    ----------
    comm : as `communicators.communicator` takes it
    shards : int or None
        As `rnncore.Trainer` takes it.

    Attributes
    ----------
    given, comm
        What was given, and as a `Communicator`.
    """

    def __init__(self, comm: Any = None, shards: int | None = None) -> None:
        self.given, self.shards = comm, shards
        self.comm: Communicator = communicator(comm)

    @property
    def count(self) -> int:
        """How many shards there are: without a number, as many as processes."""
        return self.shards or self.comm.size

    def go_on(self, shards: int | None) -> None:
        """Take over the shards of a training that goes on, unless there is a number already."""
        self.shards = self.shards or shards

    def gathered(self, mine: np.ndarray) -> np.ndarray:
        """Return what every process gives, in the order of the processes."""
        all_of = np.empty((self.comm.size, *mine.shape), mine.dtype)
        self.comm.allgather(as_bytes(mine), as_bytes(all_of).reshape(self.comm.size, -1))
        return all_of

    def share(self, content: bytes) -> bytes:
        """Return what process 0 gives."""
        size = np.array([len(content)], np.int64)
        self.comm.bcast(size.view(np.uint8))
        buffer = np.frombuffer(content, np.uint8).copy() if self.comm.rank == 0 else np.empty(int(size[0]), np.uint8)
        self.comm.bcast(buffer)
        return buffer.tobytes()

    def agree(self, flags: int = 0, problem: BaseException | None = None) -> int:
        """Return what anybody asks for; raise what anybody met."""
        return self.heed(self.gathered(np.array([flags | failure(problem)], np.int64))[:, 0], problem)

    def heed(self, flags: np.ndarray, problem: BaseException | None) -> int:
        """Return all processes' flags as one; raise everywhere what one of them met."""
        found = int(np.bitwise_or.reduce(flags))
        if found & (FAILED | NOT_FINITE):
            self._raise(flags, problem)
        return found

    def _raise(self, flags: np.ndarray, problem: BaseException | None) -> None:
        message = np.zeros(MESSAGE, np.uint8)
        text = (str(problem) or type(problem).__name__).encode()[:MESSAGE] if problem is not None else b""
        message[: len(text)] = np.frombuffer(text, np.uint8)
        all_of = self.gathered(message)
        failed = flags & FAILED > 0
        rank = int(np.flatnonzero(failed if failed.any() else flags & NOT_FINITE > 0)[0])
        found: BaseException
        its = all_of[rank].tobytes().rstrip(b"\0").decode(errors="replace")
        own = all_of[self.comm.rank].tobytes().rstrip(b"\0").decode(errors="replace")
        if problem is not None and (own == its or not failed.any()):  # its own has more to say than a copy
            found = problem
        elif failed.any():
            found = ProcessError(f"process {rank} of {self.comm.size} failed: {its}")
        else:
            found = NonFiniteError(f"{its} (process {rank})", its)
        found.everywhere = True  # type: ignore[attr-defined]
        raise found

    def same(self, content: dict[str, Any]) -> None:
        """Raise everywhere, unless `content`, numbers and words by name, is the same in all processes."""
        self.agree()
        text = json.dumps(content, sort_keys=True, default=str).encode()
        first = self.share(text)
        self.agree(0, None if first == text else ValueError(_difference(first, text)))

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Let all processes hear of what ends this one, and fail where they agree next."""
        try:
            yield
        except Exception as problem:
            if self.comm.size > 1 and not getattr(problem, "everywhere", False):
                self.agree(0, problem)
            raise

    def generator(self, random_state: Any) -> np.random.Generator:
        """Make a generator of random numbers, in all processes as in process 0."""
        rng = generator(random_state)
        if self.comm.size > 1:
            self.agree()
            rng.bit_generator.state = json.loads(self.share(json.dumps(plain(rng.bit_generator.state)).encode()))
        return rng


def heard_everywhere(method: Method) -> Method:
    """Let all processes of the argument `comm` hear, where they agree next, of what ends a method in one of them."""

    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        with Agreement(options.get("comm")).heard():
            return method(*args, **options)

    return call  # type: ignore[return-value]


def failure(problem: BaseException | None) -> int:
    """Return the flag of what a process met."""
    return 0 if problem is None else NOT_FINITE if isinstance(problem, NonFiniteError) else FAILED


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Return an array's bytes, end to end."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _difference(first: bytes, own: bytes) -> str:
    """Tell what is not the same in this process as in process 0."""
    its, mine = json.loads(first), json.loads(own)
    names = [name for name in {**its, **mine} if its.get(name) != mine.get(name)]
    return (
        f"this process was given other {' and '.join(names)} than process 0: all must train the same on the same data"
    )
