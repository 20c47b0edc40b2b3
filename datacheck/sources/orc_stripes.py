"""How much a stripe of ORC decodes to, from the lengths that it stores, before Arrow decodes it.

The statistics of a file are not believed. What is read is what the ORC library decodes by: the tail of the file, the footers of
its stripes, and the lengths of their texts and lists. Whatever is malformed or ambiguous raises ``ValueError``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa

from datacheck.sources.base import MAX_BYTES_AT_ONCE
from datacheck.sources.orc_runs import Run, runs_of
from datacheck.sources.protobuf_wire import fields_of, read_varint
from datacheck.storage.base import DataFile

#: The kinds of types in the specification, https://orc.apache.org/specification/ORCv1.
_LIST, _MAP = 10, 11
_TEXTS = {7, 8, 16, 17, 19, 20}
#: What a value takes in Arrow, which may hold it twice while it grows. An offset of a list takes as much as an integer.
_BYTES_OF_KIND = {0: 2, 1: 2, 2: 4, 4: 16, 6: 16, 9: 16, 14: 32, 18: 16}
_BYTES_OF_INT = 8
#: Arrow has the ORC library decode so many rows at once, whatever their lists hold, and what a value in a list takes there.
_ROWS_AT_ONCE = 1000
_BYTES_IN_LIST = {9: 17, 14: 17, 18: 17} | dict.fromkeys(_TEXTS, 17)
_BYTES_OF_LONG = 9
#: The kinds of streams, and the encodings, by their version: with a dictionary or without.
_DATA, _LENGTH = 1, 2
_DIRECT, _DICTIONARY = {0: 1, 2: 2}, {1: 1, 3: 2}
_NONE, _ZLIB, _SNAPPY, _LZO, _LZ4, _ZSTD = range(6)
#: The header of an LZ4 frame of blocks of the largest size, without checksums.
_MAX_LZ4_BLOCK_BYTES = 4 << 20
_LZ4_FRAME = b"\x04\x22\x4d\x18\x60\x70\x73"
#: The blocks that writers use are far smaller, and a chunk is never longer compressed.
_MAX_BLOCK_BYTES, _DEFAULT_BLOCK_BYTES = 8 << 20, 256 << 10
_MAX_DEPTH = 64
#: What a byte of a footer can take once decoded.
_BYTES_OF_FOOTER_BYTE = 250


@dataclass(frozen=True, slots=True)
class Stripe:
    """Where a stripe lies in its file, and its number of rows."""

    start: int
    footer_start: int
    footer_length: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What the tail of a file says: of each type its kind and the numbers of its children; the first is of the rows."""

    compression: int
    block_bytes: int
    types: Sequence[tuple[int, Sequence[int]]]
    stripes: Sequence[Stripe]


def read_tail(file: DataFile, limit: int) -> Tail:
    """The tail of an open file; raises ``ValueError`` for one that would take more than ``limit`` bytes, or is malformed."""
    size = file.seek(0, 2)
    if file.read_at(0, 3) != b"ORC":
        raise ValueError("it does not begin as an ORC file does")
    length = file.read_at(size - 1, 1)[0]
    postscript = _message(file.read_at(max(0, size - 1 - length), length))
    footer_length, compression = _number(postscript, 1), _number(postscript, 2)
    block_bytes = postscript.get(3, _DEFAULT_BLOCK_BYTES)
    if footer_length > size or not 0 < block_bytes <= _MAX_BLOCK_BYTES:
        raise ValueError(f"its footer of {footer_length:,} bytes, or its blocks of {block_bytes:,}, are impossible")
    packed = file.read_at(max(0, size - 1 - length - footer_length), footer_length)
    return _footer(packed, compression, block_bytes, _footer_limit(limit))


@lru_cache(maxsize=4)
def _footer(packed: bytes, compression: int, block_bytes: int, most: int) -> Tail:
    footer = _footer_bytes(packed, compression, block_bytes, most)
    types, stripes = [], []
    for number, value in fields_of(footer):
        if number == 3 and not isinstance(value, int):
            stripes.append(_stripe(value))
        elif number == 4 and not isinstance(value, int):
            types.append(value)
    return Tail(compression, block_bytes, _types(types), stripes)


def takes_more(file: DataFile, tail: Tail, stripe: Stripe, columns: Sequence[int], limit: int) -> bool:
    """Whether the top-level columns of a stripe may decode to more than ``limit`` bytes.

    First every run of lengths counts as if its values were the largest that it can hold; where that is too much, as they are.
    """
    children = tail.types[0][1] if tail.types else ()
    if any(column >= len(children) for column in columns):
        raise ValueError("it has other columns than its types say")
    for exact in (False, True):
        size = _Size(file, tail, stripe, limit, exact)
        try:
            for column in columns:
                size.add_column(children[column], stripe.num_rows)
        except _ExceededError:
            continue
        return False
    return True


