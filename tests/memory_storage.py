"""A storage without local paths, memory maps, links or locks of the operating system: a dictionary in this process."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from datacheck.storage import DataFile, Entry, FileInfo, Fingerprint, registry
from datacheck.storage.base import NoLock

SCHEME = "memory"
ROOT = f"{SCHEME}://"


class MemoryLock:
    def __init__(self, storage: MemoryStorage, uri: str) -> None:
        self.storage, self.uri = storage, uri

    def check(self) -> None:
        assert self.uri in self.storage.locked

    def release(self) -> None:
        self.storage.locked.discard(self.uri)


class MemoryStorage:
    """Files by URI. Folders exist as long as they hold a file, as in an object store."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.locked: set[str] = set()
        self._guard = threading.Lock()

    def upload(self, folder: Path, uri: str) -> None:
        """Copy a local folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{uri}/{path.relative_to(folder)}"] = path.read_bytes()

    def stat(self, uri: str, *, recent: bool = False) -> FileInfo:
        if uri in self.files:
            content = self.files[uri]
            return FileInfo("file", Fingerprint(len(content), version=hashlib.md5(content).hexdigest()))
        if self._below(uri):
            return FileInfo("folder", Fingerprint(0))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)

    def exists(self, uri: str) -> bool:
        return uri in self.files or bool(self._below(uri))

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        for uri in self._below(folder):
            yield uri.removeprefix(f"{folder}/"), len(self.files[uri])

    def open(self, uri: str, *, recent: bool = False) -> DataFile:
        self.stat(uri)
        if uri not in self.files:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), uri)
        return DataFile(io.BytesIO(self.files[uri]))  # type: ignore[arg-type]

    def local_path(self, uri: str) -> str | None:
        return None

    def list(self, folder: str) -> list[Entry]:
        paths = [name[len(_prefix(folder)) :].partition("/") for name in self._below(folder)]
        entries = {Entry(name, bool(rest)) for name, _, rest in paths}
        return sorted(entries, key=lambda entry: entry.name)

    def folder_key(self, folder: str) -> Hashable:
        return folder.rstrip("/")

    def resolve(self, uri: str) -> str:
        return uri

    def link_target(self, uri: str) -> str | None:
        return None

    def is_settled(self, uri: str, fingerprint: Fingerprint) -> bool:
        return True

    def content_hash(self, uri: str) -> str:
        return f"sha256:{hashlib.sha256(self.files[uri]).hexdigest()}"

    def written_hash(self, uri: str) -> str:
        return self.content_hash(uri)

    def why_read_only(self, uri: str) -> str:
        return ""

    @contextmanager
    def create(self, uri: str) -> Iterator[BinaryIO]:
        content = io.BytesIO()
        yield content
        self.files[uri] = content.getvalue()

    def put(self, uri: str, content: bytes, *, if_absent: bool = False) -> None:
        with self._guard:
            if if_absent and uri in self.files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), uri)
            self.files[uri] = bytes(content)

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        for staged, final in moves:
            self.stat(staged)
            self.files[final] = self.files.pop(staged)

    def delete(self, uri: str) -> None:
        self.files.pop(uri, None)

    def delete_folder(self, folder: str) -> None:
        for name in self._below(folder):
            del self.files[name]

    def delete_empty_folder(self, folder: str) -> None:
        pass

    def make_folder(self, folder: str) -> None:
        pass

    def sync(self, folder: str) -> None:
        pass

    def remove_partials(self, folder: str) -> int:
        return 0

    def lock(self, uri: str, *, shared: bool = False) -> MemoryLock | NoLock:
        if shared:
            return NoLock()
        if uri in self.locked:
            raise BlockingIOError(errno.EAGAIN, "locked", uri)
        self.locked.add(uri)
        return MemoryLock(self, uri)

    def _below(self, folder: str) -> list[str]:
        return [name for name in self.files if name.startswith(_prefix(folder))]


def _prefix(folder: str) -> str:
    return folder if folder.endswith("/") else f"{folder}/"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """An empty storage for ``memory://``."""
    storage = MemoryStorage()
    monkeypatch.setitem(registry._by_scheme, SCHEME, storage)
    return storage
