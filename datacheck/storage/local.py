# A path stays as the user wrote it; pathlib would rewrite it.
# ruff: noqa: PTH114, PTH115, PTH116
"""The local file system."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from datacheck.storage import atomic
from datacheck.storage.base import DataFile, Entry, FileInfo, Fingerprint
from datacheck.storage.change_detection import hash_file, is_settled
from datacheck.storage.lock import lock_file

__all__ = ["LocalStorage", "scratch_reader"]


class LocalFile(DataFile):
    """An open local file."""

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.fileno(), length, offset)

    def map(self, offset: int, length: int) -> memoryview:
        page = offset - offset % mmap.ALLOCATIONGRANULARITY
        # Each map goes when the last array over it goes, so pages that have been checked do not stay in the process.
        window = mmap.mmap(self.fileno(), offset - page + length, access=mmap.ACCESS_READ, offset=page)
        return memoryview(window)[offset - page :]


def scratch_reader(file: BinaryIO) -> LocalFile:
    """Read a temporary file by ranges and maps; it stays open when the reader is closed."""
    return LocalFile(io.FileIO(file.fileno(), closefd=False))


class LocalStorage:
    """Files of this machine. Writes are synced and renamed into place; locks are those of ``flock``."""

    def stat(self, uri: str) -> FileInfo:
        status = os.stat(uri)
        fingerprint = Fingerprint(
            status.st_size, status.st_mtime_ns, status.st_ino, "", status.st_ctime_ns, status.st_dev
        )
        if stat.S_ISREG(status.st_mode):
            return FileInfo("file", fingerprint)
        return FileInfo("folder" if stat.S_ISDIR(status.st_mode) else "other", fingerprint)

    def exists(self, uri: str) -> bool:
        return os.path.lexists(uri)

    def open(self, uri: str) -> LocalFile:
        return LocalFile(io.FileIO(uri))

    def local_path(self, uri: str) -> str | None:
        return uri

    def list(self, folder: str) -> list[Entry]:
        with os.scandir(folder or os.curdir) as entries:
            found = [Entry(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        return sorted(found, key=lambda entry: entry.name)

    def folder_key(self, folder: str) -> Hashable:
        status = os.stat(folder or os.curdir)
        return status.st_dev, status.st_ino

    def resolve(self, uri: str) -> str:
        return os.path.realpath(uri)

    def link_target(self, uri: str) -> str | None:
        return os.readlink(uri) if os.path.islink(uri) else None

    def is_settled(self, uri: str, fingerprint: Fingerprint) -> bool:
        return is_settled(uri, fingerprint)

    def content_hash(self, uri: str) -> str:
        return hash_file(uri)

    @contextmanager
    def create(self, uri: str) -> Iterator[BinaryIO]:
        path = Path(uri)
        with suppress(FileNotFoundError):
            # A name that is too long or forbidden fails now, not after the work is done.
            path.lstat()
        partial = atomic.partial_path(path)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def put(self, uri: str, content: bytes, *, if_absent: bool = False) -> None:
        path = Path(uri)
        if not if_absent:
            with self.create(uri) as file:
                file.write(content)
        else:
            partial = atomic.partial_path(path)
            try:
                with partial.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                # A link, unlike a rename, fails where the name is taken.
                path.hardlink_to(partial)
            finally:
                partial.unlink(missing_ok=True)
        atomic.sync_directory(path.parent)

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        folders: dict[Path, None] = {}
        for staged, final in ((Path(one), Path(other)) for one, other in moves):
            atomic.make_folder(final.parent)
            staged.replace(final)
            folders[final.parent] = None
            folders[staged.parent] = None
        for folder in folders:
            atomic.sync_directory(folder)

    def delete(self, uri: str) -> None:
        Path(uri).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def delete_empty_folder(self, folder: str) -> None:
        with suppress(OSError):
            Path(folder).rmdir()

    def make_folder(self, folder: str) -> None:
        atomic.make_folder(Path(folder))

    def sync(self, folder: str) -> None:
        atomic.sync_directory(Path(folder))

    def remove_partials(self, folder: str) -> int:
        return atomic.remove_partials(Path(folder))

    def lock(self, uri: str) -> Callable[[], None]:
        return lock_file(uri)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
