# pathlib would call the functions that are replaced here.
# ruff: noqa: PTH112, PTH116, PTH119, PTH123, PTH208
"""Python as it is on Windows: with this folder on PYTHONPATH, every process lacks what only POSIX systems have.

``msvcrt.locking`` is stood in for by locks of ranges of bytes that belong to a descriptor, as those of Windows do. A file that
this process has open or mapped can be neither removed nor renamed, nor can another take its name. Names of files are checked.
"""

from __future__ import annotations

import concurrent.futures.process  # noqa: F401 - the standard library keeps what it uses
import contextlib
import errno
import fcntl
import multiprocessing.spawn  # noqa: F401
import os
import shutil
import signal
import struct
import subprocess  # noqa: F401
import sys
import tempfile
import types

_OFD_SETLK = 37


def locking(descriptor: int, mode: int, num_bytes: int) -> None:
    kind = fcntl.F_UNLCK if mode == 0 else fcntl.F_WRLCK
    request = struct.pack("hhqqi4x", kind, os.SEEK_CUR, 0, num_bytes, 0)
    try:
        fcntl.fcntl(descriptor, _OFD_SETLK, request)
    except OSError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


msvcrt = types.ModuleType("msvcrt")
msvcrt.locking = locking
msvcrt.LK_UNLCK, msvcrt.LK_NBLCK = 0, 2

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
sys.modules["msvcrt"] = msvcrt
for name in (
    *("pread", "pwrite", "geteuid", "getuid", "fork", "sched_getaffinity", "sync", "mkfifo"),
    *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK"),
):
    delattr(os, name)
for name in ("pthread_sigmask", "SIGURG", "SIGKILL", "SIGALRM", "setitimer"):
    delattr(signal, name)


def _is_open(path: str) -> bool:
    """Whether this process has a file open, or mapped."""
    try:
        wanted = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(number)), wanted):
                return True
    real = os.path.realpath(path)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        return any(line.rstrip("\n").endswith(f" {real}") for line in maps)


def _check_free(*paths: object) -> None:
    for path in map(os.fspath, paths):  # type: ignore[arg-type]
        if not os.path.isdir(path) and _is_open(path):
            raise PermissionError(errno.EACCES, "another process has the file open (32)", path)


def _check_name(path: object) -> None:
    if not isinstance(path, int):
        base = os.path.basename(os.fsdecode(os.fspath(path)))  # type: ignore[call-overload]
        if any(letter in '<>:"|?*' or letter < " " for letter in base) or (
            base.endswith((" ", ".")) and base.strip(".")
        ):
            raise OSError(errno.EINVAL, "Invalid argument", path)


def _without_open_files(name: str, num_paths: int) -> None:
    original = getattr(os, name)

    def checked(*paths: object, **options: object) -> object:
        assert not any(value is not None for key, value in options.items() if key.endswith("dir_fd")), name
        _check_free(*paths[:num_paths])
        _check_name(paths[num_paths - 1])
        return original(*paths, **options)

    setattr(os, name, checked)


for name, num_paths in (("unlink", 1), ("remove", 1), ("rename", 2), ("replace", 2)):
    _without_open_files(name, num_paths)
shutil._use_fd_functions = False
# That of Windows keeps its name until it is closed.
tempfile.TemporaryFile = tempfile.NamedTemporaryFile
_open = os.open


def open_named(path: object, flags: int, *arguments: object, **options: object) -> int:
    if flags & os.O_CREAT:
        _check_name(path)
    if isinstance(path, (str, bytes)) and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    return _open(path, flags, *arguments, **options)  # type: ignore[arg-type]


os.open = open_named
