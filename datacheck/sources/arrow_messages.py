"""The messages of an Arrow IPC file or stream, counted without decoding them: all of a stream, those in a file's footer.

pyarrow gives row counts only with decoded batches, which means decompressing a file twice. Each message's metadata, a
FlatBuffers table (``format/Message.fbs`` in the Arrow repository), has the counts and the decompressed sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.ipc as ipc

from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_CONTINUATION = b"\xff\xff\xff\xff"
#: Bytes of one entry of the footer's lists.
_BLOCK_BYTES = 24
#: The most bytes that a message may be padded to.
_PADDING_BYTES = 64


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The size of one record batch: rows, and bytes once decoded."""

    num_rows: int
    num_bytes: int
    compressed: bool


@dataclass(frozen=True, slots=True)
class IpcContents:
    """The record batches in the order of the file, and the dictionaries, which stay in memory while it is read."""

    batches: tuple[BatchSize, ...]
    dictionaries: tuple[BatchSize, ...]

    @property
    def num_bytes(self) -> int:
        return sum(batch.num_bytes for batch in (*self.dictionaries, *self.batches))

    @property
    def bytes_at_once(self) -> int:
        """The most bytes that decompressing takes at any time; uncompressed batches are mapped."""
        held = sum(batch.num_bytes for batch in self.dictionaries if batch.compressed)
        return held + max((batch.num_bytes for batch in self.batches if batch.compressed), default=0)


def read_ipc_contents(uri: str, source: pa.NativeFile, *, is_stream: bool) -> IpcContents:
    """The sizes of the record batches of a stream, or of those that the footer of a file lists; raises ``SourceError``."""
    sizes = _walk_stream(uri, source) if is_stream else _read_blocks(uri, source)
    batches: list[BatchSize] = []
    dictionaries: list[BatchSize] = []
    for kind, size in sizes:
        if kind in (_RECORD_BATCH, _DICTIONARY_BATCH):
            (batches if kind == _RECORD_BATCH else dictionaries).append(size)
    return IpcContents(tuple(batches), tuple(dictionaries))


def _walk_stream(uri: str, source: pa.NativeFile) -> Iterator[tuple[int, BatchSize]]:
    """Every message of a stream.

    Raises ``SourceError`` for a stream without an end mark, or with bytes after it: it may have been truncated between
    two messages, and no reader would notice.
    """
    reader = ipc.MessageReader.open_stream(source)
    position = source.tell()
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        position = source.tell()
        body = memoryview(message.body) if message.body is not None else memoryview(b"")
        yield _size_of(memoryview(message.metadata), body)
    if source.tell() == position:
        problem = "the stream has no end mark: it is truncated, or its writer was never closed"
        raise SourceError("DC901", uri, problem, REWRITE_FILE)
    if source.tell() != source.size():
        extra = source.size() - source.tell()
        raise SourceError(
            "DC901", uri, f"{extra:,} bytes follow the end of the stream, which readers skip", REWRITE_FILE
        )


def _read_blocks(uri: str, source: pa.NativeFile) -> Iterator[tuple[int, BatchSize]]:
    """Every message that the footer of a file lists; raises ``SourceError`` if bytes for others are left over."""
    size = source.size()
    (length,) = struct.unpack("<i", source.read_at(4, size - 10)) if size >= 18 else (0,)
    if not 0 < length <= size - 18:
        raise ValueError(f"its footer claims {length:,} bytes")
    end = size - 10 - length
    data = memoryview(source.read_at(length, end))
    footer = _Table(data, _unsigned(data, 0))
    blocks = [*footer.blocks(2), *footer.blocks(3)]
    if len(blocks) > length // _BLOCK_BYTES:
        raise ValueError("its footer lists more record batches than it has bytes for")
    listed = 0
    for offset, metadata_bytes, body_bytes in blocks:
        if min(offset, metadata_bytes, body_bytes) < 0 or offset + metadata_bytes + body_bytes > end:
            raise ValueError(f"its footer lists a record batch of {metadata_bytes + body_bytes:,} bytes at {offset:,}")
        listed += metadata_bytes + body_bytes
        metadata = memoryview(source.read_at(metadata_bytes, offset))
        # The length, which older files write without the mark that precedes it in newer ones.
        start = 8 if metadata[:4] == _CONTINUATION else 4
        body = _Body(source, offset + metadata_bytes, body_bytes)
        yield _size_of(metadata[start:], body)
    left_over = end - listed - _schema_end(source)
    if left_over > _PADDING_BYTES * (2 + len(blocks)) and _holds_message(source, listed):
        problem = f"{left_over:,} of its bytes belong to no record batch that its footer lists"
        raise SourceError("DC901", uri, problem, "rewrite the file")


