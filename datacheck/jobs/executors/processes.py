"""Worker processes: they end with the process that started them, and a lost one costs only what it was working on.

A worker can be lost at any time: the system kills it for its memory, or a library crashes. Everything that was in
flight is then run again, one item at a time in a separate process. So an item that kills its process is told from the
others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from datacheck.errors import WorkerLostError
from datacheck.jobs.executors.interrupts import without_interrupts

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection


T = TypeVar("T")
R = TypeVar("R")

#: How often an item is tried in a process of its own.
_NUM_TRIES = 2


def map_in_processes(
    function: Callable[[T], R], items: Iterable[T], workers: int, lost: Callable[[T], R] | None
) -> Generator[R, None, None]:
    """The results of ``function`` in the order of the items, from child processes; a few items per worker are in flight.

    ``lost`` gives the result for an item whose process ended each time; without it, ``WorkerLostError`` is raised. The
    processes are ended when the generator is closed or raises, whatever they are doing.
    """
    pool, single = _Pool(workers), _Pool(1)
    pending: deque[tuple[T, Future[R]]] = deque()

    def result() -> R:
        item, future = pending.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            return _run_alone(function, item, single, lost)

    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > 2 * workers:
                yield result()
        while pending:
            yield result()
    finally:
        pool.stop(at_once=bool(pending))
        single.stop(at_once=True)


def _run_alone(function: Callable[[T], R], item: T, single: _Pool, lost: Callable[[T], R] | None) -> R:
    _check_start(single)
    for _ in range(_NUM_TRIES):
        try:
            return single.submit(function, item).result()
        except BrokenProcessPool:
            continue
    if lost is None:
        raise WorkerLostError(
            "a worker process died twice on the same work: it was killed, perhaps for its memory use, or a library crashed; "
            "use fewer workers, or executor='threads'"
        )
    return lost(item)


def _check_start(single: _Pool) -> None:
    """Raise ``WorkerLostError`` if even a process that has nothing to do ends too early."""
    try:
        single.submit(abs, 0).result()
    except BrokenProcessPool:
        raise WorkerLostError(
            "worker processes end as soon as they start; start the job under \"if __name__ == '__main__':\", or use "
            "executor='threads'"
        ) from None


class _Pool:
    """A pool of processes that is started when it is first used, and again after it broke."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._context = multiprocessing.get_context("spawn")
        self._pool: ProcessPoolExecutor | None = None
        self._stop: Connection | None = None

    def submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        with without_interrupts():
            if self._pool is not None:
                try:
                    return self._pool.submit(function, item)
                except BrokenProcessPool:
                    self.stop(at_once=True)
            receiver, self._stop = self._context.Pipe(duplex=False)
            try:
                self._pool = ProcessPoolExecutor(self._workers, self._context, _watch, (receiver,))
                return self._pool.submit(function, item)
            except OSError as error:
                # A BrokenPipeError would be taken for a reader of the output that has ended.
                raise WorkerLostError(
                    f"worker processes cannot be started: {error.strerror or error}; check that {sys.executable} is a Python"
                    " that runs here, or use executor='threads'"
                ) from None

    def stop(self, *, at_once: bool) -> None:
        """End the processes, ``at_once`` without waiting for their work: the next run removes what they were writing."""
        with without_interrupts():
            pool, stop, self._pool, self._stop = self._pool, self._stop, None, None
            if pool is None or stop is None:
                return
            if at_once:
                # Never received, so that every worker sees it.
                stop.send_bytes(b"stop")
            pool.shutdown(cancel_futures=True)
            stop.close()


def _watch(stop: Connection) -> None:
    """End this worker when it is asked to, or when its parent has ended for any reason."""
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        wait([stop, parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, name="datacheck-watch", daemon=True).start()
