"""What a file holds, told without reading it where that is proof, and by a hash of its content where it is not.

Size, inode and times tell that a file is as it was, for any change moves its change time. There are two gaps. One is a
change so soon after another one that the clock of the file system has not moved in between. A file is therefore *settled*
only once its change time lies back by more than one tick; nothing is remembered of one that is not. git does the same.
The other is a program that writes through a memory map: only the first store into a page moves the change time, until the
system has put that page on the disk, which takes about half a minute. Of a file that changed in the last minutes nothing
is remembered while somebody has it open for writing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["State", "file_hash", "hash_content", "is_at_rest"]

#: Ticks of file systems, in nanoseconds, each with room to spare: those with fine clocks, and those that count seconds.
_FINE_TICK = 100_000_000
_COARSE_TICK = 2_500_000_000
_SECOND = 1_000_000_000
#: After so long every page that was written to through a map is on the disk, and the next store moves the change time.
_WRITTEN_BACK = 600 * _SECOND


@dataclass(frozen=True, slots=True)
class State:
    """The state of a file as its file system tells it; times in nanoseconds."""

    size: int
    mtime: int
    ctime: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: str) -> State | None:
        """The state of a regular file now; None for anything else."""
        try:
            status = os.stat(path)  # noqa: PTH116 - called for every file of every run
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)

    @classmethod
    def of_numbers(cls, numbers: Sequence[int]) -> State:
        """The state that :attr:`numbers` was of."""
        return cls(*numbers)

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.size, self.mtime, self.ctime, self.inode, self.device)

    def is_settled(self, now: int | None = None) -> bool:
        """Whether any later change is sure to show, the time being ``now``."""
        tick = _FINE_TICK if self.ctime % _SECOND else _COARSE_TICK
        return (time.time_ns() if now is None else now) - self.ctime > tick


def is_at_rest(path: str, state: State) -> bool:
    """Whether any change of a file in ``state`` from now on is sure to show in its state."""
    if not state.is_settled():
        return False
    return time.time_ns() - state.ctime > _WRITTEN_BACK or not _has_writer(path)


def hash_content(path: str, state: State) -> str | None:
    """A hash of a file that was in ``state``; None where it cannot be read, or changed meanwhile, or is not at rest."""
    if not is_at_rest(path, state):
        return None
    try:
        digest = file_hash(path)
    except OSError:
        return None
    return digest if State.of(path) == state else None


def _has_writer(path: str) -> bool:
    """Whether somebody has the file open for writing, or mapped so; False where the system does not tell.

    A lease for reading is given only where nobody has. Whoever opens the file in the instant in which it is held waits for
    its end, and this process is told by a signal: one that is ignored, unless set otherwise.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def file_hash(path: str) -> str:
    """A hash of the content of a file; raises ``OSError``."""
    with open(path, "rb") as file:  # noqa: PTH123 - a path stays as it was written
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
