"""TFRecord: records with checksums of their length and of their bytes, both verified; ``tf.train.Example`` as columns."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

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
from datacheck.sources.error_translation import check_bytes, translate_inspect_errors, translate_read_errors
from datacheck.sources.optional import import_library
from datacheck.sources.packed import ByteStream, is_packed, open_packed
from datacheck.sources.tf_example import ExampleColumns, Layout, layout_of

__all__ = ["OPAQUE", "TfrecordSource", "frame", "is_tfrecord", "masked_crc"]

#: The column of records that are no ``tf.train.Example``.
OPAQUE = "record"
#: How many records tell which features have one value each.
_NUM_FIRST = 256
_MAX_BATCH_RECORDS = 8192
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
        if is_packed(uri) or fingerprint.size <= TARGET_UNIT_BYTES:
            # How many records a small file has is counted when it is read.
            unit = WorkUnit(uri, self.format, 0, fingerprint, options=options)
            return InputInfo(uri, self.format, fingerprint.size, None, (unit,))
        units: list[WorkUnit] = []
        with _open(uri, options) as records:
            for start, stop, row, count in _runs(records, fingerprint.size):
                units.append(
                    WorkUnit(
                        uri,
                        self.format,
                        len(units),
                        fingerprint,
                        row,
                        count,
                        byte_start=start,
                        byte_stop=stop,
                        options=options,
                    )
                )
        counts = [unit.num_rows for unit in units]
        num_rows = None if None in counts else sum(count or 0 for count in counts)
        return InputInfo(uri, self.format, fingerprint.size, num_rows, tuple(units))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with _open(unit.uri, unit.options) as records:
            first: list[bytes] = []
            # A file that is damaged near its beginning is read all the same, and says then what is wrong.
            with suppress(SourceError):
                for _, data, problem in itertools.islice(records.read(), _NUM_FIRST):
                    first += () if problem else (data,)
        layout = layout_of(first)
        with _open(unit.uri, unit.options, unit.byte_start) as records:
            yield from _batches(unit, layout, records.read(unit.byte_stop))


@dataclass(slots=True)
class _Records:
    """The records of a stream from a byte on."""

    uri: str
    stream: ByteStream
    at: int
    options: ReadOptions
    crc32c: Callable[[bytes], int]

    def read(self, stop: int | None = None) -> Iterator[tuple[bytes, bytes, str]]:
        """``(frame, data, problem)`` of each record; raises where the length of the next one is not known."""
        read, verify = self.stream.read, self.options.verify_checksums
        crc32c, unpack = self.crc32c, _HEADER.unpack
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
            check_bytes(self.uri, length, self.options.max_bytes_at_once, f"the record at byte {self.at:,}")
            body = read(length + 4)
            if len(body) < length + 4:
                raise self._cut(f"inside the record at byte {self.at:,}")
            data = body[:length]
            problem = ""
            if verify and masked_crc(data, crc32c) != _CHECKSUM.unpack_from(body, length)[0]:
                problem = f"its checksum is wrong: its bytes, at {self.at:,} in the file, have changed since they were written"
            self.at += length + 16
            yield header + body, data, problem

    def _cut(self, where: str) -> SourceError:
        return SourceError("DC901", self.uri, f"the file ends {where}", "it is truncated: rewrite it")


@contextmanager
def _open(uri: str, options: ReadOptions, start: int = 0) -> Iterator[_Records]:
    crc32c = import_library(uri, "google_crc32c", "tfrecord").value
    with open_packed(uri, options) as stream:
        if start:
            stream.seek(start)  # type: ignore[attr-defined] # only a plain file has units that begin later
        yield _Records(uri, stream, start, options, crc32c)


def _runs(records: _Records, size: int) -> Iterator[tuple[int, int | None, int, int | None]]:
    """``(byte_start, byte_stop, row_start, num_rows)`` of units, by the lengths of records alone.

    Where a length cannot be believed, the last unit goes on to the end of the file: reading it says what is wrong.
    """
    stream: Any = records.stream
    start = at = row = first_row = 0
    while at < size:
        if at - start >= TARGET_UNIT_BYTES:
            yield start, at, first_row, row - first_row
            start, first_row = at, row
        stream.seek(at)
        header = stream.read(12)
        length = _HEADER.unpack(header)[0] if len(header) == 12 else size
        if at + length + 16 > size or masked_crc(header[:8], records.crc32c) != _HEADER.unpack(header)[1]:
            yield start, None, first_row, None
            return
        at += length + 16
        row += 1
    yield start, at, first_row, row - first_row


def _batches(unit: WorkUnit, layout: Layout, records: Iterator[tuple[bytes, bytes, str]]) -> Iterator[Batch]:
    pending = _Pending(unit, layout, unit.row_start)
    yielded = False
    try:
        for whole, data, problem in records:
            pending.add(whole, data, problem)
            if pending.is_full:
                yield pending.batch()
                yielded = True
                pending = _Pending(unit, layout, pending.next_row)
    except SourceError as error:
        if not unit.options.keep_going:
            raise
        # What was read is checked, and what follows is named.
        yield from (pending.batch(),) if pending.num_records else ()
        yield Batch((), 0, pending.next_row, counts_rows=False, unreadable=(error,))
        return
    if pending.num_records or not yielded:
        yield pending.batch()


class _Pending:
    """The records of the next batch."""

    def __init__(self, unit: WorkUnit, layout: Layout, row: int) -> None:
        self._layout, self._row = layout, row
        wanted = unit.options.columns
        self._columns = ExampleColumns(layout, wanted)
        self._with_opaque = layout.is_opaque and (wanted is None or OPAQUE in wanted)
        self._frames: list[bytes] = []
        self._data: list[bytes] = []
        self._places: list[int] = []
        self._malformed: list[MalformedRow] = []
        self._num_bytes = 0

    @property
    def num_records(self) -> int:
        return len(self._frames) + len(self._malformed)

    @property
    def next_row(self) -> int:
        return self._row + self.num_records

    @property
    def is_full(self) -> bool:
        return self._num_bytes >= TARGET_BATCH_BYTES or self.num_records >= _MAX_BATCH_RECORDS

    def add(self, whole: bytes, data: bytes, problem: str) -> None:
        self._num_bytes += len(whole)
        if not problem and not self._layout.is_opaque and not self._columns.add(data):
            problem = "it is not a tf.train.Example, which the first records of the file are"
        if problem:
            self._malformed.append(MalformedRow(self.next_row, repr(data[:24]), problem))
            return
        self._places.append(self.next_row)
        self._frames.append(whole)
        if self._with_opaque:
            self._data.append(data)

    def batch(self) -> Batch:
        columns, faults = self._columns.columns()
        if self._with_opaque:
            columns = [Column(OPAQUE, pa.array(self._data, pa.large_binary()))]
        frames = self._frames
        rows = None
        if self._malformed:
            import numpy as np

            rows = np.array(self._places, np.int64)
        return Batch(
            tuple(columns),
            len(frames),
            self._row,
            rows=rows,
            malformed=tuple(self._malformed),
            faults=tuple(faults),
            raw=RawRecords(lambda: pa.array(frames, pa.large_binary())),
            is_ragged=True,
        )
