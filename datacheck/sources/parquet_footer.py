"""The metadata of the column chunks of a Parquet file, read from its footer: a struct in Thrift's compact protocol.

pyarrow says how many values a chunk has, too, but ends the process where that part of a footer is encrypted or
damaged. It does not show ``nan_count``, the ninth field of ``Statistics`` in the Parquet format. It also decodes a
footer without a bound: a byte of it can take 250 bytes of memory.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, ReadOptions
from datacheck.sources.error_translation import check_bytes
from datacheck.storage.base import Fingerprint
from datacheck.storage.registry import open_file

#: Footers that take little memory, whatever they say.
_HARMLESS_BYTES = 2 << 20
#: Compiling the pattern for small structs takes as long as reading a footer of this size without it.
_LONG_BYTES = 1 << 20
#: What pyarrow takes for a column chunk, for another item of a list, and for a byte of the footer.
_BYTES_OF_CHUNK, _BYTES_OF_ITEM, _BYTES_OF_BYTE = 768, 40, 3
#: The bytes that a short item begins with: its length, or the number of its first field.
_SHORT = bytes(range(16))
#: A column chunk has the offset of its file: the second field, an integer, whose header is one of these.
_CHUNK_HEADERS = (b"\x06\x04", b"\x16", b"\x26")
_MAX_DEPTH = 32
#: The types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _INTEGER, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 12
#: The numbers of fields in parquet.thrift.
_ROW_GROUPS, _COLUMNS, _FILE_PATH, _META_DATA = 4, 1, 1, 3
_TYPE, _PATH, _NUM_VALUES, _ENCODED_BYTES, _STORED_BYTES, _STATISTICS = 1, 3, 5, 6, 7, 12
_DATA_PAGE, _DICTIONARY_PAGE = 9, 11
#: The fields of a column chunk's metadata that are integers, with the type that each has: any other is not that field.
_INTEGERS = {
    _TYPE: 5,
    **dict.fromkeys((_NUM_VALUES, _ENCODED_BYTES, _STORED_BYTES, _DATA_PAGE, _DICTIONARY_PAGE), _INTEGER),
}
_NULL_COUNT, _MAX_VALUE, _MIN_VALUE, _NAN_COUNT = 3, 5, 6, 9


@dataclass(frozen=True, slots=True)
class ChunkMetadata:
    """What the footer says of a column chunk; nothing of one that is encrypted with a key of its own.

    ``num_values`` are the values that it claims, nulls included, and ``encoded_bytes`` the bytes that encode them.
    ``physical_type`` is the number of the type in the format. What the writer did not count is None. ``low`` and ``high`` are
    the encoded extremes of the values that are neither null nor NaN; empty if unknown. Its pages are the bytes of the file from
    ``start`` up to ``stop``; None if they lie in another file.
    """

    path: str = ""
    num_values: int = 0
    encoded_bytes: int = 0
    physical_type: int | None = None
    null_count: int | None = None
    nan_count: int | None = None
    low: bytes = b""
    high: bytes = b""
    start: int | None = None
    stop: int = 0


@dataclass(frozen=True, slots=True)
class RowGroupMetadata:
    """The column chunks of a row group, and a hash of all that the footer says of it."""

    chunks: Sequence[ChunkMetadata]
    digest: str


_UNKNOWN = ChunkMetadata()


def check_footer(uri: str, size: int | None, options: ReadOptions) -> None:
    """Raise ``SourceError`` (DC904) for a footer that would take too much memory once decoded.

    ``size`` is the file's in bytes, where it is known.
    """
    limit = options.max_bytes_at_once
    footer = _footer(uri, size, limit)
    if len(footer) <= _HARMLESS_BYTES:
        return
    # Two bounds of what it takes: one at the speed of memory, and if that is too much, one that counts the column chunks.
    others = (len(footer) - len(footer.translate(None, _SHORT))) * _BYTES_OF_ITEM + len(footer) * _BYTES_OF_BYTE
    what = f"its footer of {len(footer):,} bytes"
    check_bytes(uri, others, limit, what)
    if sum(map(footer.count, _CHUNK_HEADERS)) * _BYTES_OF_CHUNK + others <= limit:
        return
    try:
        num_bytes = _Compact(footer).count_chunks() * _BYTES_OF_CHUNK + others
    except _MALFORMED as error:
        raise SourceError("DC901", uri, f"its footer is malformed ({error})", REWRITE_FILE) from error
    check_bytes(uri, num_bytes, limit, what)


def read_chunks(uri: str, fingerprint: Fingerprint, max_bytes: int) -> list[Sequence[ChunkMetadata]]:
    """The column chunks of each row group; empty where the footer is encrypted, too large or damaged."""
    return [group.chunks for group in read_row_groups(uri, fingerprint, max_bytes)]


@lru_cache(maxsize=2)  # what a large footer says of its chunks takes some 100 MB
def read_row_groups(uri: str, fingerprint: Fingerprint, max_bytes: int) -> list[RowGroupMetadata]:
    """The row groups; empty where the footer is encrypted, too large or damaged."""
    try:
        return _Compact(_footer(uri, fingerprint.size, max_bytes)).row_groups()
    except _MALFORMED:
        return []


def _footer(uri: str, size: int | None, limit: int) -> bytes:
    """The bytes of the footer; empty where it is encrypted, or claims to be longer than the file."""
    with open_file(uri) as file:
        size = file.seek(0, 2) if size is None else size
        tail = file.read_at(max(0, size - 8), 8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or not 0 < length <= size - 8:
            return b""
        check_bytes(uri, length * (_BYTES_OF_BYTE + 1), limit, f"its footer of {length:,} bytes")
        return file.read_at(size - 8 - length, length)


#: What a footer that is damaged raises here.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, struct.error)


@cache
def _small_struct() -> re.Pattern[bytes]:
    """Matches a whole struct of short lists, short texts and two levels of structs: the same bytes as ``_Compact._skip``.

    What a byte says is followed in one way only, so what matches is right.
    """

    def field(*kinds: int) -> bytes:
        return b"[" + b"".join(b"\\x%02x" % (delta << 4 | kind) for delta in range(1, 16) for kind in kinds) + b"]"

    def items(kinds: Sequence[int], pattern: bytes, longest: int) -> list[bytes]:
        return [
            b"[" + b"".join(b"\\x%02x" % (count << 4 | kind) for kind in kinds) + b"](?:" + pattern + b"){%d}" % count
            for count in range(longest + 1)
        ]

    integer = rb"[\x80-\xff]*+[\x00-\x7f]"
    text = b"(?>" + b"|".join(b"\\x%02x.{%d}" % (length, length) for length in range(40)) + b")"
    lists = [*items((4, 5, _INTEGER), integer, 14), *items((_BINARY,), text, 3)]
    values = [
        field(_TRUE, _FALSE),
        field(_BYTE) + b".",
        field(4, 5, _INTEGER) + integer,
        field(_DOUBLE) + b".{8}",
        field(_BINARY) + text,
    ]
    struct_ = b""
    for _ in range(3):
        of_lists = [*lists, *items((_STRUCT,), struct_, 4)] if struct_ else lists
        inner = [field(_STRUCT) + struct_] if struct_ else []
        fields = [*values, *inner, field(_LIST, _SET) + b"(?>" + b"|".join(of_lists) + b")"]
        struct_ = b"(?>(?>" + b"|".join(fields) + rb")*+\x00)"
    return re.compile(struct_, re.DOTALL)


class _Compact:
    """Reads a footer in the compact protocol of Thrift."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._paths: dict[bytes, str] = {}
        self._is_long = len(data) > _LONG_BYTES

    def count_chunks(self) -> int:
        found = 0
        for number, kind in self._fields():
            for _ in self._items(kind) if number == _ROW_GROUPS else ():
                for inner, inner_kind in self._fields():
                    chunks = self._items(inner_kind) if inner == _COLUMNS else ()
                    found += len(chunks)
                    for _ in chunks:
                        self._skip(_STRUCT)
                    if inner != _COLUMNS:
                        self._skip(inner_kind)
            if number != _ROW_GROUPS:
                self._skip(kind)
        return found

    def row_groups(self) -> list[RowGroupMetadata]:
        found: list[RowGroupMetadata] = []
        for number, kind in self._fields():
            if number == _ROW_GROUPS:
                found = [self._row_group() for _ in self._items(kind)]
            else:
                self._skip(kind)
        return found

    def _row_group(self) -> RowGroupMetadata:
        chunks: tuple[ChunkMetadata, ...] = ()
        start = self._at
        for number, kind in self._fields():
            if number == _COLUMNS:
                chunks = tuple(self._chunk() for _ in self._items(kind))
            else:
                self._skip(kind)
        return RowGroupMetadata(chunks, hashlib.sha256(self._data[start : self._at]).hexdigest())

    def _chunk(self) -> ChunkMetadata:
        metadata: dict[int, Any] | None = None
        is_here = True
        for number, kind in self._fields():
            if number == _META_DATA:
                metadata = self._metadata()
            else:
                is_here = is_here and number != _FILE_PATH
                self._skip(kind)
        if metadata is None:
            return _UNKNOWN
        statistics = metadata.get(_STATISTICS, {})
        # A dictionary lies before the pages of values; 0 says that there is none.
        start = min(filter(None, (metadata.get(_DATA_PAGE), metadata.get(_DICTIONARY_PAGE))), default=None)
        return ChunkMetadata(
            metadata[_PATH],
            metadata[_NUM_VALUES],
            metadata[_ENCODED_BYTES],
            metadata.get(_TYPE),
            statistics.get(_NULL_COUNT),
            statistics.get(_NAN_COUNT),
            statistics.get(_MIN_VALUE, b""),
            statistics.get(_MAX_VALUE, b""),
            start if is_here else None,
            (start or 0) + metadata.get(_STORED_BYTES, 0),
        )

    def _metadata(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for number, kind in self._fields():
            if number == _PATH:
                start = self._at
                parts = [self._bytes() for _ in self._items(kind)]
                path = self._data[start : self._at]
                if path not in self._paths:
                    self._paths[path] = ".".join(part.decode("utf-8", "replace") for part in parts)
                found[number] = self._paths[path]
            elif number == _STATISTICS and kind == _STRUCT:
                found[number] = self._statistics()
            elif kind == _INTEGERS.get(number):
                found[number] = self._zigzag()
            else:
                self._skip(kind)
        return found

    def _statistics(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for number, kind in self._fields():
            if number in (_MIN_VALUE, _MAX_VALUE) and kind == _BINARY:
                found[number] = self._bytes()
            elif number in (_NULL_COUNT, _NAN_COUNT) and kind == _INTEGER:
                found[number] = self._zigzag()
            else:
                self._skip(kind)
        return found

    def _fields(self) -> Iterator[tuple[int, int]]:
        """The number and the type of each field of a struct; the caller reads its value."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            yield number, head & 15

    def _items(self, kind: int) -> range:
        """One number for each item of a list, which the caller reads."""
        if kind not in (_LIST, _SET):
            raise ValueError("a field is not a list")
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._varint()
        if length > len(self._data) - self._at:
            raise ValueError("a list is longer than the footer")
        return range(length)

    def _skip(self, kind: int, depth: int = 0) -> None:
        data = self._data
        if kind == _BINARY:
            length = self._varint()
            self._at += length
        elif _BYTE < kind < _DOUBLE:
            while data[self._at] > 0x7F:
                self._at += 1
            self._at += 1
        elif kind == _STRUCT and self._is_long and (match := _small_struct().match(data, self._at)):
            self._at = match.end()
        elif kind == _STRUCT and depth < _MAX_DEPTH:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        elif kind in (_LIST, _SET) and depth < _MAX_DEPTH:
            inner = data[self._at] & 15
            for _ in self._items(kind):
                self._skip(_BYTE if inner in (_TRUE, _FALSE) else inner, depth + 1)
        elif kind in (_BYTE, _DOUBLE):
            self._at += 1 if kind == _BYTE else 8
        elif kind not in (_TRUE, _FALSE):
            raise ValueError("a map, an unknown type or too many levels")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self) -> bytes:
        length = self._varint()
        self._at += length
        if self._at > len(self._data):
            raise ValueError("cut off")
        return self._data[self._at - length : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 64:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise ValueError("a number has more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
