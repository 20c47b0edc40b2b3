"""How a job runs its units: on which executor, how many at a time, and who follows its progress."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from datacheck.jobs.executors.local import ExecutorLike, UnitExecutor, map_in_order, merge_spans
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.stage import Stage

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Execution:
    """Where units run.

    Attributes:
        workers: the number of units processed at a time; one per available processor, up to 16, by default.
        executor: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor``, or one for shards or Ray.
        progress: called as units finish.
    """

    workers: int | None = None
    executor: ExecutorLike = "threads"
    progress: Progress = field(default_factory=NullProgress)

    @property
    def is_shared(self) -> bool:
        """Whether this process has only a share in the job, or merges the shares of others."""
        return isinstance(self.executor, UnitExecutor) and self.executor.is_shared

    @property
    def travels(self) -> bool:
        """Whether results may travel to other machines, which may see the same files with other inodes."""
        return not isinstance(self.executor, str)

    @property
    def local(self) -> str:
        """The executor of this machine for items whose worker was lost."""
        return "threads" if self.executor == "threads" else "processes"

    @property
    def is_shard(self) -> bool:
        """Whether this process has only a share in the job."""
        return isinstance(self.executor, UnitExecutor) and self.executor.is_shard

    @property
    def exchange(self) -> str | None:
        """A folder in which workers may leave what is too large for a result; None where results stay in memory."""
        return self.executor.exchange if isinstance(self.executor, UnitExecutor) else None

    def job(self, command: str, settings: Any, folder: str | None = None) -> AbstractContextManager[None]:
        """One job of a command, for processes that share it: equal settings are the same job.

        ``folder`` is where its results may go, unless another one was given.
        """
        if isinstance(self.executor, UnitExecutor):
            return self.executor.job(command, settings, folder)
        return nullcontext()

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        lost: Callable[[T], R] | None = None,
        *,
        stage: Stage,
    ) -> Generator[R, None, None]:
        """The results of ``function`` for all items, in order; ``lost`` gives the result of an item that kills its worker."""
        if isinstance(self.executor, UnitExecutor):
            return self.executor.map(
                function, items, workers=self.workers, lost=lost, stage=stage, progress=self.progress
            )
        return map_in_order(function, items, self.workers, self.executor, lost=lost)

    def map_merged(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        spans: Sequence[range],
        merge: Callable[[range, Iterator[R]], M],
        lost: Callable[[T], R] | None = None,
        *,
        stage: Stage,
    ) -> Generator[M, None, None]:
        """Call ``function`` as :meth:`map` does, and yield what ``merge`` makes of the results of each span.

        ``spans`` follow each other. This process merges; where several share a job, one merges a span and the others read
        what it made.
        """
        if isinstance(self.executor, UnitExecutor):
            return self.executor.map_merged(
                function, items, spans, merge, workers=self.workers, lost=lost, stage=stage, progress=self.progress
            )
        return merge_spans(map_in_order(function, items, self.workers, self.executor, lost=lost), spans, merge)
