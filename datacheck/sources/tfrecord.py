"""TFRecord: records with checksums of their length and of their bytes, both verified; ``tf.train.Example`` as columns."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column, MalformedRow, RawRecords
from datacheck.errors import SourceError
from datacheck.sources.base import (
    REWRITE_FILE,
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
)
from datacheck.sources.error_translation import (
    check_bytes,
    check_members,
    check_records,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.optional import import_library
from datacheck.sources.packed import ByteStream, is_packed, open_packed
from datacheck.sources.tf_example import ExampleColumns, Layout, layout_of, parsed_size
from datacheck.storage.base import Fingerprint
from datacheck.storage.registry import open_file

#: The column of records that are no ``tf.train.Example``.
OPAQUE = "record"
#: How many records tell which features have one value each: fewer where they are large.
_NUM_FIRST, _LEAST_FIRST, _FIRST_BYTES = 256, 32, 8 << 20
_MAX_BATCH_RECORDS = 8192
#: Whether a record of this size can be parsed is looked at before it is; a smaller one takes some megabytes at most.
_LARGE_RECORD = 1 << 16
#: Records of this size, and what is made of them, go to memory that the batch before has used; larger ones to new pages.
_BATCH_BYTES = 2 << 20
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


def masked_crc(data: bytes, crc32c: Callable[[bytes], int]) -> int:
    """The checksum of a record, masked as TensorFlow does."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


def frame(data: bytes, crc32c: Callable[[bytes], int]) -> bytes:
    """A record as it is in a file: its length, the checksum of that, the bytes, and theirs."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        [length, _CHECKSUM.pack(masked_crc(length, crc32c)), data, _CHECKSUM.pack(masked_crc(data, crc32c))]
    )


def is_tfrecord(uri: str, head: bytes) -> bool:
    """Whether the first record of a file has a valid checksum of its length, if the library for it is installed."""
    if len(head) < _HEADER.size:
        return False
    try:
        crc32c = import_library(uri, "google_crc32c", "tfrecord").value
    except SourceError:
        return False
    return bool(masked_crc(head[:8], crc32c) == _HEADER.unpack_from(head)[1])


class TfrecordSource:
    """Reads ``.tfrecord`` files. A unit is a run of records; a compressed file is one."""

    format: ClassVar[str] = "tfrecord"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        import_library(uri, "google.protobuf", "tfrecord")
        if is_packed(uri) or fingerprint.size <= TARGET_UNIT_BYTES or _hidden_codec(uri):
            # How many records a small file has is counted when it is read.
            unit = WorkUnit(uri, self.format, 0, fingerprint, options=options)
            return InputInfo(uri, self.format, fingerprint.size, None, (unit,))
        with _open(uri, options) as records:
            units = tuple(
                WorkUnit(
                    uri, self.format, index, fingerprint, row, count, byte_start=start, byte_stop=stop, options=options
                )
                for index, (start, stop, row, count) in enumerate(_runs(records, fingerprint.size))
            )
        counts = [unit.num_rows for unit in units]
        num_rows = None if None in counts else sum(count or 0 for count in counts)
        return InputInfo(uri, self.format, fingerprint.size, num_rows, units)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        layout = _layout(unit.uri, unit.fingerprint, unit.options)
        with _open(unit.uri, unit.options, unit.byte_start) as records:
            yield from _batches(unit, layout, records.read(unit.byte_stop))


@functools.lru_cache(maxsize=64)  # asked for each unit of a file
def _layout(uri: str, _fingerprint: Fingerprint, options: ReadOptions) -> Layout:
    """The layout of a file by its first records."""
    first: list[bytes] = []
    # A file that is damaged near its beginning is read all the same, and says then what is wrong.
    with _open(uri, options) as records, suppress(SourceError):
        for (_, data, _), problem in itertools.islice(records.read(), _NUM_FIRST):
            first += () if problem else (data,)
            if records.at > _FIRST_BYTES and len(first) >= _LEAST_FIRST:
                break
    return layout_of(first)


#: A record with its length and the checksum of that, and its own checksum.
_Frame: TypeAlias = tuple[bytes, bytes, bytes]


@dataclass(slots=True)
class _Records:
    """The records of a stream from a byte on."""

    uri: str
    stream: ByteStream
    at: int
    options: ReadOptions
    crc32c: Callable[[bytes], int]

    def read(self, stop: int | None = None) -> Iterator[tuple[_Frame, str]]:
        """Each record, and what is wrong with it; raises where the length of the next one is not known."""
        read, verify = self.stream.read, self.options.verify_checksums
        crc32c, unpack = self.crc32c, _HEADER.unpack
        limit = self.options.max_bytes_at_once
        while stop is None or self.at < stop:
            header = read(12)
            if not header:
                return
            if len(header) < 12:
                raise self._cut("inside the length of a record")
            length, expected = unpack(header)
            if masked_crc(header[:8], crc32c) != expected:
                what = f"the checksum of the length of the record at byte {self.at:,} is wrong"
                raise SourceError("DC901", self.uri, f"{what}, so that no record after it is found", REWRITE_FILE)
            if length > limit:
                check_bytes(self.uri, length, limit, f"the record at byte {self.at:,}")
            # Apart, so that nothing is copied.
            data, checksum = read(length), read(4)
            if length > _LARGE_RECORD:
                check_bytes(self.uri, parsed_size(data, limit), limit, f"the record at byte {self.at:,}, parsed,")
            if len(data) < length or len(checksum) < 4:
                raise self._cut(f"inside the record at byte {self.at:,}")
            problem = ""
            if verify and masked_crc(data, crc32c) != int.from_bytes(checksum, "little"):
                problem = f"its checksum is wrong: its bytes, at {self.at:,} in the file, have changed since they were written"
            self.at += length + 16
            yield (header, data, checksum), problem

    def _cut(self, where: str) -> SourceError:
        return SourceError("DC901", self.uri, f"the file ends {where}", "it is truncated: rewrite it")


def _hidden_codec(uri: str) -> str | None:
    """The codec of a compressed file whose name does not say so: TensorFlow's option for it leaves the name as it is."""
    with open_file(uri) as file:
        head = file.read_at(0, _HEADER.size)
    is_zlib = len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0
    return "gzip" if (head.startswith(b"\x1f\x8b\x08") or is_zlib) and not is_tfrecord(uri, head) else None


