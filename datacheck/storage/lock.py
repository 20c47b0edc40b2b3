"""A lock on a local file that lasts as long as the process that took it, and is not inherited by its forks."""

from __future__ import annotations

import errno
import functools
import os

from datacheck.storage.os_calls import lock_descriptor, open_descriptor, read_at, run_in_forks, write_at

#: What a file system says that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
#: Descriptors of the locks that this process holds.
_held: set[int] = set()


class FileLock:
    """A lock on a file that this process holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def check(self) -> None:
        """Nothing: the system keeps it."""

    def release(self) -> None:
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            os.close(self._descriptor)


def lock_file(path: str, *, shared: bool = False, folder: int | None = None) -> FileLock:
    """Create and lock a file; ``path`` is relative to ``folder``, a descriptor.

    Any number of processes may hold a ``shared`` lock at once, while no process holds the exclusive one. It is a courtesy: on a
    file system without locks there is none.

    The file holds the process ID. Raises ``BlockingIOError`` where another process holds the lock, with that process's ID,
    if known, as ``filename2``, and ``OSError``: a symbolic link is not followed.
    """
    while True:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT, 0o644, follow_links=False, folder=folder)
        try:
            lock_descriptor(descriptor, shared=shared)
        except BlockingIOError:
            holder = read_at(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise BlockingIOError(errno.EAGAIN, "locked", path, None, holder if holder.isdigit() else None) from None
        except OSError as error:
            if shared and error.errno in _NO_LOCKS:
                break
            os.close(descriptor)
            raise
        if _is_same_file(descriptor, path, folder):
            break
        # Its last holder deleted the file in the meantime: this lock is on a file that is gone.
        os.close(descriptor)
    _release_in_forks()
    _held.add(descriptor)
    if not shared:
        os.ftruncate(descriptor, 0)
        write_at(descriptor, f"{os.getpid()}\n".encode(), 0)
    return FileLock(descriptor)


@functools.cache
def _release_in_forks() -> None:
    """A worker that outlives a killed run must not hold its lock, or the run could never be resumed."""
    run_in_forks(_close_inherited)


def _close_inherited() -> None:
    while _held:
        os.close(_held.pop())


def _is_same_file(descriptor: int, path: str, folder: int | None) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, dir_fd=folder))
    except FileNotFoundError:
        return False
