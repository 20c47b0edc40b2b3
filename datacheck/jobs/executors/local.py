"""Running units: in this process, its threads, its child processes, or a given executor.

NumPy and Arrow release the GIL, so threads are the default: they start at once and share memory. Results always come
back in the order of the units, so that no output depends on the number of workers.
"""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from datacheck.errors import UsageError, WorkerLostError
from datacheck.jobs.progress import Progress
from datacheck.jobs.stage import Stage

if TYPE_CHECKING:
    from datacheck.jobs.executors.isolated import Isolated

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M")


#: How many units an executor that does not say how many workers it has is given at once.
_ELSEWHERE = 64


class UnitExecutor(ABC):
    """Runs the units of a job elsewhere, and knows which pass of it they belong to."""

    #: Whether this process has only a share in the job (a shard), or has a share or merges the shares of others.
    is_shard, is_shared = False, False

    @property
    def exchange(self) -> str | None:
        """A folder in which workers may leave what is too large for a result; None if there is none."""
        return None

    def job(self, command: str, settings: Any, folder: str | None = None) -> AbstractContextManager[None]:  # noqa: ARG002
        """One job of a command: equal settings are the same job. Its results may go to ``folder``."""
        return nullcontext()

    @abstractmethod
    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        workers: int | None,
        lost: Callable[[T], R] | None,
        stage: Stage,
        progress: Progress,
    ) -> Generator[R, None, None]:
        """As :func:`map_in_order`, for one pass of a job."""

    def map_merged(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        spans: Sequence[range],
        merge: Callable[[range, Iterator[R]], M],
        *,
        workers: int | None,
        lost: Callable[[T], R] | None,
        stage: Stage,
        progress: Progress,
    ) -> Generator[M, None, None]:
        """As :meth:`map`, of results that are merged: what ``merge`` makes of each of ``spans``, which follow each other."""
        results = self.map(function, items, workers=workers, lost=lost, stage=stage, progress=progress)
        return merge_spans(results, spans, merge)


def merge_spans(
    results: Generator[R, None, None], spans: Sequence[range], merge: Callable[[range, Iterator[R]], M]
) -> Generator[M, None, None]:
    """Yield what ``merge`` makes of the results of each span, in order; it takes the results of one span at a time."""
    with closing(results):
        for span in spans:
            yield merge(span, islice(results, len(span)))


#: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor`` (Dask and MPI offer one), or one of ours.
ExecutorLike = str | Executor | UnitExecutor


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
        lost: gives the result for an item whose worker process died each time it was tried. Given it, even ``"threads"`` do
            items with files that can crash a library in child processes.
    """
    if workers is None:
        # Another library's executor may reach far more processors than this machine has.
        workers = getattr(executor, "_max_workers", _ELSEWHERE) if isinstance(executor, Executor) else default_workers()
    if not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers: expected 1 or more, got {workers!r}")
    end: Callable[[], None] = _nothing
    if executor == "threads" and lost is not None:
        function = isolated = _isolated(function, lost)
        end = isolated.end
    if executor == "threads" and workers == 1:
        yield from map(function, items)
        return
    if executor == "processes":
        from datacheck.jobs.executors.processes import map_in_processes

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
            end()
            wait(pending)


def _nothing() -> None:
    """What there is to end of calls in this process: they are waited for."""


def _isolated(function: Callable[[T], R], lost: Callable[[T], R]) -> Isolated[T, R]:
    from datacheck.jobs.executors.isolated import Isolated

    return Isolated(function, lost)


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