class _ExceededError(Exception):
    """The sum is above the limit: no further column is looked at."""


@dataclass(slots=True)
class _Size:
    """The sum of what the columns of one stripe take."""

    file: DataFile
    tail: Tail
    stripe: Stripe
    limit: int
    exact: bool
    total: int = 0
    encodings: list[tuple[int, int]] = field(init=False)
    streams: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        length = self.stripe.footer_length
        if self.stripe.footer_start + length > self.file.seek(0, 2):
            raise ValueError("a stripe ends behind the end of the file")
        packed = self.file.read_at(self.stripe.footer_start, length)
        footer = _footer_bytes(packed, self.tail.compression, self.tail.block_bytes, _footer_limit(self.limit))
        start, self.encodings = self.stripe.start, []
        for number, value in fields_of(footer):
            if number == 1 and not isinstance(value, int):
                parts = _message(value)
                key, stored = (_number(parts, 1) & 0xFFFFFFFF, _number(parts, 2) & 0xFFFFFFFF), _number(parts, 3)
                if key[0] in (_DATA, _LENGTH):
                    if key in self.streams:
                        raise ValueError(f"a stripe has two streams of kind {key[0]} of column {key[1]}")
                    self.streams[key] = (start, stored)
                start += stored
            elif number == 2 and not isinstance(value, int):
                parts = _message(value)
                self.encodings.append((_number(parts, 1) & 0xFFFFFFFF, _number(parts, 2) & 0xFFFFFFFF))

    def add(self, num_bytes: int) -> None:
        self.total += num_bytes
        if self.total > self.limit:
            raise _ExceededError

    def add_column(self, column: int, num_rows: int, *, in_list: bool = False) -> None:
        kind, children = self.tail.types[column]
        num_bytes = _BYTES_OF_KIND.get(kind, _BYTES_OF_INT) + in_list * _BYTES_IN_LIST.get(kind, _BYTES_OF_LONG)
        self.add(num_rows * num_bytes)
        if kind in _TEXTS:
            self._add_texts(column, num_rows, in_list)
        elif kind in (_LIST, _MAP):
            num_rows = sum(map(self._sum, self._runs(_LENGTH, column, self._version(column, _DIRECT), num_rows)))
        for child in children:
            self.add_column(child, num_rows, in_list=in_list or kind in (_LIST, _MAP))

    def _add_texts(self, column: int, num_rows: int, in_list: bool) -> None:
        """Arrow copies the texts of each row; the ORC library holds the texts of a dictionary once."""
        encoding, num_entries = self._encoding(column)
        if encoding not in _DICTIONARY:
            total = longest = 0
            for run in self._runs(_LENGTH, column, self._version(column, _DIRECT), num_rows):
                total, longest = total + self._sum(run), max(longest, run.most)
            self.add(2 * total + min(total, longest * (num_rows if in_list else _ROWS_AT_ONCE)))
            return
        self.add(24 * num_entries)
        longest = num_read = 0
        lengths_of = np.zeros(num_entries if self.exact else 0, np.int64)
        for run in self._runs(_LENGTH, column, _DICTIONARY[encoding], num_entries):
            self.add(self._sum(run))
            longest = max(longest, run.most)
            if self.exact:
                lengths_of[num_read : num_read + run.num_values] = run.values()[: num_entries - num_read]
                num_read += run.num_values
        if not self.exact:
            self.add(2 * num_rows * longest)
            return
        for run in self._runs(_DATA, column, _DICTIONARY[encoding], num_rows):
            indices = run.values()
            if indices.max() >= num_entries:
                raise ValueError(f"an index of column {column} is outside of its dictionary")
            self.add(2 * int(lengths_of[indices].sum()))

    def _sum(self, run: Run) -> int:
        return int(run.values().sum()) if self.exact else run.num_values * run.most

    def _runs(self, kind: int, column: int, version: int, num_values: int) -> Iterator[Run]:
        start, length = self.streams.get((kind, column), (0, 0))
        if start + length > self.stripe.footer_start:
            raise ValueError(f"a stream of column {column} ends outside of its stripe")
        packed = self.file.read_at(start, length)
        most = min(16 * num_values + 1024, self.limit)
        return runs_of(_decompress(packed, self.tail.compression, self.tail.block_bytes, most), version, num_values)

    def _encoding(self, column: int) -> tuple[int, int]:
        if column >= len(self.encodings):
            raise ValueError(f"a stripe has no encoding of column {column}")
        return self.encodings[column]

    def _version(self, column: int, encodings: dict[int, int]) -> int:
        encoding, _ = self._encoding(column)
        if encoding not in encodings:
            raise ValueError(f"the encoding of column {column} is {encoding}, which is unknown")
        return encodings[encoding]


def _footer_limit(limit: int) -> int:
    return max(limit, MAX_BYTES_AT_ONCE) // _BYTES_OF_FOOTER_BYTE


