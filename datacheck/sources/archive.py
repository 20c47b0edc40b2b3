"""Zip archives: what is refused before anything is expanded, and stored members where they lie."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter

from datacheck.errors import SourceError
from datacheck.sources.base import ReadOptions
from datacheck.sources.error_translation import check_expansion
from datacheck.storage.base import DataFile

__all__ = ["check_zip", "data_offset", "verify_stored"]

_LOCAL_HEADER_BYTES = 30
_BROKEN = "write the file again, or take it out of the inputs"


def check_zip(uri: str, archive: zipfile.ZipFile, size: int, options: ReadOptions) -> list[zipfile.ZipInfo]:
    """The members of an archive that are files, in the order of the archive; raises ``SourceError``.

    Refused are bombs (DC904), encryption (DC905), two members of one name, and compression that cannot be expanded in
    steps of bounded size.
    """
    entries = archive.infolist()
    check_expansion(uri, sum(entry.file_size for entry in entries), size, len(entries), options)
    end = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        if entry.header_offset < end:
            raise SourceError("DC904", uri, "its members share the same bytes, as in a zip bomb", _BROKEN)
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
        if entry.flag_bits & 0x1:
            problem = f"the member {entry.filename!r} is encrypted"
            raise SourceError("DC905", uri, problem, "decrypt it first: datacheck takes no keys")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = f"the member {entry.filename!r} is compressed by a method that cannot be bounded"
            raise SourceError("DC901", uri, problem, "save it again, stored or deflated")
        if end > size or (entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size):
            problem = f"the member {entry.filename!r} claims bytes that are not there"
            raise SourceError("DC901", uri, problem, _BROKEN)
    files = [entry for entry in entries if not entry.is_dir()]
    twice = [name for name, number in Counter(entry.filename for entry in files).items() if number > 1]
    if twice:
        raise SourceError("DC901", uri, f"two members are named {twice[0]!r}, and readers see only one", _BROKEN)
    return files


def data_offset(file: DataFile, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin."""
    header = file.read_at(entry.header_offset, _LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return entry.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes


def verify_stored(uri: str, file: DataFile, entry: zipfile.ZipInfo) -> None:
    """Check the checksum of a stored member, which mapping its bytes does not; raises ``SourceError``."""
    offset = data_offset(file, entry)
    left, checksum = entry.file_size, 0
    while left:
        chunk = file.read_at(offset, min(left, 1 << 20))
        if not chunk:
            raise SourceError("DC901", uri, f"the file ends inside the member {entry.filename!r}", _BROKEN)
        checksum = zlib.crc32(chunk, checksum)
        offset, left = offset + len(chunk), left - len(chunk)
    if checksum != entry.CRC:
        raise SourceError("DC901", uri, f"the checksum of the member {entry.filename!r} is wrong", _BROKEN)
