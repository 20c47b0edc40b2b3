"""Avro object container files: blocks of records, each decompressed in bounded memory and read by fastavro.

A file does not record how many records it has, so one that was cut between two blocks looks like a shorter one.
"""

from __future__ import annotations

import bz2
import io
import itertools
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import pyarrow as pa

from datacheck.arrow_layouts import no_rows
from datacheck.batch import Batch
from datacheck.errors import SourceError
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
    check_rows,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.optional import import_library
from datacheck.storage.registry import open_file
from datacheck.text import plain

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_MAX_HEADER_BYTES = 16 << 20
#: How many levels of types a schema may have.
_MAX_DEPTH = 64
_BATCH_RECORDS, _BATCH_VALUES = 8192, 1 << 21
_PLAIN = {
    "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "bytes": pa.binary(), "string": pa.string(),
}  # fmt: skip
_LOGICAL = {
    "date": pa.date32(), "time-millis": pa.time32("ms"), "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"), "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"), "local-timestamp-micros": pa.timestamp("us"), "uuid": pa.string(),
}  # fmt: skip


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
                unit, ((sum(block.num_records for block in run), {"byte_start": run[0].start}) for run in runs)
            )

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        row = unit.row_start
        left = unit.num_rows or 0
        with open_file(unit.uri) as file:
            container = _Container.read(unit.uri, file, unit.options)
            schema = _arrow_schema(unit.uri, container.schema, unit.options.columns)
            if not left:
                yield Batch.from_arrow(no_rows(schema), row)
            for block in _blocks(container, file, unit.byte_start):
                if left <= 0:
                    break
                left -= block.num_records
                records = container.records(block, file)
                while some := list(itertools.islice(records, container.size.num_records_at_once)):
                    yield Batch.from_arrow(_to_arrow(some, schema), row)
                    row += len(some)


def iter_records(uri: str, file: IO[bytes], options: ReadOptions) -> Iterator[Any]:
    """The records of an Avro file, one by one; raises ``SourceError``."""
    container = _Container.read(uri, file, options)
    for block in _blocks(container, file, container.start):
        yield from container.records(block, file)


