"""The messages of an Arrow IPC file or stream, counted without decoding them.

pyarrow gives row counts only with decoded batches, which means decompressing a file twice. Each message's metadata, a
FlatBuffers table (``format/Message.fbs`` in the Arrow repository), has the counts and the decompressed sizes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE

__all__ = ["BatchSize", "IpcContents", "read_ipc_contents"]

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The size of one record batch: rows, and bytes once decoded."""

    num_rows: int
    num_bytes: int
    compressed: bool


@dataclass(frozen=True, slots=True)
class IpcContents:
    """The record batches in the order of the file, and the decoded bytes of its dictionaries."""

    batches: tuple[BatchSize, ...]
    dictionary_bytes: int

    @property
    def num_bytes(self) -> int:
        return self.dictionary_bytes + sum(batch.num_bytes for batch in self.batches)


def read_ipc_contents(uri: str, source: pa.NativeFile, *, is_stream: bool) -> IpcContents:
    """Read every message from the source's position on.

    Raises ``SourceError`` for a stream without an end mark, or with bytes after it: it may have been truncated between
    two messages, and no reader would notice.
    """
    batches: list[BatchSize] = []
    dictionary_bytes = 0
    reader = ipc.MessageReader.open_stream(source)
    position = source.tell()
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        position = source.tell()
        kind, size = _size_of(message)
        if kind == _RECORD_BATCH:
            batches.append(size)
        elif kind == _DICTIONARY_BATCH:
            dictionary_bytes += size.num_bytes
    if is_stream and source.tell() == position:
        problem = "the stream has no end mark: it is truncated, or its writer was never closed"
        raise SourceError("DC901", uri, problem, REWRITE_FILE)
    if is_stream and source.tell() != source.size():
        extra = source.size() - source.tell()
        raise SourceError(
            "DC901", uri, f"{extra:,} bytes follow the end of the stream, which readers skip", REWRITE_FILE
        )
    return IpcContents(tuple(batches), dictionary_bytes)


def _size_of(message: Any) -> tuple[int, BatchSize]:
    """The kind of a message, and its size."""
    data = memoryview(message.metadata)
    table = _Table(data, _unsigned(data, 0))
    kind = table.byte(1)
    header = table.child(2)
    if kind == _DICTIONARY_BATCH and header is not None:
        header = header.child(1)
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH) or header is None:
        return kind, BatchSize(0, 0, False)
    body = memoryview(message.body) if message.body is not None else memoryview(b"")
    num_rows = header.long(0)
    if num_rows < 0:
        raise ValueError(f"a record batch claims {num_rows} rows")
    if header.child(3) is None:
        return kind, BatchSize(num_rows, len(body), False)
    num_bytes = 0
    for offset, length in header.pairs(2):
        if length:
            (decoded,) = struct.unpack_from("<q", body, offset)
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

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers."""
        position = self._field(number)
        if position is None:
            return []
        start = position + _unsigned(self._data, position)
        values = struct.unpack_from(f"<{2 * _unsigned(self._data, start)}q", self._data, start + 4)
        return list(zip(values[::2], values[1::2], strict=True))
