"""Atomic publishing: whoever looks at a final name sees the old file or the new one, whole, whatever is killed when.

A file is written under a temporary name in the target's folder, synced, and renamed; then the folder is synced, so that
the rename survives a power failure too.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from datacheck.storage.os_errors import output_errors

__all__ = [
    "PARTIAL_SUFFIX",
    "make_folder",
    "partial_path",
    "publish",
    "publish_all",
    "remove_partials",
    "sync_directory",
    "sync_file",
    "write_atomically",
    "write_file",
]

#: How the name of every file that is being written ends. No finished file is ever called so.
PARTIAL_SUFFIX = ".partial"


def partial_path(path: Path) -> Path:
    """A temporary name beside ``path``, hidden, and of this call alone, so that two processes never share one."""
    stem = os.fsdecode(os.fsencode(path.name)[:150])
    return path.with_name(f".{stem}.{os.getpid():x}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def remove_partials(folder: Path) -> int:
    """Remove what killed writers left in ``folder`` itself, and say how many files that were."""
    removed = 0
    with output_errors(folder):
        for entry in os.scandir(folder):
            if (
                entry.name.startswith(".")
                and entry.name.endswith(PARTIAL_SUFFIX)
                and entry.is_file(follow_symlinks=False)
            ):
                with suppress(FileNotFoundError):
                    Path(entry.path).unlink()
                    removed += 1
    return removed


def sync_file(path: Path) -> int:
    """Put a file's content on the disk; its size in bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Put a folder's entries, its renames among them, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, fill: Callable[[BinaryIO], None], *, sync_folder: bool = True) -> int:
    """Write a file atomically with what ``fill`` writes; its size in bytes.

    The target appears whole or not at all, and a file that stood there is replaced in one step. Raises ``OutputError``;
    the temporary file is removed on any failure. Whoever writes many files syncs their folder once, afterwards.
    """
    partial = partial_path(path)
    with output_errors(path):
        try:
            with partial.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        if sync_folder:
            sync_directory(path.parent)
    return size


def write_atomically(path: Path, content: bytes, *, sync_folder: bool = True) -> None:
    """Write ``content`` to ``path`` atomically; see ``write_file``."""

    def fill(file: BinaryIO) -> None:
        file.write(content)

    write_file(path, fill, sync_folder=sync_folder)


def publish(staged: Path, final: Path) -> None:
    """Give a finished, synced file its final name, in one step; raises ``OutputError``."""
    publish_all([(staged, final)])


def publish_all(moves: Iterable[tuple[Path, Path]]) -> None:
    """Publish many files, each atomically, and sync every folder that they touch once, at the end.

    Folders of the final names are made where they lack. A staged file that is gone is an error, even where a file of
    the final name stands: whoever goes on after a run that was killed passes only the moves that are left.
    """
    folders: dict[Path, None] = {}
    for staged, final in moves:
        with output_errors(final):
            make_folder(final.parent)
            staged.replace(final)
            folders[final.parent] = None
            folders[staged.parent] = None
    for folder in folders:
        with output_errors(folder):
            sync_directory(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, synced; nothing where it exists."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)