@dataclass(frozen=True, slots=True)
class _Block:
    """Where a block begins, and where its data; how many records and bytes it has."""

    start: int
    data_start: int
    num_records: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class _Size:
    """How many fields a value of a type has, itself or inside, and how much memory a byte of it in the file may take."""

    num_fields: int = 1
    bytes_of_byte: int = 4

    @property
    def num_records_at_once(self) -> int:
        return max(1, min(_BATCH_RECORDS, _BATCH_VALUES // max(self.num_fields, 1)))


@dataclass(frozen=True, slots=True)
class _Container:
    """The header of a file: the schema of its records and their size, how blocks are compressed, and the mark between them."""

    uri: str
    schema: Any
    parsed: Any
    codec: str
    sync: bytes
    start: int
    size: _Size
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
        _check_schema(uri, schema)
        size = _size_of(schema, {})
        check_members(uri, size.num_fields, options.max_members, "fields")
        sync = file.read(_SYNC_BYTES)
        parsed = fastavro.parse_schema(schema)
        return cls(uri, schema, parsed, codec, sync, file.tell(), size, options)

    def records(self, block: _Block, file: IO[bytes]) -> Iterator[Any]:
        """The records of a block; raises where its bytes do not hold that number of records."""
        import fastavro

        check_bytes(self.uri, block.num_bytes, self.options.max_bytes_at_once, "a block")
        file.seek(block.data_start)
        packed = file.read(block.num_bytes)
        # The parts that a library joins, and the records, are in memory, too.
        limit = self.options.max_bytes_at_once // self.size.bytes_of_byte
        data = _DECOMPRESS[self.codec](packed, limit + 1)
        factor = self.size.bytes_of_byte
        check_bytes(self.uri, len(data) * factor, limit * factor, "the values of a block")
        check_rows(self.uri, block.num_records, len(data), "a block")
        stream = io.BytesIO(data)
        for _ in range(block.num_records):
            yield fastavro.schemaless_reader(stream, self.parsed, None)
        if stream.tell() != len(data):
            raise ValueError(f"{len(data) - stream.tell():,} bytes follow the last record of a block")


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


def _blocks(container: _Container, file: IO[bytes], start: int) -> Iterator[_Block]:
    """The blocks from an offset on; raises where one does not end with the mark."""
    size, num_before = file.seek(0, io.SEEK_END), 0
    while start < size:
        file.seek(start)
        num_records, num_bytes = _read_long(file), _read_long(file)
        data_start = file.tell()
        if num_records < 0 or num_bytes < 0 or data_start + num_bytes + _SYNC_BYTES > size:
            raise EOFError("the file ends inside a block")
        file.seek(data_start + num_bytes)
        if file.read(_SYNC_BYTES) != container.sync:
            raise ValueError(f"the block at byte {start:,} does not end where its header says")
        num_before += num_records
        check_rows(container.uri, num_before, size)
        yield _Block(start, data_start, num_records, num_bytes)
        start = data_start + num_bytes + _SYNC_BYTES


def _runs(blocks: Iterator[_Block]) -> Iterator[list[_Block]]:
    """Neighbouring blocks of about a unit's bytes together."""
    run: list[_Block] = []
    for block in blocks:
        run.append(block)
        if sum(one.num_bytes for one in run) >= TARGET_UNIT_BYTES // 4:
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


def _check_schema(uri: str, schema: Any) -> None:
    """Raise ``SourceError`` for a schema that lets a few bytes make a reader run out of memory or stack."""
    pending: list[tuple[Any, int, frozenset[str]]] = [(schema, 0, frozenset())]
    named: set[str] = set()
    while pending:
        one, depth, above = pending.pop()
        if depth > _MAX_DEPTH or len(named) > 10_000:
            raise SourceError("DC904", uri, f"its schema has more than {_MAX_DEPTH} levels", REWRITE_FILE)
        if isinstance(one, list):
            pending += [(part, depth + 1, above) for part in one]
            continue
        if not isinstance(one, dict):
            if one in above:
                problem = f"its schema is recursive: {plain(str(one), 80)} holds itself"
                raise SourceError("DC901", uri, problem, "write it without, or convert it to Parquet")
            continue
        kind = one.get("type")
        if kind in ("array", "map"):
            inner = one.get("items" if kind == "array" else "values")
            if kind == "array" and not _takes_bytes(inner):
                raise SourceError("DC904", uri, "an array of its schema has items that take no bytes", REWRITE_FILE)
            pending.append((inner, depth + 1, above))
        elif kind in ("record", "error"):
            name = str(one.get("name"))
            named.add(name)
            inner_names = above | {name, f"{one.get('namespace', '')}.{name}"}
            pending += [(part.get("type"), depth + 1, inner_names) for part in one.get("fields", ())]
        elif isinstance(kind, dict | list):
            pending.append((kind, depth + 1, above))
        elif kind in above:
            raise SourceError(
                "DC901", uri, f"its schema is recursive: {plain(str(kind), 80)} holds itself", REWRITE_FILE
            )


def _size_of(schema: Any, named: dict[str, _Size]) -> _Size:
    """The size of a checked schema. A few named types that hold each other twice can have fields without end."""
    if isinstance(schema, list):
        return _together(_size_of(one, named) for one in schema)
    if not isinstance(schema, dict):
        return named.get(str(schema).rpartition(".")[2], _Size())
    kind, name = schema.get("type"), str(schema.get("name")).rpartition(".")[2]
    if kind in ("array", "map"):
        items = schema.get("items" if kind == "array" else "values")
        inner = _size_of(items, named)
        # An item of one byte is an object in a list or a dict, and a value in a column.
        of_item = {"float": 12, "double": 8}.get(items, 100) if kind == "array" and isinstance(items, str) else 100
        return _Size(inner.num_fields + 1, max(inner.bytes_of_byte, of_item))
    if kind in ("record", "error"):
        size = _together([_Size(), *(_size_of(part.get("type"), named) for part in schema.get("fields", ()))])
    elif kind == "enum":
        longest = max((len(str(symbol).encode("utf-8", "replace")) for symbol in schema.get("symbols", ())), default=0)
        size = _Size(1, max(4, 4 * longest))
    elif isinstance(kind, dict | list):
        return _size_of(kind, named)
    else:
        size = named.get(str(kind).rpartition(".")[2], _Size())
    if "name" in schema:
        # Types of several namespaces may have one name.
        named[name] = _together([size, named[name]]) if name in named else size
    return size


def _together(sizes: Iterable[_Size]) -> _Size:
    some = list(sizes)
    return _Size(min(sum(one.num_fields for one in some), 1 << 40), max((one.bytes_of_byte for one in some), default=4))


def _takes_bytes(schema: Any) -> bool:
    """Whether every value of a type takes at least one byte. A name that is used again is not looked up."""
    if isinstance(schema, list):
        return True
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if kind in ("record", "error"):
        return any(_takes_bytes(part.get("type")) for part in schema.get("fields", ()))
    if kind == "fixed":
        return bool(schema.get("size"))
    if isinstance(kind, dict | list):
        return _takes_bytes(kind)
    return (kind in _PLAIN and kind != "null") or kind in ("array", "map", "enum")


def _arrow_schema(uri: str, schema: Any, columns: tuple[str, ...] | None) -> pa.Schema:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise SourceError(
            "DC901", uri, "its records have no named fields", "write it with records, or convert it to Parquet"
        )
    kind = _arrow_type(schema, {})
    return pa.schema([field for field in kind if columns is None or field.name in columns])


def _arrow_type(schema: Any, names: dict[str, pa.DataType]) -> pa.DataType:
    """The Arrow type of an Avro type; raises ``ValueError`` for one that has none."""
    if isinstance(schema, list):
        others = [part for part in schema if part != "null"]
        if len(others) != 1:
            raise ValueError(f"a union of {len(others)} types has no column type")
        return _arrow_type(others[0], names)
    if not isinstance(schema, dict):
        known = _PLAIN.get(schema) if isinstance(schema, str) else None
        if known is None:
            known = names.get(str(schema)) or names.get(str(schema).rpartition(".")[2])
        if known is None:
            raise ValueError(f"the type {plain(str(schema), 80)} is not known")
        return known
    kind, logical = schema.get("type"), schema.get("logicalType")
    if logical == "decimal" and kind in ("bytes", "fixed"):
        return pa.decimal256(int(schema["precision"]), int(schema.get("scale", 0)))
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if kind == "array":
        return pa.list_(_arrow_type(schema["items"], names))
    if kind == "map":
        return pa.map_(pa.string(), _arrow_type(schema["values"], names))
    if kind in ("record", "error"):
        found = pa.struct([(str(part["name"]), _arrow_type(part["type"], names)) for part in schema["fields"]])
    elif kind == "enum":
        found = pa.string()
    elif kind == "fixed":
        found = pa.binary(int(schema["size"]))
    else:
        return _arrow_type(kind, names)
    names[str(schema.get("name"))] = found
    return found


def _to_arrow(records: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array([_plain(record.get(field.name)) for record in records], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:
    return str(value) if type(value).__name__ == "UUID" else value
