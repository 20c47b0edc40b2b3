"""``datacheck merge``: the results of shards put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from datacheck.errors import OutputError
from datacheck.jobs.progress import Progress
from datacheck.jobs.sharding.result_store import chunks_of
from datacheck.jobs.sharding.shared_work import SharedWork, merged_stage
from datacheck.jobs.stage import Stage, name_of_item
from datacheck.text import plain, quantity

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M")

_MAX_SHOWN, _MAX_SHARDS_SHOWN = 5, 50


class Merge(SharedWork):
    """Merges what shards have done, as an executor that does nothing itself. ``results`` is as for :class:`Shard`."""

    def __init__(self, results: str | None = None) -> None:
        super().__init__(results)

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
        passes = self._passes.copy()
        name, merged = self._begin_pass(stage, items), merged_stage(stage)
        pairs = [(name, span) for span in spans]
        merged_name = self._begin_pass(merged, pairs)
        if len(self.store.finished(merged_name)) == len(chunks_of(len(pairs))):
            return self._read_all(merged_name, merged, pairs)
        self._passes = passes
        return super().map_merged(
            function, items, spans, merge, workers=workers, lost=lost, stage=stage, progress=progress
        )

    def map(
        self,
        function: Callable[[T], R],  # noqa: ARG002 - every result is there
        items: Iterable[T],
        *,
        workers: int | None,  # noqa: ARG002
        lost: Callable[[T], R] | None,  # noqa: ARG002
        stage: Stage,
        progress: Progress,  # noqa: ARG002
    ) -> Generator[R, None, None]:
        every = list(items)
        name = self._begin_pass(stage, every)
        chunks = chunks_of(len(every))
        found = self.store.finished(name)
        if missing := [chunk for chunk in range(len(chunks)) if chunk not in found]:
            raise self._incomplete(stage, missing, every, "without a result")

        yield from self._read_all(name, stage, every)

    def _read_all(self, name: str, stage: Stage, items: Sequence[Any]) -> Generator[Any, None, None]:
        """The results of all items of a pass."""
        chunks = chunks_of(len(items))

        def read(chunk: int) -> list[Any] | None:
            return self._read(name, chunk, [items[index] for index in chunks[chunk]], stage)

        with closing(self._read_ahead(read, range(len(chunks)))) as ahead:
            for chunk, results in enumerate(ahead):
                if results is None:
                    self.store.forget(name, chunk)
                    raise self._incomplete(stage, [chunk], items, "with a damaged result")
                yield from results

    def _incomplete(self, stage: Stage, missing: Sequence[int], items: Sequence[Any], problem: str) -> OutputError:
        """What is missing, and which shards to run."""
        chunks = chunks_of(len(items))
        shards = self.store.shards()
        place = plain(self.store.folder)
        if not shards:
            others = self.store.other_jobs()
            reason = "holds results of other settings, files or versions only" if others else "holds no results"
            return OutputError(f"{place}: {reason}; run the shards first: the same command with --shard 1/N to N/N")
        # The division with the most started shards, if there are several.
        count = max(Counter(one.count for one in shards).items(), key=lambda item: item[::-1])[0]
        wanted = sorted({chunk % count + 1 for chunk in missing})
        started = {one.index: one.is_finished for one in shards if one.count == count}
        states = [f"{index}/{count} ({_state_of(started.get(index))})" for index in wanted]
        units = [items[index] for chunk in missing for index in chunks[chunk]]
        names = [plain(name_of_item(unit), 200) for unit in units[:_MAX_SHOWN]]
        return OutputError(
            f"{place}: {quantity(len(units), 'unit')} of {len(items):,} to {stage.name} {problem}:"
            f" {_list(names, len(units))}; run the same command with --shard"
            f" {_list(states[:_MAX_SHARDS_SHOWN], len(states))}, then merge again"
        )


def _list(shown: Sequence[str], total: int) -> str:
    return ", ".join(shown) + (f" and {total - len(shown):,} more" if total > len(shown) else "")


def _state_of(is_finished: bool | None) -> str:
    return "never started" if is_finished is None else "finished" if is_finished else "started, not finished"
