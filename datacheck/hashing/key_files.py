"""Files of hashes, in partitions: equal hashes are in the same partition, so that each can be searched by itself.

Units of work write them where several processes share a job, and whoever has time searches a range of partitions. Neither the
hashes nor anything that grows with the rows is ever in one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from datacheck.errors import WorkerLostError
from datacheck.hashing.numbers import Hashes
from datacheck.leaves import IntArray
from datacheck.storage import open_file, storage_of
from datacheck.text import plain

#: Partitions, by the first bits of a hash: the least that is read at once. A file of few rows has fewer, so that what the
#: process that merges has in memory of each unit is small, too: neighbours are one partition, of this many rows or more.
_BITS = 8
_NUM_PARTITIONS = 1 << _BITS
_LEAST_ROWS = 64
#: Rows that are searched together. Larger partitions are searched in parts, each of which reads the partition once.
_ROWS_AT_ONCE = 1 << 22
_PART_BITS = 16
_NO_GROUP = -1


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The hashes of one key in a part of a dataset's file, by partition: where each begins, in rows, and its checksum.

    There are 256 partitions, or for few rows a smaller power of two. Each hash has ``num_words`` of 64 bits.
    ``num_unknown`` further rows have no hash. ``first_rows`` are the first rows of runs of rows, which are in
    ``row_groups``; -1 for none. ``last_row`` is the last of all rows, and ``offset`` where the first partition begins in
    the file, which has all hashes of a unit.
    """

    key: tuple[str, ...]
    uri: str
    starts: npt.NDArray[np.uint32]
    checksums: npt.NDArray[np.uint32]
    num_unknown: int
    first_rows: IntArray
    row_groups: npt.NDArray[np.int32]
    num_words: int = 2
    last_row: int = -1
    offset: int = 0

    @property
    def num_rows(self) -> int:
        return int(self.starts[-1])

    @property
    def num_together(self) -> int:
        """How many of the 256 partitions are one here."""
        return _NUM_PARTITIONS // (len(self.starts) - 1)

    def groups_of(self, rows: IntArray) -> list[int | None]:
        """The row group of each row."""
        groups = self.row_groups[np.searchsorted(self.first_rows, rows, side="right") - 1].tolist()
        return [None if group == _NO_GROUP else group for group in groups]


def record_of(num_words: int) -> np.dtype[Any]:
    """What a file has of each row."""
    return np.dtype([("hash", "<u8", (num_words,)), ("row", "<i8")])


def are_there(files: Sequence[KeyFile]) -> bool:
    """Whether all of these, some of which share a file, are still there."""
    ends = {file.uri: file.offset + file.num_rows * record_of(file.num_words).itemsize for file in files}
    try:
        return all(storage_of(uri).stat(uri).fingerprint.size == end for uri, end in ends.items())
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Keyed:
    """The hashes of rows, ``(rows,)`` or ``(rows, words)``; ``runs`` are the first rows of row groups, with these."""

    key: tuple[str, ...]
    hashes: Hashes
    rows: IntArray
    runs: Sequence[tuple[int, int | None]]
    num_unknown: int = 0


def write_key_files(uri: str, keyed: Iterable[Keyed]) -> tuple[KeyFile, ...]:
    """Write the hashes of a unit to one file."""
    files: list[KeyFile] = []
    contents: list[memoryview] = []
    for one in keyed:
        file, content = _arrange(one, uri, sum(map(len, contents)))
        files.append(file)
        contents.append(content)
    if files:
        put(uri, b"".join(contents))
    return tuple(files)


