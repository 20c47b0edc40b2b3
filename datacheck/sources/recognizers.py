"""Recognizes files whose name says nothing and whose first bytes are not enough."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Collection

from datacheck.errors import DatacheckError, SourceError
from datacheck.sources.base import ReadOptions
from datacheck.storage.registry import storage_of

#: Bytes that are enough to recognize a table of numbers.
_HEAD_BYTES = 4096
_NUMBER = re.compile(r"(?i)[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|nan|inf(inity)?)")
#: The pickled number that files of torch began with before they were zip archives.
_TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: How an object of JSON begins.
_OBJECT = re.compile(rb'\s*\{\s*"(?:[^"\\]|\\.)*+"\s*:')


def is_torch_archive(uri: str, head: bytes) -> bool:
    """Whether ``torch.save`` wrote a file: a zip archive, or what it wrote before version 1.6."""
    return head.startswith(_TORCH_BEFORE_1_6) or _has_member(uri, head, "/data.pkl")


def is_npz(uri: str, head: bytes) -> bool:
    """Whether a file is a zip archive with arrays of NumPy."""
    return _has_member(uri, head, ".npy")


def _has_member(uri: str, head: bytes, suffix: str) -> bool:
    """Whether a file is a zip archive with a member whose name ends so."""
    if not head.startswith(b"PK"):
        return False
    from datacheck.sources.archive import open_zip

    try:
        with storage_of(uri).open(uri) as file, open_zip(file, ReadOptions().max_members, uri) as archive:
            return any(name.endswith(suffix) for name in archive.namelist())
    except (zipfile.BadZipFile, SourceError, OSError, ValueError, NotImplementedError):
        return False


def is_safetensors(_uri: str, head: bytes) -> bool:
    """Whether a file begins with the length of a JSON object and the object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30


def is_json_records(uri: str, _head: bytes = b"") -> bool:
    """Whether a file of JSON holds records: a list, or an object per line. One object is a description, and so are names."""
    from datacheck.sources.base import ReadOptions
    from datacheck.sources.packed import open_packed

    try:
        with open_packed(uri, ReadOptions()) as stream:
            head = stream.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, ValueError, DatacheckError):
        return True  # what is wrong with it is said when it is read
    if head.startswith(b"["):
        return head[1:].lstrip()[:1] != b'"'
    if not head.startswith(b"{"):
        return True
    first, _, rest = head.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def is_json_lines(_uri: str, head: bytes) -> bool:
    """Whether a file begins with an object of JSON, as JSON Lines do."""
    return _OBJECT.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def is_tar(_uri: str, head: bytes) -> bool:
    """Whether a file begins with the header of a member of a tar archive."""
    return head[257:262] == b"ustar"


def is_number(text: str) -> bool:
    """Whether a cell is a number in decimal notation, NaN or an infinity."""
    return _NUMBER.fullmatch(text.strip()) is not None


def is_number_table(uri: str, _head: bytes = b"") -> bool:
    """Whether the first lines of a text file are numbers, equally many on each; what follows # is a comment."""
    rows = _first_rows(uri)
    return len({len(cells) for cells in rows}) == 1 and all(is_number(cell) for cells in rows for cell in cells)


def is_list_of_names(uri: str, names: Collection[str]) -> bool:
    """Whether the first lines of a text file are each one of ``names``, alone or with -1, 0 or 1, as in VOC's ``ImageSets``."""
    return all(
        cells[0] in names and len(cells) < 3 and set(cells[1:]) <= {"-1", "0", "1"} for cells in _first_rows(uri)
    )


def _first_rows(uri: str) -> list[list[str]]:
    """The cells of the first lines of a text file without comments; none if it is not text."""
    try:
        with storage_of(uri).open(uri) as file:
            packed = uri.lower().endswith(".gz")
            head = gzip.GzipFile(fileobj=file).read(_HEAD_BYTES) if packed else file.read_at(0, _HEAD_BYTES)
        text = head.decode("utf-8-sig")
    except (OSError, ValueError, EOFError):
        return []
    lines = text.splitlines()
    if len(head) == _HEAD_BYTES and len(lines) > 1:
        lines.pop()
    contents = (line.partition("#")[0].strip() for line in lines)
    return [re.split(r"\s*[,;|\t]\s*|\s+", content) for content in contents if content]
