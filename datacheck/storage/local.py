# A path stays as the user wrote it; pathlib would rewrite it.
# ruff: noqa: PTH112, PTH114, PTH115, PTH116, PTH118
"""The local file system. What is written is atomic: a reader sees the old file or the new one, never half of one.

A file is written under a temporary name in the target's folder, synced and renamed. Then the folder is synced, so that
the rename survives a power failure too.
"""

from __future__ import annotations

import io
import mmap
import os
import shutil
import stat
import threading
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

from datacheck.storage.base import DataFile, Entry, FileInfo, Fingerprint, Lock
from datacheck.storage.change_detection import hash_file, is_settled
from datacheck.storage.lock import lock_file
from datacheck.storage.os_calls import local_uri, open_folder, open_regular, read_at, relative_uri

#: The suffix of files that are being written. No finished file has it.
_PARTIAL_SUFFIX = ".partial"
#: Folders in which this process follows no link.
_without_links: set[str] = set()


class LocalFile(DataFile):
    """An open local file."""

    def read_at(self, offset: int, length: int) -> bytes:
        return read_at(self.fileno(), length, offset)

    def map(self, offset: int, length: int) -> memoryview:
        page = offset - offset % mmap.ALLOCATIONGRANULARITY
        # Each map goes when the last array over it goes, so pages that have been checked do not stay in the process.
        window = mmap.mmap(self.fileno(), offset - page + length, access=mmap.ACCESS_READ, offset=page)
        return memoryview(window)[offset - page :]


class FileInMemory(DataFile):
    """A small file whose content was read at once."""

    is_in_memory = True

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.content = content

    def read_at(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]

    def map(self, offset: int, length: int) -> memoryview:
        return memoryview(self.content)[offset : offset + length]


class _Held(threading.local):
    """The small file that this thread holds in memory."""

    uri: str | None = None
    info: FileInfo
    content: bytes = b""


def scratch_reader(file: IO[bytes]) -> LocalFile:
    """Read a temporary file by ranges and maps; it stays open when the reader is closed."""
    return LocalFile(io.FileIO(file.fileno(), closefd=False))


