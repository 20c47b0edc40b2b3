"""The members of a tar archive, read header by header: nothing is extracted, no link is followed.

``tarfile`` takes a damaged header, a hole of zeros or the end of a file for the end of the archive, without an error. Here each
of them is a problem with its place, and members after it are read where they can be found.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from datacheck.sources.packed import ByteStream

BLOCK = 512
_ZEROS = bytes(BLOCK)
_NAME, _SIZE, _CHECKSUM, _TYPE, _MAGIC, _PREFIX = (
    slice(0, 100), slice(124, 136), slice(148, 156), 156, slice(257, 263), slice(345, 500),
)  # fmt: skip
#: Headers that describe the next member: long names of GNU tar, and extended headers of POSIX.
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL = b"L", b"K", b"x", b"g"
_FILE_TYPES = (b"0", b"\0", b"7")
_FOLDER, _SPARSE = b"5", b"S"
#: In the header of a sparse file of GNU tar, and in each block after it: whether another block of its map follows.
_MAP_GOES_ON, _MAP_BLOCK_GOES_ON = 482, 504
#: No extended header is larger.
_MAX_HEADER_BYTES = 1 << 20
_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One member. ``data`` is None if it is not a file or is too large; ``raw`` are its bytes in the archive, with headers.

    The two share the bytes: members are large.
    """

    name: str
    offset: int
    size: int
    data: memoryview | None
    raw: tuple[bytes, ...]
    problem: str = ""

    @property
    def num_bytes(self) -> int:
        """The bytes in the archive that are kept."""
        return sum(map(len, self.raw))


@dataclass(frozen=True, slots=True)
class TarProblem:
    """What is wrong with the archive itself at an offset. ``is_end`` says that nothing after it can be read."""

    offset: int
    problem: str
    is_end: bool = False


class _Reader:
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.offset = 0

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer at the end."""
        data = self._stream.read(size)
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        self.offset += len(data)
        return data

    def skip(self, size: int) -> int:
        left = size
        while left and (data := self.read(min(left, _STEP))):
            left -= len(data)
        return size - left


def read_members(stream: ByteStream, max_bytes: int) -> Iterator[Member | TarProblem]:
    """The members of an archive and what is wrong with it. Members of more than ``max_bytes`` are not kept."""
    reader = _Reader(stream)
    heads: list[bytes] = []
    name, size, is_sparse, has_end, num_zeros = "", None, False, False, 0
    while True:
        start = reader.offset
        header = reader.read(BLOCK)
        if len(header) < BLOCK:
            if header.strip(b"\0"):
                yield TarProblem(start, "the file ends inside a header", is_end=True)
            elif heads or not has_end:
                yield TarProblem(start, "it has no end mark: it was cut off, or its writer was not closed", is_end=True)
            return
        if header == _ZEROS:
            num_zeros += 1
            has_end = has_end or num_zeros == 2
            continue
        if num_zeros:
            what = "after the end of the archive: another was appended" if has_end else "after a block of zeros"
            yield TarProblem(start, f"there are members {what}, which most readers do not see")
        num_zeros, has_end = 0, False
        number = None if checksum_of(header) != _octal(header[_CHECKSUM]) else _octal(header[_SIZE])
        if number is None or number < 0:
            yield TarProblem(start, "the header of a member is damaged", is_end=True)
            return
        kind = header[_TYPE : _TYPE + 1]
        is_extra = kind in (_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL)
        if kind == _SPARSE:
            header += _rest_of_map(reader, header)
        number = number if is_extra or size is None else size
        padding = -number % BLOCK
        if number > (_MAX_HEADER_BYTES if is_extra else max_bytes):
            there = reader.skip(number + padding)
            if is_extra or there < number:
                yield TarProblem(start, "a member is cut off, or its size is damaged", is_end=True)
                return
            problem = f"it has {number:,} bytes, too many to be decoded"
            yield Member(name or _name_of(header), start, number, None, (), problem)
            heads, name, size, is_sparse = [], "", None, False
            continue
        data = reader.read(number + padding)
        if len(data) < number:
            yield TarProblem(start, f"the file ends inside the member {name or _name_of(header)!r}", is_end=True)
            return
        heads += [header, data]
        if is_extra:
            content = data[:number]
            if kind == _LONG_NAME:
                name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif kind == _EXTENDED:
                name, size, is_sparse = _extended(content, name)
            continue
        if kind != _FOLDER:
            problem = _problem_of(kind, is_sparse)
            found = None if problem else memoryview(data)[:number]
            yield Member(name or _name_of(header), start, number, found, tuple(heads), problem)
            del data, found
        heads, name, size, is_sparse = [], "", None, False


def _problem_of(kind: bytes, is_sparse: bool) -> str:
    """Why a member is not read; empty for a file."""
    if is_sparse or kind == _SPARSE:
        return "it is a sparse file, whose holes are not in the archive: write it without --sparse"
    return "" if kind in _FILE_TYPES else "it is a link or a device, which is not followed"


def _rest_of_map(reader: _Reader, header: bytes) -> bytes:
    """The blocks after the header of a sparse file of GNU tar that go on with its map."""
    rest = b""
    goes_on = header[_MAP_GOES_ON]
    while goes_on and len(rest) < _MAX_HEADER_BYTES and len(block := reader.read(BLOCK)) == BLOCK:
        rest += block
        goes_on = block[_MAP_BLOCK_GOES_ON]
    return rest


def _name_of(header: bytes) -> str:
    name = header[_NAME].partition(b"\0")[0]
    prefix = header[_PREFIX].partition(b"\0")[0] if header[_MAGIC] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")


def _octal(field: bytes) -> int | None:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 8 * len(field) - 1) - 1) if field[0] == 0x80 else None
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return None


def checksum_of(header: bytes) -> int:
    """The checksum that a header must have."""
    # Adler-32 begins with the sum of the bytes plus 1, modulo 65,521, which the sum of 256 bytes does not reach.
    total = sum((zlib.adler32(part) & 0xFFFF) - 1 for part in (header[:256], header[256:]))
    return total - sum(header[_CHECKSUM]) + 8 * ord(" ")


def _extended(content: bytes, name: str) -> tuple[str, int | None, bool]:
    """The name and the size in an extended header, whose lines are ``length key=value``, and whether the file is sparse."""
    size, is_sparse = None, False
    at = 0
    while at < len(content):
        length, _, _ = content[at : at + 20].partition(b" ")
        if not length.isdigit() or int(length) < 1:
            break
        line = content[at : at + int(length)]
        key, _, value = line.partition(b" ")[2].rstrip(b"\n").partition(b"=")
        is_sparse = is_sparse or key.startswith(b"GNU.sparse.")
        if key == b"GNU.sparse.name" or (key == b"path" and not is_sparse):
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        at += int(length)
    return name, size, is_sparse


def header_with_size(header: bytes, size: int) -> bytes:
    """A header for content of another size."""
    changed = bytearray(header)
    changed[_SIZE] = b"%011o\0" % size
    changed[_CHECKSUM] = b"%06o\0 " % checksum_of(bytes(changed))
    return bytes(changed)
