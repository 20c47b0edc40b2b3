"""What a shard and a merge have in common: the same passes over the same items, and a folder of results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from datacheck._version import __version__
from datacheck.errors import UsageError
from datacheck.jobs.executors.local import UnitExecutor, map_in_order
from datacheck.jobs.sharding.result_codec import References
from datacheck.jobs.sharding.result_store import ResultStore, digest
from datacheck.jobs.stage import Stage
from datacheck.publishing.sealed_json import DamagedError
from datacheck.storage import storage_of

T = TypeVar("T")
R = TypeVar("R")

#: Chunks that are read at a time.
_NUM_READERS = 16


class SharedWork(UnitExecutor):
    """A process that shares a job with others by a folder of results; None for a folder in the job's output."""

    is_shared = True

    def __init__(self, results: str | None) -> None:
        self.results = results
        self._store: ResultStore | None = None
        self._passes: Counter[str] = Counter()

    @contextmanager
    def job(self, command: str, settings: Any, folder: str | None = None) -> Iterator[None]:
        """One job of a command with these settings; results go to ``folder`` unless one was given."""
        results = self.results or folder
        if results is None:
            raise UsageError(f"{command}: name the folder that the shards share for their results, with --results")
        before = self._store, self._passes
        self._store = ResultStore(results, f"{command}-{digest([__version__, settings])}")
        self._passes = Counter()
        try:
            yield
        finally:
            self._store, self._passes = before

    @property
    def store(self) -> ResultStore:
        assert self._store is not None, "a job begins with its settings"
        return self._store

    @property
    def exchange(self) -> str | None:
        return f"{self.store.folder}/{self.store.job}/exchange"

    def _begin_pass(self, stage: Stage, items: Sequence[Any]) -> str:
        """The name of the next pass."""
        self._passes[stage.name] += 1
        name = re.sub(r"\W+", "-", stage.name)
        return f"{name}-{self._passes[stage.name]}-{digest(items)}"

    def _read(self, name: str, chunk: int, items: Sequence[Any], stage: Stage) -> list[Any] | None:
        """The results of a chunk; None if they are damaged or no longer hold."""
        try:
            results = self.store.read(name, chunk, References.of(stage))
        except (OSError, DamagedError):
            return None
        is_whole = len(results) == len(items)
        return results if is_whole and (stage.is_valid is None or all(map(stage.is_valid, results))) else None

    def _read_ahead(
        self, read: Callable[[int], list[Any] | None], chunks: range
    ) -> Generator[list[Any] | None, None, None]:
        """The results of each chunk, several of which are read at once where each is a request."""
        is_local = storage_of(self.store.folder).local_path(self.store.folder) is not None
        return map_in_order(read, chunks, 1 if is_local else _NUM_READERS)


def merged_stage(stage: Stage) -> Stage:
    """The pass that merges what was found in another one."""
    is_valid = stage.is_valid
    are_valid = None if is_valid is None else lambda found: not isinstance(found, list) or all(map(is_valid, found))
    return replace(stage, name=f"merge {stage.name}", is_valid=are_valid)
