"""The storage protocol: how datacheck reads data files and writes output, on a local disk or in an object store.

Nothing above this package calls ``os.stat``, ``open`` or ``mmap`` on data. Errors are ``OSError`` and its subclasses,
``FileNotFoundError`` among them.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

Kind = Literal["file", "folder", "other"]


class StoreError(OSError):
    """An object store gave no answer about a file: it cannot be reached, refuses access, or lacks a library or credentials.

    ``strerror`` says what to do about it.
    """


class FileChangedError(OSError):
    """A file is no longer the version that was opened."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identifies one version of a file without reading it.

    Equal fingerprints mean that the file has not changed since it was opened. ``proof`` also compares what no program can
    set back, so that it holds from one run to the next. Where fingerprints differ, ``Storage.content_hash`` decides; where
    only inodes do, as between two mounts of a file system, ``ctime_ns`` does, and for copies ``content``.

    Attributes:
        size: in bytes.
        mtime_ns: last modification, in nanoseconds since the epoch.
        inode: on a local file system.
        version: the storage's own name of this version of the content: the etag of an object.
        ctime_ns: last change of content or metadata, on a local file system.
        device: of the local file system.
        content: ``Storage.content_hash``, where it is known.
        travels: whether other machines read the file, too, and may see it with another inode.
    """

    size: int
    mtime_ns: int = 0
    inode: int = 0
    version: str = ""
    ctime_ns: int = field(default=0, compare=False)
    device: int = field(default=0, compare=False)
    content: str = field(default="", compare=False)
    travels: bool = field(default=False, compare=False)

    @property
    def proof(self) -> tuple[int | str, ...]:
        """All of it, as plain JSON values. Equal proofs of a settled file mean equal content."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode, self.device, self.version)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is stored under a name: a regular file, a folder, or something else (a pipe, a device)."""

    kind: Kind
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder. Links are followed: ``is_folder`` says so of the link's target."""

    name: str
    is_folder: bool
    is_link: bool = False


class DataFile(io.BufferedReader):
    """An open file: a seekable binary stream that can also be read by ranges and, in some storages, mapped."""

    #: Whether a map costs nothing, since the file is in memory.
    is_in_memory = False

    def read_at(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer at the end of the file."""
        self.seek(offset)
        return self.read(length)

    def map(self, offset: int, length: int) -> memoryview | None:  # noqa: ARG002 - for those that can
        """A memory map of a range that lies inside the file, or None where the storage does not map."""
        return None


class Lock(Protocol):
    """An exclusive lock that this process holds until it releases it or ends."""

    def check(self) -> None:
        """Raise ``OSError`` where the lock may have been lost, because this process could not renew it."""
        ...

    def release(self) -> None:
        """Release the lock; nothing happens if it was released."""
        ...


class NoLock:
    """The lock of something that needs none."""

    def check(self) -> None:
        """Nothing: no other process can take it."""

    def release(self) -> None:
        """Nothing: nothing is held."""


class Storage(Protocol):
    """Stores files under URIs. Can be used from any thread and process.

    A local path is its own URI. Names inside a folder are joined with ``/``.
    """

    # Reading

    def stat(self, uri: str, *, recent: bool = False) -> FileInfo:
        """What is stored under a name, links followed. Raises ``OSError`` (``FileNotFoundError`` for nothing).

        With ``recent``, a storage that pins reads to the version of a file may answer with what it learned in the last
        seconds: a change is noticed no later than at the next read.
        """
        ...

    def exists(self, uri: str) -> bool:
        """Whether the name is taken, also by a broken link."""
        ...

    def open(self, uri: str, *, recent: bool = False) -> DataFile:
        """A file, opened for reading; ``recent`` is as for ``stat``."""
        ...

    def local_path(self, uri: str) -> str | None:
        """The file's path, for C libraries that open and map files themselves; None where it has none."""
        ...

    def list(self, folder: str) -> Sequence[Entry]:
        """The entries right in a folder, sorted by name."""
        ...

    def walk(self, folder: str) -> Iterable[tuple[str, int]]:
        """The files in a folder and its subfolders: the name of each below the folder, and its size in bytes."""
        ...

    def folder_key(self, folder: str) -> Hashable:
        """Identifies a folder, whatever path leads to it."""
        ...

    def resolve(self, uri: str) -> str:
        """The one absolute name of a file that several names may lead to; never fails."""
        ...

    def link_target(self, uri: str) -> str | None:
        """Where a symbolic link points, or None for anything else."""
        ...

    def is_settled(self, uri: str, fingerprint: Fingerprint) -> bool:
        """Whether every later change of the file is sure to change ``fingerprint.proof``."""
        ...

    def content_hash(self, uri: str) -> str:
        """A hash of the content, such as ``sha256:...``."""
        ...

    def written_hash(self, uri: str) -> str:
        """The ``content_hash`` of a file that ``create`` wrote; without reading it, where it was recorded."""
        ...

    # Writing

    def why_read_only(self, uri: str) -> str:
        """Why nothing can be written under a name, and what to do instead; empty where it can."""
        ...

    def create(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """Write a file that appears whole under its name, or not at all.

        The ``with`` block writes to the stream. On success the file is durable and visible when the block ends, replacing
        any file of that name in one step; on an exception nothing is left. Call ``sync`` on the folder to make the new
        name itself survive a power failure.
        """
        ...

    def put(self, uri: str, content: bytes, *, if_absent: bool = False) -> None:
        """Write a small file atomically and durably, its name included.

        With ``if_absent``, raises ``FileExistsError`` where the name is taken: of several writers exactly one succeeds.
        """
        ...

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        """Give finished files their final names, each atomically, and make all of the names durable at the end.

        Folders are created as needed. A staged file that is missing is an error, also where the final name exists.
        """
        ...

    def delete(self, uri: str) -> None:
        """Delete a file; nothing happens where there is none."""
        ...

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and everything in it; nothing happens where there is none."""
        ...

    def delete_empty_folder(self, folder: str) -> None:
        """Delete a folder if it exists and is empty; nothing happens otherwise."""
        ...

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it, durably; nothing happens where it exists."""
        ...

    def sync(self, folder: str) -> None:
        """Make the names in a folder durable: its new, renamed and deleted files."""
        ...

    def remove_partials(self, folder: str) -> int:
        """Delete what writers that were killed left in a folder; returns how many files."""
        ...

    def lock(self, uri: str, *, shared: bool = False) -> Lock:
        """Take an exclusive lock, which is released when this process dies.

        Any number of processes may have a ``shared`` one at once, while no process has the exclusive one.

        Raises ``BlockingIOError`` where another process holds it, with that process's ID, if known, as ``filename2``.
        """
        ...
