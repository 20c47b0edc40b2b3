"""Operating system errors as messages that suggest a fix: errors of writing, and errors that are not about one file."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from datacheck.errors import OutputError
from datacheck.storage.base import StoreError
from datacheck.text import plain

_KEPT = "finished parts are kept"

_REASONS: dict[int, tuple[str, str]] = {
    errno.EACCES: ("permission denied", "make the folder writable, or choose another output"),
    errno.EDQUOT: ("the disk quota is used up", f"free space and run again: {_KEPT}"),
    errno.EEXIST: ("a file or folder of that name already exists", "move it away, or choose another output"),
    errno.EFBIG: (
        "the file is larger than the system allows (the file system's limit, or 'ulimit -f')",
        f"raise the limit or choose another file system, and run again: {_KEPT}",
    ),
    errno.EIO: ("the disk reported an error", f"check the disk and run again: {_KEPT}"),
    errno.EISDIR: ("a folder of that name already exists", "move it away, or choose another output"),
    errno.ELOOP: (
        "too many symbolic links, or one inside an output, where none is followed",
        "remove the link, or choose another output",
    ),
    errno.EMFILE: ("too many open files", f"raise the limit ('ulimit -n') and run again: {_KEPT}"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "choose a shorter output path"),
    errno.ENFILE: ("too many open files in the whole system", f"close some and run again: {_KEPT}"),
    errno.ENOENT: ("the folder does not exist, or was removed while it was written", "create it and run again"),
    errno.ENOSPC: ("the disk is full", f"free space and run again: {_KEPT}"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another output"),
    errno.ENOTEMPTY: ("a folder of that name contains files", "move it away, or choose another output"),
    errno.EPERM: ("the operation is not permitted", "make the folder writable, or choose another output"),
    errno.EROFS: ("the file system is read-only", "choose an output on a writable one"),
    errno.EXDEV: ("it is on another file system", "keep '.datacheck' and the output on the same one"),
}


#: Errors that are the machine's and no file's, although they come while a file is read: they may pass.
_MACHINE = {
    errno.EDQUOT: "set TMPDIR to a folder with more room",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit ('ulimit -n')",
    errno.ENFILE: "close some",
    errno.ENOMEM: "use fewer workers",
    errno.ENOSPC: "free space there, or set TMPDIR to a folder with more room",
    errno.ESTALE: "check the network file system",
    errno.ETIMEDOUT: "check the network",
}


def machine_failure(error: BaseException) -> tuple[str, str] | None:
    """What failed and how to fix it, for an error that says nothing about the file that was read; None for any other."""
    if isinstance(error, MemoryError):
        return "there is not enough memory", "use fewer workers, or split the file into smaller ones, and run again"
    if isinstance(error, StoreError):
        what, _, fix = (error.strerror or str(error)).partition("; ")
        return what, fix or "run again"
    if not isinstance(error, OSError) or error.errno not in _MACHINE:
        return None
    reason, _ = _REASONS.get(error.errno, (error.strerror or str(error), ""))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"{reason}, in the temporary folder {plain(tempfile.gettempdir())}"
    return reason, f"{_MACHINE[error.errno]}, and run again"


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn every ``OSError`` of the block, which writes temporary files, into an ``OutputError``."""
    try:
        yield
    except OSError as error:
        reason, fix = machine_failure(error) or (
            error.strerror or str(error),
            "set TMPDIR to another folder, and run again",
        )
        raise OutputError(f"temporary files cannot be written: {plain(reason)}; {fix}") from error


def output_error(error: OSError, path: str | os.PathLike[str], *, in_parts: bool = True) -> OutputError:
    """An error that says what could not be written, why, and how to fix it; ``in_parts`` if what was written so far is kept."""
    if isinstance(error, StoreError):
        return OutputError(
            f"{plain(os.fspath(path), limit=300)}: cannot be written: {plain(error.strerror or str(error), 600)}"
        )
    reason, fix = _REASONS.get(
        error.errno or 0, (plain(error.strerror or str(error)), f"fix that and run again: {_KEPT}")
    )
    fix = fix if in_parts else fix.removesuffix(f": {_KEPT}")
    return OutputError(f"{plain(os.fspath(path), limit=300)}: cannot be written: {reason}; {fix}")


@contextmanager
def output_errors(path: str | os.PathLike[str], *, in_parts: bool = True) -> Iterator[None]:
    """Turn every ``OSError`` of the block into an ``OutputError`` about ``path``."""
    try:
        yield
    except OSError as error:
        raise output_error(error, path, in_parts=in_parts) from error
