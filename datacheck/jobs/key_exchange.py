"""Unique keys of a dataset that no process reads alone: units write the hashes of their keys to files, in partitions.

Equal keys are in the same partition. So each partition is searched by itself, by whoever has time, and what comes back are
the rows that repeat a key: neither the hashes nor anything that grows with the rows is ever in one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np

from datacheck.errors import WorkerLostError
from datacheck.hashing.keys import KeyHashes
from datacheck.hashing.store import repeated_positions
from datacheck.jobs.execution import Execution
from datacheck.jobs.file_results import DuplicateRows, Duplicates
from datacheck.jobs.sharding.result_store import digest
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.scan import KeyFile, UnitScan
from datacheck.leaves import IntArray
from datacheck.storage import open_file, storage_of
from datacheck.text import plain

T = TypeVar("T")

#: Partitions, by the first bits of a hash: the least that is read at once.
_BITS = 8
_NUM_PARTITIONS = 1 << _BITS
#: Rows that are searched together. Larger partitions are searched in parts, each of which reads the partition once.
_ROWS_AT_ONCE = 1 << 22
_PART_BITS = 16
_RECORD = np.dtype([("hash", "<u8", 2), ("row", "<i8")])
_NO_GROUP = -1


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
        files = tuple(_write(found.keys, f"{self.folder}/{digest([item])}"))
        return replace(found, keys=(), key_files=files)


def has_key_files(unit: UnitScan) -> bool:
    """Whether the files with the keys of a unit are still there."""
    try:
        return all(
            storage_of(one.uri).stat(one.uri).fingerprint.size == one.num_rows * _RECORD.itemsize
            for one in unit.key_files
        )
    except OSError:
        return False


def _write(batches: Sequence[KeyHashes], stem: str) -> Iterator[KeyFile]:
    """Write the hashes of each key to a file of its own."""
    folder = stem.rpartition("/")[0]
    for number, key in enumerate(dict.fromkeys(one.key for one in batches)):
        of_key = [one for one in batches if one.key == key]
        records = np.empty(sum(len(one.rows) for one in of_key), _RECORD)
        records["hash"] = np.concatenate([one.hashes for one in of_key])
        records["row"] = np.concatenate([one.rows for one in of_key])
        partitions = records["hash"][:, 0] >> np.uint64(64 - _BITS)
        order = np.argsort(partitions.astype(np.uint8), kind="stable")
        starts = np.searchsorted(partitions[order], np.arange(_NUM_PARTITIONS + 1, dtype=np.uint64))
        content = memoryview(records[order].tobytes())
        size = _RECORD.itemsize
        parts = [content[first * size : stop * size] for first, stop in pairwise(starts.tolist())]
        uri = f"{stem}-{number}"
        storage_of(folder).make_folder(folder)
        storage_of(folder).put(uri, bytes(content))
        with_rows = [one for one in of_key if len(one.rows)]
        yield KeyFile(
            key,
            uri,
            starts.astype(np.uint32),
            np.array([zlib.crc32(part) for part in parts], np.uint32),
            sum(one.num_unknown for one in of_key),
            np.array([one.rows[0] for one in with_rows], np.int64),
            np.array([_NO_GROUP if one.row_group is None else one.row_group for one in with_rows], np.int32),
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
                groups = [group for rows, file in parts for group in _row_groups(rows, file)]
                rows = np.concatenate([rows for rows, _ in parts])
                yield DuplicateRows(key, uri, rows, tuple(groups), num_rows[uri])


def _row_groups(rows: IntArray, file: KeyFile) -> list[int | None]:
    groups = file.row_groups[np.searchsorted(file.first_rows, rows, side="right") - 1].tolist()
    return [None if group == _NO_GROUP else group for group in groups]


def _search_all(
    files: Sequence[Sequence[KeyFile]], execution: Execution, *, is_last: bool
) -> list[Mapping[int, IntArray]]:
    """For each key and file of it, by its position, the rows that repeat a key of an earlier row of the dataset, sorted."""
    parts = [(number, *part) for number, of_key in enumerate(files) for part in _parts(of_key)]
    found: list[dict[int, list[IntArray]]] = [{} for _ in files]
    searched = execution.map(partial(_search, files=files), parts, stage=Stage("compare keys", is_last=is_last))
    for part, rows in zip(parts, searched, strict=False):
        for position, some in rows:
            found[part[0]].setdefault(position, []).append(some)
    # A shard is done with this pass, although no result of it may be asked for.
    next(searched, None)
    return [{position: np.sort(np.concatenate(one[position])) for position in sorted(one)} for one in found]


def _parts(files: Iterable[KeyFile]) -> list[tuple[int, int, int, int]]:
    """What is searched at once: neighbouring partitions, or one of several parts of a large one."""
    sizes = np.diff(np.sum([file.starts.astype(np.int64) for file in files], axis=0))
    found, first, rows = [], 0, 0
    for partition, size in enumerate(sizes.tolist()):
        if partition > first and rows + size > _ROWS_AT_ONCE:
            found.append((first, partition, rows))
            first, rows = partition, 0
        rows += size
    found.append((first, _NUM_PARTITIONS, rows))
    return [
        (first, stop, part, count)
        for first, stop, rows in found
        for count in [max(1, -(-rows // _ROWS_AT_ONCE))]
        for part in range(count)
    ]


def _search(wanted: tuple[int, int, int, int, int], files: Sequence[Sequence[KeyFile]]) -> list[tuple[int, IntArray]]:
    """The rows of each file that repeat a key, in some partitions of one key, or in a part of these."""
    number, first, stop, part, count = wanted
    records = [_read(file, first, stop, part, count) for file in files[number]]
    ends = np.cumsum([len(one) for one in records])
    hashes, rows = (np.concatenate([one[name] for one in records]) for name in ("hash", "row"))
    del records
    repeated = np.sort(repeated_positions(hashes))
    owners = np.searchsorted(ends, repeated, side="right")
    return [(owner, rows[repeated[owners == owner]]) for owner in np.unique(owners).tolist()]


def _read(file: KeyFile, first: int, stop: int, part: int, count: int) -> Any:
    """The hashes of some partitions, or of one part of them where they are divided."""
    size = _RECORD.itemsize
    start, end = int(file.starts[first]) * size, int(file.starts[stop]) * size
    with open_file(file.uri) as opened:
        content = memoryview(opened.read_at(start, end - start))
    for partition in range(first, stop):
        low, high = (int(file.starts[one]) * size - start for one in (partition, partition + 1))
        if len(content) != end - start or zlib.crc32(content[low:high]) != file.checksums[partition]:
            raise WorkerLostError(f"{plain(file.uri)}: is damaged; remove the folder of results, and start again")
    # Of several ranges of one file the order of the dataset is kept within each partition, and equal keys share one.
    records = np.frombuffer(content, _RECORD)
    if count == 1:
        return records
    bits = records["hash"][:, 0] << np.uint64(_BITS) >> np.uint64(64 - _PART_BITS)
    return records[(bits * np.uint64(count) >> np.uint64(_PART_BITS)) == part]
