"""What storages without folders, links and local paths have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator

from datacheck.storage.base import Entry, FileInfo, Fingerprint
from datacheck.storage.ranges import RangeFile


class RemoteStorage:
    """Files under URIs, each with a version."""

    def stat(self, uri: str, *, recent: bool = False) -> FileInfo:
        raise NotImplementedError

    def open(self, uri: str, *, recent: bool = False) -> RangeFile:
        raise NotImplementedError

    def exists(self, uri: str) -> bool:
        try:
            self.stat(uri)
        except FileNotFoundError:
            return False
        return True

    def list(self, folder: str) -> list[Entry]:
        raise NotImplementedError

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        for entry in self.list(folder):
            uri = f"{folder.rstrip('/')}/{entry.name}"
            if entry.is_folder:
                yield from ((f"{entry.name}/{name}", size) for name, size in self.walk(uri))
            else:
                yield entry.name, self.stat(uri, recent=True).fingerprint.size

    def local_path(self, uri: str) -> str | None:  # noqa: ARG002 - none has one
        return None

    def folder_key(self, folder: str) -> Hashable:
        return folder.rstrip("/")

    def resolve(self, uri: str) -> str:
        return uri.rstrip("/")

    def link_target(self, uri: str) -> str | None:  # noqa: ARG002 - there are no links
        return None

    def is_settled(self, uri: str, fingerprint: Fingerprint) -> bool:  # noqa: ARG002
        return bool(fingerprint.version)

    def content_hash(self, uri: str) -> str:
        with self.open(uri) as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
