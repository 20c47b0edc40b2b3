"""Writing a file that a person named: whole or not at all, where a file can be so, and never in the place of data."""

from __future__ import annotations

import os
from pathlib import Path

from datacheck.errors import OutputError
from datacheck.sinks.failures import output_errors
from datacheck.sinks.publish import write_atomically
from datacheck.sources.suffixes import format_of_name
from datacheck.text import plain

__all__ = ["write_named"]


def write_named(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to a file; one that is there is replaced in one step, and a link leads to the file it names.

    What is no file, such as ``/dev/stderr`` or a pipe, is written to and stays what it is. Raises ``OutputError``, also for
    a folder, and for a file whose name is that of data: this is never called to write data.
    """
    place = plain(os.fspath(path), 300)
    if not place.strip() or "\0" in os.fspath(path):
        raise OutputError(f"the name of a file to write is {place!r}; name a file")
    target = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    if target.is_dir():
        raise OutputError(f"{place}: is a folder; name a file in it")
    if _is_stream(path, target):
        # Appended: where the shell sends standard output to a file, what stands in it already stays.
        with output_errors(target), Path(path).open("ab") as file:
            file.write(content)
        return
    if target.is_file() and (format_of_name(target.name) or format_of_name(place)):
        raise OutputError(f"{place}: is a file of data, which is never replaced; choose another name")
    write_atomically(target, content)


def _is_stream(path: str | os.PathLike[str], target: Path) -> bool:
    """Whether a path leads to what cannot be replaced by a file: a device, a pipe, an open file of this process."""
    whole = os.path.abspath(path)  # noqa: PTH100
    leads_to_open_file = whole in ("/dev/stdout", "/dev/stderr") or whole.startswith(("/dev/fd/", "/proc/"))
    return leads_to_open_file or (target.exists() and not target.is_file())
