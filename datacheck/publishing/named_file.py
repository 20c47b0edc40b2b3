# os.path answers where pathlib raises, as for a name that is too long.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH114, PTH123
"""Writing a file that a person named: whole or not at all, where a file can be so, and never in the place of data."""

from __future__ import annotations

import os
from pathlib import Path

from datacheck.errors import OutputError
from datacheck.formats import format_of_name
from datacheck.storage.atomic import write_atomically
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

__all__ = ["write_named"]


def write_named(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to a file; one that is there is replaced in one step, and a link leads to the file it names.

    What is no file, such as ``/dev/stderr`` or a pipe, is written to and stays what it is. Raises ``OutputError``, also for
    a folder, and for a file whose name is that of data: this is never called to write data.
    """
    name = os.fspath(path)
    place = plain(name, 300)
    if not name.strip() or "\0" in name:
        raise OutputError(f"the name of a file to write is {place!r}; name a file")
    target = os.path.realpath(name) if os.path.islink(name) else name
    if os.path.isdir(target):
        raise OutputError(f"{place}: is a folder; name a file in it")
    if _is_stream(name):
        # Appended: where the shell sends standard output to a file, what stands in it already stays.
        with output_errors(Path(name)), open(name, "ab") as file:
            file.write(content)
        return
    if os.path.isfile(target) and (format_of_name(target) or format_of_name(name)):
        raise OutputError(f"{place}: is a file of data, which is never replaced; choose another name")
    write_atomically(Path(target), content)


def _is_stream(path: str) -> bool:
    """Whether a path leads to what cannot be replaced by a file: a device, a pipe, an open file of this process."""
    whole = os.path.abspath(path)
    leads_to_open_file = whole in ("/dev/stdout", "/dev/stderr") or whole.startswith(("/dev/fd/", "/proc/"))
    return leads_to_open_file or (os.path.exists(path) and not os.path.isfile(path))
