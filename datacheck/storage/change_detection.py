"""When the fingerprint of a local file proves that it has not changed.

Every change of a file moves its change time (ctime), with two exceptions. One is a change so soon after another that the
file system's clock has not ticked in between. A file is therefore *settled* only once its change time is more than one
tick ago; git does the same. The other is a program that writes through a memory map: only the first store into a page
moves the change time, until the kernel has written that page back, which takes about half a minute. A file that changed in
the last minutes is therefore not settled while any process has it open for writing. Windows has no change time, so no
file is settled there: its content is read each time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time

from datacheck.storage.base import Fingerprint
from datacheck.storage.os_calls import FCNTL, KEEPS_CHANGE_TIME, open_regular

#: Clock ticks of file systems in nanoseconds, with room to spare: those with fine clocks, and those that count seconds.
_FINE_TICK = 100_000_000
_COARSE_TICK = 2_500_000_000
_SECOND = 1_000_000_000
#: After so long every page that was written through a map is on the disk, and the next store moves the change time.
_WRITTEN_BACK = 600 * _SECOND


def ticked_since(fingerprint: Fingerprint, now: int | None = None) -> bool:
    """Whether the file system's clock has ticked since the last change; ``now`` is in nanoseconds."""
    tick = _FINE_TICK if fingerprint.ctime_ns % _SECOND else _COARSE_TICK
    return (time.time_ns() if now is None else now) - fingerprint.ctime_ns > tick


def is_settled(path: str, fingerprint: Fingerprint) -> bool:
    """Whether every change of the file from now on is sure to show in its fingerprint."""
    if not KEEPS_CHANGE_TIME or not ticked_since(fingerprint):
        return False
    return time.time_ns() - fingerprint.ctime_ns > _WRITTEN_BACK or not _has_writer(path)


def _has_writer(path: str) -> bool:
    """Whether any process has the file open for writing, or mapped so; False where the system cannot say.

    The kernel grants a read lease only if the file is not open for writing. A process that opens the file while the lease
    is held waits until it is released, and this process gets a signal: one that is ignored by default.
    """
    if FCNTL is None or not hasattr(FCNTL, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        FCNTL.fcntl(descriptor, FCNTL.F_SETSIG, signal.Signals["SIGURG"])
        FCNTL.fcntl(descriptor, FCNTL.F_SETLEASE, FCNTL.F_RDLCK)
        FCNTL.fcntl(descriptor, FCNTL.F_SETLEASE, FCNTL.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def hash_file(path: str) -> str:
    """The SHA-256 of a file's content, as ``sha256:...``; raises ``OSError``."""
    digest, part = hashlib.sha256(), memoryview(bytearray(1 << 18))
    with open(path, "rb", opener=open_regular) as file:
        # A file of the kernel may have no end, and says that it has no bytes.
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (size := file.readinto(part[: min(left, len(part))])):
            digest.update(part[:size])
            left -= size
    return f"sha256:{digest.hexdigest()}"
