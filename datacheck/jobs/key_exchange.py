"""Unique keys of a dataset that no process reads alone: units write the hashes of their keys to files, in partitions.

Equal keys are in the same partition. So each partition is searched by itself, by whoever has time, and what comes back are
the rows that repeat a key: neither the hashes nor anything that grows with the rows is ever in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from datacheck.hashing.key_files import Keyed, KeyFile, Range, are_there, ranges_of, read_range, write_key_files
from datacheck.hashing.keys import KeyHashes
from datacheck.hashing.store import repeated_positions
from datacheck.jobs.execution import Execution
from datacheck.jobs.file_results import DuplicateRows, Duplicates
from datacheck.jobs.sharding.result_store import digest
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.scan import UnitScan
from datacheck.leaves import IntArray
from datacheck.storage import storage_of

T = TypeVar("T")


def find_repeated_keys(execution: Execution, *, is_last: bool = False) -> Duplicates | ExchangedDuplicates:
    """What finds the rows that repeat a key: through a folder, where several processes share the work and have one.

    ``is_last`` says that a shard is done then.
    """
    folder = execution.exchange
    return Duplicates() if folder is None else ExchangedDuplicates(f"{folder}/keys", execution, is_last=is_last)


def with_keys_in_files(scan: Callable[[T], UnitScan], execution: Execution) -> Callable[[T], UnitScan]:
    """``scan``, which leaves the hashes of keys in files if there is a folder for them."""
    return scan if execution.exchange is None else _KeysInFiles(scan, f"{execution.exchange}/keys")


@dataclass(frozen=True, slots=True)
class _KeysInFiles(Generic[T]):
    scan: Callable[[T], UnitScan]
    folder: str

    def __call__(self, item: T) -> UnitScan:
        found = self.scan(item)
        if not found.keys:
            return found
        files = write_key_files(f"{self.folder}/{digest([item])}", _by_key(found.keys))
        return replace(found, keys=(), key_files=files)


def has_key_files(unit: UnitScan) -> bool:
    """Whether the files with the keys of a unit are still there."""
    return are_there(unit.key_files)


def _by_key(batches: Sequence[KeyHashes]) -> Iterator[Keyed]:
    """The hashes of each key."""
    for key in dict.fromkeys(one.key for one in batches):
        of_key = [one for one in batches if one.key == key]
        yield Keyed(
            key,
            np.concatenate([one.hashes for one in of_key]),
            np.concatenate([one.rows for one in of_key]),
            [(int(one.rows[0]), one.row_group) for one in of_key if len(one.rows)],
            sum(one.num_unknown for one in of_key),
        )


class ExchangedDuplicates:
    """As :class:`~datacheck.jobs.file_results.Duplicates`, of units whose keys are in files."""

    def __init__(self, folder: str, execution: Execution, *, is_last: bool) -> None:
        self._folder, self._execution, self._is_last = folder, execution, is_last
        self._files: dict[tuple[str, ...], list[tuple[str, KeyFile]]] = {}

    def __enter__(self) -> ExchangedDuplicates:
        return self

    def __exit__(self, *_: object) -> None:
        # Other processes that share the job may still need the files.
        if not self._execution.is_shared:
            storage_of(self._folder).delete_folder(self._folder)

    def add(self, uri: str, unit: UnitScan) -> None:
        """Add the keys of the next unit, in the order of the dataset."""
        for file in unit.key_files:
            self._files.setdefault(file.key, []).append((uri, file))

    def rows(self) -> Iterator[DuplicateRows]:
        """The rows that repeat an earlier key, by key and file."""
        of_keys = [[file for _, file in files] for files in self._files.values()]
        repeated = _search_all(of_keys, self._execution, is_last=self._is_last)
        for (key, files), by_file in zip(self._files.items(), repeated, strict=True):
            num_rows: dict[str, int] = {}
            found: dict[str, list[tuple[IntArray, KeyFile]]] = {}
            for position, (uri, file) in enumerate(files):
                num_rows[uri] = num_rows.get(uri, 0) + file.num_rows + file.num_unknown
                if position in by_file:
                    found.setdefault(uri, []).append((by_file[position], file))
            for uri, parts in found.items():
                groups = [group for rows, file in parts for group in file.groups_of(rows)]
                rows = np.concatenate([rows for rows, _ in parts])
                yield DuplicateRows(key, uri, rows, tuple(groups), num_rows[uri])


def _search_all(
    files: Sequence[Sequence[KeyFile]], execution: Execution, *, is_last: bool
) -> list[Mapping[int, IntArray]]:
    """For each key and file of it, by its position, the rows that repeat a key of an earlier row of the dataset, sorted."""
    parts = [(number, wanted) for number, of_key in enumerate(files) for wanted in ranges_of(of_key)]
    found: list[dict[int, list[IntArray]]] = [{} for _ in files]
    searched = execution.map(partial(_search, files=files), parts, stage=Stage("compare keys", is_last=is_last))
    for (number, _), rows in zip(parts, searched, strict=False):
        for position, some in rows:
            found[number].setdefault(position, []).append(some)
    # A shard is done with this pass, although no result of it may be asked for.
    next(searched, None)
    return [{position: np.sort(np.concatenate(one[position])) for position in sorted(one)} for one in found]


def _search(wanted: tuple[int, Range], files: Sequence[Sequence[KeyFile]]) -> list[tuple[int, IntArray]]:
    """The rows of each file that repeat a key, in a range of one key."""
    number, part = wanted
    records = read_range(files[number], part)
    repeated = np.sort(repeated_positions(records.hashes))
    owners = records.owners(repeated)
    return [(owner, records.rows[repeated[owners == owner]]) for owner in np.unique(owners).tolist()]
