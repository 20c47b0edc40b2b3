"""Zip archives: checks before anything is decompressed, and where stored members are."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter

from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, ReadOptions
from datacheck.sources.error_translation import check_expansion
from datacheck.storage.base import DataFile

__all__ = ["check_zip", "data_offset", "verify_stored"]

_LOCAL_HEADER_BYTES = 30


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