def _schema_end(source: pa.NativeFile) -> int:
    """Where the schema message ends, which begins the file."""
    head = source.read_at(8, 8)
    start = 8 if head[:4] == _CONTINUATION else 4
    (length,) = struct.unpack_from("<i", head, start - 4)
    return int(8 + start + max(0, length))


def _holds_message(source: pa.NativeFile, listed: int) -> bool:
    """Whether more bytes of record batches follow one another from the start of the file than its footer lists."""
    found = 0
    try:
        source.seek(8)
        reader = ipc.MessageReader.open_stream(source)
        while True:
            message = reader.read_next_message()
            found += len(message.body or b"") if message.type in ("record batch", "dictionary") else 0
            if found > listed:
                return True
    except (StopIteration, pa.ArrowException, OSError):
        # Not every writer leaves a file that can be walked; its footer is all that readers follow.
        return False


class _Body:
    """The body of a message, read by ranges."""

    def __init__(self, source: pa.NativeFile, start: int, length: int) -> None:
        self._source, self._start, self._length = source, start, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        return bytes(self._source.read_at(max(0, stop - start), self._start + start))


def _size_of(data: memoryview, body: memoryview | _Body) -> tuple[int, BatchSize]:
    """The kind of a message, and its size."""
    table = _Table(data, _unsigned(data, 0))
    kind = table.byte(1)
    header = table.child(2)
    if kind == _DICTIONARY_BATCH and header is not None:
        header = header.child(1)
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH) or header is None:
        return kind, BatchSize(0, 0, False)
    num_rows = header.long(0)
    if num_rows < 0:
        raise ValueError(f"a record batch claims {num_rows} rows")
    if header.child(3) is None:
        return kind, BatchSize(num_rows, len(body), False)
    num_bytes = 0
    for offset, length in header.pairs(2):
        if length == 0:
            continue
        if offset < 0 or length < 8 or offset + length > len(body):
            raise ValueError(f"a compressed buffer claims {length:,} bytes at {offset:,} of {len(body):,}")
        (decoded,) = struct.unpack("<q", body[offset : offset + 8])
        if decoded < -1:
            raise ValueError(f"a compressed buffer claims {decoded:,} bytes once decompressed")
        num_bytes += length - 8 if decoded == -1 else decoded
    return kind, BatchSize(num_rows, num_bytes, True)


def _unsigned(data: memoryview, position: int) -> int:
    (value,) = struct.unpack_from("<I", data, position)
    return int(value)


class _Table:
    """A FlatBuffers table: fields by number, each absent or at an offset."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self._position = position
        (back,) = struct.unpack_from("<i", data, position)
        self._index = position - back
        (self._index_bytes,) = struct.unpack_from("<H", data, self._index)

    def _field(self, number: int) -> int | None:
        position = 4 + 2 * number
        if position >= self._index_bytes:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._index + position)
        return self._position + offset if offset else None

    def byte(self, number: int) -> int:
        position = self._field(number)
        return 0 if position is None else self._data[position]

    def long(self, number: int) -> int:
        position = self._field(number)
        if position is None:
            return 0
        (value,) = struct.unpack_from("<q", self._data, position)
        return int(value)

    def child(self, number: int) -> _Table | None:
        position = self._field(number)
        return None if position is None else _Table(self._data, position + _unsigned(self._data, position))

    def blocks(self, number: int) -> list[tuple[int, int, int]]:
        """A vector of the footer's structs: offset, bytes of metadata, bytes of the body."""
        position = self._field(number)
        if position is None:
            return []
        start = position + _unsigned(self._data, position)
        count = _unsigned(self._data, start)
        part = self._data[start + 4 : start + 4 + count * _BLOCK_BYTES]
        if len(part) < count * _BLOCK_BYTES:
            raise ValueError("its footer ends inside a list of record batches")
        return list(struct.iter_unpack("<qi4xq", part))

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers."""
        position = self._field(number)
        if position is None:
            return []
        start = position + _unsigned(self._data, position)
        values = struct.unpack_from(f"<{2 * _unsigned(self._data, start)}q", self._data, start + 4)
        return list(zip(values[::2], values[1::2], strict=True))
