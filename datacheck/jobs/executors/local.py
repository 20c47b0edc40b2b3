"""Running units: in this process, its threads, its child processes, or a given executor.

NumPy and Arrow release the GIL, so threads are the default: they start at once and share memory. Results always come
back in the order of the units, so that no output depends on the number of workers.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from datacheck.errors import UsageError, WorkerLostError
from datacheck.jobs.executors.processes import map_in_processes

__all__ = ["ExecutorLike", "default_workers", "map_in_order"]

T = TypeVar("T")
R = TypeVar("R")

#: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor`` (Dask, MPI, Ray and others offer one).
ExecutorLike = str | Executor


def default_workers() -> int:
    """The number of processors available to this process, at most 16: beyond that, threads wait for memory."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, available))


def map_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    *,
    lost: Callable[[T], R] | None = None,
) -> Generator[R, None, None]:
    """Apply ``function`` to all items, and yield the results in their order. A few items per worker are in flight.

    An exception of ``function`` is raised here. After that, and after the generator is closed, no further item is started;
    threads are waited for, and processes are ended: nothing is running afterwards.

    Args:
        lost: gives the result for an item at which a worker process ended each time that it was tried.
    """
    workers = default_workers() if workers is None else workers
    if workers < 1:
        raise UsageError(f"workers: expected 1 or more, got {workers}")
    if executor == "threads" and workers == 1:
        yield from map(function, items)
        return
    if executor == "processes":
        _check_picklable(function)
        yield from map_in_processes(function, items, workers, lost)
        return
    with _pool(executor, workers) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenExecutor as error:
            raise WorkerLostError(f"the executor lost its workers: {error}; start a new one and run again") from error
        finally:
            for future in pending:
                future.cancel()
            wait(pending)


def _check_picklable(function: Callable[..., object]) -> None:
    """Raise ``UsageError`` if ``function`` cannot be pickled, as with a lambda in a pandera schema."""
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"the work cannot be sent to other processes: {error}; use executor='threads', or move checks into a module"
        ) from None


def _pool(executor: ExecutorLike, workers: int) -> AbstractContextManager[Executor]:
    if isinstance(executor, Executor):
        return nullcontext(executor)
    if executor == "threads":
        return ThreadPoolExecutor(workers, thread_name_prefix="datacheck")
    raise UsageError(f"executor: expected 'threads', 'processes' or a concurrent.futures.Executor, got {executor!r}")
