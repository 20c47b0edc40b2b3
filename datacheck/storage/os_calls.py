# A path stays as it was written; pathlib would rewrite it.
# ruff: noqa: PTH114
"""What POSIX systems and Windows do differently: locks, reads at an offset, descriptors of folders, separators of paths."""

from __future__ import annotations

import errno
import importlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


#: The module ``fcntl``; None on Windows.
FCNTL = _module("fcntl")
_msvcrt = None if FCNTL else _module("msvcrt")

#: Whether every change of a file moves its ``st_ctime``; on Windows that is when the file was created.
KEEPS_CHANGE_TIME = os.name != "nt"
#: Whether a file can be removed that some process has open.
REMOVES_OPEN_FILES = FCNTL is not None
#: What is said of what has the name of a file and is none.
NOT_REGULAR = "it is a pipe or a device"
#: Windows keeps everybody from reading what is locked, so the one byte that is locked is one that no file has.
_LOCKED_BYTE = 1 << 40
_WAIT_SECONDS = 0.01
#: Where there is no ``pread``, threads share the position of a file.
_position_lock = threading.Lock()


def open_descriptor(
    path: str | os.PathLike[str],
    flags: int,
    mode: int = 0o600,
    *,
    follow_links: bool = True,
    folder: int | None = None,
) -> int:
    """A file descriptor for bytes, which child processes do not inherit; raises ``OSError``.

    ``path`` is relative to ``folder``, a descriptor of :func:`open_folder`.
    """
    flags |= getattr(os, "O_BINARY", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if not hasattr(os, "O_NOFOLLOW") and os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return os.open(path, flags, mode, dir_fd=folder)


def open_regular(path: str | os.PathLike[str], flags: int) -> int:
    """An ``opener`` that raises ``OSError`` for what may be waited for without end, or has no end; ``open`` refuses folders."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, NOT_REGULAR, os.fspath(path))


@contextmanager
def open_folder(folder: str, root: str | None = None) -> Iterator[int | None]:
    """A descriptor of a folder, which stays with this folder whatever takes its name; None on Windows, which has none.

    Between ``root``, a folder above it as ``folder`` begins, and the folder no link is followed. Raises ``OSError``.
    """
    directory, no_follow = getattr(os, "O_DIRECTORY", None), getattr(os, "O_NOFOLLOW", None)
    if directory is None or no_follow is None:
        yield None
        return
    flags = os.O_RDONLY | directory
    descriptor = os.open(folder if root is None else root, flags)
    try:
        for step in () if root is None else filter(None, folder.removeprefix(root).split("/")):
            try:
                inner = os.open(step, flags | no_follow, dir_fd=descriptor)
            except OSError as error:
                code = error.errno or 0
                with suppress(FileNotFoundError):
                    if stat.S_ISLNK(os.stat(step, dir_fd=descriptor, follow_symlinks=False).st_mode):
                        code = errno.ELOOP
                raise OSError(code, os.strerror(code), folder) from None
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def lock_descriptor(descriptor: int, *, waits: bool = False, shared: bool = False) -> None:
    """Lock an open file for this descriptor until it is closed; raises ``BlockingIOError`` unless it ``waits``.

    Any number of descriptors may have a ``shared`` lock at once. Where the system has none, that raises ``OSError`` (ENOLCK).
    """
    if FCNTL is not None:
        kind = FCNTL.LOCK_SH if shared else FCNTL.LOCK_EX
        FCNTL.flock(descriptor, kind if waits else kind | FCNTL.LOCK_NB)
        return
    if _msvcrt is None or shared:
        raise OSError(errno.ENOLCK, "this system has no file locks")
    while True:
        try:
            _lock_byte(descriptor, _msvcrt.LK_NBLCK)
        except PermissionError:
            if not waits:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
            time.sleep(_WAIT_SECONDS)
        else:
            return


def unlock_descriptor(descriptor: int) -> None:
    """Release the lock of an open file."""
    if FCNTL is not None:
        FCNTL.flock(descriptor, FCNTL.LOCK_UN)
    elif _msvcrt is not None:
        _lock_byte(descriptor, _msvcrt.LK_UNLCK)


def _lock_byte(descriptor: int, mode: int) -> None:
    assert _msvcrt is not None
    with _position_lock:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            _msvcrt.locking(descriptor, mode, 1)
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)


def lock_folder(folder: str | os.PathLike[str]) -> int | None:
    """A descriptor that shares a lock on a folder, which cleaners of temporary folders respect; None on Windows."""
    if FCNTL is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    FCNTL.flock(descriptor, FCNTL.LOCK_SH)
    return descriptor


def run_in_forks(function: Callable[[], object]) -> None:
    """Call a function in every process that this one forks; Windows forks none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Up to ``length`` bytes of a file, from any thread."""
    if hasattr(os, "pread"):
        content: bytes = os.pread(descriptor, length, offset)
        return content
    with _position_lock:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Write a few bytes into a file, from any thread."""
    if hasattr(os, "pwrite"):
        os.pwrite(descriptor, content, offset)
        return
    with _position_lock:
        os.lseek(descriptor, offset, os.SEEK_SET)
        os.write(descriptor, content)


def local_uri(path: str | os.PathLike[str]) -> str:
    """A path as all of datacheck writes it, separated by ``/``: the backslashes of Windows are replaced, and no others.

    Already a URI, it stays as it is.
    """
    uri = os.fspath(path)
    return uri if os.sep == "/" or "://" in uri else uri.replace(os.sep, "/")


def relative_uri(path: str | os.PathLike[str], start: str | os.PathLike[str] = ".") -> str:
    """A path relative to a folder; absolute where no relative one exists: on another drive of Windows."""
    try:
        return local_uri(os.path.relpath(path, start))
    except ValueError:
        return local_uri(Path(path).absolute())