def _arrange(keyed: Keyed, uri: str, offset: int) -> tuple[KeyFile, memoryview]:
    """The hashes in order of their partitions, as they will be in a file from ``offset`` on."""
    hashes = keyed.hashes[:, np.newaxis] if keyed.hashes.ndim == 1 else keyed.hashes
    record = record_of(hashes.shape[1])
    records = np.empty(len(keyed.rows), record)
    records["hash"], records["row"] = hashes, keyed.rows
    bits = min(_BITS, max(1, len(records) // _LEAST_ROWS).bit_length() - 1)
    partitions = _partitions_of(records) >> np.uint8(_BITS - bits)
    order = np.argsort(partitions, kind="stable")
    starts = np.searchsorted(partitions[order], np.arange((1 << bits) + 1))
    content = memoryview(records[order].tobytes())
    size = record.itemsize
    parts = [content[first * size : stop * size] for first, stop in pairwise(starts.tolist())]
    file = KeyFile(
        keyed.key,
        uri,
        starts.astype(np.uint32),
        np.array([zlib.crc32(part) for part in parts], np.uint32),
        keyed.num_unknown,
        np.array([first for first, _ in keyed.runs], np.int64),
        np.array([_NO_GROUP if group is None else group for _, group in keyed.runs], np.int32),
        hashes.shape[1],
        int(keyed.rows.max()) if len(keyed.rows) else -1,
        offset,
    )
    return file, content


def _partitions_of(records: Any) -> npt.NDArray[np.uint8]:
    """Which of the 256 partitions each record is in."""
    found: npt.NDArray[np.uint8] = (records["hash"][:, 0] >> np.uint64(64 - _BITS)).astype(np.uint8)
    return found


def put(uri: str, content: bytes) -> None:
    """Write a file for other processes of the job, and its folder."""
    storage, folder = storage_of(uri), uri.rpartition("/")[0]
    storage.make_folder(folder)
    storage.put(uri, content)


@dataclass(frozen=True, slots=True)
class Range:
    """What is searched at once: neighbouring partitions, or one of ``count`` parts of a large one."""

    first: int
    stop: int
    part: int
    count: int


def ranges_of(files: Sequence[KeyFile]) -> list[Range]:
    """The ranges of hashes to search in files: of one dataset, or of two that are compared."""
    sizes = np.zeros(_NUM_PARTITIONS)
    for file in files:
        # Partitions that are one in this file are taken to have equally many rows: exact, for their number is a power of two.
        sizes += np.repeat(np.diff(file.starts.astype(np.int64)) / file.num_together, file.num_together)
    found, first, rows = [], 0, 0
    for partition, size in enumerate(np.ceil(sizes).astype(np.int64).tolist()):
        if partition > first and rows + size > _ROWS_AT_ONCE:
            found.append((first, partition, rows))
            first, rows = partition, 0
        rows += size
    found.append((first, _NUM_PARTITIONS, rows))
    return [
        Range(first, stop, part, count)
        for first, stop, rows in found
        for count in [max(1, -(-rows // _ROWS_AT_ONCE))]
        for part in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Records:
    """The hashes of a range, of several files in their order: in each file the rows of equal hashes are in order, too."""

    hashes: Hashes
    rows: IntArray
    #: Where the records of each file end.
    ends: IntArray

    def owners(self, positions: IntArray) -> IntArray:
        """The file of each of some records."""
        return np.searchsorted(self.ends, positions, side="right")


def read_range(files: Sequence[KeyFile], wanted: Range) -> Records:
    """The hashes of a range; ``(rows,)`` where they have one word. Raises ``WorkerLostError`` for a damaged file."""
    records = [_read(file, wanted) for file in files]
    ends = np.cumsum([len(one) for one in records]).astype(np.int64)
    if not records:
        return Records(np.empty(0, np.uint64), np.empty(0, np.int64), ends)
    hashes = np.concatenate([one["hash"] for one in records])
    rows = np.concatenate([one["row"] for one in records])
    return Records(hashes[:, 0] if hashes.shape[1] == 1 else hashes, rows, ends)


def read_rows(file: KeyFile) -> IntArray:
    """The rows of a file, in order."""
    rows: IntArray = np.sort(_read(file, Range(0, _NUM_PARTITIONS, 0, 1))["row"])
    return rows


def _read(file: KeyFile, wanted: Range) -> Any:
    """The hashes of some partitions, or of one part of them where they are divided."""
    record = record_of(file.num_words)
    size = record.itemsize
    together = file.num_together
    first, stop = wanted.first // together, -(-wanted.stop // together)
    start, end = int(file.starts[first]) * size, int(file.starts[stop]) * size
    content = memoryview(read_at(file.uri, file.offset + start, end - start))
    for partition in range(first, stop):
        low, high = (int(file.starts[one]) * size - start for one in (partition, partition + 1))
        if zlib.crc32(content[low:high]) != file.checksums[partition]:
            raise damaged(file.uri)
    # Of several ranges of one file the order of the dataset is kept within each partition, and equal keys share one.
    records = np.frombuffer(content, record)
    if (first * together, stop * together) != (wanted.first, wanted.stop):
        partitions = _partitions_of(records)
        records = records[(partitions >= wanted.first) & (partitions < wanted.stop)]
    if wanted.count == 1:
        return records
    bits = records["hash"][:, 0] << np.uint64(_BITS) >> np.uint64(64 - _PART_BITS)
    return records[(bits * np.uint64(wanted.count) >> np.uint64(_PART_BITS)) == wanted.part]


def read_at(uri: str, start: int, length: int) -> bytes:
    """Some bytes of a file that another process of the job has written. Raises ``WorkerLostError``."""
    if not length:
        return b""
    try:
        with open_file(uri) as opened:
            content = opened.read_at(start, length)
    except FileNotFoundError:
        raise damaged(uri) from None
    if len(content) != length:
        raise damaged(uri)
    return content


def damaged(uri: str) -> WorkerLostError:
    """The error of a file that another process of the job has written."""
    return WorkerLostError(f"{plain(uri)}: is damaged; remove the folder of results, and start again")


#: What is known of some rows of a unit: their numbers, and how often something is there.
_COUNT = np.dtype([("row", "<i8"), ("count", "<i8")])
_PLACE = np.dtype([("stop", "<i8"), ("checksum", "<u4")])


def write_counts(uri: str, records: Records, positions: IntArray, counts: IntArray | int) -> None:
    """Write what is known of some records, in order, by the files that these are of."""
    found = np.empty(len(positions), _COUNT)
    found["row"], found["count"] = records.rows[positions], counts
    places = np.empty(len(records.ends), _PLACE)
    places["stop"] = np.searchsorted(positions, records.ends)
    content = memoryview(found.tobytes())
    stops = [0, *(places["stop"] * _COUNT.itemsize).tolist()]
    places["checksum"] = [zlib.crc32(content[start:stop]) for start, stop in pairwise(stops)]
    put(uri, places.tobytes() + bytes(content))


def read_counts(uri: str, number: int, num_files: int) -> Any:
    """What :func:`write_counts` wrote of the file at position ``number`` of ``num_files``: ``row`` and ``count``."""
    before = min(1, number)
    head = read_at(uri, (number - before) * _PLACE.itemsize, (1 + before) * _PLACE.itemsize)
    places = np.frombuffer(head, _PLACE)
    start, stop = int(places["stop"][0]) if before else 0, int(places["stop"][-1])
    content = read_at(uri, num_files * _PLACE.itemsize + start * _COUNT.itemsize, (stop - start) * _COUNT.itemsize)
    if zlib.crc32(content) != places["checksum"][-1]:
        raise damaged(uri)
    return np.frombuffer(content, _COUNT)
