"""A lock on a local file that lasts as long as the process that took it, and is not inherited by its forks."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
from collections.abc import Callable

__all__ = ["lock_file"]

#: Descriptors of the locks that this process holds.
_held: set[int] = set()


def lock_file(path: str) -> Callable[[], None]:
    """Create and lock a file with ``flock``; returns the function that releases the lock.

    The file holds the process ID. Raises ``BlockingIOError`` where another process holds the lock, with that process's ID,
    if known, as ``filename2``, and ``OSError``: a symbolic link is not followed.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise BlockingIOError(errno.EAGAIN, "locked", path, None, holder if holder.isdigit() else None) from None
        if _is_same_file(descriptor, path):
            break
        # Its last holder deleted the file in the meantime: this lock is on a file that is gone.
        os.close(descriptor)
    _release_in_forks()
    _held.add(descriptor)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return functools.partial(_release, descriptor)


def _release(descriptor: int) -> None:
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


@functools.cache
def _release_in_forks() -> None:
    """A worker that outlives a killed run must not hold its lock, or the run could never be resumed."""
    os.register_at_fork(after_in_child=_close_inherited)


def _close_inherited() -> None:
    while _held:
        os.close(_held.pop())


def _is_same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - a path stays as it was written
    except FileNotFoundError:
        return False