class LocalStorage:
    """Files of this machine. Writes are synced and renamed into place; locks use ``flock``, or what Windows has."""

    def __init__(self) -> None:
        self._held = _Held()

    def stat(self, uri: str, *, recent: bool = False) -> FileInfo:
        if recent and self._held.uri == uri:
            return self._held.info
        return _info_of(os.stat(uri))

    def exists(self, uri: str) -> bool:
        return os.path.lexists(uri)

    def open(self, uri: str, *, recent: bool = False) -> DataFile:
        if recent and self._held.uri == uri:
            return FileInMemory(self._held.content)
        return LocalFile(io.FileIO(uri, opener=open_regular))

    def local_path(self, uri: str) -> str | None:
        if self._held.uri == uri:
            # Whoever opens the path may see another version of the file.
            self.release()
        return uri

    def hold(self, uri: str, max_bytes: int) -> None:
        """Read a file of up to ``max_bytes`` at once, and answer this thread from memory until it holds or releases another.

        What is not a regular file, is larger, changes or cannot be read is not held: reading it says why.
        """
        self.release()
        with suppress(OSError, ValueError):
            before = os.stat(uri)
            if not stat.S_ISREG(before.st_mode) or not 0 < before.st_size <= max_bytes:
                return
            descriptor = open_regular(uri, os.O_RDONLY)
            try:
                content = read_at(descriptor, before.st_size + 1, 0)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            if len(content) == before.st_size and _identity_of(after) == _identity_of(before):
                self._held.uri, self._held.info, self._held.content = uri, _info_of(before), content

    def held(self, uri: str) -> bytes | None:
        """The content of the file that this thread holds; None for any other."""
        return self._held.content if self._held.uri == uri else None

    def release(self) -> None:
        """Hold no file any longer."""
        self._held.uri, self._held.content = None, b""

    def list(self, folder: str) -> list[Entry]:
        with os.scandir(folder or os.curdir) as entries:
            found = [Entry(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        return sorted(found, key=lambda entry: entry.name)

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        for inner, _, names in os.walk(folder):
            below = relative_uri(inner, folder)
            for name in names:
                yield name if below == "." else f"{below}/{name}", os.stat(os.path.join(inner, name)).st_size

    def folder_key(self, folder: str) -> Hashable:
        status = os.stat(folder or os.curdir)
        return status.st_dev, status.st_ino

    def resolve(self, uri: str) -> str:
        return local_uri(os.path.realpath(uri))

    def link_target(self, uri: str) -> str | None:
        return local_uri(os.readlink(uri)) if os.path.islink(uri) else None

    def is_settled(self, uri: str, fingerprint: Fingerprint) -> bool:
        return is_settled(uri, fingerprint)

    def content_hash(self, uri: str) -> str:
        return hash_file(uri)

    def written_hash(self, uri: str) -> str:
        return hash_file(uri)

    def why_read_only(self, uri: str) -> str:  # noqa: ARG002 - writing says so
        return ""

    @contextmanager
    def create(self, uri: str) -> Iterator[BinaryIO]:
        with _entry(uri) as (folder, name):
            with suppress(FileNotFoundError):
                # A name that is too long or forbidden fails now, not after the work is done.
                os.stat(name, dir_fd=folder, follow_symlinks=False)
            with _partial(folder, name) as (partial, file):
                yield file
                _finish(file)
                os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)

    def put(self, uri: str, content: bytes, *, if_absent: bool = False) -> None:
        if not if_absent:
            with self.create(uri) as file:
                file.write(content)
        with _entry(uri) as (folder, name):
            if if_absent:
                with _partial(folder, name) as (partial, file):
                    file.write(content)
                    _finish(file)
                    # A link, unlike a rename, fails where the name is taken.
                    os.link(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
                    os.unlink(partial, dir_fd=folder)
            _sync(folder)

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        folders: dict[str, None] = {}
        for staged, final in moves:
            self.make_folder(_folder_of(final))
            with _entry(staged) as (source, old), _entry(final) as (target, new):
                os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)
            folders[_folder_of(final)] = None
            folders[_folder_of(staged)] = None
        for folder in folders:
            self.sync(folder)

    def delete(self, uri: str) -> None:
        with suppress(FileNotFoundError), _entry(uri) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def delete_folder(self, folder: str) -> None:
        with suppress(FileNotFoundError), _entry(folder) as (parent, name):
            shutil.rmtree(name, dir_fd=parent)

    def delete_empty_folder(self, folder: str) -> None:
        with suppress(OSError), _entry(folder) as (parent, name):
            os.rmdir(name, dir_fd=parent)

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it, durably; nothing happens if it exists."""
        if os.path.isdir(folder):
            return
        if _folder_of(folder) != folder:
            self.make_folder(_folder_of(folder))
        with _entry(folder) as (parent, name):
            try:
                os.mkdir(name, dir_fd=parent)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
            _sync(parent)

    def sync(self, folder: str) -> None:
        with open_folder(folder or os.curdir, _root_of(folder)) as descriptor:
            _sync(descriptor)

    def remove_partials(self, folder: str) -> int:
        removed = 0
        with (
            open_folder(folder, _root_of(folder)) as descriptor,
            os.scandir(folder if descriptor is None else descriptor) as all_,
        ):
            for entry in all_:
                is_partial = entry.name.startswith(".") and entry.name.endswith(_PARTIAL_SUFFIX)
                if is_partial and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        os.unlink(entry.path, dir_fd=descriptor)
                        removed += 1
        return removed

    def lock(self, uri: str, *, shared: bool = False) -> Lock:
        with _entry(uri) as (folder, name):
            return lock_file(name, shared=shared, folder=folder)


def _identity_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns, status.st_dev


def _info_of(status: os.stat_result) -> FileInfo:
    fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino, "", status.st_ctime_ns, status.st_dev)
    if stat.S_ISREG(status.st_mode):
        return FileInfo("file", fingerprint)
    return FileInfo("folder" if stat.S_ISDIR(status.st_mode) else "other", fingerprint)


def follow_no_links_in(folder: str) -> None:
    """From now on, this process writes and deletes nothing in a folder through a link; the folder itself may be one."""
    _without_links.add(folder.rstrip("/"))


def _root_of(uri: str) -> str | None:
    """The innermost folder above a path, or that folder itself, in which no link is followed."""
    roots = (root for root in _without_links if uri == root or uri.startswith(f"{root}/"))
    return max(roots, key=len, default=None)


def _folder_of(uri: str) -> str:
    return os.path.split(uri.rstrip("/"))[0] or (os.curdir if not uri.startswith("/") else "/")


@contextmanager
def _entry(uri: str) -> Iterator[tuple[int | None, str]]:
    """The descriptor of a path's folder, and its name there: what is done with them is done in that folder and no other.

    Without descriptors, on Windows, the name is the whole path.
    """
    folder = _folder_of(uri)
    with open_folder(folder, _root_of(folder)) as descriptor:
        name = uri if descriptor is None else os.path.split(uri.rstrip("/"))[1]
        try:
            yield descriptor, name
        except OSError as error:
            if error.filename == name:
                error.filename = uri
            if error.filename2 == name:
                error.filename2 = uri
            raise


@contextmanager
def _partial(folder: int | None, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """A hidden file beside ``name``, unique to this call, so that two processes never share one; removed on a failure."""
    above, base = os.path.split(name)
    stem = os.fsencode(base)[:150].decode(errors="ignore")
    partial = os.path.join(above, f".{stem}.{os.getpid():x}-{os.urandom(4).hex()}{_PARTIAL_SUFFIX}")
    try:
        with open(partial, "xb", opener=lambda path, flags: os.open(path, flags, 0o666, dir_fd=folder)) as file:
            yield partial, file
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _sync(folder: int | None) -> None:
    """Make the entries of a folder durable, renames included. Windows can open no folder, and journals its renames."""
    if folder is not None:
        os.fsync(folder)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
