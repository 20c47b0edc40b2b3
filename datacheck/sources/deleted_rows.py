"""Rows that a table has deleted without writing its files again: the bitmaps of Delta and Iceberg, and how they are applied.

The layout is that of https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vector-format, a 64-bit Roaring bitmap,
which version 3 of Iceberg has taken over.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.leaves import IntArray
from datacheck.storage.registry import open_file

_MAGIC = 1681511377
_SERIAL, _SERIAL_WITH_RUNS = 12346, 12347
#: The most rows of one file that may be deleted.
_MAX_ROWS = 1 << 28
_Z85 = {byte: value for value, byte in enumerate(
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeletedRows:
    """The deleted rows of a file: ``rows`` as int64, or a bitmap, ``inline`` or ``size`` bytes at ``offset`` of ``uri``."""

    cardinality: int
    rows: bytes = b""
    inline: bytes = b""
    uri: str = ""
    offset: int = 0
    size: int = 0

    def read(self, owner: str) -> IntArray:
        """The deleted rows of a file, sorted; raises ``SourceError`` (DC914) where they cannot be told."""
        try:
            if self.rows:
                return np.frombuffer(self.rows, np.int64)
            rows = read_bitmap(self.inline or self._content())
        except OSError as error:
            raise _error(owner, f"its deletion vector cannot be read ({error.strerror or error})") from None
        except (ValueError, struct.error, IndexError) as error:
            raise _error(owner, f"its deletion vector is damaged ({error})") from None
        if len(rows) != self.cardinality:
            raise _error(owner, f"its deletion vector has {len(rows):,} rows, the log says {self.cardinality:,}")
        return rows

    def _content(self) -> bytes:
        """The bitmap in its file: behind its size, before its checksum."""
        with open_file(self.uri) as file:
            content = file.read_at(self.offset, self.size + 8)
        if len(content) != self.size + 8 or int.from_bytes(content[:4], "big") != self.size:
            raise ValueError("it is cut off, or its size differs from the log's")
        data = content[4 : 4 + self.size]
        if zlib.crc32(data) != int.from_bytes(content[4 + self.size :], "big"):
            raise ValueError("its checksum is wrong")
        return data


def _error(uri: str, problem: str) -> SourceError:
    return SourceError(
        "DC914", uri, problem, "restore the file, or export the version that you train on to plain Parquet"
    )


def decode_z85(text: str) -> bytes:
    """Bytes in the encoding Z85, of which Delta writes short bitmaps and the names of files; raises ``ValueError``."""
    if len(text) % 5:
        raise ValueError("text that is not a multiple of 5 characters")
    parts = []
    for start in range(0, len(text), 5):
        number = 0
        for byte in text[start : start + 5].encode():
            if byte not in _Z85:
                raise ValueError("a character that Z85 does not have")
            number = number * 85 + _Z85[byte]
        parts.append((number & 0xFFFF_FFFF).to_bytes(4, "big"))
    return b"".join(parts)


def read_bitmap(data: bytes) -> IntArray:
    """The numbers of a 64-bit Roaring bitmap with its magic number, sorted; raises ``ValueError``."""
    if int.from_bytes(data[:4], "little") != _MAGIC:
        raise ValueError("it is of an unknown format")
    (num_bitmaps,) = struct.unpack_from("<q", data, 4)
    if not 0 <= num_bitmaps <= len(data) // 4:
        raise ValueError("it claims more parts than it has bytes for")
    at, parts, total = 12, [np.empty(0, np.int64)], 0
    for _ in range(num_bitmaps):
        (high,) = struct.unpack_from("<I", data, at)
        low, at = _read_bitmap32(data, at + 4)
        total += len(low)
        if high >> 31 or total > _MAX_ROWS:
            raise ValueError(f"it has more than {_MAX_ROWS:,} rows, or rows beyond 63 bits")
        parts.append(low.astype(np.int64) + (high << 32))
    return np.concatenate(parts)


def _read_bitmap32(data: bytes, at: int) -> tuple[IntArray, int]:
    """The numbers of a 32-bit Roaring bitmap in its portable format, and where it ends."""
    (cookie,) = struct.unpack_from("<I", data, at)
    has_runs = cookie & 0xFFFF == _SERIAL_WITH_RUNS
    if has_runs:
        count, at = (cookie >> 16) + 1, at + 4
        flags = np.unpackbits(np.frombuffer(data, np.uint8, (count + 7) // 8, at), bitorder="little")
        at += (count + 7) // 8
    elif cookie == _SERIAL:
        (count,) = struct.unpack_from("<I", data, at + 4)
        at, flags = at + 8, np.zeros(0, np.uint8)
    else:
        raise ValueError("a part of it is of an unknown format")
    if count > 1 << 16:
        raise ValueError("a part of it has too many containers")
    heads = np.frombuffer(data, "<u2", 2 * count, at).reshape(-1, 2).tolist()
    at += 4 * count
    if not has_runs or count >= 4:
        at += 4 * count  # where each container is, which follows from their sizes
    parts = [np.empty(0, np.int64)]
    for index, (key, less) in enumerate(heads):
        if has_runs and flags[index]:
            (num_runs,) = struct.unpack_from("<H", data, at)
            runs = np.frombuffer(data, "<u2", 2 * num_runs, at + 2).reshape(-1, 2).astype(np.int64)
            low = np.concatenate([np.arange(start, start + length + 1) for start, length in runs] or [parts[0]])
            at += 2 + 4 * num_runs
        elif less + 1 > 4096:
            low = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8, 8192, at), bitorder="little"))
            at += 8192
        else:
            low = np.frombuffer(data, "<u2", less + 1, at).astype(np.int64)
            at += 2 * (less + 1)
        parts.append(low + (key << 16))
    return np.concatenate(parts), at


def without_deleted(batches: Iterator[Batch], deleted: IntArray) -> Iterator[Batch]:
    """The batches without deleted rows of their file; the others keep their numbers."""
    for batch in batches:
        first, last = np.searchsorted(deleted, [batch.row_start, batch.row_start + batch.num_rows])
        if first == last:
            yield batch
            continue
        keep = np.ones(batch.num_rows, np.bool_)
        keep[deleted[first:last] - batch.row_start] = False
        kept = batch.take(np.flatnonzero(keep))
        yield replace(kept, counts_rows=batch.counts_rows, unreadable=batch.unreadable, findings=batch.findings)
