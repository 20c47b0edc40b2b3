"""``--shard i/n`` and ``merge``: one job in several processes, on any machines that see one folder, without any engine.

Every process runs the same job and makes the same passes over the same items. A shard does its own share of each pass
and writes the results to the folder. Where the next pass needs all of them, it reads the other shards' results there.
What nobody has done after a while, it does itself. So no shard waits for one that is killed, late or never started, and
no two processes need to run at the same time. A merge makes the same passes again, and finds every result in the
folder.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NoReturn, TypeVar

from datacheck.errors import DatacheckError, ShardFinished, UsageError
from datacheck.jobs.executors.local import ExecutorLike, map_in_order, merge_spans
from datacheck.jobs.progress import Progress
from datacheck.jobs.sharding.result_codec import References
from datacheck.jobs.sharding.result_store import ShardState, chunks_of
from datacheck.jobs.sharding.shared_work import SharedWork, merged_stage
from datacheck.jobs.stage import Stage
from datacheck.text import plain, quantity

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M")

#: Seconds without a new result after which a shard does what others should have done.
PATIENCE = 120.0
_LONGEST_PAUSE = 5.0
#: Claims to look into at once.
_MAX_BEGUN = 32
#: Chunks whose results are merged into one where there are more, for so many shards also those that are only put together.
_TOGETHER, _MANY_SHARDS = 64, 32


Run = Callable[[Iterable[Any]], Iterator[Any]]


@dataclass(slots=True)
class _Pass:
    """One pass of a job: its items in chunks, the chunks that are known to be done, and since when nothing new was."""

    name: str
    stage: Stage
    items: Sequence[Any]
    chunks: Sequence[range]
    found: set[int] = field(default_factory=set)
    quiet_since: float = field(default_factory=time.monotonic)
    #: Whether its items are units, and not what was found in some.
    of_units: bool = True

    @classmethod
    def of(cls, name: str, stage: Stage, items: Sequence[Any]) -> _Pass:
        return cls(name, stage, items, chunks_of(len(items)))

    def items_of(self, chunk: int) -> list[Any]:
        return [self.items[index] for index in self.chunks[chunk]]


class Shard(SharedWork):
    """The share ``index`` (from 1) of ``count`` of a job, as an executor. The job ends with :class:`ShardFinished`.

    Args:
        results: the folder of results that all shards share. ``run`` and ``clean`` have one in their output.
        executor: what runs the units of this shard.
        patience: seconds without a new result after which the work of other shards is done here.
    """

    is_shard = True

    def __init__(
        self,
        index: int,
        count: int,
        results: str | None = None,
        *,
        executor: ExecutorLike = "threads",
        patience: float = PATIENCE,
    ) -> None:
        if not 1 <= index <= count:
            raise UsageError(f"shard: expected 1/{count} to {count}/{count}, got {index}/{count}")
        super().__init__(results)
        self.index, self.count = index, count
        #: The units that were done here, and those that an earlier start of this shard had done.
        self._executor, self._patience = executor, patience
        self.num_done, self.num_known = 0, 0

    @classmethod
    def parse(cls, text: str, results: str | None = None, executor: ExecutorLike = "threads") -> Shard:
        """A shard from ``3/8``."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if found is None or int(found[2]) < 1:
            raise UsageError(f"--shard: expected INDEX/COUNT, such as 3/8, got {plain(text, 40)!r}")
        return cls(int(found[1]), int(found[2]), results, executor=executor)

    @property
    def name(self) -> str:
        return f"shard {self.index}/{self.count}"

    def __str__(self) -> str:
        known = f", {self.num_known:,} of them before" if self.num_known else ""
        return f"{self.name}: {quantity(self.num_done + self.num_known, 'unit')} done{known}"

    @contextmanager
    def job(self, command: str, settings: Any, folder: str | None = None) -> Iterator[None]:
        with super().job(command, settings, folder):
            self.store.announce(ShardState(self.index, self.count, is_finished=False))
            try:
                yield
            except ShardFinished:
                self.store.announce(ShardState(self.index, self.count, is_finished=True))
                raise
            self.store.announce(ShardState(self.index, self.count, is_finished=True))

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
        own_pass = self._begin(stage, list(items))
        run = self._runner(function, workers, lost)
        self._share(own_pass, progress, run)
        if stage.is_last:
            self._finish(own_pass, progress, run)
        if self.count >= _MANY_SHARDS and len(own_pass.chunks) > _TOGETHER:
            # Each of very many shards would ask for each of very many results.
            chunks = own_pass.chunks[::_TOGETHER]
            stops = [chunk.start for chunk in chunks[1:]] + [len(own_pass.items)]
            spans = [range(chunk.start, stop) for chunk, stop in zip(chunks, stops, strict=True)]
            for some in self._merged(own_pass, spans, lambda _, results: list(results), progress, run):
                yield from some
            return
        yield from self._results(own_pass, range(len(own_pass.chunks)), progress, run)

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
        if len(chunks_of(len(items))) <= _TOGETHER:
            results = self.map(function, items, workers=workers, lost=lost, stage=stage, progress=progress)
            yield from merge_spans(results, spans, merge)
            return
        own_pass = self._begin(stage, items)
        run = self._runner(function, workers, lost)
        self._share(own_pass, progress, run)
        yield from self._merged(own_pass, spans, merge, progress, run)

    def _begin(self, stage: Stage, items: Sequence[Any]) -> _Pass:
        return _Pass.of(self._begin_pass(stage, items), stage, items)

    def _runner(self, function: Callable[[T], R], workers: int | None, lost: Callable[[T], R] | None) -> Run:
        def run(todo: Iterable[T]) -> Iterator[R]:
            return map_in_order(function, todo, workers, self._executor, lost=lost)

        return run

    def _own(self, own_pass: _Pass) -> range:
        return range(self.index - 1, len(own_pass.chunks), self.count)

    def _share(self, own_pass: _Pass, progress: Progress, run: Run) -> None:
        """Do the share of this shard in a pass, but for what it had done before."""
        own = self._own(own_pass)
        found = self.store.finished(own_pass.name)
        done = {chunk for chunk in own if chunk in found and self._holds(own_pass, chunk)}
        if own_pass.of_units:
            self.num_known += sum(len(own_pass.chunks[chunk]) for chunk in done)
        for chunk in own:
            if chunk in found and chunk not in done:
                self.store.forget(own_pass.name, chunk)
        self._work(own_pass, [chunk for chunk in own if chunk not in done], progress, run)
        own_pass.found = self.store.finished(own_pass.name)

    def _finish(self, own_pass: _Pass, progress: Progress, run: Run) -> NoReturn:
        """Help the others until there is nothing left to begin, and end the job of this shard."""
        self._do_until(own_pass, self._own(own_pass), progress, run)
        while todo := self._help(own_pass):
            self._work(own_pass, todo, progress, run)
        raise ShardFinished(str(self))

    def _merged(
        self,
        own_pass: _Pass,
        spans: Sequence[range],
        merge: Callable[[range, Iterator[Any]], M],
        progress: Progress,
        run: Run,
    ) -> Generator[M, None, None]:
        """A pass over what another one has found: each span is merged by one shard, and the others read what that made."""
        # A shard that has begun to merge does not wait: others would think that it is lost.
        self._do_until(own_pass, range(len(own_pass.chunks)), progress, run)

        def run_merge(todo: Iterable[tuple[str, range]]) -> Iterator[M]:
            for _, span in todo:
                yield merge(span, self._results_of(own_pass, span, progress, run))

        stage = merged_stage(own_pass.stage)
        merged_pass = self._begin(stage, [(own_pass.name, span) for span in spans])
        merged_pass.of_units = False
        self._share(merged_pass, progress, run_merge)
        if stage.is_last:
            self._finish(merged_pass, progress, run_merge)
        yield from self._results(merged_pass, range(len(merged_pass.chunks)), progress, run_merge)

    def _results_of(self, own_pass: _Pass, span: range, progress: Progress, run: Run) -> Iterator[Any]:
        """The results of some items."""
        size = len(own_pass.chunks[0])
        chunks = range(span.start // size, -(-span.stop // size))
        results = self._results(own_pass, chunks, progress, run)
        return islice(results, span.start - chunks.start * size, span.stop - chunks.start * size)

    def _results(self, own_pass: _Pass, chunks: range, progress: Progress, run: Run) -> Generator[Any, None, None]:
        """The results of some chunks, in order; what is not there yet is waited for, and in the end done here."""
        with closing(self._read_ahead(partial(self._read_chunk, own_pass), chunks)) as read:
            for chunk, results in zip(chunks, read, strict=True):
                while results is None:
                    self._do_until(own_pass, [chunk], progress, run)
                    results = self._read_chunk(own_pass, chunk)
                yield from results

    def _read_chunk(self, own_pass: _Pass, chunk: int) -> list[Any] | None:
        """The results of a chunk; None if they are not there, or not whole."""
        if chunk not in own_pass.found:
            return None
        results = self._read(own_pass.name, chunk, own_pass.items_of(chunk), own_pass.stage)
        if results is None:
            self.store.forget(own_pass.name, chunk)
            own_pass.found.discard(chunk)
        return results

    def _holds(self, own_pass: _Pass, chunk: int) -> bool:
        """Whether results of an earlier start of this shard stand: what could not be read is tried again."""
        results = self._read(own_pass.name, chunk, own_pass.items_of(chunk), own_pass.stage)
        return results is not None and not any(_has_error(result) for result in results)

    def _work(
        self,
        own_pass: _Pass,
        todo: Sequence[int],
        progress: Progress,
        run: Run,
        *,
        force: bool = False,
    ) -> None:
        """Do chunks that no other shard has done or is doing, each written when it is done."""
        if not todo:
            return
        stage = own_pass.stage
        progress.start(f"{stage.name} ({self.name})", sum(len(own_pass.chunks[chunk]) for chunk in todo), 0)
        begun: deque[int] = deque()

        def items() -> Iterator[Any]:
            for chunk in todo:
                if not self.store.has(own_pass.name, chunk) and (force or self._claim(own_pass, chunk)):
                    begun.append(chunk)
                    yield from own_pass.items_of(chunk)

        failure: DatacheckError | None = None
        found: list[Any] = []
        for result in run(items()):
            found.append(result)
            progress.advance(1, 0, 0)
            failure = failure or _first(result, "failure")
            if len(found) == len(own_pass.chunks[begun[0]]):
                self.store.write(own_pass.name, begun.popleft(), found, References.of(stage))
                self.num_done += len(found) if own_pass.of_units else 0
                found = []
        if failure is not None:
            raise failure

    def _claim(self, own_pass: _Pass, chunk: int) -> bool:
        """Whether a chunk is ours, as are the chunks of shards that have stopped."""
        owner = self.store.claim(own_pass.name, chunk, (self.index, self.count))
        return owner in (None, (self.index, self.count)) or owner not in self._at_work()

    def _do_until(self, own_pass: _Pass, wanted: Sequence[int], progress: Progress, run: Run) -> None:
        """Wait for chunks, and do meanwhile what others have not come to; in the end whatever no other shard seems to do."""
        pause = 0.1
        while True:
            found, claimed = self.store.progress(own_pass.name)
            if found - own_pass.found:
                own_pass.found, own_pass.quiet_since = found | own_pass.found, time.monotonic()
            if own_pass.found.issuperset(wanted):
                return
            is_alone = not self._at_work()
            if time.monotonic() - own_pass.quiet_since > self._patience or is_alone:
                missing = [chunk for chunk in range(len(own_pass.chunks)) if chunk not in own_pass.found]
                # Each shard begins elsewhere, so that several that have run out of patience do not all do the same.
                todo = [missing[(self.index - 1) * len(missing) // self.count]]
                self._work(own_pass, missing if is_alone else todo, progress, run, force=True)
            elif todo := self._help(own_pass, claimed):
                self._work(own_pass, todo, progress, run)
            else:
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)
                continue
            own_pass.found |= self.store.finished(own_pass.name)

    def _help(self, own_pass: _Pass, claimed: set[int] | None = None) -> list[int]:
        """A chunk that a shard at work has not come to yet: from the end, since each does its own in order."""
        if claimed is None:
            own_pass.found, claimed = self.store.progress(own_pass.name)
        taken = own_pass.found | claimed
        last: dict[int, int] = {}
        if len(taken) < len(own_pass.chunks):
            at_work = {index for index, count in self._at_work() if count == self.count}
            for chunk in sorted(set(range(len(own_pass.chunks))) - taken):
                if chunk % self.count + 1 in at_work:
                    last[chunk % self.count + 1] = chunk
        free = [last[index] for index in sorted(last)]
        if free:
            return [free[(self.index - 1) * len(free) // self.count]]
        # What this shard had begun before it was killed is waited for by all.
        begun = sorted(claimed - own_pass.found)[:_MAX_BEGUN]
        return [chunk for chunk in begun if self.store.owner(own_pass.name, chunk) == (self.index, self.count)]

    def _at_work(self) -> set[tuple[int, int]]:
        """The other shards that have started and not finished, as far as one can tell."""
        mine = self.index, self.count
        found = {(one.index, one.count) for one in self.store.shards() if not one.is_finished}
        return found - {mine}


def _has_error(result: Any) -> bool:
    return isinstance(result, DatacheckError) or any(_first(result, name) is not None for name in ("error", "failure"))


def _first(result: Any, name: str) -> Any:
    """An attribute of a result; of a group of results, the attribute of the first, which has what was found in all."""
    return getattr(result[0] if isinstance(result, list) and result else result, name, None)
