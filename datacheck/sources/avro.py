"""Avro object container files: blocks of records, each decompressed in bounded memory and read by fastavro.

A file does not record how many records it has, so one that was cut between two blocks looks like a shorter one. After a damaged
block, reading goes on at the next mark.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import pyarrow as pa

from datacheck.arrow_layouts import no_rows
from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.avro_schema import SchemaSize, arrow_schema, check_schema, size_of
from datacheck.sources.base import (
    REWRITE_FILE,
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
    plan_in_order,
)
from datacheck.sources.error_translation import (
    check_bytes,
    check_members,
    check_records,
    check_rows,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.optional import import_library
from datacheck.storage.registry import open_file
from datacheck.text import plain, quantity

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_MAX_HEADER_BYTES = 16 << 20
_SEARCHED_BYTES = 1 << 20


class AvroSource:
    """Reads ``.avro`` files. A unit is a run of blocks."""

    format: ClassVar[str] = "avro"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_file(uri) as file:
            container = _Container.read(uri, file, options)
            unit = WorkUnit(uri, self.format, 0, fingerprint, 0, 0, byte_start=container.start, options=options)
            runs = _runs(_blocks(container, file, container.start))
            return plan_in_order(
                unit,
                (
                    (sum(block.num_records for block in run), {"byte_start": run[0].start, "byte_stop": run[-1].stop})
                    for run in runs
                ),
            )

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        row = unit.row_start
        with open_file(unit.uri) as file:
            container = _Container.read(unit.uri, file, unit.options)
            schema = arrow_schema(unit.uri, container.schema, unit.options.columns)
            if not unit.num_rows:
                yield Batch.from_arrow(no_rows(schema), row)
            for block in _blocks(container, file, unit.byte_start, unit.byte_stop):
                at = row
                try:
                    for some in _at_once(container.records(block, file), container.size.num_records_at_once):
                        yield Batch.from_arrow(_to_arrow(some, schema), at)
                        at += len(some)
                except _DamagedBlockError as damage:
                    error = _block_error(unit.uri, block, at - row, damage)
                    if not unit.options.keep_going:
                        raise error from damage
                    yield Batch((), 0, at, counts_rows=False, unreadable=(error,))
                row += block.num_records


class _DamagedBlockError(Exception):
    """A block that does not have the records that it should."""


def _at_once(records: Iterator[Any], number: int) -> Iterator[list[Any]]:
    """The records, ``number`` at once; those before an error are given before it is raised."""
    some: list[Any] = []
    try:
        for record in records:
            some.append(record)
            if len(some) >= number:
                yield some
                some = []
    except _DamagedBlockError:
        yield from (some,) if some else ()
        raise
    yield from (some,) if some else ()


def _block_error(uri: str, block: _Block, num_read: int, damage: _DamagedBlockError) -> SourceError:
    if block.problem:
        return SourceError("DC901", uri, block.problem, REWRITE_FILE)
    what = f"the block of {quantity(block.num_records, 'record')} at byte {block.start:,} is damaged ({damage})"
    problem = f"{what}: {num_read:,} of them were read, and the other blocks"
    return SourceError("DC901", uri, problem, REWRITE_FILE)


def iter_records(uri: str, file: IO[bytes], options: ReadOptions) -> Iterator[Any]:
    """The records of an Avro file, one by one; raises ``SourceError``."""
    container = _Container.read(uri, file, options)
    for block in _blocks(container, file, container.start):
        try:
            yield from container.records(block, file)
        except _DamagedBlockError as damage:
            raise ValueError(f"the block at byte {block.start:,} is damaged ({damage})") from damage


@dataclass(frozen=True, slots=True)
class _Block:
    """Where a block begins, its data, and the next block; how many records and bytes it has, or what is wrong with it."""

    start: int
    stop: int
    data_start: int = 0
    num_records: int = 0
    num_bytes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Container:
    """The header of a file: the schema of its records and their size, how blocks are compressed, and the mark between them."""

    uri: str
    schema: Any
    parsed: Any
    codec: str
    sync: bytes
    start: int
    size: SchemaSize
    options: ReadOptions

    @classmethod
    def read(cls, uri: str, file: IO[bytes], options: ReadOptions) -> _Container:
        fastavro = import_library(uri, "fastavro", "tables")
        file.seek(0)
        if file.read(4) != _MAGIC:
            raise SourceError("DC901", uri, "its name says avro, its first bytes do not", REWRITE_FILE)
        metadata = _read_metadata(file)
        codec = metadata.get("avro.codec", b"null").decode()
        if codec not in _DECOMPRESS:
            problem = f"its blocks are compressed with {plain(codec, 40)}, which is not supported"
            raise SourceError("DC901", uri, problem, "write it with deflate or zstandard")
        schema = json.loads(metadata["avro.schema"])
        check_schema(uri, schema)
        size = size_of(schema, {})
        check_members(uri, size.num_fields, options.max_members, "fields")
        sync = file.read(_SYNC_BYTES)
        parsed = fastavro.parse_schema(schema)
        return cls(uri, schema, parsed, codec, sync, file.tell(), size, options)

    def records(self, block: _Block, file: IO[bytes]) -> Iterator[Any]:
        """The records of a block; raises ``_DamagedBlockError`` where its bytes do not hold that number of records."""
        if block.problem:
            raise _DamagedBlockError(block.problem)
        check_bytes(self.uri, block.num_bytes, self.options.max_bytes_at_once, "a block")
        file.seek(block.data_start)
        packed = file.read(block.num_bytes)
        # The parts that a library joins, and the records, are in memory, too.
        limit = self.options.max_bytes_at_once // self.size.bytes_of_byte
        try:
            data = _DECOMPRESS[self.codec](packed, limit + 1)
        except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise _damaged(error) from error
        factor = self.size.bytes_of_byte
        check_bytes(self.uri, len(data) * factor, limit * factor, "the values of a block")
        check_rows(self.uri, block.num_records, len(data), "a block")
        yield from self._decoded(io.BytesIO(data), block.num_records, len(data))

    def _decoded(self, stream: IO[bytes], num_records: int, num_bytes: int) -> Iterator[Any]:
        import fastavro

        for _ in range(num_records):
            try:
                record = fastavro.schemaless_reader(stream, self.parsed, None)
            except MemoryError:
                raise
            except Exception as error:  # damaged bytes can make the library raise anything
                raise _damaged(error) from error
            yield record
        if stream.tell() != num_bytes:
            raise _DamagedBlockError(f"{num_bytes - stream.tell():,} bytes follow its last record")


def _damaged(error: Exception) -> _DamagedBlockError:
    said = str(error).partition("\n")[0]
    return _DamagedBlockError(plain(said, 120) if said else type(error).__name__)


def _read_metadata(file: IO[bytes]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while count := _read_long(file):
        if count < 0:
            count = -count
            _read_long(file)
        for _ in range(count):
            name = _read_bytes(file).decode()
            found[name] = _read_bytes(file)
    return found


def _read_bytes(file: IO[bytes]) -> bytes:
    length = _read_long(file)
    if not 0 <= length <= _MAX_HEADER_BYTES:
        raise ValueError(f"the header claims a value of {length:,} bytes")
    data = file.read(length)
    if len(data) < length:
        raise EOFError("the file ends inside its header")
    return data


def _read_long(file: IO[bytes]) -> int:
    """A zigzag integer of at most 64 bits."""
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise EOFError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return (value >> 1) ^ -(value & 1)
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def _blocks(container: _Container, file: IO[bytes], start: int, stop: int | None = None) -> Iterator[_Block]:
    """The blocks from an offset on; what does not end with the mark goes on to the next mark, as a block with a problem."""
    size, num_before = file.seek(0, io.SEEK_END), 0
    while start < (size if stop is None else stop):
        block = _block_at(container, file, start, size)
        num_before += block.num_records
        check_records(container.uri, num_before, size, container.options)
        yield block
        start = block.stop


def _block_at(container: _Container, file: IO[bytes], start: int, size: int) -> _Block:
    file.seek(start)
    try:
        num_records, num_bytes = _read_long(file), _read_long(file)
        data_start = file.tell()
        if num_records >= 0 and num_bytes >= 0 and data_start + num_bytes + _SYNC_BYTES <= size:
            file.seek(data_start + num_bytes)
            if file.read(_SYNC_BYTES) == container.sync:
                return _Block(start, file.tell(), data_start, num_records, num_bytes)
    except (EOFError, ValueError):
        pass  # it is searched for the mark as any other
    stop = _next_mark(container.sync, file, start)
    if stop is None:
        return _Block(
            start, size, problem=f"the file ends inside the block at byte {start:,}; those before it were read"
        )
    problem = f"the block at byte {start:,} does not end where its header says; nothing up to byte {stop:,} was read"
    return _Block(start, stop, problem=problem)


def _next_mark(mark: bytes, file: IO[bytes], start: int) -> int | None:
    """The byte after the next mark; None where there is none."""
    file.seek(start)
    before = b""
    while part := file.read(_SEARCHED_BYTES):
        text = before + part
        if (found := text.find(mark)) >= 0:
            return file.tell() - len(text) + found + len(mark)
        before = text[1 - len(mark) :]
    return None


def _runs(blocks: Iterator[_Block]) -> Iterator[list[_Block]]:
    """Neighbouring blocks of about a unit's bytes together."""
    run: list[_Block] = []
    for block in blocks:
        run.append(block)
        if block.stop - run[0].start >= TARGET_UNIT_BYTES // 4:
            yield run
            run = []
    if run:
        yield run


def _inflate(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj(-15).decompress(data, limit)


def _unzstd(data: bytes, limit: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        parts, left = [], limit
        while left and (part := stream.read(min(left, TARGET_BATCH_BYTES))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _keep(data: bytes, _limit: int) -> bytes:
    return data


#: How each codec decompresses to at most a given number of bytes.
_DECOMPRESS: dict[str, Callable[[bytes, int], bytes]] = {
    "null": _keep,
    "deflate": _inflate,
    "zstandard": _unzstd,
    "bzip2": lambda data, limit: bz2.BZ2Decompressor().decompress(data, limit),
    "xz": lambda data, limit: lzma.LZMADecompressor().decompress(data, limit),
}


def _to_arrow(records: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    try:
        columns = [pa.array([_plain(record.get(field.name)) for record in records], field.type) for field in schema]
    except (pa.ArrowInvalid, OverflowError) as error:
        raise _damaged(error) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:
    return str(value) if type(value).__name__ == "UUID" else value