@contextmanager
def _open(uri: str, options: ReadOptions, start: int = 0) -> Iterator[_Records]:
    crc32c = import_library(uri, "google_crc32c", "tfrecord").value
    codec = None if start or is_packed(uri) else _hidden_codec(uri)
    with open_packed(uri, options, codec) as stream:
        if start:
            stream.seek(start)  # type: ignore[attr-defined] # only a plain file has units that begin later
        yield _Records(uri, stream, start, options, crc32c)


def _runs(records: _Records, size: int) -> Iterator[tuple[int, int | None, int, int | None]]:
    """``(byte_start, byte_stop, row_start, num_rows)`` of units, by the lengths of records alone.

    Where a length cannot be believed, the last unit goes on to the end of the file: reading it says what is wrong.
    """
    stream: Any = records.stream
    view, first_byte = None, 0
    start = at = row = first_row = 0
    while at < size:
        if at - start >= TARGET_UNIT_BYTES:
            yield start, at, first_row, row - first_row
            start, first_row = at, row
        if view is None or at + 12 > first_byte + len(view):
            # What is mapped counts as memory: a part at a time. A buffered read would read all between the lengths, too.
            view, first_byte = stream.map(at, min(size - at, TARGET_BATCH_BYTES)), at
        if view is None:
            stream.seek(at)
        header = stream.read(12) if view is None else bytes(view[at - first_byte : at - first_byte + 12])
        length = _HEADER.unpack(header)[0] if len(header) == 12 else size
        if at + length + 16 > size or masked_crc(header[:8], records.crc32c) != _HEADER.unpack(header)[1]:
            yield start, None, first_row, None
            return
        at += length + 16
        row += 1
    yield start, at, first_row, row - first_row


def _batches(unit: WorkUnit, layout: Layout, records: Iterator[tuple[_Frame, str]]) -> Iterator[Batch]:
    pending = _Pending(unit, layout, unit.row_start)
    yielded, limit = False, min(TARGET_BATCH_BYTES, _BATCH_BYTES)
    names: set[str | None] = set()
    try:
        for frame, problem in records:
            if problem:
                pending.malformed[len(pending.frames)] = problem
            pending.frames.append(frame)
            pending.num_bytes += len(frame[1]) + 16
            if pending.num_bytes >= limit or len(pending.frames) >= _MAX_BATCH_RECORDS:
                batch = pending.batch()
                names |= {column.name for column in batch.columns}
                # A column of many files is at most one of some thousands; one for each record fills the memory.
                check_members(unit.uri, len(names), unit.options.max_members // 10, "features")
                yield batch
                yielded = True
                del batch
                pending = _Pending(unit, layout, pending.row + len(pending.frames))
                check_records(unit.uri, pending.row, unit.fingerprint.size, unit.options)
    except SourceError as error:
        if not unit.options.keep_going:
            raise
        # What was read is checked, and what follows is named.
        yield from (pending.batch(),) if pending.frames else ()
        yield Batch((), 0, pending.row + len(pending.frames), counts_rows=False, unreadable=(error,))
        return
    if pending.frames or not yielded:
        yield pending.batch()


class _Pending:
    """The records of the next batch, which begins with ``row``."""

    def __init__(self, unit: WorkUnit, layout: Layout, row: int) -> None:
        self._layout, self._wanted = layout, unit.options.columns
        self.row, self.num_bytes = row, 0
        self.frames: list[_Frame] = []
        self.malformed: dict[int, str] = {}

    def batch(self) -> Batch:
        malformed, frames = self.malformed, self.frames
        intact = [index for index in range(len(frames)) if index not in malformed] if malformed else range(len(frames))
        builder = ExampleColumns(self._layout, self._wanted)
        if not self._layout.is_opaque:
            parsed = builder.add_all([frames[index][1] for index in intact])
            if not all(parsed):
                problem = "it is not a tf.train.Example, which the first records of the file are"
                malformed |= {index: problem for index, is_parsed in zip(intact, parsed, strict=True) if not is_parsed}
        columns, faults = builder.columns()
        places = None
        if malformed:
            places = [index for index in range(len(frames)) if index not in malformed]
            frames = [frames[index] for index in places]
        if self._layout.is_opaque and (self._wanted is None or OPAQUE in self._wanted):
            columns = [Column(OPAQUE, pa.array([frame[1] for frame in frames], pa.large_binary()))]
        return Batch(
            tuple(columns),
            len(frames),
            self.row,
            rows=None if places is None else np.array(places, np.int64) + self.row,
            malformed=tuple(
                MalformedRow(self.row + index, repr(self.frames[index][1][:24]), malformed[index])
                for index in sorted(malformed)
            ),
            faults=tuple(faults),
            raw=RawRecords("tfrecord", lambda: pa.array(map(b"".join, frames), pa.large_binary())),
            is_ragged=True,
        )
