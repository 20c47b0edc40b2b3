"""What the operating system refused, as an ``OutputError`` that says what to do next."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from datacheck.errors import OutputError
from datacheck.text import plain

__all__ = ["output_error", "output_errors"]

_KEPT = "finished parts are kept"

_REASONS: dict[int, tuple[str, str]] = {
    errno.EACCES: ("permission denied", "make the folder writable, or choose another output"),
    errno.EDQUOT: ("the disk quota is used up", f"free space and run again: {_KEPT}"),
    errno.EEXIST: ("something of that name is in the way", "move it away, or choose another output"),
    errno.EFBIG: (
        "the file is larger than the system allows (the file system's limit, or 'ulimit -f')",
        f"raise the limit or choose another file system, and run again: {_KEPT}",
    ),
    errno.EIO: ("the disk reported an error", f"check the disk and run again: {_KEPT}"),
    errno.EISDIR: ("a folder of that name is in the way", "move it away, or choose another output"),
    errno.ELOOP: ("too many symbolic links", "choose an output that is no loop of links"),
    errno.EMFILE: ("too many open files", f"raise the limit ('ulimit -n') and run again: {_KEPT}"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "choose a shorter output path"),
    errno.ENFILE: ("too many open files in the whole system", f"run again when fewer are open: {_KEPT}"),
    errno.ENOENT: ("the folder does not exist, or was removed while it was written", "make it and run again"),
    errno.ENOSPC: ("the disk is full", f"free space and run again: {_KEPT}"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another output"),
    errno.ENOTEMPTY: ("a folder of that name holds files", "move it away, or choose another output"),
    errno.EPERM: ("the operation is not permitted", "make the folder writable, or choose another output"),
    errno.EROFS: ("the file system is read-only", "choose an output on one that can be written"),
    errno.EXDEV: ("it lies on another file system", "keep '.datacheck' and the output in one file system"),
}


def output_error(error: OSError, path: str | os.PathLike[str]) -> OutputError:
    """The error that says what could not be written, why, and what to do next."""
    place = plain(os.fspath(path), limit=300)
    reason, remedy = _REASONS.get(
        error.errno or 0, (plain(error.strerror or str(error)), f"mend that and run again: {_KEPT}")
    )
    return OutputError(f"{place}: cannot be written: {reason}; {remedy}")


@contextmanager
def output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise every ``OSError`` of the block as an ``OutputError`` about ``path``."""
    try:
        yield
    except OSError as error:
        raise output_error(error, path) from error