def _footer_bytes(packed: bytes, compression: int, block_bytes: int, most: int) -> memoryview:
    footer = _decompress(packed, compression, block_bytes, most)
    if len(footer) > most:
        raise ValueError(f"its footer has more than {most:,} bytes once decompressed")
    return footer


def _decompress(data: bytes, compression: int, block_bytes: int, most: int) -> memoryview:
    """The bytes of a stream; of more than ``most`` the first, at least so many."""
    if compression == _NONE:
        return memoryview(data)[: most + 1]
    whole, at = bytearray(), 0
    while at < len(data) and len(whole) <= most:
        header = int.from_bytes(data[at : at + 3], "little")
        chunk, at = data[at + 3 : at + 3 + (header >> 1)], at + 3 + (header >> 1)
        if at > len(data):
            raise ValueError("a compressed chunk is cut off")
        whole += chunk if header & 1 else _decompress_chunk(chunk, compression, block_bytes)
    return memoryview(whole)


def _decompress_chunk(chunk: bytes, compression: int, most: int) -> bytes:
    try:
        if compression == _ZLIB:
            return zlib.decompressobj(-15).decompress(chunk, most)
        if compression == _SNAPPY:
            size, _ = read_varint(chunk, 0)
            if size > most:
                raise ValueError(f"a chunk claims {size:,} bytes")
            return bytes(pa.Codec("snappy").decompress(chunk, size, asbytes=True))
        if compression == _LZ4 and most > _MAX_LZ4_BLOCK_BYTES:
            size = _lz4_size(chunk)
            if size > most:
                raise ValueError(f"a chunk holds {size:,} bytes, of which there are {most:,} at most")
            return bytes(pa.Codec("lz4_raw").decompress(chunk, size, asbytes=True))
        if compression == _LZ4:
            chunk = _LZ4_FRAME + len(chunk).to_bytes(4, "little") + chunk + bytes(4)
        elif compression != _ZSTD:
            name = "LZO" if compression == _LZO else f"method {compression}"
            raise ValueError(f"it is compressed with {name}, which datacheck does not decompress")
        with pa.CompressedInputStream(pa.BufferReader(chunk), "lz4" if compression == _LZ4 else "zstd") as stream:
            return bytes(stream.read(most))
    except (zlib.error, OSError) as error:
        raise ValueError(f"a compressed chunk is damaged ({error})") from error


def _lz4_size(block: bytes) -> int:
    """What a block of LZ4 decompresses to, which it does not say: it consists of literals, and of copies of bytes before."""
    size, at = 0, 0

    def length(first: int, at: int) -> tuple[int, int]:
        """A length that goes on in further bytes if it is 15, and on after each of 255."""
        more = 255 if first == 15 else 0
        while more == 255:
            more, at = block[at], at + 1
            first += more
        return first, at

    try:
        while at < len(block):
            token, at = block[at], at + 1
            literals, at = length(token >> 4, at)
            size, at = size + literals, at + literals
            if at < len(block):
                copied, at = length(token & 15, at + 2)
                size += copied + 4
    except IndexError:
        raise ValueError("a compressed chunk is cut off") from None
    return size


def _stripe(value: memoryview) -> Stripe:
    parts = _message(value)
    start, index, data, footer, num_rows = (_number(parts, number) for number in range(1, 6))
    return Stripe(start, start + index + data, footer, num_rows)


def _types(values: Sequence[memoryview]) -> list[tuple[int, Sequence[int]]]:
    """The kind and the children of each type; raises ``ValueError`` unless they form a tree that is not too deep."""
    types: list[tuple[int, Sequence[int]]] = []
    depths = {0: 0}
    for number, value in enumerate(values):
        kinds: list[int] = []
        children: list[int] = []
        for part, content in fields_of(value):
            if part == 1 and isinstance(content, int):
                kinds.append(content)
            elif part == 2:
                children += [content] if isinstance(content, int) else _varints(content)
        for child in children:
            if not number < child < len(values) or child in depths:
                raise ValueError("its types are malformed: a type is its own part, or one of two others")
            depths[child] = depths.get(number, 0) + 1
            if depths[child] > _MAX_DEPTH:
                raise ValueError(f"its types are nested more than {_MAX_DEPTH} deep")
        if len(kinds) > 1:
            raise ValueError("a type has two kinds")
        types.append((kinds[0] if kinds else 0, children))
    return types


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = read_varint(data, at)
        values.append(value)
    return values


def _message(data: bytes | memoryview) -> dict[int, int]:
    """The numbers of a message; raises ``ValueError`` if one has two values: which of them holds depends on who reads it."""
    numbers: dict[int, int] = {}
    for number, value in fields_of(data):
        if isinstance(value, int):
            if number in numbers:
                raise ValueError(f"field {number} of a message has two values")
            numbers[number] = value
    return numbers


def _number(message: dict[int, int], number: int) -> int:
    return message.get(number, 0)
