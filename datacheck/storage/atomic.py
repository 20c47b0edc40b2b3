"""The parts of an atomic write on the local file system: a reader sees the old file or the new one, never half of one.

A file is written under a temporary name in the target's folder, synced and renamed. Then the folder is synced, so that
the rename survives a power failure too.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["make_folder", "partial_path", "remove_partials", "sync_directory"]

#: The suffix of files that are being written. No finished file has it.
_PARTIAL_SUFFIX = ".partial"


def partial_path(path: Path) -> Path:
    """A hidden temporary name beside ``path``, unique to this call, so that two processes never share one."""
    stem = os.fsdecode(os.fsencode(path.name)[:150])
    return path.with_name(f".{stem}.{os.getpid():x}-{secrets.token_hex(4)}{_PARTIAL_SUFFIX}")


def remove_partials(folder: Path) -> int:
    """Delete the partial files that killed writers left in ``folder`` itself; returns how many."""
    removed = 0
    for entry in os.scandir(folder):
        is_partial = entry.name.startswith(".") and entry.name.endswith(_PARTIAL_SUFFIX)
        if is_partial and entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                Path(entry.path).unlink()
                removed += 1
    return removed


def sync_directory(path: Path) -> None:
    """Make the entries of a folder durable, renames included."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, durably; nothing happens if it exists."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)
