"""How a job runs its units: on which executor, how many at a time, and who follows its progress."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.progress import NullProgress, Progress

__all__ = ["Execution"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Execution:
    """Where units run.

    Attributes:
        workers: the number of units processed at a time; one per available processor, up to 16, by default.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: called as units finish.
    """

    workers: int | None = None
    executor: ExecutorLike = "threads"
    progress: Progress = field(default_factory=NullProgress)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], lost: Callable[[T], R] | None = None
    ) -> Generator[R, None, None]:
        """The results of ``function`` for all items, in order; ``lost`` gives that of an item that ends its worker."""
        return map_in_order(function, items, self.workers, self.executor, lost=lost)
