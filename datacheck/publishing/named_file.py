"""Writing a file that a user named: atomically where possible, and never over data."""

from __future__ import annotations

import os

from datacheck.errors import OutputError
from datacheck.formats import Format, format_of_name, load
from datacheck.storage import storage_of
from datacheck.storage.base import Kind
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

_HEAD_BYTES = 4096
#: How a report of one finding per line begins.
_OUR_FINDING = b'{"code": "DC'


def write_named(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to a file, atomically replacing an existing one; links are followed.

    Streams, such as ``/dev/stderr`` or a pipe, are written to instead. Raises ``OutputError``, also for a folder and for an
    existing data file, which reports must never replace.
    """
    name = os.fspath(path)
    shown = plain(name, 300)
    if not name.strip() or "\0" in name:
        raise OutputError(f"expected a file name, got {shown!r}")
    storage = storage_of(name)
    target = name if storage.link_target(name) is None else storage.resolve(name)
    kind = _kind_of(target)
    if kind == "folder":
        raise OutputError(f"{shown}: is a folder; name a file in it")
    if kind == "other" or _is_open_file(name):
        # Appended, since the shell may have redirected standard output to a file with content.
        with output_errors(name, in_parts=False), open(name, "ab") as file:  # noqa: PTH123
            file.write(content)
        return
    if kind == "file" and _holds_data(target, format_of_name(target) or format_of_name(name)):
        raise OutputError(f"{shown}: is a data file, which is never replaced; choose another name")
    with output_errors(target, in_parts=False):
        storage.put(target, content)


def _holds_data(uri: str, record: Format | None) -> bool:
    """Whether an existing file of a format holds data. JSON may also be a report of ours, or a description."""
    if record is None:
        return False
    try:
        with storage_of(uri).open(uri) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return True
    if record.name in ("json", "jsonl") and (not head or head.startswith(_OUR_FINDING)):
        return False
    return not record.needs_recognition or bool(load(record.recognizer)(uri, head))


def _kind_of(uri: str) -> Kind | None:
    try:
        return storage_of(uri).stat(uri).kind
    except OSError:
        return None


def _is_open_file(path: str) -> bool:
    """Whether a path names a file that this process has open, such as its standard output."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - of any text
    return absolute in ("/dev/stdout", "/dev/stderr") or absolute.startswith(("/dev/fd/", "/proc/"))
