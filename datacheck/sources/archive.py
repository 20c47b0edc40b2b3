"""Zip archives: checks before anything is decompressed, and where stored members are."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, ReadOptions
from datacheck.sources.error_translation import check_expansion, check_members
from datacheck.storage.base import DataFile

_LOCAL_HEADER_BYTES = 30
_DIRECTORY_ENTRY_BYTES = 46
_END, _END_64, _LOCATOR_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_MAX_COMMENT_BYTES = 65_535


@contextmanager
def open_zip(file: DataFile, max_members: int, uri: str = "") -> Iterator[zipfile.ZipFile]:
    """Open an archive; raises ``SourceError`` (DC904) before zipfile makes an object for each of too many members."""
    check_members(uri, _count_members(file, max_members), max_members)
    with zipfile.ZipFile(cast("BinaryIO", file)) as archive:
        yield archive


def _count_members(file: DataFile, enough: int) -> int:
    """The number of members that the central directory lists, where that may be more than ``enough``."""
    size = file.seek(0, 2)
    tail = file.read_at(max(size - _END.size - _MAX_COMMENT_BYTES, 0), _END.size + _MAX_COMMENT_BYTES)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END.size:
        return 0  # zipfile says what is wrong with it
    end = size - len(tail) + found
    num_bytes = _END.unpack_from(tail, found)[5]
    locator = file.read_at(max(end - _LOCATOR_64.size, 0), _LOCATOR_64.size)
    if locator.startswith(b"PK\x06\x07"):
        end -= _LOCATOR_64.size + _END_64.size
        record = file.read_at(max(end, 0), _END_64.size)
        num_bytes = _END_64.unpack(record)[8] if len(record) == _END_64.size else 0
    if num_bytes // _DIRECTORY_ENTRY_BYTES <= enough or num_bytes > end:
        return 0
    directory, position, count = file.read_at(end - num_bytes, num_bytes), 0, 0
    while position + _DIRECTORY_ENTRY_BYTES <= len(directory) and count <= enough:
        position += _DIRECTORY_ENTRY_BYTES + sum(struct.unpack_from("<3H", directory, position + 28))
        count += 1
    return count


def check_zip(uri: str, archive: zipfile.ZipFile, size: int, options: ReadOptions) -> list[zipfile.ZipInfo]:
    """The members of an archive that are files, in the order of the archive; raises ``SourceError``.

    Refuses zip bombs (DC904), encryption (DC905), duplicate names, and compression methods that cannot be decompressed in
    bounded steps.
    """
    entries = archive.infolist()
    check_expansion(uri, sum(entry.file_size for entry in entries), size, len(entries), options)
    end = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        if entry.header_offset < end:
            raise SourceError("DC904", uri, "its members overlap, as in a zip bomb", REWRITE_FILE)
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
        if entry.flag_bits & 0x1:
            problem = f"the member {entry.filename!r} is encrypted"
            raise SourceError("DC905", uri, problem, "decrypt it first: datacheck does not take keys")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = f"the member {entry.filename!r} has an unsupported compression method"
            raise SourceError("DC901", uri, problem, "save it again, uncompressed or deflated")
        if end > size or (entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size):
            problem = f"the member {entry.filename!r} claims more bytes than the file has"
            raise SourceError("DC901", uri, problem, REWRITE_FILE)
    files = [entry for entry in entries if not entry.is_dir()]
    twice = [name for name, number in Counter(entry.filename for entry in files).items() if number > 1]
    if twice:
        raise SourceError(
            "DC901", uri, f"the member name {twice[0]!r} is duplicated, and readers see only one of them", REWRITE_FILE
        )
    return files


def data_offset(file: DataFile, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin."""
    header = file.read_at(entry.header_offset, _LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return entry.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes


def verify_stored(uri: str, file: DataFile, entry: zipfile.ZipInfo) -> None:
    """Verify the checksum of a stored member, which mapping does not; raises ``SourceError``."""
    offset = data_offset(file, entry)
    left, checksum = entry.file_size, 0
    while left:
        chunk = file.read_at(offset, min(left, 1 << 20))
        if not chunk:
            raise SourceError("DC901", uri, f"the file ends inside the member {entry.filename!r}", REWRITE_FILE)
        checksum = zlib.crc32(chunk, checksum)
        offset, left = offset + len(chunk), left - len(chunk)
    if checksum != entry.CRC:
        problem = (
            f"the checksum of the member {entry.filename!r} is wrong: its bytes have changed since they were written"
        )
        remedy = f"{REWRITE_FILE}; verify_checksums: false reads it as it is"
        raise SourceError("DC901", uri, problem, remedy)
